"""Show a certificate: as text for people and as JSON for programs."""

from __future__ import annotations

from certexec.certificate import cose
from certexec.certificate.conditions import ALL_WEEKDAYS, Entry, Window
from certexec.certificate.fields import MAX_UINT
from certexec.certificate.identity import Elevation, Identity, Pair
from certexec.certificate.model import ASK, Certificate
from certexec.certificate.names import RLIMIT_NAMES
from certexec.cli.common import printable, show_time
from certexec.cli.sign_options import WEEKDAYS
from certexec.trust.keys import fingerprint_of

SCHEMA = 1


def signers_of(message: cose.SignMessage) -> list[tuple[str, str]]:
    """Return fingerprint and algorithm of each signature, which proves nothing by itself."""
    found = []
    for one in message.signatures:
        kid, algorithm = one.headers[cose.HEADER_KID], one.headers[cose.HEADER_ALG]
        assert isinstance(kid, bytes) and isinstance(algorithm, int)
        found.append(
            (fingerprint_of(kid), cose.ALGORITHM_NAMES.get(algorithm, f"algorithm {algorithm}"))
        )
    return found


def show_pair(pair: Pair) -> str:
    """Write a user or group with its number."""
    name, number = pair
    return f"{printable(name)} ({number})" if name else f"#{number}"


def _show_pairs(pairs: list[Pair]) -> str:
    return ", ".join(map(show_pair, pairs)) or "none"


def _show_entry(entry: Entry) -> str:
    allow, kind, name, number = entry
    who = kind if kind == "everyone" else f"{kind} {show_pair((name, number))}"
    return f"{'allow' if allow else 'deny'} {who}"


def show_window(window: Window) -> str:
    """Write a time window as ``certexec sign --time-window`` reads it."""
    days, begin, end = window
    names = [name for index, name in enumerate(WEEKDAYS) if days & 1 << index]
    when = "daily" if days == ALL_WEEKDAYS else ",".join(names)
    return f"{when} {begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"


def _show_limit(value: int) -> str:
    return "infinity" if value == MAX_UINT else str(value)


def _identity_lines(identity: Identity | None) -> list[tuple[str, str]]:
    if identity is None:
        return [("identity", "the invoker's own")]
    lines = []
    if identity.user is not None:
        lines.append(("set-user-ID", show_pair(identity.user)))
    if identity.group is not None:
        lines.append(("set-group-ID", show_pair(identity.group)))
    if identity.groups is not None:
        lines.append(("groups", _show_pairs(identity.groups)))
    if identity.capabilities is not None:
        names = ", ".join(name for name, _ in identity.capabilities)
        lines.append(("capabilities", names or "none"))
    lines += [
        ("single calls as" if not index else "", _show_elevation(one))
        for index, one in enumerate(identity.elevations or [])
    ]
    return lines


def _show_elevation(elevation: Elevation) -> str:
    user, group = (None if one is None else show_pair(one) for one in elevation)
    return ", ".join([*([f"user {user}"] if user else []), *([f"group {group}"] if group else [])])


def _invocation_lines(certificate: Certificate) -> list[tuple[str, str]]:
    invocation = certificate.invocation
    entries = [_show_entry(entry) for entry in invocation.entries] or ["nobody"]
    lines = [("may be run by" if not index else "", text) for index, text in enumerate(entries)]
    if invocation.tty:
        lines.append(("terminal", "required"))
    if invocation.argv is not None:
        shown = " ".join(f'"{printable(one)}"' for one in invocation.argv)
        lines.append(("arguments", f"fixed: {shown or 'none'}"))
    if invocation.argv_globs is not None:
        shown = " ".join(f'"{printable(one)}"' for one in invocation.argv_globs)
        lines.append(("arguments", f"only {shown}" if shown else "none allowed"))
    lines += [("time window", f"{show_window(window)} UTC") for window in invocation.windows]
    return lines


def _condition_lines(certificate: Certificate) -> list[tuple[str, str]]:
    limits, environment = certificate.limits, certificate.environment
    lines = [
        (f"limit {RLIMIT_NAMES[number]}", f"{_show_limit(soft)} soft, {_show_limit(hard)} hard")
        for number, (soft, hard) in sorted(limits.rlimits.items())
    ]
    if limits.nice is not None:
        lines.append(("nice", str(limits.nice)))
    if limits.umask is not None:
        lines.append(("umask", f"{limits.umask:03o}"))
    if limits.oom is not None:
        lines.append(("oom score", str(limits.oom)))
    if environment is not None:
        passed = ", ".join(map(printable, environment.passed))
        lines.append(("environment", f"only {passed}" if passed else "nothing passed on"))
        lines += [
            ("  sets", f"{printable(name)}={printable(value)}")
            for name, value in environment.set.items()
        ]
    return lines


