"""Logs of any size are read without being held."""

from __future__ import annotations

import json
import os
import tracemalloc

import pytest

from certexec.cli import log_lines
from certexec.cli.learn_notes import denied_in, from_strace
from certexec.observe.reading import LINE_MAX

from .conftest import Script
from .test_learn import EVENT

TRACE = '7 execve("/bin/x", ["x"], 0x7) = 0\n7 mkdir("/srv/a", 0700) = 0\n'


def test_a_file_of_zeros_of_any_size_is_refused_as_no_log(script: Script) -> None:
    with script.path("zeros").open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    script(
        """
        ? certexec learn -o new --from-strace zeros
        stderr '"zeros": line 1 has no end: this is no log'
        ? certexec learn -o new --from-log zeros
        stderr '"zeros": line 1 has no end: this is no log'
        ! exists new
        """
    )


def test_a_line_that_is_too_long_is_passed_over_and_the_next_ones_count(script: Script) -> None:
    long = f'7 write(1, "{"x" * 3 * LINE_MAX}", 9) = 9\n'
    script.write("trace", TRACE + long + '7 mkdir("/srv/b", 0700) = 0\n')
    script(
        """
        certexec learn --generalize none --from-strace trace
        stdout '"/srv/a"'
        stdout '"/srv/b"'
        """
    )
    script.write("log", json.dumps(EVENT) + "\n" + "y" * 2 * LINE_MAX + "\n{}\n")
    script("certexec learn --generalize none --from-log log\nstdout '/srv/file'")


def test_what_is_kept_of_a_log_is_what_differs_in_it(script: Script) -> None:
    lines = 4_000
    script.write("log", (json.dumps(EVENT) + "\n") * lines)
    script.write("trace", TRACE + '7 mkdir("/srv/a", 0700) = 0\n' * lines)
    tracemalloc.start()
    try:
        assert list(denied_in(str(script.path("log"))).values()) == [lines]
        assert len(from_strace(str(script.path("trace")), False)) == 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400 * lines  # bytes; a call that is kept takes more


def test_how_far_it_is_is_told(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    script.write("trace", TRACE + "7 nothing\n" * 500_000)
    seen: list[tuple[int, int]] = []

    class Counting:
        def __init__(self, _: str) -> None: ...

        def __enter__(self) -> object:
            return lambda done, total: seen.append((done, total))

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(log_lines, "counting", Counting)
    from_strace(str(script.path("trace")), False)
    assert seen[-1][1] == script.path("trace").stat().st_size >> 20
    assert seen == sorted(seen) and seen[0][0] < seen[-1][0] <= seen[-1][1]
