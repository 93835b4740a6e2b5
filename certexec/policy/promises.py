"""OpenBSD's pledge(2) and unveil(2) as a policy (pure).

A promise is a list of system calls and of what their arguments may be; the table below says so in
rules. A pledge counts from the moment at which a program makes it, a policy from the program's
first instruction: so everything here stands on the preset ``base``, which lets a program start.
What cannot be said in rules, or has no counterpart on Linux, is told line by line.

Source: OpenBSD's pledge(2), unveil(2) and sys/kern/kern_pledge.c (7.x).
"""

from __future__ import annotations

from certexec.errors import PolicyError
from certexec.policy.format import quote
from certexec.policy.lexer import LINE_MAX, byte_length
from certexec.policy.model import LANGUAGE
from certexec.policy.spelling import close_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BASE = "base 1"
PERMISSIONS = "rwxc"
_SPECIAL = "*?[]\\"

_CALLS: dict[str, str] = {
    "stdio": (
        "close read readv pread64 preadv write writev pwrite64 pwritev lseek fstat getdents dup "
        "dup2 fcntl fsync fdatasync ftruncate fchdir fchmod fchown umask pipe poll select "
        "epoll_create epoll_ctl epoll_wait eventfd timerfd_create timerfd_settime timerfd_gettime "
        "socketpair send recv recvfrom recvmsg shutdown getpid getppid getpgid getpgrp getsid "
        "gettid getuid geteuid getgid getegid getresuid getresgid getgroups getrlimit getrusage "
        "gettimeofday time times clock_gettime clock_getres nanosleep getitimer setitimer alarm "
        "pause sigaction sigprocmask sigreturn sigsuspend sigpending sigtimedwait sigaltstack "
        "mmap munmap mprotect mremap madvise wait4 waitid sched_yield sched_getaffinity uname "
        "sysinfo getcpu sendfile copy_file_range closefrom membarrier"
    ),
    "rpath": "getcwd fchdir fstatfs",
    "inet": "accept listen getpeername getsockname setsockopt getsockopt",
    "unix": "accept listen getpeername getsockname setsockopt getsockopt",
    "dns": "getsockname getpeername getsockopt setsockopt",
    "proc": (
        "fork vfork tfork setpgid setsid getpriority setpriority setrlimit "
        "sched_setscheduler sched_setparam"
    ),
    "fattr": "futimens fchmod fchown",
    "chown": "fchown",
    "flock": "flock",
    "id": (
        "setuid setgid setreuid setregid setresuid setresgid setgroups seteuid setegid setrlimit "
        "getpriority setpriority"
    ),
    "settime": "settimeofday clock_settime adjtimex",
    "tty": "ioctl",
    "vminfo": "sysinfo",
}
"""Calls that a promise permits whatever their arguments."""

_RULES: dict[str, tuple[str, ...]] = {
    "stdio": ('native-sendmsg: sockaddr eq "<unknown>" then permit',),
    "inet": (
        'native-socket: sockdom eq "AF_INET" or sockdom eq "AF_INET6" then permit',
        *(
            f'native-{name}: sockaddr match "inet-*" then permit'
            for name in ("connect", "bind", "sendto", "sendmsg")
        ),
    ),
    "unix": (
        'native-socket: sockdom eq "AF_UNIX" then permit',
        *(
            f'native-{name}: sockaddr match "/*" or sockaddr match "@*" then permit'
            for name in ("connect", "bind", "sendto", "sendmsg")
        ),
    ),
    "dns": (
        'native-socket: ( sockdom eq "AF_INET" or sockdom eq "AF_INET6" ) and '
        '( socktype eq "SOCK_STREAM" or socktype eq "SOCK_DGRAM" ) then permit',
        *(
            f'native-{name}: sockaddr match "inet-*\\\\]:53" then permit'
            for name in ("connect", "sendto", "sendmsg")
        ),
    ),
    "getpw": tuple(
        f'native-fsread: filename eq "{path}" then permit'
        for path in ("/etc/nsswitch.conf", "/etc/passwd", "/etc/group")
    ),
    "tmppath": (
        'native-open: filename match "/tmp/*" then permit',
        *(
            f'native-{name}: filename match "/tmp/*" then permit'
            for name in ("lstat", "unlink", "chmod", "chown")
        ),
    ),
    "proc": ("native-kill: true then permit",),
    "tty": (
        'native-fsread: filename re "^/dev/(tty|pts/[0-9]+)$" then permit',
        'native-fswrite: filename re "^/dev/(tty|pts/[0-9]+)$" then permit',
    ),
    "ps": (
        'native-fsread: filename match "/proc" then permit',
    ),
    "vminfo": (
        'native-fsread: filename re "^/proc/(meminfo|stat|vmstat|loadavg|uptime)$" then permit',
    ),
}  # fmt: skip
"""Rules about arguments. File rules that unveil limits are made by ``_file_rules``."""

