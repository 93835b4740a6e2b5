"""How much a policy leaves open, as one figure with its reasons (pure).

Each check asks the policy about some calls that an attacker who controls the program would like to
make. Its weight counts as far as they are permitted (``ask`` counts half), and the exposure is the
sum of these as a share of all weights, from 0.0 to 10.0. Where one call is enough to escape, that
alone says how much at least, and the weights share what is left up to 10.0. The figure says how
much could be done, not how likely that is; it depends on nothing but the policy and these tables,
which docs/policy-score.md shows.
"""

from __future__ import annotations

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import arguments_of, variants
from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.model import Subject
from certexec.policy.reachable import writable_code, written_and_executed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.model import Policy

    Probe = tuple[str, str, dict[str, str]]
    """Linux's name of a call, its use ("" for the only one), and its arguments."""

HOME = "/home/user"
SOMEBODY = tuple(Subject(1000, 1000, HOME, "user", cwd) for cwd in ("/srv/dir", HOME))
"""An ordinary user, who starts the program in a directory that no check is about, and at home."""
GRADES = ((9.0, "dangerous"), (7.5, "unsafe"), (5.0, "exposed"), (2.5, "medium"), (1.0, "low"))
"""From which figure on which word holds; below all of them it is MINIMAL."""
MINIMAL = "minimal"


def _writes(*paths: str) -> tuple[Probe, ...]:
    return tuple(("openat", "write", {"filename": path, "oflags": "rwc"}) for path in paths)


def _reads(*paths: str) -> tuple[Probe, ...]:
    return tuple(("openat", "read", {"filename": path, "oflags": "ro"}) for path in paths)


def _executes(*paths: str) -> tuple[Probe, ...]:
    return tuple(("execve", "", {"filename": path, "argv": path}) for path in paths)


def _connects(*addresses: str) -> tuple[Probe, ...]:
    return tuple(("connect", "", {"sockaddr": address}) for address in addresses)


def _calls(*names: str) -> tuple[Probe, ...]:
    return tuple((name, variants(name)[-1].label, {}) for name in names)


class Check:
    """Something that a policy should not leave open.

    Attributes:
        word: stable name; weight: how much it counts; title: for people; probes: calls to judge.
        one_does: one permitted call is as much as all of them.
    """

    __slots__ = ("one_does", "probes", "title", "weight", "word")

    def __init__(
        self, word: str, weight: int, title: str, probes: Sequence[Probe] = (), *,
        one_does: bool = False,
    ) -> None:  # fmt: skip
        self.word = word
        self.weight = weight
        self.title = title
        self.probes = probes
        self.one_does = one_does


_SHARES = {"permit": 1.0, "ask": 0.5}
"""How far a verdict permits; any other does not at all."""
WRITE_EXEC, WRITABLE_CODE, LET_GO, ELEVATED = "write-exec", "wx-memory", "let-go", "elevated"
TAKE_HOLD = "take-hold"
"""The checks that judge more than single calls."""

