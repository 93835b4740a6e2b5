"""What a comparison says, as a set of texts (pure): the same as certexec.policy.operators tests.

A comparison and its opposite (``eq`` and ``neq``) are told apart by the same set.
"""

from __future__ import annotations

from certexec.policy import networks
from certexec.policy.automaton import (
    ANY,
    Bytes,
    Either,
    Everything,
    Repeat,
    Series,
    TooComplex,
    literal,
    one_of,
)
from certexec.policy.operators import is_regex, pattern_bytes
from certexec.policy.regular_expression import bracket_set, search, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from certexec.policy.automaton import Tree

POSITIVE = {"neq": "eq", "nsub": "sub"}
"""Operators that hold where another does not."""
_SLASH = one_of(b"/")
_NO_SLASH = Bytes(ANY & ~_SLASH.mask)
_NOTHING = Bytes(0)


def texts_of(operator: str, data: str) -> Tree:
    """Return the texts that satisfy ``operator "data"``, or for neq and nsub those that do not.

    Macros must have been replaced. Raises TooComplex where this cannot be said.
    """
    operator = POSITIVE.get(operator, operator)
    raw = pattern_bytes(data)
    if b"\0" in raw:
        raise TooComplex("a NUL")
    if operator == "eq":
        return literal(raw, ignore_case=True)
    if operator == "sub":
        return Series(Repeat(Bytes(ANY), 0, None), literal(raw), Everything())
    if operator == "inpath":
        return Either(*(literal(one) for one in _on_the_way(raw)))
    if operator == "match":
        return _glob(raw)
    if operator == "re":
        return search(raw) if is_regex(data) else _NOTHING
    return _network(data)


def _on_the_way(path: bytes) -> Iterator[bytes]:
    if path:
        yield b"/"
    for end in range(2, len(path) + 1):
        if path[end : end + 1] in (b"", b"/"):
            yield path[:end]


def _glob(pattern: bytes) -> Tree:
    """Return what fnmatch(3) takes with FNM_PATHNAME and FNM_LEADING_DIR."""
    parts: list[Tree] = []
    at = 0
    after_star = False
    while at < len(pattern):
        byte = pattern[at]
        at += 1
        quoted = byte == ord("\\")
        if quoted:
            if at == len(pattern):
                return _NOTHING
            byte = pattern[at]
            at += 1
            if after_star and byte == ord("/"):
                return _NOTHING  # behind a star glibc looks for a quoted slash before the next one
        after_star = not quoted and (byte == ord("*") or (after_star and byte == ord("?")))
        if quoted:
            parts.append(one_of((byte,)))
        elif byte == ord("*"):
            parts.append(Repeat(_NO_SLASH, 0, None))
        elif byte == ord("?"):
            parts.append(_NO_SLASH)
        elif byte == ord("["):
            negated = pattern[at : at + 1] in (b"!", b"^")
            mask, at = bracket_set(pattern, at + negated, escapes=True)
            parts.append(Bytes((~mask if negated else mask) & _NO_SLASH.mask))
        else:
            parts.append(one_of((byte,)))
    below = Either(Series(), Series(_SLASH, Everything()))
    return Series(*parts, below)


# ---- networks ------------------------------------------------------------------------------------


def _network(data: str) -> Tree:
    """Return the texts of the IPv4 addresses in a network."""
    network = networks.parse(data)
    if len(network.address) != 4:
        raise TooComplex("IPv6 addresses have many spellings")
    octets = []
    for place, first in enumerate(network.address):
        free = min(max(8 * (place + 1) - network.bits, 0), 8)
        octets.append(decimal(first, first | (1 << free) - 1))
    ports = decimal(network.first, network.last)
    return whole(rf"inet-\[{'[.]'.join(octets)}\]:{ports}")


def decimal(low: int, high: int) -> str:
    """Return a regular expression for the numbers from low to high, without leading zeros."""
    found = []
    while low <= high:
        # the widest stretch from here in which the last digits are free
        digits = 0
        while (
            low % 10 ** (digits + 1) == 0 and low
            and low + 10 ** (digits + 1) - 1 <= high
        ):
            digits += 1
        step = 10**digits
        head = str(low // step)
        most = min(int(head[-1]) + (high - low + 1) // step - 1, 9)
        last = head[-1] if most == int(head[-1]) else f"[{head[-1]}-{most}]"
        free = f"[0-9]{{{digits}}}" if digits else ""
        found.append(head[:-1] + last + free)
        low += (most - int(head[-1]) + 1) * step
    return "(" + "|".join(found) + ")"
