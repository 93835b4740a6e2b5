"""``certexec key``: look at keys, print public halves, change a passphrase."""

from __future__ import annotations

import os
import stat

import click

from certexec.cli import output
from certexec.cli.common import (
    KEY_MODE,
    PUBLIC_MODE,
    Passphrases,
    check_output,
    check_writable,
    printable,
    write_file,
)
from certexec.cli.signing_keys import load_key, the_agent
from certexec.errors import CertexecError, CliError, TrustError, unreadable
from certexec.trust.agent import ssh_blob, ssh_fingerprint
from certexec.trust.key_files import read_public, wrong_private
from certexec.trust.keys import PublicKey
from certexec.trust.private_keys import from_pem, is_encrypted, read_key_file

SCHEMA = 1


@click.group(name="key")
def command() -> None:
    """Look at keys, print public halves, change a passphrase."""


def _as_json(public: PublicKey | None) -> dict[str, object]:
    """Describe a public key, or one that is not known."""
    if public is None:
        return dict.fromkeys(("type", "algorithm", "fingerprint", "ssh_fingerprint", "comment"))
    blob = ssh_blob(public)
    return {
        "type": public.kind,
        "algorithm": public.algorithm,
        "fingerprint": public.fingerprint,
        "ssh_fingerprint": None if blob is None else ssh_fingerprint(blob),
        "comment": public.comment,
    }


def _line(name: str, public: PublicKey) -> str:
    comment = f" {printable(public.comment)}" if public.comment else ""
    return f"{printable(name)}: {public.kind} {public.fingerprint}{comment}"


@command.command(name="show")
@click.argument("files", nargs=-1, required=True, metavar="PUB...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(files: tuple[str, ...], as_json: bool) -> None:
    """Show kind, fingerprint and comment of public keys."""
    keys = [(path, read_public(path)) for path in files]
    if as_json:
        rows = [{"file": path, **_as_json(public)} for path, public in keys]
        output.print_json({"schema": SCHEMA, "keys": rows})
        return
    for path, public in keys:
        click.echo(_line(path, public))


@command.command(name="public")
@click.option("-k", "--key", "reference", required=True, metavar="KEY",
              help="The private key, a file or agent:SHA256:...")
@click.option("-o", "--out", metavar="FILE", help="Write it to FILE instead of showing it.")
@click.option("-C", "--comment", help="What to call the key (default: what the agent calls it).")
@click.option("-f", "--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--passphrase-fd", type=int, metavar="N", help="Read the passphrase from N.")
def public(
    reference: str, out: str | None, comment: str | None, force: bool, passphrase_fd: int | None
) -> None:
    """Print the public half of a key, as "certexec trust add" takes it."""
    if out is not None:
        check_output(out, force)
    key = load_key(reference, Passphrases(passphrase_fd)).public
    if comment is not None:
        key = PublicKey(key.kind, key.raw, comment)
    if out is None:
        click.echo(key.line())
        return
    write_file(out, (key.line() + "\n").encode(), PUBLIC_MODE, force=force)
    output.done(_line(out, key))


# -- the keys that there are -----------------------------------------------------------------------


class Found:
    """A key file in a directory, as far as it can be known without a passphrase."""

    def __init__(self, path: str) -> None:
        """Look at a file; raises CertexecError when it is no private key."""
        pem, status = read_key_file(path)
        problem = wrong_private(path, pem)
        if problem is not None:
            raise problem
        self.path = path
        self.encrypted = is_encrypted(pem)
        self.private = not status.st_mode & 0o077
        self.public: PublicKey | None = None
        try:
            self.public = read_public(path.removesuffix(".key") + ".pub")
        except TrustError:
            pass  # the public half need not be there
        if not self.encrypted:
            known = from_pem(pem, None, path).public
            if self.public is None or self.public.kid != known.kid:
                self.public = known

    def line(self) -> str:
        """Describe it on one line."""
        if self.public is None:
            text = f"{printable(self.path)}: unknown without its passphrase"
        else:
            text = _line(self.path, self.public)
        notes = [] if self.encrypted else ["not encrypted"]
        notes += [] if self.private else ["others can read it"]
        return text + (f" ({', '.join(notes)})" if notes else "")


def _list_directory(directory: str, as_json: bool) -> None:
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".key"))
    except OSError as error:
        raise unreadable(directory, error) from None
    found: list[Found] = []
    for name in names:
        path = name if directory == "." else os.path.join(directory, name)
        try:
            found.append(Found(path))
        except CertexecError as error:
            output.info(printable(error.message))
    if as_json:
        rows = [
            {"file": one.path, "encrypted": one.encrypted, "private": one.private,
             **_as_json(one.public)}
            for one in found
        ]  # fmt: skip
        output.print_json({"schema": SCHEMA, "keys": rows})
        return
    for one in found:
        click.echo(one.line())
    if not found:
        output.info(f'there is no private key in "{printable(directory)}"')


