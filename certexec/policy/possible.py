"""The texts that arguments can have (pure): certexec.policy(5) in regular expressions.

For each argument there are several sets, the most usual texts first, so that examples look like
what programs do. They hold no text that certexec never shows to a rule; of spellings that mean
nothing else (IPv6 addresses with single zero groups) some are left out.
"""

from __future__ import annotations

import functools

from certexec.policy.automaton import Automaton
from certexec.policy.patterns import decimal
from certexec.policy.regular_expression import whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBER = "(0|-?[1-9][0-9]{0,9})"
_COMPONENT = "([^/.][^/]*|[.][^/.][^/]*|[.][.][^/]+)"
"""A name in a directory: neither empty nor "." nor ".."."""
_OCTET, _PORT = decimal(0, 255), decimal(0, 65535)
_GROUP = "[1-9a-f][0-9a-f]{0,3}"
_LEFT_OUT = "|".join(
    f"({_GROUP}(:{_GROUP}){{{before - 1}}})?::({_GROUP}(:{_GROUP}){{0,{5 - before}}})?"
    for before in range(1, 6)
)
"""Six groups at most stand beside the "::"."""
_IPV6 = f"({_GROUP}(:{_GROUP}){{7}}|{_LEFT_OUT})"
_READ_LETTERS, _LETTERS = "n?a?", "n?a?c?t?"

DOMAINS: dict[str, tuple[str, ...]] = {
    "filename": (
        f"/({_COMPONENT}(/{_COMPONENT})*)?",
        "|/<non-existent filename>: .*"
        "|(pipe|socket|mnt|net|pid|user|uts|ipc|cgroup|time):\\[[0-9]+\\]|anon_inode:.*",
    ),
    "sockaddr": (
        rf"inet-\[{_OCTET}([.]{_OCTET}){{3}}\]:{_PORT}",
        rf"inet-\[{_IPV6}\]:{_PORT}",
        "|[@/].*|family\\((0|[1-9][0-9]{0,4})\\)|<unknown>",
    ),
    "string": (".+", ""),
    "argv": (".+", ""),
    "oflags": (f"ro{_LETTERS}", f"(wo|rw|--){_LETTERS}"),
    "mode": ("0|[1-7][0-7]{0,3}",),
    "uid": (_NUMBER,),
    "gid": (_NUMBER,),
    "fd": (_NUMBER,),
    "uname": ("[a-z_][-a-z0-9_]*", "<unknown>", ".+"),
    "sockdom": (f"AF_(UNIX|INET|INET6|IPX)|AF_UNKNOWN\\({_NUMBER}\\)",),
    "socktype": (f"SOCK_(STREAM|DGRAM|RAW|RDM|SEQPACKET)|SOCK_UNKNOWN\\({_NUMBER}\\)",),
    "prot": (
        "PROT_NONE",
        "PROT_(READ(|[|]PROT_WRITE)(|[|]PROT_EXEC)|WRITE(|[|]PROT_EXEC)|EXEC)",
        "((PROT_READ|PROT_WRITE|PROT_EXEC|PROT_GROWSDOWN|PROT_GROWSUP)[|])*"
        "(PROT_GROWSDOWN|PROT_GROWSUP|<unknown:0x[1-9a-f][0-9a-f]{0,7}>)",
    ),
    "signame": (
        "SIG(HUP|INT|QUIT|ILL|ABRT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|ALRM|TERM|CHLD|CONT|STOP|TSTP"
        "|TTIN|TTOU|URG|PROF|WINCH|IO|SYS)",
        f"<unknown>: {_NUMBER}",
    ),
    "cmd": (
        "F_(DUPFD|GETFD|SETFD|GETFL|SETFL|GETLK|SETLK|SETLKW|SETOWN|GETOWN|SETSIG|GETSIG)",
        f"<unknown>: {_NUMBER}",
    ),
    "pidname": ("/.*", "<own process group>|<every process: -1>|<unknown>|pg:.*"),
}
"""Argument to the sets of its texts; together they are all."""

BY_USE: dict[tuple[str, str], tuple[str, ...]] = {
    ("oflags", "read"): (f"ro{_READ_LETTERS}",),
    ("oflags", "write"): (f"(wo|rw|--){_LETTERS}", f"ro{_LETTERS}"),
}
"""The same where one thing that a call does leaves fewer."""


@functools.cache
def _automata(patterns: tuple[str, ...]) -> tuple[Automaton, ...]:
    return tuple(Automaton(whole(pattern)) for pattern in patterns)


def domains(argument: str, use: str = "") -> Sequence[Automaton]:
    """Return the texts that an argument can have in one use (``Variant.label``) of a call."""
    patterns = BY_USE.get((argument, use)) or DOMAINS.get(argument, (".*",))
    return _automata(patterns)


def exactly(text: str) -> Sequence[Automaton]:
    """Return the set of one text without special characters, in the form of ``domains``."""
    return _automata((text,))


def is_possible(argument: str, text: bytes, use: str = "") -> bool:
    """Tell whether an argument can have a text."""
    return any(domain.holds(text) for domain in domains(argument, use))
