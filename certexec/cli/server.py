"""``certexec server``: keep a policy server ready, or say whether there is one."""

from __future__ import annotations

import os

import click

from certexec.cli import output
from certexec.cli.as_root import need_root
from certexec.errors import CliError, RunError
from certexec.kernel.procfs import in_initial_user_namespace
from certexec.run import deploy, server_state
from certexec.run.layout import SYSTEM
from certexec.run.resident import RESIDENT
from certexec.run.server_socket import SOCKET

SCHEMA = 1
EXIT_NONE = 1


@click.command("server")
@click.option("--status", is_flag=True, help="Only say whether a server runs. Exit code 1: none.")
@click.option("--json", "as_json", is_flag=True, help="With --status: print one JSON object.")
@click.pass_context
def command(context: click.Context, status: bool, as_json: bool) -> None:
    r"""Keep a policy server ready, so that certificates start sooner (root).

    It stays in the foreground until it is told to end (SIGTERM). Programs that run keep their
    supervisors when it ends, is killed or gives way to a new version; and without it every
    certificate runs as well, only later. Where systemd runs, "certexec setup" has it started on
    demand and this is not needed.

    \b
    Example:
      certexec server &
      certexec server --status
    """
    # 1. only tell
    if status:
        _tell(context, as_json)
        return
    if as_json:
        raise CliError("usage", "--json goes with --status only")
    # 2. what would stop it
    need_root("certexec server")
    if not in_initial_user_namespace():
        raise RunError("not-root", "in another user namespace there is no resident server")
    if not deploy.current_version(SYSTEM):
        raise RunError("not-found", "certexec is not set up here", 'run "certexec setup"')
    state = server_state.look(SYSTEM)
    if state.listens:
        who = "systemd" if state.activated else f"process {state.pid}"
        raise RunError("internal", f"a server listens already: {who}")
    # 3. from here on the version that certificates are run with, not the one that was called
    output.info(f'certificates are served at "{SOCKET}"')
    python, server = f"{SYSTEM.current}/python", f"{SYSTEM.current}/serve.py"
    try:
        os.execve(python, [python, "-I", "-S", server, RESIDENT], {})
    except OSError as error:
        raise RunError("internal", f'"{python}": {error.strerror}') from None


def _tell(context: click.Context, as_json: bool) -> None:
    state = server_state.look(SYSTEM)
    if as_json:
        output.print_json(
            {
                "schema": SCHEMA, "listens": state.listens, "pid": state.pid or None,
                "version": state.version or None, "current": state.current,
                "activated": state.activated,
            }  # fmt: skip
        )
    elif state.pid:
        fits = "the version that counts" if state.current else "another version"
        output.done(f"process {state.pid} serves, version {state.version} ({fits})")
    elif state.activated:
        output.done("systemd listens and starts the server with the next execution")
    else:
        output.done("no server runs; each execution starts its own")
    context.exit(0 if state.listens else EXIT_NONE)
