"""Names and numbers as /etc/passwd and /etc/group alone say them.

A cached plan may depend on these files, whose change shows, and not on what else nsswitch.conf(5)
would ask: a directory server, a container manager. So a name counts here only if the files are
asked first and have it, or nothing but the files is asked.
"""

from __future__ import annotations

import grp
import pwd

from certexec.kernel.procfs import read_file

PASSWD, GROUP, SWITCH = "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"
FILES_MAX = 16 << 20
"""bytes of one file."""
_FILES = b"files"


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
        if not self._settled(b"passwd", PASSWD, 0, name.encode()):
            raise ForeignAccounts(f'the user "{name}"')
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            return None

    def gid(self, name: str) -> int | None:
        """Return a group's number, None for none. Raises ForeignAccounts."""
        if not self._settled(b"group", GROUP, 0, name.encode()):
            raise ForeignAccounts(f'the group "{name}"')
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return None

    def holds_uid(self, uid: int) -> bool:
        """Tell whether the files settle what account a number is."""
        return self._settled(b"passwd", PASSWD, 2, b"%d" % uid)

    def _settled(self, database: bytes, path: str, column: int, value: bytes) -> bool:
        services = self._asked(database)
        if services[0] != _FILES:
            return False
        if path not in self._lines:
            content = read_file(path, FILES_MAX)
            self._lines[path] = [line.split(b":") for line in content.split(b"\n")]
        there = any(len(line) > column and line[column] == value for line in self._lines[path])
        return there or services == [_FILES]

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
