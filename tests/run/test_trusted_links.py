"""Who could make a path lead elsewhere: nobody but root, and at most one other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from certexec.policy.guards import DENIED, LANDLOCKED, PERMITTED, Clause, deny
from certexec.policy.guards import EXCHANGING as NUMBERS
from certexec.run.supervisor import Supervisor
from certexec.run.trusted_links import leads_by_roots_links
from tests.isolation import skip_or_fail

OWNER, OTHER = 61001, 61002


@pytest.fixture
def place() -> Iterator[Path]:
    if os.geteuid() != 0:
        skip_or_fail("only root gives directories to others")
    above = Path(tempfile.mkdtemp(prefix="certexec-", dir="/var/lib"))  # below root's alone
    (above / "between" / "below").mkdir(parents=True)
    yield above
    for path in (above / "between" / "below", above / "between", above):
        path.rmdir()


@pytest.mark.parametrize(
    ("above", "mode", "between", "kept"),
    [
        (0, 0o755, OWNER, True), (OWNER, 0o755, OWNER, True), (OTHER, 0o755, OWNER, False),
        (0, 0o775, OWNER, False), (0, 0o757, OWNER, False), (OWNER, 0o777, OWNER, False),
        (0, 0o1777, OWNER, True), (0, 0o1777, 0, True), (OWNER, 0o1777, OWNER, True),
        (OTHER, 0o1777, OWNER, False), (0, 0o1777, OTHER, False),
    ],
)  # fmt: skip
def test_a_path_is_kept_where_only_root_and_its_owner_can_exchange(
    place: Path, above: int, mode: int, between: int, kept: bool
) -> None:
    os.chown(place, above, 0)
    place.chmod(mode)
    os.chown(place / "between", between, 0)
    target = os.open(place / "between" / "below", os.O_PATH)
    try:
        path = os.fsencode(place / "between" / "below")
        assert leads_by_roots_links(path, target, for_good=True, owner=OWNER) == kept
        roots = above == 0 and mode == 0o755 and between == 0
        assert leads_by_roots_links(path, target, for_good=True) == (
            roots or (above, mode, between) == (0, 0o1777, 0)
        )
    finally:
        os.close(target)


def test_every_call_that_exchanges_has_to_pass_the_supervisor_or_be_denied() -> None:
    supervisor = Supervisor.__new__(Supervisor)
    refused = deny(1, DENIED)

    def unseen(number: int = -1, decision: object = refused, foreign: object = None) -> bool:
        def of(asked: int) -> list[Clause]:
            return [Clause((), decision if asked == number else refused)]  # type: ignore[arg-type]

        beside = SimpleNamespace(foreign=None, of=lambda asked: [Clause((), refused)])
        supervisor.tables = [beside, SimpleNamespace(foreign=foreign, of=of)]  # type: ignore[list-item]
        return supervisor._exchanges_unseen()

    assert not unseen()
    assert unseen(foreign=object())  # its calls have other numbers
    for number in NUMBERS:
        assert unseen(number, PERMITTED) and unseen(number, LANDLOCKED)
    assert not unseen(0, PERMITTED)
