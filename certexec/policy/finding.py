"""What lint has to say: the words for its findings, and one finding."""

from __future__ import annotations

CODES = {
    "grouping": "and, or and not group to the right: the rule means something else than it seems",
    "inpath": "inpath is true for the directories on the way to its path, not for what is below",
    "bracket": "a bracket in an address begins a set of characters",
    "address": "a socket's address that never reads so, or that matches more than it seems",
    "wildcard": "only match knows wildcards: other operators take them literally",
    "backslash": "a backslash that the quoted string loses",
    "macro": "what looks like a macro is none, or is another one",
    "continuation": "a line does not go on in the next one, whatever its backslash",
    "relative": "a name that no call ever has, since names are absolute",
    "never": "a condition that nothing can fulfil",
    "no-argument": "the call does not have this argument",
    "shadowed": "another rule decides before this one in every case",
    "inactive": "the name means no system call here",
    "emulation": "the policy is for another system",
    "collision": "two programs whose policies systrace keeps in one file",
    "unsupported": "parsed, but not enforced by this version: signing refuses it",
    "pending": "the call cannot be judged yet: it will be denied and logged",
    "sends": "connections are judged by address, but calls that send to any are permitted",
    "processes": "what is done to any other process of the user is permitted plainly",
    "second-name": "of a call with two names the first is judged alone: the second may be any",
    "asked": "a call that a rule leaves to an agent, and a later one permits without one",
    "errno": "an error that Linux does not have",
    "flag": "a flag, or a line, that does nothing here",
    "detach": "the program that is executed is let go: nothing confines it",
    "write-exec": "a file that the program may write it may also execute",
    "wx-memory": "memory can be writable and executable at once, although rules judge that",
    "start": "started at home, the program reaches by $CWD what is hidden there",
    "unused": "no call in the log was decided by this rule",
    "empty": "the file holds no policy",
}
"""Every code, and what it says."""


class Finding:
    """One warning: line (from 1), code, message and what mends it."""

    __slots__ = ("code", "hint", "line", "message")

    def __init__(self, line: int, code: str, message: str, hint: str = "") -> None:
        self.line = line
        self.code = code
        self.message = message
        self.hint = hint
