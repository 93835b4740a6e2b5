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


_BYTE = [bytes((value,)) for value in range(256)]
"""Every single byte: most heads are one of them."""
_SHORT_HEADS = [
    [_BYTE[top << 5 | size] if size < 24 else bytes((top << 5 | 24, size)) for size in range(256)]
    for top in range(8)
]
"""The heads of every kind for arguments below 256: almost all that there are."""
_BYTES_HEADS, _TEXT_HEADS = _SHORT_HEADS[_BYTES], _SHORT_HEADS[_TEXT]


def _head(major: int, argument: int) -> bytes:
    """Encode a head in its shortest form."""
    if argument < 1 << 8:
        return _SHORT_HEADS[major][argument]
    top = major << 5
    if argument < 1 << 16:
        return _BYTE[top | 25] + argument.to_bytes(2, "big")
    if argument < 1 << 32:
        return _BYTE[top | 26] + argument.to_bytes(4, "big")
    return _BYTE[top | 27] + argument.to_bytes(8, "big")


def _encode_into(out: list[bytes], value: object, depth: int) -> None:
    kind = type(value)
    if kind is int:
        if 0 <= value < 24:  # type: ignore[operator]
            out.append(_BYTE[value])  # type: ignore[call-overload]
        else:
            out.append(_encode_integer(value))  # type: ignore[arg-type]
    elif kind is str:
        try:
            text = value.encode("utf-8")  # type: ignore[attr-defined]
        except UnicodeEncodeError:
            raise _malformed("a text is not valid Unicode") from None
        size = len(text)
        out += (_TEXT_HEADS[size] if size < 256 else _head(_TEXT, size), text)
    elif kind is bytes:
        size = len(value)  # type: ignore[arg-type]
        out += (_BYTES_HEADS[size] if size < 256 else _head(_BYTES, size), value)  # type: ignore[arg-type]
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
        _encode_map(out, value, depth)  # type: ignore[arg-type]
    elif kind is Tag:
        if not 0 <= value.number <= MAX_UINT:  # type: ignore[attr-defined]
            raise _malformed("a tag number does not fit into 64 bits")
        out.append(_head(_TAG, value.number))  # type: ignore[attr-defined]
        _encode_into(out, value.value, depth - 1)  # type: ignore[attr-defined]
    else:
        raise _malformed(f"a value of type {kind.__name__} has no place in a certificate")


def _encode_integer(number: int) -> bytes:
    if 0 <= number < 24:
        return _BYTE[number]
    if not -1 - MAX_UINT <= number <= MAX_UINT:
        raise _malformed("an integer does not fit into 64 bits")
    return _head(_UINT, number) if number >= 0 else _head(_NEGATIVE, -1 - number)


def _encode_map(out: list[bytes], value: dict[object, object], depth: int) -> None:
    out.append(_head(_MAP, len(value)))
    if _has_sorted_small_keys(value):
        for small, item in value.items():
            out.append(_BYTE[small])  # type: ignore[call-overload]
            _encode_into(out, item, depth - 1)
        return
    pairs: list[tuple[bytes, object]] = []
    for key, item in value.items():
        if type(key) is int:
            pairs.append((_encode_integer(key), item))
        elif type(key) is str:
            encoded: list[bytes] = []
            _encode_into(encoded, key, 0)
            pairs.append((b"".join(encoded), item))
        else:
            raise _malformed("a map key is neither an integer nor a text")
    pairs.sort(key=_first)
    for encoded_key, item in pairs:
        out.append(encoded_key)
        _encode_into(out, item, depth - 1)


def _has_sorted_small_keys(value: dict[object, object]) -> bool:
    """Tell whether a map stands as it is encoded: almost all in a certificate do."""
    last = -1
    for key in value:
        if type(key) is not int or not last < key < 24:
            return False
        last = key
    return True


def _first(pair: tuple[bytes, object]) -> bytes:
    return pair[0]


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

    def item(self, depth: int) -> object:
        start = self.at
        if start >= self.end:
            raise _malformed(f"the data ends where an item should begin, at byte {start}")
        first = self.data[start]
        self.at = start + 1
        if first < 24:
            return first  # most items are small integers
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
            argument = self.argument(argument, start)
        if major in (_TEXT, _BYTES):
            begin = self.at
            if argument > self.end - begin:
                raise _malformed(f"the data ends in the middle of an item at byte {begin}")
            self.at = begin + argument
            taken = self.data[begin : self.at]
            if major == _BYTES:
                return taken
            try:
                return taken.decode("utf-8")
            except UnicodeDecodeError:
                raise _malformed(f"a text that is not UTF-8 at byte {start}") from None
        if major == _UINT:
            return argument
        if major == _NEGATIVE:
            return -1 - argument
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

    def argument(self, code: int, start: int) -> int:
        """Read the argument of a head that is longer than a byte, in its shortest form."""
        width = _WIDTHS.get(code)
        if width is None:
            raise _malformed(f"an indefinite length or a reserved head at byte {start}")
        begin = self.at
        if width > self.end - begin:
            raise _malformed(f"the data ends in the middle of an item at byte {begin}")
        self.at = begin + width
        argument = int.from_bytes(self.data[begin : self.at], "big")
        if argument < _LEAST[code]:
            raise _malformed(f"a head longer than it needs to be at byte {start}")
        return argument

    def map(self, length: int, depth: int, start: int) -> dict[int | str, object]:
        if length > self.end - self.at:
            raise _malformed(f"a map longer than the data at byte {start}")
        result: dict[int | str, object] = {}
        data = self.data
        previous = b""
        for _ in range(length):
            begin = self.at
            key: object
            if begin < self.end and data[begin] < 24:
                key = data[begin]  # what ``item`` does, without the call
                self.at = begin + 1
            else:
                key = self.item(0)
            if type(key) is not int and type(key) is not str:
                raise _malformed(f"a map key that is no integer and no text at byte {begin}")
            encoded = data[begin : self.at]
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
