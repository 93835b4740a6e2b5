"""Stock Debian kernels, fetched by apt from the mirror that this machine already uses.

Nothing here names a mirror: `apt-get indextargets` says where the machine's own Debian packages
come from, and the other suites are asked for at the same place. All of apt's state lives in a
temporary directory, so neither the machine's lists nor its installed packages change.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# Which suites carry which kernel series, best first.
SUITES = {
    "6.1": ("bookworm",),
    "6.12": ("trixie", "bookworm-backports"),
}
META_PACKAGE = "linux-image-amd64"
ARCHIVE_NAMES = ("bullseye", "bookworm", "trixie", "forky", "sid")
FETCH_TIMEOUT = 600  # seconds for one apt command: an index is 9 MB, a kernel 100 MB


class PackageError(Exception):
    """A package could not be had; the message says which and why."""


def mirror() -> str:
    """Return the base address of the Debian archive in this machine's own apt configuration."""
    out = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Identifier: Packages"],
        capture_output=True, text=True, timeout=FETCH_TIMEOUT, check=False,
    )
    for line in out.stdout.splitlines():
        release, _, uri = line.partition(" ")
        # The main archive only: security and update suites stand elsewhere or hold no full set.
        if release.split("-")[0] in ARCHIVE_NAMES and not release.endswith("-security"):
            return uri.strip()
    raise PackageError("this machine's apt configuration names no Debian archive")


class Apt:
    """Apt with a state of its own, looking at one suite; use it as a context manager."""

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self._directory = Path()

    def __enter__(self) -> Apt:
        self._directory = Path(tempfile.mkdtemp(prefix="certexec-apt-"))
        # The sandbox user of apt, where there is one, must be able to enter.
        self._directory.chmod(0o755)
        for name in ("state/lists/partial", "cache/archives/partial", "debs"):
            (self._directory / name).mkdir(parents=True)
        (self._directory / "status").write_text("")
        (self._directory / "sources.list").write_text(f"deb {mirror()} {self.suite} main\n")
        self._run("apt-get", "update", "-qq", "--error-on=any")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _run(self, tool: str, *arguments: str) -> str:
        top = self._directory
        options = [
            f"Dir::Etc::SourceList={top}/sources.list", "Dir::Etc::SourceParts=/dev/null",
            f"Dir::State={top}/state", f"Dir::State::Lists={top}/state/lists",
            f"Dir::State::status={top}/status", f"Dir::Cache={top}/cache",
            "APT::Architecture=amd64", "APT::Get::List-Cleanup=0",
        ]
        if os.geteuid() == 0:
            options.append("APT::Sandbox::User=root")
        command = [tool, *(part for option in options for part in ("-o", option)), *arguments]
        try:
            done = subprocess.run(
                command, cwd=top / "debs", capture_output=True, text=True,
                timeout=FETCH_TIMEOUT, check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PackageError(f"{tool} {arguments[0]} for {self.suite}: {error}") from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise PackageError(f"{tool} {arguments[0]} for {self.suite}: {last}")
        return done.stdout

    def field(self, package: str, name: str) -> str:
        """Return one control field of the newest version of `package`, "" when it has none."""
        text = self._run("apt-cache", "show", "--no-all-versions", package)
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
        return ""

    def download(self, package: str, to: Path) -> None:
        """Put the newest version's .deb at `to`."""
        debs = self._directory / "debs"
        self._run("apt-get", "download", "-qq", package)
        found = list(debs.glob("*.deb"))
        if len(found) != 1:
            raise PackageError(f"{package}: apt-get download left {len(found)} files")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(str(found[0]), to)


def _kernel_package(apt: Apt, series: str) -> str:
    """Return the real package behind the metapackage when it belongs to `series`."""
    for term in apt.field(META_PACKAGE, "Depends").split(","):
        name = term.split("(")[0].strip()
        if name.startswith(f"linux-image-{series}."):
            return name
    raise PackageError(f"{META_PACKAGE} of {apt.suite} is not of the {series} series")


def fetch_kernel(series: str, cache: Path) -> Path:
    """Return the cached .deb of the newest stock kernel of `series`, fetching it when absent."""
    kept = sorted(cache.glob(f"linux-image-{series}.*.deb"))
    if kept:
        return kept[-1]
    errors = []
    for suite in SUITES[series]:
        try:
            with Apt(suite) as apt:
                package = _kernel_package(apt, series)
                target = cache / f"{package}.deb"
                apt.download(package, target)
                return target
        except PackageError as error:
            errors.append(str(error))
    raise PackageError("; ".join(errors))


def fetch_busybox(cache: Path) -> Path:
    """Return the cached .deb of busybox-static, fetching it when absent."""
    target = cache / "busybox-static.deb"
    if not target.exists():
        with Apt(SUITES["6.1"][0]) as apt:
            apt.download("busybox-static", target)
    return target
