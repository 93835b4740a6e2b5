"""From a certificate to a cached plan: only where nothing but the recorded counts.

The verdict is reached twice, with a lease on the program, between two looks at everything that it
is built on. Only if both looks and both verdicts are the same, and nothing changed so lately that
another change could look the same, is it written down. So an entry says nothing that
``certexec.run.decide`` would not have said, and says it for as long as all of that stays.

What depends on more is not cached: a terminal, patterns for arguments, rules that name users or
$HOME, accounts that come from elsewhere than the files, a copy in memory, a supervisor.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time

from certexec.errors import CertexecError, RunError
from certexec.kernel import filesystem
from certexec.kernel.leases import ReadLease
from certexec.kernel.ownership import ACL_XATTR, ROOT_ONLY
from certexec.kernel.procfs import in_initial_user_namespace, own_fd, read_file
from certexec.policy.model import parts, symbols
from certexec.policy.operators import needs_expansion
from certexec.run import decide, environment, freshness, identity, integrity, plan_cache
from certexec.run import plan as plans
from certexec.run.account_files import AccountFiles, ForeignAccounts
from certexec.run.cache_entry import (
    ABSENT,
    ANYBODY,
    EGID_FOLLOWS,
    EUID_FOLLOWS,
    EVERYONE,
    FOR_CAPABLE,
    GROUP,
    LINK,
    PLACE,
    PLAIN,
    PREFIX,
    USER,
    Entry,
    Object,
)
from certexec.run.freshness import look, look_at
from certexec.run.ground import HOLDING, why_not_ground, why_not_standing
from certexec.run.invoker import Invoker
from certexec.run.layout import SYSTEM, Layout
from certexec.run.plan_build import build_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.certificate.model import Certificate, Invocation
    from certexec.policy.compile import Compiled
    from certexec.policy.model import Policy
    from certexec.run.decide import Approved
    from certexec.run.integrity import Judged
    from certexec.run.landlock import Tree

HOLDING_CERTIFICATES = HOLDING | {"tmpfs"}
"""A certificate's bytes were judged when the entry was made, and nothing reads them again: here
only the file counts, which nobody but root can exchange for another one."""
WAIT_MAX = 2.5
"""seconds to wait for a file that changed this very moment: a few ticks of the clock are enough,
two seconds where change times are that coarse."""
_READABLE = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_MINUTE, _DAY = 60, 86400


class Unfit(Exception):  # noqa: N818 - an answer, never shown as an error
    """This certificate's plan cannot be cached; the text says why."""


def remember(
    fd: int, path: str, invoker: Invoker | None = None, *, capable: bool, layout: Layout = SYSTEM
) -> str:
    """Judge an open certificate and keep its plan; returns the entry's name.

    Args:
        fd: the certificate.
        path: its name, for people.
        invoker: whose plan; needed for one that grants an identity.
        capable: for invokers that have capabilities, or for those that have none.
        layout: where certexec lives.

    Raises Unfit; CertexecError where the certificate would be refused, or for the store.
    """
    if sys.getfilesystemencoding() != "utf-8":  # a server's, whatever the caller's locale is
        raise Unfit("names are not UTF-8 in this locale")
    if os.geteuid() != 0 or not in_initial_user_namespace():
        raise Unfit("only root of the initial user namespace caches plans")
    info = os.fstat(fd)
    entry = _proved(fd, path, invoker, capable, layout)
    name = plan_cache.key_of(entry, info)
    plan_cache.write(name, entry, layout)
    return name


def _proved(
    fd: int, path: str, invoker: Invoker | None, capable: bool, layout: Layout
) -> Entry:
    """Return the entry, made twice with nothing moving in between."""
    deadline = time.monotonic() + WAIT_MAX
    with _Verdict(fd, path, invoker, capable, layout) as first:
        try:
            lease = ReadLease(first.judged.fd)
        except OSError as error:
            raise Unfit(f"the program cannot be leased: {error.strerror}") from None
        try:
            while True:
                moment = freshness.quiet_since()
                late = freshness.restless(first.entry.objects, moment)
                if not late:
                    break
                if time.monotonic() > deadline:
                    raise Unfit(f'"{os.fsdecode(late[0].path)}" has just changed')
                time.sleep(0.005)
            with _Verdict(fd, path, invoker, capable, layout) as again:
                before, after = first.entry, again.entry
                after.not_before = before.not_before  # the seconds may have moved on
                if before.encode() != after.encode() or not lease.holds():
                    raise Unfit("something changed meanwhile")
                return before
        finally:
            lease.give_back()


