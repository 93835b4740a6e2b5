"""Names of files that were seen, as patterns: the steps by which exact paths become general (pure).

Each step widens by something that can be said in a sentence, and none by what is precious: nothing
becomes a tree that holds the secrets of a person or of the machine, and nothing that is executed
becomes more than the one file. $CWD is wherever somebody starts the program, his home or a place of
keys, too: what is widened below it, or below a home, leaves out what is hidden, whatever directory
that is in (``Pattern.without``). Where several steps fit the first in this order counts:

    1. what is not there is said not to be there
    2. a directory that the program made itself is its own, with all that is in it
    3. numbers in /proc, of processes and threads, of terminals, and of what has no name: pipes,
       namespaces
    4. names that are new each time: temporary files, digests, numbers
    5. versions of shared libraries
    6. several files of one directory that are read: that tree
    7. several files of one directory, with the same suffix, that are written: that suffix
    8. the path itself, with $CWD, $HOME and $USER for what they stand for
"""

from __future__ import annotations

import re
from typing import NamedTuple

from certexec.policy.temporary_names import (
    LONG_RANDOM,
    PYTHON_RANDOM,
    RANDOM,
    literal_regex,
    regex_of_new,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

READ, WRITE, EXECUTE = "read", "write", "execute"
NONE, DIRS, FULL = "none", "dirs", "full"
LEVELS = (NONE, DIRS, FULL)

NON_EXISTENT = "/<non-existent filename>"
NAMELESS = (
    r"^/<non-existent filename>: "
    r"([.]|/dev/(fd/[0-9]+|stdin|stdout|stderr)|/proc/(self|[0-9]+)/fd/[0-9]+)$"
)
"""How a rule knows what has lost its name, or never had one, and is open: a deleted file, a memory
file, the working directory. Where nothing is open the kernel says that nothing is there."""
MANY_READ = 4
"""entries of one directory that are read, from which on the tree is."""
MANY_WRITTEN = 3
"""files of one suffix in one directory that are written, from which on the suffix is."""
DIGITS = 2
"""digits in the name of a new file from which on they are taken for another number each time."""

SHARED = frozenset(
    "/ /bin /boot /dev /etc /home /lib /lib64 /media /mnt /opt /proc /root /run /sbin /srv "
    "/sys /tmp /usr /usr/local /usr/local/etc /var /var/cache /var/lib /var/log /var/mail "
    "/var/opt /var/run /var/spool /var/tmp /etc/ssl /usr/bin /usr/sbin /usr/local/bin "
    "/usr/local/sbin".split()
)
"""Directories that hold the things of many: never a tree of one program's."""
HIDDEN = "/."
"""What the name of a hidden file has, and of all that a hidden directory holds."""
KEPT_OUT = (HIDDEN, "/etc/")
"""Parts of names that are left out of what is widened below $CWD: where a home has its keys and
what is executed at its start, and the machine its own."""
_SECRET = frozenset(
    ".ssh .gnupg .aws .azure .kube .docker .password-store .pki .mozilla .thunderbird .netrc "
    ".gem .npmrc .pypirc .git-credentials ssh private shadow sudoers.d sudoers keyrings "
    "letsencrypt autostart cron.d cron.daily cron.hourly cron.weekly cron.monthly crontabs "
    "systemd init.d pam.d security credentials hooks".split()
)
"""Names of directories and files whose neighbours are never concluded from them."""
_NUMBERED = re.compile(r"^/proc/(?:[0-9]+|(self)(?=/task/[0-9]))(?=/|$)(/task/[0-9]+(?=/|$))?")
_TERMINAL = re.compile(r"^/dev/pts/[0-9]+$")
_LIBRARY = re.compile(r"^(.*\.so)\.[0-9][0-9.]*$")
_DIGEST = re.compile(r"^[0-9a-f]{16,}$")
_FANNED = re.compile(r"/[0-9a-f]{2}/[0-9a-f]{38,}$")
_FAN = re.compile(r"/[0-9a-f]{2}$")
_UNNAMED = re.compile(r"^[a-z_]+:\[[0-9]+\]$")
"""What has no name: pipe:[7], socket:[7], mnt:[7]."""
_TEMPORARY = re.compile(
    rf"^(.*(?:tmp|temp|TMP)(?:[._-][A-Za-z]+)?[._-])"
    rf"((?:[A-Za-z0-9]{{{RANDOM}}}|[A-Za-z0-9]{{{LONG_RANDOM}}}))((?:\.[a-z][a-z0-9]{{0,4}})*)$"
)
_CHOSEN = re.compile(
    r"^(.*?)((?=[^.]*[A-Z0-9])[A-Za-z0-9]{6})((?:\.[A-Za-z][A-Za-z0-9]{0,4})*)$"
)
"""A new file whose name ends like one of mkstemp(3), before its suffix."""
_NUMBER = re.compile(rf"[0-9]{{{DIGITS},}}")
_LONG_NUMBER = re.compile(r"[0-9]{3,}")
_SEPARATED = re.compile(
    r"^(.*[._-])(?=[^.]*[A-Za-z])([A-Za-z0-9]{6}|[A-Za-z0-9]{10,})"
    r"((?:\.[A-Za-z][A-Za-z0-9]{0,4})*)$"
)
"""A name that ends with what was chosen, behind a separator: digits in that are no number."""
_PYTHON = re.compile(
    rf"^(tmp(?=[a-z0-9_]{{{PYTHON_RANDOM}}})|.*[._-](?=[^.]*[0-9]))([a-z0-9_]{{{PYTHON_RANDOM}}})"
    r"((?:\.[A-Za-z][A-Za-z0-9]{0,4})*)$"
)
"""A new name like those of Python's tempfile."""
_NEW_DIGEST = re.compile(r"^(.*[._-])?([0-9a-f]{16,})((?:\.[a-z][a-z0-9]{0,4})*)$")
_ANY_NUMBER = "\0"
"""Stands for any number while a pattern is made; no name has it."""
_CAPITALS = re.compile(r"^[A-Z]+$")
_COUNTED = re.compile(rf"^[a-z._-]+[0-9]{{{DIGITS},}}(?:\.|$)")
_SUFFIXES = re.compile(r"((?:\.[A-Za-z][A-Za-z0-9]{0,4})+)$")

WHY = {
    "missing": "what is not there is said not to be there, without a line in the log",
    "made": "directories that it makes itself, with all that is in them",
    "process": "processes and threads, whatever their numbers",
    "terminal": "terminals, whatever their numbers",
    "nameless": "what is open and has no name any more: deleted files, memory files",
    "unnamed": "what has a number and no name, whatever the number",
    "ended": "processes that have ended when they get the signal",
    "new": "names that are new each time",
    "library": "shared libraries, whatever their versions",
    "tree": "several files of these directories",
    "suffix": "files of these kinds",
    "port": "ports that the kernel chooses",
    "literal": "names that hold a \"*\" or a \"?\", which stands for itself here",
}  # fmt: skip
"""What the comment above a widened rule says."""
LITERAL_MARK = f"# {WHY['literal']}"
"""The comment by which those who look for mistakes know that no pattern was meant."""


class Pattern(NamedTuple):
    """A comparison: ``filename OPERATOR "DATA"``.

    Attributes:
        operator: eq, match or re; data: not yet quoted.
        why: a key of WHY, "" for a path that stands for itself.
        without: parts of names; what holds one of them is left out.
    """

    operator: str
    data: str
    why: str = ""
    without: tuple[str, ...] = ()


class Places(NamedTuple):
    """Where the program was started, and by whom.

    Attributes:
        cwd, home, user: what $CWD, $HOME and $USER stand for, "" for what is not to be used.
        homes: all directories that hold what is a person's own.
        temporary: directories for temporary files.
    """

    cwd: str
    home: str
    user: str
    homes: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - the names, not files there


class Paths:
    """What one program did with names; ``pattern`` says by which one a name is permitted."""

    def __init__(
        self, places: Places, level: str, *,
        read: Iterable[str] = (), written: Iterable[str] = (), made: Iterable[str] = (),
        created: Iterable[str] = (), numbers: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """``made`` and ``created``: directories and files that were not there before.

        ``read`` and ``written``: all names; ``numbers``: those that are others each time.
        """
        self._numbers = frozenset(numbers)
        self._created = frozenset(created)
        self.places = places
        self.level = level
        self._all = frozenset(read) | frozenset(written)
        self._made = self._own(made)
        self._trees = self._collapse(path for path in read if path not in self._made)
        self._suffixes = self._count_suffixes(written)

    def pattern(self, path: str, use: str, new: bool = False) -> Pattern:
        """Return the pattern for a path; ``new``: the call made what must not have been there."""
        if path.startswith(NON_EXISTENT):
            return Pattern("match", NON_EXISTENT + "*", "missing")
        if self.level == NONE:
            return self._exact(path, macros=False)
        if use == EXECUTE:
            return self._exact(path)
        own = next((top for top in self._made if below(path, top)), "")
        if use == READ and self._tree_of(path) and self._tree_of(own or path):
            return self._tree(path)  # whatever else it is: the tree is permitted in any case
        if own:
            regex = self._temporary(own, new=True) if self.level == FULL else ""
            if regex:
                return Pattern("re", f"^{regex}(/|$)", "made")
            return self._wide(path, self._glob_of_own(own), "made")
        if self.level == FULL:
            if _UNNAMED.match(path):
                kind = path.partition(":")[0]
                return Pattern("re", f"^{kind}:\\[[0-9]+\\]$", "unnamed")
            if _TERMINAL.match(path):
                return Pattern("re", _TERMINAL.pattern, "terminal")
            numbered = _NUMBERED.match(path)
            if numbered:
                process = "self" if numbered[1] else "[0-9]+"
                thread = "/task/[0-9]+" if numbered[2] else ""
                rest = literal_regex(path[numbered.end() :])
                return Pattern("re", f"^/proc/{process}{thread}{rest}$", "process")
            regex = self._temporary(path, new)
            if regex:
                return Pattern("re", f"^{regex}$", "new")
            glob, why = self._glob(path, new)
            if why:
                return self._wide(path, glob, why)
        suffix, directory = suffix_of(path), directory_of(path)
        if use == WRITE and self._suffixes.get((directory, suffix), 0) >= MANY_WRITTEN:
            return self._wide(path, self._inside(directory) + "/*" + suffix, "suffix")
        return self._exact(path)

    def _tree(self, path: str) -> Pattern:
        tree = self._tree_of(path)
        return self._wide(tree + "/", self._macros(literal(tree), wide=True), "tree")

    def _wide(self, path: str, glob: str, why: str) -> Pattern:
        """Return a pattern without what it should not reach, as far as ``path`` is not that."""
        if why != "tree" and glob.rpartition("/")[2][:1] not in ("*", "?", "["):
            return Pattern("match", glob, why)  # how the name begins is known
        return Pattern("match", glob, why, _absent(self._kept_out(path), path))

    def _kept_out(self, path: str) -> tuple[str, ...]:
        """Return what the names have that no pattern made of ``path`` should reach."""
        places = self.places
        if self.level == FULL and places.cwd and below(path, places.cwd):
            return KEPT_OUT if self._is_start() else (HIDDEN,)
        return (HIDDEN,) if any(below(path, home) for home in places.homes) else ()

    def _is_start(self) -> bool:
        """Tell whether $CWD may stand for the start of what is widened.

        Not where it holds itself what is left out: that would be nothing at all.
        """
        cwd = self.places.cwd
        return bool(cwd) and _absent(KEPT_OUT, cwd + "/") == KEPT_OUT

    # -- the steps --------------------------------------------------------------------------------

    def _own(self, made: Iterable[str]) -> tuple[str, ...]:
        """Return the topmost directories that were made and used, none that is precious."""
        tops: list[str] = []
        for path in sorted(made):
            if not path.startswith("/") or path.startswith(NON_EXISTENT):
                continue  # mkdir("") made nothing
            if any(below(path, top) for top in tops) or is_secret(path):
                continue
            if _hidden_at_home(path, self.places.homes):
                continue
            if any(one != path and below(one, path) for one in self._all):
                tops.append(path)
        return tuple(tops)

    def _temporary(self, path: str, new: bool) -> str:
        """Return a regular expression for the name of a new temporary file, "" for none.

        An expression, as a pattern for a directory would be one for all that is in it.
        """
        if not new or (self.places.cwd and below(path, self.places.cwd)):
            return ""
        for temporary in self.places.temporary:
            if below(path, temporary) and path != temporary:
                first, *rest = path[len(temporary) + 1 :].split("/")
                names = [regex_of_new(first), *map(literal_regex, rest)]
                if rest:
                    names[-1] = regex_of_new(rest[-1], sure=True)
                return "/".join([literal_regex(temporary), *names])
        return ""

    def _glob(self, path: str, new: bool) -> tuple[str, str]:
        """Return the path as a pattern, and why it is one; "" for none."""
        directory, name = directory_of(path), path.rpartition("/")[2]
        if _FANNED.search(path):
            return self._inside(directory_of(directory)) + "/??/*", "new"
        if _DIGEST.match(name):
            return self._inside(directory) + "/*", "new"
        library = _LIBRARY.match(name)
        if library:
            return self._inside(directory) + f"/{literal(library.group(1))}.*", "library"
        name = self._without_numbers(name)
        glob = self._glob_of_name(name, new, new or path in self._created)
        if not glob:
            return self._macros(literal(path)), ""
        if _TEMPORARY.match(name) and _FAN.search(directory):
            directory = _FAN.sub("", directory)
            glob = f"??/{glob}"
        return f"{self._inside(directory)}/{glob.replace(_ANY_NUMBER, '[0-9]*')}", "new"

    def _glob_of_name(self, name: str, new: bool, created: bool) -> str:
        """Return a name as a pattern, "" where it stands for itself."""
        temporary_name = _TEMPORARY.match(name)
        if temporary_name:
            before, chosen_part, suffix = temporary_name.groups()
            return literal(before) + "?" * len(chosen_part) + suffix
        digest = _NEW_DIGEST.match(name) if created else None
        if digest:
            return literal(digest.group(1) or "") + "?" * len(digest.group(2)) + digest.group(3)
        counted = created and _COUNTED.match(name)
        separated = _SEPARATED.match(name) if new and not counted else None
        if separated and len(separated.group(2)) > RANDOM and _hardly_a_word(separated.group(2)):
            return _with_any(*separated.groups())
        python = _of_python(name) if new else None
        if python:
            return _with_any(*python.groups())
        chosen = _CHOSEN.match(name) if new and not counted else None
        if chosen and not _CAPITALS.match(chosen.group(2)):
            return f"{literal(chosen.group(1))}??????{literal(chosen.group(3))}"
        if created and _NUMBER.search(name):
            return _NUMBER.sub(_ANY_NUMBER, literal(name))
        return literal(name) if _ANY_NUMBER in name else ""

    def _without_numbers(self, name: str) -> str:
        """Put a mark in place of each number that the names of new files have."""
        counted, chosen = _split_chosen(name)
        return _LONG_NUMBER.sub(
            lambda found: _ANY_NUMBER if found[0] in self._numbers else found[0], counted
        ) + chosen  # fmt: skip

    def _glob_of_own(self, own: str) -> str:
        """Return the pattern of a directory that the program made."""
        directory, name = directory_of(own), own.rpartition("/")[2]
        name = self._without_numbers(name) if self.level == FULL else name
        python = _of_python(name) if self.level == FULL else None
        chosen = _CHOSEN.match(name) if self.level == FULL else None
        if python:
            name = _with_any(*python.groups())
        elif chosen and _hardly_a_word(chosen.group(2)):
            name = f"{literal(chosen.group(1))}??????{literal(chosen.group(3))}"
        elif _ANY_NUMBER in name:
            name = literal(name)
        else:
            return self._macros(literal(own))
        return f"{self._inside(directory)}/{name.replace(_ANY_NUMBER, '[0-9]*')}"

    def _inside(self, directory: str) -> str:
        """Return the pattern of a directory, to which "/" and a name are to be added."""
        return self._macros(literal(directory), wide=True).rstrip("/")

    def _collapse(self, paths: Iterable[str]) -> frozenset[str]:
        """Return the directories of which so much is read that the tree is meant."""
        entries: dict[str, set[str]] = {}
        for path in paths:
            if not path.startswith(NON_EXISTENT) and path.startswith("/") and not is_secret(path):
                entries.setdefault(directory_of(path), set()).add(path)
        trees: set[str] = set()
        for directory in sorted(entries, key=lambda one: -one.count("/")):
            if len(entries[directory]) >= MANY_READ and self._may_be_tree(directory):
                trees.add(directory)
                entries.setdefault(directory_of(directory), set()).add(directory)
        # parents may have become so only by their trees: once more, from the deepest
        for directory in sorted(entries, key=lambda one: -one.count("/")):
            if len(entries[directory]) >= MANY_READ and self._may_be_tree(directory):
                trees.add(directory)
                entries.setdefault(directory_of(directory), set()).add(directory)
        return frozenset(
            tree for tree in trees
            if not any(self._covers(top, tree) for top in trees if top != tree)
        )

    def _covers(self, tree: str, path: str) -> bool:
        """Tell whether the pattern of a tree holds for a path below it."""
        if not below(path, tree):
            return False
        without = _absent(self._kept_out(tree), tree + "/")
        return _absent(without, path) == without

    def _may_be_tree(self, directory: str) -> bool:
        homes = self.places.homes
        if directory in SHARED or directory in self.places.temporary or is_secret(directory):
            return False
        if any(below(home, directory) for home in homes):
            return False
        if directory.startswith(("/proc", "/dev")):
            return False
        return not _hidden_at_home(directory, (*homes, self.places.cwd))

    def _tree_of(self, path: str) -> str:
        if is_secret(path) or _hidden_at_home(path, self.places.homes):
            return ""
        for tree in self._trees:
            if self._covers(tree, path):
                return tree
        return ""

    def _count_suffixes(self, written: Iterable[str]) -> dict[tuple[str, str], int]:
        counts: dict[tuple[str, str], int] = {}
        for path in set(written):
            suffix = suffix_of(path)
            hidden = path.rpartition("/")[2].startswith(".")
            if suffix and not hidden and not is_secret(path):
                at = directory_of(path), suffix
                if at[0] not in SHARED and at[0] not in self.places.homes:
                    counts[at] = counts.get(at, 0) + 1
        return counts

    def _exact(self, path: str, macros: bool = True) -> Pattern:
        data = self._macros(path) if macros and self.level == FULL else path
        return Pattern("eq", data, "literal" if "*" in data or "?" in data else "")

    def _macros(self, path: str, wide: bool = False) -> str:
        """Put macros in place of what they stand for; ``wide``: in a pattern for other names."""
        cwd, home, user = (_literal_if(path, one) for one in self.places[:3])
        if self.level != FULL:
            return path
        if cwd and below(path, cwd) and cwd not in SHARED and (self._is_start() or not wide):
            return "$CWD" + path[len(cwd) :]
        if home and below(path, home) and home not in SHARED - {"/root"}:
            return "$HOME" + path[len(home) :]
        if user and user != "root" and f"/{user}" in path:
            return re.sub(rf"/{re.escape(user)}(?=/|$)", "/$USER", path)
        return path


def _absent(parts: tuple[str, ...], path: str) -> tuple[str, ...]:
    return tuple(part for part in parts if part not in path)


def _literal_if(path: str, place: str) -> str:
    """Return a place as it stands in a path that may be escaped."""
    return literal(place) if "\\" in path else place


def _hardly_a_word(text: str) -> bool:
    """Tell whether characters were chosen: no capitalised word, no word of capitals."""
    return not text.isalpha() or text[1:].lower() != text[1:] != text[1:].upper()


def _of_python(name: str) -> re.Match[str] | None:
    return None if _COUNTED.match(name) else _PYTHON.match(name)


def _with_any(before: str, chosen: str, suffix: str) -> str:
    """Return the pattern of a name in which as many characters as were chosen are any."""
    return literal(before) + "?" * len(chosen) + suffix


def _split_chosen(name: str) -> tuple[str, str]:
    """Return a name without the chosen part that it ends with, and that part, "" for none."""
    found = _NEW_DIGEST.match(name) or _SEPARATED.match(name) or _of_python(name)
    return (found.group(1) or "", found.group(2) + found.group(3)) if found else (name, "")


def numbers_in(paths: Iterable[str]) -> frozenset[str]:
    """Return the long numbers in the names of new files: of a process, or of the time."""
    return frozenset(
        number for path in paths
        for number in _LONG_NUMBER.findall(_split_chosen(path.rpartition("/")[2])[0])
    )  # fmt: skip


def directory_of(path: str) -> str:
    """Return the directory in which a path lies."""
    return path.rpartition("/")[0] or "/"


def suffix_of(path: str) -> str:
    """Return the suffix of a file name, several together (".tar.gz"); "" for none."""
    name = path.rpartition("/")[2]
    found = _SUFFIXES.search(name)
    return found.group(1) if found and found.start() > 0 else ""


def below(path: str, top: str) -> bool:
    """Tell whether a path is ``top`` or lies below it."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def is_secret(path: str) -> bool:
    """Tell whether a part of a path is one of those whose neighbours are not concluded from it."""
    return not _SECRET.isdisjoint(path.split("/"))


def _hidden_at_home(path: str, homes: Iterable[str]) -> bool:
    """Tell whether a path is a hidden entry of somebody's home, and no directory within one."""
    for home in filter(None, homes):
        if below(path, home) and path != home:
            rest = path[len(home) + 1 :].split("/")
            if rest[0].startswith(".") and len(rest) < 3:
                return True
    return False


def literal(path: str) -> str:
    """Return the pattern that matches just this path: fnmatch(3)'s special characters escaped."""
    return "".join("\\" + one if one in "*?[]\\" else one for one in path)
