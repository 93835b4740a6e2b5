"""What a policy is: files, policies, rules and the expressions in them.

Pure data. The names are systrace's, except where the original had none.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Protocol

    Values = Mapping[str, Sequence[bytes]]
    """Argument name in lower case to its texts: two for ``filename`` of rename, else one."""

    class UserDb(Protocol):
        """Where the names of users and groups in policies are looked up."""

        def uid(self, name: str) -> int | None:
            """Return the number of the user, None for an unknown one."""

        def gid(self, name: str) -> int | None:
            """Return the number of the group, None for an unknown one."""

else:
    UserDb = object

LANGUAGE = "certexec 1"
"""What ``Language: `` says at the top of a file that goes beyond systrace's language."""
ALIASES = frozenset(("fsread", "fswrite"))
"""Names in rules that stand for many system calls; such rules see no argument but filename."""
MACROS = ("$HOME", "$USER", "$CWD")
"""What a quoted string may contain, in the order in which it is replaced."""

_INT_SIGN = 1 << 31
_INT_SPAN = 1 << 32


def base_name(path: str) -> str:
    """Return the last component as basename(3) does: "b" for "/a/b/", "/" for "/", "." for ""."""
    return path.rstrip("/").rpartition("/")[2] or ("/" if path else ".")


class Symbol:
    """One comparison: ``ARGUMENT[OFFSET] OPERATOR "DATA"``, or ``true``.

    Attributes:
        argument: as written ("filename"); compared without regard to case; "" for ``true``.
        offset: which of several arguments of that name, from 0; -1 means the first.
        operator: match, eq, neq, sub, nsub, inpath, re or true; in, in files with LANGUAGE.
        data: the quoted string, unescaped, macros not yet replaced.
    """

    __slots__ = ("argument", "data", "offset", "operator")

    def __init__(self, argument: str, offset: int, operator: str, data: str) -> None:
        self.argument = argument
        self.offset = offset
        self.operator = operator
        self.data = data


class Not:
    """``not``, which reaches as far right as it can."""

    __slots__ = ("operand",)

    def __init__(self, operand: Expression) -> None:
        self.operand = operand


class And:
    """``LEFT and RIGHT``, grouped to the right."""

    __slots__ = ("left", "right")
    word = "and"

    def __init__(self, left: Expression, right: Expression) -> None:
        self.left = left
        self.right = right


class Or:
    """``LEFT or RIGHT``, grouped to the right; binds as tightly as ``and``."""

    __slots__ = ("left", "right")
    word = "or"

    def __init__(self, left: Expression, right: Expression) -> None:
        self.left = left
        self.right = right


if TYPE_CHECKING:
    Expression = Symbol | Not | And | Or

TRUE = Symbol("", -1, "true", "")


def postorder(expression: Expression) -> Iterator[Expression]:
    """Yield every node of an expression, operands before what joins them, from the left.

    With a stack of its own: ``not`` may be nested as deep as a line is long.
    """
    waiting: list[tuple[Expression, bool]] = [(expression, False)]
    while waiting:
        node, entered = waiting.pop()
        if entered or isinstance(node, Symbol):
            yield node
            continue
        waiting.append((node, True))
        if isinstance(node, Not):
            waiting.append((node.operand, False))
        else:
            waiting += [(node.right, False), (node.left, False)]


def symbols(expression: Expression) -> Iterator[Symbol]:
    """Yield the comparisons of an expression from the left, ``true`` among them."""
    for node in postorder(expression):
        if isinstance(node, Symbol):
            yield node


class Subject:
    """Whose call is judged: real uid and gid, home, user name, and where certexec was started.

    ``cwd`` is not the process's working directory: systrace's $CWD was the directory in which
    systrace itself was started, and stayed it.
    """

    __slots__ = ("cwd", "gid", "home", "uid", "user")

    def __init__(self, uid: int, gid: int, home: str, user: str, cwd: str) -> None:
        self.uid = uid
        self.gid = gid
        self.home = home
        self.user = user
        self.cwd = cwd


