"""From the table of decisions to the seccomp filter that enforces it.

    load arch; not x86-64: kill, or for i386, where that is admitted, load nr and search there
    load nr; search; 0x40000000 and above (x32): kill
    per call: a constant, or the launch gate, then its clauses

The filter also governs the launcher between its installation and the program's first instruction.
So the few calls that are still due pass the gate: the argument register 5, which none of them
uses, has to equal a random nonce of this run. A call that the policy permits anyway has no gate,
and stays in the kernel's cache of constantly permitted numbers.
"""

from __future__ import annotations

import struct

from certexec.kernel.bpf import (
    AUDIT_ARCH_I386,
    AUDIT_ARCH_X86_64,
    HIGH,
    INSTRUCTION_SIZE,
    JMP_JEQ_K,
    LOW,
    OFFSET_ARCH,
    OFFSET_NR,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_KILL_PROCESS,
    SECCOMP_RET_USER_NOTIF,
    X32_SYSCALL_BIT,
    Assembler,
    argument_offset,
    errno_action,
    keeps_word,
    merge_ranges,
)
from certexec.kernel.syscalls import numbers_of
from certexec.policy.combine import Agreed, Combined
from certexec.policy.decisions import Table
from certexec.policy.guards import DENY, KILL, PERMIT, Clause, Decision
from certexec.policy.model import parts
from certexec.policy.nest import LauncherTable
from certexec.policy.unsupported import refuse_unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.drop import Dropped
    from certexec.policy.foreign_table import ForeignTable
    from certexec.policy.landlock import Landlocked
    from certexec.policy.model import Policy
    from certexec.policy.reach import Reach
    from certexec.policy.tree import TreeOptions
    from certexec.policy.watch import Watched

GATED = frozenset(
    numbers_of("sendmsg", "write", "prctl", "exit_group", "execveat", "getgroups")
    + numbers_of("setresuid", "setresgid", "getresuid", "getresgid", "capget", "capset")
    + numbers_of("prlimit64")
)
"""What the launcher still does under the filter: hand over the listener, set a limit on files that
would have left no room for it, drop and read back ids and capabilities, say why it failed and end,
execute the program. All take fewer than six arguments."""

NONCE_ARGUMENT = 5

PLACEHOLDERS = (0x2D636E6F, 0x6E6F6E63)
"""(low, high) word of the nonce before it is patched. Not zero, which registers often are."""


class Compiled:
    """A filter and what it was made from.

    Attributes:
        table: what the filter decides.
        tables: the decisions of each policy that the tree can get to, the program's first;
            ``decide`` of the caller's says what the supervisor has to do with a call.
        own_policies: programs that are executed come under policies of their own.
        bpf: the instructions, with PLACEHOLDERS for the nonce.
        patches: (index of an instruction, LOW or HIGH): the instructions, all JEQ, whose ``k`` is
            to be replaced by that word of the nonce.
        landlocked: what has to be in the program's Landlock domain, None for no domain.
    """

    __slots__ = ("bpf", "landlocked", "own_policies", "patches", "table", "tables")

    def __init__(
        self, table: Table | Combined | Dropped | Watched, bpf: bytes,
        patches: list[tuple[int, int]],
    ) -> None:  # fmt: skip
        self.table = table
        self.own_policies = isinstance(table, Combined)
        self.tables: Sequence[Table] = [table] if isinstance(table, Table) else table.tables
        self.bpf = bpf
        self.patches = patches
        self.landlocked: Landlocked | None = None

    @property
    def needs_listener(self) -> bool:
        """Whether a supervisor is needed; otherwise the kernel enforces the policy alone."""
        return self.table.needs_listener

    def with_nonce(self, nonce: int) -> bytes:
        """Return the instructions with a 64-bit nonce in place, as the launcher patches them."""
        program = bytearray(self.bpf)
        for index, word in self.patches:
            value = nonce >> 32 * word & 0xFFFFFFFF
            struct.pack_into("<I", program, index * INSTRUCTION_SIZE + 4, value)
        return bytes(program)


def table_for(policy: Policy, options: TreeOptions) -> Table:
    """Return a policy's table, with that of its part for the 32-bit ABI where it has one.

    Raises PolicyError as ``Table`` does.
    """
    if policy.foreign is None:
        return Table(policy, options)
    from certexec.policy.foreign_table import with_foreign

    return with_foreign(policy, options)


def compile_policy(policy: Policy, options: TreeOptions, *, name: str = "policy") -> Compiled:
    """Return the filter for a program's policy in a tree of that kind.

    ``name`` is what the policy's file is called in messages. A filter stays over every execve, so
    ``permit[inherit]`` is what happens; where it must not, ``options.may_exec`` is false.

    Raises PolicyError("policy-unsupported") for what cannot be enforced, or not in one filter.
    """
    for part in parts(policy):
        refuse_unsupported(part, name, inherit=True)
    compiled = compile_table(table_for(policy, options))
    compiled.landlocked = options.landlocked
    return compiled


