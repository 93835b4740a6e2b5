"""What the verbs about policies share: reading a file, choosing a policy, telling what is wrong."""

from __future__ import annotations

import sys

import click

from certexec.certificate.model import DENY, UNMATCHED
from certexec.cli import output
from certexec.cli.common import describe
from certexec.cli.policy_gate import MAX_POLICY, read_policy_file, refuse_certificate
from certexec.cli.presets import load_presets
from certexec.errors import CertexecError, CliError, unreadable
from certexec.kernel.userdb import SystemUsers
from certexec.policy.lexer import PolicySyntaxError, decode_policy
from certexec.policy.model import Policy, PolicyFile
from certexec.policy.names import FOREIGN_EMULATION
from certexec.policy.syntax import parse_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.model import Rule

unmatched_option = click.option(
    "--unmatched", type=click.Choice(UNMATCHED), default=DENY, show_default=True,
    help="As in a certificate that says this of calls that no rule matches.",
)
"""The option of verbs whose answer hangs on what becomes of those."""
SCHEMA = 1
EXIT_FINE = 0
EXIT_NOT_A_POLICY = 2
STANDARD_INPUT = "standard input"


def shown_name(name: str) -> str:
    """Return what messages call a file; ``-`` is standard input."""
    return STANDARD_INPUT if name == "-" else name


def read_text(name: str) -> str:
    """Read a policy file, or standard input for ``-``; bytes that are not UTF-8 survive.

    Raises CliError: "not-found", "unreadable" or "policy-syntax" (too long).
    """
    if name != "-":
        return decode_policy(read_policy_file(name))
    try:
        data = sys.stdin.buffer.read(MAX_POLICY + 1)
    except OSError as error:
        raise unreadable("-", error) from None
    if len(data) > MAX_POLICY:
        raise CliError("policy-syntax", f"{STANDARD_INPUT} is longer than {MAX_POLICY} bytes")
    refuse_certificate(data, STANDARD_INPUT)
    return decode_policy(data)


def read_file(name: str) -> PolicyFile:
    """Read and parse a policy file as root would, who signs it.

    Raises PolicySyntaxError, or CliError as ``read_text`` does.
    """
    return parse_policy(
        read_text(name), name=shown_name(name), users=SystemUsers(), privileged=True,
        presets=load_presets(),
    )


def choose(file: PolicyFile, program: str | None, emulation: str | None = None) -> Policy:
    """Return the policy for a program, or the only one of a file. Raises CliError("usage").

    ``emulation``: the part for that one; without it that for x86-64 where there are two.
    """
    policies = file.policies
    known = ", ".join(dict.fromkeys(f'"{policy.path}"' for policy in policies)) or "none"
    if emulation is not None:
        policies = [policy for policy in policies if policy.emulation == emulation]
        if not policies:
            raise CliError("usage", f'there is no part for emulation "{emulation}" in it')
    else:
        twice = {policy.path for policy in policies if policy.emulation != FOREIGN_EMULATION}
        policies = [
            policy for policy in policies
            if policy.emulation != FOREIGN_EMULATION or policy.path not in twice
        ]
    if program is not None:
        found = PolicyFile(file.name, policies).policy_for(program)
        if found is None:
            raise CliError("usage", f'there is no policy for "{program}" in it (it has: {known})')
        return found
    if len(policies) != 1:
        raise CliError(
            "usage", f"the file does not hold one policy (it has: {known})",
            'choose with "--program PATH"' if file.policies else "",
        )
    return policies[0]


def by_name(file: PolicyFile) -> dict[str, Policy]:
    """Return the policies of a file by program, the part for the 32-bit ABI apart from another."""
    found: dict[str, Policy] = {}
    both = {policy.path for policy in file.policies if policy.emulation != FOREIGN_EMULATION}
    for policy in file.policies:
        apart = policy.emulation == FOREIGN_EMULATION and policy.path in both
        found[f"{policy.path} ({policy.emulation})" if apart else policy.path] = policy
    return found


def refuse(error: CertexecError, as_json: bool) -> int:
    """Tell why a verb about policies cannot answer; returns its exit code, always 2."""
    if as_json:
        output.print_json({"schema": SCHEMA, "ok": False, "error": error_json(error)})
    else:
        output.failure(error)
    return EXIT_NOT_A_POLICY


def error_json(error: CertexecError) -> object:
    """Return an error for JSON."""
    shown: dict[str, object] = {**describe(error)}
    if isinstance(error, PolicySyntaxError):
        shown |= {"line": error.line, "column": error.column, "source": error.source_line}
    return writable(shown)


def writable(value: object) -> object:
    """Return the value with bytes that are not UTF-8 written as backslash escapes."""
    if isinstance(value, dict):
        return {key: writable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [writable(one) for one in value]
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value


def count(number: int, one: str, many: str) -> str:
    """Write a number with its noun."""
    return f"{number} {one if number == 1 else many}"


def count_rules(rules: Sequence[Rule]) -> str:
    """Write how many rules there are: those of the file, and those that it includes."""
    own = sum(1 for rule in rules if not rule.origin)
    included = len(rules) - own
    return count(own, "rule", "rules") + (f", {included} more of presets" if included else "")
