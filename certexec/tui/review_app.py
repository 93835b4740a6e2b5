"""The terminal app of ``certexec policy review``: certexec.policy.review, shown by Textual."""

from __future__ import annotations

from collections.abc import Callable

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from certexec.errors import CertexecError
from certexec.policy.review import EVENT, Review
from certexec.policy.suggestions import Suggestion
from certexec.text import printable
from certexec.tui.screens import LOW, LineScreen, YesScreen
from certexec.tui.signals import end_on_signals


class Counted(Message):
    """A suggestion of an item covers as many files as the words say."""

    def __init__(self, index: int, place: int, words: str) -> None:
        super().__init__()
        self.index = index
        self.place = place
        self.words = words


class ReviewApp(App[bool]):
    """Shows one item after the other; its result is whether the file was saved."""

    TITLE = "certexec policy review"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { background: $primary; color: $text; padding: 0 1; height: 1; }
    #item { padding: 1 2; height: auto; max-height: 40%; }
    .-low #item { padding: 0 1; max-height: 50%; }
    .-low #suggestions { border: none; }
    #suggestions { border: round $primary; margin: 0 1; height: 1fr; }
    #said { padding: 0 2; height: auto; max-height: 4; color: $text-warning; }
    .box { width: 90%; height: auto; border: round $accent; background: $surface; padding: 1 2; }
    #wrong { color: $text-error; height: auto; }
    LineScreen, YesScreen { align: center middle; }
    """
    VERTICAL_BREAKPOINTS = LOW
    BINDINGS = [
        Binding("p", "permit", "permit"),
        Binding("d", "deny", "deny"),
        Binding("e", "edit", "edit"),
        Binding("s", "skip", "skip"),
        Binding("u", "undo", "undo"),
        Binding("b,left", "previous", "back"),
        Binding("slash", "search", "search", key_display="/"),
        Binding("w", "save", "save"),
        Binding("q,ctrl+c", "leave", "quit"),
    ]

    def __init__(
        self, review: Review, *, count: Callable[[str], str], save: Callable[[str], None]
    ) -> None:
        """``count``: says how many files a condition covers; ``save``: writes the file."""
        super().__init__()
        self.review = review
        self._count = count
        self._save = save
        # looked up by no query: a count may end while another screen is on top
        self._head = Static(Content(""), id="head")
        self._item = Static(Content(""), id="what")
        self._options = OptionList(id="suggestions")
        self._said = Static(Content(""), id="said")

    def compose(self) -> ComposeResult:
        """Make the parts."""
        yield self._head
        with VerticalScroll(id="item"):
            yield self._item
        yield self._options
        yield self._said
        yield Footer()

    def on_mount(self) -> None:
        """Show the first item."""
        end_on_signals(self)
        self.show()

    # -- what is shown ----------------------------------------------------------------------------

    def show(self, said: str = "") -> None:
        """Show where the review is now."""
        review = self.review
        number = min(review.at + 1, len(review.items))
        head = f"{review.name}: {number} of {len(review.items)}, {len(review.answers)} answered"
        self._head.update(Content(printable(head)))
        self._said.update(Content(printable(said)))
        self._item.update(Content("\n".join(self._what())))
        options = self._options
        options.clear_options()
        item = review.current
        if item is None:
            return
        for place, one in enumerate(item.suggestions):
            options.add_option(Option(_shown(place, one, "..." if one.files else "")))
        options.highlighted = 0
        options.focus()
        self._count_files(review.at)

    def _what(self) -> list[str]:
        item = self.review.current
        if item is None:
            state = "w saves them" if self.review.changed else "nothing would change"
            return ["That was all.", f"{len(self.review.answers)} answers: {state}, q leaves."]
        if item.kind == EVENT:
            times = "once" if item.times == 1 else f"{item.times} times"
            first = f"{item.program} was not permitted, {times}:"
        else:
            first = f"{item.program}, line {item.line}:"
        lines = [printable(first), f"  {printable(item.title)}"]
        lines += [f"  # {printable(item.note)}"] if item.note else []
        answer = self.review.answers.get(self.review.at)
        if answer is not None:
            lines.append(f"you said: {answer.action} {printable(answer.rule)}")
        elif self.review.covered(self.review.at):
            lines.append(f"another answer decides it: {self.review.covered(self.review.at)}")
        return lines

    @work(thread=True, exclusive=True)
    def _count_files(self, index: int) -> None:
        """Count beside the app, as it takes its time; an item that is left is counted no more."""
        worker = get_current_worker()
        for place, one in enumerate(self.review.items[index].suggestions):
            if one.files and not worker.is_cancelled:
                self.post_message(Counted(index, place, self._count(one.condition)))

    def on_counted(self, counted: Counted) -> None:
        """Show a count, if its item is still shown."""
        if self.review.at == counted.index:
            one = self.review.items[counted.index].suggestions[counted.place]
            shown = _shown(counted.place, one, counted.words)
            self._options.replace_option_prompt_at_index(counted.place, shown)

    # -- keys -------------------------------------------------------------------------------------

    def _chosen(self) -> int:
        return self._options.highlighted or 0

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except CertexecError as error:
            self.show(error.message)
        else:
            self.show()

    def on_option_list_option_selected(self) -> None:
        """Enter permits what is marked."""
        self.action_permit()

    def action_permit(self) -> None:
        """Permit what is marked."""
        if self.review.current is not None:
            self._try(lambda: self.review.permit(self._chosen()))

    def action_deny(self) -> None:
        """Deny what is marked."""
        if self.review.current is not None:
            self._try(lambda: self.review.deny(self._chosen()))

    def action_skip(self) -> None:
        """Leave the item as it is."""
        self._try(self.review.skip)

    def action_previous(self) -> None:
        """Look at the item before."""
        self.review.go(self.review.at - 1)
        self.show()

    def action_undo(self) -> None:
        """Take the last answer back."""
        self.show("" if self.review.undo() else "there is nothing to undo")

    @work
    async def action_edit(self) -> None:
        """Write the rule by hand, beginning with what is marked."""
        if self.review.current is None:
            return

        def check(line: str) -> str:
            try:
                self.review.edit(line)
            except CertexecError as error:
                return error.message
            return ""

        value = self.review.draft(self._chosen())
        await self.push_screen_wait(LineScreen("the rule (empty: none)", value, check))
        self.show()

    @work
    async def action_search(self) -> None:
        """Go to the next item that holds some words."""
        words = await self.push_screen_wait(LineScreen("search for"))
        if words:
            self.show("" if self.review.find(words) else f'nothing holds "{words}"')

    def action_save(self) -> None:
        """Write the file and leave; there is nothing to write where nothing would change."""
        if not self.review.changed:
            self.exit(False)
            return
        try:
            self._save(self.review.text())
        except CertexecError as error:
            self.show(error.message)
        else:
            self.exit(True)

    @work
    async def action_leave(self) -> None:
        """Leave without a trace."""
        words = f"{len(self.review.answers)} answers are not saved. Leave?"
        if not self.review.changed or await self.push_screen_wait(YesScreen(words)):
            self.exit(False)


def _shown(place: int, one: Suggestion, count: str) -> Content:
    covers = f" ({count})" if count else ""
    text = f"{place + 1}. {one.kind}: {one.allows}{covers}"
    if one.warning:
        text += f" - {one.warning}"
    if one.condition:
        text += f"\n     {one.condition}"
    return Content(printable(text, lines=True))
