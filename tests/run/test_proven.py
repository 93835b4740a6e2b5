"""A program that was hashed once is known again only as long as nothing of it can have changed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.errors import RunError
from certexec.kernel import filesystem
from certexec.run import integrity, proven
from certexec.run.ground import HOLDING, why_not_ground, why_not_standing
from certexec.run.identity import Permitted
from certexec.run.integrity import Judged, confirm_at_exec_stop
from certexec.run.invoker import Invoker
from certexec.run.proven import SETTLED, Proven, state
from tests.isolation import skip_or_fail


class File:
    """A file, its descriptor and what was signed of it."""

    def __init__(self, path: Path, text: bytes = b"program") -> None:
        self.path = path
        path.write_bytes(text)
        path.chmod(0o755)
        self.fd = os.open(path, os.O_RDONLY)
        self.signed: Any = SimpleNamespace(
            path=str(path), size=len(text), sha256=hashlib.sha256(text).digest(),
            sha512=hashlib.sha512(text).digest(),
        )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    one = File(tmp_path / "program")
    if state(one.fd) is None:
        skip_or_fail("this file system does not tell all")
    yield one
    os.close(one.fd)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file stands where it can be known again, and has done so for long."""
    monkeypatch.setattr(proven, "why_not_standing", lambda fd, path: "")
    monkeypatch.setattr(proven, "SETTLED", -SETTLED)


def learned(file: File) -> Proven:
    known = Proven()
    known.learn(file.fd, file.signed, state(file.fd))
    return known


@pytest.mark.usefixtures("settled")
def test_what_was_hashed_is_known_again(file: File) -> None:
    assert learned(file).recognise(file.fd, file.signed) == state(file.fd)
    assert Proven().recognise(file.fd, file.signed) is None


def _written(file: File) -> None:
    info = os.stat(file.path)
    with open(file.path, "r+b") as other:
        other.write(b"P")
    os.utime(file.path, ns=(info.st_atime_ns, info.st_mtime_ns))


def _mode(file: File) -> None:
    os.chmod(file.path, 0o777)
    os.chmod(file.path, 0o755)


def _exchanged(file: File) -> None:
    other = file.path.with_name("other")
    other.write_bytes(file.path.read_bytes())
    other.chmod(0o755)
    other.rename(file.path)
    os.close(file.fd)
    file.fd = os.open(file.path, os.O_RDONLY)


def _signed_anew(file: File) -> None:
    file.signed.sha512 = bytes(64)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", [_written, _mode, _exchanged, _signed_anew])
def test_nothing_is_known_again_after_a_change(file: File, change: Any) -> None:
    known = learned(file)
    time.sleep(0.02)  # seconds; more than a tick of the clock that file systems go by
    change(file)
    assert known.recognise(file.fd, file.signed) is None


@pytest.mark.usefixtures("settled")
def test_what_changed_after_the_stop_is_not_learned(file: File) -> None:
    before = state(file.fd)
    time.sleep(0.02)
    _written(file)
    known = Proven()
    known.learn(file.fd, file.signed, before)
    assert known.recognise(file.fd, file.signed) is None


def test_what_has_just_changed_is_not_learned(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proven, "why_not_standing", lambda fd, path: "")
    assert learned(file).recognise(file.fd, file.signed) is None


def test_what_others_could_exchange_is_not_learned(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proven, "SETTLED", -SETTLED)
    for why in ("", "others write there"):
        monkeypatch.setattr(proven, "why_not_standing", lambda fd, path, why=why: why)
        assert (learned(file).recognise(file.fd, file.signed) is None) == bool(why)


def test_only_few_programs_are_kept(
    tmp_path: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proven, "PROVEN_MAX", 2)
    files = [File(tmp_path / name) for name in "abc"]
    known = Proven()
    for one in files:
        known.learn(one.fd, one.signed, state(one.fd))
    assert [known.recognise(one.fd, one.signed) is None for one in files] == [True, False, False]
    for one in files:
        os.close(one.fd)


