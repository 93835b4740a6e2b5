"""Keys that an ssh-agent holds: listing them, and signing with one. Never on the run path.

Source: draft-ietf-sshm-ssh-agent (the protocol), RFC 4251 section 5 (strings and mpint), RFC 8709
and RFC 5656 (the form of keys and signatures). The agent is a helper, not an authority: what it
sends is bounded in size and time, and a signature counts only once it fits the public key.
"""

from __future__ import annotations

import socket
import struct
import time

from certexec.errors import TrustError
from certexec.kernel.digest import sha256
from certexec.trust.keys import ED25519, P256, PublicKey, fingerprint_of

REQUEST_IDENTITIES, IDENTITIES_ANSWER = 11, 12
SIGN_REQUEST, SIGN_RESPONSE = 13, 14
FAILURES = (5, 30, 102)
"""SSH_AGENT_FAILURE, and what older agents send in its place."""

MAX_ANSWER = 1 << 18
"""bytes; OpenSSH's own limit for a message (AGENT_MAX_LEN)."""
LIST_SECONDS = 10.0
"""An agent answers at once; a proxy to a far one takes a moment."""
SIGN_SECONDS = 120.0
"""Somebody may have to confirm the signature or to touch a token."""

SSH_ED25519 = b"ssh-ed25519"
SSH_P256 = b"ecdsa-sha2-nistp256"
_CURVE = b"nistp256"
_ED25519_SIGNATURE = 64
_P256_HALF = 32
"""bytes; a signature with P-256 is two numbers of this size (RFC 9053 section 2.1)."""
ADD_HINT = '"certexec key list --agent" shows what it holds, "ssh-add" adds a key'


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


class _Answer:
    """Reads an answer from its start; running over its end is the agent's fault."""

    def __init__(self, content: bytes) -> None:
        self.left = content

    def take(self, count: int) -> bytes:
        if count > len(self.left):
            raise _nonsense("is cut short")
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self.left:
            raise _nonsense("is longer than it says")


def _nonsense(what: str) -> TrustError:
    return TrustError("unreadable", f"the agent's answer {what}")


def _mpint(number: bytes) -> bytes:
    return b"\0" + number if number[0] & 0x80 else number


def ssh_blob(public: PublicKey) -> bytes | None:
    """Return a public key as SSH writes it, None for a kind that SSH does not have."""
    if public.kind == ED25519:
        return _string(SSH_ED25519) + _string(public.raw)
    if public.kind == P256:
        return _string(SSH_P256) + _string(_CURVE) + _string(public.raw)
    return None


def ssh_fingerprint(blob: bytes) -> str:
    """Return what ``ssh-keygen -l`` prints for a key."""
    return fingerprint_of(sha256(blob))


def public_of_blob(blob: bytes, comment: str = "") -> PublicKey:
    """Read a public key as SSH writes it; raises TrustError("bad-key") for another kind of key."""
    try:
        parts = _Answer(blob)
        name = parts.string()
        if name == SSH_ED25519:
            kind, raw = ED25519, parts.string()
        elif name == SSH_P256 and parts.string() == _CURVE:
            kind, raw = P256, parts.string()
        else:
            shown = name.decode("ascii", "backslashreplace")
            raise TrustError("bad-key", f'certificates are not signed with "{shown}" keys')
        parts.end()
    except TrustError as error:
        if error.reason == "bad-key":
            raise
        raise TrustError("bad-key", "the key is damaged") from None
    comment = comment.strip()
    try:
        return PublicKey(kind, raw, comment)
    except TrustError:
        return PublicKey(kind, raw)  # if it was the comment; nothing depends on it


class AgentKey:
    """A key of an agent, usable like ``certexec.trust.private_keys.SigningKey``.

    Attributes:
        public: its public half.
        ssh_fingerprint: what ``ssh-keygen -l`` prints for it.
    """

    __slots__ = ("_agent", "_blob", "public", "ssh_fingerprint")

    def __init__(self, agent: Agent, blob: bytes, comment: str) -> None:
        """Read the key; raises TrustError("bad-key") for one that cannot be used."""
        self._agent = agent
        self._blob = blob
        self.public = public_of_blob(blob, comment)
        self.ssh_fingerprint = ssh_fingerprint(blob)

    def sign(self, message: bytes) -> bytes:
        """Let the agent sign ``message``; the result is checked before it is returned.

        Raises TrustError: "unreadable" when the agent does not answer, or refuses, or answers
        something else; "bad-signature" when the signature does not fit the public key.
        """
        signature = self._agent.sign(self._blob, message, self.public.kind)
        if not self.public.verify(signature, message):
            raise TrustError(
                "bad-signature", f"the agent's signature does not fit {self.public.fingerprint}"
            )
        return signature


