"""Each check taken out by itself: the attack that it defends against must then succeed.

A mutation patches the policy server's process of one victim. Nothing else changes, so evil bytes
that run are due to the missing check, and an attack that finds none is too weak to prove anything.
"""

from __future__ import annotations

import os
from typing import Any

from certexec.certificate.verify import Verified, read_unverified
from certexec.errors import CertexecError, CertificateError
from certexec.kernel import memfd
from certexec.kernel.userdb import SystemUsers
from certexec.policy.syntax import parse_policy
from certexec.run import decide, integrity, server
from certexec.run.content import Comparison
from certexec.run.integrity import Judged
from tests.attack.victims import Victim


class Fitting:
    """A digest that equals every other."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def no_hash_at_exec_stop(victim: Victim) -> None:
    """the running file is not hashed at the exec stop"""
    confirm, digest = server.confirm_at_exec_stop, integrity.digest

    def mutated(pid: int, judged: Judged) -> None:
        integrity.digest = Fitting
        try:
            confirm(pid, judged)
        finally:
            integrity.digest = digest

    server.confirm_at_exec_stop = mutated


def no_inode_at_exec_stop(victim: Victim) -> None:
    """the running file is not compared with the judged one at the exec stop"""
    os.path.samestat = lambda one, other: True


def no_seal(victim: Victim) -> None:
    """the copy is not sealed"""
    def mutated(fd: int, mode: int = 0o555) -> int:
        os.fchmod(fd, mode)
        return memfd.SEALS

    memfd.seal = mutated


def source_judged(victim: Victim) -> None:
    """the file is hashed before it is copied, not the sealed copy"""
    copy, compare = memfd.sealed_copy, integrity.Comparison
    with open(victim.certificate, "rb") as file:
        signed = read_unverified(file.read()).program

    def mutated(source: int, size: int, name: str, mode: int = 0o555) -> int:
        compare(source, signed).finish()
        return copy(source, size, name, mode)

    class UnlessSealed(Comparison):
        def __init__(self, fd: int, program: Any, reason: str = "binary-mismatch") -> None:
            super().__init__(fd, program, reason)
            self.sealed = memfd.is_sealed(fd)

        def finish(self) -> None:
            if not self.sealed:
                super().finish()

    memfd.sealed_copy, integrity.Comparison = mutated, UnlessSealed


def exec_stop_anywhere(victim: Victim) -> None:
    """overlayfs is believed to keep writers away, so it is judged by exec stop"""
    integrity.filesystem.exec_write_denied = lambda fd, release: True


def writers_trusted(victim: Victim) -> None:
    """it is not asked who else may write the file, so it is judged by exec stop"""
    integrity.others_may_write = lambda *arguments: False


def judged_by_name(victim: Victim) -> None:
    """the file is judged and then executed by its name"""
    judge = integrity.judge

    def mutated(*arguments: Any, **named: Any) -> Judged:
        certificate = arguments[0]
        judged = judge(*arguments, **named)
        judged.exec_fd = os.open(certificate.program.path, os.O_RDONLY | os.O_CLOEXEC)
        return judged

    integrity.judge = mutated
    server.confirm_at_exec_stop = lambda pid, judged: None


def policy_read_twice(victim: Victim) -> None:
    """the policy is read again after its digest was compared"""
    read = decide.read_policy

    def mutated(certificate: Any, *more: Any) -> Any:
        read(certificate, *more)
        with open(certificate.policy.path, "rb") as file:
            text = file.read().decode()
        return parse_policy(text, name="policy", users=SystemUsers(), privileged=True)

    decide.read_policy = mutated


def certificate_read_twice(victim: Victim) -> None:
    """the certificate is read again after its signature was checked"""
    verify = decide.verify

    def mutated(data: bytes, store: str, owners: frozenset[int]) -> Verified:
        verified = verify(data, store, owners)
        try:
            with open(victim.certificate, "rb") as file:
                verified.certificate = read_unverified(file.read())
        except (OSError, CertexecError) as error:
            raise CertificateError("malformed", f"the second reading failed: {error}") from None
        return verified

    decide.verify = mutated
