"""Where observations come from that nobody watched: logs of ours, and strace's."""

from __future__ import annotations

import os

from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.policy_input import count
from certexec.errors import CliError, unreadable
from certexec.observe.event_log import PassedOver, read_events
from certexec.observe.strace_log import read_strace
from certexec.policy.learn import is_unsaid
from certexec.policy.learned_paths import NON_EXISTENT
from certexec.policy.observation import FRESH, MADE, MISSING, Observation, observed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from certexec.observe.noted_call import NotedCall

_O_EXCL_CREAT = 0o300
_OPENS = {"open": 1, "openat": 2}
UNSAID_HINT = (
    'watch the program, "certexec learn -a -o POLICY -- PROG", or run it once more '
    'with "certexec run --unmatched ask"'
)
"""What to do where a log does not show what a call was about."""
_SHOWN = 5
"""names of calls that are told."""


def from_log(path: str, inherit: bool) -> list[Observation]:
    """Read events of certexec. Raises CliError."""
    calls = _events(path)
    _tell_left_out(calls)
    return list(dict.fromkeys(one for one, _ in _said(calls, inherit, path, resolve=False)))


def denied_in(path: str) -> dict[Observation, int]:
    """Return the calls in a log that no rule matched, and how often; Raises CliError.

    Each is said to be of the program in the header of the policy that judged it: that is where a
    rule would have to stand.
    """
    found: dict[Observation, int] = {}
    calls = _events(path)
    _tell_left_out(calls)
    whose = [call._replace(program=call.policy or call.program) for call in calls]
    for one, times in _said(whose, False, path, resolve=False):
        found[one] = found.get(one, 0) + times
    return found


def _said(
    calls: Iterable[NotedCall], inherit: bool, path: str, resolve: bool
) -> list[tuple[Observation, int]]:
    """Return each call of a log and how often it was made; tell of those it says too little about.

    A rule for one of these would have no condition: whoever was denied one file would get them all.
    """
    found: list[tuple[Observation, int]] = []
    unsaid: dict[str, int] = {}
    for call, one in _each(calls, inherit, resolve):
        if is_unsaid(one):
            unsaid[one.call] = unsaid.get(one.call, 0) + call.times
        else:
            found.append((one, call.times))
    if unsaid:
        names = [*unsaid][:_SHOWN] + ["..."] * (len(unsaid) > _SHOWN)
        times = sum(unsaid.values())
        do = "do not say what they were" if times > 1 else "does not say what it was"
        output.warn(
            f'"{printable(path)}": {count(times, "call", "calls")} ({", ".join(names)}) {do} about '
            f'and {"were" if times > 1 else "was"} left out',
            UNSAID_HINT,
        )
    return found


def asked_about(line: str) -> Observation | None:
    """Return the call of an event with a question, as ``denied_in`` does; None: of the 32-bit ABI.

    Raises ValueError and CliError for what is no such event.
    """
    [call] = read_events([line])
    found = observations([call._replace(program=call.policy or call.program)], False, False)
    return found[0] if found else None


def _events(path: str) -> list[NotedCall]:
    """Return the calls in a log, which may hold what others wrote. Raises CliError."""
    passed = PassedOver()
    with _open(path) as lines:
        calls = list(read_events(lines, passed))
    if passed.why and not passed.events:
        raise CliError(
            "unreadable", f'"{path}": {passed.why}',
            'write one with "certexec run --log-format json"',
        )
    if passed.unsaid:
        calls_are = count(passed.unsaid, "denied call", "denied calls")
        output.warn(f'"{printable(path)}": {calls_are} left out: the log does not say why')
    return calls


def from_strace(path: str, inherit: bool) -> list[Observation]:
    """Read what strace wrote. Raises CliError."""
    with _open(path) as lines:
        calls = list(read_strace(lines, os.getcwd()))
    _tell_left_out(calls)
    found = list(dict.fromkeys(one for one, _ in _said(calls, inherit, path, resolve=True)))
    if not calls:
        raise CliError(
            "unreadable", f'"{path}" shows no program that is executed',
            'make it with "strace -f -y -o FILE PROG"',
        )
    return found


class _open:  # noqa: N801 - used as a function
    """A log, or standard input for ``-``."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> Iterable[str]:
        try:
            where = 0 if self.path == "-" else self.path
            self.file = open(  # noqa: SIM115 - closed below
                where, encoding="utf-8", errors="surrogateescape", closefd=where != 0
            )
        except OSError as error:
            raise unreadable(self.path, error) from None
        return self.file

    def __exit__(self, *_: object) -> None:
        self.file.close()


def observations(calls: Iterable[NotedCall], inherit: bool, resolve: bool) -> list[Observation]:
    """Return what calls were, as rules see them. Raises CliError for an unknown one.

    ``inherit``: all of them are of the first program; ``resolve``: names are not real paths yet.
    """
    return list(dict.fromkeys(one for _, one in _each(calls, inherit, resolve)))


def _each(
    calls: Iterable[NotedCall], inherit: bool, resolve: bool
) -> Iterator[tuple[NotedCall, Observation]]:
    first = ""
    for seen in calls:
        if seen.foreign:
            continue
        program = os.path.realpath(seen.program) if resolve else seen.program
        first = first or program
        texts = seen.texts
        if resolve and texts and "filename" in texts:
            texts = {**texts, "filename": [_real(path, seen.missing) for path in texts["filename"]]}
        if resolve and texts and "pidname" in texts:
            texts = {**texts, "pidname": [os.path.realpath(path) for path in texts["pidname"]]}
        flags = seen.registers[_OPENS[seen.call]] if seen.call in _OPENS else 0
        mark = MISSING if seen.missing else MADE if seen.made else ""
        if flags & _O_EXCL_CREAT == _O_EXCL_CREAT:
            mark = FRESH
        whose = first if inherit else program
        try:
            one = observed(whose, seen.call, seen.registers, texts, mark)
        except KeyError:
            raise CliError(
                "unreadable", f'line {seen.number}: there is no call "{printable(seen.call)}" here'
            ) from None
        yield seen, one


def _tell_left_out(calls: Iterable[NotedCall]) -> None:
    left_out = sum(1 for seen in calls if seen.foreign)
    if left_out:
        calls_are = count(left_out, "call", "calls")
        output.warn(
            f"{calls_are} of the 32-bit ABI left out: their rules, for "
            '"Emulation: linux", are written by hand'
        )


def _real(path: str, missing: bool) -> str:
    """Return a name as rules see it, as far as the file system still is what it was."""
    if not path:
        return path
    directory = os.path.realpath(os.path.dirname(path))
    if missing and not os.path.isdir(directory):
        return f"{NON_EXISTENT}: {path}"
    return os.path.realpath(path) if os.path.exists(path) else os.path.join(
        directory, os.path.basename(path)
    )
