"""From a policy to the table behind the filter: clauses and decisions for every system call.

Each rule goes to the cheapest layer that enforces it exactly: what is the same for every use of a
call is a constant, what registers tell is a compare, the rest is judged by the supervisor. Around
that stands what certexec needs in order to keep the tree inside (``guards``).
"""

from __future__ import annotations

import errno

from certexec.errors import PolicyError
from certexec.kernel.syscalls import NUMBERS, numbers_of
from certexec.policy.calls import arguments_of, call_of, reaches, variants
from certexec.policy.dotdot import look_at_names
from certexec.policy.elevation import asks_for_rights, can_be_elevated
from certexec.policy.evaluate import (
    EXECS,
    UNMATCHED_ASK,
    constant_rule,
    effective_rules,
    evaluate,
    rules_named,
)
from certexec.policy.guards import (
    ASKED,
    ASKED_UNMATCHED,
    CHANGING,
    CLONE,
    CLONE3,
    CLONE_THREAD,
    DENIED,
    EXEC,
    FCNTL,
    JUDGED,
    KILL,
    KILLED,
    KILLED_AND_LOGGED,
    LANDLOCKED,
    LOG,
    MOVING,
    NOTIFY,
    PERMITTED,
    PRCTL,
    PROTECTED,
    PROTECTION,
    RULES,
    UNMATCHED,
    UNSUPPORTED,
    Clause,
    Decision,
    Test,
    adopt_guard,
    alike,
    deny,
    dumpable_guard,
    first_of,
    follow_forks,
    inherent_guards,
    protect,
    signal_owner_guards,
    tests_of,
    unreadable_guard,
    watch_changes,
    watch_moves,
)
from certexec.policy.model import Subject
from certexec.policy.names import FOREIGN_EMULATION
from certexec.policy.narrowing import watch_for_state
from certexec.policy.side_doors import close_side_doors
from certexec.policy.split import BRANCHES_MAX, split
from certexec.policy.tree import ALONE, Facts, TreeOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from certexec.policy.calls import Variant
    from certexec.policy.foreign_table import ForeignTable
    from certexec.policy.model import Policy, Rule
    from certexec.policy.split import Possible

OPENS = ("open", "openat", "openat2", "creat")

