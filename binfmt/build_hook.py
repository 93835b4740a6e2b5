"""Builds what is in C: the hatchling build hook, and the command that the Makefile calls.

In a wheel or an editable install the launcher becomes ``certexec/libexec/launch``. By hand::

    python3 binfmt/build_hook.py OUTPUT [-D NAME=VALUE ...]

A wheel carries the doors to the kernel (certexec/kernel/_doors.pyx) compiled by Cython, too, for
the Python that builds it. They may be missing: where they do not compile, for want of Python's
headers, the wheel is one of Python alone. An editable install has none, so that tests run on
Python alone. Both carry the manual pages, where man(1) looks for them: beside the ``bin`` in $PATH.

Honours ``CC`` (default gcc) and ``CFLAGS``; the flags that the launcher depends on come last, so
that no CFLAGS can take them away.
"""

from __future__ import annotations

import os
import platform
import shlex
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = (
    "launch.c", "server.h", "domain.h", "nested.h", "resident.h", "cache.h", "plan.h", "sys.h",
    "launch.ld",
)  # fmt: skip
TARGET = HERE.parent / "certexec" / "libexec" / "launch"
WHEEL_PATH = "certexec/libexec/launch"
WHEEL_TAG = "py3-none-linux_x86_64"
DOORS_SOURCE = HERE.parent / "certexec" / "kernel" / "_doors.pyx"
DOORS_WHEEL_PATH = f"certexec/kernel/_doors{sysconfig.get_config_var('EXT_SUFFIX')}"
"""For this interpreter only: for all of them at once Cython's modules load ``inspect`` first, and
that takes longer than Python itself."""
DOORS_WHEEL_TAG = "cp{0}{1}-cp{0}{1}-linux_x86_64".format(*sys.version_info)
PAGES = HERE.parent / "man"
NEEDED = "certexec's launcher is C: apt install gcc, or name a compiler in CC"
DOORS_FLAGS = shlex.split(
    "-std=gnu11 -O2 -Wall -Wextra -fPIC -shared -fvisibility=hidden -fcf-protection=full "
    "-fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 "
    "-Wl,-z,relro,-z,now,-z,noexecstack,--build-id=none -s"
)
FLAGS = shlex.split(
    "-std=gnu11 -O2 -Wall -Wextra -Werror "
    # no libc, no start files, no dynamic loader; position independent all the same
    "-ffreestanding -nostdlib -nostartfiles -static-pie -fPIE -fvisibility=hidden "
    # hardening: shadow stack and indirect branch tracking, stack protector with a guard of our
    # own (thread-local storage is libc's), no uninitialised automatic variables
    "-fcf-protection=full -fstack-protector-strong -mstack-protector-guard=global "
    "-ftrivial-auto-var-init=zero "
    # nothing that needs relocations (tables of pointers), vector registers or our own memcpy
    "-fno-jump-tables -fno-tree-switch-conversion -fno-tree-loop-distribute-patterns "
    "-mgeneral-regs-only -fno-asynchronous-unwind-tables -fno-unwind-tables "
    "-fno-lto -Wl,-z,noexecstack,-z,norelro,-z,now,--build-id=none,--no-dynamic-linker "
    "-fdata-sections -Wl,--gc-sections"
)
SCRIPT = "launch.ld"
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_PT_DYNAMIC, _PT_INTERP, _PT_GNU_STACK, _PF_X = 2, 3, 0x6474E551, 1
_RELOCATION_TAGS = frozenset({2, 7, 8, 9, 17, 18, 23, 35, 36})
"""DT_PLTRELSZ, RELA, RELASZ, RELAENT, REL, RELSZ, JMPREL, RELRSZ, RELR (elf.h)."""


def _compiler() -> list[str]:
    """Return how every compilation begins: the compiler, and what the caller wants of it."""
    return [
        *shlex.split(os.environ.get("CC") or "gcc"), *shlex.split(os.environ.get("CFLAGS") or ""),
    ]  # fmt: skip


