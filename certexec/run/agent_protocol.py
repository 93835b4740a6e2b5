"""What supervisors and agents say to each other, and where they meet: docs/agent.md.

One connection is one question. Each message is one packet of a SOCK_SEQPACKET socket and holds one
CBOR map with text keys, in the strict form of certificates (certexec.certificate.codec).
"""

from __future__ import annotations

import _socket

from certexec.certificate import codec
from certexec.errors import CertificateError, RunError
from certexec.observe.event import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.observe.event import Event

PROTOCOL = "certexec-agent"
VERSION = 1
TIME_LIMIT = 30.0
"""seconds for an answer: longer than somebody needs to read a line, shorter than most time-outs of
the programs and servers that wait meanwhile."""
QUESTION_MAX = 1 << 17
"""bytes; an event keeps 16,384 characters of arguments, each of at most four bytes."""
ANSWER_MAX = 512
"""bytes; an answer has some sixty."""

PERMIT, ALWAYS, DENY, KILL = "permit", "always", "deny", "kill"
ANSWERS = (PERMIT, ALWAYS, DENY, KILL)

ARGUMENTS, REGISTERS = "arguments", "registers"
"""What an answer is about: what the call's arguments stand for, which are copied and pinned, or
nothing but its number and registers: the kernel then reads from memory what it likes."""

SOCKET = "agent.sock"
ROOTS_DIRECTORY = "/run/certexec"
_REPLACEMENT = "\ufffd"


def directory_of(uid: int) -> str:
    """Return the directory in which the agent of a user has its socket.

    The users' ones are below what pam_systemd(8), elogind or an administrator makes for each.
    """
    return ROOTS_DIRECTORY if uid == 0 else f"/run/user/{uid}/certexec"


def new_socket() -> _socket.socket:
    """Return a socket of the right kind that never waits. Raises OSError."""
    flags = _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | flags)


def offer() -> bytes:
    """Return a supervisor's first message: the versions that it speaks."""
    return codec.encode({"type": "hello", "protocol": PROTOCOL, "versions": [VERSION]})


def accept() -> bytes:
    """Return an agent's answer to it: the version that both will speak."""
    return codec.encode({"type": "hello", "protocol": PROTOCOL, "version": VERSION})


def question(
    number: int, event: Event, deadline: float, milliseconds: int, judged: str = ARGUMENTS
) -> bytes:
    """Return the question about a call. ``deadline``: seconds since 1970."""
    members = _members(event)
    if judged == REGISTERS:
        members["args"] = event.raw.hex()  # what of them rules see is not all that counts
    return codec.encode(
        {
            "type": "question",
            "id": number,
            "deadline": timestamp(deadline),
            "milliseconds": milliseconds,
            "judged": judged,
            "event": members,
        }
    )


def answer(number: int, word: str) -> bytes:
    """Return an agent's answer, one of ``ANSWERS``."""
    return codec.encode({"type": "answer", "id": number, "answer": word})


def read(data: bytes) -> dict[str, object]:
    """Return the map that a message holds. Raises RunError("malformed")."""
    try:
        value = codec.decode(data)
    except CertificateError:
        value = None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise RunError("malformed", "no message of this protocol")
    return {str(key): item for key, item in value.items()}


def is_accepted(data: bytes) -> bool:
    """Tell whether an agent's first message accepts what was offered, exactly."""
    return data == accept()


def read_answer(data: bytes, number: int) -> str:
    """Return the word of an answer to a question, "" for anything else."""
    for word in ANSWERS:
        if data == answer(number, word):  # there is one encoding of each
            return word
    return ""


def _members(event: Event) -> dict[str, object]:
    """Return the members of an event (docs/events.md); what is not UTF-8 stands in "bytes", too."""
    exact: dict[str, object] = {}
    members: dict[str, object] = {}
    for name, value in event.members():
        if isinstance(value, str):
            members[name] = _text(value, name, exact)
        elif isinstance(value, int):
            members[name] = value
        else:
            inside: dict[str, object] = {}
            members[name] = {
                key: _text(item, key, inside) if isinstance(item, str) else item
                for key, item in value.items()
            }
            if inside:
                exact[name] = inside
    if exact:
        members["bytes"] = exact
    return members


def _text(text: str, name: str, exact: dict[str, object]) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        exact[name] = text.encode("utf-8", "surrogateescape")
        return "".join(
            _REPLACEMENT if "\ud800" <= one <= "\udfff" else one for one in text
        )
    return text
