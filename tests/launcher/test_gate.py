"""Steps 9, 10 and 12: the filter, its nonce, the listener, the program."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from tests.launcher.rig import PYTHON, USER, Rig, assert_refused, lie, skip_or_fail

pytestmark = pytest.mark.root

SECCOMP = 317
STRICT = "bpf, patches = gate(only(231))\n"
"""Everything but a plain exit_group kills, unless it comes through the gate."""
GETPPID = 110
SUPERVISE = """
import fcntl, select, struct
def supervise(listener, answer, rounds):
    for _ in range(rounds):
        if not select.select([listener], [], [], 10)[0]:
            return
        data = bytearray(80)
        try:
            fcntl.ioctl(listener, 0xC0502100, data)
            cookie, pid, flags, nr = struct.unpack_from("<QIIi", data)
            fcntl.ioctl(listener, 0xC0182101, struct.pack("<QqiI", cookie, answer, 0, 0))
        except OSError:
            return
"""


def test_after_the_filter_only_gated_calls_are_made(rig: Rig) -> None:
    rig.server(STRICT + "serve(NOOP, bpf=bpf, patches=patches)")
    assert rig.run(uid=USER).returncode == 42


def test_so_it_is_with_every_step_that_a_plan_can_ask_for(rig: Rig) -> None:
    rig.server(
        STRICT + "channel = serve(NOOP, bpf=bpf, patches=patches,\n"
        "  flags=plans.PLAN_PRIVILEGED | plans.PLAN_LISTENER, euid=33, egid=33, groups=[4, 5],\n"
        "  permitted=1 << 13, inheritable=1 << 13, ambient=1 << 13, bounding=1 << 13,\n"
        "  rlimits=[(7, 60, 60), (4, 0, 0)], nice=1, umask=0o77, oom=1)\n"
        "note('listener', channel.recv_listener(10) > 2)"
    )
    assert rig.run(uid=USER, setuid=True).returncode == 42
    assert rig.note("listener") is True


def run_with_many_files(rig: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run as USER with the descriptors 3 to 199 in use; nothing below is free."""
    rig.register()
    code = (
        "import os, sys\n"
        "while (fd := os.open('/dev/zero', os.O_RDONLY)) < 200:\n    os.set_inheritable(fd, True)\n"
        f"os.setgroups([]); os.setresgid({USER}, {USER}, {USER})\n"
        f"os.setresuid({USER}, {USER}, {USER})\nos.execv(sys.argv[1], sys.argv[1:])\n"
    )
    return subprocess.run(
        [PYTHON, "-I", "-S", "-c", code, rig.certificate(), *arguments], capture_output=True,
        text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


LATE = "flags=plans.PLAN_LISTENER, rlimits=[(7, 50, 60)]"


def test_a_limit_on_files_that_leaves_no_room_for_the_listener_comes_last(rig: Rig) -> None:
    rig.server(
        "bpf, patches = gate(only(231), GATED + (302,))\n"
        f"channel = serve(NOOP, bpf=bpf, patches=patches, {LATE})\n"
        "note('listener', channel.recv_listener(10) > 2)"
    )
    assert run_with_many_files(rig).returncode == 42
    assert rig.note("listener") is True


def test_where_the_gate_does_not_let_that_limit_through_nothing_runs(rig: Rig) -> None:
    rig.server(
        "bpf, patches = gate(special(302, ERRNO | 1))\n"
        f"channel = serve(NOOP, bpf=bpf, patches=patches, {LATE})\nchannel.recv_listener(10)"
    )
    assert_refused(run_with_many_files(rig), 126, "a limit cannot be set")


def test_the_limit_that_came_last_holds_in_the_program(rig: Rig) -> None:
    rig.server(
        "bpf, patches = gate([RET(ALLOW)], GATED + (302,))\n"
        f"channel = serve('/bin/cat', bpf=bpf, patches=patches, {LATE})\n"
        "channel.recv_listener(10)"
    )
    done = run_with_many_files(rig, "/proc/self/limits")
    assert "Error 24" in done.stderr  # EMFILE, of the dynamic loader: 197 are open, 50 allowed


def test_the_gate_opens_for_the_nonce_only(rig: Rig) -> None:
    # a gate whose patches name only one half, or none: the other half stays what no nonce is
    rig.server(
        "bpf, patches = gate(only(231))\nserve(NOOP, bpf=bpf, patches=patches[:1])"
    )
    assert rig.run(uid=USER).returncode == -31  # SIGSYS
    rig.server("bpf, patches = gate(only(231))\nserve(NOOP, bpf=bpf, patches=patches[1:])")
    assert rig.run(uid=USER).returncode == -31
    rig.server("bpf, patches = gate(only(231))\nserve(NOOP, bpf=bpf, patches=[])")
    assert rig.run(uid=USER).returncode == -31


def test_the_program_does_not_pass_the_gate(rig: Rig) -> None:
    rig.server(
        "bpf, patches = gate(special(117, ERRNO | 5))\nserve(bpf=bpf, patches=patches)"
    )
    code = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "for nonce in (0, 1, -1, 1 << 32):\n"
        "    result = libc.syscall(117, -1, -1, -1, 0, 0, ctypes.c_ulong(nonce))\n"
        "    print(result, ctypes.get_errno())"
    )
    assert rig.run("-c", code, uid=USER).stdout == "-1 5\n" * 4


