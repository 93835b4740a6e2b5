"""``certexec policy``: check policies, and print one to start from."""

from __future__ import annotations

import os
import shutil
import sys

import click

from certexec.cli import output
from certexec.cli.common import printable, unreadable
from certexec.cli.policy_gate import read_policy_file
from certexec.errors import CliError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.calls import reaches
from certexec.policy.format import tree
from certexec.policy.lexer import PolicySyntaxError, decode_policy
from certexec.policy.lint import Finding, lint, policy_file_name
from certexec.policy.model import Policy, PolicyFile, Rule
from certexec.policy.syntax import parse_policy
from certexec.policy.template import permit_all, starting_policy

EXIT_FINE = 0
EXIT_WARNINGS = 1
EXIT_NOT_A_POLICY = 2
SCHEMA = 1


class Checked:
    """What became of one file: its policies and warnings, or the error."""

    __slots__ = ("error", "findings", "name", "parsed")

    def __init__(self, name: str) -> None:
        self.name = name
        self.parsed: PolicyFile | None = None
        self.error: PolicySyntaxError | CliError | None = None
        self.findings: list[Finding] = []

    @property
    def exit_code(self) -> int:
        """2 for no policy, 1 for warnings, 0 otherwise."""
        if self.error is not None:
            return EXIT_NOT_A_POLICY
        return EXIT_WARNINGS if self.findings else EXIT_FINE


@click.group(name="policy", no_args_is_help=True)
def command() -> None:
    """Check policies, and print one to start from.

    The language is described in certexec.policy(5).
    """


@command.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--lint", "linted", is_flag=True, help="Warn about what is probably not meant.")
@click.option(
    "--privileged/--unprivileged", default=None,
    help='Read as root would ("as" is allowed) or not; default: as the caller.',
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(files: tuple[str, ...], linted: bool, privileged: bool | None, as_json: bool) -> int:
    """Say whether files are policies.

    "-" is standard input. Exit codes: 0 they are, 1 there are warnings (with --lint), 2 one is
    not, or could not be read.
    """
    if privileged is None:
        privileged = os.getuid() == 0
    results = [_check(name, privileged, linted) for name in files]
    if linted:
        _find_collisions(results)
    code = max(result.exit_code for result in results)
    if as_json:
        output.print_json(
            {
                "schema": SCHEMA,
                "ok": code == EXIT_FINE,
                "files": [_writable(_as_json(result)) for result in results],
            }
        )
    else:
        for result in results:
            _show(result)
    return code


@command.command()
@click.argument("program", metavar="PROG")
@click.option(
    "--unsafe-permit-all", "unsafe", is_flag=True,
    help="A policy that confines nothing: every call is permitted.",
)
def template(program: str, unsafe: bool) -> None:
    """Print a policy to start from.

    PROG is a path, or a name to look up in $PATH. Ordinary programs start under the policy; its
    comments say what to add.
    """
    path = _program_path(program)
    text = permit_all(path) if unsafe else starting_policy(path)
    click.echo(text.encode("utf-8", "surrogateescape"), nl=False)
    if unsafe:
        output.warn("this policy confines nothing")


def _program_path(program: str) -> str:
    """Return the path that a certificate for the program would name: links are followed."""
    found = program if "/" in program else shutil.which(program)
    if found is None:
        raise CliError("not-found", f'there is no program "{program}" in $PATH', "give its path")
    return os.path.realpath(found)


def _check(name: str, privileged: bool, linted: bool) -> Checked:
    result = Checked("standard input" if name == "-" else name)
    try:
        data = _read_input() if name == "-" else read_policy_file(name)
        result.parsed = parse_policy(
            decode_policy(data), name=result.name, users=SystemUsers(), privileged=privileged
        )
    except (PolicySyntaxError, CliError) as error:
        result.error = error
        return result
    if linted:
        result.findings = lint(result.parsed)
    return result


def _read_input() -> bytes:
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise unreadable("-", error) from None


def _find_collisions(results: list[Checked]) -> None:
    """Add a warning where two files are about programs that systrace could not keep apart."""
    seen: dict[str, tuple[str, str]] = {}
    for result in results:
        for policy in result.parsed.policies if result.parsed else ():
            kept = policy_file_name(policy.path)
            path, file = seen.setdefault(kept, (policy.path, result.name))
            if file != result.name and path != policy.path:
                result.findings.append(
                    Finding(
                        policy.line, "collision",
                        f'systrace keeps the policies of "{policy.path}" and "{path}" '
                        f'("{file}") in one file, "{kept}"',
                    )
                )


def _show(result: Checked) -> None:
    if isinstance(result.error, PolicySyntaxError):
        output.error_with_hint(printable(result.error.caret(), lines=True), result.error.hint)
        return
    if result.error is not None:
        output.error_with_hint(printable(result.error.message), result.error.hint)
        return
    for finding in result.findings:
        hint = f" ({finding.hint})" if finding.hint else ""
        output.warn(
            printable(f"{result.name}({finding.line}): {finding.message}{hint} [{finding.code}]")
        )
    if result.parsed is not None and not output.settings.quiet:
        policies = result.parsed.policies
        rules = sum(len(policy.rules) for policy in policies)
        click.echo(f"{printable(result.name)}: {_count(policies, 'policy', 'policies')}, "
                   f"{rules} rule{'' if rules == 1 else 's'}")


def _count(things: list[Policy], one: str, many: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else many}"


def _as_json(result: Checked) -> dict[str, object]:
    shown: dict[str, object] = {"file": result.name, "ok": result.error is None}
    if result.error is not None:
        error: dict[str, object] = {
            "reason": result.error.reason, "message": result.error.message,
            "hint": result.error.hint,
        }
        if isinstance(result.error, PolicySyntaxError):
            error |= {
                "line": result.error.line, "column": result.error.column,
                "source": result.error.source_line,
            }
        shown["error"] = error
        return shown
    assert result.parsed is not None
    shown["policies"] = [
        {
            "path": policy.path, "emulation": policy.emulation, "line": policy.line,
            "detached": policy.detached, "rules": [_rule_json(rule) for rule in policy.rules],
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


def _writable(value: object) -> object:
    """Return the value with bytes that are not UTF-8 written as backslash escapes."""
    if isinstance(value, dict):
        return {key: _writable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_writable(one) for one in value]
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value


def _rule_json(rule: Rule) -> dict[str, object]:
    flags = [name for name in ("inherit", "detach", "log", "now") if getattr(rule, name)]
    predicate = rule.predicate
    return {
        "line": rule.line, "name": f"{rule.emulation}-{rule.syscall}", "text": rule.text,
        "simple": rule.simple, "tree": tree(rule.expression), "action": rule.action,
        "errno": rule.errno, "error": rule.errno_name, "flags": flags,
        "as": None if rule.elevate is None else list(rule.elevate),
        "if": None if predicate is None else [
            predicate.kind, predicate.relation, predicate.number
        ],
        "calls": list(reaches(rule)),
    }
