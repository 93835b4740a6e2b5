"""Learn, enforce, do the same again: nothing is denied. Do something else: it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.world import ALICE, World
from tests.isolation import need, skip_or_fail
from tests.learning.study import BASH, PATH, Study

HERE = Path(__file__).parent
NEEDS = {
    "curl": ("curl", "openssl"), "gcc": ("gcc", "make", "ar"), "git": ("git",),
    "nginx": ("nginx", "wrk"), "python3": ("/usr/bin/python3",), "shell": (),
    "sqlite3": ("sqlite3",),
    "ssh": ("ssh", "sshd", "ssh-keygen"),
}  # fmt: skip
"""What the scripts use beside the essential packages."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    need("nsenter", "setpriv", "mount", "gcc")
    if os.geteuid() != 0:
        skip_or_fail("programs are confined as root, who plays the user")
    world = World()
    yield world
    world.close()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextlib.contextmanager
def server(study: Study, script: str, port: str) -> Iterator[None]:
    """Run the server that a script talks to, unconfined and outside, if it needs one."""
    path = HERE / f"{script}.server.sh"
    if not path.exists():
        yield
        return
    where = study.world.directory(f"{study.name}-server")
    daemon = subprocess.Popen(
        study.world.machine.command(
            BASH, "-c", f"cd {where}\n" + path.read_text(), script, port, str(study.home),
                                    str(ALICE)),
        env={"PATH": PATH, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while not (where / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (where / "ready").exists(), "the server did not start"
        yield
    finally:
        daemon.terminate()
        daemon.wait()


class Elsewhere:
    """Somebody who listens, and to whom nobody should connect."""

    def __init__(self, world: World) -> None:
        self.port = free_port()
        self.heard = world.path(f"heard-{self.port}")
        code = (
            "import socket,sys; s=socket.socket(); s.bind(('127.0.0.1',int(sys.argv[1])));"
            "s.listen(); open(sys.argv[2]+'.up','w').close()\n"
            "while 1: s.accept(); open(sys.argv[2],'w').close()"
        )
        self.process = subprocess.Popen(
            world.machine.command("/usr/bin/python3", "-c", code, self.port, self.heard)
        )
        while not os.path.exists(self.heard + ".up"):
            time.sleep(0.01)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


HOSTILE = """
echo "echo dropped > {home}/ran" > {place}/dropped; chmod +x {place}/dropped
( {place}/dropped )
( read -r secret < {home}/.ssh/id && echo "$secret" )
( echo evil >> {home}/.bashrc )
( exec 3<>/dev/tcp/127.0.0.1/{port} )
echo end
"""
"""Reading a key, writing what a shell will run, connecting elsewhere, executing what was dropped.
All of it is done by the shell itself, whose policy is the learned one."""


def act_hostile(study: Study, certificate: str) -> None:
    """Try what the program did not do while it was learned."""
    home = study.home
    (home / ".ssh").mkdir(exist_ok=True)
    (home / ".ssh" / "id").write_text("a private key\n")
    (home / ".bashrc").write_text("# mine\n")
    subprocess.run(["chown", "-R", f"{study.uid}:{study.uid}", str(home)], check=True)
    elsewhere = Elsewhere(study.world)
    try:
        text = HOSTILE.format(home=home, place=study.place, port=elsewhere.port)
        bare = study.script(BASH, text)
        assert "a private key" in bare.stdout and bare.stdout.endswith("end\n"), bare
        assert (home / "ran").exists() and "evil" in (home / ".bashrc").read_text()
        while not os.path.exists(elsewhere.heard):
            time.sleep(0.01)
        (home / "ran").unlink()
        os.unlink(elsewhere.heard)
        (home / ".bashrc").write_text("# mine\n")
        confined = study.script(certificate, text)
        assert "a private key" not in confined.stdout and confined.stdout.endswith("end\n")
        assert not (home / "ran").exists()
        assert (home / ".bashrc").read_text() == "# mine\n"
        assert not os.path.exists(elsewhere.heard)
    finally:
        elsewhere.close()
    assert study.world.logged() != []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("script", sorted(NEEDS))
def test_what_was_learned_permits_the_same_again_and_nothing_hostile(
    world: World, script: str
) -> None:
    for tool in NEEDS[script]:
        if shutil.which(tool, path=PATH) is None:
            skip_or_fail(f"{tool} is not installed")
    text = (HERE / f"{script}.sh").read_text()
    study, port = Study(world, script), free_port()
    with server(study, script, port):
        learned = study.learn_script(text, port)
        study.empty()
        certificate = study.sign(learned)
        world.logged()
        bare = study.script(BASH, text, port)
        study.empty()
        assert world.logged() == []
        done = study.script(certificate, text, port)
        assert (done.returncode, done.stdout) == (0, bare.stdout), (done.stderr, world.logged())
        assert done.stdout
        assert world.logged() == [], learned
        act_hostile(study, certificate)
