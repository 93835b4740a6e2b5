"""Whoever executes a program that has another policy may not choose its libraries.

The kernel tells a new image by AT_SECURE in its auxiliary vector that it may do more than whoever
executed it: then the loader takes nothing from LD_PRELOAD and its kin. The kernel knows nothing of
policies, so the supervisor says it, at the exec stop.

Source: getauxval(3), ld.so(8), create_elf_tables in fs/binfmt_elf.c.
"""

from __future__ import annotations

import errno

from certexec.kernel.memory import PAGE, Memory
from certexec.kernel.procfs import proc, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_START_STACK = 28 - 3
"""Of /proc/PID/stat, counted from the field behind the name: where argc stands."""
_AT_NULL, _AT_SECURE = 0, 23
_WORD = 8


def start_securely(pid: int) -> None:
    """Set AT_SECURE for ``pid``, which stands at its exec stop. Raises OSError."""
    text = read_file(proc(pid, "stat"))
    stack = int(text[text.rindex(b")") + 2 :].split()[_START_STACK])
    memory = Memory(pid)
    width = _width(pid)
    words = _words(memory, stack, width)
    for _ in range(next(words)[1] + 1):
        next(words)  # the arguments and a null
    while next(words)[1]:
        pass  # the environment
    while (kind := next(words)[1]) != _AT_NULL:
        address, _ = next(words)
        if kind == _AT_SECURE:
            memory.write(address, (1).to_bytes(width, "little"))
            return
    raise OSError(errno.ENOEXEC, "there is no AT_SECURE")


def _width(pid: int) -> int:
    """Return how many bytes a word of a new image's vector has.

    A kind of entry fits into half a word, and the first entry's value is never 0: so the upper
    half of the first eight bytes is 0 where these are one word, and only there.
    """
    start = read_file(proc(pid, "auxv"))[:_WORD]
    if len(start) < _WORD:
        raise OSError(errno.ENOEXEC, "there is no auxiliary vector")
    return _WORD if int.from_bytes(start[_WORD // 2 :], "little") == 0 else _WORD // 2


def _words(memory: Memory, address: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield addresses and words. Raises OSError at the end of the stack."""
    while True:
        block = memory.read(address, PAGE - address % PAGE)
        for at in range(0, len(block), width):
            yield address + at, int.from_bytes(block[at : at + width], "little")
        address += len(block)
