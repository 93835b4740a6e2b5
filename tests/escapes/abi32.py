"""The attacks by the 32-bit ABI against policies that admit it."""

from __future__ import annotations

from tests.escapes.attack import Attack

ANYTHING = ('connect: sockaddr re "^" then permit', 'bind: sockaddr re "^" then permit')


def by_abi32(kind: str, goal: str, wants: str, defence: str, **options: object) -> Attack:
    """Return an attack of programs/abi32.c."""
    options.setdefault("native", ())
    return Attack(
        f"abi32/{kind}-{goal}", wants, "abi32", (kind, goal), defence,
        options=("--emulation", "linux"), **options,
    )


ABI32 = [
    by_abi32("memory", "read", "to read a forbidden file: a thread writes into the name of an open "
             "by int 0x80", "continued", races=True),
    by_abi32("memory", "exec", "to execute a forbidden program: a thread writes into the name of "
             "an execve by int 0x80", "exec_stop_blind", races=True, chances=3000,
             rules=('execve: filename eq "<GOOD>/prog" then permit',), without=("execveat",)),
    by_abi32("memory", "connect", "to connect to another UNIX socket: a thread writes into the "
             "address", "continued", races=True,
             rules=('connect: sockaddr eq "<GOOD>/sock" then permit',)),
    by_abi32("array", "connect", "to connect to another UNIX socket: a thread exchanges the "
             "address in socketcall's array", "array_read_again", races=True,
             rules=('connect: sockaddr eq "<GOOD>/sock" then permit',)),
    by_abi32("array", "socket", "to get a socket of another kind: a thread exchanges the kind in "
             "socketcall's array", "array_read_again", races=True,
             rules=('socket: sockdom eq "AF_UNIX" then permit',)),
    by_abi32("array", "map", "to map memory that can be executed, by the array of the old mmap",
             "array_not_judged", native=("mmap: permit",),
             rules=('mmap: prot sub "PROT_EXEC" then deny', "mmap: true then permit")),
    by_abi32("register", "untraced", "a child without a tracer, by the other table's clone",
             "foreign_unguarded", rules=ANYTHING),
    by_abi32("register", "signal", "to signal the supervisor by the other table's numbers",
             "foreign_unguarded", rules=ANYTHING),
]  # fmt: skip