def compile_launcher(output: Path, defines: Sequence[str] = ()) -> None:
    """Compile the launcher to ``output``; raises RuntimeError with what went wrong."""
    machine = platform.machine()
    if machine != "x86_64":
        raise RuntimeError(f"certexec's launcher is written for x86-64, this is {machine}")
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_name(output.name + ".new")
    command = [
        *_compiler(),
        *FLAGS,
        f"-Wl,-T,{HERE / SCRIPT}",
        *(f"-D{define}" for define in defines),
        "-o",
        str(fresh),
        str(HERE / "launch.c"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeError(
            f"cannot start the compiler {command[0]} ({error.strerror}); {NEEDED}"
        ) from None
    if done.returncode != 0:
        missing = f"\n{NEEDED}" if "No such file or directory" in done.stderr else ""
        raise RuntimeError(f"the launcher does not compile:\n{done.stderr.rstrip()}{missing}")
    complaint = faults(fresh.read_bytes())
    if complaint:
        fresh.unlink()
        raise RuntimeError(f"the launcher was compiled, but {complaint}")
    fresh.chmod(0o755)
    fresh.replace(output)  # a running launcher keeps its own file


def compile_doors(output: Path) -> None:
    """Compile the doors to the kernel to ``output``; raises RuntimeError with what went wrong."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "_doors.c"
        _run([sys.executable, "-m", "cython", "-3", "-o", str(source), str(DOORS_SOURCE)])
        _run(_doors_command(source, output))


def pages() -> dict[str, str]:
    """Return the manual pages, and where they go below the directory of an installation."""
    return {
        str(page): f"share/man/man{page.suffix[1:]}/{page.name}"
        for page in sorted(PAGES.glob("certexec*.[1-8]"))
    }


def _doors_command(source: Path, output: Path) -> list[str]:
    return [
        *_compiler(),
        *DOORS_FLAGS,
        f"-I{sysconfig.get_path('include')}",
        f"-I{sysconfig.get_path('platinclude')}",
        "-o",
        str(output),
        str(source),
    ]


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeError(f"cannot start the compiler {command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["?"]
        errors = [line for line in lines if "error:" in line]
        raise RuntimeError((errors or lines[-1:])[0])


def faults(elf: bytes) -> str:
    """Say why a built launcher cannot be used; an empty string means that it can.

    It has to start without a dynamic loader, so nobody would apply relocations for it.
    """
    header = _ELF_HEADER.unpack_from(elf)
    segment_offset, segment_size, segment_count = header[5], header[9], header[10]
    for index in range(segment_count):
        kind, flags, offset, _, _, size, _, _ = _SEGMENT.unpack_from(
            elf, segment_offset + index * segment_size
        )
        if kind == _PT_INTERP:
            return "it asks for a dynamic loader"
        if kind == _PT_GNU_STACK and flags & _PF_X:
            return "its stack is executable"
        if kind == _PT_DYNAMIC:
            for tag, value in struct.iter_unpack("<QQ", elf[offset : offset + size]):
                if tag in _RELOCATION_TAGS and value:
                    return "it needs relocations"
    return ""


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # called as a command, without hatchling
    pass
else:

    class LauncherHook(BuildHookInterface):  # type: ignore[type-arg]
        """Puts the compiled launcher into wheels and beside the sources of editable installs.

        Wheels get the compiled doors, too.
        """

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile before hatchling collects files; a source distribution needs nothing."""
            if self.target_name != "wheel":
                return
            try:
                compile_launcher(TARGET)
            except RuntimeError as error:
                raise SystemExit(f"error: {error}") from None  # a last line, and no traceback
            build_data["shared_data"].update(pages())
            build_data["pure_python"] = False
            build_data["tag"] = WHEEL_TAG
            if version == "editable":
                return
            build_data["force_include"][str(TARGET)] = WHEEL_PATH
            doors = HERE / "build" / Path(DOORS_WHEEL_PATH).name
            try:
                compile_doors(doors)
            except RuntimeError as error:
                self.app.display_warning(
                    f"certexec will run on Python alone, and slower: {error}"
                )
                return
            build_data["force_include"][str(doors)] = DOORS_WHEEL_PATH
            build_data["tag"] = DOORS_WHEEL_TAG


def main(arguments: Sequence[str]) -> int:
    """Compile from the command line."""
    if not arguments or arguments[0].startswith("-") or arguments[1::2] != ["-D"] * (
        len(arguments) // 2
    ):
        sys.stderr.write("usage: build_hook.py OUTPUT [-D NAME=VALUE]...\n")
        return 2
    try:
        compile_launcher(Path(arguments[0]), arguments[2::2])
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
