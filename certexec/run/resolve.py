"""Names to objects: resolve a path as the calling thread would, and pin what was found.

The result is an O_PATH descriptor of the object, or of the directory in which it would be made,
and the text that policies are written against: the real path of that object. The descriptor is
what is judged and what is used; the name is never looked up again.

The text follows systrace (intercept.c, with the realpath(3) of BSD, which lets the last component
be missing): the real path; for what cannot be reached ``/<non-existent filename>: NAME``; and the
empty string for an empty name.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from certexec.kernel.libc import syscall
from certexec.kernel.procfs import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from certexec.kernel.credentials import Mask

    Result = TypeVar("Result")

AT_FDCWD = -100
PATH_MAX = 4096
"""bytes with the NUL; the kernel answers ENAMETOOLONG beyond it."""
LINKS_MAX = 40
"""symbolic links in one resolution, as in the kernel's MAXSYMLINKS."""
COMPONENTS_MAX = 8192
"""components walked for one name, links included: a bound on the work that a name can cause."""
OWN_PROC = "/proc/self/"
"""How names of the program's own directory in /proc begin, as policies see them."""
NON_EXISTENT = "/<non-existent filename>: "

_OPENAT2 = 437
_HOW = struct.Struct("=QQQ")
_NO_MAGICLINKS = 0x02
_FSTATFS = 138
_STATFS_SIZE = 128
_PROC_SUPER_MAGIC = 0x9FA0
_PROC_ROOT_INODE = 1
_OPEN_PATH = os.O_PATH | os.O_CLOEXEC
_DELETED = " (deleted)"


