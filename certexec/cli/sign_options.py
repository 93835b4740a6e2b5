"""Reading the values of ``certexec sign``'s options; every function raises CliError("usage")."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from certexec.certificate.conditions import ALL_WEEKDAYS, Entry, Window
from certexec.certificate.fields import MAX_UINT
from certexec.certificate.identity import Elevation, Pair
from certexec.certificate.names import CAPABILITIES, RLIMITS
from certexec.cli.common import find_group, find_user
from certexec.errors import CliError

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
INFINITY = ("infinity", "unlimited")
SUFFIXES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
"""Bytes, as in bash's ulimit and systemd's limits."""


def parse_entry(text: str) -> Entry:
    """Read one line of the invocation list, as ``ordered`` wrote it: OPTION and its value."""
    option, _, value = text.partition(" ")
    if option == "--allow-everyone":
        return True, "everyone", "", 0
    allow = option.startswith("--allow")
    if option.endswith("-user"):
        return allow, "user", *find_user(value)
    return allow, "group", *find_group(value)


def _rlimit_value(text: str, name: str) -> int:
    if text in INFINITY:
        return MAX_UINT
    read = re.fullmatch(r"([0-9]{1,20})([kKmMgG]?)", text)
    value = int(read[1]) * SUFFIXES[read[2].lower()] if read else MAX_UINT
    if read is None or value >= MAX_UINT:
        raise CliError("usage", f'"{text}" is not a value for the limit {name}')
    return value


def parse_rlimit(text: str) -> tuple[int, tuple[int, int]]:
    """Read ``NAME=SOFT[:HARD]``; without HARD it is SOFT."""
    name, equals, values = text.partition("=")
    number = RLIMITS.get(name.lower().removeprefix("rlimit_"))
    if number is None or not equals:
        raise CliError(
            "usage", f'"{text}" is not a resource limit',
            f"write NAME=SOFT[:HARD], NAME is one of {', '.join(RLIMITS)}",
        )  # fmt: skip
    soft_text, colon, hard_text = values.partition(":")
    soft = _rlimit_value(soft_text, name)
    hard = _rlimit_value(hard_text, name) if colon else soft
    if soft > hard:
        raise CliError("usage", f"the soft limit {name} is above the hard one")
    return number, (soft, hard)


def parse_umask(text: str) -> int:
    """Read an octal umask."""
    if not re.fullmatch(r"0?[0-7]{1,3}", text):
        raise CliError("usage", f'"{text}" is not a umask', "write it in octal, like 022")
    return int(text, 8)


def parse_capability(text: str) -> Pair:
    """Read the name of a capability, with or without ``cap_``."""
    name = text.lower().removeprefix("cap_")
    if name not in CAPABILITIES:
        raise CliError("usage", f'there is no capability "{text}"', "see capabilities(7)")
    return name, CAPABILITIES[name]


def parse_elevation(text: str) -> Elevation:
    """Read ``USER``, ``USER:GROUP`` or ``:GROUP``."""
    user, colon, group = text.partition(":")
    if not user and not group or colon and not group:
        raise CliError(
            "usage", f'"{text}" does not say as whom',
            'write USER, USER:GROUP or :GROUP, as behind "as" in the policy',
        )  # fmt: skip
    return find_user(user) if user else None, find_group(group) if group else None


def parse_assignment(text: str) -> tuple[str, str]:
    """Read ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CliError("usage", f'"{text}" is not NAME=VALUE')
    return name, value


def parse_arguments(text: str) -> list[str]:
    """Split fixed arguments as a shell would."""
    try:
        return shlex.split(text)
    except ValueError as error:
        message = str(error).lower()
        raise CliError("usage", f"the fixed arguments cannot be split: {message}") from None


def _parse_days(text: str) -> int:
    if text in ("daily", "*"):
        return ALL_WEEKDAYS
    mask = 0
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if first not in WEEKDAYS or last not in WEEKDAYS:
            return 0
        day, end = WEEKDAYS.index(first), WEEKDAYS.index(last)
        while True:
            mask |= 1 << day
            if day == end:
                break
            day = (day + 1) % len(WEEKDAYS)
    return mask


def parse_window(text: str) -> list[Window]:
    """Read ``DAYS HH:MM-HH:MM`` (UTC); a window over midnight becomes two.

    DAYS is ``daily``, or days and ranges with commas, such as ``mon-fri,sun``.
    """
    read = re.fullmatch(r"(\S+) +([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", text.lower())
    days = _parse_days(read[1]) if read else 0
    if read is None or not days:
        raise CliError(
            "usage", f'"{text}" is not a time window',
            'write it as "mon-fri 08:00-18:00" or "daily 00:00-24:00" (UTC)',
        )  # fmt: skip
    begin, end = int(read[2]) * 60 + int(read[3]), int(read[4]) * 60 + int(read[5])
    midnight = 24 * 60
    if int(read[3]) > 59 or int(read[5]) > 59 or begin >= midnight or end > midnight:
        raise CliError("usage", f'"{text}" holds a time that no clock shows')
    if begin == end:
        raise CliError("usage", f'"{text}" is an empty window')
    if begin < end:
        return [(days, begin, end)]
    following = (days << 1 | days >> 6) & ALL_WEEKDAYS
    return [(days, begin, midnight), *([(following, 0, end)] if end else [])]


def ordered(arguments: Sequence[str]) -> list[str]:
    """Rewrite the options of the invocation list so that their order survives the parser.

    ``--allow-user alice`` becomes ``--entry "--allow-user alice"``, all of one option, which
    keeps its values in order. Nothing after ``--`` is touched.
    """
    with_value = ("--allow-user", "--allow-group", "--deny-user", "--deny-group")
    rewritten: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if word == "--":
            return [*rewritten, word, *rest]
        if word == "--allow-everyone":
            rewritten += ["--entry", word]
        elif option in with_value and equals:
            rewritten += ["--entry", f"{option} {value}"]
        elif word in with_value and rest:
            rewritten += ["--entry", f"{word} {rest.pop(0)}"]
        else:
            rewritten.append(word)
    return rewritten
