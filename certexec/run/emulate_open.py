"""open, openat, openat2 and creat, carried out by the supervisor on the judged object."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from certexec.kernel.filesystem import openat2
from certexec.kernel.libc import syscall
from certexec.kernel.procfs import own_directory, own_fd, proc, read_tty
from certexec.policy.calls import choose_variant
from certexec.policy.translators import oflags_text
from certexec.run.call import Call, Fault
from certexec.run.emulate_sockets import copy_descriptor
from certexec.run.namespaces import hangs_on_namespaces, shares_namespaces
from certexec.run.operations import MustWait, Operation
from certexec.run.proc_place import OWN_PROC, is_everyones_own, is_procfs
from certexec.run.resolve import AT_FDCWD, Resolved, Resolver, text_of
from certexec.run.step import OPEN_PATH

_OPENAT = 257
_HOW = struct.Struct("=QQQ")
_HOW_SIZE_MAX = 4096
"""bytes; the kernel refuses a longer struct open_how (E2BIG)."""
O_LARGEFILE = 0o100000
_WITHOUT_LARGE = ("open", "openat")
"""The opens of the 32-bit ABI to which O_LARGEFILE says something."""
_NON_LFS_MAX = 0x7FFFFFFF
"""bytes of the largest file that those open without it."""
_TMPFILE_BIT = 0o20000000
_OPENAT2_FLAGS = 0o37777703 | O_LARGEFILE
"""The flags that openat2(2) knows (VALID_OPEN_FLAGS); it refuses others, open(2) ignores them."""
_BESIDE_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE_KNOWN = 0x3F
_RESOLVE_CACHED = 0x20
_NO_SYMLINKS = 0x04
_RETRIES = 8
"""times a creation is tried again when somebody swaps the name between look-up and open."""
_TTY_DEVICE = os.makedev(5, 0)
_TTY = (True, _TTY_DEVICE)
_QUIET_DEVICES = frozenset(os.makedev(1, minor) for minor in (3, 5, 7, 8, 9)) | {_TTY_DEVICE}
_PTS_MAJORS = range(136, 144)


class Open(Operation):
    """One open.

    Whether it is ``fsread`` or ``fswrite`` is the table's word (certexec.policy.calls).
    """

    def __init__(self, call: Call, resolver: Resolver) -> None:
        super().__init__(call)
        self.resolver = resolver
        self.dirfd, self.path, self.flags, self.mode, self.resolve = _arguments(call)
        self.follow = not self.flags & os.O_NOFOLLOW
        if self.flags & os.O_CREAT and self.flags & os.O_EXCL:
            self.follow = False
        self.path_only = bool(self.flags & os.O_PATH)
        if self.path_only:
            self.flags &= os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        elif self.flags & _TMPFILE_BIT and not _is_good_tmpfile(self.flags):
            raise Fault(errno.EINVAL)
        self.found = self._look_up()
        self.values = {
            "filename": [self.found.text],
            "oflags": [oflags_text(self.flags)],
        }
        if call.name == "openat2":  # of the others it is known, from registers
            args = call.notification.args
            self.variant = choose_variant(call.name, args, flags=self.flags).label

    def _look_up(self) -> Resolved:
        task, path = self.call.task, self.path
        if self.flags & os.O_CREAT and path.endswith(b"/") and not self.resolve:
            directory = self.resolver.parent(task, self.dirfd, path)
            if directory.parent < 0 or directory.last.rstrip(b"/") not in (b"", b".", b".."):
                directory.error = directory.error or errno.EISDIR  # no file has such a name
                return directory
            directory.close()
        return self.resolver.object(task, self.dirfd, path, self.follow, self.resolve)

    def may_block(self) -> bool:
        """FIFOs wait for the other end, unknown devices for anything."""
        info = self.found.info
        if info is None or self.flags & os.O_NONBLOCK or self.path_only:
            return False
        if stat.S_ISFIFO(info.st_mode):
            return self.flags & os.O_ACCMODE != os.O_RDWR
        if not stat.S_ISCHR(info.st_mode):
            return False
        return info.st_rdev not in _QUIET_DEVICES and os.major(info.st_rdev) not in _PTS_MAJORS

    def perform(self) -> None:
        """Open the pinned object, or create in the pinned directory, and hand it over."""
        fd = self._open()
        try:
            self.call.finish_with_fd(fd, bool(self.flags & os.O_CLOEXEC))
        finally:
            os.close(fd)

    def _open(self) -> int:
        # ours: never a terminal that becomes the supervisor's, never inherited by a child
        flags = self.flags | os.O_NOCTTY | os.O_CLOEXEC
        info = self.found.info
        if self.call.foreign in _WITHOUT_LARGE and info is not None and not self.path_only:
            self._check_size(info)
        if info is not None and self._is_of_others(info):
            raise OSError(errno.EPERM, "of namespaces that are not the caller's")
        terminal = info is not None and (stat.S_ISCHR(info.st_mode), info.st_rdev) == _TTY
        if terminal and not self.path_only and not self.flags & os.O_EXCL:
            return self._open_terminal(flags & ~(os.O_CREAT | os.O_NOFOLLOW))
        if self.flags & os.O_CREAT and not self.flags & _TMPFILE_BIT:
            os.umask(self.call.status.umask)
            return self._create(flags)
        found = self.found
        if info is None:
            raise OSError(found.error or errno.ENOENT, "missing")
        if self.flags & os.O_DIRECTORY and not stat.S_ISDIR(info.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        if stat.S_ISLNK(info.st_mode):
            # by O_PATH it could be opened, but not be handed over (see below). glibc's fchmodat
            # does that, and takes this answer for what it is: the mode of a link cannot be changed
            raise OSError(errno.EOPNOTSUPP if self.path_only else errno.ELOOP, "a symbolic link")
        if self.path_only and not stat.S_ISDIR(info.st_mode) and not stat.S_ISREG(info.st_mode):
            # the kernel hands no O_PATH descriptor over (SECCOMP_IOCTL_NOTIF_ADDFD): what it was
            # asked for is opened for reading, as far as that has no other effect
            raise OSError(errno.ENXIO, "nothing but its name may be opened")
        if self.flags & _TMPFILE_BIT:
            os.umask(self.call.status.umask)
        return self._open_pinned(flags)

    def _is_of_others(self, info: os.stat_result) -> bool:
        if self.found.text.startswith(OWN_PROC):
            return False
        writes = self.flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY
        mounts = self.resolver.mounts
        return hangs_on_namespaces(self.found.fd, info, mounts, writes) and not (
            shares_namespaces(self.call.task)
        )

    def _check_size(self, info: os.stat_result) -> None:
        """Refuse a large file to who does not ask for such: all other opens always do."""
        large = stat.S_ISREG(info.st_mode) and info.st_size > _NON_LFS_MAX
        if large and not self.flags & O_LARGEFILE:
            raise OSError(errno.EOVERFLOW, "a large file")

    def _open_pinned(self, flags: int) -> int:
        """Open by magic link: it leads to the very inode that was judged, whatever its name is."""
        found, task = self.found, self.call.task
        link, flags = str(found.fd), flags & ~os.O_NOFOLLOW
        if not found.text.startswith(OWN_PROC) and not self.patient:
            return os.open(link, flags, self.mode, dir_fd=own_directory())
        opened = (own_directory(), link, flags, self.mode)
        if not found.text.startswith(OWN_PROC):
            return raw_open(*opened)
        if is_everyones_own(found.text):
            return task.touch(raw_open, *opened)
        return task.look_at_itself(raw_open, *opened)

    def _open_held(self, flags: int) -> int:
        """Open what is there, where no directory has a say in it: creation is no more than that."""
        info = self.found.info
        if info is not None and stat.S_ISDIR(info.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a directory")
        return self._open_pinned(flags & ~os.O_CREAT)

    def _create(self, flags: int) -> int:
        for _ in range(_RETRIES):
            found = self.found
            if found.fd >= 0 and flags & os.O_EXCL:
                raise FileExistsError(errno.EEXIST, "it exists")
            if found.fd >= 0 and (is_procfs(found.fd) or text_of(found.fd) is None):
                # it was reached by a magic link (a pipe, a deleted file): no directory holds it
                return self._open_held(flags)
            if found.fd < 0 and (found.parent < 0 or found.error == errno.EISDIR):
                raise OSError(found.error or errno.ENOENT, "missing")
            fd = self._create_in_parent(flags)
            if fd >= 0:
                return fd
            # the name was swapped: what is there now has not been judged
            judged = found.text
            found.close()
            self.found = self._look_up()
            if self.found.text != judged:
                raise OSError(errno.EAGAIN, "the name changed while it was judged")
        raise OSError(errno.EAGAIN, "the name changes all the time")

    def _create_in_parent(self, flags: int) -> int:
        """Open by last component in a pinned directory, so that the kernel's own rules for
        creation (sticky directories, O_EXCL, quotas) apply; -1 when that is another object.
        """
        found = self.found
        parent, last, pinned = found.parent, found.last, -1
        try:
            if found.fd >= 0:
                pinned, last = self._holder()
                parent = pinned
            if found.fd >= 0 and not last:
                raise OSError(errno.EISDIR, "a directory")
            fd = self._open_by_name(parent, last, flags | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.ELOOP and self.follow and parent >= 0:
                return -1
            if error.errno == errno.ENOENT and found.fd >= 0 and parent >= 0:
                return -1
            if error.errno == errno.EACCES and self._needs_no_directory(pinned):
                return self._open_held(flags)
            raise
        finally:
            if pinned >= 0:
                os.close(pinned)
        if found.fd >= 0 and not os.path.samestat(os.fstat(fd), os.fstat(found.fd)):
            os.close(fd)
            return -1
        return fd

    def _needs_no_directory(self, pinned: int) -> bool:
        """Tell whether creation by this name is no more than an open of what has it.

        Another way than the judged name may have led there, /dev/stdout for one, when the directory
        (-1: no way leads there at all) is closed to the program. What a sticky one forbids is to
        open somebody else's: that is left as it is, for the way cannot be told any more.
        """
        info = self.found.info
        if info is None:
            return False
        if stat.S_ISDIR(info.st_mode) or info.st_uid == os.geteuid():
            return True
        return pinned >= 0 and not os.fstat(pinned).st_mode & stat.S_ISVTX

    def _open_by_name(self, parent: int, last: bytes, flags: int) -> int:
        """Open what has a name by now. The loop must not wait for a FIFO that was not there before.

        Raises MustWait for what only a thread of its own may wait for.
        """
        info = self.found.info
        # such as /dev/null; a directory or a socket may have been exchanged for anything
        quiet = info is not None and (stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode))
        if self.patient or quiet or flags & (os.O_NONBLOCK | os.O_EXCL):
            return raw_open(parent, last, flags, self.mode)
        try:
            fd = raw_open(parent, last, flags | os.O_NONBLOCK, self.mode)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.EAGAIN):  # no reader, or somebody has a lease
                raise MustWait from None
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise MustWait
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        return fd

    def _holder(self) -> tuple[int, bytes]:
        """Pin the directory that holds the object under the name that was judged."""
        text = self.found.text
        if not self.resolve:
            # by the name as given: the way to a relative one need not be open to the program
            direct = self.resolver.parent(self.call.task, self.dirfd, self.path)
            if direct.parent >= 0 and direct.text == text:
                return direct.parent, direct.last
            direct.close()
        directory, _, name = text.rpartition("/")
        path = os.fsencode(directory or "/")
        pinned = openat2(AT_FDCWD, path, OPEN_PATH, _NO_SYMLINKS)
        return pinned, os.fsencode(name) + (b"/" if self.path.endswith(b"/") else b"")

    def _open_terminal(self, flags: int) -> int:
        """Open the caller's terminal: /dev/tty would be the supervisor's, which has none.

        As in the kernel only the mode of /dev/tty counts, not that of the terminal's own file.
        """
        try:
            os.close(raw_open(AT_FDCWD, own_fd(self.found.fd), flags, 0))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        task = self.call.task
        number = read_tty(task.tgid) & 0xFFFFFFFF
        if number == 0:
            raise OSError(errno.ENXIO, "no terminal")
        # its own descriptors lead to the right terminal, /dev/pts may be another instance
        device = os.makedev((number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00))
        for own in sorted(task.touch(os.listdir, proc(task.tid, "fd")), key=int):
            try:
                pinned = task.touch(os.open, proc(task.tid, "fd", own), OPEN_PATH)
            except OSError:
                continue
            # pinned before it is looked at: a thread of the program may exchange its descriptors
            pin = own_fd(pinned)
            try:
                if _is_device(pin, device):
                    return task.touch(raw_open, AT_FDCWD, pin, flags, 0)
            except PermissionError:
                return self._copy_terminal(int(own), flags)
            finally:
                os.close(pinned)
        name = _terminal_name(device)
        if not _is_device(name, device):
            raise OSError(errno.ENXIO, "no terminal")
        return raw_open(AT_FDCWD, name, flags, 0)

    def _copy_terminal(self, own: int, flags: int) -> int:
        fd = copy_descriptor(self.call, own)
        have = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        if have not in (os.O_RDWR, flags & os.O_ACCMODE):
            os.close(fd)
            raise PermissionError(errno.EACCES, "the terminal is open in another way only")
        return fd

    def close(self) -> None:
        """Give back what was pinned."""
        self.found.close()


def _is_good_tmpfile(flags: int) -> bool:
    """Tell whether the kernel takes these flags with O_TMPFILE: it says so before it looks."""
    return (
        bool(flags & os.O_DIRECTORY)
        and not flags & os.O_CREAT
        and flags & os.O_ACCMODE != os.O_RDONLY
    )


def _is_device(name: str, device: int) -> bool:
    try:
        info = os.stat(name)
    except OSError:
        return False
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == device


def _terminal_name(device: int) -> str:
    """Return the usual name of a terminal's device."""
    major, minor = os.major(device), os.minor(device)
    if major in _PTS_MAJORS:
        return f"/dev/pts/{(major - _PTS_MAJORS.start) * 256 + minor}"
    if major == 4:
        return f"/dev/tty{minor}" if minor < 64 else f"/dev/ttyS{minor - 64}"
    return "/dev/" + os.path.realpath(f"/sys/dev/char/{major}:{minor}").rpartition("/")[2]


