"""Put what a run loads where only root can change it, switch versions, and take it away again.

Nothing that runs is ever overwritten: a new version gets a directory of its own, ``current`` and
the launcher are replaced by rename(2), and an old version goes when no process uses it any more.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

import certexec
from certexec.errors import CertexecError, RunError
from certexec.kernel.ownership import check_chain, root_owners
from certexec.kernel.procfs import read_file
from certexec.run import child, interpreter, version_tree
from certexec.run.layout import SYSTEM, Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_STAGING = ".new"
"""Where a version is built, below the directory of versions; whatever a crash left goes."""
_PROC_LIMIT = 1 << 24
"""bytes; the map list of a process with very many mappings has a few MB."""
PACKAGE = os.path.dirname(os.path.abspath(certexec.__file__))


class Report:
    """What a set-up did.

    Attributes:
        changes: one line for each change, in order; empty when all was as it should be.
        notes: what the user should know besides.
        version: the identifier of the version that counts.
        interpreter: the Python that it uses.
    """

    __slots__ = ("changes", "interpreter", "notes", "version")

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.notes: list[str] = []
        self.version = ""
        self.interpreter = ""


def need_root(command: str) -> None:
    """Raise RunError("not-root") unless this process is root in its user namespace."""
    if os.geteuid() != 0:
        raise RunError("not-root", f'"{command}" needs root', f'run "sudo {command}"')


def translated(error: OSError) -> CertexecError:
    """Turn a foreign error of set-up into one of ours, with what mends it."""
    place = f' at "{os.fsdecode(error.filename)}"' if error.filename else ""
    hint = {
        errno.EROFS: "this file system is read-only; certexec needs /usr/libexec to be writable",
        errno.ENOSPC: "set-up needs about 20 MB there",
        errno.EACCES: "the file system does not let this user in; run set-up as root",
        errno.EPERM: "something forbids it even to root, such as chattr +i or a container",
    }.get(error.errno or 0, "")
    return RunError("internal", f"set-up failed{place}: {error.strerror or error}", hint)


class Lock:
    """One set-up at a time: flock(2) on the installation's directory."""

    __slots__ = ("_fd",)

    def __init__(self, layout: Layout) -> None:
        self._fd = check_chain(layout.libexec, root_owners())
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise RunError("internal", "another certexec setup is running") from None

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._fd)


def note_created(layout: Layout, line: str) -> None:
    """Remember that set-up made something outside its own directory, for ``remove``."""
    lines = created(layout)
    if line not in lines:
        replace_file(layout.record, "".join(f"{each}\n" for each in [*lines, line]).encode())


def created(layout: Layout) -> list[str]:
    """Return the lines of ``note_created``."""
    try:
        return read_file(layout.record).decode().splitlines()
    except FileNotFoundError:
        return []


def replace_file(path: str, data: bytes, mode: int = 0o644) -> None:
    """Give a file new content in one step, durably. Raises OSError."""
    fresh = f"{path}.new"
    unlink_if_there(fresh)
    version_tree.write_file(fresh, data, mode)
    _publish(fresh, path)


def read_text(path: str) -> str | None:
    """Return the text of a small file, None where there is none."""
    try:
        return read_file(path).decode("utf-8", "replace")
    except OSError:
        return None


