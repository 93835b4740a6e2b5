"""Certificates of which many are alike but for a few values: what they share is read once.

A tree holds the same program with the same policy many times, and signing it anew changes name,
times, ids, serial and signatures alone. Where those stand follows from their lengths. A file that
has the bytes of one that was read before everywhere else says the same, but for those values; and
as their heads are among these bytes, each is of the same kind and as long.

Only names come in many lengths, so a file's front, which ends where the name begins, is known
apart from what follows the name: whatever has been read behind one name is known behind others.
"""

from __future__ import annotations

import struct

from certexec.certificate import cose, envelope
from certexec.certificate.model import Certificate, Claims
from certexec.certificate.verify import Opened
from certexec.errors import CertificateError

SERIAL = 4
"""Where in a payload the serial stands: behind the head of the map, the version's key, the version
and its own key, all of one byte."""
KEPT_MAX = 4 << 20
"""bytes of certificates that are remembered; beyond it all are forgotten at once."""
SHAPES_MAX = 8
"""Lengths of fronts, and shapes of one length: each is tried, so a tree must not make any number
of them."""
LEAST = {8: 1 << 32, 4: 1 << 16, 2: 1 << 8, 1: 24}
"""The least number that needs so many bytes behind its head, in its one encoding."""


class Alike:
    """Opens certificates, and remembers them. What they share, the results share."""

    def __init__(self) -> None:
        self._fronts: dict[bytes, _Front] = {}
        self._lengths: list[int] = []
        self._shapes: dict[tuple[int, int], list[_Shape]] = {}
        self._size = 0

    def open(self, data: bytes) -> Opened:
        """Take a file apart as ``Opened`` does, and raise what that raises.

        Nobody may change what its certificate holds.
        """
        for length in self._lengths:
            front = self._fronts.get(data[:length])
            if front is None:
                continue
            begin = length + front.name
            for shape in self._shapes.get((len(data) - begin, front.rest), ()):
                fields = shape.split(data, begin)
                known = shape.known.get(fields[::2])
                if known is not None:
                    try:
                        return _Similar(data, begin, front, shape, fields[1::2], known)
                    except CertificateError:
                        break  # what reads it in full says where it is wrong
            break  # no front is the beginning of another
        return _First(data, self)

    def remember(self, data: bytes, message: cose.SignMessage, certificate: Certificate) -> None:
        """Keep a certificate that is in the strict form, while there is room for its shape."""
        if self._size > KEPT_MAX:
            self._fronts.clear()
            self._lengths.clear()
            self._shapes.clear()
            self._size = 0
        front = _Front(message, certificate.claims)
        if front.length not in self._lengths:
            if len(self._lengths) >= SHAPES_MAX:
                return
            self._lengths.append(front.length)
        if self._fronts.setdefault(data[: front.length], front) is front:
            self._size += front.length
        begin = front.length + front.name
        places = _places(message, certificate.claims, certificate.serial, front.rest)
        shapes = self._shapes.setdefault((len(data) - begin, front.rest), [])
        shape = next((one for one in shapes if one.places == places), None)
        if shape is None:
            if len(shapes) >= SHAPES_MAX:
                return
            shape = _Shape(len(data) - begin, front.rest, message, places)
            shapes.append(shape)
        pieces = shape.split(data, begin)[::2]
        if pieces not in shape.known:
            self._size += len(data)
        shape.known[pieces] = _Known(message, certificate)


class _First(Opened):
    """A file whose like was not seen before."""

    __slots__ = ("_alike", "_data")

    def __init__(self, data: bytes, alike: Alike) -> None:
        super().__init__(data)
        self._alike = alike
        self._data = data

    def certificate(self) -> Certificate:
        fresh = super().certificate()
        self._alike.remember(self._data, self.message, fresh)
        return fresh


