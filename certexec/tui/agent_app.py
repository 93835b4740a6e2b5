"""The terminal app of ``certexec agent``: the questions that wait, and keys that answer them."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Footer, Static

from certexec.run.agent import Agent, Question
from certexec.run.agent_desk import GRACE, LATE, Desk, Waiting, is_unmatched, question_lines
from certexec.run.agent_protocol import ALWAYS, DENY, KILL, PERMIT
from certexec.text import printable
from certexec.tui.screens import LOW
from certexec.tui.signals import end_on_signals

STEP = 0.05
"""seconds between two looks at what is asked, and at the time that is left"""
LOOKS = 4
"""times that one step looks: a question comes in three parts"""
TOLD = 50
"""outcomes that stay on the screen"""
_KEYS = "p permit once   a always in this run   d deny   k kill the process"
_WORDS = {PERMIT: "permitted", ALWAYS: "permitted in this run", DENY: "denied", KILL: "killed"}


class AgentApp(App[int]):
    """Shows the questions in the order in which they came, one of them marked."""

    TITLE = "certexec agent"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { background: $primary; color: $text; padding: 0 1; height: 1; }
    #queue { border: round $primary; margin: 0 1; padding: 0 1; height: auto; max-height: 40%; }
    #question { padding: 1 2 0 2; height: auto; max-height: 40%; }
    #keys { padding: 1 2; height: 3; text-style: bold; }
    .-low #queue { border: none; max-height: 1; }
    .-low #question { padding: 0 1; max-height: 100%; height: 1fr; }
    .-low #keys { padding: 0 1; height: auto; max-height: 2; }
    .-low #told { display: none; }
    #told { border: round $surface-lighten-2; margin: 0 1; padding: 0 1; height: 1fr; }
    """
    VERTICAL_BREAKPOINTS = LOW
    BINDINGS = [
        Binding("p", f"answer('{PERMIT}')", "permit once"),
        Binding("a", f"answer('{ALWAYS}')", "always"),
        Binding("d", f"answer('{DENY}')", "deny"),
        Binding("k", f"answer('{KILL}')", "kill"),
        Binding("down", "mark(1)", "next", key_display="down"),
        Binding("up", "mark(-1)", "previous", key_display="up"),
        Binding("q,ctrl+c", "leave", "quit, deny all", priority=True),
    ]

    def __init__(
        self, agent: Agent, tell: Callable[[Waiting], None], rule: Callable[[Question], str],
        permits: Callable[[Question], bool] = lambda _: False,
        lines: Callable[[Waiting, float], list[str]] = question_lines, *, grace: float = GRACE,
    ) -> None:  # fmt: skip
        """Take what it needs.

        ``tell``: told of each question, once; ``rule``: says what would permit one for good;
        ``permits``: an answer that was given before is about this, too; ``lines``: what is shown.
        """
        super().__init__()
        self._rule = rule
        self._permits = permits
        self._lines = lines
        self.agent = agent
        self.desk = Desk()
        self._tell = tell
        self._grace = grace
        self._marked = 0
        self._since = 0.0
        self._changed = 0.0
        self._outcomes: list[str] = []
        # looked up by no query: the clock ticks on while the app takes its screen down
        names = ("head", "waiting", "what", "keys", "outcomes")
        self._parts = {name: Static(Content(""), id=name) for name in names}

    def compose(self) -> ComposeResult:
        """Make the parts."""
        yield self._parts["head"]
        with VerticalScroll(id="queue", can_focus=False):
            yield self._parts["waiting"]
        with VerticalScroll(id="question", can_focus=False):
            yield self._parts["what"]
        yield self._parts["keys"]
        with VerticalScroll(id="told", can_focus=False):
            yield self._parts["outcomes"]
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look, and see to it that no signal leaves the socket of a dead agent."""
        end_on_signals(self, lambda: self.agent.close())
        self.set_interval(STEP, self.look)
        self.look()

    def look(self) -> None:
        """Take what came, drop what nobody waits for any more, and show the rest."""
        if len(self.query("#head, #waiting, #what, #keys, #outcomes")) < 5:
            return  # the end has begun: the parts are gone, and the clock still ticks
        for _ in range(LOOKS):
            question = self.agent.wait(0.0)
            if question is not None:
                self._take(question)
        for one, why in self.desk.clear():
            self._changed = time.monotonic()
            late = "denied: its time is over"
            self._note(one, late if why == LATE else "withdrawn: nobody waits for it")
        self._show()

    def _take(self, question: Question) -> None:
        one = self.desk.add(question)
        if self._permits(question):
            self.desk.answer(one.number, ALWAYS)
            self._note(one, "permitted by a rule that was added")
            return
        self._tell(one)
        self._changed = time.monotonic()

    @property
    def marked(self) -> Waiting | None:
        """The question that a key answers."""
        for one in self.desk.waiting:
            if one.number == self._marked:
                return one
        return None

    def _show(self) -> None:
        waiting = self.desk.waiting
        if self.marked is None:
            self._marked = waiting[0].number if waiting else 0
            self._since = time.monotonic()
        count = len(waiting)
        head = "1 question waits" if count == 1 else f"{count} questions wait"
        self._write("head", f"certexec agent: {head if count else 'waiting for questions'}")
        self._write("waiting", "\n".join(map(self._line, waiting)) or "nothing is asked")
        self._write("outcomes", "\n".join(reversed(self._outcomes)))
        one = self.marked
        lines = [] if one is None else self._lines(one, self.desk.left(one))
        self._write("what", "\n".join(lines))
        self._write("keys", "" if one is None else _KEYS if self._counts() else "...")

    def _line(self, one: Waiting) -> str:
        event = one.question.event
        arguments = event.get("arguments")
        shown = list(arguments.values()) if isinstance(arguments, dict) else []
        mark = ">" if one.number == self._marked else " "
        text = (
            f"{mark} #{one.number} {self.desk.left(one):3.0f} s  {event.get('program', '')}"
            f"[{event.get('pid', '')}] {event.get('syscall', '')} {' '.join(map(str, shown))}"
            f"{' (no rule)' if is_unmatched(one.question) else ''}"
        )
        return printable(text)

    def _write(self, name: str, text: str) -> None:
        self._parts[name].update(Content(text))

    def _counts(self) -> bool:
        return time.monotonic() - self._since >= self._grace

    def _note(self, one: Waiting, outcome: str) -> None:
        event = one.question.event
        what = printable(f"{event.get('program', '')} {event.get('syscall', '')}")
        self._outcomes = [*self._outcomes, f"#{one.number} {what}: {outcome}"][-TOLD:]

    # -- keys -------------------------------------------------------------------------------------

    def action_answer(self, word: str) -> None:
        """Answer the marked question, unless it has only just been shown."""
        one = self.marked
        if one is None or not self._counts():
            return
        given = self.desk.answer(one.number, word)
        outcome = _WORDS[word] if given else "too late: nobody waits for it"
        if given and word == ALWAYS and (rule := self._rule(one.question)):
            outcome += f"\n  {rule}"
        self._note(one, outcome)
        self._show()

    def action_mark(self, step: int) -> None:
        """Mark another question; who chose it may answer it at once.

        Unless the list has only just changed: then another one may stand where that one stood, and
        whoever asks could have made it so.
        """
        numbers = [one.number for one in self.desk.waiting]
        if self._marked in numbers:
            at = (numbers.index(self._marked) + step) % len(numbers)
            if numbers[at] != self._marked:
                self._marked, self._since = numbers[at], self._changed
        self._show()

    def action_leave(self) -> None:
        """End: what waits is denied."""
        self.exit(0)
