"""``certexec sign``: write a signed certificate for a program."""

from __future__ import annotations

import os
import shlex
import sys
import time
from typing import Any

import click

from certexec.certificate.conditions import Environment, Invocation, Limits
from certexec.certificate.fields import label
from certexec.certificate.fields import path as checked_path
from certexec.certificate.identity import Identity, numbers
from certexec.certificate.model import (
    ASK,
    DENY,
    ENFORCED_EMULATIONS,
    INTEGRITY,
    LOG,
    UNMATCHED,
    Certificate,
    Claims,
    PolicyRef,
)
from certexec.certificate.sign import sign_certificate
from certexec.certificate.verify import verify_certificate
from certexec.cli import output, sign_options
from certexec.cli.common import (
    CERTIFICATE_MODE,
    check_output,
    find_group,
    find_user,
    parse_length,
    parse_time,
    read_certificate,
    show_date,
    show_time,
    write_file,
)
from certexec.cli.measure import measure_program
from certexec.cli.policy_gate import NO_EXEC, check_policy, decode, read_policy_file, write_out
from certexec.cli.render import certificate_text
from certexec.cli.signing_keys import AnyKey, load_keys
from certexec.cli.spec import NO_CWD, spec_words
from certexec.errors import CertificateError, CliError
from certexec.kernel.digest import sha256
from certexec.policy.names import FOREIGN_EMULATION
from certexec.reasons import HINTS
from certexec.run.environment import is_dangerous
from certexec.trust.constraints import Constraints
from certexec.trust.store import TrustedKey

DEFAULT_LIFETIME = "1y"
"""Long enough to be forgotten by people, short enough that it ends: nothing is valid forever."""
TOLD_BY_TIME = 7 * 86400
"""seconds; a certificate that lives shorter is said to end at a time, not only on a day."""
SUFFIX = ".cert"


class SignCommand(click.Command):
    """``sign``, whose list of who may run the certificate keeps its order, and with its spec."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments with the list's options rewritten, those of a spec before them."""
        words = sign_options.ordered(args)
        if not ctx.resilient_parsing:
            typed, _, seen = self.make_parser(ctx).parse_args(list(words))
            if "spec" in typed and self.get_help_option(ctx) not in seen:
                options = {name.replace("_", "-") for name in typed}
                words = [*sign_options.ordered(spec_words(typed["spec"], options)), *words]
        return super().parse_args(ctx, words)

    def invoke(self, ctx: click.Context) -> Any:
        """Sign; a value that no certificate can hold is not a damaged certificate."""
        try:
            return super().invoke(ctx)
        except CertificateError as error:
            if error.hint == HINTS["malformed"]:
                error.hint = "no certificate can hold that, see certexec.cert(5)"
            raise


# 1. what the flags say, read before any file is ------------------------------------------------


def _template_for(binary: str) -> str:
    """Return the command that writes a first policy for a program as it was typed."""
    path = binary if "/" in binary else f"./{binary}"
    return f"certexec policy template {shlex.quote(path)}"


def _check_flags(flags: dict[str, Any], binary: str) -> None:
    """Refuse every combination that cannot work, in one place."""
    if flags["valid_for"] and flags["not_after"]:
        raise CliError("usage", '"--valid-for" and "--not-after" exclude each other')
    if flags["policy"] and flags["policy_path"]:
        raise CliError(
            "usage", '"-p" and "--policy-path" exclude each other',
            '"-p" puts the policy into the certificate, "--policy-path" refers to it',
        )  # fmt: skip
    if not flags["policy"] and not flags["policy_path"]:
        raise CliError(
            "usage", "a certificate needs a policy",
            f'give one with "-p FILE"; "{_template_for(binary)} > FILE" writes a first one',
        )  # fmt: skip
    if flags["fixed_args"] is not None and (flags["args"] or flags["no_args"]):
        raise CliError("usage", '"--fixed-args" already says all about the arguments')
    if flags["args"] and flags["no_args"]:
        raise CliError("usage", '"--args" and "--no-args" exclude each other')
    if flags["add_group"] and flags["no_groups"]:
        raise CliError("usage", '"--add-group" and "--no-groups" exclude each other')
    if flags["cap"] and flags["no_caps"]:
        raise CliError("usage", '"--cap" and "--no-caps" exclude each other')
    if flags["out"] == "-" and sys.stdout.isatty():
        raise CliError("usage", "a certificate is not text, it would spoil the terminal")


