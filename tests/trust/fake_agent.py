"""An ssh-agent of a few lines, which tests can make misbehave."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from certexec.trust import agent as protocol
from certexec.trust.agent import SSH_ED25519, SSH_P256, ssh_blob
from certexec.trust.private_keys import SigningKey


def string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def mpint(number: bytes) -> bytes:
    stripped = number.lstrip(b"\0")
    return string(b"\0" + stripped if stripped[:1] >= b"\x80" else stripped)


def signature_blob(key: SigningKey, message: bytes) -> bytes:
    raw = key.sign(message)
    if key.public.kind == "ed25519":
        return string(SSH_ED25519) + string(raw)
    return string(SSH_P256) + string(mpint(raw[:32]) + mpint(raw[32:]))


class FakeAgent:
    """Answers as an agent would; ``twist`` changes the content of each answer, length excluded.

    ``raw`` replaces the whole answer, length included; ``silent`` never answers.
    """

    def __init__(self, path: Path, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self.others: list[bytes] = []
        self.comment = b"a comment"
        self.twist: Callable[[bytes], bytes] = lambda answer: answer
        self.raw: bytes | None = None
        self.silent = threading.Event()
        self.requests: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.silent.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def answer(self, request: bytes) -> bytes:
        if request[0] == protocol.REQUEST_IDENTITIES:
            blobs = [ssh_blob(key.public) or b"" for key in self.keys] + self.others
            listed = b"".join(string(blob) + string(self.comment) for blob in blobs)
            count = struct.pack(">I", len(blobs))
            return bytes((protocol.IDENTITIES_ANSWER,)) + count + listed
        length = int.from_bytes(request[1:5], "big")
        blob, rest = request[5 : 5 + length], request[5 + length :]
        length = int.from_bytes(rest[:4], "big")
        message = rest[4 : 4 + length]
        assert rest[4 + length :] == bytes(4), "no flags"
        for key in self.keys:
            if ssh_blob(key.public) == blob:
                return bytes((protocol.SIGN_RESPONSE,)) + string(signature_blob(key, message))
        return b"\x05"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                head = connection.recv(4, socket.MSG_WAITALL)
                request = connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
                if not request:
                    continue
                self.requests.append(request)
                whole = self.raw
                if whole is None:
                    whole = string(self.twist(self.answer(request)))
                try:
                    connection.sendall(whole)
                    if whole == b"":
                        self.silent.wait(30)
                except OSError:
                    continue


@contextmanager
def fake_agent(path: Path, *keys: SigningKey) -> Iterator[FakeAgent]:
    made = FakeAgent(path, *keys)
    try:
        yield made
    finally:
        made.stop()
