"""firejail profiles as policies (pure): nothing is permitted that a profile does not permit.

firejail permits everything but what a profile takes away, and shows a program a file system of
its own. The result permits the calls that programs use; of files what is neither hidden nor read
only, in places that firejail leaves writable; and executing with the same policy. What firejail
replaces by something empty or private is denied here. Names that are taken away come first.

Source: firejail-profile(5), firejail(1), 0.9.72.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from certexec.errors import PolicyError
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import governing_names
from certexec.policy.firejail_names import LINE_PART, above, groups, may_meet, top_of
from certexec.policy.firejail_syntax import RUNUSER, paths_of, read
from certexec.policy.format import quote
from certexec.policy.model import LANGUAGE
from certexec.policy.promises import Imported
from certexec.policy.unmediated import CALLS, ON_SOCKETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from certexec.policy.firejail_syntax import Command, LookUp

READ, WRITE, EXECUTE = "read", "write", "execute"
_CALLS_OF = {
    READ: ("fsread", "chdir"),
    WRITE: ("fswrite", "chmod", "utimensat", "symlink"),
    EXECUTE: ("execve",),
}
_ADDRESSED = ("connect", "bind", "sendto", "sendmsg")
_ALWAYS_HIDDEN = (
    "/boot /proc/acpi /proc/bus /proc/config.gz /proc/irq /proc/kallsyms /proc/kcore /proc/kmem "
    "/proc/kmsg /proc/mem /proc/sched_debug /proc/scsi /proc/sysrq-trigger /proc/timer_list "
    "/proc/timer_stats /proc/sys/kernel/hotplug /proc/sys/fs/binfmt_misc /selinux /sys/firmware "
    "/sys/hypervisor /sys/fs /sys/kernel/debug /sys/kernel/uevent_helper /sys/kernel/vmcoreinfo "
    "/sys/module /sys/power /usr/lib/debug /usr/lib/modules /lib/modules /usr/src/linux* "
    "/dev/port /dev/kmsg /dev/mem /dev/kmem /run/firejail /etc/firejail"
).split()
"""What firejail hides from every program."""
_WITH_SOCKETS = {
    "connect": ("$HOME", "/run", "/tmp", "/dev/log"),  # noqa: S108 - names, not files there
    "bind": (RUNUSER, "/tmp"),  # noqa: S108
    "sendto": ("/run/systemd", "/dev/log"), "sendmsg": ("/run/systemd", "/dev/log"),
}  # fmt: skip
"""Where sockets are looked for: an address is compared as it was given, so no links of root's."""
_WRITABLE = ("$HOME", "/tmp", "/dev", "/mnt", "/media",  # noqa: S108
             "/srv", "/opt", "/proc/self", RUNUSER)  # fmt: skip
"""Where firejail leaves the file system as it is, or less."""
_DEVICES = {
    "no3d": ("/dev/dri", "/dev/nvidia*"), "nodvd": ("/dev/sr*", "/dev/cdrom*", "/dev/dvd*"),
    "notv": ("/dev/dvb",), "novideo": ("/dev/video*", "/dev/media*"), "nou2f": ("/dev/hidraw*",),
    "noinput": ("/dev/input",), "noprinters": ("/dev/lp*", "/dev/usb/lp*", "/run/cups"),
    "nosound": ("/dev/snd", "$HOME/.config/pulse", f"{RUNUSER}/pulse", f"{RUNUSER}/pipewire-*"),
    "machine-id": ("/etc/machine-id", "/var/lib/dbus/machine-id"),
    "disable-mnt": ("/mnt", "/media", "/run/mount", "/run/media"),
    "private-cache": ("$HOME/.cache",), "private-tmp": ("/tmp", "/var/tmp"),  # noqa: S108
    "private": ("$HOME",), "private-home": ("$HOME",), "private-cwd": (),
    "hosts-file": ("/etc/hosts",), "dns": ("/etc/resolv.conf",), "keep-var-tmp": (),
}  # fmt: skip
"""Commands that take away, or replace, what lies there."""
_PRIVATE_DEV = "null zero full random urandom tty pts ptmx log"
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")
"""The directories of which private-lib shows what the program needs, and what it lists."""
_MULTIARCH = "x86_64-linux-gnu"
_DOMAINS = {"unix": "AF_UNIX", "inet": "AF_INET", "inet6": "AF_INET6",
            "netlink": "AF_UNKNOWN(16)", "packet": "AF_UNKNOWN(17)",
            "bluetooth": "AF_UNKNOWN(31)"}  # fmt: skip
