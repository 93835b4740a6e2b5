"""What strace(1) wrote (``strace -f -o FILE PROG``), read as calls with names and addresses.

Only what rules ask for is understood: names of files, flags, addresses, what was executed. With -y
names are surer: strace then shows what descriptors stand for. Names are put together as text; who
asks for them looks at the file system where that matters.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from typing import NamedTuple

from certexec.kernel.syscalls import NUMBERS
from certexec.observe.noted_call import UNKNOWN_PROGRAM, NotedCall
from certexec.observe.syscall_text import argument_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_LINE = re.compile(
    r"^(?:\[pid +(?P<p>\d+)\] |(?P<q>\d+) +)?(?:[0-9:.]+ )?(?P<call>[a-z_][a-z0-9_]*)\("
    r"(?P<args>.*)\) += (?P<result>-?\d+|0x[0-9a-f]+|\?)(?P<rest>.*)$"
)
_UNFINISHED = re.compile(
    r"^(?:\[pid +(?P<p>\d+)\] |(?P<q>\d+) +)?(?P<head>.*?) ?<unfinished \.\.\.>\)?$"
)
_RESUMED = re.compile(
    r"^(?:\[pid +(?P<p>\d+)\] |(?P<q>\d+) +)?(?:[0-9:.]+ )?"
    r"<\.\.\. [a-z0-9_]+ resumed>,? ?(?P<tail>.*)$"
)
_QUOTED = re.compile(r'^"((?:[^"\\]|\\.)*)"(\.\.\.)?$')
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|[0-7]{1,3}|.)", re.DOTALL)
_PLAIN = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}
_SOCKET_WORD = re.compile("(AF|SOCK)_[A-Z0-9_]+$")
_FLAGS = {
    **{name: value for name, value in vars(os).items() if name.startswith("O_")},
    "AT_SYMLINK_NOFOLLOW": 0x100, "AT_REMOVEDIR": 0x200, "AT_EMPTY_PATH": 0x1000,
    "CLONE_VM": 0x100, "CLONE_FS": 0x200, "CLONE_FILES": 0x400, "CLONE_SIGHAND": 0x800,
    "CLONE_VFORK": 0x4000, "CLONE_THREAD": 0x10000, "CLONE_SYSVSEM": 0x40000,
    "S_IFIFO": 0o010000, "NULL": 0,
    **{one.name: one.value for one in signal.Signals},
    **{name: int(value) for name, value in vars(socket).items() if _SOCKET_WORD.match(name)},
}  # fmt: skip
_PATHS = frozenset("path pathname filename oldname newname name from to new".split())
_FORKS = frozenset(("clone", "clone3", "fork", "vfork"))
_NOT_THERE = ("ENOENT", "ENOTDIR")
_FRESH = ("mkdir", "mkdirat")
_MESSAGES = ("sendmsg", "sendmmsg")
_OF_REGISTERS = {
    **dict.fromkeys(("socket", "socketpair"), (0, 1)),
    **dict.fromkeys(("setuid", "setgid", "setfsuid", "setfsgid"), (0,)),
    **dict.fromkeys(("setreuid", "setregid"), (0, 1)),
    **dict.fromkeys(("setresuid", "setresgid"), (0, 1, 2)),
    **dict.fromkeys(("tkill", "rt_sigqueueinfo", "pidfd_send_signal"), (1,)),
    **dict.fromkeys(("tgkill", "rt_tgsigqueueinfo"), (2,)),
}
"""Calls about which some registers say everything, and which these are."""


class _Task(NamedTuple):
    program: str
    cwd: str


_MODE = re.compile(r"\[ Process PID=(?P<pid>\d+) runs in (?P<bits>32|64) bit mode\. \]")


def read_strace(lines: Iterable[str], cwd: str) -> Iterator[NotedCall]:
    """Yield the calls of a log, in order; ``cwd``: where the first process began.

    What cannot be understood is left out: an exit, a signal, a line that was cut.
    """
    tasks: dict[str, _Task] = {}
    pending: dict[str, str] = {}
    foreign: set[str] = set()
    first = _Task(UNKNOWN_PROGRAM, cwd)
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\n")
        if found := _UNFINISHED.match(line):
            pending[found["p"] or found["q"] or ""] = found["head"]
            continue
        if found := _RESUMED.match(line):
            pid = found["p"] or found["q"] or ""
            prefix = f"{pid} " if pid else ""
            line = prefix + pending.pop(pid, "") + found["tail"]
        if found := _MODE.search(line):
            changed = {found["pid"], ""}  # lines of the only process have no number
            foreign = foreign | changed if found["bits"] == "32" else foreign - changed
            continue
        if (found := _LINE.match(line)) is None:
            continue
        pid = found["p"] or found["q"] or ""
        task = tasks.get(pid) or tasks.get("") or first
        call, result, rest = found["call"], found["result"], found["rest"]
        if call not in NUMBERS:
            continue
        args = _split(found["args"])
        seen = _seen(task, number, call, args, result, rest)
        if call == "kill" and args:
            seen = seen._replace(texts=_target(args[0], tasks))
        if pid in foreign:
            seen = seen._replace(foreign=True)
        if result.isdigit() and call in ("execve", "execveat") and seen.texts:
            program = seen.texts["filename"][0]
            if task.program:
                yield seen
            tasks[pid] = _Task(program, task.cwd)
            continue
        tasks.setdefault(pid, task)
        if call in _FORKS and result.isdigit() and result != "0":
            tasks[result] = task
            foreign |= {result} if pid in foreign else set()
        if call == "chdir" and result == "0" and seen.texts:
            tasks[pid] = _Task(task.program, seen.texts["filename"][0])
        if task.program:
            yield seen


def _seen(
    task: _Task, number: int, call: str, args: list[str], result: str, rest: str
) -> NotedCall:
    registers = [_number(text) for text in args[:6]] + [0] * (6 - len(args[:6]))
    texts: dict[str, list[str]] = {}
    names: list[str | None] = []
    base = task.cwd
    for text, label in zip(args, argument_names(call), strict=False):
        if label in ("dirfd", "dfd", "olddirfd", "newdirfd", "olddfd", "newdfd"):
            base = _directory(text, task.cwd)
        elif label in _PATHS and text != "NULL":
            names.append(None if (path := _path(text)) is None else _absolute(path, base))
        elif text.startswith("{sa_family="):
            texts.setdefault("sockaddr", []).append(_address(text))
        elif call in _MESSAGES and text.startswith(("{", "[{")):
            texts["sockaddr"] = [_address(name) for name in _addressees(text)]
    if call.startswith("symlink"):
        names = names[-1:]  # what it leads to is only a text
    known = [name for name in names if name is not None]
    if known and len(known) == len(names):  # one of two names alone would be a wider rule
        texts["filename"] = known
    missing = result == "-1" and any(word in rest for word in _NOT_THERE)
    said = _OF_REGISTERS.get(call, ())
    all_said = bool(said) and len(args) > max(said) and all(_is_number(args[at]) for at in said)
    return NotedCall(
        task.program, number, call, tuple(registers),  # type: ignore[arg-type]
        None if all_said else texts, missing, call in _FRESH and result == "0",
    )


def _target(text: str, tasks: Mapping[str, _Task]) -> dict[str, list[str]] | None:
    """Return whom a kill(2) was aimed at, where the log has what that one executed.

    None: the register says it.
    """
    pid = text.partition("<")[0]
    if pid in ("0", "-1"):
        return None
    return {"pidname": [tasks[pid].program]} if pid in tasks else {}


def _addressees(text: str) -> Iterator[str]:
    """Yield the address of each message, as strace shows it: NULL for none."""
    if text.startswith("["):
        for one in _split(text[1:-1]):
            for header in _split(one[1:-1])[:1]:
                yield from _addressees(header.removeprefix("msg_hdr="))
    else:
        yield from (part[9:] for part in _split(text[1:-1])[:1] if part.startswith("msg_name="))


def _split(text: str) -> list[str]:
    """Split arguments at the commas that are in no quotes and brackets."""
    parts, depth, quoted, start, index = [], 0, False, 0, 0
    while index < len(text):
        char = text[index]
        if quoted:
            if char == "\\":
                index += 1
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and not depth:
            parts.append(text[start:index].strip())
            start = index + 1
        index += 1
    return [*parts, text[start:].strip()] if text.strip() else []


def _number(text: str) -> int:
    """Return a register's value, as far as the text tells: numbers, and flags by name."""
    text = text.partition("=")[2] if text.startswith("flags=") else text
    value = 0
    for word in _words(text):
        try:
            value |= _word(word)
        except ValueError:
            continue
    if text == "AT_FDCWD":
        return -100 & 0xFFFFFFFFFFFFFFFF
    return value & 0xFFFFFFFFFFFFFFFF


