"""Runs a seccomp filter as the kernel would, for tests and for ``policy explain``.

A filter is first checked as strictly as by bpf_check_classic() (net/core/filter.c) and
seccomp_check_filter() (kernel/seccomp.c), so a filter that passes here loads.
"""

from __future__ import annotations

import struct

from certexec.errors import PolicyError
from certexec.kernel.bpf import (
    INSTRUCTION_SIZE,
    JMP_JA,
    LD_W_ABS,
    MAX_INSTRUCTIONS,
    RET_K,
    SECCOMP_DATA_SIZE,
    SECCOMP_RET_KILL_THREAD,
    WORD,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SCRATCH_WORDS = 16
"""words; BPF_MEMWORDS, the filter's scratch memory M[]."""

# Instruction codes beyond those that certexec's own filters use (linux/bpf_common.h).
LD_IMM = 0x00
LDX_IMM = 0x01
LD_MEM = 0x60
LDX_MEM = 0x61
LD_LEN = 0x80
LDX_LEN = 0x81
ST = 0x02
STX = 0x03
NEG = 0x84
RET_A = 0x16
TAX = 0x07
TXA = 0x87

ALU_CLASS = 0x04
JMP_CLASS = 0x05
SOURCE_X = 0x08
DIV = 0x30
SHIFTS = (0x60, 0x70)
ALU_OPERATIONS = (0x00, 0x10, 0x20, DIV, 0x40, 0x50, *SHIFTS, 0xA0)
"""ADD SUB MUL DIV OR AND LSH RSH XOR: what seccomp allows; MOD (0x90) is not among them."""
JUMP_OPERATIONS = (0x10, 0x20, 0x30, 0x40)
"""JEQ JGT JGE JSET."""

ALU_CODES = frozenset(ALU_CLASS | op | src for op in ALU_OPERATIONS for src in (0, SOURCE_X))
JUMP_CODES = frozenset(JMP_CLASS | op | src for op in JUMP_OPERATIONS for src in (0, SOURCE_X))
PLAIN_CODES = frozenset((LD_IMM, LDX_IMM, LD_LEN, LDX_LEN, NEG, RET_K, RET_A, TAX, TXA))
MEMORY_CODES = frozenset((LD_MEM, LDX_MEM, ST, STX))

DATA = struct.Struct("<II7Q")


def decode(program: bytes) -> list[tuple[int, int, int, int]]:
    """Return the instructions as (code, jt, jf, k); raises PolicyError("internal")."""
    if not program or len(program) % INSTRUCTION_SIZE:
        raise _invalid("its length is not a number of instructions")
    return list(struct.iter_unpack("<HBBI", program))


def validate(program: bytes) -> list[tuple[int, int, int, int]]:
    """Check a filter as the kernel does and return its instructions.

    Raises PolicyError("internal") for what seccomp(2) would answer with EINVAL.
    """
    code = decode(program)
    count = len(code)
    if count > MAX_INSTRUCTIONS:
        raise _invalid(f"{count} instructions")
    # Per instruction the scratch words that are written on every way to it (check_load_and_stores).
    written = [(1 << SCRATCH_WORDS) - 1] * count
    now = 0
    for index, (opcode, jump_true, jump_false, value) in enumerate(code):
        now &= written[index]
        if opcode == JMP_JA:
            if value >= count - index - 1:
                raise _invalid(f"jump out of bounds at {index}")
            written[index + value + 1] &= now
            now = (1 << SCRATCH_WORDS) - 1
        elif opcode in JUMP_CODES:
            if index + 1 + max(jump_true, jump_false) >= count:
                raise _invalid(f"branch out of bounds at {index}")
            written[index + jump_true + 1] &= now
            written[index + jump_false + 1] &= now
            now = (1 << SCRATCH_WORDS) - 1
        elif opcode == LD_W_ABS:
            if value >= SECCOMP_DATA_SIZE or value & 3:
                raise _invalid(f"load out of bounds at {index}")
        elif opcode in MEMORY_CODES:
            if value >= SCRATCH_WORDS:
                raise _invalid(f"scratch word out of bounds at {index}")
            if opcode in (ST, STX):
                now |= 1 << value
            elif not now & 1 << value:
                raise _invalid(f"scratch word read before it is written at {index}")
        elif opcode in ALU_CODES:
            operation = opcode & 0xF0
            if not opcode & SOURCE_X and (
                (operation == DIV and value == 0) or (operation in SHIFTS and value >= 32)
            ):
                raise _invalid(f"impossible operand at {index}")
        elif opcode not in PLAIN_CODES:
            raise _invalid(f"opcode {opcode:#x} at {index}")
    if code[-1][0] not in (RET_K, RET_A):
        raise _invalid("the last instruction is not a return")
    return code


class Simulator:
    """A validated filter that can be asked for its action."""

    __slots__ = ("_code", "steps")

    def __init__(self, program: bytes) -> None:
        """Validate ``program``; raises PolicyError("internal") when the kernel would refuse it."""
        self._code = validate(program)
        self.steps = 0
        """instructions that the last call of ``run`` executed"""

    def run(self, nr: int, arch: int, ip: int, args: Sequence[int]) -> int:
        """Return the 32-bit action for one system call.

        Args:
            nr: the number; negative ones wrap as in the kernel's ``int nr``.
            arch: AUDIT_ARCH_*.
            ip: the instruction pointer, 64 bits.
            args: the six argument registers, 64 bits each.
        """
        wide = [word & 0xFFFFFFFFFFFFFFFF for word in (ip, *args)]
        words = struct.unpack("<16I", DATA.pack(nr & WORD, arch & WORD, *wide))
        accumulator = index_register = 0
        scratch = [0] * SCRATCH_WORDS
        code = self._code
        pc = steps = 0
        while True:
            opcode, jump_true, jump_false, value = code[pc]
            pc += 1
            steps += 1
            if opcode == LD_W_ABS:
                accumulator = words[value >> 2]
            elif opcode in (RET_K, RET_A):
                self.steps = steps
                return value if opcode == RET_K else accumulator
            elif opcode == JMP_JA:
                pc += value
            elif opcode in JUMP_CODES:
                operand = index_register if opcode & SOURCE_X else value
                taken = _compare(opcode & 0xF0, accumulator, operand)
                pc += jump_true if taken else jump_false
            elif opcode == NEG:
                accumulator = -accumulator & WORD
            elif opcode in ALU_CODES:
                operand = index_register if opcode & SOURCE_X else value
                if opcode & 0xF0 == DIV and operand == 0:
                    # bpf_convert_filter() turns a division by zero into a return of 0.
                    self.steps = steps
                    return SECCOMP_RET_KILL_THREAD
                accumulator = _calculate(opcode & 0xF0, accumulator, operand)
            elif opcode == LD_IMM:
                accumulator = value
            elif opcode == LDX_IMM:
                index_register = value
            elif opcode == LD_LEN:
                accumulator = SECCOMP_DATA_SIZE
            elif opcode == LDX_LEN:
                index_register = SECCOMP_DATA_SIZE
            elif opcode == LD_MEM:
                accumulator = scratch[value]
            elif opcode == LDX_MEM:
                index_register = scratch[value]
            elif opcode == ST:
                scratch[value] = accumulator
            elif opcode == STX:
                scratch[value] = index_register
            elif opcode == TAX:
                index_register = accumulator
            else:
                accumulator = index_register


def _compare(operation: int, left: int, right: int) -> bool:
    if operation == 0x10:
        return left == right
    if operation == 0x20:
        return left > right
    if operation == 0x30:
        return left >= right
    return bool(left & right)


def _calculate(operation: int, left: int, right: int) -> int:
    if operation == 0x00:
        result = left + right
    elif operation == 0x10:
        result = left - right
    elif operation == 0x20:
        result = left * right
    elif operation == DIV:
        result = left // right
    elif operation == 0x40:
        result = left | right
    elif operation == 0x50:
        result = left & right
    elif operation == 0x60:
        result = left << (right & 31)
    elif operation == 0x70:
        result = left >> (right & 31)
    else:
        result = left ^ right
    return result & WORD


def _invalid(what: str) -> PolicyError:
    return PolicyError("internal", f"the kernel would refuse this filter: {what}")
