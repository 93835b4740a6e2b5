"""Job control on a real terminal: what is typed reaches the program, the shell stays in charge."""

from __future__ import annotations

import os

import pytest

from tests.execution.people import GRANT, MODES, WATCHED, Programs
from tests.execution.world import World

every_way = pytest.mark.parametrize("mode", MODES)
supervised = pytest.mark.parametrize("mode", [WATCHED, GRANT])


TERMINAL = r"""
import os, pty, re, select, sys, time
argv = sys.argv[1:]
child, master = pty.fork()
if child == 0:
    os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"],
              {"PS1": "prompt> ", "PATH": os.environ["PATH"], "LC_ALL": "C", "TERM": "dumb"})
seen = ""
def expect(pattern):
    global seen
    deadline = time.monotonic() + 30
    while not re.search(pattern, seen):
        ready = select.select([master], [], [], max(0, deadline - time.monotonic()))[0]
        if not ready:
            sys.exit(f"no {pattern!r} in {seen!r}")
        seen += os.read(master, 4096).decode()
    seen = seen[re.search(pattern, seen).end():]
def type(text):
    os.write(master, text.encode())
expect("prompt> ")
"""


@every_way
def test_control_c_ends_the_program_and_not_the_shell(programs: Programs, mode: str) -> None:
    steps = (
        TERMINAL
        + r"""
# many short sleeps: Python overlooks, until its end, what comes just before it begins to sleep
code = "import time; print(1+1, flush=True); [time.sleep(.1) for _ in range(600)]"
type(f"{argv[0]} -I -S -c '{code}'\n")
expect("2\r\n")
type("\x03")
expect("KeyboardInterrupt")
expect("prompt> ")
type("echo status=$?\n")
expect("status=130\r\n")
type("exit\n")
os.waitpid(child, 0)
"""
    )
    programs.bare(steps, programs.path(mode))


@every_way
def test_control_z_stops_it_and_fg_lets_it_go_on(programs: Programs, mode: str) -> None:
    """Stopped while it computes, reads the terminal, and waits in a supervised call."""
    steps = (
        TERMINAL
        + r"""
type(argv[0] + " -I -S -c 'import time; print(1+1, flush=True); t = time.monotonic();"
     " exec(\"while time.monotonic() < t + 1: pass\"); print(input() + \"!\")'\n")
expect("2\r\n")
type("\x1a")
expect("Stopped")
expect("prompt> ")
type("jobs -l\n")
expect(r"\d+ Stopped")
type("fg\n")
time.sleep(1.2)
type("\x1a")
expect("Stopped")
expect("prompt> ")
type("bg\n")
expect("prompt> ")
while "tty input" not in seen:  # it reads the terminal in the background and is stopped for it
    time.sleep(0.1)
    type("jobs -l\n")
    expect("jobs -l")
    while "prompt> " not in seen:
        seen += os.read(master, 4096).decode()
expect("prompt> ")
type("fg\n")
expect("input")
time.sleep(0.5)
type("hello\n")
expect("hello!\r\n")
expect("prompt> ")
type("echo status=$?\n")
expect("status=0\r\n")
type("exit\n")
os.waitpid(child, 0)
"""
    )
    programs.bare(steps, programs.path(mode))


@supervised
def test_control_z_and_control_c_reach_it_while_a_call_blocks(
    programs: Programs, mode: str, world: World
) -> None:
    fifo = world.path(f"fifo-{mode}")
    os.mkfifo(fifo)
    os.chmod(fifo, 0o666)
    steps = (
        TERMINAL
        + r"""
type(argv[0] + " -I -S -c 'print(1+1, flush=True); print(open(\"" + argv[1] + "\").read())'\n")
expect("2\r\n")
time.sleep(0.2)
type("\x1a")
expect("Stopped")
expect("prompt> ")
type("fg\n")
time.sleep(0.2)
with open(argv[1], "w") as other:
    other.write("through the pipe")
expect("through the pipe\r\n")
expect("prompt> ")
type(argv[0] + " -I -S -c 'print(1+1, flush=True); print(open(\"" + argv[1] + "\").read())'\n")
expect("2\r\n")
time.sleep(0.2)
type("\x03")
expect("KeyboardInterrupt")
expect("prompt> ")
type("exit\n")
os.waitpid(child, 0)
"""
    )
    programs.bare(steps, programs.path(mode), fifo)


@every_way
def test_dev_tty_is_the_programs_own_terminal(programs: Programs, mode: str) -> None:
    """Whoever owns the terminal: a set-user-ID program can ask there for a password, too."""
    steps = (
        TERMINAL
        + r"""
type(argv[0] + " -I -S -c 'import os; open(\"/dev/tty\", \"w\").write(\"to the \" + \"tty\\n\");"
     "print(os.ttyname(0), os.open(\"/dev/tty\", os.O_RDWR))' >/dev/null\n")
expect("to the tty\r\n")
type("exit\n")
os.waitpid(child, 0)
"""
    )
    programs.bare(steps, programs.path(mode))


@every_way
def test_nobody_types_for_the_shell_behind_the_program(programs: Programs, mode: str) -> None:
    """TIOCSTI and TIOCLINUX (pasting) are refused; without certexec the kernel has another word."""
    code = (
        "import errno, fcntl\n"
        "for command in (0x5412, 0x541C, 0x5413):\n"
        "    try:\n"
        "        fcntl.ioctl(0, command, bytes(64))\n"
        "        print(1+1)\n"
        "    except OSError as error:\n"
        "        print(errno.errorcode[error.errno])\n"
    )
    typed = f"exec(bytes.fromhex(\\\"{code.encode().hex()}\\\"))"
    steps = (
        TERMINAL
        + f"""
type(argv[0] + " -I -S -c '{typed}'; echo done\\n")
"""
        + r"""
expect("EPERM\r\nEPERM\r\n2\r\ndone\r\n")
type("exit\n")
os.waitpid(child, 0)
"""
    )
    programs.bare(steps, programs.path(mode))
