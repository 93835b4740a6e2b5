"""References to private keys, as ``-k`` takes them: a file, or a key that an agent holds."""

from __future__ import annotations

import os

from certexec.cli import output
from certexec.cli.common import Passphrases
from certexec.errors import CliError
from certexec.trust.agent import Agent, AgentKey
from certexec.trust.key_files import wrong_private
from certexec.trust.private_keys import SigningKey, from_pem, is_encrypted, read_key_file

AGENT_VARIABLE = "SSH_AUTH_SOCK"
AnyKey = SigningKey | AgentKey


def the_agent() -> Agent:
    """Return the caller's ssh-agent; raises CliError("not-found") where there is none."""
    path = os.environ.get(AGENT_VARIABLE)
    if not path:
        raise CliError(
            "not-found",
            f"there is no ssh-agent: {AGENT_VARIABLE} is not set",
            'start one: eval "$(ssh-agent)", then "ssh-add KEY"',
        )
    return Agent(path)


def load_key(reference: str, passphrases: Passphrases) -> AnyKey:
    """Return the key that a reference names: PATH, ``file:PATH`` or ``agent:SHA256:...``.

    Raises CliError or TrustError: "usage" for another kind of reference, "not-found",
    "unreadable", "bad-key" or "bad-passphrase".
    """
    scheme, colon, rest = reference.partition(":")
    if colon and scheme == "agent":
        if not rest:
            raise CliError(
                "usage", f'"{reference}" names no key',
                'write agent:SHA256:..., as "certexec key list --agent" shows it',
            )  # fmt: skip
        return the_agent().find(rest)
    if colon and scheme == "pkcs11":
        raise CliError(
            "usage",
            'keys of the kind "pkcs11:" cannot be used directly',
            'an agent can use a token\'s keys: "ssh-add -s MODULE", then "-k agent:SHA256:..."',
        )
    path = rest if colon and scheme == "file" else reference
    pem, status = read_key_file(path)
    problem = wrong_private(path, pem)
    if problem is not None:
        raise problem
    passphrase = passphrases.ask(f'"{path}"') if is_encrypted(pem) else None
    key = from_pem(pem, passphrase, path)
    if status.st_mode & 0o077:
        output.warn(f'others can read the private key "{path}"; "chmod 600 {path}" mends that')
    return key


def load_keys(references: tuple[str, ...], descriptor: int | None) -> list[AnyKey]:
    """Return the keys of several references, no key twice; raises as ``load_key`` does."""
    passphrases = Passphrases(descriptor)
    keys: dict[bytes, AnyKey] = {}
    for reference in references:
        key = load_key(reference, passphrases)
        if key.public.kid in keys:
            raise CliError("usage", f'the key "{reference}" was given twice')
        keys[key.public.kid] = key
    return list(keys.values())
