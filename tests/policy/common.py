"""What the policy tests share: users who are the same everywhere, and systrace's own notation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from certexec.policy.model import And, Not, Or, Policy, Rule, Subject, Symbol, postorder
from certexec.policy.operators import expand
from certexec.policy.syntax import parse_policy, parse_rule

if TYPE_CHECKING:
    from certexec.policy.model import Expression

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1].parent / "shared" / "corpus"
ALICE = Subject(1000, 1000, "/home/alice", "alice", "/work/dir")

BSD_ERRNOS = (
    "eperm enoent esrch eintr eio enxio e2big enoexec ebadf echild edeadlk enomem eacces efault "
    "enotblk ebusy eexist exdev enodev enotdir eisdir einval enfile emfile enotty etxtbsy efbig "
    "enospc espipe erofs emlink epipe edom erange eagain einprogress ealready enotsock "
    "edestaddrreq emsgsize eprototype enoprotoopt eprotonosupport esocktnosupport eopnotsupp "
    "epfnosupport eafnosupport eaddrinuse eaddrnotavail enetdown enetunreach enetreset "
    "econnaborted econnreset enobufs eisconn enotconn eshutdown etoomanyrefs etimedout "
    "econnrefused eloop enametoolong ehostdown ehostunreach enotempty eproclim eusers edquot "
    "estale eremote ebadrpc erpcmismatch eprogunavail eprogmismatch eprocunavail enolck enosys "
    "eftype eauth eneedauth eipsec"
).split()
BSD_NUMBER = {name: number for number, name in enumerate(BSD_ERRNOS, 1)}
BSD_NUMBER |= {"": 1, "ewouldblock": 35, "elast": 82}


def expressions(symbols: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    """Return the strategy of expressions that are made of at most four of these."""
    return st.recursive(
        symbols,
        lambda inner: st.builds(And, inner, inner) | st.builds(Or, inner, inner)
        | st.builds(Not, inner),
        max_leaves=4,
    )


class FixedUsers:
    """A passwd and a group file with few lines."""

    users = {"root": 0, "nobody": 65534, "alice": 1000}
    groups = {"root": 0, "nogroup": 65534, "staff": 50}

    def uid(self, name: str) -> int | None:
        return self.users.get(name)

    def gid(self, name: str) -> int | None:
        return self.groups.get(name)


USERS = FixedUsers()


def vectors(name: str) -> Any:
    return json.loads((HERE / "vectors" / name).read_text())


def shared(*parts: str) -> Path:
    """A file of the shared corpora, which are not part of the project."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the shared corpora are not here ({path})")
    return path


def rule(text: str, *, name: str = "native-open", privileged: bool = True) -> Rule:
    emulation, _, syscall = name.partition("-")
    return parse_rule(
        text, emulation=emulation, syscall=syscall, users=USERS, privileged=privileged,
        subject=ALICE,
    )


def policy(*lines: str, emulation: str = "native") -> Policy:
    text = f"Policy: /bin/x, Emulation: {emulation}\n" + "".join(line + "\n" for line in lines)
    return parse_policy(text, name="test", users=USERS, privileged=True).policies[0]


def signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number


def visible(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return "".join(
        chr(byte) if 32 <= byte <= 126 and byte != 92 else f"\\x{byte:02x}" for byte in data
    )


def notation(parsed: Rule, *, root: bool, operators: bool = True) -> str:
    """Write a rule as the vectors do: the original's structures after parsing.

    The original replaced macros when it parsed unless root parsed, and kept BSD's error numbers.
    """
    if parsed.simple:
        action = -1 if parsed.action == "permit" else BSD_NUMBER[parsed.errno_name]
        return f"SIMPLE action={action} future={99 if parsed.now else action}"
    action = {"permit": -1, "deny": 1, "ask": 0}[parsed.action]
    flags = parsed.inherit | parsed.detach * 2 | parsed.log * 4 | (parsed.action == "ask") * 8
    kinds = uid = gid = 0
    if parsed.predicate is not None:
        kinds = {"user": 1, "group": 2}[parsed.predicate.kind]
        kinds |= {"=": 0, "!=": 0x10, "<": 0x20, ">": 0x30}[parsed.predicate.relation]
        uid, gid = parsed.predicate.number, 0
        if parsed.predicate.kind == "group":
            uid, gid = gid, uid
    who = [0, 0, 0]
    for index, number in enumerate(parsed.elevate or ()):
        if number is not None:
            who[0] |= index + 1
            who[index + 1] = signed(number)
    return (
        f"{_tree(parsed, root, operators)} action={action} err={BSD_NUMBER[parsed.errno_name]} "
        f"flags={flags} pred={kinds} uid={uid} gid={gid} elev={who[0]}:{who[1]}:{who[2]}"
    )


def _tree(parsed: Rule, root: bool, operators: bool) -> str:
    done: list[str] = []
    for node in postorder(parsed.expression):
        if isinstance(node, Symbol):
            data = node.data if root else expand(node.data, ALICE)
            data, argument = (
                (visible(data), visible(node.argument)) if operators else (data, node.argument)
            )
            leaf = f"[{argument or '-'}:{node.offset} {data}]"
            done.append(leaf + (node.operator if operators else ""))
        elif hasattr(node, "operand"):
            done.append(f"(not {done.pop()})")
        else:
            right = done.pop()
            done.append(f"({node.word} {done.pop()} {right})")
    return done[0]
