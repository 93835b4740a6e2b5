"""``certexec trust``: choose the keys whose certificates count on this machine."""

from __future__ import annotations

import os

import click

from certexec.certificate.names import CAPABILITIES
from certexec.cli import output
from certexec.cli.common import (
    find_group,
    find_user,
    parse_length,
    printable,
    store_directory,
    trust_option,
)
from certexec.errors import CliError, TrustError
from certexec.trust.constraints import ANYWHERE, Constraints, show_duration
from certexec.trust.edit import add_key, find_key, remove_key
from certexec.trust.key_files import read_public
from certexec.trust.store import TrustedKey, load_store


@click.group(name="trust")
def command() -> None:
    """Choose the keys whose certificates count on this machine."""


def _grant(text: str) -> str:
    """Turn USER, :GROUP or cap:NAME into the store's words."""
    if text.startswith("cap:"):
        name = text[4:].lower().removeprefix("cap_")
        if name not in CAPABILITIES:
            raise CliError("usage", f'there is no capability "{name}"', "see capabilities(7)")
        return f"cap:{name}"
    if text.startswith(":"):
        name, number = find_group(text[1:])
        return f"group:{name}#{number}"
    name, number = find_user(text)
    return f"user:{name}#{number}"


@command.command(name="add")
@click.argument("pub")
@click.option("--may-grant", "grants", multiple=True, metavar="WHAT",
              help="An identity that the key may grant: USER, :GROUP or cap:NAME (repeatable).")
@click.option("--path", "paths", multiple=True, metavar="GLOB",
              help="Where the programs must lie that the key signs for (repeatable).")
@click.option("--max-lifetime", metavar="TIME", help="How long a certificate may last, like 90d.")
@click.option("--cosigners", type=click.IntRange(0, 7), default=0, metavar="N",
              help="How many other trusted keys must also sign a grant.")
@click.option("--name", metavar="NAME", help="What to call the key (default: the file's name).")
@trust_option
def add(
    pub: str,
    grants: tuple[str, ...],
    paths: tuple[str, ...],
    max_lifetime: str | None,
    cosigners: int,
    name: str | None,
    trust: str | None,
) -> None:
    """Accept certificates signed with the public key in the file PUB.

    Without --may-grant the key may sign programs, but give them no identity. Adding a key that is
    in the store already replaces what it may sign.
    """
    key = read_public(pub)
    stem = os.path.basename(pub).removesuffix(".pub") if name is None else name
    may_grant = list(dict.fromkeys(_grant(text) for text in grants))
    longest = None if max_lifetime is None else parse_length(max_lifetime)
    try:
        constraints = Constraints(list(paths) or None, may_grant, longest, cosigners)
    except TrustError as error:  # what was typed is wrong, not a file of the store
        raise CliError("usage", error.message, error.hint) from None
    directory, owners = store_directory(trust)
    new = add_key(directory, key, constraints, stem, owner_ok=owners, create=True)
    for line in _limits(constraints):
        output.info(f"{stem}: {line}", detail=True)
    output.done(f"{stem}: {'trusted' if new else 'changed'} ({key.fingerprint})")


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@trust_option
def show(as_json: bool, trust: str | None) -> None:
    """List the trusted keys and what each may sign."""
    directory, owners = store_directory(trust)
    store = load_store(directory, owner_ok=owners)
    if as_json:
        output.print_json(
            {"schema": 1, "directory": directory, "keys": [_as_json(one) for one in store]}
        )
        return
    for trusted in store:
        comment = f" {printable(trusted.key.comment)}" if trusted.key.comment else ""
        click.echo(f"{trusted.name}: {trusted.key.kind} {trusted.key.fingerprint}{comment}")
        for line in _limits(trusted.constraints):
            click.echo(f"    {line}")
    if not store:
        output.info(f'no key is trusted in "{directory}"')


@command.command(name="remove")
@click.argument("key", metavar="FINGERPRINT|NAME")
@trust_option
def remove(key: str, trust: str | None) -> None:
    """Stop accepting certificates signed with a key."""
    directory, owners = store_directory(trust)
    find_key(load_store(directory, owner_ok=owners), key)
    trusted = remove_key(directory, key, owner_ok=owners)
    output.done(f"{trusted.name}: removed ({trusted.key.fingerprint})")


def _limits(constraints: Constraints) -> list[str]:
    """Say in words what a key may sign."""
    lines = []
    paths = ", ".join(f'"{printable(path)}"' for path in constraints.paths)
    if constraints.paths != [ANYWHERE]:
        lines.append(f"signs for programs at {paths}" if paths else "signs for no program at all")
    grants = ", ".join(printable(grant) for grant in constraints.grants)
    lines.append(f"may grant {grants}" if grants else "may grant nothing")
    if constraints.max_lifetime is not None:
        lines.append(f"signs for {show_duration(constraints.max_lifetime)} at most")
    if constraints.cosigners:
        lines.append(f"needs {constraints.cosigners} more signer(s) for a grant")
    return lines


def _as_json(trusted: TrustedKey) -> dict[str, object]:
    return {
        "name": trusted.name,
        "type": trusted.key.kind,
        "fingerprint": trusted.key.fingerprint,
        "comment": trusted.key.comment,
        "paths": trusted.constraints.paths,
        "grants": trusted.constraints.grants,
        "max_lifetime": trusted.constraints.max_lifetime,
        "cosigners": trusted.constraints.cosigners,
    }
