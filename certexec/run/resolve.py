"""Names to objects: resolve a path as the calling thread would, and pin what was found.

The result is an O_PATH descriptor of the object, or of the directory in which it would be made,
and the text that policies are written against: the real path of that object. The descriptor is
what is judged and what is used; the name is never looked up again.

The text follows systrace (intercept.c, with the realpath(3) of BSD, which lets the last component
be missing): the real path; for what cannot be reached ``/<non-existent filename>: NAME``; and the
empty string for an empty name.
"""

from __future__ import annotations

import errno
import os
import stat

from certexec.kernel.filesystem import NO_MAGICLINKS, openat2
from certexec.kernel.procfs import own_link
from certexec.run.mounts import Mounts
from certexec.run.proc_place import (
    SELF_LINKS,
    ProcPlace,
    is_ours,
    is_proc_root,
    is_procfs,
    own_number,
    place_of,
)
from certexec.run.step import OPEN_PATH, dangling, follow_link, jump, step
from certexec.run.task import AT_FDCWD as AT_FDCWD
from certexec.run.task import Task, open_base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PATH_MAX = 4096
"""bytes with the NUL; the kernel answers ENAMETOOLONG beyond it."""
LINKS_MAX = 40
"""symbolic links in one resolution, as in the kernel's MAXSYMLINKS."""
COMPONENTS_MAX = 8192
"""components walked for one name, links included: a bound on the work that a name can cause."""
NON_EXISTENT = "/<non-existent filename>: "
_SCOPED = 0x18
"""RESOLVE_BENEATH and RESOLVE_IN_ROOT: absolute names, too, are about the descriptor."""

_DELETED = " (deleted)"


class Resolved:
    """What a name led to. Close it after use.

    Attributes:
        text: the name as policies see it.
        fd: O_PATH descriptor of the object, -1 when it does not exist or was not looked up.
        parent: O_PATH descriptor of the directory that holds ``last``, -1 when there is none.
        last: the last component as it will be used in ``parent`` (bytes, may end in "/").
        error: the errno that an unconfined caller would get, 0 when ``fd`` or ``parent`` is there.
        info: what fstat(2) said of ``fd``: its kind and its device do not change.
    """

    __slots__ = ("error", "fd", "info", "last", "parent", "text")

    def __init__(
        self, text: str, fd: int, parent: int, last: bytes, error: int,
        info: os.stat_result | None = None,
    ) -> None:  # fmt: skip
        self.info = os.fstat(fd) if info is None and fd >= 0 else info
        self.text = text
        self.fd = fd
        self.parent = parent
        self.last = last
        self.error = error

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in (self.fd, self.parent):
            if fd >= 0:
                os.close(fd)
        self.fd = self.parent = -1


def text_of(fd: int) -> str | None:
    """Return the real path of a descriptor, None when no name leads to it any more."""
    path = own_link(fd)
    if not path.startswith("/"):
        return None
    if path.endswith(_DELETED) and os.fstat(fd).st_nlink == 0:
        return None
    return path


def split_last(path: bytes) -> tuple[bytes, bytes]:
    """Split a name into its directory part and last component; the component keeps its slashes.

    ``a/b/`` gives ``(a/, b/)``, ``x`` gives ``("", x)`` and ``/`` gives ``(/, "")``.
    """
    stripped = path.rstrip(b"/")
    if not stripped:
        return path, b""
    cut = stripped.rfind(b"/") + 1
    return path[:cut], path[cut:]


