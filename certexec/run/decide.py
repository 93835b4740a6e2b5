"""From a certificate's bytes to a plan: every statement is proved before anything is prepared.

The order is fixed. Cheap and unforgeable facts come first, the certificate's own claims only after
its signature, files last. Nothing here runs the program or changes this process.
"""

from __future__ import annotations

import os
import time

from certexec.certificate.envelope import MAX_SIZE
from certexec.certificate.identity import numbers
from certexec.certificate.model import ASK, check_enforceable
from certexec.certificate.verify import Verified, verify_certificate
from certexec.errors import CertexecError, CertificateError, KernelError, RunError
from certexec.kernel.digest import sha256
from certexec.kernel.procfs import own_fd, read_file
from certexec.kernel.userdb import SystemUsers
from certexec.policy.elevation import refuse_ungranted
from certexec.policy.evaluate import subject_of
from certexec.policy.model import own_copy, parts
from certexec.policy.names import FOREIGN_EMULATION
from certexec.policy.reach import changes_policies
from certexec.policy.select import ask_about_unmatched, select_policy, select_with_foreign
from certexec.policy.syntax import parse_policy
from certexec.policy.unsupported import refuse_unsupported
from certexec.run import environment, identity, integrity
from certexec.run.confinement import confine
from certexec.run.inside import Inside, read_if_certificate
from certexec.run.invocation import admit
from certexec.run.plan_build import build_plan
from certexec.trust.store import load_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from certexec.certificate.model import Certificate
    from certexec.policy.compile import Compiled
    from certexec.policy.model import Policy, PolicyFile, Subject
    from certexec.policy.reach import Reach
    from certexec.run.identity import Permitted
    from certexec.run.inside import Look
    from certexec.run.integrity import Judged
    from certexec.run.invoker import Invoker
    from certexec.run.known import Known
    from certexec.run.landlock import Tree

SUID_DUMPABLE = "/proc/sys/fs/suid_dumpable"
YAMA_SCOPE = "/proc/sys/kernel/yama/ptrace_scope"
YAMA_RESTRICTED = 1
"""From this scope on a descendant may not trace its ancestors (Yama)."""


class Approved:
    """A certificate that may run, and how.

    Attributes:
        certificate: what was signed; reach: the policies of its program and of those that this
            one may execute; inside: the certificates that may be executed in its tree.
        compiled: the filter; permitted: the identity; judged: the binary; plan: for the launcher,
            encoded.
        grant: whether this process is root because of the certificate.
    """

    __slots__ = (
        "certificate", "compiled", "grant", "inside", "judged", "permitted", "plan", "reach",
    )  # fmt: skip

    def __init__(
        self,
        certificate: Certificate,
        reach: Reach,
        compiled: Compiled,
        inside: list[Inside],
        permitted: Permitted,
        judged: Judged,
        plan: bytes,
    ) -> None:
        self.inside = inside
        self.certificate = certificate
        self.reach = reach
        self.compiled = compiled
        self.permitted = permitted
        self.judged = judged
        self.plan = plan
        self.grant = certificate.is_grant()


def read_certificate(fd: int) -> bytes:
    """Read the open certificate once, from its start; one byte more than allowed shows excess.

    Raises RunError("unreadable").
    """
    try:
        return os.pread(fd, MAX_SIZE + 1, 0)
    except OSError as error:
        raise RunError("unreadable", f"the certificate cannot be read: {error.strerror}") from None


def verify(data: bytes, store: str, owners: frozenset[int]) -> Verified:
    """Prove the certificate's bytes against a trust store, now. Raises CertexecError."""
    keys = {trusted.key.kid: trusted for trusted in load_store(store, owner_ok=owners)}
    verified = verify_certificate(data, keys, int(time.time()))
    check_enforceable(verified.certificate)
    return verified


