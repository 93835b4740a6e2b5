"""Whatever version of Landlock a kernel speaks, it is asked for nothing that it does not know."""

from __future__ import annotations

import pytest

from certexec.kernel import landlock
from certexec.kernel.userdb import SystemUsers
from certexec.policy.compile import Compiled
from certexec.policy.evaluate import subject_of
from certexec.policy.syntax import parse_policy
from certexec.run.confinement import confine

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


def confined(monkeypatch: pytest.MonkeyPatch, abi: int, *rules: str) -> Compiled:
    monkeypatch.setattr(landlock, "abi", lambda: abi)
    lines = ["Language: certexec 1", "Policy: /usr/bin/true, Emulation: native", "\tlandlock"]
    lines += [f"\tnative-{rule}" for rule in rules]
    text = "\n".join([*lines, "\tnative-read: permit", ""])
    file = parse_policy(text, name="test", users=SystemUsers(), privileged=True)
    subject = subject_of(1000, 1000, home="/home/x", user="x", cwd="/")
    _, compiled, _ = confine(
        file, "/usr/bin/true", "test", inherit=True, full_log=False, privileged=False,
        capable=False, subject=lambda: subject,
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