CHECKS: tuple[Check, ...] = (
    # files
    Check("write-system", 10, "writes programs, libraries and the system's configuration", _writes(
        "/usr/bin/x", "/usr/lib/x.so", "/usr/local/bin/x", "/etc/x", "/boot/x",
    )),
    Check("write-startup", 8, "writes what others execute when they start", _writes(
        f"{HOME}/.bashrc", f"{HOME}/.ssh/authorized_keys", f"{HOME}/.config/autostart/x.desktop",
        "/etc/cron.d/x", "/etc/profile.d/x.sh", "/etc/ld.so.preload", "/var/spool/cron/user",
    )),
    Check("write-devices", 9, "writes raw devices", _writes("/dev/sda", "/dev/mem", "/dev/kmsg")),
    Check("write-home", 4, "writes the user's files", _writes(f"{HOME}/x", f"{HOME}/documents/x")),
    Check("write-data", 3, "writes other programs' data", _writes(
        "/var/lib/x/x", "/srv/x", "/opt/x/x", "/var/log/x",
    )),
    Check("write-shared", 1, "writes where everybody may", _writes(
        "/tmp/x", "/var/tmp/x", "/dev/shm/x",  # noqa: S108 - names to ask about
    )),
    Check("read-secrets", 8, "reads keys, passwords and other programs' memory", _reads(
        "/etc/shadow", "/root/x", f"{HOME}/.ssh/id_ed25519", f"{HOME}/.gnupg/x",
        f"{HOME}/.mozilla/x", f"{HOME}/.aws/credentials", "/proc/1/environ", "/proc/1/mem",
    )),
    Check("read-home", 3, "reads the user's files", _reads(f"{HOME}/x", f"{HOME}/documents/x")),
    Check("read-system", 1, "reads the system's configuration and logs", _reads(
        "/etc/x", "/var/log/x", "/var/lib/x/x",
    )),
    Check("change-rights", 3, "changes owners and rights of files", (
        ("chmod", "", {"filename": "/etc/x", "mode": "4755"}),
        ("chown", "", {"filename": "/etc/x", "uid": "0", "gid": "0"}),
    )),
    # programs
    Check("execute", 8, "executes shells and other tools", _executes(
        # by their real names, as a program is judged when it is executed
        "/bin/sh", "/usr/bin/dash", "/usr/bin/bash", "/bin/bash", "/bin/busybox",
        "/usr/bin/busybox", "/usr/bin/zsh", "/usr/bin/perl", "/usr/bin/python3",
        *(f"/usr/bin/python3.{minor}" for minor in range(9, 16)),
        "/usr/bin/env", "/usr/bin/ssh", "/usr/bin/curl", "/usr/bin/wget", "/usr/bin/gawk",
    ), one_does=True),
    Check("execute-privileged", 6, "executes programs that are set-user-ID", _executes(
        "/usr/bin/sudo", "/usr/bin/su", "/usr/bin/pkexec",
    )),
    Check(WRITE_EXEC, 10, "executes what it can write"),
    Check(WRITABLE_CODE, 4, "makes memory writable and executable at once"),
    Check(LET_GO, 4, "lets programs go, unconfined"),
    Check(ELEVATED, 3, "makes calls with rights that it does not have"),
    # network
    Check("connect", 6, "connects anywhere", _connects(
        "inet-[203.0.113.7]:443", "inet-[203.0.113.7]:80", "inet-[203.0.113.7]:22",
        "inet-[203.0.113.7]:25", "inet-[203.0.113.7]:31337", "inet-[2001:db8::7]:443",
    )),
    Check("send", 3, "sends to any address without a connection", (
        ("sendto", "addressed", {"sockaddr": "inet-[203.0.113.7]:53"}),
        ("sendmsg", "", {"sockaddr": "inet-[203.0.113.7]:53"}),
    )),
    Check("connect-local", 4, "talks to services of this machine", _connects(
        "/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private",
        "inet-[127.0.0.1]:5432", "/tmp/.X11-unix/X0",  # noqa: S108 - a name to ask about
    )),
    Check("listen", 2, "waits for connections from outside", (
        ("bind", "", {"sockaddr": "inet-[0.0.0.0]:8080"}),
        ("bind", "", {"sockaddr": "inet-[::]:8080"}),
    )),
    Check("raw-sockets", 5, "makes raw and packet sockets", (
        ("socket", "", {"sockdom": "AF_INET", "socktype": "SOCK_RAW"}),
        ("socket", "", {"sockdom": "AF_UNKNOWN(17)", "socktype": "SOCK_RAW"}),
    )),
    Check("odd-sockets", 2, "makes sockets of seldom used families", (
        ("socket", "", {"sockdom": "AF_UNKNOWN(16)", "socktype": "SOCK_RAW"}),
        ("socket", "", {"sockdom": "AF_UNKNOWN(40)", "socktype": "SOCK_STREAM"}),
    )),
    # other processes, and the kernel
    Check("trace", 6, "looks into other processes", _calls(
        "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd",
    )),
    Check("signal", 2, "sends signals to other programs", (
        ("kill", "", {"pidname": "/usr/sbin/x", "signame": "SIGKILL"}),
    )),
    Check("modules", 10, "loads kernel modules or another kernel", _calls(
        "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
    )),
    Check("mount", 7, "changes what is mounted", _calls(
        "umount2", "fsopen", "fsmount", "pivot_root", "open_tree", "mount_setattr",
    )),
    Check("namespaces", 5, "makes namespaces and enters others", _calls(
        "unshare", "setns", "clone",
    )),
    Check("bpf", 6, "loads programs into the kernel", _calls("bpf")),
    Check("io-uring", 4, "makes calls that no filter sees", _calls("io_uring_setup")),
    Check("hardware", 8, "reaches the hardware's ports", _calls("iopl", "ioperm")),
    Check("handles", 5, "opens files past their directories", _calls("open_by_handle_at")),
    Check("keys", 2, "uses the kernel's keyrings", _calls("add_key", "keyctl", "request_key")),
    Check("attack-surface", 3, "uses calls that exploits are fond of", _calls(
        "userfaultfd", "perf_event_open", "personality", "vmsplice",
    )),
    Check("time", 3, "sets the clock", _calls("settimeofday", "clock_settime", "adjtimex")),
    Check("machine", 4, "stops the machine, or renames it", _calls(
        "reboot", "swapon", "swapoff", "sethostname", "acct",
    )),
    Check("identity", 3, "becomes somebody else, as far as it may", (
        ("setuid", "", {"uid": "0", "uname": "root"}), *_calls("setgroups", "capset"),
    )),
    Check("ioctl", 1, "commands devices, whatever the command", _calls("ioctl")),
)  # fmt: skip


