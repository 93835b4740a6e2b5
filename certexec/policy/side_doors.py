"""What permitted calls would do that other rules forbid, where no rule can tell them apart (pure).

``native-fcntl: permit`` is about descriptors, and ``native-setsockopt: permit`` about how a socket
works. Both have uses that do what rules elsewhere forbid: to name a process that gets signals is
kill(2), and a routing header sends packets to an address that connect(2) was never asked about.
These uses are refused, unless the policy permits plainly what they come to. A rule that asks for
the ``cmd`` of fcntl knows what it permits, but not whom F_SETOWN names.
"""

from __future__ import annotations

import errno

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.guards import (
    ASKS,
    FCNTL,
    IOCTL,
    NOTIFY,
    PROTECTION,
    Clause,
    Decision,
    Test,
    deny,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

F_SETOWN = 8
F_SETOWN_EX = 15
"""fcntl(2): says who is signalled (O_ASYNC). A register of the first holds the process; what the
second points to lies in memory."""
OWNER_REQUESTS = (0x8901, 0x8902)
"""FIOSETOWN and SIOCSPGRP of ioctl(2), the same for sockets, from memory."""
F_SETFL = 4
O_ASYNC = 0x2000
FIOASYNC = 0x5452
"""F_SETFL with O_ASYNC, or this request of ioctl(2): signals are to come. On a terminal the kernel
itself names who gets them, the process group in front (tty_fasync)."""

ROUTES = ((0, 4), (41, 57), (41, 6))
"""(level, option) of setsockopt(2): IP_OPTIONS, IPV6_RTHDR, IPV6_2292PKTOPTIONS. They name hops:
packets go to the first, whatever address the socket is connected to."""
SCTP = 132
MORE_ADDRESSES = (100, 107, 110)
"""Options of SCTP that bind to and connect to addresses in memory: SCTP_SOCKOPT_BINDX_ADD,
CONNECTX_OLD and CONNECTX."""
CONNECTX3 = 111
"""The same by getsockopt(2)."""

_CONNECT, _KILL = NUMBERS["connect"], NUMBERS["kill"]
_SETSOCKOPT, _GETSOCKOPT = NUMBERS["setsockopt"], NUMBERS["getsockopt"]
_COMMAND, _FLAGS = 1, 2
_LEVEL, _OPTION, _LENGTH = 1, 2, 4
_OF_OTHERS = "who is signalled when something comes: the caller at most, kill is not permitted"
_OF_CALLER = "nor at anybody but the caller: kill is not permitted"
_ROUTED = "packets go where connect is permitted to, not by way of others"


def close_side_doors(
    of: Callable[[int], Sequence[Clause]], supervised: bool, socketcall: bool
) -> dict[int, list[Clause]]:
    """Return the new clauses of the calls that have such uses: number to clauses.

    ``of``: the clauses of a call so far; ``socketcall``: of the 32-bit ABI, where what setsockopt
    is given lies in memory.
    """
    closed: dict[int, list[Clause]] = {}
    if not _plain(of(_KILL)):
        # who may signal some needs such signals itself, as nginx does: its own terminal is at stake
        none = all(clause.decision.denied for clause in of(_KILL))
        closed[FCNTL] = _keep_owner(of(FCNTL), supervised, none)
        requests = [[Test(_COMMAND, each)] for each in (*OWNER_REQUESTS, *([FIOASYNC] * none))]
        closed[IOCTL] = _refuse(of(IOCTL), requests, _OF_OTHERS)
    if not _plain(of(_CONNECT)) and not socketcall:
        # of no length they name nothing: servers clear so what a client asked for
        clears = [
            Clause([Test(_LENGTH, 0), *clause.tests], clause.decision, "an option is cleared")
            for clause in of(_SETSOCKOPT)
        ]
        named = [_option(*each) for each in (*ROUTES, *((SCTP, each) for each in MORE_ADDRESSES))]
        closed[_SETSOCKOPT] = [*clears, *_refuse(of(_SETSOCKOPT), named, _ROUTED)]
        closed[_GETSOCKOPT] = _refuse(of(_GETSOCKOPT), [_option(SCTP, CONNECTX3)], _ROUTED)
    return {
        number: clauses for number, clauses in closed.items()
        if not all(clause.decision.denied for clause in of(number))
    }


def _plain(clauses: Iterable[Clause]) -> bool:
    return all(clause.decision.permitted for clause in clauses)


def _option(level: int, option: int) -> list[Test]:
    return [Test(_LEVEL, level), Test(_OPTION, option)]


def _refuse(
    clauses: Sequence[Clause], uses: Sequence[Sequence[Test]], reason: str
) -> list[Clause]:
    return [*(Clause(tests, deny(errno.EPERM), reason) for tests in uses), *clauses]


def _keep_owner(clauses: Sequence[Clause], supervised: bool, none: bool) -> list[Clause]:
    """Let F_SETOWN name the caller at most, which only a supervisor can tell.

    ``none``: and no signal may come at all.
    """
    kept: list[Clause] = []
    uses = [[Test(_COMMAND, F_SETOWN_EX)]]
    if none:
        uses.append([Test(_COMMAND, F_SETFL), Test(_FLAGS, O_ASYNC, O_ASYNC)])
    for clause in clauses:
        due = clause.decision
        told = Decision(NOTIFY, 0, PROTECTION, due.log) if supervised else deny(errno.EPERM)
        commands = [test.value for test in clause.tests if test.argument == _COMMAND]
        if due.permitted and commands == [F_SETOWN] and supervised:
            clause = Clause(clause.tests, told, _OF_CALLER)
        elif (due.permitted or due.why in ASKS) and not commands:
            kept += _refuse((), [[*use, *clause.tests] for use in uses], _OF_OTHERS)
            if due.permitted:
                kept.append(Clause([Test(_COMMAND, F_SETOWN), *clause.tests], told, _OF_CALLER))
        kept.append(clause)
    return kept