def unlink_if_there(path: str) -> bool:
    """Remove one name; tell whether it was there. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _publish(fresh: str, path: str) -> None:
    if not stat.S_ISLNK(os.lstat(fresh).st_mode):
        fd = os.open(fresh, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    os.rename(fresh, path)
    version_tree.sync_directory(os.path.dirname(path))


def ensure_directory(path: str, report: Report) -> bool:
    """Make a directory and those above it where missing; tell whether it was made.

    Raises TrustError when it, or one above it, can be written by anybody else.
    """
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    os.close(check_chain(path, root_owners()))
    for each in reversed(missing):
        version_tree.make_directory(each)
        version_tree.sync_directory(os.path.dirname(each))
        report.changes.append(f'made "{each}"')
    return bool(missing)


def make_directories(layout: Layout, report: Report) -> None:
    """Make every directory of the installation, and remember those that ``remove`` must undo."""
    for path in (layout.libexec, layout.versions):
        ensure_directory(path, report)
    for path in (layout.config, layout.trust_store):
        if ensure_directory(path, report):
            note_created(layout, f"directory {path}")


def current_version(layout: Layout) -> str:
    """Return the identifier that ``current`` points to, "" for none."""
    try:
        target = os.readlink(layout.current)
    except OSError:
        return ""
    directory, _, identifier = target.rpartition("/")
    return identifier if directory == "versions" else ""


def _same_file(path: str, digest: str, mode: int) -> bool:
    try:
        status = os.lstat(path)
        return (
            stat.S_ISREG(status.st_mode)
            and (status.st_uid, status.st_gid) == (0, 0)
            and stat.S_IMODE(status.st_mode) == mode
            and version_tree.file_digest(path) == digest
        )
    except OSError:
        return False


def install_version(layout: Layout, report: Report, package: str = PACKAGE) -> None:
    """Make the version of this package the one that counts; the caller holds the lock.

    Raises CertexecError; then whatever counted before still does.
    """
    # 1. what would be installed
    uid = child.ordinary_uid()
    python = interpreter.choose(uid)
    items = version_tree.collect(package)
    identifier = version_tree.identify(items, python)
    final = layout.version(identifier)
    report.version, report.interpreter = identifier, python.path
    # 2. build it beside the others, and let it prove that it works before it counts
    wrong = version_tree.damage(final) if os.path.lexists(final) else "missing"
    if wrong:
        fresh = f"{layout.versions}/{_STAGING}-{identifier}"
        if os.path.lexists(fresh):
            version_tree.remove_tree(fresh)
        version_tree.stage(items, python, fresh, final)
        complaint = version_tree.self_test(fresh, uid)
        if complaint:
            version_tree.remove_tree(fresh)
            raise RunError(
                "internal",
                f"the new policy server does not work, so it does not count: {complaint}",
            )
        if os.path.lexists(final):
            version_tree.exchange(fresh, final)
        else:
            os.rename(fresh, final)
        version_tree.sync_directory(layout.versions)
        report.changes.append(
            f'installed version {identifier} for "{python.path}"'
            if wrong == "missing"
            else f"repaired version {identifier}: {wrong}"
        )
        _note_source(package, report)
    # 3. switch; the launcher comes first, since a handler that starts it is registered last
    launcher = items[0]
    if not _same_file(layout.launcher, launcher.digest, launcher.mode):
        fresh = f"{layout.launcher}.new"
        unlink_if_there(fresh)
        version_tree.copy_file(f"{final}/{version_tree.LAUNCHER}", fresh, launcher.mode)
        _publish(fresh, layout.launcher)
        report.changes.append(f'installed the launcher "{layout.launcher}"')
    if current_version(layout) != identifier:
        fresh = f"{layout.current}.new"
        unlink_if_there(fresh)
        os.symlink(f"versions/{identifier}", fresh)
        _publish(fresh, layout.current)
        report.changes.append(f"version {identifier} counts now")


def _note_source(package: str, report: Report) -> None:
    """Say so when others could have changed what was copied: from now on it is what it is."""
    try:
        os.close(check_chain(os.path.realpath(package), root_owners()))
    except CertexecError as error:
        told = f'others could change what was copied from "{package}": {error.message}'
        report.notes.append(told)


def _processes() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def users(layout: Layout, identifier: str) -> list[int]:
    """List the processes that use a version, or may be about to.

    A policy server maps the compiled part of cryptography from its version for as long as it
    lives. One that maps nothing below any version yet may have read ``current`` a moment ago, so
    it counts as a user of every version.
    """
    prefix = layout.versions.encode() + b"/"
    wanted = prefix + identifier.encode() + b"/"
    found = []
    for pid in _processes():
        if pid == os.getpid():
            continue
        try:
            maps = read_file(f"/proc/{pid}/maps", _PROC_LIMIT)
            starting = prefix not in maps and _starts_server(layout, pid)
        except OSError:
            continue  # it is gone, or belongs to somebody outside this user namespace
        if wanted in maps or starting:
            found.append(pid)
    return found


def _starts_server(layout: Layout, pid: int) -> bool:
    arguments = read_file(f"/proc/{pid}/cmdline", _PROC_LIMIT).split(b"\0")
    server = f"/{version_tree.SERVER}".encode()
    below = layout.libexec.encode() + b"/"
    return any(word.startswith(below) and word.endswith(server) for word in arguments)


def sweep(layout: Layout, report: Report) -> None:
    """Remove versions that do not count and that no process uses. Raises OSError."""
    for identifier in sorted(os.listdir(layout.versions)):
        if identifier == report.version:
            continue
        pids = [] if identifier.startswith(_STAGING) else users(layout, identifier)
        if pids:
            some = ", ".join(map(str, pids[:3])) + (", ..." if len(pids) > 3 else "")
            report.notes.append(
                f"kept version {identifier}, which process {some} uses; the next setup removes it"
            )
            continue
        version_tree.remove_tree(layout.version(identifier))
        report.changes.append(f"removed version {identifier}")


def boot_id() -> str:
    """Return what names this boot (random(4))."""
    return read_file("/proc/sys/kernel/random/boot_id").decode().strip()


def _remove_known(layout: Layout, report: Report) -> None:
    for path in (layout.launcher, layout.current):
        for name in (path, f"{path}.new"):
            if unlink_if_there(name):
                report.changes.append(f'removed "{name}"')
    if os.path.isdir(layout.versions):
        in_use = {pid for name in os.listdir(layout.versions) for pid in users(layout, name)}
        if in_use:
            count = "1 running process" if len(in_use) == 1 else f"{len(in_use)} running processes"
            report.notes.append(f"what was removed is still used by {count}")
        version_tree.remove_tree(layout.versions)
        report.changes.append(f'removed "{layout.versions}"')


def _remove_directory(path: str, report: Report) -> None:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
            raise
        why = "it is a mount point" if error.errno == errno.EBUSY else "it is not empty"
        report.notes.append(f'kept "{path}", because {why}')
        return
    report.changes.append(f'removed "{path}"')


def purge_keys(layout: Layout, report: Report) -> None:
    """Remove the trusted keys that were kept when all else was removed. Raises OSError."""
    _remove_keys(layout, report)
    _remove_configuration(layout, report)


def _remove_keys(layout: Layout, report: Report) -> None:
    """Remove every key and constraint of the trust store. Raises OSError."""
    if not os.path.isdir(layout.trust_store):
        return
    for entry in sorted(os.scandir(layout.trust_store), key=lambda entry: entry.name):
        if entry.name.endswith((".pub", ".toml")):
            os.unlink(entry.path)
            report.changes.append(f'removed "{entry.path}"')


def _remove_configuration(layout: Layout, report: Report) -> None:
    for path in (layout.trust_store, layout.config):
        _remove_directory(path, report)


def remove_files(layout: Layout, report: Report, purge: bool = False) -> None:
    """Take away everything that set-up made, except the handler and its mount.

    Directories that hold something else, keys above all, stay and are reported; ``purge`` removes
    the keys too. Raises OSError.
    """
    record = created(layout)
    if purge:
        _remove_keys(layout, report)
    _remove_known(layout, report)
    for line in reversed(record):
        kind, _, path = line.partition(" ")
        if kind == "directory":
            _remove_directory(path, report)
    if purge:
        _remove_configuration(layout, report)
    for name in (layout.record, f"{layout.record}.new"):
        unlink_if_there(name)
    _remove_directory(layout.libexec, report)


def present(layout: Layout = SYSTEM) -> bool:
    """Tell whether there is an installation, or a part of one."""
    return os.path.lexists(layout.libexec)
