"""``certexec policy check``: say whether files are policies, and what is probably not meant."""

from __future__ import annotations

import os

import click

from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.policy_input import (
    EXIT_FINE,
    EXIT_NOT_A_POLICY,
    SCHEMA,
    count,
    count_rules,
    error_json,
    read_text,
    shown_name,
    writable,
)
from certexec.cli.presets import load_presets
from certexec.cli.progress import counting
from certexec.errors import CertexecError, CliError
from certexec.kernel.userdb import SystemUsers
from certexec.observe.sources import past
from certexec.policy.calls import reaches
from certexec.policy.dead_rules import Call, lint_exactly, unused
from certexec.policy.evaluate import subject_of
from certexec.policy.format import format_expression, tree
from certexec.policy.lexer import PolicySyntaxError
from certexec.policy.lint import Finding, lint, lint_text, without_meant
from certexec.policy.model import Policy, PolicyFile, Rule, UserDb
from certexec.policy.reach import file_name
from certexec.policy.syntax import parse_policy, parse_template

EXIT_WARNINGS = 1


class Checked:
    """What became of one file: its policies and warnings, or the error."""

    __slots__ = ("error", "findings", "name", "parsed")

    def __init__(self, name: str) -> None:
        self.name = name
        self.parsed: PolicyFile | None = None
        self.error: CertexecError | None = None
        self.findings: list[Finding] = []

    @property
    def exit_code(self) -> int:
        """2 for no policy, 1 for warnings, 0 otherwise."""
        if self.error is not None:
            return EXIT_NOT_A_POLICY
        return EXIT_WARNINGS if self.findings else EXIT_FINE


@click.command(name="check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--lint", "linted", is_flag=True, help="Warn about what is probably not meant.")
@click.option("--log", "logs", multiple=True, metavar="LOG",
              help="Warn about rules that decided no call in this log, too.")
@click.option("--template", "templates", is_flag=True, help="Read the files as templates.")
@click.option(
    "--privileged/--unprivileged", default=None,
    help='Read as root would ("as" is allowed) or not; default: as the caller.',
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    files: tuple[str, ...], linted: bool, logs: tuple[str, ...], templates: bool,
    privileged: bool | None, as_json: bool,
) -> int:
    """Say whether files are policies.

    "-" is standard input. Exit codes: 0 they are, 1 there are warnings (with --lint), 2 one is
    not, or could not be read.
    """
    if privileged is None:
        privileged = os.getuid() == 0
    if logs and templates:
        raise CliError("usage", '"--log" is about policies, not templates')
    linted = linted or bool(logs)
    calls = _calls(logs)
    results = [_check(name, templates, privileged, linted) for name in files]
    for result in results:
        _find_unused(result, calls if logs else None)
    if linted and not templates:
        _find_collisions(results)
    code = max(result.exit_code for result in results)
    if as_json:
        output.print_json(
            {
                "schema": SCHEMA,
                "ok": code == EXIT_FINE,
                "files": [writable(_as_json(result)) for result in results],
            }
        )
    else:
        for result in results:
            _show(result)
    return code


def _check(name: str, templates: bool, privileged: bool, linted: bool) -> Checked:
    result = Checked(shown_name(name))
    read = _read_template if templates else _read_policy
    try:
        text = read_text(name)
        result.parsed = read(text, name=result.name, users=SystemUsers(), privileged=privileged)
    except (PolicySyntaxError, CliError) as error:
        result.error = error
        return result
    if linted:
        found = without_meant(lint(result.parsed), text) + lint_text(text)
        with counting("check") as watch:
            found += lint_exactly(result.parsed, found, watch)
        result.findings = sorted(found, key=lambda finding: finding.line)
    return result


def _read_policy(text: str, *, name: str, users: UserDb, privileged: bool) -> PolicyFile:
    return parse_policy(
        text, name=name, users=users, privileged=privileged, presets=load_presets()
    )


def _read_template(text: str, *, name: str, users: UserDb, privileged: bool) -> PolicyFile:
    """Read a template as the policy that it would be if it were put into an empty one."""
    template = parse_template(text, name=name, users=users, privileged=privileged)
    policy = Policy(template.name, template.emulation, 1)
    policy.rules = template.rules
    return PolicyFile(name, [policy])


