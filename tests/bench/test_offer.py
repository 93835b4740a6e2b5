"""The load generator: each start counts, on time or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.frame import compile_c
from bench.groups.server import GENERATOR, TAIL_MAX, offer, tail_text


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compile_c(GENERATOR, str(tmp_path_factory.mktemp("offer") / "offer"), "-Wall", "-Werror")


@pytest.mark.parametrize(
    ("program", "failed"), [("/bin/true", 0), ("/bin/false", 30), ("/nowhere", 30)]
)
def test_every_start_has_a_time_and_who_fails_is_counted(
    generator: str, program: str, failed: int
) -> None:
    taken, bad = offer(generator, program, 20, 1.5)
    assert len(taken) == 30 and bad == failed
    assert all(one >= 0 for one in taken)


def test_what_does_not_end_has_failed_and_leaves_no_process(
    generator: str, tmp_path: Path
) -> None:
    program = tmp_path / "stays"
    pids = tmp_path / "pids"
    program.write_text(f"#!/bin/sh\necho $$ >> {pids}\nexec sleep 600\n")
    program.chmod(0o755)
    assert offer(generator, str(program), 20, 0.5) == ([], 10)
    assert not [pid for pid in pids.read_text().split() if Path("/proc", pid).exists()]


def test_a_tail_that_bare_starts_have_is_the_machines() -> None:
    text = tail_text("a load", 43.2, TAIL_MAX + 1.0)
    assert text.startswith("bench: a load: 43 times the median")
    assert text.endswith("the tail is the machine's")
    assert tail_text("a load", 43.2, TAIL_MAX - 1.0).endswith("the tail is certexec's")
