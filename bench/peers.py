"""Others' tools that certexec is measured beside, and why one of them may be faster."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

SEARCHED = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
"""Where peers are looked for, whatever the caller's $PATH says."""
TRACED = "openat,newfstatat"


@dataclass(frozen=True)
class Peer:
    """A tool that starts a program.

    Attributes:
        words: its command line, the program's follows.
        because: what it leaves out where it is faster than certexec.
    """

    words: tuple[str, ...]
    because: str

    def installed(self) -> bool:
        """Tell whether it is there."""
        return shutil.which(self.words[0], path=SEARCHED) is not None

    def works(self) -> bool:
        """Tell whether it is there and can start a program: a container may not let it."""
        if not self.installed():
            return False
        done = subprocess.run(
            self.start(["/bin/true"]), stdin=subprocess.DEVNULL, capture_output=True,
            env={"PATH": SEARCHED}, check=False,
        )  # fmt: skip
        return done.returncode == 0

    def start(self, program: Sequence[str]) -> list[str]:
        """Return the argument vector that runs ``program`` under it."""
        found = shutil.which(self.words[0], path=SEARCHED) or self.words[0]
        return [found, *self.words[1:], *program]


PEERS = {
    "env": Peer(("env",), "it only executes: nothing is verified, nothing is confined"),
    "sudo": Peer(
        ("sudo", "-n", "-u", "root"), "it grants an identity by name: no digest, no confinement"
    ),
    "bubblewrap": Peer(
        ("bwrap", "--dev-bind", "/", "/"),
        "it builds namespaces once and judges no call: what it shows, it permits",
    ),
    "minijail0": Peer(
        ("minijail0", "-T", "static", "-p", "-v", "-n", "--"),
        "namespaces and constants only: it verifies nothing and judges no name",
    ),
    "nsjail": Peer(
        ("nsjail", "-Mo", "--quiet", "--chroot", "/", "--"),
        "namespaces and constants only: it verifies nothing and judges no name",
    ),
    "firejail": Peer(
        ("firejail", "--quiet", "--noprofile"),
        "namespaces and constants only: it verifies nothing and judges no name",
    ),
    "proot": Peer(
        ("proot", "-r", "/"), "it rewrites names and lets the kernel read them again"
    ),
    "strace": Peer(
        ("strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={TRACED}"),
        "it only looks: the call goes on with arguments that may have changed since",
    ),
}  # fmt: skip


def absent() -> dict[str, str]:
    """Name the peers that are not measured: not installed, or not able to start a program here."""
    return {
        name: "does not start a program here" if peer.installed() else "is not installed"
        for name, peer in PEERS.items() if not peer.works()
    }
