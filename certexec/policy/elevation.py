"""Rules that say ``as``: who they name, and which calls can be made as somebody else (pure).

A call is made as somebody else only where certexec makes it itself: what the kernel runs for the
program it runs with the program's own rights. The exec, and the calls that move a thread, are
judged but left to the kernel.
"""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy.calls import call_of, reaches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from certexec.policy.model import Policy, Rule

Elevate = tuple[int | None, int | None]
"""Uid and gid; None: the caller's."""

NEVER_ELEVATED = frozenset(
    (
        # only the calling thread itself can make them
        *("execve", "execveat", "chdir", "chroot"),
        # whether somebody may change mounts is asked of the caller before anything is judged
        *("mount", "umount2", "move_mount", "mount_setattr", "fspick"),
    )
)
"""Judged calls that are nevertheless made with the caller's own rights."""


def can_be_elevated(name: str) -> bool:
    """Tell whether a Linux system call can be made with other rights than its caller's."""
    return call_of(name).supervised and name not in NEVER_ELEVATED


def asks_for_rights(rule: Rule) -> bool:
    """Tell whether a rule makes calls as somebody else: a denied one has no need to be."""
    return rule.elevate is not None and rule.action in ("permit", "ask")


def why_not_elevated(rule: Rule, reached: Sequence[str]) -> str:
    """Return why the calls that a rule reaches cannot be made ``as`` it says, "" when they can."""
    if not asks_for_rights(rule):
        return ""
    for name in reached:
        if not can_be_elevated(name):
            return f'{name} cannot be carried out "as" somebody else'
    return ""


def elevations(policies: Sequence[Policy]) -> dict[Elevate, Rule]:
    """Return whom the rules of some policies name behind ``as``, each with the first that does.

    Rules that reach no call of this system are left out.
    """
    found: dict[Elevate, Rule] = {}
    for policy in policies:
        for rule in policy.rules:
            if rule.elevate is not None and asks_for_rights(rule) and reaches(rule):
                found.setdefault(rule.elevate, rule)
    return found


def shown(elevate: Elevate) -> str:
    """Write an elevation as rules do, by number."""
    uid, gid = elevate
    return ("" if uid is None else f"{uid}") + ("" if gid is None else f":{gid}")


def refuse_ungranted(
    policies: Sequence[Policy], granted: Collection[Elevate], name: str
) -> None:
    """Raise PolicyError("setuid-denied") for the first rule whose identity is not granted.

    ``granted``: what the certificate says; ``name``: what the file is called in the message.
    """
    for elevate, rule in elevations(policies).items():
        if elevate not in granted:
            raise PolicyError(
                "setuid-denied",
                f'{name}({rule.line}): the certificate does not grant "as {shown(elevate)}"',
                'sign it with "--elevate", or take "as" out of the rule',
            )
