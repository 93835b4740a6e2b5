"""``certexec policy test``: what a policy says about one call that is described by texts."""

from __future__ import annotations

import errno
import os
import pwd
import re

import click

from certexec.certificate.model import ASK
from certexec.cli import output
from certexec.cli.common import find_group, find_user, printable
from certexec.cli.policy_input import (
    EXIT_NOT_A_POLICY,
    SCHEMA,
    choose,
    read_file,
    refuse,
    shown_name,
    unmatched_option,
    writable,
)
from certexec.errors import CertexecError, CliError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.dotdot import has_dotdot
from certexec.policy.errnos import SAME
from certexec.policy.evaluate import subject_of
from certexec.policy.model import After, Policy, Rule, Subject
from certexec.policy.question import OFFSETS, Answer, ask
from certexec.policy.select import ask_about_unmatched
from certexec.policy.unsupported import why_unsupported
from certexec.run.resolve import NON_EXISTENT

EXIT = {"permit": 0, "deny": 1, "kill": 1, "ask": 3}
_GIVEN = re.compile(r"([A-Za-z_]+)(?:\[([0-9]+)\])?=(.*)", re.DOTALL)
_NOT_FOLLOWED = frozenset(
    (
        "lstat", "readlink", "mkdir", "unlink", "rmdir", "rename", "link", "symlink", "mknod",
        "mkfifo", "lchown", "lutimes", "lsetxattr", "lgetxattr", "llistxattr", "lremovexattr",
    )
)
"""Calls that are about the name itself where its last component is a symbolic link."""


@click.command(name="test", short_help="Say what a policy makes of one call.")
@click.argument("file")
@click.argument("syscall")
@click.argument("arguments", nargs=-1, metavar="[ARG=VALUE]...")
@click.option("--program", metavar="PATH", help="Whose policy, where the file holds several.")
@click.option("--emulation", metavar="NAME",
              help='Which part: "linux" is that of the 32-bit ABI.')
@click.option("--user", metavar="USER", help="Whose call it is; default: the caller's.")
@click.option("--group", metavar="GROUP", help="With which group; default: the user's own.")
@click.option("--cwd", metavar="DIR", help="What $CWD is; default: the working directory.")
@click.option("--resolve", "resolving", is_flag=True,
              help="Turn file names into real paths first, as on this machine now.")
@click.option("--after", "lines", type=int, multiple=True, metavar="LINE",
              help='As if the "after" in this line of FILE had come true; may be repeated.')
@unmatched_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    file: str, syscall: str, arguments: tuple[str, ...], program: str | None,
    emulation: str | None, user: str | None, group: str | None, cwd: str | None, resolving: bool,
    lines: tuple[int, ...], unmatched: str, as_json: bool,
) -> int:
    """Say what the policy in FILE makes of one call, and which rule says so.

    SYSCALL is a system call, a classic name, or fsread or fswrite; ARG=VALUE is an argument as
    rules see it, filename[1]=VALUE the second of its name. Texts are compared, nothing is
    executed. Exit codes: 0 permit, 1 deny, 3 ask, 2 no answer.
    """
    try:
        policy = choose(read_file(file), program, emulation)
        if policy.detached:
            raise CliError("policy-unsupported", "a detached policy confines nothing")
        ask_about_unmatched([policy], unmatched == ASK)
        subject = subject_named(user, group, cwd)
        values = _values(arguments)
        written = any(has_dotdot(name) for name in values.get("filename", ()))
        if resolving and not (policy.no_dotdot and written):
            _resolve(values, subject.cwd, _follows(policy, syscall))
        answer = ask(policy, syscall, values, subject, _after(policy, lines))
    except CertexecError as error:
        return refuse(error, as_json)
    name = shown_name(file)
    if as_json:
        output.print_json(writable(_as_json(name, policy, syscall, values, subject, answer)))
    else:
        _show(name, policy, answer)
    return EXIT.get(answer.action, EXIT_NOT_A_POLICY)


def subject_named(user: str | None, group: str | None, cwd: str | None) -> Subject:
    """Return who is meant: the caller, and here, where nothing is said.

    Raises CliError: "usage" for unknown names, "unreadable" without a working directory.
    """
    try:
        directory = os.path.abspath(cwd) if cwd is not None else os.getcwd()
    except OSError as error:
        raise CliError("unreadable", f"no working directory: {error.strerror}") from None
    users = SystemUsers()
    uid, gid = os.getuid(), os.getgid()
    if user is not None:
        uid = find_user(user)[1]
        try:
            gid = pwd.getpwuid(uid).pw_gid
        except KeyError:
            gid = uid  # nobody's: some group has to be assumed
    if group is not None:
        gid = find_group(group)[1]
    return subject_of(uid, gid, home=users.home(uid), user=users.name(uid), cwd=directory)


def _after(policy: Policy, lines: tuple[int, ...]) -> list[After]:
    """Return the "after" of these lines. Raises CliError("usage")."""
    known = {one.rule.line: one for one in policy.afters}
    missing = next((line for line in lines if line not in known), None)
    if missing is not None:
        shown = ", ".join(map(str, known)) or "none"
        raise CliError("usage", f'no "after" stands in line {missing} (lines that do: {shown})')
    return [known[line] for line in lines]


