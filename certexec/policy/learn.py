"""From what programs were seen to do to the policy that permits it (pure).

    1. what an included preset decides needs no rule of its own;
    2. presets are included for what was used of them;
    3. every other call becomes a rule: of the name that governs it for good, with the arguments
       that say what it may touch;
    4. names are made as general as was asked for (``certexec.policy.learned_paths``);
    5. rules that already stood in the policy stay, and what they permit makes no new one;
    6. the result is sorted, and says above each widened rule what was widened.

The text depends on the set of observations alone: not on their order, their number or the time.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from certexec.policy.calls import arguments_of, governing_names, variants
from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.format import quote
from certexec.policy.learned_paths import (
    EXECUTE,
    FULL,
    LITERAL_MARK,
    NAMELESS,
    NONE,
    READ,
    WHY,
    WRITE,
    Paths,
    Pattern,
    Places,
    numbers_in,
)
from certexec.policy.lexer import LINE_MAX, byte_length, split_comment
from certexec.policy.model import ALIASES
from certexec.policy.observation import FRESH, MADE, MISSING, Observation
from certexec.policy.sort import sorted_order
from certexec.policy.syntax import parse_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from certexec.policy.model import Policy, Subject, UserDb

GIVEN = ("base 1", "io 1")
"""Presets that every learned policy includes: what they permit plainly is not counted."""
WITH_SOCKETS = "sockets 1"
"""Preset that is included where a program had a socket: what it permits is not counted either."""
SOCKET_SOURCES = frozenset(("socket", "socketpair", "accept", "accept4"))
OFFERED = (
    "system 1", "nameservice 1", "dns 1", "tls 1", "children 1", "python 1", "tty 1",
)  # fmt: skip
"""Presets that are included where enough of them was used, in this order."""
_MARKS = {"tty 1": "/dev/", "python 1": "/usr/bin/"}
"""How a name begins without which the use of a preset is chance."""
MANY_USED = 3
"""different rules of a preset that were used, from which on it is included."""
_NOT_WIDENED = ("missing", "literal")
"""What a rule says above itself though its names are those that were seen."""
ACCEPT, EXACT, DROP = "accept", "exact", "drop"
"""What may be answered about a widened rule."""
_READS = frozenset(
    "fsread statfs getxattr lgetxattr listxattr llistxattr chdir inotify_add_watch "
    "name_to_handle_at".split()
)
_BY_TEXT = {
    "socket": ("sockdom", "socktype"), "socketpair": ("sockdom", "socktype"),
    "kill": ("pidname",), "tkill": ("signame",), "tgkill": ("signame",),
    "rt_sigqueueinfo": ("signame",), "rt_tgsigqueueinfo": ("signame",),
    "pidfd_send_signal": ("signame",), "setuid": ("uid",), "setgid": ("gid",),
    "setreuid": ("uid",), "setregid": ("gid",), "setresuid": ("uid",), "setresgid": ("gid",),
    "seteuid": ("uid",), "setegid": ("gid",), "setfsuid": ("uid",), "setfsgid": ("gid",),
}  # fmt: skip
"""Which registers of a call are part of its rule; of any other call the name is all."""
_OWNERS = frozenset(("F_SETOWN", "<unknown>: 15"))
"""Commands of fcntl (the second is F_SETOWN_EX) that only a rule on the command permits for good
(certexec.policy.side_doors): who was seen to use one gets a rule for each command."""
_PREFERRED = {"utime": "utimes"}
_ENDED, _ENDED_GROUP = "<unknown>", "pg:unknown"
"""The program of a process, or of a group's leader, that is no more; the kernel says so then."""
_LINKS = frozenset(("link", "linkat"))
_NAMES_NEW = frozenset(("link", "linkat", "symlink", "symlinkat", "mknod", "mknodat"))
"""Calls whose last name must not have been there."""
_SENDS = frozenset(("sendto", "sendmsg", "sendmmsg"))
_LOOPBACK = ("inet-[127.", "inet-[::1]")
_PORTS = 3
"""ports of one address that the kernel chose, from which on all of them are meant."""
_CHOSEN_PORTS = 32768
"""the lowest port that the kernel chooses by itself (net.ipv4.ip_local_port_range)."""


def of_secure_start(program: str) -> tuple[Observation, ...]:
    """Return what the C library does in a program that comes under another policy by an exec.

    Such a program starts with AT_SECURE, which it did not when it was watched. The library then
    looks whether the first three descriptors are open.
    """
    return (
        Observation(program, "access", "", (("filename", ("/etc/suid-debug",)),), MISSING),
        Observation(program, "fcntl", "", (("cmd", ("F_GETFD",)),)),
    )


class Rule(NamedTuple):
    """One learned line: the text behind ``native-``, and the key of WHY that explains it."""

    text: str
    why: str = ""


