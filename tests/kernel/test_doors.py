"""The doors to the kernel: what is compiled says the same as Python, word for word."""

from __future__ import annotations

import array
import ctypes
import errno
import importlib.machinery
import importlib.util
import mmap
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.kernel import circumstances, doors, libc, memory, notify, packets
from tests.execution.world import load_hook
from tests.isolation import PROJECT, skip_or_fail

PYTHON, COMPILED = "python", "compiled"
GETPGID, GETSID, GETPID, PRCTL, SECCOMP, READ, STATX = 121, 124, 39, 157, 317, 0, 332
HUGE = 2**64 - 1
CLOSED = 1 << 20
"""No descriptor that anybody has open."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compiled doors of this tree; no warning is tolerated in them."""
    if shutil.which("gcc") is None:
        skip_or_fail("needs gcc")
    hook = load_hook()
    path = tmp_path_factory.mktemp("doors") / Path(hook.DOORS_WHEEL_PATH).name
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CFLAGS", "-Werror")
        hook.compile_doors(path)
    name = "certexec.kernel._doors"
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    module.path = path
    return module


@pytest.fixture(params=[PYTHON, COMPILED])
def way(request: pytest.FixtureRequest, built: Any) -> Any:
    if request.param == COMPILED:
        return built
    assert doors.compiled is None, "this source tree is to be tested without: make clean"
    return SimpleNamespace(
        receive=notify._receive, is_valid=notify._is_valid, respond=notify._respond,
        add_fd=notify._add_fd, copy=memory._copy, read_text=memory.read_text, syscall=libc.syscall,
        look=circumstances._look, peek=packets._peek,
    )  # fmt: skip


# -- a listener and who calls ------------------------------------------------------------------


class Asked:
    """A child whose getpgid and getsid wait for an answer; it sends what it got."""

    def __init__(self, what: Callable[[socket.socket], None]) -> None:
        ours, theirs = socket.socketpair()
        self.line = ours
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                self._confine(theirs)
                what(theirs)
            finally:
                os._exit(0)
        theirs.close()
        ours.recv(1)
        self.listener = self._take_fd()

    def _take_fd(self) -> int:
        _, [(_, _, data)], _, _ = self.line.recvmsg(1, socket.CMSG_SPACE(4))
        return int(struct.unpack("i", data[:4])[0])

    @staticmethod
    def _confine(line: socket.socket) -> None:
        program = b"".join(
            struct.pack("=HBBI", *one) for one in (
                (0x20, 0, 0, 0), (0x15, 1, 0, GETPGID), (0x15, 0, 1, GETSID),
                (0x06, 0, 0, 0x7FC00000), (0x06, 0, 0, 0x7FFF0000),
            )
        )  # fmt: skip
        room = ctypes.create_string_buffer(program, len(program))
        wanted = struct.pack("=HxxxxxxQ", 5, ctypes.addressof(room))
        libc.syscall(PRCTL, 38, 1, 0, 0, 0)
        listener = libc.syscall(SECCOMP, 1, 8, wanted)
        line.send(b".")
        rights = array.array("i", [listener])
        line.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        os.close(listener)

    def said(self) -> tuple[int, int]:
        return struct.unpack("=qi", self.line.recv(12))

    def close(self) -> None:
        os.close(self.listener)
        self.line.close()
        os.waitpid(self.pid, 0)


def _ask(line: socket.socket, number: int = GETPGID, *arguments: int) -> None:
    try:
        line.send(struct.pack("=qi", libc.syscall(number, *arguments), 0))
    except OSError as error:
        line.send(struct.pack("=qi", -1, error.errno or 0))


@pytest.fixture
def asked() -> Iterator[Callable[..., Asked]]:
    made: list[Asked] = []

    def begin(what: Callable[[socket.socket], None]) -> Asked:
        made.append(Asked(what))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def test_a_notification_has_its_registers_as_unsigned_numbers(
    way: Any, asked: Callable[..., Asked]
) -> None:
    one = asked(lambda line: _ask(line, GETPGID, HUGE, 0, 1 << 63, 3, 4, 5))
    cookie, tid, nr, arch, args = way.receive(one.listener)
    assert (tid, nr, arch) == (one.pid, GETPGID, 0xC000003E)
    assert args == (HUGE, 0, 1 << 63, 3, 4, 5)
    assert way.is_valid(one.listener, cookie)
    assert not way.is_valid(one.listener, cookie ^ 1)
    assert way.respond(one.listener, cookie, 77, 0, 0)
    assert one.said() == (77, 0)
    assert not way.is_valid(one.listener, cookie)
    assert not way.respond(one.listener, cookie, 78, 0, 0)


