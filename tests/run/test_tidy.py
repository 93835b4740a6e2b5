"""Between two executions of one process: what is left is not looked at again, unless it is open."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc, os
os.closerange(3, 1000)
from certexec.run import warm

class Ring:
    def __init__(self):
        self.own, self.fd = self, os.open("/dev/null", os.O_RDONLY)
    def __del__(self):
        os.close(self.fd)

def last():
    Ring()  # garbage that only the collector finds

while len(os.listdir("/proc/self/fd")) < 6:
    os.open("/dev/null", os.O_RDONLY)  # the numbers that are kept
last()
assert warm._tidy()
kept = gc.get_freeze_count()
assert kept > 1000 and len(gc.get_objects()) < kept / 10
last()
assert warm._tidy()  # what came later is still found
os.open("/dev/null", os.O_RDONLY)
assert not warm._tidy()
"""


def test_an_execution_s_garbage_goes_and_what_is_known_is_set_aside() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True)
