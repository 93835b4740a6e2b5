"""The certificates that the rules of a policy name: told where a policy is signed or looked at.

Whether they are trusted is asked when the program starts, and again at each execution; here they
are only read.
"""

from __future__ import annotations

from certexec.certificate.verify import read_unverified
from certexec.errors import CertexecError
from certexec.kernel.digest import sha256
from certexec.run.decide import policy_inside
from certexec.run.inside import Inside, gather, read_if_certificate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from certexec.policy.model import Policy


def reached(policies: Iterable[Policy]) -> list[Inside]:
    """Return the certificates on this machine that rules on exec name, and those that they name."""
    return gather(policies, _look)


def _look(path: str) -> Inside | None:
    data = read_if_certificate(path)
    if not data:
        return None
    try:
        certificate = read_unverified(data)
        return Inside(path, sha256(data), certificate, policy_inside(certificate))
    except CertexecError as error:
        return Inside(path, sha256(data), why=error.message)


def notes(policies: Iterable[Policy]) -> list[tuple[bool, str]]:
    """Say what comes of it when a program executes a certificate: whether to warn, and the text."""
    told = []
    for one in reached(policies):
        if one.policy is None:
            refused = f'executing the certificate "{one.path}" is refused: {one.why}'
            told.append((True, refused))
        else:
            told.append((False, text_of(one)))
    return told


def text_of(one: Inside) -> str:
    """Say under what a certificate's program runs."""
    if one.certificate is None:
        return f'reaches the certificate "{one.path}": executing it is refused: {one.why}'
    return (
        f'reaches the certificate "{one.path}": "{one.certificate.program.path}" may do there what '
        "both policies permit"
    )
