"""A log file: one line per record, and no line is missing without a word."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certexec.observe.event import Note
from certexec.observe.json_lines import render
from certexec.observe.lines import Lines, is_torn
from tests.observe.sample import HOSTILE, event

APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class Disk:
    """A disk of so many bytes, by the limit on the size of files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def room(self, size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, self.before[1]))

    def content(self) -> str:
        return self.path.read_text()


@contextmanager
def small(tmp_path: Path) -> Iterator[Disk]:
    """Give a disk; the limit is gone at the end, before pytest writes down how the test went."""
    made = Disk(tmp_path / "log")
    try:
        yield made
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, made.before)


def test_a_file_gets_one_line_per_event(tmp_path: Path) -> None:
    for form in (None, render):
        path = tmp_path / "log"
        log = Lines(os.open(path, APPEND), *([form] if form else []))
        log.write(event(program="/tmp/a\nb", arguments=[("filename", HOSTILE)]))
        log.note("that was\nall")
        assert log.finish(0)
        lines = path.read_text().splitlines()
        newline = "\\u000a" if form else "\\n"
        assert len(lines) == 2
        assert f"/tmp/a{newline}b" in lines[0] and f"that was{newline}all" in lines[1]
        assert all(line.isprintable() for line in lines)
        path.unlink()


def test_a_full_log_changes_nothing_for_the_program_and_is_told() -> None:
    log = Lines(os.open("/dev/full", os.O_WRONLY))
    for _ in range(3):
        log.write(event())
    assert not log.finish(1000)
    assert (log.lost, log.why, log.there) == (3, "No space left on device", True)


def test_what_did_not_fit_is_told_as_soon_as_there_is_room(tmp_path: Path) -> None:
    with small(tmp_path) as disk:
        log = Lines(os.open(disk.path, APPEND))
        log.note("first")
        disk.room(6)  # not a byte more
        log.note("second")
        log.note("third")
        disk.room(4096)
        log.note("fourth")
        assert log.finish(0)
        assert disk.content() == "first\nlost 2 events: File too large\nfourth\n"


def test_a_line_of_which_a_part_fitted_is_completed(tmp_path: Path) -> None:
    with small(tmp_path) as disk:
        log = Lines(os.open(disk.path, APPEND))
        log.note("first")
        disk.room(10)
        log.note("second")
        log.note("third")
        assert disk.content() == "first\nseco"
        disk.room(4096)
        log.note("fourth")
        assert log.finish(0)
        assert disk.content() == "first\nsecond\nlost 1 events: File too large\nfourth\n"


def test_a_line_that_stays_torn_counts_as_lost_and_the_next_log_begins_anew(tmp_path: Path) -> None:
    with small(tmp_path) as disk:
        log = Lines(os.open(disk.path, APPEND))
        disk.room(4)
        log.write(Note(1.0, "first"))
        assert not log.finish(0)
        assert (log.lost, log.why) == (1, "File too large")
        assert is_torn(str(disk.path))
        disk.room(4096)
        log = Lines(os.open(disk.path, APPEND), torn=is_torn(str(disk.path)))
        log.note("second")
        assert log.finish(0)
        assert disk.content() == "firs\nsecond\n"


def test_what_is_no_torn_file(tmp_path: Path) -> None:
    for content in ("", "line\n"):
        (tmp_path / "log").write_text(content)
        assert not is_torn(str(tmp_path / "log"))
    assert not is_torn(str(tmp_path / "none"))
    assert not is_torn(str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    assert not is_torn(str(tmp_path / "fifo"))  # and it did not wait for a writer


def test_a_pipe_whose_reader_stops_holds_nobody_up() -> None:
    reader, writer = os.pipe()
    log = Lines(writer)
    started = time.monotonic()
    for _ in range(3000):
        log.write(event())
    assert time.monotonic() - started < 20
    assert log.lost > 1000
    read = b""
    while len(read) < 60000:
        read += os.read(reader, 65536)
    lost = log.lost
    log.note("again")
    assert log.finish(0)
    os.close(writer)
    while data := os.read(reader, 65536):
        read += data
    os.close(reader)
    lines = read.decode().splitlines()
    assert lines[-2:] == [f"lost {lost} events: Resource temporarily unavailable", "again"]
    assert lines[:-2] == [event().line()] * (3000 - lost)


def test_a_pipe_that_nobody_reads_any_more_is_a_loss() -> None:
    reader, writer = os.pipe()
    log = Lines(writer)
    os.close(reader)
    log.write(event())
    assert not log.finish(0)
    assert (log.lost, log.why) == (1, "Broken pipe")
    os.close(writer)


def test_a_closed_descriptor_is_a_loss() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    log = Lines(writer)
    log.write(event())
    assert not log.finish(0)
    assert (log.lost, log.why) == (1, "Bad file descriptor")
