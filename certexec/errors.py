"""The error base, and one error class for each audience.

Whoever catches ``CertexecError`` catches everything that certexec raises on purpose. Foreign
exceptions are turned into one of these where they arise.
"""

from certexec.reasons import EXIT_INTERNAL, HINTS, REASONS


class CertexecError(Exception):
    """Something was refused or failed, with a stable reason word.

    Attributes:
        reason: a key of ``certexec.reasons.REASONS``.
        message: one line, lower case, no full stop, paths quoted.
        hint: what mends it: the error's own words, else those of ``certexec.reasons.HINTS``, else
            an empty string.
    """

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint or HINTS.get(reason, "")

    @property
    def exit_code(self) -> int:
        """The exit code of the run path for this reason (125, 126 or 127)."""
        return REASONS.get(self.reason, (EXIT_INTERNAL, ""))[0]


class CertificateError(CertexecError):
    """The certificate is malformed, badly signed, expired or asks for too much."""


class TrustError(CertexecError):
    """A key, its constraints or the trust store cannot be used."""


class PolicyError(CertexecError):
    """A policy is not in the language, or cannot be enforced."""


class KernelError(CertexecError):
    """The kernel lacks, or refused, something that is needed."""


class RunError(CertexecError):
    """This execution is refused or failed."""


class CliError(CertexecError):
    """A command was called in a way that cannot work."""


def unreadable(path: str, error: OSError) -> CliError:
    """Make the error for a file that the system does not let us read."""
    if isinstance(error, FileNotFoundError):
        return CliError("not-found", f'"{path}" does not exist')
    return CliError("unreadable", f'cannot read "{path}": {error.strerror}')
