"""Who is the launcher, and for which certificate the kernel started it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from certexec.kernel.procfs import read_status
from certexec.run import integrity, nested
from certexec.run.identity import Permitted
from certexec.run.invoker import Invoker
from certexec.run.layout import Layout


class Here(Layout):
    """An installation whose launcher is any file."""

    __slots__ = ("_launcher",)

    def __init__(self, launcher: str) -> None:
        super().__init__()
        self._launcher = launcher

    @property
    def launcher(self) -> str:
        return self._launcher


@pytest.fixture
def certificate(tmp_path: Path) -> int:
    (tmp_path / "one").write_text("one")
    return os.open(tmp_path / "one", os.O_RDONLY)


def test_a_process_that_no_certificate_started_has_no_descriptor_of_one() -> None:
    with pytest.raises(OSError, match="started nothing"):
        nested.certificate_descriptor(os.getpid())


def test_the_launcher_is_that_file_of_root_s_and_was_started_for_that_certificate(
    monkeypatch: pytest.MonkeyPatch, certificate: int, tmp_path: Path
) -> None:
    def judge(launcher: str = sys.executable, descriptor: int = certificate) -> bool:
        monkeypatch.setattr(nested, "SYSTEM", Here(os.path.realpath(launcher)))
        return nested.runs_launcher(os.getpid(), descriptor)

    assert not judge()  # the kernel opened nothing for us
    monkeypatch.setattr(nested, "certificate_descriptor", lambda _: certificate)
    # whoever may write the launcher could be anybody
    monkeypatch.setattr(nested, "root_owners", lambda: frozenset({0, os.getuid()}))
    assert judge()
    assert not judge(launcher="/usr/bin/true")
    assert not judge(launcher=str(tmp_path / "missing"))
    (tmp_path / "two").write_text("two")
    other = os.open(tmp_path / "two", os.O_RDONLY)
    assert not judge(descriptor=other)
    mine = tmp_path / "mine"
    mine.write_bytes(b"")
    mine.chmod(0o777)
    assert not judge(launcher=str(mine))
    monkeypatch.setattr(nested, "certificate_descriptor", lambda _: 999)
    assert not judge()
    for fd in (certificate, other):
        os.close(fd)


class Stub:
    """Holds what it is given."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def test_what_runs_is_compared_once_more_at_its_exec_stop() -> None:
    """``pid`` is ourselves: what is expected to run is this interpreter, with these ids."""
    executed: list[tuple[int, int]] = []
    transitions = Stub(
        executed=lambda pid, place: executed.append((pid, place)), of=lambda _: 7
    )
    made: Any = nested.Nested(None, None, transitions, None, None, False)  # type: ignore[arg-type]
    status = read_status(os.getpid())

    def object_to(program: str, euid: int = os.geteuid(), grown: bool = False) -> str:
        fd = os.open(program, os.O_RDONLY)
        size = os.fstat(fd).st_size
        signed = Stub(size=size, sha256=integrity.digest(fd, size), path=program)
        launch = nested.Launch(3, 0, False)
        launch.judged = integrity.Judged(fd, fd, "exec-stop", signed, False)  # type: ignore[arg-type]
        launch.permitted = Permitted(Invoker(os.getpid()))
        launch.permitted.euid = euid
        launch.place = 5
        before = read_status(os.getpid())
        if grown:
            before.caps = {**status.caps, "prm": 0, "bnd": 0}
        told: str = made._objection(before, launch, os.getpid())
        launch.close()
        return told

    assert object_to("/usr/bin/true") == "another file was executed than the one judged"
    assert "the ids are" in object_to(sys.executable, euid=12345)
    assert "exec gave capabilities" in object_to(sys.executable, grown=True)
    assert not executed
    assert object_to(sys.executable) == ""
    assert executed == [(os.getpid(), 5)]
