"""A few seccomp filters for the tests, in plain bytes. Loaded by the test's policy servers, too."""

import struct

ALLOW, ERRNO, KILL, NOTIFY = 0x7FFF0000, 0x00050000, 0x80000000, 0x7FC00000
GATED = (46, 117, 119, 118, 120, 115, 125, 126, 157, 1, 231, 322)
"""sendmsg set/getresuid/gid getgroups capget capset prctl write exit_group execveat."""
LD, JEQ, JA, RETURN = 0x20, 0x15, 0x05, 0x06


def RET(action):
    return (RETURN, 0, 0, action)


def pack(code):
    return b"".join(struct.pack("<HBBI", *one) for one in code)


def gate(rest, gated=GATED):
    """Return (filter, patches): gated calls pass with the nonce; `rest` judges, with nr loaded."""
    code = [(LD, 0, 0, 0)]
    for position, number in enumerate(gated):
        code.append((JEQ, len(gated) - position, 0, number))
    code.append((JA, 0, 0, 6))
    low = len(code) + 1
    code += [
        (LD, 0, 0, 56), (JEQ, 0, 3, 0), (LD, 0, 0, 60), (JEQ, 0, 1, 0), RET(ALLOW), (LD, 0, 0, 0),
    ]
    return pack(code + list(rest)), [(low, 0), (low + 2, 1)]


def only(*numbers, otherwise=KILL):
    """Return the rest of a filter that allows these calls and nothing else."""
    code = [(JEQ, len(numbers) - position, 0, number) for position, number in enumerate(numbers)]
    return [*code, RET(otherwise), RET(ALLOW)]


def special(number, action):
    """Return the rest of a filter that has `action` for one call and allows everything else."""
    return [(JEQ, 0, 1, number), RET(action), RET(ALLOW)]
