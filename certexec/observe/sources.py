"""Where logs are: files, standard input, the journal; read to their end, or as they grow."""

from __future__ import annotations

import grp
import gzip
import io
import os
import pwd
import select
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence

from certexec.errors import RunError
from certexec.observe.reading import LINE_MAX, Seen, read_line
from certexec.observe.sinks import JOURNAL

STANDARD_INPUT = "-"
JOURNALCTL = "journalctl"
LOGS = ("/var/log/auth.log", "/var/log/secure", "/var/log/syslog", "/var/log/messages")
"""Where syslog daemons put authpriv, and so what certexec says."""
AUDIT_LOG = "/var/log/audit/audit.log"
STEP = 0.2
"""seconds between two looks at files that are followed"""
_CHUNK = 1 << 16


def usual_files() -> list[str]:
    """Return the log of this machine that has certexec's events, none where the journal has."""
    for path in (*LOGS, AUDIT_LOG):
        if os.path.exists(path):
            return [path]
    return []


def has_journal() -> bool:
    """Tell whether this machine keeps a journal that can be asked."""
    return os.path.exists(JOURNAL) and shutil.which(JOURNALCTL) is not None


def past(files: Sequence[str], journal: bool, since: float = 0.0) -> Iterator[Seen]:
    """Yield what has been written down; raises RunError where something cannot be read.

    ``since``: nothing before that time is wanted from the journal, which is long.
    """
    if journal:
        command = [JOURNALCTL, "-o", "json", "--all", "--no-pager", "SYSLOG_IDENTIFIER=certexec"]
        if since:
            command.append(f"--since=@{int(since)}")
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield from _events(line)
    for name in files:
        try:
            with _open(name) as file:
                while line := file.readline(LINE_MAX):
                    yield from _events(line)
        except (OSError, EOFError) as error:
            raise _unreadable(name, error) from None


def _open(name: str) -> io.BufferedIOBase:
    if name == STANDARD_INPUT:
        return io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False))
    return gzip.open(name) if name.endswith(".gz") else open(name, "rb")


def _events(line: bytes) -> Iterator[Seen]:
    seen = read_line(line.decode("utf-8", "replace"))
    if seen is not None:
        yield seen


def _unreadable(name: str, error: Exception) -> RunError:
    why = getattr(error, "strerror", None) or str(error)
    hint = ""
    if isinstance(error, PermissionError):
        hint = f"{_readers(name)}, or root: a new member logs in again first"
    return RunError("unreadable", f'cannot read "{name}": {why}', hint)


def _readers(name: str) -> str:
    """Name those who may read a file that we may not."""
    try:
        found = os.stat(name)
        if found.st_gid and found.st_mode & stat.S_IRGRP:
            return f'members of the group "{grp.getgrgid(found.st_gid).gr_name}" may'
        return f'its owner "{pwd.getpwuid(found.st_uid).pw_name}" may'
    except (OSError, KeyError):
        return "its owner may"


# ---- as they grow --------------------------------------------------------------------------------


class Tail:
    """A file from its present end on; when another takes its name, that one from its beginning."""

    def __init__(self, path: str) -> None:
        """Raises RunError where the file cannot be read."""
        self.path = path
        self._rest = b""
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise _unreadable(path, error) from None

    def lines(self) -> list[bytes]:
        """Return the lines that have come."""
        found = self._read()
        if not found and self._is_another():
            found = self._read()
        return found

    def _read(self) -> list[bytes]:
        data = b""
        while len(data) < LINE_MAX and (more := self._file.read(_CHUNK)):
            data += more
        *found, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:LINE_MAX]
        return found

    def _is_another(self) -> bool:
        """Go over to the file that has the name now, or to the start of one that was emptied."""
        try:
            now, own = os.stat(self.path), os.fstat(self._file.fileno())
            if (now.st_dev, now.st_ino) != (own.st_dev, own.st_ino):
                fresh = open(self.path, "rb", buffering=0)  # noqa: SIM115
                self._file.close()
                self._file = fresh
            elif now.st_size < self._file.tell():
                self._file.seek(0)
            else:
                return False
        except OSError:
            return False  # between two names, for a moment
        self._rest = b""
        return True

    def close(self) -> None:
        """Look no more."""
        self._file.close()


class Stream:
    """A pipe or a terminal, to its end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ended = False
        self._rest = b""

    def lines(self) -> list[bytes]:
        """Return the lines that have come; waits for nothing."""
        if not select.select([self.fd], [], [], 0)[0]:
            return []
        data = os.read(self.fd, _CHUNK)
        *found, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:LINE_MAX]
        if not data:
            self.ended = True
            found = [rest] if rest else []
            self._rest = b""
        return found


def follow(
    files: Sequence[str], journal: bool, standard_input: int = 0
) -> Generator[Seen | None, None, None]:
    """Yield what is written down from now on, and None whenever nothing came for a moment.

    Ends when standard input, the only thing that can, has ended and nothing else is followed;
    ``standard_input``: its descriptor, if not its usual one. Raises RunError where a file cannot
    be read.
    """
    tails = [Tail(name) for name in files if name != STANDARD_INPUT]
    streams = [Stream(standard_input or sys.stdin.fileno())] if STANDARD_INPUT in files else []
    process = None
    if journal:
        process = subprocess.Popen(
            [JOURNALCTL, "-f", "-n", "0", "-o", "json", "--all", "SYSLOG_IDENTIFIER=certexec"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        streams.append(Stream(process.stdout.fileno()))
    try:
        while tails or any(not stream.ended for stream in streams):
            lines = [line for tail in tails for line in tail.lines()]
            lines += [line for stream in streams if not stream.ended for line in stream.lines()]
            for line in lines:
                yield from _events(line)
            if not lines:
                yield None
                waiting = [stream.fd for stream in streams if not stream.ended]
                if waiting:
                    select.select(waiting, [], [], STEP)
                elif tails:
                    time.sleep(STEP)
    finally:
        for tail in tails:
            tail.close()
        if process is not None:
            process.kill()
            process.communicate()
