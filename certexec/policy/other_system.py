"""Policies for OpenBSD's and NetBSD's systrace as policies for this system (pure).

A rule keeps its conditions and gets the name of the Linux call that does the same. What Linux has
no call for becomes a comment. How far the result permits more or less than the rules said is not
guessed: both are compared (certexec.policy.difference).
"""

from __future__ import annotations

from certexec.kernel.syscalls import NUMBERS
from certexec.policy import lexer
from certexec.policy.difference import NARROWED, WIDENED, compare
from certexec.policy.directives import word_of
from certexec.policy.errnos import SAME
from certexec.policy.lint import lint
from certexec.policy.model import LANGUAGE
from certexec.policy.names import FOREIGN_EMULATION, MULTIPLEXERS, canonical, is_system_call
from certexec.policy.promises import BASE, Imported
from certexec.policy.syntax import parse_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.model import Policy, PolicyFile, Rule, UserDb

HERE = "native"
ELSEWHERE = {
    "/usr/libexec/ld.so": "the loader is /lib64/ld-linux-x86-64.so.2 or /lib/ld-musl-*",
    "/usr/libexec/ld.elf_so": "the loader is /lib64/ld-linux-x86-64.so.2 or /lib/ld-musl-*",
    "/var/run/ld.so.hints": "libraries are found by /etc/ld.so.cache",
    "/etc/malloc.conf": "Linux's C libraries have no such file",
    "/etc/spwd.db": "passwords are in /etc/shadow",
    "/etc/pwd.db": "users are in /etc/passwd",
    "/etc/master.passwd": "passwords are in /etc/shadow",
    "/etc/login.conf": "limits are in /etc/security",
    "/dev/srandom": "random numbers come from getrandom",
    "/dev/arandom": "random numbers come from getrandom",
    "/dev/crypto": "Linux has no such device",
    "/usr/share/nls": "messages are below /usr/share/locale",
    "/kern": "Linux has no such file system",
}
"""Paths of the other systems, and what is there instead."""
_LOSSES = ("never", "no-argument", "errno")
"""Findings of lint that tell of something that is otherwise here."""


def convert(text: str, *, name: str, users: UserDb, base: bool = True) -> Imported:
    """Return the policies of a file for this system. Raises PolicySyntaxError.

    ``base``: begin each with the preset that lets programs start here.
    """
    parsed = parse_policy(text, name=name, users=users, privileged=True)
    rules = {rule.line: rule for policy in parsed.policies for rule in policy.rules}
    notes: list[str] = []
    lines: list[str] = []
    for number, raw, line in lexer.source_lines(text, name):
        comment = lexer.split_comment(raw)[1].strip()
        rule = rules.get(number)
        if rule is not None:
            lines += _rule_lines(rule, comment, notes)
        elif line[:8].lower() == "policy: ":
            path = line[8:].partition(",")[0]
            shown = f"Policy: {path}, Emulation: {HERE}"
            lines.append(f"{shown} {comment}".rstrip())
        elif line and (parsed.extended or line[:8].lower() == "detached"):
            lines.append(line if not word_of(line) else f"\t{line}")
            if line[:10].lower() == "language: ":
                lines.pop()
        else:
            lines.append(comment)
    whole = "".join(line + "\n" for line in lines)
    if parsed.extended:
        whole = f"Language: {LANGUAGE}\n{whole}"
    result = parse_policy(whole, name=name, users=users, privileged=True)
    notes += _losses(result)
    for old, new in zip(parsed.policies, result.policies, strict=True):
        notes += _differences(old, new)
    if base:
        whole = _with_base(whole, parsed.extended)
    return Imported(whole, notes)


def _rule_lines(rule: Rule, comment: str, notes: list[str]) -> list[str]:
    behind_it = MULTIPLEXERS.get(rule.syscall)
    if behind_it is not None and rule.emulation == FOREIGN_EMULATION and rule.simple:
        # of the 32-bit table: it came before all rules for the calls behind it, as plain rules do
        comments = [comment] if comment else []
        calls = sorted(call for call in behind_it if call in NUMBERS)
        return [*comments, *(f"\t{HERE}-{call}: {rule.text}" for call in calls)]
    meaning = canonical(rule.emulation, rule.syscall)
    shown = f"{rule.emulation}-{rule.syscall}: {rule.text}"
    behind = f" {comment}" if comment else ""
    if meaning is None or (meaning not in NUMBERS and canonical(HERE, meaning) is None):
        notes.append(f"line {rule.line}: {shown}: Linux has no such call")
        return [f"# not carried over, Linux has no such call: {shown}{behind}"]
    found = []
    name = rule.syscall if canonical(HERE, rule.syscall) == meaning else meaning
    text = rule.text
    if not rule.simple and is_system_call(HERE, name) and text.startswith(("permit", "deny")) \
            and not is_system_call(rule.emulation, rule.syscall):  # fmt: skip
        text = f"true then {text}"  # it was a rule among others, and stays one
    if rule.errno_name and rule.errno_name not in SAME:
        notes.append(f"line {rule.line}: Linux has no error {rule.errno_name}")
    for path, instead in ELSEWHERE.items():
        if f'"{path}' in rule.text:
            notes.append(f"line {rule.line}: {path}: {instead}")
            found.append(f"# {instead}")
    return [*found, f"\t{HERE}-{name}: {text}{behind}"]


def _losses(result: PolicyFile) -> list[str]:
    return [
        f"line {finding.line} of the result: {finding.message}" for finding in lint(result)
        if finding.code in _LOSSES
    ]


def _differences(old: Policy, new: Policy) -> list[str]:
    told = {WIDENED: "permits more than the rules said", NARROWED: "permits less"}
    found: dict[str, list[str]] = {}
    for one in compare(old, new):
        for kind in one.kinds:
            calls = found.setdefault(kind, [])
            if kind in told and one.call not in calls:
                calls.append(one.call)
    return [
        f"{new.path}: {told[kind]}: {', '.join(calls)}" for kind, calls in found.items()
        if kind in told
    ]


def _with_base(text: str, extended: bool) -> str:
    lines = [] if extended else [f"Language: {LANGUAGE}"]
    for line in text.splitlines():
        lines.append(line)
        if line.lower().startswith("policy: "):
            lines += ["# what programs need here to start", f"\tinclude {BASE}"]
    return "".join(line + "\n" for line in lines)
