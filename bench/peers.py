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


NAMESPACES = "as started here it makes namespaces, verifies nothing and judges no call"

PEERS = {
    "env": Peer(("env",), "it only executes: nothing is verified, nothing is confined"),
    "sudo": Peer(
        ("sudo", "-n", "-u", "root"), "it grants an identity by name: no digest, no confinement"
    ),
    "bubblewrap": Peer(("bwrap", "--dev-bind", "/", "/"), NAMESPACES),
    "minijail0": Peer(("minijail0", "-T", "static", "-p", "-v", "-n", "--"), NAMESPACES),
    "nsjail": Peer(("nsjail", "-Mo", "--quiet", "--chroot", "/", "--"), NAMESPACES),
    "firejail": Peer(("firejail", "--quiet", "--noprofile"), NAMESPACES),
    "proot": Peer(
        ("proot", "-r", "/"),
        "it is in C, denies nothing, and leaves the call to the kernel, which reads the name anew; "
        "certexec carries the call out itself, in Python",
    ),
    "strace": Peer(
        ("strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={TRACED}"),
        "it is in C and only looks: the call goes on, with arguments that may have changed since; "
        "certexec carries the call out itself, in Python",
    ),
}  # fmt: skip


def absent() -> dict[str, str]:
    """Name the peers that are not measured: not installed, or not able to start a program here."""
    return {
        name: "does not start a program here" if peer.installed() else "is not installed"
        for name, peer in PEERS.items() if not peer.works()
    }
