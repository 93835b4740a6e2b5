"""``certexec policy diff``: what another version of a policy permits more, and what less."""

from __future__ import annotations

import difflib

import click

from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.policy_input import (
    EXIT_FINE,
    EXIT_NOT_A_POLICY,
    SCHEMA,
    by_name,
    count,
    read_file,
    read_text,
    refuse,
    shown_name,
    writable,
)
from certexec.cli.policy_test import subject_named
from certexec.cli.presets import load_presets
from certexec.cli.progress import counting
from certexec.errors import CertexecError, CliError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.cases import Case
from certexec.policy.difference import (
    KINDS,
    NARROWED,
    OTHERWISE,
    UNCLEAR,
    WIDENED,
    Change,
    Said,
    UseDifference,
    compare,
    kinds_of,
)
from certexec.policy.format import quote
from certexec.policy.model import MACROS, Policy, PolicyFile, Subject, symbols
from certexec.policy.reformat import reformat

EXIT_DIFFERENT = 1
SAME = "same"
COLORS = {WIDENED: "red", NARROWED: "green", OTHERWISE: "yellow"}


class Compared:
    """The policies of one program in both files: None where one has none."""

    __slots__ = ("differences", "new", "old", "program")

    def __init__(
        self, program: str, old: Policy | None, new: Policy | None,
        subjects: list[Subject] | None,
    ) -> None:
        self.program = program
        self.old = old
        self.new = new
        self.differences: list[UseDifference] = []
        if old is not None and new is not None:
            with counting("diff") as watch:
                self.differences = compare(old, new, subjects, watch)

    @property
    def kinds(self) -> set[str]:
        """All that has changed."""
        if self.old is None or self.new is None:
            return {OTHERWISE}
        return kinds_of(self.differences)


@click.command(name="diff", short_help="Say what a newer policy permits more, and what less.")
@click.argument("old")
@click.argument("new")
@click.option("--semantic", is_flag=True, help="Compare what they say of calls, not their text.")
@click.option("--program", metavar="PATH", help="Only the policy of this program.")
@click.option("--user", metavar="USER", help="Only as far as it concerns this user's calls.")
@click.option("--cwd", metavar="DIR", help="With --user: what $CWD is; default: here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --semantic.")
def command(
    old: str, new: str, semantic: bool, program: str | None, user: str | None, cwd: str | None,
    as_json: bool,
) -> int:
    """Compare the policies in two files: OLD and NEW.

    With --semantic every use of every system call is called widened, narrowed, otherwise (the
    same is permitted in another way) or the same, each change with a call that shows it:

        certexec policy diff --semantic nginx.policy nginx.policy.new

    Without it the canonical, sorted texts are compared line by line. "-" is standard input. Exit
    codes: 0 the same, 1 different, 2 one is no policy, or it could not be told.
    """
    if old == new == "-":
        raise CliError("usage", "standard input can be only one of the two")
    if not semantic:
        if as_json or program or user or cwd:
            raise CliError("usage", "this needs --semantic", 'write "policy diff --semantic"')
        return _textual(old, new)
    if cwd is not None and user is None:
        raise CliError("usage", '"--cwd" is about the calls of "--user", which is missing')
    try:
        subjects = None if user is None else [subject_named(user, None, cwd)]
        compared = [
            Compared(path, one, two, subjects)
            for path, one, two in _pairs(read_file(old), read_file(new), program)
        ]
    except CertexecError as error:
        return refuse(error, as_json)
    kinds = set().union(*(one.kinds for one in compared))
    if as_json:
        output.print_json(writable(_as_json(old, new, compared, not kinds)))
    else:
        for one in compared:
            _show(one)
    if kinds & set(KINDS):
        return EXIT_DIFFERENT
    return EXIT_NOT_A_POLICY if UNCLEAR in kinds else EXIT_FINE


def _textual(old: str, new: str) -> int:
    try:
        before, after = _lines(old), _lines(new)
    except CertexecError as error:
        return refuse(error, as_json=False)
    found = list(
        difflib.unified_diff(before, after, shown_name(old), shown_name(new), lineterm="")
    )
    for line in found:
        click.echo(printable(line, lines=True))
    return EXIT_DIFFERENT if found else EXIT_FINE


def _lines(name: str) -> list[str]:
    text = reformat(
        read_text(name), name=shown_name(name), users=SystemUsers(), sort=True,
        presets=load_presets(),
    )
    return text.split("\n")[:-1]


def _pairs(
    old: PolicyFile, new: PolicyFile, program: str | None
) -> list[tuple[str, Policy | None, Policy | None]]:
    """Return the policies of each program. Raises CliError("usage")."""
    if program is not None:
        old, new = _only(old, program), _only(new, program)
        if not (old.policies or new.policies):
            raise CliError("usage", f'there is no policy for "{program}" in either file')
    if len(old.policies) == len(new.policies) == 1:
        return [(new.policies[0].path, old.policies[0], new.policies[0])]
    before, after = by_name(old), by_name(new)
    return [
        (name, before.get(name), after.get(name)) for name in dict.fromkeys((*before, *after))
    ]


def _only(file: PolicyFile, program: str) -> PolicyFile:
    chosen = file.policy_for(program)
    policies = [one for one in file.policies if chosen is not None and one.path == chosen.path]
    return PolicyFile(file.name, policies, file.extended)