_NEVER_PERMITTED = frozenset(
    "@default @default-nodebuggers @clock @cpu-emulation @debug @module @mount @obsolete @raw-io "
    "@reboot @swap".split()
)
"""Groups of calls none of which the result permits."""
_HERE_ANYWAY = frozenset(
    "quiet nonewprivs noroot nogroups netfilter caps seccomp.block-secondary restrict-namespaces "
    "deterministic-exit-code deterministic-shutdown private-tmp private-cwd allow-debuggers "
    "writable-etc writable-var writable-run-user writable-var-log keep-dev-shm keep-var-tmp "
    "name join-or-start shell tracelog noautopulse keep-config-pulse keep-fd".split()
)
"""Commands after which the result is as it would be without, and permits no more than they do."""
_TOLD = {
    "caps.drop": "what the certificate grants counts: sign --no-caps",
    "caps.keep": "what the certificate grants counts: sign --cap",
    "apparmor": "the profile of AppArmor for what firejail starts is not carried over",
    "env": "the environment is the certificate's: sign --setenv",
    "rmenv": "the environment is the certificate's",
    "mkdir": "no directory is made",
    "mkfile": "no file is made",
    "x11": "the display is the user's: this permits more",
}
_EXCEPTIONS_MAX = 3
"""Exceptions that one denial may have: more make its line too long to be read."""


def from_firejail(
    text: str, *, name: str, program: str, look_up: LookUp, real: Callable[[str], str | None]
) -> Imported:
    """Return the policy of a program with a profile.

    ``look_up``: reads includes; ``real``: the real path of a name that there is, else None. Raises
    PolicyError: "not-found" for an include, "usage" for what takes away and cannot be read.
    """
    notes: list[str] = []
    profile = _Profile(notes, real)
    for command in read(text, name, look_up, notes):
        profile.one(command)
    body = profile.lines()
    lines = [f"Language: {LANGUAGE}", f"Policy: {program}, Emulation: native"]
    lines += [line if line.startswith("#") else f"\t{line}" for line in body]
    return Imported("".join(line + "\n" for line in lines), list(dict.fromkeys(notes)))


