"""What is odd about one comparison: texts that no argument ever has, and wildcards in vain.

The texts of arguments are fixed by their translators (certexec.policy(5)), so a comparison with one
that cannot come is dead, however sound it looks. Each finding is (code, message, hint).
"""

from __future__ import annotations

import ipaddress
import re

from certexec.policy import networks
from certexec.policy.model import MACROS, Subject, Symbol
from certexec.policy.operators import expand
from certexec.policy.translators import TRANSLATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Odd = tuple[str, str, str]

NON_EXISTENT = "/<non-existent filename>"
_LITERAL = ("eq", "neq")
_PATTERNS = ("match", *_LITERAL)
_OPPOSITES = {"neq": "eq", "nsub": "sub"}
_UNNAMED = tuple(
    f"{kind}:"
    for kind in "pipe socket anon_inode mnt net pid user uts ipc cgroup time".split()
)
"""How the real path of what has no name begins: the last eight are namespaces."""
_MARK = "\x01"
"""Stands for a macro that was replaced."""
_FORMS = {
    "oflags": "ro, wo or rw, then a, c and t",
    "mode": "octal digits without a leading zero",
    "uid": "a decimal number",
    "gid": "a decimal number",
    "fd": "a decimal number",
    "sockdom": "AF_UNIX, AF_INET, AF_INET6, AF_IPX or AF_UNKNOWN(NUMBER)",
    "socktype": (
        "SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET or SOCK_UNKNOWN(NUMBER)"
    ),
    "prot": "PROT_NONE, or PROT_READ, PROT_WRITE and PROT_EXEC in this order with | between them",
    "signame": 'a name such as SIGHUP, or "<unknown>: NUMBER"',
    "cmd": 'a name such as F_SETFL, or "<unknown>: NUMBER"',
}
"""How the texts of an argument read."""
_ADDRESS = re.compile(r"inet-\[([^\]]*)\]:(0|[1-9][0-9]{0,4})", re.IGNORECASE)
_OTHER_ADDRESS = re.compile("(sun|unix|local|inet6)[-:]", re.IGNORECASE)
_MACRO = re.compile(r"\$(\{?)([A-Za-z_][A-Za-z0-9_]*)?")


def odd_comparison(symbol: Symbol) -> Iterator[Odd]:
    """Yield what is odd about a comparison, whatever the call."""
    if symbol.operator == "true":
        return
    argument = symbol.argument.lower()
    shown = f'{symbol.argument} {symbol.operator} "{symbol.data}"'
    if symbol.operator == "inpath":
        yield (
            "inpath",
            f'{shown} is true for "/" and the directories on the way to "{symbol.data}"',
            'for what lies below a directory use "match"',
        )
    yield from _wildcards(symbol, shown)
    yield from _macros(symbol, shown)
    if argument == "sockaddr" or symbol.data.startswith("inet-"):
        yield from _address(symbol, shown)
    elif argument == "filename":
        yield from _name(symbol, shown)
    elif argument in _FORMS and not _can_hold(argument, symbol):
        yield "never", f"{shown}: {argument} never reads so", f"it is {_FORMS[argument]}"


def _can_hold(argument: str, symbol: Symbol) -> bool:
    """Tell whether any register satisfies the comparison, or its opposite."""
    if symbol.operator in _LITERAL and set(symbol.data) & set("*?"):
        return True  # told as a wildcard
    plain = _OPPOSITES.get(symbol.operator, symbol.operator)
    asked = Symbol(symbol.argument, symbol.offset, plain, symbol.data)
    return any(
        truths[0] is not False
        for layer in TRANSLATORS[argument].layers([asked]) for _, _, truths in layer
    )


def _wildcards(symbol: Symbol, shown: str) -> Iterator[Odd]:
    if symbol.operator not in ("match", "re", "in") and set(symbol.data) & set("*?"):
        yield "wildcard", f"{shown} takes the wildcard literally", 'for a pattern use "match"'


def _macros(symbol: Symbol, shown: str) -> Iterator[Odd]:
    known = ", ".join(MACROS)
    for found in _MACRO.finditer(symbol.data):
        brace, word = found[1], found[2] or ""
        macro = next((one for one in MACROS if ("$" + word).startswith(one)), "")
        rest = ("$" + word)[len(macro) :]
        if brace and word:
            yield "macro", f"{shown}: ${{{word}}} stands for itself", f"macros are {known}"
        elif macro and rest[:1] == "_":
            yield "macro", f"{shown}: this is {macro} and then {rest}, not another macro", ""
        elif macro and rest:
            yield "macro", f"{shown}: {macro} is not replaced before a letter or digit", ""
        elif word and not macro and symbol.operator != "re":
            yield "macro", f"{shown}: ${word} stands for itself", f"macros are {known}"
    expanded = expand(symbol.data, Subject(0, 0, _MARK, _MARK, _MARK))
    for macro in MACROS:
        if re.search(re.escape(macro) + r"(?![A-Za-z0-9])", expanded):
            yield "macro", f'{shown}: a "$" shortly before it keeps {macro} from being replaced', ""


