"""What is attacked: programs, a script, a policy, a certificate, each with its evil twin.

Good and evil have the same size and the same code; they differ in the words that a run prints, on
the first and on the last page.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from tests.attack.places import UnusableError, give_to

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))
GOOD, EVIL = b"GOOD", b"EVIL"
ROLES = ("BINARY", "INTERPRETER", "POLICY")
SPIN = {"BINARY": 400_000, "INTERPRETER": 1_000_000, "POLICY": 0}
"""Turns of an empty loop before a program reads its words: some tenths of a millisecond."""
SCRIPT_EARLY, SCRIPT_LATE, SCRIPT_SIZE = 512, 60_000, 60_100
RULES = ("native-write: permit", "native-pread64: permit", "native-exit_group: permit")
EVIL_RULE = "native-getppid: permit"
NOBODY = 65534
WARNINGS = ("-Wall", "-Wextra", "-Werror")


class Victim:
    """One thing that certificates run, and the files whose change must not be felt.

    Attributes:
        certificate: what is run; program: the path that it names; expected: what a good run prints.
        targets: (path, file with good bytes, file with evil bytes) of each file under attack.
    """

    def __init__(
        self,
        certificate: str,
        program: str,
        targets: Sequence[tuple[str, str, str]],
        words: int = 2,
    ) -> None:
        self.certificate = certificate
        self.program = program
        self.targets = list(targets)
        self.expected = GOOD * words + b"\n"


class Workshop:
    """Compiles, signs and lays out; everything below ``base``."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.tools = os.path.join(base, "tools")
        self.trust = os.path.join(base, "trust")
        for directory in (self.tools, self.trust):
            os.mkdir(directory, 0o755)
        self.attacker = self._compile("attacker", "-O2", "-pthread")
        self.starter = self._compile("starter", "-O2")
        for role in ROLES:
            self._compile_victim(role)
        for name in ("ops", "stranger"):
            self.certexec("keygen", "--no-passphrase", "-f", self.tool(name))
        self.certexec("trust", "add", "--trust", self.trust, self.tool("ops.pub"))

    def tool(self, name: str) -> str:
        """Return the path of a file that is no victim."""
        return os.path.join(self.tools, name)

    def certexec(self, *argv: str) -> str:
        """Run a verb of this source tree; fails loudly."""
        done = subprocess.run(
            [sys.executable, "-m", "certexec.cli.main", *argv],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": PROJECT},
        )  # fmt: skip
        if done.returncode != 0:
            raise SystemExit(f"certexec {' '.join(argv)}: {done.stderr}")
        return done.stdout

    def _compile(self, name: str, *options: str, source: str = "") -> str:
        output = self.tool(name)
        text = os.path.join(HERE, f"{source or name}.c")
        command = ["gcc", *WARNINGS, "-o", output, text, *options]
        if shutil.which(command[0]) is None:
            raise UnusableError(f"there is no {command[0]}")
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {done.stderr}")
        return output

    def _compile_victim(self, role: str) -> None:
        options = [
            "-Os", "-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector",
            "-Wl,--build-id=none", f"-DROLE={role}", f"-DSPIN={SPIN[role]}L",
        ]  # fmt: skip
        path = self._compile(f"{role}.good", *options, source="victims")
        self._write_twin(path)

    def _write_twin(self, path: str) -> None:
        """Write the evil twin of a file beside it; sets the right words, nothing else."""
        with open(path, "rb") as file:
            data = file.read()
        at = data.find(GOOD)
        assert at >= 0, path
        evil = data[:at] + EVIL + data[at + len(GOOD) :]
        at = data.rfind(GOOD)
        self._write(path.replace(".good", ".evil"), evil[:at] + EVIL + evil[at + len(GOOD) :])

    def _write(self, path: str, data: bytes, mode: int = 0o755) -> str:
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, mode)
        return path

    def _policy(self, directory: str, *rules: str) -> str:
        lines = ["Policy: */victim, Emulation: native", *(f"\t{rule}" for rule in rules)]
        text = "\n".join(lines) + "\n"
        return self._write(os.path.join(directory, "policy"), text.encode(), 0o644)

    def _sign(self, out: str, program: str, *options: str, key: str = "ops") -> str:
        fixed = ("--allow-everyone", "--serial", "7", "--name", "victim")
        self.certexec("sign", "-k", self.tool(key + ".key"), *fixed, *options, "-o", out, program)
        return out

    def _room(self, place: str, name: str) -> tuple[str, str]:
        """Make a directory for the victim and one for what belongs to it but is not attacked."""
        room, store = os.path.join(place, name), os.path.join(self.base, "store", name)
        for directory in (room, store):
            os.makedirs(directory, 0o755)
        return room, store

    def binary(self, place: str, name: str, integrity: str, owner: int = 0) -> Victim:
        """A program that is attacked itself; ``owner`` may write it."""
        room, store = self._room(place, name)
        program = os.path.join(room, "victim")
        good, evil = self.tool("BINARY.good"), self.tool("BINARY.evil")
        shutil.copy(good, program)
        os.chmod(program, 0o755)
        if owner:
            give_to(program, owner)
        certificate = self._sign(
            os.path.join(store, "cert"), program,
            "-p", self._policy(store, *RULES), "--integrity", integrity,
        )  # fmt: skip
        return Victim(certificate, program, [(program, good, evil)])

    def script(self, place: str, name: str, attacked: Sequence[str]) -> Victim:
        """A script and a copy of its interpreter; ``attacked``: which of the two."""
        room, store = self._room(place, name)
        interpreter, program = (os.path.join(room, one) for one in ("interpreter", "victim"))
        good, evil = self.tool("INTERPRETER.good"), self.tool("INTERPRETER.evil")
        shutil.copy(good, interpreter)
        os.chmod(interpreter, 0o755)
        text = bytearray(f"#!{interpreter}\n".encode().ljust(SCRIPT_SIZE, b"#"))
        for at in (SCRIPT_EARLY, SCRIPT_LATE):
            text[at : at + len(GOOD)] = GOOD
        script = self._write(os.path.join(store, "script.good"), bytes(text))
        self._write_twin(script)
        shutil.copy(script, program)
        certificate = self._sign(
            os.path.join(store, "cert"), program, "-p", self._policy(store, *RULES)
        )
        targets = {
            "interpreter": (interpreter, good, evil),
            "script": (program, script, script.replace(".good", ".evil")),
        }
        return Victim(certificate, program, [targets[one] for one in attacked], words=4)

    def policy(self, place: str, name: str) -> Victim:
        """A policy that the certificate refers to by path; the program sees which one holds."""
        room, store = self._room(place, name)
        program = os.path.join(store, "victim")
        shutil.copy(self.tool("POLICY.good"), program)
        good, evil = (os.path.join(store, one) for one in ("policy.good", "policy.evil"))
        os.rename(self._policy(store, *RULES, "# " + "-" * (len(EVIL_RULE) - 2)), good)
        os.rename(self._policy(store, *RULES, EVIL_RULE), evil)
        attacked = os.path.join(room, "policy")
        shutil.copy(good, attacked)
        certificate = self._sign(
            os.path.join(store, "cert"), program, "--policy-path", attacked
        )
        return Victim(certificate, program, [(attacked, good, evil)])

    def certificate(self, place: str, name: str) -> Victim:
        """A certificate whose evil twin, signed by a stranger, names an evil program."""
        room, store = self._room(place, name)
        policy = self._policy(store, *RULES)
        twins = []
        for word, key in (("good", "ops"), ("evil", "stranger")):
            directory = os.path.join(store, word)
            os.mkdir(directory, 0o755)
            program = os.path.join(directory, "victim")
            shutil.copy(self.tool(f"BINARY.{word}"), program)
            twins.append(self._sign(f"{directory}.cert", program, "-p", policy, key=key))
        attacked = os.path.join(room, "cert")
        shutil.copy2(twins[0], attacked)
        return Victim(
            attacked, os.path.join(store, "good", "victim"), [(attacked, twins[0], twins[1])]
        )
