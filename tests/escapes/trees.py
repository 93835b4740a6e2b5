"""The attacks by executing, between programs of one tree, and by addresses."""

from __future__ import annotations

from tests.escapes.attack import Attack

GOOD_PROGRAM = ('execve: filename eq "<GOOD>/prog" then permit',)
OWN = ("--no-inherit",)
ANY_READ = 'fsread: filename re "^" then permit'
READS = tuple(f'fsread: filename match "{place}" then permit' for place in (
    "/usr/*", "/lib*", "/etc/*", "/dev/*", "/proc/*", "/", "<GOOD>/*"))  # fmt: skip


def executing(
    kind: str, name: str, wants: str, defence: str, *more: str, **options: object
) -> Attack:
    """Return an attack of programs/execs.py."""
    return Attack(name, wants, "execs.py", (kind, "-", *more), defence, **options)


def sending(call: str, *others: str) -> Attack:
    """Return a race on the address of a datagram."""
    rule = f'{call}: sockaddr eq "inet-[127.0.0.1]:<PORT0>" then permit'
    return Attack(
        f"send/{call}", "to send a datagram to another port: a thread writes into its address",
        "race", ("thread", "send", "<PORT0>", "<PORT1>", call), f"{call}_free",
        rules=(rule,), without=others,
    )  # fmt: skip


TREES = [
    executing("memory_file", "exec/memory-file", "to execute a program of its own making",
              "execs_free", rules=GOOD_PROGRAM, without=("execveat",)),
    executing("by_other_names", "exec/other-names", "to execute a forbidden program by other names",
              "execs_free", rules=(*GOOD_PROGRAM, 'fsread: filename match "/proc/*" then permit'),
              without=("execveat",)),
    executing("set_user_id", "exec/set-user-id", "root's uid from a set-user-ID file in a tree "
              "with a grant", "gains_ignored", "<GROUND>/suid", options=("--setuid", "service")),
    executing("preload", "exec/preload", "code of the invoker's in a program with a grant",
              "environment_passed", options=("--cap", "net_bind_service"),
              env={"LD_PRELOAD": "<PRELOAD>"}, opens=False, most=1),
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
    Attack("net/passed", "to read a file in a directory that came by a socket", "network.py",
           ("passed", "-"), "judged_by_text",
           rules=('fsread: filename eq "file" then permit',)),
    sending("sendto", "sendmsg", "sendmmsg"),
    sending("sendmsg", "sendto", "sendmmsg"),
    sending("sendmmsg", "sendto", "sendmsg"),
]  # fmt: skip
