"""Two policies as one that permits what either of them permits (pure).

For each name the permits of both come first, each without what an earlier rule of its own list
denied, then the questions, then the denials: so an error that either answers is kept where neither
permits. What one policy denies in so many words and the other permits is a conflict, and is told.

The result is judged against both before it is given away, one call of every class
(certexec.policy.cases): it never permits what neither does. It can permit less, where an order of
names cannot be said otherwise, or where ``after`` and ``no-dotdot`` of one hold for both; that is
told, too.
"""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.kernel.syscalls import NUMBERS
from certexec.policy import lexer
from certexec.policy.automaton import TooComplex
from certexec.policy.calls import arguments_of, variants
from certexec.policy.cases import Cases, unwatched
from certexec.policy.difference import say
from certexec.policy.directives import ADOPT, AFTER, EXEC_IN, LANDLOCK, NO_DOTDOT, word_of
from certexec.policy.evaluate import EXECS, effective_rules
from certexec.policy.format import format_rule, meaning
from certexec.policy.implication import never_holds
from certexec.policy.include import expand
from certexec.policy.model import LANGUAGE, TRUE, And, Not, Or, Rule
from certexec.policy.names import canonical
from certexec.policy.reformat import reformat, rule_text
from certexec.policy.rule_index import relevant
from certexec.policy.syntax import parse_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from certexec.policy.calls import Variant
    from certexec.policy.difference import Said
    from certexec.policy.model import Expression, Policy, PolicyFile, UserDb

_LINE = lexer.LINE_MAX - 1
"""bytes of a rule; a tab comes before it."""


class Merged:
    """The text, the conflicts that were settled by permitting, and where it permits less."""

    __slots__ = ("conflicts", "narrower", "text")

    def __init__(self, text: str, conflicts: list[str], narrower: list[str]) -> None:
        self.text = text
        self.conflicts = conflicts
        self.narrower = narrower


class Item:
    """A rule with the comments before it and behind it."""

    __slots__ = ("before", "behind", "rule", "text")

    def __init__(self, rule: Rule, text: str, before: list[str], behind: str) -> None:
        self.rule = rule
        self.text = text
        self.before = before
        self.behind = behind

    def lines(self) -> list[str]:
        """Return its lines."""
        return [*self.before, f"\t{self.text}{' ' + self.behind if self.behind else ''}"]


class Part:
    """One policy of a file: header, comments at its top, rules and other lines, what is behind."""

    __slots__ = ("directives", "header", "items", "policy", "rest", "top")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.header = f"Policy: {policy.path}, Emulation: {policy.emulation}"
        self.top: list[str] = []
        self.directives: list[tuple[str, str]] = []
        self.items: list[Item] = []
        self.rest: list[str] = []


def merge(
    texts: tuple[str, str], *, names: tuple[str, str], users: UserDb, presets: Mapping[str, str],
    watch: Callable[[int, int], None] = unwatched,
) -> Merged:
    """Return the merger of two files' policies, program by program.

    ``watch``: is told, for each program, how many calls of how many have been looked at.

    Raises PolicyError: "policy-syntax" (a PolicySyntaxError), "usage" where two policies for one
    program are for different systems, "internal" if the result would permit more.
    """
    whole = [
        expand(text, name=name, users=users, presets=presets)
        for text, name in zip(texts, names, strict=True)
    ]
    files = [
        parse_policy(text, name=name, users=users, privileged=True)
        for text, name in zip(whole, names, strict=True)
    ]
    heads, parts = [], []
    for text, file in zip(whole, files, strict=True):
        head, found = _read(text, file, users)
        heads.append(head)
        parts.append(found)
    lines = [f"Language: {LANGUAGE}"] if any(file.extended for file in files) else []
    lines += [*heads[0], *(line for line in heads[1] if line not in heads[0])]
    conflicts: list[str] = []
    narrower: list[str] = []
    for path in dict.fromkeys((*parts[0], *parts[1])):
        one, two = parts[0].get(path), parts[1].get(path)
        if one is not None and two is not None:
            lines += _merged(one, two, names, narrower)
        else:
            lines += _alone(one or two)
    text = "".join(line + "\n" for line in lines)
    text = reformat(text, name="the result", users=users)
    result = parse_policy(text, name="the result", users=users, privileged=True)
    for policy in result.policies:
        one, two = parts[0].get(policy.path), parts[1].get(policy.path)
        if one is not None and two is not None:
            _judge(one.policy, two.policy, policy, names, conflicts, narrower, watch)
    return Merged(text, conflicts, narrower)


