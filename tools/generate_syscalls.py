"""Write certexec/kernel/syscalls.py from the kernel's header and the numbers it does not know yet.

The header of an older system ends early (Debian 12: 450), so the later entries of
arch/x86/entry/syscalls/syscall_64.tbl stand below; both sources have to agree where they overlap.

    python3 tools/generate_syscalls.py [HEADER] > certexec/kernel/syscalls.py
"""

import re
import sys

HEADER = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
DEFINE = re.compile(r"#define\s+__NR_(\w+)\s+(\d+)\s*$")

LATER = {
    "uretprobe": 335,  # Linux 6.11
    "uprobe": 336,  # 6.18
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

HEAD = '''"""The x86-64 system calls by name and by number.

Written by tools/generate_syscalls.py from <asm/unistd_64.h> and, for what is newer than that
header, from the kernel's arch/x86/entry/syscalls/syscall_64.tbl (Linux 6.18). A number never
changes its meaning, so a table newer than the running kernel is harmless: the call answers ENOSYS.
"""

from __future__ import annotations

NUMBERS: dict[str, int] = {
'''

TAIL = '''}
"""Name, as in the kernel's header without ``__NR_``, to number."""

NAMES: dict[int, str] = {number: name for name, number in NUMBERS.items()}
"""Number to name."""

HIGHEST = max(NAMES)
"""The highest number in the table. What lies above is a call that this table does not know."""


def numbers_of(*names: str) -> tuple[int, ...]:
    """Return the numbers of several calls; raises KeyError for a name that does not exist."""
    return tuple(map(NUMBERS.__getitem__, names))
'''


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
    header = read_header(sys.argv[1] if len(sys.argv) > 1 else HEADER)
    entries = merge(header, LATER).items()
    print(HEAD + "".join(f'    "{name}": {number},\n' for name, number in entries) + TAIL, end="")


if __name__ == "__main__":
    main()
