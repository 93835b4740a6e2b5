"""All calls that some rules can tell apart, one of each kind (pure).

Rules compare texts of arguments, and numbers and names of users. So the calls of one kind fall into
finitely many classes, and whoever has judged one call of each class has judged all of them:
certexec.policy.witness finds the texts. Texts of different arguments are taken to be independent of
each other, as they are but for a user's name and number.

Where a comparison cannot be divided so (a regular expression with a back reference, an IPv6
network) texts are made from what the rules say instead, and the answer is not exact.
"""

from __future__ import annotations

import functools
import itertools

from certexec.policy import networks
from certexec.policy.automaton import Automaton, TooComplex
from certexec.policy.calls import arguments_of
from certexec.policy.chain import chain
from certexec.policy.model import ALIASES, MACROS, Subject, symbols
from certexec.policy.operators import expand, needs_expansion, pattern_bytes
from certexec.policy.patterns import POSITIVE, texts_of
from certexec.policy.possible import domains, exactly, is_possible
from certexec.policy.translators import TRANSLATORS, WORD
from certexec.policy.witness import examples

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from certexec.policy.calls import Argument, Variant
    from certexec.policy.chain import Chain
    from certexec.policy.model import Rule

    Values = dict[str, list[bytes]]
    Comparison = tuple[str, str]
    """(operator, data), operators as in certexec.policy.patterns."""

CASES_MAX = 300_000
"""calls of one kind that are judged one by one; each costs some 20 microseconds"""
AUTOMATA_MAX = 20_000
DIVIDED_MAX = 64
"""questions whose answers are kept: the uses of many calls are asked the same"""
CREAT_FLAGS = "woct"
"""creat(2) is an open with O_WRONLY, O_CREAT and O_TRUNC."""
_SPECIAL = "*?[]\\^$().|+{}"
_INT_MIN, _INT_MAX = -(1 << 31), (1 << 31) - 1


class Case:
    """One call: the texts of its arguments by name, and whose it is."""

    __slots__ = ("subject", "values")

    def __init__(self, values: Values, subject: Subject) -> None:
        self.values = values
        self.subject = subject


class Cases:
    """The calls of one kind that need to be judged.

    Attributes:
        exact: every class of calls is there.
    """

    __slots__ = ("_arguments", "_each", "exact")

    def __init__(
        self, rules: Iterable[Rule], name: str, variant: Variant,
        subjects: Sequence[Subject] | None = None,
    ) -> None:
        """Find them. ``rules``: all that will judge; ``subjects``: None: of every kind.

        Raises TooComplex when there are too many.
        """
        rules = list({id(rule): rule for rule in rules}.values())
        self.exact = True
        self._arguments = arguments_of(name, variant)
        self._each: list[tuple[Subject, list[list[bytes]]]] = []
        number = 0
        for subject in subjects_of(rules) if subjects is None else subjects:
            texts = [
                self._texts(rules, argument, places, _fixed(name, argument, variant), variant.label,
                            subject)
                for argument, places in _variables(self._arguments)
            ]
            count = 1
            for one in texts:
                count *= len(one)
            number += count
            if number > CASES_MAX:
                raise TooComplex("too many calls")
            self._each.append((subject, texts))

    def __iter__(self) -> Iterator[Case]:
        variables = _variables(self._arguments)
        for subject, texts in self._each:
            for chosen in itertools.product(*texts):
                values: Values = {}
                for (argument, places), text in zip(variables, chosen, strict=True):
                    slots = values.setdefault(argument.name, [])
                    for place in places:
                        slots.extend([b""] * (place + 1 - len(slots)))
                        slots[place] = text
                yield Case(values, subject)

    def _texts(
        self, rules: Sequence[Rule], argument: Argument, places: Sequence[int], fixed: str | None,
        use: str, subject: Subject,
    ) -> list[bytes]:
        """Return texts of one argument, one of each class; ``fixed``: the only one that it has."""
        asked = tuple(dict.fromkeys(
            (operator, _expanded(data, subject))
            for operator, data in _comparisons(tuple(rules), argument.name, tuple(places))
        ))
        sets = domains(argument.name, use) if fixed is None else exactly(fixed)
        texts, made, exact = _divided(asked, sets)
        self.exact = self.exact and exact
        if fixed is None:
            made = [text for text in made if is_possible(argument.name, text, use)]
        return list(dict.fromkeys((*texts, *made)))


@functools.lru_cache(DIVIDED_MAX)
def _comparisons(
    rules: tuple[Rule, ...], argument: str, places: tuple[int, ...]
) -> list[Comparison]:
    """Return what rules ask about an argument in these places, macros as they are written."""
    return list(dict.fromkeys(
        (POSITIVE.get(symbol.operator, symbol.operator), symbol.data)
        for rule in rules for symbol in symbols(rule.expression)
        if symbol.operator != "true" and symbol.argument.lower() == argument
        and max(symbol.offset, 0) in places
        and (rule.syscall not in ALIASES or argument == "filename")
    ))


