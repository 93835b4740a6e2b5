"""The place where the resident server listens: a socket that only root can have put there.

The directory and the socket belong to root, everybody may connect. Whoever connects believes only
a listener that is root (SO_PEERCRED); whoever listens believes only what the kernel says of who
connected.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import stat

from certexec.errors import RunError
from certexec.kernel.ownership import ROOT_ONLY, check_chain

DIRECTORY = "/run/certexec"
SOCKET = f"{DIRECTORY}/server.sock"
"""Also in binfmt/resident.h, and in the unit of systemd."""
LOCK_FILE = f"{DIRECTORY}/server.lock"
NOTE = f"{DIRECTORY}/server.pid"
"""Where the server notes its pid and version."""
BACKLOG = 512
"""connections that the kernel keeps until they are taken; whoever finds no room does not wait."""
GIVEN = 3
"""The descriptor as which systemd, or the version before, leaves the socket."""
LOCK = 5
"""The lock's; above those that children keep."""
SO_PASSCRED = 16
_FRESH = f"{SOCKET}.new"
"""The name under which ``listen`` binds; the kernel goes on calling it so."""
_DIRECTORY_MODE, _MODE = 0o755, 0o666


def inherited(fd: int) -> _socket.socket | None:
    """Return the listening socket that somebody opened for us as ``fd``, None where there is none.

    That is how systemd starts a service on demand (sd_listen_fds(3)), and how a new version takes
    over from the one before.
    """
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        found = _socket.socket(fileno=fd)
    except OSError:
        return None
    listens = found.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
    kind = found.getsockopt(_socket.SOL_SOCKET, _socket.SO_TYPE)
    if not listens or kind != _socket.SOCK_SEQPACKET or found.getsockname() not in (SOCKET, _FRESH):
        found.detach()
        return None
    return _ready(found)


def listen() -> _socket.socket:
    """Make the socket, and take the place of one whose server has died.

    Raises RunError("internal") when a server is there, TrustError for an unsafe directory.

    1. the directory: root's, and nobody else's to write;
    2. one server at a time: the lock lasts as long as the descriptor, over an exec, too;
    3. the name changes in one step, so nobody ever finds half a server.
    """
    try:
        # 1.
        try:
            os.mkdir(DIRECTORY, 0o700)
            os.chmod(DIRECTORY, _DIRECTORY_MODE)  # whatever the umask
        except FileExistsError:
            pass
        os.close(check_chain(DIRECTORY, ROOT_ONLY))
        # 2.
        lock = os.open(LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise RunError("internal", "a certexec server is running already") from None
        os.dup2(lock, LOCK, inheritable=True)
        if lock != LOCK:
            os.close(lock)
        # 3.
        found = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        if os.path.lexists(_FRESH):
            os.unlink(_FRESH)
        found.bind(_FRESH)
        os.chmod(_FRESH, _MODE)
        found.listen(BACKLOG)
        os.rename(_FRESH, SOCKET)
    except OSError as error:
        raise RunError("internal", f'"{SOCKET}" cannot be made: {error.strerror}') from None
    return _ready(found)


def is_ours() -> bool:
    """Tell whether this process, or the version before it, has made the socket; else systemd."""
    try:
        return os.path.samestat(os.fstat(LOCK), os.stat(LOCK_FILE))
    except OSError:
        return False


def note(version: str) -> None:
    """Write down who serves here. Raises OSError."""
    fresh = f"{NOTE}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(fd, 0o644)
        os.write(fd, f"{os.getpid()} {version}\n".encode())
    finally:
        os.close(fd)
    os.rename(fresh, NOTE)


def _ready(listener: _socket.socket) -> _socket.socket:
    """Let the kernel say with every message who sent it, from the first on."""
    listener.setsockopt(_socket.SOL_SOCKET, SO_PASSCRED, 1)
    listener.setblocking(False)
    os.set_inheritable(listener.fileno(), False)
    return listener


def poke() -> int:
    """Connect and say nothing; return the pid of who listens, 0 for nobody.

    A running server looks at such moments whether it is still the version that counts.
    """
    with_root = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        with_root.setblocking(False)
        with_root.connect(SOCKET)
        packed = with_root.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    except OSError:
        return 0
    finally:
        with_root.close()
    return int.from_bytes(packed[:4], "little", signed=True)
