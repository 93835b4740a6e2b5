"""What of a policy is left to Landlock, and that it says there what the rules say."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.kernel import landlock as rights
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.decisions import O_PATH, Table
from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.guards import DENY, LANDLOCK, NOTIFY, PERMIT, RULES
from certexec.policy.landlock import Landlocked, landlocked
from certexec.policy.model import Policy, Subject
from certexec.policy.tree import TreeOptions
from tests.policy.common import policy as native_policy

ABI = 7
ALICE = Subject(1000, 1000, "/home/alice", "alice", "/work")
READ_USES = {(name, "read") for name in ("open", "openat", "openat2")}
O_WRONLY, O_CREAT = 1, 0o100


def policy(*lines: str) -> Policy:
    return native_policy(*(f"native-{line}" for line in lines))


def left(*lines: str, abi: int = ABI, subject: Subject | None = ALICE) -> Landlocked:
    found, why = landlocked(policy(*lines), abi, subject)
    assert found is not None, why
    return found


def refused(*lines: str, abi: int = ABI) -> str:
    found, why = landlocked(policy(*lines), abi, ALICE)
    assert found is None
    return why


def test_a_list_of_trees_to_read_is_left_to_landlock() -> None:
    found = left(
        'fsread: filename match "/usr" or filename match "/lib" then permit',
        'fsread: filename match "$HOME/notes" then permit',
        'fsread: filename match "/<non-existent filename>: *" then deny[enoent]',
    )
    assert found.handled == rights.READS
    assert found.trees == dict.fromkeys(("/usr", "/lib", "/home/alice/notes"), rights.READS)
    assert found.uses == READ_USES


def test_writes_follow_where_what_is_written_may_be_read() -> None:
    found = left(
        'fsread: filename match "/usr" then permit',
        'fsread: filename match "/tmp" then permit',
        'fswrite: filename match "/tmp/x/*" then permit',
    )
    assert found.handled == rights.READS | rights.WRITES
    assert found.trees["/tmp/x"] == rights.WRITES
    assert ("unlinkat", "file") in found.uses
    assert ("mknod", "fifo") in found.uses


def test_writes_alone_are_left_to_it_where_all_may_be_read() -> None:
    found = left("fsread: permit", 'fswrite: filename match "/tmp" then permit')
    assert found.handled == rights.WRITES
    assert not READ_USES & found.uses


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (['fsread: filename match "/usr/*" then permit'], '"/usr" is a tree'),
        (['fsread: filename match "/usr/lib*" then permit'], "no tree"),
        (['fsread: filename match "/" then permit'], "no tree"),
        (['fsread: filename match "usr" then permit'], "no tree"),
        (['fsread: filename match "/usr/" then permit'], "no tree"),
        (['fsread: filename match "/usr/../etc" then permit'], "no tree"),
        (['fsread: filename match "/usr/\\\\x" then permit'], "no tree"),
        (['fsread: filename eq "/usr" then permit'], "more than"),
        (['fsread: filename sub "/usr" then permit'], "more than"),
        (['fsread: filename[1] match "/usr" then permit'], "more than"),
        (['fsread: not filename match "/usr" then permit'], "no list"),
        (['fsread: filename match "/usr" and filename match "/usr/lib" then permit'], "no list"),
        (['fsread: filename match "/usr" then permit log'], "no plain permit"),
        (['fsread: filename match "/usr" then permit, if user = 5'], "no plain permit"),
        (['fsread: filename match "/usr" then ask'], "no plain permit"),
        (
            [
                'fsread: filename match "/usr/x" then deny[eperm]',
                'fsread: filename match "/usr" then permit',
            ],
            "denies a part",
        ),
        (
            ['fsread: filename match "/usr" then permit', "fsread: true then deny[enoent]"],
            "something else",
        ),
        (['fsread: filename match "/usr" then permit', "fsread: true then permit"], "the rest"),
        (['fsread: filename match "/usr" then permit', "openat: permit"], "openat is permitted"),
        (['fsread: filename match "/usr" then permit', "mount: permit"], "mount is permitted"),
    ],
)
def test_what_is_no_plain_list_stays_with_the_supervisor(lines: list[str], why: str) -> None:
    assert why in refused(*lines)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (['fsread: filename eq "/usr" then permit'], "judged otherwise"),
        ([], "judged otherwise"),
        (['fsread: filename match "/usr" then permit'], "not read"),
        (["fsread: permit", "rename: permit"], "rename is permitted"),
        (["fsread: permit", "mknod: permit"], "mknod is permitted"),
        (["fsread: permit", "truncate: permit"], "truncate is permitted"),
        (["fsread: permit", "unlink: permit"], "unlink is permitted"),
    ],
)
def test_writes_stay_with_the_supervisor_where_landlock_would_say_something_else(
    lines: list[str], why: str
) -> None:
    found, told = landlocked(
        policy(*lines, 'fswrite: filename match "/tmp" then permit'), ABI, ALICE
    )
    assert found is None or not found.handled & rights.WRITES
    assert why in told


def test_a_rename_that_is_permitted_may_still_cross_directories() -> None:
    found = left('fsread: filename match "/usr" then permit', "rename: permit")
    assert found.handled == rights.READS | rights.REFER
    assert found.trees == {"/usr": rights.READS, "/": rights.REFER}


def test_kernels_whose_landlock_says_less_leave_it_to_the_supervisor() -> None:
    reads = 'fsread: filename match "/tmp" then permit'
    assert refused(reads, abi=0)
    assert refused(reads, abi=1)
    assert left(reads, abi=2)
    writes = 'fswrite: filename match "/tmp" then permit'
    assert not left(reads, writes, abi=2).handled & rights.TRUNCATE
    assert left(reads, writes, abi=3).handled & rights.TRUNCATE


def test_a_macro_that_is_not_known_names_a_tree() -> None:
    found = left('fsread: filename match "$HOME" then permit', subject=None)
    assert list(found.trees) == ["$HOME"]


NAMES = st.sampled_from(["a", "ab", "b", "usr", "lib"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
TREES = st.lists(PATHS | st.just("/*"), min_size=1, max_size=4)


@given(TREES, st.lists(PATHS, min_size=1, max_size=3), st.lists(PATHS | st.just("/"), max_size=8))
def test_landlock_permits_what_the_rules_permit(
    reads: list[str], writes: list[str], paths: list[str]
) -> None:
    lines = [f'fsread: filename match "{tree}" then permit' for tree in reads]
    lines += [f'fswrite: filename match "{tree}/*" then permit' for tree in writes]
    rules = policy(*lines)
    found, _ = landlocked(rules, ABI, ALICE)
    assert found is not None
    for call, label in sorted(found.uses):
        needed = rights.READ_FILE if label == "read" else rights.WRITE_FILE
        if not found.handled & needed:
            continue
        for path in paths:
            if path in writes and label != "read":
                continue  # a directory, which nobody can open for writing
            verdict = evaluate(effective_rules(rules, call, label), {"filename": [path]}, ALICE)
            granted = any(
                granted & needed
                and (tree == "/" or path == tree or path.startswith(tree + "/"))
                for tree, granted in found.trees.items()
            )
            assert granted == (verdict is not None), (call, label, path)


def table(*lines: str, **options: bool) -> Table:
    found = policy(*lines)
    chosen = TreeOptions(
        full_log=False, privileged=False, landlocked=landlocked(found, ABI, ALICE)[0],
        **{"capable": False, **options},
    )  # fmt: skip
    return Table(found, chosen)


READS = 'fsread: filename match "/usr" then permit'


def decide(found: Table, name: str, *args: int) -> tuple[str, int, str]:
    decision = found.decide(NUMBERS[name], (*args, *[0] * 6)[:6])
    return decision.kind, decision.errno, decision.why


def test_the_filter_lets_what_landlock_decides_pass_without_a_supervisor() -> None:
    found = table(READS, "stat: permit", "access: permit", "readlink: permit", "lstat: permit")
    assert not found.needs_listener
    assert decide(found, "openat", 0, 1) == (PERMIT, 0, LANDLOCK)
    assert decide(found, "openat", 0, 1, O_WRONLY)[0] == DENY


@pytest.mark.parametrize("name", ["open", "openat"])
def test_an_open_that_only_looks_a_name_up_is_not_left_to_landlock(name: str) -> None:
    flags = (1, O_PATH) if name == "open" else (0, 1, O_PATH)
    found = table(READS, "stat: permit", "access: permit", "readlink: permit", "lstat: permit")
    assert decide(found, name, *flags) == (DENY, errno.EACCES, "")
    found = table(READS)
    assert found.needs_listener
    assert decide(found, name, *flags) == (NOTIFY, 0, RULES)


def test_openat2_whose_flags_lie_in_memory_is_not_left_to_landlock() -> None:
    found = table(READS, "stat: permit", "access: permit", "readlink: permit", "lstat: permit")
    assert decide(found, "openat2", 0, 1, 1) == (DENY, errno.ENOSYS, "")
    assert decide(table(READS), "openat2", 0, 1, 1) == (NOTIFY, 0, RULES)


def test_where_the_supervisor_opens_the_rules_count_and_not_the_domain() -> None:
    found = table(READS, capable=True)
    assert decide(found, "openat", 0, 1) == (NOTIFY, 0, RULES)


def test_io_uring_is_denied_beside_a_domain() -> None:
    lines = [f"{name}: permit" for name in ("stat", "lstat", "access", "readlink")]
    found = table(READS, *lines, "io_uring_setup: permit", "io_uring_enter: permit")
    assert decide(found, "io_uring_setup")[:2] != (PERMIT, 0)
