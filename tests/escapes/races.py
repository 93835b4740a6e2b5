"""The attacks that exchange what a call is about while it is being made."""

from __future__ import annotations

from tests.escapes.attack import Attack

NAMES = {
    "last": "a symbolic link in the last component is exchanged",
    "component": "a symbolic link on the way is exchanged",
    "chain": "a link to which a link leads is exchanged",
    "exchange": "a directory on the way and a symbolic link change places",
    "dotdot": "the working directory is moved away under a name that begins with ..",
    "cwd": "a thread changes the working directory",
    "cwd-process": "a process that shares it changes the working directory",
    "self-cwd": "/proc/self/cwd leads now here, now there",
    "thread-cwd": "/proc/thread-self/cwd leads now here, now there",
    "self-fd": "a thread gives the number of a descriptor to another directory",
    "dirfd-process": "a process that shares descriptors gives its number to another directory",
}
MEMORY = {
    "thread": "a thread writes into the argument",
    "clone-vm": "a process that shares the memory writes into the argument",
    "shared": "a process writes into a shared page under the argument",
    "shared-file": "the file that is mapped under the argument is written to",
    "private-file": "the file under an untouched private mapping is written to",
    "pipe": "a read from a pipe ends in the argument",
    "vmsplice": "pages given to a pipe come out in the argument",
    "aio": "asynchronous reads end in the argument",
    "vm-writev": "a sibling writes into the argument (process_vm_writev)",
    "proc-mem": "a sibling writes into the argument (/proc/PID/mem)",
    "ptrace": "a sibling pokes the argument through a traced thread",
    "remap": "another page is mapped where the argument lies",
}
GOALS = {
    "read": ("to read a forbidden file", ()),
    "write": ("to open a forbidden file for writing", ()),
    "mkdir": ("to make a directory in the forbidden place", ()),
    "mknod": ("to make a FIFO in the forbidden place",
              ('mknod: filename match "<GOOD>/*" then permit',)),
    "socket": ("to make a UNIX socket in the forbidden place",
               ('bind: sockaddr match "<GOOD>/*" then permit',)),
    "symlink": ("to make a link in the forbidden place",
                ('symlink: filename match "<GOOD>/*" then permit',)),
    "link": ("to give a forbidden file a permitted name",
             ('link: filename match "<GOOD>/*" and filename[1] match "<GOOD>/*" then permit',)),
    "chmod": ("to change the mode of a forbidden file",
              ('chmod: filename match "<GOOD>/*" then permit',)),
    "truncate": ("to cut a forbidden file", ('truncate: filename match "<GOOD>/*" then permit',)),
    "exec": ("to execute a forbidden program",
             ('execve: filename eq "<GOOD>/prog" then permit',)),
    "argv": ("to pass a forbidden argument",
             ('execve: filename eq "<GOOD>/prog" and argv eq "prog good" then permit',)),
    "chdir": ("to stand in a forbidden directory",
              ('chdir: filename match "<GOOD>" then permit',)),
    "openat2": ("to write to what may only be read",
                ('fsread: filename match "<EVIL>/*" then permit',)),
    "connect": ("to connect to another port",
                ('connect: sockaddr eq "inet-[127.0.0.1]:<PORT0>" then permit',)),
    "unix": ("to connect to another UNIX socket",
             ('connect: sockaddr eq "<GOOD>/sock" then permit',)),
    "abstract": ("to connect to another abstract UNIX socket",
                 ('connect: sockaddr eq "@-good-<MARK>" then permit',)),
    "bind": ("to take another abstract name", ('bind: sockaddr eq "@-good-<MARK>x" then permit',)),
}  # fmt: skip
MORE = {
    "connect": ("<PORT0>", "<PORT1>"), "abstract": ("<MARK>",), "bind": ("<MARK>x",),
}  # fmt: skip
RELATIVES = {
    "mknod": ("mknodat",), "symlink": ("symlinkat",), "link": ("linkat",),
    "chmod": ("fchmodat", "fchmodat2"), "exec": ("execveat",), "argv": ("execveat",),
}
"""Calls that do the same: they must not be permitted beside a rule that says when."""


def race(means: str, goal: str, defence: str = "continued", **more: object) -> Attack:
    """Return the attack that uses a means for a goal."""
    how = {**NAMES, **MEMORY, "uffd": "faults on the argument's page are served late, with other "
           "bytes (userfaultfd)"}[means]
    wants, rules = GOALS[goal]
    if means == "proc-mem":
        rules = (*rules, 'fswrite: filename match "/proc/*/mem" then permit')
    without = RELATIVES.get(goal, ())
    return Attack(
        f"{goal}/{means}", f"{wants}: {how}", "race", (means, goal, *MORE.get(goal, ())), defence,
        rules=rules, without=without, races=True, **more,
    )


EXECS = {"defence": "exec_stop_blind", "chances": 3000}

RACES = [
    *(race(means, "read") for means in MEMORY),
    race("uffd", "read", needs="/dev/userfaultfd"),
    *(race(means, "read", "name_again") for means in ("last", "component", "chain")),
    *(race(means, "read") for means in (
        "exchange", "dotdot", "cwd", "cwd-process", "self-cwd", "thread-cwd", "self-fd",
        "dirfd-process")),
    *(race(means, "write") for means in ("shared", "last", "component", "self-fd")),
    race("thread", "openat2"),
    *(race("component", goal) for goal in ("mkdir", "mknod", "symlink", "link")),
    race("component", "socket", "binds_by_name"),
    *(race("last", goal) for goal in ("chmod", "truncate", "link")),
    race("thread", "exec", **EXECS),
    race("component", "exec", **EXECS),
    race("thread", "argv", **EXECS),
    *(race(means, "connect") for means in ("thread", "aio")),
    race("thread", "unix"),
    race("component", "unix"),
    race("thread", "abstract"),
    race("thread", "bind"),
]  # fmt: skip
