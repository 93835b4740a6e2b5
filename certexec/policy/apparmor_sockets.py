"""What an AppArmor profile says of sockets, as rules (pure): network and unix."""

from __future__ import annotations

_FAMILIES = {"inet": "AF_INET", "inet6": "AF_INET6", "unix": "AF_UNIX", "netlink": "AF_UNKNOWN(16)",
             "packet": "AF_UNKNOWN(17)", "bluetooth": "AF_UNKNOWN(31)"}  # fmt: skip
_TYPES = {"stream": "SOCK_STREAM", "dgram": "SOCK_DGRAM", "raw": "SOCK_RAW", "rdm": "SOCK_RDM",
          "seqpacket": "SOCK_SEQPACKET", "tcp": "SOCK_STREAM", "udp": "SOCK_DGRAM"}  # fmt: skip
_ADDRESSED = ("connect", "bind", "sendto", "sendmsg")
_ANY = ""


class Sockets:
    """The families and types that are permitted.

    Attributes:
        named: of names that a socket may have: the condition, and whether it can be talked to.
    """

    __slots__ = ("denied", "local", "named", "permitted")

    def __init__(self) -> None:
        self.permitted: set[tuple[str, str]] = set()
        self.denied: set[tuple[str, str]] = set()
        self.named: list[tuple[str, bool]] = []
        self.local = False

    def add(self, word: str, rest: str, denies: bool) -> str:
        """Take in a rule, denials first; return why it is not carried over, or ""."""
        words = rest.split()
        if word == "unix":
            words = ["unix", *words]
        family, kind = (words + [_ANY, _ANY])[:2]
        known = (family in _FAMILIES or not family) and (kind in _TYPES or not kind)
        if not known or len(words) > 2:
            if not denies:
                return "what it asks for cannot be said, left out"
            family, kind = (family if family in _FAMILIES else _ANY), _ANY
            self.denied.add((_FAMILIES.get(family, _ANY), _ANY))
            return "what it asks for cannot be said: it denies the whole family"
        told = ""
        if not family and not kind:
            chosen = {(one, _ANY) for one in _FAMILIES.values()}
        elif not family:
            chosen = {(one, _TYPES[kind]) for one in ("AF_INET", "AF_INET6")}
        else:
            chosen = {(_FAMILIES[family], _TYPES.get(kind, _ANY))}
        if kind in ("tcp", "udp"):
            told = f"{kind}: the protocol is not asked, the type of the socket is"
        if denies:
            self.denied |= chosen if family or kind else {(_ANY, _ANY)}
        else:
            self.permitted |= chosen
        return told

    def _left(self) -> list[tuple[str, str]]:
        def refused(family: str, kind: str) -> bool:
            return any(
                denied in (family, _ANY) and (not kind or type_ in (kind, _ANY))
                for denied, type_ in self.denied
            )

        return sorted(one for one in self.permitted if not refused(*one))

    def rules(self) -> list[str]:
        """Return the rules; none when no socket is permitted."""
        left = self._left()
        lines = [
            f'native-{call}: sockdom eq "{family}"'
            + (f' and socktype eq "{kind}"' if kind else "") + " then permit"
            for family, kind in left
            for call in (("socket", "socketpair") if family == "AF_UNIX" else ("socket",))
        ]
        families = {family for family, _ in left}
        for call in _ADDRESSED:
            if {"AF_INET", "AF_INET6"} <= families:
                lines.append(f'native-{call}: sockaddr match "inet-*" then permit')
            elif "AF_INET" in families:
                lines.append(f'native-{call}: sockaddr re "^inet-\\\\[[0-9.]+\\\\]" then permit')
            elif "AF_INET6" in families:
                lines.append(f'native-{call}: sockaddr re "^inet-\\\\[[^]]*:" then permit')
            for family, number in (("AF_UNKNOWN(16)", 16), ("AF_UNKNOWN(17)", 17),
                                   ("AF_UNKNOWN(31)", 31)):  # fmt: skip
                if family in families:
                    lines.append(f'native-{call}: sockaddr eq "family({number})" then permit')
            if "AF_UNIX" in families:
                lines.append(f'native-{call}: sockaddr match "@*" then permit')
                lines += [f"native-{call}: {asked} then permit" for asked, talks in self.named
                          if talks or call == "bind"]  # fmt: skip
        if left:
            lines.append('native-sendmsg: sockaddr eq "<unknown>" then permit')
        return lines
