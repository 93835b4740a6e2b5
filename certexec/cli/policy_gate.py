"""Whether a policy that is about to be signed, or was signed, can be put to work here."""

from __future__ import annotations

from certexec.cli.common import unreadable
from certexec.errors import CliError, PolicyError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.select import select_policy
from certexec.policy.syntax import PolicySyntaxError, parse_policy

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


def check_policy(text: str, name: str, program: str) -> None:
    """Parse a policy and see that it says something about ``program`` that can be enforced.

    Raises PolicyError: "policy-syntax" with the line and a caret below the place, or
    "policy-unsupported".
    """
    try:
        parsed = parse_policy(text, name=name, users=SystemUsers(), privileged=True)
    except PolicySyntaxError as error:
        raise PolicyError("policy-syntax", f"{error.caret()}") from None
    select_policy(parsed, program)