class _Verdict:
    """One verdict, the entry made of it, and the program that was judged, open."""

    def __init__(
        self, fd: int, path: str, invoker: Invoker | None, capable: bool, layout: Layout
    ) -> None:
        # 1. what counts is looked at first: a change after this shows
        try:
            objects = freshness.surroundings(layout)
        except OSError as error:
            raise Unfit(f"what it depends on cannot be seen: {error.strerror}") from None
        now = int(time.time())
        accounts = AccountFiles()
        # 2. the certificate, as certexec.run.decide judges it
        _check(why_not_ground(fd, path, HOLDING_CERTIFICATES))
        own = look_at(fd, path)
        data = decide.read_certificate(fd)
        certificate = decide.verify(data, layout.trust_store, ROOT_ONLY).certificate
        _check_conditions(certificate)
        grant = certificate.is_grant()
        if grant and invoker is None:
            raise Unfit("it grants an identity, so each invoker has a plan of their own")
        who = Invoker.assumed(0, 0, capable) if invoker is None or not grant else invoker
        info = os.fstat(fd)
        identity.check_file(certificate, info.st_mode, info.st_uid, info.st_gid, who)
        # 3. the identity, the policy and the program
        permitted = identity.permitted_identity(certificate.identity, who)
        listed = _numeric(certificate, accounts)
        if grant and identity.leaves_attachable(certificate.identity, permitted):
            raise Unfit("it runs from a copy in memory")
        if grant:
            _check_grant(who, accounts)
        policy, compiled = _kernel_only(certificate, capable or grant, layout)
        objects += _policy_file(certificate)
        if not grant:
            _check_readable(objects)
        trees, absent = _trees(compiled)
        self.judged = integrity.judge(certificate, permitted, False)
        try:
            # 4. the entry
            _check_program(self.judged, certificate.program.path)
            program = look_at(self.judged.fd, certificate.program.path)
            entries, passed = _environment(certificate, who.uid, grant)
            plan = build_plan(certificate, permitted, compiled, self.judged, entries, trees)
            plan.flags &= ~plans.PLAN_TRACED
            entry = self.entry = Entry(plan.encode())
            entry.objects = [own, program, *objects, *absent]
            check_told(entry.objects)
            entry.file_systems = (
                filesystem.number_of_file_system(fd),
                filesystem.number_of_file_system(self.judged.fd),
            )
            entry.flags = FOR_CAPABLE if capable or grant else 0
            if permitted.euid == who.uid and (not grant or _keeps_user(certificate)):
                entry.flags |= EUID_FOLLOWS
            if permitted.egid == who.gid and (not grant or _keeps_group(certificate)):
                entry.flags |= EGID_FOLLOWS
            entry.uid, entry.gid = (who.uid, who.gid) if grant else (ANYBODY, ANYBODY)
            entry.passed = passed
            entry.listed = listed
            entry.texts = [(os.fsencode(freshness.BOOT_ID), freshness.boot_id())]
            if grant:
                name = decide.SUID_DUMPABLE
                entry.texts.append((os.fsencode(name), read_file(name)))
                entry.texts.append((b"/proc/self/status", b"\nTracerPid:\t0\n"))
            first, last = _time(certificate, now)
            entry.not_before, entry.not_after = max(first, now), last
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the program."""
        for fd in {self.judged.fd, self.judged.exec_fd}:
            os.close(fd)

    def __enter__(self) -> _Verdict:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _keeps_user(certificate: Certificate) -> bool:
    return certificate.identity is None or certificate.identity.user is None


def _keeps_group(certificate: Certificate) -> bool:
    return certificate.identity is None or certificate.identity.group is None


def _check(why: str) -> None:
    if why:
        raise Unfit(why)


def _check_program(judged: Judged, path: str) -> None:
    if judged.mode != "exec-stop" or judged.is_script:
        raise Unfit(f'"{path}" runs from a copy in memory')
    _check(why_not_standing(judged.fd, path))


def _check_conditions(certificate: Certificate) -> None:
    """Raise Unfit where a run's own circumstances count."""
    invocation = certificate.invocation
    if certificate.integrity not in ("auto", "cached"):
        raise Unfit(f'it is signed with integrity "{certificate.integrity}"')
    if invocation.tty:
        raise Unfit("it asks for a terminal")
    if invocation.argv_globs is not None:
        raise Unfit("it constrains the arguments")
    if certificate.files:
        raise Unfit("it runs a script")


