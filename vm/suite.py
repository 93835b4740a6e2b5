"""What `make vm` runs: the demonstration and the identity step on stock Debian kernels.

    python -m vm.suite [--kernel 6.1|6.12|all]

Each kernel boots twice: with Yama's ptrace_scope 0 and 1. Both times the identity step prints
`uname -r` and the ids from /proc/PID/status, and the demonstration plays with every act. Under
ptrace_scope 1 an ordinary user's supervisor is barred: the demonstration shows that this is refused
by name, and lets root type what needs one. The serial logs are kept in vm/cache/logs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
from pathlib import Path

from vm import run

PROJECT = Path(__file__).resolve().parents[1]
SCOPES = ("0", "1")  # of ptrace
STEPS = ("identity.py", "demo.py")
DEPENDENCIES = "cryptography,cbor2,click,python-ptrace"
LAUNCHER = "certexec/libexec/launch"
STEP_TIMEOUT = 600  # seconds; emulated CPUs are ten to thirty times slower


def guest_packages() -> str:
    """Return the directory where this Python, in the guest, looks for distributions.

    Debian's own Python reads /usr/local/lib/python3.N/dist-packages, any other its site-packages;
    -I leaves both in place.
    """
    if sys.base_prefix == "/usr":
        return f"/usr/local/lib/python3.{sys.version_info[1]}/dist-packages"
    base = {"base": sys.base_prefix, "platbase": sys.base_prefix}
    return sysconfig.get_path("platlib", vars=base)


def main(arguments: list[str]) -> int:
    """Run the suite; return the exit status."""
    parser = argparse.ArgumentParser(prog="vm.suite")
    parser.add_argument("--kernel", choices=(*run.SERIES, "all"), default="all")
    options = parser.parse_args(arguments)
    if not (PROJECT / LAUNCHER).exists():
        builder = PROJECT / "binfmt" / "build_hook.py"
        subprocess.run([sys.executable, str(builder), str(PROJECT / LAUNCHER)], check=True)
    common = [
        "--kernel", options.kernel, "--timeout", str(STEP_TIMEOUT), "--tree", f"{PROJECT}:/project",
        "--dist", f"{DEPENDENCIES}:{guest_packages()}",
    ]
    statuses = []
    for yama in SCOPES:
        print(f"# stock kernels, ptrace_scope {yama}", flush=True)
        scripts = [str(PROJECT / "vm" / "steps" / step) for step in STEPS]
        statuses.append(run.main(["--yama", yama, *common, *scripts]))
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
