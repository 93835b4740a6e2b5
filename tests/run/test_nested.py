"""Who is the launcher, and for which certificate the kernel started it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from certexec.run import nested
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
