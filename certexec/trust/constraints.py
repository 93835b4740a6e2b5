"""What a trusted key may sign: the file ``NAME.toml`` beside ``NAME.pub``.

::

    paths = ["/usr/bin/*", "/opt/acme/**"]
    grants = ["user:root#0", "group:netadmin#990", "cap:net_raw"]
    max-lifetime = "90d"
    cosigners = 1

The file is TOML, but only what these four keys need is accepted: text, whole numbers and lists of
text, each key once, at the top level. Anything else refuses the file, since a constraint that was
not understood must not be dropped.
"""

from __future__ import annotations

from certexec.errors import TrustError
from certexec.trust.toml import read_toml, write_list, write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

ANYWHERE = "/**"
"""The path pattern that a key without a path constraint has."""
MAX_FILE = 65536
"""bytes; room for hundreds of patterns."""
MAX_COSIGNERS = 7
"""A certificate has at most 8 signatures, one of which is the key's own."""
MAX_LIFETIME = 253402300799
"""Seconds; the last moment that a certificate can name."""
MAX_ID = 2**32 - 2
KEYS = ("paths", "grants", "max-lifetime", "cosigners")
GRANT_KINDS = ("user", "group", "cap")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
"""Seconds; a year is 365 days."""


def parse_duration(text: str) -> int | None:
    """Read a length of time such as ``90d`` or ``12h``; None when it is not one.

    A number without a unit is refused: nobody remembers whether it meant seconds or days.
    """
    digits, unit = text[:-1], text[-1:]
    if unit not in UNITS or not digits.isascii() or not digits.isdigit() or len(digits) > 12:
        return None
    seconds = int(digits) * UNITS[unit]
    return seconds if 0 < seconds <= MAX_LIFETIME else None


def show_duration(seconds: int) -> str:
    """Write a length of time in the largest unit that divides it, so that it reads back equal."""
    for unit in ("w", "d", "h", "m"):
        if seconds % UNITS[unit] == 0:
            # weeks only where somebody would think of them
            if unit == "w" and seconds > 8 * UNITS["w"]:
                continue
            return f"{seconds // UNITS[unit]}{unit}"
    return f"{seconds}s"


def parse_grant(text: str) -> tuple[str, str, int | None] | None:
    """Read ``user:NAME``, ``user:NAME#NUMBER`` or ``user:#NUMBER`` (also group; cap: name only).

    Returns kind, name (or empty) and number (or None); None when it is none of these.
    """
    kind, colon, rest = text.partition(":")
    name, hash_sign, digits = rest.partition("#")
    if kind not in GRANT_KINDS or not colon or not rest:
        return None
    if not name.isprintable() or any(character in name for character in " :,/"):
        return None
    if not hash_sign:
        return kind, name, None
    if kind == "cap" or not digits.isascii() or not digits.isdigit() or len(digits) > 10:
        return None
    number = int(digits)
    if number > MAX_ID or str(number) != digits:
        return None
    return kind, name, number


def path_pattern_problem(pattern: str) -> str:
    """Return what is wrong with a path pattern, or an empty string."""
    if not pattern.startswith("/"):
        return "does not begin with a slash"
    if not pattern.isprintable():
        return "holds a control character"
    trunk = pattern[:-3] if pattern.endswith("/**") else pattern
    if "**" in trunk:
        return 'may hold "**" only as its end "/**"'
    for component in trunk[1:].split("/") if trunk else ():
        if component in ("", ".", ".."):
            return "is not in normal form"
    return ""


