"""The identity that the program takes, computed from the certificate and the invoker (pure).

The real ids are the invoker's and stay so. What the certificate grants becomes the effective and
saved ids, the supplementary groups and the capabilities; what it does not mention stays.
"""

from __future__ import annotations

import grp
import pwd
import stat

from certexec.errors import RunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.certificate.identity import Elevation
    from certexec.certificate.model import Certificate, Identity
    from certexec.run.invoker import Invoker

ALL_CAPABILITIES = (1 << 64) - 1
INSTALL_HINT = 'put it in place with "certexec install" as root'


class Permitted:
    """What the program will run as.

    Attributes:
        uid, euid: real, and effective = saved; gid, egid likewise.
        groups: supplementary groups, None to leave the invoker's.
        capabilities: exact permitted set as a mask, None for the kernel's rule for these ids.
        bounding: the bounding set's upper limit as a mask.
        elevations: as whom single calls may be made, (uid or None, gid or None), each with its
            names.
    """

    __slots__ = (
        "bounding", "capabilities", "egid", "elevations", "euid", "gid", "groups", "uid",
    )  # fmt: skip

    def __init__(self, invoker: Invoker) -> None:
        self.uid = self.euid = invoker.uid
        self.gid = self.egid = invoker.gid
        self.groups: list[int] | None = None
        self.capabilities: int | None = None
        self.bounding = ALL_CAPABILITIES
        self.elevations: dict[tuple[int | None, int | None], str] = {}


def check_file(certificate: Certificate, mode: int, uid: int, gid: int, invoker: Invoker) -> None:
    """Raise RunError("setuid-denied") unless the file's bits fit what the certificate grants.

    ``mode``, ``uid`` and ``gid`` are of the open certificate file. The identity without the bit
    and the bit without the identity are both refused, so that ``ls -l`` never lies.
    """
    if mode & stat.S_ISGID:
        raise RunError("setuid-denied", "the certificate file has the set-group-ID bit")
    bit = bool(mode & stat.S_ISUID)
    if not certificate.is_grant():
        if bit:
            raise RunError(
                "setuid-denied",
                "the file has the set-user-ID bit, but the certificate grants nothing",
                'install it anew with "certexec install"',
            )
        if invoker.euid != invoker.uid:
            raise RunError("setuid-denied", "certexec was started with somebody else's rights")
        return
    if not bit or (uid, gid) != (0, 0) or stat.S_IMODE(mode) != 0o4755:
        raise RunError(
            "setuid-denied",
            "the certificate grants an identity, but its file is not root:root 4755",
            INSTALL_HINT,
        )
    if not invoker.is_elevated:
        raise RunError(
            "setuid-denied",
            "the kernel did not honour the set-user-ID bit (nosuid, no_new_privs, no flag C)",
            'see "certexec doctor"',
        )


def permitted_identity(identity: Identity | None, invoker: Invoker) -> Permitted:
    """Compute the ids and capabilities that the plan will apply.

    Raises RunError("identity-mismatch") when a certified name has another number here.
    """
    result = Permitted(invoker)
    if identity is None:
        return result
    if identity.user is not None:
        result.euid = _user(*identity.user)
    if identity.group is not None:
        result.egid = _group(*identity.group)
    if identity.groups is not None:
        result.groups = [_group(name, number) for name, number in identity.groups]
    if identity.capabilities is not None:
        mask = 0
        for _, number in identity.capabilities:
            mask |= 1 << number
        result.capabilities = mask
        result.bounding = mask
    elif result.euid != 0:
        # nothing was granted beyond ids: a later set-user-ID file must not bring more
        result.bounding = 0 if result.uid != 0 else ALL_CAPABILITIES
    for user, group in identity.elevations or ():
        ids = None if user is None else _user(*user), None if group is None else _group(*group)
        result.elevations[ids] = show_elevation((user, group))
    return result


def show_elevation(elevation: Elevation) -> str:
    """Write an elevation as a rule does, by name where there is one."""
    user, group = (
        "" if one is None else one[0] or f"#{one[1]}" for one in elevation
    )
    return f"{user}:{group}" if group else user


def _user(name: str, number: int) -> int:
    if name:
        try:
            found = pwd.getpwnam(name).pw_uid
        except KeyError:
            raise RunError("identity-mismatch", f'there is no user "{name}" here') from None
        if found != number:
            raise RunError("identity-mismatch", f'user "{name}" is {found} here, not {number}')
    return number


def _group(name: str, number: int) -> int:
    if name:
        try:
            found = grp.getgrnam(name).gr_gid
        except KeyError:
            raise RunError("identity-mismatch", f'there is no group "{name}" here') from None
        if found != number:
            raise RunError("identity-mismatch", f'group "{name}" is {found} here, not {number}')
    return number


def leaves_attachable(identity: Identity | None, permitted: Permitted) -> bool:
    """Tell whether a grant can be left with neither ids nor capabilities of its own.

    Exec clears dumpable where ids differ, and permitted capabilities bar tracers of the same
    uid. A program that gains only groups has neither, one whose calls are made as somebody else
    may give both up and keep that; it must run from an unreadable file and may not execute another.
    """
    if identity is None or permitted.uid == 0:
        return False
    if permitted.elevations:
        return True
    same = permitted.uid == permitted.euid and permitted.gid == permitted.egid
    return same and not permitted.capabilities