TAKE_OVERS: tuple[tuple[float, Check], ...] = (
    (7.5, Check("take-system", 0, "takes over the system, as far as its user may write there", (
        *_writes("/usr/bin/x", "/usr/lib/x.so", "/etc/cron.d/x", "/etc/ld.so.preload", "/dev/sda"),
    ), one_does=True)),
    (5.0, Check("take-user", 0, "takes over its user: what he starts next is not confined", (
        *_writes(
            f"{HOME}/.bashrc", f"{HOME}/.profile", f"{HOME}/.ssh/authorized_keys",
            f"{HOME}/.config/autostart/x.desktop", f"{HOME}/.config/systemd/user/x.service",
            "/var/spool/cron/user",
        ),
        ("rename", "", {"filename": f"{HOME}/.bashrc"}),  # whatever the file was called before
        *_calls("ptrace", "process_vm_writev"),
    ), one_does=True)),
    (2.5, Check(TAKE_HOLD, 0, "executes programs of its own making, confined as it is")),
)  # fmt: skip
"""The least figure where a check finds something, and the checks; the highest one counts."""


class Reason:
    """One check and what it found.

    Attributes:
        open: the share of its probes that are permitted, from 0.0 to 1.0; example: one that is.
        points: what it adds to the figure; none for a take-over besides one that counts more.
    """

    __slots__ = ("check", "example", "open", "points")

    def __init__(self, check: Check, open_share: float, example: str) -> None:
        self.check = check
        self.open = open_share
        self.example = example
        self.points = 10 * check.weight * open_share / WHOLE


WHOLE = sum(check.weight for check in CHECKS)
"""The sum of all weights."""


class Exposure:
    """The figure of one policy, and its reasons: all checks, those that count most first."""

    __slots__ = ("figure", "reasons")

    def __init__(self, policy: Policy) -> None:
        reasons = [_reason(policy, check) for check in CHECKS]
        [written] = [one for one in reasons if one.check.word == WRITE_EXEC]
        bases = []
        for figure, check in TAKE_OVERS:
            base = _reason(policy, check) if check.probes else Reason(
                check, written.open, written.example
            )
            bases.append((figure * base.open, base))
        least, highest = max(bases, key=lambda one: one[0])
        for one in reasons:
            one.points *= 1 - least / 10
        highest.points = least
        reasons += [base for _, base in bases]
        self.figure = round(sum(one.points for one in reasons), 1)
        self.reasons = sorted(reasons, key=lambda one: (-one.points, one.check.word))

    @property
    def grade(self) -> str:
        """The figure in a word."""
        return next((word for least, word in GRADES if self.figure >= least), MINIMAL)


def _reason(policy: Policy, check: Check) -> Reason:
    if policy.detached:
        return Reason(check, 1.0, "the policy is detached: it confines nothing")
    if check.probes:
        answers = [(probe, _answer(policy, probe)) for probe in check.probes]
        permitted = [probe for probe, share in answers if share]
        shares = [share for _, share in answers]
        share = max(shares) if check.one_does else sum(shares) / len(shares)
        return Reason(check, share, _text(permitted[0]) if permitted else "")
    if check.word == WRITE_EXEC:
        both = written_and_executed(policy)
        return Reason(check, 1.0 if both else 0.0, both[0] if both else "")
    if check.word == WRITABLE_CODE:
        memory = writable_code(policy, presets=False)  # of a preset's rules nobody can mend any
        return Reason(check, 1.0 if memory else 0.0, " ".join(memory) if memory else "")
    rules = [
        rule for rule in policy.rules
        if (rule.detach if check.word == LET_GO else rule.elevate is not None)
        and rule.action == "permit"
    ]
    return Reason(check, 1.0 if rules else 0.0, f"line {rules[0].line}" if rules else "")


def _answer(policy: Policy, probe: Probe) -> float:
    """Return how far a call is permitted: 1.0, 0.5 where somebody is asked, 0.0."""
    name, label, given = probe
    variant = next(one for one in variants(name) if one.label == label)
    values: dict[str, list[str]] = {}
    for argument in arguments_of(name, variant):
        values.setdefault(argument.name, []).append(given.get(argument.name, ""))
    rules = effective_rules(policy, name, label)
    verdicts = [evaluate(rules, values, subject) for subject in SOMEBODY]
    return max(_SHARES.get(one.action, 0.0) if one else 0.0 for one in verdicts)


def _text(probe: Probe) -> str:
    name, label, given = probe
    assert name in NUMBERS
    shown = given.get("filename") or given.get("sockaddr") or " ".join(given.values())
    use = f":{label}" if label in ("read", "write") else ""
    return f"{name}{use} {shown}".rstrip()
