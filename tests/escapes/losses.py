"""The attacks on what is given up, on certificates that are executed inside, and on Landlock."""

from __future__ import annotations

from tests.escapes.attack import Attack

ANY_READ = 'fsread: filename re "^" then permit'
REMAINS = (
    "read write exit_group exit_group mmap munmap mprotect madvise brk futex sigaction "
    "rt_sigprocmask rt_sigreturn clone fork vfork wait4 execve arch_prctl set_tid_address "
    "set_robust_list rseq getpid gettid pipe2 close lseek fstat pread64 dup2 prlimit64 getrandom "
    "sched_yield poll ppoll fcntl readlink exit unlink rt_sigsuspend"
).split()
WIDE = "/policy/wide"


def lost(kind: str, wants: str, defence: str, *more: str, **options: object) -> Attack:
    """Return an attack of programs/lost.py."""
    return Attack(
        f"lost/{kind}", wants, "lost.py", (kind, "-", "<TAKER>", *more), defence, **options
    )


def inside(kind: str, wants: str, defence: str, *more: str, **options: object) -> Attack:
    """Return an attack of programs/inside.py."""
    rules = options.pop("rules")
    assert isinstance(rules, tuple)
    return Attack(
        f"inside/{kind.replace('_', '-')}", wants, "inside.py", (kind, "-", *more), defence,
        rules=(*rules, 'fsread: filename match "<BIN>" then permit'),
        without=("execveat",), **options,
    )  # fmt: skip


TWO_PROGRAMS = (("<GOOD>/prog", (), (ANY_READ,)), ("<EVIL>/prog", (), (ANY_READ,)))
TREES = tuple(f'fsread: filename match "{tree}" then permit' for tree in (
    "/usr", "/lib", "/lib64", "/etc", "/dev", "/proc", "<GOOD>"))  # fmt: skip

LOST = [
    lost("after", "to open what a line after has taken", "nothing_narrows",
         rules=(ANY_READ,), lines=(f"after native-getpgrp: true then only {', '.join(REMAINS)}",)),
    lost("adopt", "a policy after adoption was given up", "giving_up_forgotten", WIDE,
         lines=(f"adopt {WIDE}",), policies=[(WIDE, "getpgid: deny")], uid=0, opens=False),
    lost("drop", "a call that was dropped", "", "<PACKAGE>", "<INSIDE0>", "<PYTHON>",
         rules=(ANY_READ,), inside=[("<TAKER>", (), ())], uid=0,
         kernel="nobody takes a filter off that stands around him"),
]  # fmt: skip
INSIDE = [
    inside("wider", "what only the policy of a certificate inside permits", "inner_alone",
           "<INSIDE0>", rules=('execve: filename eq "<INSIDE0>" then permit',),
           inside=[("<CHILDREN>", (), (ANY_READ,))]),
    inside("exchanged", "another certificate than the one that was judged", "any_launcher",
           "<INSIDE0>", "<INSIDE1>", inside=TWO_PROGRAMS, chances=2000,
           rules=('execve: filename eq "<INSIDE0>" then permit',
                  'execve: filename eq "<INSIDE1>" and argv eq "never" then permit')),
    inside("renamed_over", "a certificate that no rule named", "any_certificate",
           "<GOOD>/inner", "<INSIDE1>", inside=TWO_PROGRAMS,
           rules=('execve: filename eq "<GOOD>/inner" then permit',),
           before="""
import shutil
if os.path.exists("<GOOD>/inner"): os.unlink("<GOOD>/inner")
shutil.copy("<INSIDE0>", "<GOOD>/inner")
"""),
]  # fmt: skip
DOMAIN = [
    Attack("landlock/trees", "a file outside of the trees of a policy's Landlock domain",
           "domain.py", ("trees", "-"), "domain_whole", rules=(
               *TREES, *(f"{name}: permit" for name in ("stat", "lstat", "access", "readlink"))),
           without=("mount", "umount2", "move_mount", "pivot_root", "fsconfig", "mount_setattr",
                    "mknod", "mknodat", "truncate", "chmod", "fchmodat"),
           lines=("landlock",), opens=False),
]  # fmt: skip
