"""Which class carries out which call: the calls that ``certexec.policy.calls`` says are judged."""

from __future__ import annotations

from certexec.run.emulate_attributes import Chmod, Chown
from certexec.run.emulate_links import Link, Rename, Symlink
from certexec.run.emulate_names import Access, Mkdir, Readlink, Stat, Statx, Unlink
from certexec.run.emulate_nodes import Mknod
from certexec.run.emulate_open import Open
from certexec.run.emulate_sockets import Bind, Connect
from certexec.run.emulate_times import Utimes
from certexec.run.emulate_truncate import Truncate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from certexec.run.call import Call
    from certexec.run.operations import Operation
    from certexec.run.resolve import Resolver

OPERATIONS: dict[str, Callable[[Call, Resolver], Operation]] = {
    name: operation
    for operation, names in (
        (Open, "open openat openat2 creat"),
        (Stat, "stat lstat newfstatat"),
        (Statx, "statx"),
        (Access, "access faccessat faccessat2"),
        (Readlink, "readlink readlinkat"),
        (Mkdir, "mkdir mkdirat"),
        (Unlink, "rmdir unlink unlinkat"),
        (Rename, "rename renameat renameat2"),
        (Link, "link linkat"),
        (Symlink, "symlink symlinkat"),
        (Chmod, "chmod fchmodat fchmodat2"),
        (Chown, "chown lchown fchownat"),
        (Truncate, "truncate"),
        (Utimes, "utime utimes futimesat utimensat"),
        (Mknod, "mknod mknodat"),
        (Connect, "connect"),
        (Bind, "bind"),
    )
    for name in names.split()
}
"""The calls that are carried out by the supervisor; every other conditional one is denied."""