class Constraints:
    """What one key may sign.

    Attributes:
        paths: patterns of fnmatch(3), where ``*`` does not match a slash and ``/**`` at the end
            stands for everything below; an empty list allows nothing.
        grants: the identities that it may grant, as ``parse_grant`` reads them.
        max_lifetime: seconds from a certificate's first to its last moment; None: no limit.
        cosigners: how many other trusted keys must have signed a certificate with a grant.
    """

    __slots__ = ("_grants", "cosigners", "grants", "max_lifetime", "paths")

    def __init__(
        self,
        paths: list[str] | None = None,
        grants: list[str] | None = None,
        max_lifetime: int | None = None,
        cosigners: int = 0,
    ) -> None:
        """Check all four; raises TrustError("trust-syntax")."""
        self.paths = [ANYWHERE] if paths is None else paths
        self.grants = [] if grants is None else grants
        self.max_lifetime = max_lifetime
        self.cosigners = cosigners
        for pattern in self.paths:
            problem = path_pattern_problem(pattern)
            if problem:
                raise TrustError("trust-syntax", f'the path pattern "{pattern}" {problem}')
        self._grants = []
        for text in self.grants:
            grant = parse_grant(text)
            if grant is None:
                raise TrustError(
                    "trust-syntax",
                    f'"{text}" is not a grant',
                    'a grant is "user:NAME#UID", "group:NAME#GID" or "cap:NAME"',
                )
            self._grants.append(grant)
        if not 0 <= cosigners <= MAX_COSIGNERS:
            raise TrustError("trust-syntax", f"cosigners is not between 0 and {MAX_COSIGNERS}")

    def allows_path(self, path: str) -> bool:
        """Tell whether the key may sign for the program at this (normal, absolute) path."""
        if ANYWHERE in self.paths:
            return True
        from certexec.kernel import libc  # ctypes is loaded only where a pattern asks for it

        value = path.encode("utf-8", "surrogateescape")
        for pattern in self.paths:
            flags = libc.FNM_PATHNAME
            if pattern.endswith("/**"):
                # "below X": one component that * matches, and whatever follows it
                pattern = pattern[:-1]
                flags |= libc.FNM_LEADING_DIR
            if libc.fnmatch(pattern.encode("utf-8", "surrogateescape"), value, flags):
                return True
        return False

    def grants_pair(self, kind: str, pair: tuple[str, int]) -> bool:
        """Tell whether the key may grant this user, group or capability (name and number).

        A grant with a number covers exactly that number, whether the certificate adds the name or
        not. A grant by name alone covers that name; the number is proved where the certificate is
        run, by asking the machine for the name's. ``user:root`` covers everything, because root
        can become and do everything.
        """
        for granted_kind, name, number in self._grants:
            if granted_kind == "user" and (number == 0 or (name == "root" and number is None)):
                return True
            if granted_kind != kind:
                continue
            if number is None:
                if pair[0] == name:
                    return True
            elif pair[1] == number and (not name or pair[0] in ("", name)):
                return True
        return False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constraints):
            return NotImplemented
        return self.to_toml() == other.to_toml()

    __hash__ = None  # type: ignore[assignment]

    def to_toml(self) -> str:
        """Return the text of the file; ``parse_constraints`` reads it back."""
        lines = [
            f"paths = {write_list(self.paths)}",
            f"grants = {write_list(self.grants)}",
        ]
        if self.max_lifetime is not None:
            lines.append(f"max-lifetime = {write_text(show_duration(self.max_lifetime))}")
        lines.append(f"cosigners = {self.cosigners}")
        return "\n".join(lines) + "\n"


def parse_constraints(text: str, name: str = "constraints") -> Constraints:
    """Read the content of a constraint file.

    Raises TrustError("trust-syntax") naming the file by ``name``.
    """
    values = read_toml(text, KEYS, name)

    def wrong(key: str, what: str) -> NoReturn:
        raise TrustError("trust-syntax", f'"{name}": {key} is not {what}')

    paths = values.get("paths")
    grants = values.get("grants")
    lifetime = values.get("max-lifetime")
    cosigners = values.get("cosigners", 0)
    if not isinstance(paths, list) and paths is not None:
        wrong("paths", "a list")
    if not isinstance(grants, list) and grants is not None:
        wrong("grants", "a list")
    if not isinstance(cosigners, int):
        wrong("cosigners", "a number")
    seconds = None
    if lifetime is not None:
        seconds = parse_duration(lifetime) if isinstance(lifetime, str) else None
        if seconds is None:
            wrong("max-lifetime", 'a length of time such as "90d"')
    try:
        return Constraints(paths, grants, seconds, cosigners)
    except TrustError as error:
        raise TrustError(error.reason, f'"{name}": {error.message}', error.hint) from None