class Predicate:
    """``, if user = NUMBER``: kind is user or group, relation one of = != < >.

    The number, and the subject's, are compared as signed 32-bit integers, as in the original.
    """

    __slots__ = ("kind", "number", "relation")

    def __init__(self, kind: str, relation: str, number: int) -> None:
        self.kind = kind
        self.relation = relation
        self.number = number

    def holds(self, subject: Subject) -> bool:
        """Tell whether the subject is one of those that the rule is about."""
        own = subject.uid if self.kind == "user" else subject.gid
        own %= _INT_SPAN
        if own >= _INT_SIGN:
            own -= _INT_SPAN
        if self.relation == "=":
            return own == self.number
        if self.relation == "!=":
            return own != self.number
        return own < self.number if self.relation == "<" else own > self.number


class Rule:
    """One line of a policy.

    Attributes:
        emulation: whose system calls are meant: native, linux, linux64, netbsd, ...
        syscall: the name as written: a system call's, or fsread or fswrite.
        simple: a bare permit or deny on a system call: it is decided before all other rules of
            that call, wherever it stands (systrace put it into the kernel's table).
        expression: when the rule applies; TRUE for a simple one.
        action: permit, deny or ask; kill, in files with LANGUAGE.
        errno: the Linux error number of a denial.
        errno_name: its name as written, in lower case; "" when none is given.
        inherit, detach, log: the flags.
        elevate: (uid or None, gid or None) for ``as``, None without it.
        predicate: ``, if``, or None.
        now: permit-now or deny-now.
        flaw: why systrace, which accepts this line when it reads the file, could not have put it
            to work; "" for a sound rule. Such a rule cannot be enforced.
        line: from 1; for a rule of a preset that of the include.
        text: what follows ``EMULATION-NAME: `` in the file.
        origin: preset and line in it, ``base 1(12)``; "" for a rule of the file.
    """

    __slots__ = (
        "action", "detach", "elevate", "emulation", "errno", "errno_name", "expression", "flaw",
        "inherit", "line", "log", "now", "origin", "predicate", "prepared", "simple", "syscall",
        "text",
    )

    def __init__(
        self, emulation: str, syscall: str, *, action: str, errno: int, line: int, text: str,
        expression: Expression = TRUE, simple: bool = False, errno_name: str = "",
        inherit: bool = False, detach: bool = False, log: bool = False,
        elevate: tuple[int | None, int | None] | None = None, predicate: Predicate | None = None,
        now: bool = False, flaw: str = "",
    ) -> None:
        self.emulation = emulation
        self.syscall = syscall
        self.simple = simple
        self.expression = expression
        self.action = action
        self.errno = errno
        self.errno_name = errno_name
        self.inherit = inherit
        self.detach = detach
        self.log = log
        self.elevate = elevate
        self.predicate = predicate
        self.now = now
        self.flaw = flaw
        self.line = line
        self.text = text
        self.origin = ""
        self.prepared: Callable[[Values, Subject], bool] | None = None
        """The expression made ready to run; certexec.policy.evaluate fills it in."""

    @property
    def unconditional(self) -> bool:
        """Whether the rule applies to every call that reaches it."""
        expression = self.expression
        return (
            self.predicate is None
            and isinstance(expression, Symbol)
            and expression.operator == "true"
        )

    def __str__(self) -> str:
        return f"{self.emulation}-{self.syscall}: {self.text}"

    @property
    def told(self) -> str:
        """The rule as messages show it beside its line: one of a preset with where that has it."""
        return f"{self.origin}: {self}" if self.origin else str(self)


class After:
    """One line ``after NAME: CONDITION then only NAME, ...``.

    Attributes:
        rule: a permit with the name and the condition: a call that it fits makes the line come
            true, if the rules permit the call.
        only: canonical names of the calls that remain then; names: as written.
    """

    __slots__ = ("names", "only", "rule")

    def __init__(self, rule: Rule, only: frozenset[str], names: tuple[str, ...]) -> None:
        self.rule = rule
        self.only = only
        self.names = names

    def __str__(self) -> str:
        return f"after {self.rule} then only {', '.join(self.names)}"


