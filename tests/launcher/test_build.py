from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.launcher.rig import PROJECT, load_hook, skip_or_fail

hook = load_hook()
SOURCES = [PROJECT / "binfmt" / name for name in hook.SOURCES]
LINES_MAX = 1270
"""lines with code: some 900 that ask and apply, 330 that read the cache."""


@pytest.fixture(autouse=True)
def _compiler() -> None:
    if shutil.which("gcc") is None:
        skip_or_fail("needs gcc")


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("build") / "launch"
    hook.compile_launcher(path)
    assert path.stat().st_mode & 0o777 == 0o755
    return path.read_bytes()


def segments(elf: bytes) -> list[tuple[int, ...]]:
    header = struct.unpack_from("<16sHHIQQQIHHHHHH", elf)
    return [
        struct.unpack_from("<IIQQQQQQ", elf, header[5] + index * header[9])
        for index in range(header[10])
    ]


def test_the_launcher_is_position_independent_and_asks_for_no_dynamic_loader(
    launcher: bytes,
) -> None:
    assert struct.unpack_from("<H", launcher, 16)[0] == 3  # ET_DYN
    assert 3 not in [one[0] for one in segments(launcher)]  # PT_INTERP


def test_no_segment_is_writable_and_executable_and_the_stack_is_not_executable(
    launcher: bytes,
) -> None:
    stacks = [one for one in segments(launcher) if one[0] == 0x6474E551]
    assert len(stacks) == 1
    for one in [*segments(launcher)]:
        assert one[1] & 3 != 3 or one[0] not in (1, 0x6474E551)
    assert stacks[0][1] & 1 == 0


def test_the_launcher_announces_shadow_stack_and_branch_tracking(launcher: bytes) -> None:
    # NT_GNU_PROPERTY_TYPE_0: GNU_PROPERTY_X86_FEATURE_1_AND = IBT | SHSTK
    assert struct.pack("<III", 0xC0000002, 4, 3) in launcher


def test_the_launcher_has_a_stack_protector(launcher: bytes) -> None:
    assert b"the launcher's stack was damaged" in launcher


def test_a_launcher_that_needs_relocations_is_not_accepted(tmp_path: Path) -> None:
    source = tmp_path / "pointer.c"
    source.write_text(
        'const char *table[] = { "a", "b" };\nvoid _start(void) { for (;;) (void)table; }\n'
    )
    out = tmp_path / "out"
    flags = [flag for flag in hook.FLAGS if "gc-sections" not in flag]
    subprocess.run(
        ["gcc", *flags, "-Wl,-z,noexecstack,--no-dynamic-linker", "-o", out, source], check=True
    )
    assert hook.faults(out.read_bytes()) == "it needs relocations"


def test_a_launcher_that_asks_for_a_loader_is_not_accepted() -> None:
    assert hook.faults(Path("/bin/true").read_bytes()) == "it asks for a dynamic loader"


def test_cflags_are_honoured_but_cannot_take_hardening_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFLAGS", "-O0 -fno-stack-protector -DNOT_THERE -fcf-protection=none")
    hook.compile_launcher(tmp_path / "launch")
    assert struct.pack("<III", 0xC0000002, 4, 3) in (tmp_path / "launch").read_bytes()
    monkeypatch.setenv("CFLAGS", "-include /nonexistent/header.h")
    with pytest.raises(RuntimeError, match="does not compile"):
        hook.compile_launcher(tmp_path / "launch")


def test_cc_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/nonexistent/cc --flag")
    with pytest.raises(RuntimeError, match="cannot start the compiler /nonexistent/cc"):
        hook.compile_launcher(tmp_path / "launch")


def test_another_machine_than_x86_64_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook.platform, "machine", lambda: "aarch64")
    with pytest.raises(RuntimeError, match="written for x86-64"):
        hook.compile_launcher(tmp_path / "launch")


def test_a_running_launcher_can_be_built_over(tmp_path: Path) -> None:
    path = tmp_path / "launch"
    hook.compile_launcher(path)
    with path.open("rb") as old:
        hook.compile_launcher(path)
        assert path.stat().st_ino != old.fileno() and path.stat().st_ino
    assert not path.with_name("launch.new").exists()


def test_the_command_line_builds_too(tmp_path: Path) -> None:
    out = tmp_path / "launch"
    script = PROJECT / "binfmt/build_hook.py"
    subprocess.run([sys.executable, script, out, "-D", 'CERTEXEC_HOME="/x/y"'], check=True)
    assert b"/x/y/current/python" in out.read_bytes()
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


def test_the_sources_stay_small_enough_to_read() -> None:
    code = "".join(path.read_text() for path in SOURCES)
    bare = re.sub(r"/\*.*?\*/", "", code, flags=re.S)
    assert sum(1 for line in bare.splitlines() if line.strip()) <= LINES_MAX


@pytest.mark.parametrize("headers", [True, False])
def test_a_wheel_carries_the_launcher_the_doors_and_the_machine_in_its_tag(
    tmp_path: Path, headers: bool
) -> None:
    pytest.importorskip("hatchling")
    tree = tmp_path / "tree"
    ignore = shutil.ignore_patterns("__pycache__", "libexec")
    tree.mkdir()
    for name in ("binfmt", "certexec", "man"):
        shutil.copytree(PROJECT / name, tree / name, ignore=ignore)
    shutil.copy(PROJECT / "pyproject.toml", tree)
    for name in ("README.md", "COPYING"):
        (tree / name).write_text("x\n")
    if not headers:
        source = 'cdef extern from "<no-such.h>":\n    pass\n'
        (tree / "certexec/kernel/_doors.pyx").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"],
        cwd=tree, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    tag = hook.DOORS_WHEEL_TAG if headers else hook.WHEEL_TAG
    assert wheel.name.endswith(f"-{tag}.whl")
    told = [line for line in (done.stdout + done.stderr).splitlines() if "Python alone" in line]
    assert len(told) == (0 if headers else 1) and all("no-such.h" in line for line in told)
    with zipfile.ZipFile(wheel) as archive:
        assert (hook.DOORS_WHEEL_PATH in archive.namelist()) == headers
        assert not any(name.endswith((".c", ".pyx")) for name in archive.namelist())
        info = archive.getinfo("certexec/libexec/launch")
        assert info.external_attr >> 16 & 0o777 == 0o755
        assert hook.faults(archive.read(info)) == ""
        # where man(1) looks for the pages of what it finds in $PATH
        pages = [name for name in archive.namelist() if ".data/data/share/man/man" in name]
        assert sorted(page.rpartition("/")[2] for page in pages) == sorted(
            page.name for page in (PROJECT / "man").iterdir()
        )
        assert all(page.rpartition("/")[0].endswith("/man" + page[-1]) for page in pages)


def test_a_build_without_a_compiler_ends_with_what_to_install(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("binfmt", "certexec"):
        shutil.copytree(PROJECT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tree)
    for name in ("README.md", "COPYING"):
        (tree / name).write_text("x\n")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"],
        cwd=tree, capture_output=True, text=True, check=False,
        env={**os.environ, "CC": "/nonexistent/cc"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "/nonexistent/cc" in last and "apt install gcc," in last


def test_a_header_that_is_missing_is_told_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFLAGS", "-include no-such.h")
    with pytest.raises(RuntimeError) as caught:
        hook.compile_launcher(tmp_path / "launch")
    assert "no-such.h" in str(caught.value)
    assert "apt install gcc," in str(caught.value).splitlines()[-1]
