"""Step 5 inside a confined tree: what answers the launcher's question is looked at like a server.

A filter that skips the call plays the supervisor: it answers with descriptor 0, a forged message.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest

from certexec.run.channel import plan_head
from certexec.run.plan import Plan
from tests.launcher.filters import ALLOW, RET, gate
from tests.launcher.rig import USER, Rig, assert_refused, lie

pytestmark = pytest.mark.root

PRCTL, NESTED_PROBE = 157, 0x43584543
ASK_PLAN, ASK_PROGRAM = 0, 1
EPERM = 1
SIZE = 16
"""where a plan says its size"""
OTHER_SIZE = "the plan's size is not the one announced"


def message() -> bytes:
    plan = Plan()
    plan.ruid = plan.euid = plan.rgid = plan.egid = USER
    plan.bpf, plan.patches = gate([RET(ALLOW)])
    encoded = plan.encode()
    return plan_head(encoded) + encoded


def larger(data: bytes) -> bytes:
    at = len(plan_head(b"")) + SIZE
    (size,) = struct.unpack_from("<Q", data, at)
    assert size == len(data) - len(plan_head(b""))
    return data[:at] + struct.pack("<Q", size + 8) + data[at + 8 :]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda data: data[: len(plan_head(b"")) - 1], "executed inside a confined program"),
        (lambda data: data[:-1], OTHER_SIZE),  # the byte that is missing would be 0
        (larger, OTHER_SIZE),
        (lambda data: data, "the supervisor did not hand over the program"),
    ],
)
def test_a_forged_plan_is_refused(
    rig: Rig, change: Callable[[bytes], bytes], text: str
) -> None:
    forged = rig.notes / "forged"
    forged.write_bytes(change(message()))

    def before() -> None:
        os.dup2(os.open(forged, os.O_RDONLY), 0)
        lie(PRCTL, (0, NESTED_PROBE), (1, ASK_PLAN))
        lie(PRCTL, (0, NESTED_PROBE), (1, ASK_PROGRAM), errno=EPERM)

    assert_refused(rig.run(uid=USER, before=before), 126, text)
