"""``certexec learn``: a policy from what a program was seen to do."""

from __future__ import annotations

import os

import click

from certexec.certificate.envelope import MAX_SIZE, PREFIX
from certexec.certificate.verify import read_unverified
from certexec.cli import output
from certexec.cli.common import check_output, check_writable, printable, write_file
from certexec.cli.file_lock import locked
from certexec.cli.learn_notes import from_log, from_strace
from certexec.cli.own_places import own_places, own_subject
from certexec.cli.policy_input import count, read_text
from certexec.cli.presets import load_presets
from certexec.errors import CertexecError, CliError, RunError
from certexec.kernel.userdb import SystemUsers
from certexec.observe.syscall_text import render
from certexec.policy.evaluate import EXECS
from certexec.policy.header_path import check_header, why_no_header
from certexec.policy.learn import (
    ACCEPT,
    DROP,
    EXACT,
    Learned,
    Learner,
    Rule,
    of_secure_start,
)
from certexec.policy.learned_paths import FULL, LEVELS, WHY
from certexec.policy.lexer import source_lines
from certexec.policy.syntax import parse_policy
from certexec.run.gated_start import candidates
from certexec.run.learning import Learning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from certexec.policy.observation import Observation
    from certexec.run.call import Call

LANGUAGE_LINE = "Language: certexec 1"
SHOWN = 5
"""names that are shown of those that made a widened rule."""
_MODE = 0o644
_BEYOND = {
    frozenset(("chroot", "pivot_root", "setns", "mount")):
        "it changed its root directory or its mounts: confined by names it can open nothing then",
    frozenset(("ptrace",)):
        "it traced a process: what is traced cannot execute a program where names are judged",
}  # fmt: skip
"""What a program can be watched at, but not do under a supervisor."""
_HIDDEN = "it made itself unreadable (PR_SET_DUMPABLE): EPERM under a supervisor that is not root"
_ANSWERS = {"a": ACCEPT, "e": EXACT, "d": DROP}


@click.command(
    "learn",
    context_settings={"allow_interspersed_args": False},
    short_help="Write the policy of a program from what it does.",
)
@click.option("-o", "out", metavar="FILE", help="Where the policy goes; standard output without.")
@click.option("-a", "--append", is_flag=True, help="Add to the policy in FILE what it lacks.")
@click.option("-f", "--force", is_flag=True, help="Replace FILE.")
@click.option(
    "--inherit", is_flag=True, help="One policy for all that the program executes, too.",
)
@click.option("-i", "--interactive", is_flag=True, help="Ask about each rule that was widened.")
@click.option(
    "--generalize", "level", type=click.Choice(LEVELS), default=FULL, show_default=True,
    help="How far exact names are widened. none: not at all, and every call is counted.",
)
@click.option("--from-log", "logs", multiple=True, metavar="FILE",
              help="Learn from events of certexec; may be repeated.")  # fmt: skip
@click.option("--from-strace", "traces", multiple=True, metavar="FILE",
              help='Learn from what "strace -f" wrote; may be repeated.')  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
@click.argument("words", metavar="[-- PROG [ARG]...]", nargs=-1, type=click.UNPROCESSED)
def command(
    out: str | None, append: bool, force: bool, inherit: bool, interactive: bool, level: str,
    logs: tuple[str, ...], traces: tuple[str, ...], as_json: bool, words: tuple[str, ...],
) -> None:  # fmt: skip
    r"""Run PROG, unconfined, and write a policy that permits what it and its children did.

    \b
    certexec learn -o nginx.policy --inherit -- /usr/sbin/nginx -g 'daemon off;'
    certexec learn -o nginx.policy --inherit --append -- /usr/sbin/nginx -t

    Each program that is executed gets a policy of its own, unless --inherit is given. Nothing is
    written before the end; ^C ends PROG, and what was seen is written. Read the result before you
    sign it: it permits whatever PROG did, also what it should not have done.
    """
    # 1. what cannot work is refused before anything runs
    out = None if out == "-" else out
    program = words[1:] if words[:1] == ("--",) else words
    if not program and not logs and not traces:
        raise CliError(
            "usage", "nothing to learn from", "name a program: certexec learn -o FILE -- PROG"
        )
    if append and out is None:
        raise CliError("usage", "--append needs the policy that it adds to", 'name it with "-o"')
    existing: dict[str, str] = {}
    if out is not None:
        check_writable(out)
        if append:
            existing = _blocks(out)
        else:
            check_output(out, force)
    # 2. what was seen
    learner = Learner(
        places=own_places(), level=level, presets=load_presets(), users=SystemUsers(),
        subject=own_subject(), decide=_asking() if interactive else None,
    )  # fmt: skip
    seen: dict[Observation, None] = {}
    first, sockets = "", False
    for path in logs:
        seen.update(dict.fromkeys(from_log(path, inherit)))
    for path in traces:
        seen.update(dict.fromkeys(from_strace(path, inherit)))
    if program:
        try:
            learning = Learning(
                program[0], program[1:], given=learner.given(), inherit=inherit,
                noted=_tell if output.settings.verbose else None,
            )
        except RunError as error:
            if error.reason != "binary-missing":
                raise
            raise _no_program(program[0], error) from None
        _refuse_certificate(learning.program)
        if learning.program not in existing:
            check_header(learning.program)
        first, sockets = learning.program, _has_socket()
        try:
            learning.run()
        finally:
            # whatever went wrong: what was seen is worth something
            seen.update(learning.observations)
            learner.look_at((), learning.numbers)
            if seen:
                _write(learner, first, seen, existing, out, append, force, as_json, sockets)
        if not seen and learning.status:
            raise CliError("unreadable", f'"{program[0]}" did not start, nothing was learned')
        _tell_end(learning, inherit)
        return
    # 3.
    if not seen and not existing:
        raise CliError(
            "unreadable", "nothing was learned: no call in the log is one for a policy",
            'with "--append" a policy that is there stays as it is then',
        )
    _write(learner, first, seen, existing, out, append, force, as_json, sockets)