class Task:
    """The thread whose call is being carried out, as the resolver sees it.

    Attributes:
        tid, tgid: its number and its process's.
        mask: whose rights the thread that carries the call out has taken; None: only its own.
    """

    __slots__ = ("mask", "tgid", "tid")

    def __init__(self, tid: int, tgid: int) -> None:
        self.tid = tid
        self.tgid = tgid
        self.mask: Mask | None = None

    def look_at_itself(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Open something that tells the task about itself, with the task's own rights."""
        if self.mask is None:
            return function(*arguments)
        return self.mask.with_ptrace(function, *arguments)

    def touch(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Do something to the task itself, with the supervisor's own rights."""
        if self.mask is None:
            return function(*arguments)
        return self.mask.lifted(function, *arguments)


class Resolved:
    """What a name led to. Close it after use.

    Attributes:
        text: the name as policies see it.
        fd: O_PATH descriptor of the object, -1 when it does not exist or was not looked up.
        parent: O_PATH descriptor of the directory that holds ``last``, -1 when there is none.
        last: the last component as it will be used in ``parent`` (bytes, may end in "/").
        error: the errno that an unconfined caller would get, 0 when ``fd`` or ``parent`` is there.
    """

    __slots__ = ("error", "fd", "last", "parent", "text")

    def __init__(self, text: str, fd: int, parent: int, last: bytes, error: int) -> None:
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


def openat2(dirfd: int, path: bytes, flags: int, resolve: int) -> int:
    """Open with RESOLVE_* restrictions (openat2(2)); raises OSError."""
    return syscall(_OPENAT2, dirfd, path, _HOW.pack(flags, 0, resolve), _HOW.size)


def is_procfs(fd: int) -> bool:
    """Tell whether ``fd`` lies on a proc file system (fstatfs(2))."""
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    syscall(_FSTATFS, fd, buffer)
    return int.from_bytes(buffer.raw[:8], "little") == _PROC_SUPER_MAGIC


def text_of(fd: int) -> str | None:
    """Return the real path of a descriptor, None when no name leads to it any more."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    if not path.startswith("/"):
        return None
    if path.endswith(_DELETED) and os.fstat(fd).st_nlink == 0:
        return None
    return path


def base_path(task: Task, dirfd: int) -> str:
    """Return the name under /proc that leads to where a relative name of ``task`` begins."""
    if dirfd == AT_FDCWD:
        return f"/proc/{task.tid}/cwd"
    return f"/proc/{task.tid}/fd/{dirfd}"


def open_base(task: Task, dirfd: int) -> int:
    """Open the directory that a relative name of ``task`` starts from; raises OSError (EBADF)."""
    try:
        return task.touch(os.open, base_path(task, dirfd), _OPEN_PATH)
    except FileNotFoundError:
        raise OSError(errno.EBADF if dirfd != AT_FDCWD else errno.ENOENT, "no base") from None


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
    """Resolves names for the threads of one confined tree; ``own_tgid`` is the supervisor's."""

    __slots__ = ("own_tgid",)

    def __init__(self, own_tgid: int) -> None:
        self.own_tgid = own_tgid

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
                base = open_base(task, dirfd)
            try:
                fd = self._fast(base, path, follow)
                if fd < 0:
                    fd = self._walk(task, base, path, follow)
            except FileNotFoundError:
                return self._missing(task, base, path, follow)
            return self._found(task, fd, path)
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
        base = -1
        try:
            if not path.startswith(b"/"):
                base = open_base(task, dirfd)
            fd = self._directory(task, base, directory)
            if bare in (b"", b".", b".."):
                whole = self.object(task, dirfd, path, True)
                text = whole.text
                whole.close()
                return Resolved(text, -1, fd, last or b".", 0)
            name = text_of(fd)
            if name is None:
                os.close(fd)
                return self._unreachable(path, OSError(errno.ENOENT, ""))
            return Resolved(_join(name, bare), -1, fd, last, 0)
        except OSError as error:
            return self._unreachable(path, error)
        finally:
            if base >= 0:
                os.close(base)

    # -- the two ways to an object ------------------------------------------------------------

    def _fast(self, base: int, path: bytes, follow: bool) -> int:
        """Let the kernel walk; -1 when the name needs the careful way.

        The kernel walks as *this* process. Only /proc/self, /proc/thread-self, magic links and
        the supervisor's own directories could tell the difference: all lie on a proc file system.
        """
        flags = _OPEN_PATH | (0 if follow or path.endswith(b"/") else os.O_NOFOLLOW)
        try:
            fd = openat2(base if base >= 0 else AT_FDCWD, path, flags, _NO_MAGICLINKS)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EAGAIN, errno.EACCES):
                return -1
            raise
        if is_procfs(fd):
            os.close(fd)
            return -1
        return fd

    def _restricted(
        self, task: Task, dirfd: int, path: bytes, follow: bool, resolve: int
    ) -> Resolved:
        """Resolve as openat2(2) does with RESOLVE_* bits: the kernel alone, no careful way.

        Nothing on a proc file system is reached so (EXDEV), for those names mean us, not them.
        """
        base = parent = -1
        try:
            base = open_base(task, dirfd)
            flags = _OPEN_PATH | (0 if follow or path.endswith(b"/") else os.O_NOFOLLOW)
            resolve |= _NO_MAGICLINKS
            try:
                fd = openat2(base, path, flags, resolve)
            except FileNotFoundError:
                directory, last = split_last(path)
                parent = openat2(base, directory or b".", _OPEN_PATH | os.O_DIRECTORY, resolve)
                text = text_of(parent)
                if text is None or last.rstrip(b"/") in (b"", b".", b"..") or is_procfs(parent):
                    raise
                text = _join(text, last.rstrip(b"/"))
                found, parent = Resolved(text, -1, parent, last, errno.ENOENT), -1
                return found
            if is_procfs(fd):
                os.close(fd)
                raise OSError(errno.EXDEV, "on a proc file system")
            return self._found(task, fd, path)
        except OSError as error:
            return self._unreachable(path, error)
        finally:
            for unused in (base, parent):
                if unused >= 0:
                    os.close(unused)

    def _directory(self, task: Task, base: int, directory: bytes) -> int:
        if not directory:
            if base >= 0:
                return os.dup(base)
            directory = b"/"
        try:
            fd = self._fast(base, directory, True)
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
        current = os.open("/", _OPEN_PATH) if base < 0 else os.dup(base)
        pending = path.split(b"/")[::-1]
        links = 0
        steps = 0
        try:
            while pending:
                steps += 1
                if steps > COMPONENTS_MAX:
                    raise OSError(errno.ELOOP, "too many components")
                name = pending.pop()
                if name in (b"", b"."):
                    if not stat.S_ISDIR(os.fstat(current).st_mode):
                        raise NotADirectoryError(errno.ENOTDIR, "not a directory")
                    continue
                name = self._own_name(task, current, name)
                own = _is_own_place(task, current)
                following = task.touch(_step, current, name) if own else _step(current, name)
                info = os.fstat(following)
                trailing = bool(pending) and not any(pending)
                last = not any(pending)
                if not stat.S_ISLNK(info.st_mode) or (last and not follow and not trailing):
                    os.close(current)
                    current = following
                    continue
                links += 1
                if links > LINKS_MAX:
                    os.close(following)
                    raise OSError(errno.ELOOP, "too many symbolic links")
                os.close(following)
                jumped = task.touch(_jump, current, name) if own else _jump(current, name)
                if jumped >= 0:
                    os.close(current)
                    current = jumped
                    continue
                target = os.readlink(name, dir_fd=current)
                if target.startswith(b"/"):
                    os.close(current)
                    current = -1
                    current = os.open("/", _OPEN_PATH)
                pending.extend(target.split(b"/")[::-1])
            self._keep_out(current)
            return current
        except BaseException:
            if current >= 0:
                os.close(current)
            raise

    def _own_name(self, task: Task, current: int, name: bytes) -> bytes:
        """Give the program its own /proc/self; keep it out of the supervisor's directory."""
        if not is_procfs(current) or os.fstat(current).st_ino != _PROC_ROOT_INODE:
            return name
        if name == b"self":
            return str(task.tgid).encode()
        if name == b"thread-self":
            return f"{task.tgid}/task/{task.tid}".encode()
        if name.isdigit() and self._is_own(name):
            raise PermissionError(errno.EACCES, "the supervisor's own process")
        return name

    def _keep_out(self, fd: int) -> None:
        """Raise PermissionError for what lies in the supervisor's own directory in /proc.

        The walk may have begun inside: with a descriptor that somebody outside passed in, or a
        working directory.
        """
        if not is_procfs(fd):
            return
        words = os.readlink(b"/proc/self/fd/%d" % fd).split(b"/")
        pids = words[2:3] if words[1:2] == [b"proc"] else words
        if any(word.isdigit() and self._is_own(word) for word in pids):
            raise PermissionError(errno.EACCES, "the supervisor's own process")

    def _is_own(self, name: bytes) -> bool:
        try:
            text = read_file(f"/proc/{name.decode()}/status")
        except OSError:
            return False
        return f"\nTgid:\t{self.own_tgid}\n".encode() in text

    # -- the four outcomes --------------------------------------------------------------------

    def _found(self, task: Task, fd: int, path: bytes) -> Resolved:
        text = text_of(fd)
        if text is None:
            # without a name of its own: a pipe or memfd reached through /proc/self/fd, or deleted
            text = os.readlink(f"/proc/self/fd/{fd}")
            text = text if not text.startswith("/") else NON_EXISTENT + os.fsdecode(path)
        elif text.startswith("/proc/"):
            own = f"/proc/{task.tgid}"
            if text == own or text.startswith(own + "/"):
                text = "/proc/self" + text[len(own) :]
        return Resolved(text, fd, -1, b"", 0)

    def _missing(self, task: Task, base: int, path: bytes, follow: bool) -> Resolved:
        """The name does not exist: pin its directory when that does."""
        for _ in range(LINKS_MAX):
            directory, last = split_last(path)
            if last.rstrip(b"/") in (b"", b".", b".."):
                break
            try:
                parent = self._directory(task, base, directory)
            except OSError:
                break
            if is_procfs(parent):
                os.close(parent)
                return self._in_procfs(task, base, path, follow)
            target = _dangling(parent, last.rstrip(b"/")) if follow else None
            if target is None:
                text = text_of(parent)
                if text is None:
                    os.close(parent)
                    break
                joined = _join(text, last.rstrip(b"/"))
                return Resolved(joined, -1, parent, last, errno.ENOENT)
            # a dangling link as the last component: what would be made is its target
            os.close(parent)
            path = target if target.startswith(b"/") else directory + target
        return Resolved(NON_EXISTENT + os.fsdecode(path), -1, -1, b"", errno.ENOENT)

    def _in_procfs(self, task: Task, base: int, path: bytes, follow: bool) -> Resolved:
        """Missing for the supervisor, perhaps not for the program: its /proc/self is another."""
        try:
            return self._found(task, self._walk(task, base, path, follow), path)
        except OSError as error:
            return self._unreachable(path, error)

    def _unreachable(self, path: bytes, error: OSError) -> Resolved:
        code = error.errno or errno.EIO
        return Resolved(NON_EXISTENT + os.fsdecode(path), -1, -1, b"", code)


def _is_own_place(task: Task, current: int) -> bool:
    """Tell whether ``current`` is a directory in /proc that tells a program about itself.

    There the kernel asks for no rights (same_thread_group in fs/proc), but of us it would. What
    it asks rights for even of the program itself, map_files, is left out.
    """
    if task.mask is None or not is_procfs(current):
        return False
    text = os.readlink(f"/proc/self/fd/{current}")
    own = f"/proc/{task.tgid}"
    return (text == own or text.startswith(own + "/")) and not text.endswith("/map_files")


def _step(current: int, name: bytes) -> int:
    """Open one component; "..", like the kernel's, stops at the root."""
    if name == b".." and os.path.samestat(os.fstat(current), os.stat("/")):
        return os.dup(current)
    return os.open(name, _OPEN_PATH | os.O_NOFOLLOW, dir_fd=current)


def _jump(current: int, name: bytes) -> int:
    """Follow a magic link (/proc/PID/fd/N, exe, cwd, root, ns); -1 when it is a plain one."""
    if not is_procfs(current):
        return -1
    try:
        os.close(openat2(current, name, _OPEN_PATH, _NO_MAGICLINKS))
    except OSError as error:
        if error.errno == errno.ELOOP:
            return os.open(name, _OPEN_PATH, dir_fd=current)
    return -1


def _dangling(parent: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None


def _join(directory: str, last: bytes) -> str:
    return (directory if directory != "/" else "") + "/" + os.fsdecode(last)