# ---- reading -------------------------------------------------------------------------------------


def _read(
    text: str, file: PolicyFile, users: UserDb
) -> tuple[list[str], dict[str, Part]]:
    """Return the comments before the first header, and the parts by path."""
    rules = {rule.line: rule for policy in file.policies for rule in policy.rules}
    by_path = {policy.path: policy for policy in file.policies}
    if len(by_path) != len(file.policies):
        raise PolicyError(
            "usage", f'"{file.name}" has a part for the 32-bit ABI beside another for its program',
            "merge the two parts by hand",
        )
    head: list[str] = []
    parts: dict[str, Part] = {}
    part: Part | None = None
    pending: list[str] = []
    for number, raw, line in lexer.source_lines(text, file.name):
        comment = lexer.split_comment(raw)[1].strip()
        if not line:
            pending += [comment] if comment else []
            continue
        if line[:8].lower() == "policy: ":
            path = line[8:].partition(",")[0]
            if part is None:
                head, pending = pending, []
            else:
                part.rest += pending
                pending = []
            part = parts.get(path) or Part(by_path[path])
            parts[path] = part
            part.top += [comment] if comment else []
        elif part is None or line[:8].lower() == "detached":
            pending += [comment] if comment else []
        elif number in rules:
            rule = rules[number]
            part.items.append(Item(rule, rule_text(rule, users), pending, comment))
            pending = []
        else:
            part.directives.append((word_of(line), line))
            part.top += [*pending, *([comment] if comment else [])]
            pending = []
    if part is None:
        head = pending
    else:
        part.rest += pending
    return head, parts


def _alone(part: Part | None) -> list[str]:
    assert part is not None
    lines = [part.header, *part.top, *(f"\t{line}" for _, line in part.directives)]
    for item in part.items:
        lines += item.lines()
    return [*lines, *part.rest, *(["detached"] if part.policy.detached else [])]


# ---- merging -------------------------------------------------------------------------------------


def _merged(one: Part, two: Part, names: tuple[str, str], narrower: list[str]) -> list[str]:
    if one.policy.emulation != two.policy.emulation:
        raise PolicyError(
            "usage", f'the policies for "{one.policy.path}" are for different systems',
            '"certexec policy import" makes one for here of another system\'s',
        )
    lines = [one.header, *one.top, *(line for line in two.top if line not in one.top)]
    if one.policy.detached or two.policy.detached:
        narrower.append(f"{one.policy.path}: one policy is detached, so both are")
        for part in (one, two):
            for item in part.items:
                lines += [*item.before, f"# {item.text} {item.behind}".rstrip()]
        return [*lines, *one.rest, *two.rest, "detached"]
    lines += _directives(one, two, names, narrower)
    lists = [_by_name(part, with_exec_in=_exec_in_differs(one, two)) for part in (one, two)]
    for name in dict.fromkeys((*lists[0], *lists[1])):
        for item in _together(lists[0].get(name, []), lists[1].get(name, [])):
            lines += item.lines()
    return [*lines, *one.rest, *(line for line in two.rest if line not in one.rest)]


def _exec_in_differs(one: Part, two: Part) -> bool:
    first, second = one.policy.exec_in, two.policy.exec_in
    return (first and meaning(first)) != (second and meaning(second))


