"""The identity that a program may take: user, group, supplementary groups, capabilities.

And the identities as which single calls of it are carried out, where its policy says ``as``.
"""

from __future__ import annotations

from certexec.certificate import fields, names
from certexec.certificate.record import Record, optional, put
from certexec.errors import CertificateError

Pair = tuple[str, int]
"""A user, group or capability: its name (empty: only the number counts) and its number."""


Elevation = tuple[Pair | None, Pair | None]
"""Whose rights a single call gets: a user, a group, or both; None: the caller's."""


def _elevation(value: object, name: str) -> Elevation:
    ids = fields.a_map(value, name, (), (0, 1))
    if not ids:
        raise fields.malformed(f"{name} names nobody")
    return (
        optional(ids, 0, lambda item: fields.pair(item, f"{name}'s user")),
        optional(ids, 1, lambda item: fields.pair(item, f"{name}'s group")),
    )


def _elevations(value: object) -> list[Elevation]:
    listed = fields.list_of(value, "elevation", _elevation)
    if not listed or len(set(map(numbers, listed))) != len(listed):
        raise fields.malformed("the elevations are none, or one of them is named twice")
    return listed


def numbers(elevation: Elevation) -> tuple[int | None, int | None]:
    """Return user and group of an elevation by number alone, as a policy's rules have them."""
    user, group = elevation
    return None if user is None else user[1], None if group is None else group[1]


def _unique(pairs: list[Pair], name: str) -> list[Pair]:
    if len({number for _, number in pairs}) != len(pairs):
        raise fields.malformed(f"{name} names the same one twice")
    return pairs


def _groups(value: object) -> list[Pair]:
    return _unique(fields.list_of(value, "supplementary groups", fields.pair), "groups")


def _capabilities(value: object) -> list[Pair]:
    pairs = fields.list_of(value, "capability", fields.pair)
    for name, number in pairs:
        if names.CAPABILITIES.get(name) != number:
            raise CertificateError(
                "unsupported", f'there is no capability "{name}" with number {number} here'
            )
    return _unique(pairs, "capabilities")


class Identity(Record):
    """What the program may become, each by name and number; None leaves it as the invoker's.

    Attributes:
        user, group: effective and saved ids.
        groups: the supplementary groups; an empty list means none at all.
        capabilities: None is what the kernel gives that uid, a list is exactly these.
        elevations: who the rules of the policy may name behind ``as``; None: nobody.
    """

    __slots__ = ("capabilities", "elevations", "group", "groups", "user")

    def __init__(
        self,
        user: Pair | None = None,
        group: Pair | None = None,
        groups: list[Pair] | None = None,
        capabilities: list[Pair] | None = None,
        elevations: list[Elevation] | None = None,
    ) -> None:
        self.user = user
        self.group = group
        self.groups = groups
        self.capabilities = capabilities
        self.elevations = elevations

    @classmethod
    def from_payload(cls, value: object) -> Identity:
        """Read the map; raises CertificateError: "malformed", or "unsupported" for an
        unknown capability.
        """
        identity = fields.a_map(value, "identity", (), (0, 1, 2, 3, 4))
        if not identity:
            raise fields.malformed("the identity is empty")
        return cls(
            optional(identity, 0, lambda item: fields.pair(item, "identity's user")),
            optional(identity, 1, lambda item: fields.pair(item, "identity's group")),
            optional(identity, 2, _groups),
            optional(identity, 3, _capabilities),
            optional(identity, 4, _elevations),
        )

    def to_payload(self) -> dict[int, object]:
        """Return the map."""
        identity: dict[int, object] = {}
        put(identity, 0, None if self.user is None else list(self.user))
        put(identity, 1, None if self.group is None else list(self.group))
        for key, pairs in ((2, self.groups), (3, self.capabilities)):
            put(identity, key, None if pairs is None else [list(pair) for pair in pairs])
        if self.elevations is not None:
            identity[4] = [
                {key: list(pair) for key, pair in enumerate(one) if pair is not None}
                for one in self.elevations
            ]
        return identity

    def names_anything(self) -> bool:
        """Tell whether there is anything here beyond the invoker's own identity."""
        return any(getattr(self, name) is not None for name in self.__slots__)
