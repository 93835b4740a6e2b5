"""What this machine can promise, as a list of findings: the substance of ``certexec doctor``.

Each finding is one fact, what it means for certificates, and what mends it. "fail" means that the
main job, a signed certificate in $PATH that runs as a program, cannot work; "warn" that a part of
it cannot, or could not be judged.
"""

from __future__ import annotations

import os
import resource
import time

from certexec.errors import CertexecError
from certexec.kernel import binfmt, filesystem
from certexec.kernel.ownership import check_file, root_owners
from certexec.run import child, deploy, handler, plan_cache, probe, server_state, version_tree
from certexec.run.ground import HOLDING
from certexec.run.layout import Layout
from certexec.trust.store import load_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OK = "ok"
WARN = "warn"
FAIL = "fail"
EARLIEST = 1_767_225_600
"""seconds since 1970, 2026-01-01: no certificate is older, so no right clock shows less."""
FEW_FILES = 64
"""Open files that a supervisor and its program need with room to spare."""
USUAL_PLACES = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt")
SETUP_HINT = 'run "certexec setup" as root'
_YAMA = "kernel/yama/ptrace_scope"
_YAMA_NOBODY = 3


class Finding:
    """One line of the table.

    Attributes:
        name: what was looked at; status: OK, WARN or FAIL; value: what was found.
        meaning: what that is good or bad for, in one line; hint: what mends it, or "".
    """

    __slots__ = ("hint", "meaning", "name", "status", "value")

    def __init__(self, name: str, status: str, value: str, meaning: str, hint: str = "") -> None:
        self.name = name
        self.status = status
        self.value = value
        self.meaning = meaning
        self.hint = hint


def _choice(
    name: str, answer: bool | None, good: str, bad: str, severity: str, hint: str = ""
) -> Finding:
    """Make a finding of a yes, a no, or an answer that could not be had."""
    if answer is None:
        return Finding(name, WARN, "unknown", f"could not be tried here; if missing: {bad}", "")
    if answer:
        return Finding(name, OK, "yes", good)
    return Finding(name, severity, "no", bad, hint)


def check_handler(layout: Layout) -> Iterable[Finding]:
    """Judge binfmt_misc, the handler, and what will happen at the next boot."""
    name = "handler"
    if not binfmt.mounted():
        state = "not mounted" if binfmt.supported() else "missing"
        yield Finding(
            "binfmt_misc", FAIL, state, "the kernel asks nobody about certificates", SETUP_HINT
        )
        return
    on = binfmt.switched_on()
    yield Finding(
        "binfmt_misc",
        OK if on else FAIL,
        "enabled" if on else "disabled",
        "the kernel asks handlers about unknown files" if on else "no handler is asked",
        "" if on else f"echo 1 > {binfmt.MOUNT_POINT}/status",
    )
    entry = binfmt.read_entry()
    if entry is None:
        yield Finding(name, FAIL, "none", "certificates do not run by name", SETUP_HINT)
        return
    problems = entry.problems(layout.launcher)
    fresh = handler.is_fresh(layout)
    if fresh is False:
        problems.append("it starts another launcher than the installed one")
    if problems:
        again = 'run "certexec binfmt register" as root'
        yield Finding(name, FAIL, f"flags {entry.flags}", "; ".join(problems), again)
    elif fresh is None:
        yield Finding(name, WARN, f"flags {entry.flags}", "which launcher it starts is not known")
    else:
        yield Finding(name, OK, f"flags {entry.flags}", "certificates start the launcher")
    for other in binfmt.conflicts():
        yield Finding(
            "other handler",
            WARN,
            other.name,
            f'it may take certificates too and start "{other.interpreter}"',
            f"echo -1 > {binfmt.MOUNT_POINT}/{other.name}",
        )
    boot = handler.boot_entry(layout)
    yield Finding(
        "at boot",
        OK if boot else WARN,
        boot or "no entry",
        "systemd registers the handler again" if boot else "the handler is gone after a reboot",
        "" if boot else SETUP_HINT,
    )


