"""Events back from what was written: every form that certexec has, and what syslog puts around it.

A reader of logs looks at many machines and at lines that others wrote, too. What is no event of
certexec's gives None; what is one in part gives that part. Nothing here is trusted: every text came
from a program at some time.
"""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LINE_MAX = 1 << 20
"""bytes of a line that is looked at."""
DEPTH_MAX = 8
"""objects inside objects of JSON, of which an event has three: each takes stack when it is shown"""
KINDS = ("call", "note", "overflow", "lost")
VERDICTS = ("deny", "permit", "kill", "ask")
NUMBERS = ("schema", "count", "uid", "pid", "ppid", "filters", "number", "errno")
"""Members that are numbers."""
_ESCAPE = re.compile(r'\\(["\\nr]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})')
_LETTERS = {"n": "\n", "r": "\r", '"': '"', "\\": "\\"}
_FOLDED = re.compile(r"folded ([0-9]+) more in ([0-9.]+) s: ")
_OVERFLOW = re.compile(r"folded ([0-9]+) others in [0-9.]+ s: (.*)")
_LOST = re.compile(r"lost ([0-9]+) events: (.*)")
_PID = re.compile(r"(-?[0-9]+)\([0-9]+\)\[(-?[0-9]+)\]")
_SYSCALL = re.compile(r"([^-]*)-(.*)\((-?[0-9]+)\)")
_SYSLOG = re.compile(
    r"(?:<[0-9]{1,3}>)?"
    r"([A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9-]{5}T[0-9:.]+(?:Z|[+-][0-9:]{5}))"
    r" (?:(\S+) )?certexec(?:\[[0-9]+\])?: (.*)",
    re.DOTALL,
)
_RFC5424 = re.compile(r"(?:[0-9]+ )?<[0-9]{1,3}>1 (\S+) (\S+) certexec \S+ \S+ (.*)", re.DOTALL)
_PARAMETER = re.compile(r' ([^= "\]]+)="((?:[^"\\\]]|\\.)*)"', re.DOTALL)
_AUDIT = re.compile(r"type=USER_AVC msg=audit\(([0-9.]+):[0-9]+\): .*?msg='(op=.*)'", re.DOTALL)
_AUDIT_FIELD = re.compile(r'([a-z_0-9]+)=("[^"]*"|\S*)')
_AUDIT_NAMES = {
    "op": "verdict", "reason": "reason", "acct": "user", "exe": "program", "opid": "pid",
    "cert": "certificate", "policy": "policy", "syscall": "number", "as": "as", "count": "count",
    "args": "args", "text": "text",
}
_AUDIT_QUOTED = ("acct", "exe", "cert", "policy", "as", "text")
_NODE = re.compile(r"node=(\S+) ")


class Seen:
    """An event as a log holds it.

    Attributes:
        members: as in docs/events.md, as far as they are known; ``event`` always is.
        host: the machine that it is from, "" where the log does not say.
        time: seconds since 1970, 0.0 where it is not known.
    """

    __slots__ = ("host", "members", "time")

    def __init__(self, members: dict[str, object], host: str = "") -> None:
        self.members = members
        self.host = host
        self.time = seconds_of(self.text("time"))

    def text(self, name: str) -> str:
        """Return a member as text, "" where it is missing."""
        value = self.members.get(name, "")
        return value if isinstance(value, str) else str(value)

    @property
    def count(self) -> int:
        """For how many events it stands."""
        count = self.members.get("count", 1)
        return count if isinstance(count, int) and count > 0 else 1

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments of a call."""
        value = self.members.get("arguments")
        return {str(key): str(one) for key, one in value.items()} if isinstance(value, dict) else {}


def read_line(line: str) -> Seen | None:
    """Return the event in a line of a log, None where there is none."""
    line = line[:LINE_MAX].rstrip("\n")
    if not line:
        return None
    if line.startswith("{"):
        return _json(line)
    found = _RFC5424.fullmatch(line)
    if found is not None:
        return _rfc5424(*found.groups())
    found = _SYSLOG.fullmatch(line)
    if found is not None:
        return _text(found[3], _stamp(found[1]), found[2] or "")
    if "type=USER_AVC" in line:
        return _audit(line)
    return _text(line, "", "")


def seconds_of(text: str) -> float:
    """Read a time of RFC 3339, 0.0 for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def unescape(text: str) -> str:
    """Undo certexec.observe.event.escape, as far as it can be undone."""
    return _ESCAPE.sub(_unescaped, text) if "\\" in text else text