@functools.lru_cache(DIVIDED_MAX)
def _divided(
    asked: Sequence[Comparison], sets: Sequence[Automaton]
) -> tuple[Iterable[bytes], list[bytes], bool]:
    """Return texts of all classes, texts made in place of these, and whether none is missing."""
    found: dict[int, bytes] = {}
    known: list[Automaton | Chain] = []
    made: list[bytes] = []
    exact = True
    for comparison in asked:
        try:
            known.append(_automaton(comparison))
        except TooComplex:
            exact = False
            made += _made(comparison)
    for domain in sets:
        try:
            for inside, text in examples(known, domain).items():
                found.setdefault(inside, text)
        except TooComplex:
            exact = False
            for comparison in asked:
                made += _made(comparison)
            for _, text in examples((), domain).items():
                made.append(text)
    return found.values(), made, exact


def unwatched(done: int, total: int) -> None:
    """Do nothing, where nobody waits to see how far judging many calls has come."""


def subjects_of(rules: Sequence[Rule]) -> list[Subject]:
    """Return callers of every kind that rules tell apart.

    Their home and the directory of $CWD are nowhere that the rules name; where rules know both,
    these are also the same, and below each other.
    """
    data = [symbol.data for rule in rules for symbol in symbols(rule.expression)]
    user = "user"
    while any(user in one for one in data):
        user += "1"
    home, elsewhere = f"/home/{user}", f"/srv/{user}"
    places = [(home, elsewhere)]
    if all(any(macro in one for one in data) for macro in (MACROS[0], MACROS[2])):
        places += [(home, home), (home, f"{home}/dir"), (f"{elsewhere}/home", elsewhere)]
    predicates = [rule.predicate for rule in rules if rule.predicate is not None]
    uids = _numbers([one.number for one in predicates if one.kind == "user"])
    gids = _numbers([one.number for one in predicates if one.kind != "user"])
    return [
        Subject(uid, gid, place, user, cwd) for uid in uids for gid in gids for place, cwd in places
    ]


def _numbers(asked: Iterable[int]) -> list[int]:
    """Return numbers that stand for every side of those asked about, an ordinary one first."""
    found = {near for one in asked for near in (one - 1, one, one + 1)} or {1000}
    fit = [one for one in found if _INT_MIN <= one <= _INT_MAX]
    return [one & WORD for one in sorted(fit, key=lambda one: (one < 1, one))]


def _variables(arguments: Sequence[Argument]) -> list[tuple[Argument, list[int]]]:
    """Return the arguments with their places among those of the same name.

    Those that are read from one register are one.
    """
    found: dict[tuple[str, int], tuple[Argument, list[int]]] = {}
    counts: dict[str, int] = {}
    for argument in arguments:
        place = counts.get(argument.name, 0)
        counts[argument.name] = place + 1
        shared = argument.register if argument.name in TRANSLATORS else -2 - place
        found.setdefault((argument.name, shared), (argument, []))[1].append(place)
    return list(found.values())


def _fixed(name: str, argument: Argument, variant: Variant) -> str | None:
    """Return the only text of an argument, where the call or registers that tell the use say it."""
    if name == "creat" and argument.name == "oflags":
        return CREAT_FLAGS
    if not argument.in_register or argument.name == "oflags":
        return None
    for register, mask, value in variant.tests:
        if register == argument.register and mask & WORD == WORD:
            return TRANSLATORS[argument.name].text(value)
    return None


def _expanded(data: str, subject: Subject) -> str:
    return expand(data, subject) if needs_expansion(data) else data


@functools.lru_cache(AUTOMATA_MAX)
def _automaton(comparison: Comparison) -> Automaton | Chain:
    return chain(*comparison) or Automaton(texts_of(*comparison))


def _made(comparison: Comparison) -> list[bytes]:
    """Return texts that a comparison is likely to tell from others."""
    operator, data = comparison
    if operator == "in":
        return [text.encode() for text in _near(data)]
    plain = "".join(one for one in data if one not in _SPECIAL)
    texts = (data, plain, data.lower(), f"/{plain}", f"{plain}x", f"{plain}/x", f"x{plain}", "/x")
    return [one for one in map(pattern_bytes, texts) if b"\0" not in one]


def _near(data: str) -> Iterator[str]:
    """Yield addresses at and around the edges of a network."""
    network = networks.parse(data)
    size = 8 * len(network.address)
    first = int.from_bytes(network.address, "big")
    last = first | (1 << size - network.bits) - 1
    for number in (first, last, first - 1, last + 1):
        if not 0 <= number < 1 << size:
            continue
        address = number.to_bytes(size // 8, "big")
        for port in (network.first, network.last, network.first - 1, network.last + 1):
            if 0 <= port <= networks.PORT_MAX:
                yield str(networks.Network(address, size, port, port))