def _no_program(name: str, error: RunError) -> CliError:
    """Return what to say of a program that cannot be run: it may be there all the same."""
    path = next((one for one in candidates(name) if os.path.exists(one)), "")
    if not path:
        return CliError("not-found", error.message, "give its path")
    if not os.path.isfile(path):
        return CliError("binary-unusable", f'"{printable(path)}" is not a file', "name a program")
    return CliError(
        "binary-unusable", f'"{printable(path)}" is not executable',
        f'for a script: "chmod +x" it, or name what runs it: "-- sh {printable(path)}"',
    )


def _write(
    learner: Learner, first: str, seen: Iterable[Observation], existing: dict[str, str],
    out: str | None, append: bool, force: bool, as_json: bool, sockets: bool,
) -> None:  # fmt: skip
    learner.look_at(seen)
    while True:
        learned, left_out = _learn(learner, first, seen, existing, sockets)
        text = LANGUAGE_LINE + "\n" + "\n".join(one.text for one in learned)
        if out is None:
            break
        with locked(out):
            # who added to it since it was read is added to
            try:
                now = _blocks(out) if append else existing
            except CertexecError as error:
                output.warn(f"{printable(error.message)}: what was learned goes to standard output")
                out = None
                break
            if now == existing:
                data = text.encode("utf-8", "surrogateescape")
                write_file(out, data, _MODE, force=append or force)
                break
        existing = now
    if as_json:
        output.print_json(_as_json(learned, text, out))
    elif out is None:
        click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
    for each in learned:
        for key, number in each.presets.items():
            if number:
                used = count(number, "call is", "calls are")
                output.info(f'"{printable(each.program)}": {used} in "include {key}"')
    if out is not None:
        rules = sum(len(each.rules) for each in learned)
        output.done(f'"{out}": {count(rules, "new rule", "new rules")}')
    _tell_left_out(left_out, learned)


def _learn(
    learner: Learner, first: str, seen: Iterable[Observation], existing: dict[str, str],
    sockets: bool,
) -> tuple[list[Learned], dict[str, str]]:  # fmt: skip
    """Return what was learned of each program, and the programs that no policy can be of."""
    by_program: dict[str, list[Observation]] = {first: []} if first else {}
    for one in seen:
        by_program.setdefault(one.program, []).append(one)
    root = first or next(iter(by_program), "")
    left_out = _without_header(by_program, existing)
    if not by_program and not existing:
        check_header(root)
    again = {one.texts("filename")[0] for one in seen if one.call in EXECS and one.program != root}
    for path, noted in by_program.items():
        if path != root or path in again:
            noted.extend(of_secure_start(path))
    order = [*existing, *sorted(set(by_program) - set(existing) - {first})]
    if first and first not in existing:
        order.insert(0, first)
    learned = [
        learner.learn(path, by_program.get(path, ()), sockets=sockets and path == first,
                      existing=existing.get(path, ""))  # fmt: skip
        for path in order
    ]
    return learned, left_out


def _without_header(
    by_program: dict[str, list[Observation]], existing: dict[str, str]
) -> dict[str, str]:
    """Take out the programs that no policy can be of, and return them, each with the reason."""
    found = {path: why_no_header(path) for path in by_program if path not in existing}
    left_out = {path: why for path, why in found.items() if why}
    for path in left_out:
        del by_program[path]
    return left_out


