"""The presets of this version, under real programs: what each is there for works, no more does."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from certexec.certificate.verify import read_unverified
from certexec.kernel.userdb import SystemUsers
from certexec.policy.syntax import parse_policy
from tests.execution.world import ALICE, World
from tests.supervision.conftest import Cage


def run(
    world: World, program: str, includes: tuple[str, ...], *argv: str, rules: tuple[str, ...] = (),
    **more: object,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a program of the system under presets; what it is denied is shown when a test fails."""
    path = os.path.realpath(program)
    lines = [f"include {one}" for one in includes] + [f"native-{rule}" for rule in rules]
    text = "\n".join(["Language: certexec 1", f"Policy: {path}, Emulation: native", *lines, ""])
    name = "preset-" + os.path.basename(path)
    signed = world.sign(name, path, text=text)
    world.logged()
    return world.run(signed, *argv, uid=ALICE, **more)  # type: ignore[arg-type]


@pytest.fixture
def world(cage: Cage) -> World:
    return cage.world


@pytest.mark.parametrize(
    ("program", "argv", "said"),
    [("/bin/true", (), ""), ("/bin/echo", ("a", "b"), "a b\n"), ("/usr/bin/expr", ("1", "+", "2"),
     "3\n"), ("/usr/bin/date", ("-u", "-d", "@0", "+%Y"), "1970\n")],
)  # fmt: skip
def test_base_lets_programs_start_speak_and_end(
    world: World, program: str, argv: tuple[str, ...], said: str
) -> None:
    done = run(world, program, ("base 1",), *argv)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, ""), world.logged()


def test_base_opens_no_file_of_anybody(world: World, place: Path) -> None:
    (place / "file").write_text("x")
    for name in (str(place / "file"), "/etc/passwd"):
        done = run(world, "/bin/cat", ("base 1",), name)
        assert done.returncode == 1 and "Operation not permitted" in done.stderr


def test_nameservice_tells_names(world: World) -> None:
    for key in ("passwd", "group"):
        done = run(world, "/usr/bin/getent", ("base 1", "nameservice 1"), key, "alice")
        assert done.returncode == 0 and "alice:x:61001" in done.stdout, (done, world.logged())
    assert run(world, "/usr/bin/getent", ("base 1",), "passwd", "alice").returncode != 0


def test_tmp_gives_files_below_it(world: World) -> None:
    done = run(world, "/usr/bin/mktemp", ("base 1", "tmp 1"), "/tmp/certexec-XXXXXX")
    assert done.returncode == 0, (done.stderr, world.logged())
    made = done.stdout.strip()
    try:
        moved = run(world, "/usr/bin/mv", ("base 1", "tmp 1"), "-T", "-n", made, made + ".x")
        assert moved.returncode == 0, (moved.stderr, world.logged())
        made += ".x"
        assert run(world, "/usr/bin/mv", ("base 1", "tmp 1"), made, "/dev/shm/x").returncode == 1
    finally:
        world.run("/bin/rm", "-f", made)


def test_tty_gives_the_terminal(world: World) -> None:
    ours, theirs = pty.openpty()
    try:
        subprocess.run(["stty", "rows", "33", "cols", "77"], stdin=theirs, check=True)
        done = run(world, "/usr/bin/stty", ("base 1", "tty 1"), "size", stdin=theirs)
        assert done.stdout == "33 77\n", (done.stderr, world.logged())
        assert run(world, "/usr/bin/stty", ("base 1",), "size", stdin=theirs).returncode != 0
    finally:
        os.close(ours)
        os.close(theirs)


def test_what_is_signed_holds_the_rules_and_no_include(world: World) -> None:
    path = world.path("bin/preset-true")
    run(world, "/bin/true", ("base 1",))
    text = read_unverified(Path(path).read_bytes()).policy.text
    assert text is not None and "# end of base 1\n" in text
    assert parse_policy(text, name="signed", users=SystemUsers(), privileged=True).policies[0].rules


def test_a_policy_beside_its_certificate_must_be_whole(world: World, place: Path) -> None:
    file = place / "policy"
    path = os.path.realpath("/bin/true")
    file.write_text(f"Language: certexec 1\nPolicy: {path}, Emulation: native\n\tinclude base 1\n")
    sign = ("sign", "--force", "-k", world.path("ops.key"), "--allow-everyone", "-o",
            world.path("bin/beside"), "--policy-path")  # fmt: skip
    refused = world.attempt(*sign, str(file), path)
    assert refused.returncode == 1 and "--expand" in refused.stderr
    file.write_text(world.verb("policy", "fmt", "--expand", str(file)))
    world.verb(*sign, str(file), path)
    assert world.run(world.path("bin/beside"), uid=ALICE).returncode == 0
