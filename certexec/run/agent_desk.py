"""The questions that wait for somebody's answer, one of them shown at a time.

For the user interface of an agent (certexec.run.agent): whatever draws it asks here which question
is shown, gives the answer, and is told what went away by itself: because its caller is gone, or
because its time was over, which is a denial.
"""

from __future__ import annotations

import struct
import time

from certexec.policy.guards import UNMATCHED
from certexec.policy.observation import observed
from certexec.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from certexec.run.agent import Question

NO_RULE = "no rule of the policy matches it"
BY_RULE = "a rule of the policy asks"
WITHDRAWN, LATE = "withdrawn", "too late"
GRACE = 0.5
"""seconds that a question is shown before a key counts for it: what was on its way was not meant"""


_REGISTERS = struct.Struct("<6Q")


class Waiting:
    """A question with its number here, and when it is too late to answer."""

    __slots__ = ("end", "number", "question")

    def __init__(self, number: int, question: Question, end: float) -> None:
        self.number = number
        self.question = question
        self.end = end


class Desk:
    """The questions in the order in which they came.

    Attributes:
        waiting: all of them; the first is the one that is shown.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.waiting: list[Waiting] = []
        self._clock = clock
        self._count = 0

    def add(self, question: Question) -> Waiting:
        """Take a question."""
        self._count += 1
        milliseconds = question.milliseconds
        left = milliseconds / 1000 if isinstance(milliseconds, int) else 0.0
        made = Waiting(self._count, question, self._clock() + left)
        self.waiting.append(made)
        return made

    @property
    def shown(self) -> Waiting | None:
        """The question to be answered now."""
        return self.waiting[0] if self.waiting else None

    def left(self, one: Waiting) -> float:
        """Return how many seconds there are to answer."""
        return max(one.end - self._clock(), 0.0)

    def clear(self) -> list[tuple[Waiting, str]]:
        """Take away the questions that nobody can answer any more.

        Returns them with WITHDRAWN or LATE. A supervisor hangs up when the time is over, too.
        """
        gone = []
        for one in list(self.waiting):
            late = not self.left(one)
            if late or one.question.is_withdrawn():
                self.waiting.remove(one)
                gone.append((one, LATE if late else WITHDRAWN))
        return gone

    def answer(self, number: int, word: str) -> bool:
        """Answer the question with a number; False: nobody waits for it any more."""
        for one in self.waiting:
            if one.number == number:
                self.waiting.remove(one)
                return one.question.answer(word)
        return False

    def later(self) -> None:
        """Put the question that is shown behind the others."""
        if self.waiting:
            self.waiting.append(self.waiting.pop(0))


def _told_by_registers(event: Mapping[str, object]) -> list[str]:
    """Return what the registers of a call say in the words of rules."""
    try:
        registers = _REGISTERS.unpack(bytes.fromhex(str(event.get("args", ""))))
        seen = observed("", str(event.get("syscall", "")), registers, None)
    except (KeyError, ValueError, struct.error):
        return []  # whoever asks may say anything
    return [f"    {name}: {printable(one)}" for name, texts in seen.values for one in texts]


def is_unmatched(question: Question) -> bool:
    """Tell whether it is asked because no rule matches, and not because one says so."""
    return question.event.get("reason") == UNMATCHED


def question_lines(waiting: Waiting, left: float) -> list[str]:
    """Return what a question says, line by line, safe for a terminal."""
    question = waiting.question
    event = question.event

    def text(name: str) -> str:
        return printable(str(event.get(name, "")))

    lines = [
        f"#{waiting.number}, {left:.0f} s: {text('user')}'s {text('program')}[{text('pid')}] under "
        f"{text('certificate')} wants {text('syscall')}"
    ]
    arguments = event.get("arguments")
    if isinstance(arguments, dict):
        lines += [
            f"    {printable(str(name))}: {printable(str(value))}"
            for name, value in arguments.items()
        ]
    if event.get("args"):
        lines.append(f"    registers: {text('args')}")
        lines += [] if isinstance(arguments, dict) else _told_by_registers(event)
    if question.by_registers:
        lines.append("    only that is judged: what it reads from memory is what stands there then")
    if event.get("as"):
        lines.append(f"    as {text('as')}")
    lines.append(f"    {NO_RULE if is_unmatched(question) else BY_RULE}")
    lines.append(
        f"    policy of {text('policy')}; asked by process {question.asker_pid} of uid "
        f"{question.asker_uid}"
    )
    return lines
