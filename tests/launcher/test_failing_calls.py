"""A call of the launcher that fails stops the launch there, with its name and the kernel's error.

A filter of the test makes the one call fail; what is read back later would often notice, too, but
could not say why. So each line here also says which check speaks first.
"""

from __future__ import annotations

import os
import resource

import pytest

from tests.launcher.rig import USER, Rig, assert_refused, lie

pytestmark = pytest.mark.root

FSTAT, MMAP, FCNTL, SOCKETPAIR, CLONE = 5, 9, 72, 53, 56
CAPSET, CAPGET, PRCTL, OPENAT, PRLIMIT, GETRANDOM = 126, 125, 157, 257, 302, 318
SETGROUPS, GETGROUPS, SETRESUID, SETRESGID, SETPRIORITY = 116, 115, 117, 119, 141
F_DUPFD_CLOEXEC, F_SETFD = 1030, 2
NOFILE = 7
EPERM, ENOENT, ENOMEM, EMFILE, ENOSYS = 1, 2, 12, 24, 38
CAP = 1 << 13
CAPS = f"permitted={CAP}, inheritable={CAP}, ambient={CAP}, bounding={CAP}"
GRANT = "flags=plans.PLAN_PRIVILEGED"


@pytest.mark.parametrize(
    ("call", "errno", "code", "text"),
    [
        ((FSTAT,), EPERM, 126, "cannot be examined: EPERM"),
        ((FSTAT,), 0, 126, "not a regular file"),
        ((PRLIMIT, (1, NOFILE)), EPERM, 125, "the limit on files is stuck"),
        ((SOCKETPAIR,), EMFILE, 125, "no socket for the policy server"),
        ((CLONE,), EPERM, 125, "no process for the policy server"),
        ((OPENAT,), ENOENT, 125, 'the policy server cannot open "/dev/null"'),
        ((FCNTL, (1, F_SETFD)), EPERM, 125, "socket is not open"),
    ],
    ids=["fstat", "no file", "limit", "socketpair", "clone", "null", "cloexec"],
)
def test_before_the_plan(
    rig: Rig, call: tuple[object, ...], errno: int, code: int, text: str
) -> None:
    done = rig.run(uid=USER, before=lambda: lie(*call, errno=errno))  # type: ignore[arg-type]
    assert_refused(done, code, text)


@pytest.mark.parametrize(
    ("call", "errno", "text"),
    [
        ((FCNTL, (1, F_DUPFD_CLOEXEC)), EMFILE, "no descriptor for the certificate"),
        ((OPENAT,), ENOENT, '"/dev/null" cannot be opened'),
    ],
    ids=["dup", "null"],
)
def test_with_a_standard_descriptor_closed(
    rig: Rig, call: tuple[object, ...], errno: int, text: str
) -> None:
    for closed in (0, 1):

        def prepare(number: int = closed) -> None:
            lie(*call, errno=errno)  # type: ignore[arg-type]
            os.close(number)

        assert_refused(rig.run(uid=USER, before=prepare), 125, text)


def test_the_grandchild_that_cannot_be_started_is_noticed_as_such(rig: Rig) -> None:
    # launcher and child fit into the limit, the grandchild does not
    done = rig.run(
        uid=12348, after=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))
    )
    assert_refused(done, 125, "no process for the policy server")


@pytest.mark.parametrize(
    ("fields", "call", "errno", "text"),
    [
        ("nice=3", (SETPRIORITY, (2, 3)), EPERM, "the nice value cannot be set: EPERM"),
        ("oom=5", (OPENAT, (2, 0o2000002)), EPERM, "the oom score cannot be set"),
        ("", (PRCTL, (0, 38)), EPERM, "no_new_privs cannot be set: EPERM"),
        ("flags=plans.PLAN_LISTENER", (FCNTL, (1, F_DUPFD_CLOEXEC)), EMFILE,
         "no descriptor for the listener"),
        ("flags=plans.PLAN_KEEP_PROGRAM_FD", (FCNTL, (1, F_SETFD), (2, 0)), EPERM,
         "the script's descriptor cannot be kept: EPERM"),
        ("", (GETRANDOM, (1, 8), (2, 0)), ENOSYS, "no random bytes"),
    ],
    ids=["nice", "oom", "nnp", "listener", "script", "random"],
)  # fmt: skip
def test_of_an_ordinary_plan(
    rig: Rig, fields: str, call: tuple[object, ...], errno: int, text: str
) -> None:
    rig.server(f"channel = serve(NOOP, {fields})")
    assert rig.run(uid=USER).returncode in (42, 126)  # 126: a listener with nobody there
    done = rig.run(uid=USER, before=lambda: lie(*call, errno=errno))  # type: ignore[arg-type]
    assert_refused(done, 125 if text.startswith("no ") and "privs" not in text else 126, text)