def _arguments(call: Call) -> tuple[int, bytes, int, int, int]:
    if call.name == "open":
        return AT_FDCWD, call.path(0), call.int_arg(1), call.int_arg(2) & 0o7777, 0
    if call.name == "creat":
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        return AT_FDCWD, call.path(0), flags, call.int_arg(1) & 0o7777, 0
    if call.name == "openat":
        return call.int_arg(0), call.path(1), call.int_arg(2), call.int_arg(3) & 0o7777, 0
    size = call.arg(3)
    if size < _HOW.size:
        raise Fault(errno.EINVAL)
    if size > _HOW_SIZE_MAX:
        raise Fault(errno.E2BIG)
    how = call.block(2, size)
    if any(how[_HOW.size :]):
        raise Fault(errno.E2BIG)
    flags, mode, resolve = _HOW.unpack(how[: _HOW.size])
    creates = flags & os.O_CREAT or flags & _TMPFILE_BIT
    if flags & ~_OPENAT2_FLAGS or resolve & ~_RESOLVE_KNOWN or mode & ~0o7777:
        raise Fault(errno.EINVAL)
    if mode and not creates or flags & os.O_PATH and flags & ~_BESIDE_PATH:
        raise Fault(errno.EINVAL)
    if resolve & 0x18 == 0x18:  # RESOLVE_BENEATH and RESOLVE_IN_ROOT exclude each other
        raise Fault(errno.EINVAL)
    if resolve & _RESOLVE_CACHED:
        raise Fault(errno.EAGAIN)  # always allowed: the caller tries again without
    return call.int_arg(0), call.path(1), flags, mode, resolve


def raw_open(dirfd: int, path: str | bytes, flags: int, mode: int) -> int:
    """openat(2) that ends with EINTR when a signal comes: os.open would try again for ever."""
    return syscall(_OPENAT, dirfd, os.fsencode(path), flags, mode)
