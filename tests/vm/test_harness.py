"""The parts of the virtual-machine harness that need no virtual machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vm import boot_image, build_rootfs, run

HARNESS = Path(run.__file__)


def _report(*lines: str) -> run.Report:
    report = run.Report("n0")
    for line in lines:
        report.take(line)
    return report


def test_a_report_keeps_facts_and_the_status_of_each_finished_step() -> None:
    report = _report(
        "::certexec-vm n0 kernel 6.1.0-50-amd64", "::certexec-vm n0 begin 0", "output",
        "::certexec-vm n0 end 0 3 1.5", "::certexec-vm n0 begin 1", "::certexec-vm n0 done",
    )
    assert report.facts == {"kernel": "6.1.0-50-amd64"}
    assert report.steps == {0: (3, 1.5)}
    assert report.done


def test_marks_of_another_run_count_for_nothing() -> None:
    report = _report("::certexec-vm n1 end 0 0 1.0", "::certexec-vm n1 done")
    assert report.steps == {}
    assert not report.done


@pytest.mark.parametrize(("must_work", "status", "word"), [("1", 1, "FAILED"), ("", 0, "SKIPPED")])
def test_without_qemu_the_harness_skips_loudly_or_fails_when_it_must_work(
    tmp_path: Path, must_work: str, status: int, word: str
) -> None:
    done = subprocess.run(
        [sys.executable, str(HARNESS), "-c", "true"], capture_output=True, text=True,
        env={"PATH": str(tmp_path), "CERTEXEC_MUST_WORK": must_work}, timeout=60,
    )
    assert done.returncode == status
    assert word in done.stderr
    assert "qemu" in done.stderr


def _module(name: str, depends: str) -> bytes:
    return b"\x7fELF\0name=" + name.encode() + b"\0depends=" + depends.encode() + b"\0"


def _kernel(tmp_path: Path) -> boot_image.Kernel:
    tree = tmp_path / "6.1.0-test"
    (tree / "kernel").mkdir(parents=True)
    (tree / "modules.builtin").write_text("kernel/fs/built-in.ko\n")
    for name, depends in (("ext4", "jbd2,mb_cache"), ("jbd2", ""), ("mb-cache", "jbd2")):
        (tree / "kernel" / f"{name}.ko").write_bytes(_module(name, depends))
    return boot_image.Kernel("6.1", "6.1.0-test", tmp_path / "vmlinuz", tree)


def test_modules_are_loaded_after_the_ones_that_they_need(tmp_path: Path) -> None:
    order = [name for name, _ in boot_image.load_order(_kernel(tmp_path), ("ext4",))]
    assert order == ["jbd2", "mb_cache", "ext4"]


def test_a_builtin_or_optional_module_is_no_error_but_a_missing_one_is(tmp_path: Path) -> None:
    kernel = _kernel(tmp_path)
    assert boot_image.load_order(kernel, ("built_in", "?nowhere")) == []
    with pytest.raises(RuntimeError, match="no module nowhere"):
        boot_image.load_order(kernel, ("nowhere",))


def test_the_initramfs_is_a_newc_archive_that_ends_with_its_trailer() -> None:
    data = boot_image._cpio([("init", 0o100755, b"#!/bin/sh\n")])
    assert data.startswith(b"070701")
    assert b"init\0" in data and b"#!/bin/sh\n" in data and b"TRAILER!!!\0" in data
    assert len(data) % 4 == 0


def test_distributions_come_with_what_they_require_and_their_metadata() -> None:
    names = {to for _, to in build_rootfs.distributions(["cryptography"], "/opt/deps")}
    assert {"/opt/deps/cryptography", "/opt/deps/cffi"} <= names
    assert any(name.startswith("/opt/deps/cryptography-") for name in names)


def test_caches_and_virtual_environments_stay_out_of_the_guest(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    ignore = build_rootfs._leave_out(cache)
    assert ignore(str(tmp_path), ["cache", ".git", ".venv", "certexec"]) == [
        "cache", ".git", ".venv",
    ]
    assert ignore(os.path.join(tmp_path, "x"), ["cache"]) == []
