"""Steps 5 and 6: every message is checked; a refusal is printed as it comes."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import subprocess
import time

import pytest

from certexec.run.channel import Channel
from certexec.run.plan import Plan
from tests.launcher.filters import ALLOW, RET, gate
from tests.launcher.rig import USER, Rig, assert_refused

pytestmark = pytest.mark.root

REFUSE = """
import struct
def reply(kind, code, text=b"", length=None, magic=b"CXR1", version=1):
    length = len(text) if length is None else length
    return struct.pack("<4s4I", magic, version, kind, code, length) + text
"""


def test_the_last_words_of_a_server_that_did_not_listen_are_heard(rig: Rig) -> None:
    # HELLO lies unread when the server ends: the kernel then reports ECONNRESET before the refusal
    rig.server(
        "import time\nc = Channel(3)\ntime.sleep(0.3)\nos.kill(c.peer_pid, 19)\ntime.sleep(0.2)\n"
        "c.send_refusal(126, 'last words')\nos._exit(0)"
    )
    rig.register()
    process = subprocess.Popen([rig.certificate()], stderr=subprocess.PIPE, text=True)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    time.sleep(0.6)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=10)[1] == "certexec: last words\n"
    assert process.returncode == 126


@pytest.mark.parametrize("code", [125, 126, 127])
def test_a_refusal_is_one_line_and_an_exit_code(rig: Rig, code: int) -> None:
    rig.server(f"c = Channel(3); c.recv_hello(); c.send_refusal({code}, 'the reason (word)')")
    done = rig.run(uid=USER)
    assert (done.returncode, done.stderr) == (code, "certexec: the reason (word)\n")


def test_a_hint_is_a_line_of_its_own_in_the_same_write(rig: Rig) -> None:
    rig.server("c = Channel(3); c.recv_hello(); c.send_refusal(126, 'no', 'do that')")
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:  # one packet for each write
        done = rig.run(uid=USER, stdout=subprocess.DEVNULL, stderr=right)
        assert left.recv(4096) == b"certexec: no\ncertexec: hint: do that\n"
    assert done.returncode == 126


def test_the_longest_refusal_comes_through_whole(rig: Rig) -> None:
    rig.server("c = Channel(3); c.recv_hello(); c.send_refusal(126, 'x' * 2000)")
    assert rig.run(uid=USER).stderr == f"certexec: {'x' * 1013}\n"


def test_a_refusal_may_come_before_anything_was_asked(rig: Rig) -> None:
    rig.server("Channel(3).send_refusal(126, 'early')")
    assert_refused(rig.run(uid=USER), 126, "early")


def test_a_refusal_with_stderr_closed_full_or_too_large_keeps_its_exit_code(rig: Rig) -> None:
    rig.server("c = Channel(3); c.recv_hello(); c.send_refusal(126, 'no')")
    assert rig.run(uid=USER, after=lambda: os.close(2)).returncode == 126
    reader, writer = os.pipe()
    os.close(reader)
    assert rig.run(uid=USER, stdout=writer, stderr=writer).returncode == 126
    os.close(writer)
    with open(rig.notes / "file", "w") as file:
        done = rig.run(
            uid=USER, stdout=file, stderr=file,
            after=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )  # fmt: skip
    assert done.returncode == 126


@pytest.mark.parametrize(
    "send",
    [
        "raw(reply(0, 0, b'x'))",
        "raw(reply(0, 1, b'x'))",
        "raw(reply(0, 128, b'x'))",
        "raw(reply(0, 126, b''))",
        "raw(reply(0, 126, b'x', length=2))",
        "raw(reply(0, 126, b'xy', length=1))",
        "raw(reply(0, 126, b'x' * 1024))",
        "raw(reply(0, 126, b'x', version=2))",
        "raw(reply(0, 126, b'x' * 1030))",
    ],
)
def test_a_malformed_refusal_is_certexecs_own_fault(rig: Rig, send: str) -> None:
    rig.server(REFUSE + "c = Channel(3); c.recv_hello()\n" + send)
    assert_refused(rig.run(uid=USER), 125, "malformed")


@pytest.mark.parametrize(
    "send",
    [
        "raw(reply(1, 0, length=300))",
        "raw(reply(1, 0, length=300), 0, 0)",
        "raw(reply(1, 0, b'x', length=300), 0)",
        "raw(reply(1, 0, length=300)[:-1], 0)",
        "raw(reply(2, 0, length=300), 0)",
        "raw(reply(1, 0, length=300, magic=b'CXR2'), 0)",
        "raw(reply(1, 0, length=300, version=2), 0)",
        "raw(reply(1, 0, length=223), 0)",
        "raw(reply(1, 0, length=(8 << 20) + 1), 0)",
        "raw(reply(1, 0, length=0), 0)",
        "raw(b'x')",
        "raw(b'x' * 2000, 0)",
        # the plan's packets: too long, or with a descriptor
        "raw(reply(1, 0, length=300), 0); raw(bytes(301))",
        "raw(reply(1, 0, length=300), 0); raw(bytes(300), 0)",
    ],
)
def test_a_malformed_answer_is_certexecs_own_fault(rig: Rig, send: str) -> None:
    rig.server(REFUSE + "c = Channel(3); c.recv_hello()\n" + send)
    assert_refused(rig.run(uid=USER), 125, "malformed")


def test_a_server_that_ends_in_the_middle_of_a_plan_is_noticed(rig: Rig) -> None:
    rig.server(
        REFUSE + "c = Channel(3); c.recv_hello()\n"
        "raw(reply(1, 0, length=300), 0); raw(bytes(299))"
    )
    assert_refused(rig.run(uid=USER), 125, "policy server ended")


def test_a_plan_of_another_size_than_announced_is_refused(rig: Rig) -> None:
    rig.server(
        REFUSE + "c = Channel(3); h = c.recv_hello()\np = make(h).encode()\n"
        "raw(reply(1, 0, length=len(p) + 8), program(NOOP)); raw(p + bytes(8))"
    )
    assert_refused(rig.run(uid=USER), 126, "not the one announced")


def test_a_plan_in_many_small_packets_is_put_together(rig: Rig) -> None:
    rig.server(
        REFUSE + "c = Channel(3); h = c.recv_hello()\np = make(h).encode()\n"
        "raw(reply(1, 0, length=len(p)), program(NOOP))\n"
        "for at in range(0, len(p), 7):\n    raw(p[at:at + 7])"
    )
    assert rig.run(uid=USER).returncode == 42


def test_a_plan_of_several_megabytes_comes_through(rig: Rig) -> None:
    rig.server("serve(NOOP, env=[b'%d=' % n + b'x' * 100000 for n in range(15)])")
    assert rig.run(uid=USER).returncode == 42


# ---- the run form ----


def serve_run_form(program: bytes = b"", **fields: object) -> object:
    def serve(end: socket.socket) -> None:
        channel = Channel(end.detach())
        channel.send_ready()
        hello = channel.recv_hello()
        assert hello.run_form and hello.cert_fd == -1
        plan = Plan()
        plan.ruid = plan.euid = hello.ruid
        plan.rgid = plan.egid = hello.rgid
        plan.bpf, plan.patches = gate([RET(ALLOW)])
        data = bytearray(plan.encode())
        for name, value in fields.items():
            assert name == "flags"
            struct.pack_into("<Q", data, 24, value)
        channel.send_plan(bytes(data), os.open(program or b"/bin/cat", os.O_RDONLY))

    return serve


@pytest.mark.parametrize("uid", [None, USER])
def test_the_run_form_needs_no_certificate_and_no_privilege(rig: Rig, uid: int | None) -> None:
    done = rig.run_form(serve_run_form(), "name", "/proc/self/cmdline", uid=uid)  # type: ignore[arg-type]
    assert done.stdout == "name\0/proc/self/cmdline\0"


def test_the_run_form_grants_nothing_even_to_root(rig: Rig) -> None:
    done = rig.run_form(serve_run_form(flags=1 | 4), "name")  # type: ignore[arg-type]
    assert_refused(done, 126, "does not give")


def test_the_run_form_refuses_ids_that_differ(rig: Rig) -> None:
    def half() -> None:
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, 0, 0)

    done = subprocess.run(
        [rig.launcher, "--run", "5", "x"], capture_output=True, text=True, check=False,
        preexec_fn=half, timeout=30,
    )  # fmt: skip
    assert_refused(done, 126, "grants no identity")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0", "may not stand in"), ("2", "may not stand in"), ("", "may not stand in"),
        ("77", "is not open"), ("x", "not a descriptor"), ("-1", "not a descriptor"),
        (":", "not a descriptor"), ("1/", "not a descriptor"),  # 10 and 9, if not looked at
        ("4294967306", "not a descriptor"), ("1 ", "not a descriptor"),
    ],
)  # fmt: skip
def test_the_run_form_wants_an_open_socket_above_2(rig: Rig, number: str, text: str) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def both() -> None:
        os.dup2(left.fileno(), 9)
        os.dup2(left.fileno(), 10)

    with left, right:
        done = subprocess.run(
            [rig.launcher, "--run", number, "x"], capture_output=True, text=True, check=False,
            timeout=30, preexec_fn=both, close_fds=False,
        )  # fmt: skip
    assert_refused(done, 125, text)


def test_the_run_form_wants_the_server_to_say_that_it_is_ready(rig: Rig) -> None:
    for first in (b"", b"CXS2\0\0\0\0", b"CXS1\0\0\0", b"CXS1\0\0\0\0\0"):

        def serve(end: socket.socket, first: bytes = first) -> None:
            if first:
                end.send(first)
                end.recv(100)

        done = rig.run_form(serve, "x")
        assert_refused(done, 125, "did not start properly" if first else "ended")
