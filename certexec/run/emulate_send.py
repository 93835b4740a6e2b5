"""sendto, sendmsg and sendmmsg: through a copy of the caller's socket, to the copied address.

Headers, addresses and control messages are copied once, before anything is judged. A call is
permitted when every address in it is: then it is made message by message, as the kernel would, so
that a failure after the first ends the call with what was sent. First it is tried without waiting;
what would wait, and what is long, goes on in a thread of its own.

sendto with a null pointer for its address has none, whatever memory says: that is left to the
kernel, unless a rule lends it other rights.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from certexec.kernel.libc import syscall
from certexec.run.call import Call, Fault
from certexec.run.control import (
    AF_NETLINK,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_ADMIN,
    Control,
    pack,
)
from certexec.run.emulate_sockets import (
    ADDRESS_MAX,
    AF_UNIX,
    SO_DOMAIN,
    SO_PROTOCOL,
    SO_SNDTIMEO,
    SO_TYPE,
    UNIX_MAX,
    copy_descriptor,
    is_meant,
    link_address,
    sockaddr_text,
    socket_option,
    taken_family,
    unix_path,
)
from certexec.run.operations import MustWait, Operation
from certexec.run.payload import PIECES_MAX, Copy, Payload, copy_pieces
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver

_SENDTO = 44
_SENDMSG = 46
_RT_SIGPROCMASK = 14
_RT_SIGTIMEDWAIT = 128
_TGKILL = 234
_SIGPIPE = 13
_SIGPIPE_SET = struct.pack("=Q", 1 << (_SIGPIPE - 1))
_SIG_BLOCK, _SIG_UNBLOCK = 0, 1
_NO_TIME = bytes(16)
_SOCK_STREAM = 1
_SCTP = 132
"""IPPROTO_SCTP: its streams are of messages."""
_MSG_OOB, _MSG_DONTWAIT, _MSG_EOR, _MSG_NOSIGNAL = 0x1, 0x40, 0x80, 0x4000
_MSG_BATCH, _MSG_ZEROCOPY, _MSG_FASTOPEN = 0x40000, 0x4000000, 0x20000000
_MSG_CMSG_COMPAT = 0x80000000
_HEADER = struct.Struct("=Qi4xQQQQi4x")
"""struct msghdr: name and its size, pieces and how many, control and its size, flags."""
_MMSG = 64
"""bytes of struct mmsghdr: a header, and how much of it was sent."""
_WORD = 0xFFFFFFFF
_CHUNK = 1 << 20
"""bytes of a stream that are sent at a time, and of any messages before others have their turn."""
_MESSAGE_MAX = 16 << 20
"""bytes of one message that are held at once: far beyond what sockets take in one piece."""
_CONTROL_MAX = 256 << 10
"""bytes of control messages in one call; net.core.optmem_max is half of it at most by default."""
_PATHS_MAX = 64
"""paths in one call that are pinned; the call ends with what was sent before further ones."""
_NAMELESS = "<unknown>"
"""systrace's text for a message that names no address."""


class Message:
    """One message: where to, what, and how much of it was sent.

    Attributes:
        address: None for none; text: as policies see it; found: what its path leads to.
        payload; control: what else goes with it; flags: those of sendmmsg's own header.
    """

    __slots__ = ("address", "control", "flags", "found", "payload", "sent", "text")

    def __init__(self, address: bytes | None, payload: Payload, control: bytes, flags: int) -> None:
        self.address, self.payload, self.control, self.flags = address, payload, control, flags
        self.text = _NAMELESS
        self.found: Resolved | None = None
        self.sent = 0


