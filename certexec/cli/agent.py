"""``certexec agent``: answer, in a terminal, what policies leave to you."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
from typing import NoReturn

import click

from certexec.cli import output
from certexec.cli.answered_rules import AnsweredRules
from certexec.cli.browser import browser_options, check_browser, show_in_browser
from certexec.cli.desktop import Desktop
from certexec.cli.front import use_app
from certexec.cli.policy_input import EXIT_NOT_A_POLICY
from certexec.cli.question_text import readable_lines
from certexec.errors import RunError
from certexec.policy.lexer import PolicySyntaxError
from certexec.run.agent import Agent
from certexec.run.agent_desk import GRACE, LATE, Desk, Waiting
from certexec.run.agent_protocol import ALWAYS, DENY, KILL, PERMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

STEP = 0.1
"""seconds between two looks at questions and keys"""
WORDS = {"p": PERMIT, "a": ALWAYS, "d": DENY, "k": KILL}
LATER, QUIT = "s", "q"
HELP = "p permit once, a always in this run, d deny, k kill, s show it later, q quit (denies all)"


@click.command(name="agent", short_help="Answer what policies leave to you.")
@click.option("--notify/--no-notify", default=True, show_default=True,
              help="Tell of questions on the desktop, too, where there is one.")
@click.option("--plain", is_flag=True, help="Prompts, line by line, instead of the app.")
@click.option("--append", metavar="FILE",
              help="Add rules for what you permit always, and no rule matches, to this policy.")
@browser_options
def command(
    notify: bool, plain: bool, append: str | None, browser: bool, port: int | None
) -> int:
    r"""Be asked by your running programs where policies say "ask", or nothing at all, and answer.

    \b
    certexec agent
    certexec agent --append site.policy
    certexec agent --browser

    Each question is shown with what was judged and the time that is left; the answer is a key: p
    permits this call, a this and all that are the same in this run, d denies, k ends the process.
    What is not answered in time is denied, and so is everything when the agent ends. Root's agent
    answers for programs that were granted something. After "always" you see the rule that would
    permit the call for good; it counts once the policy is signed again.
    """
    check_browser(browser, port, plain)
    try:
        rules = AnsweredRules(append)
    except PolicySyntaxError as error:
        output.failure(error)
        return EXIT_NOT_A_POLICY
    if browser:
        _agent().close()  # whether there can be one is said here, and not in the browser
        file = [] if append is None else [f"--append={append}"]
        return show_in_browser(("agent", "--notify" if notify else "--no-notify", *file), port)
    app = use_app(plain, "an agent")
    agent = _agent()
    tell = Desktop().tell if notify else _tell_nobody
    try:
        if app:
            return _app(agent, tell, rules)
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGHUP, _end)
        click.echo(f"waiting for questions ({HELP})")
        return _Terminal(agent, tell, rules).run()
    finally:
        agent.close()


def _agent() -> Agent:
    """Register as the agent. Raises RunError."""
    try:
        return Agent()
    except RunError as error:
        if error.reason != "not-found":
            raise
        uid = os.geteuid()
        raise RunError(
            error.reason, error.message,
            f"a login makes it; without one, as root: install -d -m 700 -o {uid} /run/user/{uid}",
        ) from None


def _app(agent: Agent, tell: Callable[[Waiting], None], rules: AnsweredRules) -> int:
    from certexec.tui.agent_app import AgentApp

    return AgentApp(agent, tell, rules.told, rules.permits, readable_lines).run() or 0


def _tell_nobody(_: Waiting) -> None:
    """Tell nothing on the desktop."""


def _end(number: int, _frame: object) -> NoReturn:
    """Leave in an orderly way: the socket goes, and what waits is denied."""
    raise SystemExit(128 + number)


class _Terminal:
    """Shows one question at a time, and reads lines."""

    def __init__(
        self, agent: Agent, tell: Callable[[Waiting], None], rules: AnsweredRules
    ) -> None:
        self.agent = agent
        self.rules = rules
        self.desk = Desk()
        self._tell_desktop = tell
        self._shown = 0
        self._since = 0.0
        self._prompted = False

    def run(self) -> int:
        while True:
            question = self.agent.wait(STEP)
            if question is not None:
                waiting = self.desk.add(question)
                if self.rules.permits(question):
                    self.desk.answer(waiting.number, ALWAYS)
                    click.echo(f"#{waiting.number}: a rule that was added permits it")
                    continue
                if waiting is not self.desk.shown:
                    click.echo(f"({len(self.desk.waiting) - 1} more wait)")
                self._tell_desktop(waiting)
            for one, why in self.desk.clear():
                told = "was denied: its time is over" if why == LATE else "was withdrawn"
                click.echo(f"#{one.number} {told}")
            self._show()
            if self._shown and not self._prompted:
                continue  # keys wait, and are thrown away
            if select.select([0], [], [], 0)[0] and not self._read():
                return 0

    def _show(self) -> None:
        one = self.desk.shown
        if one is None:
            self._shown = 0
            return
        if one.number != self._shown:
            self._shown, self._since, self._prompted = one.number, time.monotonic(), False
            for line in readable_lines(one, self.desk.left(one)):
                click.echo(line)
        if not self._prompted and time.monotonic() - self._since >= GRACE:
            self._prompted = True
            # what was typed before it could be read cannot be meant for it
            termios.tcflush(0, termios.TCIFLUSH)
            click.echo("  p, a, d, k? ", nl=False)
            sys.stdout.flush()

    def _read(self) -> bool:
        """Take a line; False: the end."""
        line = os.read(0, 4096)
        if not line:
            return False
        word = line.decode("utf-8", "replace").strip().lower()
        one = self.desk.shown
        if word == QUIT:
            return False
        if one is None or one.number != self._shown:
            if word:
                click.echo("nothing is asked")
        elif word == LATER:
            self._shown = 0
            self.desk.later()
        elif word in WORDS:
            self._shown = 0
            if not self.desk.answer(one.number, WORDS[word]):
                click.echo(f"#{one.number}: nobody waits for it any more")
            else:
                click.echo(f"#{one.number}: {WORDS[word]}")
                if WORDS[word] == ALWAYS and (told := self.rules.told(one.question)):
                    click.echo(f"  {told}")
        else:
            click.echo(f"  {HELP}")
        return True
