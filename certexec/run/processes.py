"""Who is who in a program tree that is watched: threads to processes, processes to programs.

Only for looking: nothing here is proof against a program that wants to be taken for another.
"""

from __future__ import annotations

import os

from certexec.kernel.procfs import executed_by, proc, read_file, read_status

SWEEP_AFTER = 4096
"""new processes after which those that ended are forgotten: fewer than there are numbers."""
_START_STACK = 25
_START_TIME = 19
"""fields of /proc/PID/stat behind the name, from 0 (proc_pid_stat(5): 28 and 22)."""


class Process:
    """A process of the tree.

    Attributes:
        program: the path that its policy is for; file: of what it executes, as the kernel says.
        started: when, in the kernel's ticks: tells it from a later process of the same number.
        awaited: the path that was to be executed by ``thread``, "" if none.
    """

    __slots__ = ("awaited", "file", "image", "program", "started", "tgid", "thread")

    def __init__(self, tgid: int, program: str, image: str, started: str) -> None:
        self.tgid = tgid
        self.program = program
        self.image = image
        self.started = started
        self.file = executed_by(tgid)
        self.awaited = ""
        self.thread = 0


class Processes:
    """The processes of one tree; ``inherit``: all count as the first program."""

    def __init__(self, first: str, inherit: bool) -> None:
        self.first = first
        self.inherit = inherit
        self.threads: dict[int, Process] = {}
        self.by_tgid: dict[int, Process] = {}
        self.images: dict[str, str] = {}
        self._born = 0

    def begin(self, pid: int) -> None:
        """Note that a process has just become the first program. Raises OSError when it is gone."""
        image, _ = _stat(pid)
        self.images[image] = self.first

    def of(self, tid: int) -> Process:
        """Return whose thread this is. Raises OSError when it is gone."""
        process = self.threads.get(tid)
        if process is None:
            process = self._enter(tid)
        if process.awaited:
            self._settle(process, tid)
        return process

    def executes(self, process: Process, tid: int, path: str) -> None:
        """Note that a thread is about to execute a file."""
        process.awaited, process.thread = path, tid

    def forks(self) -> None:
        """Note that there will be another process."""
        self._born += 1
        if self._born % SWEEP_AFTER == 0:
            for tid in [tid for tid in self.threads if not os.path.exists(proc(tid))]:
                del self.threads[tid]
            alive = set(map(id, self.threads.values()))
            self.by_tgid = {
                tgid: one for tgid, one in self.by_tgid.items() if id(one) in alive
            }

    def alive(self) -> list[int]:
        """Return the processes that were seen and still run."""
        return [tgid for tgid, one in self.by_tgid.items() if _stat(tgid)[1] == one.started]

    def ended(self, number: int) -> str:
        """Return what a process executed that is no more, "" when it was not seen.

        A parent that has not waited yet still knows it, and so signals it: had it been a little
        faster, it would have met the process alive.
        """
        process = self.by_tgid.get(number)
        return process.file if process and _stat(number)[1] in ("", process.started) else ""

    def _enter(self, tid: int) -> Process:
        try:
            status = read_status(tid)
        except (KeyError, ValueError):
            raise OSError("no such thread") from None
        image, started = _stat(status.tgid)
        process = self.by_tgid.get(status.tgid)
        if process is None or process.started != started:
            program = self.first
            if not self.inherit:
                # a child has its parent's memory until it executes, also if that one has ended
                program = self.images.get(image) or executed_by(status.tgid)
                if not program:
                    raise OSError("no such process")
            process = Process(status.tgid, program, image, started)
            self.by_tgid[status.tgid] = process
        self.threads[tid] = process
        return process

    def _settle(self, process: Process, tid: int) -> None:
        """See whether an awaited execution has happened: a new image has another stack."""
        image, _ = _stat(process.tgid)
        if image != process.image:
            process.image, process.file = image, executed_by(process.tgid)
            if not self.inherit:
                process.program = self.images[image] = process.awaited
            process.awaited = ""
        elif tid == process.thread:
            process.awaited = ""  # it failed


def _stat(tgid: int) -> tuple[str, str]:
    try:
        text = read_file(proc(tgid, "stat"))
    except OSError:
        return "", ""
    fields = text.rpartition(b")")[2].split()
    return fields[_START_STACK].decode(), fields[_START_TIME].decode()
