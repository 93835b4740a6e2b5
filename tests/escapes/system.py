"""The attacks on the supervisor itself, and those by what the kernel has to offer."""

from __future__ import annotations

from tests.escapes.attack import Attack

ANYTHING = (
    'fsread: filename re "^" then permit', 'fswrite: filename re "^" then permit',
    'connect: sockaddr re "^" then permit', 'bind: sockaddr re "^" then permit',
)  # fmt: skip
ROOT = ("--setuid", "root")
SERVICE = ("--setuid", "service")
PROC = ('fsread: filename match "/proc/*" then permit',)

KILLS = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")
VICTIM = """
import ctypes
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: it ends with the attacker
    os.dup2(writer, 0)
    os.closerange(1, 64)
    while True:
        time.sleep(60)
os.close(writer)
os.dup2(reader, 7)
os.close(reader)
argv.append(str(pid))
"""
"""Starts a process of the same user that holds the end of the attacker's descriptor 7."""


def at_supervisor(
    kind: str, name: str, wants: str, defence: str, *more: str, **options: object
) -> Attack:
    """Return an attack of programs/supervisor.py."""
    options.setdefault("rules", ANYTHING)
    return Attack(
        f"supervisor/{name}", wants, "supervisor.py", (kind, "-", *more), defence, **options
    )


def by_kernel(
    kind: str, wants: str, defence: str, goal: str = "-", name: str = "", **options: object
) -> Attack:
    """Return an attack of programs/kernel.py."""
    return Attack(
        f"kernel/{name or kind.replace('_', '-')}", wants, "kernel.py", (kind, goal), defence,
        **options,
    )


SUPERVISOR = [
    at_supervisor("signals", "signals", "to end or stop the supervisor", "supervisor_bare"),
    at_supervisor("signals", "signals-root", "to end the supervisor, as uid 0 with a grant",
                  "supervisor_bare", options=ROOT),
    at_supervisor("pidfds", "pidfds", "a descriptor of the supervisor's process",
                  "supervisor_bare"),
    at_supervisor("limits", "limits", "to limit the supervisor", "supervisor_bare"),
    at_supervisor("schedule", "schedule", "to slow the supervisor down", "supervisor_bare"),
    at_supervisor("trace", "trace-root", "to trace or write into the supervisor, as uid 0 with a "
                  "grant", "supervisor_bare", options=ROOT),
    at_supervisor("trace", "trace-uid-0", "to trace or write into the supervisor, as the invoking "
                  "uid 0", "supervisor_bare", uid=0),
    at_supervisor("files", "files", "to read the supervisor's memory by /proc",
                  "supervisor_in_proc"),
    at_supervisor("files", "files-root", "to write the supervisor's memory by /proc, as uid 0 "
                  "with a grant", "opens_unwatched", options=ROOT,
                  rules=('connect: sockaddr re "^" then permit',), opens=False),
    at_supervisor("files", "files-uid-0", "to write the supervisor's memory by /proc, as the "
                  "invoking uid 0", "opens_unwatched", uid=0,
                  rules=('connect: sockaddr re "^" then permit',), opens=False),
    at_supervisor("asynchronous", "asynchronous-io", "to have the kernel signal the supervisor",
                  "owners_free"),
    at_supervisor("unreadable", "unreadable", "to become unreadable for the supervisor",
                  "dumpable_free"),
    at_supervisor("starve", "starve", "to be judged by nobody when the supervisor has no "
                  "descriptor left", "fails_open", "60", rules=(),
                  before="resource.setrlimit(resource.RLIMIT_NOFILE, (73, 73))"),
    at_supervisor("killed", "killed", "to run on unsupervised when the supervisor was killed from "
                  "outside", "", rules=(), act="kill", kernel="a listener that is closed fails "
                  "every notified call (ENOSYS)"),
    at_supervisor("domain", "domain", "a Landlock domain that does not bind it", "domains_free",
                  rules=()),
    at_supervisor("answer_ourselves", "second-listener", "to answer its own notifications", "",
                  kernel="one tree has one listener (EBUSY)"),
]  # fmt: skip

KERNEL = [
    by_kernel("int80", "to open a forbidden file by the 32-bit table", "any_architecture"),
    by_kernel("x32", "to get a call past the filter by the x32 bit", "x32_numbers"),
    by_kernel("io_uring", "opens that pass no filter", "io_uring_free"),
    by_kernel("children", "a child that is not confined", "children_free", rules=PROC),
    by_kernel("untraced", "a child that its tracer is not told of", "no_guards"),
    by_kernel("clone3", "a user namespace that is not permitted", "clone3_free",
              rules=("fork: permit", "tfork: permit"), without=("clone", "unshare")),
    by_kernel("settings", "to change settings of the machine's from namespaces of its own",
              "settings_of_supervisor", uid=0, rules=ANYTHING),
    by_kernel("owner", "to end a process outside by what comes on a descriptor", "side_doors_open",
              without=KILLS, rules=('fsread: filename re "^" then permit',), before=VICTIM),
    by_kernel("owner", "the same where the kernel enforces alone", "side_doors_open",
              name="owner-alone", without=KILLS, opens=False, before=VICTIM),
    by_kernel("gate", "a denied call by guessing what opens the launch gate", "gate_open",
              "getgroups", "gate-getgroups", without=("getgroups",)),
    by_kernel("gate", "a denied call by guessing what opens the launch gate", "gate_open",
              "capget", "gate-capget", without=("capget",)),
    by_kernel("gate_again", "to execute as the launcher did", "gate_by_flags",
              without=("execve", "execveat")),
]  # fmt: skip