def _unescaped(found: re.Match[str]) -> str:
    word = found[1]
    if word in _LETTERS:
        return _LETTERS[word]
    number = int(word[1:], 16)
    if word[0] == "x" and number >= 0x80:
        return chr(0xDC00 + number)  # a byte that was no character
    return chr(number) if number < 0x110000 else found[0]


# ---- JSON ----------------------------------------------------------------------------------------


def _json(line: str) -> Seen | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not _is_flat(value, DEPTH_MAX):
        return None
    if any(name.startswith("CERTEXEC_") for name in value):
        return _journal(value)
    if value.get("event") not in KINDS:
        return None
    host = value.pop("host", "")
    return Seen(value, host if isinstance(host, str) else "")


def _is_flat(value: object, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_flat(one, levels - 1) for one in inner)


def _journal(fields: Mapping[str, object]) -> Seen | None:
    """Read what ``journalctl -o json`` prints."""
    members: dict[str, object] = {}
    inner: dict[str, dict[str, object]] = {"arguments": {}, "calls": {}}
    for field, value in fields.items():
        if not field.startswith("CERTEXEC_"):
            continue
        if isinstance(value, list):  # several of one name, or bytes that are no text
            value = value[0] if value and isinstance(value[0], str) else ""
        name = field.removeprefix("CERTEXEC_").lower()
        text = unescape(str(value))
        if name.startswith("arg_"):
            inner["arguments"][_with_place(name[4:], "_")] = text
        elif name.startswith("calls_"):
            inner["calls"][name[6:].replace("_", " ", 1)] = _number(text)
        else:
            members[name] = _number(text) if name in NUMBERS else text
    return _seen(members, inner, str(fields.get("_HOSTNAME", "")))


def _seen(
    members: dict[str, object], inner: Mapping[str, dict[str, object]], host: str
) -> Seen | None:
    members.update((name, value) for name, value in inner.items() if value)
    return Seen(members, host) if members.get("event") in KINDS else None


def _with_place(name: str, mark: str) -> str:
    """Return the name of an argument: "filename_1" is the second "filename"."""
    head, found, place = name.rpartition(mark)
    return f"{head}[{place}]" if found and place.isdigit() else name


def _number(text: str) -> int:
    return int(text) if re.fullmatch("-?[0-9]{1,18}", text) else 0


# ---- RFC 5424 ------------------------------------------------------------------------------------


def _rfc5424(stamp: str, host: str, rest: str) -> Seen | None:
    host = "" if host == "-" else host
    at = rest.find("[certexec@")
    if at < 0:
        text = rest.removeprefix("- ")
        return _text(text, stamp, host)
    members: dict[str, object] = {}
    inner: dict[str, dict[str, object]] = {"arguments": {}, "calls": {}}
    place = rest.find(" ", at)
    while (found := _PARAMETER.match(rest, place)) is not None:
        place = found.end()
        name, value = found[1], unescape(re.sub(r'\\(["\\\]])', r"\1", found[2]))
        if name.startswith("arg."):
            inner["arguments"][_with_place(name[4:], ".")] = value
        elif name.startswith("count."):
            inner["calls"][name[6:].replace(".", " ", 1)] = _number(value)
        else:
            members[name] = _number(value) if name in NUMBERS else value
    return _seen(members, inner, host)


# ---- systrace's line -----------------------------------------------------------------------------


