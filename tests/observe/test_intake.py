"""Reading beside an app: bounded, in order, and over when it is to be over."""

import threading
from collections.abc import Generator

import pytest

from certexec.errors import RunError
from certexec.observe.intake import WAITING_MAX, Intake
from certexec.observe.reading import Seen


def drained(intake: Intake) -> list[object]:
    """Take until it has ended."""
    found: list[object] = []
    while intake.is_alive():
        events, words = intake.take()
        found += [*events, *words]
    while any(more := intake.take()):
        found += [*more[0], *more[1]]
    return found


def test_all_of_it_comes_in_order_however_much() -> None:
    made = [Seen({"pid": number}) for number in range(3 * WAITING_MAX)]

    def feed() -> Generator[Seen | str | None, None, None]:
        for one in made:
            yield one
            yield None

    intake = Intake(feed())
    intake.start()
    assert drained(intake) == made
    assert intake.ended == "the log has ended"


def test_what_nobody_takes_holds_up_the_reading_and_not_the_memory() -> None:
    read = []

    def feed() -> Generator[Seen | str | None, None, None]:
        while True:
            read.append(None)
            yield Seen({})

    intake = Intake(feed())
    intake.start()
    while not intake._waiting.full():
        pass
    intake.finish()
    assert not intake.is_alive() and len(read) <= WAITING_MAX + 2


def test_the_feed_is_closed_in_the_end() -> None:
    closed = threading.Event()

    def feed() -> Generator[Seen | str | None, None, None]:
        try:
            while True:
                yield None
        finally:
            closed.set()

    intake = Intake(feed())
    intake.start()
    intake.finish()
    assert closed.is_set()


@pytest.mark.parametrize(
    ("error", "said"),
    [(RunError("unreadable", 'cannot read "x"'), 'cannot read "x"'),
     (OSError(5, "Input/output error"), "cannot read any more: Input/output error")],
)  # fmt: skip
def test_an_error_is_told_after_what_came_before_it(error: Exception, said: str) -> None:
    def feed() -> Generator[Seen | str | None, None, None]:
        yield "one word"
        raise error

    intake = Intake(feed())
    intake.start()
    assert drained(intake) == ["one word"]
    assert intake.ended == said
