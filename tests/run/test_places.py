"""What lies over one another in a tree: each layer counts, and nothing is there twice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from certexec.errors import RunError
from certexec.policy.guards import PERMITTED, deny
from certexec.policy.model import Policy
from certexec.run import places as places_module
from certexec.run.places import Places
from certexec.run.transitions import NONE

OUTER, FIRST, SECOND = range(3)
DENIED = [deny(number) for number in (1, 2, 3)]


class Only:
    """A table that denies one call, by its own errno, and permits all others."""

    def __init__(self, place: int, foreign: Any = None) -> None:
        self.place = place
        self.foreign = foreign

    def decide(self, number: int, _: object) -> Any:
        return DENIED[self.place] if number == self.place else PERMITTED


def made(*with_foreign: int, same: bool = False) -> Places:
    """Return the places of a program and of two certificates that it may execute.

    ``with_foreign``: which of them admit the 32-bit ABI; ``same``: by their only part.
    """
    policies = [Policy(f"/bin/{place}", "native", 1) for place in range(3)]
    tables: list[Any] = [Only(place) for place in range(3)]
    for place in with_foreign:
        policies[place].foreign = policies[place] if same else Policy("/bin/x", "linux", 1)
        tables[place].foreign = Only(place)
    reach: Any = SimpleNamespace(policies=policies[:1])
    compiled: Any = SimpleNamespace(tables=tables)
    inside: list[Any] = [
        SimpleNamespace(digest=bytes([place]), policy=policies[place]) for place in (FIRST, SECOND)
    ]
    return Places(reach, compiled, inside, "", frozenset())


def test_a_certificate_is_known_by_its_own_digest_only() -> None:
    places = made()
    assert [places.of_certificate(bytes([place])) for place in (FIRST, SECOND)] == [FIRST, SECOND]
    assert places.of_certificate(b"another") == NONE


def test_every_layer_decides_and_each_place_is_made_once() -> None:
    places = made()
    both = places.over(OUTER, FIRST)
    all_three = places.over(both, SECOND)
    assert places.layers == {both: (OUTER, FIRST), all_three: (OUTER, FIRST, SECOND)}
    decided = [places.tables[all_three].decide(number, ()) for number in range(4)]
    assert decided == [*DENIED, PERMITTED]
    assert places.over(OUTER, FIRST) == both
    assert len(places.tables) == len(places.policies) == 5


def test_a_policy_that_counts_already_is_not_laid_over_itself() -> None:
    """A certificate that executes itself would make one more place each time."""
    places = made()
    both = places.over(OUTER, FIRST)
    assert places.over(both, FIRST) == both and places.over(FIRST, FIRST) == FIRST
    assert list(places.layers) == [both]


def test_whatever_the_outermost_becomes_the_certificates_stay() -> None:
    places = made()
    both = places.over(places.over(OUTER, FIRST), SECOND)
    other = places.with_outermost(both, FIRST)
    assert places.layers[other] == (FIRST, FIRST, SECOND)
    assert places.tables[other].decide(SECOND, ()) == DENIED[SECOND]


@pytest.mark.parametrize("place", [OUTER, FIRST])
def test_what_any_layer_says_beyond_rules_holds(place: int) -> None:
    places = made()
    after: Any = object()
    places.policies[place].afters = [after]
    places.policies[place].no_dotdot = 7
    both = places.policies[places.over(OUTER, FIRST)]
    assert both.afters == [after] and both.no_dotdot == 7
    assert both.path == "/bin/1"


def test_the_32_bit_abi_is_admitted_where_every_layer_admits_it() -> None:
    places = made(OUTER, FIRST)
    both = places.over(OUTER, FIRST)
    theirs = places.foreign_of(both)
    assert places.layers[theirs] == (places.foreign_of(OUTER), places.foreign_of(FIRST))
    assert NONE not in places.layers[theirs] and theirs != both
    for outer, inner in ((OUTER, SECOND), (SECOND, OUTER)):
        assert places.foreign_of(places.over(outer, inner)) == NONE
    assert places.foreign_of(SECOND) == NONE


def test_a_policy_of_one_part_for_both_abis_is_one_place() -> None:
    places = made(OUTER, same=True)
    assert places.foreign_of(OUTER) == OUTER and len(places.policies) == 3


def test_programs_do_not_choose_how_much_memory_their_layers_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places_module, "COMBINED_MAX", 1)
    places = made()
    both = places.over(OUTER, FIRST)
    with pytest.raises(RunError, match="too many policies"):
        places.over(OUTER, SECOND)
    assert places.over(OUTER, FIRST) == both
    assert len(places.tables) == len(places.policies)
