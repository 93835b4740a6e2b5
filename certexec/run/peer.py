"""Who asks the resident server: the launcher's process, by the kernel's word, and nothing else.

A server that the launcher starts itself inherits what its invoker lives under: namespaces, root,
control group, limits, a security module's label, filters and domains. The resident one does not;
so it serves only callers who live as it does, takes over what it can (``resemble``) and leaves
all others to a server of their own, which is never less than right, only slower.
"""

from __future__ import annotations

import os
import resource
import select

from certexec.errors import RunError
from certexec.kernel.circumstances import Circumstances, spot
from certexec.kernel.credentials import forbid_attach, own_capabilities
from certexec.kernel.procfs import proc, rights_in, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.kernel.procfs import Status

RLIMIT_STACK, RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_NICE, RLIMIT_RTPRIO = 3, 4, 7, 13, 14
STACK = 8 << 20
FILES = 65536
"""As binfmt/server.h has them for a server that the launcher starts."""
GROUPS_MAX = 1024
"""supplementary groups; who has more is rare, and their list long to hand on."""
_UNLIMITED = resource.RLIM_INFINITY
KINDS_MAX = 64
"""kinds of callers of whom it is kept that they can be served."""


class ElsewhereError(Exception):
    """The caller needs a server of its own; the text says why."""


class Surroundings:
    """What this process lives under, to compare callers with.

    Attributes:
        namespaces, root, label, oom, login, cgroups: as ``Circumstances`` says; caps: capabilities.
        launcher: the installed launcher, as ``spot`` says.
        served: callers who were found to live here, by all that was looked at.
    """

    __slots__ = (
        "caps", "cgroups", "label", "launcher", "login", "namespaces", "oom", "root", "served",
    )  # fmt: skip

    def __init__(self, launcher: str) -> None:
        own = Circumstances(os.getpid())
        self.namespaces = own.namespaces
        self.root = own.root
        self.label = own.label
        self.caps = status_of(own.status).caps
        self.oom = own.oom
        self.login = own.login
        self.cgroups = own.cgroups.decode("utf-8", "surrogateescape")
        self.launcher = spot(launcher)
        self.served: dict[tuple[object, ...], Caller] = {}


class Caller:
    """What a server would inherit of who asks.

    Attributes:
        uid, gid, groups: real ids; elevated: the effective uid is 0, and not because that is so.
        limits: soft and hard ones, by number; nice, oom, login: as in /proc; cgroups: where.
    """

    __slots__ = ("cgroups", "elevated", "gid", "groups", "limits", "login", "nice", "oom", "uid")

    def __init__(self, status: Status, found: Circumstances) -> None:
        self.uid, self.gid, self.groups = status.uids[0], status.gids[0], tuple(status.groups)
        self.elevated = status.uids[1] != self.uid
        self.limits = found.limits
        self.nice = found.nice
        self.oom = found.oom
        self.login = found.login
        self.cgroups = found.cgroups.decode("utf-8", "surrogateescape")

    def key(self) -> tuple[object, ...]:
        """Return what a process that has served one caller must have been for, to serve another."""
        return (
            self.uid, self.gid, self.groups, self.elevated, self.limits, self.nice, self.oom,
            self.login, self.cgroups,
        )  # fmt: skip


