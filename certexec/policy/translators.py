"""How the arguments that registers hold read in rules, and which registers satisfy a comparison.

A translator does both. ``text`` is what the supervisor and the log show. ``layers`` answers for all
2**32 values at once: an int has few texts that a rule can tell from the rest, so a comparison
becomes tests of masked values. Where that cannot be said for certain (a regular expression on the
number of an unknown signal) the answer is None, and the supervisor looks at the text instead.

Only the low word of a register counts: these arguments are C ints, and of the two that are not
(``prot`` of mmap and mprotect) the kernel honours no higher bit.

Source of the texts: systrace 1.6g, systrace-translate.c; the names and numbers are Linux's.
"""

from __future__ import annotations

import os

from certexec.policy.operators import make_test, needs_expansion, pattern_bytes
from certexec.policy.rest_of_texts import HEXADECIMAL, Numbered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from certexec.policy.model import Symbol
    from certexec.policy.operators import Test

    Truth = bool | None
    """None: the registers alone do not tell."""
    Cell = tuple[int, int, tuple[Truth, ...]]
    """(value, mask, one truth for each comparison): it is about ``register & mask == value``."""

WORD = 0xFFFFFFFF
_SIGN = 1 << 31


def signed(value: int) -> int:
    """Read a 32-bit word as C's int."""
    return value - (1 << 32) if value & _SIGN else value


class Translator:
    """What registers tell of an argument: of this one, nothing (``uname``)."""

    __slots__ = ()

    def text(self, register: int) -> str | None:
        """Return the text for a register, None where registers do not tell."""
        return None

    def layers(self, symbols: Sequence[Symbol]) -> list[list[Cell]]:
        """Return for which values which comparisons hold.

        The first cell that fits counts; all layers together cover every value. The cells of one
        layer are disjoint.
        """
        return [[(0, 0, (None,) * len(symbols))]]


class Named(Translator):
    """A number that has names: ``AF_INET``, ``SIGHUP``; the rest reads as a number in a frame.

    Attributes:
        names: value to name; mask: the bits that count; rest: how the other values read, None
            where registers do not tell.
    """

    __slots__ = ("mask", "names", "rest")

    def __init__(
        self, names: Mapping[int, str], rest: Numbered | None, mask: int = WORD
    ) -> None:
        self.names = names
        self.rest = rest
        self.mask = mask

    def text(self, register: int) -> str | None:
        """Return the text for a register, None where registers do not tell."""
        value = register & self.mask
        name = self.names.get(value)
        if name is not None or self.rest is None:
            return name
        return self.rest.text(signed(value))

    def layers(self, symbols: Sequence[Symbol]) -> list[list[Cell]]:
        """As in ``Translator``."""
        values = set(self.names)
        others: list[Truth] = [None] * len(symbols)
        if self.rest is not None:
            others = []
            for symbol in symbols:
                truth, numbers = _of_rest(symbol, self.rest)
                others.append(truth)
                values.update(
                    number & WORD for number in numbers
                    if number == signed(number & WORD) and number & WORD & ~self.mask == 0
                )
        tests = _tests(symbols)
        exact = [(value, self.mask, _truths(tests, self.text(value))) for value in sorted(values)]
        return [exact, [(0, 0, tuple(others))]]


class Finite(Translator):
    """An argument of few texts, that depend on some bits only: ``mode``, ``oflags``.

    Attributes:
        bits: those that count; read: text of a register of which the other bits were cleared.
    """

    __slots__ = ("_texts", "bits", "read")

    def __init__(self, bits: int, read: Callable[[int], str]) -> None:
        self.bits = bits
        self.read = read
        self._texts: list[str] = []

    def text(self, register: int) -> str | None:
        """Return the text for a register."""
        return self.read(register & self.bits)

    def layers(self, symbols: Sequence[Symbol]) -> list[list[Cell]]:
        """As in ``Translator``."""
        bits = [1 << place for place in reversed(range(32)) if self.bits >> place & 1]
        if not self._texts:
            self._texts = [self.read(value) for value in _combinations(bits)]
        tests = _tests(symbols)
        return [_cells(bits, [_truths(tests, text) for text in self._texts])]


class Protection(Translator):
    """The access that mmap(2) and its like ask for: names joined by a bar."""

    __slots__ = ()

    NAMES = (
        (0x1, "PROT_READ"), (0x2, "PROT_WRITE"), (0x4, "PROT_EXEC"),
        (0x01000000, "PROT_GROWSDOWN"), (0x02000000, "PROT_GROWSUP"),
    )
    KNOWN = sum(bit for bit, _ in NAMES)

    def text(self, register: int) -> str | None:
        """Return the text for a register."""
        value = register & WORD
        unknown = value & ~self.KNOWN
        if unknown:
            return self._unknown(value & self.KNOWN).text(unknown)
        return "|".join(self._names(value)) or "PROT_NONE"

    def layers(self, symbols: Sequence[Symbol]) -> list[list[Cell]]:
        """As in ``Translator``: values that are named in rules, then by the known bits alone."""
        bits = [bit for bit, _ in reversed(self.NAMES)]
        tests = _tests(symbols)
        exact: list[Cell] = []
        others: list[tuple[Truth, ...]] = []
        for known in _combinations(bits):
            frame = self._unknown(known)
            values = {known}
            truths: list[Truth] = []
            for symbol in symbols:
                truth, numbers = _of_rest(symbol, frame)
                truths.append(truth)
                values.update(
                    known | number for number in numbers
                    if 0 < number <= WORD and number & self.KNOWN == 0
                )
            others.append(tuple(truths))
            exact += [(value, WORD, _truths(tests, self.text(value))) for value in sorted(values)]
        return [exact, _cells(bits, others)]

    def _names(self, value: int) -> list[str]:
        return [name for bit, name in self.NAMES if value & bit]

    def _unknown(self, known: int) -> Numbered:
        return Numbered("|".join([*self._names(known), "<unknown:0x"]), ">", HEXADECIMAL)


