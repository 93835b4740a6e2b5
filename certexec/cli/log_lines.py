"""A log line by line, whatever its size: no line and no file is held in memory whole."""

from __future__ import annotations

import contextlib
import os
import stat

from certexec.cli.common import printable
from certexec.cli.progress import counting
from certexec.errors import CliError, unreadable
from certexec.observe.reading import LINE_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

REST_MAX = 64 << 20
"""characters behind LINE_MAX after which what has no end of a line is no log: what strace shows of
a buffer may be long, a file of zeros may be of any size."""
_EVERY = 4096
"""lines between two looks at how far it is"""
_MIB = 20


@contextlib.contextmanager
def open_log(path: str) -> Iterator[Iterator[str]]:
    """Give the lines of a log, or of standard input for ``-``, and show how far it is.

    A line of more than LINE_MAX characters is cut there. Raises CliError, also while it is read.
    """
    try:
        where = 0 if path == "-" else path
        file = open(  # noqa: SIM115 - closed below
            where, encoding="utf-8", errors="surrogateescape", closefd=where != 0
        )
    except OSError as error:
        raise unreadable(path, error) from None
    with file, counting(f"read {printable(path)}, MiB") as show:
        yield _lines(path, file, show)


def _lines(path: str, file: TextIO, show: Callable[[int, int], None]) -> Iterator[str]:
    try:
        info = os.fstat(file.fileno())
        size = info.st_size >> _MIB if stat.S_ISREG(info.st_mode) else 0
        number = 0
        while line := file.readline(LINE_MAX):
            number += 1
            cut = not line.endswith("\n") and len(line) == LINE_MAX
            if cut and not _pass_over(file):
                raise CliError(
                    "unreadable", f'"{printable(path)}": line {number} has no end: this is no log'
                )
            if size and (cut or number % _EVERY == 0):
                show(os.lseek(file.fileno(), 0, os.SEEK_CUR) >> _MIB, size)
            yield line
    except OSError as error:
        raise unreadable(path, error) from None


def _pass_over(file: TextIO) -> bool:
    """Read what is left of a line; tell whether it ended in time."""
    for _ in range(REST_MAX // LINE_MAX):
        rest = file.readline(LINE_MAX)
        if len(rest) < LINE_MAX or rest.endswith("\n"):
            return True
    return False