def has_ended(pidfd: int) -> bool:
    """Tell whether the process behind a pidfd has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def examine(pid: int, uid: int, pinned: bool, ours: Surroundings) -> Caller:
    """Return who asks; raises ElsewhereError for one who cannot be served here.

    ``uid``: the effective one with which it connected; ``pinned``: there is a pidfd, so that its
    number is known not to have become somebody else's. Nothing here waits for anybody: not for
    the caller's memory, nor for a file system that it may have made.

    All is looked at each time. What follows from it is known where all of it, word for word, was
    the same before.
    """
    try:
        found = Circumstances(pid)
        said = rights_in(found.status)
        question = (uid, pinned, said, found.rest)
        known = ours.served.get(question)
        if known is None:
            known = _judge(status_of(found.status), found, uid, pinned, ours)
            if said:
                if len(ours.served) >= KINDS_MAX:
                    ours.served.clear()
                ours.served[question] = known
        return known
    except (OSError, KeyError, ValueError) as error:
        raise ElsewhereError(f"the caller cannot be examined: {error}") from None


def _judge(
    status: Status, found: Circumstances, uid: int, pinned: bool, ours: Surroundings
) -> Caller:
    """Return who asks, of whom nothing counts but what is given here. Raises ElsewhereError.

    1. its ids are those that the kernel gives a launcher; elevated ones only where it is pinned;
    2. it lives where we do: namespaces, root directory, security label;
    3. it runs the installed launcher, and nothing else;
    4. nothing holds it that would not hold us: no_new_privs (a Landlock domain comes with it),
       filters, capabilities that were taken away or given, another scheduler.
    """
    # 1. as whom
    ruid, euid, suid, fsuid = status.uids
    rgid = status.gids[0]
    if euid != uid or (suid, fsuid) != (euid, euid) or status.gids != (rgid,) * 4:
        raise ElsewhereError("ids that no launcher has")
    if euid != ruid and (euid != 0 or not pinned):
        raise ElsewhereError("elevated ids, and no pidfd")
    # 2. where
    if found.namespaces != ours.namespaces:
        raise ElsewhereError("other namespaces")
    if found.root != ours.root:
        raise ElsewhereError("another root directory")
    if found.label != ours.label:
        raise ElsewhereError("another security label")
    # 3. what runs
    if found.program != ours.launcher:
        raise ElsewhereError("not the installed launcher")
    # 4. under what
    held = ours.caps["prm"] if euid == 0 else 0
    caps = status.caps
    if status.no_new_privs or status.seccomp:
        raise ElsewhereError("no_new_privs or a filter")
    if caps["bnd"] != ours.caps["bnd"] or caps["inh"] or caps["amb"]:
        raise ElsewhereError("other capabilities to be had")
    if caps["prm"] != held or caps["eff"] != held:
        raise ElsewhereError("other capabilities")
    if len(status.groups) > GROUPS_MAX:
        raise ElsewhereError("too many groups")
    if euid != 0 and found.scheduler != os.SCHED_OTHER:
        raise ElsewhereError("another scheduler")
    return Caller(status, found)


def resemble(caller: Caller, ours: Surroundings) -> None:
    """Become what a server would be that this caller had started; then there is no way back.

    Session, directory and scheduling are such already, the control group by birth. Raises
    ElsewhereError, or RunError("internal").

    1. what only root may take over: oom score, login uid;
    2. nice value and limits: first the caller's, then what the caller's own server would change;
    3. ids: root's in every way with an elevated caller, else the caller's, which ends every
       capability of who is not root; all read back.
    """
    ids = (0, 0, []) if caller.elevated else (caller.uid, caller.gid, list(caller.groups))
    uid, gid, groups = ids
    try:
        # 1.
        if caller.oom != ours.oom:
            _write(proc("self", "oom_score_adj"), caller.oom)
        if caller.login != ours.login:
            _write(proc("self", "loginuid"), caller.login)
        # 2.
        if caller.nice > 0:
            os.setpriority(os.PRIO_PROCESS, 0, caller.nice)
        for number, theirs in enumerate(caller.limits):
            resource.setrlimit(number, theirs)
        if uid == 0:
            _lift(caller)
        # 3.
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        forbid_attach()  # anew: the change of ids has set it as fs.suid_dumpable says
        if uid != 0:
            _lift(caller)
    except (OSError, ValueError) as error:
        raise ElsewhereError(f"the caller cannot be resembled: {error}") from None
    if (
        os.getresuid() != (uid,) * 3
        or os.getresgid() != (gid,) * 3
        or sorted(os.getgroups()) != sorted(groups)
        or uid != 0 and own_capabilities() != (0, 0, 0)
    ):
        raise RunError("internal", "the policy server could not become the invoker")


def _lift(caller: Caller) -> None:
    """Leave the caller's limits and nice value behind, as far as its own server could."""
    for number, theirs in enumerate(caller.limits):
        try:
            resource.setrlimit(number, limit_for(number, theirs, unbound=True))
        except ValueError:  # that needs CAP_SYS_RESOURCE
            resource.setrlimit(number, limit_for(number, theirs, unbound=False))
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    except PermissionError:
        return  # nor could its own server


def limit_for(number: int, theirs: tuple[int, int], unbound: bool) -> tuple[int, int]:
    """Return the limit of a server whose invoker has ``theirs``, as binfmt/server.h sets it.

    ``unbound``: the hard limit can be raised.
    """
    if number in (RLIMIT_NICE, RLIMIT_RTPRIO):
        return theirs
    soft = hard = _UNLIMITED
    if number == RLIMIT_CORE:
        soft = hard = 0
    elif number == RLIMIT_STACK:
        soft = STACK
    elif number == RLIMIT_NOFILE:
        soft = hard = FILES
    if unbound:
        return soft, hard
    return (soft if _at_most(soft, theirs[1]) else theirs[1]), theirs[1]


def _at_most(one: int, other: int) -> bool:
    return other == _UNLIMITED or one != _UNLIMITED and one <= other


def _write(path: str, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)
