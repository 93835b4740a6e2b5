"""Where certexec lives once it is set up: the fixed paths of the run path.

``/usr/libexec/certexec/launch`` is what the kernel's handler names; it must not change its name.
Everything else that a run loads stands in one directory per version, and ``current`` says which
one counts, so that a new version appears in one step and running certificates keep theirs.
"""

from __future__ import annotations

LIBEXEC = "/usr/libexec/certexec"
CONFIG = "/etc/certexec"
STATE = "/run/certexec"
"""What does not survive a boot, root's."""
ENTRY_DIRECTORIES = ("/usr/lib/binfmt.d", "/etc/binfmt.d")
"""Where systemd-binfmt finds the handler's entry, in order of preference (binfmt.d(5))."""
ENTRY_FILE = "certexec.conf"
UNITS = "/etc/systemd/system"
"""Where systemd's units stand that an administrator installs (systemd.unit(5))."""
BOOTED = "/run/systemd/system"
"""Is there where systemd runs (sd_booted(3))."""


class Layout:
    """The paths below one installation; tests use other places than ``SYSTEM``.

    Attributes:
        libexec: the directory of launcher and versions; config: that of the trust store; state:
            that of cached plans, which the launcher was compiled with.
        entry_directories: where the handler's entry may stand, in order of preference.
        units: where systemd's units stand; booted: a directory that is there where systemd runs.
    """

    __slots__ = ("booted", "config", "entry_directories", "libexec", "state", "units")

    def __init__(
        self,
        libexec: str = LIBEXEC,
        config: str = CONFIG,
        entry_directories: tuple[str, ...] = ENTRY_DIRECTORIES,
        state: str = STATE,
        units: str = UNITS,
        booted: str = BOOTED,
    ) -> None:
        self.libexec = libexec
        self.config = config
        self.state = state
        self.entry_directories = entry_directories
        self.units = units
        self.booted = booted

    @property
    def launcher(self) -> str:
        """The program that the kernel starts for a certificate."""
        return f"{self.libexec}/launch"

    @property
    def versions(self) -> str:
        """The directory that holds one directory per version."""
        return f"{self.libexec}/versions"

    @property
    def current(self) -> str:
        """The symbolic link to the version that counts."""
        return f"{self.libexec}/current"

    @property
    def record(self) -> str:
        """The file in which set-up notes what it made beside its own directory."""
        return f"{self.libexec}/created"

    @property
    def trust_store(self) -> str:
        """The directory of trusted keys."""
        return f"{self.config}/trust.d"

    @property
    def policies(self) -> str:
        """The directory of policies for programs without a certificate."""
        return f"{self.config}/policies.d"

    @property
    def plans(self) -> str:
        """The directory of cached plans."""
        return f"{self.state}/plans"

    def version(self, identifier: str) -> str:
        """Return the directory of one version."""
        return f"{self.versions}/{identifier}"


SYSTEM = Layout()
"""The one installation of this machine."""
