"""A file's new content in its place: whole or not at all, and only if nobody else wrote it."""

from __future__ import annotations

import os
import stat

from certexec.cli.file_lock import locked
from certexec.errors import CliError, unreadable

KEPT_ATTRIBUTES = ("system.posix_acl_", "user.")
"""What a file's replacement inherits; security labels are the system's to give."""


class ChangedError(CliError):
    """Somebody wrote or replaced the file since it was read."""


class Target:
    """A regular file as it was when it was read: what follows must still find it so."""

    __slots__ = ("info", "path")

    def __init__(self, name: str) -> None:
        """Look; links are followed. Raises CliError: "not-found" or "unreadable"."""
        self.path = os.path.realpath(name)
        try:
            self.info = os.stat(self.path)
        except OSError as error:
            raise unreadable(name, error) from None
        if not stat.S_ISREG(self.info.st_mode):
            raise CliError("unreadable", f'"{name}" is not a regular file')

    def unchanged(self) -> bool:
        """Tell whether nobody wrote or replaced it."""
        now = os.stat(self.path)
        return _identity(now) == _identity(self.info)


def _identity(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def replace(target: Target, content: bytes) -> None:
    """Put new content in the file's place, whole or not at all; mode, owner and ACL stay.

    Raises CliError("unreadable") when it cannot, ChangedError when somebody changed it meanwhile.
    """
    directory, name = os.path.split(target.path)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(content)
                file.flush()
                _keep_attributes(target, fd)
                os.fsync(fd)
            with locked(target.path):
                if not target.unchanged():
                    raise ChangedError(
                        "unreadable", f'"{target.path}" was changed meanwhile', "run it again"
                    )
                os.rename(temporary, target.path)
        except BaseException:
            os.unlink(temporary)
            raise
        above = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(above)
        finally:
            os.close(above)
    except OSError as error:
        raise CliError("unreadable", f'cannot write "{target.path}": {error.strerror}') from None


def _keep_attributes(target: Target, fd: int) -> None:
    """Give the new file the old one's owner, mode, ACL and user attributes."""
    if (target.info.st_uid, target.info.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, target.info.st_uid, target.info.st_gid)
    try:
        attributes = os.listxattr(target.path)
    except OSError:
        attributes = []  # a file system without any
    for attribute in attributes:
        if attribute.startswith(KEPT_ATTRIBUTES):
            os.setxattr(fd, attribute, os.getxattr(target.path, attribute))
    os.fchmod(fd, stat.S_IMODE(target.info.st_mode))
