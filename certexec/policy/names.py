"""The names of system calls in policies, and the calls of Linux x86-64 that they mean.

A rule names a call of some emulation: ``native`` (this machine's own), ``linux64``, ``linux`` (the
32-bit table of the kernel that systrace ran on), or another system's. What such a name means here
is one word of a common vocabulary, its *canonical* name:

- every system call of Linux x86-64 means itself, always;
- ``fsread`` and ``fswrite`` are the aliases of systrace;
- the classic names of CLASSIC are no calls here, but govern the calls that took their place
  (certexec.policy.calls says which): ``sigaction`` governs rt_sigaction;
- a name of another system or of the 32-bit table stands for the same call here if there is one
  (certexec.policy.foreign knows what is newer than systrace):
  ``break`` for brk, ``newfstat`` for fstat, ``__stat30`` for stat;
- all others have none: the rule is accepted and inactive.

Sources: the call tables of OpenBSD, NetBSD 1.6 to 6, FreeBSD 4 to 7 and of systrace 1.6g's
linux_syscalls.c.
"""

from __future__ import annotations

from certexec.kernel.syscalls import NAMES, NUMBERS
from certexec.policy.model import ALIASES


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


HERE = frozenset(("native", "linux64", "linux"))
"""Emulations whose programs run here."""
FOREIGN_EMULATION = "linux"
"""The emulation of the 32-bit ABI (i386), in policies and in certificates."""
FOREIGN = _words(
    "openbsd netbsd freebsd bsdos darwin aout hpux ibcs2 osf1 sunos svr4 ultrix netbsd32"
)
"""Emulations of other systems: their rules count where the name means a call here."""
EMULATIONS = HERE | FOREIGN
WITH_ALIASES = frozenset(("native", "openbsd", "netbsd", "darwin", "linux", "linux64"))
"""Emulations for which systrace had the aliases fsread and fswrite."""

CLASSIC = _words(
    "sigaction sigprocmask sigreturn sigsuspend sigpending sigtimedwait mkfifo seteuid setegid "
    "futimens lutimes tfork closefrom send recv socketcall ipc"
)
"""Canonical names that are no calls of Linux x86-64 but govern some."""

SOCKET_CALLS = _words(
    "socket bind connect listen accept getsockname getpeername socketpair send recv sendto "
    "recvfrom shutdown setsockopt getsockopt sendmsg recvmsg"
)
"""What the 32-bit socketcall(2) multiplexes: in emulation ``linux`` these are aliases of it, no
calls of their own, so a bare permit for one keeps its place among the other rules."""

IPC_CALLS = _words(
    "semop semget semctl semtimedop msgsnd msgrcv msgget msgctl shmat shmdt shmget shmctl"
)
"""What the 32-bit ipc(2) multiplexes. Each is a call of its own, too."""
MULTIPLEXERS = {"socketcall": SOCKET_CALLS, "ipc": IPC_CALLS}
"""Calls of the 32-bit table that are none of x86-64: in emulation ``linux`` a rule for one comes
before those for the calls behind it."""

