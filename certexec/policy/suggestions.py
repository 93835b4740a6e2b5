"""Conditions for a rule, from narrow to wide, that a person may choose from (pure).

Each holds for every file for which the one before it holds, and says in words what it would allow.
The first is about what was seen, or what the rule says already, and nothing else. (As everywhere
in the language ``match "/etc/*.conf"`` also holds for what lies below a directory of such a name.)
"""

from __future__ import annotations

from typing import NamedTuple

from certexec.policy.format import format_expression, quote
from certexec.policy.learned_paths import (
    FULL,
    KEPT_OUT,
    NON_EXISTENT,
    SHARED,
    WHY,
    Paths,
    Places,
    below,
    directory_of,
    is_secret,
    literal,
    suffix_of,
)
from certexec.policy.model import Symbol, symbols

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from certexec.policy.model import Expression, Rule

EXACT, HOME, NAMES, SUFFIX, DIRECTORY, TREE, HOST, PORT, ANY, MISSING, STANDING = (
    "exact", "home", "names", "suffix", "directory", "tree", "host", "port", "any", "missing",
    "as it stands",
)  # fmt: skip
TREES_MAX = 4
"""trees that are offered, from that of the file's own directory upwards."""
_WARN_SECRET = "what lies there is often secret"
_WARN_SHARED = "this directory holds the things of many programs"
_WARN_HOME = "somebody's secrets lie in it"
_WARN_START = "it is where the program is started, wherever that is"
_WARN_ANY = "this permits the call whatever it names"
_WARN_PORT = "whoever answers there is spoken to"
_START = "$CWD"
_SPECIAL = frozenset("*?[\\")
_ADDRESS = "sockaddr"
_TEXTS = ("pidname", "signame", "uid", "gid", "sockdom", "socktype", "prot", "cmd")
"""Arguments beside names and addresses whose value a rule can ask for."""


class Suggestion(NamedTuple):
    """One condition that may be chosen.

    Attributes:
        kind: how wide it is, in a word.
        condition: the text of the condition; "" for none, which is every call of that name.
        allows: in words, what fulfils it.
        warning: why one should think twice, "" for nothing.
        files: it is about files, so that those that are there can be counted.
    """

    kind: str
    condition: str
    allows: str
    warning: str = ""
    files: bool = False


def for_call(
    values: Mapping[str, Sequence[str]], places: Places, *, executes: bool = False
) -> list[Suggestion]:
    """Return the suggestions for a call that was seen, by the texts of its arguments.

    ``executes``: it executes what it names, which is never widened to kinds of names.
    """
    if values.get("filename"):
        return _for_paths(values["filename"], places, executes)
    if values.get(_ADDRESS):
        return _for_address(values[_ADDRESS][0])
    conditions = [
        f"{name}{f'[{at}]' if at else ''} eq {quote(text)}"
        for name in _TEXTS
        for at, text in enumerate(values.get(name, ()))
    ]
    made = []
    if conditions:
        shown = ", ".join(f"{name} {text}" for name in _TEXTS for text in values.get(name, ()))
        made.append(Suggestion(EXACT, " and ".join(conditions), f"just {shown}"))
    warning = _WARN_ANY if conditions else ""
    return [*made, Suggestion(ANY, "", "every call of this name", warning)]


def for_rule(rule: Rule, places: Places) -> list[Suggestion]:
    """Return the suggestions for a rule: its own condition, then those that are wider."""
    if rule.unconditional:
        return [Suggestion(STANDING, "", "every call of this name")]
    about_files = _about_files(rule.expression)
    own = Suggestion(
        STANDING, format_expression(rule.expression), "what it is about now", _own_warning(rule),
        about_files,
    )
    wider = _wider(rule.expression, places, executes=rule.syscall in ("execve", "execveat"))
    # of a name that is written with $HOME already, $HOME is nothing wider
    return [own, *(one for one in wider if one.condition != own.condition)]


def _own_warning(rule: Rule) -> str:
    named = [one for one in symbols(rule.expression) if one.argument.lower() == "filename"]
    return _warning([one.data for one in named if one.operator in ("eq", "match")])


def _about_files(expression: Expression) -> bool:
    return any(one.argument.lower() == "filename" for one in symbols(expression))


