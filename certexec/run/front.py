"""``certexec run``: the same execution without a handler, a set-up or any privilege.

This process becomes the launcher, and then the program: its pid, parent, terminal and exit status
are the program's. The policy server is a forked grandchild that already has everything imported.
"""

from __future__ import annotations

import _signal
import os
import resource
import socket
import stat
import sys

from certexec.errors import RunError
from certexec.run.decide import decide
from certexec.run.invoker import Invoker
from certexec.run.layout import SYSTEM
from certexec.run.server import Settings, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

PACKAGED_LAUNCHER = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "libexec", "launch"
)
"""Where the build hook leaves the launcher in a wheel or a source checkout."""
RUN_ARGUMENTS = 3
"""``launch --run FD`` stands in front of the program's own arguments."""
NO_ARGUMENTS = 1 << 30
"""For judging an execution without arguments: all of our own are skipped."""
FIRST_FREE = 3
_IGNORED_BY_PYTHON = (_signal.SIGPIPE, _signal.SIGXFSZ)
_SERVERS_LIMITS = (
    resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_DATA, resource.RLIMIT_AS,
    resource.RLIMIT_NPROC, resource.RLIMIT_MEMLOCK,
)  # fmt: skip
"""Soft limits that could end the server, or keep it from serving, while the program lives."""
_FAILED = 125


def find_launcher() -> str:
    """Return the launcher's path; raises RunError("internal") when there is none."""
    for path in (PACKAGED_LAUNCHER, SYSTEM.launcher):
        if os.access(path, os.X_OK):
            return path
    raise RunError(
        "internal",
        "there is no launcher in this installation",
        'install certexec with "pip install" from its wheel or source, which builds it',
    )


def _lift_limit(number: int) -> tuple[int, int]:
    """Set a soft limit of ours to the hard one; returns both as they were.

    The soft ones are meant for the program, and may be too low for who serves it.
    """
    soft, hard = resource.getrlimit(number)
    resource.setrlimit(number, (hard, hard))
    return soft, hard


def _open_certificate(path: str) -> int:
    try:
        # looked at before it is opened, which can start something in a device
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _no_file(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise RunError("not-found", f'"{path}" does not exist') from None
    except OSError as error:
        raise RunError("unreadable", f'"{path}": {error.strerror}') from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _no_file(path)
    return fd


def _no_file(path: str) -> RunError:
    return RunError("malformed", f'"{path}" is not a file', "name a certificate")


def explain_execution(certificate: str, settings: Settings) -> list[str]:
    """Judge as ``execute`` would, run nothing; returns lines that say what would happen.

    Raises CertexecError with the reason for which it would be refused.
    """
    _lift_limit(resource.RLIMIT_NOFILE)
    fd = _open_certificate(certificate)
    try:
        approved = decide(
            fd,
            Invoker(os.getpid()),
            settings.store,
            settings.owners,
            may_grant=False,
            kernel_arguments=NO_ARGUMENTS,
            notify_denials=settings.notify_denials,
            unmatched=settings.unmatched,
        )
    finally:
        os.close(fd)
    signed, table = approved.certificate, approved.compiled.table
    policy = approved.reach.policies[0]
    where = "the kernel and a supervisor" if table.needs_listener else "the kernel alone"
    return [
        f"program: {signed.program.path} ({approved.judged.mode})",
        f"identity: uid {approved.permitted.uid}, gid {approved.permitted.gid}, nothing granted",
        f"policy: {policy.path}, {len(policy.rules)} rules, enforced by {where}",
        f"what no rule matches: {'an agent is asked' if policy.asks_unmatched else 'denied'}",
        f"log: {signed.log}",
    ]


def execute(
    certificate: str, arguments: Sequence[str], settings: Settings, keep: Sequence[int]
) -> NoReturn:
    """Become the program. Raises RunError when it cannot even be asked for.

    ``settings`` lack only the certificate's descriptor; ``keep`` are descriptors that the server
    needs (logs). Never returns.
    """
    if os.geteuid() != os.getuid() or os.getegid() != os.getgid():
        raise RunError("setuid-denied", '"certexec run" may not be set-user-ID')
    launcher = find_launcher()
    files = _lift_limit(resource.RLIMIT_NOFILE)
    fd = _open_certificate(certificate)
    ours, servers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    settings.certificate_fd = fd
    settings.arguments_before = RUN_ARGUMENTS
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        try:
            if os.fork() == 0:
                _become_server(servers.detach(), settings, {fd, *keep})
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    servers.close()
    for number in _IGNORED_BY_PYTHON:
        _signal.signal(number, _signal.SIG_DFL)  # the interpreter ignores them, programs do not
    socket_fd = ours.detach()
    os.set_inheritable(socket_fd, True)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)
    argv = [launcher, "--run", str(socket_fd), certificate, *arguments]
    try:
        os.execve(launcher, argv, os.environ)
    except OSError as error:
        raise RunError("internal", f'"{launcher}": {error.strerror}') from None


def _become_server(socket_fd: int, settings: Settings, keep: set[int]) -> NoReturn:
    """Leave the caller's session, terminal and files, then serve."""
    code = _FAILED
    try:
        for limit in _SERVERS_LIMITS:
            _lift_limit(limit)
        os.setsid()
        os.chdir("/")
        keep = {socket_fd, *keep}
        null = os.open("/dev/null", os.O_RDWR)
        for standard in range(FIRST_FREE):
            if standard not in keep:
                os.dup2(null, standard)
        keep.add(null)
        bound = FIRST_FREE
        for number in sorted(one for one in keep if one >= FIRST_FREE):
            os.closerange(bound, number)
            bound = number + 1
        os.closerange(bound, os.sysconf("SC_OPEN_MAX"))
        code = serve(socket_fd, settings)
    except BaseException:  # noqa: B036, S110 - the launcher sees the socket close and says so
        pass
    finally:
        os._exit(code)
