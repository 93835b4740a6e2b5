"""The attacks by executing, between programs of one tree, and by addresses."""

from __future__ import annotations

from pathlib import Path

from tests.escapes.attack import Attack

PROGRAMS = Path(__file__).parent / "programs"
VARIABLES = 10_000
"""how many an invoker gives; each is a try of its own."""
GOOD_PROGRAM = ('execve: filename eq "<GOOD>/prog" then permit',)
OWN = ("--no-inherit",)
ANY_READ = 'fsread: filename re "^" then permit'
READS = tuple(f'fsread: filename match "{place}" then permit' for place in (
    "/usr/*", "/lib*", "/etc/*", "/dev/*", "/proc/*", "/", "<GOOD>/*"))  # fmt: skip


GIVES_VARIABLES = f"""
import ctypes
{(PROGRAMS / "variable.py").read_text()}
given = [variable(number) + "=<PRELOAD>" for number in range({VARIABLES})]
given += ["LD_PRELOAD=<PRELOAD>", "=LD_PRELOAD=<PRELOAD>", "LD_PRELOAD"]  # again, and oddly
words = [(ctypes.c_char_p * (len(one) + 1))(*map(os.fsencode, one), None) for one in (argv, given)]
ctypes.CDLL(None).execve(program.encode(), *words)
"""


def executing(
    kind: str, name: str, wants: str, defence: str, *more: str, **options: object
) -> Attack:
    """Return an attack of programs/execs.py."""
    return Attack(name, wants, "execs.py", (kind, "-", *more), defence, **options)


PLACES = {"send": "its address", "header": "the pointer to its address"}


def sending(call: str, means: str = "thread", goal: str = "send") -> Attack:
    """Return a race on the address of a datagram."""
    rule = f'{call}: sockaddr eq "inet-[127.0.0.1]:<PORT0>" then permit'
    others = {"sendto", "sendmsg", "sendmmsg"} - {call}
    return Attack(
        f"{goal}/{call}" + ("" if means == "thread" else f"-{means}"),
        f"to send a datagram to another port: {PLACES[goal]} is exchanged meanwhile",
        "race", (means, goal, "<PORT0>", "<PORT1>", call), "continued",
        rules=(rule,), without=sorted(others), races=True,
    )  # fmt: skip


def messaging(kind: str, wants: str, defence: str, **more: object) -> Attack:
    """Return an attack by what goes with a message."""
    permit = tuple(f'{call}: sockaddr re "^" then permit' for call in ("sendto", "sendmsg"))
    return Attack(f"send/{kind.replace('_', '-')}", wants, "network.py", (kind, "-"), defence,
                  rules=(*permit, "send: permit"), without=("sendmmsg",), **more)


TREES = [
    executing("memory_file", "exec/memory-file", "to execute a program of its own making",
              "execs_free", rules=GOOD_PROGRAM, without=("execveat",)),
    executing("by_other_names", "exec/other-names", "to execute a forbidden program by other names",
              "execs_free", rules=(*GOOD_PROGRAM, 'fsread: filename match "/proc/*" then permit'),
              without=("execveat",)),
    executing("set_user_id", "exec/set-user-id", "root's uid from a set-user-ID file in a tree "
              "with a grant", "gains_ignored", "<GROUND>/suid", options=("--setuid", "service")),
    executing("preload", "exec/preload", "code of the invoker's in a program with a grant, by one "
              "of 10,000 variables", "environment_passed", options=("--cap", "net_bind_service"),
              before=GIVES_VARIABLES, opens=False),
    executing("memory_of_other", "tree/memory-of-other", "what a program under another policy has "
              "in its memory", "others_free", "<READER>", options=OWN,
              policies=[("<READER>", ANY_READ)]),
    executing("become", "tree/children", "to keep, in a child, the policy that an exec took away",
              "strangers_ours", "<CHILDREN>", options=OWN, rules=(ANY_READ,),
              policies=[("<CHILDREN>", *READS)]),
    Attack("net/mapped", "to connect to a denied IPv4 address in IPv6 form", "network.py",
           ("mapped", "-", "<PORT0>", "<PORT1>"), "mapped_ignored",
           rules=('connect: sockaddr eq "inet-[127.0.0.1]:<PORT1>" then deny[eperm]',
                  'connect: sockaddr re "^" then permit')),
    Attack("net/unspec", "to connect elsewhere after AF_UNSPEC", "network.py",
           ("unspecified", "-", "<PORT0>", "<PORT1>"), "connects_free",
           rules=('connect: sockaddr eq "inet-[127.0.0.1]:<PORT0>" then permit',
                  'connect: sockaddr eq "family(0)" then permit')),
    Attack("net/routed", "to send by way of a forbidden address", "network.py",
           ("routed", "-", "<PORT0>", "<PORT1>"), "side_doors_open",
           rules=('connect: sockaddr eq "inet-[::1]:<PORT0>" then permit',)),
    Attack("net/passed", "to read a file in a directory that came by a socket", "network.py",
           ("passed", "-"), "judged_by_text",
           rules=('fsread: filename eq "file" then permit',)),
    *(sending(call) for call in ("sendto", "sendmsg", "sendmmsg")),
    *(sending(call, goal="header") for call in ("sendmsg", "sendmmsg")),
    sending("sendto", "aio"),
    sending("sendmsg", "shared", "header"),
    Attack("send/unspecified", "to send a datagram to another port by an address of AF_UNSPEC",
           "network.py", ("sends_unspecified", "-", "<PORT0>", "<PORT1>"), "families_as_said",
           rules=('sendto: sockaddr eq "inet-[127.0.0.1]:<PORT0>" then permit',
                  'sendto: sockaddr eq "family(0)" then permit'),
           without=("sendmsg", "sendmmsg")),
    messaging("own_descriptors", "a descriptor of the supervisor's", "rights_as_given"),
    messaging("claimed", "to be taken for root by who receives a message", "claims_unchecked",
              options=("--setuid", "service")),
    messaging("untold", "to be taken for root for saying nothing", "senders_untold",
              options=("--setuid", "service")),
]  # fmt: skip
