#!/usr/bin/env python3
"""Run steps inside a stock Debian kernel, booted by qemu in software emulation.

    vm/run.py [--kernel 6.1|6.12|all] [--yama N] [--tree SRC:DEST]... [--dist NAMES:DEST]...
              [--timeout S] STEP...

Each STEP is one command: a script of this machine (copied into the guest, `.py` and `.sh` run by
their interpreter) with arguments, or with -c a shell command for the guest. Steps run as root, in
order, each in its own session, their output on the serial console. Exit status: 0 every step of
every kernel ended with 0; 1 one did not, or the guest's report is incomplete; 2 wrong usage.
Without qemu or without a kernel package: a loud skip and 0, or 1 when CERTEXEC_MUST_WORK=1.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import secrets
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from vm import boot_image, build_rootfs  # noqa: E402
from vm.packages import PackageError  # noqa: E402

SERIES = ("6.1", "6.12")
CACHE = HERE / "cache"
QEMU = "qemu-system-x86_64"
MEMORY = "2G"
CPUS = 2
BOOT_ALLOWANCE = 120.0  # seconds for a boot on a busy machine, added to the steps' own time
KERNEL_ARGUMENTS = (
    "console=ttyS0,115200", "loglevel=4", "panic=-1",
    # Emulated CPUs leak nothing to each other; the work-arounds only cost time.
    "mitigations=off", "tsc=unstable", "random.trust_cpu=on",
)


PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


class Unavailable(Exception):
    """The harness cannot run here at all (no qemu, no kernel package)."""


class Report:
    """What one guest reported: facts by name, and (status, seconds) of each finished step."""

    def __init__(self, nonce: str) -> None:
        self.facts: dict[str, str] = {}
        self.steps: dict[int, tuple[int, float]] = {}
        self.done = False
        self.in_step = False
        self._mark = f"::certexec-vm {nonce} "

    def take(self, line: str) -> bool:
        """Read one console line; return whether it belongs to the report."""
        if not line.startswith(self._mark):
            return False
        words = line[len(self._mark) :].split()
        self.in_step = words[:1] == ["begin"]
        if words[:1] == ["end"] and len(words) == 4:
            self.steps[int(words[1])] = (int(words[2]), float(words[3]))
        elif words == ["done"]:
            self.done = True
        elif words and words[0] != "begin":
            self.facts[words[0]] = " ".join(words[1:])
        return True


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="vm/run.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kernel", choices=(*SERIES, "all"), default="all")
    parser.add_argument("--yama", metavar="N", choices=("0", "1", "2", "3"),
                        help="set kernel.yama.ptrace_scope before the first step")
    parser.add_argument("--sysctl", metavar="NAME=VALUE", action="append", default=[])
    parser.add_argument("--tree", metavar="SRC:DEST", action="append", default=[],
                        help="copy a directory or file into the guest, owned by root")
    parser.add_argument("--dist", metavar="NAME,NAME...:DEST", action="append", default=[],
                        help="copy installed Python distributions, with what they require")
    parser.add_argument("--env", metavar="NAME=VALUE", action="append", default=[])
    parser.add_argument("--module", metavar="NAME", action="append", default=[],
                        help="load one more kernel module")
    parser.add_argument("--timeout", metavar="S", type=float, default=300.0,
                        help="longest time of one step in seconds (default 300)")
    parser.add_argument("--log-dir", metavar="DIR", type=Path, default=CACHE / "logs")
    parser.add_argument("-c", dest="commands", action="store_true",
                        help="each STEP is a shell command for the guest")
    parser.add_argument("--quiet", action="store_true", help="do not repeat the steps' output")
    parser.add_argument("steps", metavar="STEP", nargs="+")
    return parser.parse_args(arguments)


def pairs(words: list[str], what: str, separator: str = "=") -> list[tuple[str, str]]:
    """Split NAME=VALUE words; anything else is wrong usage."""
    split = [word.partition(separator) for word in words]
    for name, found, value in split:
        if not (name and found and value):
            raise SystemExit(f"vm/run.py: {what} wants A{separator}B, not {name!r}")
    return [(name, value) for name, _, value in split]


def plan_steps(options: argparse.Namespace) -> tuple[list[list[str]], list[tuple[Path, str]]]:
    """Return the guest's commands and the files that they need there."""
    steps: list[list[str]] = []
    trees: list[tuple[Path, str]] = [(HERE / "steps", "/vm/steps")]
    for number, step in enumerate(options.steps):
        if options.commands:
            steps.append(["/bin/sh", "-c", step])
            continue
        script, *arguments = shlex.split(step)
        source = Path(script).resolve()
        if not source.is_file():
            raise SystemExit(f"vm/run.py: no such step: {script!r}")
        if source.parent == HERE / "steps":
            target = f"/vm/steps/{source.name}"
        else:
            target = f"/vm/own/{number}/{source.name}"
            trees.append((source, target))
        steps.append([target, *arguments])
    return steps, trees


def qemu_command(kernel: boot_image.Kernel, initrd: Path, image: Path) -> list[str]:
    """Return the machine: q35 in software emulation, one disk, the serial line on stdout."""
    return [
        QEMU, "-M", "q35", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max",
        "-m", MEMORY, "-smp", str(CPUS), "-nodefaults", "-no-user-config", "-display", "none",
        "-no-reboot", "-serial", "stdio", "-monitor", "none", "-nic", "none",
        "-kernel", str(kernel.vmlinuz), "-initrd", str(initrd),
        "-append", " ".join(KERNEL_ARGUMENTS),
        # Writes go to a temporary file of qemu's: the image stays as built, for the next kernel.
        "-drive", f"file={image},format=raw,if=virtio,snapshot=on,cache=unsafe",
    ]


