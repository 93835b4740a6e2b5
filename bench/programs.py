"""The programs and policies that are measured, made at run time."""

from __future__ import annotations

import os
import shutil
import subprocess

NO_OP = """
__attribute__((force_align_arg_pointer, noreturn)) void _start(void)
{
    __asm__ volatile("syscall" : : "a"(231L), "D"(0L) : "rcx", "r11", "memory");
    __builtin_unreachable();
}
"""
PADDING = 2 << 20
"""bytes: the largest binary of the issue's line."""
POLICY_LINES = 200


def no_op(directory: str, name: str, padding: int = 0) -> str:
    """Compile a static program that only ends, and append ``padding`` bytes."""
    source = os.path.join(directory, f"{name}.c")
    target = os.path.join(directory, name)
    with open(source, "w") as file:
        file.write(NO_OP)
    gcc = shutil.which("gcc") or "gcc"
    flags = ["-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-s"]
    subprocess.run([gcc, *flags, "-o", target, source], check=True)
    with open(target, "ab") as file:
        file.write(bytes(padding - os.path.getsize(target)) if padding else b"")
    os.chmod(target, 0o755)
    return target


def kernel_only_policy(directory: str, program: str) -> str:
    """Write a policy of 200 lines that the kernel enforces alone."""
    from certexec.kernel.syscalls import NUMBERS

    left_out = {"clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"}
    names = [name for name in NUMBERS if name not in left_out][: POLICY_LINES - 1]
    return _write(directory, program, "kernel", [f"native-{name}: permit" for name in names])


def supervised_policy(directory: str, program: str) -> str:
    """Write a policy of 200 lines, a third of them about names and addresses."""
    from certexec.kernel.syscalls import NUMBERS

    path = '"/usr/share/doc/package-{0}/*"'
    rules = [f"native-fsread: filename match {path.format(n)} then permit" for n in range(66)]
    skipped = ("open", "stat", "access", "readlink", "clone3", "io_uring", "mkdir", "unlink")
    names = [name for name in NUMBERS if not any(word in name for word in skipped)]
    rules += [f"native-{name}: permit" for name in names[: POLICY_LINES - 1 - len(rules)]]
    return _write(directory, program, "supervised", rules)


def _write(directory: str, program: str, name: str, rules: list[str]) -> str:
    path = os.path.join(directory, f"{name}.policy")
    with open(path, "w") as file:
        file.write(f"Policy: {program}, Emulation: native\n")
        file.writelines(f"\t{rule}\n" for rule in rules)
    return path
