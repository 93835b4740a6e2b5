r"""A record as a syslog message of RFC 5424: systrace's line, and its members as structured data.

    <84>1 2026-11-21T22:38:15.006982Z web1 certexec 42 deny [certexec@32473 schema="1" event="call"
    verdict="deny" user="alice" ... arg.sockaddr="inet-[192.0.2.1\]:80"] deny user: alice, ...

Values are escaped like the line, and then as section 6.3.3 asks, so that no message holds a byte
that could end it or drive a terminal. 32473 is the number that RFC 5612 reserves for examples:
certexec has no number of its own.
"""

from __future__ import annotations

import os

from certexec.observe.event import Event, clip, escape, timestamp
from certexec.observe.syslog import FACILITY, IDENT, WARNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.observe.event import Record

ELEMENT = "certexec@32473"
MESSAGE_MAX = 8000
"""bytes of a message; collectors cut at 8 KiB (rsyslog's maxMessageSize)."""
VALUE_MAX = 1024
"""bytes of one value that is not an argument."""
ARGUMENTS_MAX = 3072
"""bytes of the values of all arguments."""
NAME_MAX = 32
"""characters of a parameter's name."""
_NIL = "-"
_HOST_MAX = 255


def message(record: Record) -> bytes:
    """Return one message, in one line and without its end."""
    head = (
        f"<{FACILITY << 3 | WARNING}>1 {timestamp(record.time)} {_host()} {IDENT} {os.getpid()} "
        f"{record.verdict if isinstance(record, Event) else record.kind} "
    )
    data = f"[{ELEMENT}{''.join(_parameters(record))}] "
    room = MESSAGE_MAX - len(head.encode()) - len(data.encode("utf-8", "backslashreplace"))
    return (head + data + record.line(room)).encode("utf-8", "backslashreplace")


def _host() -> str:
    name = "".join(one for one in os.uname().nodename if "!" <= one <= "~")
    return name[:_HOST_MAX] or _NIL


def _parameters(record: Record) -> list[str]:
    found = []
    for name, value in record.members():
        if isinstance(value, (str, int)):
            found.append(_parameter(name, str(value), VALUE_MAX))
            continue
        share = min(ARGUMENTS_MAX // max(len(value), 1), VALUE_MAX * 2)
        kind = "arg" if name == "arguments" else "count"
        for inner, content in value.items():
            found.append(_parameter(f"{kind}.{inner}", str(content), share))
    return found


def _parameter(name: str, value: str, limit: int) -> str:
    plain = name.replace("[", ".").replace("]", "").replace(" ", ".")
    plain = "".join(one for one in plain if one.isascii() and (one.isalnum() or one in "._"))
    # half of the room: each of its characters may need a backslash
    text = clip(escape(value[: limit + 1]), limit // 2)
    quoted = "".join("\\" + one if one in '"\\]' else one for one in text)
    return f' {plain[:NAME_MAX]}="{quoted}"'