_SAME_AS: dict[str, str] = {}
for _canonical, _others in {
    # what the C library's call became
    "exit": "_exit __threxit threxit thr_exit _lwp_exit",
    "brk": "break obreak sbrk",
    "umount2": "unmount umount oldumount",
    "pread64": "pread freebsd6_pread",
    "pwrite64": "pwrite freebsd6_pwrite",
    "getdents": "getdirentries ogetdirentries old_readdir",
    "newfstatat": "fstatat fstatat64",
    "pselect6": "pselect",
    "getrandom": "getentropy",
    "sendfile": "sendfile64",
    "execveat": "fexecve",
    "gettid": "getthrid thr_self _lwp_self",
    "tgkill": "thrkill thr_kill thr_kill2 _lwp_kill",
    "tfork": "__tfork thr_new _lwp_create",
    "futimens": "futimes",
    "mkfifo": "mkfifoat",
    "rt_sigqueueinfo": "sigqueue rt_queueinfo",
    "sigtimedwait": "sigwaitinfo",
    "fadvise64": "posix_fadvise fadvise64_64",
    "fallocate": "posix_fallocate",
    "adjtimex": "ntp_adjtime",
    "sched_yield": "yield",
    "poll": "openbsd_poll poll2",
    "pipe": "opipe",
    "lchown": "netbsd_lchown lchown16",
    "msync": "netbsd_msync",
    "statfs": "statvfs1 statfs64 ostatfs",
    "fstatfs": "fstatvfs1 fstatfs64 ofstatfs",
    "wait4": "waitpid owait __wait450",
    "timer_create": "ktimer_create",
    "timer_delete": "ktimer_delete",
    "timer_settime": "ktimer_settime",
    "timer_gettime": "ktimer_gettime",
    "timer_getoverrun": "ktimer_getoverrun",
    # generations of the same call
    "stat": "stat64 newstat nstat stat35 stat43 stat44 ostat",
    "lstat": "lstat64 newlstat nlstat lstat35 lstat43 lstat44 olstat",
    "fstat": "fstat64 newfstat nfstat fstat35 fstat43 fstat44 ofstat",
    "uname": "newuname olduname oldolduname",
    "mmap": "old_mmap mmap2 freebsd6_mmap ommap",
    "lseek": "llseek _llseek freebsd6_lseek olseek",
    "truncate": "truncate64 freebsd6_truncate otruncate",
    "ftruncate": "ftruncate64 freebsd6_ftruncate oftruncate",
    "fcntl": "fcntl64",
    "select": "old_select oldselect _newselect",
    "getrlimit": "old_getrlimit ugetrlimit ogetrlimit",
    "setrlimit": "osetrlimit",
    "sigaction": "signal sigaction40 __sigaction_sigtramp __sigaction_siginfo",
    "sigprocmask": "sigprocmask40",
    "sigpending": "sigpending40",
    "sigsuspend": "sigsuspend40",
    "sigaltstack": "osigaltstack",
    "accept": "oaccept",
    "accept4": "paccept",
    "send": "osend",
    "recv": "orecv",
    "recvfrom": "orecvfrom",
    "recvmsg": "orecvmsg",
    "sendmsg": "osendmsg",
    "getpeername": "ogetpeername",
    "getsockname": "ogetsockname",
    "creat": "ocreat",
    "getcpu": "ORE_getcpu",
    # the 16-bit ids of the 32-bit table
    "getuid": "getuid16",
    "geteuid": "geteuid16",
    "getgid": "getgid16",
    "getegid": "getegid16",
    "setuid": "setuid16",
    "setgid": "setgid16",
    "setreuid": "setreuid16",
    "setregid": "setregid16",
    "setresuid": "setresuid16",
    "getresuid": "getresuid16",
    "setresgid": "setresgid16",
    "getresgid": "getresgid16",
    "setfsuid": "setfsuid16",
    "setfsgid": "setfsgid16",
    "getgroups": "getgroups16",
    "setgroups": "setgroups16",
    "chown": "chown16",
    "fchown": "fchown16",
}.items():
    for _other in _others.split():
        _SAME_AS[_other] = _canonical

ABSENT = _words(
    "__acl_aclcheck_fd __acl_aclcheck_file __acl_delete_fd __acl_delete_file __acl_get_fd "
    "__acl_get_file __acl_set_fd __acl_set_file __realpath __setugid __syscall __sysctl "
    "__thrsigdivert __thrsleep __thrwakeup __tmpfd _umtx_op adjfreq adjtime aio_cancel aio_error "
    "aio_read aio_return aio_suspend aio_write bdflush chflags chflagsat eaccess "
    "extattr_delete_fd extattr_delete_file extattr_get_fd extattr_get_file extattr_set_fd "
    "extattr_set_file fchflags fhopen fhstat fhstatfs fktrace fpathconf getdomainname "
    "getdtablecount getdtablesize getfh getfsstat gethostid gethostname getkerninfo getlogin "
    "getlogin_r getpagesize getpeereid getrtable getthrname idle ipc issetugid jail kbind kenv "
    "kevent kldfind kldload kldstat kldunload kqueue kqueue1 ktrace lchflags lchmod lfs_bmapv "
    "lfs_markv lfs_segclean lfs_segwait lio_listio lkmnosys load_shared_file mimmutable minherit "
    "mquery msgsys msyscall nfssvc nice nmount ogetdtablesize ogetfsstat ogethostid ogethostname "
    "ogetkerninfo ogetpagesize okillpg oquota osethostid osethostname osigblock osigsetmask "
    "osigstack osigvec pathconf pinsyscall pinsyscalls pledge posix_spawn profil quotactl64 "
    "revoke rfork rtprio semsys sendsyslog sethostid setlogin setrtable setthrname sgetmask "
    "shmsys sigstack sigvec ssetmask stime swapcontext swapctl sysarch syscall thrsigdivert "
    "thrsleep thrwakeup undelete unveil utrace uuidgen vadvise vm86 vm86old vtrace xfspioctl "
    "ypconnect"
)
"""Calls of other systems, or of the 32-bit table, that Linux x86-64 does not have. The list is for
telling such a name from a mistyped one; it need not be complete."""

