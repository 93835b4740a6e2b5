"""Where observations come from that nobody watched: logs of ours, and strace's."""

from __future__ import annotations

import os

from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.log_lines import open_log
from certexec.cli.policy_input import count
from certexec.errors import CliError
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
    'with "certexec run --permissive" or "--unmatched ask"'
)
"""What to do where a log does not show what a call was about."""
_SHOWN = 5
"""names of calls that are told."""


def from_log(path: str, inherit: bool) -> list[Observation]:
    """Read events of certexec. Raises CliError."""
    return list(_in_events(path, inherit))


def denied_in(path: str) -> dict[Observation, int]:
    """Return the calls in a log that no rule matched, and how often; Raises CliError.

    Each is said to be of the program in the header of the policy that judged it: that is where a
    rule would have to stand.
    """
    return _in_events(path, inherit=False, by_policy=True)


class _Said:
    """What the calls of a log were about, and how often; the calls themselves are not kept.

    Left out are those that say too little: a rule for one would have no condition, and whoever was
    denied one file would get them all.
    """

    def __init__(self, calls: Iterable[NotedCall], inherit: bool, resolve: bool) -> None:
        self.found: dict[Observation, int] = {}
        self.total = self._foreign = 0
        self._unsaid: dict[str, int] = {}
        for call, one in _each(self._counted(calls), inherit, resolve):
            if is_unsaid(one):
                self._unsaid[one.call] = self._unsaid.get(one.call, 0) + call.times
            else:
                self.found[one] = self.found.get(one, 0) + call.times

    def _counted(self, calls: Iterable[NotedCall]) -> Iterator[NotedCall]:
        for call in calls:
            self.total += 1
            self._foreign += call.foreign
            yield call

    def tell_left_out(self, path: str) -> None:
        """Warn of what is not in it."""
        if self._foreign:
            calls_are = count(self._foreign, "call", "calls")
            output.warn(
                f"{calls_are} of the 32-bit ABI left out: their rules, for "
                '"Emulation: linux", are written by hand'
            )
        if self._unsaid:
            names = [*self._unsaid][:_SHOWN] + ["..."] * (len(self._unsaid) > _SHOWN)
            times = sum(self._unsaid.values())
            do = "do not say what they were" if times > 1 else "does not say what it was"
            output.warn(
                f'"{printable(path)}": {count(times, "call", "calls")} ({", ".join(names)}) {do} '
                f'about and {"were" if times > 1 else "was"} left out',
                UNSAID_HINT,
            )


def asked_about(line: str) -> Observation | None:
    """Return the call of an event with a question, as ``denied_in`` does; None: of the 32-bit ABI.

    Raises ValueError and CliError for what is no such event.
    """
    [call] = read_events([line])
    found = observations([call._replace(program=call.policy or call.program)], False, False)
    return found[0] if found else None


def _in_events(path: str, inherit: bool, by_policy: bool = False) -> dict[Observation, int]:
    """Return what is in a log, which may hold what others wrote, and how often. Raises CliError."""
    passed = PassedOver()
    with open_log(path) as lines:
        calls = read_events(lines, passed)
        if by_policy:
            calls = (call._replace(program=call.policy or call.program) for call in calls)
        said = _Said(calls, inherit, resolve=False)
    if passed.why and not passed.events:
        raise CliError(
            "unreadable", f'"{path}": {passed.why}',
            'write one with "certexec run --log-format json"',
        )
    if passed.unsaid:
        calls_are = count(passed.unsaid, "denied call", "denied calls")
        output.warn(f'"{printable(path)}": {calls_are} left out: the log does not say why')
    said.tell_left_out(path)
    return said.found


def from_strace(path: str, inherit: bool) -> list[Observation]:
    """Read what strace wrote. Raises CliError."""
    with open_log(path) as lines:
        said = _Said(read_strace(lines, os.getcwd()), inherit, resolve=True)
    said.tell_left_out(path)
    if not said.total:
        raise CliError(
            "unreadable", f'"{path}" shows no program that is executed',
            'make it with "strace -f -y -o FILE PROG"',
        )
    return list(said.found)


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
