"""The stage of the attacks: a machine with certexec, two places of which one is forbidden, servers.

Everything is real (tests/execution/world.py): the kernel starts the certificate, the launcher, the
policy server and the supervisor are those of this source tree. For a run with a defence taken out
the policy server's entry is replaced by one that patches its own process first.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.escapes.attack import Attack
from tests.execution.world import ALICE, World, policy
from tests.supervision.conftest import PYTHON, only

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
FLAGS = ("-O1", "-Wall", "-Wextra", "-Werror", "-Wno-format-truncation", "-pthread")
SECRET, PUBLIC = b"secret", b"public"
FILES = (("file", 0, 0o666), ("own", ALICE, 0o600), ("roots", 0, 0o600))
"""What lies in both places: name, owner, mode."""
UFFD_DEVICE, PASSED = 8, 9
"""Descriptors that programs find open: the device of userfaultfd, the forbidden directory."""
GRANTS = ("--set", "--cap", "--add-group", "--elevate")
"""What options of "certexec sign" begin with that grant something."""
TIME_LIMIT = 900
"""seconds for one run of a program; what takes longer hangs."""
SERVER = """\
# Stands in for serve.py while a defence is taken out: patches this process, then is serve.py.
import os, sys
here = os.path.dirname(os.path.realpath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [here + "/lib", here]
import mutations
getattr(mutations, {name!r})()
sys.path.remove(here)
with open(here + "/real.py") as file:
    exec(compile(file.read(), "serve.py", "exec"))
"""


class Stage:
    """One machine and its places.

    Attributes:
        world: the machine.
        good, evil: what is permitted, and what is not; both hold FILES, "prog"
            and a listening "sock". Of equal length.
        ports: (permitted, forbidden) for TCP and UDP.
    """

    def __init__(self) -> None:
        self.world = World()
        self._stack = ExitStack()
        self._stack.callback(self.world.close)
        try:
            self.ground = self.world.directory("ground")
            self.good, self.evil = self.ground / "good", self.ground / "evil"
            self._compiled: dict[str, str] = {}
            self.inside: list[str] = []
            self._signed: dict[tuple[object, ...], str] = {}
            self._programs = [self.program("prog.c", "-static", f"-DCODE={n}") for n in (0, 42)]
            self._servers()
            self.reset()
            self._place_for_agents()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Take everything away."""
        self._stack.close()

    # -- places ---------------------------------------------------------------------------------

    def reset(self) -> None:
        """Lay both places out anew."""
        for place, text, program in (
            (self.good, PUBLIC, self._programs[0]), (self.evil, SECRET, self._programs[1]),
        ):  # fmt: skip
            if place.exists():
                for name in os.listdir(place):
                    one = place / name
                    if name == "sock":
                        continue  # somebody listens there
                    if one.is_dir() and not one.is_symlink():
                        shutil.rmtree(one, ignore_errors=True)
                    else:
                        one.unlink()
            else:
                place.mkdir()
            place.chmod(0o777)
            os.chown(place, ALICE, ALICE)
            for name, owner, mode in FILES:
                (place / name).write_bytes(text)
                os.chown(place / name, owner, owner)
                (place / name).chmod(mode)
            shutil.copy(program, place / "prog")
            (place / "prog").chmod(0o755)
        suid = self.ground / "suid"
        shutil.copy(self._programs[0], suid)
        suid.chmod(0o4755)

    def disturbed(self) -> str:
        """Say what was changed in the forbidden place, "" for nothing."""
        names = sorted(os.listdir(self.evil))
        if names != ["file", "own", "prog", "roots", "sock"]:
            return f"the forbidden directory holds {', '.join(names)}"
        for name, _, _ in FILES:
            if (self.evil / name).read_bytes() != SECRET:
                return f"the forbidden {name} was written to"
        if (self.evil / "own").stat().st_mode & 0o777 != 0o600:
            return "the mode of a forbidden file was changed"
        return ""

    # -- servers --------------------------------------------------------------------------------

    def _listen(self, server: socket.socket) -> None:
        server.listen(4096)
        self._stack.callback(server.close)

        def drain() -> None:
            with suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=drain, daemon=True).start()

    def _answer(self, server: socket.socket, word: bytes) -> None:
        self._stack.callback(server.close)

        def answer() -> None:
            with suppress(OSError):
                while True:
                    _, sender = server.recvfrom(64)
                    server.sendto(word, sender)

        threading.Thread(target=answer, daemon=True).start()

    def _servers(self) -> None:
        self.ports = []
        self.mark = str(os.getpid())
        for place, word in ((self.good, PUBLIC), (self.evil, SECRET)):
            place.mkdir(mode=0o777)
            for address in (str(place / "sock"), f"\0-{place.name}-{self.mark}"):
                server = socket.socket(socket.AF_UNIX)
                server.bind(address)
                self._listen(server)
            os.chmod(place / "sock", 0o777)
            while True:
                stream = socket.socket(socket.AF_INET)
                stream.bind(("127.0.0.1", 0))
                datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                try:
                    datagram.bind(stream.getsockname())
                except OSError:
                    stream.close()
                    datagram.close()
                    continue
                break
            self._listen(stream)
            self._answer(datagram, word)
            self.ports.append(stream.getsockname()[1])

    # -- agents ---------------------------------------------------------------------------------

    def _place_for_agents(self) -> None:
        """Make the directory in which Alice's agent is looked for; it belongs to her session."""
        script = f"mkdir -p -m 755 /run/user && mkdir -m 700 /run/user/{ALICE} && " \
            f"chown {ALICE}:{ALICE} /run/user/{ALICE}"
        done = self.world.machine.run("sh", "-c", script)
        if done.returncode != 0:
            raise SystemExit(done.stderr)

    @contextmanager
    def agent(self, mode: str) -> Iterator[None]:
        """Have an agent of Alice's answer meanwhile, in its way; "": there is none."""
        where = self.world.machine.path(f"/run/user/{ALICE}/certexec")
        shutil.rmtree(where, ignore_errors=True)
        if not mode:
            yield
            return
        command = self.world.machine.command(
            sys.executable, str(PROGRAMS / "agent.py"), str(self.world.package), mode, uid=ALICE
        )
        with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
            try:
                assert started.stdout is not None
                assert started.stdout.readline() == b"ready\n"
                yield
            finally:
                started.kill()

    # -- programs -------------------------------------------------------------------------------

    def program(self, sources: str, *flags: str) -> str:
        """Compile a program of ours; returns its path."""
        key = " ".join((sources, *flags))
        if key not in self._compiled:
            target = self.world.path(f"program{len(self._compiled)}")
            files = [str(PROGRAMS / name) for name in sources.split()]
            done = subprocess.run(
                ["gcc", *FLAGS, "-o", target, *files, *flags], capture_output=True, text=True
            )
            if done.returncode != 0:
                raise SystemExit(done.stderr)
            self._compiled[key] = target
        return self._compiled[key]

    def helper(self, source: str, *flags: str) -> str:
        """Compile what an attack needs besides its own program."""
        return self.program(source, *flags)

    def fill(self, text: str) -> str:
        """Put the stage's own names and numbers into a rule or an argument."""
        for name, value in (
            ("GOOD", self.good), ("EVIL", self.evil), ("GROUND", self.ground), ("MARK", self.mark),
            ("READER", self.helper("reader.c", "-static", "-no-pie")),
            ("CHILDREN", self.helper("children.c", "-static")),
            ("PRELOAD", self.helper("preload.c", "-shared", "-fPIC")),
            ("TAKER", self.helper("taker.c", "-static")),
            ("PACKAGE", self.world.package), ("BIN", self.world.bin),
            *((f"INSIDE{number}", path) for number, path in enumerate(self.inside)),
            ("PORT0", self.ports[0]), ("PORT1", self.ports[1]), ("PYTHON", PYTHON),
        ):  # fmt: skip
            text = text.replace(f"<{name}>", str(value))
        return text

    def rules(self, rules: Sequence[str], opens: bool = True) -> tuple[str, ...]:
        """Return an attack's rules; ``opens``: only what lies in the permitted place is opened."""
        given = tuple(self.fill(rule) for rule in rules)
        named = {rule.partition(":")[0] for rule in given}
        base: tuple[str, ...] = ()
        if opens:
            base = only(str(self.good), f"{self.good}/*")
        return (*given, *(rule for rule in base if rule.partition(":")[0] not in named or
                          rule.startswith(("fsread", "fswrite"))))

    def certificate(
        self, program: str, text: str, options: Sequence[str]
    ) -> str:
        """Return the path of a certificate; with an identity it is installed."""
        key = (program, text, tuple(options))
        if key not in self._signed:
            name = f"attack{len(self._signed)}"
            grants = any(one.startswith(GRANTS) for one in options)
            make = self.world.install if grants else self.world.sign
            self._signed[key] = make(name, program, *options, text=text)
        return self._signed[key]

    def policy(
        self, program: str, rules: Sequence[str], without: Sequence[str], lines: Sequence[str] = ()
    ) -> str:
        """Permit every call but those that the rules govern. ``lines``: beyond systrace's."""
        text = policy(os.path.realpath(program), *rules, without=without)
        if not lines:
            return text
        header, _, rest = text.partition("\n")
        return "\n".join(["Language: certexec 1", header, *lines, rest])

    def sign_inside(self, attack: Attack) -> None:
        """Sign the certificates that the attack's program may execute: <INSIDE0> and so on."""
        self.inside = []
        for program, options, rules in attack.inside:
            path = self.fill(program)
            text = self.policy(path, [self.fill(one) for one in rules], ())
            self.inside.append(self.certificate(path, text, options))

    # -- the defence taken out ------------------------------------------------------------------

    @contextmanager
    def without(self, mutation: str) -> Iterator[None]:
        """Have policy servers that start within lack one defence."""
        versions = Path(self.world.machine.path("/usr/libexec/certexec/versions"))
        (version,) = versions.iterdir()
        entry, real = version / "serve.py", version / "real.py"
        # modules out of a bundle would take the place of those that were patched
        bundle, aside = version / "bundle", version / "aside"
        mode = entry.stat().st_mode & 0o7777
        plans = Path(self.world.machine.path("/run/certexec/plans"))
        shutil.copytree(HERE / "mutations", version / "mutations")
        os.rename(entry, real)
        os.rename(bundle, aside)
        try:
            entry.write_text(SERVER.format(name=mutation))
            entry.chmod(mode)
            _empty(plans)  # or no server is asked
            yield
        finally:
            os.rename(aside, bundle)
            os.rename(real, entry)
            shutil.rmtree(version / "mutations")
            _empty(plans)  # of what it kept


def _empty(plans: Path) -> None:
    for entry in plans.glob("*"):
        entry.unlink(missing_ok=True)
