"""Work on a stream of items in several processes, with the results in the items' order.

Worker processes are forked, so they know what the caller knows. Items go out in chunks, and no more
are under way than a window holds: memory stays bounded however many items there are, and however
long one of them takes. A worker that dies takes nothing with it but the item that it was working
on: the rest of its chunk is given out again, one by one.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import struct
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    T = TypeVar("T")
    R = TypeVar("R")

CHUNK = 32
"""Items that are sent at once: a message costs as much as a third of an item's work."""
WINDOW = 256 * CHUNK
"""Items between the first without a result and the last that was given out: others go on while one
file takes seconds. A result is some hundred bytes."""


LENGTH = struct.Struct("=Q")
"""What precedes each message: how many bytes it has."""


class Connection:
    """One end of two pipes, for objects; the standard library's takes long to be imported."""

    __slots__ = ("reader", "writer")

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, message: object) -> None:
        """Write an object; raises OSError where nobody reads."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        left = memoryview(LENGTH.pack(len(data)) + data)
        while left:
            left = left[os.write(self.writer, left) :]

    def receive(self) -> Any:
        """Read an object; raises EOFError where nobody writes any more."""
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size))
        return pickle.loads(self._exactly(length))  # noqa: S301 (our own process wrote it)

    def _exactly(self, length: int) -> bytes:
        data = os.read(self.reader, length)
        while len(data) < length:
            more = os.read(self.reader, length - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def close(self) -> None:
        """Close both pipes."""
        os.close(self.reader)
        os.close(self.writer)


def connection_pair() -> tuple[Connection, Connection]:
    """Return the two ends; raises OSError."""
    first_reader, second_writer = os.pipe()
    try:
        second_reader, first_writer = os.pipe()
    except OSError:
        os.close(first_reader)
        os.close(second_writer)
        raise
    return Connection(first_reader, first_writer), Connection(second_reader, second_writer)


class Worker:
    """One forked process: its pid, our end of its connection, what it is working on."""

    __slots__ = ("connection", "items", "pid", "start")

    def __init__(self, pid: int, connection: Connection) -> None:
        self.pid = pid
        self.connection = connection
        self.start = 0
        self.items: list[Any] = []

    def end(self) -> int:
        """Make sure that the process is gone; return its wait status."""
        self.connection.close()
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return os.waitpid(self.pid, 0)[1]


def in_order(
    items: Iterable[T],
    work: Callable[[T], R],
    lost: Callable[[T, str], R],
    jobs: int,
) -> Iterator[R]:
    """Yield ``work(item)`` for every item, in order, from ``jobs`` processes.

    ``lost`` makes the result of an item whose process died, from a text that says how. What
    ``work`` raises ends the whole with a RuntimeError that names it. However the caller leaves the
    iteration, no process is left behind.
    """
    pool = _Pool(iter(items), work, lost)
    try:
        pool.start(jobs)
        yield from pool.results()
    finally:
        pool.end()


class _Pool:
    def __init__(
        self, items: Iterator[Any], work: Callable[[Any], Any], lost: Callable[[Any, str], Any]
    ) -> None:
        self._items = items
        self._work = work
        self._lost = lost
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []
        self._again: list[tuple[int, Any]] = []
        self._done: dict[int, Any] = {}
        self._given = 0
        self._next = 0
        self._exhausted = False

    def start(self, jobs: int) -> None:
        """Fork the workers, as many as the system lets us have."""
        gc.freeze()  # what is there is not looked at again, so its pages stay shared
        for _ in range(jobs):
            if not self._add():
                break

    def end(self) -> None:
        """Leave no process behind."""
        for worker in [*self._idle, *self._busy]:
            worker.end()
        self._idle, self._busy = [], []
        gc.unfreeze()

    def results(self) -> Iterator[Any]:
        """Give out and take in until there is nothing left."""
        while True:
            while self._idle and (chunk := self._take()):
                self._send(self._idle.pop(), *chunk)
            before = self._next
            while self._next in self._done:
                yield self._done.pop(self._next)
                self._next += 1
            if self._next != before:
                continue  # there may be room in the window now
            if not self._busy:
                if self._idle or not (chunk := self._take()):
                    return
                # no process is to be had: do it here, which is slower and no less right
                for number, item in enumerate(chunk[1], chunk[0]):
                    self._done[number] = self._work(item)
                continue
            waiting = {worker.connection.reader: worker for worker in self._busy}
            poll = select.poll()
            for reader in waiting:
                poll.register(reader, select.POLLIN)
            for reader, _ in poll.poll():
                self._receive(waiting[reader])

    def _take(self) -> tuple[int, list[Any]] | None:
        """Return the next items and the number of the first; None where there are none for now."""
        if self._again:
            number, item = self._again.pop()
            return number, [item]
        if self._exhausted or self._given - self._next >= WINDOW:
            return None
        items = list(islice(self._items, CHUNK))
        if not items:
            self._exhausted = True
            return None
        first = self._given
        self._given += len(items)
        return first, items

    def _send(self, worker: Worker, start: int, items: list[Any]) -> None:
        worker.start, worker.items = start, items
        self._busy.append(worker)
        try:
            worker.connection.send(items)
        except OSError:
            pass  # it died idle: receiving says so

    def _receive(self, worker: Worker) -> None:
        self._busy.remove(worker)
        try:
            results, failure = worker.connection.receive()
        except (EOFError, OSError):
            self._replace(worker)
            return
        self._idle.append(worker)
        if failure is not None:
            raise RuntimeError(failure)
        self._done.update(enumerate(results, worker.start))

    def _replace(self, worker: Worker) -> None:
        """Fork another worker for one that died, and give its items out again one by one."""
        code = os.waitstatus_to_exitcode(worker.end())
        if len(worker.items) == 1:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
            self._done[worker.start] = self._lost(
                worker.items[0], f"the process that worked on it {how}"
            )
        else:
            self._again += reversed(list(enumerate(worker.items, worker.start)))
        self._add()

    def _add(self) -> bool:
        """Fork a worker; False where the system does not let us."""
        ours, theirs = connection_pair()
        # ^C is for the caller, who ends the workers; in them it stays blocked. A child that is
        # interrupted before its "try" would go on as a second caller.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    ours.close()
                    # a sibling that held these would keep us from seeing the caller's end
                    for other in [*self._idle, *self._busy]:
                        other.connection.close()
                    _serve(theirs, self._work)
                finally:
                    os._exit(0)
        except BlockingIOError:  # EAGAIN: too many processes
            ours.close()
            return False
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        self._idle.append(Worker(pid, ours))
        return True


def _serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    """Work until the caller's end is closed."""
    while True:
        try:
            items = connection.receive()
        except (EOFError, OSError):
            return
        results, failure = [], None
        try:
            results = [work(item) for item in items]
        except Exception as error:  # noqa: BLE001 (the caller raises it)
            failure = f"{type(error).__name__}: {error}"
        try:
            connection.send((results, failure))
        except OSError:
            return
