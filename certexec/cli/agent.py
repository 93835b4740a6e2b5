"""``certexec agent``: answer, in a terminal, what policies leave to you."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import termios
from typing import NoReturn

import click

from certexec.cli import output
from certexec.cli.common import printable
from certexec.errors import CliError
from certexec.run.agent import Agent
from certexec.run.agent_desk import LATE, Desk, Waiting
from certexec.run.agent_protocol import ALWAYS, DENY, KILL, PERMIT

STEP = 0.1
"""seconds between two looks at questions and keys"""
WORDS = {"p": PERMIT, "a": ALWAYS, "d": DENY, "k": KILL}
LATER, QUIT = "s", "q"
HELP = "p permit once, a always in this run, d deny, k kill, s show it later, q quit (denies all)"
BODY_MAX = 400
"""characters of a desktop notification"""


@click.command(name="agent", short_help='Answer what rules with "ask" leave to you.')
@click.option("--notify", is_flag=True, help="Tell of questions on the desktop, too.")
def command(notify: bool) -> int:
    """Be asked by your running programs where their policies say "ask", and answer.

        certexec agent

    Each question is shown with what was judged; the answer is a letter and Enter: p permits this
    call, a this and all that are the same in this run, d denies, k ends the process. What is not
    answered in time is denied, and so is everything when the agent ends. Root's agent answers for
    programs that were granted something.
    """
    if not os.isatty(0) or not os.isatty(1):
        raise CliError("usage", "an agent needs a terminal to ask somebody")
    agent = Agent()
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    try:
        click.echo(f"waiting for questions ({HELP})")
        return _Terminal(agent, notify).run()
    finally:
        agent.close()


def _end(number: int, _frame: object) -> NoReturn:
    """Leave in an orderly way: the socket goes, and what waits is denied."""
    raise SystemExit(128 + number)


class _Terminal:
    """Shows one question at a time, and reads lines."""

    def __init__(self, agent: Agent, notify: bool) -> None:
        self.agent = agent
        self.desk = Desk()
        self._notify = shutil.which("notify-send") if notify else None
        self._shown = 0

    def run(self) -> int:
        while True:
            question = self.agent.wait(STEP)
            if question is not None:
                waiting = self.desk.add(question)
                if waiting is not self.desk.shown:
                    click.echo(f"({len(self.desk.waiting) - 1} more wait)")
                self._tell_desktop(waiting)
            for one, why in self.desk.clear():
                told = "was denied: its time is over" if why == LATE else "was withdrawn"
                click.echo(f"#{one.number} {told}")
            self._show()
            if select.select([0], [], [], 0)[0] and not self._read():
                return 0

    def _show(self) -> None:
        one = self.desk.shown
        if one is None or one.number == self._shown:
            return
        self._shown = one.number
        # what was typed before the question cannot be meant for it
        termios.tcflush(0, termios.TCIFLUSH)
        for line in question_lines(one, self.desk.left(one)):
            click.echo(line)
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
        else:
            click.echo(f"  {HELP}")
        return True

    def _tell_desktop(self, waiting: Waiting) -> None:
        if self._notify is None:
            return
        body = " ".join(question_lines(waiting, 0.0)[1:])[:BODY_MAX]
        try:
            subprocess.Popen(
                [self._notify, "--app-name=certexec", "--", "certexec asks",
                 body.replace("<", "(").replace("&", "+")],  # some desktops read markup
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            output.warn(f'"{self._notify}" cannot be started: {error.strerror}')
            self._notify = None


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
    else:
        lines.append(f"    registers: {text('args')}")
    if event.get("as"):
        lines.append(f"    as {text('as')}")
    lines.append(
        f"    policy of {text('policy')}; asked by process {question.asker_pid} of uid "
        f"{question.asker_uid}"
    )
    return lines