def _list_agent(as_json: bool) -> None:
    usable, others = the_agent().keys()
    if as_json:
        rows = [{"reference": f"agent:{one.public.fingerprint}", **_as_json(one.public)}
                for one in usable]  # fmt: skip
        rest = [{"ssh_fingerprint": one, "problem": why} for one, why in others.items()]
        output.print_json({"schema": SCHEMA, "keys": rows, "others": rest})
        return
    for one in usable:
        comment = f" {printable(one.public.comment)}" if one.public.comment else ""
        click.echo(f"agent:{one.public.fingerprint}: {one.public.kind}{comment}")
        click.echo(f"    ssh-keygen calls it {one.ssh_fingerprint}")
    for fingerprint, why in others.items():
        output.info(f"{fingerprint} cannot be used: {printable(why)}")
    if not usable:
        output.info("the agent holds no key that can sign certificates")


@command.command(name="list")
@click.argument("directory", default=".", metavar="[DIR]")
@click.option("--agent", is_flag=True, help="List the keys that the ssh-agent holds instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_keys(context: click.Context, directory: str, agent: bool, as_json: bool) -> None:
    """List the private keys in DIR (default: here)."""
    given = context.get_parameter_source("directory") is not click.core.ParameterSource.DEFAULT
    if agent and given:
        raise CliError("usage", '"--agent" and a directory exclude each other')
    if agent:
        _list_agent(as_json)
    else:
        _list_directory(directory, as_json)


# -- the passphrase --------------------------------------------------------------------------------


@command.command(name="passwd")
@click.argument("key", metavar="KEY")
@click.option("--no-passphrase", is_flag=True,
              help="Do not encrypt KEY: whoever reads the file can sign.")
@click.option("--passphrase-fd", type=int, metavar="N",
              help="Read the old passphrase, then the new one, from descriptor N.")
def passwd(key: str, no_passphrase: bool, passphrase_fd: int | None) -> None:
    """Change the passphrase of the private key in the file KEY.

    The file is replaced in one step by one with mode 0600, or stays as it is.
    """
    # 1. the file, through a link: not the link is to be replaced
    if key.startswith(("agent:", "pkcs11:")):
        raise CliError("usage", f'"{key}" is not a file', "what holds the key has the passphrase")
    path = os.path.realpath(key.removeprefix("file:"))
    pem, status = read_key_file(path)
    if not stat.S_ISREG(status.st_mode):
        raise CliError("unreadable", f'"{key}" is not a regular file')
    problem = wrong_private(key, pem)
    if problem is not None:
        raise problem
    check_writable(path)
    # 2. the passphrases
    passphrases = Passphrases(passphrase_fd)
    old = passphrases.ask(f'"{key}"') if is_encrypted(pem) else None
    private = from_pem(pem, old, key)
    new = None if no_passphrase else passphrases.ask_new(f'"{key}"', "new passphrase")
    # 3. the new file is proved to hold the key before it takes the place of the old one
    content = private.to_pem(new)
    if from_pem(content, new, key).public.raw != private.public.raw:
        raise TrustError("internal", "the new file would not hold the key")
    _check_unchanged(path, key, status)
    write_file(path, content, KEY_MODE, force=True, owner=(status.st_uid, status.st_gid))
    if status.st_nlink > 1:
        output.warn(f'"{key}" has other names, under which the old passphrase still opens it')
    output.done(f"{key}: {'not encrypted any more' if new is None else 'passphrase changed'}")


def _check_unchanged(path: str, shown: str, before: os.stat_result) -> None:
    """Refuse to replace what another process put there while somebody typed."""
    try:
        now = os.stat(path, follow_symlinks=False)
    except OSError as error:
        raise unreadable(shown, error) from None
    if (now.st_ino, now.st_dev, now.st_mtime_ns) != (
        before.st_ino, before.st_dev, before.st_mtime_ns,
    ):  # fmt: skip
        raise CliError("exists", f'"{shown}" was changed meanwhile', "nothing was done; try again")
