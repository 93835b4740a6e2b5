"""Which class carries out which call: the calls that ``certexec.policy.calls`` says are judged."""

from __future__ import annotations

from certexec.run.emulate_administration import Administration, no_such_call
from certexec.run.emulate_attributes import Chmod, Chown, FileAttributes
from certexec.run.emulate_handles import Handle
from certexec.run.emulate_links import Link, Rename, Symlink
from certexec.run.emulate_mounts import Mount, MoveMount, Pick, SetMountAttributes, Umount
from certexec.run.emulate_names import Access, Mkdir, Readlink, Stat, Statfs, Statx, Unlink
from certexec.run.emulate_nodes import Mknod
from certexec.run.emulate_open import Open
from certexec.run.emulate_place import Move
from certexec.run.emulate_quota import Quota
from certexec.run.emulate_send import Send
from certexec.run.emulate_sockets import Bind, Connect
from certexec.run.emulate_times import Utimes
from certexec.run.emulate_truncate import Truncate
from certexec.run.emulate_watches import AddWatch, Mark
from certexec.run.emulate_xattr import GetXattr, ListXattr, RemoveXattr, SetXattr

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
        (SetXattr, "setxattr lsetxattr setxattrat"),
        (GetXattr, "getxattr lgetxattr getxattrat"),
        (ListXattr, "listxattr llistxattr listxattrat"),
        (RemoveXattr, "removexattr lremovexattr removexattrat"),
        (FileAttributes, "file_getattr file_setattr"),
        (Statfs, "statfs"),
        (Handle, "name_to_handle_at"),
        (AddWatch, "inotify_add_watch"),
        (Mark, "fanotify_mark"),
        (Move, "chdir chroot"),
        (Mount, "mount"),
        (Umount, "umount2"),
        (MoveMount, "move_mount"),
        (SetMountAttributes, "mount_setattr"),
        (Pick, "fspick"),
        (Administration, "acct swapon swapoff"),
        (no_such_call, "uselib"),
        (Quota, "quotactl"),
        (Connect, "connect"),
        (Bind, "bind"),
        (Send, "sendto sendmsg sendmmsg"),
    )
    for name in names.split()
}
"""The calls that are carried out by the supervisor; every other conditional one is denied."""
