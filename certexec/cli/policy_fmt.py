"""``certexec policy fmt``: write policies in canonical form, or say where they are not."""

from __future__ import annotations

import difflib
import os
import stat
import sys

import click

from certexec.cli import output
from certexec.cli.common import printable
from certexec.cli.policy_input import (
    EXIT_FINE,
    EXIT_NOT_A_POLICY,
    read_text,
    show_error,
    shown_name,
)
from certexec.cli.presets import load_presets
from certexec.errors import CertexecError, CliError, unreadable
from certexec.kernel.userdb import SystemUsers
from certexec.policy.include import expand
from certexec.policy.join import join_lines
from certexec.policy.lexer import PolicySyntaxError
from certexec.policy.reformat import reformat

EXIT_DIFFERENT = 1
KEPT_ATTRIBUTES = ("system.posix_acl_", "user.")
"""What a file's replacement inherits; security labels are the system's to give."""


@click.command(name="fmt", short_help="Print policies in canonical form.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", "checking", is_flag=True, help="Only name the files that would change.")
@click.option("--diff", "differing", is_flag=True, help="Print what would change.")
@click.option("-w", "--write", "writing", is_flag=True, help="Change the files.")
@click.option("--join", "joining", is_flag=True,
              help="Join every line that ends in a backslash with the next one first.")
@click.option("--sort", "sorting", is_flag=True,
              help="Sort rules, as far as their order has no meaning.")
@click.option("--expand", "expanding", is_flag=True,
              help="Write the rules of presets in place of every include.")
def command(
    files: tuple[str, ...], checking: bool, differing: bool, writing: bool, joining: bool,
    sorting: bool, expanding: bool,
) -> int:
    """Print policies in canonical form; comments and meaning stay.

    "-" is standard input. Exit codes: 0 done, or nothing to change, 1 something would change
    (with --check or --diff), 2 a file is no policy or cannot be read; it is left as it is.
    """
    if checking + differing + writing > 1:
        raise CliError("usage", '"--check", "--diff" and "--write" exclude each other')
    if writing and "-" in files:
        raise CliError("usage", "standard input cannot be written")
    code = EXIT_FINE
    for name in files:
        try:
            before, text, after = _format(name, joining, sorting, expanding)
            if writing:
                if before is not None and after != text:
                    _replace(before, after)
            elif differing:
                _print_difference(name, text, after)
            elif checking:
                if after != text:
                    output.done(printable(shown_name(name)))
            else:
                _print(after)
        except CertexecError as error:
            show_error(error)
            code = EXIT_NOT_A_POLICY
            continue
        if (checking or differing) and after != text:
            code = max(code, EXIT_DIFFERENT)
    return code


class Target:
    """A regular file as it was when it was read: what follows must still find it so."""

    __slots__ = ("info", "path")

    def __init__(self, name: str) -> None:
        """Look; links are followed. Raises CliError: "not-found" or "unreadable"."""
        self.path = os.path.realpath(name)
        try:
            self.info = os.stat(self.path)
        except OSError as error:
            raise unreadable(name, error) from None
        if not stat.S_ISREG(self.info.st_mode):
            raise CliError("unreadable", f'"{name}" is not a regular file')

    def unchanged(self) -> bool:
        """Tell whether nobody wrote or replaced it."""
        now = os.stat(self.path)
        return _identity(now) == _identity(self.info)


def _identity(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _format(
    name: str, joining: bool, sorting: bool, expanding: bool
) -> tuple[Target | None, str, str]:
    """Return the file (None: standard input), its text, and the text in canonical form."""
    target = None if name == "-" else Target(name)
    text = read_text(name)
    joined, origins = join_lines(text) if joining else (text, [])
    users, presets = SystemUsers(), load_presets()
    try:
        if expanding:
            joined = expand(joined, name=shown_name(name), users=users, presets=presets)
        after = reformat(
            joined, name=shown_name(name), users=users, sort=sorting, presets=presets
        )
    except PolicySyntaxError as error:
        raise _in_the_file(error, origins) from None
    return target, text, after


def _in_the_file(error: PolicySyntaxError, origins: list[int]) -> PolicySyntaxError:
    """Return an error in joined lines with the number that the line has in the file."""
    if not 1 <= error.line <= len(origins):
        return error
    _, _, message = error.message.partition("): ")
    return PolicySyntaxError(
        message, file=error.file, line=origins[error.line - 1], column=error.column,
        source_line=error.source_line, hint=error.hint,
    )


def _print(text: str) -> None:
    """Print the text's very bytes; on a terminal nothing that steers it."""
    click.echo(printable(text, lines=True) if sys.stdout.isatty() else _bytes(text), nl=False)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _print_difference(name: str, before: str, after: str) -> None:
    shown = shown_name(name)
    for line in difflib.unified_diff(_lines(before), _lines(after), shown, shown):
        _print(line)


def _lines(text: str) -> list[str]:
    """Return the lines with their newlines; a policy ends in one."""
    return [line + "\n" for line in text.split("\n")[:-1]]


def _replace(target: Target, text: str) -> None:
    """Put the new text in the file's place, whole or not at all; mode, owner and ACL stay.

    Raises CliError("unreadable") when it cannot, or when somebody changed the file meanwhile.
    """
    directory, name = os.path.split(target.path)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(_bytes(text))
                file.flush()
                _keep_attributes(target, fd)
                os.fsync(fd)
            if not target.unchanged():
                raise CliError(
                    "unreadable", f'"{target.path}" was changed meanwhile', "run it again"
                )
            os.rename(temporary, target.path)
        except BaseException:
            os.unlink(temporary)
            raise
        above = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(above)
        finally:
            os.close(above)
    except OSError as error:
        raise CliError("unreadable", f'cannot write "{target.path}": {error.strerror}') from None


def _keep_attributes(target: Target, fd: int) -> None:
    """Give the new file the old one's owner, mode, ACL and user attributes."""
    if (target.info.st_uid, target.info.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, target.info.st_uid, target.info.st_gid)
    try:
        attributes = os.listxattr(target.path)
    except OSError:
        attributes = []  # a file system without any
    for attribute in attributes:
        if attribute.startswith(KEPT_ATTRIBUTES):
            os.setxattr(fd, attribute, os.getxattr(target.path, attribute))
    os.fchmod(fd, stat.S_IMODE(target.info.st_mode))