def test_a_program_of_the_system_stands_and_one_in_a_shared_place_does_not(tmp_path: Path) -> None:
    path = os.path.realpath("/bin/true")
    fd = os.open(path, os.O_RDONLY)
    try:
        if filesystem.type_name(fd) in HOLDING:
            assert why_not_standing(fd, path) == ""
        assert "not every change shows" in why_not_ground(fd, path, frozenset())
    finally:
        os.close(fd)
    shared = File(tmp_path / "program")
    shared.path.chmod(0o777)
    assert why_not_ground(shared.fd, "it", frozenset({filesystem.type_name(shared.fd)}))
    os.close(shared.fd)


# -- where it counts ------------------------------------------------------------------------------


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_why_not_held", lambda *_: None)


def certificate(file: File, choice: str) -> Any:
    return SimpleNamespace(
        program=file.signed, files=(), integrity=choice, is_grant=lambda: False
    )


def permitted() -> Permitted:
    return Permitted(Invoker.assumed(os.getuid(), os.getgid(), False))


@pytest.mark.usefixtures("settled", "held")
@pytest.mark.parametrize(("choice", "hashed"), [("auto", False), ("cached", False),
                                                ("exec-stop", True)])  # fmt: skip
def test_a_certificate_that_asks_for_it_has_every_start_hashed(
    file: File, choice: str, hashed: bool
) -> None:
    known = learned(file)
    judged = integrity.judge(certificate(file, choice), permitted(), False, proven=known)
    assert bool(judged._pending) == hashed and (judged.proven is None) == hashed
    assert not judged.learns
    os.close(judged.fd)


@pytest.mark.usefixtures("settled", "held")
def test_what_is_not_known_is_hashed_and_to_be_learned(file: File) -> None:
    known = learned(file)
    time.sleep(0.02)
    _written(file)
    judged = integrity.judge(certificate(file, "auto"), permitted(), False, proven=known)
    assert judged.learns and judged.proven is None
    with pytest.raises(RunError, match="not the file that was signed"):
        judged.confirm_content()
    os.close(judged.fd)


@pytest.mark.parametrize("same", [True, False])
def test_at_the_exec_stop_the_state_is_compared_again(tmp_path: Path, same: bool) -> None:
    program = tmp_path / "sleep"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    fd = os.open(program, os.O_RDONLY)
    signed: Any = SimpleNamespace(path=str(program), size=0, sha256=b"", sha512=b"")
    judged = Judged(fd, fd, "exec-stop", signed, False)
    judged.proven = state(fd)
    assert judged.proven is not None
    time.sleep(0.02)
    if not same:
        program.chmod(0o711)
        program.chmod(0o755)
    process = subprocess.Popen([program, "60"])
    try:
        while os.readlink(f"/proc/{process.pid}/exe") != str(program):
            time.sleep(0.001)
        if same:
            confirm_at_exec_stop(process.pid, judged)
        else:
            with pytest.raises(RunError, match="changed while"):
                confirm_at_exec_stop(process.pid, judged)
    finally:
        process.kill()
        process.wait()
        os.close(fd)


@pytest.mark.usefixtures("settled", "held")
def test_a_certificate_that_takes_it_for_a_script_is_refused_all_the_same(file: File) -> None:
    known = learned(file)
    script = certificate(file, "auto")
    script.files = (SimpleNamespace(role="interpreter"),)
    with pytest.raises(RunError, match="is a script and its certificate is not"):
        integrity.judge(script, permitted(), False, proven=known)


@pytest.mark.usefixtures("settled", "held")
def test_what_must_run_from_memory_is_copied_all_the_same(file: File) -> None:
    judged = integrity.judge(certificate(file, "auto"), permitted(), True, proven=learned(file))
    assert judged.mode == "sealed" and judged.proven is None
    os.close(judged.fd)
    os.close(judged.exec_fd)
