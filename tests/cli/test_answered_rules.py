"""What an agent says after "always": the rule that would permit it, and where it was written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import pytest

from certexec.cli.answered_rules import AnsweredRules
from certexec.cli.own_places import own_subject
from certexec.cli.question_text import readable_lines
from certexec.errors import CliError
from certexec.policy.lexer import PolicySyntaxError
from certexec.run.agent import Question
from certexec.run.agent_desk import Desk
from tests.cli.conftest import Script
from tests.run.test_agent_desk import HOSTILE, Asked

POLICY = """\
# mine
Policy: /bin/x, Emulation: native
\tnative-read: permit
\tnative-connect: sockaddr match "inet-*" then ask
"""


def question(syscall: str, number: int, reason: str = "unmatched", **members: object) -> Question:
    members = {"program": "/bin/child", "policy": "/bin/x", **members}
    return cast(Question, Asked(
        event="call", verdict="ask", reason=reason, emulation="native", syscall=syscall,
        number=number, schema=1, **members,
    ))  # fmt: skip


MKDIR = question("mkdir", 83, arguments={"filename": "/srv/new"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "x.policy"
    made.write_text(POLICY)
    return made


def test_the_narrowest_rule_is_told() -> None:
    told = AnsweredRules().told
    said = 'a rule that permits it: native-fswrite: filename eq "/srv/new" then permit'
    assert told(MKDIR) == said
    opened = question("openat", 257, arguments={"filename": "/etc/x", "oflags": "ro"})
    assert told(opened).endswith('native-fsread: filename eq "/etc/x" then permit')
    connected = question("connect", 42, "ask", arguments={"sockaddr": "inet-[192.0.2.1]:80"})
    assert told(connected).endswith(
        'native-connect: sockaddr eq "inet-[192.0.2.1]:80" then permit'
    )
    plain = question("getpriority", 140, args="00" * 48)
    assert told(plain).endswith("native-getpriority: true then permit")
    run = question("execve", 59, arguments={"filename": "/bin/y", "argv": "y"})
    assert told(run).endswith('native-execve: filename eq "/bin/y" then permit')


def test_what_no_rule_can_say_is_passed_over_and_nothing_drives_the_terminal() -> None:
    told = AnsweredRules().told
    assert told(question("openat", 257, arguments={"filename": "\ufffd"}, bytes={"x": b""})) == ""
    assert told(question("mkdir", 39, arguments={"filename": "/x"})) == ""  # of the 32-bit ABI
    assert told(question("nonsense", 9999, arguments={"filename": "/x"})) == ""
    assert told(question("getpid", 39)) == "" and told(question("getpid", 39, args="zz")) == ""
    said = told(question("mkdir", 83, arguments={"filename": HOSTILE}))
    assert said.isprintable() and HOSTILE not in said


def test_a_rule_is_added_to_the_policy_that_judged_the_call(file: Path, script: Script) -> None:
    rules = AnsweredRules(str(file))
    line = 'native-fswrite: filename eq "/srv/new" then permit'
    assert rules.told(MKDIR) == f'added to "{file}": {line}'
    assert file.read_text() == f"{POLICY}\t{line}\n"
    # once is enough
    assert rules.told(MKDIR).startswith(f'a rule in "{file}" decides it')
    assert file.read_text() == f"{POLICY}\t{line}\n"
    assert script.certexec("policy", "check", str(file)) == 0
    assert script.certexec("policy", "test", str(file), "mkdir", "filename=/srv/new") == 0


def test_names_at_home_are_those_of_whoever_runs_it(file: Path) -> None:
    home = own_subject().home
    mine = question("mkdir", 83, arguments={"filename": f"{home}/new"})
    line = 'native-fswrite: filename eq "$HOME/new" then permit'
    assert AnsweredRules().told(mine) == f"a rule that permits it: {line}"
    assert AnsweredRules(str(file)).told(mine) == f'added to "{file}": {line}'
    assert file.read_text() == f"{POLICY}\t{line}\n"


def test_what_an_added_rule_permits_is_not_asked_again(file: Path) -> None:
    def asked(syscall: str, number: int, name: str, **members: object) -> Question:
        members = {"uid": os.getuid(), "arguments": {"filename": name}, **members}
        return question(syscall, number, **members)  # type: ignore[arg-type]

    rules = AnsweredRules(str(file))
    made = asked("mkdir", 83, "/srv/new")
    assert not rules.permits(made)  # nobody has said so yet
    rules.told(made)
    rules.told(asked("stat", 4, "/srv/x"))
    assert rules.permits(made)
    assert rules.permits(asked("rmdir", 84, "/srv/new"))
    assert rules.permits(asked("readlink", 89, "/srv/x"))
    # another name, another use, another program's policy, another user's call, a rule that asks,
    # rights that the caller lacks, what nobody has judged
    for other in (
        asked("mkdir", 83, "/srv/other"), asked("stat", 4, "/srv/new"),
        asked("mkdir", 83, "/srv/new", policy="/bin/y"),
        asked("mkdir", 83, "/srv/new", uid=os.getuid() + 1),
        asked("mkdir", 83, "/srv/new", reason="ask"),
        asked("mkdir", 83, "/srv/new", **{"as": "root"}),
        asked("nonsense", 9999, "/srv/new"),
    ):
        assert not rules.permits(other)
    cast(Any, made).by_registers = True
    assert not rules.permits(made)
    # without a file nothing was written, and every question is one
    assert not AnsweredRules().permits(asked("mkdir", 83, "/srv/new"))


def test_where_a_rule_asks_or_the_program_is_another_the_file_stays(file: Path) -> None:
    rules = AnsweredRules(str(file))
    asked = question("connect", 42, "ask", arguments={"sockaddr": "inet-[192.0.2.1]:80"})
    assert rules.told(asked) == (
        f'a rule in "{file}" decides it; to permit it, write before that: '
        'native-connect: sockaddr eq "inet-[192.0.2.1]:80" then permit'
    )
    # whoever asks may say anything: a rule that asks is none that is missing
    other = question("mkdir", 83, "ask", arguments={"filename": "/srv/new"})
    assert rules.told(other).startswith(f'a rule in "{file}" decides it')
    foreign = question("mkdir", 83, policy="/bin/y", arguments={"filename": "/srv/new"})
    assert rules.told(foreign).startswith(f'"{file}" has no policy for "/bin/y"; the rule is: nat')
    hostile = question("mkdir", 83, arguments={"filename": HOSTILE})
    rules.told(hostile)
    file.unlink()
    assert rules.told(MKDIR).startswith(f'"{file}" stays as it is: ')


def test_a_name_that_tries_to_be_more_than_a_name_becomes_no_other_rule(file: Path) -> None:
    hostile = question(
        "mkdir", 83, arguments={"filename": '/x" then permit\n\tnative-execve: permit'}
    )
    AnsweredRules(str(file)).told(hostile)
    assert "\n\tnative-execve: permit" not in file.read_text()


def test_what_is_no_policy_is_refused_at_once(tmp_path: Path, script: Script) -> None:
    bad = tmp_path / "bad"
    bad.write_text("nonsense\n")
    with pytest.raises(PolicySyntaxError):
        AnsweredRules(str(bad))
    with pytest.raises(CliError):
        AnsweredRules(str(tmp_path / "none"))


def test_what_nobody_answered_can_be_learned_and_what_was_refused_is_not(script: Script) -> None:
    base = {
        "schema": 1, "event": "call", "verdict": "deny", "program": "/bin/x", "number": 83,
        "emulation": "native", "syscall": "mkdir",
    }  # fmt: skip
    outcomes = ("no agent", "time-out", "bad agent", "too many", "denied")
    events = [
        {**base, "reason": f"unmatched: {one}", "arguments": {"filename": f"/srv/{index}"}}
        for index, one in enumerate(outcomes)
    ]
    asked = {**base, "reason": "ask: time-out", "arguments": {"filename": "/srv/asked"}}
    permitted = {
        **base, "verdict": "permit", "reason": "unmatched: permitted",
        "arguments": {"filename": "/srv/permitted"},
    }  # fmt: skip
    script.write("log", "".join(json.dumps(one) + "\n" for one in (*events, asked, permitted)))
    script("certexec learn --from-log log --generalize none")
    assert script.stdout.count("fswrite") == 5 and '"/srv/permitted"' in script.stdout
    assert "/srv/4" not in script.stdout and "/srv/asked" not in script.stdout


def test_a_question_says_what_flags_and_calls_are_in_plain_words() -> None:
    made = question(
        "openat", 257, arguments={"filename": "/srv/x", "oflags": "woct"}, user="alice", pid=7,
        certificate="/c",
    )
    lines = readable_lines(Desk().add(made), 29.6)
    assert lines[0] == (
        '#1, 30 s: alice\'s /bin/child (process 7) under /c wants openat (in rules "fswrite")'
    )
    assert "    oflags: woct (writes, makes it where it is missing, empties it)" in lines
    made = question("mkdir", 83, arguments={"filename": HOSTILE, "oflags": HOSTILE}, pid=HOSTILE)
    assert all(line.isprintable() for line in readable_lines(Desk().add(made), 1.0))
    assert readable_lines(Desk().add(question("nonsense", 9999)), 1.0)[0].endswith("wants nonsense")
