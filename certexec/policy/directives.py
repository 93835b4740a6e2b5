"""The lines beside rules that a policy of the extended language may hold.

    no-dotdot               no file name that a call is given may hold the component ".."
    include base 1          the rules of this preset stand here
    exec-in /usr/bin, /opt  only what lies below these directories is executed
    after native-open: oflags sub "a" then only write, close
                            once that has happened, only these calls remain of what is permitted
    adopt /usr/bin/other    a program with uid 0 may ask for the policy with this header
    landlock                plain lists of trees may be enforced by Landlock, in its own words

Each is about the policy in whose part of the file it stands, wherever it stands there.
``no-dotdot`` and ``exec-in`` stand there once, and only take away: what rules deny stays denied.
"""

from __future__ import annotations

from certexec.kernel.syscalls import NUMBERS
from certexec.policy import errnos
from certexec.policy.format import format_expression
from certexec.policy.lexer import RuleError
from certexec.policy.model import ALIASES, After, Not, Or, Policy, Rule, Symbol
from certexec.policy.names import CLASSIC
from certexec.policy.names import canonical as canonical_name
from certexec.policy.rule_parser import RuleParser
from certexec.policy.spelling import close_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from certexec.policy.model import Expression, UserDb

NO_DOTDOT = "no-dotdot"
EXEC_IN = "exec-in"
AFTER = "after"
ADOPT = "adopt"
ADOPTS_MAX = 64
"""policies that one names; all of them are in the filter from the start."""
ONLY = "only"
INCLUDE = "include"
INCLUDES_MAX = 16
"""presets of one policy; there are not so many."""
LANDLOCK = "landlock"
"""By which a policy accepts what Landlock answers."""
PRESET_EMULATION = "native"
EXEC_DENIAL = "eacces"
"""As for a file on a mount with noexec; execvp(3) goes on to the next directory of $PATH."""
AFTERS_MAX = 16
"""lines ``after`` of one policy; each is looked at with every call that it takes."""
DIRECTORIES_MAX = 64
"""directories of one exec-in; each is compared at every exec."""
_SPECIAL = "*?[\\"


def word_of(line: str) -> str:
    """Return which of these lines it is, "" for any other."""
    word = line.partition(" ")[0]
    return word if word in (NO_DOTDOT, EXEC_IN, LANDLOCK, AFTER, INCLUDE, ADOPT) else ""


def take(policy: Policy, line: str, number: int) -> None:
    """Make one of these lines part of its policy; raises RuleError, columns from the line's start.

    ``number``: of the line in the file.
    """
    word, space, rest = line.partition(" ")
    if word == ADOPT:
        policy.adopts = _adopted(policy, rest, len(word) + 1)
        return
    if word != EXEC_IN and space:
        raise RuleError(f'"{word}" stands alone in its line', len(word))
    if word == LANDLOCK:
        policy.landlock = True
        return
    if word == NO_DOTDOT:
        if policy.no_dotdot:
            raise RuleError(f'"{NO_DOTDOT}" stands twice', 0)
        policy.no_dotdot = number
        return
    if policy.exec_in is not None:
        raise RuleError(f'"{EXEC_IN}" stands twice', 0, "name all directories in one line")
    directories = _directories(rest, len(word) + 1)
    expression: Expression = _below(directories[-1])
    for directory in reversed(directories[:-1]):
        expression = Or(_below(directory), expression)
    condition = Not(expression)
    policy.exec_in = Rule(
        policy.emulation, "execve", action="deny", errno=errnos.NUMBERS[EXEC_DENIAL],
        errno_name=EXEC_DENIAL, expression=condition, line=number,
        text=f"{format_expression(condition)} then deny[{EXEC_DENIAL}]",
    )


