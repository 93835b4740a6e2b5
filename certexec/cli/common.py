"""What several verbs share: certificates, times, users, text for terminals, output files."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from certexec.certificate.envelope import MAX_SIZE
from certexec.certificate.fields import MAX_ID, MAX_TIME
from certexec.errors import CertexecError, CliError, unreadable
from certexec.kernel.ownership import PersonalOwners, root_owners
from certexec.run.certificate_files import read_named
from certexec.text import printable as printable
from certexec.trust.constraints import parse_duration
from certexec.trust.store import DEFAULT_DIRECTORY

F = TypeVar("F", bound=Callable[..., Any])

CERTIFICATE_MODE = 0o755
KEY_MODE = 0o600
PUBLIC_MODE = 0o644


# -- times ----------------------------------------------------------------------------------------


def show_date(seconds: int) -> str:
    """Write a time as a date (UTC)."""
    return show_time(seconds)[:10]


def show_time(seconds: int) -> str:
    """Write a time in ISO 8601 (UTC)."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


# -- values from the command line ------------------------------------------------------------------


def parse_time(text: str, now: int) -> int:
    """Read a time: ``now``, ``@SECONDS``, ``+90d``, ``-2h``, or an ISO 8601 date or time.

    Without an offset it is UTC, since a certificate means the same everywhere. Raises
    CliError("usage").
    """
    if text == "now":
        return now
    moment: int | None = None
    if re.fullmatch(r"@[0-9]{1,12}", text):
        moment = int(text[1:])
    elif text.startswith(("+", "-")):
        length = parse_duration(text[1:])
        moment = None if length is None else now + (length if text[0] == "+" else -length)
    else:
        try:
            read = datetime.fromisoformat(text)
            if read.tzinfo is None:
                read = read.replace(tzinfo=UTC)
            moment = int(read.timestamp())
        except (ValueError, OverflowError):
            moment = None
    if moment is None or not 0 <= moment <= MAX_TIME:
        raise CliError(
            "usage",
            f'"{text}" is not a time',
            'write it as 2027-02-01, 2027-02-01T12:00, @SECONDS, +90d, -2h or now (UTC)',
        )
    return moment


def parse_length(text: str) -> int:
    """Read a length of time such as ``90d``; raises CliError("usage")."""
    seconds = parse_duration(text)
    if seconds is None:
        raise CliError(
            "usage", f'"{text}" is not a length of time', "write it as 90d, 12h, 30m, 8w or 1y"
        )
    return seconds


def _parse_number(text: str) -> int | None:
    if re.fullmatch(r"#(0|[1-9][0-9]{0,9})", text) and int(text[1:]) <= MAX_ID:
        return int(text[1:])
    return None


def _no_such(what: str, text: str) -> CliError:
    hint = f"a number is written with a hash sign: '#{text}'" if text.isdigit() else ""
    return CliError("usage", f'there is no {what} "{text}" on this machine', hint)


def find_user(text: str) -> tuple[str, int]:
    """Return name and number of a user given by name, or ``""`` and the number for ``#NUMBER``."""
    number = _parse_number(text)
    if number is not None:
        return "", number
    try:
        return text, pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise _no_such("user", text) from None


def find_group(text: str) -> tuple[str, int]:
    """Return name and number of a group given by name, or ``""`` and the number for ``#NUMBER``."""
    number = _parse_number(text)
    if number is not None:
        return "", number
    try:
        return text, grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        raise _no_such("group", text) from None


# -- trust stores ----------------------------------------------------------------------------------


def trust_option(command: F) -> F:
    """Give a command the option ``--trust DIR``."""
    return click.option(
        "--trust", "trust", metavar="DIR", default=None,
        help=f"Use the trust store in DIR instead of {DEFAULT_DIRECTORY}.",
    )(command)


def store_directory(given: str | None) -> tuple[str, frozenset[int]]:
    """Return the store's absolute path and who may own it.

    A store of one's own may belong to the caller; the machine's belongs to root.
    """
    if given is None:
        return DEFAULT_DIRECTORY, root_owners()
    return os.path.realpath(given), PersonalOwners((0, os.getuid()))


# -- files -----------------------------------------------------------------------------------------