def _identity(flags: dict[str, Any]) -> Identity | None:
    identity = Identity(
        None if flags["setuid"] is None else find_user(flags["setuid"]),
        None if flags["setgid"] is None else find_group(flags["setgid"]),
        [find_group(one) for one in flags["add_group"]] or ([] if flags["no_groups"] else None),
        [sign_options.parse_capability(one) for one in dict.fromkeys(flags["cap"])]
        or ([] if flags["no_caps"] else None),
        [sign_options.parse_elevation(one) for one in dict.fromkeys(flags["elevate"])] or None,
    )
    return identity if identity.names_anything() else None


def _invocation(flags: dict[str, Any], grant: bool) -> Invocation:
    entries = [sign_options.parse_entry(text) for text in flags["entry"]]
    if not any(allow for allow, *_ in entries):
        if grant:
            raise CliError(
                "usage",
                "a certificate that grants an identity must say who may run it",
                'name them with "--allow-user" and "--allow-group", or say "--allow-everyone"',
            )
        entries.append((True, "everyone", "", 0))
    fixed = flags["fixed_args"]
    return Invocation(
        entries,
        flags["require_tty"],
        None if fixed is None else sign_options.parse_arguments(fixed),
        list(flags["args"]) or ([] if flags["no_args"] else None),
        [one for text in flags["time_window"] for one in sign_options.parse_window(text)],
    )


def _limits(flags: dict[str, Any]) -> Limits:
    return Limits(
        dict(sign_options.parse_rlimit(text) for text in flags["rlimit"]),
        flags["nice"],
        None if flags["umask"] is None else sign_options.parse_umask(flags["umask"]),
        flags["oom"],
    )


def _environment(flags: dict[str, Any], grant: bool) -> Environment | None:
    if not flags["env"] and not flags["set_env"]:
        return None
    assigned = dict(sign_options.parse_assignment(text) for text in flags["set_env"])
    for name in (*flags["env"], *assigned):
        if grant and is_dangerous(os.fsencode(name)):
            raise CliError(
                "usage", f'the variable "{name}" can take over a program that runs with a grant'
            )
    return Environment(list(dict.fromkeys(flags["env"])), assigned)


def _claims(flags: dict[str, Any], issuer: str, name: str) -> Claims:
    now = int(time.time())
    begin = now if flags["not_before"] is None else parse_time(flags["not_before"], now)
    if flags["not_after"] is not None:
        end = parse_time(flags["not_after"], now)
    else:
        end = begin + parse_length(flags["valid_for"] or DEFAULT_LIFETIME)
    if end <= begin:
        raise CliError("usage", "the certificate would end before it begins")
    return Claims(issuer, name, now, begin, end, os.urandom(Claims.CTI_SIZE))


def _name(given: str | None, path: str) -> str:
    """Return the certificate's own name: the given one, else that of the file."""
    if given:
        return label(given, "certificate name")
    try:
        return label(os.path.basename(path).removesuffix(SUFFIX), "certificate name")
    except CertificateError:
        raise CliError(
            "usage", f'a certificate cannot have the name of the file "{path}"',
            'give it one of its own with "--name NAME"',
        ) from None


def _end(claims: Claims) -> str:
    """Write when a certificate ends; of one that lives for hours the day says too little."""
    short = claims.exp - claims.nbf < TOLD_BY_TIME
    return show_time(claims.exp) if short else show_date(claims.exp)


# 2. what is read from files ---------------------------------------------------------------------


