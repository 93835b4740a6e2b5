"""Policies to text: rules as they could have been written, and trees that show how they group."""

from __future__ import annotations

from certexec.policy.model import Not, Symbol, postorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.model import Expression, Policy, Rule

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"}


def quote(text: str) -> str:
    """Return the text as a quoted string of the language."""
    return '"' + "".join(_ESCAPES.get(character, character) for character in text) + '"'


def tree(expression: Expression) -> str:
    """Return how an expression groups: ``(or [filename:-1 /a] (not [-:-1 ]))``.

    A comparison is ``[ARGUMENT:OFFSET DATA]`` with offset -1 for none; ``true`` is ``[-:-1 ]``.
    """
    done: list[str] = []
    for node in postorder(expression):
        if isinstance(node, Symbol):
            done.append(f"[{node.argument or '-'}:{node.offset} {node.data}]")
        elif isinstance(node, Not):
            done.append(f"(not {done.pop()})")
        else:
            right = done.pop()
            done.append(f"({node.word} {done.pop()} {right})")
    return done[0]


def format_expression(expression: Expression, *, explicit: bool = True) -> str:
    """Return an expression as text that parses to the same tree.

    Everything groups to the right and ``not`` takes all that follows, so only a left side that
    is more than one comparison needs parentheses. With ``explicit`` they stand as well wherever a
    reader might group otherwise: around the other connective, and around what ``not`` takes.
    """
    done: list[str] = []
    for node in postorder(expression):
        if isinstance(node, Symbol):
            done.append(_comparison(node))
        elif isinstance(node, Not):
            operand = done.pop()
            clear = isinstance(node.operand, (Symbol, Not)) or not explicit
            done.append("not " + (operand if clear else _parenthesised(operand)))
        else:
            right, left = done.pop(), done.pop()
            if not isinstance(node.left, Symbol):
                left = _parenthesised(left)
            clear = isinstance(node.right, (Symbol, Not, type(node))) or not explicit
            done.append(f"{left} {node.word} {right if clear else _parenthesised(right)}")
    return done[0]


def _parenthesised(text: str) -> str:
    return f"( {text} )"  # spaces: a parenthesis can be part of a word


def _comparison(symbol: Symbol) -> str:
    if symbol.operator == "true":
        return "true"
    offset = "" if symbol.offset < 0 else f"[{symbol.offset}]"
    return f"{symbol.argument}{offset} {symbol.operator} {quote(symbol.data)}"


def format_rule(rule: Rule) -> str:
    """Return a rule as a line without indentation or newline; it parses to the same rule."""
    if rule.simple:
        name = f"[{rule.errno_name}]" if rule.errno_name else ""
        body = rule.action + ("-now" if rule.now else "") + name
    else:
        body = format_expression(rule.expression) + " then " + rule.action
        flag = "inherit" if rule.inherit else "detach" if rule.detach else rule.errno_name
        body += f"[{flag}]" if flag else ""
        body += " log" if rule.log else ""
        body += _elevate(rule.elevate)
        if rule.predicate is not None:
            one = rule.predicate
            body += f", if {one.kind} {one.relation} {one.number & 0xFFFFFFFF}"
    return f"{rule.emulation}-{rule.syscall}: {body}"


def format_policy(policy: Policy) -> str:
    """Return a policy as text: header, then the rules, each with a tab before it."""
    lines = [f"Policy: {policy.path}, Emulation: {policy.emulation}"]
    if policy.landlock:
        lines.append("\tlandlock")
    lines += ["\t" + format_rule(rule) for rule in policy.rules]
    if policy.detached:
        lines.append("detached")
    return "\n".join(lines) + "\n"


def same_rule(one: Rule, two: Rule) -> bool:
    """Tell whether two rules mean the same: same name, same tree, same answer."""
    return meaning(one) == meaning(two)


def meaning(rule: Rule) -> tuple[object, ...]:
    """Return all that a rule says, whatever its spelling and its place."""
    predicate = rule.predicate
    return (
        rule.emulation, rule.syscall, rule.simple, rule.now, rule.flaw,
        format_expression(rule.expression, explicit=False),
        rule.action, rule.errno, rule.errno_name, rule.inherit, rule.detach, rule.log, rule.elevate,
        predicate and (predicate.kind, predicate.relation, predicate.number),
    )


def _elevate(ids: tuple[int | None, int | None] | None) -> str:
    if ids is None:
        return ""
    uid, gid = ids
    return " as " + ("" if uid is None else str(uid)) + ("" if gid is None else f":{gid}")
