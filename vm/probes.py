#!/usr/bin/env python3
"""Measure kernels with the probes of vm/steps and write the tables of docs/kernel-probes.md.

    vm/probes.py [--check] [--kernel 6.1|6.12|all] [--no-direct]

The stock kernels run in qemu; unless --no-direct says otherwise the kernel of this machine is
measured too (as root). --check prints the tables and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent / "docs" / "kernel-probes.md"
BEGIN, END = "<!-- tables: written by vm/probes.py -->", "<!-- end of tables -->"
# Probe, heading of its table.
PROBES = (
    ("probe_ids.py", "Ids after an exec"),
    ("probe_ptrace.py", "Who may trace"),
    ("probe_seccomp.py", "Seccomp user notification"),
    ("probe_binfmt.py", "binfmt_misc"),
    ("probe_files.py", "Files at exec, and calls that a kernel may lack"),
)
DIRECT_TIMEOUT = 120  # seconds for one probe on this machine
Facts = dict[str, str]


def facts_in(text: str) -> Facts:
    """Return the facts that a probe printed."""
    found: Facts = {}
    for line in text.splitlines():
        if line.startswith("fact: "):
            name, _, value = line[len("fact: ") :].rstrip().partition(" = ")
            found[name] = value or "nothing"
    return found


def guest_facts(series: str) -> tuple[str, dict[str, Facts]]:
    """Run every probe in a stock kernel; return (release, facts by probe)."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            sys.executable, str(HERE / "run.py"), "--kernel", series, "--quiet", "--log-dir",
            directory, *(str(HERE / "steps" / probe) for probe, _ in PROBES),
        ]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "CERTEXEC_MUST_WORK": "1"},
        )
        if done.returncode != 0:
            raise SystemExit(f"vm/probes.py: kernel {series}: a probe failed\n{done.stdout}")
        log = (Path(directory) / f"serial-{series}.log").read_text(errors="replace")
    release = ""
    parts: list[list[str]] = []
    for line in log.replace("\r", "").splitlines():
        words = line.split()
        if line.startswith("::certexec-vm") and words[2:3] == ["kernel"]:
            release = words[3]
        elif line.startswith("::certexec-vm") and words[2:3] == ["version"]:
            # "#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-07-02)"
            _, _, debian = line.partition(" Debian ")
            release = f"{debian.split()[0]} ({release})" if debian else release
        elif line.startswith("::certexec-vm") and words[2:3] == ["begin"]:
            parts.append([])
        elif parts:
            parts[-1].append(line)
    return release, {
        probe: facts_in("\n".join(part))
        for (probe, _), part in zip(PROBES, parts, strict=True)
    }


def direct_facts() -> tuple[str, dict[str, Facts]]:
    """Run every probe on this machine's kernel; return (version, facts by probe)."""
    found = {}
    for probe, _ in PROBES:
        done = subprocess.run(
            [sys.executable, str(HERE / "steps" / probe)], capture_output=True, text=True,
            timeout=DIRECT_TIMEOUT, check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"vm/probes.py: {probe} failed here\n{done.stderr}")
        found[probe] = facts_in(done.stdout)
    return os.uname().release.split("-")[0], found


def tables(columns: list[tuple[str, dict[str, Facts]]]) -> str:
    """Return one table for each probe, a row for each fact."""
    out = []
    for probe, heading in PROBES:
        names = list(dict.fromkeys(name for _, facts in columns for name in facts[probe]))
        out.append(f"## {heading}\n")
        out.append("| `" + probe + "` | " + " | ".join(title for title, _ in columns) + " |")
        out.append("|---" * (len(columns) + 1) + "|")
        for name in names:
            values = (facts[probe].get(name, "-") for _, facts in columns)
            out.append("| " + " | ".join((name, *values)) + " |")
        out.append("")
    return "\n".join(out)


def main(arguments: list[str]) -> int:
    """Measure and write; return the exit status."""
    parser = argparse.ArgumentParser(prog="vm/probes.py")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--kernel", choices=("6.1", "6.12", "all"), default="all")
    parser.add_argument("--no-direct", action="store_true")
    options = parser.parse_args(arguments)
    series = ("6.1", "6.12") if options.kernel == "all" else (options.kernel,)
    columns = [guest_facts(one) for one in series]
    if not options.no_direct:
        columns.append(direct_facts())
    text = tables(columns)
    if options.check:
        print(text)
        return 0
    page = DOCUMENT.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