def _directives(one: Part, two: Part, names: tuple[str, str], narrower: list[str]) -> list[str]:
    """Return the lines beside rules: what restricts holds for both."""
    found: list[str] = []
    adopted = list(dict.fromkeys((*one.policy.adopts, *two.policy.adopts)))
    if adopted:
        found.append(f"\t{ADOPT} {', '.join(adopted)}")
    if one.policy.landlock and two.policy.landlock:
        found.append(f"\t{LANDLOCK}")
    if not _exec_in_differs(one, two):
        found += [f"\t{line}" for word, line in one.directives if word == EXEC_IN]
    for own, other, name in ((one, two, names[0]), (two, one, names[1])):
        known = [line for _, line in other.directives]
        for word, line in own.directives:
            if word not in (NO_DOTDOT, AFTER) or f"\t{line}" in found:
                continue
            found.append(f"\t{line}")
            if line not in known:
                narrower.append(f'{own.policy.path}: "{line}" of {name} holds for both')
    return found


def _by_name(part: Part, *, with_exec_in: bool) -> dict[str, list[Item]]:
    """Return the rules by what their names mean, in the order of the file."""
    found: dict[str, list[Item]] = {}
    for item in part.items:
        rule = item.rule
        name = canonical(rule.emulation, rule.syscall) or f"{rule.syscall}: nothing here"
        found.setdefault(name, []).append(item)
    exec_in = part.policy.exec_in
    if with_exec_in and exec_in is not None:
        for name in EXECS:
            if name in found:
                shown = f"{exec_in.emulation}-{name}: {exec_in.text}"
                first = Rule(
                    exec_in.emulation, name, action="deny", errno=exec_in.errno,
                    errno_name=exec_in.errno_name, expression=exec_in.expression,
                    line=exec_in.line, text=exec_in.text,
                )
                # it comes before bare rules, too
                after = [_unbared(item) for item in _deciding(found[name])]
                found[name] = [Item(first, shown, ["# exec-in"], ""), *after]
    return found


def _together(one: list[Item], two: list[Item]) -> list[Item]:
    """Return the rules for one name."""
    if not one or not two:
        return one or two
    if [meaning(item.rule) for item in one] == [meaning(item.rule) for item in two]:
        for mine, other in zip(one, two, strict=True):
            _add_comments(mine, other)
        return one
    deciding = [_deciding(items) for items in (one, two)]
    permits: list[Item] = []
    asks: list[Item] = []
    denials: list[Item] = []
    known: dict[tuple[object, ...], Item] = {}
    lost: list[str] = []
    for items in deciding:
        for place, item in enumerate(items):
            action = item.rule.action
            kept: Item | None = item
            target = denials
            if action == "ask":
                kept, target = _without(item, items[:place], ("deny", "kill")), asks
            elif action == "permit":
                kept, target = _without(item, items[:place], ("deny", "kill", "ask")), permits
            if kept is None:
                lost += [*item.before, f"# not said: {item.text}"]
                continue
            first = known.setdefault(meaning(kept.rule), kept)
            if first is kept:
                target.append(kept)
            else:
                _add_comments(first, kept)
    every = [*permits, *asks, *denials]
    bare = next((item for item in permits if item.rule.simple), None)
    if bare is None and not permits and not asks and denials[0].rule.simple:
        bare = denials[0]
    if bare is not None:
        for item in every:
            if item is not bare:
                _add_comments(bare, item)
        every = [bare]
    else:
        every = [*permits, *asks, *(_unbared(item) for item in denials)]
    if every:
        every[0].before[:0] = lost
    return every


def _deciding(items: list[Item]) -> list[Item]:
    """Return the rules that can decide; those that cannot leave their comments."""
    bare = next((item for item in reversed(items) if item.rule.simple), None)
    last = next((item for item in items if item.rule.unconditional), None)
    if bare is not None:
        kept = [bare]
    elif last is not None:
        kept = items[: items.index(last) + 1]
    else:
        return items
    for item in items:
        if item not in kept:
            kept[-1].before += [*item.before, *([item.behind] if item.behind else [])]
    return kept