def preset_of(policy: Policy, line: str, number: int, presets: Mapping[str, str] | None) -> str:
    """Note an include and return the name and version of its preset; raises RuleError as ``take``.

    ``presets``: None where only whole policies are read.
    """
    if presets is None:
        raise RuleError(
            "a policy is read whole here", 0,
            'signing writes an include out, and so does "certexec policy fmt --expand"',
        )
    start = len(INCLUDE) + 1
    name, _, version = line[start:].strip().partition(" ")
    key = f"{name} {version.strip()}"
    if key not in presets:
        same = sorted(one for one in presets if one.partition(" ")[0] == name)
        close = close_word(name, [one.partition(" ")[0] for one in presets])
        hint = f"there is: {', '.join(same)}" if same else f"there is: {', '.join(sorted(presets))}"
        if close and not same:
            hint = f'did you mean "{close}"?'
        raise RuleError(f'there is no preset "{line[start:].strip()}"', start, hint)
    if policy.emulation != PRESET_EMULATION:
        raise RuleError(f"presets are for the emulation {PRESET_EMULATION}", start)
    if any(key == known for _, known in policy.includes):
        raise RuleError(f'"{key}" is included twice', start)
    if len(policy.includes) >= INCLUDES_MAX:
        raise RuleError(f"more than {INCLUDES_MAX} presets", 0)
    policy.includes.append((number, key))
    return key


def take_after(policy: Policy, line: str, number: int, users: UserDb) -> None:
    """Make a line ``after`` part of its policy; raises RuleError as ``take``."""
    if len(policy.afters) >= AFTERS_MAX:
        raise RuleError(f'more than {AFTERS_MAX} lines "{AFTER}"', 0)
    start = len(AFTER) + 1
    name, colon, body = line[start:].partition(": ")
    emulation, dash, syscall = name.partition("-")
    if not colon or not dash or emulation != policy.emulation:
        raise RuleError(
            "no name of a call", start, f"write: {AFTER} {policy.emulation}-NAME: CONDITION"
        )
    _meaning(emulation, syscall, start)
    start += len(name) + 2
    try:
        parser = RuleParser(body, users, privileged=True, subject=None, extended=True)
        expression = parser.expression()
        parser.expect("then", '"then"')
        names = parser.only(ONLY)
        if parser.open_quote:
            raise RuleError("a quote is never closed", len(body))
    except RuleError as error:
        raise RuleError(error.message, start + error.column, error.hint) from None
    only = frozenset(_meaning(emulation, one, start + column) for one, column in names)
    rule = Rule(
        emulation, syscall, action="permit", errno=0, line=number, expression=expression,
        text=format_expression(expression),
    )
    policy.afters.append(After(rule, only, tuple(one for one, _ in names)))


def _meaning(emulation: str, name: str, column: int) -> str:
    found = canonical_name(emulation, name.removeprefix(f"{emulation}-"))
    if found is None:
        close = close_word(name, (*NUMBERS, *CLASSIC, *ALIASES))
        raise RuleError(
            f'"{name}" means no system call here', column,
            f'did you mean "{close}"?' if close else "",
        )
    return found


def canonical(line: str, after: After | None) -> str:
    """Return one of these lines as it is best written; ``after``: what the parser made of it."""
    word, _, rest = line.partition(" ")
    if word in (EXEC_IN, ADOPT):
        return f"{word} {', '.join(_split(rest))}"
    if word == INCLUDE:
        return " ".join(line.split())
    return word if after is None else str(after)


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


def _directories(text: str, column: int) -> list[str]:
    """Read the directories of an exec-in; raises RuleError."""
    found = _split(text)
    if len(found) > DIRECTORIES_MAX:
        raise RuleError(f"more than {DIRECTORIES_MAX} directories", column)
    for directory in found:
        at = column + text.find(directory)
        if not directory.startswith("/"):
            raise RuleError("a directory begins with a slash", at, f"write: {EXEC_IN} /usr/bin")
        if directory != "/" and not {"", ".", ".."}.isdisjoint(directory[1:].split("/")):
            raise RuleError(
                "a directory is a real path", at, 'without "//", ".", ".." and a slash at its end'
            )
    return found


def _adopted(policy: Policy, text: str, column: int) -> list[str]:
    """Read the policies of an adopt; raises RuleError."""
    if policy.adopts:
        raise RuleError(f'"{ADOPT}" stands twice', 0, "name all policies in one line")
    found = _split(text)
    if len(found) > ADOPTS_MAX:
        raise RuleError(f"more than {ADOPTS_MAX} policies", column)
    if not all(path.startswith("/") for path in found):
        raise RuleError(
            "a policy is named by the path in its header", column, f"write: {ADOPT} /path, /path"
        )
    return found


def _below(directory: str) -> Symbol:
    """Return the condition that a file lies below a directory."""
    plain = "".join("\\" + one if one in _SPECIAL else one for one in directory)
    return Symbol("filename", -1, "match", plain if directory != "/" else "/*")
