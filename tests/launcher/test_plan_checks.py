"""Step 7: a plan is validated as a whole before anything of it is applied.

Each test takes a good plan and spoils one thing in its bytes, as no encoder would.
"""

from __future__ import annotations

import ctypes

import pytest

from tests.launcher.rig import USER, Rig, assert_refused

pytestmark = pytest.mark.root

# offsets in the header (binfmt/plan.h)
MAGIC, VERSION, SIZE, FLAGS = 0, 8, 16, 24
RUID, EUID, RGID, EGID = 32, 40, 48, 56
BOUNDING, OOM = 96, 120
GROUPS, LIMITS, ENV, ARGV, FILTER, PATCHES = 128, 144, 160, 176, 192, 208
TREES, HANDLED = 224, 240
HEADER = 248
PRIVILEGED, LISTENER, F_ENV, F_ARGV = 1, 2, 4, 8
AMBIENT, KEEP, F_GROUPS, F_CAPS, F_OOM = 32, 64, 128, 256, 2048
TOP = 0xFFFFFFFF

SPOIL = """
import struct
channel = Channel(3)
hello = channel.recv_hello()
good = dict(flags={flags}, env=[b"A=1", b"B=2"], argv_tail=[b"x"], rlimits=[(4, 0, 0)],
            handled=12, trees=[(b"/", 12, os.stat("/").st_dev, os.stat("/").st_ino)])
good.update({fields})
data = bytearray(make(hello, **good).encode())
def get(at):
    return struct.unpack_from("<Q", data, at)[0]
def put(at, value):
    struct.pack_into("<Q", data, at, value & (1 << 64) - 1)
{change}
channel.send_plan(bytes(data), program(NOOP))
"""


def spoil(
    rig: Rig, change: str, *, privileged: bool = False, fields: str = "{}", **options: object
) -> object:
    if privileged:
        fields = f"{{**dict(euid=0, egid=0, groups=[3, 4]), **{fields}}}"
    flags = "plans.PLAN_PRIVILEGED" if privileged else "0"
    rig.server(SPOIL.format(flags=flags, fields=fields, change=change))
    return rig.run(uid=USER, setuid=privileged, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("privileged", [False, True])
def test_the_good_plan_runs(rig: Rig, privileged: bool) -> None:
    done = spoil(rig, "", privileged=privileged)
    assert done.returncode == 42, done  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        f"put({MAGIC}, get({MAGIC}) ^ 1)",
        f"put({VERSION}, 2)",
        f"put({VERSION}, 0)",
        f"put({FLAGS}, get({FLAGS}) | 1 << 15)",
        f"put({FLAGS}, get({FLAGS}) | 1 << 63)",
    ],
)
def test_another_version_is_refused(rig: Rig, change: str) -> None:
    assert_refused(spoil(rig, change), 126, "another version")  # type: ignore[arg-type]


def test_a_plan_for_the_inside_of_a_tree_has_no_filter_and_is_refused_elsewhere(rig: Rig) -> None:
    done = spoil(rig, f"put({FLAGS}, get({FLAGS}) | 1 << 14); put({FILTER} + 8, 0)")
    assert_refused(done, 126, "for another place")  # type: ignore[arg-type]


@pytest.mark.parametrize("table", [GROUPS, LIMITS, ENV, ARGV, FILTER, PATCHES, TREES])
@pytest.mark.parametrize(
    "change",
    [
        "put({at}, get({at}) + 4)",  # not aligned
        "put({at}, 0)",  # in the header
        f"put({{at}}, {HEADER} - 8)",
        "put({at}, len(data) + 8)",  # past the end
        "put({at}, 1 << 63)",
        "put({at} + 8, 1 << 40)",  # too many
        "put({at} + 8, (1 << 64) - 1)",
        "put({at} + 8, 1 << 61)",  # its size in bytes overflows
        "put({at} + 8, (len(data) - get({at})) // 4 + 1)",
    ],
)
def test_tables_that_exceed_the_plan_are_refused(rig: Rig, table: int, change: str) -> None:
    assert_refused(spoil(rig, change.format(at=table)), 126, "tables exceed it")  # type: ignore[arg-type]


@pytest.mark.parametrize("table", [ENV, ARGV])
@pytest.mark.parametrize("offset", ["0", f"{HEADER - 1}", "len(data)", "1 << 40", "(1 << 64) - 1"])
def test_strings_outside_the_plan_are_refused(rig: Rig, table: int, offset: str) -> None:
    change = f"put(get({table}), {offset})"
    assert_refused(spoil(rig, change), 126, "tables exceed it")  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", ["0", f"{HEADER - 1}", "len(data)", "(1 << 64) - 1"])
def test_a_tree_whose_name_is_outside_the_plan_is_refused(rig: Rig, offset: str) -> None:
    done = spoil(rig, f"put(get({TREES}), {offset})")
    assert_refused(done, 126, "tables exceed it")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change", [f"put({FLAGS}, get({FLAGS}) & ~(1 << 13))", f"put({HANDLED}, 0)"]
)
def test_a_domain_without_rights_or_without_its_flag_is_refused(rig: Rig, change: str) -> None:
    assert_refused(spoil(rig, change), 126, "domain is not as it says")  # type: ignore[arg-type]


