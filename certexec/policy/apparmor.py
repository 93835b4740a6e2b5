"""AppArmor profiles as policies (pure): nothing is permitted that a profile does not permit.

AppArmor decides about files, programs, sockets and some more, and leaves every other call alone;
so does the result, as far as it knows the call. What a rule says of a file it says here of every
call that does the same to the file. Where the language cannot say it exactly a permit is left out
and a denial becomes a wider one, and each time that is told. Denials come before permits, as they
do there whatever the order.

Source: apparmor.d(5); security/apparmor of Linux for what each call needs.
"""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy.apparmor_names import Inexpressible, Name, expanded, names_of, own_proc
from certexec.policy.apparmor_rules import QUALIFIERS, Said
from certexec.policy.apparmor_sockets import Sockets
from certexec.policy.apparmor_syntax import VARIABLE, Statement, parse, values_of
from certexec.policy.format import quote
from certexec.policy.lexer import LINE_MAX, byte_length
from certexec.policy.model import LANGUAGE
from certexec.policy.promises import Imported
from certexec.policy.unmediated import CALLS, F_DUPFD_CLOEXEC, FCNTL, ON_SOCKETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from certexec.policy.apparmor_syntax import Block, LookUp

_STATS = ("stat", "lstat", "access", "readlink", "statfs")
"""Calls with a name that AppArmor does not look at, or always permits."""
_OF_CAPABILITY = {
    "setuid": ("setuid", "setreuid", "setresuid", "setfsuid"),
    "setgid": ("setgid", "setregid", "setresgid", "setfsgid", "setgroups"),
    "sys_chroot": ("chroot",),
    "sys_nice": ("setpriority", "sched_setscheduler", "sched_setparam"),
    "ipc_lock": (),
    "net_bind_service": (),
}
"""Calls that a capability is for, and that say nothing else that matters."""
_TRANSITIONS_KEPT = {
    "ix": "",
    "pix": "its own profile does not count, it stays under this policy",
    "cix": "the child profile does not count, it stays under this policy",
}
_EVERYTHING = ".*"
_HALF = LINE_MAX // 2 - 40
"""bytes of a condition, two of which fit into a line beside the name of the call"""


def from_apparmor(
    text: str, *, name: str, look_up: LookUp, real: Callable[[str], str | None]
) -> Imported:
    """Return policies for the programs that the profiles in a text attach to.

    ``look_up``: reads includes; ``real``: the real path of a program that there is, else None.
    Raises PolicyError: "not-found" for an include, "policy-syntax", "usage" when no profile is for
    a program that can be named.
    """
    profiles = parse(text, name, look_up)
    notes = [f"{one.place}: {one.text}: left out" for one in profiles.top.rules
             if not one.text.startswith("abi ")]  # fmt: skip
    for statement in profiles.top.rules:
        if statement.text.startswith("alias "):
            raise PolicyError(
                "usage", f"{statement.place}: an alias changes what every rule says",
                "write its rules out first",
            )
    lines = [f"Language: {LANGUAGE}"]
    taken: set[str] = set()
    for block in profiles.top.blocks:
        made = _Profile(block, profiles.variables, notes)
        programs = [one for one in made.programs(real) if one not in taken]
        if not programs:
            notes.append(f"{block.place}: {block.head}: it is for no program that can be named")
            continue
        taken.update(programs)
        body = made.lines()
        for program in programs:
            lines += [f"Policy: {program}, Emulation: native", *body]
    if not taken:
        raise PolicyError("usage", f"{name} has no profile for a program that can be named")
    return Imported("".join(line + "\n" for line in lines), list(dict.fromkeys(notes)))


