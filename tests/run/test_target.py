"""Whom a signal is for, once that was judged: the process, whoever has its number by then."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.isolation import PROJECT, need, needs

PLAY = """
import errno, os, signal, sys, time
from certexec.kernel.credentials import Mask
from certexec.kernel.procfs import read_status
from certexec.run import target
from certexec.run.call import Fault

def sleeper():
    pid = os.fork()
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    return pid

def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

class Task:
    tid = tgid = os.getpid()
    def touch(self, function, *arguments):
        return function(*arguments)

class Call:
    task = Task()
    status = read_status(os.getpid())
    def __init__(self, pid):
        self.args = pid, signal.SIGKILL
    def int_arg(self, index):
        return self.args[index]
    def still_waits(self):
        pass
    def finish(self, value):
        print("signalled")
"""
"""Code for a pid namespace of its own, where numbers can be used again at will."""

AGAIN = """
call = Call(sleeper())
judged = target.Target(call, {})
print(judged.text == os.readlink("/proc/self/exe"))
end(call.args[0])
with open("/proc/sys/kernel/ns_last_pid", "w") as last:
    last.write(str(call.args[0] - 1))
other = sleeper()
print(other == call.args[0])
try:
    judged.signal(call, Mask(True))
except Fault as fault:
    print(errno.errorcode[fault.code])
time.sleep(0.1)
print("lives" if os.waitpid(other, os.WNOHANG) == (0, 0) else "ended")
"""

MEANWHILE = """
def other_by_then(tgid, named):
    end(tgid)
    return "/bin/another"
call = Call(sleeper())
target._program = other_by_then
print(target.Target(call, {}).text)
"""


def play(code: str) -> list[str]:
    need("unshare")
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", PLAY + code]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=PROJECT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


as_root = needs(os.geteuid() == 0, "a pid namespace needs root")


@as_root
def test_a_signal_goes_to_the_process_that_was_judged_not_to_the_next_of_its_number() -> None:
    assert play(AGAIN) == ["True", "True", "ESRCH", "lives"]


@as_root
def test_a_program_that_may_be_the_next_ones_of_that_number_is_unknown() -> None:
    assert play(MEANWHILE) == ["<unknown>"]