class Agent:
    """An agent behind a socket; each request is a conversation of its own."""

    __slots__ = ("list_seconds", "path", "sign_seconds")

    def __init__(
        self, path: str, list_seconds: float = LIST_SECONDS, sign_seconds: float = SIGN_SECONDS
    ) -> None:
        self.path = path
        self.list_seconds = list_seconds
        self.sign_seconds = sign_seconds

    def keys(self) -> tuple[list[AgentKey], dict[str, str]]:
        """List the keys that can sign certificates, and why the others cannot.

        The others stand under their ssh-keygen fingerprints. Raises TrustError("unreadable").
        """
        kind, content = self._ask(bytes((REQUEST_IDENTITIES,)), self.list_seconds)
        if kind != IDENTITIES_ANSWER:
            raise _nonsense("is not a list of keys")
        answer = _Answer(content)
        usable: list[AgentKey] = []
        others: dict[str, str] = {}
        for _ in range(answer.number()):
            blob = answer.string()
            comment = answer.string().decode("utf-8", "replace")
            try:
                usable.append(AgentKey(self, blob, comment))
            except TrustError as error:
                others[ssh_fingerprint(blob)] = error.message
        answer.end()
        return usable, others

    def find(self, fingerprint: str) -> AgentKey:
        """Find a key by certexec's fingerprint, or by the one that ssh-keygen prints.

        Raises TrustError: "not-found", "bad-key" for a key that cannot sign certificates, or
        "unreadable".
        """
        usable, others = self.keys()
        for key in usable:
            if fingerprint in (key.public.fingerprint, key.ssh_fingerprint):
                return key
        if fingerprint in others:
            raise TrustError("bad-key", f"the agent's key {fingerprint}: {others[fingerprint]}")
        raise TrustError("not-found", f"the agent holds no key {fingerprint}", ADD_HINT)

    def sign(self, blob: bytes, message: bytes, kind: str) -> bytes:
        """Ask for a signature and return it in COSE's form, unchecked; see ``AgentKey.sign``."""
        flags = struct.pack(">I", 0)
        request = bytes((SIGN_REQUEST,)) + _string(blob) + _string(message) + flags
        answered, content = self._ask(request, self.sign_seconds)
        if answered in FAILURES:
            raise TrustError(
                "unreadable",
                "the agent did not sign",
                'it may be locked ("ssh-add -X"), or somebody had to confirm and did not',
            )
        if answered != SIGN_RESPONSE:
            raise _nonsense("is not a signature")
        whole = _Answer(content)
        parts = _Answer(whole.string())
        whole.end()
        name, signature = parts.string(), parts.string()
        parts.end()
        if kind == ED25519 and name == SSH_ED25519 and len(signature) == _ED25519_SIGNATURE:
            return signature
        if kind == P256 and name == SSH_P256:
            return _raw_p256(signature)
        raise _nonsense("is a signature of another kind")

    def _ask(self, request: bytes, seconds: float) -> tuple[int, bytes]:
        """Send one request; returns the type and the content of the answer."""
        deadline = time.monotonic() + seconds
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(seconds)
                connection.connect(self.path)
                connection.sendall(_string(request))
                size = int.from_bytes(_receive(connection, 4, deadline), "big")
                if not 0 < size <= MAX_ANSWER:
                    raise _nonsense(f"has {size} bytes, between 1 and {MAX_ANSWER} are possible")
                answer = _receive(connection, size, deadline)
        except TimeoutError:
            raise TrustError(
                "unreadable", f"the agent did not answer within {seconds:g} seconds"
            ) from None
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or error
            raise TrustError(
                "unreadable",
                f'cannot talk to the agent at "{self.path}": {problem}',
                'start one: eval "$(ssh-agent)", then "ssh-add KEY"',
            ) from None
        return answer[0], answer[1:]


def _receive(connection: socket.socket, count: int, deadline: float) -> bytes:
    """Receive exactly ``count`` bytes; raises TimeoutError once the deadline is over."""
    received = b""
    while len(received) < count:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        block = connection.recv(count - len(received))
        if not block:
            raise _nonsense("is cut short")
        received += block
    return received


def _raw_p256(signature: bytes) -> bytes:
    """Turn two numbers of variable length into r and s of 32 bytes each."""
    parts = _Answer(signature)
    halves = [parts.string(), parts.string()]
    parts.end()
    raw = b""
    for half in halves:
        number = half.removeprefix(b"\0")
        if not number or len(number) > _P256_HALF or half != _mpint(number):
            raise _nonsense("holds a number that is none")
        raw += number.rjust(_P256_HALF, b"\0")
    return raw