class Learned(NamedTuple):
    """What was learned of one program.

    Attributes:
        program: the path in the header; text: its policy, without the language line.
        rules: the lines that are not included; presets: those that are, with how many
            observations each stands for.
        unsaid: rules that no line of the language can hold.
    """

    program: str
    text: str
    rules: tuple[Rule, ...]
    presets: Mapping[str, int]
    unsaid: tuple[Rule, ...] = ()


class Learner:
    """Makes policies of observations."""

    def __init__(
        self, *, places: Places, level: str, presets: Mapping[str, str], users: UserDb,
        subject: Subject, decide: Callable[[Rule, Sequence[str]], str] | None = None,
    ) -> None:  # fmt: skip
        """``subject``: whom the policy is tried for; ``level``: one of learned_paths.LEVELS.

        ``decide``: asked about each widened rule, with the names that made it: ACCEPT, EXACT or
        DROP.
        """
        self.decide = decide
        self._wide: dict[str, str] = {}
        self._fresh: set[str] = set()
        self._made: set[str] = set()
        self._created: set[str] = set()
        self._by_command = False
        self._numbers: frozenset[str] = frozenset()
        self._binds = False
        self._asks_for_ports = False
        self._temporary = tuple(f"{one}/" for one in places.temporary)
        self.places = places
        self.level = level
        self.presets = presets
        self.users = users
        self.subject = subject

    def look_at(self, observations: Iterable[Observation], numbers: Iterable[str] = ()) -> None:
        """Note what was made: whoever made it, its name is as new to all programs.

        Note as well who listens: at a port that the kernel chooses others ask for it. ``numbers``:
        of processes that named files by their own.
        """
        self._numbers |= frozenset(numbers)
        links, new = [], []
        for one in observations:
            if one.call == "bind":
                for address in one.texts("sockaddr"):
                    self._binds |= address.startswith("inet-[")
                    self._asks_for_ports |= address.endswith("]:0")
                    if address.startswith(self._temporary):
                        self._fresh.add(address)  # it must not have been there
            if one.call in _LINKS and len(one.texts("filename")) > 1:
                links.append(one.texts("filename"))
            if one.mark in (FRESH, MADE):
                self._fresh.update(one.texts("filename"))
            if one.mark == MADE:
                self._made.update(one.texts("filename"))
            created = one.mark == MISSING and any("c" in text[2:] for text in one.texts("oflags"))
            if created:
                self._created.update(one.texts("filename"))
                if one.texts("filename")[0].startswith(self._temporary):
                    self._fresh.update(one.texts("filename"))
            if one.call in _NAMES_NEW:
                new.append(one.texts("filename")[-1])
                if one.mark == MISSING and one.call not in _LINKS:
                    self._fresh.add(new[-1])
        self._numbers |= numbers_in((*new, *self._fresh, *self._made, *self._created))
        for source, target in links:
            # how a named semaphore gets its name, and a lock its file
            if source in self._fresh and target.startswith(self._temporary):
                self._fresh.add(target)

    def given(self) -> Policy | None:
        """Return the policy of which nothing need be counted, None where everything is."""
        if self.level == NONE:
            return None
        return self._including((*GIVEN, WITH_SOCKETS), "/")

    def learn(
        self, program: str, observations: Iterable[Observation], *, sockets: bool = False,
        existing: str = "",
    ) -> Learned:  # fmt: skip
        """Return the policy of one program.

        ``sockets``: it was started with one; ``existing``: the lines of its policy that are to
        stay, without header.
        """
        seen = sorted(set(observations))
        standing = self._parse(program, existing)
        lost = [one for one in seen if _is_nameless(one)]
        lost = [one for one in lost if not self._deciding(standing, one).endswith("permit")]
        first = tuple(
            Rule(f"{name}: filename re {quote(NAMELESS)} then permit", "nameless")
            for name in sorted(set(map(rule_name, lost)))
        )
        seen = [one for one in seen if not _is_nameless(one) and not self._decides(standing, one)]
        included = dict.fromkeys(key for policy in [standing] for _, key in policy.includes)
        chosen: dict[str, int] = {}
        if self.level != NONE:
            # 1. and 2.
            always = [*GIVEN]
            if sockets or any(one.call in SOCKET_SOURCES for one in seen):
                always.append(WITH_SOCKETS)
            for key in (*always, *OFFERED):
                if key in included:
                    continue
                preset = self._including((key,), program)
                used = [one for one in seen if self._decides(preset, one)]
                different = {self._deciding(preset, one) for one in used}
                marked = key not in _MARKS or any(
                    text.startswith(_MARKS[key]) for one in used for text in one.texts("filename")
                )
                if key in always or (marked and len(different) >= MANY_USED):
                    chosen[key] = len(used)
                    seen = [one for one in seen if one not in set(used)]
        # 3. and 4.
        made = self._rules(seen)
        rules = tuple(rule for rule in made if _can_be_said(rule))
        text = self._text(program, chosen, first, rules, existing)
        unsaid = tuple(rule for rule in made if not _can_be_said(rule))
        return Learned(program, text, (*first, *rules), chosen, unsaid)

    # -- what is decided already ------------------------------------------------------------------

    def _including(self, keys: Sequence[str], program: str) -> Policy:
        return self._parse(program, "".join(f"\tinclude {key}\n" for key in keys))

    def _parse(self, program: str, lines: str) -> Policy:
        text = f"Language: certexec 1\nPolicy: {program}, Emulation: native\n{lines}"
        file = parse_policy(
            text, name="learned policy", users=self.users, privileged=True, presets=self.presets
        )
        return file.policies[0]

    def _deciding(self, policy: Policy, observation: Observation) -> str:
        """Return the text of the rule that decides an observed call, "" for none.

        A denial decides, too: what a preset turns away, or the owner of the policy, stays so.
        """
        rules = effective_rules(policy, observation.call, observation.variant)
        verdict = evaluate(rules, dict(observation.values), self.subject)
        return "" if verdict is None else str(verdict.rule)

    def _decides(self, policy: Policy, observation: Observation) -> bool:
        return bool(self._deciding(policy, observation))

    # -- rules ------------------------------------------------------------------------------------

    def _rules(self, observations: Sequence[Observation]) -> tuple[Rule, ...]:
        read: set[str] = set()
        written: set[str] = set()
        for one in observations:
            written.update(text for text in one.texts("sockaddr") if text.startswith("/"))
            names = one.texts("filename")
            (read if rule_name(one) in _READS else written).update(names)
        self._wide = self._many_ports(observations)
        self._by_command = any(
            one.call == "fcntl" and not _OWNERS.isdisjoint(one.texts("cmd")) for one in observations
        )
        observations = [*observations, *_once_ended(observations)]
        paths = Paths(
            self.places, self.level, read=read, written=written, made=self._made,
            created=self._created, numbers=self._numbers,
        )
        found: dict[Rule, list[Observation]] = {}
        for one in observations:
            found.setdefault(self._rule(one, paths), []).append(one)
        if self.decide is not None:
            found = self._decided(found, self.decide)
        return tuple({rule.text: rule for rule in found}.values())

    def _decided(
        self, found: Mapping[Rule, Sequence[Observation]],
        decide: Callable[[Rule, Sequence[str]], str],
    ) -> dict[Rule, list[Observation]]:  # fmt: skip
        """Let somebody choose, for each widened rule, between it, its names alone, and none."""
        chosen: dict[Rule, list[Observation]] = {}
        for rule, seen in found.items():
            answer = ACCEPT
            if rule.why and rule.why not in _NOT_WIDENED:
                names = sorted({" ".join(one.texts("filename")) for one in seen})
                answer = decide(rule, names)
            if answer == ACCEPT:
                chosen[rule] = [*seen]
            elif answer == EXACT:
                for one in seen:
                    exact = Paths(self.places, NONE)
                    chosen.setdefault(self._rule(one, exact), []).append(one)
        return chosen

    def _rule(self, one: Observation, paths: Paths) -> Rule:
        name = rule_name(one)
        files, addresses = one.texts("filename"), one.texts("sockaddr")
        if files:
            use = READ if name in _READS else EXECUTE if name == "execve" else WRITE
            patterns = [paths.pattern(path, use, path in self._fresh) for path in files]
            argument = [f"filename[{at}]" if at else "filename" for at in range(len(files))]
            missing = next((each for each in patterns if each.why == "missing"), None)
            if missing is not None:
                condition = _compare(argument[patterns.index(missing)], missing)
                return Rule(f"{name}: {condition} then deny[enoent]", "missing")
            conditions = list(map(_compare, argument, patterns))
            whys = sorted((one.why for one in patterns if one.why), key="literal".__eq__)
            why = whys[0] if whys else ""
            return Rule(f"{name}: {' and '.join(conditions)} then permit", why)
        if addresses:
            if addresses[0].startswith("/"):
                pattern = paths.pattern(addresses[0], WRITE, addresses[0] in self._fresh)
                return Rule(f"{name}: {_compare('sockaddr', pattern)} then permit", pattern.why)
            where = self._wide.get(addresses[0].rpartition(":")[0])
            if where is not None and _chosen_port(addresses[0]):
                return Rule(f"{name}: sockaddr in {quote(where)} then permit", "port")
            return Rule(f"{name}: sockaddr eq {quote(addresses[0])} then permit")
        by_command = ("cmd",) if name == "fcntl" and self._by_command else ()
        conditions = [
            f"{register}{f'[{at}]' if at else ''} eq {quote(text)}"
            for register in _BY_TEXT.get(name, by_command)
            for at, text in enumerate(one.texts(register))
        ]
        if conditions:
            why = "ended" if one.texts("pidname") in ((_ENDED,), (_ENDED_GROUP,)) else ""
            return Rule(f"{name}: {' and '.join(conditions)} then permit", why)
        return Rule(f"{name}: permit")

    def _many_ports(self, observations: Iterable[Observation]) -> dict[str, str]:
        """Return the hosts of which ports were met that the kernel chose, and a network each.

        It chose them when there were many, when somebody of the tree had asked it for a port of
        this machine, and, where it listens, when who had asked is answered.
        """
        if self.level != FULL:
            return {}
        ports: dict[str, set[str]] = {}
        chosen: set[str] = set()
        for one in observations:
            for text in filter(_chosen_port, one.texts("sockaddr")):
                host = text.rpartition(":")[0]
                ports.setdefault(host, set()).add(text)
                own = self._asks_for_ports and host.startswith(_LOOPBACK)
                if own or (self._binds and one.call in _SENDS):
                    chosen.add(host)
        return {
            host: f"{host}:{_CHOSEN_PORTS}-65535" for host, met in ports.items()
            if host in chosen or len(met) >= _PORTS
        }

    # -- text -------------------------------------------------------------------------------------

    def _text(
        self, program: str, presets: Iterable[str], first: Sequence[Rule], rules: Sequence[Rule],
        existing: str,
    ) -> str:  # fmt: skip
        lines = [f"Policy: {program}, Emulation: native"]
        if first:  # before the preset that says of all such names that nothing is there
            lines.append(f"# {WHY[first[0].why]}")
        lines += [f"\tnative-{rule.text}" for rule in first]
        keys = list(presets)
        if keys:
            lines.append("# presets that say what it was seen to do, or that is not counted")
        lines += [f"\tinclude {key}" for key in keys]
        lines += existing.splitlines()
        # 6.
        texts = [f"native-{rule.text}" for rule in rules]
        parsed = self._parse(program, "".join(f"\t{text}\n" for text in texts)).rules
        comments = [line for line in existing.splitlines() if line.startswith("#")]
        before = "literal" if comments[-1:] == [LITERAL_MARK] else ""
        for index in sorted_order(parsed, texts):
            why = rules[index].why
            if why != before and why:
                lines.append(f"# {WHY[why]}")
            elif why != before:
                lines.append("#")
            before = why
            lines.append("\t" + texts[index])
        return "\n".join(lines) + "\n"


