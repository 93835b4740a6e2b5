"""Who the caller is and where, for what makes policies for the caller's own programs."""

from __future__ import annotations

import os
import tempfile

from certexec.kernel.userdb import SystemUsers
from certexec.policy.evaluate import subject_of
from certexec.policy.learned_paths import Places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.model import Subject


def own_places() -> Places:
    """Return where names of files become general: the caller's home, and where it is."""
    home = own_subject().home
    homes = {home, "/root", os.path.realpath(os.environ.get("HOME") or home)}
    user = SystemUsers().name(os.getuid()) or ""
    temporary = {"/tmp", "/var/tmp", "/dev/shm"}  # noqa: S108 - the names, not files there
    temporary.add(os.path.realpath(tempfile.gettempdir()))
    cwd = os.getcwd()
    if any(home == cwd or home.startswith(cwd.rstrip("/") + "/") for home in homes):
        cwd = ""  # what lies in somebody's home is not this program's own
    return Places(cwd, home, user, tuple(sorted(homes)), tuple(sorted(temporary - homes)))


def own_subject() -> Subject:
    """Return the caller, as rules see it."""
    users, uid = SystemUsers(), os.getuid()
    return subject_of(
        uid, os.getgid(), home=users.home(uid), user=users.name(uid), cwd=os.getcwd()
    )
