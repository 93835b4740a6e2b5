"""``certexec keygen``: make a signing key."""

from __future__ import annotations

import os

import click

from certexec.cli import output
from certexec.cli.common import KEY_MODE, PUBLIC_MODE, Passphrases, check_output, write_file
from certexec.errors import CliError
from certexec.trust.keys import ALGORITHMS, ED25519
from certexec.trust.private_keys import generate


@click.command(name="keygen")
@click.option("-t", "--type", "kind", type=click.Choice(sorted(ALGORITHMS)), default=ED25519,
              help="Kind of key (default ed25519).")
@click.option("-f", "--file", "name", metavar="NAME", required=True,
              help="Write NAME.key and NAME.pub.")
@click.option("-C", "--comment", default="", help="What to call the key; in NAME.pub.")
@click.option("--no-passphrase", is_flag=True,
              help="Do not encrypt NAME.key: whoever reads the file can sign.")
@click.option("--passphrase-fd", type=int, metavar="N",
              help="Read the passphrase from descriptor N instead of the terminal.")
@click.option("--force", is_flag=True, help="Replace NAME.key and NAME.pub.")
def command(
    kind: str, name: str, comment: str, no_passphrase: bool, passphrase_fd: int | None, force: bool
) -> None:
    """Make a signing key.

    Writes the private key to NAME.key, which only you can read and a passphrase protects, and the
    public key to NAME.pub. Prints the key's fingerprint.
    """
    # 1. what cannot work, before anything is asked or written
    if no_passphrase and passphrase_fd is not None:
        raise CliError("usage", '"--no-passphrase" and "--passphrase-fd" exclude each other')
    for suffix in (".key", ".pub"):
        if name.endswith(suffix):
            raise CliError(
                "usage", f'"{suffix}" is added by itself', f'say "-f {name[: -len(suffix)]}"'
            )
    private, public = f"{name}.key", f"{name}.pub"
    if os.path.basename(name) in ("", ".", ".."):
        raise CliError("usage", f'"{name}" is not the name of a file')
    check_output(private, force)
    check_output(public, force)
    # 2. the key
    key = generate(kind, comment)
    passphrase = None
    if not no_passphrase:
        passphrase = Passphrases(passphrase_fd).ask_new(f'"{private}"')
    # 3. private half first: a public key without it would only mislead
    write_file(private, key.to_pem(passphrase), KEY_MODE, force=force)
    write_file(public, (key.public.line() + "\n").encode(), PUBLIC_MODE, force=force)
    output.info(f'wrote "{private}" and "{public}"')
    output.done(key.public.fingerprint)
