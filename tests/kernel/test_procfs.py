"""The status of threads, read from files that are kept open: nothing of it is ever old."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from certexec.kernel.procfs import (
    KEPT_MAX,
    Status,
    StatusReader,
    is_main_thread,
    own_directory,
    own_link,
    pending_signals,
    read_argv,
    read_status,
)
from tests.isolation import skip_or_fail

SETRESUID, SETRESGID, SETGROUPS, SETFSUID, CAPSET = 117, 119, 116, 122, 126
DROPPED = (ctypes.c_uint * 6)(0, 1 << 7, 0, 0, 0, 0)
"""capset(2): CAP_SETUID is permitted, nothing is effective."""
CHANGES: dict[str, Callable[[], object]] = {
    "umask": lambda: os.umask(0o123),
    "groups": lambda: call(SETGROUPS, 2, (ctypes.c_uint * 2)(7, 8)),
    "gids": lambda: call(SETRESGID, 11, 12, 13),
    "uids": lambda: call(SETRESUID, 21, 22, 0),
    "file-system uid": lambda: call(SETFSUID, 31),
    "capabilities": lambda: call(CAPSET, (ctypes.c_uint * 2)(0x20080522, 0), DROPPED),
}
_LIBC = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> None:
    """Make a raw system call: it changes this thread alone."""
    if _LIBC.syscall(number, *arguments) == -1:
        raise OSError(ctypes.get_errno(), str(number))


def as_root() -> None:
    if os.geteuid() != 0:
        skip_or_fail("only root may become others")


class Thread:
    """A thread that does what it is told."""

    def __init__(self) -> None:
        self._tell, self._told = os.pipe(), os.pipe()
        self._work: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        os.read(self._told[0], 1)
        self.tid = self._thread.native_id or 0

    def _run(self) -> None:
        os.write(self._told[1], b".")
        while os.read(self._tell[0], 1) and self._work is not None:
            self._work()
            os.write(self._told[1], b".")

    def do(self, work: Callable[[], object]) -> None:
        """Do it there, and come back when it is done."""
        self._work = work
        os.write(self._tell[1], b".")
        os.read(self._told[0], 1)

    def end(self) -> None:
        """End it."""
        if self._thread.is_alive():
            self._work = None
            os.write(self._tell[1], b".")
            self._thread.join()
            while os.path.exists(f"/proc/self/task/{self.tid}"):  # for Python it has
                time.sleep(0.001)
            for fd in (*self._tell, *self._told):
                os.close(fd)


@pytest.fixture
def thread() -> Iterator[Thread]:
    made = Thread()
    yield made
    made.end()


@pytest.fixture
def reader() -> Iterator[StatusReader]:
    made = StatusReader()
    yield made
    made.close()


def facts(status: Status) -> dict[str, object]:
    return {name: getattr(status, name) for name in Status.__slots__}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_between_two_readings_is_seen(
    reader: StatusReader, thread: Thread, what: str
) -> None:
    as_root()
    mask = os.umask(0o022)
    before = facts(reader.read(thread.tid))
    assert before == facts(reader.read(thread.tid)) == facts(read_status(thread.tid))
    thread.do(CHANGES[what])
    after = facts(reader.read(thread.tid))
    assert before != after == facts(read_status(thread.tid))
    os.umask(mask)


def test_the_status_of_threads_is_not_mixed_up(reader: StatusReader, thread: Thread) -> None:
    others = [Thread() for _ in range(3)]
    tids = [thread.tid, *(one.tid for one in others)]
    for tid in tids * 3:
        assert facts(reader.read(tid)) == facts(read_status(tid))
        assert reader.read(tid).tgid == os.getpid()
    for one in others:
        one.end()


def test_what_does_not_change_is_read_but_not_parsed_again(
    reader: StatusReader, thread: Thread
) -> None:
    assert reader.read(thread.tid) is reader.read(thread.tid)


def test_a_thread_that_has_ended_has_no_status(reader: StatusReader, thread: Thread) -> None:
    reader.read(thread.tid)
    thread.end()
    with pytest.raises(OSError):
        reader.read(thread.tid)


def test_whether_a_thread_has_ended_since_it_was_read_is_told(
    reader: StatusReader, thread: Thread
) -> None:
    assert not reader.reads_on(thread.tid)
    reader.read(thread.tid)
    assert reader.reads_on(thread.tid)
    reader._kept[os.getpid()] = reader._kept[thread.tid]  # its number is somebody else's by now
    thread.end()
    assert not reader.reads_on(os.getpid())
    del reader._kept[os.getpid()]


def test_whoever_has_the_number_later_is_read_anew(reader: StatusReader, thread: Thread) -> None:
    """The kept file of one who is gone stands under the number of somebody else."""
    own = reader.read(os.getpid())
    reader.read(thread.tid)
    reader._kept[os.getpid()] = reader._kept.pop(thread.tid)
    thread.end()
    assert facts(reader.read(os.getpid())) == facts(own)


def test_a_status_that_is_too_long_to_keep_is_read_whole(
    reader: StatusReader, thread: Thread
) -> None:
    as_root()
    many = list(range(3000))
    thread.do(lambda: call(SETGROUPS, len(many), (ctypes.c_uint * len(many))(*many)))
    for _ in range(2):
        assert reader.read(thread.tid).groups == many


def test_few_files_are_kept_however_many_call(reader: StatusReader) -> None:
    threads = [Thread() for _ in range(KEPT_MAX + 3)]
    before = len(os.listdir("/proc/self/fd"))
    for one in threads * 2:
        assert reader.read(one.tid).tgid == os.getpid()
    assert len(os.listdir("/proc/self/fd")) == before + KEPT_MAX
    for one in threads:
        one.end()


def test_a_main_thread_has_its_process_s_number_and_no_other_has(thread: Thread) -> None:
    assert is_main_thread(os.getpid())
    assert not is_main_thread(thread.tid)
    with subprocess.Popen(["sleep", "60"]) as other:
        assert is_main_thread(other.pid)
        other.kill()
    assert not is_main_thread(other.pid)
    assert not is_main_thread(0) and not is_main_thread(-1)


def test_of_who_may_not_be_signalled_nothing_is_certain() -> None:
    if os.geteuid() != 0:
        skip_or_fail("needs root")
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        os._exit(1 if is_main_thread(os.getppid()) else 0)
    assert os.waitpid(child, 0)[1] == 0


def test_signals_that_wait_are_told() -> None:
    assert pending_signals(os.getpid()) == 0


def test_arguments_are_read_to_the_last_however_long_they_are() -> None:
    def roomy() -> None:
        # a quarter of the stack may be arguments, but never more than 6 MiB
        _, hard = resource.getrlimit(resource.RLIMIT_STACK)
        resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))

    child = subprocess.Popen(
        ["/bin/sleep", "60", *["0" * 120_000] * 45, "0.1"], preexec_fn=roomy
    )
    try:
        assert read_argv(child.pid)[-1] == b"0.1"
    finally:
        child.kill()
        child.wait()


def test_a_child_names_its_own_descriptors_and_not_its_parents() -> None:
    fd = os.open("/dev/null", os.O_PATH)
    assert own_link(fd) == "/dev/null"
    kept = own_directory()
    assert own_directory() == kept  # it is opened once
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open("/dev/zero", os.O_PATH), fd)
            os.write(writer, own_link(fd).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    assert os.read(reader, 100) == b"/dev/zero"
    assert own_link(fd) == "/dev/null"
    for number in (fd, reader):
        os.close(number)