def test_every_run_draws_a_nonce_of_its_own_and_wipes_it(rig: Rig) -> None:
    # a tracer reads registers and memory at the final execveat: argument 5 is the nonce
    rig.server(STRICT + "serve(NOOP, bpf=bpf, patches=patches)")
    certificate = rig.certificate()
    rig.register()
    seen = []
    for _ in range(3):
        nonce, copies = watch_execveat(certificate)
        seen.append(nonce)
        assert copies == 0
    assert len(set(seen)) == 3
    assert all(0 < nonce < 1 << 64 for nonce in seen)


def watch_execveat(certificate: Path) -> tuple[int, int]:
    """Trace to the final execveat; return the nonce and how often memory still holds it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] * 4
    libc.ptrace.restype = ctypes.c_long
    pid = os.fork()
    if pid == 0:
        libc.ptrace(0, 0, 0, 0)
        os.execv(certificate, ["x"])
    os.waitpid(pid, 0)
    libc.ptrace(0x4200, pid, 0, 1 | 0x100000)  # TRACESYSGOOD | EXITKILL
    registers = (ctypes.c_ulonglong * 27)()
    try:
        while True:
            libc.ptrace(24, pid, 0, 0)
            _, status = os.waitpid(pid, 0)
            assert not os.WIFEXITED(status) and not os.WIFSIGNALED(status)
            libc.ptrace(12, pid, 0, ctypes.addressof(registers))
            if registers[15] == 322:  # orig_rax; r9 is the sixth argument
                break
        nonce = registers[9 - 1]  # r15 r14 r13 r12 rbp rbx r11 r10 r9 ...
        copies = 0
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                start, end = (int(one, 16) for one in line.split()[0].split("-"))
                if "[v" in line:
                    continue
                memory.seek(start)
                data = memory.read(end - start)
                copies += data.count(struct.pack("<Q", nonce))
                halves = struct.pack("<I", nonce & 0xFFFFFFFF), struct.pack("<I", nonce >> 32)
                copies += sum(data.count(b"\x15\0\0\x03" + half) for half in halves)
                copies += sum(data.count(b"\x15\0\0\x01" + half) for half in halves)
        return nonce, copies
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


# ---- the listener ----


def test_the_supervisor_gets_the_listener_and_answers(rig: Rig) -> None:
    rig.server(
        SUPERVISE + f"bpf, patches = gate(special({GETPPID}, NOTIFY))\n"
        "channel = serve(bpf=bpf, patches=patches, flags=plans.PLAN_LISTENER)\n"
        "supervise(channel.recv_listener(10), 4711, 1)"
    )
    done = rig.run("-I", "-S", "-c", "import os; print(os.getppid())", uid=USER)
    assert done.stdout == "4711\n"


def test_the_program_holds_neither_listener_nor_socket(rig: Rig) -> None:
    rig.server(
        SUPERVISE + f"bpf, patches = gate(special({GETPPID}, NOTIFY))\n"
        "channel = serve(bpf=bpf, patches=patches, flags=plans.PLAN_LISTENER)\n"
        "supervise(channel.recv_listener(10), 1, 1)\n"
        "note('end', channel.recv_listener(10))"
    )
    fds = rig.probe(uid=USER)["fds"]
    assert isinstance(fds, dict)
    assert not [link for link in fds.values() if "seccomp" in link or "socket" in link]
    assert rig.note("end") == -1


def test_every_gated_call_may_be_supervised_without_a_deadlock(rig: Rig) -> None:
    rig.server(
        SUPERVISE + "bpf, patches = gate(only(231, otherwise=NOTIFY))\n"
        "channel = serve(NOOP, bpf=bpf, patches=patches, flags=plans.PLAN_LISTENER)\n"
        "note('listener', channel.recv_listener(10) > 2)"
    )
    assert rig.run(uid=USER).returncode == 42
    assert rig.note("listener") is True


def test_without_a_supervisor_the_launcher_does_not_hang(rig: Rig) -> None:
    rig.server(
        f"bpf, patches = gate(special({GETPPID}, NOTIFY))\n"
        "serve(bpf=bpf, patches=patches, flags=plans.PLAN_LISTENER)\nos._exit(0)"
    )
    done = rig.run("-I", "-S", "-c", "import os; os.getppid()", uid=USER)
    # either the server was gone before the listener was sent, or its death makes the call fail
    assert done.returncode in (0, 126), done


def test_a_kernel_that_gives_no_listener_is_noticed(rig: Rig) -> None:
    rig.server("serve(NOOP, flags=plans.PLAN_LISTENER)")
    # the call is a no-op that gives 0, which would be stdin
    done = rig.run(uid=USER, before=lambda: lie(SECCOMP, (0, 1), (1, 8 | 32)))
    assert_refused(done, 126, "gave no listener")


def test_a_filter_that_the_kernel_refuses_stops_the_launch(rig: Rig) -> None:
    rig.server("serve(NOOP, bpf=pack([(0x20, 0, 0, 0)]), patches=[])")  # no return at its end
    assert_refused(rig.run(uid=USER), 126, "filter cannot be installed: EINVAL")


def test_a_second_listener_in_one_tree_stops_the_launch(rig: Rig) -> None:
    rig.server(
        "channel = serve('/bin/sh', flags=plans.PLAN_LISTENER)\nchannel.recv_listener(10)\n"
        "import time\ntime.sleep(5)"
    )
    inner = rig.certificate(name="inner")
    done = rig.run("-c", f"{inner}; echo $?", uid=USER)
    assert "filter cannot be installed: errno 0016" in done.stderr  # EBUSY
    assert done.stdout == "126\n"


# ---- the program ----


@pytest.mark.parametrize(
    ("content", "mode", "code", "text"),
    [
        ("no program at all\n", 0o755, 126, "ENOEXEC"),
        ("x", 0o644, 126, "EACCES"),
        (None, 0o755, 126, "EACCES"),
        ("#!/nonexistent\n", 0o755, 127, "ENOENT"),
    ],
    ids=["garbage", "mode", "directory", "interpreter"],
)
def test_a_program_that_cannot_be_executed(
    rig: Rig, content: str | None, mode: int, code: int, text: str
) -> None:
    path = rig.home / f"bad-{text}-{mode}-{content is None}"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    path.chmod(mode)
    rig.server(
        f"{STRICT}serve({str(path)!r}, bpf=bpf, patches=patches, flags=plans.PLAN_KEEP_PROGRAM_FD)"
    )
    assert_refused(rig.run(uid=USER), code, f"cannot be executed: {text}")


def test_a_program_that_is_being_written_for_a_moment_is_tried_again(rig: Rig) -> None:
    program = rig.home / "busy"
    shutil.copy(rig.home / "noop", program)
    rig.server("serve(HOME + '/busy')")
    descriptor = os.open(program, os.O_WRONLY)
    try:
        assert_refused(rig.run(uid=USER), 126, "cannot be executed: ETXTBSY")
    finally:
        os.close(descriptor)
    assert rig.run(uid=USER).returncode == 42


def test_the_tries_for_a_busy_program_are_many_but_bounded(rig: Rig) -> None:
    program = rig.home / "busy2"
    shutil.copy(rig.home / "noop", program)
    rig.server("serve(HOME + '/busy2')")
    rig.register()
    trace = rig.notes / "trace"
    with program.open("r+b"):
        subprocess.run(
            ["strace", "-e", "trace=execveat", "-o", trace, rig.certificate()], timeout=60,
            check=False, capture_output=True,
        )  # fmt: skip
    assert trace.read_text().count("ETXTBSY") == 2000


def test_a_huge_argument_list_is_passed_on(rig: Rig) -> None:
    rig.server("serve('/bin/cat')")
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    if soft < 8 << 20:
        skip_or_fail("the limit on the stack is below the usual 8 MiB")
    arguments = ["x" * 99_999 for _ in range(19)]
    code = "import sys; print(len(sys.argv), sum(map(len, sys.argv)))"
    rig.server("serve()")
    done = rig.run("-I", "-S", "-c", code, *arguments, uid=USER, env={})
    assert done.stdout == f"20 {19 * 99_999 + 2}\n"


def test_an_argument_list_without_even_a_name_is_refused_or_run(rig: Rig) -> None:
    rig.server("serve('/bin/cat')")
    certificate = rig.certificate()
    rig.register()
    script = (
        "import ctypes, sys\nlibc = ctypes.CDLL(None)\n"
        "argv = (ctypes.c_char_p * 1)(None)\nlibc.execve(sys.argv[1].encode(), argv, argv)\n"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", script, certificate], capture_output=True, check=False,
        input=b"hello", timeout=30,
    )  # fmt: skip
    assert done.stdout == b"hello"  # the kernel makes it one empty argument (Linux 5.18)


def test_many_launches_at_once_do_not_disturb_each_other(rig: Rig) -> None:
    rig.server("serve()")
    rig.register()
    certificate = rig.certificate()
    results: list[str] = []

    def one(number: int) -> None:
        done = subprocess.run(
            [certificate, "-I", "-S", "-c", f"print({number})"], capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        results.append(done.stdout.strip())

    threads = [threading.Thread(target=one, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=int) == [str(n) for n in range(16)]
