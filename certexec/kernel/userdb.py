"""The users and groups of this machine, through passwd, group and whatever nsswitch.conf adds."""

from __future__ import annotations

import grp
import pwd

UNKNOWN_HOME = "/var/empty"
"""The home of a uid that nobody has, as in systrace."""


class SystemUsers:
    """Names to numbers and back; an unknown one is None, never an error."""

    __slots__ = ()

    def uid(self, name: str) -> int | None:
        """Return the number of a user (getpwnam(3))."""
        try:
            return pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError, OSError):  # unknown, not a possible name, look-up failed
            return None

    def gid(self, name: str) -> int | None:
        """Return the number of a group (getgrnam(3))."""
        try:
            return grp.getgrnam(name).gr_gid
        except (KeyError, ValueError, OSError):
            return None

    def name(self, uid: int) -> str | None:
        """Return the name of a user (getpwuid(3))."""
        try:
            return pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError, OSError):
            return None

    def group_name(self, gid: int) -> str | None:
        """Return the name of a group (getgrgid(3))."""
        try:
            return grp.getgrgid(gid).gr_name
        except (KeyError, OverflowError, OSError):
            return None

    def home(self, uid: int) -> str | None:
        """Return the home directory of a user (getpwuid(3))."""
        try:
            return pwd.getpwuid(uid).pw_dir
        except (KeyError, OverflowError, OSError):
            return None