class Policy:
    """The rules for one program.

    Attributes:
        path: the program's, or ``*/NAME`` for the first program of that name.
        emulation: all rules have it.
        rules: in the order of the file.
        detached: the program is not to be confined at all.
        landlock: plain lists of trees may be enforced by Landlock, in its own words.
        line: the header's, from 1.
        no_dotdot: the line of ``no-dotdot``, 0 without: names with ".." are denied.
        adopts: paths in the headers of policies that a program with uid 0 may ask for.
        afters: the lines ``after``, in the order of the file.
        includes: of each include its line, and ``NAME VERSION``.
        exec_in: what ``exec-in`` says as a rule, which comes before all others of an exec.
        foreign: the part of the file whose rules hold for calls of the 32-bit ABI, where those
            are admitted (certexec.policy.select); None: they are killed.
        asks_unmatched: an agent is asked about calls that no rule matches, where the certificate
            says so; otherwise they are denied.
    """

    __slots__ = (
        "adopts", "afters", "asks_unmatched", "by_name", "deciding", "detached", "emulation",
        "exec_in", "foreign", "includes", "landlock", "line", "no_dotdot", "path", "rules",
    )  # fmt: skip

    def __init__(self, path: str, emulation: str, line: int) -> None:
        self.path = path
        self.emulation = emulation
        self.rules: list[Rule] = []
        self.detached = False
        self.landlock = False
        self.line = line
        self.no_dotdot = 0
        self.adopts: list[str] = []
        self.afters: list[After] = []
        self.includes: list[tuple[int, str]] = []
        self.exec_in: Rule | None = None
        self.foreign: Policy | None = None
        self.asks_unmatched = False
        self.by_name: dict[str, list[Rule]] | None = None
        """Canonical name to rules; certexec.policy.evaluate fills it in after parsing."""
        self.deciding: dict[str, tuple[tuple[Rule, ...], bool]] = {}
        """Likewise: canonical name to the rules that can decide, and whether they always do."""


def own_copy(file: PolicyFile) -> PolicyFile:
    """Return a file with the same rules, whose policies can be set up for one certificate.

    What is parsed is shared (certexec.run.known): another certificate may say otherwise about it.
    """
    policies = []
    for policy in file.policies:
        made = Policy.__new__(Policy)
        for name in Policy.__slots__:
            setattr(made, name, getattr(policy, name))
        made.foreign, made.asks_unmatched = None, False
        policies.append(made)
    return PolicyFile(file.name, policies, file.extended)


def parts(policy: Policy) -> tuple[Policy, ...]:
    """Return a policy and, where it is another one, its part for the 32-bit ABI."""
    if policy.foreign is None or policy.foreign is policy:
        return (policy,)
    return policy, policy.foreign


class PolicyFile:
    """A file's policies, in the order of their headers.

    ``extended``: it begins with LANGUAGE, so it may say what systrace could not.
    """

    __slots__ = ("extended", "name", "policies")

    def __init__(self, name: str, policies: list[Policy], extended: bool = False) -> None:
        self.name = name
        self.policies = policies
        self.extended = extended

    def policy_for(self, path: str) -> Policy | None:
        """Return the policy of the program at ``path``, by its path or by ``*/NAME``."""
        for wanted in (path, "*/" + base_name(path)):
            for policy in self.policies:
                if policy.path == wanted:
                    return policy
        return None


class Template:
    """Rules that a user inserts into a policy: name, emulation, description and rules."""

    __slots__ = ("description", "emulation", "name", "rules")

    def __init__(self, name: str, emulation: str, description: str) -> None:
        self.name = name
        self.emulation = emulation
        self.description = description
        self.rules: list[Rule] = []
