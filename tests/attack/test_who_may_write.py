"""Which way a binary is judged depends on who may write it, and only files are read at all."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from certexec.errors import RunError
from certexec.kernel.filesystem import exec_write_denied
from certexec.run import decide, integrity
from tests.isolation import skip_or_fail

INVOKER, STRANGER = 12345, 54321
PROGRAM = b"\x7fELF" + bytes(2000)
SCRIPT = b"#!/bin/sh\n"


def signed(path: Path, role: str = "") -> Any:
    data = path.read_bytes()
    return SimpleNamespace(
        path=str(path), size=len(data), sha256=hashlib.sha256(data).digest(),
        sha512=hashlib.sha512(data).digest(), role=role,
    )  # fmt: skip


def judge(
    path: Path, mode: str = "auto", grant: bool = False, interpreter: Path | None = None
) -> integrity.Judged:
    certificate: Any = SimpleNamespace(
        program=signed(path), integrity=mode, is_grant=lambda: grant,
        files=[] if interpreter is None else [signed(interpreter, "interpreter")],
    )  # fmt: skip
    permitted: Any = SimpleNamespace(
        uid=INVOKER, euid=0 if grant else INVOKER, gid=INVOKER, egid=INVOKER, groups=None
    )
    return integrity.judge(certificate, permitted, False)


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        skip_or_fail("only root can give files away")
    path = tmp_path / "program"
    path.write_bytes(PROGRAM)
    path.chmod(0o755)
    fd = os.open(path, os.O_RDONLY)
    denied = exec_write_denied(fd, os.uname().release)
    os.close(fd)
    if not denied:
        pytest.skip("the file system of temporary files does not deny writing to executed ones")
    return path


def let_by_acl(path: Path, uid: int) -> None:
    entries = ((1, 7, 2**32 - 1), (2, 7, uid), (4, 5, 2**32 - 1), (16, 7, 2**32 - 1),
               (32, 5, 2**32 - 1))  # fmt: skip
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)
    os.setxattr(path, "system.posix_acl_access", acl)


def test_what_only_root_may_write_is_judged_at_the_exec_stop(binary: Path) -> None:
    assert judge(binary).mode == "exec-stop"
    assert judge(binary, grant=True).mode == "exec-stop"


def test_the_invokers_own_binary_is_judged_at_the_exec_stop_without_a_grant(binary: Path) -> None:
    os.chown(binary, INVOKER, INVOKER)
    assert judge(binary).mode == "exec-stop"


def test_the_invokers_own_binary_is_sealed_with_a_grant(binary: Path) -> None:
    os.chown(binary, INVOKER, INVOKER)
    assert judge(binary, grant=True).mode == "sealed"


def test_a_strangers_binary_is_sealed(binary: Path) -> None:
    os.chown(binary, STRANGER, STRANGER)
    assert judge(binary).mode == "sealed"


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_what_a_group_or_everybody_may_write_is_sealed(binary: Path, mode: int) -> None:
    binary.chmod(mode)
    assert judge(binary).mode == "sealed"


def test_what_an_acl_lets_a_stranger_write_is_sealed(binary: Path) -> None:
    let_by_acl(binary, STRANGER)
    assert judge(binary).mode == "sealed"


def test_an_exec_stop_that_was_asked_for_is_refused_where_others_may_write(binary: Path) -> None:
    binary.chmod(0o757)
    with pytest.raises(RunError) as refusal:
        judge(binary, "exec-stop")
    assert refusal.value.reason == "binary-unusable"
    assert "sealed" in refusal.value.hint


def test_an_interpreter_that_others_may_write_is_refused(binary: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(SCRIPT)
    script.chmod(0o777)  # the script itself is sealed
    assert judge(script, interpreter=binary).is_script
    binary.chmod(0o775)
    with pytest.raises(RunError) as refusal:
        judge(script, interpreter=binary)
    assert refusal.value.reason == "binary-unusable"


@pytest.mark.timeout(20)
def test_a_policy_that_became_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "policy"
    os.mkfifo(pipe)
    certificate: Any = SimpleNamespace(
        policy=SimpleNamespace(text=None, path=str(pipe), sha256=bytes(32))
    )
    with pytest.raises(RunError) as refusal:
        decide.read_policy(certificate)
    assert refusal.value.reason == "policy-mismatch"


@pytest.mark.timeout(20)
def test_a_binary_that_became_a_pipe_is_refused(binary: Path) -> None:
    certificate_of = signed(binary)
    binary.unlink()
    os.mkfifo(binary, 0o755)
    with pytest.raises(RunError) as refusal:
        integrity.open_file(certificate_of.path)
    assert refusal.value.reason == "binary-mismatch"