def test_a_plan_that_does_not_end_with_a_nul_is_refused(rig: Rig) -> None:
    assert_refused(spoil(rig, "data[-1] = 1"), 126, "tables exceed it")  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", ["0", "len(data)"])
def test_an_oom_score_outside_the_plan_is_refused(rig: Rig, offset: str) -> None:
    done = spoil(rig, f"put({OOM}, {offset})", fields="{'oom': 5}")
    assert_refused(done, 126, "tables exceed it")  # type: ignore[arg-type]


@pytest.mark.parametrize("privileged", [False, True])
@pytest.mark.parametrize("field", [RUID, RGID])
def test_a_plan_for_another_invoker_is_refused(rig: Rig, field: int, privileged: bool) -> None:
    for value in (0, USER + 1, USER | 1 << 32):
        done = spoil(rig, f"put({field}, {value})", privileged=privileged)
        assert_refused(done, 126, "another invoker")  # type: ignore[arg-type]


@pytest.mark.parametrize("field", [EUID, EGID])
@pytest.mark.parametrize("value", [TOP, 1 << 32, (1 << 64) - 1])
def test_ids_out_of_range_are_refused(rig: Rig, field: int, value: int) -> None:
    done = spoil(rig, f"put({field}, {value})", privileged=True)
    assert_refused(done, 126, "out of range")  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", [(4, 3), (3, 3), (3, TOP)])
def test_groups_out_of_order_are_refused(rig: Rig, pair: tuple[int, int]) -> None:
    change = f"struct.pack_into('<2I', data, get({GROUPS}), *{pair})"
    done = spoil(rig, change, privileged=True)
    assert_refused(done, 126, "not in order")  # type: ignore[arg-type]


def test_a_grant_without_the_bit_is_refused(rig: Rig) -> None:
    done = spoil(rig, f"put({FLAGS}, get({FLAGS}) | {PRIVILEGED})")
    assert_refused(done, 126, "does not give")  # type: ignore[arg-type]


def test_a_grant_that_keeps_the_invokers_environment_is_refused(rig: Rig) -> None:
    done = spoil(rig, f"put({FLAGS}, get({FLAGS}) & ~{F_ENV})", privileged=True)
    assert_refused(done, 126, "invoker's environment")  # type: ignore[arg-type]


def test_a_user_with_the_capabilities_left_alone_is_refused(rig: Rig) -> None:
    done = spoil(
        rig, f"put({FLAGS}, get({FLAGS}) & ~{F_CAPS})", privileged=True, fields="{'euid': 33}"
    )
    assert_refused(done, 126, "root's capabilities to a user")  # type: ignore[arg-type]


def test_a_script_with_an_identity_is_refused(rig: Rig) -> None:
    done = spoil(rig, f"put({FLAGS}, get({FLAGS}) | {KEEP})", privileged=True)
    assert_refused(done, 126, "identity to a script")  # type: ignore[arg-type]


def test_a_grant_to_a_root_invoker_with_no_new_privs_is_refused(rig: Rig) -> None:
    rig.server("serve(NOOP, flags=plans.PLAN_PRIVILEGED, euid=33)")
    libc = ctypes.CDLL(None)
    assert rig.run(setuid=True).returncode == 42
    done = rig.run(setuid=True, after=lambda: libc.prctl(38, 1, 0, 0, 0))
    assert_refused(done, 126, "no_new_privs")


@pytest.mark.parametrize(
    "change",
    [
        f"put({EUID}, 0)",
        f"put({EGID}, 0)",
        f"put({FLAGS}, get({FLAGS}) | {F_GROUPS})",
        f"put({FLAGS}, get({FLAGS}) | {F_CAPS})",
        f"put({FLAGS}, get({FLAGS}) | {AMBIENT})",
        f"put({BOUNDING}, 0)",
    ],
)
def test_a_change_of_identity_that_is_not_said_aloud_is_refused(rig: Rig, change: str) -> None:
    assert_refused(spoil(rig, change), 126, "without saying so")  # type: ignore[arg-type]


def test_a_plan_without_a_grant_never_leaves_effective_root(rig: Rig) -> None:
    # the bit on the file, and a server that does not notice: the launcher does
    rig.server("serve(NOOP)")
    assert_refused(rig.run(uid=USER, setuid=True), 126, "without saying so")


@pytest.mark.parametrize("count", ["0", "4097"])
def test_a_plan_without_a_filter_or_with_too_long_a_one_is_refused(rig: Rig, count: str) -> None:
    fields = "{'bpf': gate([(0x05, 0, 0, 0)] * 4000 + [RET(ALLOW)])[0]}"
    change = f"data += bytes(8 * 200); put({SIZE}, len(data)); put({FILTER} + 8, {count})"
    done = spoil(rig, change, fields=fields)
    assert_refused(done, 126, "has no filter")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        f"struct.pack_into('<2I', data, get({PATCHES}), 0, 0)",  # a load, not a comparison
        f"struct.pack_into('<2I', data, get({PATCHES}), get({FILTER} + 8), 0)",
        f"struct.pack_into('<2I', data, get({PATCHES}), {TOP}, 0)",
        f"struct.pack_into('<I', data, get({PATCHES}) + 4, 2)",
    ],
)
def test_a_gate_that_is_not_where_the_plan_says_is_refused(rig: Rig, change: str) -> None:
    assert_refused(spoil(rig, change), 126, "launch gate is not where")  # type: ignore[arg-type]
