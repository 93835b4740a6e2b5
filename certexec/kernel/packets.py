"""The first look at a packet of a stranger's: what it says and who sent it, by the kernel's word.

It stays where it is, and no descriptor that came with it is taken, where SO_PASSCRED is set: what
tells who sent it takes all the room.

Sources: recvmsg(2), unix(7), cmsg(3).
"""

from __future__ import annotations

import _socket

from certexec.kernel.doors import compiled

PEEK_MAX = 64
"""bytes that are looked at; flags tell of more."""
CREDENTIALS = 12
"""bytes of a struct ucred: pid, uid, gid."""


def _peek(fd: int) -> tuple[bytes, bytes, int] | None:
    """Return a packet's first bytes, its sender's struct ucred (b"" for none) and the flags.

    None while there is none. MSG_CTRUNC tells of a descriptor. Raises OSError.
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=fd)
    try:
        data, ancillary, flags, _ = connection.recvmsg(
            PEEK_MAX, _socket.CMSG_SPACE(CREDENTIALS), _socket.MSG_PEEK | _socket.MSG_DONTWAIT
        )
    except BlockingIOError:
        return None
    finally:
        connection.detach()
    sender = b""
    for level, kind, content in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_CREDENTIALS:
            sender = content
    return data, sender, flags


if compiled is not None:
    _peek = compiled.peek
peek = _peek