def _policy_text(given: str, binary: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if given == "-" else read_policy_file(given)
    except CliError as error:
        if error.reason == "not-found":
            error.hint = f'"{_template_for(binary)} > {shlex.quote(given)}" writes a first one'
        raise


def _policy(
    flags: dict[str, Any], program: str, binary: str, identity: Identity | None
) -> PolicyRef:
    given: str = flags["policy"] or flags["policy_path"]
    data = _policy_text(given, binary)
    name = "standard input" if given == "-" else given
    text = decode(data, name)
    check_policy(
        text, name, program, log=flags["log"], grant=identity is not None,
        inherit=flags["inherit"], foreign=FOREIGN_EMULATION in flags["emulation"],
        elevations=[numbers(one) for one in (identity and identity.elevations) or ()],
        asks_unmatched=flags["unmatched"] == ASK,
    )  # fmt: skip
    whole = write_out(text, name)
    if whole != text:
        if not flags["policy"]:
            raise CliError(
                "policy-unsupported",
                f'the policy "{name}" includes presets, which its digest would not cover',
                'write them out with "certexec policy fmt --expand", or use "--policy"',
            )
        text, data = whole, whole.encode()
    beside = None if flags["policy"] else checked_path(os.path.realpath(given), "policy path")
    return PolicyRef(
        text if beside is None else None,
        beside,
        sha256(data),
        unmatched=flags["unmatched"],
        inherit=flags["inherit"],
        log_all=flags["log_all"],
        emulations=list(dict.fromkeys(("native", *flags["emulation"]))),
    )


# 3. and the result --------------------------------------------------------------------------------


def _prove(data: bytes, certificate: Certificate, keys: list[AnyKey]) -> None:
    """Verify our own output as if every signer were trusted with everything."""
    anything = Constraints(grants=["user:root"])
    trusted = {one.public.kid: TrustedKey(one.public, anything, "signer") for one in keys}
    verified = verify_certificate(data, trusted, certificate.claims.nbf)
    if verified.certificate != certificate or len(verified.signers) != len(keys):
        raise CertificateError("internal", "the certificate that was written does not verify")


def _refuse_cwd(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise CliError("usage", NO_CWD)


@click.command(name="sign", cls=SignCommand)
@click.argument("binary", required=False)
@click.option("--spec", metavar="FILE",
              help="Take options from this TOML file; those that are typed win, or add to it.")
@click.option("--spec-binary", hidden=True)
@click.option("--cwd", hidden=True, expose_value=False, is_eager=True, callback=_refuse_cwd)
@click.option("-k", "--key", "keys", multiple=True, metavar="KEY",
              help="The private key, a file or agent:SHA256:...; several keys make several "
                   "signatures.")
@click.option("-p", "--policy", metavar="FILE", help="The policy; it becomes part of the file.")
@click.option("--policy-path", metavar="FILE",
              help="The policy, referred to by path and digest instead.")
@click.option("-o", "--out", metavar="FILE", help="What to write (default: BINARY's name.cert).")
@click.option("--name", metavar="NAME", help="The certificate's own name (default: from FILE).")
@click.option("-f", "--force", is_flag=True, help="Replace the file if it exists.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be signed, write nothing.")
@click.option("--setuid", metavar="USER", help="The effective user id that the program gets.")
@click.option("--setgid", metavar="GROUP", help="The effective group id that the program gets.")
@click.option("--add-group", multiple=True, metavar="GROUP",
              help="Its supplementary groups: exactly these.")
@click.option("--no-groups", is_flag=True, help="No supplementary groups at all.")
@click.option("--cap", multiple=True, metavar="NAME", help="Its capabilities: exactly these.")
@click.option("--no-caps", is_flag=True, help="No capabilities at all, even for root.")
@click.option("--elevate", multiple=True, metavar="USER[:GROUP]|:GROUP",
              help='Whom its rules may name behind "as", for single calls. It executes nothing '
                   "then.")
@click.option("--allow-user", multiple=True, metavar="USER", help="Who may run it ...")
@click.option("--allow-group", multiple=True, metavar="GROUP", help="... the first of these")
@click.option("--deny-user", multiple=True, metavar="USER", help="... that fits decides,")
@click.option("--deny-group", multiple=True, metavar="GROUP", help="... in the order given.")
@click.option("--allow-everyone", is_flag=True, help="Everyone may (the default without a grant).")
@click.option("--entry", multiple=True, hidden=True)
@click.option("--require-tty", "--allow-tty", is_flag=True, help="Only from a terminal.")
@click.option("--args", multiple=True, metavar="GLOB", help="Each argument must match one.")
@click.option("--no-args", is_flag=True, help="No arguments are allowed.")
@click.option("--fixed-args", metavar="ARGS", help="It always gets these arguments, whoever calls.")
@click.option("--time-window", multiple=True, metavar="WHEN",
              help='Only then: "mon-fri 08:00-18:00" (UTC).')
@click.option("--rlimit", multiple=True, metavar="NAME=SOFT[:HARD]", help="A resource limit.")
@click.option("--nice", type=click.IntRange(-20, 19), help="Its nice value.")
@click.option("--umask", metavar="OCTAL", help="Its umask.")
@click.option("--oom", type=click.IntRange(-1000, 1000), help="Its out-of-memory score adjustment.")
@click.option("--env", multiple=True, metavar="NAME", help="Pass on only these variables.")
@click.option("--set-env", multiple=True, metavar="NAME=VALUE", help="Set a variable.")
@click.option("--valid-for", metavar="TIME", help="How long, like 90d (default: 1y).")
@click.option("--not-before", metavar="TIME", help="The first moment (default: now).")
@click.option("--not-after", metavar="TIME", help="The last moment.")
@click.option("--serial", type=click.IntRange(0), help="Serial number (default: the time).")
@click.option("--integrity", type=click.Choice(INTEGRITY), default="auto",
              help="How the program is kept unchanged (default auto).")
@click.option("--log", type=click.Choice(LOG), default="audit", help="What is logged.")
@click.option("--log-all", is_flag=True, help="Log permitted calls too.")
@click.option("--unmatched", type=click.Choice(UNMATCHED), default=DENY,
              help="What happens to calls that no rule matches (default deny); ask: an agent "
                   "decides.")
@click.option("--inherit/--no-inherit", default=True,
              help="Whether programs that it executes stay under the policy (default yes).")
@click.option("--emulation", multiple=True, type=click.Choice(ENFORCED_EMULATIONS),
              help='"linux" admits system calls of the 32-bit ABI, under the policy\'s part for '
                   "that emulation.")
@click.option("-C", "--note", default="", help="A comment, signed with the rest.")
@click.option("--passphrase-fd", type=int, metavar="N",
              help="Read passphrases from descriptor N, one a line.")
def command(binary: str | None, **flags: Any) -> None:
    """Write a signed certificate for the program BINARY.

    The certificate holds the program's path and digests, the policy that confines it, who may run
    it, and the identity that it may take. It is a program itself: put it into $PATH.
    """
    # 1. the flags
    binary = binary or flags["spec_binary"]
    if not binary:
        raise CliError(
            "usage", "no program is named",
            'give its path as the last argument, or as "binary" in a spec',
        )  # fmt: skip
    if not flags["keys"]:
        raise CliError(
            "usage", "no key is named",
            'give one with "-k KEY", or as "key" in a spec; "certexec keygen -f NAME" makes one',
        )  # fmt: skip
    _check_flags(flags, binary)
    identity = _identity(flags)
    invocation = _invocation(flags, identity is not None)
    limits = _limits(flags)
    environment = _environment(flags, identity is not None)
    out: str = flags["out"] or os.path.basename(binary) + SUFFIX
    if out != "-" and not flags["dry_run"]:
        check_output(out, flags["force"])
    name = _name(flags["name"], binary if out == "-" else out)
    # 2. the program, the policy, the keys
    program, files = measure_program(binary, FOREIGN_EMULATION in flags["emulation"])
    policy = _policy(flags, program.path, binary, identity)
    keys = load_keys(flags["keys"], flags["passphrase_fd"])
    # 3. the certificate
    claims = _claims(flags, keys[0].public.fingerprint, name)
    certificate = Certificate(
        claims=claims,
        serial=claims.iat if flags["serial"] is None else flags["serial"],
        program=program,
        policy=policy,
        identity=identity,
        invocation=invocation,
        limits=limits,
        environment=environment,
        files=files,
        integrity=flags["integrity"],
        log=flags["log"],
        note=flags["note"],
    )
    data = sign_certificate(certificate, keys)
    _prove(data, certificate, keys)
    _deliver(data, certificate, out, keys, flags)


def _deliver(
    data: bytes, certificate: Certificate, out: str, keys: list[AnyKey], flags: dict[str, Any]
) -> None:
    """Write the certificate, see that it arrived, and say so."""
    if certificate.identity is not None and certificate.identity.elevations:
        output.info(NO_EXEC)
    if flags["dry_run"]:
        signers = [(one.public.fingerprint, one.public.kind) for one in keys]
        click.echo(certificate_text(certificate, signers))
        output.info(f"nothing was written; the certificate would have {len(data)} bytes")
        return
    if out == "-":
        sys.stdout.buffer.write(data)
        return
    write_file(out, data, CERTIFICATE_MODE, force=flags["force"])
    if read_certificate(out) != data:
        raise CertificateError("internal", f'"{out}" does not hold what was written')
    fingerprints = ", ".join(one.public.fingerprint for one in keys)
    output.done(f"{out}: signed ({fingerprints}, expires {_end(certificate.claims)})")
    if not any(text.startswith("--allow") for text in flags["entry"]):
        output.info("everyone may run it, since nobody was named")
    if certificate.is_grant():
        output.info(f'install it as root: "certexec install {out} /usr/local/bin/NAME"')
