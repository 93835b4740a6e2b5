"""The command ``certexec``: finds the verb, loads only that one, and ends with its exit code.

Each verb is one module that exposes ``command``. This module knows the verbs' names and one line
about each, so that ``certexec --help`` imports none of them, and a verb whose module is not part
of this installation is simply not there.

Exit codes: 0 yes, 1 the answer is no, 2 could not tell (usage, input and output). The verbs
``run`` and ``drop`` instead end like the program that they become, or with 125, 126 or 127 as the
run path does.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import click

from certexec import __version__
from certexec.cli import output
from certexec.errors import CertexecError, CliError
from certexec.reasons import EXIT_INTERNAL

EXIT_NO = 1
"""The answer is no: invalid, refused, denied, different."""
EXIT_UNKNOWN = 2
"""Could not tell: usage, input and output, missing rights."""
COULD_NOT_TELL = frozenset({"usage", "unreadable", "not-found", "not-root", "internal"})
"""The reason words that end a verb with ``EXIT_UNKNOWN``."""
BECOME_PROGRAMS = ("run", "drop")
"""The verbs whose exit codes are a program's, or the run path's."""
FILES = ("FILE", "CERT", "PUB", "KEY", "BINARY", "PROG", "DIR")
"""How usage lines call what shells complete as names of files."""
CLOSE_MATCH = 0.6
"""How alike a mistyped verb must be to be suggested (difflib's own default)."""


class Verb(NamedTuple):
    """One verb: where it lives and what ``certexec --help`` says about it."""

    name: str
    module: str
    section: str
    help: str
    alias_of: str = ""

    @property
    def present(self) -> bool:
        """Whether this installation has the verb's module."""
        return importlib.util.find_spec(self.module) is not None


VERBS = (
    Verb("sign", "certexec.cli.sign", "Daily", "Write a signed certificate for a program."),
    Verb("verify", "certexec.cli.verify", "Daily", "Say whether certificates would be accepted."),
    Verb("run", "certexec.cli.run", "Daily", "Run a certificate without any set-up."),
    Verb("drop", "certexec.cli.drop", "Daily", "Run a program that has given up rights for good."),
    Verb("install", "certexec.cli.install", "Daily", "Put a certificate into $PATH."),
    Verb("inspect", "certexec.cli.inspect", "Daily", "Show what a certificate says."),
    Verb("show", "certexec.cli.inspect", "Daily", "The same as inspect.", alias_of="inspect"),
    Verb("setup", "certexec.cli.setup", "Set-up", "Make certificates run by name on this machine."),
    Verb("keygen", "certexec.cli.keygen", "Set-up", "Make a signing key."),
    Verb("key", "certexec.cli.key", "Set-up", "Look at keys, change a passphrase."),
    Verb("trust", "certexec.cli.trust", "Set-up", "Choose the keys whose certificates count."),
    Verb("server", "certexec.cli.server", "Set-up", "Keep a policy server ready, for fast starts."),
    Verb("doctor", "certexec.cli.doctor", "Set-up", "Say what this machine can promise."),
    Verb("cache", "certexec.cli.cache", "Set-up", "Look at the plans that are kept, or drop them."),
    Verb("binfmt", "certexec.cli.binfmt", "Set-up", "Register the kernel's handler by hand."),
    Verb("completion", "certexec.cli.completion", "Set-up", "Print a shell's completion script."),
    Verb("learn", "certexec.cli.learn", "Policy", "Write a policy from what a program does."),
    Verb("policy", "certexec.cli.policy", "Policy", "Check, explain and try policies."),
    Verb("monitor", "certexec.cli.monitor", "Watching", "Show denied calls as they come."),
    Verb("agent", "certexec.cli.agent", "Watching", "Answer what policies leave to you."),
    Verb("log", "certexec.cli.log", "Watching", "Show denied calls of the past; write a report."),
)
SECTIONS = ("Daily", "Set-up", "Policy", "Watching")


def _set_quiet(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        output.settings.quiet = True


def _set_verbose(_ctx: click.Context, _param: click.Parameter, value: int) -> None:
    output.settings.verbose += value


def _set_color(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        output.settings.color = value
        ctx.color = {"auto": None, "always": True, "never": False}[value]


def _refuse_config(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise CliError(
            "usage", "there is no configuration file: what counts is signed, or in the trust store"
        )


def _global_options(*, hidden: bool) -> list[click.Option]:
    """Make the flags that hold for every verb, fresh for one command."""
    return [
        click.Option(
            ["-q", "--quiet"], is_flag=True, expose_value=False, hidden=hidden,
            callback=_set_quiet, help="Say only what went wrong.",
        ),
        click.Option(
            ["-v", "--verbose"], count=True, expose_value=False, hidden=hidden,
            callback=_set_verbose, help="Say more; may be repeated.",
        ),
        click.Option(
            ["--color"], type=click.Choice(output.COLOR_CHOICES), expose_value=False,
            hidden=hidden, callback=_set_color, metavar="WHEN",
            help="auto (the default), always or never.",
        ),
        click.Option(
            ["--config"], expose_value=False, hidden=True, is_eager=True,
            callback=_refuse_config, metavar="FILE",
        ),
    ]


def _is_file(param: click.Parameter) -> bool:
    """Tell whether a value is a file's name, by what the usage line calls it."""
    called = param.metavar or ("" if isinstance(param, click.Option) else param.human_readable_name)
    return param.type is click.STRING and any(word in called.upper() for word in FILES)


def _accept_global_options(command: click.Command) -> None:
    """Let a verb, and every verb below it, take the global flags too (people type them there)."""
    taken = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
    for option in _global_options(hidden=True):
        if not taken.intersection(option.opts):
            command.params.append(option)
    for param in command.params:
        if _is_file(param):
            # the value stays any text, but a shell completes names of files
            param.type = click.Path(readable=False)
    if command.help:
        # docstrings are raw, and click's mark for lines that stay lines is the character
        command.help = command.help.replace("\\b\n", "\b\n")
    if command.context_settings.get("help_option_names") is None:
        command.context_settings["help_option_names"] = ["-h", "--help"]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _accept_global_options(below)


class VerbGroup(click.Group):
    """The top of the command tree: verbs are imported when they are called."""

    invoked: str = ""
    """The verb that this call is about, once it is known."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the command line; a closed pipe kills, as it kills other programs.

        click would make exit code 1 of it, which here means "no".
        """
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError:
            _die_of(signal.SIGPIPE)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the verb; a closed pipe kills."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _die_of(signal.SIGPIPE)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs of this installation, daily ones first."""
        return [verb.name for verb in VERBS if verb.present and not verb.alias_of]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb ``cmd_name`` and return its command; None when there is no such verb."""
        for verb in VERBS:
            if verb.name == cmd_name and verb.present:
                command: click.Command = importlib.import_module(verb.module).command
                _accept_global_options(command)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one was probably meant."""
        name = args[0]
        self.invoked = name
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            import difflib  # every verb would wait for it

            close = difflib.get_close_matches(name, self.list_commands(ctx), 1, CLOSE_MATCH)
            hint = f', did you mean "{close[0]}"?' if close else ""
            ctx.fail(f'no such command "{name}"{hint}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs in their sections."""
        for section in SECTIONS:
            rows = [
                (verb.name, verb.help)
                for verb in VERBS
                if verb.section == section and verb.present and not verb.alias_of
            ]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"certexec {__version__}")
        ctx.exit()


cli = VerbGroup(
    name="certexec",
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[
        *_global_options(hidden=False),
        click.Option(
            ["-V", "--version"], is_flag=True, expose_value=False, is_eager=True,
            callback=_print_version, help="Print the version and stop.",
        ),
    ],
    help="Run signed certificates as programs.\n\n"
    "A certificate here is not X.509: it is a signed file that names a program, its digest, the "
    "policy that confines it, the identity it may take and who may run it.",
    no_args_is_help=True,
)


def exit_code_for(failure: CertexecError, verb: str) -> int:
    """Return the exit code with which ``verb`` ends for this error."""
    if verb in BECOME_PROGRAMS:
        return failure.exit_code
    return EXIT_UNKNOWN if failure.reason in COULD_NOT_TELL else EXIT_NO


def _debugging() -> bool:
    return bool(os.environ.get("CERTEXEC_DEBUG"))


def _die_of(number: int) -> NoReturn:
    """End as if the signal had killed us, so that shells see what happened."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _show_usage_error(failure: click.ClickException) -> None:
    context = getattr(failure, "ctx", None)
    path = context.command_path if context is not None else "certexec"
    message = " ".join(failure.format_message().split()).rstrip(".")
    message = message[:1].lower() + message[1:]
    output.error_with_hint(message, f'try "{path} --help"')


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (``sys.argv`` by default) and return its exit code.

    This is the one place where an error becomes ``certexec: error:`` and ``certexec: hint:``
    lines and an exit code. A traceback is shown only when CERTEXEC_DEBUG is set. A result that
    could not be written ends like other input and output that fails, whatever the answer was.
    """
    output.settings.reset()
    output.start()
    cli.invoked = ""
    try:
        code = _call(argv)
        return code if output.finish() else _could_not_tell()
    except BrokenPipeError:
        _die_of(signal.SIGPIPE)


def _could_not_tell() -> int:
    return EXIT_INTERNAL if cli.invoked in BECOME_PROGRAMS else EXIT_UNKNOWN


def _call(argv: Sequence[str] | None) -> int:
    """Call the verb, show what went wrong, and return the exit code."""
    result: Any = None
    try:
        result = cli.main(
            args=None if argv is None else list(argv), prog_name="certexec", standalone_mode=False
        )
    except click.exceptions.Exit as finished:
        result = finished.exit_code
    except click.exceptions.NoArgsIsHelpError as wanted:
        click.echo(wanted.format_message(), err=True)
        return EXIT_UNKNOWN
    except click.Abort as aborted:
        if isinstance(aborted.__cause__, KeyboardInterrupt):
            _die_of(signal.SIGINT)
        if isinstance(aborted.__context__, KeyboardInterrupt):  # so does click.confirm tell it
            click.echo(err=True)
            _die_of(signal.SIGINT)
        output.error("stopped, nothing was done")
        return EXIT_UNKNOWN
    except click.ClickException as failure:
        if _debugging():
            raise
        _show_usage_error(failure)
        return _could_not_tell()
    except CertexecError as failure:
        if _debugging():
            raise
        output.failure(failure)
        return exit_code_for(failure, cli.invoked)
    except BrokenPipeError:
        raise
    except Exception as failure:
        if isinstance(failure, OSError) and not output.finish():
            return _could_not_tell()
        if _debugging():
            raise
        output.error_with_hint(
            f"internal error: {type(failure).__name__}: {failure}",
            "this is a bug; run it again with CERTEXEC_DEBUG=1 and report what it prints",
        )
        return _could_not_tell()
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