def decide(
    fd: int,
    invoker: Invoker,
    store: str,
    owners: frozenset[int],
    *,
    may_grant: bool,
    kernel_arguments: int,
    notify_denials: bool = False,
    known: Known | None = None,
    unmatched: str = "",
) -> Approved:
    """Judge one execution. Raises CertexecError with the reason.

    ``notify_denials``: every denial comes to the supervisor, to be written down; ``known``: what
    was judged before; ``unmatched``: as in ``confinement_of``, never together with ``may_grant``.

    1. the certificate: signature, validity, constraints of its key, nothing unenforceable;
    2. the file's set-user-ID bit fits what is granted, and the kernel honoured it;
    3. the invoker is on the list, with these arguments, now;
    4. the identity, name and number agreeing here;
    5. the binary: opened, judged, its mode chosen; a large one is hashed from here on;
    6. the policy: its digest, its syntax, the part for this program, those that programs which it
       executes come under, and the filter;
    7. the content of the binary, on the descriptor that will be executed;
    8. the plan.
    """
    # 1. the certificate
    try:
        data = read_certificate(fd)
        prove = verify if known is None else known.verify
        certificate = prove(data, store, owners).certificate
    except CertificateError as error:
        if error.reason == "setuid-denied" and not may_grant:
            raise _never_grants() from None  # a key that may grant would not help here
        raise
    grant = certificate.is_grant()
    if grant and not may_grant:
        raise _never_grants()
    # 2. the file's bits, on the descriptor that was read
    info = os.fstat(fd)
    identity.check_file(certificate, info.st_mode, info.st_uid, info.st_gid, invoker)
    if grant:
        check_surroundings(invoker)
    # 3. the invoker
    constrained = certificate.invocation.argv_globs is not None  # an empty list allows none
    argv = invoker.argv(kernel_arguments) if constrained else []
    admit(certificate.invocation, invoker, argv, time.time())
    # 4. the identity
    permitted = identity.permitted_identity(certificate.identity, invoker)
    attachable = grant and identity.leaves_attachable(certificate.identity, permitted)
    # 5. the binary
    proven = None if known is None else known.proven
    judged = integrity.judge(certificate, permitted, attachable, proven=proven)
    # 6. the policy
    reach, compiled, inside = confinement_of(
        certificate,
        look=lambda path: look_inside(path, store, owners),
        capable=invoker.is_elevated or invoker.capabilities != 0,
        may_exec=not attachable,
        notify_denials=notify_denials,
        subject=lambda: _subject(invoker),
        known=known,
        unmatched=unmatched,
    )
    if compiled.needs_listener and not grant:
        _check_attachable()
    # 7. its content
    judged.confirm_content()
    # 8. the plan
    typed = invoker.environment() if grant or certificate.environment is not None else {}
    entries = environment.build(certificate.environment, typed, invoker.uid, grant)
    trees: Sequence[Tree] = ()
    if compiled.landlocked is not None:
        from certexec.run.landlock import standing

        trees = standing(compiled.landlocked)
    plan = b""
    kept = known is not None and not (grant or trees or judged.is_script) and entries is None
    if known is not None and kept:
        plan = known.plan(certificate, compiled, permitted)
    if not plan:
        plan = build_plan(certificate, permitted, compiled, judged, entries, trees).encode()
        if known is not None and kept:
            known.keep_plan(certificate, compiled, permitted, plan)
    return Approved(certificate, reach, compiled, inside, permitted, judged, plan)


def _never_grants() -> RunError:
    return RunError(
        "setuid-denied", '"certexec run" never grants an identity', identity.INSTALL_HINT
    )


def confinement_of(
    certificate: Certificate,
    *,
    capable: bool,
    may_exec: bool = True,
    notify_denials: bool = False,
    subject: Callable[[], Subject | None] | None = None,
    look: Look | None = None,
    known: Known | None = None,
    text: bytes | None = None,
    unmatched: str = "",
) -> tuple[Reach, Compiled, list[Inside]]:
    """Return the policies and the filter for a certificate's program; the rest as in ``confine``.

    ``known``: what was judged before; ``text``: the policy's, where it has been read already;
    ``unmatched``: what happens to what no rule matches, where the certificate is not to say.
    Raises RunError("policy-mismatch"), PolicyError and TrustError("trust-unsafe").
    """
    file = read_policy(certificate, known, text)
    place = capable, may_exec, notify_denials
    if known is not None and (kept := known.confinement(certificate, file, place, look)):
        return kept.reach, kept.compiled, []
    looked: list[str] = []
    subjects: list[Subject | None] = []

    def look_at(path: str, look: Look | None = look) -> Inside | None:
        looked.append(path)
        return None if look is None else look(path)

    def ask_subject(subject: Callable[[], Subject | None]) -> Subject | None:
        subjects.append(subject())
        return subjects[-1]

    reach, compiled, inside = confine(
        own_copy(file),  # what ``known`` keeps is other certificates' as well
        certificate.program.path,
        certificate.claims.sub,
        inherit=certificate.policy.inherit,
        full_log=certificate.log == "full" or notify_denials,
        privileged=certificate.is_grant(),
        capable=capable,
        may_exec=may_exec,
        log_all=certificate.policy.log_all,
        subject=None if subject is None else lambda: ask_subject(subject),
        elevations=[numbers(one) for one in certificate.elevations()],
        look=None if look is None else look_at,
        foreign=FOREIGN_EMULATION in certificate.policy.emulations,
        asks_unmatched=(unmatched or certificate.policy.unmatched) == ASK,
    )
    # what depends on other policies, on files or on who asks is not for the next one
    if known is not None and not (compiled.own_policies or subjects or compiled.landlocked):
        known.keep(certificate, file, place, reach, compiled, looked)
    return reach, compiled, inside


def _subject(invoker: Invoker) -> Subject:
    users, uid = SystemUsers(), invoker.uid
    return subject_of(
        uid, invoker.gid, home=users.home(uid), user=users.name(uid), cwd=invoker.cwd
    )