class Send(Operation):
    """The three calls: sendto and sendmsg are about one message."""

    def __init__(self, call: Call, resolver: Resolver) -> None:
        super().__init__(call)
        self.messages: list[Message] = []
        self.done = self.spent = self.controlled = 0
        self.fd = -1
        self.paths: dict[bytes, Resolved] = {}
        self.flags = call.int_arg(2 if call.name == "sendmsg" else 3) & _WORD
        if self.flags & _MSG_CMSG_COMPAT and call.name != "sendto" and not call.foreign:
            raise Fault(errno.EINVAL)
        self.header, self.stride = _HEADER, _MMSG
        if call.foreign:
            from certexec.run.foreign_layout import HEADER, MMSG_SIZE

            self.header, self.stride = HEADER, MMSG_SIZE
        self.flags &= ~_MSG_CMSG_COMPAT
        if self.variant == "connected":
            return
        try:
            if call.name == "sendto":
                self._take_sendto()
                self.messages[0].address = self._address()
            else:
                self._take_socket()
                self._copy_messages()
            self._look_up(resolver)
        except BaseException:
            self.close()
            raise
        texts = list(dict.fromkeys(message.text for message in self.messages)) or [_NAMELESS]
        self.values = {"sockaddr": [texts[0]]}
        self.also = [{"sockaddr": [text]} for text in texts[1:]]

    def _take_sendto(self) -> None:
        payload = Payload(self.call, [(self.call.arg(1), self.call.arg(2))])
        self._take_socket()
        self.messages.append(Message(None, payload, b"", 0))

    def _take_socket(self) -> None:
        self.fd = copy_descriptor(self.call, self.call.int_arg(0))
        try:
            self.domain = socket_option(self.fd, SO_DOMAIN)
            kind, protocol = socket_option(self.fd, SO_TYPE), socket_option(self.fd, SO_PROTOCOL)
        except OSError as error:
            raise Fault(error.errno or errno.ENOTSOCK) from None
        self.streams = kind == _SOCK_STREAM and protocol != _SCTP
        self.waits = os.get_blocking(self.fd) and not self.flags & _MSG_DONTWAIT

    # -- what is copied -----------------------------------------------------------------------

    def _address(self) -> bytes:
        length = self.call.int_arg(5)
        if not 0 <= length <= ADDRESS_MAX:
            raise Fault(errno.EINVAL)
        return self.call.block(4, length) if length else b""

    def _copy_messages(self) -> None:
        """Copy the headers; what is wrong with a later one of sendmmsg ends the list before it."""
        count = min(self.call.arg(2) & _WORD, PIECES_MAX) if self.call.name == "sendmmsg" else 1
        for index in range(count):
            try:
                self.messages.append(self._message(self.call.arg(1) + index * self.stride))
            except Fault:
                if not index:
                    raise
                return

    def _message(self, at: int) -> Message:
        """Copy one header and what it points to, in the kernel's order (copy_msghdr_from_user)."""
        name, length, vector, count, control, room, flags = self.header.unpack(
            self._copy(at, self.header.size)
        )
        address = None
        if name and length:
            if length < 0:
                raise Fault(errno.EINVAL)
            address = self._copy(name, min(length, ADDRESS_MAX))
        payload = copy_pieces(self.call, vector, count)
        self.controlled += room
        if self.controlled > _CONTROL_MAX:
            raise Fault(errno.ENOBUFS)
        copied = self._copy(control, room) if room else b""
        if self.call.foreign and copied:
            from certexec.run.foreign_layout import control_items

            copied = pack(control_items(copied), b"")
        batched = flags & _MSG_EOR if self.call.name == "sendmmsg" else 0
        return Message(address, payload, copied, batched)

    def _copy(self, address: int, size: int) -> bytes:
        try:
            return self.call.memory.read(address, size)
        except OSError:
            raise Fault(errno.EFAULT) from None

    def _look_up(self, resolver: Resolver) -> None:
        """Say what each address reads as; pin what the path of a UNIX socket leads to."""
        for index, message in enumerate(self.messages):
            if message.address is None:
                continue
            family = taken_family(self.call.name, self.fd, message.address)
            message.text = sockaddr_text(message.address, family)
            path = unix_path(message.address)
            if not path or self.domain != AF_UNIX or len(message.address) > UNIX_MAX:
                continue  # to the kernel it is no path: it says what it is
            found = self.paths.get(message.address)
            if found is None:
                if len(self.paths) == _PATHS_MAX:
                    del self.messages[index:]
                    return
                found = resolver.object(self.call.task, AT_FDCWD, path, True)
                self.paths[message.address] = found
            message.found = found
            if not is_meant(path, found):
                message.text = found.text

    # -- what is done -------------------------------------------------------------------------

    def perform(self) -> None:
        """Send, and say how much: bytes, or for sendmmsg messages.

        Our copy of the socket is closed before the answer: the caller may close its own at once,
        and the other end waits for that.
        """
        if self.variant == "connected" and not self.messages:
            if not self.elevated and not self.call.copied:
                self.call.resume()  # judged by registers alone
                return
            self._take_sendto()
        try:
            sent = self._send_all()
        except MustWait:
            raise
        except BaseException:
            self.close()
            raise
        self.close()
        self.call.finish(sent)

    def _send_all(self) -> int:
        several = self.call.name == "sendmmsg"
        for index in range(self.done, len(self.messages)):
            message = self.messages[index]
            if self.spent >= _CHUNK and not self.patient:
                raise MustWait
            last = index == len(self.messages) - 1
            try:
                self._send(message, 0 if last else _MSG_BATCH)
                if several:
                    self._tell(index, message.sent)
            except (OSError, Fault) as error:
                if index:
                    break
                if isinstance(error, InterruptedError) and self._has_a_limit():
                    raise Fault(errno.EINTR) from None  # such a call is not made again
                raise
            self.done += 1
            if message.sent < message.payload.size:
                break
        return self.done if several else self.messages[0].sent

    def _tell(self, index: int, sent: int) -> None:
        address = self.call.arg(1) + index * self.stride + self.header.size
        self.call.still_waits()
        try:
            self.call.task.touch(self.call.memory.write, address, struct.pack("=I", sent))
        except OSError:
            raise Fault(errno.EFAULT) from None

    def _has_a_limit(self) -> bool:
        return socket_option(self.fd, SO_SNDTIMEO, 16) != 0

    def _send(self, message: Message, extra: int) -> None:
        """Send one message, a stream piece by piece; adds up ``message.sent``."""
        whole = self.flags & (_MSG_ZEROCOPY | _MSG_FASTOPEN)
        if whole and self.waits and not self.patient:
            raise MustWait  # what such a call says when it must not wait is something else
        while True:
            left = message.payload.size - message.sent
            size = min(left, _CHUNK) if self.streams and not whole else left
            flags = self.flags | message.flags | extra
            if message.sent:
                flags = flags & ~_MSG_FASTOPEN | _MSG_NOSIGNAL
            if size < left:
                flags &= ~(_MSG_OOB | _MSG_EOR)  # they are about the last byte
            if not self.patient:
                flags |= _MSG_DONTWAIT
            try:
                done = self._send_part(message, size, flags)
            except OSError as error:
                impatient = error.errno in (errno.EAGAIN, errno.EINPROGRESS)
                if impatient and self.waits and not self.patient:
                    raise MustWait from None
                if message.sent:
                    return
                raise
            message.sent += done
            self.spent += done
            if message.sent >= message.payload.size or not self.streams or whole:
                return
            if done < size and (self.patient or not self.waits):
                return
            if not self.patient:
                raise MustWait

    def _send_part(self, message: Message, size: int, flags: int) -> int:
        data = message.payload.read(message.sent, min(size, _MESSAGE_MAX))
        control = Control(self.call, self.domain, message.control, rights=not message.sent)
        try:
            copy = Copy(data, size - len(data), bool(flags & _MSG_ZEROCOPY))
            try:
                return self._as_caller(message, copy, control, flags)
            finally:
                copy.close()
        finally:
            control.close()

    def _as_caller(self, message: Message, copy: Copy, control: Control, flags: int) -> int:
        """Send so that who receives it is told of the caller, as far as the kernel lets us.

        Our real ids are not the caller's, and are what the kernel would tell. To name the caller's
        process, too, takes CAP_SYS_ADMIN, which nothing else on the way through a UNIX socket asks
        for but the limit of descriptors under way.
        """
        mask, status = self.call.task.mask, self.call.status
        ids = status.uids[0], status.gids[0]
        if self.domain not in (AF_UNIX, AF_NETLINK) or mask is None:
            return self._transmit(message, copy, control.packed(None), flags)
        may_name = mask.may_raise(CAP_SYS_ADMIN | CAP_SETUID | CAP_SETGID)
        if self.domain == AF_UNIX and may_name and not control.fds:
            told = control.packed((self.call.task.tgid, *ids))
            try:
                return mask.raised(
                    CAP_SYS_ADMIN | CAP_SETUID | CAP_SETGID,
                    self._transmit, message, copy, told, flags,
                )  # fmt: skip
            except PermissionError:
                pass  # our own user namespace may not own our PID namespace
        ours = ids == (os.getuid(), os.getgid())
        told = control.packed(None if ours and not control.named else (os.getpid(), *ids))
        return mask.raised(
            CAP_SETUID | CAP_SETGID, self._transmit, message, copy, told, flags
        )

    def _transmit(self, message: Message, copy: Copy, control: bytes, flags: int) -> int:
        """Make the call; a SIGPIPE that comes of it goes to the caller."""
        address = message.address
        if message.found is not None:
            address = link_address(message.found)  # of descriptor -1 where there is none: ENOENT
        name = ctypes.create_string_buffer(address or b"", len(address or b"") or 1)
        vector = ctypes.create_string_buffer(copy.vector, len(copy.vector) or 1)
        told = ctypes.create_string_buffer(control, len(control) or 1)
        header = _HEADER.pack(
            ctypes.addressof(name) if address else 0, len(address or b""),
            ctypes.addressof(vector), copy.count,
            ctypes.addressof(told) if control else 0, len(control), 0,
        )  # fmt: skip
        quiet = flags & _MSG_NOSIGNAL
        if not quiet:
            syscall(_RT_SIGPROCMASK, _SIG_BLOCK, _SIGPIPE_SET, None, len(_SIGPIPE_SET))
        try:
            if address == b"":  # of no length, but not none: a header cannot say that
                start, size = struct.unpack_from("=QQ", copy.vector) if copy.count else (0, 0)
                return syscall(_SENDTO, self.fd, start, size, flags, name, 0)
            return syscall(_SENDMSG, self.fd, header, flags)
        except BrokenPipeError:
            if not quiet and _take_sigpipe():
                self._signal_caller()
            raise
        except FileNotFoundError:
            if message.found is not None and message.found.error:
                raise OSError(message.found.error, "missing") from None
            raise
        finally:
            if not quiet:
                syscall(_RT_SIGPROCMASK, _SIG_UNBLOCK, _SIGPIPE_SET, None, len(_SIGPIPE_SET))

    def _signal_caller(self) -> None:
        task = self.call.task
        self.call.still_waits()
        try:
            task.touch(syscall, _TGKILL, task.tgid, task.tid, _SIGPIPE)
        except OSError:
            return  # it has just died

    def close(self) -> None:
        """Give the copy of the socket back, and what was pinned."""
        for found in self.paths.values():
            found.close()
        self.paths = {}
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _take_sigpipe() -> bool:
    """Take back the SIGPIPE that waits for this thread; tell whether there was one."""
    try:
        syscall(_RT_SIGTIMEDWAIT, _SIGPIPE_SET, None, _NO_TIME, len(_SIGPIPE_SET))
    except OSError:
        return False
    return True
