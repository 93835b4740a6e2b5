"""Rights that are given up inside a certificate's tree, on top of what its policy forbids."""

from __future__ import annotations

import os
import sys

import click
import pytest

from tests.execution.world import SUPERVISED
from tests.supervision.conftest import Cage

WHERE = os.path.dirname(os.path.dirname(click.__file__))
DROP = """
sys.path[:0] = sys.argv[1:3]
from certexec.cli.main import main
sys.exit(main(["drop", *sys.argv[3:]]))
"""
ASK = """
import os, socket
for ask in (socket.socket, lambda: os.listdir('/etc'), lambda: os.getpriority(0, 0)):
    try: print('ok' if ask() is not None else '')
    except OSError as error: print(error.errno)
"""


@pytest.mark.parametrize("rules", [(), SUPERVISED], ids=["kernel", "supervised"])
def test_it_adds_to_the_policy(cage: Cage, rules: tuple[str, ...]) -> None:
    said = cage.says(
        DROP, str(cage.world.package), WHERE, "socket", "--", sys.executable, "-I", "-S", "-c",
        ASK, rules=(*rules, "getpriority: deny[eacces]"),
    )  # fmt: skip
    assert said.split() == ["1", "ok", "13"]


def test_it_says_what_the_policy_has_to_permit(cage: Cage) -> None:
    done = cage.run(
        DROP, str(cage.world.package), WHERE, "socket", "--", sys.executable, "-c", ASK,
        rules=["seccomp: deny"],
    )  # fmt: skip
    assert done.returncode == 126 and "must permit prctl and seccomp" in done.stderr
