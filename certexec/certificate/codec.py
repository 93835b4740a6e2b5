"""Strict deterministic CBOR: exactly one encoding for each value, and no other is accepted.

This is RFC 8949 section 4.2.1 (core deterministic encoding): shortest heads, definite lengths,
map keys in the bytewise order of their encodings. Beyond it: no floating point numbers, no simple
values but false, true and null, no tags unless they are asked for, integer or text keys only, and
at most ``MAX_DEPTH`` levels. It is written here because general decoders accept much more
(trailing bytes, long heads, duplicate keys) and because nothing has to be imported for it.
"""

from __future__ import annotations

from certexec.errors import CertificateError

MAX_DEPTH = 8
"""Levels of arrays, maps and tags; a certificate needs 5, the rest is room for extensions."""
MAX_UINT = 2**64 - 1
"""The largest argument of a CBOR head (RFC 8949 section 3)."""

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _TRUE, _NULL = 0xF4, 0xF5, 0xF6
_WIDTHS = {24: 1, 25: 2, 26: 4, 27: 8}
_LEAST = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}


class Tag:
    """A tagged value (RFC 8949 section 3.4)."""

    __slots__ = ("number", "value")

    def __init__(self, number: int, value: object) -> None:
        self.number = number
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tag):
            return NotImplemented
        return self.number == other.number and self.value == other.value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Tag({self.number}, {self.value!r})"


def _malformed(message: str) -> CertificateError:
    return CertificateError("malformed", message)


def _head(major: int, argument: int) -> bytes:
    """Encode a head in its shortest form."""
    top = major << 5
    if argument < 24:
        return bytes((top | argument,))
    if argument < 1 << 8:
        return bytes((top | 24, argument))
    if argument < 1 << 16:
        return bytes((top | 25,)) + argument.to_bytes(2, "big")
    if argument < 1 << 32:
        return bytes((top | 26,)) + argument.to_bytes(4, "big")
    return bytes((top | 27,)) + argument.to_bytes(8, "big")


def _encode_into(out: list[bytes], value: object, depth: int) -> None:
    kind = type(value)
    if kind is int:
        number: int = value  # type: ignore[assignment]
        if not -1 - MAX_UINT <= number <= MAX_UINT:
            raise _malformed("an integer does not fit into 64 bits")
        out.append(_head(_UINT, number) if number >= 0 else _head(_NEGATIVE, -1 - number))
    elif kind is str:
        try:
            text = value.encode("utf-8")  # type: ignore[attr-defined]
        except UnicodeEncodeError:
            raise _malformed("a text is not valid Unicode") from None
        out.append(_head(_TEXT, len(text)))
        out.append(text)
    elif kind is bytes:
        out.append(_head(_BYTES, len(value)))  # type: ignore[arg-type]
        out.append(value)  # type: ignore[arg-type]
    elif value is None:
        out.append(b"\xf6")
    elif kind is bool:
        out.append(b"\xf5" if value else b"\xf4")
    elif depth == 0:
        raise _malformed(f"more than {MAX_DEPTH} levels")
    elif kind is list or kind is tuple:
        out.append(_head(_ARRAY, len(value)))  # type: ignore[arg-type]
        for item in value:  # type: ignore[attr-defined]
            _encode_into(out, item, depth - 1)
    elif kind is dict:
        pairs = []
        for key, item in value.items():  # type: ignore[attr-defined]
            if type(key) is not int and type(key) is not str:
                raise _malformed("a map key is neither an integer nor a text")
            encoded: list[bytes] = []
            _encode_into(encoded, key, 0)
            pairs.append((b"".join(encoded), item))
        pairs.sort(key=lambda pair: pair[0])
        out.append(_head(_MAP, len(pairs)))
        for encoded_key, item in pairs:
            out.append(encoded_key)
            _encode_into(out, item, depth - 1)
    elif kind is Tag:
        if not 0 <= value.number <= MAX_UINT:  # type: ignore[attr-defined]
            raise _malformed("a tag number does not fit into 64 bits")
        out.append(_head(_TAG, value.number))  # type: ignore[attr-defined]
        _encode_into(out, value.value, depth - 1)  # type: ignore[attr-defined]
    else:
        raise _malformed(f"a value of type {kind.__name__} has no place in a certificate")


