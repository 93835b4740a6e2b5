"""The attacks on calls that are made as somebody else, and on questions that an agent answers."""

from __future__ import annotations

from tests.escapes.attack import Attack
from tests.escapes.races import MEMORY, NAMES
from tests.execution.world import ALICE

AS_ROOT = 'fsread: filename eq "<GOOD>/roots" then permit as root'
LENT = ("--elevate", "root")
HOW = {**NAMES, **MEMORY}


def race_as_root(means: str, defence: str = "judged_again_never") -> Attack:
    """Return the race for a file that lies open to root alone."""
    return Attack(
        f"as-root/{means}", f"to read another of root's files: {HOW[means]}", "race",
        (means, "as-root"), defence, rules=(AS_ROOT,), options=LENT, races=True,
    )  # fmt: skip


def lent(kind: str, name: str, wants: str, defence: str, *more: str, **options: object) -> Attack:
    """Return an attack of programs/lent.py."""
    options.setdefault("options", LENT)
    return Attack(f"as-root/{name}", wants, "lent.py", (kind, "-", *more), defence, **options)


def asking(kind: str, name: str, wants: str, defence: str, *more: str, **options: object) -> Attack:
    """Return an attack of programs/asking.py: it makes directories, which is asked about."""
    return Attack(
        f"ask/{name}", wants, "asking.py", (kind, "-", "<PACKAGE>", *more), defence,
        rules=('fswrite: filename re "^<GOOD>/asked" then ask',
               'fswrite: filename match "/run/*" then permit',
               'fsread: filename match "<PACKAGE>" then permit',
               'fsread: filename match "/run/*" then permit'), chances=1000, **options,
    )  # fmt: skip


READS_ROOTS = ('fsread: filename match "<EVIL>/*" then permit',)
SOCKET_OF_AGENT = f"""
where = "/run/user/{ALICE}/certexec"
os.makedirs(where, 0o700, exist_ok=True)
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.bind(where + "/agent.sock")
server.listen(4096)
"""
LISTENER_OUTSIDE = f"""{SOCKET_OF_AGENT}
os.dup2(server.fileno(), 50)
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""

ELEVATED = [
    *(race_as_root(means) for means in ("thread", "clone-vm", "shared", "aio")),
    *(race_as_root(means) for means in ("self-fd", "dirfd-process", "cwd", "component", "chain")),
    lent("read_roots", "ridden", "to have another call carried by root's rights", "rights_stay",
         rules=(AS_ROOT, *READS_ROOTS, 'fsread: filename match "/proc/*" then permit')),
    lent("execute", "exec", "to execute a program, which could be traced, beside calls as root",
         "execs_though_lent", rules=(AS_ROOT,)),
    lent("as_thread", "set-uid", "in a thread that gave its uid up, the rights of the others",
         "rights_of_process", str(ALICE), rules=READS_ROOTS, options=("--setuid", "root")),
]  # fmt: skip
ASKED = [
    asking("own_agent", "own-agent", "to be its own agent", "confined_agents"),
    asking("given_socket", "given-socket", "to answer on a socket that an agent left open",
           "answers_from_anybody", "50", before=LISTENER_OUTSIDE),
    asking("answers", "other-question", "an answer that was given to another question",
           "any_answer", agent="another"),
    asking("answers", "no-answer", "a permission from what is no answer", "silence_permits",
           agent="nothing"),
    asking("answers", "dead-agent", "a permission from an agent that is gone", "silence_permits",
           before=SOCKET_OF_AGENT),
    asking("answers", "flood", "a permission because too many ask", "silence_permits",
           agent="deny"),
]  # fmt: skip
