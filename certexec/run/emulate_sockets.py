"""connect and bind, carried out on a copy of the caller's socket with the copied address."""

from __future__ import annotations

import _socket
import ctypes
import errno
import os
import struct

from certexec.kernel.libc import syscall
from certexec.kernel.procfs import go_home, own_fd
from certexec.run.call import Call, Fault
from certexec.run.operations import Operation
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver
from certexec.run.trusted_links import leads_by_roots_links

_CONNECT = 42
_BIND = 49
_GETSOCKOPT = 55
_SOL_SOCKET = 1
_SOCK_DGRAM = 2
SO_TYPE, SO_SNDTIMEO, SO_PROTOCOL, SO_DOMAIN = 3, 21, 38, 39
_KCMP = 312
_KCMP_FILES = 2
_PIDFD_OPEN = 434
_PIDFD_GETFD = 438
_PIDFD_THREAD = os.O_EXCL
ADDRESS_MAX = 128
"""bytes of struct sockaddr_storage; the kernel refuses more (EINVAL)."""
UNIX_MAX = 110
"""bytes of struct sockaddr_un."""
_V4_MAPPED = bytes(10) + b"\xff\xff"
"""Before an IPv4 address in an IPv6 one (RFC 4291 2.5.5.2)."""
_ODD = frozenset((b"", b".", b".."))
AF_UNSPEC = 0
AF_UNIX = 1
AF_INET = 2
AF_INET6 = 10
_UNCHECKED = (17, 36)
"""AF_PACKET, AF_IEEE802154: whatever family their addresses say, they are taken for this one."""
_UDP = (17, 136)
"""IPPROTO_UDP, IPPROTO_UDPLITE"""
_FAMILY = struct.Struct("=H")
_PORT = struct.Struct(">H")


def sockaddr_text(address: bytes, family: int | None = None) -> str:
    """Return systrace's text for a socket address; ``family``: in place of the one that it says.

    ``inet-[ADDR]:PORT`` for IPv4 and IPv6, numeric, an IPv4 address in an IPv6 one (::ffff:a.b.c.d)
    as the IPv4 address that it means; the raw path of a UNIX socket ("@NAME" for an
    abstract one, "" for none); ``family(N)`` for others; ``<unknown>`` for one that is too short.
    """
    if len(address) < _FAMILY.size:
        return "<unknown>"
    if family is None:
        (family,) = _FAMILY.unpack_from(address)
    if family == AF_UNIX:
        path = address[_FAMILY.size :]
        if path.startswith(b"\0"):
            return "@" + os.fsdecode(path[1:]) if path.strip(b"\0") else ""
        return os.fsdecode(path.partition(b"\0")[0])
    if family == AF_INET and len(address) >= 8:
        host = _socket.inet_ntop(AF_INET, address[4:8])
    elif family == AF_INET6 and len(address) >= 24:
        host = _socket.inet_ntop(AF_INET6, address[8:24])
        if address[8:20] == _V4_MAPPED:
            host = _socket.inet_ntop(AF_INET, address[20:24])  # that is where the packets go
    elif family in (AF_INET, AF_INET6):
        return "<unknown>"
    else:
        return f"family({family})"
    (port,) = _PORT.unpack_from(address, 2)
    return f"inet-[{host}]:{port}"


def socket_option(fd: int, option: int, size: int = 4) -> int:
    """Return an option of a socket as a number; raises OSError (ENOTSOCK)."""
    value = ctypes.create_string_buffer(size)
    syscall(_GETSOCKOPT, fd, _SOL_SOCKET, option, value, struct.pack("=i", size))
    return int.from_bytes(value.raw, "little")


def taken_family(name: str, fd: int, address: bytes) -> int | None:
    """Return as which family's address the kernel takes this one in a call; None: as it says.

    An address of AF_UNSPEC is one of the socket's family for bind (inet_bind) and for sending
    (udp_sendmsg, raw_sendmsg, rawv6_sendmsg); for connect it means none at all.
    """
    try:
        domain = socket_option(fd, SO_DOMAIN)
        if domain in _UNCHECKED:
            return domain
        if len(address) < _FAMILY.size or _FAMILY.unpack_from(address)[0] != AF_UNSPEC:
            return None
        if name != "connect" and domain == AF_INET:
            return AF_INET
        if name not in ("connect", "bind") and domain == AF_INET6:
            # a datagram goes to the socket's peer, what is raw goes to that address
            datagrams = socket_option(fd, SO_TYPE) == _SOCK_DGRAM
            return None if datagrams and socket_option(fd, SO_PROTOCOL) in _UDP else AF_INET6
    except OSError:
        pass  # no socket: the kernel will say so
    return None


def unix_path(address: bytes) -> bytes:
    """Return the path of a UNIX socket with a name in the file system, else an empty one."""
    if len(address) <= _FAMILY.size or _FAMILY.unpack_from(address)[0] != AF_UNIX:
        return b""
    return address[_FAMILY.size :].partition(b"\0")[0]


def is_meant(path: bytes, found: Resolved) -> bool:
    """Tell whether the path that a caller gave may stand for what it leads to."""
    if not is_plain(path):
        return False
    if found.parent >= 0:
        return leads_by_roots_links(path.rpartition(b"/")[0], found.parent)
    return found.fd < 0 or leads_by_roots_links(path, found.fd)


def link_address(found: Resolved) -> bytes:
    """Return an address that leads to the very inode of a socket that was pinned."""
    return _FAMILY.pack(AF_UNIX) + own_fd(found.fd).encode() + b"\0"


