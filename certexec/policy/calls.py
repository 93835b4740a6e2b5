"""The system calls of Linux x86-64 as policies see them: their arguments and their rules.

For every call this says which named arguments it has (``filename``, ``sockaddr``, ...), which
rule names govern it and in which order, and whether certexec can judge its arguments yet.

A call is governed by the rules of its own name first, then by those of the classic names that it
took the place of, then by an alias. The classic names are widened on purpose: the C library uses
the modern forms only, and a policy that says ``native-open`` or ``native-stat`` means what the
program does when it calls open() or stat(). Each widening is to calls that do the same thing and
nothing more; where one call does several things its registers tell which (``clone`` without
namespace and thread flags is ``fork``, ``unlinkat`` with AT_REMOVEDIR is ``rmdir``), and that is a
*variant* of the call. A rule never reaches the other way: ``native-openat`` says nothing of open.

An open that may write, truncate or create is ``fswrite``, any other ``fsread``. systrace looked at
the access mode alone, so that O_RDONLY with O_TRUNC, which empties a file, counted as a read.
"""

from __future__ import annotations

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.model import ALIASES
from certexec.policy.names import FOREIGN_EMULATION, MULTIPLEXERS, canonical
from certexec.policy.register_arguments import REGISTER_ARGUMENTS, ids
from certexec.policy.translators import TRANSLATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.model import Rule

NO_REGISTER = -1
CWD = -1
"""As a dirfd register: the name is relative to the working directory."""

_ALL = 0xFFFFFFFFFFFFFFFF
_INT = 0xFFFFFFFF
_O_WRITES = 0o3 | 0o100 | 0o1000 | 0o20000000
"""The access mode, O_CREAT, O_TRUNC and the bit of O_TMPFILE: an open without any only reads."""
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_REMOVEDIR = 0x200
_AT_EMPTY_PATH = 0x1000
_FAN_MARK_FLUSH = 0x80
_S_IFMT = 0o170000
_S_IFIFO = 0o010000
_CLONE_VM = 0x100
_CLONE_VFORK = 0x4000
_CLONE_THREAD = 0x10000
_CLONE_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_CLONE_SHARED = 0x200 | 0x400 | 0x800 | 0x40000 | 0x80000000
"""CLONE_FS, FILES, SIGHAND, SYSVSEM, IO: fork() shares none of these."""
_CLONE_KINSHIP = 0x2000 | 0x8000 | 0x800000
"""CLONE_PTRACE, PARENT, UNTRACED: who the child belongs to and who traces it."""
_CLONE_UNLIKE_FORK = (
    _CLONE_VM | _CLONE_VFORK | _CLONE_THREAD | _CLONE_NAMESPACES | _CLONE_SHARED | _CLONE_KINSHIP
)

_ONE_NAME = (
    "chdir chroot umount2 swapon swapoff statfs "
    "setxattr lsetxattr getxattr lgetxattr listxattr llistxattr removexattr lremovexattr"
)
"""Calls that take one file name, in register 0, and have no rules but those of their own name."""
_ONE_NAME_AT = (
    "name_to_handle_at mount_setattr file_getattr file_setattr "
    "setxattrat getxattrat listxattrat removexattrat"
)
"""The same with the file name in register 1, relative to the descriptor in register 0."""

OPENBSD_ONLY = frozenset(("truncate", "mknod", "mknodat"))
"""Calls (mknod for FIFOs) that only OpenBSD's systrace counted as fswrite."""
_OPENBSD = frozenset(("native", "openbsd"))


class Argument:
    """A named argument of a call.

    Attributes:
        name: in rules.
        register: 0 to 5, or NO_REGISTER for one that is not passed as such.
        dirfd: for a file name the register of the directory that it is relative to, or CWD.
    """

    __slots__ = ("dirfd", "name", "register")

    def __init__(self, name: str, register: int, dirfd: int = NO_REGISTER) -> None:
        self.name = name
        self.register = register
        self.dirfd = dirfd

    @property
    def in_register(self) -> bool:
        """Whether the register says all about it, so that no memory has to be read."""
        return self.register != NO_REGISTER and self.name in TRANSLATORS


