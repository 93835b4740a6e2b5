"""The programs and policies that are measured, made at run time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Sequence

NO_OP = """
__attribute__((force_align_arg_pointer, noreturn)) void _start(void)
{
    __asm__ volatile("syscall" : : "a"(231L), "D"(0L) : "rcx", "r11", "memory");
    __builtin_unreachable();
}
"""
FREESTANDING = ("-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-s")
PADDING = 2 << 20
"""bytes: the largest binary of the issue's line."""
POLICY_LINES = 200
HEAVY_RULES, TREES, FEW_RULES = 60, 20, 57
FIRST = (
    "brk", "mmap", "munmap", "mprotect", "close", "read", "pread64",
    "fstat", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "getrandom",
    "exit_group",
)  # fmt: skip
"""What a dynamic program that only ends needs beside opening its libraries."""
LOOKS = ("access", "stat", "lstat", "readlink", "execve")
"""Calls by name that Landlock does not govern, permitted as such."""
MOVES = ("mount", "umount2", "move_mount", "pivot_root", "fsconfig", "mount_setattr")
"""What would change what a tree is."""


def no_op(directory: str, name: str, padding: int = 0) -> str:
    """Compile a static program that only ends, and append ``padding`` bytes."""
    source = os.path.join(directory, f"{name}.c")
    target = os.path.join(directory, name)
    with open(source, "w") as file:
        file.write(NO_OP)
    subprocess.run(["gcc", "-O2", *FREESTANDING, "-o", target, source], check=True)
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


def everything_policy(directory: str, program: str) -> str:
    """Write a policy that permits every call, so that the kernel enforces it alone."""
    rules = [f"native-{name}: permit" for name in _constant(())]
    return _write(directory, program, "everything", rules)


def few_rules_policy(directory: str, program: str) -> str:
    """Write a policy as people write it for one program: some trees, and what it calls."""
    rules = ['native-fsread: filename match "/usr/*" then permit']
    rules += ['native-fsread: filename match "/etc/*" then permit', "native-execve: deny[eperm]"]
    names = [name for name in _constant(_by_name()) if name not in FIRST]
    rules += [f"native-{name}: permit" for name in (*FIRST, *names[: FEW_RULES - len(FIRST)])]
    return _write(directory, program, "few", rules)


def every_name_policy(directory: str, program: str) -> str:
    """Write a policy that permits every call, after a look at each name."""
    rules = [
        'native-fsread: filename match "/*" then permit',
        'native-fswrite: filename match "/*" then permit',
        'native-execve: filename match "/*" then permit',
        'native-execveat: filename match "/*" then permit',
    ]
    rules += [f"native-{name}: permit" for name in _constant(_by_name())]
    return _write(directory, program, "every-name", rules)


def trees_policy(directory: str, program: str, count: int | None = None) -> str:
    """Write a policy with twenty trees that Landlock grants; ``count`` rules, or all the rest."""
    share = "/usr/share"
    below = sorted(one.path for one in os.scandir(share) if one.is_dir(follow_symlinks=False))
    trees = list(dict.fromkeys([os.path.dirname(program), "/usr/bin", "/usr/lib", "/etc", *below]))
    rules = [f'native-fsread: filename match "{tree}" then permit' for tree in trees[:TREES]]
    left_out = {*_by_name(), *MOVES} - set(LOOKS)
    first = (*LOOKS, *FIRST)
    rest = [*first, *(name for name in _constant(left_out) if name not in first)]
    rules += [f"native-{name}: permit" for name in rest[: count and count - len(rules)]]
    name = f"trees-{count or 'all'}"
    return _write(directory, program, name, ["landlock", *rules], "Language: certexec 1\n")


def _by_name() -> set[str]:
    """Return the calls that fsread and fswrite speak of, and those that execute."""
    from certexec.policy.calls import SUPERVISED, call_of

    named = {"fsread", "fswrite", "execve"}
    return {"clone3"} | {
        name for name in SUPERVISED
        if any(named & set(variant.names) for variant in call_of(name).variants)
    }


def _constant(without: Collection[str]) -> list[str]:
    from certexec.kernel.syscalls import NUMBERS

    return [
        name for name in NUMBERS
        if name not in without and not name.startswith("io_uring") and name != "clone3"
    ]


def _write(
    directory: str, program: str, name: str, rules: Sequence[str], head: str = ""
) -> str:
    base = os.path.basename(program)
    path = os.path.join(directory, f"{base}-{name}.policy")
    with open(path, "w") as file:
        file.write(f"{head}Policy: {program}, Emulation: native\n")
        file.writelines(f"\t{rule}\n" for rule in rules)
    return path