def _stamp(text: str) -> str:
    """Return a time of syslog's as RFC 3339; it has no year, and is in local time."""
    if text[0].isdigit():
        return text
    now = time.localtime()
    for year in (now.tm_year, now.tm_year - 1):
        try:
            moment = time.strptime(f"{year} {text}", "%Y %b %d %H:%M:%S")
        except ValueError:
            continue
        seconds = time.mktime(moment)
        if seconds < time.time() + 86400:  # December is read in January
            return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    return ""


def _text(text: str, stamp: str, host: str) -> Seen | None:
    members: dict[str, object] = {"time": stamp} if stamp else {}
    text = text.removeprefix("certexec: ")
    if found := _OVERFLOW.fullmatch(text):
        calls = {
            label: _number(number) for label, _, number in
            (each.rpartition(" ") for each in found[2].split(", "))
        }
        return Seen({**members, "event": "overflow", "count": _number(found[1]), "calls": calls},
                    host)  # fmt: skip
    if found := _LOST.fullmatch(text):
        return Seen(
            {**members, "event": "lost", "count": _number(found[1]), "reason": found[2]}, host
        )
    if found := _FOLDED.match(text):
        members["count"] = _number(found[1])
        text = text[found.end() :]
    verdict, _, rest = text.partition(" ")
    if verdict not in VERDICTS or not rest.startswith("user: "):
        if stamp and text:
            return Seen({**members, "event": "note", "text": unescape(text)}, host)
        return None
    return _call(members, verdict, rest, host)


def _call(members: dict[str, object], verdict: str, rest: str, host: str) -> Seen | None:
    names = {"user": "user", "prog": "program", "policy": "policy", "as": "as", "args": "args"}
    arguments: dict[str, object] = {}
    known = False  # whether the call was named: what follows are its arguments
    for part in rest.split(", "):
        name, colon, value = part.partition(": ")
        if not colon and part.endswith(":"):
            name, value = part[:-1], ""
        if name == "pid" and not known and (found := _PID.fullmatch(value)):
            members["pid"], members["ppid"] = int(found[1]), int(found[2])
        elif name == "filters" and not known:
            members["filters"] = _number(value)
        elif name == "syscall" and not known and (found := _SYSCALL.fullmatch(value)):
            members |= {
                "emulation": found[1], "syscall": found[2], "number": _number(found[3])
            }
            known = True
        elif name in names and (not known or name in ("as", "args")):
            members[names[name]] = unescape(value)
        elif known:
            arguments[name] = unescape(value)
    if not known:
        return None
    if arguments:
        members["arguments"] = arguments
    return Seen({"event": "call", "verdict": verdict, **members}, host)


# ---- the audit log -------------------------------------------------------------------------------


def _audit(line: str) -> Seen | None:
    found = _AUDIT.search(line)
    if found is None:
        return None
    moment = datetime.fromtimestamp(float(found[1]), UTC).isoformat().replace("+00:00", "Z")
    members: dict[str, object] = {"event": "call", "time": moment}
    arguments: dict[str, object] = {}
    for name, value in _AUDIT_FIELD.findall(found[2]):
        if name == "call":
            members["emulation"], _, members["syscall"] = value.partition("-")
        elif name == "exit":
            members["errno"] = -_number(value)
        elif name.startswith("arg_"):
            arguments[_with_place(name[4:], "_")] = _audit_value(value)
        elif name in _AUDIT_NAMES:
            shown = _audit_value(value) if name in _AUDIT_QUOTED else value
            known = _AUDIT_NAMES[name]
            members[known] = _number(shown) if known in NUMBERS else shown
    if members.get("verdict") not in VERDICTS:
        kind = members.pop("verdict", "")
        members["event"] = kind if kind in KINDS else "note"
    if arguments:
        members["arguments"] = arguments
    node = _NODE.match(line)
    return Seen(members, node[1] if node else "")


def _audit_value(value: str) -> str:
    if value.startswith('"'):
        return value[1:-1]
    try:
        return bytes.fromhex(value).decode("utf-8", "surrogateescape")
    except ValueError:
        return value