def end_with_parent() -> None:
    """Have the kernel kill this process, qemu to be, when the harness dies."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def watch(command: list[str], seconds: float, log: Path, report: Report, quiet: bool) -> str:
    """Run qemu, keep its console in `log`, fill `report`; return "" or what went wrong."""
    deadline = time.monotonic() + seconds
    rest = b""
    with log.open("wb") as kept, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=end_with_parent,
    ) as qemu, selectors.DefaultSelector() as selector:
        stream = qemu.stdout
        if stream is None:
            return "qemu has no console"
        selector.register(stream, selectors.EVENT_READ)
        try:
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    return f"no end after {seconds:.0f} s"
                if not selector.select(left):
                    continue
                data = os.read(stream.fileno(), 65536)
                if not data:
                    break
                kept.write(data)
                kept.flush()
                *lines, rest = (rest + data).split(b"\n")
                for raw in lines:
                    line = raw.decode("utf-8", "replace").rstrip("\r")
                    if not report.take(line) and report.in_step and not quiet:
                        print(f"  | {line}", flush=True)
            status = qemu.wait(timeout=10)
            return "" if status == 0 else f"qemu ended with {status}"
        finally:
            if qemu.poll() is None:
                qemu.kill()


def run_kernel(series: str, options: argparse.Namespace, nonce: str, image: Path) -> bool:
    """Boot one kernel, run the steps, print the verdict; return whether all went well."""
    kernel = boot_image.kernel(series, CACHE)
    initrd = image.with_name(f"initrd-{series}")
    boot_image.initramfs(kernel, options.module, CACHE, initrd)
    log = options.log_dir / f"serial-{series}{f'-yama{options.yama}' if options.yama else ''}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    report = Report(nonce)
    print(f"kernel {kernel.release}: booting", flush=True)
    begin = time.monotonic()
    allowed = BOOT_ALLOWANCE + options.timeout * len(options.steps)
    trouble = watch(qemu_command(kernel, initrd, image), allowed, log, report, options.quiet)
    for name, value in report.facts.items():
        print(f"kernel {kernel.release}: {name}: {value}")
    for number, step in enumerate(options.steps):
        status, seconds = report.steps.get(number, (-1, 0.0))
        word = {0: "ok", -1: "NOT RUN TO ITS END", 124: "TIMED OUT"}.get(status, f"FAILED {status}")
        print(f"kernel {kernel.release}: {word}: {step} ({seconds:.1f} s)")
    if not report.done:
        trouble = trouble or "the guest stopped before its report was complete"
    if report.facts.get("kernel") != kernel.release:
        trouble = trouble or "another kernel than the one asked for"
    if trouble:
        tail = log.read_bytes().decode("utf-8", "replace").splitlines()[-15:]
        print(f"kernel {kernel.release}: {trouble}; the console ended with", *tail, sep="\n  | ")
    good = not trouble and all(
        report.steps.get(number, (-1, 0))[0] == 0 for number in range(len(options.steps))
    )
    shown = os.path.relpath(log)
    print(f"kernel {kernel.release}: {'passed' if good else 'FAILED'} in "
          f"{time.monotonic() - begin:.1f} s, serial log in {shown}", flush=True)
    return good


def run(options: argparse.Namespace) -> bool:
    """Build the disk, then boot each kernel in turn."""
    if not shutil.which(QEMU):
        raise Unavailable(f"{QEMU} is not installed (apt-get install qemu-system-x86)")
    series = SERIES if options.kernel == "all" else (options.kernel,)
    sysctl = dict(pairs(options.sysctl, "--sysctl"))
    if options.yama is not None:
        sysctl["kernel.yama.ptrace_scope"] = options.yama
    trees = [(Path(source).resolve(), to) for source, to in pairs(options.tree, "--tree", ":")]
    for source, to in trees:
        if not source.exists() or not to.startswith("/"):
            raise SystemExit(f"vm/run.py: --tree wants an existing SRC and an absolute DEST: {to}")
    for names, to in pairs(options.dist, "--dist", ":"):
        trees += build_rootfs.distributions(names.split(","), to)
    steps, needed = plan_steps(options)
    nonce = secrets.token_hex(8)
    CACHE.mkdir(exist_ok=True)
    try:
        for one in series:
            boot_image.kernel(one, CACHE)
        boot_image.busybox(CACHE)
    except PackageError as error:
        raise Unavailable(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as directory:
        facts = Path(directory) / "run.json"
        facts.write_text(json.dumps({
            "nonce": nonce, "steps": steps, "sysctl": sysctl, "step_timeout": options.timeout,
            "environment": dict(pairs(options.env, "--env")),
        }))
        image = Path(directory) / "root.ext4"
        own = [
            (HERE / "guest.py", "/vm/guest.py"), (facts, "/vm/run.json"),
            (boot_image.busybox(CACHE), "/usr/bin/busybox"),
        ]
        build_rootfs.build([*needed, *own, *trees], CACHE, image)
        verdicts = [run_kernel(one, options, nonce, image) for one in series]
        return all(verdicts)


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    options = parse(arguments)
    # Ended from outside, the temporary disk goes all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return 0 if run(options) else 1
    except RuntimeError as error:
        print(f"vm/run.py: FAILED: {error}", file=sys.stderr)
        return 1
    except Unavailable as error:
        if os.environ.get("CERTEXEC_MUST_WORK") == "1":
            print(f"vm/run.py: FAILED, nothing was run: {error}", file=sys.stderr)
            return 1
        print(f"vm/run.py: SKIPPED, nothing was run: {error}", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