_NAMES = tuple(
    f'native-fsread: filename eq "{path}" then permit'
    for path in ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf",
                 "/etc/gai.conf", "/etc/services", "/etc/protocols")
)  # fmt: skip
"""What a resolver reads."""

PATHS = ("rpath", "wpath", "cpath", "dpath", "fattr", "chown", "exec")
"""Promises about files, which unveil limits."""
_NOTES: dict[str, str] = {
    "mcast": "the options of setsockopt cannot be told apart: inet and unix permit all of them",
    "sendfd": "descriptors are passed by sendmsg and recvmsg, which stdio permits",
    "recvfd": "descriptors are passed by sendmsg and recvmsg, which stdio permits",
    "prot_exec": "the loader needs executable memory, so the policy permits it in any case",
    "exec": "what is executed stays under this policy, where pledge would let it go",
    "tty": "the requests of ioctl cannot be told apart: all are permitted",
    "unveil": "the list of files is part of the policy, nothing can be added later",
    "error": "a denied call fails here in any case, and ends nobody",
    "tape": "there is no such call or device on Linux",
    "audio": "requests of ioctl on sound devices cannot be told apart; add rules for /dev/snd",
    "video": "requests of ioctl on cameras cannot be told apart; add rules for /dev/video*",
    "bpf": "it is about a device that Linux does not have",
    "pf": "it is about a device that Linux does not have",
    "route": "Linux asks netlink sockets for routes; add rules for socket if it needs them",
    "wroute": "Linux asks netlink sockets for routes; add rules for socket if it needs them",
    "disklabel": "requests of ioctl on disks cannot be told apart; it is left out",
    "drm": "requests of ioctl on graphics devices cannot be told apart; add rules for /dev/dri",
    "vmm": "it is about a device that Linux does not have",
}
"""What a promise loses, or gains, on the way."""
KNOWN = frozenset((*_CALLS, *_RULES, *PATHS, *_NOTES))


class Imported:
    """A policy's text, and what could not be carried over, one line each."""

    __slots__ = ("notes", "text")

    def __init__(self, text: str, notes: list[str]) -> None:
        self.text = text
        self.notes = notes


def parse_promises(text: str) -> list[str]:
    """Return the promises in a string. Raises PolicyError("usage") for one that there is not."""
    found = list(dict.fromkeys(text.split()))
    for word in found:
        if word not in KNOWN:
            close = close_word(word, sorted(KNOWN))
            hint = f'did you mean "{close}"?' if close else ""
            raise PolicyError("usage", f'there is no promise "{word}"', hint)
    return found


def parse_unveil(text: str) -> tuple[str, str]:
    """Return path and permissions of ``PATH:rwxc``. Raises PolicyError("usage")."""
    path, colon, letters = text.rpartition(":")
    if not colon or not path.startswith("/") or set(letters) - set(PERMISSIONS):
        raise PolicyError(
            "usage", f'"{text}" is not PATH:PERMISSIONS', "write /var/db:rwc, with an absolute path"
        )
    parts = path.rstrip("/").split("/")[1:]
    if any(part in ("", ".", "..") for part in parts) or any(not one.isprintable() for one in path):
        raise PolicyError("usage", f'"{path}" is no real path', 'without "//", "." and ".."')
    return path.rstrip("/") or "/", letters


