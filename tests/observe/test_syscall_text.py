"""python-ptrace renders; it does not enforce, and this shows why."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.kernel import ptrace
from certexec.kernel.syscalls import NUMBERS
from certexec.observe.syscall_text import READ_MAX, render, result_text

PYTHON_PTRACE = """
import sys
from ptrace.debugger import PtraceDebugger
debugger = PtraceDebugger()
process = debugger.addProcess(int(sys.argv[1]), False)
process.cont()
print("tracing", flush=True)
sys.stdin.read()
"""
OURS = """
import sys
from certexec.kernel import ptrace
ptrace.seize(int(sys.argv[1]))
print("tracing", flush=True)
sys.stdin.read()
"""


def memory(content: bytes) -> object:
    def read(address: int, size: int) -> bytes:
        assert size <= READ_MAX  # a program could ask for all the memory that there is
        return (content + bytes(size))[:size]

    return read


def test_paths_flags_and_descriptors_are_decoded() -> None:
    text = render("openat", [0xFFFFFF9C, 4096, os.O_CREAT, 0o644, 0, 0], memory(b"/etc/x\0"))  # type: ignore[arg-type]
    assert text.startswith("openat(AT_FDCWD, '/etc/x', O_RDONLY|O_CREAT")


def test_addresses_are_decoded() -> None:
    inet = b"\2\0\0\x50\x7f\0\0\1" + bytes(8)
    text = render("connect", [3, 4096, 16, 0, 0, 0], memory(inet))  # type: ignore[arg-type]
    assert "127.0.0.1" in text and "80" in text


def test_a_bad_pointer_is_shown_as_its_number() -> None:
    def fault(address: int, size: int) -> bytes:
        raise OSError(14, "bad address")

    text = render("openat", [0xFFFFFF9C, 0xDEAD, 0, 0, 0, 0], fault)
    assert "0xdead" in text.lower() or "dead" in text.lower()


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(NUMBERS)),
    st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6),
    st.binary(max_size=64),
)
def test_nothing_that_a_program_passes_stops_the_renderer(
    name: str, args: list[int], content: bytes
) -> None:
    text = render(name, args, memory(content))  # type: ignore[arg-type]
    assert text.startswith(f"{name}(") and text.isprintable()


def test_results_name_their_errno() -> None:
    assert result_text(3, 0, False) == "3"
    assert result_text(-1, 2, False).startswith("-1 ENOENT")
    assert result_text(0, 0, True).startswith("?")
    assert result_text(-1, 512, False).startswith("-1 ERESTARTSYS")


def survives(tracer_code: str) -> bool:
    """Kill a tracer and tell whether its tracee is still alive a moment later."""
    tracee = subprocess.Popen(["/bin/sleep", "60"])
    try:
        tracer = subprocess.Popen(
            [sys.executable, "-c", tracer_code, str(tracee.pid)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert tracer.stdout is not None and tracer.stdin is not None
        if tracer.stdout.readline() != b"tracing\n":
            pytest.fail("the tracer did not start")
        tracer.send_signal(signal.SIGKILL)
        tracer.wait()
        tracer.stdin.close()
        tracer.stdout.close()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if tracee.poll() is not None:
                return False
            if "TracerPid:\t0\n" in Path(f"/proc/{tracee.pid}/status").read_text():
                time.sleep(0.2)
                return tracee.poll() is None
            time.sleep(0.01)
        return tracee.poll() is None
    finally:
        tracee.kill()
        tracee.wait()


def may_trace_a_sibling() -> bool:
    """Tell whether Yama lets one child of ours trace another."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope") as file:
            return int(file.read()) == 0 or os.geteuid() == 0
    except OSError:
        return True


@pytest.mark.skipif(not may_trace_a_sibling(), reason="Yama forbids tracing a sibling")
def test_a_program_survives_python_ptrace_and_dies_with_our_tracer() -> None:
    assert survives(PYTHON_PTRACE)
    assert not survives(OURS)


def test_python_ptrace_cannot_even_ask_for_that() -> None:
    from ptrace.binding import func

    assert not hasattr(func, "PTRACE_SEIZE")
    assert not hasattr(func, "PTRACE_O_EXITKILL")
    assert ptrace.seize.__doc__ is not None and ctypes.sizeof(ctypes.c_long) == 8