def _find_collisions(results: list[Checked]) -> None:
    """Add a warning where two files are about programs that systrace could not keep apart."""
    seen: dict[str, tuple[str, str]] = {}
    for result in results:
        for policy in result.parsed.policies if result.parsed else ():
            kept = file_name(policy.path)
            path, file = seen.setdefault(kept, (policy.path, result.name))
            if file != result.name and path != policy.path:
                result.findings.append(
                    Finding(
                        policy.line, "collision",
                        f'systrace keeps the policies of "{policy.path}" and "{path}" '
                        f'("{file}") in one file, "{kept}"',
                    )
                )


def _calls(logs: tuple[str, ...]) -> list[tuple[str, Call]]:
    """Return the calls of logs, each with the program of its policy. Raises CliError."""
    users = SystemUsers()
    found: list[tuple[str, Call]] = []
    for seen in past(logs, journal=False):
        if seen.text("event") != "call":
            continue
        uid = seen.members.get("uid")
        number = uid if isinstance(uid, int) else -1
        subject = subject_of(
            number, number, home=users.home(number), user=users.name(number), cwd="/"
        )
        values: dict[str, list[str]] = {}
        for name, text in seen.arguments.items():
            values.setdefault(name.partition("[")[0].lower(), []).append(text)
        call = seen.text("syscall"), values, subject, seen.text("verdict")
        found.append((seen.text("policy"), call))
    return found


def _find_unused(result: Checked, calls: list[tuple[str, Call]] | None) -> None:
    if calls is None or result.parsed is None:
        return
    for policy in result.parsed.policies:
        result.findings += unused(policy, [call for path, call in calls if path == policy.path])
    result.findings.sort(key=lambda finding: finding.line)


def _show(result: Checked) -> None:
    if result.error is not None:
        output.failure(result.error)
        return
    for finding in result.findings:
        hint = f" ({finding.hint})" if finding.hint else ""
        output.warn(
            printable(f"{result.name}({finding.line}): {finding.message}{hint} [{finding.code}]")
        )
    if result.parsed is not None:
        policies = result.parsed.policies
        output.done(
            f"{printable(result.name)}: {count(len(policies), 'policy', 'policies')}, "
            f"{count_rules([rule for policy in policies for rule in policy.rules])}"
        )


def _as_json(result: Checked) -> dict[str, object]:
    shown: dict[str, object] = {"file": result.name, "ok": result.error is None}
    if result.error is not None:
        shown["error"] = error_json(result.error)
        return shown
    assert result.parsed is not None
    shown["policies"] = [
        {
            "path": policy.path, "emulation": policy.emulation, "line": policy.line,
            "detached": policy.detached, "landlock": policy.landlock,
            "no_dotdot": bool(policy.no_dotdot),
            "after": [
                {"line": one.rule.line, "rule": _rule_json(one.rule), "only": sorted(one.only)}
                for one in policy.afters
            ],
            "adopt": policy.adopts,
            "exec_in": None if policy.exec_in is None else _rule_json(policy.exec_in),
            "rules": [_rule_json(rule) for rule in policy.rules],
        }
        for policy in result.parsed.policies
    ]
    shown["warnings"] = [
        {
            "line": finding.line, "code": finding.code, "message": finding.message,
            "hint": finding.hint,
        }
        for finding in result.findings
    ]
    return shown


def _rule_json(rule: Rule) -> dict[str, object]:
    flags = [name for name in ("inherit", "detach", "log", "now") if getattr(rule, name)]
    predicate = rule.predicate
    return {
        "line": rule.line, "preset": rule.origin or None,
        "name": f"{rule.emulation}-{rule.syscall}", "text": rule.text,
        "simple": rule.simple, "tree": tree(rule.expression),
        "expression": format_expression(rule.expression), "action": rule.action,
        "errno": rule.errno, "error": rule.errno_name, "flags": flags,
        "as": None if rule.elevate is None else list(rule.elevate),
        "if": None if predicate is None else [
            predicate.kind, predicate.relation, predicate.number
        ],
        "calls": list(reaches(rule)),
    }