def encode(value: object) -> bytes:
    """Encode integers, bytes, texts, lists, tuples, dicts, booleans, None and ``Tag``.

    Source: RFC 8949 section 4.2.1. Raises CertificateError("malformed") for everything that
    ``decode`` would not accept.
    """
    out: list[bytes] = []
    _encode_into(out, value, MAX_DEPTH)
    return b"".join(out)


class _Reader:
    """Reads one item after the other from ``data``; ``at`` is the offset of the next byte."""

    __slots__ = ("at", "data", "end", "tags")

    def __init__(self, data: bytes, tags: bool) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)
        self.tags = tags

    def take(self, length: int) -> bytes:
        start = self.at
        if length > self.end - start:
            raise _malformed(f"the data ends in the middle of an item at byte {start}")
        self.at = start + length
        return self.data[start : self.at]

    def item(self, depth: int) -> object:
        start = self.at
        if start >= self.end:
            raise _malformed(f"the data ends where an item should begin, at byte {start}")
        first = self.data[start]
        self.at = start + 1
        major = first >> 5
        argument = first & 31
        if major == _SIMPLE:
            if first == _FALSE:
                return False
            if first == _TRUE:
                return True
            if first == _NULL:
                return None
            raise _malformed(f"a simple or floating point value at byte {start}")
        if argument >= 24:
            width = _WIDTHS.get(argument)
            if width is None:
                raise _malformed(f"an indefinite length or a reserved head at byte {start}")
            least = _LEAST[argument]
            argument = int.from_bytes(self.take(width), "big")
            if argument < least:
                raise _malformed(f"a head longer than it needs to be at byte {start}")
        if major == _UINT:
            return argument
        if major == _NEGATIVE:
            return -1 - argument
        if major == _BYTES:
            return self.take(argument)
        if major == _TEXT:
            try:
                return self.take(argument).decode("utf-8")
            except UnicodeDecodeError:
                raise _malformed(f"a text that is not UTF-8 at byte {start}") from None
        if depth == 0:
            raise _malformed(f"more than {MAX_DEPTH} levels at byte {start}")
        if major == _ARRAY:
            if argument > self.end - self.at:
                raise _malformed(f"an array longer than the data at byte {start}")
            return [self.item(depth - 1) for _ in range(argument)]
        if major == _MAP:
            return self.map(argument, depth - 1, start)
        if not self.tags:
            raise _malformed(f"a tag at byte {start}")
        return Tag(argument, self.item(depth - 1))

    def map(self, length: int, depth: int, start: int) -> dict[int | str, object]:
        if length > self.end - self.at:
            raise _malformed(f"a map longer than the data at byte {start}")
        result: dict[int | str, object] = {}
        previous = b""
        for _ in range(length):
            begin = self.at
            key = self.item(0)
            if type(key) is not int and type(key) is not str:
                raise _malformed(f"a map key that is no integer and no text at byte {begin}")
            encoded = self.data[begin : self.at]
            if encoded <= previous:
                raise _malformed(f"a map key out of order or twice at byte {begin}")
            previous = encoded
            result[key] = self.item(depth)
        return result


def decode(data: bytes, *, tags: bool = False) -> object:
    """Decode the one item that ``data`` is, refusing every encoding but the deterministic one.

    Returns integers, bytes, texts, lists, dicts, booleans, None and, with ``tags``, ``Tag``.
    The result is encoded again and compared, so that an oversight in the reader cannot let a
    second encoding of the same content pass. Raises CertificateError("malformed").
    """
    reader = _Reader(data, tags)
    value = reader.item(MAX_DEPTH)
    if reader.at != reader.end:
        raise _malformed(f"{reader.end - reader.at} more bytes after the end, at byte {reader.at}")
    if encode(value) != data:
        raise _malformed("not the deterministic encoding")
    return value
