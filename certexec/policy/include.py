"""``include NAME VERSION``: a preset's rules stand where the line stands (pure).

A policy is signed whole: ``expand`` writes the rules out, and the run path knows no presets at all.
So what was signed cannot change with what is installed. A preset never changes, either: another
content gets another version.
"""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy import lexer
from certexec.policy.format import meaning
from certexec.policy.syntax import parse_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from certexec.policy.model import PolicyFile, UserDb


def expand(text: str, *, name: str, users: UserDb, presets: Mapping[str, str]) -> str:
    """Return the text of a policy file with the rules of presets in place of includes.

    Text without an include stays as it is. Raises PolicyError: "policy-syntax" (a
    PolicySyntaxError), "internal" if the result would mean something else.
    """
    parsed = parse_policy(text, name=name, users=users, privileged=True, presets=presets)
    included = {line: key for policy in parsed.policies for line, key in policy.includes}
    if not included:
        return text
    lines: list[str] = []
    for number, raw, _ in lexer.source_lines(text, name):
        key = included.get(number, "")
        if not key:
            lines.append(raw)
            continue
        lines.append(f"# {raw.strip()}")
        lines += ["\t" + line for _, _, line in lexer.source_lines(presets[key], key) if line]
        lines.append(f"# end of {key}")
    expanded = "".join(line + "\n" for line in lines)
    again = parse_policy(expanded, name=name, users=users, privileged=True)
    if _meanings(again) != _meanings(parsed):
        raise PolicyError("internal", f'"{name}" would mean something else with rules written out')
    return expanded


def _meanings(file: PolicyFile) -> list[list[object]]:
    return [[meaning(rule) for rule in policy.rules] for policy in file.policies]
