"""Which rules the kernel can enforce by Landlock: plain lists of trees that may be opened.

A policy leaves it to Landlock only where its header says so, because Landlock's word is not quite a
rule's: it answers EACCES, follows the directories that it was given (not their names), says ENOENT
for what does not exist, and wants what is executed to be readable. None of that permits more than
the rules, except that an open file without a name (a pipe, a memory file) can be opened anew.

Two groups of calls can be left to it:

- *reads*: open(2) for reading, where each rule permits ``filename match "TREE"`` and nothing else;
- *writes*: open(2) for writing, and making and removing files, likewise. Where reads are judged in
  another way this does not do: an open with O_CREAT reads what exists already.

What Landlock would deny although the policy permits it plainly (a rename, a mount) keeps the group
with the supervisor. Everything here is pure; certexec.run.landlock looks at the trees themselves.
"""

from __future__ import annotations

import errno

from certexec.kernel import landlock
from certexec.kernel.landlock import READS, REFER, WRITES
from certexec.policy.evaluate import UNMATCHED_ASK, effective_rules
from certexec.policy.model import Or, Symbol, postorder, symbols
from certexec.policy.operators import expand, needs_expansion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.model import Policy, Rule, Subject

READ = "reads"
WRITE = "writes"

OPENS = ("open", "openat", "openat2")
_READ_USES = tuple((name, "read") for name in OPENS)
_WRITE_USES = (
    *((name, "write") for name in OPENS),
    *((name, "") for name in ("creat", "mkdir", "mkdirat", "rmdir", "unlink", "truncate")),
    *(("unlinkat", "directory"), ("unlinkat", "file"), ("mknod", "fifo"), ("mknodat", "fifo")),
)
_RENAMES = ("rename", "renameat", "renameat2", "link", "linkat")
_ALSO_WRITE = (*((name, "") for name in _RENAMES), ("mknod", "other"), ("mknodat", "other"))
"""Calls without fswrite rules that need the same rights."""
_MOUNTS = ("mount", "umount2", "move_mount", "pivot_root", "fsconfig", "mount_setattr")
"""Calls that Landlock denies to everyone whose files it governs."""

_MISSING = "/<non-existent filename>: "
"""How rules see a name that leads nowhere. The kernel says ENOENT there by itself."""
_SPECIAL = frozenset("*?[\\")
_PERMITTED_ERRNOS = (errno.EPERM, errno.EACCES)


class Landlocked:
    """What of a policy the kernel enforces by Landlock.

    Attributes:
        handled: the rights that the ruleset handles.
        trees: (absolute path in normal form, rights): what may be done beneath it.
        uses: (call, variant): which uses of calls are left to Landlock.
    """

    __slots__ = ("handled", "trees", "uses")

    def __init__(
        self, handled: int, trees: dict[str, int], uses: frozenset[tuple[str, str]]
    ) -> None:
        self.handled = handled
        self.trees = trees
        self.uses = uses


class Unfit(Exception):  # noqa: N818 - an answer, never shown as an error
    """A group of calls cannot be left to Landlock; the text says why."""


def landlocked(policy: Policy, abi: int, subject: Subject | None) -> tuple[Landlocked | None, str]:
    """Return what can be left to Landlock, and why not more of it.

    Args:
        policy: one that accepts Landlock's semantics.
        abi: the kernel's version of Landlock, 0 for none.
        subject: whose macros count; None: trees are named by macros that are not known here.
    """
    if abi < landlock.ABI_REFER:
        return None, "this kernel has no Landlock that governs renames (Linux 5.19)"
    if policy.afters:
        return None, "the supervisor looks at every call that an after line takes"
    if policy.no_dotdot:
        return None, "the supervisor looks at every file name for no-dotdot"
    for name in _MOUNTS:
        if _permits_plainly(policy, name, ""):
            return None, f"{name} is permitted, and Landlock would deny it"
    groups: list[Group] = []
    why = []
    for kind in (READ, WRITE):
        try:
            if kind == READ:
                groups += _reads(policy, subject)
            else:
                groups += _writes(policy, abi, subject, groups)
        except Unfit as unfit:
            why.append(f"{kind}: {unfit}")
    if not groups:
        return None, "; ".join(why)
    handled = 0
    trees: dict[str, int] = {}
    uses: set[tuple[str, str]] = set()
    for group in groups:
        handled |= group.rights
        uses.update(group.uses)
        for tree in group.trees:
            trees[tree] = trees.get(tree, 0) | group.rights
    if any(_permits_plainly(policy, name, "") for name in _RENAMES):
        handled |= REFER  # else every one between two directories would be denied
        trees["/"] = trees.get("/", 0) | REFER
    return Landlocked(handled, trees, frozenset(uses)), "; ".join(why)


