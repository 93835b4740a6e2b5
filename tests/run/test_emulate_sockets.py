"""A caller has its answer when nobody else has its socket any more."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.kernel.notify import Notification
from certexec.run.call import Call
from certexec.run.emulate_sockets import Bind, Connect
from certexec.run.resolve import Resolver

CALLS: dict[str, tuple[int, Any]] = {"connect": (42, Connect), "bind": (49, Bind)}


def holders(of: socket.socket) -> int:
    """Count the descriptors of this process, who is caller and supervisor, for one socket."""
    own = os.readlink(f"/proc/self/fd/{of.fileno()}")
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{number}") == own
        except OSError:
            continue  # the directory's own
    return found


@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.parametrize("works", [True, False])
def test_the_copy_of_a_socket_is_closed_before_the_answer(name: str, works: bool) -> None:
    number, operation = CALLS[name]
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as one:
        port = listener.getsockname()[1]  # is in use
        if name == "bind" and works:
            port = 0
        if name == "connect" and not works:
            one.bind(("127.0.0.1", 0))
            one.listen()  # who listens cannot connect
        host = socket.inet_aton("127.0.0.1")
        packed = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + host
        address = ctypes.create_string_buffer(packed, 16)
        said: list[int] = []

        def answer(cookie: int, value: int = 0, error: int = 0) -> bool:
            said.extend((error, holders(one)))
            return True

        waiting: Any = SimpleNamespace(is_valid=lambda cookie: True, answer=answer)
        registers = (one.fileno(), ctypes.addressof(address), 16, 0, 0, 0)
        call = Call(waiting, Notification(1, os.getpid(), number, 0, registers), name)
        made = operation(call, Resolver(os.getpid()))
        assert holders(one) == 2
        try:
            made.perform()
        except OSError as error:
            call.fail(error.errno or errno.EIO)
        assert (said[0] == 0, said[1]) == (works, 1)
        made.close()