def _tests(symbols: Sequence[Symbol]) -> list[Test | None]:
    return [
        None if needs_expansion(symbol.data)
        else make_test(symbol.operator, pattern_bytes(symbol.data))
        for symbol in symbols
    ]


def _truths(tests: Sequence[Test | None], text: str | None) -> tuple[Truth, ...]:
    if text is None:
        return (None,) * len(tests)
    data = text.encode()
    return tuple(None if test is None else test(data) for test in tests)


def _of_rest(symbol: Symbol, rest: Numbered) -> tuple[Truth, list[int]]:
    if needs_expansion(symbol.data):
        return None, []
    return rest.compare(symbol.operator, symbol.data)


def _combinations(bits: Sequence[int]) -> Iterator[int]:
    """Yield every value that consists of some of these bits, the first bit as the highest."""
    for number in range(1 << len(bits)):
        yield sum(bit for place, bit in enumerate(reversed(bits)) if number >> place & 1)


def _cells(bits: Sequence[int], truths: Sequence[tuple[Truth, ...]]) -> list[Cell]:
    """Return disjoint cells for all values of these bits, as few as halving them gives.

    ``truths``: one for each of ``_combinations(bits)``.
    """
    if truths.count(truths[0]) == len(truths):
        return [(0, 0, truths[0])]
    half = len(truths) // 2
    low, high = _cells(bits[1:], truths[:half]), _cells(bits[1:], truths[half:])
    if low == high:
        return low
    return [(value, mask | bits[0], truth) for value, mask, truth in low] + [
        (value | bits[0], mask | bits[0], truth) for value, mask, truth in high
    ]


# ---- the arguments -------------------------------------------------------------------------------

_DECIMAL = Numbered("", "")
_SOCK_FLAGS = 0o2000000 | 0o4000
"""SOCK_CLOEXEC and SOCK_NONBLOCK: Linux takes them in the register of the type."""
_MODE = 0o7777
_O_LETTERS = (
    (os.O_NONBLOCK, "n"),
    (os.O_APPEND, "a"),
    (os.O_CREAT, "c"),
    (os.O_TRUNC, "t"),
)
_O_PATH = 0o10000000
_O_BITS = os.O_ACCMODE | _O_PATH | sum(bit for bit, _ in _O_LETTERS)

_oflags: dict[int, str] = {}
"""The texts that were asked for before: every open asks."""

_SIGNALS = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM",
    15: "SIGTERM", 17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP", 20: "SIGTSTP", 21: "SIGTTIN",
    22: "SIGTTOU", 23: "SIGURG", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO", 31: "SIGSYS",
}
"""signal(7); systrace had no names for the others."""
_COMMANDS = {
    0: "F_DUPFD", 1: "F_GETFD", 2: "F_SETFD", 3: "F_GETFL", 4: "F_SETFL", 5: "F_GETLK",
    6: "F_SETLK", 7: "F_SETLKW", 8: "F_SETOWN", 9: "F_GETOWN", 10: "F_SETSIG", 11: "F_GETSIG",
}
"""fcntl(2); systrace had no names for the others."""
OWN_GROUP = "<own process group>"
EVERY_PROCESS = "<every process: -1>"


def mode_text(mode: int) -> str:
    """Return systrace's text for a file mode: octal, without the file's type and a leading 0."""
    return f"{mode & _MODE:o}"


def oflags_text(flags: int) -> str:
    """Return systrace's text for open flags: access mode, then n, a, c, t for what is set.

    With O_PATH the kernel ignores all of them: nothing but the name is opened.
    """
    shown = flags & _O_BITS
    text = _oflags.get(shown)
    if text is None:
        text = ("ro", "wo", "rw", "--")[shown & os.O_ACCMODE]
        text += "".join(letter for bit, letter in _O_LETTERS if shown & bit)
        if shown & _O_PATH:
            text = "ro"
        _oflags[shown] = text
    return text


TRANSLATORS: dict[str, Translator] = {
    "sockdom": Named(
        {1: "AF_UNIX", 2: "AF_INET", 4: "AF_IPX", 10: "AF_INET6"}, Numbered("AF_UNKNOWN(", ")")
    ),
    "socktype": Named(
        {1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 4: "SOCK_RDM", 5: "SOCK_SEQPACKET"},
        Numbered("SOCK_UNKNOWN(", ")"), WORD & ~_SOCK_FLAGS,
    ),
    "signame": Named(_SIGNALS, Numbered("<unknown>: ", "")),
    "cmd": Named(_COMMANDS, Numbered("<unknown>: ", "")),
    "pidname": Named({0: OWN_GROUP, WORD: EVERY_PROCESS}, None),
    "uid": Named({}, _DECIMAL),
    "gid": Named({}, _DECIMAL),
    "fd": Named({}, _DECIMAL),
    "uname": Translator(),
    "prot": Protection(),
    "mode": Finite(_MODE, mode_text),
    "oflags": Finite(_O_BITS, oflags_text),
}
"""Arguments whose text depends on their register; all others lie in memory."""
