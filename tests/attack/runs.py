"""Run a certificate once, the quick way or the way that users do, and say how it ended.

The quick way saves only the start of Python: one process that has everything imported calls the
policy server's own ``serve`` for each run, on a socket of the real launcher, which a small program
starts. Launcher, kernel and everything that judges are the real ones.
"""

from __future__ import annotations

import gc
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from certexec.kernel.ownership import PersonalOwners, root_owners
from certexec.reasons import EXIT_REFUSED, REASONS
from certexec.run import decide, front, server
from certexec.run.server import Settings
from tests.attack.victims import EVIL, PROJECT, Victim, Workshop

EXECUTED, REFUSED, KILLED, EVIL_RAN, STRANGE = "executed", "refused", "killed", "evil", "strange"
TIME_LIMIT = 30
"""seconds for one run; what takes longer hangs."""
CONTROL = 3
_WALL = 0x40000000
_OUTPUT = 65536
_REASON = re.compile(r"\(([a-z-]+)\)(; [^\n]*)?\n$")
_NOT_STARTED = re.compile(r"failed to execute .*: (Text file busy|Exec format error)\n$")
"""What setpriv(1) says when the kernel itself does not take a certificate that is being written."""
_CANNOT_EXECUTE = re.compile(r"the program cannot be executed: (E[A-Z0-9]+)")
"""What the launcher says: the file was being written to all the time, or is no program."""
Announce = Callable[[int], None]
"""Tells the attacker that a run begins (pid 0), or which process it is."""


class Outcome:
    """How one run ended: one of the five words, the reason for it, and all that was printed."""

    def __init__(self, kind: str, detail: str, output: bytes, seconds: float) -> None:
        self.kind = kind
        self.detail = detail
        self.text = output.decode("utf-8", "replace").strip()
        self.seconds = seconds


def classify(status: int, output: bytes, expected: bytes) -> tuple[str, str]:
    """Judge a run by its wait status and all that it printed."""
    text = output.decode("utf-8", "replace")
    if EVIL in output:
        return EVIL_RAN, ""
    if output == expected and status == 0:
        return EXECUTED, ""
    reason = _REASON.search(text)
    word = reason[1] if reason else ""
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == EXIT_REFUSED:
        not_executed = _CANNOT_EXECUTE.search(text)
        if not_executed:
            return REFUSED, not_executed[1]
        if REASONS.get(word, (0, ""))[0] == EXIT_REFUSED:
            return REFUSED, word
        if _NOT_STARTED.search(text):
            return REFUSED, "not started by the kernel"
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and word:
        return KILLED, word
    return STRANGE, f"wait status {status:#x}"


