"""What an agent shows of a question: the facts of certexec.run.agent_desk, and what they mean."""

from __future__ import annotations

from certexec.cli.answered_rules import observation_of
from certexec.policy.learn import rule_name
from certexec.run.agent_desk import question_lines
from certexec.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.run.agent_desk import Waiting

_ACCESS = {
    "ro": "reads", "wo": "writes", "rw": "reads and writes", "--": "neither reads nor writes",
}
_LETTERS = {
    "n": "does not wait", "a": "at its end", "c": "makes it where it is missing", "t": "empties it",
}
_FLAGS = "    oflags: "


def readable_lines(waiting: Waiting, left: float) -> list[str]:
    """Return what a question says, line by line, safe for a terminal."""
    event = waiting.question.event

    def text(name: str) -> str:
        return printable(str(event.get(name, "")))

    call = text("syscall")
    seen = observation_of(waiting.question)
    name = "" if seen is None else rule_name(seen)
    in_rules = f' (in rules "{name}")' if name not in ("", call) else ""
    first = (
        f"#{waiting.number}, {left:.0f} s: {text('user')}'s {text('program')} (process "
        f"{text('pid')}) under {text('certificate')} wants {call}{in_rules}"
    )
    return [first, *(_explained(line) for line in question_lines(waiting, left)[1:])]


def _explained(line: str) -> str:
    """Add to open flags what they say."""
    flags = line.removeprefix(_FLAGS)
    access = _ACCESS.get(flags[:2])
    if flags == line or access is None or not set(flags[2:]) <= _LETTERS.keys():
        return line
    return f"{line} ({', '.join([access, *(_LETTERS[one] for one in flags[2:])])})"
