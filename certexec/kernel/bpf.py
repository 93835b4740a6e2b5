"""Classic BPF as seccomp(2) takes it: the encoding, the named values and a small assembler.

A filter is an array of ``struct sock_filter { __u16 code; __u8 jt; __u8 jf; __u32 k; }`` that reads
``struct seccomp_data { int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]; }`` word by
word and returns an action (linux/filter.h, linux/seccomp.h).

Jumps only go forward. So the assembler works from the last instruction to the first: whoever emits
a jump already holds the labels of both branches, and a distance is final when it is known.
"""

from __future__ import annotations

import struct

from certexec.errors import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Group = tuple[int, int, list[tuple[int, int]]]
    """The first value, the label of its values, and single ones with other labels."""

MAX_INSTRUCTIONS = 4096
"""instructions; BPF_MAXINSNS (linux/bpf_common.h), seccomp(2) refuses a longer filter."""

INSTRUCTION_SIZE = 8
"""bytes; sizeof(struct sock_filter)."""

MAX_SHORT_JUMP = 255
"""instructions; jt and jf are eight bits wide."""

# Actions, linux/seccomp.h. The lower 16 bits carry data: an errno for ERRNO.
SECCOMP_RET_KILL_PROCESS = 0x80000000
SECCOMP_RET_KILL_THREAD = 0x00000000
SECCOMP_RET_TRAP = 0x00030000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_RET_TRACE = 0x7FF00000
SECCOMP_RET_LOG = 0x7FFC0000
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ACTION_FULL = 0xFFFF0000
SECCOMP_RET_DATA = 0x0000FFFF

MAX_ERRNO = 4095
"""The kernel cuts the data of ERRNO to this (kernel/seccomp.c, MAX_ERRNO)."""

# The architecture that the kernel reports for the entry that was used (linux/audit.h).
AUDIT_ARCH_X86_64 = 0xC000003E
AUDIT_ARCH_I386 = 0x40000003

X32_SYSCALL_BIT = 0x40000000
"""Set in the number of an x32 call, which arrives as AUDIT_ARCH_X86_64 (asm/unistd.h)."""

# Offsets in struct seccomp_data, bytes.
OFFSET_NR = 0
OFFSET_ARCH = 4
OFFSET_IP = 8
OFFSET_ARGS = 16
SECCOMP_DATA_SIZE = 64

MAX_SINGLES = 3
"""single values in a row of a search; with more of them the way gets longer than it saves."""

LAST_NUMBER = 511
"""No table of the kernel's has more numbers; what lies above has no weight in a search."""

LOW = 0
HIGH = 1
WORD = 0xFFFFFFFF

# The instruction codes that the assembler emits (linux/bpf_common.h).
LD_W_ABS = 0x20
JMP_JA = 0x05
JMP_JEQ_K = 0x15
JMP_JGT_K = 0x25
JMP_JGE_K = 0x35
JMP_JSET_K = 0x45
ALU_AND_K = 0x54
RET_K = 0x06


def errno_action(code: int) -> int:
    """Return the action that makes the call fail with ``code`` (1 to 4095)."""
    if not 1 <= code <= MAX_ERRNO:
        raise PolicyError("policy-unsupported", f"a filter cannot return error number {code}")
    return SECCOMP_RET_ERRNO | code


def argument_offset(index: int, word: int) -> int:
    """Return the offset of one 32-bit word (LOW or HIGH) of argument ``index`` (0 to 5)."""
    return OFFSET_ARGS + 8 * index + 4 * word


def encode(code: int, jump_true: int, jump_false: int, value: int) -> int:
    """Return one ``struct sock_filter`` as a little-endian 64-bit number."""
    return code | jump_true << 16 | jump_false << 24 | value << 32


