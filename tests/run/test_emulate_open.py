"""Names that become something else between the look at them and the open."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from certexec.run.emulate_open import Open
from certexec.run.operations import MustWait
from certexec.run.resolve import Resolved

APPENDS = os.O_CREAT | os.O_WRONLY | os.O_APPEND
IN_TIME = 30
"""seconds after which an open that waits is broken off, and the test fails."""


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(IN_TIME)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def missing(place: Path, flags: int, patient: bool = False) -> Open:
    """Return an open of ``name``, which was not there when it was judged."""
    made = Open.__new__(Open)
    parent = os.open(place, os.O_PATH)
    made.found = Resolved(f"{place}/name", -1, parent, b"name", errno.ENOENT)
    made.flags, made.mode, made.follow, made.patient = flags, 0o600, True, patient
    return made


@pytest.mark.parametrize("access", [os.O_WRONLY, os.O_RDONLY])
def test_the_loop_does_not_wait_for_a_fifo_that_took_the_name(tmp_path: Path, access: int) -> None:
    os.mkfifo(tmp_path / "name")
    made = missing(tmp_path, os.O_CREAT | access)
    with pytest.raises(MustWait):
        made._create_in_parent(made.flags)
    made.close()


def test_nor_for_who_has_a_lease(tmp_path: Path) -> None:
    (tmp_path / "name").touch()
    held = os.open(tmp_path / "name", os.O_RDONLY)
    ignored = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        made = missing(tmp_path, APPENDS)
        with pytest.raises(MustWait):
            made._create_in_parent(made.flags)
        made.close()
    finally:
        os.close(held)
        signal.signal(signal.SIGIO, ignored)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("more", [0, os.O_NONBLOCK, os.O_EXCL])
@pytest.mark.parametrize("patient", [False, True])
def test_a_file_is_opened_with_the_flags_that_were_asked_for(
    tmp_path: Path, there: bool, more: int, patient: bool
) -> None:
    made = missing(tmp_path, APPENDS | more, patient)
    if there:
        (tmp_path / "name").touch()
    if there and more & os.O_EXCL:
        with pytest.raises(FileExistsError):
            made._create_in_parent(made.flags)
    else:
        fd = made._create_in_parent(made.flags)
        has = fcntl.fcntl(fd, fcntl.F_GETFL)
        assert has & (os.O_APPEND | os.O_NONBLOCK | os.O_ACCMODE) == (
            os.O_APPEND | os.O_WRONLY | more & os.O_NONBLOCK
        )
        os.close(fd)
    made.close()


def test_a_device_that_never_waits_needs_no_thread_of_its_own() -> None:
    made = missing(Path("/dev"), APPENDS)
    made.found.close()
    made.found = Resolved("/dev/null", os.open("/dev/null", os.O_PATH), -1, b"", 0)
    made.patient = False
    parent = os.open("/dev", os.O_PATH)
    os.close(made._open_by_name(parent, b"null", made.flags))
    os.close(parent)
    made.close()


def test_nor_for_a_fifo_that_took_the_name_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    made = missing(tmp_path, APPENDS)
    made.found.close()
    made.found = Resolved(
        f"{tmp_path}/name", os.open(tmp_path / "name", os.O_PATH), -1, b"", 0
    )
    (tmp_path / "name").rmdir()
    os.mkfifo(tmp_path / "name")
    parent = os.open(tmp_path, os.O_PATH)
    with pytest.raises(MustWait):
        made._open_by_name(parent, b"name", made.flags)
    os.close(parent)
    made.close()
