"""The assembler: encodings, long jumps, searches over ranges."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.kernel import bpf
from certexec.kernel.bpf_simulator import Simulator, decode

ANY_ARCH = bpf.AUDIT_ARCH_X86_64
NO_ARGS = (0,) * 6


def verdict(program: bytes, nr: int) -> int:
    return Simulator(program).run(nr, ANY_ARCH, 0, NO_ARGS)


def test_an_instruction_is_laid_out_as_struct_sock_filter():
    word = bpf.encode(bpf.JMP_JEQ_K, 3, 4, 0xC000003E)
    assert struct.pack("<Q", word) == struct.pack("<HBBI", 0x15, 3, 4, 0xC000003E)


def test_a_filter_reads_in_the_order_of_execution():
    asm = bpf.Assembler()
    no = asm.ret(bpf.errno_action(1))
    yes = asm.ret(bpf.SECCOMP_RET_ALLOW)
    asm.load(bpf.OFFSET_NR, asm.branch(bpf.JMP_JEQ_K, 39, yes, no))
    assert decode(asm.finish()) == [
        (bpf.LD_W_ABS, 0, 0, 0),
        (bpf.JMP_JEQ_K, 0, 1, 39),
        (bpf.RET_K, 0, 0, bpf.SECCOMP_RET_ALLOW),
        (bpf.RET_K, 0, 0, 0x50001),
    ]


def test_argument_words_lie_where_seccomp_data_has_them():
    assert bpf.argument_offset(0, bpf.LOW) == 16
    assert bpf.argument_offset(5, bpf.LOW) == 56
    assert bpf.argument_offset(5, bpf.HIGH) == 60


@pytest.mark.parametrize("code", [0, -1, 4096])
def test_an_error_number_that_the_kernel_would_cut_is_refused(code):
    with pytest.raises(PolicyError) as caught:
        bpf.errno_action(code)
    assert caught.value.reason == "policy-unsupported"


@pytest.mark.parametrize("distance", [253, 254, 255, 256, 257, 600])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_branch_reaches_both_labels_however_far_they_are(distance, swapped):
    asm = bpf.Assembler()
    far = asm.load(bpf.OFFSET_ARCH, asm.branch(bpf.JMP_JEQ_K, ANY_ARCH, asm.ret(1), asm.ret(2)))
    farther = asm.load(bpf.OFFSET_ARCH, asm.branch(bpf.JMP_JEQ_K, 0, asm.ret(4), asm.ret(3)))
    label = farther
    for _ in range(distance):
        label = asm.load(bpf.OFFSET_ARCH, label)
    labels = (farther, far) if swapped else (far, farther)
    asm.load(bpf.OFFSET_NR, asm.branch(bpf.JMP_JEQ_K, 7, *labels))
    program = asm.finish()
    first, second = (3, 1) if swapped else (1, 3)
    assert verdict(program, 7) == first
    assert verdict(program, 8) == second


@given(st.dictionaries(st.integers(0, 2000), st.integers(0, 6), max_size=400), st.data())
def test_a_search_finds_each_value_s_own_label(table, data):
    asm = bpf.Assembler()
    labels = {value: asm.ret(0x50000 + action) for value, action in table.items()}
    ranges = bpf.merge_ranges(0, labels, asm.ret(0x5000F))
    asm.load(bpf.OFFSET_NR, asm.search(ranges))
    simulator = Simulator(asm.finish())
    asked = data.draw(st.lists(st.integers(0, 2002), min_size=20, max_size=20))
    for value in [*table, *asked]:
        wanted = 0x50000 + table.get(value, 15)
        assert simulator.run(value, ANY_ARCH, 0, NO_ARGS) == wanted


def test_neighbours_with_one_label_are_one_range():
    table = {2: 10, 3: 10, 4: 10, 6: 11}
    assert bpf.merge_ranges(0, table, 1) == [(0, 1), (2, 10), (5, 1), (6, 11), (7, 1)]
    assert bpf.merge_ranges(0, {0: 10, 1: 1, 2: 1}, 1) == [(0, 10), (1, 1)]
    assert bpf.merge_ranges(0, {}, 1) == [(0, 1)]


def test_a_search_is_balanced():
    asm = bpf.Assembler()
    labels = {value: asm.ret(0x50000 + value % 2) for value in range(500)}
    asm.load(bpf.OFFSET_NR, asm.search(bpf.merge_ranges(0, labels, asm.ret(9))))
    simulator = Simulator(asm.finish())
    for value in range(501):
        simulator.run(value, ANY_ARCH, 0, NO_ARGS)
        # A load, at most eleven comparisons, at most two far jumps, the return.
        assert simulator.steps <= 15


NUMBERS_OF_A_KERNEL = 470


@given(st.dictionaries(st.integers(0, 24), st.integers(0, 2), max_size=25))
def test_neighbours_are_told_apart_in_a_search(table):
    asm = bpf.Assembler()
    labels = {value: asm.ret(0x50000 + action) for value, action in table.items()}
    ranges = bpf.merge_ranges(0, labels, asm.ret(0x50000))
    asm.load(bpf.OFFSET_NR, asm.search([*ranges, (30, asm.ret(0x50009))]))
    program = asm.finish()
    for value in range(30):
        assert verdict(program, value) == 0x50000 + table.get(value, 0)
    assert verdict(program, 30) == verdict(program, bpf.WORD) == 0x50009


def test_a_search_asks_once_for_a_single_value_and_twice_for_a_range():
    asm = bpf.Assembler()
    yes, no = asm.ret(1), asm.ret(2)
    asm.search(bpf.merge_ranges(0, dict.fromkeys([16, 56, 157], no), yes))
    assert len(asm) == 2 + 3
    asm = bpf.Assembler()
    yes, no = asm.ret(1), asm.ret(2)
    asm.search(bpf.merge_ranges(0, dict.fromkeys([16, 17, 18, 19], no), yes))
    assert len(asm) == 2 + 2


def test_a_search_has_few_steps_where_most_numbers_are():
    asm = bpf.Assembler()
    yes, no = asm.ret(1), asm.ret(2)
    table = dict.fromkeys([*range(8), 10, 11, 14, 15, 18, 19, 435, 436], no)
    asm.load(bpf.OFFSET_NR, asm.search(bpf.merge_ranges(0, table, yes)))
    simulator, steps = Simulator(asm.finish()), 0
    for value in range(NUMBERS_OF_A_KERNEL):
        simulator.run(value, ANY_ARCH, 0, NO_ARGS)
        steps += simulator.steps
    assert steps / NUMBERS_OF_A_KERNEL < 5  # halving the ranges takes 6


@pytest.mark.parametrize(
    ("mask", "value", "kept"),
    [(bpf.WORD, 7, True), (3, 0, True), (4, 4, True), (3, 1, False), (6, 6, False)],
)
def test_only_and_changes_the_word_that_a_test_leaves(mask, value, kept):
    asm = bpf.Assembler()
    yes, no = asm.ret(1), asm.ret(2)
    asm.load(bpf.OFFSET_NR, asm.test(mask, value, yes, no))
    program = asm.finish()
    for word in range(9):
        assert verdict(program, word) == (1 if word & mask == value else 2)
    assert kept == all(code != bpf.ALU_AND_K for code, _, _, _ in decode(program))
    assert bpf.keeps_word(mask, value) == kept


def test_a_filter_longer_than_the_kernel_takes_is_refused():
    asm = bpf.Assembler()
    label = asm.ret(bpf.SECCOMP_RET_ALLOW)
    for _ in range(bpf.MAX_INSTRUCTIONS - 1):
        label = asm.load(bpf.OFFSET_NR, label)
    assert len(asm.finish()) == bpf.MAX_INSTRUCTIONS * bpf.INSTRUCTION_SIZE
    asm.load(bpf.OFFSET_NR, label)
    with pytest.raises(PolicyError) as caught:
        asm.finish()
    assert caught.value.reason == "policy-unsupported"


def test_a_label_has_its_index_in_the_finished_filter():
    asm = bpf.Assembler()
    allow = asm.ret(bpf.SECCOMP_RET_ALLOW)
    load = asm.load(bpf.OFFSET_NR, allow)
    asm.load(bpf.OFFSET_ARCH, load)
    assert [asm.position(label) for label in (load, allow)] == [1, 2]