def _unbared(item: Item) -> Item:
    """Return a bare rule as one among others."""
    if not item.rule.simple:
        return item
    return _with(item, TRUE)


def _without(item: Item, earlier: Sequence[Item], actions: tuple[str, ...]) -> Item | None:
    """Return a rule without what earlier rules took from it; None where nothing can be said."""
    taken: Expression | None = None
    own = item.rule.expression
    for other in reversed(earlier):
        rule = other.rule
        if rule.action not in actions or never_holds(And(own, rule.expression)):
            continue
        taken = rule.expression if taken is None else Or(rule.expression, taken)
    if taken is None:
        return item
    found = _with(item, And(own, Not(taken)))
    return None if lexer.byte_length(found.text) > _LINE else found


def _with(item: Item, expression: Expression) -> Item:
    rule = item.rule
    fresh = Rule(
        rule.emulation, rule.syscall, action=rule.action, errno=rule.errno, line=rule.line,
        text="", expression=expression, errno_name=rule.errno_name, inherit=rule.inherit,
        detach=rule.detach, log=rule.log, elevate=rule.elevate, predicate=rule.predicate,
    )
    return Item(fresh, format_rule(fresh), item.before, item.behind)


def _add_comments(item: Item, other: Item) -> None:
    item.before += [line for line in other.before if line not in item.before]
    if other.behind and other.behind not in (item.behind, *item.before):
        item.before.append(other.behind)


# ---- looking at the result -----------------------------------------------------------------------


def _judge(
    one: Policy, two: Policy, merged: Policy, names: tuple[str, str], conflicts: list[str],
    narrower: list[str], watch: Callable[[int, int], None],
) -> None:
    """See that the result permits what either does, and tell where it does not.

    Raises PolicyError("internal") where it permits more.
    """
    if merged.detached:
        return
    seen: set[object] = set()
    told: set[object] = set()
    less: dict[str, str] = {}
    for at, call in enumerate(NUMBERS):
        watch(at, len(NUMBERS))
        for variant in variants(call):
            rules = [effective_rules(each, call, variant.label) for each in (one, two, merged)]
            shape = tuple((each.name, each.register) for each in arguments_of(call, variant))
            key = tuple(tuple(map(id, each)) for each in rules), shape, variant.label
            if key in seen:
                continue
            seen.add(key)
            _judge_use(merged.path, call, variant, rules, names, conflicts, less, told)
    narrower += less.values()


def _judge_use(
    path: str, call: str, variant: Variant, rules: Sequence[Sequence[Rule]],
    names: tuple[str, str], conflicts: list[str], less: dict[str, str], told: set[object],
) -> None:
    use = call + (f":{variant.label}" if variant.label else "")
    try:
        cases = Cases([rule for each in rules for rule in each], call, variant)
    except TooComplex:
        less[call] = f"{path}: {use}: too many conditions to be looked at"
        return
    judges = [relevant(tuple(each)) for each in rules]
    for case in cases:
        first, second, result = (
            say(each.to(case.values, case.subject), call, case) for each in judges
        )
        most = first if first.rank >= second.rank else second
        if result.rank > most.rank:
            raise PolicyError("internal", f"{path}: the result would permit more of {use}")
        if result.rank < most.rank and call not in less:
            less[call] = f"{path}: {use} permits less: {most.text} became {result.text}"
        pair = id(first.rule), id(second.rule)
        if pair in told or first.rule is None or second.rule is None:
            continue
        if first.rank != second.rank or (first.text != second.text and first.rank):
            told.add(pair)
            conflicts.append(
                f"{path}: {use}: {_place(names[0], first)}, {_place(names[1], second)}: "
                f"{result.text} counts"
            )


def _place(name: str, said: Said) -> str:
    assert said.rule is not None
    return f"{name}({said.rule.line}) says {said.text}"
