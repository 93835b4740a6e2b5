"""Step 8: what is set before the filter, each thing read back.

A read-back is tested with a kernel that lies: a filter installed by the test makes one call a
no-op that reports success.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
from pathlib import Path

import pytest

from tests.launcher.rig import USER, Rig, assert_refused, lie, skip_or_fail

pytestmark = pytest.mark.root

PRCTL, PRLIMIT, SETPRIORITY, UMASK, WRITE = 157, 302, 141, 95, 1
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
FSIZE, NPROC, CORE, NOFILE, STACK = 1, 6, 4, 7, 3
INFINITY = resource.RLIM_INFINITY


def test_the_environment_is_replaced_as_a_whole(rig: Rig) -> None:
    rig.server("serve(env=[b'A=1', b'EMPTY=', b'=odd', b'B=\\xff'])")
    found = rig.probe(uid=USER, env={"LD_PRELOAD": "/none.so", "PATH": "/x"})
    assert found["env"] == ["A=1", "EMPTY=", "=odd", "B=\xff"]
    rig.server("serve(env=[])")
    assert rig.probe(uid=USER)["env"] == []


def test_arguments_are_replaced_after_the_first(rig: Rig) -> None:
    rig.server(f"serve(argv_tail=[b'-I', b'-S', b'{rig.home}/probe.py', b'-', b''])")
    done = rig.run("whatever", "was", "typed", uid=USER)
    argv = json.loads(done.stdout)["argv"]
    assert argv == [str(rig.home / "program"), "-I", "-S", str(rig.home / "probe.py"), "-", ""]
    rig.server("serve('/bin/cat', argv_tail=[])")
    assert rig.run("/etc/shadow", uid=USER).stdout == ""


@pytest.mark.parametrize("setuid", [False, True])
def test_limits_nice_umask_and_oom_score_are_set(rig: Rig, setuid: bool) -> None:
    rig.server(
        f"serve(flags={1 if setuid else 0}, env=[], nice=7, umask=0o137, oom=321,"
        f" rlimits=[({CORE}, 0, 0), ({NPROC}, 100, 200), ({NOFILE}, 64, 65),"
        f" ({FSIZE}, 1 << 20, 1 << 21), ({STACK}, 1 << 20, {INFINITY & (1 << 64) - 1})],"
        f" euid={0 if setuid else USER})"
    )
    mine = resource.getrlimit(STACK)
    if mine[1] != INFINITY:
        skip_or_fail("the hard limit on the stack is not infinite here")
    found = rig.probe(uid=USER, setuid=setuid)
    limits = found["limits"]
    assert isinstance(limits, dict)
    assert limits[str(CORE)] == [0, 0]
    assert limits[str(NPROC)] == [100, 200]
    assert limits[str(NOFILE)] == [64, 65]
    assert limits[str(FSIZE)] == [1 << 20, 1 << 21]
    assert limits[str(STACK)] == [1 << 20, -1]
    assert found["nice"] == 7
    assert found["umask"] == 0o137
    assert found["oom"] == 321


def test_what_the_plan_leaves_stays_the_invokers(rig: Rig) -> None:
    def mine() -> None:
        os.umask(0o026)
        os.nice(3)
        resource.setrlimit(resource.RLIMIT_CORE, (1000, 2000))
        Path("/proc/self/oom_score_adj").write_text("77")

    found = rig.probe(uid=USER, before=mine)
    assert (found["umask"], found["nice"], found["oom"]) == (0o026, 3, 77)
    assert found["limits"][str(CORE)] == [1000, 2000]  # type: ignore[index]


@pytest.mark.parametrize("oom", [-1000, -1, 0, 1, 1000])
def test_every_oom_score_is_read_back_right(rig: Rig, oom: int) -> None:
    rig.server(f"serve(oom={oom}, env=[], flags=1, euid=0)")
    done = rig.run("-I", "-S", str(rig.home / "probe.py"), uid=USER, setuid=True)
    if oom < 0 and done.returncode == 126:  # this machine's root has no CAP_SYS_RESOURCE
        assert_refused(done, 126, "the oom score cannot be set")
        return
    assert json.loads(done.stdout)["oom"] == oom


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("nice=-5", "nice value"),
        ("oom=-500", "oom score"),
        ("rlimits=[(1, 10, 1 << 62)]", "a limit cannot be set"),
        ("rlimits=[(1, 10, 5)]", "a limit cannot be set"),
        ("rlimits=[(99, 1, 1)]", "a limit cannot be set"),
        ("rlimits=[(7, 1 << 40, 1 << 40)]", "a limit cannot be set"),
    ],
)
def test_what_cannot_be_set_refuses(rig: Rig, fields: str, text: str) -> None:
    rig.server(f"serve(NOOP, {fields})")
    done = rig.run(
        uid=USER, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    )
    assert_refused(done, 126, text)


@pytest.mark.parametrize(
    ("fields", "call", "text"),
    [
        ("rlimits=[(1, 4096, 4096)]", (PRLIMIT, (1, FSIZE)), "a limit was not set as certified"),
        ("nice=3", (SETPRIORITY, (2, 3)), "the nice value was not set"),
        ("umask=0o123", (UMASK,), "the umask was not set"),
        ("oom=5", (WRITE, (2, 2)), "the oom score was not set as certified"),
        ("", (PRCTL, (0, PR_SET_NO_NEW_PRIVS)), "no_new_privs was not set"),
    ],
    ids=["rlimit", "nice", "umask", "oom", "no_new_privs"],
)
def test_what_was_not_really_set_refuses(
    rig: Rig, fields: str, call: tuple[object, ...], text: str
) -> None:
    rig.server(f"serve(NOOP, {fields})")
    assert rig.run(uid=USER).returncode == 42
    done = rig.run(uid=USER, before=lambda: lie(*call))  # type: ignore[arg-type]
    assert_refused(done, 126, text)


def test_the_final_limit_on_files_is_read_back_too(rig: Rig) -> None:
    rig.server("serve(NOOP, rlimits=[(7, 77, 77)])")

    assert rig.run(uid=USER).returncode == 42
    done = rig.run(uid=USER, before=lambda: lie(PRLIMIT, (1, NOFILE)))
    assert_refused(done, 126, "a limit was not set as certified")


def test_an_unprivileged_program_has_no_new_privs_and_a_privileged_one_never(rig: Rig) -> None:
    status = rig.probe(uid=USER)["status"]
    assert isinstance(status, dict)
    assert status["NoNewPrivs"] == "1"
    rig.server("serve(flags=plans.PLAN_PRIVILEGED, euid=0)")
    status = rig.probe(uid=USER, setuid=True)["status"]
    assert isinstance(status, dict)
    assert status["NoNewPrivs"] == "0"


def test_the_bounding_set_is_lowered_and_read_back(rig: Rig) -> None:
    mask = 1 << 13 | 1 << 10
    rig.server(f"serve(flags=plans.PLAN_PRIVILEGED, euid=0, bounding={mask})")
    status = rig.probe(uid=USER, setuid=True)["status"]
    assert isinstance(status, dict)
    assert int(status["CapBnd"], 16) == int(status["CapPrm"], 16) == mask
    done = rig.run(
        "-c", "", uid=USER, setuid=True, before=lambda: lie(PRCTL, (0, PR_CAPBSET_DROP))
    )
    assert_refused(done, 126, "the bounding set was not lowered")


def test_a_script_is_executed_through_its_kept_descriptor(rig: Rig) -> None:
    rig.server(
        "channel = Channel(3); hello = channel.recv_hello()\n"
        "fd = os.memfd_create('script', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)\n"
        "os.write(fd, b'#!/bin/sh\\necho \"$0\" \"$@\"\\n')\nos.fchmod(fd, 0o555)\n"
        "plan = make(hello, flags=plans.PLAN_KEEP_PROGRAM_FD)\n"
        "channel.send_plan(plan.encode(), fd)\n"
    )
    done = rig.run("a", "b c", uid=USER)
    assert done.stdout.startswith("/dev/fd/")
    assert done.stdout.endswith(" a b c\n")


def test_without_the_flag_a_script_cannot_be_started_that_way(rig: Rig) -> None:
    script = rig.home / "script"
    script.write_text("#!/bin/sh\necho no\n")
    script.chmod(0o755)
    rig.server("serve(HOME + '/script')")
    assert_refused(rig.run(uid=USER), 127, "cannot be executed: ENOENT")


def test_the_kernels_log_may_be_asked_for(rig: Rig) -> None:
    rig.server("serve(NOOP, flags=plans.PLAN_LOG)")
    trace = rig.notes / "trace"
    certificate = rig.certificate()
    rig.register()
    done = subprocess.run(
        ["strace", "-e", "trace=seccomp", "-o", trace, certificate], check=False, timeout=30
    )
    assert done.returncode == 42
    assert "SECCOMP_FILTER_FLAG_LOG" in trace.read_text()


def test_only_the_calls_of_the_description_are_made(rig: Rig) -> None:
    trace = rig.notes / "trace"
    rig.server("serve(NOOP)")
    certificate = rig.certificate()
    rig.register()
    subprocess.run(
        ["strace", "-o", trace, certificate], check=False, timeout=30, capture_output=True
    )
    calls = {line.split("(")[0] for line in trace.read_text().splitlines() if "(" in line}
    assert calls <= {
        "execve", "prctl", "getresuid", "getresgid", "setfsuid", "setfsgid", "fstat", "prlimit64",
        "fcntl", "socket", "connect", "socketpair", "clone", "wait4", "close", "recvmsg", "sendmsg",
        "mmap", "getrandom", "seccomp", "execveat", "exit_group",
        "capget", "openat",  # is there a kept plan?
    }  # fmt: skip