def check_launcher(layout: Layout) -> Finding:
    """Judge the file that the handler names."""
    name = "launcher"
    try:
        fd = check_file(layout.launcher, root_owners())
        mode = os.fstat(fd).st_mode & 0o7777
        os.close(fd)
    except CertexecError as error:
        return Finding(name, FAIL, error.reason, error.message, SETUP_HINT)
    if mode != 0o755:
        return Finding(name, FAIL, f"mode {mode:o}", "it must have mode 755", SETUP_HINT)
    return Finding(name, OK, layout.launcher, "only root can change it")


def _manifest(root: str) -> dict[str, str]:
    found = {}
    with open(f"{root}/{version_tree.MANIFEST}") as file:
        for line in file.read().splitlines():
            digest, _, path = line.split(" ", 2)
            found[path] = digest
    return found


def _is_this_package(root: str, package: str) -> bool:
    """Tell whether a version was made from this package; an unbuilt source tree is no reason."""
    try:
        recorded = _manifest(root)
        items = version_tree.collect(package)
    except (OSError, ValueError, CertexecError):
        return True
    return all(recorded.get(item.relative) == item.digest for item in items)


def check_server(layout: Layout, uid: int | None, package: str) -> Iterable[Finding]:
    """Judge the version that counts: whole, working, and the one of this command."""
    name = "policy server"
    identifier = deploy.current_version(layout)
    if not identifier:
        yield Finding(name, FAIL, "not installed", "nothing can judge a certificate", SETUP_HINT)
        return
    root = layout.version(identifier)
    damage = version_tree.damage(root)
    if damage:
        yield Finding(name, FAIL, identifier, damage, SETUP_HINT)
        return
    complaint = version_tree.self_test(layout.current, uid)
    if complaint:
        yield Finding(name, FAIL, identifier, f"it does not work: {complaint}", SETUP_HINT)
        return
    if not _is_this_package(root, package):
        yield Finding(name, WARN, identifier, "it is not of this command's version", SETUP_HINT)
        return
    yield Finding(name, OK, identifier, "it is whole and passes its self-test")
    if version_tree.has_doors(layout.current, uid):
        yield Finding("doors", OK, "compiled", "judged calls reach the kernel the short way")
    else:
        meaning = "judged calls take about a third longer: pip found no compiler or no Python.h"
        yield Finding("doors", OK, "Python alone", meaning)


def check_resident(layout: Layout) -> Finding:
    """Judge the resident server: nobody needs it, everybody starts sooner with it."""
    name = "resident server"
    state = server_state.look(layout)
    by_systemd = " for systemd" if state.activated else ""
    if state.pid and not state.current:
        meaning = "it is of another version, and gives way with the next execution"
        return Finding(name, WARN, f"process {state.pid}", meaning, SETUP_HINT)
    if state.pid and state.listens:
        meaning = f"it serves{by_systemd}, with the version that counts"
        return Finding(name, OK, f"process {state.pid}", meaning)
    if state.activated:
        return Finding(name, OK, "activated", "systemd starts it with the next execution")
    meaning = 'each execution starts a server; "certexec server" saves that'
    return Finding(name, OK, "none", meaning)


def check_plans(layout: Layout) -> Finding:
    """Judge the verdicts that are kept ("cached"): nobody needs them, everybody starts sooner."""
    name = "cached"
    found = list(plan_cache.entries(layout))
    if not found:
        meaning = "no verdict is kept: each execution is judged anew"
        return Finding(name, OK, "0 plans", meaning)
    fresh = sum(1 for key, one in found if one is not None and not plan_cache.verify(key, one))
    value = f"{fresh} of {len(found)} plans"
    if fresh == len(found):
        return Finding(name, OK, value, "these certificates start without being judged anew")
    meaning = "the others are judged anew, since something changed"
    return Finding(name, OK, value, meaning, '"certexec cache verify" says what')


def check_trust_store(layout: Layout) -> Finding:
    """Judge the trust store and count its keys."""
    name = "trust store"
    try:
        keys = load_store(layout.trust_store, owner_ok=root_owners())
    except CertexecError as error:
        if not os.path.lexists(layout.trust_store):
            return Finding(name, FAIL, "missing", "no certificate is trusted", SETUP_HINT)
        return Finding(name, FAIL, error.reason, error.message, error.hint)
    if not keys:
        hint = 'add one with "certexec trust add KEY.pub"'
        return Finding(name, WARN, "0 keys", "no certificate is trusted yet", hint)
    granting = sum(1 for key in keys if key.constraints.grants)
    count = f"{len(keys)} key{'s' if len(keys) > 1 else ''}"
    return Finding(name, OK, count, f"only root can change it; {granting} may grant identities")