def test_an_error_and_a_negative_value_arrive(way: Any, asked: Callable[..., Asked]) -> None:
    def twice(line: socket.socket) -> None:
        _ask(line)
        _ask(line, GETSID)

    one = asked(twice)
    way.respond(one.listener, way.receive(one.listener)[0], 0, -errno.EXDEV, 0)
    assert one.said() == (-1, errno.EXDEV)
    way.respond(one.listener, way.receive(one.listener)[0], -5000, 0, 0)
    assert one.said() == (-5000, 0)


def test_a_call_is_left_to_the_kernel(way: Any, asked: Callable[..., Asked]) -> None:
    one = asked(lambda line: _ask(line, GETPGID, 0))
    way.respond(one.listener, way.receive(one.listener)[0], 0, 0, notify.RESPONSE_CONTINUE)
    assert one.said() == (os.getpgid(0), 0)


@pytest.mark.parametrize("flags", [0, notify.O_CLOEXEC])
def test_a_descriptor_is_installed(way: Any, asked: Callable[..., Asked], flags: int) -> None:
    def look(line: socket.socket) -> None:
        number = libc.syscall(GETPGID, 0)
        line.send(struct.pack("=qi", os.fstat(number).st_ino, os.get_inheritable(number)))

    one = asked(look)
    cookie = way.receive(one.listener)[0]
    reader, writer = os.pipe()
    number = way.add_fd(one.listener, cookie, reader, flags)
    way.respond(one.listener, cookie, number, 0, 0)
    assert one.said() == (os.fstat(reader).st_ino, not flags)
    with pytest.raises(FileNotFoundError):
        way.add_fd(one.listener, cookie, reader, flags)
    os.close(reader)
    os.close(writer)


def test_a_signal_ends_the_wait_and_no_listener_is_an_error(
    way: Any, asked: Callable[..., Asked]
) -> None:
    one = asked(lambda line: line.recv(1))
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        assert way.receive(one.listener) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        one.line.send(b".")
    for wrong in (CLOSED, os.open("/dev/null", os.O_RDONLY)):
        with pytest.raises(OSError):
            way.receive(wrong)
        with pytest.raises(OSError):
            way.respond(wrong, 1, 0, 0, 0)
        with pytest.raises(OSError):
            way.add_fd(wrong, 1, 0, 0)
        assert not way.is_valid(wrong, 1)
        if wrong != CLOSED:
            os.close(wrong)


# -- memory --------------------------------------------------------------------------------------

PAGES = 4