def copy_descriptor(call: Call, number: int) -> int:
    """Copy a descriptor of the calling thread (pidfd_getfd(2)); raises Fault(EBADF)."""
    try:
        try:
            pidfd = syscall(_PIDFD_OPEN, call.task.tid, _PIDFD_THREAD)  # Linux 6.9
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            if call.task.tid != call.task.tgid and call.task.touch(
                syscall, _KCMP, call.task.tid, call.task.tgid, _KCMP_FILES, 0, 0
            ):
                raise OSError(errno.EBADF, "the thread has descriptors of its own") from None
            pidfd = syscall(_PIDFD_OPEN, call.task.tgid, 0)
        try:
            fd = call.task.touch(syscall, _PIDFD_GETFD, pidfd, number, 0)
        finally:
            os.close(pidfd)
    except OSError as error:
        raise Fault(errno.EPERM if error.errno == errno.EPERM else errno.EBADF) from None
    try:
        call.still_waits()
    except BaseException:
        os.close(fd)  # it keeps open what its owner's death should have closed
        raise
    return fd


class SocketCall(Operation):
    """Base of connect and bind: the address is copied once, the socket is a copy of the file.

    The path of a UNIX socket is judged as the bytes that the caller gave, as systrace did, when it
    is absolute and plain and no link on the way could be the program's own; any other as the real
    path of what it leads to.

    The copy is closed before any answer: the caller may close its own at once, and then a peer sees
    the end, and a port is free.
    """

    def __init__(self, call: Call, resolver: Resolver) -> None:
        super().__init__(call)
        length = call.int_arg(2)
        if not 0 <= length <= ADDRESS_MAX:
            raise Fault(errno.EINVAL)
        self.address = call.block(1, length) if length else b""
        if length > UNIX_MAX and _FAMILY.unpack_from(self.address)[0] == AF_UNIX:
            raise Fault(errno.EINVAL)  # we would pass on another, shorter name
        self.resolver = resolver
        self.found: Resolved | None = None
        self.fd = copy_descriptor(call, call.int_arg(0))
        try:
            family = taken_family(call.name, self.fd, self.address)
            text = sockaddr_text(self.address, family)
            if self.path:
                self.found = self.look_up()
                text = text if is_meant(self.path, self.found) else self.found.text
        except BaseException:
            self.close()
            raise
        self.values = {"sockaddr": [text]}

    @property
    def path(self) -> bytes:
        """The path of a UNIX socket with a name in the file system, else an empty one."""
        return unix_path(self.address)

    def look_up(self) -> Resolved:
        """Pin what the path leads to."""
        raise AssertionError(self.call.name)

    def close(self) -> None:
        """Give the copy of the socket back, and what was pinned."""
        if self.found is not None:
            self.found.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def is_plain(path: bytes) -> bool:
    """Tell whether a path is absolute and without empty, "." and ".." components."""
    return path.startswith(b"/") and not _ODD.intersection(path[1:].split(b"/"))


class Connect(SocketCall):
    """connect, to the very inode that the path led to."""

    def look_up(self) -> Resolved:
        """Pin the socket's inode."""
        return self.resolver.object(self.call.task, AT_FDCWD, self.path, True)

    def may_block(self) -> bool:
        """Only a socket that its owner left blocking can wait here."""
        return os.get_blocking(self.fd)

    def perform(self) -> None:
        """Connect the copied socket to the copied address."""
        address = self.address
        try:
            if self.found is not None:
                if self.found.fd < 0:
                    raise OSError(self.found.error or errno.ENOENT, "missing")
                address = link_address(self.found)
            syscall(_CONNECT, self.fd, address, len(address))
        finally:
            self.close()
        self.call.finish(0)


class Bind(SocketCall):
    """bind, in the very directory that the path led to."""

    def look_up(self) -> Resolved:
        """Pin the directory in which the socket will be made."""
        return self.resolver.parent(self.call.task, AT_FDCWD, self.path)

    def perform(self) -> None:
        """Bind the copied socket to the copied address, with the caller's umask."""
        try:
            if self.found is None:
                syscall(_BIND, self.fd, self.address, len(self.address))
            elif self.found.parent < 0:
                raise OSError(self.found.error or errno.ENOENT, "missing")
            else:
                os.umask(self.call.status.umask)
                self._bind_below(self.found.parent, self.found.last)
        finally:
            self.close()
        self.call.finish(0)

    def _bind_below(self, parent: int, last: bytes) -> None:
        """Bind by last component, unless the kernel's own walk can lead nowhere else.

        Then the name is left as it is: the socket's peers see it.
        """
        address = self.address
        if not self._is_fixed(parent):
            address = (_FAMILY.pack(AF_UNIX) + last + b"\0")[:UNIX_MAX]  # its NUL may not fit
        os.fchdir(parent)
        try:
            syscall(_BIND, self.fd, address, len(address))
        finally:
            go_home()  # a directory that we stand in keeps its file system busy

    def _is_fixed(self, parent: int) -> bool:
        """Tell whether the path leads to the judged directory, and nobody in the tree changes that.

        The kernel walks it after we looked.

        1. root in the tree could change every directory on the way;
        2. a directory of the invoker's own may be on the way where the tree can exchange nothing
           but through us, who do one thing after the other;
        3. other users can exchange nothing on the way.
        """
        mask = self.call.task.mask
        # 1.
        if mask is None or not mask.takes_nothing or os.geteuid() == 0 or not is_plain(self.path):
            return False
        # 2.
        owner = 0 if self.resolver.exchanges_unseen() else os.geteuid()
        # 3.
        above = self.path.rpartition(b"/")[0] or b"/"
        return leads_by_roots_links(above, parent, for_good=True, owner=owner)
