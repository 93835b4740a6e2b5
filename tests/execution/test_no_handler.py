"""On a machine without the handler a certificate says so, in whatever way it is executed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.execution.world import REFUSED, World
from tests.isolation import need

SAYS = 'certexec: no certexec handler is registered for this certificate; run "certexec setup" '
SAYS += 'or "certexec binfmt register"\n'
NOTE = "\necho from the note\nexit 0\n"
SHELLS = ["dash", "bash", "busybox sh"]
SHELLS += [shell for shell in ("zsh", "ksh", "mksh", "yash") if shutil.which(shell)]
"""Those that the issue names, and what else is here."""
SETTLED = "\necho harmless; exit 0; # "


@pytest.fixture(scope="module")
def certificate(world_of_session: World) -> Iterator[str]:
    """A certificate whose signer put shell commands wherever text may stand, and no handler."""
    need("busybox", "find", "nice", "env", "xargs", "timeout")
    world = world_of_session
    path = world.forge(
        "unhandled.cert", "/usr/bin/id", note=NOTE.strip(), invocation__argv=[NOTE, SETTLED]
    )
    world.verb("binfmt", "unregister")
    yield path
    world.verb("binfmt", "register")
    assert world.run(world.sign("handled.cert", "/usr/bin/id"), "-u").returncode == 0


def check(done: subprocess.CompletedProcess[str], code: int = REFUSED) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (code, "", SAYS), done


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_says_it_and_ends_with_126(world: World, certificate: str, shell: str) -> None:
    program, *arguments = shell.split()
    need(program)
    path = shutil.which(program)
    assert path is not None
    check(world.run(path, *arguments, "-c", certificate))
    check(world.run(path, *arguments, "-c", "unhandled.cert"))
    check(world.run(path, *arguments, certificate))


@pytest.mark.parametrize(
    "command",
    [["env"], ["nice"], ["timeout", "9"], ["setsid", "-w"], ["nohup"], ["busybox", "env"]],
)
def test_programs_that_execute_others_pass_it_on(
    world: World, certificate: str, command: list[str]
) -> None:
    path = shutil.which(command[0])
    assert path is not None
    done = world.run(path, *command[1:], certificate)
    done.stderr = done.stderr.removeprefix("nohup: ignoring input\n")
    if command[0] in ("setsid", "timeout") and "Exec format error" in done.stderr:
        pytest.fail(f"{command[0]} does not fall back to the shell")
    check(done)


def test_a_program_that_takes_no_scripts_gets_the_kernels_error(
    world: World, certificate: str
) -> None:
    done = world.run(certificate)  # os.execve, without any shell
    assert "Exec format error" in done.stderr


def test_find_goes_on_with_its_own_exit_status(world: World, certificate: str) -> None:
    """find runs the command, which says it and ends with 126; find's status is about finding."""
    find = shutil.which("find")
    assert find is not None
    check(world.run(find, certificate, "-exec", "{}", ";"), 0)
    done = world.run(find, certificate, "-exec", certificate, "{}", "+")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", SAYS)
    done = world.run(
        find, certificate, "(", "-exec", "{}", ";", "-o", "-printf", "status false", ")"
    )
    assert (done.stdout, done.stderr) == ("status false", SAYS)


def test_xargs_reports_it(world: World, certificate: str) -> None:
    xargs = shutil.which("xargs")
    assert xargs is not None
    done = world.run(xargs, certificate, input="one two\n")
    assert (done.returncode, done.stdout, done.stderr) == (123, "", SAYS)


def test_run_needs_no_handler(world: World, certificate: str) -> None:
    plain = world.sign("no-handler.cert", "/usr/bin/id")
    done = world.attempt("run", plain, "--", "-u", uid=12345)
    assert (done.returncode, done.stdout, done.stderr) == (0, "12345\n", "")
