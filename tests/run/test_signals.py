"""What a supervisor's process does not listen to, the first time and again."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, signal
from certexec.run.signals import AGAIN, ignore_signals
from certexec.run.worker import WAKE_SIGNAL

def ignored():
    line = next(one for one in open("/proc/self/status") if one.startswith("SigIgn"))
    return int(line.split()[1], 16)

def give_back():
    for number in (*AGAIN, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)

def check():
    kept = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, WAKE_SIGNAL}
    for number in range(1, 65):
        assert bool(ignored() >> number - 1 & 1) == (number not in kept), number
    assert callable(signal.getsignal(WAKE_SIGNAL))

ignore_signals(WAKE_SIGNAL)
check()
give_back()
ignore_signals(WAKE_SIGNAL)
check()
pid = os.fork()
if pid == 0:  # a child that has taken signals back knows nothing of what its parent did
    for number in range(1, 65):
        if number not in (9, 19, 32, 33):
            signal.signal(number, signal.SIG_DFL)
    ignore_signals(WAKE_SIGNAL)
    check()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


def test_all_that_can_be_is_ignored_the_first_time_and_again() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True)