class _Profile:
    def __init__(self, block: Block, variables: dict[str, list[str]], notes: list[str]) -> None:
        self.block = block
        self.notes = notes
        head = block.head
        flags = ""
        for word in ("flags=", "xattrs="):
            before, found, after = head.partition(word)
            if found:
                inside, _, behind = after.partition(")")
                flags = inside.strip("( ") if word == "flags=" else flags
                head = f"{before} {behind}"
                if word == "xattrs=":
                    self.note(f"{block.head}: which extended attributes a program has is not asked")
        words = [one.strip('"') for one in head.split()]
        if words and words[0] == "profile":
            words.pop(0)
        self.name = words[0] if words else ""
        self.attachment = next((one for one in words if one.startswith(("/", "@{", "{"))), "")
        self.skipped = "unconfined" in flags
        if "complain" in flags:
            self.note("flags=(complain): there it only logs, here it is enforced")
        self.variables = {**variables, "profile_name": [self.name]}
        self.denials: list[str] = []
        self.permits: list[str] = []
        self.changed: dict[str, list[str]] = {}
        self.dropped: set[str] = set()
        self.calls: list[str] = []
        self.limited = False
        self.sockets = Sockets()

    def note(self, what: str, statement: Statement | None = None) -> None:
        place = statement.place if statement else self.block.place
        self.notes.append(f"{place}: {f'{statement.text}: ' if statement else ''}{what}")

    # ---- whom it is for --------------------------------------------------------------------------

    def programs(self, real: Callable[[str], str | None]) -> list[str]:
        """Return the paths of programs that it attaches to: those that there are, else all."""
        if self.skipped or not self.attachment or self.block.head.startswith(("hat ", "^")):
            return []
        try:
            patterns = values_of(self.attachment, self.variables)
        except (KeyError, ValueError):
            return []
        paths = [path for pattern in patterns for path in _literal_paths(pattern)]
        there = [found for path in paths if (found := real(path)) is not None]
        return list(dict.fromkeys(there or paths))

    # ---- its rules -------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """Return what stands below the header."""
        said = [(one, Said(one.text)) for one in self.statements(self.block)]
        for statement, rule in sorted(said, key=lambda pair: not pair[1].denies):
            self.one(statement, rule)
        if any(name.startswith("native-fsread") for name in self.permits):
            self.note("a name does not tell what it is of: where a pattern of files fits, a "
                      "directory can be listed, too")  # fmt: skip
        self.note("m: memory that is executed cannot be told by files: it is permitted for all "
                  "that is open, as no program starts without it")  # fmt: skip
        commands = [*FCNTL.split(), F_DUPFD_CLOEXEC]
        asked = " or ".join(f"cmd eq {quote(one)}" for one in commands)
        missing = quote("/<non-existent filename>*")
        sockets = self.sockets.rules()
        free = [*CALLS, *_STATS, *self.calls, *(ON_SOCKETS if sockets else ())]
        if self.limited:
            free.remove("setrlimit")
        body = [
            "# what AppArmor does not look at",
            *(f"native-{call}: permit" for call in dict.fromkeys(free)),
            f"native-fcntl: {asked} then permit",
            f"native-fsread: filename match {missing} then deny[enoent]",
        ]
        if self.denials:
            body += ["# what it denies", *dict.fromkeys(self.denials)]
        body += ["# what it permits", *dict.fromkeys(self.permits), *self._changes(), *sockets]
        # what no rule of their own permits is not left to those of fswrite, which are about files
        body += [f"native-{call}: true then deny" for call in ("mkdir", "rmdir")]
        return [line if line.startswith("#") else f"\t{line}" for line in body]

    def statements(self, block: Block) -> list[Statement]:
        """Return the rules of a block, and of those in it that only qualify what they hold."""
        found = list(block.rules)
        for each in block.blocks:
            words = each.head.split()
            if words and set(words) <= set(QUALIFIERS):
                found += [Statement(f"{each.head} {one.text}", one.place)
                          for one in self.statements(each)]  # fmt: skip
            elif words[:1] in (["if"], ["else"], ["}"]):
                raise PolicyError(
                    "usage", f"{each.place}: rules under a condition are not read",
                    "write the profile without the condition",
                )
            else:
                self.notes.append(f"{each.place}: {each.head}: a profile in a profile, left out")
        return found

    def one(self, statement: Statement, rule: Said) -> None:
        if rule.word == "unknown" or rule.word.startswith("priority"):
            told = f"{statement.place}: this rule is not read: {statement.text}"
            raise PolicyError("usage", told)
        if rule.word == "file":
            self.file(statement, rule)
        elif rule.word == "capability":
            self.capability(statement, rule)
        elif rule.word in ("network", "unix"):
            why = self.sockets.add(rule.word, rule.rest, rule.denies)
            if why:
                self.note(why, statement)
        elif rule.word == "signal":
            self.signal(statement, rule)
        elif rule.word == "abi" or (rule.word == "ptrace" and "by)" in rule.rest):
            pass  # how to read the file, and what others may do
        elif rule.word == "set" or not rule.denies:
            self.limited |= rule.word == "set"
            self.note(_OTHERS.get(rule.word, "left out"), statement)

    def capability(self, statement: Statement, rule: Said) -> None:
        for word in rule.rest.split() or ["all of them"]:
            if rule.denies:
                self.dropped.add(word)
            elif word not in self.dropped and "all of them" not in self.dropped:
                self.calls += _OF_CAPABILITY.get(word, ())
                self.note(f"what the certificate grants counts: sign --cap {word}", statement)

    def signal(self, statement: Statement, rule: Said) -> None:
        if rule.denies:
            self.dropped.add("signal")
            if rule.rest:
                self.note("to whom signals go cannot be said: it denies all", statement)
        elif rule.rest in ("", "send", "(send)", "(send, receive)", "(send receive)"):
            if "signal" not in self.dropped:
                self.calls += ["kill", "tgkill", "tkill"]
        elif not rule.rest.startswith(("(receive)", "receive")):
            self.note("to whom signals go cannot be said, left out", statement)

    # ---- files -----------------------------------------------------------------------------------

    def file(self, statement: Statement, rule: Said) -> None:
        try:
            names = self.names(statement, rule)
        except Inexpressible as error:
            if not rule.denies:
                self.note(f"{error}: left out", statement)
                return
            self.note(f"{error}: it denies all names instead", statement)
            names = []
        if rule.denies:
            self.deny(statement, rule, [one.regex for one in names] or [_EVERYTHING])
            return
        writes, reads = "w" in rule.letters, "r" in rule.letters
        for letter, why in _LETTERS.items():
            if letter in rule.letters and not (letter == "a" and writes):
                self.note(f"{letter}: {why}", statement)
        for each in names:
            condition = _is(each.regex)
            if reads and (each.files or each.sure or _is_kernels(each)):
                self.permit("fsread", condition)
            elif reads:
                self.note("what has such a name may be no directory: left out", statement)
            if writes:
                self.write(each, condition, reads)
        if rule.transition:
            self.execute(statement, rule, [one for one in names if one.files])

    def names(self, statement: Statement, rule: Said) -> list[Name]:
        """Return what the name of a rule stands for, the program's own /proc entries among it."""
        if not rule.name:
            return names_of("/{,**}")
        try:
            patterns = values_of(rule.name, self.variables)
        except KeyError as error:
            raise Inexpressible(f"there is no variable @{{{error.args[0]}}}") from None
        except ValueError as error:
            raise Inexpressible(str(error)) from None
        found: list[Name] = []
        for pattern in patterns:
            try:
                own = own_proc(pattern)
            except Inexpressible:
                if not rule.denies:
                    raise
                own = "/proc/self/**"  # more than it says
            if "owner" in rule.qualifiers and not rule.denies:
                # its own entries are its own; whose other files are is not known
                if own is None:
                    raise Inexpressible("whose a file is cannot be asked")
                self.note("owner: only its own entries in /proc", statement)
                found += names_of(own)
                continue
            found += names_of(pattern)
            if own is not None:
                found += names_of(own)
        return found

    def deny(self, statement: Statement, rule: Said, regexes: list[str]) -> None:
        if "owner" in rule.qualifiers:
            self.note("whose a file is cannot be asked: denied for all", statement)
        log = " log" if "audit" in rule.qualifiers else ""
        for regex in regexes:
            condition = _is(regex)
            if "r" in rule.letters:
                self.refuse("open", f'{condition} and not oflags match "wo*"', log)
                self.refuse("rename", f"{condition} or {_is(regex, 1)}", log)
            if set("wa") & set(rule.letters):
                self.refuse("open", f'{condition} and oflags neq "ro"', log)
                for call in _CHANGES:
                    self.refuse(call, condition, log)
                self.refuse("rename", f"{condition} or {_is(regex, 1)}", log)
                for call in ("connect", "bind"):
                    self.refuse(call, _is(regex, argument="sockaddr"), log)
            if rule.transition:
                self.refuse("execve", condition, log)
        if "m" in rule.letters:
            self.note("m: memory that is executed cannot be told by files, it stays permitted",
                      statement)  # fmt: skip

    def write(self, name: Name, condition: str, reads: bool) -> None:
        if name.files and reads:
            self.permit("fswrite", condition)
        elif name.files:
            self.permit("open", f'{condition} and oflags match "wo*"')
            self.change(name, "unlink", "truncate", "mkfifo")
        if name.files:
            self.change(name, "symlink")
        if name.folders:
            self.change(name, "mkdir", "rmdir")
        if name.sure:
            self.change(name, "chmod", *_TIMES)
            if reads and not name.regex.startswith(("/dev/", "/proc/", "/sys/")):
                self.change(name, "rename")
        if name.files and name.literal:
            self.sockets.named.append((_is(name.regex, argument="sockaddr"), reads))

    def change(self, name: Name, *calls: str) -> None:
        if byte_length(_is(name.regex, 1)) > _HALF:
            self.note(f"too long for a line, left out: {name.regex[:60]}...")
            return
        for call in calls:
            self.changed.setdefault(call, []).append(name.regex)

    def execute(self, statement: Statement, rule: Said, names: list[Name]) -> None:
        kind = rule.transition.lower()
        if rule.target or kind not in (*_TRANSITIONS_KEPT, "px"):
            self.note(f"{rule.transition}: {_REFUSED.get(kind, 'the change of profile')} is not "
                      "carried over: it cannot be executed", statement)  # fmt: skip
            return
        why = _TRANSITIONS_KEPT.get(
            kind, "sign with --no-inherit and give it a policy, or it stays under this one"
        )
        if why:
            self.note(f"{rule.transition}: {why}", statement)
        for each in names:
            self.permit("execve", _is(each.regex), "" if kind == "px" else "[inherit]")

    def permit(self, call: str, condition: str, flag: str = "") -> None:
        self._add(self.permits, f"native-{call}: {condition} then permit{flag}")

    def refuse(self, call: str, condition: str, log: str) -> None:
        line = f"native-{call}: {condition} then deny[eacces]{log}"
        if byte_length(line) >= LINE_MAX - 1:
            self.note(f"a denial is too long for a line: no {call} is permitted")
            line = f"native-{call}: true then deny[eacces]{log}"
        self.denials.append(line)

    def _add(self, lines: list[str], line: str) -> None:
        if byte_length(line) < LINE_MAX - 1:
            lines.append(line)
        else:
            self.note(f"too long for a line, left out: {line[:60]}...")

    def _changes(self) -> list[str]:
        """Return what may be changed by name.

        Of rename both names may be read and written, whatever they are of, as RENAME_EXCHANGE asks.
        """
        lines: list[str] = []
        for call, found in self.changed.items():
            regexes = list(dict.fromkeys(found))
            if call == "rename":
                lines += [
                    f"native-rename: {old} and {new} then permit"
                    for old in _groups(regexes, 0) for new in _groups(regexes, 1)
                ]
            else:
                lines += [f"native-{call}: {any_} then permit" for any_ in _groups(regexes, 0)]
        return lines


