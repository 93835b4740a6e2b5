"""Certificates of which many are alike but for a few values: what they share is read once.

A tree holds the same program with the same policy many times, and signing it anew changes name,
times, ids, serial and signatures alone. Where those stand follows from their lengths. A file that
has the bytes of one that was read before everywhere else says the same, but for those values; and
as their heads are among these bytes, each is of the same kind and as long.
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
"""Shapes of files of one length: each is tried, so a tree must not make any number of them."""
LEAST = {8: 1 << 32, 4: 1 << 16, 2: 1 << 8, 1: 24}
"""The least number that needs so many bytes behind its head, in its one encoding."""


class Alike:
    """Opens certificates, and remembers them. What they share, the results share."""

    def __init__(self) -> None:
        self._shapes: dict[int, list[_Shape]] = {}
        self._size = 0

    def open(self, data: bytes) -> Opened:
        """Take a file apart as ``Opened`` does, and raise what that raises.

        Nobody may change what its certificate holds.
        """
        for shape in self._shapes.get(len(data), ()):
            fields = shape.split(data)
            known = shape.known.get(fields[::2])
            if known is not None:
                try:
                    return _Similar(data, shape, fields[1::2], known)
                except CertificateError:
                    break  # what reads it in full says where it is wrong
        return _First(data, self)

    def remember(self, data: bytes, message: cose.SignMessage, certificate: Certificate) -> None:
        """Keep a certificate that is in the strict form, while there is room for its shape."""
        if self._size > KEPT_MAX:
            self._shapes.clear()
            self._size = 0
        places = _places(message, certificate)
        shapes = self._shapes.setdefault(len(data), [])
        shape = next((one for one in shapes if one.places == places), None)
        if shape is None:
            if len(shapes) >= SHAPES_MAX:
                return
            shape = _Shape(data, message, places)
            shapes.append(shape)
        shape.known[shape.split(data)[::2]] = _Known(message, certificate)
        self._size += len(data)


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
        self, data: bytes, shape: _Shape, values: tuple[bytes, ...], known: _Known
    ) -> None:
        """Check the values; raises CertificateError for any that is not as it must be."""
        sub, exp, nbf, iat, cti, serial, *signatures = values
        self._like = known.certificate
        claims = self._like.claims
        try:
            name = sub.decode("utf-8")
        except UnicodeDecodeError:
            raise CertificateError("malformed", "a text that is not UTF-8") from None
        header = {
            1: claims.iss, 2: name, 4: _number(exp, claims.exp), 5: _number(nbf, claims.nbf),
            6: _number(iat, claims.iat), 7: cti,
        }  # fmt: skip
        self.claims = Claims.from_header(header)
        self._serial = _number(serial, self._like.serial)
        self.message = cose.SignMessage(
            data[shape.protected], {}, data[shape.payload],
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


class _Shape:
    """Where the values stand in files of one length, and what is known of such files.

    Attributes:
        places: begin and end of each value: name, expiry, first moment, time of issue, id,
            serial, then the signatures.
        protected, payload: where in the file they are.
        known: what was read, by the bytes between the values.
    """

    __slots__ = ("known", "payload", "places", "protected", "split")

    def __init__(
        self, data: bytes, message: cose.SignMessage, places: list[tuple[int, int]]
    ) -> None:
        self.places = places
        self.known: dict[tuple[bytes, ...], _Known] = {}
        self.protected, self.payload = _slices(message)
        # every other piece is a value
        ends = [place for pair in places for place in pair] + [len(data)]
        sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
        self.split = struct.Struct("=" + "".join([f"{size}s" for size in sizes])).unpack


def _slices(message: cose.SignMessage) -> tuple[slice, slice]:
    """Return where the protected header and the payload stand."""
    begin = len(envelope.HEAD) + 1 + _head(message.protected)
    end = begin + len(message.protected)
    start = end + 1 + _head(message.payload)  # between them an empty map
    return slice(begin, end), slice(start, start + len(message.payload))


def _places(message: cose.SignMessage, certificate: Certificate) -> list[tuple[int, int]]:
    """Return where the values stand that certificates differ in."""
    protected, payload = _slices(message)
    claims = certificate.claims
    places = []
    at = protected.start + len(envelope.BODY_HEAD) + 1

    def skip(head: int, tail: int) -> None:
        nonlocal at
        places.append((at + head, at + head + tail))
        at += head + tail

    issuer = claims.iss.encode()
    at += 1 + _head(issuer) + len(issuer)
    name = claims.sub.encode()
    skip(1 + _head(name), len(name))
    for moment in (claims.exp, claims.nbf, claims.iat):
        skip(2, _behind_head(moment))
    skip(1 + _head(claims.cti), len(claims.cti))
    at = payload.start + SERIAL
    skip(1, _behind_head(certificate.serial))
    at = payload.stop + 1
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