class Variant:
    """One of the things that a call can do.

    Attributes:
        label: "" for a call that does one thing.
        names: the rule names that govern it, in order.
        tests: (register, mask, value): the variant applies when for all of them
            ``registers[register] & mask == value``, and no variant before it applied.
        in_memory: registers alone cannot tell: the supervisor must look (an empty path, the
            flags of openat2).
        bare: in this variant the call has none of its arguments, so that its rules can be decided
            without looking at any: sendto without an address.
        arguments: those that rules see in this variant; None: the call's.
    """

    __slots__ = ("arguments", "bare", "in_memory", "label", "names", "tests")

    def __init__(
        self, label: str, names: tuple[str, ...], tests: tuple[tuple[int, int, int], ...] = (),
        in_memory: bool = False, bare: bool = False,
        arguments: tuple[Argument, ...] | None = None,
    ) -> None:
        self.label = label
        self.names = names
        self.tests = tests
        self.in_memory = in_memory
        self.bare = bare
        self.arguments = () if bare else arguments


class Call:
    """A system call.

    Attributes:
        name: Linux's.
        arguments: those that rules can ask about, in systrace's order.
        variants: what it can do; the last one always applies.
        supervised: its arguments can be judged, and the call is then carried out by the
            supervisor on what was judged. Of any other call nothing is judged but registers and
            whose call it is, and the kernel carries it out.
        pending: it takes a name or an address but is not carried out for the caller: when a
            condition on that reaches it, the call is denied and logged.
    """

    __slots__ = ("arguments", "name", "pending", "supervised", "variants")

    def __init__(
        self, name: str, arguments: tuple[Argument, ...], variants: tuple[Variant, ...],
        supervised: bool = False,
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.variants = variants
        self.supervised = supervised
        self.pending = not supervised and any(not each.in_register for each in arguments)


def _one(*names: str) -> tuple[Variant, ...]:
    return (Variant("", names),)


def _path(register: int, dirfd: int = CWD) -> Argument:
    return Argument("filename", register, dirfd)


def _open(flags: int, *names: str) -> tuple[Variant, ...]:
    """Return the variants of an open whose flags are in this register, or in memory if < 0."""
    tests = ((flags, _O_WRITES, 0),) if flags >= 0 else ()
    return (
        Variant("read", (*names, "fsread"), tests, flags < 0),
        Variant("write", (*names, "fswrite"), (), flags < 0),
    )


def _stat(name: str, flags: int) -> tuple[Variant, ...]:
    return (
        Variant("fd", (name, "fstat"), ((flags, _AT_EMPTY_PATH, _AT_EMPTY_PATH),), True),
        Variant(
            "nofollow", (name, "lstat", "fsread"),
            ((flags, _AT_SYMLINK_NOFOLLOW, _AT_SYMLINK_NOFOLLOW),),
        ),
        Variant("follow", (name, "stat", "fsread")),
    )


def _nofollow(name: str, flags: int, nofollow: str, *follow: str) -> tuple[Variant, ...]:
    return (
        Variant(
            "nofollow", (name, nofollow), ((flags, _AT_SYMLINK_NOFOLLOW, _AT_SYMLINK_NOFOLLOW),)
        ),
        Variant("follow", (name, *follow)),
    )


def _fifo(name: str, mode: int, *others: str) -> tuple[Variant, ...]:
    return (
        Variant("fifo", (name, *others, "mkfifo", "fswrite"), ((mode, _S_IFMT, _S_IFIFO),)),
        Variant("other", (name, *others)),
    )


def _supervised() -> dict[str, Call]:
    """Return the calls whose arguments are judged, in the order of design section 7."""
    flags = Argument("oflags", 1)
    at_flags = Argument("oflags", 2)
    unpassed = Argument("oflags", NO_REGISTER)  # openat2 has them in memory, creat none at all
    address, target = Argument("sockaddr", 1), Argument("string", 0)
    mode, at_mode = Argument("mode", 1), Argument("mode", 2)
    owner = (Argument("uid", 1), Argument("gid", 2))
    at_owner = (Argument("uid", 2), Argument("gid", 3))
    table: list[tuple[str, tuple[Argument, ...], tuple[Variant, ...]]] = [
        ("open", (_path(0), flags), _open(1, "open")),
        ("openat", (_path(1, 0), at_flags), _open(2, "openat", "open")),
        ("openat2", (_path(1, 0), unpassed), _open(-1, "openat2", "openat", "open")),
        ("creat", (_path(0), unpassed), _one("creat", "open", "fswrite")),
        ("stat", (_path(0),), _one("stat", "fsread")),
        ("lstat", (_path(0),), _one("lstat", "fsread")),
        ("newfstatat", (_path(1, 0),), _stat("newfstatat", 3)),
        ("statx", (_path(1, 0),), _stat("statx", 2)),
        ("access", (_path(0),), _one("access", "fsread")),
        ("faccessat", (_path(1, 0),), _one("faccessat", "access", "fsread")),
        ("faccessat2", (_path(1, 0),), _one("faccessat2", "faccessat", "access", "fsread")),
        ("readlink", (_path(0),), _one("readlink", "fsread")),
        ("readlinkat", (_path(1, 0),), _one("readlinkat", "readlink", "fsread")),
        ("mkdir", (_path(0),), _one("mkdir", "fswrite")),
        ("mkdirat", (_path(1, 0),), _one("mkdirat", "mkdir", "fswrite")),
        ("rmdir", (_path(0),), _one("rmdir", "fswrite")),
        ("unlink", (_path(0),), _one("unlink", "fswrite")),
        (
            "unlinkat", (_path(1, 0),),
            (
                Variant(
                    "directory", ("unlinkat", "rmdir", "fswrite"),
                    ((2, _AT_REMOVEDIR, _AT_REMOVEDIR),),
                ),
                Variant("file", ("unlinkat", "unlink", "fswrite")),
            ),
        ),
        ("rename", (_path(0), _path(1)), _one("rename")),
        ("renameat", (_path(1, 0), _path(3, 2)), _one("renameat", "rename")),
        ("renameat2", (_path(1, 0), _path(3, 2)), _one("renameat2", "renameat", "rename")),
        ("link", (_path(0), _path(1)), _one("link")),
        ("linkat", (_path(1, 0), _path(3, 2)), _one("linkat", "link")),
        ("symlink", (target, _path(1)), _one("symlink")),
        ("symlinkat", (target, _path(2, 1)), _one("symlinkat", "symlink")),
        ("chmod", (_path(0), mode), _one("chmod")),
        ("fchmodat", (_path(1, 0), at_mode), _one("fchmodat", "chmod")),
        ("fchmodat2", (_path(1, 0), at_mode), _one("fchmodat2", "fchmodat", "chmod")),
        ("chown", (_path(0), *owner), _one("chown")),
        ("lchown", (_path(0), *owner), _one("lchown")),
        ("fchownat", (_path(1, 0), *at_owner), _nofollow("fchownat", 4, "lchown", "chown")),
        ("truncate", (_path(0),), _one("truncate", "fswrite")),
        ("mknod", (_path(0), mode), _fifo("mknod", 1)),
        ("mknodat", (_path(1, 0), at_mode), _fifo("mknodat", 2, "mknod")),
        ("utime", (_path(0),), _one("utime")),
        ("utimes", (_path(0),), _one("utimes")),
        (
            "futimesat", (_path(1, 0),),
            (
                Variant("fd", ("futimesat", "futimens"), ((1, _ALL, 0),), bare=True),
                Variant("name", ("futimesat", "utimes")),
            ),
        ),
        (
            "utimensat", (_path(1, 0),),
            (
                Variant("fd", ("utimensat", "futimens"), ((1, _ALL, 0),), bare=True),
                *_nofollow("utimensat", 3, "lutimes", "utimes", "utime"),
            ),
        ),
        ("inotify_add_watch", (_path(1),), _one("inotify_add_watch")),
        (
            "fanotify_mark", (_path(4, 3),),
            (
                Variant(
                    "flush", ("fanotify_mark",), ((1, _FAN_MARK_FLUSH, _FAN_MARK_FLUSH),), bare=True
                ),
                Variant("object", ("fanotify_mark",)),
            ),
        ),
        ("mount", (_path(0), _path(1)), _one("mount")),
        ("move_mount", (_path(1, 0), _path(3, 2)), _one("move_mount")),
        (
            "acct", (_path(0),),
            (Variant("end", ("acct",), ((0, _ALL, 0),), bare=True), Variant("start", ("acct",))),
        ),
        ("fspick", (_path(1, 0),), _one("fspick")),
        (
            "quotactl", (_path(1), _path(3)),  # the second name only to turn quotas on
            (
                Variant("all", ("quotactl",), ((1, _ALL, 0),), bare=True),
                Variant("device", ("quotactl",)),
            ),
        ),
        ("uselib", (_path(0),), _one("uselib")),
        ("execve", (_path(0), Argument("argv", 1)), _one("execve")),
        ("execveat", (_path(1, 0), Argument("argv", 2)), _one("execveat", "execve")),
        ("connect", (address,), _one("connect")),
        ("bind", (address,), _one("bind")),
        (
            "sendto", (Argument("sockaddr", 4),),
            (
                Variant("connected", ("sendto", "send"), ((4, _ALL, 0),), bare=True),
                Variant("addressed", ("sendto",)),
            ),
        ),
        ("sendmsg", (address,), _one("sendmsg")),
        ("sendmmsg", (address,), _one("sendmmsg", "sendmsg")),
    ]
    table += [(name, (_path(0),), _one(name)) for name in _ONE_NAME.split()]
    table += [(name, (_path(1, 0),), _one(name)) for name in _ONE_NAME_AT.split()]
    return {
        name: Call(name, arguments, variants, supervised=True)
        for name, arguments, variants in table
    }


def _pending() -> dict[str, Call]:
    """Return the calls that take a name or an address and are not carried out for the caller."""
    table: list[tuple[str, tuple[Argument, ...], tuple[Variant, ...]]] = [
        # These cannot be carried out by anybody else than the caller.
        # It moves whoever stands in the old root, and so the supervisor, who resolves names there.
        ("pivot_root", (_path(0), _path(1)), _one("pivot_root")),
        # They give descriptors that stand for a name alone (O_PATH): the kernel hands none over.
        ("open_tree", (_path(1, 0),), _one("open_tree")),
        ("open_tree_attr", (_path(1, 0),), _one("open_tree_attr")),
    ]
    return {name: Call(name, arguments, variants) for name, arguments, variants in table}


def _arguments(described: Sequence[tuple[str, int]]) -> tuple[Argument, ...]:
    return tuple(Argument(name, register) for name, register in described)


def _plain() -> dict[str, Call]:
    """Return the calls without names and addresses that have arguments, variants or other names."""
    variants = {
        "clone": (
            Variant("fork", ("clone", "fork"), ((0, _CLONE_UNLIKE_FORK, 0),)),
            Variant(
                "vfork", ("clone", "vfork"),
                ((0, _CLONE_UNLIKE_FORK, _CLONE_VM | _CLONE_VFORK),),
            ),
            Variant(
                "thread", ("clone", "tfork"),
                ((0, _CLONE_THREAD | _CLONE_NAMESPACES, _CLONE_THREAD),),
            ),
            Variant("other", ("clone",)),
        ),
        "prlimit64": (
            Variant("get", ("prlimit64", "getrlimit"), ((0, _INT, 0), (2, _ALL, 0))),
            Variant("set", ("prlimit64", "setrlimit"), ((0, _INT, 0), (3, _ALL, 0))),
            Variant("other", ("prlimit64",)),
        ),
        "setresuid": (
            Variant(
                "effective", ("setresuid", "seteuid"), ((0, _INT, _INT), (2, _INT, _INT)),
                arguments=_arguments(ids("uid", 1, 1, 2)),
            ),
            Variant("other", ("setresuid",)),
        ),
        "setresgid": (
            Variant(
                "effective", ("setresgid", "setegid"), ((0, _INT, _INT), (2, _INT, _INT)),
                arguments=_arguments(ids("gid", 1, 1, 2)),
            ),
            Variant("other", ("setresgid",)),
        ),
        "recvfrom": (
            Variant("connected", ("recvfrom", "recv"), ((4, _ALL, 0),)),
            Variant("addressed", ("recvfrom",)),
        ),
    }
    for names in (
        "exit_group exit", "rt_sigaction sigaction", "rt_sigprocmask sigprocmask",
        "rt_sigreturn sigreturn", "rt_sigsuspend sigsuspend", "rt_sigpending sigpending",
        "rt_sigtimedwait sigtimedwait", "pipe2 pipe", "dup3 dup2", "accept4 accept",
        "epoll_create1 epoll_create", "inotify_init1 inotify_init", "eventfd2 eventfd",
        "signalfd4 signalfd", "ppoll poll", "pselect6 select", "epoll_pwait epoll_wait",
        "epoll_pwait2 epoll_pwait epoll_wait", "preadv2 preadv", "pwritev2 pwritev",
        "getdents64 getdents", "clock_nanosleep nanosleep", "recvmmsg recvmsg",
        "close_range closefrom",
    ):
        variants[names.split()[0]] = _one(*names.split())
    return {
        name: Call(
            name, _arguments(REGISTER_ARGUMENTS.get(name, ())), variants.get(name) or _one(name)
        )
        for name in {**variants, **REGISTER_ARGUMENTS}
    }


_CALLS: dict[str, Call] = {**_supervised(), **_pending(), **_plain()}
SUPERVISED: tuple[str, ...] = tuple(name for name, call in _CALLS.items() if call.supervised)
"""The calls whose arguments are judged in this version."""
_reach: dict[str, list[str]] = {}


def call_of(name: str) -> Call:
    """Return the call of that Linux name. Raises KeyError when there is none."""
    call = _CALLS.get(name)
    if call is None:
        NUMBERS[name]  # raises
        call = _CALLS[name] = Call(name, (), _one(name))
    return call


def variants(name: str) -> tuple[Variant, ...]:
    """Return what a Linux system call can do. Raises KeyError for an unknown name."""
    return call_of(name).variants


def arguments_of(name: str, variant: Variant) -> tuple[Argument, ...]:
    """Return the arguments that rules see in one variant of a Linux system call."""
    return call_of(name).arguments if variant.arguments is None else variant.arguments


def choose_variant(
    name: str, registers: Sequence[int], *, empty_path: bool = False, flags: int | None = None
) -> Variant:
    """Return which variant a call is.

    Args:
        name: of the Linux system call.
        registers: its six arguments.
        empty_path: the name that it was given is empty (or NULL): with AT_EMPTY_PATH the call is
            then about the descriptor.
        flags: of openat2, read from memory.
    """
    for variant in call_of(name).variants:
        if variant.in_memory and (
            (variant.label == "fd" and not empty_path)
            or (variant.label == "read" and (flags or 0) & _O_WRITES)
        ):
            continue
        for at, mask, value in variant.tests:
            if registers[at] & mask != value:
                break
        else:
            return variant
    return call_of(name).variants[-1]


def governing_names(
    name: str, variant: str | None = None, emulation: str = "native"
) -> tuple[str, ...]:
    """Return the canonical rule names that govern a Linux system call, in order.

    Without a variant's label: those of all its variants, aliases last. Raises KeyError for an
    unknown call or label.
    """
    all_variants = call_of(name).variants
    if variant is None:
        names = [governing for each in all_variants for governing in each.names]
        chosen = tuple(sorted(dict.fromkeys(names), key=lambda governing: governing in ALIASES))
    else:
        for each in all_variants:
            if each.label == variant:
                chosen = each.names
                break
        else:
            raise KeyError(variant)
    if emulation in _OPENBSD:
        return chosen
    if emulation == FOREIGN_EMULATION:
        # All socket calls of the 32-bit table are one; a rule for that one came first.
        first = [one for one, behind in MULTIPLEXERS.items() if not behind.isdisjoint(chosen)]
        chosen = (*first, *chosen)
    return tuple(governing for governing in chosen if _aliased(name, governing, emulation))


def _aliased(name: str, governing: str, emulation: str) -> bool:
    return governing not in ALIASES or name not in OPENBSD_ONLY or emulation in _OPENBSD


def reaches(rule: Rule) -> tuple[str, ...]:
    """Return the Linux system calls that a rule can have a say in, in the order of their numbers.

    Empty for an inactive rule: one whose name means no call here.
    """
    meaning = canonical(rule.emulation, rule.syscall)
    if meaning is None:
        return ()
    if not _reach:
        for name in NUMBERS:
            for variant in call_of(name).variants:
                for governing in variant.names:
                    reached = _reach.setdefault(governing, [])
                    if name not in reached:
                        reached.append(name)
                    for multiplexer, behind in MULTIPLEXERS.items():
                        if governing in behind:
                            _reach.setdefault(multiplexer, []).append(name)
    return tuple(
        name for name in dict.fromkeys(_reach.get(meaning, ()))
        if _aliased(name, meaning, rule.emulation)
    )