class _Similar(Opened):
    """A file that differs from a known one in its values alone."""

    __slots__ = ("_like", "_serial")

    def __init__(
        self, data: bytes, begin: int, front: _Front, shape: _Shape, values: tuple[bytes, ...],
        known: _Known,
    ) -> None:  # fmt: skip
        """Check the values; raises CertificateError for any that is not as it must be.

        ``begin``: where what follows the name begins.
        """
        exp, nbf, iat, cti, serial, *signatures = values
        self._like = known.certificate
        claims = self._like.claims
        try:
            name = data[front.length : begin].decode("utf-8")
        except UnicodeDecodeError:
            raise CertificateError("malformed", "a text that is not UTF-8") from None
        header = {
            1: front.issuer, 2: name, 4: _number(exp, claims.exp), 5: _number(nbf, claims.nbf),
            6: _number(iat, claims.iat), 7: cti,
        }  # fmt: skip
        self.claims = Claims.from_header(header)
        self._serial = _number(serial, self._like.serial)
        self.message = cose.SignMessage(
            data[front.protected : begin + front.rest], {},
            data[begin + shape.payload : begin + shape.payload_end],
            [
                cose.Signature(protected, {}, signature)
                for protected, signature in zip(known.signers, signatures, strict=True)
            ],
            {**known.headers, cose.HEADER_CWT_CLAIMS: header},
        )  # fmt: skip

    def certificate(self) -> Certificate:
        return self._like.with_serial(self._serial, self.claims)


class _Known:
    """What is kept of a certificate: its body's headers, its signatures' ones, what it says."""

    __slots__ = ("certificate", "headers", "signers")

    def __init__(self, message: cose.SignMessage, certificate: Certificate) -> None:
        self.headers = message.headers
        self.signers = [one.protected for one in message.signatures]
        self.certificate = certificate


def _number(tail: bytes, like: int) -> int:
    """Return the integer whose head is that of ``like`` and is followed by ``tail``."""
    if not tail:
        return like  # the head is all of it
    number = int.from_bytes(tail, "big")
    if number < LEAST[len(tail)]:
        raise CertificateError("malformed", "a head longer than it needs to be")
    return number


class _Front:
    """What a file begins with, up to its name.

    Attributes:
        length: in bytes; issuer: who is named there.
        name: how many bytes the name has; rest: and the protected header behind it.
        protected: where that header begins.
    """

    __slots__ = ("issuer", "length", "name", "protected", "rest")

    def __init__(self, message: cose.SignMessage, claims: Claims) -> None:
        issuer, name = claims.iss.encode(), claims.sub.encode()
        self.issuer = claims.iss
        self.name = len(name)
        self.protected = len(envelope.HEAD) + 1 + _head(message.protected)
        inside = (
            len(envelope.BODY_HEAD) + 2 + _head(issuer) + len(issuer) + 1 + _head(name)
        )
        self.length = self.protected + inside
        self.rest = len(message.protected) - inside - self.name


class _Shape:
    """Where the values stand behind the name, and what is known of such files.

    All places are counted from there.

    Attributes:
        places: begin and end of each value: expiry, first moment, time of issue, id, serial, then
            the signatures.
        payload, payload_end: where the payload is.
        known: what was read, by the bytes between the values.
    """

    __slots__ = ("known", "payload", "payload_end", "places", "split")

    def __init__(
        self, size: int, rest: int, message: cose.SignMessage, places: list[tuple[int, int]]
    ) -> None:
        """``size``: bytes behind the name; ``rest``: those of them in the protected header."""
        self.places = places
        self.known: dict[tuple[bytes, ...], _Known] = {}
        self.payload, self.payload_end = _payload(rest, message)
        # every other piece is a value
        ends = [place for pair in places for place in pair] + [size]
        sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
        self.split = struct.Struct("=" + "".join([f"{size}s" for size in sizes])).unpack_from


def _payload(rest: int, message: cose.SignMessage) -> tuple[int, int]:
    begin = rest + 1 + _head(message.payload)  # behind an empty map
    return begin, begin + len(message.payload)


def _places(
    message: cose.SignMessage, claims: Claims, serial: int, rest: int
) -> list[tuple[int, int]]:
    """Return where the values stand behind the name that certificates differ in."""
    places = []
    at = 0

    def skip(head: int, tail: int) -> None:
        nonlocal at
        places.append((at + head, at + head + tail))
        at += head + tail

    for moment in (claims.exp, claims.nbf, claims.iat):
        skip(2, _behind_head(moment))
    skip(1 + _head(claims.cti), len(claims.cti))
    at, end = _payload(rest, message)
    at += SERIAL
    skip(1, _behind_head(serial))
    at = end + 1
    for one in message.signatures:
        at += 1 + _head(one.protected) + len(one.protected) + 1
        skip(_head(one.signature), len(one.signature))
    return places


def _head(value: bytes) -> int:
    """Return how many bytes stand before a byte string or a text."""
    return 1 + _behind_head(len(value))


def _behind_head(number: int) -> int:
    """Return how many bytes an integer has behind the first."""
    return next((size for size, least in LEAST.items() if number >= least), 0)
