"""The simulator: the kernel's checks before, the kernel's arithmetic during a run."""

import ctypes
import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.kernel import bpf
from certexec.kernel.bpf_simulator import ALU_CODES, JUMP_CODES, Simulator, validate
from certexec.kernel.libc import syscall
from certexec.kernel.syscalls import NUMBERS

RET_A = (0x16, 0, 0, 0)
ALLOW = (bpf.RET_K, 0, 0, bpf.SECCOMP_RET_ALLOW)

SECCOMP_SET_MODE_FILTER = 1
PR_SET_NO_NEW_PRIVS = 38


def program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<HBBI", *one) for one in instructions)


def result(*instructions: tuple[int, int, int, int], args=(0,) * 6, nr=0, ip=0) -> int:
    return Simulator(program(*instructions)).run(nr, bpf.AUDIT_ARCH_X86_64, ip, args)


def kernel_accepts(code: bytes) -> bool:
    """Load the filter in a child (a bare clone, no Python in between) and tell whether it went."""
    buffer = ctypes.create_string_buffer(code, len(code))
    fprog = ctypes.create_string_buffer(
        struct.pack("<H6xQ", len(code) // 8, ctypes.addressof(buffer))
    )
    seccomp, prctl = NUMBERS["seccomp"], NUMBERS["prctl"]
    child = os.fork()
    if child == 0:
        syscall(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # The filter may answer anything from now on: SIGKILL is an acceptance, too.
        try:
            syscall(seccomp, SECCOMP_SET_MODE_FILTER, 0, fprog)
        except OSError:
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, os.WUNTRACED)
    return not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == 3)