def is_unsaid(one: Observation) -> bool:
    """Tell whether it is not known what a call was about, though its rule would have to say that.

    A log may show no name, no address and no signal. A rule made of such an observation would have
    no condition, and permit the call on everything.
    """
    if one.texts("filename") or one.texts("sockaddr"):
        return False
    variant = next(each for each in variants(one.call) if each.label == one.variant)
    needed = {argument.name for argument in arguments_of(one.call, variant)}
    needed &= {"filename", "sockaddr", *_BY_TEXT.get(rule_name(one), ())}
    return any(not one.texts(name) for name in needed)


def rule_name(observation: Observation) -> str:
    """Return the name by which a rule governs an observed call: the alias, or the classic name."""
    names = governing_names(observation.call, observation.variant)
    if names[-1] in ALIASES:
        return names[-1] if observation.texts("filename") else names[0]
    return _PREFERRED.get(names[-1], names[-1])


def _once_ended(observations: Iterable[Observation]) -> list[Observation]:
    """Return what the next run may do where this one sent a signal: the process has just ended."""
    ended = {
        _ENDED_GROUP if text.startswith("pg:") else _ENDED: one
        for one in observations for text in one.texts("pidname")
        if text.startswith(("/", "pg:/"))
    }  # fmt: skip
    return [one._replace(values=(("pidname", (text,)),)) for text, one in sorted(ended.items())]


def _is_nameless(one: Observation) -> bool:
    names = one.texts("filename")
    return len(names) == 1 and rule_name(one) in ALIASES and bool(re.match(NAMELESS, names[0]))


def _can_be_said(rule: Rule) -> bool:
    """Tell whether a rule fits a line, and no "#" in a name of it begins a comment there.

    The language counts the quotes before a "#" with those that are escaped.
    """
    line = f"\tnative-{rule.text}"
    return byte_length(line) <= LINE_MAX and not split_comment(line)[1]


def _chosen_port(address: str) -> bool:
    port = address.rpartition(":")[2]
    return address.startswith("inet-[") and port.isdigit() and int(port) >= _CHOSEN_PORTS


def _compare(argument: str, pattern: Pattern) -> str:
    condition = f"{argument} {pattern.operator} {quote(pattern.data)}"
    # of the two ways to say it the one that may be followed by a condition on the next name
    return condition + "".join(f" and {argument} nsub {quote(part)}" for part in pattern.without)
