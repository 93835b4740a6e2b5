"""Whether a policy that is about to be signed, or was signed, can be put to work here."""

from __future__ import annotations

from certexec.certificate.model import Certificate
from certexec.cli.common import unreadable
from certexec.cli.output import warn
from certexec.errors import CliError, PolicyError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.compile import compile_policy
from certexec.policy.decisions import TreeOptions
from certexec.policy.lint import lint
from certexec.policy.select import select_policy
from certexec.policy.syntax import PolicySyntaxError, parse_policy
from certexec.policy.unsupported import refuse_unsupported
from certexec.run import decide

TOLD_WHEN_SIGNING = ("inactive", "pending")
"""The lint findings that mean: this rule permits nothing here."""
MAX_POLICY = 1 << 20
"""bytes; a policy that lies beside its certificate may be longer than one inside."""


def read_policy_file(path: str) -> bytes:
    """Read a policy file; raises CliError: "not-found", "unreadable", or "policy-syntax"."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_POLICY + 1)
    except OSError as error:
        raise unreadable(path, error) from None
    if len(data) > MAX_POLICY:
        raise CliError("policy-syntax", f'"{path}" is longer than {MAX_POLICY} bytes')
    return data


def decode(data: bytes, name: str) -> str:
    """Return a policy's text; raises CliError("policy-syntax")."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise CliError("policy-syntax", f'the policy "{name}" is not UTF-8 text') from None


def check_policy(text: str, name: str, program: str, options: TreeOptions, inherit: bool) -> None:
    """Parse a policy and see that all it says about ``program`` can be enforced.

    Raises PolicyError: "policy-syntax" with the line and a caret below the place,
    "policy-mismatch" when it is not for this program, or "policy-unsupported".
    """
    try:
        parsed = parse_policy(text, name=name, users=SystemUsers(), privileged=True)
    except PolicySyntaxError as error:
        raise PolicyError("policy-syntax", error.caret(), error.hint) from None
    for finding in lint(parsed):
        if finding.code in TOLD_WHEN_SIGNING:
            warn(f"{name}:{finding.line}: {finding.message} ({finding.code})")
    policy = select_policy(parsed, program)
    refuse_unsupported(policy, name, inherit=inherit)
    compile_policy(policy, options)


def check_certificate_policy(certificate: Certificate) -> None:
    """Judge a certificate's policy as it is judged at every execution.

    Raises RunError("policy-mismatch"), or PolicyError as ``check_policy`` does.
    """
    options = options_for(certificate.log, certificate.is_grant())
    compile_policy(decide.read_policy(certificate), options)


def options_for(log: str, grant: bool) -> TreeOptions:
    """Return what the compiler must know about a certificate."""
    return TreeOptions(full_log=log == "full", privileged=grant, capable=grant)
