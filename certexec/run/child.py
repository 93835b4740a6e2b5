"""Short-lived children: run a program, or a function, with fewer rights and a time limit.

Set-up and doctor ask questions whose answer must not cost the asker anything: does this
interpreter work for an ordinary user, does this kernel keep ids. A child asks, and is gone.
"""

from __future__ import annotations

import os
import select
import time

from certexec.errors import RunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ORDINARY_IDS = (65534, 12345)
"""Ids without rights to test with: "nobody", or where that does not exist, one that nobody has."""
TIME_LIMIT = 60.0
"""seconds; a cold start of the interpreter takes several on an emulated or overloaded machine."""
OUTPUT_LIMIT = 1 << 20
"""bytes; nothing that is asked has a longer answer."""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_FAILED = 125
_SIGKILL = 9


class Outcome:
    """How a child ended.

    Attributes:
        code: exit code, or minus the signal's number.
        output: what it wrote to its standard output; errors: to its standard error.
        timed_out: whether it had to be killed.
    """

    __slots__ = ("code", "errors", "output", "timed_out")

    def __init__(self, code: int, output: bytes, errors: bytes, timed_out: bool) -> None:
        self.code = code
        self.output = output
        self.errors = errors
        self.timed_out = timed_out

    @property
    def complaint(self) -> str:
        """Why it failed, in one line: the last line on its standard error, or how it ended."""
        if self.timed_out:
            return "it did not end in time"
        lines = self.errors.decode("utf-8", "replace").strip().splitlines()
        if lines:
            return lines[-1].strip()
        return f"it ended with {'signal' if self.code < 0 else 'exit code'} {abs(self.code)}"


def drop_to(uid: int) -> None:
    """Become ``uid`` with the group of the same number and no others, for good. Raises OSError."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def ordinary_uid() -> int | None:
    """Return a uid without rights that this process may take, None where there is only its own."""
    if os.geteuid() != 0:
        return None
    for uid in ORDINARY_IDS:
        if _can_become(uid):
            return uid
    return None


def _can_become(uid: int) -> bool:
    return ask(lambda: drop_to(uid)) is not None


def _pump(pid: int, ends: dict[int, list[bytes]], limit: float) -> tuple[int, bool]:
    """Collect what the child writes until it ends or the time is up; return status, timed out."""
    deadline = time.monotonic() + limit
    poll = select.poll()
    for fd in ends:
        poll.register(fd, select.POLLIN)
    waiting = set(ends)
    timed_out = False
    while waiting:
        left = deadline - time.monotonic()
        if left <= 0:
            timed_out = True
            break
        for fd, _ in poll.poll(left * 1000):
            chunk = os.read(fd, 65536)
            if chunk and sum(map(len, ends[fd])) < OUTPUT_LIMIT:
                ends[fd].append(chunk)
            elif not chunk:
                waiting.discard(fd)
                poll.unregister(fd)
    while not timed_out:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status, False
        if time.monotonic() >= deadline:
            timed_out = True
        time.sleep(0.001)
    os.kill(pid, _SIGKILL)
    return os.waitpid(pid, 0)[1], True


def _collect(pid: int, readers: Sequence[int], limit: float) -> Outcome:
    ends: dict[int, list[bytes]] = {fd: [] for fd in readers}
    try:
        status, timed_out = _pump(pid, ends, limit)
    finally:
        for fd in readers:
            os.close(fd)
    texts = [b"".join(ends[fd]) for fd in readers]
    code = os.waitstatus_to_exitcode(status)
    return Outcome(code, texts[0], texts[1] if len(texts) > 1 else b"", timed_out)


def run(
    argv: Sequence[str],
    *,
    uid: int | None = None,
    prepare: Callable[[], None] | None = None,
    limit: float = TIME_LIMIT,
) -> Outcome:
    """Run a program with a short clean environment in "/", and wait for it.

    ``uid``: run it as that user (see ``drop_to``). ``prepare``: what the child does just before it
    executes the program. Raises RunError("internal") only when no child can be made; whatever
    becomes of the program is in the Outcome.
    """
    try:
        out, err = os.pipe(), os.pipe()
        pid = os.fork()
    except OSError as error:
        raise RunError("internal", f"cannot start a child: {error.strerror}") from None
    if pid == 0:
        try:
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (out[1], 1), (err[1], 2)):
                os.dup2(source, target)
            os.chdir("/")
            if uid is not None:
                drop_to(uid)
            if prepare is not None:
                prepare()
            os.execve(argv[0], list(argv), ENVIRONMENT)  # noqa: S606
        except OSError as error:
            os.write(2, f"{argv[0]}: {error.strerror}".encode())
        finally:
            os._exit(_FAILED)
    os.close(out[1])
    os.close(err[1])
    return _collect(pid, (out[0], err[0]), limit)


def ask(question: Callable[[], object], *, limit: float = TIME_LIMIT) -> str | None:
    """Call ``question`` in a child and return its answer as text; None when it failed.

    Whatever the question does to its process (ids, filters, namespaces) ends with the child.
    """
    try:
        out = os.pipe()
        pid = os.fork()
    except OSError as error:
        raise RunError("internal", f"cannot start a child: {error.strerror}") from None
    if pid == 0:
        try:
            os.close(out[0])
            os.write(out[1], str(question()).encode())
            os._exit(0)
        finally:
            os._exit(_FAILED)
    os.close(out[1])
    outcome = _collect(pid, (out[0],), limit)
    return outcome.output.decode() if outcome.code == 0 else None
