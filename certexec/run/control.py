"""Control messages (cmsg(3)): copied once, with what they say about the sender made true again.

Two kinds are about whoever makes the call, and here that is the supervisor. Descriptors
(SCM_RIGHTS) are numbers of the caller's: each is copied, and the copy's number put in its place; a
number that was not copied is never passed on, it would be one of our own. Credentials
(SCM_CREDENTIALS, unix(7)) are checked as the kernel would check the caller, for our real ids are
not the program's; without any the kernel would take ours, so the caller's are put in.

Routes and further addresses are refused: who sends them is judged by one address, and the packets
would go elsewhere.
"""

from __future__ import annotations

import errno
import os
import struct

from certexec.kernel.procfs import proc, read_file
from certexec.run.call import Call, Fault
from certexec.run.emulate_sockets import AF_INET, AF_INET6, AF_UNIX, copy_descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

AF_NETLINK = 16
_HEADER = struct.Struct("=Qii")
"""struct cmsghdr: length with this header, level, type."""
_SOL_SOCKET = 1
_SCM_RIGHTS, _SCM_CREDENTIALS = 1, 2
_NUMBER = struct.Struct("=i")
_UCRED = struct.Struct("=iII")
_NOBODY = 0xFFFFFFFF
_RIGHTS_MAX = 253
"""descriptors in one message (SCM_MAX_FD)."""
CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN = 1 << 6, 1 << 7, 1 << 21
_ELSEWHERE = frozenset(((0, 7), (41, 57), (41, 5), (132, 7), (132, 8)))
"""(level, type) of IP_RETOPTS, IPV6_RTHDR, IPV6_2292RTHDR, SCTP_DSTADDRV4 and SCTP_DSTADDRV6."""


def parse(data: bytes) -> tuple[list[tuple[int, int, bytes]], bytes]:
    """Return (level, type, data) of each control message, as the kernel walks along them.

    The second value is the header at which it would stop with EINVAL, empty where all is well.
    """
    items: list[tuple[int, int, bytes]] = []
    at = 0
    while len(data) - at >= _HEADER.size:
        length, level, kind = _HEADER.unpack_from(data, at)
        if not _HEADER.size <= length <= len(data) - at:
            return items, data[at : at + _HEADER.size]
        items.append((level, kind, data[at + _HEADER.size : at + length]))
        at += length + -length % 8
    return items, b""


def pack(items: Sequence[tuple[int, int, bytes]], rest: bytes) -> bytes:
    """Return the control messages as one buffer; ``rest``: the second value of ``parse``."""
    packed = [
        _HEADER.pack(_HEADER.size + len(data), level, kind) + data + bytes(-len(data) % 8)
        for level, kind, data in items
    ]
    return b"".join(packed) + rest


class Control:
    """The control messages of one message, to be sent through a socket of family ``domain``.

    Attributes:
        fds: our copies of the descriptors that go with it; ``close`` gives them back.
        named: it says itself who sends it.
    """

    __slots__ = ("_call", "_domain", "_items", "_rest", "fds", "named")

    def __init__(self, call: Call, domain: int, data: bytes, rights: bool = True) -> None:
        """Copy and check; raises Fault (EBADF, EINVAL, EPERM) as the kernel would.

        ``rights``: False leaves descriptors out: they went with what was sent before.
        """
        self._call, self._domain = call, domain
        self.fds: list[int] = []
        self.named = False
        items, self._rest = parse(data)
        if not rights:
            items = [item for item in items if item[:2] != (_SOL_SOCKET, _SCM_RIGHTS)]
        self._items: list[tuple[int, int, bytes]] = []
        try:
            for item in items:
                self._items.append(self._own(*item))
        except BaseException:
            self.close()
            raise

    def _own(self, level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
        if self._domain in (AF_INET, AF_INET6) and (level, kind) in _ELSEWHERE:
            raise Fault(errno.EPERM)
        if (level, kind) == (_SOL_SOCKET, _SCM_RIGHTS):
            return level, kind, self._copy_rights(data)
        credentials = (level, kind) == (_SOL_SOCKET, _SCM_CREDENTIALS)
        if credentials and len(data) == _UCRED.size and self._domain in (AF_UNIX, AF_NETLINK):
            self.named = True
            return level, kind, checked_credentials(self._call, data)
        return level, kind, data

    def _copy_rights(self, data: bytes) -> bytes:
        numbers = [number for (number,) in _NUMBER.iter_unpack(data[: len(data) & ~3])]
        if self._domain != AF_UNIX:
            return _NUMBER.pack(-1) * len(numbers)  # the kernel ignores or refuses them
        if len(self.fds) + len(numbers) > _RIGHTS_MAX:
            raise Fault(errno.EINVAL)
        copies = []
        for number in numbers:
            copies.append(copy_descriptor(self._call, number))
            self.fds.append(copies[-1])
        return b"".join(map(_NUMBER.pack, copies))

    def packed(self, sender: tuple[int, int, int] | None) -> bytes:
        """Return the buffer to send.

        ``sender``: (pid, uid, gid) to put in where nothing is said, and whose pid stands for the
        caller's own.
        """
        items = []
        for level, kind, data in self._items:
            if (level, kind) == (_SOL_SOCKET, _SCM_CREDENTIALS) and len(data) == _UCRED.size:
                pid, uid, gid = _UCRED.unpack(data)
                if sender is not None and pid == self._call.task.tgid:
                    data = _UCRED.pack(sender[0], uid, gid)
            items.append((level, kind, data))
        if sender is not None and not self.named:
            items.insert(0, (_SOL_SOCKET, _SCM_CREDENTIALS, _UCRED.pack(*sender)))
        return pack(items, self._rest)

    def close(self) -> None:
        """Give the copied descriptors back."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def checked_credentials(call: Call, data: bytes) -> bytes:
    """Check a struct ucred as the kernel does (scm_check_creds), for the caller; raises Fault.

    The caller's own number is returned as we know it: it may be in another PID namespace.
    """
    pid, uid, gid = _UCRED.unpack(data)
    if _NOBODY in (uid, gid):
        raise Fault(errno.EINVAL)
    status = call.status
    may = status.caps["eff"]
    if not (uid in status.uids[:3] or may & CAP_SETUID):
        raise Fault(errno.EPERM)
    if not (gid in status.gids[:3] or may & CAP_SETGID):
        raise Fault(errno.EPERM)
    numbers = _own_numbers(call)
    if pid == numbers[-1]:
        return _UCRED.pack(call.task.tgid, uid, gid)
    if not may & CAP_SYS_ADMIN or len(numbers) > 1 or pid == os.getpid():
        raise Fault(errno.EPERM)  # other numbers of its namespace mean nothing here
    return data


def _own_numbers(call: Call) -> list[int]:
    """Return the numbers of the caller's process in our PID namespace, and in each below it."""
    for line in read_file(proc(call.task.tid, "status")).split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"NStgid":
            call.still_waits()
            return [int(word) for word in value.split()]
    return [call.task.tgid]