# ---- addresses -----------------------------------------------------------------------------------


def _address(symbol: Symbol, shown: str) -> Iterator[Odd]:
    operator, data = symbol.operator, symbol.data
    if operator == "in":
        yield from _network(data, shown)
    elif operator in ("match", "re") and _address_in_set(data, operator):
        yield (
            "bracket",
            f"{shown}: the brackets are a set of characters, not part of an address",
            'use "eq", or write "\\\\[" and "\\\\]"',
        )
    elif operator in _PATTERNS and _OTHER_ADDRESS.match(data):
        yield (
            "address", f"{shown}: no address reads so",
            'IPv4 and IPv6 are "inet-[ADDRESS]:PORT", a local socket is its bare path',
        )
    elif operator == "match":
        if data.startswith("inet-") and data[5:6] not in ("*", "?", "\\", "$"):
            yield "address", f"{shown}: no address reads so", 'it is "inet-[ADDRESS]:PORT"'
        else:
            before, _, port = data.rpartition(":")
            if before.endswith("*") and "*" in port[1:] and not port.startswith("*"):
                yield (
                    "address",
                    f'{shown}: the ":" may be one inside an IPv6 address',
                    f'write "{before}]:{port}"',
                )
    elif operator in _LITERAL and data[:5].lower() == "inet-" and not set(data) & set("*?$"):
        yield from _literal_address(data, shown)


def _network(data: str, shown: str) -> Iterator[Odd]:
    better = networks.better(data)
    if better:
        yield "address", f"{shown} is the same as {better}", f'write "{better}"'


def _address_in_set(pattern: str, operator: str) -> bool:
    """Tell whether a set of characters stands where the brackets of an address would."""
    position = 0
    while position < len(pattern):
        if pattern[position] == "\\":
            position += 2
            continue
        if pattern[position] == "[":
            end = pattern.find("]", position + 2)
            inside = pattern[position + 1 : end] if end > 0 else ""
            if pattern[:position].endswith("inet-"):
                return True
            if operator == "match" and set(inside) & set(":.*"):
                return True
            position = max(end, position)
        position += 1
    return False


def _literal_address(data: str, shown: str) -> Iterator[Odd]:
    found = _ADDRESS.fullmatch(data)
    if found is None or int(found[2]) > 65535:
        yield "address", f"{shown}: no address reads so", 'it is "inet-[ADDRESS]:PORT", in numbers'
        return
    try:
        address = ipaddress.ip_address(found[1])
    except ValueError:
        yield "address", f"{shown}: addresses are numbers, names are not looked up", ""
        return
    mapped = getattr(address, "ipv4_mapped", None)
    canonical = str(mapped or address)
    if canonical != found[1].lower():
        hint = f'write "inet-[{canonical}]:{found[2]}"'
        yield "address", f"{shown}: this address reads {canonical}", hint


# ---- file names ----------------------------------------------------------------------------------


def _name(symbol: Symbol, shown: str) -> Iterator[Odd]:
    operator, data = symbol.operator, symbol.data
    if operator not in _PATTERNS or not data or data.startswith((NON_EXISTENT, *_UNNAMED)):
        return
    if not _absolute(operator, data):
        if data.startswith("$") and not data.startswith("$USER"):
            return  # told as a macro that is none
        hint = ""
        if data.startswith(NON_EXISTENT[1:]):
            hint = f'since 2003 it is "/{data}"'
        elif operator == "match" and data.startswith(("*", "?", "[")):
            hint = 'no wildcard stands for a "/": write "/*..."'
        elif data.startswith("~"):
            hint = 'write "$HOME"'
        yield "relative", f"{shown}: file names are absolute here", hint
        return
    parts = data.split("/")
    odd = next((part for part in ("", ".", "..") if part in parts[1:]), None)
    if data == "/" or odd is None:
        return
    if not parts[-1] and odd == "" and "" not in parts[1:-1]:
        below = ', which matches what is below it, too' if operator == "match" else ""
        hint = f'write "{data.rstrip("/")}"{below}'
        yield "never", f"{shown}: no file name ends in a slash", hint
    else:
        yield "never", f'{shown}: file names are real paths, without "//", "." and ".."', ""


def _absolute(operator: str, data: str) -> bool:
    """Tell whether a text can be an absolute name, or a pattern can match one."""
    if data.startswith(("/", "$HOME", "$CWD")):
        return True
    if operator != "match":
        return bool(set(data) & set("*?"))  # told as a wildcard
    if data.startswith("\\/"):
        return True
    rest = data.lstrip("*")
    return rest != data and (not rest or rest.startswith("/"))