class Group:
    """Uses of calls that have the same list of trees, and the rights that they need there."""

    __slots__ = ("rights", "trees", "uses")

    def __init__(
        self, rights: int, trees: tuple[str, ...], uses: tuple[tuple[str, str], ...]
    ) -> None:
        self.rights = rights
        self.trees = trees
        self.uses = uses


def _reads(policy: Policy, subject: Subject | None) -> list[Group]:
    return _group(policy, READS, _READ_USES, subject)


def _writes(
    policy: Policy, abi: int, subject: Subject | None, reads: list[Group]
) -> list[Group]:
    found = _group(policy, WRITES, _WRITE_USES, subject)
    if not found:
        return []
    if abi < landlock.ABI_TRUNCATE:
        raise Unfit("this kernel's Landlock does not govern truncation (Linux 6.2)")
    if not reads and not all(_permits_plainly(policy, *use) for use in _READ_USES):
        raise Unfit("an open with O_CREAT reads what exists, and reads are judged otherwise")
    for group in reads:
        for tree in found[0].trees:
            if not any(_is_beneath(tree, each) for each in group.trees):
                raise Unfit(f'"{tree}" may be written to, but not read')
    for name, label in _ALSO_WRITE:
        if _permits_plainly(policy, name, label):
            raise Unfit(f"{name} is permitted everywhere")
    return found


def _group(
    policy: Policy, rights: int, uses: tuple[tuple[str, str], ...], subject: Subject | None
) -> list[Group]:
    """Return the one group of uses with the same trees, or none. Raises Unfit.

    Uses that are denied by a constant, or carried out by the supervisor, may stand beside it.
    """
    listed: dict[tuple[str, str], tuple[str, ...]] = {}
    plain = ""
    other: Unfit | None = None
    for name, label in uses:
        if _permits_plainly(policy, name, label):
            plain = plain or name
            continue
        rules = effective_rules(policy, name, label)
        if rules and not rules[0].unconditional:
            try:
                listed[name, label] = _trees(rules, rights, subject)
            except Unfit as unfit:
                other = other or unfit
    if not listed:
        if other:
            raise other
        return []
    if plain:
        raise Unfit(f"{plain} is permitted everywhere")
    trees = next(iter(listed.values()))
    return [Group(rights, trees, tuple(use for use in listed if listed[use] == trees))]


def _permits_plainly(policy: Policy, name: str, label: str) -> bool:
    """Tell whether some use of a call is permitted without a look at its arguments."""
    rules = effective_rules(policy, name, label)
    return bool(rules) and rules[0].unconditional and rules[0].action == "permit"


def _trees(rules: Sequence[Rule], rights: int, subject: Subject | None) -> tuple[str, ...]:
    """Return the trees that a plain list of permits names, in order. Raises Unfit."""
    trees: dict[str, None] = {}
    for rule in rules:
        if rule is UNMATCHED_ASK:
            raise Unfit("an agent is asked about what no rule matches")
        if rule.log or rule.predicate or rule.elevate or rule.flaw or rule.action == "ask":
            raise Unfit(f"line {rule.line} is no plain permit")
        if rule.unconditional:
            if rule.action == "permit":
                raise Unfit(f"line {rule.line} permits all the rest")
            if rule.action != "deny" or rule.errno not in _PERMITTED_ERRNOS:
                raise Unfit(f"line {rule.line} answers something else than EACCES")
            break
        names = list(symbols(rule.expression))
        if rule.action != "kill" and all(each.data.startswith(_MISSING) for each in names):
            continue  # of what does not exist the kernel says ENOENT
        if rule.action != "permit":
            raise Unfit(f"line {rule.line} denies a part")
        for node in postorder(rule.expression):
            if isinstance(node, Symbol):
                trees[_tree(node, rule, rights, subject)] = None
            elif not isinstance(node, Or):
                raise Unfit(f"line {rule.line} is no list of trees")
    return tuple(trees)


def _tree(symbol: Symbol, rule: Rule, rights: int, subject: Subject | None) -> str:
    """Return the tree that ``filename match "..."`` means. Raises Unfit."""
    if symbol.argument.lower() != "filename" or symbol.offset > 0 or symbol.operator != "match":
        raise Unfit(f'line {rule.line} asks for more than filename match "TREE"')
    data = symbol.data
    if subject is not None and needs_expansion(data):
        data = expand(data, subject)
    if data == "/*":
        return "/"
    path = data
    if rights == WRITES and path.endswith("/*"):
        path = path[:-2]  # the tree itself exists already, and nobody makes or writes a directory
    parts = path.split("/")
    named = needs_expansion(path) or (parts[0] == "" and len(parts) > 1)
    if _SPECIAL & set(path) or not named or any(each in ("", ".", "..") for each in parts[1:]):
        hint = f'; "{data[:-2]}" is a tree' if data.endswith("/*") else ""
        raise Unfit(f'line {rule.line}: "{data}" is no tree{hint}')
    return path


def _is_beneath(path: str, tree: str) -> bool:
    return tree == "/" or path == tree or path.startswith(tree + "/")
