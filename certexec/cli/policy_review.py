"""``certexec policy review``: one rule, or one denied call, at a time."""

from __future__ import annotations

import click

from certexec.cli import output
from certexec.cli.browser import browser_options, check_browser, show_in_browser
from certexec.cli.common import printable
from certexec.cli.covered_files import FileCounter
from certexec.cli.front import in_browser, use_app
from certexec.cli.learn_notes import denied_in
from certexec.cli.own_places import own_places, own_subject
from certexec.cli.policy_input import EXIT_NOT_A_POLICY, count, read_text
from certexec.cli.presets import load_presets
from certexec.cli.replace_file import Target, replace
from certexec.cli.review_prompts import Prompts
from certexec.kernel.userdb import SystemUsers
from certexec.policy.lexer import PolicySyntaxError
from certexec.policy.review import Review

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from certexec.policy.observation import Observation


@click.command(name="review", short_help="Look at rules, or denied calls, one at a time.")
@click.argument("file", metavar="FILE")
@click.option("--log", "logs", multiple=True, metavar="FILE",
              help="Look at the calls in this log that no rule decides; may be repeated.")
@click.option("--plain", is_flag=True, help="Prompts, line by line, instead of the app.")
@browser_options
def command(
    file: str, logs: tuple[str, ...], plain: bool, browser: bool, port: int | None
) -> int:
    r"""Look at the rules of FILE one at a time, or at what was denied, and answer.

    \b
    certexec policy review site.policy
    certexec policy review --log denied site.policy
    certexec policy review --browser site.policy

    For each there are suggestions from narrow to wide, with what they permit and how many of the
    files that are there. Answers: permit, deny, edit, skip. Nothing is written before you save;
    comments, order and all that you did not answer stay. Exit codes: 0 saved, or left without a
    change, 2 FILE is no policy or cannot be read or written.
    """
    check_browser(browser, port, plain)
    app = browser or use_app(plain, "a review")
    target = Target(file)
    subject, users = own_subject(), SystemUsers()
    seen = _seen(logs) if logs else None
    try:
        review = Review(
            read_text(file), name=file, users=users, presets=load_presets(), subject=subject,
            places=own_places()._replace(cwd=""), seen=seen,
        )
    except PolicySyntaxError as error:
        output.failure(error)
        return EXIT_NOT_A_POLICY
    if review.foreign:
        output.info(f'{count(review.foreign, "call", "calls")} of programs without a policy in it')
    if not review.items:
        what = "call in it that no rule decides" if logs else "rule of its own in it"
        output.done(f'"{printable(file)}": there is no {what}')
        return 0
    if browser:
        words = [word for log in logs for word in ("--log", log)]
        return show_in_browser(("policy", "review", *words, "--", file), port)
    counter = FileCounter(subject, users)

    def save(text: str) -> None:
        replace(target, text.encode("utf-8", "surrogateescape"))

    saved = (_app if app else _prompts)(review, counter, save)
    tell = output.info if in_browser() else output.done
    tell(f'"{printable(file)}": {"saved" if saved else "left as it was"}')
    return 0


def _seen(logs: tuple[str, ...]) -> dict[Observation, int]:
    """Return the calls in some logs, and how often each was seen. Raises CliError."""
    found: dict[Observation, int] = {}
    for path in logs:
        for one, times in denied_in(path).items():
            found[one] = found.get(one, 0) + times
    return found


def _prompts(review: Review, counter: FileCounter, save: Callable[[str], None]) -> bool:
    return Prompts(review, counter, save).run()


def _app(review: Review, counter: FileCounter, save: Callable[[str], None]) -> bool:
    from certexec.tui.review_app import ReviewApp

    result = ReviewApp(review, count=counter, save=save).run()
    if result not in (True, False, None):
        raise SystemExit(result)  # a signal
    return bool(result)
