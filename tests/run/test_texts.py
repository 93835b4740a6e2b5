"""The texts that policies are written against."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from certexec.policy.translators import oflags_text
from certexec.run.emulate_sockets import sockaddr_text


def inet(host: str, port: int) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(host)


def inet6(host: str, port: int) -> bytes:
    head = struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", port, 0)
    return head + socket.inet_pton(socket.AF_INET6, host) + bytes(4)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (inet("1.2.3.4", 53) + bytes(8), "inet-[1.2.3.4]:53"),
        (inet6("::1", 80), "inet-[::1]:80"),
        (struct.pack("=H", socket.AF_UNIX) + b"/dev/log\0", "/dev/log"),
        (struct.pack("=H", socket.AF_UNIX) + b"/dev/log", "/dev/log"),
        (struct.pack("=H", socket.AF_UNIX) + b"\0abstract", "@abstract"),
        (struct.pack("=H", socket.AF_UNIX), ""),
        (struct.pack("=H", 16) + bytes(10), "family(16)"),
        (struct.pack("=H", socket.AF_INET) + b"\0", "<unknown>"),
        (b"\2", "<unknown>"),
        (b"", "<unknown>"),
    ],
)
def test_addresses_read_as_in_systrace(address: bytes, text: str) -> None:
    assert sockaddr_text(address) == text


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (os.O_RDONLY, "ro"),
        (os.O_WRONLY | os.O_CREAT, "woc"),
        (os.O_RDWR | os.O_CREAT | os.O_TRUNC, "rwct"),
        (os.O_RDONLY | os.O_NONBLOCK | os.O_APPEND, "rona"),
        (os.O_ACCMODE, "--"),
    ],
)
def test_open_flags_read_as_in_systrace(flags: int, text: str) -> None:
    assert oflags_text(flags) == text