def _is_number(text: str) -> bool:
    """Tell whether all of an argument is understood as a number."""
    try:
        return bool([_word(word) for word in _words(text)])
    except ValueError:
        return False


def _words(text: str) -> list[str]:
    return text.partition("<")[0].split("|")


def _word(word: str) -> int:
    """Raises ValueError for what is neither a number nor a known name."""
    return _FLAGS[word] if word in _FLAGS else int(word, 0)


def _path(text: str) -> str | None:
    found = _QUOTED.match(text.partition(" => ")[0])
    if found is None or found.group(2):
        return None
    data = _ESCAPE.sub(_unescape, os.fsencode(found.group(1)))
    return os.fsdecode(data)


def _unescape(found: re.Match[bytes]) -> bytes:
    text = found.group(1)
    if text.startswith(b"x") and len(text) == 3:
        return bytes([int(text[1:], 16)])
    if text[:1].isdigit():
        return bytes([int(text, 8) & 0xFF])
    return _PLAIN.get(text, text)


def _directory(text: str, cwd: str) -> str:
    inside = re.search(r"<(/[^>]*)>", text)
    return inside.group(1) if inside else cwd


def _absolute(path: str, base: str) -> str:
    return os.path.normpath(os.path.join(base, path)) if path else ""


_ADDRESSES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r'sun_path=@"([^"]*)"', lambda found: "@" + found.group(1)),
    (r'sun_path="([^"]*)"', lambda found: found.group(1)),
    (
        r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]*)"\)',
        lambda found: f"inet-[{found.group(2)}]:{found.group(1)}",
    ),
    (
        r'sin6_port=htons\((\d+)\).*?inet_pton\(AF_INET6, "([^"]*)"',
        lambda found: f"inet-[{found.group(2)}]:{found.group(1)}",
    ),
)


def _address(text: str) -> str:
    for pattern, render in _ADDRESSES:
        found = re.search(pattern, text)
        if found:
            return render(found)
    return "<unknown>"