def certificate_lines(
    certificate: Certificate, signers: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return label and text of every line that a certificate is shown by."""
    claims, program, policy = certificate.claims, certificate.program, certificate.policy
    where = f'"{printable(policy.path)}"' if policy.path is not None else (
        f"{(policy.text or '').count(chr(10))} lines, in the certificate"
    )
    extras = [
        text
        for text, holds in (
            ("not inherited", not policy.inherit),
            ("asks about what no rule matches", policy.unmatched == ASK),
            ("logs every call", policy.log_all),
        )
        if holds
    ]
    return [
        ("certificate", printable(claims.sub)),
        ("serial", str(certificate.serial)),
        *[("signed by" if not index else "", f"{fingerprint} ({algorithm})")
          for index, (fingerprint, algorithm) in enumerate(signers)],
        ("issuer", printable(claims.iss)),
        ("issued", show_time(claims.iat)),
        ("valid from", show_time(claims.nbf)),
        ("valid until", show_time(claims.exp)),
        ("program", f'"{printable(program.path)}" ({program.size} bytes, {program.access})'),
        ("  sha256", program.sha256.hex()),
        *[(one.role, f'"{printable(one.path)}" ({one.size} bytes)') for one in certificate.files],
        ("policy", ", ".join([where, *extras])),
        ("  sha256", policy.sha256.hex()),
        *_identity_lines(certificate.identity),
        *_invocation_lines(certificate),
        *_condition_lines(certificate),
        ("integrity", certificate.integrity),
        ("log", certificate.log),
        *[("note" if not index else "", printable(line))
          for index, line in enumerate(certificate.note.splitlines())],
        *[("extension", printable(name)) for name in certificate.extensions],
    ]  # fmt: skip


def certificate_text(certificate: Certificate, signers: list[tuple[str, str]]) -> str:
    """Return the certificate as text."""
    lines = certificate_lines(certificate, signers)
    width = max(len(label) for label, _ in lines)
    return "\n".join(f"{label:<{width}}  {text}".rstrip() for label, text in lines)


def _pair(pair: Pair | None) -> dict[str, object] | None:
    return None if pair is None else {"name": pair[0] or None, "number": pair[1]}


def _pairs(pairs: list[Pair] | None) -> list[object] | None:
    return None if pairs is None else [_pair(pair) for pair in pairs]


def _limit(value: int) -> int | None:
    return None if value == MAX_UINT else value


def certificate_json(certificate: Certificate, signers: list[tuple[str, str]]) -> dict[str, object]:
    """Return the certificate as JSON; the fields are documented in certexec-inspect(1)."""
    claims, program, policy = certificate.claims, certificate.program, certificate.policy
    identity, invocation, limits = certificate.identity, certificate.invocation, certificate.limits
    environment = certificate.environment
    return {
        "schema": SCHEMA,
        "version": certificate.version,
        "name": claims.sub,
        "serial": certificate.serial,
        "issuer": claims.iss,
        "id": claims.cti.hex(),
        "signatures": [
            {"fingerprint": fingerprint, "algorithm": algorithm}
            for fingerprint, algorithm in signers
        ],
        "issued": show_time(claims.iat),
        "valid_from": show_time(claims.nbf),
        "valid_until": show_time(claims.exp),
        "program": {
            "path": program.path,
            "size": program.size,
            "sha256": program.sha256.hex(),
            "sha512": program.sha512.hex(),
            "access": program.access,
        },
        "policy": {
            "path": policy.path,
            "text": policy.text,
            "sha256": policy.sha256.hex(),
            "language": policy.language,
            "unmatched": policy.unmatched,
            "inherit": policy.inherit,
            "log_all": policy.log_all,
            "emulations": policy.emulations,
        },
        "grant": certificate.is_grant(),
        "identity": None if identity is None else {
            "user": _pair(identity.user),
            "group": _pair(identity.group),
            "groups": _pairs(identity.groups),
            "capabilities": None
            if identity.capabilities is None
            else [name for name, _ in identity.capabilities],
            "elevations": None
            if identity.elevations is None
            else [{"user": _pair(user), "group": _pair(group)}
                  for user, group in identity.elevations],
        },
        "invocation": {
            "entries": [
                {"allow": allow, "kind": kind, "name": name or None,
                 "number": None if kind == "everyone" else number}
                for allow, kind, name, number in invocation.entries
            ],
            "tty": invocation.tty,
            "argv": invocation.argv,
            "argv_globs": invocation.argv_globs,
            "windows": [show_window(window) for window in invocation.windows],
        },
        "limits": {
            "rlimits": {
                RLIMIT_NAMES[number]: {"soft": _limit(soft), "hard": _limit(hard)}
                for number, (soft, hard) in sorted(limits.rlimits.items())
            },
            "nice": limits.nice,
            "umask": limits.umask,
            "oom": limits.oom,
        },
        "environment": None
        if environment is None
        else {"passed": environment.passed, "set": environment.set},
        "files": [
            {"role": one.role, "path": one.path, "size": one.size, "sha256": one.sha256.hex(),
             "sha512": one.sha512.hex()}
            for one in certificate.files
        ],
        "integrity": certificate.integrity,
        "log": certificate.log,
        "note": certificate.note,
        "extensions": sorted(certificate.extensions),
    }  # fmt: skip