@pytest.fixture(scope="module")
def room() -> Iterator[tuple[mmap.mmap, int]]:
    """Three pages that can be read, and one that cannot."""
    pages = mmap.mmap(-1, PAGES * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    end = address + (PAGES - 1) * mmap.PAGESIZE
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0
    yield pages, address


@given(
    start=st.integers(0, 3 * mmap.PAGESIZE - 1), size=st.integers(0, 2 * mmap.PAGESIZE),
    limit=st.integers(0, 9000),
)
def test_a_text_is_read_up_to_its_end_its_limit_or_the_end_of_memory(
    built: Any, room: tuple[mmap.mmap, int], start: int, size: int, limit: int
) -> None:
    pages, address = room
    readable = 3 * mmap.PAGESIZE
    end = min(start + size, readable)
    pages[:readable] = b"x" * readable
    if end < readable:
        pages[end : end + 1] = b"\0"
    expected: object = errno.EFAULT
    if end - start < limit and end < readable:
        expected = b"x" * (end - start)
    elif limit <= readable - start:
        expected = None
    for read in (memory.read_text, built.read_text):
        try:
            found: object = read(os.getpid(), address + start, limit)
        except OSError as error:
            found = error.errno
        assert found == expected, read


@pytest.mark.parametrize("address", [0, 1, 2**47, 2**63 - 1, 2**63, 2**64 - 300, HUGE])
def test_what_is_no_address_is_a_bad_one(way: Any, address: int) -> None:
    with pytest.raises(OSError) as caught:
        way.read_text(os.getpid(), address, 4096)
    assert caught.value.errno == errno.EFAULT


@pytest.mark.parametrize("make", [bytearray, ctypes.create_string_buffer])
def test_memory_is_copied_both_ways_as_far_as_there_is_any(
    way: Any, room: tuple[mmap.mmap, int], make: Callable[[int], Any]
) -> None:
    pages, address = room
    end = address + 3 * mmap.PAGESIZE
    assert way.copy(True, os.getpid(), b"some\0bytes", end - 10) == 10
    here = make(4)
    assert way.copy(False, os.getpid(), here, end - 10) == 4
    assert bytes(here) == b"some"
    here[0] = b"S" if make is ctypes.create_string_buffer else ord("S")
    assert way.copy(True, os.getpid(), here, end - 10) == 4
    pages.seek(3 * mmap.PAGESIZE - 10)
    assert pages.read(10) == b"Some\0bytes"
    assert way.copy(False, os.getpid(), make(20), end - 10) == 10
    for writes, bad in ((False, end), (True, end), (True, 0), (False, HUGE)):
        with pytest.raises(OSError) as caught:
            way.copy(writes, os.getpid(), make(4), bad)
        assert caught.value.errno == errno.EFAULT


def test_a_process_that_is_gone_has_no_memory(way: Any) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(OSError):
        way.read_text(pid, 4096, 10)
    for writes in (False, True):
        with pytest.raises(ProcessLookupError):
            way.copy(writes, pid, bytearray(4), 4096)


# -- any other call ------------------------------------------------------------------------------


def test_a_call_takes_numbers_bytes_buffers_and_nothing(way: Any) -> None:
    assert way.syscall(GETPID) == os.getpid()
    reader, writer = os.pipe()
    os.write(writer, b"text")
    buffer = ctypes.create_string_buffer(8)
    assert way.syscall(READ, reader, buffer, 8) == 4
    assert buffer.raw == b"text\0\0\0\0"
    status = bytearray(256)
    assert way.syscall(STATX, -100, b"/dev/null", 0, 0x7FF, status) == 0
    assert way.syscall(STATX, 2**64 - 100, b"/dev/null", 0, 0x7FF, status) == 0
    for wanted, path in ((FileNotFoundError, b"/nowhere/at/all"), (OSError, None)):
        with pytest.raises(wanted) as caught:
            way.syscall(STATX, -100, path, 0, 0x7FF, status)
        assert caught.value.strerror
    for number in (reader, writer):
        os.close(number)


@pytest.mark.parametrize("wrong", ["text", 1.5, object()])
def test_a_call_takes_nothing_else(built: Any, wrong: object) -> None:
    with pytest.raises((TypeError, BufferError)):
        built.syscall(GETPID, wrong)
    with pytest.raises(TypeError):
        built.syscall(GETPID, *[0] * 7)
    with pytest.raises(TypeError):
        built.syscall(wrong)


def test_what_is_read_only_is_never_written(built: Any) -> None:
    with pytest.raises((TypeError, BufferError)):
        built.syscall(READ, 0, memoryview(b"text"), 4)
    with pytest.raises((TypeError, BufferError)):
        built.copy(False, os.getpid(), b"text", 4096)


def test_numbers_that_do_not_fit_are_no_numbers(built: Any) -> None:
    for function, arguments in (
        (built.receive, (1 << 40,)), (built.is_valid, (1, -1)), (built.is_valid, (1, 1 << 64)),
        (built.respond, (1, 1, 1 << 63, 0, 0)), (built.respond, (1, 1, 0, 1 << 31, 0)),
        (built.add_fd, (1, 1, 1 << 31, 0)), (built.read_text, (1, -1, 5)),
        (built.read_text, (1, 1 << 64, 5)), (built.read_text, (1, 0, -1)),
    ):  # fmt: skip
        with pytest.raises(OverflowError):
            function(*arguments)


def test_other_threads_go_on_while_one_waits(built: Any) -> None:
    import threading

    reader, writer = os.pipe()
    buffer = ctypes.create_string_buffer(1)
    waiting = threading.Thread(target=lambda: built.syscall(READ, reader, buffer, 1))
    waiting.start()
    time.sleep(0)
    os.write(writer, b"x")  # never reached if the other kept the interpreter
    waiting.join(30)
    assert buffer.raw == b"x"
    for number in (reader, writer):
        os.close(number)


# -- what a process lives under -----------------------------------------------------------------


def test_what_a_process_lives_under_is_as_the_kernel_has_it(way: Any) -> None:
    own = os.getpid()
    facts = way.look(f"/proc/{own}".encode(), own)
    assert b"\nPid:\t%d\n" % own in facts[circumstances.STATUS]
    assert facts[circumstances.STATUS].endswith(b"\n")
    assert facts[circumstances.SPACES] == tuple(
        os.readlink(f"/proc/self/ns/{name}").encode() for name in circumstances.NAMESPACES
    )
    for place, path in ((circumstances.ROOT, "/"), (circumstances.PROGRAM, sys.executable)):
        info = os.stat(path)
        device, inode, mount = facts[place]
        assert (os.makedev(*device), inode) == (info.st_dev, info.st_ino)
        assert mount is not None
    assert facts[circumstances.SCHEDULER] == os.sched_getscheduler(0)
    limits = tuple(resource.getrlimit(number) for number in range(16))
    assert facts[circumstances.RLIMITS] == limits
    assert facts[circumstances.NICE] == os.getpriority(os.PRIO_PROCESS, 0)
    for place, name in ((circumstances.OOM, "oom_score_adj"), (circumstances.CGROUPS, "cgroup")):
        assert facts[place] == Path("/proc/self", name).read_bytes()
    assert facts[circumstances.LOGIN] == _text_or_nothing("/proc/self/loginuid")
    assert facts[circumstances.LABEL] == _text_or_nothing("/proc/self/attr/current")


def _text_or_nothing(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def test_both_ways_say_the_same_of_who_has_limits_and_a_nice_value(built: Any) -> None:
    code = (
        "import os, resource, time; os.nice(3); os.sched_setscheduler(0, os.SCHED_BATCH, "
        "os.sched_param(0)); resource.setrlimit(resource.RLIMIT_CPU, (5, resource.RLIM_INFINITY)); "
        "open('/proc/self/oom_score_adj', 'w').write('500'); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        one.stdout.readline()
        name = f"/proc/{one.pid}".encode()
        seen = [look(name, one.pid) for look in (circumstances._look, built.look)]
        one.kill()
    assert seen[0][1:] == seen[1][1:]
    assert seen[0][circumstances.NICE] == 3
    assert seen[0][circumstances.SCHEDULER] == os.SCHED_BATCH
    assert seen[0][circumstances.RLIMITS][resource.RLIMIT_CPU] == (5, resource.RLIM_INFINITY)
    assert seen[0][circumstances.OOM] == b"500\n"


def test_nobody_is_told_of_who_is_gone(way: Any) -> None:
    before = set(os.listdir("/proc/self/fd"))
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(OSError):
        way.look(f"/proc/{pid}".encode(), pid)  # it is dead: it has no root, nor a program
    os.waitpid(pid, 0)
    with pytest.raises(FileNotFoundError):
        way.look(f"/proc/{pid}".encode(), pid)
    assert set(os.listdir("/proc/self/fd")) == before


# -- a stranger's packet ---------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["who", "not who"])
def test_a_packet_is_looked_at_and_stays(way: Any, told: bool) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = set(os.listdir("/proc/self/fd"))
    try:
        assert way.peek(ours.fileno()) is None
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, told)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
        theirs.sendmsg([b"said"], rights if told else [])
        who = struct.pack("=iII", os.getpid(), os.getuid(), os.getgid()) if told else b""
        data, sender, flags = way.peek(ours.fileno())
        assert (data, sender) == (b"said", who)
        assert bool(flags & socket.MSG_CTRUNC) == told  # the descriptor, which is not taken
        assert way.peek(ours.fileno()) == (data, sender, flags)
        assert set(os.listdir("/proc/self/fd")) == before
        ours.recv(100)
        theirs.send(b"x" * 100)
        data, sender, flags = way.peek(ours.fileno())
        assert (data, sender) == (b"x" * 64, who) and flags & socket.MSG_TRUNC
        ours.recv(100)
        theirs.close()
        assert way.peek(ours.fileno())[0] == b""
    finally:
        ours.close()
    with pytest.raises(OSError):
        way.peek(CLOSED)


# -- which of them runs --------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF"])
def test_without_them_or_with_broken_ones_python_does_it(
    tmp_path: Any, built: Any, content: bytes | None
) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "libexec", "*.so")
    shutil.copytree(f"{PROJECT}/certexec", tmp_path / "certexec", ignore=ignored)
    place = tmp_path / load_hook().DOORS_WHEEL_PATH

    def check(code: str) -> None:
        code = f"import sys; sys.path.insert(0, sys.argv[1])\n{code}"
        subprocess.run([sys.executable, "-I", "-S", "-c", code, str(tmp_path)], check=True)

    if content is not None:
        place.write_bytes(content)
    check(
        "from certexec.kernel import circumstances, doors, libc, memory, notify\n"
        "assert doors.compiled is None"
    )
    shutil.copy(built.path, place)
    check(
        "from certexec.kernel import circumstances, doors, libc, memory, notify\n"
        "from certexec.kernel import packets\n"
        "assert circumstances._look is doors.compiled.look\n"
        "assert packets._peek is doors.compiled.peek\n"
        "used = [libc.syscall, memory.read_text, notify._receive, notify._is_valid, notify._add_fd,"
        " notify._respond]\n"
        "assert all(one is getattr(doors.compiled, one.__name__) for one in used), used"
    )