def _check_grant(invoker: Invoker, accounts: AccountFiles) -> None:
    from certexec.run.probe import keeps_ids

    decide.check_surroundings(invoker)
    if not keeps_ids(no_new_privs=False):
        raise Unfit("this kernel takes granted identities away at exec")
    if not accounts.holds_uid(invoker.uid):
        raise Unfit(f"uid {invoker.uid} is not in the account files")


def _kernel_only(
    certificate: Certificate, capable: bool, layout: Layout
) -> tuple[Policy, Compiled]:
    """Return the program's policy and its filter, where the kernel enforces it for everybody."""

    def no_subject() -> None:
        return None

    def look_inside(path: str) -> None:
        raise Unfit(f'it may execute "{path}", which may be a certificate')

    reach, compiled, _ = decide.confinement_of(
        certificate, capable=capable, subject=no_subject, look=look_inside
    )
    if compiled.needs_listener:
        raise Unfit("its policy needs a supervisor")
    for rule in (rule for part in parts(reach.policies[0]) for rule in part.rules):
        if rule.predicate is not None or any(
            needs_expansion(one.data) for one in symbols(rule.expression)
        ):
            raise Unfit(f"line {rule.line} of its policy depends on who runs it")
    return reach.policies[0], compiled


def _policy_file(certificate: Certificate) -> list[Object]:
    path = certificate.policy.path
    return [] if path is None else [look(path, LINK)]


def check_told(objects: Sequence[Object]) -> None:
    """Raise Unfit where the kernel did not tell all that must stay as it is.

    The launcher compares numbers, and what was not told would be 0 both times.
    """
    for one in objects:
        if one.identity is not None and one.identity.mount is None:
            raise Unfit("this kernel does not tell mounts apart (Linux 5.8)")
        if one.identity is not None and not one.identity.complete:
            raise Unfit(f'"{os.fsdecode(one.path)}" is on a file system that does not tell all')


def _check_readable(objects: Sequence[Object]) -> None:
    """Raise Unfit unless everybody may read what the verdict is built on.

    Without a grant a server reads it as the invoker, and refuses where it cannot.
    """
    for one in objects:
        found, path = one.identity, os.fsdecode(one.path)
        if found is None or one.flags & PLACE or stat.S_ISLNK(found.mode):
            continue
        try:
            listed = bool(os.getxattr(path, ACL_XATTR))
        except OSError as error:
            listed = error.errno not in (errno.ENODATA, errno.EOPNOTSUPP)
        if listed or found.mode & _READABLE != _READABLE:
            raise Unfit(f'"{path}" is not readable for everybody')


def _trees(compiled: Compiled) -> tuple[Sequence[Tree], list[Object]]:
    """Return the trees of the domain that exist, and those that must go on not existing."""
    if compiled.landlocked is None:
        return (), []
    from certexec.run.landlock import standing

    trees = standing(compiled.landlocked)
    seen = {tree.path for tree in trees}
    missing = [look(path) for path in compiled.landlocked.trees if os.fsencode(path) not in seen]
    for one in missing:
        if not one.flags & ABSENT:
            raise Unfit(f'"{os.fsdecode(one.path)}" cannot be reached without links')
    return trees, missing


