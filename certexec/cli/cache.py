"""``certexec cache``: the plans that are kept, so that a certificate starts without a server."""

from __future__ import annotations

import os

import click

from certexec.cli import output
from certexec.cli.common import printable, show_time
from certexec.errors import CertexecError, CliError
from certexec.run import cacheable, plan_cache
from certexec.run.cache_entry import ANYBODY, FOR_CAPABLE, Entry
from certexec.run.layout import SYSTEM

DAMAGED = "damaged, of another version, or not root's"


@click.group(name="cache")
def command() -> None:
    r"""Look at the plans that are kept, or drop them.

    What a certificate means here is decided once and kept in /run/certexec, until anything changes
    that the decision was built on. Then, and for whatever is not kept, it is decided anew: the
    cache makes starts faster, and changes nothing else.

    \b
    Example:
        certexec cache verify
        certexec cache warm /usr/local/bin/*
    """


def _for_whom(entry: Entry) -> str:
    if entry.uid != ANYBODY:
        return f"uid {entry.uid}"
    return "invokers with capabilities" if entry.flags & FOR_CAPABLE else "ordinary invokers"


def _as_json(name: str, entry: Entry | None) -> dict[str, object]:
    if entry is None:
        return {"name": name, "counts": False}
    return {
        "name": name,
        "counts": True,
        "certificate": entry.certificate,
        "program": entry.program,
        "uid": None if entry.uid == ANYBODY else entry.uid,
        "capable": bool(entry.flags & FOR_CAPABLE),
        "not_before": entry.not_before,
        "not_after": entry.not_after,
        "depends_on": [os.fsdecode(one.path) for one in entry.objects],
    }


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(as_json: bool) -> None:
    """List the plans that are kept: certificate, program, for whom and until when at most."""
    found = list(plan_cache.entries())
    if as_json:
        output.print_json(
            {"schema": 1, "directory": SYSTEM.plans,
             "plans": [_as_json(name, entry) for name, entry in found]}
        )  # fmt: skip
        return
    for name, entry in found:
        if entry is None:
            click.echo(f"{name}: {DAMAGED}")
            continue
        click.echo(
            f"{printable(entry.certificate)}: {printable(entry.program)}, for {_for_whom(entry)}, "
            f"until {show_time(entry.not_after)}"
        )
    if not found:
        output.info(f'no plan is kept in "{SYSTEM.plans}"')


@command.command(name="verify")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify(context: click.Context, as_json: bool) -> None:
    """Say which plans would be used now, and why not the others.

    Ends with 1 when there is one that would not. That harms nothing: it is decided anew.
    """
    lines = []
    for name, entry in plan_cache.entries():
        why = DAMAGED if entry is None else plan_cache.verify(name, entry)
        shown = name if entry is None else printable(entry.certificate)
        lines.append({**_as_json(name, entry), "fresh": not why, "why": why})
        if not as_json:
            whom = "" if entry is None else f" ({_for_whom(entry)})"
            click.echo(f"{shown}{whom}: {'fresh' if not why else printable(why)}")
    if as_json:
        output.print_json({"schema": 1, "directory": SYSTEM.plans, "plans": lines})
    context.exit(0 if all(line["fresh"] for line in lines) else 1)


@command.command(name="flush")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def flush(as_json: bool) -> None:
    """Drop all plans: the next start of each certificate is decided anew. Needs root."""
    _need_root("flush")
    gone = plan_cache.flush()
    if as_json:
        output.print_json({"schema": 1, "directory": SYSTEM.plans, "dropped": gone})
        return
    output.done(f"{gone} plan{'' if gone == 1 else 's'} dropped")


@command.command(name="warm")
@click.argument("certificates", nargs=-1, required=True, type=click.Path(readable=False))
@click.pass_context
def warm(context: click.Context, certificates: tuple[str, ...]) -> None:
    """Decide what CERTIFICATES mean, and keep it. Needs root; "certexec install" does it, too.

    A certificate that grants an identity is kept for each user when that user has run it.
    """
    _need_root("warm")
    failed = 0
    for path in certificates:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise CliError("unreadable", f'cannot open "{path}": {error.strerror}') from None
        try:
            cacheable.warm(fd, os.path.realpath(path))
            output.done(f"{printable(path)}: kept")
        except cacheable.Unfit as unfit:
            output.warn(f"{printable(path)}: not kept: {unfit}")
            failed += 1
        except CertexecError as error:
            output.warn(f"{printable(path)}: {error.message} ({error.reason})")
            failed += 1
        finally:
            os.close(fd)
    context.exit(1 if failed else 0)


def _need_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise CliError("not-root", "only root changes the plans that are kept",
                       f'run "certexec cache {verb}" as root')  # fmt: skip
