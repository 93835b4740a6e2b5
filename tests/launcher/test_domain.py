"""Step 8, its end: the Landlock domain, whose trees are the very objects of the plan."""

from __future__ import annotations

import subprocess

import pytest

from certexec.kernel.landlock import READS, WRITES, abi
from tests.launcher.rig import USER, Rig, assert_refused, lie, skip_or_fail

pytestmark = pytest.mark.root

OPENAT2, CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 437, 444, 445, 446
EPERM, ENOSYS = 1, 38
SYSTEM = ("/usr", "/etc", "/proc", "/dev")


@pytest.fixture(autouse=True)
def _landlock() -> None:
    if abi() < 3:
        skip_or_fail("needs Landlock that governs truncation (Linux 6.2)")


def domain(rig: Rig, change: str = "", more: str = "") -> str:
    """Return what a server says whose plan has a domain with the system's trees.

    ``change`` is done to ``trees``; ``more``: further arguments.
    """
    paths = [*SYSTEM, str(rig.home)]
    return f"""
def tree(path, rights={READS}):
    info = os.stat(path)
    return (os.path.realpath(path).encode(), rights, info.st_dev, info.st_ino)
trees = [tree(path) for path in {paths!r} if os.path.exists(path)]
{change}
serve("/bin/cat", handled={READS | WRITES}, trees=trees, argv_tail=TAIL{more})
"""


def serve(rig: Rig, *tail: str, **options: str) -> None:
    words = [each.encode() for each in tail]
    rig.server(f"TAIL = {words!r}\n" + domain(rig, **options))


@pytest.mark.parametrize("setuid", [False, True])
def test_the_program_opens_what_lies_in_its_trees_and_nothing_else(rig: Rig, setuid: bool) -> None:
    inside, outside = rig.home / "inside", rig.home.with_suffix(".outside")
    inside.write_text("in\n")
    outside.write_text("out\n")
    body = domain(rig, more=", flags=plans.PLAN_PRIVILEGED, env=[], euid=0" if setuid else "")
    try:
        for path, wanted in ((inside, (0, "in\n")), (outside, (1, ""))):
            rig.server(f"TAIL = [{str(path).encode()!r}]\n" + body)
            done = rig.run(uid=USER, setuid=setuid)
            assert (done.returncode, done.stdout) == wanted, done.stderr
            assert ("Permission denied" in done.stderr) == bool(wanted[0])
    finally:
        outside.unlink()


def test_a_tree_grants_its_own_rights_and_no_others(rig: Rig) -> None:
    file = rig.home / "file"
    file.write_text("before\n")
    file.chmod(0o666)
    change = f"trees[-1] = tree({str(rig.home)!r}, {READS | WRITES})"
    for writes in (False, True):
        body = domain(rig, change=change if writes else "").replace("/bin/cat", "/usr/bin/tee")
        rig.server(f"TAIL = [{str(file).encode()!r}]\n" + body)
        done = rig.run(uid=USER, stdin=subprocess.DEVNULL)
        assert (done.returncode, file.read_text()) == ((0, "") if writes else (1, "before\n"))
        assert ("Permission denied" in done.stderr) != writes
    file.unlink()


def test_a_domain_of_no_trees_lets_nothing_be_opened(rig: Rig) -> None:
    rig.server(f"serve(NOOP, handled={READS})")
    assert_refused(rig.run(uid=USER), 126, "the program cannot be executed: EACCES")
    rig.server(f"serve(NOOP, handled={WRITES})")
    assert rig.run(uid=USER).returncode == 42


def test_a_tree_that_was_exchanged_is_refused(rig: Rig) -> None:
    for tree, index in ((-1, 2), (-1, 3), (0, 3)):  # of the first, too: the others are right
        change = f"one = list(trees[{tree}]); one[{index}] += 1; trees[{tree}] = tuple(one)"
        serve(rig, "/etc/passwd", change=change)
        assert_refused(rig.run(uid=USER), 126, "was exchanged (kernel-unsupported)")


def test_a_tree_behind_a_link_is_refused(rig: Rig) -> None:
    (rig.home / "link").symlink_to("/etc")
    change = f"trees.append(({str(rig.home / 'link').encode()!r}, *tree('/etc')[1:]))"
    serve(rig, "/etc/passwd", change=change)
    assert_refused(rig.run(uid=USER), 126, "cannot be opened: errno 0040")


def test_a_tree_that_is_gone_is_refused(rig: Rig) -> None:
    serve(rig, "/etc/passwd", change="trees.append((b'/none', 12, 1, 1))")
    assert_refused(rig.run(uid=USER), 126, "cannot be opened: ENOENT")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (CREATE_RULESET, "the Landlock domain cannot be made: errno 0038"),
        (OPENAT2, "that the policy names cannot be opened: errno 0038"),
        (ADD_RULE, "the Landlock domain cannot be made: errno 0038"),
        (RESTRICT_SELF, "the Landlock domain cannot be entered: errno 0038"),
    ],
)
def test_a_kernel_without_landlock_runs_nothing(rig: Rig, call: int, text: str) -> None:
    serve(rig, "/etc/passwd")
    assert_refused(rig.run(uid=USER, before=lambda: lie(call, errno=ENOSYS)), 126, text)


def test_the_launcher_leaves_no_descriptor_of_the_domain_behind(rig: Rig) -> None:
    change = "PYTHON_TREE = os.path.dirname(os.path.realpath(PYTHON))"
    rig.server(
        "TAIL = []\n"
        + domain(rig, change=change).replace('"/bin/cat"', "PYTHON").replace(", argv_tail=TAIL", "")
    )
    found = rig.probe(uid=USER)
    names = [str(name) for name in found["fds"].values()]  # type: ignore[attr-defined]
    assert not [name for name in names if "landlock" in name or name in SYSTEM]