def _environment(
    certificate: Certificate, uid: int, grant: bool
) -> tuple[list[bytes] | None, list[tuple[bytes, int]]]:
    """Return the variables that are the same each time, and which of the invoker's pass."""
    certified = certificate.environment
    fixed = environment.build(certified, {}, uid, grant)
    if fixed is None:
        return None, []
    names = {one.partition(b"=")[0] for one in fixed}
    passed: list[tuple[bytes, int]] = []
    assigned = {text.encode() for text in certified.set} if certified is not None else set()
    for text in certified.passed if certified is not None else ():
        name = text.encode()
        if name in assigned or (grant and environment.is_dangerous(name)):
            continue
        if name in names:
            raise Unfit(f"it passes {text}, or else sets it from the accounts")
        passed.append((name, 0))
    if grant:
        passed += [(name, PLAIN) for name in environment.HARMLESS]
        passed.append((b"LC_", PREFIX | PLAIN))
    return fixed, passed


def _numeric(
    certificate: Certificate, accounts: AccountFiles
) -> list[tuple[bool, int, int]]:
    """Return the invocation list in numbers; certexec.run.invocation says what it means.

    Raises Unfit where a name in it, or in the identity, is not settled by the account files.
    """
    try:
        names = certificate.identity
        if names is not None:
            if names.user is not None and names.user[0]:
                accounts.uid(names.user[0])
            for group in (names.group, *(names.groups or ())):
                if group is not None and group[0]:
                    accounts.gid(group[0])
        return _rows(certificate.invocation, accounts)
    except ForeignAccounts as foreign:
        raise Unfit(f"{foreign} may come from elsewhere than the account files") from None


def _rows(invocation: Invocation, accounts: AccountFiles) -> list[tuple[bool, int, int]]:
    rows: list[tuple[bool, int, int]] = []
    for allow, kind, name, number in invocation.entries:
        if kind == "everyone":
            rows.append((allow, EVERYONE, 0))
            continue
        which = USER if kind == "user" else GROUP
        here: int | None = number
        if name:
            here = accounts.uid(name) if which == USER else accounts.gid(name)
        if not allow:
            rows += [(False, which, one) for one in {number, here} if one is not None]
        elif here == number:
            rows.append((True, which, number))
    return rows


def _time(certificate: Certificate, now: int) -> tuple[int, int]:
    """Return the first and the last second at which the verdict is the same as now."""
    first, last = certificate.claims.nbf, certificate.claims.exp
    windows = certificate.invocation.windows
    if not windows:
        return first, last
    midnight = now - now % _DAY
    today = 1 << time.gmtime(now).tm_wday
    spans = [
        (midnight + start * _MINUTE, midnight + end * _MINUTE - 1)
        for days, start, end in windows if days & today
    ]  # fmt: skip
    open_now = [span for span in spans if span[0] <= now <= span[1]]
    if not open_now:
        raise Unfit("it may not be run at this time")
    return max(first, open_now[0][0]), min(last, open_now[0][1])


def keep(fd: int, invoker: Invoker, approved: Approved) -> None:
    """Keep the plan of a verdict that a server has just come to, where that can be."""
    try:
        # what is plainly unfit costs nothing at each start
        _check_conditions(approved.certificate)
        _check_program(approved.judged, approved.certificate.program.path)
        capable = invoker.is_elevated or invoker.capabilities != 0
        remember(fd, os.readlink(own_fd(fd)), invoker, capable=capable)
    except (Unfit, CertexecError, OSError, ValueError, KeyError):
        return  # the next start asks again


def why_never(certificate: Certificate, layout: Layout = SYSTEM) -> str:
    """Say why no plan for a certificate is ever kept here; "" where one can be.

    What depends on the invoker, and whether the certificate counts at all, is left out.
    """
    path = certificate.program.path
    try:
        _check_conditions(certificate)
        fd = integrity.open_file(path)
        try:
            _check(why_not_standing(fd, path))
        finally:
            os.close(fd)
        _kernel_only(certificate, False, layout)
    except Unfit as unfit:
        return str(unfit)
    except CertexecError as error:
        return error.message
    return ""


def warm(fd: int, path: str, layout: Layout = SYSTEM) -> list[str]:
    """Keep the plans of an open certificate that are the same for everybody; returns their names.

    Raises as ``remember``, where it cannot be cached for anybody.
    """
    names = []
    why: Unfit | RunError | None = None
    for capable in (False, True):
        try:
            names.append(remember(fd, path, capable=capable, layout=layout))
        except Unfit as unfit:
            why = unfit
    if not names and why is not None:
        raise why
    return names
