"""The operator ``in``: networks and ports, exactly (pure).

``sockaddr in "inet-[10.0.0.0/8]:80-443"`` holds for the texts that addresses have in rules,
``inet-[ADDRESS]:PORT``, whose address lies in the network and whose port lies in the range. An IPv4
address that is mapped into IPv6 has the text of the IPv4 address, so it is judged as that; a
network that is written mapped means the IPv4 one. IPv6's other networks hold no IPv4 address.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FORM = 'write "inet-[ADDRESS/BITS]:PORT", or "...:FIRST-LAST", or "...:*" for every port'
PORT_MAX = 65535
_BEFORE, _BETWEEN = "inet-[", "]:"
_LONGEST = len("inet-[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128]:65535-65535")
"""characters; nothing longer is a network."""
_MAPPED = bytes(10) + b"\xff\xff"
"""Before an IPv4 address in an IPv6 one (RFC 4291 2.5.5.2)."""
_MAPPED_BITS = 96


class NetworkError(ValueError):
    """A text is not a network; never leaves this package."""


class Network:
    """Addresses and ports.

    Attributes:
        address: the first address, 4 or 16 bytes.
        bits: how many of its bits all addresses share, from the left.
        first, last: the ports, both included.
    """

    __slots__ = ("address", "bits", "first", "last")

    def __init__(self, address: bytes, bits: int, first: int, last: int) -> None:
        self.address = address
        self.bits = bits
        self.first = first
        self.last = last

    def holds(self, address: bytes, port: int) -> bool:
        """Tell whether an address (4 or 16 bytes) and a port are among these."""
        if len(address) != len(self.address) or not self.first <= port <= self.last:
            return False
        return _cut(address, self.bits) == self.address

    def __str__(self) -> str:
        family = AF_INET if len(self.address) == 4 else AF_INET6
        host = inet_ntop(family, self.address)
        ports = str(self.first)
        if (self.first, self.last) == (0, PORT_MAX):
            ports = "*"
        elif self.first != self.last:
            ports = f"{self.first}-{self.last}"
        bits = "" if self.bits == 8 * len(self.address) else f"/{self.bits}"
        return f"{_BEFORE}{host}{bits}{_BETWEEN}{ports}"


def parse(text: str) -> Network:
    """Read a network; bits of the address behind its prefix are cut off.

    Without ``/BITS`` it is the one address. Raises NetworkError.
    """
    head, between, ports = text.rpartition(_BETWEEN)
    if not head.startswith(_BEFORE) or not between or len(text) > _LONGEST:
        raise NetworkError("not a network")
    host, slash, length = head[len(_BEFORE) :].partition("/")
    address = _address(host)
    if address is None:
        raise NetworkError(f'"{host}" is not an address')
    widest = 8 * len(address)
    bits = _number(length, widest, "prefix length") if slash else widest
    if len(address) == 16 and address.startswith(_MAPPED) and bits >= _MAPPED_BITS:
        address, bits = address[len(_MAPPED) :], bits - _MAPPED_BITS
    if ports == "*":
        return Network(_cut(address, bits), bits, 0, PORT_MAX)
    low, dash, high = ports.partition("-")
    first = _number(low, PORT_MAX, "port")
    last = _number(high, PORT_MAX, "port") if dash else first
    if first > last:
        raise NetworkError(f"the ports {ports} are none")
    return Network(_cut(address, bits), bits, first, last)


def better(text: str) -> str:
    """Return how a network is to be written whose first address is another one; "" if it is not.

    So it is when bits are set behind its prefix, and when an IPv4 network is written as IPv6.
    """
    network = parse(text)
    host = text[len(_BEFORE) :].partition(_BETWEEN)[0].partition("/")[0]
    return "" if _address(host) == network.address else str(network)


def make_test(data: bytes) -> Callable[[bytes], bool]:
    """Return the function that tells whether an address's text lies in the network ``data``."""
    network = parse(data.decode())

    def test(value: bytes) -> bool:
        head, between, port = value.decode("latin-1").rpartition(_BETWEEN)
        if not between or not head.startswith(_BEFORE) or not _is_number(port):
            return False
        address = _address(head[len(_BEFORE) :])
        return address is not None and network.holds(address, int(port))

    return test


def _address(text: str) -> bytes | None:
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(PORT_MAX))


def _number(text: str, most: int, what: str) -> int:
    if not _is_number(text) or int(text) > most:
        raise NetworkError(f'"{text}" is not a {what}')
    return int(text)


def _cut(address: bytes, bits: int) -> bytes:
    """Return an address with the bits behind the first ``bits`` cleared."""
    behind = 8 * len(address) - bits
    number = int.from_bytes(address, "big") >> behind << behind
    return number.to_bytes(len(address), "big")