def _values(arguments: tuple[str, ...]) -> dict[str, list[str]]:
    """Read ARG=VALUE and ARG[N]=VALUE. Raises CliError("usage")."""
    given: dict[str, dict[int, str]] = {}
    for argument in arguments:
        found = _GIVEN.fullmatch(argument)
        if found is None:
            raise CliError("usage", f'"{argument}" is not ARG=VALUE', "write filename=/etc/passwd")
        name, offset = found[1].lower(), int(found[2] or 0)
        if offset >= OFFSETS:
            raise CliError("usage", f"offset {offset} is not from 0 to {OFFSETS - 1}")
        if offset in given.setdefault(name, {}):
            second = f"the second of two is {name}[{offset + 1}]=..."
            raise CliError("usage", f'"{name}" is given twice', second)
        given[name][offset] = found[3]
    for name, texts in given.items():
        missing = next((offset for offset in range(len(texts)) if offset not in texts), None)
        if missing is not None:
            shown = f"{name}[{missing}]" if missing else name
            raise CliError("usage", f'{name}[{max(texts)}] is given without "{shown}"')
    return {name: [texts[offset] for offset in sorted(texts)] for name, texts in given.items()}


# -- names as they are on this machine -------------------------------------------------------------


def _follows(policy: Policy, syscall: str) -> bool:
    """Tell whether the call follows a symbolic link at the end of its name."""
    name, _, use = syscall.removeprefix(policy.emulation + "-").partition(":")
    return use != "nofollow" and not {name, re.sub("at2?$", "", name)} & _NOT_FOLLOWED


def _resolve(values: dict[str, list[str]], cwd: str, follow: bool) -> None:
    if "filename" not in values:
        raise CliError("usage", '"--resolve" does nothing without "filename=..."')
    values["filename"] = [_real_path(name, cwd, follow) for name in values["filename"]]


def _real_path(name: str, cwd: str, follow: bool) -> str:
    """Return the text for a name as a confined program in ``cwd`` would give it.

    As systrace's: the real path, of which only the last component may be missing; a name that
    leads nowhere is told to; an empty one stays empty.
    """
    if not name:
        return ""
    directory, last = os.path.split(os.path.join(cwd, name).rstrip("/"))
    try:
        if last in ("", ".", ".."):
            found = os.path.realpath(os.path.join(directory, last), strict=True)
        elif follow:
            found = os.path.realpath(os.path.join(directory, last))
            os.stat(os.path.dirname(found))
        else:
            found = os.path.join(os.path.realpath(directory, strict=True), last)
    except OSError:
        return NON_EXISTENT + name
    own = f"/proc/{os.getpid()}"
    return "/proc/self" + found[len(own) :] if (found + "/").startswith(own + "/") else found


# -- the answer ------------------------------------------------------------------------------------


def _verdict(answer: Answer) -> str:
    """Write a verdict as rules do: permit, deny, deny[enoent] or ask."""
    error = _error(answer)
    return answer.action if error in ("", "eperm") else f"{answer.action}[{error}]"


def _error(answer: Answer) -> str:
    """Name the error of a denial as its rule does, as far as Linux has that name."""
    if not answer.errno:
        return ""
    named = answer.rule.errno_name if answer.rule is not None else ""
    return named if named in SAME else errno.errorcode[answer.errno].lower()


def _show(name: str, policy: Policy, answer: Answer) -> None:
    rule = answer.rule
    output.done(_verdict(answer))
    if rule is None:
        what = "what none permits is denied"
        if answer.action == ASK:
            what = "an agent is asked, without an answer it is denied"
        output.done(printable(f'{name}: no rule for "{policy.path}" applies: {what}'))
    else:
        output.done(printable(f"{name}({rule.line}): {rule.told}"))
    if rule is not None and (why := _refused(policy, rule)):
        output.warn(printable(f"{name}({rule.line}): signing refuses this rule: {why}"))


def _refused(policy: Policy, rule: Rule) -> str:
    """Return why signing refuses the rule, or ""."""
    if rule.syscall == "*":  # a line of the file that is no rule
        return ""
    return why_unsupported(policy, rule, inherit=True, detach=True)


def _as_json(
    name: str, policy: Policy, syscall: str, values: dict[str, list[str]], subject: Subject,
    answer: Answer,
) -> dict[str, object]:
    rule = answer.rule
    return {
        "schema": SCHEMA,
        "ok": True,
        "file": name,
        "program": policy.path,
        "emulation": policy.emulation,
        "syscall": syscall,
        "call": answer.use.call or None,
        "use": answer.use.variant or None,
        "arguments": values,
        "subject": {
            "user": subject.user, "uid": subject.uid, "gid": subject.gid, "home": subject.home,
            "cwd": subject.cwd,
        },
        "verdict": answer.action,
        "errno": answer.errno,
        "error": _error(answer) or None,
        "log": answer.log,
        "rule": None if rule is None else {
            "line": rule.line, "name": f"{rule.emulation}-{rule.syscall}", "text": rule.text,
            "unsupported": _refused(policy, rule) or None,
        },
    }
