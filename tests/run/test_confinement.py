"""Whatever version of Landlock a kernel speaks, it is asked for nothing that it does not know."""

from __future__ import annotations

import pytest

from certexec.certificate.model import Certificate
from certexec.certificate.verify import read_unverified
from certexec.kernel import landlock
from certexec.kernel.digest import sha256
from certexec.kernel.userdb import SystemUsers
from certexec.policy.compile import Compiled
from certexec.policy.evaluate import subject_of
from certexec.policy.syntax import parse_policy
from certexec.run.confinement import confine
from certexec.run.decide import confinement_of
from certexec.run.known import Known
from tests.certificate.simulator import Simulator

FIRST = (1 << 13) - 1
"""The thirteen rights of Landlock's first version (landlock(7))."""
SINCE = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""refer, truncate, ioctl on devices."""
NEWEST = 12
"""Beyond any version that there is."""
TREES = "/usr", "/lib", "/lib64", "/etc", "/bin"
LISTED = " or ".join(f'filename match "{tree}"' for tree in TREES)
READS = f"fsread: {LISTED} then permit"
WRITES = 'fswrite: filename match "/tmp" or filename match "/usr" then permit'


def known(abi: int) -> int:
    """Return the rights that a kernel of that version knows."""
    return sum(right for version, right in SINCE.items() if version <= abi) | (FIRST if abi else 0)


def confined(
    monkeypatch: pytest.MonkeyPatch, abi: int, *rules: str, asks_unmatched: bool = False
) -> Compiled:
    monkeypatch.setattr(landlock, "abi", lambda: abi)
    lines = ["Language: certexec 1", "Policy: /usr/bin/true, Emulation: native", "\tlandlock"]
    lines += [f"\tnative-{rule}" for rule in rules]
    text = "\n".join([*lines, "\tnative-read: permit", ""])
    file = parse_policy(text, name="test", users=SystemUsers(), privileged=True)
    subject = subject_of(1000, 1000, home="/home/x", user="x", cwd="/")
    _, compiled, _ = confine(
        file, "/usr/bin/true", "test", inherit=True, full_log=False, privileged=False,
        capable=False, subject=lambda: subject, asks_unmatched=asks_unmatched,
    )  # fmt: skip
    return compiled


@pytest.mark.parametrize("abi", range(NEWEST + 1))
@pytest.mark.parametrize("rules", [(READS,), (READS, WRITES)], ids=["reads", "reads and writes"])
def test_a_rule_is_enforced_by_what_the_kernel_knows_or_by_the_supervisor(
    monkeypatch: pytest.MonkeyPatch, abi: int, rules: tuple[str, ...]
) -> None:
    compiled = confined(monkeypatch, abi, *rules)
    found = compiled.landlocked
    if found is None:
        assert abi < landlock.ABI_REFER
        assert compiled.needs_listener
        return
    assert not found.handled & ~known(abi)
    assert all(not rights & ~found.handled for rights in found.trees.values())
    if not found.handled & landlock.TRUNCATE:  # an open that truncates is not covered then
        assert compiled.needs_listener or len(rules) == 1


@pytest.mark.parametrize("abi", range(NEWEST + 1))
def test_an_older_kernel_never_leaves_more_to_landlock_than_a_newer_one(
    monkeypatch: pytest.MonkeyPatch, abi: int
) -> None:
    older = confined(monkeypatch, abi, READS, WRITES).landlocked
    newer = confined(monkeypatch, abi + 1, READS, WRITES).landlocked
    if older is not None:
        assert newer is not None
        assert older.uses <= newer.uses and not older.handled & ~newer.handled


def test_where_an_agent_is_asked_nothing_is_left_to_landlock_which_asks_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert confined(monkeypatch, NEWEST, READS).landlocked is not None
    compiled = confined(monkeypatch, NEWEST, READS, asks_unmatched=True)
    assert compiled.landlocked is None and compiled.needs_listener


BOTH = """\
Language: certexec 1
Policy: /usr/bin/true, Emulation: native
\tnative-read: permit
Policy: /usr/bin/true, Emulation: linux
\tlinux-read: permit
"""


def test_what_one_certificate_says_of_a_policy_is_not_said_for_the_next_one() -> None:
    """The resident server keeps what it parsed, by its bytes."""

    def certificate(**options: object) -> Certificate:
        made = read_unverified(Simulator().build())
        made.program.path = "/usr/bin/true"
        made.policy.sha256, made.policy.text = sha256(BOTH.encode()), BOTH
        for name, value in options.items():
            setattr(made.policy, name, value)
        return made

    known = Known()
    asking = certificate(unmatched="ask", emulations=["native", "linux"])
    _, compiled, _ = confinement_of(asking, capable=False, known=known)
    assert compiled.table.of_foreign() is not None and compiled.needs_listener
    _, compiled, _ = confinement_of(certificate(), capable=False, known=known)
    assert compiled.table.of_foreign() is None and not compiled.needs_listener