def check_kernel() -> Iterable[Finding]:
    """Judge what the kernel offers to the supervisor."""
    release = os.uname().release
    denies = probe.exec_denies_writers()
    if denies is False:
        yield Finding(
            "kernel", WARN, release,
            "exec does not keep writers away: every binary runs from a sealed copy in memory",
            "Linux 6.11.11, 6.12.2 and later do it again",
        )  # fmt: skip
    else:
        meaning = "a running binary cannot be written to" if denies else "exec could not be tried"
        yield Finding("kernel", OK if denies else WARN, release, meaning)
    yield _choice(
        "seccomp notify", probe.has_notification(),
        "path and address rules can be judged",
        "path and address rules cannot be judged", FAIL, "they need Linux 5.19",
    )  # fmt: skip
    yield _choice(
        "wait killable", probe.has_wait_killable(),
        "a signal does not make a judged call run twice",
        "judged calls could run twice after a signal", FAIL, "it needs Linux 5.19",
    )  # fmt: skip
    yield _choice(
        "addfd send", probe.has_addfd_send(),
        "an open is answered in one step",
        "opens cannot be answered in one step", FAIL, "it needs Linux 5.14",
    )  # fmt: skip
    yield _choice(
        "sync wake-up", probe.has_sync_wake_up(),
        "judged calls are answered on the caller's CPU",
        "judged calls are about ten times slower", WARN, "it needs Linux 6.6",
    )  # fmt: skip
    abi = probe.landlock_abi()
    yield Finding(
        "landlock", OK if abi else WARN, f"ABI {abi}" if abi else "no",
        "path rules may be left to the kernel" if abi else "every path rule is judged outside",
        "" if abi else 'add "landlock" to the kernel\'s lsm= list',
    )  # fmt: skip


def check_tracing() -> Iterable[Finding]:
    """Judge whether a program can be stopped at its exec, and by whom."""
    yield _choice(
        "ptrace", probe.can_trace_child(),
        "a binary can be judged before its first instruction",
        "no binary can be judged before its first instruction", FAIL,
        "something forbids ptrace: a container's filter, or Yama at 3",
    )  # fmt: skip
    scope = probe.sysctl(_YAMA)
    value = "no Yama" if scope is None else f"Yama at {scope}"
    if scope == _YAMA_NOBODY:
        yield Finding("ptrace scope", FAIL, value, "nobody may trace", f"sysctl {_YAMA}=1, reboot")
        return
    ordinary = probe.can_trace_parent()
    finding = _choice(
        "ptrace scope", ordinary,
        "ordinary users can be supervised without a grant",
        "certificates without a grant that need a supervisor are refused for ordinary users",
        WARN, f"sysctl {_YAMA.replace('/', '.')}=0",
    )  # fmt: skip
    finding.value = value
    yield finding


def check_identity() -> Iterable[Finding]:
    """Judge whether exec keeps the ids that a certificate grants."""
    kept = probe.keeps_ids(no_new_privs=False)
    finding = _choice(
        "identity", kept,
        "exec keeps a granted identity", "exec takes a granted identity away", FAIL,
    )  # fmt: skip
    if kept is None:
        finding.meaning = "not tried: it needs root"
    yield finding
    under = probe.keeps_ids(no_new_privs=True)
    if under is not None:
        what = "would keep" if under else "would take away"
        meaning = f"no_new_privs {what} a granted identity; certexec does without it"
        yield Finding("no_new_privs", OK, "keeps ids" if under else "resets ids", meaning)
    dumpable = probe.sysctl("fs/suid_dumpable")
    bad = dumpable == 1
    yield Finding(
        "suid_dumpable", WARN if bad else OK, str(dumpable),
        "others of the invoker's uid could attach to a program with a grant" if bad
        else "nobody of the invoker's uid can attach to a program with a grant",
        "sysctl fs.suid_dumpable=0" if bad else "",
    )  # fmt: skip