class Resolver:
    """Resolves names for the threads of one confined tree; ``own_tgid`` is the supervisor's.

    ``named``: (device, inode) of a file without a name to the path that stands for it: a sealed
    script is judged by the path of the script that was signed. ``foreign``: whether two processes
    have different policies, where they can. ``exchanges_unseen``: whether the tree may make a path
    lead to another object while the supervisor does something.
    """

    __slots__ = ("exchanges_unseen", "foreign", "mounts", "named", "own_tgid")

    def __init__(self, own_tgid: int, named: dict[tuple[int, int], str] | None = None) -> None:
        self.own_tgid = own_tgid
        self.named = {} if named is None else named
        self.mounts = Mounts()
        self.foreign: Callable[[int, int], bool] | None = None
        self.exchanges_unseen: Callable[[], bool] = lambda: True

    def object(
        self, task: Task, dirfd: int, path: bytes, follow: bool, resolve: int = 0
    ) -> Resolved:
        """Resolve a whole name. ``follow``: a last component that is a symbolic link is followed.

        A missing last component gives ``fd`` -1, the directory in ``parent`` and ``error`` ENOENT.
        ``resolve``: the RESOLVE_* bits of openat2(2) that the caller asked for.
        """
        if resolve:
            return self._restricted(task, dirfd, path, follow, resolve)
        if not path:
            return Resolved("", -1, -1, b"", errno.ENOENT)
        base = -1
        try:
            if not path.startswith(b"/"):
                base = self._base(task, dirfd)
            try:
                fd, info = self._fast(base, path, follow)
                if fd < 0:
                    fd = self._walk(task, base, path, follow)
            except FileNotFoundError:
                return self._missing(task, base, path, follow)
            return self._found(task, fd, path, info)
        except OSError as error:
            return self._unreachable(path, error)
        finally:
            if base >= 0:
                os.close(base)

    def parent(self, task: Task, dirfd: int, path: bytes) -> Resolved:
        """Resolve the directory of a name; the last component is not looked up ("nolast").

        Names whose last component is ".", ".." or nothing are resolved whole for the text, and
        keep that component for the kernel to refuse.
        """
        if not path:
            return Resolved("", -1, -1, b"", errno.ENOENT)
        directory, last = split_last(path)
        bare = last.rstrip(b"/")
        base = fd = -1
        try:
            if not path.startswith(b"/"):
                base = self._base(task, dirfd)
            fd = self._directory(task, base, directory)
            if bare in (b"", b".", b".."):
                whole = self.object(task, dirfd, path, True)
                text, last = whole.text, last or b"/"
                whole.close()
            else:
                name = text_of(fd)
                if name is None:
                    raise FileNotFoundError(errno.ENOENT, "the directory was removed")
                text = _join(name, bare)
            found, fd = Resolved(text, -1, fd, last, 0), -1
            return found
        except OSError as error:
            return self._unreachable(path, error)
        finally:
            for unused in (base, fd):
                if unused >= 0:
                    os.close(unused)

    def descriptor(self, task: Task, dirfd: int) -> Resolved:
        """Pin what a descriptor of ``task`` stands for, its working directory for AT_FDCWD."""
        try:
            fd = open_base(task, dirfd)
            try:
                self.mounts.stay_home(fd)
                self._keep_out(task, fd)
            except BaseException:
                os.close(fd)
                raise
            return self._found(task, fd, b"")
        except OSError as error:
            return self._unreachable(b"", error)

    # -- the two ways to an object ------------------------------------------------------------

    def _base(self, task: Task, dirfd: int) -> int:
        fd = open_base(task, dirfd)
        try:
            if not stat.S_ISDIR(self.mounts.stay_home(fd)):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _look_up(self, task: Task, base: int, path: bytes, follow: bool) -> int:
        fd, _ = self._fast(base, path, follow)
        return fd if fd >= 0 else self._walk(task, base, path, follow)

    def _fast(
        self, base: int, path: bytes, follow: bool
    ) -> tuple[int, os.stat_result | None]:
        """Let the kernel walk; -1 when the name needs the careful way. Also says what it found.

        The kernel walks as *this* process. Only /proc/self, /proc/thread-self, magic links and
        the supervisor's own directories could tell the difference: all lie on a proc file system.
        """
        flags = OPEN_PATH | (0 if follow or path.endswith(b"/") else os.O_NOFOLLOW)
        try:
            fd = openat2(base if base >= 0 else AT_FDCWD, path, flags, NO_MAGICLINKS)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EAGAIN, errno.EACCES):
                return -1, None
            raise
        info = os.fstat(fd)
        if not is_procfs(fd, info):
            return fd, info
        os.close(fd)
        return -1, None

    def _restricted(
        self, task: Task, dirfd: int, path: bytes, follow: bool, resolve: int
    ) -> Resolved:
        """Resolve as openat2(2) does with RESOLVE_* bits: the kernel alone, no careful way.

        Nothing on a proc file system is reached so (EXDEV), for those names mean us, not them.
        """
        base = parent = fd = -1
        try:
            if not path.startswith(b"/") or resolve & _SCOPED:
                base = self._base(task, dirfd)
            start = base if base >= 0 else AT_FDCWD
            flags = OPEN_PATH | (0 if follow or path.endswith(b"/") else os.O_NOFOLLOW)
            resolve |= NO_MAGICLINKS
            try:
                fd = openat2(start, path, flags, resolve)
            except FileNotFoundError:
                directory, last = split_last(path)
                parent = openat2(start, directory or b".", OPEN_PATH | os.O_DIRECTORY, resolve)
                text = text_of(parent)
                if text is None or last.rstrip(b"/") in (b"", b".", b"..") or is_procfs(parent):
                    raise
                text = _join(text, last.rstrip(b"/"))
                found, parent = Resolved(text, -1, parent, last, errno.ENOENT), -1
                return found
            if is_procfs(fd):
                raise OSError(errno.EXDEV, "on a proc file system")
            whole, fd = fd, -1
            return self._found(task, whole, path)
        except OSError as error:
            return self._unreachable(path, error)
        finally:
            for unused in (base, parent, fd):
                if unused >= 0:
                    os.close(unused)

    def _directory(self, task: Task, base: int, directory: bytes) -> int:
        if not directory:
            if base >= 0:
                return os.dup(base)
            directory = b"/"
        try:
            fd, _ = self._fast(base, directory, True)
        except FileNotFoundError:
            fd = -1  # /dev/fd/9 is the program's ninth descriptor, not ours
        if fd < 0:
            fd = self._walk(task, base, directory, True)
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        return fd

    def _walk(self, task: Task, base: int, path: bytes, follow: bool) -> int:
        """Walk component by component with the program's /proc/self, never the supervisor's.

        Raises OSError as open(2) would, and PermissionError for anything under the supervisor's
        own /proc directory.
        """
        absolute = base < 0 or path.startswith(b"/")  # a link's target may be, where no name was
        current = os.open("/", OPEN_PATH) if absolute else os.dup(base)
        pending = path.split(b"/")[::-1]
        links = 0
        steps = 0
        try:
            while pending:
                steps += 1
                if steps > COMPONENTS_MAX:
                    raise OSError(errno.ELOOP, "too many components")
                name = pending.pop()
                if not name:
                    if not stat.S_ISDIR(os.fstat(current).st_mode):
                        raise NotADirectoryError(errno.ENOTDIR, "not a directory")
                    continue
                trailing = bool(pending) and not any(pending)
                last = not any(pending)
                if follow or trailing or not last:
                    name = self._own_name(task, current, name)
                self._spare_us(current, name)
                own = self._is_own_place(task, current)
                following = task.touch(step, current, name) if own else step(current, name)
                is_link = stat.S_ISLNK(os.fstat(following).st_mode)
                if not is_link or (last and not follow and not trailing):
                    os.close(current)
                    current = following
                    continue
                target = b""
                try:
                    links += 1
                    if links > LINKS_MAX:
                        raise OSError(errno.ELOOP, "too many symbolic links")
                    jumped = task.touch(jump, current, name) if own else jump(current, name)
                    if jumped < 0:
                        target = follow_link(current, following)
                finally:
                    os.close(following)
                if jumped >= 0:
                    os.close(current)
                    current = jumped
                    self.mounts.stay_home(current)
                    continue
                if target.startswith(b"/"):
                    os.close(current)
                    current = -1
                    current = os.open("/", OPEN_PATH)
                pending.extend(target.split(b"/")[::-1])
            self._keep_out(task, current)
            return current
        except BaseException:
            if current >= 0:
                os.close(current)
            raise

    def _own_name(self, task: Task, current: int, name: bytes) -> bytes:
        """Give the program its own /proc/self where that link is followed."""
        if name not in SELF_LINKS or not is_proc_root(current):
            return name
        if own_number(current) != str(self.own_tgid).encode():
            raise PermissionError(errno.EACCES, "another numbering of processes")
        whole = f"{task.tgid}/task/{task.tid}" if name == b"thread-self" else str(task.tgid)
        return whole.encode()

    def _spare_us(self, current: int, name: bytes) -> None:
        """Keep the program out of the supervisor's directory."""
        if name.isdigit() and is_proc_root(current) and is_ours(current, name):
            raise PermissionError(errno.EACCES, "the supervisor's own process")

    def _keep_out(self, task: Task, fd: int) -> None:
        """Raise PermissionError where nobody may be in /proc: the walk may have begun there."""
        if is_procfs(fd):
            self._place(task, fd)

    def _place(self, task: Task, fd: int) -> ProcPlace:
        """Raise PermissionError for the supervisor's directory and the inside of foreign ones."""
        place = place_of(fd, self.mounts)
        if self.foreign and place.is_inside and self.foreign(task.tgid, place.tgid):
            raise PermissionError(errno.EACCES, "the inside of a process of another policy")
        return place

    def _is_own_place(self, task: Task, current: int) -> bool:
        """Tell whether ``current`` is a directory in /proc that tells a program about itself.

        There the kernel asks for no rights (same_thread_group in fs/proc), but of us it would.
        What it asks rights for even of the program itself, map_files, is left out.
        """
        if task.mask is None or not is_procfs(current):
            return False
        place = self._place(task, current)
        return place.tgid == task.tgid and not place.rest.endswith(b"/map_files")

    # -- the four outcomes --------------------------------------------------------------------

    def _found(
        self, task: Task, fd: int, path: bytes, info: os.stat_result | None = None
    ) -> Resolved:
        """``info``: what fstat(2) says of ``fd``, where it is known not to be on a proc one."""
        try:
            text = text_of(fd)
            if text is None:
                # without a name of its own: a pipe or memfd reached through /proc/self/fd, or
                # deleted
                info = os.fstat(fd)
                text = self.named.get((info.st_dev, info.st_ino)) or own_link(fd)
                if text.endswith(_DELETED):
                    text = NON_EXISTENT + os.fsdecode(path)
            elif info is None and is_procfs(fd):
                place = place_of(fd, self.mounts)
                if place.is_main and place.tgid == task.tgid:
                    text = "/proc/self" + os.fsdecode(place.rest)
        except BaseException:
            os.close(fd)  # a text that is too long, for one
            raise
        return Resolved(text, fd, -1, b"", 0, info)

    def _missing(self, task: Task, base: int, path: bytes, follow: bool) -> Resolved:
        """The name does not exist: pin its directory when that does."""
        for _ in range(LINKS_MAX):
            directory, last = split_last(path)
            bare = last.rstrip(b"/")
            if bare in (b"", b".", b".."):
                break
            try:
                parent = self._directory(task, base, directory)
            except FileNotFoundError:
                break
            except OSError as error:
                return self._unreachable(path, error)
            try:
                if is_procfs(parent):
                    return self._in_procfs(task, base, path, follow)
                there = self._once_more(task, parent, last, follow)
                if there >= 0:
                    return self._found(task, there, path)
                target = dangling(parent, bare) if follow or bare != last else None
                if target is None:
                    text = text_of(parent)
                    if text is None:
                        break
                    joined = _join(text, bare)
                    found, parent = Resolved(joined, -1, parent, last, errno.ENOENT), -1
                    return found
            finally:
                if parent >= 0:
                    os.close(parent)
            # a dangling link as the last component: what would be made is its target, which has to
            # be a directory where slashes follow
            path = (target if target.startswith(b"/") else directory + target) + last[len(bare) :]
        return Resolved(NON_EXISTENT + os.fsdecode(path), -1, -1, b"", errno.ENOENT)

    def _once_more(self, task: Task, parent: int, last: bytes, follow: bool) -> int:
        """Look a name up in its directory; -1: missing there, too.

        The kernel had not found it, but it walked as us: through /proc/self/fd/9 to the
        supervisor's ninth descriptor.
        """
        try:
            return self._look_up(task, parent, last, follow)
        except FileNotFoundError:
            return -1

    def _in_procfs(self, task: Task, base: int, path: bytes, follow: bool) -> Resolved:
        """Missing for the supervisor, perhaps not for the program: its /proc/self is another."""
        try:
            return self._found(task, self._walk(task, base, path, follow), path)
        except OSError as error:
            return self._unreachable(path, error)

    def _unreachable(self, path: bytes, error: OSError) -> Resolved:
        code = error.errno or errno.EIO
        return Resolved(NON_EXISTENT + os.fsdecode(path), -1, -1, b"", code)


def _join(directory: str, last: bytes) -> str:
    return (directory if directory != "/" else "") + "/" + os.fsdecode(last)
