"""Whether a policy that is about to be signed, or was signed, can be put to work here."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from certexec.certificate.envelope import PREFIX
from certexec.cli.common import printable, read_bounded
from certexec.cli.output import info, warn
from certexec.cli.presets import load_presets
from certexec.errors import CliError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.calls import reaches
from certexec.policy.elevation import Elevate, shown
from certexec.policy.elevation import elevations as elevations_of
from certexec.policy.evaluate import EXECS
from certexec.policy.finding import Finding
from certexec.policy.include import expand
from certexec.policy.lint import DETACH, lint
from certexec.policy.model import Policy, PolicyFile, parts
from certexec.policy.reach import Reach
from certexec.policy.syntax import parse_policy
from certexec.run.confinement import confine, left_out
from certexec.run.reached import notes

TOLD_WHEN_SIGNING = ("inactive", "pending")
"""The lint findings that mean: this rule permits nothing here."""
NO_EXEC = 'who has single calls made "as" somebody else executes no other program'
"""What ``--elevate`` takes, in a line for who signs."""
MAX_POLICY = 1 << 20
"""bytes; a policy that lies beside its certificate may be longer than one inside."""


def read_policy_file(path: str) -> bytes:
    """Read a policy file; raises CliError: "not-found", "unreadable", or "policy-syntax"."""
    data = read_bounded(path, MAX_POLICY, "policy-syntax")
    refuse_certificate(data, path)
    return data


def refuse_certificate(data: bytes, name: str) -> None:
    """Refuse what is a certificate where a policy is due. Raises CliError("policy-syntax")."""
    if data.startswith(PREFIX):
        raise CliError(
            "policy-syntax", f'"{name}" is a certificate, not a policy',
            'see what it says with "certexec inspect", and whether it holds with "certexec verify"',
        )


def decode(data: bytes, name: str) -> str:
    """Return a policy's text; raises CliError("policy-syntax")."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise CliError("policy-syntax", f'the policy "{name}" is not UTF-8 text') from None


def write_out(text: str, name: str) -> str:
    """Return a policy with the rules of presets in place of its includes: what is signed is whole.

    Raises PolicySyntaxError as ``check_policy`` does.
    """
    return expand(text, name=name, users=SystemUsers(), presets=load_presets())


def check_policy(
    text: str, name: str, program: str, *, log: str, grant: bool, inherit: bool,
    elevations: Collection[Elevate] = (), foreign: bool = False, asks_unmatched: bool = False,
) -> None:  # fmt: skip
    """Parse a policy and see that all it says about ``program`` can be enforced.

    ``log``, ``grant``, ``inherit``: as the certificate will say; ``elevations``: as whom it will
    let single calls be made. Each of them must be one that some rule asks for. ``foreign``: it
    will admit calls of the 32-bit ABI; ``asks_unmatched``: it will let an agent be asked about what
    no rule matches.

    Raises PolicySyntaxError; PolicyError: "policy-mismatch" when it is not for this program,
    "policy-unsupported", or "setuid-denied" for a rule that says ``as`` somebody else;
    CliError("usage") for a grant that no rule uses.
    """
    parsed = parse_policy(
        text, name=name, users=SystemUsers(), privileged=True, presets=load_presets()
    )
    found = lint(parsed)
    for finding in found:
        if finding.code in TOLD_WHEN_SIGNING:
            warn(printable(f"{name}:{finding.line}: {finding.message} ({finding.code})"))
    reach, _, _ = confine(
        parsed, program, name,
        inherit=inherit, full_log=log == "full", privileged=grant, capable=grant,
        elevations=elevations, foreign=foreign, asks_unmatched=asks_unmatched,
    )  # fmt: skip
    _tell(reach.policies)
    wanted = elevations_of(parts(reach.policies[0]))
    for elevate in elevations:
        if elevate not in wanted:
            raise CliError(
                "usage", f'no rule of "{name}" says "as {shown(elevate)}"',
                'take "--elevate" away: a certificate grants nothing that is not used',
            )  # fmt: skip
    if elevations:
        _warn_of_execs(reach.policies[0], name)
    if grant:
        _warn_of_grants_let_go(found, parsed, reach, name)
    if not inherit:
        for policy, where, why in left_out(parsed, program):
            path = printable(policy.path)
            warn(f'{name}:{where.line}: the policy of "{path}" is left out: {why}')


def _warn_of_execs(policy: Policy, name: str) -> None:
    """Say which rule for an exec is of no use beside ``as``; one such line is enough."""
    for rule in policy.rules:
        if rule.action in ("permit", "ask") and not set(EXECS).isdisjoint(reaches(rule)):
            warn(f"{name}:{rule.line}: this rule lets nothing be executed: {NO_EXEC}")
            return


def _warn_of_grants_let_go(
    found: list[Finding], parsed: PolicyFile, reach: Reach, name: str
) -> None:
    """Say which rules of the file give the identity to a program that nothing confines."""
    lines = {
        rule.line for policy in parsed.policies if any(one is policy for one in reach.policies)
        for rule in policy.rules
    }
    for finding in found:
        if finding.code == DETACH and finding.line in lines:
            warn(
                f"{name}:{finding.line}: the program that this rule lets go keeps the identity "
                f"({DETACH})"
            )


def _tell(policies: Iterable[Policy]) -> None:
    """Say on stderr what comes of it when the program executes a certificate."""
    for odd, text in notes(policies):
        (warn if odd else info)(printable(text))
