"""The policies of programs that have no certificate: /etc/certexec/policies.d, root's.

As with systrace a program's policy lies in a file that is named after its path, with "_" for every
character that is no letter or digit (``usr_sbin_named``). Its header must name the program. What
cannot be parsed or enforced is as if it were not there: its program cannot be executed where every
program needs a policy of its own.
"""

from __future__ import annotations

import os

from certexec.errors import PolicyError, TrustError
from certexec.kernel.ownership import check_chain, check_object, root_owners
from certexec.kernel.userdb import SystemUsers
from certexec.policy.lexer import decode_policy
from certexec.policy.reach import file_name
from certexec.policy.syntax import parse_policy
from certexec.policy.unsupported import unsupported_in
from certexec.run.layout import SYSTEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.model import Policy

MAX_FILES = 1024
"""files; a machine has a few thousand programs, and each file costs at every such start."""
MAX_SIZE = 1 << 20
"""bytes of one file."""


def load_directory(directory: str = SYSTEM.policies) -> list[Policy]:
    """Return the usable policies in a directory that only root may write, sorted by file name.

    Raises TrustError("trust-unsafe") when somebody else may write the directory or a file in it.
    """
    owners = root_owners()
    try:
        fd = check_chain(directory, owners)
    except TrustError as error:
        if error.reason == "unreadable":
            return []  # there is none
        raise
    try:
        found: list[Policy] = []
        for name in sorted(os.listdir(fd))[:MAX_FILES]:
            found += _policies_in(fd, name, f"{directory}/{name}", owners)
        return found
    finally:
        os.close(fd)


def _policies_in(directory: int, name: str, shown: str, owners: frozenset[int]) -> list[Policy]:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(name, flags, dir_fd=directory)
    except OSError:
        return []
    try:
        check_object(fd, shown, owners)
        text = os.pread(fd, MAX_SIZE + 1, 0)
    except OSError:
        return []  # a directory
    finally:
        os.close(fd)
    if len(text) > MAX_SIZE:
        return []
    words = decode_policy(text)
    try:
        file = parse_policy(words, name=shown, users=SystemUsers(), privileged=True)
    except PolicyError:
        return []
    return [
        policy for policy in file.policies
        if file_name(policy.path) == name
        and not unsupported_in(policy, inherit=True, detach=True)
    ]
