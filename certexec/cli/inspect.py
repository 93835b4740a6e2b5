"""``certexec inspect`` (alias ``show``): show what a certificate says."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator

import click

from certexec.certificate import codec, cose, envelope
from certexec.certificate.verify import read_message, verify_certificate
from certexec.cli import output
from certexec.cli.common import printable, read_certificate, store_directory, trust_option
from certexec.cli.main import EXIT_NO
from certexec.cli.render import certificate_json, certificate_text, signers_of
from certexec.errors import CertexecError, CertificateError, CliError
from certexec.run.way_here import way_here
from certexec.trust.store import by_kid, load_store


def diagnostic(value: object, depth: int = 0) -> str:
    """Write a decoded value in CBOR diagnostic notation (RFC 8949 section 8)."""
    pad, inner = "  " * depth, "  " * (depth + 1)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, str):
        # a text in diagnostic notation is one in JSON; what could steer a terminal is escaped too
        return "".join(
            one if one.isprintable() else json.dumps(one)[1:-1]
            for one in json.dumps(value, ensure_ascii=False)
        )
    if isinstance(value, codec.Tag):
        return f"{value.number}({diagnostic(value.value, depth)})"
    if isinstance(value, list):
        items = [inner + diagnostic(item, depth + 1) for item in value]
        return "[\n" + ",\n".join(items) + f"\n{pad}]" if items else "[]"
    assert isinstance(value, dict)
    items = [
        f"{inner}{diagnostic(key)}: {diagnostic(item, depth + 1)}" for key, item in value.items()
    ]
    return "{\n" + ",\n".join(items) + f"\n{pad}}}" if items else "{}"


def _opened(protected: bytes) -> object:
    return codec.Tag(24, codec.decode(protected)) if protected else b""


def certificate_diagnostic(data: bytes) -> str:
    """Write the whole certificate in diagnostic notation.

    Byte strings that hold CBOR are shown as what they hold, under tag 24 (RFC 8949 section
    3.4.5.1), which is not in the file. Raises CertificateError("malformed").
    """
    message = envelope.unwrap(data)
    body = [
        _opened(message.protected),
        message.unprotected,
        codec.Tag(24, codec.decode(message.payload)),
        [[_opened(one.protected), one.unprotected, one.signature] for one in message.signatures],
    ]
    tagged = codec.Tag(cose.TAG_SIGN, body)
    return diagnostic(codec.Tag(55799, codec.Tag(0x43584543, [envelope.PREAMBLE, tagged])))


def _verdict(data: bytes, trust: str | None) -> tuple[str, CertexecError | None]:
    directory, owners = store_directory(trust)
    try:
        keys = by_kid(load_store(directory, owner_ok=owners))
        verify_certificate(data, keys, int(time.time()))
    except CertificateError as error:
        return f"not valid ({error.reason})", error
    return "verified", None


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Name the file in what is said about its content."""
    try:
        yield
    except CertificateError as error:
        name = "standard input" if path == "-" else f'"{printable(path)}"'
        raise CertificateError(error.reason, f"{name}: {error.message}", error.hint) from None


def _write_raw(text: bytes, name: str) -> None:
    if sys.stdout.isatty() and not text.isascii():
        raise CliError("usage", f"the {name} is not plain text, it would spoil the terminal")
    sys.stdout.buffer.write(text)


@click.command(name="inspect")
@click.argument("cert")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--policy", is_flag=True, help="Print the policy's text.")
@click.option("--raw", is_flag=True, help="Print the signed payload, as CBOR.")
@click.option("--diag", is_flag=True, help="Print the whole file in CBOR diagnostic notation.")
@click.option("--verify", "verifying", is_flag=True,
              help="Verify the signature, validity and constraints first.")
@trust_option
def command(
    cert: str,
    as_json: bool,
    policy: bool,
    raw: bool,
    diag: bool,
    verifying: bool,
    trust: str | None,
) -> int:
    """Show what the certificate in the file CERT says.

    Without --verify nothing of it is proved: anybody can write a file that says so.
    """
    if as_json + policy + raw + diag > 1:
        raise CliError("usage", '"--json", "--policy", "--raw" and "--diag" exclude each other')
    if trust is not None and not verifying:
        raise CliError("usage", '"--trust" does nothing without "--verify"')
    data = read_certificate(cert)
    with _naming(cert):
        message = envelope.unwrap(data)
    state, objection = _verdict(data, trust) if verifying else ("unverified", None)
    if diag:
        with _naming(cert):
            text = certificate_diagnostic(data)
        click.echo(text)
    elif raw:
        _write_raw(message.payload, "payload")
    else:
        with _naming(cert):
            certificate = read_message(message)
        if policy:
            if certificate.policy.text is None:
                raise CliError(
                    "not-found", f'the policy is in "{certificate.policy.path}", not in the file'
                )
            if sys.stdout.isatty():
                click.echo(printable(certificate.policy.text, lines=True), nl=False)
            else:
                sys.stdout.buffer.write(certificate.policy.text.encode())
        elif as_json:
            shown = certificate_json(certificate, signers_of(message))
            here = way_here(certificate, None if cert == "-" else cert)
            output.print_json(
                {**shown, "verification": state, "integrity_here": here.name or None,
                 "not_cached": here.not_cached or None}
            )  # fmt: skip
        else:
            click.echo(f"{printable(cert)}: {state}")
            click.echo(certificate_text(certificate, signers_of(message)))
            here = way_here(certificate, None if cert == "-" else cert)
            if here.name and certificate.integrity in ("auto", "cached"):
                click.echo(f"on this machine the program is kept unchanged by: {here.name}")
                if here.not_cached:
                    click.echo(f"not cached: {printable(here.not_cached)}")
    if objection is not None:
        output.error_with_hint(objection.message, objection.hint)
        return EXIT_NO
    return 0
