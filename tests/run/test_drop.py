"""A program gives up calls: not before the filter is seen at work does it become another one."""

from __future__ import annotations

import subprocess
import sys

from tests.isolation import PROJECT

LIE = """
import ctypes, struct
from certexec.kernel.libc import syscall
from certexec.run.drop import drop_and_execute
SECCOMP = 317
# load nr; seccomp(2): done, says the kernel, and does nothing; else allow
code = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, SECCOMP, 6, 0, 0, 0x00050000,
                   6, 0, 0, 0x7FFF0000)
buffer = ctypes.create_string_buffer(code)
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
syscall(SECCOMP, 1, 0, struct.pack("HxxxxxxQ", 4, ctypes.addressof(buffer)))
drop_and_execute(["socket"], 1, "/bin/echo", ["ran"])
"""
"""Drops a call where a filter around the process swallows the one that is to be installed."""


def test_nothing_is_executed_where_the_filter_is_not_at_work() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIE], capture_output=True, text=True, timeout=60, cwd=PROJECT,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "certexec: error: the filter is not at work\n"