MALFORMED = {
    "no instruction": b"",
    "half an instruction": program(ALLOW)[:-1],
    "no return at the end": program(ALLOW, (bpf.LD_W_ABS, 0, 0, 0)),
    "branch past the end": program((bpf.JMP_JEQ_K, 1, 0, 0), ALLOW),
    "jump past the end": program((bpf.JMP_JA, 0, 0, 1), ALLOW),
    "jump backwards": program((bpf.JMP_JA, 0, 0, 0xFFFFFFFF), ALLOW),
    "load past seccomp_data": program((bpf.LD_W_ABS, 0, 0, 64), ALLOW),
    "unaligned load": program((bpf.LD_W_ABS, 0, 0, 2), ALLOW),
    "byte load": program((0x30, 0, 0, 0), ALLOW),
    "modulo": program((0x94, 0, 0, 3), ALLOW),
    "division by the constant 0": program((0x34, 0, 0, 0), ALLOW),
    "shift by 32": program((0x64, 0, 0, 32), ALLOW),
    "unknown opcode": program((0xFF, 0, 0, 0), ALLOW),
    "scratch word 16": program((0x02, 0, 0, 16), ALLOW),
    "scratch word read before it is written": program((0x60, 0, 0, 1), ALLOW),
    "scratch word written on one way only": program(
        (bpf.JMP_JEQ_K, 0, 1, 0), (0x02, 0, 0, 1), (0x60, 0, 0, 1), ALLOW
    ),
    "too long": program(*[ALLOW] * (bpf.MAX_INSTRUCTIONS + 1)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_filter_that_the_kernel_refuses_is_refused(name):
    with pytest.raises(PolicyError):
        validate(MALFORMED[name])


@pytest.mark.parametrize("name", [name for name in MALFORMED if "half" not in name])
def test_the_kernel_refuses_it_too(name):
    assert not kernel_accepts(MALFORMED[name])


OPCODES = st.sampled_from(
    [*ALU_CODES, *JUMP_CODES, bpf.LD_W_ABS, bpf.JMP_JA, bpf.RET_K, 0x16, 0x00, 0x01, 0x60, 0x61]
    + [0x80, 0x81, 0x02, 0x03, 0x84, 0x07, 0x87, 0x30, 0x94]
)
INSTRUCTIONS = st.tuples(
    OPCODES,
    st.integers(0, 4),
    st.integers(0, 4),
    st.one_of(st.integers(0, 70), st.integers(0, 0xFFFFFFFF)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(INSTRUCTIONS, min_size=1, max_size=6), st.booleans())
def test_simulator_and_kernel_accept_the_same_filters(instructions, ended):
    code = program(*instructions, *([RET_A] if ended else []))
    try:
        validate(code)
        valid = True
    except PolicyError:
        valid = False
    assert kernel_accepts(code) == valid


def test_words_of_seccomp_data_are_read_at_their_offsets():
    args = [0x1111111122222222 * (n + 1) & (1 << 64) - 1 for n in range(6)]
    for index, value in enumerate(args):
        for word in (bpf.LOW, bpf.HIGH):
            load = (bpf.LD_W_ABS, 0, 0, bpf.argument_offset(index, word))
            assert result(load, RET_A, args=args) == value >> 32 * word & 0xFFFFFFFF
    assert result((bpf.LD_W_ABS, 0, 0, bpf.OFFSET_NR), RET_A, nr=-1) == 0xFFFFFFFF
    assert result((bpf.LD_W_ABS, 0, 0, bpf.OFFSET_IP), RET_A, ip=0xABCD) == 0xABCD
    assert result((bpf.LD_W_ABS, 0, 0, bpf.OFFSET_ARCH), RET_A) == bpf.AUDIT_ARCH_X86_64


@pytest.mark.parametrize(
    ("opcode", "operand", "wanted"),
    [
        (0x04, 5, 0x80000009),
        (0x14, 5, 0x7FFFFFFF),
        (0x24, 2, 8),
        (0x34, 4, 0x20000001),
        (0x44, 3, 0x80000007),
        (0x54, 6, 4),
        (0x64, 1, 8),
        (0x74, 1, 0x40000002),
        (0xA4, 1, 0x80000005),
        (0x84, 0, 0x7FFFFFFC),
    ],
)
def test_arithmetic_wraps_at_32_bits(opcode, operand, wanted):
    start = (0x00, 0, 0, 0x80000004)
    assert result(start, (opcode, 0, 0, operand), RET_A) == wanted
    with_register = opcode | 0x08 if opcode != 0x84 else opcode
    assert result(start, (0x01, 0, 0, operand), (with_register, 0, 0, 0), RET_A) == wanted


def test_division_by_a_zero_register_kills_the_thread():
    assert result((0x01, 0, 0, 0), (0x3C, 0, 0, 0), ALLOW) == bpf.SECCOMP_RET_KILL_THREAD


def test_scratch_memory_and_register_moves():
    code = [(0x00, 0, 0, 7), (0x02, 0, 0, 3), (0x61, 0, 0, 3), (0x03, 0, 0, 4)]
    assert result(*code, (0x00, 0, 0, 0), (0x60, 0, 0, 4), RET_A) == 7
    assert result((0x00, 0, 0, 9), (0x07, 0, 0, 0), (0x00, 0, 0, 1), (0x87, 0, 0, 0), RET_A) == 9
    assert result((0x80, 0, 0, 0), RET_A) == 64
    assert result((0x81, 0, 0, 0), (0x87, 0, 0, 0), RET_A) == 64


@pytest.mark.parametrize(
    ("opcode", "value", "taken"),
    [
        (0x15, 6, True), (0x15, 5, False), (0x25, 5, True), (0x25, 6, False),
        (0x35, 6, True), (0x35, 7, False), (0x45, 2, True), (0x45, 8, False),
    ],
)
def test_each_comparison_takes_the_right_branch(opcode, value, taken):
    ends = ((bpf.RET_K, 0, 0, 1), (bpf.RET_K, 0, 0, 2))
    assert result((0x00, 0, 0, 6), (opcode, 0, 1, value), *ends) == (1 if taken else 2)
    wide = ((0x00, 0, 0, 6), (0x01, 0, 0, value), (opcode | 0x08, 0, 1, 0))
    assert result(*wide, *ends) == (1 if taken else 2)