# ---- for people ----------------------------------------------------------------------------------


def _show(compared: Compared) -> None:
    program = printable(compared.program)
    if compared.old is None or compared.new is None:
        output.done(f"{program}: {'only in NEW' if compared.old is None else 'only in OLD'}")
        return
    results = _results(compared.differences)
    counts = [
        count(sum(1 for kinds in results.values() if kind in kinds), "system call", "system calls")
        + f" {kind}" for kind in KINDS
    ]  # fmt: skip
    same = sum(1 for kinds in results.values() if not kinds)
    output.done(f"{program}: {', '.join(counts)}, {same} the same")
    groups: dict[object, tuple[Change, list[UseDifference]]] = {}
    for one in compared.differences:
        for change in one.changes:
            groups.setdefault(_alike(change), (change, []))[1].append(one)
    for change, uses in groups.values():
        _show_change(change, uses, compared)
    unclear = dict.fromkeys(one.call for one in compared.differences if not one.exact)
    if unclear:
        output.warn(
            f"{program}: of {', '.join(unclear)} not every call could be compared "
            "(regular expressions with back references, networks of IPv6, or too many conditions)"
        )


def _alike(change: Change) -> tuple[object, ...]:
    """Return what changes have in common that are shown together: the rules and the answers."""
    old, new = change.old, change.new
    return change.kind, id(old.rule), old.text, id(new.rule), new.text, change.when


def _results(differences: list[UseDifference]) -> dict[str, set[str]]:
    """Return what became of each system call, over all that it does."""
    results: dict[str, set[str]] = {}
    for one in differences:
        results.setdefault(one.call, set()).update(one.kinds or ())
    return results


def _show_change(change: Change, group: list[UseDifference], compared: Compared) -> None:
    names: dict[str, list[str]] = {}
    for one in group:
        names.setdefault(one.use, []).append(one.call)
    calls = "; ".join(
        ", ".join(each) + (f" ({use})" if use else "") for use, each in names.items()
    )
    output.done(f"{output.painted(change.kind, COLORS[change.kind])}: {calls}")
    example = group[0].call + (f":{group[0].use}" if group[0].use else "")
    texts = ", ".join(
        f"{name}={printable(quote(text))}" for name, text in _arguments(change.case)
    )
    who = _subject(change, compared)
    output.done(f"  for example {example}({texts}){f', {who}' if who else ''}")
    if change.when:
        output.done(f"    {printable(change.when)}")
    output.done(f"    old: {_told(change.old)}")
    output.done(f"    new: {_told(change.new)}")


def _arguments(case: Case) -> list[tuple[str, str]]:
    return [
        (f"{name}[{place}]" if place else name, text.decode("utf-8", "surrogateescape"))
        for name, texts in case.values.items() for place, text in enumerate(texts)
    ]


def _told(said: Said) -> str:
    if said.rule is None:
        return f"{said.text} (no rule)"
    return printable(f"{said.text} (line {said.rule.line}: {said.rule.told})")


def _subject(change: Change, compared: Compared) -> str:
    """Return whose call it is, as far as rules of either policy ask."""
    subject = change.case.subject
    rules = [
        rule for policy in (compared.old, compared.new) if policy is not None
        for rule in policy.rules
    ]
    kinds = {rule.predicate.kind for rule in rules if rule.predicate is not None}
    told = [
        f"{kind} {number}" for kind, number in (("user", subject.uid), ("group", subject.gid))
        if kind in kinds
    ]
    used = {rule for rule in (change.old.rule, change.new.rule) if rule is not None}
    data = [symbol.data for rule in used for symbol in symbols(rule.expression)]
    for macro, value in zip(MACROS, (subject.home, subject.user, subject.cwd), strict=True):
        if any(macro in one for one in data):
            told.append(f"{macro}={value}")
    return printable(", ".join(told))


# ---- for programs --------------------------------------------------------------------------------


def _as_json(old: str, new: str, compared: list[Compared], same: bool) -> dict[str, object]:
    return {
        "schema": SCHEMA, "ok": True, "old": shown_name(old), "new": shown_name(new),
        "same": same,
        "programs": [
            {
                "program": one.program,
                "old": one.old is not None, "new": one.new is not None,
                "calls": {
                    name: sorted(kinds) or [SAME]
                    for name, kinds in _results(one.differences).items()
                },
                "changes": [
                    _change_json(each, change) for each in one.differences
                    for change in each.changes
                ],
                "not_exact": [
                    [each.call, each.use] for each in one.differences if not each.exact
                ],
            }
            for one in compared
        ],
    }


def _change_json(one: UseDifference, change: Change) -> dict[str, object]:
    subject = change.case.subject
    return {
        "call": one.call, "use": one.use or None, "result": change.kind,
        "when": change.when or None, "arguments": dict(_arguments(change.case)),
        "subject": {
            "uid": subject.uid, "gid": subject.gid, "user": subject.user, "home": subject.home,
            "cwd": subject.cwd,
        },
        "old": _said_json(change.old), "new": _said_json(change.new),
    }


def _said_json(said: Said) -> dict[str, object]:
    rule = said.rule
    return {
        "answer": said.text, "line": None if rule is None else rule.line,
        "rule": None if rule is None else rule.told,
    }