_TIMES = ("utime", "utimes", "lutimes")
_CHANGES = ("unlink", "truncate", "mkfifo", "mkdir", "rmdir", "symlink", "chmod", *_TIMES)
"""Calls that take one name and need the right to write there, besides open."""
_LETTERS = {
    "a": "a file that is open to be appended to could be changed otherwise, left out",
    "l": "which rights two names of a file have cannot be compared, no link is permitted",
    "k": "a lock is made on a descriptor, which has no name: none is permitted",
}
"""What permissions lose."""
_REFUSED = {
    "ux": "to leave the policy", "pux": "to leave the policy", "cux": "to leave the policy",
    "cx": "the child profile",
}
_OTHERS = {
    "set": "a limit is the certificate's: sign --rlimit",
    "dbus": "messages cannot be told apart: the socket of the bus is permitted or not",
    "ptrace": "to trace others is not permitted",
    "mount": "to mount is not permitted",
    "change_profile": "a policy cannot be changed that way",
}


def _is(regex: str, place: int = 0, *, argument: str = "filename") -> str:
    which = f"{argument}[{place}]" if place else argument
    return f"{which} re {quote(f'^({regex})$' if '|' in regex else f'^{regex}$')}"


def _groups(regexes: list[str], place: int) -> list[str]:
    """Return conditions that a name fits one of these, two of which fit into a line."""
    groups: list[list[str]] = [[]]
    length = 0
    for one in (_is(regex, place) for regex in regexes):
        length += byte_length(one) + len(" or ")
        if length > _HALF and groups[-1]:
            groups.append([])
            length = byte_length(one) + len(" or ")
        groups[-1].append(one)
    return [
        f"( {' or '.join(group)} )" if len(group) > 1 else group[0] for group in groups if group
    ]


def _is_kernels(name: Name) -> bool:
    """Tell whether the last part of a name below /proc or /sys is fixed, and so a directory's."""
    last = name.regex.rpartition("/")[2]
    return name.regex.startswith(("/proc/", "/sys/")) and last.replace("_", "").isalnum()


def _literal_paths(pattern: str) -> Iterable[str]:
    """Return the paths that a pattern with groups, and nothing else, stands for."""
    try:
        return [one for one in expanded(pattern) if VARIABLE.search(one) is None]
    except Inexpressible:
        return []