def check_memory_files(layout: Layout) -> Iterable[Finding]:
    """Judge sealed copies and leases."""
    strict = probe.sysctl("vm/memfd_noexec") or 0
    yield Finding(
        "memfd_noexec", WARN if strict > 1 else OK, str(strict),
        "scripts, and binaries on file systems without exec-stop, are refused" if strict > 1
        else "programs can run from sealed copies in memory",
        "sysctl vm.memfd_noexec=1" if strict > 1 else "",
    )  # fmt: skip
    if probe.sysctl("fs/leases-enable") == 0:
        yield Finding("leases", WARN, "off", "no verdict can be kept", "sysctl fs.leases-enable=1")
        return
    granted = probe.lease_granted(layout.launcher)
    value = {True: "granted", False: "refused", None: "not for us"}[granted]
    meaning = "a kept verdict notices writers" if granted else "verdicts are not kept"
    yield Finding("leases", OK, value, meaning)


def check_places(places: Sequence[str]) -> Iterable[Finding]:
    """Judge the directories where programs and certificates stand, grouped by what they promise."""
    groups: dict[tuple[str, bool, bool, bool], list[str]] = {}
    release = os.uname().release
    seen = set()
    for place in places:
        real = os.path.realpath(place)
        if real in seen or not os.path.isdir(real):
            continue
        seen.add(real)
        try:
            fd = os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        flags = os.fstatvfs(fd).f_flag
        key = (
            filesystem.type_name(fd),
            filesystem.exec_write_denied(fd, release),
            bool(flags & os.ST_NOSUID),
            bool(flags & os.ST_NOEXEC),
        )
        os.close(fd)
        groups.setdefault(key, []).append(real)
    for (kind, denied, nosuid, noexec), where in groups.items():
        keeps = kind in HOLDING and not nosuid
        cached = ", or cached where root alone can change them" if keeps else ""
        notes = [f"binaries are judged by {'exec-stop' if denied else 'sealed'}{cached}"]
        if nosuid:
            notes.append("nosuid: certificates with a grant are refused here")
        if noexec:
            notes.append("noexec: no certificate runs here")
        status = WARN if nosuid or noexec else OK
        yield Finding(f"on {kind}", status, " ".join(where), "; ".join(notes))


def check_surroundings() -> Iterable[Finding]:
    """Judge user namespaces, limits and the clock."""
    possible = probe.own_binfmt_in_user_namespace()
    yield Finding(
        "user namespaces", OK,
        {True: "own binfmt_misc", False: "no own binfmt_misc", None: "unknown"}[possible],
        "certificates run by name inside them after a setup of their own" if possible
        else "inside them only this machine's handler, or certexec run",
    )  # fmt: skip
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = hard != resource.RLIM_INFINITY and hard < FEW_FILES
    yield Finding(
        "open files", WARN if few else OK, f"{soft} of {hard}",
        "too few for a supervisor" if few else "enough for a supervisor",
        "raise the limit: ulimit -n" if few else "",
    )  # fmt: skip
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    wrong = now < EARLIEST
    yield Finding(
        "clock", FAIL if wrong else OK, shown,
        "every certificate looks as if it were not valid yet" if wrong
        else "certificates expire by it",
        "set the clock" if wrong else "",
    )  # fmt: skip


def examine(layout: Layout, places: Sequence[str], package: str) -> list[Finding]:
    """Make every finding about this machine; probes are harmless and take well below a second."""
    uid = child.ordinary_uid()
    try:
        handlers = list(check_handler(layout))
    except CertexecError as error:
        handlers = [Finding("handler", WARN, error.reason, error.message, error.hint)]
    return [
        *handlers,
        check_launcher(layout),
        *check_server(layout, uid, package),
        check_resident(layout),
        check_plans(layout),
        check_trust_store(layout),
        *check_kernel(),
        *check_tracing(),
        *check_identity(),
        *check_memory_files(layout),
        *check_places(places),
        *check_surroundings(),
    ]


def works(findings: Iterable[Finding]) -> bool:
    """Tell whether the main job can work."""
    return all(finding.status != FAIL for finding in findings)