class Quick:
    """Runs one certificate many times. ``mutate`` is called in the policy server's process."""

    def __init__(
        self, workshop: Workshop, victim: Victim, mutate: Callable[[Victim], None] | None = None
    ) -> None:
        self.victim = victim
        self.store = workshop.trust
        self.owners = PersonalOwners(root_owners() | {os.getuid()})
        self._output, write_end = os.pipe()
        os.set_blocking(self._output, False)
        self._starter, self._starter_pid = self._start_starter(workshop, write_end)
        os.close(write_end)
        self._server, self._server_pid = self._start_server(mutate)

    def _start_starter(self, workshop: Workshop, output: int) -> tuple[socket.socket, int]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        actions = [(os.POSIX_SPAWN_DUP2, output, fd) for fd in (1, 2)]
        actions.append((os.POSIX_SPAWN_DUP2, theirs.fileno(), CONTROL))
        argv = ["starter", front.find_launcher(), self.victim.certificate]
        defaults = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them
        pid = os.posix_spawn(
            workshop.starter, argv, {}, file_actions=actions, setsigdef=defaults
        )
        theirs.close()
        return ours, pid

    def _start_server(self, mutate: Callable[[Victim], None] | None) -> tuple[socket.socket, int]:
        self._import_everything()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                if mutate is not None:
                    mutate(self.victim)
                self._serve_all(theirs.detach())
                code = 0
            finally:
                os._exit(code)
        theirs.close()
        return ours, pid

    def _import_everything(self) -> None:
        """Judge once before the fork: what is imported late is then there for every run."""
        with open(self.victim.certificate, "rb") as file:
            verified = decide.verify(file.read(), self.store, self.owners)
        decide.confinement_of(verified.certificate, capable=True)

    def _serve_all(self, control: int) -> None:
        """The policy server's process: what ``front`` makes of it, then one run after another."""
        os.setsid()
        os.chdir("/")
        os.dup2(control, CONTROL)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(CONTROL):
            os.dup2(null, standard)
        os.closerange(CONTROL + 1, os.sysconf("SC_OPEN_MAX"))
        channel = socket.socket(fileno=CONTROL)
        gc.collect()
        gc.freeze()
        while True:
            packet, fds, _, _ = socket.recv_fds(channel, 8, 2)
            if not packet:
                return
            server.serve(fds[0], self._settings(fds[1]))
            self._forget()

    def _settings(self, certificate: int) -> Settings:
        """As ``certexec run --trust`` makes them; denials and kills are not logged."""
        return Settings(
            store=self.store, owners=self.owners, may_grant=False, certificate_fd=certificate,
            sinks=[], arguments_before=front.RUN_ARGUMENTS,
        )  # fmt: skip

    def _forget(self) -> None:
        """What the end of the process would do: tracees are reaped, descriptors closed."""
        while True:
            try:
                os.waitpid(-1, _WALL)
            except ChildProcessError:
                break
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.collect()
        os.closerange(CONTROL + 1, 256)

    def run(self, announce: Announce) -> Outcome:
        """Run the certificate once; raises RuntimeError when the machinery itself fails."""
        begin = time.perf_counter()
        announce(0)
        self._starter.send(b"x")
        packet, fds, _, _ = socket.recv_fds(self._starter, 8, 2)
        if len(packet) != 8:
            raise RuntimeError("the starter ended")
        pid, error = struct.unpack("ii", packet)
        if error:
            os.waitpid(pid, 0)
            raise RuntimeError(f"the certificate cannot be opened: {os.strerror(error)}")
        try:
            socket.send_fds(self._server, [b"x"], fds)
        finally:
            for fd in fds:
                os.close(fd)
        announce(pid)
        status = _wait(pid)
        seconds = time.perf_counter() - begin
        try:
            output = os.read(self._output, _OUTPUT)
        except BlockingIOError:
            output = b""
        return Outcome(*classify(status, output, self.victim.expected), output, seconds)

    def close(self) -> None:
        """End both helpers."""
        for channel, pid in (
            (self._starter, self._starter_pid), (self._server, self._server_pid),
        ):  # fmt: skip
            channel.close()
            os.waitpid(pid, 0)
        os.close(self._output)


def _wait(pid: int) -> int:
    """waitpid(2) with a limit."""
    def late(number: int, frame: object) -> None:
        raise RuntimeError(f"a run did not end within {TIME_LIMIT} seconds")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(TIME_LIMIT)
    try:
        return os.waitpid(pid, 0)[1]
    finally:
        signal.alarm(0)


class Whole:
    """Runs a certificate as users do; every run starts its own policy server."""

    def __init__(self, victim: Victim, command: Sequence[str], env: dict[str, str]) -> None:
        self.victim = victim
        self.command = list(command)
        self.env = env

    def run(self, announce: Announce) -> Outcome:
        """Run the certificate once."""
        begin = time.perf_counter()
        announce(0)
        process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=self.env,
        )  # fmt: skip
        announce(process.pid)
        assert process.stdout is not None
        output = b""
        try:
            while True:
                ready = select.select([process.stdout], [], [], TIME_LIMIT)[0]
                if not ready:
                    raise RuntimeError(f"a run did not end within {TIME_LIMIT} seconds")
                chunk = os.read(process.stdout.fileno(), _OUTPUT)
                if not chunk:
                    break
                output += chunk
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdout.close()
            code = process.wait()
        status = -code if code < 0 else code << 8
        seconds = time.perf_counter() - begin
        return Outcome(*classify(status, output, self.victim.expected), output, seconds)


def by_command(workshop: Workshop, victim: Victim) -> Whole:
    """``certexec run --trust DIR CERT``."""
    command = [
        sys.executable, "-m", "certexec.cli.main", "run", "--trust", workshop.trust,
        "--log", os.devnull, victim.certificate,
    ]  # fmt: skip
    return Whole(victim, command, {**os.environ, "PYTHONPATH": PROJECT})