def _wider(expression: Expression, places: Places, *, executes: bool) -> list[Suggestion]:
    """Return what is wider than a single comparison; nothing for what is more complicated."""
    if not isinstance(expression, Symbol) or expression.offset > 0:
        return []
    name, operator, data = expression.argument.lower(), expression.operator, expression.data
    if name == _ADDRESS and operator == "eq":
        return _for_address(data)[1:]
    if name != "filename" or operator not in ("eq", "match"):
        return []
    if operator == "eq" and data.startswith(_START + "/"):
        return _below_start(data)
    path = _unmacro(data, places)
    if operator == "eq":
        return _for_paths((path,), places, executes)[1:]
    plain = _SPECIAL.isdisjoint(path)
    directory = path if plain else _fixed_directory(path)
    if not directory.startswith("/"):
        return []
    trees = _trees((directory,), places)
    return trees[1:] if plain else trees


def _below_start(path: str) -> list[Suggestion]:
    """Return what is wider than a name below $CWD: the trees up to that directory."""
    made: list[Suggestion] = []
    top = directory_of(path)
    while len(made) < TREES_MAX and top.startswith(_START):
        pattern = _START + literal(top[len(_START) :])
        rest = path[len(top) :]
        if any(part in rest for part in KEPT_OUT):
            break  # what is wider would not hold for the name itself
        without = [part for part in KEPT_OUT if part not in path]
        shown = f'all that lies in "{top}", at any depth'
        if without:
            named = " or ".join(f'"{part}"' for part in without)
            shown += f', but no name with {named}: what is hidden, or the machine\'s'
        condition = _compare(0, "match", pattern) + _without(0, without)
        made.append(Suggestion(TREE, condition, shown, _WARN_START, True))
        top = directory_of(top)
    return [*made, Suggestion(ANY, "", "every name", _WARN_ANY)]


def _fixed_directory(pattern: str) -> str:
    """Return the directory below which everything lies that a pattern matches."""
    end = min((at for at, one in enumerate(pattern) if one in _SPECIAL), default=len(pattern))
    return directory_of(pattern[:end])


def _unmacro(data: str, places: Places) -> str:
    if places.home and (data == "$HOME" or data.startswith("$HOME/")):
        return places.home + data[len("$HOME") :]
    return data


# -- files -----------------------------------------------------------------------------------------


def _for_paths(paths: Sequence[str], places: Places, executes: bool) -> list[Suggestion]:
    exact = _each(paths, lambda path: ("eq", path))
    made = [Suggestion(EXACT, exact, _named("just", paths), _warning(paths), True)]
    if any(path.startswith(NON_EXISTENT) for path in paths):
        condition = _each(
            paths,
            lambda path: ("match", NON_EXISTENT + "*") if path.startswith(NON_EXISTENT)
            else ("eq", path),
        )  # fmt: skip
        return [*made, Suggestion(MISSING, condition, "any name that leads nowhere")]
    if not all(path.startswith("/") for path in paths):
        return made
    directories = [directory_of(path) for path in paths]
    if any(_at_home(path, places) for path in paths):
        condition = _each(paths, lambda path: ("eq", _at_home(path, places) or path))
        shown = "the same in the home of whoever runs it"
        made.append(Suggestion(HOME, condition, shown, _warning(paths), True))
    if not executes:
        made += _names(paths, places)
        made += _suffixes(paths, places)
        made.append(_entries(directories, places))
    return made + _trees(directories, places)


def _names(paths: Sequence[str], places: Places) -> list[Suggestion]:
    """Return the patterns that learning would choose for such names, where there are any."""
    learned = Paths(places, FULL, created=paths)
    patterns = [learned.pattern(path, "write", True) for path in paths]
    why = next((one.why for one in patterns if one.why not in ("", "literal")), "")
    for path, one in zip(paths, patterns, strict=True):
        directory = directory_of(path)
        if directory == "/":
            return []
        if one.operator == "re" and directory not in places.temporary:
            return []  # it is about other directories, too
        if one.operator == "match" and directory_of(one.data) != _tree(directory, places):
            return []
    if not why:
        return []
    condition = " and ".join(
        _compare(at, one.operator, one.data) + _without(at, one.without)
        for at, one in enumerate(patterns)
    )
    return [Suggestion(NAMES, condition, WHY[why], _warning(paths), True)]


