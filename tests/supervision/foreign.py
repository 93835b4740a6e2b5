"""Programs that use the 32-bit ABI: a 32-bit one, and a 64-bit one that enters by int 0x80.

Both are ``script32.c``, which makes the calls that its arguments say.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from certexec.kernel.syscalls_i386 import NUMBERS_I386
from tests.execution.world import policy
from tests.isolation import skip_or_fail
from tests.supervision.conftest import Cage

HERE = Path(__file__).parent
FREE = (
    "-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector", "-fno-pic", "-no-pie",
    "-fcf-protection=none", "-fomit-frame-pointer", "-Werror", "-Wextra",
)  # fmt: skip
"""Options for a program without a C library, at addresses below 4 GiB."""
KINDS = {"32-bit": ("-m32",), "int80": ()}

Step = Sequence[str | int]


def need_32_bit() -> None:
    """Skip, or fail where all must work, unless 32-bit programs can be built and run here."""
    with tempfile.TemporaryDirectory() as directory:
        source, program = f"{directory}/probe.c", f"{directory}/probe"
        Path(source).write_text(
            'void _start(void) { __asm__ volatile("int $0x80" :: "a"(1), "b"(7)); for (;;); }\n'
        )
        built = subprocess.run(["gcc", "-m32", *FREE, "-o", program, source], capture_output=True)
        if built.returncode:
            skip_or_fail(f"gcc -m32 does not work here: {built.stderr.decode()[:200]}")
        try:
            ended = subprocess.run([program]).returncode
        except OSError as error:
            skip_or_fail(f"this kernel runs no 32-bit programs: {error}")
        if ended != 7:
            skip_or_fail(f"a 32-bit program ended with {ended}")


def build(cage: Cage, kind: str, source: str = "script32.c") -> str:
    """Return the path of the program, built as ``kind`` says."""
    name = f"{source.partition('.')[0]}-{kind}"
    return cage.world.compile(name, (HERE / source).read_text(), *KINDS[kind], *FREE)


def two_parts(
    program: str, native: Sequence[str], linux: Sequence[str], without: Sequence[str] = ()
) -> str:
    """Return a policy with a part for each ABI: every call is permitted that no rule governs."""
    own = policy(program, *native)
    other = policy(program, *linux, without=without)
    other = other.replace("\tnative-", "\tlinux-").replace("native\n", "linux\n", 1)
    return f"Language: certexec 1\n{own}{other}"


class Scripts:
    """Runs scripts of calls, bare and confined, by one kind of program."""

    def __init__(self, cage: Cage, kind: str) -> None:
        self.cage, self.kind = cage, kind
        self.program = build(cage, kind)
        self._signed: dict[tuple[object, ...], str] = {}

    def certificate(
        self, linux: Sequence[str], options: Sequence[str] = (), native: Sequence[str] = (),
        without: Sequence[str] = (),
    ) -> str:  # fmt: skip
        """Return a certificate for the program that admits the 32-bit ABI under these rules."""
        key = (tuple(linux), tuple(options), tuple(native), tuple(without))
        if key not in self._signed:
            name = f"script-{self.kind}-{len(self._signed)}-{os.getpid()}"
            text = two_parts(self.program, native, linux, without)
            grants = any(one.startswith(("--set", "--cap", "--group")) for one in options)
            make = self.cage.world.install if grants else self.cage.world.sign
            self._signed[key] = make(
                name, self.program, "--emulation", "linux", *options, text=text
            )
        return self._signed[key]

    def bare(self, *steps: Step, **more: object) -> list[str]:
        """Make the calls unconfined; returns a line for each."""
        return self._run(self.program, steps, **more)

    def confined(
        self, *steps: Step, rules: Sequence[str], options: Sequence[str] = (),
        native: Sequence[str] = (), without: Sequence[str] = (), **more: object,
    ) -> list[str]:  # fmt: skip
        """Make the calls under a certificate whose part for the 32-bit ABI has these rules."""
        certificate = self.certificate(rules, options, native, without)
        return self._run(certificate, steps, **more)

    def _run(self, program: str, steps: Sequence[Step], **more: object) -> list[str]:
        done = self.cage.world.run(program, *words(steps), **more)
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done.stdout.splitlines()


def words(steps: Sequence[Step]) -> list[str]:
    """Return the arguments for a script; each step is a call's name and its arguments."""
    result: list[str] = []
    for name, *arguments in steps:
        result += ["--", str(NUMBERS_I386[str(name)]), *map(str, arguments)]
    return result[1:]


def results(lines: Sequence[str]) -> list[int]:
    """Return what each call gave, of the lines of a script."""
    return [int(line.split()[1]) for line in lines]


@pytest.fixture(params=list(KINDS))
def scripts(cage: Cage, request: pytest.FixtureRequest) -> Scripts:
    """Return scripts by each kind of program."""
    need_32_bit()
    return Scripts(cage, request.param)
