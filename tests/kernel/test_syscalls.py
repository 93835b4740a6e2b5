"""The tables of system calls are those of the kernel's own headers."""

import re
from pathlib import Path

import pytest

from certexec.kernel.syscalls import NAMES, NUMBERS
from certexec.kernel.syscalls_i386 import NAMES_I386, NUMBERS_I386
from tests.isolation import skip_or_fail

HEADERS = Path("/usr/include/x86_64-linux-gnu/asm")
TABLES = {"unistd_64.h": NUMBERS, "unistd_32.h": NUMBERS_I386}


@pytest.mark.parametrize("header", TABLES)
def test_every_call_of_the_kernels_header_is_in_the_table_with_its_number(header):
    path = HEADERS / header
    if not path.exists():
        skip_or_fail(f"{path} is not installed (linux-libc-dev)")
    defined = {
        match[1]: int(match[2])
        for match in re.finditer(r"^#define\s+__NR_(\w+)\s+(\d+)\s*$", path.read_text(), re.M)
    }
    assert len(defined) > 300
    table = TABLES[header]
    assert {name: table.get(name) for name in defined} == defined


def test_calls_that_are_newer_than_a_header_have_one_number_in_both_tables():
    newer = [name for name, number in NUMBERS.items() if number > 423]
    assert {name: NUMBERS_I386[name] for name in newer} == {name: NUMBERS[name] for name in newer}


def test_no_number_is_taken_twice():
    assert len(NAMES) == len(NUMBERS)
    assert len(NAMES_I386) == len(NUMBERS_I386)