class _Profile:
    def __init__(self, notes: list[str], real: Callable[[str], str | None]) -> None:
        self.notes = notes
        self.real = real
        self.spared: list[str] = []
        self.unlisted: list[str] = []
        self.hidden: dict[str, tuple[str, ...]] = {}
        self.shown: dict[str, list[str]] = {}
        self.read_only: list[tuple[str, list[str]]] = []
        self.not_executed: list[str] = []
        self.domains: list[str] | None = None
        self.network = True
        self.dropped: set[str] = set()
        self.kept: set[str] | None = None
        self.no_new_code = False
        self.hide(_ALWAYS_HIDDEN)

    def note(self, command: Command, what: str) -> None:
        self.notes.append(f"{command.place}: {command.text}: {what}")

    def hide(self, patterns: Iterable[str], exceptions: tuple[str, ...] = ()) -> None:
        for pattern in patterns:
            for each in self.both(pattern):
                self.hidden[each] = exceptions

    def both(self, pattern: str) -> list[str]:
        """Return a pattern and what its fixed part really leads to."""
        if pattern.startswith("/proc"):
            return [pattern]
        head, slash, rest = pattern, "", ""
        while (set(head) & set("*?[")) or (head and self.real(head) is None):
            head, _, last = head.rpartition("/")
            slash, rest = "/", f"{last}/{rest}" if rest else last
        led = self.real(head) if head and not pattern.startswith("$") else None
        found = pattern if led is None else led.rstrip("/") + slash + rest
        return list(dict.fromkeys((pattern, found)))

    def one(self, command: Command) -> None:
        word = command.word
        kind = getattr(self, "on_" + word.replace("-", "_").replace(".", "_"), None)
        if kind is not None:
            kind(command)
        elif word in _DEVICES:
            self.hide(_DEVICES[word])
            if word.startswith("private") or word in ("machine-id", "hosts-file", "dns"):
                self.note(command, "what would stand there instead is not: it is denied")
        elif word.startswith("dbus-"):
            self.dbus(command)
        elif word.startswith("rlimit-"):
            self.note(command, "a limit is the certificate's: sign --rlimit")
        elif word not in _HERE_ANYWAY:
            self.note(command, _TOLD.get(word, "not carried over, this may permit more"))

    # ---- names -----------------------------------------------------------------------------------

    def on_noblacklist(self, command: Command) -> None:
        self.spared += paths_of(command.rest)[0]

    def on_blacklist(self, command: Command) -> None:
        patterns, sure = paths_of(command.rest)
        if not sure:
            self.note(command, "where the user has moved it to is not known: this may permit more")
        for pattern in patterns:
            if any(fnmatchcase(pattern, one) for one in self.spared):
                continue
            exceptions = tuple(one for one in self.spared if fnmatchcase(one, pattern))
            if len(exceptions) > _EXCEPTIONS_MAX:
                self.note(command, "too many exceptions: they stay hidden")
                exceptions = ()
            self.hide([pattern], exceptions)

    on_blacklist_nolog = on_blacklist

    def on_nowhitelist(self, command: Command) -> None:
        self.unlisted += paths_of(command.rest)[0]

    def on_whitelist(self, command: Command) -> None:
        patterns, sure = paths_of(command.rest)
        for pattern in patterns:
            if any(fnmatchcase(pattern, one) for one in self.unlisted):
                continue
            if not sure:
                self.note(command, "where the user has it is not known: left out")
            for each in self.both(pattern):
                shown = self.shown.setdefault(top_of(each), [])
                if sure and each != top_of(each):
                    shown.append(each)

    def on_whitelist_ro(self, command: Command) -> None:
        self.on_whitelist(command)
        self.on_read_only(command)

    def on_read_only(self, command: Command) -> None:
        patterns, sure = paths_of(command.rest)
        if not sure:
            self.note(command, "where the user has moved it to is not known: this may permit more")
        for pattern in patterns:
            self.read_only += [(each, []) for each in self.both(pattern)]

    def on_read_write(self, command: Command) -> None:
        patterns, sure = paths_of(command.rest)
        if not sure:
            self.note(command, "where the user has it is not known: left out")
            return
        for pattern in patterns:
            for _, exceptions in self.read_only:
                exceptions.append(pattern)

    def on_noexec(self, command: Command) -> None:
        for pattern in paths_of(command.rest)[0]:
            self.not_executed += self.both(pattern)

    def on_tmpfs(self, command: Command) -> None:
        self.note(command, "an empty place to write to is not there instead: it is denied")
        self.hide(paths_of(command.rest)[0])

    def on_bind(self, command: Command) -> None:
        self.note(command, "nothing is shown in another place: it is denied")
        self.hide(paths_of(command.rest.rpartition(",")[2])[0])

    def on_private_dev(self, command: Command) -> None:
        self.shown.setdefault("/dev", []).extend(f"/dev/{one}" for one in _PRIVATE_DEV.split())

    def listed(self, command: Command, *tops: str) -> None:
        for top in tops:
            shown = self.shown.setdefault(top, [])
            for one in command.rest.split(","):
                if one == "none" or not one:
                    continue
                if one.startswith("@"):
                    self.note(command, f"the group {one} is left out")
                    continue
                name = f"{top}/{one.strip().removeprefix(top).lstrip('/')}"
                shown += [each for each in self.both(name) if each.startswith(f"{top}/")]

    def on_private_etc(self, command: Command) -> None:
        self.listed(command, "/etc")

    def on_private_opt(self, command: Command) -> None:
        self.listed(command, "/opt")
        self.read_only.append(("/opt", []))

    def on_private_srv(self, command: Command) -> None:
        self.listed(command, "/srv")
        self.read_only.append(("/srv", []))

    def on_private_bin(self, command: Command) -> None:
        self.listed(command, "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin",
                    "/usr/local/sbin", "/usr/games", "/usr/local/games")  # fmt: skip

    def on_private_lib(self, command: Command) -> None:
        """Show libraries, and what is listed.

        firejail asks the loader which libraries the program needs; that is not asked here.
        """
        self.note(command, "all libraries in these directories are shown, not those of the "
                           "program alone: this permits more")  # fmt: skip
        for top in _LIBRARIES:
            self.listed(command, top)
            for within in (top, f"{top}/{_MULTIARCH}"):
                names = [one.strip() for one in command.rest.split(",") if one.strip()]
                for one in ("*.so", "*.so.*", *(names if within != top else ())):
                    self.shown[top] += [
                        each for each in self.both(f"{within}/{one}") if each.startswith(f"{top}/")
                    ]

    def dbus(self, command: Command) -> None:
        bus, _, what = command.word.partition(".")
        if what or command.rest not in ("none", "filter"):
            if not what:
                self.note(command, "not carried over, this may permit more")
            return
        if command.rest == "filter":
            self.note(command, "messages cannot be told apart: the bus is denied")
        self.hide((f"{RUNUSER}/bus", f"{RUNUSER}/dbus-*") if bus == "dbus-user"
                  else ("/run/dbus", "/var/run/dbus"))  # fmt: skip

    # ---- sockets and calls -----------------------------------------------------------------------

    def on_net(self, command: Command) -> None:
        self.network = False
        if command.rest != "none":
            self.note(command, "a network of its own is not there: none is permitted")

    def on_netns(self, command: Command) -> None:
        self.on_net(command)

    def on_protocol(self, command: Command) -> None:
        words = [one.strip() for one in command.rest.split(",")]
        for one in words:
            if one not in _DOMAINS:
                self.note(command, f"{one} is left out")
        self.domains = [*(self.domains or []), *(one for one in words if one in _DOMAINS)]

    def on_seccomp(self, command: Command) -> None:
        for one in command.rest.split(","):
            one = one.strip().partition(":")[0]
            if one.startswith("@") and one not in _NEVER_PERMITTED:
                told = f"{command.place}: this group of calls is not read: {one}"
                raise PolicyError("usage", told, "write its calls out")
            if one in NUMBERS:
                self.dropped.add(one)
            elif one and one[0] not in "!@$":
                self.note(command, f"there is no call {one}")
            elif one.startswith("$"):
                raise PolicyError("usage", f"{command.place}: calls by number are not read: {one}")

    on_seccomp_drop = on_seccomp

    def on_seccomp_keep(self, command: Command) -> None:
        words = [one.strip() for one in command.rest.split(",")]
        for one in words:
            if one not in NUMBERS:
                self.note(command, f"{one} is left out")
        self.kept = (self.kept if self.kept is not None else set()) | {*words} & NUMBERS.keys()

    def on_memory_deny_write_execute(self, command: Command) -> None:
        self.no_new_code = True

    def on_ipc_namespace(self, command: Command) -> None:
        self.dropped |= {one for one in CALLS if one[:3] in ("sem", "shm", "msg")}

    # ---- the policy ------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """Return what stands below the header."""
        free = [*CALLS, *ON_SOCKETS]
        body = ["# what is about no name"]
        if self.no_new_code:
            free = [one for one in free if one not in ("mmap", "mprotect", "memfd_create", "shmat")]
            body += [
                'native-mmap: prot sub "PROT_WRITE" and prot sub "PROT_EXEC" then deny',
                'native-mprotect: prot sub "PROT_EXEC" then deny',
                "native-mmap: true then permit", "native-mprotect: true then permit",
            ]
        body += [f"native-{one}: permit" for one in free if one not in (*self.dropped, "chdir")]
        body += ["native-fcntl: permit", "native-flock: permit"]
        body += [f"native-{one}: deny" for one in sorted(self.dropped)]
        if self.kept is not None:
            body += [
                f"native-{one}: deny" for one in NUMBERS
                if one not in self.kept | self.dropped and governing_names(one)
            ]
        body += [*self.sockets(), *self.files()]
        return body

    def sockets(self) -> list[str]:
        domains = _DOMAINS if self.domains is None else self.domains
        if not self.network:
            domains = [one for one in domains if one in ("unix", "netlink")]
        lines = ["# sockets"]
        for one in dict.fromkeys(domains):
            for call in ("socket", "socketpair") if one == "unix" else ("socket",):
                lines.append(f'native-{call}: sockdom eq "{_DOMAINS[one]}" then permit')
        for call in _ADDRESSED:
            if {"inet", "inet6"} & set(domains):
                lines.append(f'native-{call}: sockaddr match "inet-*" then permit')
            for one, number in (("netlink", 16), ("packet", 17), ("bluetooth", 31)):
                if one in domains:
                    lines.append(f'native-{call}: sockaddr eq "family({number})" then permit')
            if "unix" not in domains:
                continue
            there = _WITH_SOCKETS[call]
            places = " or ".join(f"sockaddr match {quote(one)}" for one in there)
            elsewhere = f'sockaddr match "/*" and not ( {places} )'
            lines.append(f"native-{call}: {elsewhere} then deny[eacces]")
            lines += self.denials(
                call, WRITE if call == "bind" else READ, "sockaddr", there
            )
            lines += self.listed_of_tops(call, "sockaddr", "")
            if self.network:  # names without a file belong to the network
                lines.append(f'native-{call}: sockaddr match "@*" then permit')
            lines.append(f"native-{call}: {places} then permit")
        if domains:
            lines.append('native-sendmsg: sockaddr eq "<unknown>" then permit')
        return lines

    def files(self) -> list[str]:
        missing = quote("/<non-existent filename>*")
        lines = ["# files", f"native-fsread: filename match {missing} then deny[enoent]"]
        on_the_way = [f"filename inpath {quote(one)}" for shown in (*self.shown.values(), ["$HOME"])
                      for one in shown if not set(one) & set("*?[")]  # fmt: skip
        for call in ("stat", "lstat", "access", "readlink"):
            lines += [f"native-{call}: {any_} then permit" for any_ in groups(on_the_way)]
        for kind, calls in _CALLS_OF.items():
            flag = "[inherit]" if kind == EXECUTE else ""
            for call in calls:
                lines += self.denials(call, kind, "filename")
                lines += self.listed_of_tops(call, "filename", flag)
                lines.append(f'native-{call}: filename match "/*" then permit{flag}')
        lines.append('native-fsread: filename eq "/" then permit')
        return lines + self.moves("rename")

    def moves(self, call: str) -> list[str]:
        """Return the rules for calls with two names, both of which may be written."""
        lines = [
            line for argument in ("filename", "filename[1]") for line in
            self.denials(call, WRITE, argument)
        ]
        # what lies below would come out under another name
        taken = (*self.hidden, *self.not_executed, *(one for one, _ in self.read_only))
        lines += [
            f"native-{call}: {any_} then deny[eacces]" for any_ in groups(
                f"{argument} inpath {quote(one)}" for one in dict.fromkeys(map(above, taken))
                for argument in ("filename", "filename[1]")
            )
        ]
        places = [
            one for place in _WRITABLE if place not in ("/dev", "/proc/self")
            for one in self.shown.get(place, [place])
        ]
        old, new = (
            groups((f"{argument} match {quote(one)}" for one in places), LINE_PART // 2)
            for argument in ("filename", "filename[1]")
        )
        return lines + [f"native-{call}: ( {one} ) and ( {two} ) then permit"
                        for one in old for two in new]  # fmt: skip

    def denials(
        self, call: str, kind: str, argument: str, places: tuple[str, ...] = ()
    ) -> list[str]:
        """Return the rules that deny what a kind of call may not do with names.

        ``places``: all else is denied by another rule.
        """
        def match(pattern: str) -> str:
            return f"{argument} match {quote(pattern)}"

        taken = list(self.hidden.items())
        if kind == EXECUTE:
            taken += [(one, ()) for one in self.not_executed]
        if kind == WRITE:
            taken += [(one, tuple(but)) for one, but in self.read_only]
        if kind == WRITE:
            places = places or _WRITABLE
        if places:
            taken = [(one, but) for one, but in taken if may_meet(one, places)]
        taken = [
            (one, but) for one, but in taken
            if (shown := self.shown.get(top_of(one))) is None
            or may_meet(one, (*shown, "/run/user"))
        ]  # what a list leaves out needs no rule of its own
        plain = [match(one) for one, but in taken if not but or len(but) > _EXCEPTIONS_MAX]
        plain.append(f'{argument} re "^/proc/[0-9]+(/|$)"')  # processes of others are not seen
        denied = groups(plain)
        for one, but in taken:
            if but and len(but) <= _EXCEPTIONS_MAX:
                denied.append(f"{match(one)} and not ( {' or '.join(map(match, but))} )")
        denied += [f"{match(one)} and not {match('$HOME')}" for one in ("/home", "/root")]
        if kind == WRITE:
            outside = f"not ( {' or '.join(map(match, _WRITABLE))} )"
            denied.append(f"{match('/*')} and {outside}")
        return [f"native-{call}: {one} then deny[eacces]" for one in denied]

    def listed_of_tops(self, call: str, argument: str, flag: str) -> list[str]:
        """Return the rules for directories of which only a list is shown, the inner ones first."""
        lines = []
        for top in sorted(self.shown, key=lambda one: (not one.startswith("$"), -one.count("/"))):
            shown = [*self.shown[top], *(["/run/user"] if top == "/run" else [])]
            conditions = (f"{argument} match {quote(one)}" for one in shown)
            lines += [f"native-{call}: {any_} then permit{flag}" for any_ in groups(conditions)]
            lines.append(f"native-{call}: {argument} match {quote(top)} then deny[eacces]")
        return lines
