"""README's commands do what README says, typed one after the other on a machine of their own."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.isolation import Machine

PROJECT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (PROJECT / "README.md").read_text(), re.M | re.S)
USER = 23456
USERS_GID = 100
"""The group "users" of every Debian (base-passwd)."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    place = Machine()
    yield place
    place.stop()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = Path("/tmp") / f"certexec-readme-{tmp_path_factory.getbasetemp().name}"
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


def typed(machine: Machine, directory: Path, script: str, user: str = "") -> str:
    """Type a block into a shell, as root or as an ordinary user; returns what it printed."""
    command = f'certexec() {{ {sys.executable} -m certexec.cli.main "$@"; }}'
    # a passphrase would be asked for on a terminal; everything else is as written
    script = script.replace("certexec keygen", "certexec keygen --no-passphrase")
    run = ["sh", "-ec", f"cd {directory}; {command}\n{script}"]
    if user:
        run = ["setpriv", *user.split(), *run]
    done = machine.run(*run, env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_screen_signs_and_runs(machine: Machine, directory: Path) -> None:
    out = typed(machine, directory, BLOCKS[0])
    assert "hello.cert: OK" in out
    assert out.splitlines()[-1] == "0"
    ordinary = f"--reuid={USER} --regid={USER} --clear-groups"
    assert typed(machine, directory, "./hello.cert -u", ordinary) == f"{USER}\n"
    by_name = f"PATH={directory}:$PATH; hello.cert -u"
    assert typed(machine, directory, by_name, ordinary) == f"{USER}\n"


def test_the_second_block_grants_an_identity(machine: Machine, directory: Path) -> None:
    *lines, run = BLOCKS[1].strip().splitlines()
    typed(machine, directory, "\n".join(lines))
    member = f"--reuid={USER} --regid={USER} --groups={USERS_GID}"
    out = typed(machine, directory, run, member)
    assert f"uid={USER}" in out and "euid=0" in out
    stranger = f"--reuid={USER} --regid={USER} --clear-groups"
    refusal = typed(machine, directory, f"{run.split()[0]} 2>&1 || echo $?", stranger)
    assert "acl-denied" in refusal and refusal.endswith("126\n")


def test_the_third_block_needs_neither_root_nor_set_up(machine: Machine, directory: Path) -> None:
    mine = directory / "mine"
    mine.mkdir()
    for name in ("ops.pub", "hello.cert"):
        shutil.copy(directory / name, mine / name)
    shutil.chown(mine, USER, USER)
    ordinary = f"--reuid={USER} --regid={USER} --clear-groups"
    out = typed(machine, mine, BLOCKS[2], ordinary)
    assert out.splitlines()[-1] == str(USER)