_PREFIXES = ("compat4.", "compat.", "old.", "__posix_", "__")
_LINUX_PREFIXES = ("linux_sys_", "linux_")
"""What OpenBSD's table for Linux programs put before some names: ``linux-linux_exit_group``."""
_UNNAMED = "unknown-"
"""How systrace on Linux named a call that its table lacked, before the call's number."""
_WITHOUT_CALL = frozenset(
    ("ni_syscall", *(f"ni_syscall-{count}" for count in (*range(1, 17), *range(31, 42))))
)
"""What its 32-bit table said where Linux had no call."""


def canonical(emulation: str, name: str) -> str | None:
    """Return what a rule's name means here, None when it means nothing."""
    if name in NUMBERS:
        return name if emulation in EMULATIONS else None
    if name in ALIASES:
        return name if emulation in WITH_ALIASES else None
    if emulation not in EMULATIONS:
        return None
    if emulation == "linux" and name == "sysctl":  # elsewhere sysctl has nothing to do with it
        return "_sysctl"
    if name in MULTIPLEXERS and emulation != FOREIGN_EMULATION:
        return None
    if name in CLASSIC:
        return name
    known = _SAME_AS.get(name) or _by_pattern(emulation, name)
    if known is None and emulation == FOREIGN_EMULATION and name not in ABSENT:
        # the 32-bit table's names as headers have them now: getuid32, clock_gettime64
        from certexec.policy.foreign import native_name

        return native_name(name)
    return known


def _by_pattern(emulation: str, name: str) -> str | None:
    """Return the canonical name behind a prefix or suffix that other systems put on names."""
    if name in ABSENT:
        return None
    if name.startswith("#"):
        # "#26 (unimplemented ptrace)": a call that the kernel's table names but did not have
        _, mark, rest = name.partition("(unimplemented ")
        return canonical(emulation, rest[:-1]) if mark and rest.endswith(")") else None
    if name.startswith(_UNNAMED) and emulation in ("linux", "linux64"):
        return _by_number(emulation, name.removeprefix(_UNNAMED))
    plain = name
    for suffix in ("_nocancel", "_time64"):
        plain = plain.removesuffix(suffix)
    prefixes = _LINUX_PREFIXES if emulation == FOREIGN_EMULATION else ()
    for prefix in (*prefixes, *_PREFIXES):
        if plain.startswith(prefix):
            plain = plain[len(prefix) :]
            break
    if plain != name and (known := _plain(plain)) is not None:
        return known
    if name.startswith("__"):  # NetBSD: __stat30, __sigaction14, __vfork14
        return _plain(plain.rstrip("0123456789"))
    return None


def _by_number(emulation: str, digits: str) -> str | None:
    """Return the canonical name of the call with a number in one of Linux's tables."""
    number = int(digits) if digits.isascii() and digits.isdecimal() else -1
    if emulation != FOREIGN_EMULATION:
        return NAMES.get(number)
    from certexec.policy.foreign import MEANINGS

    meaning = MEANINGS.get(number)
    return None if meaning is None else meaning.name


def _plain(name: str) -> str | None:
    return name if name in NUMBERS or name in CLASSIC else _SAME_AS.get(name)


def is_system_call(emulation: str, name: str) -> bool:
    """Tell whether systrace would have known the name as a system call, not as an alias.

    A bare ``permit`` or ``deny`` for a system call went into the kernel's table, where it came
    before all other rules of that call; for an alias it was a rule among others.
    """
    if emulation == "linux" and name in SOCKET_CALLS:
        return False
    known = canonical(emulation, name)
    if known is None:
        return emulation in EMULATIONS and (name in ABSENT or _is_number(emulation, name))
    return known not in ALIASES


def _is_number(emulation: str, name: str) -> bool:
    """Tell whether a table of calls names a number so for which it has no call."""
    if name.startswith("#"):  # "#151 (unimplemented)", "#107 (obsolete vtimes)", "#91"
        number, _, reason = name[1:].partition(" ")
        return number.isascii() and number.isdecimal() and reason[:1] in ("", "(")
    if emulation in ("linux", "linux64") and name.startswith(_UNNAMED):
        return True
    return emulation == FOREIGN_EMULATION and name in _WITHOUT_CALL