@pytest.mark.parametrize(
    ("fields", "call", "text"),
    [
        ("groups=[5, 6]", (SETGROUPS, (0, 2)), "the supplementary groups cannot be set"),
        ("bounding=1", (PRCTL, (0, 24)), "the bounding set cannot be lowered"),
        ("euid=33, " + CAPS, (PRCTL, (0, 8)), "capabilities cannot be kept"),
        ("egid=33", (SETRESGID, (1, 33)), "the group id cannot be set"),
        ("euid=33", (SETRESUID, (1, 33)), "the user id cannot be set"),
        ("euid=33, " + CAPS, (CAPSET,), "the capabilities cannot be set"),
        ("euid=33, " + CAPS, (PRCTL, (0, 47), (1, 4)), "ambient capabilities cannot be cleared"),
        ("euid=33, " + CAPS, (PRCTL, (0, 47), (1, 2)), "an ambient capability cannot be set"),
    ],
    ids=["groups", "bounding", "keepcaps", "gid", "uid", "capset", "clear", "raise"],
)
def test_of_a_plan_with_a_grant(
    rig: Rig, fields: str, call: tuple[object, ...], text: str
) -> None:
    rig.server(f"serve(NOOP, {GRANT}, {fields})")
    assert rig.run(uid=USER, setuid=True, groups=[8]).returncode == 42
    done = rig.run(
        uid=USER, setuid=True, groups=[8], before=lambda: lie(*call, errno=EPERM)  # type: ignore[arg-type]
    )
    assert_refused(done, 126, f"{text}: EPERM")


@pytest.mark.parametrize(
    ("fields", "call"),
    [
        ("euid=33, " + CAPS, (CAPGET,)),
        ("groups=[5]", (GETGROUPS, (0, 2))),
    ],
    ids=["capget", "getgroups"],
)
def test_what_cannot_be_read_back_does_not_count_as_done(
    rig: Rig, fields: str, call: tuple[object, ...]
) -> None:
    rig.server(f"serve(NOOP, {GRANT}, {fields})")
    for errno in (0, EPERM):
        done = rig.run(
            uid=USER, setuid=True, before=lambda e=errno: lie(*call, errno=e)  # type: ignore[arg-type]
        )
        assert_refused(done, 126, "are not those certified")


@pytest.mark.parametrize(("mine", "wanted"), [([8], []), ([8], [5]), ([8, 9], [8])])
def test_groups_that_were_not_replaced_are_noticed(
    rig: Rig, mine: list[int], wanted: list[int]
) -> None:
    rig.server(f"serve(NOOP, {GRANT}, euid=33, groups={wanted})")

    def prepare() -> None:  # root invokes: its server does not need the call
        os.setgroups(mine)
        lie(SETGROUPS)

    assert rig.run(setuid=True).returncode == 42
    done = rig.run(setuid=True, before=prepare)
    assert_refused(done, 126, "supplementary groups are not those certified")


def test_memory_for_the_plan_that_is_not_there_is_noticed(rig: Rig) -> None:
    rig.server("p = make(Channel(3).recv_hello(), env=[b'A=' + b'x' * 3000000]).encode()\n"
               "note('size', len(p))")  # fmt: skip
    rig.run(uid=USER)
    size = rig.note("size")
    assert isinstance(size, int)
    rig.server("serve(NOOP, env=[b'A=' + b'x' * 3000000])")
    done = rig.run(uid=USER, before=lambda: lie(MMAP, (1, size), (2, 3), errno=ENOMEM))
    assert_refused(done, 125, "no memory for the plan")


def test_a_supervisor_that_no_longer_listens_stops_the_launch(rig: Rig) -> None:
    rig.server(
        "c = Channel(3)\nh = c.recv_hello()\nc._socket.shutdown(0)\n"
        "c.send_plan(make(h, flags=plans.PLAN_LISTENER).encode(), program(NOOP))\n"
    )
    assert_refused(rig.run(uid=USER), 126, "cannot be given the listener")