def look_inside(path: str, store: str, owners: frozenset[int]) -> Inside | None:
    """Judge what a rule on exec names, as far as it can be before anybody executes it.

    None for what is no certificate.
    """
    data = read_if_certificate(path)
    if not data:
        return None
    digest = sha256(data)
    try:
        certificate = verify(data, store, owners).certificate
        return Inside(path, digest, certificate, policy_inside(certificate))
    except CertexecError:
        return Inside(path, digest)


def policy_inside(certificate: Certificate) -> Policy:
    """Return the policy of a certificate that is executed inside a confined tree.

    Raises RunError("setuid-denied") for one that grants an identity, RunError("unsupported") for
    one whose program may take others out of its policy, and as ``read_policy`` does.
    """
    name = certificate.claims.sub
    if certificate.is_grant():
        raise RunError(
            "setuid-denied",
            f'"{name}" grants an identity, and inside a confined program nobody gets one',
            "execute it from outside",
        )
    foreign = FOREIGN_EMULATION in certificate.policy.emulations
    select = select_with_foreign if foreign else select_policy
    file = read_policy(certificate)
    ask_about_unmatched(file.policies, certificate.policy.unmatched == ASK)
    policy = select(file, certificate.program.path)
    for part in parts(policy):
        refuse_unsupported(part, name, inherit=True, detach=True)
    refuse_ungranted(parts(policy), (), name)
    if changes_policies(policy, certificate.policy.inherit):
        raise RunError(
            "unsupported",
            f'what the program of "{name}" executes leaves its policy; inside a confined program '
            "it could not",
            'sign it without "--no-inherit" and "detach"',
        )
    return policy


def read_policy(
    certificate: Certificate, known: Known | None = None, text: bytes | None = None
) -> PolicyFile:
    """Read the policy once, compare its digest and parse it; ``text``: it has been read already.

    Raises RunError("policy-mismatch") and PolicyError.
    """
    if known is not None and (kept := known.policy_inside(certificate)) is not None:
        return kept
    inside = certificate.policy.text is not None
    text, name = policy_bytes(certificate, text)
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        raise RunError("policy-syntax", f'the policy "{name}" is not UTF-8 text') from None
    if known is not None:
        file = known.policy(decoded, name)
        if inside:
            known.keep_policy_inside(certificate, decoded, name)
        return file
    return parse_policy(decoded, name=name, users=SystemUsers(), privileged=True)


def policy_bytes(certificate: Certificate, text: bytes | None = None) -> tuple[bytes, str]:
    """Read the policy once, compare its digest; return it and what it is called in messages.

    ``text``: it has been read already. Raises RunError("policy-mismatch").
    """
    signed = certificate.policy
    name = signed.path or certificate.claims.sub
    if signed.text is not None:
        text = signed.text.encode()
    elif text is None:
        text = _read_policy_file(name)
    if sha256(text) != signed.sha256:
        raise RunError(
            "policy-mismatch",
            f'the policy "{name}" is not the one that was signed',
            'if the change is right, sign the certificate anew with "certexec sign"',
        )
    return text, name


def _read_policy_file(path: str) -> bytes:
    fd = integrity.open_file(path, "policy-mismatch", "policy-mismatch", "unreadable")
    try:
        return read_file(own_fd(fd))
    except OSError as error:
        raise RunError("policy-mismatch", f'"{path}": {error.strerror}') from None
    finally:
        os.close(fd)


def check_surroundings(invoker: Invoker) -> None:
    """Refuse a grant where outsiders of the invoker's uid could get at the program."""
    if invoker.tracer:
        raise RunError("setuid-denied", "the certificate grants an identity and you are traced")
    try:
        dumpable = int(read_file(SUID_DUMPABLE))
    except (OSError, ValueError):
        raise KernelError("kernel-unsupported", f"{SUID_DUMPABLE} cannot be read") from None
    if dumpable == 1:
        raise KernelError(
            "kernel-unsupported",
            "fs.suid_dumpable is 1: set-user-ID programs can be attached to",
            "sysctl fs.suid_dumpable=0",
        )


def _check_attachable() -> None:
    """Refuse a supervised program where the supervisor may not look into it (Yama)."""
    if os.geteuid() == 0:
        return  # root may
    try:
        scope = int(read_file(YAMA_SCOPE))
    except (OSError, ValueError):
        return  # no Yama
    if scope >= YAMA_RESTRICTED:
        raise KernelError(
            "kernel-unsupported",
            f"kernel.yama.ptrace_scope is {scope}: this policy needs a supervisor, which may not "
            "look into the program",
            "sysctl kernel.yama.ptrace_scope=0, or a policy without filename and sockaddr rules",
        )


def reason_line(error: CertexecError, name: str) -> str:
    """Return the one line for stderr: what, why in a word, and what mends it."""
    hint = f"; {error.hint}" if error.hint else ""
    message = error.message.replace("\n", " ")
    return f"{name}: {message} ({error.reason}){hint}"
