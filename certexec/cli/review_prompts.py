"""``certexec policy review`` without the app: plain prompts, line by line."""

from __future__ import annotations

import click

from certexec.cli.common import printable
from certexec.errors import CertexecError
from certexec.policy.review import EVENT, Review

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HELP = (
    "p permit, d deny (p2, d2: by the second suggestion), e edit, s skip, u undo, b back, "
    "/WORDS search, w save, q quit"
)
DISCARD = "answers are not saved; leave them (y, n)? "


class Prompts:
    """Shows an item, reads an answer, until the review is saved or left."""

    def __init__(
        self, review: Review, count: Callable[[str], str], save: Callable[[str], None]
    ) -> None:
        self.review = review
        self._count = count
        self._save = save

    def run(self) -> bool:
        """Ask until the end; returns whether the file was saved."""
        click.echo(HELP)
        shown = -1
        while True:
            if shown != self.review.at:
                self._show()
                shown = self.review.at
            try:
                line = input("> ").strip()
            except EOFError:  # the terminal has gone, or control and D
                click.echo()
                return False
            try:
                done = self._act(line)
            except CertexecError as error:
                click.echo(f"  {printable(error.message)}")
                continue
            if done is not None:
                return done
            if not line or line[0] in "udpsb/e":
                shown = -1

    def _show(self) -> None:
        review, item = self.review, self.review.current
        click.echo()
        if item is None:
            state = "w saves, q leaves" if review.changed else "nothing would change, w and q leave"
            click.echo(f"that was all: {len(review.answers)} answers; {state}")
            return
        where = f"line {item.line}" if item.kind != EVENT else f"seen {item.times} times"
        click.echo(printable(f"{review.at + 1}/{len(review.items)} {item.program}, {where}"))
        click.echo(printable(f"    {item.title}"))
        if item.note:
            click.echo(printable(f"    # {item.note}"))
        answer = review.answers.get(review.at)
        if answer is not None:
            click.echo(printable(f"    you said: {answer.action} {answer.rule}"))
        elif review.covered(review.at):
            click.echo(f"    another answer decides it: {review.covered(review.at)}")
        for place, one in enumerate(item.suggestions, 1):
            covers = f" ({self._count(one.condition)})" if one.files else ""
            warning = f" - {one.warning}" if one.warning else ""
            click.echo(printable(f"  {place}. {one.kind}: {one.allows}{covers}{warning}"))
            if one.condition:
                click.echo(printable(f"     {one.condition}"))

    def _act(self, line: str) -> bool | None:
        """Do what a line says; None: go on, else whether the file was saved."""
        review = self.review
        word, rest = line[:1], line[1:].strip()
        if line in ("p", "d") or (word in ("p", "d") and rest.isdigit()):
            self._decide(word, int(rest or 1) - 1)
        elif word == "e":
            self._edit(rest)
        elif line == "s":
            review.skip()
        elif line == "u":
            if not review.undo():
                click.echo("  there is nothing to undo")
        elif line == "b":
            review.go(review.at - 1)
        elif word == "/":
            if not review.find(rest):
                click.echo(f'  nothing holds "{printable(rest)}"')
        elif line == "w":
            if not review.changed:
                return False
            self._save(review.text())
            return True
        elif line == "q":
            if not review.changed or self._sure():
                return False
        else:
            click.echo(f"  {HELP}")
        return None

    def _decide(self, word: str, place: int) -> None:
        item = self.review.current
        if item is None:
            return
        if not 0 <= place < len(item.suggestions):
            click.echo(f"  there are {len(item.suggestions)} suggestions")
        elif word == "p":
            self.review.permit(place)
        else:
            self.review.deny(place)

    def _edit(self, rest: str) -> None:
        if self.review.current is None:
            return
        if not rest:
            click.echo(printable(f"  {self.review.draft(0)}"))
            click.echo("  the rule (empty: none; . leaves it)")
            rest = input("  ").strip()
        if rest != ".":
            self.review.edit(rest)

    def _sure(self) -> bool:
        try:
            return input(f"{len(self.review.answers)} {DISCARD}").strip().lower() == "y"
        except EOFError:
            return True
