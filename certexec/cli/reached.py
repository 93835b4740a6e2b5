"""The certificates that the rules of a policy name: told where a policy is signed or looked at.

Whether they are trusted is asked when the program starts, and again at each execution; here they
are only read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from certexec.certificate.verify import read_unverified
from certexec.cli import output
from certexec.cli.common import printable
from certexec.errors import CertexecError
from certexec.kernel.digest import sha256
from certexec.run.decide import policy_inside
from certexec.run.inside import Inside, gather, read_if_certificate

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


def tell(policies: Iterable[Policy]) -> None:
    """Say on stderr what comes of it when a program executes a certificate."""
    for one in reached(policies):
        if one.policy is None:
            output.warn(printable(f'executing the certificate "{one.path}" is refused: {one.why}'))
        else:
            output.info(printable(text_of(one)))


def text_of(one: Inside) -> str:
    """Say under what a certificate's program runs."""
    if one.certificate is None:
        return f'reaches the certificate "{one.path}": executing it is refused: {one.why}'
    return (
        f'reaches the certificate "{one.path}": "{one.certificate.program.path}" may do there what '
        "both policies permit"
    )
