"""``certexec binfmt``: the kernel's handler for certificates, by hand."""

from __future__ import annotations

import os

import click

from certexec.cli import output
from certexec.cli.as_root import need_root
from certexec.errors import CliError
from certexec.kernel import binfmt
from certexec.run import deploy, handler
from certexec.run.layout import SYSTEM

SCHEMA = 1
ACTIVE = 0
INACTIVE = 1
UNKNOWN = 2


@click.group("binfmt")
def command() -> None:
    """Register the kernel's handler for certificates by hand.

    "certexec setup" does it already, now and at every boot. These verbs concern the running kernel
    only.
    """


@command.command("register", short_help="Register the installed launcher.")
def register() -> None:
    """Register the installed launcher, again where it is registered already."""
    need_root("certexec binfmt register")
    if not os.path.isfile(SYSTEM.launcher):
        raise CliError(
            "not-found", f'"{SYSTEM.launcher}" is missing', 'install it with "certexec setup"'
        )
    report = deploy.Report()
    lock = deploy.Lock(SYSTEM)
    try:
        handler.activate(SYSTEM, report, again=True)
    finally:
        lock.release()
    _tell(report)


@command.command("unregister", short_help="Remove the handler from this kernel.")
def unregister() -> None:
    """Remove the handler from the running kernel; it comes back at boot or with register."""
    need_root("certexec binfmt unregister")
    report = deploy.Report()
    handler.deactivate(report)
    _tell(report)
    if not report.changes:
        output.info("no handler was registered")


def _tell(report: deploy.Report) -> None:
    for change in report.changes:
        output.info(change)
    for note in report.notes:
        output.warn(note)


def _status() -> tuple[int, dict[str, object]]:
    """Return the exit code and every field that ``status --json`` shows."""
    found: dict[str, object] = {"schema": SCHEMA, "state": "inactive", "problems": []}
    if not binfmt.mounted():
        supported = binfmt.supported()
        found["problems"] = [
            "binfmt_misc is not mounted" if supported else "this kernel has no binfmt_misc loaded"
        ]
        return INACTIVE, found
    entry = binfmt.read_entry()
    if entry is None:
        found["problems"] = ["no handler is registered"]
        return INACTIVE, found
    problems = entry.problems(SYSTEM.launcher)
    if not binfmt.switched_on():
        problems.append("binfmt_misc is switched off as a whole")
    fresh = handler.is_fresh(SYSTEM)
    if fresh is False:
        problems.append("it starts another launcher than the installed one")
    found.update(
        state="inactive" if problems else "active" if fresh else "unknown",
        name=entry.name,
        enabled=entry.enabled,
        interpreter=entry.interpreter,
        flags=entry.flags,
        magic=entry.magic.hex(),
        fresh=fresh,
        problems=problems,
        conflicts=[
            {"name": other.name, "interpreter": other.interpreter} for other in binfmt.conflicts()
        ],
        boot_entry=handler.boot_entry(SYSTEM) or None,
    )
    return {"active": ACTIVE, "inactive": INACTIVE}.get(str(found["state"]), UNKNOWN), found


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Say whether the kernel starts certexec for certificates.

    Exit codes: 0 active, 1 not, 2 could not tell.
    """
    code, found = _status()
    if as_json:
        output.print_json(found)
    elif not output.settings.quiet:
        click.echo(found["state"])
        for name in ("interpreter", "flags", "magic", "boot_entry"):
            if found.get(name):
                click.echo(f"  {name.replace('_', ' '):12} {found[name]}")
        for problem in _strings(found["problems"]):
            click.echo(f"  {'problem':12} {problem}")
        for other in _conflicts(found):
            click.echo(f"  {'conflict':12} {other}")
    if code == INACTIVE and not as_json:
        output.info('hint: "certexec setup" as root registers the handler')
    context.exit(code)


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _conflicts(found: dict[str, object]) -> list[str]:
    rows = found.get("conflicts")
    if not isinstance(rows, list):
        return []
    return [f'handler "{row["name"]}" ("{row["interpreter"]}") may come first' for row in rows]
