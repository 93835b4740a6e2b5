"""Write certexec's tables of system calls from the kernel's headers and the numbers they lack yet.

The headers of an older system end early (Debian 12: 450), so the later entries of syscall_64.tbl
and syscall_32.tbl (arch/x86/entry/syscalls) stand below; both sources have to agree where they
overlap.

    python3 tools/generate_syscalls.py x86-64 [HEADER] > certexec/kernel/syscalls.py
    python3 tools/generate_syscalls.py i386 [HEADER] > certexec/kernel/syscalls_i386.py
"""

import re
import sys

HEADERS = "/usr/include/x86_64-linux-gnu/asm/"
DEFINE = re.compile(r"#define\s+__NR_(\w+)\s+(\d+)\s*$")

LATER_64 = {
    "uretprobe": 335,  # Linux 6.11
    "uprobe": 336,  # 6.18
}
LATER = {
    "cachestat": 451,  # 6.5
    "fchmodat2": 452,  # 6.6
    "map_shadow_stack": 453,
    "futex_wake": 454,  # 6.7
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,  # 6.8
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,  # 6.10
    "setxattrat": 463,  # 6.13
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,  # 6.15
    "file_getattr": 468,  # 6.17
    "file_setattr": 469,
}

HEAD_64 = '''"""The x86-64 system calls by name and by number.

Written by tools/generate_syscalls.py from <asm/unistd_64.h> and, for what is newer than that
header, from the kernel's arch/x86/entry/syscalls/syscall_64.tbl (Linux 6.18). A number never
changes its meaning, so a table newer than the running kernel is harmless: the call answers ENOSYS.
"""

from __future__ import annotations

NUMBERS: dict[str, int] = {
'''

TAIL_64 = '''}
"""Name, as in the kernel's header without ``__NR_``, to number."""

NAMES: dict[int, str] = {number: name for name, number in NUMBERS.items()}
"""Number to name."""

HIGHEST = max(NAMES)
"""The highest number in the table. What lies above is a call that this table does not know."""


def numbers_of(*names: str) -> tuple[int, ...]:
    """Return the numbers of several calls; raises KeyError for a name that does not exist."""
    return tuple(map(NUMBERS.__getitem__, names))
'''

HEAD_32 = '''"""The system calls of the 32-bit ABI (i386) by name and by number.

Written by tools/generate_syscalls.py from <asm/unistd_32.h> and, for what is newer than that
header, from the kernel's arch/x86/entry/syscalls/syscall_32.tbl (Linux 6.18). What each of them
means is in certexec.policy.foreign.
"""

from __future__ import annotations

NUMBERS_I386: dict[str, int] = {
'''

TAIL_32 = '''}
"""Name, as in the kernel's header without ``__NR_``, to number."""

NAMES_I386: dict[int, str] = {number: name for name, number in NUMBERS_I386.items()}
"""Number to name."""
'''

ABIS = {
    "x86-64": ("unistd_64.h", LATER_64 | LATER, HEAD_64, TAIL_64),
    "i386": ("unistd_32.h", LATER, HEAD_32, TAIL_32),
}


def read_header(path: str) -> dict[str, int]:
    """Return the numbers that the header at ``path`` defines."""
    with open(path, encoding="ascii") as lines:
        found = [match for match in map(DEFINE.match, lines) if match]
    return {match[1]: int(match[2]) for match in found}


def merge(header: dict[str, int], later: dict[str, int]) -> dict[str, int]:
    """Return both tables as one, ordered by number; exits where they contradict each other."""
    numbers = header | later
    if any(header.get(name, number) != number for name, number in later.items()):
        raise SystemExit("the header and the list of later calls disagree")
    if len(set(numbers.values())) != len(numbers):
        raise SystemExit("two names share one number")
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def main() -> None:
    """Print the module."""
    header, later, head, tail = ABIS[sys.argv[1]]
    path = sys.argv[2] if len(sys.argv) > 2 else HEADERS + header
    entries = merge(read_header(path), later).items()
    print(head + "".join(f'    "{name}": {number},\n' for name, number in entries) + tail, end="")


if __name__ == "__main__":
    main()
