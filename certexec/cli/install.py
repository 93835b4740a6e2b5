"""``certexec install``: put a certificate into $PATH."""

from __future__ import annotations

import time

import click

from certexec.cli import output
from certexec.errors import KernelError
from certexec.kernel import binfmt
from certexec.run import install as installing
from certexec.run.checkup import SETUP_HINT


def _nobody_starts_it() -> bool:
    """Tell whether the kernel has no handler that a certificate's name would start."""
    try:
        return binfmt.read_entry() is None
    except KernelError:
        return False  # there is one, which cannot be read


@click.command("install")
@click.argument("certificate", type=click.Path(readable=False))
@click.argument("destination", type=click.Path(readable=False))
@click.option("-f", "--force", is_flag=True, help="Replace a file that is not a certificate.")
def command(certificate: str, destination: str, force: bool) -> None:
    """Put a certificate into $PATH, for example as /usr/local/bin/tcpdump.

    The certificate is verified first, with the trust store and against the program it names. Then
    it appears in one step: root:root 4755 where it grants an identity, 0755 otherwise. DESTINATION
    is the new file, or a directory.
    """
    done = installing.install(certificate, destination, int(time.time()), force=force)
    for note in done.notes:
        output.warn(note)
    if _nobody_starts_it():
        output.warn(f"certificates do not run by name on this machine yet: {SETUP_HINT}")
    signers = ", ".join(signer.key.fingerprint for signer in done.verified.signers)
    output.info(f"signed by {signers}", detail=True)
    if done.uncached:
        output.info(f"its plan is not cached: {done.uncached}", detail=True)
    verb = "replaced" if done.replaced else "installed"
    output.done(f"{done.path}: {verb} (mode {done.mode:04o})")