def _suffixes(paths: Sequence[str], places: Places) -> list[Suggestion]:
    if not all(suffix_of(path) for path in paths):
        return []
    condition = _each(
        paths,
        lambda path: (
            "match",
            _tree(directory_of(path), places).rstrip("/") + "/*" + literal(suffix_of(path)),
        ),
    )  # fmt: skip
    shown = " and ".join(
        f'names in "{directory_of(path)}" that end in "{suffix_of(path)}"' for path in paths
    )
    return [Suggestion(SUFFIX, condition, shown, _warning(paths), True)]


def _entries(directories: Sequence[str], places: Places) -> Suggestion:
    parts = []
    for at, directory in enumerate(directories):
        tree = _tree(directory, places).rstrip("/")
        parts.append(_compare(at, "match", f"{tree}/*"))
        # "not" takes all that follows, so each stands in parentheses
        parts.append("( not " + _compare(at, "match", f"{tree}/*/*") + " )")
    shown = _named("what lies directly in", directories)
    return Suggestion(
        DIRECTORY, " and ".join(parts), shown, _tree_warning(directories, places), True
    )


def _trees(directories: Sequence[str], places: Places) -> list[Suggestion]:
    made: list[Suggestion] = []
    tops = list(directories)
    while len(made) < TREES_MAX and "/" not in tops:
        condition = _each(tops, lambda top: ("match", _tree(top, places)))
        shown = _named("all that lies in", tops) + ", at any depth"
        made.append(Suggestion(TREE, condition, shown, _tree_warning(tops, places), True))
        tops = [directory_of(top) for top in tops]
    return [*made, Suggestion(ANY, "", "every name", _WARN_ANY)]


def _tree(directory: str, places: Places) -> str:
    """Return a directory as a pattern, with $HOME where it lies in the person's home."""
    at_home = _at_home(directory, places)
    return "$HOME" + literal(at_home[len("$HOME") :]) if at_home else literal(directory)


def _at_home(path: str, places: Places) -> str:
    home = places.home
    if home and home not in SHARED - {"/root"} and below(path, home):
        return "$HOME" + path[len(home) :]
    return ""


def _warning(paths: Sequence[str]) -> str:
    return _WARN_SECRET if any(is_secret(path) for path in paths) else ""


def _tree_warning(tops: Sequence[str], places: Places) -> str:
    """Say why one should not permit a whole directory, or tree, without a thought."""
    if any(is_secret(top) for top in tops):
        return _WARN_SECRET
    if any(below(home, top) for top in tops for home in places.homes):
        return _WARN_HOME
    return _WARN_SHARED if any(top in SHARED for top in tops) else ""


def _named(words: str, paths: Sequence[str]) -> str:
    return f"{words} " + " and ".join(f'"{path}"' for path in dict.fromkeys(paths))


def _each(paths: Sequence[str], choose: Callable[[str], tuple[str, str]]) -> str:
    return " and ".join(_compare(at, *choose(path)) for at, path in enumerate(paths))


def _compare(at: int, operator: str, data: str) -> str:
    argument = f"filename[{at}]" if at else "filename"
    return f"{argument} {operator} {quote(data)}"


def _without(at: int, parts: Sequence[str]) -> str:
    return "".join(" and " + _compare(at, "nsub", part) for part in parts)


# -- addresses -------------------------------------------------------------------------------------


def _for_address(address: str) -> list[Suggestion]:
    made = [Suggestion(EXACT, f"{_ADDRESS} eq {quote(address)}", f'just "{address}"')]
    host, colon, port = address.rpartition(":")
    if address.startswith("inet-[") and host.endswith("]") and colon:
        host_pattern = f"{_ADDRESS} match {quote(literal(host) + ':*')}"
        port_pattern = f"{_ADDRESS} match {quote('inet-*]:' + port)}"
        made += [
            Suggestion(HOST, host_pattern, f'every port of "{host[6:-1]}"'),
            Suggestion(PORT, port_pattern, f"port {port} of every host", _WARN_PORT),
        ]
    elif address.startswith("/"):
        directory = directory_of(address)
        condition = f"{_ADDRESS} match {quote(literal(directory))}"
        made.append(Suggestion(TREE, condition, f'every socket below "{directory}"'))
    return [*made, Suggestion(ANY, "", "every address", _WARN_ANY)]