def compile_reach(
    reach: Reach, options: TreeOptions, *, name: str = "policy",
    inside: Sequence[Table] | None = None,
) -> Compiled:
    """Return the filter for a tree whose programs come under policies of their own.

    ``inside``: the tables of the certificates that may be executed inside; None: there are none.
    They follow those of ``reach`` in the result, and the launcher's follows them.

    ``options.own_policies`` must be set. Raises as ``compile_policy`` does; policies of others
    that cannot be enforced have been left out of ``reach``.
    """
    for part in parts(reach.policies[0]):
        refuse_unsupported(part, name, inherit=True, detach=True)
    tables = [table_for(policy, options) for policy in reach.policies]
    if inside is None:
        return compile_table(Combined(tables))
    return compile_table(Combined([*tables, *inside], LauncherTable()))


def compile_table(table: Table | Combined | Dropped | Watched) -> Compiled:
    """Return the filter for a table of decisions.

    Raises PolicyError("policy-unsupported") when the filter exceeds the kernel's limit.
    """
    asm = Assembler()
    gates: list[tuple[int, int]] = []
    foreign = table.of_foreign()
    # The other ABI comes first, which is last: the way of the program's own calls stays short.
    root_32 = None if foreign is None else asm.load(OFFSET_NR, asm.search(_ranges(asm, foreign)))
    ranges = _ranges(asm, table, gates)
    kill = asm.ret(SECCOMP_RET_KILL_PROCESS)
    ranges.append((X32_SYSCALL_BIT, kill))
    root = asm.load(OFFSET_NR, asm.search(ranges))
    other = kill if root_32 is None else asm.branch(JMP_JEQ_K, AUDIT_ARCH_I386, root_32, kill)
    asm.load(OFFSET_ARCH, asm.branch(JMP_JEQ_K, AUDIT_ARCH_X86_64, root, other))
    patches = [(asm.position(label), word) for label, word in gates]
    return Compiled(table, asm.finish(), sorted(patches))


def _ranges(
    asm: Assembler, table: Table | Agreed | Dropped | ForeignTable | Watched,
    gates: list[tuple[int, int]] | None = None,
) -> list[tuple[int, int]]:
    """Emit what a table decides; returns the ranges of numbers and where each goes on.

    ``gates``: takes the gates' instructions. None: there is no gate, for no launcher uses that ABI.
    """
    gated = GATED if gates is not None else frozenset()
    labels: dict[int, int] = {}
    behind_gate: dict[int, int] = {}
    constants: dict[int, int] = {}
    for number in sorted(gated | table.clauses.keys()):
        clauses = table.of(number)
        if number in gated and (clauses[0].tests or clauses[0].decision.kind != PERMIT):
            behind_gate[number] = _block(asm, clauses)
        elif clauses[0].tests:
            labels[number] = _block(asm, clauses)
        else:
            constants[number] = _action(clauses[0].decision)
    if gates is not None and behind_gate:
        labels.update(_gated(asm, behind_gate, gates))
    # Emitted last, the returns that many numbers share are near the search.
    default = asm.ret(_action(table.default))
    shared = {action: asm.ret(action) for action in constants.values()}
    for number, action in constants.items():
        labels[number] = shared[action]
    return merge_ranges(0, labels, default)


def _action(decision: Decision) -> int:
    if decision.kind == PERMIT:
        return SECCOMP_RET_ALLOW
    if decision.kind == DENY:
        return errno_action(decision.errno)
    if decision.kind == KILL:
        return SECCOMP_RET_KILL_PROCESS
    return SECCOMP_RET_USER_NOTIF


def _block(asm: Assembler, clauses: Sequence[Clause]) -> int:
    """Emit the clauses; a word that the clause before has looked at is not loaded again."""
    label = asm.ret(_action(clauses[-1].decision))
    wanted: int | None = None
    """The offset of the word that has to be loaded at ``label``, where one has."""
    for clause in reversed(clauses[:-1]):
        offsets = [argument_offset(test.argument, test.word) for test in clause.tests]
        if wanted is not None and not all(
            offset == wanted and keeps_word(test.mask, test.value)
            for offset, test in zip(offsets, clause.tests, strict=True)
        ):
            label = asm.load(wanted, label)
        wanted = None
        otherwise, label = label, asm.ret(_action(clause.decision))
        for offset, test in zip(reversed(offsets), reversed(clause.tests), strict=True):
            if wanted is not None:
                label = asm.load(wanted, label)
            label = asm.test(test.mask, test.value, label, otherwise)
            wanted = offset
    return label if wanted is None else asm.load(wanted, label)


def _gated(
    asm: Assembler, behind: dict[int, int], gates: list[tuple[int, int]]
) -> dict[int, int]:
    """Emit one gate for all numbers, and behind it a second look at them: a filter's length costs.

    ``behind``: where each number goes on; returns where it goes instead.
    """
    ways = list(behind.values())
    usual = label = max(ways, key=ways.count)
    others = [number for number, way in behind.items() if way != usual]
    for number in others:
        label = asm.branch(JMP_JEQ_K, number, behind[number], label)
    if others:
        label = asm.load(OFFSET_NR, label)
    return dict.fromkeys(behind, _gate(asm, label, gates))


def _gate(asm: Assembler, otherwise: int, gates: list[tuple[int, int]]) -> int:
    label = asm.ret(SECCOMP_RET_ALLOW)
    for word in (LOW, HIGH):
        label = asm.branch(JMP_JEQ_K, PLACEHOLDERS[word], label, otherwise)
        gates.append((label, word))
        label = asm.load(argument_offset(NONCE_ARGUMENT, word), label)
    return label