OWN_DOMAIN_BINDS = numbers_of(
    *(*OPENS, "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "connect", "bind"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("mknod", "mknodat", "truncate", "mount", "umount2", "move_mount"),
    *("sendto", "sendmsg", "sendmmsg", "fspick", "quotactl"),
)
"""The supervised calls that a Landlock domain of the program's own would have bound."""

O_PATH = 0o10000000
"""open(2): the name is looked up and nothing is opened."""
O_PATH_REGISTERS = {"open": 1, "openat": 2}
"""Where the flags of an open are, for those that have them in a register."""

ALWAYS = numbers_of("exit", "exit_group", "rt_sigreturn", "restart_syscall")
"""Permitted whatever the policy says: a program can always end, and a signal handler, once it
runs, can return; the kernel itself puts restart_syscall in place of an interrupted sleep. None of
them touches anything outside the program."""

MOVES = numbers_of("chdir", "chroot")
"""The calls that move a thread to another place, which processes can share."""
CLONE_FS = 0x200
"""clone(2): both share their working directory and root."""

SETTLED = frozenset((*ALWAYS, CLONE3))
"""The calls on which the policy has no say."""

IO_URING = numbers_of("io_uring_setup", "io_uring_enter", "io_uring_register")
IO_URING_REACHES = numbers_of(
    *("openat", "openat2", "statx", "unlinkat", "renameat", "mkdirat", "symlinkat", "linkat"),
    *("setxattr", "getxattr", "socket", "connect", "bind", "listen", "accept", "sendmsg"),
    "sendto",
)
"""Calls whose work io_uring does without passing the filter. Where one of them is denied, or the
supervisor has to see it, io_uring is denied, too, even if the policy permits it."""

MEETINGS = ("connect", "bind")
"""The calls by which a program gets at the socket of an agent, or makes one."""
FORKS = numbers_of("clone", "fork", "vfork")
LANDLOCK_RESTRICT_SELF = NUMBERS["landlock_restrict_self"]


NOBODY = Subject(-1, -1, "", "", "")
"""For rules that are decided without any argument and do not ask whose call it is."""


class Table:
    """The decisions for one tree.

    Attributes:
        clauses: number to clauses, for the calls of which a rule or certexec itself speaks; where
            what no rule matches is asked about, for all calls that there are.
        default: for all other numbers, and for what cannot be asked about: a denial.
        needs_listener: something is notified, so there must be a supervisor.
        facts: what follows for other tables.
        foreign: of the policy's part for the 32-bit ABI; None: calls of that one are killed.
    """

    __slots__ = (
        "_asks", "_options", "_watched", "clauses", "default", "facts", "foreign", "needs_listener",
    )  # fmt: skip

    def __init__(self, policy: Policy, options: TreeOptions, beside: Facts = ALONE) -> None:
        """Decide. What certexec.policy.unsupported would refuse becomes a denial here.

        ``beside``: what follows from another table for the same processes.

        Raises PolicyError("policy-unsupported") for io_uring beside rules that it would evade.
        """
        self._options = options
        self.foreign: Table | None = None
        # /proc/PID/mem leads into the supervisor, or into a process under another policy.
        self._watched = options.capable or (options.own_policies and not policy.detached)
        # An agent is asked: nobody in the tree may stand in its place.
        asks = policy.asks_unmatched or any(
            rule.action == "ask" and reaches(rule) for rule in policy.rules
        )
        self._asks = asks or beside.asks
        # who is asked about the rest wants to know what is denied unasked
        told = options.full_log or policy.asks_unmatched
        self.default = deny(errno.EPERM, UNMATCHED if told else "")
        if policy.detached:
            self.default = PERMITTED
        self.clauses: dict[int, list[Clause]] = {}
        # Per call the clauses of each of its variants, the last of which has no tests.
        uses: dict[str, list[list[Clause]]] = {}
        for name in EXECS if policy.detached else _reached(policy):
            if NUMBERS[name] in SETTLED:
                continue
            bare = _bare_rule(policy, name)
            if policy.detached:
                uses[name] = [[Clause((), self._of_name(name, PERMITTED))]]
            elif bare is None:
                uses[name] = [self._of_variant(policy, name, each) for each in variants(name)]
            else:
                uses[name] = [[Clause((), self._of_name(name, self._of_rule(bare)))]]
        if policy.no_dotdot:
            uses = {name: look_at_names(name, each) for name, each in uses.items()}
        if policy.afters:
            uses = {name: watch_for_state(policy, name, each) for name, each in uses.items()}
        decisions = [
            clause.decision for every in uses.values() for each in every for clause in each
        ]
        self.needs_listener = beside.supervised or options.own_policies or any(
            decision.kind == NOTIFY for decision in (self.default, *decisions)
        ) or any(_must_look(name, each) for name, each in uses.items())
        for name, each in uses.items():
            if self.needs_listener:  # so there is somebody to write the line
                each = [_killed_and_logged(clauses) for clauses in each]
            self.clauses[NUMBERS[name]] = self._of_call(name, self._watch(name, each))
        for number in ALWAYS:
            self.clauses[number] = [Clause((), PERMITTED)]
        # The flags of clone3 lie in memory. C libraries take clone where the kernel has no clone3.
        self.clauses[CLONE3] = [Clause((), deny(errno.ENOSYS))]
        self._refuse_io_uring(
            bool(policy.afters) or any(
                clause.decision.why in (RULES, UNSUPPORTED)
                for name, every in uses.items() if name not in EXECS
                for each in every for clause in each
            )
        )
        if options.own_policies:
            for number in FORKS:
                self.clauses[number] = follow_forks(number, self.of(number))
        self.facts = Facts(self.needs_listener, asks, self._judges_opens(), self._judges_moves())
        if self.needs_listener:
            self._protect_supervisor(beside)
        self.clauses |= close_side_doors(
            self.of, self.needs_listener, policy.emulation == FOREIGN_EMULATION
        )
        for number, guards in inherent_guards(
            supervised=self.needs_listener, detached=policy.detached
        ).items():
            self._put_in_front(number, guards)
        if policy.adopts and options.own_policies:
            self._put_in_front(PRCTL, [adopt_guard()])
        if options.privileged and not options.may_exec:
            self._put_in_front(PRCTL, [unreadable_guard()])

    def decide(self, number: int, args: Sequence[int]) -> Decision:
        """Return what happens to one x86-64 call, given its six registers (64-bit, unsigned)."""
        clauses = self.clauses.get(number)
        return self.default if clauses is None else first_of(clauses, args)

    def settle(self, number: int, args: Sequence[int | None]) -> Decision | None:
        """Return the same where some registers are not known (None).

        None: the decision depends on one of those.
        """
        for clause in self.of(number):
            hidden = False
            for test in clause.tests:
                value = args[test.argument]
                if value is None:
                    hidden = True
                elif not test.holds_for(value):
                    break
            else:
                return None if hidden else clause.decision
        raise AssertionError("the last clause has no tests")

    def of(self, number: int) -> list[Clause]:
        """Return the clauses of a call."""
        return self.clauses.get(number) or [Clause((), self.default)]

    def of_foreign(self) -> ForeignTable | None:
        """Return what the filter does with calls of the 32-bit ABI; None: they are killed."""
        if self.foreign is None:
            return None
        from certexec.policy.foreign_table import ForeignTable

        return ForeignTable(self.foreign)

    def _of_variant(self, policy: Policy, name: str, variant: Variant) -> list[Clause]:
        """Return the clauses for one of the things that a call can do, its own tests left out."""
        landlocked = self._options.landlocked
        if landlocked is not None and (name, variant.label) in landlocked.uses:
            return [Clause((), LANDLOCKED)]
        rules = effective_rules(policy, name, variant.label)
        constant, rule = constant_rule(rules)
        elevated = [each for each in rules if asks_for_rights(each)]
        if any(each.elevate not in self._options.elevations for each in elevated):
            return [Clause((), deny(errno.EPERM, UNSUPPORTED, log=True))]  # nobody granted it
        if elevated and can_be_elevated(name):
            return [Clause((), self._of_name(name, JUDGED))]
        if constant:
            return [Clause((), self._of_name(name, self._of_rule(rule)))]
        if not call_of(name).supervised and all(each.unconditional for each in rules):
            verdict = evaluate(rules, {}, NOBODY)  # an "ask", and what else is asked in vain
            decision = self._of_rule(None if verdict is None else verdict.rule)
            if decision == ASKED and NUMBERS[name] in IO_URING:
                decision = deny(errno.EPERM, UNSUPPORTED, log=True)  # what it does passes unasked
            return [Clause((), self._of_name(name, decision))]
        # What the kernel carries out after we looked must not hang on what lies in memory.
        blind = call_of(name).pending

        def outcome(possible: Iterable[Possible]) -> Decision:
            return self._of_name(name, self._of_possible(possible, blind))

        branches = split(rules, arguments_of(name, variant), outcome)
        if len(branches) > BRANCHES_MAX:
            blind = blind and any(due.why == UNSUPPORTED for _, due in branches)
            due = deny(errno.EPERM, UNSUPPORTED, log=True) if blind else JUDGED
            return [Clause((), self._of_name(name, due))]
        return [
            Clause([one for test in tests for one in tests_of(*test)], due)
            for tests, due in branches
        ]

    def _of_possible(self, possible: Iterable[Possible], blind: bool) -> Decision:
        """Return the decision where only these rules can still decide."""
        undecided = False
        for each in possible:
            if blind and each.memory:
                return deny(errno.EPERM, UNSUPPORTED, log=True)
            if each.certain and not undecided and each.rule.action != "ask":
                return self._of_rule(each.rule)
            undecided = True
            if not blind:
                break
        return JUDGED if undecided else self.default

    def _of_rule(self, rule: Rule | None) -> Decision:
        """Return the decision of a rule that applies to every use; None: no rule does."""
        if rule is None:
            return self.default
        if rule is UNMATCHED_ASK:
            return ASKED_UNMATCHED
        if rule.action == "ask" and not rule.flaw:
            return ASKED
        if rule.detach and self._options.own_policies:
            return JUDGED  # the rule that permits an exec says what becomes of it
        if rule.inherit and self._options.own_policies and rule.action == "permit":
            return JUDGED
        if asks_for_rights(rule) or rule.detach or rule.flaw:
            return deny(errno.EPERM, UNSUPPORTED, log=True)
        if rule.action == KILL:
            return KILLED_AND_LOGGED if rule.log or self._options.full_log else KILLED
        if rule.action == "permit":
            logged = rule.log or self._options.log_all
            return Decision(NOTIFY, 0, LOG, log=True) if logged else PERMITTED
        logged = rule.log or self._options.full_log
        return deny(rule.errno, DENIED if logged else "", rule.log)

    def _of_name(self, name: str, decision: Decision) -> Decision:
        """Return a decision by rules as it holds in this tree: an exec may need an eye on it."""
        if name not in EXECS or decision.denied:
            return decision
        if not self._options.may_exec:
            return deny(errno.EACCES, DENIED if self._options.full_log else "")
        if decision.permitted and (self._options.privileged or self._options.own_policies):
            # Its policy, and what it gained, are settled at its exec stop: an empty bounding set
            # does not keep a set-user-ID file from giving euid 0.
            return Decision(NOTIFY, 0, EXEC, decision.log)
        return decision

    def _watch(self, name: str, uses: list[list[Clause]]) -> list[list[Clause]]:
        watched = name in OPENS and self._watched and self.needs_listener
        if not watched and not (name in MEETINGS and self._asks):
            return uses
        # whoever opens in the program's place is in no domain of its: there the rules count
        return [
            [
                Clause(each.tests, JUDGED) if each.decision == LANDLOCKED
                else Clause(each.tests, Decision(NOTIFY, 0, PROTECTION, each.decision.log))
                if each.decision.permitted else each
                for each in clauses
            ]
            for clauses in uses
        ]

    def _of_call(self, name: str, uses: list[list[Clause]]) -> list[Clause]:
        """Tell a call's variants apart by its registers, as far as they are decided otherwise."""
        if len(uses) == 1:
            return uses[0]
        clauses: list[Clause] = []
        if name in OPENS and uses[0][0].decision == LANDLOCKED:
            # Landlock is not asked about an open that only looks a name up
            only_looked_up = JUDGED if self.needs_listener else deny(errno.EACCES)
            if name not in O_PATH_REGISTERS:
                return self._of_hidden(name, [Clause((), only_looked_up)])
            test = Test(O_PATH_REGISTERS[name], O_PATH, O_PATH)
            clauses.append(Clause([test], only_looked_up, "a name is looked up, nothing opened"))
        for index, variant in enumerate(variants(name)):
            own = uses[index]
            tests = [each for test in variant.tests for each in tests_of(*test)]
            if all(alike(other, own) for other in uses[index + 1 :]):
                reason = "otherwise" if clauses else ""
                clauses += [Clause(each.tests, each.decision, reason) for each in own]
                break
            if variant.in_memory:
                own = self._of_hidden(name, own)
            clauses += [
                Clause([*tests, *each.tests], each.decision, variant.label) for each in own
            ]
            if not tests:
                break
        return clauses

    def _of_hidden(self, name: str, clauses: list[Clause]) -> list[Clause]:
        """Return the clauses for a call that may be this variant, or one with others."""
        if self.needs_listener:
            return [Clause((), JUDGED)]
        if name == "openat2":
            # Programs take openat where the kernel has no openat2, and there the flags are seen.
            return [Clause((), deny(errno.ENOSYS))]
        return clauses  # denials, else _must_look() had asked for a supervisor

    def _refuse_io_uring(self, conditional: bool) -> None:
        if not any(
            clause.decision.permitted or clause.decision.why == RULES
            for number in IO_URING for clause in self.of(number)
        ):
            return
        if conditional:
            raise PolicyError(
                "policy-unsupported",
                "io_uring is permitted beside after, rules on names or addresses, or questions "
                "about what no rule matches, which its operations would evade",
                "do not permit io_uring_setup, io_uring_enter and io_uring_register",
            )
        watched = self._watched and self.needs_listener
        if watched or not all(self._permits(number) for number in IO_URING_REACHES):
            why = UNSUPPORTED if self.needs_listener else ""
            for number in IO_URING:
                self.clauses[number] = [Clause((), deny(errno.EPERM, why, log=True))]

    def _permits(self, number: int) -> bool:
        return all(clause.decision.permitted for clause in self.of(number))

    def _judges_opens(self) -> bool:
        return any(
            clause.decision.why in (RULES, PROTECTION)
            for number in OWN_DOMAIN_BINDS
            for clause in self.of(number)
        )

    def _judges_moves(self) -> bool:
        return any(clause.decision.why == RULES for number in MOVES for clause in self.of(number))

    def _protect_supervisor(self, beside: Facts) -> None:
        for number in PROTECTED:
            if number in self.clauses or self.default.permitted:
                self.clauses[number] = protect(number, self.of(number))
        for number in MOVING:
            if number in self.clauses or self.default.permitted:
                self.clauses[number] = watch_moves(number, self.of(number))
        for number in CHANGING if self._options.capable else ():
            if number in self.clauses or self.default.permitted:
                self.clauses[number] = watch_changes(number, self.of(number))
        self._put_in_front(FCNTL, signal_owner_guards())
        if not self._options.privileged:
            self._put_in_front(PRCTL, [dumpable_guard()])
        if self.facts.opens or beside.opens:
            # The program's own domain would not bind the supervisor, who opens in its place.
            self.clauses[LANDLOCK_RESTRICT_SELF] = [Clause((), deny(errno.EOPNOTSUPP))]
        if self._options.own_policies or self.facts.moves or beside.moves:
            together = Test(0, CLONE_FS, CLONE_FS | CLONE_THREAD)
            self._put_in_front(
                CLONE,
                [Clause([together], deny(errno.EPERM), "no process may move another's directory")],
            )

    def _put_in_front(self, number: int, guards: list[Clause]) -> None:
        """Add guards. A call that is denied needs none, but prctl's own are answers, too."""
        clauses = self.of(number)
        if number == PRCTL or not all(clause.decision.denied for clause in clauses):
            self.clauses[number] = guards + clauses


def _reached(policy: Policy) -> list[str]:
    """Return the system calls that some rule of the policy reaches, in the order of numbers.

    All calls, where what no rule matches is asked about.
    """
    if policy.asks_unmatched:
        return sorted(NUMBERS, key=NUMBERS.__getitem__)
    reached: set[str] = set()
    for rule in {rule.syscall: rule for rule in policy.rules}.values():
        reached.update(reaches(rule))
    return sorted(reached, key=NUMBERS.__getitem__)


def _bare_rule(policy: Policy, name: str) -> Rule | None:
    """Return the bare permit or deny on the call's own name: it decides all of the call's uses.

    ``effective_rules`` says the same of each use; most rules are of this kind, and this is quicker.
    """
    if policy.emulation == FOREIGN_EMULATION:
        return None  # there the rules for socketcall and ipc would come before
    if policy.exec_in is not None and name in EXECS:
        return None
    for rule in reversed(rules_named(policy, name)):
        if rule.simple:
            return rule
    return None


def _killed_and_logged(clauses: list[Clause]) -> list[Clause]:
    return [
        Clause(each.tests, KILLED_AND_LOGGED) if each.decision == KILLED else each
        for each in clauses
    ]


def _must_look(name: str, uses: Sequence[list[Clause]]) -> bool:
    """Tell whether a variant is permitted that only memory tells from one that is not.

    That is fstat(2) in its modern clothes, a newfstatat or statx with an empty name.
    """
    return len(uses) > 1 and name != "openat2" and any(
        variant.in_memory
        and any(each.decision.permitted or each.decision.kind == KILL for each in own)
        and any(not alike(each, own) for each in uses)
        for variant, own in zip(variants(name), uses, strict=True)
    )