def _tell_left_out(programs: dict[str, str], learned: Sequence[Learned]) -> None:
    """Say what was seen and is not in the result, since the language cannot say it."""
    for path, why in [*programs.items()][:SHOWN]:
        output.warn(
            f'"{printable(path)}" was left out: a policy cannot name it, {why}',
            'it cannot have a policy of its own; "--inherit" puts what it did under its parent\'s',
        )
    unsaid = [rule for each in learned for rule in each.unsaid]
    for rule in unsaid[:SHOWN]:
        output.warn(f"a rule was left out that no line can hold: native-{printable(rule.text)}")
    more = len(programs) + len(unsaid) - len([*programs][:SHOWN]) - len(unsaid[:SHOWN])
    if more:
        output.warn(f"{more} more were left out")


def _as_json(learned: Sequence[Learned], text: str, out: str | None) -> object:
    return {
        "schema": 1, "file": out, "text": text,
        "policies": [
            {
                "program": one.program, "presets": dict(one.presets),
                "rules": [{"rule": f"native-{rule.text}", "why": WHY.get(rule.why, "")}
                          for rule in one.rules],
            }
            for one in learned
        ],
    }  # fmt: skip


def _blocks(path: str) -> dict[str, str]:
    """Return the lines of each policy in a file, by program; a file need not be there.

    Raises what reading one raises.
    """
    if not os.path.exists(path):
        return {}
    text = read_text(path)
    file = parse_policy(
        text, name=path, users=SystemUsers(), privileged=True, presets=load_presets()
    )
    headers = {policy.line: policy.path for policy in file.policies}
    blocks: dict[str, str] = {}
    current = ""
    for number, raw, line in source_lines(text, path):
        if number in headers:
            current = headers[number]
            blocks.setdefault(current, "")
        elif current and not line.lower().startswith("language:"):
            blocks[current] += raw.rstrip("\n") + "\n"
    return {program: lines.rstrip("\n") + "\n" for program, lines in blocks.items()}


def _refuse_certificate(path: str) -> None:
    """Refuse to watch a certificate: its launcher would be watched. Raises CliError("usage").

    That is what a name leads to once its program has one that is installed in $PATH.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError:
        return  # executable, not readable: no certificate of the caller's
    if not data.startswith(PREFIX):
        return
    try:
        program = printable(read_unverified(data).program.path)
    except CertexecError:
        program = "PROG"
    raise CliError(
        "usage", f'"{printable(path)}" is a certificate', f'watch its program: "-- {program}"'
    )


def _has_socket() -> bool:
    """Tell whether the program starts with a socket in its hands."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)) and os.readlink(f"/proc/self/fd/{name}").startswith(
                "socket:"
            ):
                return True
        except OSError:
            continue
    return False


def _tell(observation: Observation, call: Call) -> None:
    """Show what is new, as strace(1) would."""
    text = render(call.name, call.notification.args, call.memory.read)
    output.info(f"{printable(observation.program)}: {text}")


def _tell_end(learning: Learning, inherit: bool) -> None:
    for what in learning.strange:
        output.warn(f"{what} has no name in this version, no rule can permit it")
    for program in learning.killed:
        output.warn(f'"{printable(program)}" is a 32-bit program, which cannot be watched and ends')
    called = {one.call for one in learning.observations}
    for calls, what in _BEYOND.items():
        if not called.isdisjoint(calls):
            output.warn(what)
    if learning.hidden:
        output.warn(_HIDDEN)
    if learning.stopped:
        output.warn("processes of the program still run, and fail from now on")
    if learning.status:
        code = os.waitstatus_to_exitcode(learning.status)
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        output.info(f'"{printable(learning.program)}" ended with {how}')
    programs = {one.program for one in learning.observations}
    if len(programs) > 1 and not inherit:
        output.info('these are the policies of several programs: sign with "--no-inherit"')


def _asking() -> Callable[[Rule, Sequence[str]], str]:
    """Return what asks about widened rules, and about none twice."""
    answers: dict[tuple[str, ...], str] = {}

    def decide(rule: Rule, names: Sequence[str]) -> str:
        key = (rule.text, *names)
        if key not in answers:
            answers[key] = _ask(rule, names)
        return answers[key]

    return decide


def _ask(rule: Rule, names: Sequence[str]) -> str:
    """Ask about one widened rule."""
    output.info(f"native-{printable(rule.text)}")
    output.info(f"  {WHY[rule.why]}; seen: {len(names)}")
    for name in names[:SHOWN]:
        output.info(f"  {printable(name)}")
    answer = click.prompt(
        "accept, exact names only, or drop", type=click.Choice([*_ANSWERS]), default="a", err=True
    )
    return _ANSWERS[answer]
