"""Step 11: ids and capabilities, read back each; and after the exec they are what was certified."""

from __future__ import annotations

import ctypes
import os
import time

import pytest

from tests.launcher.rig import STRANGER, USER, Rig, assert_refused, lie

pytestmark = pytest.mark.root

SETRESUID, SETRESGID, SETGROUPS, CAPSET, PRCTL = 117, 119, 116, 126, 157
GETRESUID, GETRESGID, GETGROUPS, CAPGET = 118, 120, 115, 125
PR_SET_KEEPCAPS, PR_CAP_AMBIENT = 8, 47
IS_SET, RAISE, CLEAR_ALL = 1, 2, 4
CHOWN, NET_BIND, NET_RAW = 1 << 0, 1 << 10, 1 << 13
EVERYTHING = (1 << 64) - 1
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def granted(rig: Rig, *, uid: int | None = USER, **fields: object) -> dict[str, object]:
    """Run the probe with a grant; return what it found with the capability sets as numbers."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    rig.server(f"serve(flags=plans.PLAN_PRIVILEGED, {arguments})")
    found = rig.probe(uid=uid, setuid=True, groups=[8, 9])
    status = found["status"]
    assert isinstance(status, dict)
    found["caps"] = {name: int(status[name], 16) for name in SETS}
    found["all uids"] = [int(one) for one in status["Uid"].split()]
    found["all gids"] = [int(one) for one in status["Gid"].split()]
    return found


def root_capabilities() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd"))


@pytest.mark.parametrize("uid", [USER, STRANGER])
def test_root_is_granted_and_the_real_user_stays(rig: Rig, uid: int) -> None:
    found = granted(rig, uid=uid, euid=0)
    assert found["all uids"] == [uid, 0, 0, 0]
    assert found["all gids"] == [uid] * 4
    assert found["groups"] == [8, 9]
    assert found["secure"] == 1
    full = root_capabilities()
    assert found["caps"] == {"CapInh": 0, "CapPrm": full, "CapEff": full, "CapBnd": full,
                             "CapAmb": 0}  # fmt: skip


@pytest.mark.parametrize(("euid", "egid"), [(33, 33), (33, USER), (USER, 33), (STRANGER, 0)])
def test_another_identity_is_granted_without_any_capability(
    rig: Rig, euid: int, egid: int
) -> None:
    found = granted(rig, euid=euid, egid=egid, bounding=0)
    assert found["all uids"] == [USER, euid, euid, euid]
    assert found["all gids"] == [USER, egid, egid, egid]
    assert set(found["caps"].values()) == {0}  # type: ignore[attr-defined]


def test_supplementary_groups_are_replaced(rig: Rig) -> None:
    assert granted(rig, euid=USER, groups=[44, 3, 3])["groups"] == [3, 44]
    assert granted(rig, euid=USER, groups=[])["groups"] == []
    assert granted(rig, euid=0, groups=[4_294_967_294])["groups"] == [4_294_967_294]


def test_capabilities_reach_an_ordinary_user_as_ambient_ones(rig: Rig) -> None:
    mask = NET_BIND | NET_RAW
    for euid in (USER, 33):
        found = granted(rig, euid=euid, permitted=mask, inheritable=mask, ambient=mask,
                        bounding=mask)  # fmt: skip
        assert found["all uids"] == [USER, euid, euid, euid]
        assert set(found["caps"].values()) == {mask}  # type: ignore[attr-defined]


def test_root_gets_exactly_the_certified_capabilities(rig: Rig) -> None:
    mask = NET_BIND | CHOWN
    found = granted(rig, euid=0, permitted=mask, bounding=mask)
    assert found["all uids"] == [USER, 0, 0, 0]
    assert found["caps"] == {"CapInh": 0, "CapPrm": mask, "CapEff": mask, "CapBnd": mask,
                             "CapAmb": 0}  # fmt: skip
    nothing = granted(rig, euid=0, permitted=0, bounding=0)
    assert set(nothing["caps"].values()) == {0}  # type: ignore[attr-defined]


def test_root_as_invoker_takes_the_identity_and_keeps_only_what_any_such_program_would(
    rig: Rig,
) -> None:
    found = granted(rig, uid=None, euid=33, egid=33)
    assert found["all uids"] == [0, 33, 33, 33]
    caps = found["caps"]
    assert isinstance(caps, dict)
    assert caps["CapEff"] == caps["CapAmb"] == 0
    assert caps["CapPrm"] == root_capabilities()  # with ruid 0: by exec, within the bounding set
    limited = granted(rig, uid=None, euid=33, permitted=NET_RAW, inheritable=NET_RAW,
                      ambient=NET_RAW, bounding=NET_RAW)["caps"]  # fmt: skip
    assert set(limited.values()) == {NET_RAW}  # type: ignore[attr-defined]


def test_an_inherited_ambient_capability_does_not_slip_through(rig: Rig) -> None:
    libc = ctypes.CDLL(None)

    def with_ambient() -> None:  # capabilities through a change of uid, as a login might give
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        sets = (ctypes.c_uint32 * 6)(NET_RAW, NET_RAW, NET_RAW, 0, 0, 0)
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        assert libc.capset(header, sets) == 0
        assert libc.prctl(PR_CAP_AMBIENT, RAISE, 13, 0, 0) == 0

    rig.server("serve(flags=plans.PLAN_PRIVILEGED, euid=33)")
    status = rig.probe(setuid=True, after=with_ambient)["status"]
    assert isinstance(status, dict)
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}


# ---- each step is read back: a call that only pretends to work stops the launch ----

CAPS = f"permitted={NET_RAW}, inheritable={NET_RAW}, ambient={NET_RAW}, bounding={NET_RAW}"


@pytest.mark.parametrize(
    ("fields", "call", "text"),
    [
        ("euid=33", (SETRESUID, (1, 33)), "group ids are not those certified"),
        ("euid=USER", (SETRESUID, (1, USER)), "group ids are not those certified"),
        ("egid=33", (SETRESGID, (1, 33)), "group ids are not those certified"),
        ("groups=[5, 6]", (SETGROUPS, (0, 2)), "supplementary groups are not those certified"),
        ("euid=33, " + CAPS, (CAPSET,), "capabilities are not those certified"),
        ("euid=0, permitted=1", (CAPSET,), "capabilities are not those certified"),
        ("euid=33, " + CAPS, (PRCTL, (0, PR_CAP_AMBIENT), (1, RAISE)),
         "ambient capabilities are not those certified"),
        ("euid=33, " + CAPS, (PRCTL, (0, PR_SET_KEEPCAPS)), "capabilities cannot be set: EPERM"),
        ("euid=33", (GETRESUID,), "do not fit together"),
        ("euid=33, " + CAPS, (CAPGET,), "capabilities are not those certified"),
    ],
)  # fmt: skip
def test_a_step_that_did_not_happen_stops_the_launch(
    rig: Rig, fields: str, call: tuple[object, ...], text: str
) -> None:
    rig.server(f"USER = {USER}\nserve(NOOP, flags=plans.PLAN_PRIVILEGED, {fields})")
    assert rig.run(uid=USER, setuid=True, groups=[8]).returncode == 42
    done = rig.run(uid=USER, setuid=True, groups=[8], before=lambda: lie(*call))  # type: ignore[arg-type]
    assert_refused(done, 126, text)


def test_ambient_capabilities_that_were_not_cleared_stop_the_launch(rig: Rig) -> None:
    libc = ctypes.CDLL(None)

    def with_ambient() -> None:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        sets = (ctypes.c_uint32 * 6)(0xFFFFFFFF, NET_RAW | 0xC0, NET_RAW, 0, 0, 0)
        sets[0] = sets[1]
        assert libc.capset(header, sets) == 0
        assert libc.prctl(PR_CAP_AMBIENT, RAISE, 13, 0, 0) == 0

    # root as invoker: its ambient set survives a set-user-ID certificate, as ids do not change
    mask = NET_RAW
    rig.server(
        f"serve(NOOP, flags=plans.PLAN_PRIVILEGED, euid=33, permitted={mask}, inheritable={mask})"
    )
    assert rig.run(setuid=True).returncode == 42

    def prepare() -> None:
        lie(PRCTL, (0, PR_CAP_AMBIENT), (1, CLEAR_ALL))
        with_ambient()

    assert_refused(rig.run(setuid=True, before=prepare), 126, "ambient capabilities are not")


def test_a_capability_that_root_lacks_cannot_be_granted(rig: Rig) -> None:
    missing = next(bit for bit in range(64) if not root_capabilities() >> bit & 1)
    rig.server(
        f"serve(NOOP, flags=plans.PLAN_PRIVILEGED, euid=33, permitted={1 << missing})"
    )
    done = rig.run(uid=USER, setuid=True)
    assert done.returncode == 126
    assert "capabilit" in done.stderr


def test_after_a_refusal_no_privilege_is_left(rig: Rig) -> None:
    # the process is gone, and so is its server
    rig.server(
        "serve(NOOP, flags=plans.PLAN_PRIVILEGED, euid=0, rlimits=[(99, 0, 0)])\n"
        "note('pid', os.getpid())"
    )
    assert_refused(rig.run(uid=USER, setuid=True), 126, "limit")
    pid = rig.note("pid")
    for _ in range(200):
        if not os.path.exists(f"/proc/{pid}"):
            return
        time.sleep(0.01)
    raise AssertionError("the server outlives the launcher")