class Assembler:
    """Builds a filter from its end.

    A label is an instruction's distance from the filter's end (0 is the last instruction). Each
    method emits in front of everything emitted so far and returns the label of what it emitted;
    the labels handed to it say where to go on.
    """

    __slots__ = ("_code", "_near", "_returns")

    def __init__(self) -> None:
        self._code: list[int] = []
        self._returns: dict[int, int] = {}
        self._near: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._code)

    def ret(self, action: int) -> int:
        """Return ``action``. A return that a short jump still reaches is shared."""
        label = self._returns.get(action)
        if label is None or len(self._code) - label > MAX_SHORT_JUMP:
            label = self._returns[action] = self._emit(encode(RET_K, 0, 0, action))
        return label

    def load(self, offset: int, then: int) -> int:
        """Load the word at ``offset`` of struct seccomp_data, then go on at ``then``."""
        return self._straight(encode(LD_W_ABS, 0, 0, offset), then)

    def test(self, mask: int, value: int, yes: int, no: int) -> int:
        """Branch on ``word & mask == value`` for the loaded word; see ``keeps_word``."""
        if mask == WORD:
            return self.branch(JMP_JEQ_K, value, yes, no)
        if value == 0:
            return self.branch(JMP_JSET_K, mask, no, yes)
        if mask == value and mask & mask - 1 == 0:
            return self.branch(JMP_JSET_K, mask, yes, no)
        label = self.branch(JMP_JEQ_K, value, yes, no)
        return self._straight(encode(ALU_AND_K, 0, 0, mask), label)

    def branch(self, code: int, value: int, yes: int, no: int) -> int:
        """Compare the loaded word with ``value`` (JMP_JEQ_K and so on) and go to one label."""
        # Making one branch near moves the other one away by an instruction: leave room for it.
        yes = self._within(yes, MAX_SHORT_JUMP - 1)
        no = self._within(no, MAX_SHORT_JUMP)
        here = len(self._code)
        return self._emit(encode(code, here - yes - 1, here - no - 1, value))

    def search(self, ranges: Sequence[tuple[int, int]]) -> int:
        """Emit a search for the loaded word and return the label of its root.

        The kernel translates each instruction at every start, and runs the search once for each
        number that it knows. So single values amid one label are asked for one by one, which takes
        half as many instructions as asking for their borders, and the rest is halved by how many
        numbers lie on each side.

        Args:
            ranges: pairs (first value, label), ascending; a pair covers the values up to the next
                pair's first one. What is below the first pair goes to the first pair, too.
        """
        return self._search(_groups(ranges))

    def _search(self, groups: Sequence[Group]) -> int:
        if len(groups) == 1:
            _, label, singles = groups[0]
            for value, other in reversed(singles):
                label = self.branch(JMP_JEQ_K, value, other, label)
            return label
        middle = _middle(groups)
        high = self._search(groups[middle:])
        low = self._search(groups[:middle])
        return self.branch(JMP_JGE_K, groups[middle][0], high, low)

    def position(self, label: int) -> int:
        """Return the index, from the filter's start, that ``label`` has in a finished filter."""
        return len(self._code) - 1 - label

    def finish(self) -> bytes:
        """Return the filter; raises PolicyError("policy-unsupported") when it is too long."""
        if len(self._code) > MAX_INSTRUCTIONS:
            count = len(self._code)
            raise PolicyError(
                "policy-unsupported",
                f"the policy needs a filter of {count} instructions, the kernel takes "
                f"{MAX_INSTRUCTIONS}",
            )
        return struct.pack(f"<{len(self._code)}Q", *reversed(self._code))

    def _emit(self, instruction: int) -> int:
        self._code.append(instruction)
        return len(self._code) - 1

    def _straight(self, instruction: int, then: int) -> int:
        if then != len(self._code) - 1:
            self._jump(then)
        return self._emit(instruction)

    def _jump(self, target: int) -> int:
        # A jump to a return is a return: as short, and one step less at run time.
        instruction = self._code[target]
        if instruction & 0xFFFF != RET_K:
            instruction = encode(JMP_JA, 0, 0, len(self._code) - target - 1)
        return self._emit(instruction)

    def _within(self, target: int, distance: int) -> int:
        """Return a label that leads to ``target`` over at most ``distance`` instructions."""
        if len(self._code) - target - 1 <= distance:
            return target
        near = self._near.get(target, target)
        if len(self._code) - near - 1 > distance:
            near = self._near[target] = self._jump(target)
        return near


def keeps_word(mask: int, value: int) -> bool:
    """Tell whether the word that ``Assembler.test`` asks about is still loaded behind the test."""
    return mask == WORD or value == 0 or (mask == value and mask & mask - 1 == 0)


def merge_ranges(first: int, table: dict[int, int], default: int) -> list[tuple[int, int]]:
    """Return the ranges for ``Assembler.search`` from ``first`` upwards.

    Args:
        first: the lowest value that can be asked for.
        table: value to label; values that are absent lead to ``default``.
        default: a label.
    """
    ranges: list[tuple[int, int]] = []
    expected = first
    for value in sorted(table):
        if value > expected and (not ranges or ranges[-1][1] != default):
            ranges.append((expected, default))
        if not ranges or ranges[-1][1] != table[value]:
            ranges.append((value, table[value]))
        expected = value + 1
    if not ranges or ranges[-1][1] != default:
        ranges.append((expected, default))
    return ranges


def _groups(ranges: Sequence[tuple[int, int]]) -> list[Group]:
    """Cut the ranges into groups for as few comparisons as can be.

    In a group all but single values have one label. It costs one comparison to get there, and one
    for each single value with another label.
    """
    count = len(ranges)
    cost = [0] * (count + 1)
    groups: list[Group] = [(0, 0, [])] * count
    ends = [count] * count
    for start in range(count - 1, -1, -1):
        cost[start] = 4 * count
        label = ranges[start][1]
        singles: list[tuple[int, int]] = []
        wide = False
        for end in range(start, count):
            value, its = ranges[end]
            single = end + 1 < count and ranges[end + 1][0] == value + 1
            if its != label:
                if single:
                    singles = [*singles, (value, its)]
                elif wide:
                    break
                else:  # the single values before it are the exceptions
                    singles = [(v, one) for v, one in ranges[start:end] if one != its]
                    label = its
            wide = wide or not single
            if len(singles) > MAX_SINGLES:
                break
            total = 1 + len(singles) + cost[end + 1]
            if total < cost[start]:
                cost[start], ends[start] = total, end + 1
                groups[start] = ranges[start][0], label, singles
    found = []
    start = 0
    while start < count:
        found.append(groups[start])
        start = ends[start]
    return found


def _middle(groups: Sequence[Group]) -> int:
    """Return where to cut so that about as many numbers lie on each side."""
    first, last = groups[0][0], min(groups[-1][0], LAST_NUMBER)
    if groups[1][0] >= last:
        return (len(groups) + 1) // 2 if groups[1][0] > LAST_NUMBER else 1
    return min(range(1, len(groups)), key=lambda at: abs(2 * groups[at][0] - first - last))
