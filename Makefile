# Everything a newcomer needs. Each target does its own set-up; only the packages of the one apt
# line in README.md are taken for granted.

PYTHON ?= $(shell for v in 3.13 3.12 3.11; do p=/usr/bin/python$$v; [ -x $$p ] && { echo $$p; break; }; done)
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: all demo test lint bench attack vm pictures clean

all: $(STAMP)

$(STAMP): pyproject.toml binfmt/build_hook.py $(wildcard binfmt/*.[ch] binfmt/*.ld)
	@[ -n "$(PYTHON)" ] || { echo "no Python 3.11 to 3.13 in /usr/bin: see README.md" >&2; exit 1; }
	@[ -x $(RUN) ] || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --upgrade "pip>=25.1"
	@$(RUN) -m pip install --quiet --editable . --group dev
	@$(RUN) -m compileall -q certexec
	@touch $@

demo: $(STAMP)
	@$(RUN) -m demo

test: $(STAMP)
	@$(RUN) -m pytest

lint: $(STAMP)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

bench: $(STAMP)
	@$(RUN) -m bench

attack: $(STAMP)
	@$(RUN) -m tests.attack $(ATTACK)
	@$(RUN) -m tests.escapes --write $(ESCAPES)

pictures: $(STAMP)
	@$(RUN) -m tools.pictures

vm: $(STAMP)
	@$(RUN) -m vm.suite

clean:
	rm -rf $(VENV) build dist binfmt/build certexec/libexec certexec/kernel/_doors.*.so vm/cache
