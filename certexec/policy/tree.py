"""What a table of decisions has to know of the process tree that it is for."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from certexec.policy.elevation import Elevate
    from certexec.policy.landlock import Landlocked


class TreeOptions:
    """What kind of process tree a filter is for.

    Attributes:
        full_log: every denial becomes a log line (``log: full``), so denials are notified.
        privileged: an identity above the invoker's is granted, or ruid differs from euid: there
            no_new_privs is never set, and every later exec needs an eye on it.
        capable: the program may hold uid 0 or a capability, be it the invoker's own: it could
            reach a supervisor through /proc although that is not dumpable, so the supervisor, if
            there is one, carries out every open. Follows from ``privileged``.
        may_exec: the program may execute others, as far as its policy permits.
        log_all: permitted calls become log lines, too (the enforcer option of that name).
        own_policies: programs that are executed come under policies of their own, so that every
            process, every exec and every open is watched.
        landlocked: what the program's Landlock domain enforces; None where it has none.
        elevations: as whom, by number, single calls may be made where a rule says ``as``.
    """

    __slots__ = (
        "capable", "elevations", "full_log", "landlocked", "log_all", "may_exec", "own_policies",
        "privileged",
    )  # fmt: skip

    def __init__(
        self,
        *,
        full_log: bool,
        privileged: bool,
        capable: bool,
        may_exec: bool = True,
        log_all: bool = False,
        own_policies: bool = False,
        landlocked: Landlocked | None = None,
        elevations: Collection[Elevate] = (),
    ) -> None:
        self.full_log = full_log
        self.own_policies = own_policies
        self.landlocked = landlocked
        self.elevations = elevations
        self.log_all = log_all
        self.privileged = privileged
        self.capable = capable or privileged
        self.may_exec = may_exec


class Facts:
    """What one table makes necessary in every other one that counts for the same processes.

    Attributes:
        supervised: there is a supervisor; asks: an agent is asked.
        opens: calls of OWN_DOMAIN_BINDS are carried out by the supervisor; moves: MOVES are judged.
    """

    __slots__ = ("asks", "moves", "opens", "supervised")

    def __init__(
        self, supervised: bool = False, asks: bool = False, opens: bool = False, moves: bool = False
    ) -> None:
        self.supervised, self.asks, self.opens, self.moves = supervised, asks, opens, moves


ALONE = Facts()
