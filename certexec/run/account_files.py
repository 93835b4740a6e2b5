"""Names and numbers as /etc/passwd and /etc/group alone say them.

A cached plan may depend on these files, whose change shows, and not on what else nsswitch.conf(5)
would ask: a directory server, a container manager. So a name counts here only if the files are
asked first and have it, or nothing but the files is asked; and only if the C library answers as the
file reads, since a cache in between (nscd) goes on with an old answer when the file has changed.
"""

from __future__ import annotations

import grp
import os
import pwd

from certexec.kernel.procfs import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PASSWD, GROUP, SWITCH = "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"
FILES_MAX = 16 << 20
"""bytes of one file."""
_FILES = b"files"
_NUMBER = 2
"""The column of the uid, or the gid."""


class ForeignAccounts(Exception):  # noqa: N818 - an answer, never shown as an error
    """The answer may come from elsewhere; the text says for whom."""


class AccountFiles:
    """The accounts of this machine as far as files tell them; read when first asked for."""

    __slots__ = ("_lines", "_services")

    def __init__(self) -> None:
        self._services: dict[bytes, list[bytes]] | None = None
        self._lines: dict[str, list[list[bytes]]] = {}

    def uid(self, name: str) -> int | None:
        """Return a user's number, None for nobody. Raises ForeignAccounts."""
        return self._agreed(
            self._settled(b"passwd", PASSWD, 0, name.encode()),
            lambda: pwd.getpwnam(name).pw_uid, f'the user "{name}"',
        )  # fmt: skip

    def gid(self, name: str) -> int | None:
        """Return a group's number, None for none. Raises ForeignAccounts."""
        return self._agreed(
            self._settled(b"group", GROUP, 0, name.encode()),
            lambda: grp.getgrnam(name).gr_gid, f'the group "{name}"',
        )  # fmt: skip

    def _agreed(
        self, line: list[bytes] | None, ask: Callable[[], int], whom: str
    ) -> int | None:
        """Return what the C library answers, where the file's line says the same."""
        try:
            found = ask()
        except KeyError:
            found = None
        if line is None or found != _number(line):
            raise ForeignAccounts(whom)
        return found

    def holds_uid(self, uid: int) -> bool:
        """Tell whether the files settle what account a number is."""
        line = self._settled(b"passwd", PASSWD, 2, b"%d" % uid)
        try:
            found = pwd.getpwuid(uid)
        except KeyError:
            return line == []
        said = (found.pw_name, found.pw_dir, found.pw_shell)
        return line is not None and [*line[:1], *line[5:7]] == [os.fsencode(one) for one in said]

    def _settled(
        self, database: bytes, path: str, column: int, value: bytes
    ) -> list[bytes] | None:
        """Return the file's line, an empty one for none; None where others may know better."""
        services = self._asked(database)
        if services[0] != _FILES:
            return None
        if path not in self._lines:
            content = read_file(path, FILES_MAX)
            self._lines[path] = [line.split(b":") for line in content.split(b"\n")]
        for line in self._lines[path]:
            if len(line) > _NUMBER and line[column] == value:
                return line
        return [] if services == [_FILES] else None

    def _asked(self, database: bytes) -> list[bytes]:
        """Return the services of a database in order; without a line it is the files."""
        if self._services is None:
            self._services = {}
            try:
                text = read_file(SWITCH)
            except OSError:
                text = b""
            for line in text.split(b"\n"):
                name, colon, rest = line.partition(b"#")[0].partition(b":")
                if colon:
                    self._services[name.strip()] = rest.split()
        return self._services.get(database) or [_FILES]


def _number(line: list[bytes]) -> int | None:
    """Return a line's number; -1, which nobody has, where it is none."""
    if not line:
        return None
    return int(line[_NUMBER]) if line[_NUMBER].isdigit() else -1