def from_promises(
    program: str, promises: Sequence[str] | None, unveils: Sequence[tuple[str, str]]
) -> Imported:
    """Return the policy of a program with these promises and this list of files.

    ``promises``: None: just what the files' permissions need. ``unveils``: path and permissions;
    empty: all files.
    """
    if promises is None:
        letters = {letter for _, each in unveils for letter in each}
        wanted = (("r", "rpath"), ("w", "wpath"), ("x", "exec"), ("c", "cpath"))
        promises = ["stdio", *(promise for letter, promise in wanted if letter in letters)]
    notes = [f"{word}: {_NOTES[word]}" for word in promises if word in _NOTES]
    notes += _idle(promises, unveils)
    lines = [
        f"Language: {LANGUAGE}",
        f"Policy: {program}, Emulation: native",
        f'# pledge("{" ".join(promises)}")',
        *(f'# unveil({quote(path)}, "{letters}")' for path, letters in unveils),
        "# A pledge counts from where it is made, this from the start: base is what a start takes.",
        *(f"# not as on OpenBSD: {note}" for note in notes),
        f"\tinclude {BASE}",
    ]
    seen: set[str] = set()
    for word in promises:
        rules = [f"native-{name}: permit" for name in _CALLS.get(word, "").split()]
        if word != "dns" or "inet" not in promises:
            rules += _RULES.get(word, ())
        rules += [*(_NAMES if word == "dns" else ()), *_file_rules(word, promises, unveils)]
        fresh = [rule for rule in rules if rule not in seen]
        seen.update(fresh)
        if fresh:
            lines += [f"# {word}", *(f"\t{rule}" for rule in fresh)]
    return Imported("".join(line + "\n" for line in lines), notes)


def _idle(promises: Sequence[str], unveils: Sequence[tuple[str, str]]) -> list[str]:
    """Tell which permissions no promise lets the program use."""
    needs = (("r", ("rpath",)), ("w", ("wpath",)), ("x", ("exec",)), ("c", ("cpath", "dpath")))
    return [
        f'unveil "{letter}" of {path}: without the promise {needed[0]} it permits nothing'
        for path, letters in unveils for letter, needed in needs
        if letter in letters and not set(needed) & set(promises)
    ]


# ---- files ---------------------------------------------------------------------------------------


def _file_rules(
    word: str, promises: Sequence[str], unveils: Sequence[tuple[str, str]]
) -> list[str]:
    if word not in PATHS:
        return []

    def trees(letter: str) -> list[str]:
        return [path for path, letters in unveils if letter in letters] if unveils else ["/"]

    readable, writable, creatable = trees("r"), trees("w"), trees("c")
    if word == "rpath":
        return [
            f"native-{name}: {_below(path)} then permit"
            for path in readable for name in ("fsread", "chdir", "statfs")
        ]
    if word == "exec":
        return [f"native-execve: {_below(path)} then permit" for path in trees("x")]
    if word in ("fattr", "chown"):
        names = ("chmod", "utime", "utimes", "lutimes") if word == "fattr" else ()
        return [
            f"native-{name}: {_below(path)} then permit"
            for path in writable for name in (*names, "chown", "lchown")
        ]
    if word == "dpath":
        return [
            f"native-{name}: {_below(path)} then permit"
            for path in creatable for name in ("mkfifo", "mknod")
        ]
    if word == "cpath":
        return _creating(creatable)
    reads = "rpath" in promises
    return [
        rule for path in writable
        for rule in _writing(
            path, reads and path in readable, "cpath" in promises and path in creatable
        )
    ]


def _writing(path: str, reads: bool, creates: bool) -> list[str]:
    """Return the rules for a tree whose files may be written, and perhaps read and made."""
    # O_RDWR reads, too
    asked = 'oflags sub "w"' if reads else 'oflags match "wo*"'
    if not creates:
        asked += ' and oflags nsub "c"'
    return [
        f"native-open: {_below(path)} and {asked} then permit",
        f"native-truncate: {_below(path)} then permit",
    ]


def _creating(trees: Sequence[str]) -> list[str]:
    rules = [
        f"native-{name}: {_below(path)} then permit"
        for path in trees for name in ("mkdir", "rmdir", "unlink", "symlink")
    ]
    for name in ("rename", "link"):
        together = f"native-{name}: {_any(trees, 0)} and {_any(trees, 1)} then permit"
        if trees and byte_length(together) < LINE_MAX:
            rules.append(together)
            continue
        rules += [
            f"native-{name}: {_below(one)} and {_below(two, 1)} then permit"
            for one in trees for two in trees
        ]
    return rules


def _any(trees: Iterable[str], place: int) -> str:
    each = [_below(path, place) for path in trees]
    return each[0] if len(each) == 1 else f"( {' or '.join(each)} )"


def _below(path: str, place: int = 0) -> str:
    """Return the condition that a name is a path or below it."""
    which = f"filename[{place}]" if place else "filename"
    if path == "/":
        return f'{which} match "/*"'
    plain = "".join("\\" + one if one in _SPECIAL else one for one in path)
    return f"{which} match {quote(plain)}"