def read_bounded(path: str, limit: int, reason: str) -> bytes:
    """Read a file of at most ``limit`` bytes; ``reason`` is the word for one that is longer.

    Raises CliError: "not-found", "unreadable", or ``reason``.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise unreadable(path, error) from None
    if len(data) > limit:
        raise CliError(reason, f'"{path}" is longer than {limit} bytes')
    return data


def read_certificate(path: str) -> bytes:
    """Read a certificate file once, ``-`` is standard input.

    At most one byte more than a certificate may have is read, so that the reader sees that it is
    too long. Raises CliError: "not-found" or "unreadable".
    """
    try:
        if path == "-":
            return sys.stdin.buffer.read(MAX_SIZE + 1)
        return read_named(path)
    except OSError as error:
        raise unreadable(path, error) from None


def check_writable(path: str) -> None:
    """Refuse a file in a directory that is missing or cannot be written, before any work is done.

    Raises CliError: "not-found" or "unreadable".
    """
    directory = os.path.dirname(path) or "."
    if os.path.lexists(directory) and not os.path.isdir(directory):
        raise CliError("unreadable", f'"{directory}" is not a directory', "choose another place")
    if not os.path.isdir(directory):
        raise CliError(
            "not-found", f'there is no directory "{directory}"', f'"mkdir -p {directory}" first'
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise CliError(
            "unreadable", f'cannot write "{path}": its directory is not writable for you',
            "choose another place, or another owner or mode for the directory",
        )  # fmt: skip


def check_output(path: str, force: bool) -> None:
    """Refuse an output file that exists or cannot be made, before any work is done.

    What is no file is never replaced, with ``force`` neither: a directory, /dev/null, /dev/stdout.
    Raises CliError: "exists", "not-found" or "unreadable"; see ``write_file``.
    """
    if os.path.isdir(path):
        raise CliError("exists", f'"{path}" is a directory', "name a file in it")
    if os.path.exists(path) and not os.path.isfile(path):
        raise CliError("exists", f'"{path}" is not a regular file', "name a file")
    check_writable(path)
    if not force and os.path.lexists(path):
        raise CliError("exists", f'"{path}" exists', 'use "--force" to replace it')


def write_file(
    path: str, content: bytes, mode: int, *, force: bool, owner: tuple[int, int] | None = None
) -> None:
    """Write a file so that it appears whole or not at all, with exactly ``mode``.

    Temporary file beside it, fsync, then link(2) (which never replaces anything) or, with
    ``force``, rename(2), then fsync of the directory. ``owner`` is a uid and a gid where the file
    shall not become the caller's. Raises CliError: "exists" or "unreadable".
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.tmp")
    try:
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, KEY_MODE
        )
    except OSError as error:
        raise CliError("unreadable", f'cannot write "{path}": {error.strerror}') from None
    try:
        try:
            with open(fd, "wb") as file:
                file.write(content)
                file.flush()
                if owner is not None and owner[0] != os.geteuid():
                    os.fchown(fd, *owner)
                os.fchmod(fd, mode)
                os.fsync(fd)
            if force:
                os.rename(temporary, path)
            else:
                _place(temporary, path)
        finally:
            try:
                os.unlink(temporary)
            except FileNotFoundError:
                pass
        above = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(above)
        finally:
            os.close(above)
    except FileExistsError:
        raise CliError("exists", f'"{path}" exists', 'use "--force" to replace it') from None
    except OSError as error:
        raise CliError("unreadable", f'cannot write "{path}": {error.strerror}') from None


def _place(temporary: str, path: str) -> None:
    """Give a finished file its name, unless the name is taken (FileExistsError)."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        # a file system without hard links: look, then rename
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
        os.rename(temporary, path)


# -- passphrases -----------------------------------------------------------------------------------


class Passphrases:
    """Where passphrases come from: a file descriptor, one a line, or the terminal.

    Never from arguments or the environment, which others can see.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def ask(self, what: str, wanted: str = "passphrase") -> bytes:
        """Return a passphrase; raises CliError("usage") where there is nobody to ask."""
        if self._descriptor is None:
            return ask_terminal(f"{wanted} for {what}: ")
        line = b""
        try:
            # byte by byte: what follows the line belongs to the next key, or to somebody else
            while (one := os.read(self._descriptor, 1)) not in (b"", b"\n"):
                line += one
        except OSError as error:
            raise CliError(
                "usage",
                f"cannot read a passphrase from descriptor {self._descriptor}: {error.strerror}",
            ) from None
        if not line and not one:
            raise CliError("usage", f"no passphrase is left for {what}")
        return line

    def ask_new(self, what: str, wanted: str = "passphrase") -> bytes:
        """Return a new passphrase, typed twice where a person types it."""
        first = self.ask(what, wanted)
        if self._descriptor is None and ask_terminal("the same again: ") != first:
            raise CliError("usage", "the two passphrases differ")
        if not first:
            raise CliError(
                "usage", "the passphrase is empty", 'to do without one, say "--no-passphrase"'
            )
        return first


def ask_terminal(prompt: str) -> bytes:
    """Ask on /dev/tty without echo, whatever standard input is."""
    import getpass

    try:
        # getpass would fall back to standard input, where a script's data would be taken for it
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        return getpass.getpass(prompt).encode("utf-8", "surrogateescape")
    except EOFError:
        sys.stderr.write("\n")
        raise CliError("usage", "no passphrase was typed") from None
    except OSError:
        raise CliError(
            "usage", "there is no terminal to ask for a passphrase", 'use "--passphrase-fd N"'
        ) from None


def describe(error: CertexecError) -> dict[str, str]:
    """Return an error for JSON."""
    return {"reason": error.reason, "message": error.message, "hint": error.hint}
