"""What is judged is what is used, however fast the program exchanges it."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from tests.execution.world import ALICE
from tests.supervision.conftest import Cage, only

COUNT = 600
HERE = Path(__file__).parent
GRANTS = [(), ("--setuid", "root"), ("--setuid", "service")]


def run(cage: Cage, kind: str, rules: tuple[str, ...], options: tuple[str, ...], *arguments: str,
        before: str = "") -> None:  # fmt: skip
    program = cage.world.compile("races", (HERE / "races.c").read_text(), "-pthread")
    certificate = cage.certificate(rules, options, program=program)
    done = cage.world.run(certificate, kind, str(COUNT), *arguments, before=before)
    assert done.returncode == 0, (done.returncode, done.stderr)
    permitted, denied, fooled, _ = map(int, done.stdout.split())
    assert fooled == 0
    assert permitted > 0 and denied > 0, "nothing was exchanged"  # else this shows nothing


@pytest.mark.parametrize("options", GRANTS)
@pytest.mark.parametrize("kind", ["memory", "symlink", "create", "dirfd", "magic", "cwd"])
def test_no_exchange_opens_what_was_not_judged(
    cage: Cage, place: Path, secret: Path, kind: str, options: tuple[str, ...]
) -> None:
    public = place / "public"
    public.mkdir()
    (public / "file").write_text("public")
    for path, mode in ((place, 0o777), (public, 0o777), (secret.parent, 0o777),
                       (public / "file", 0o666), (secret, 0o666)):  # fmt: skip
        os.chmod(path, mode)
        os.chown(path, ALICE, ALICE)
    passed, flags = (secret, os.O_PATH) if kind == "magic" else (secret.parent, os.O_RDONLY)
    run(
        cage, kind, only(f"{public}", f"{public}/*"), options, str(public), str(secret.parent),
        before=f"os.dup2(os.open({str(passed)!r}, {flags}), 9)",
    )  # fmt: skip
    assert secret.read_text() == "secret"  # not emptied either


@pytest.mark.parametrize("options", GRANTS)
def test_no_exchange_connects_to_what_was_not_judged(
    cage: Cage, options: tuple[str, ...]
) -> None:
    servers = [socket.create_server(("127.0.0.1", 0), backlog=COUNT) for _ in range(2)]

    def drain(server: socket.socket) -> None:
        try:
            while True:
                server.accept()[0].close()
        except OSError:
            return

    for server in servers:
        threading.Thread(target=drain, args=(server,), daemon=True).start()
    good, bad = (server.getsockname()[1] for server in servers)
    rules = (
        'fsread: filename re "^" then permit',
        'fswrite: filename re "^" then permit',
        f'connect: sockaddr eq "inet-[127.0.0.1]:{good}" then permit',
    )
    try:
        run(cage, "address", rules, options, str(good), str(bad))
    finally:
        for server in servers:
            server.shutdown(socket.SHUT_RDWR)
            server.close()


def test_a_terminal_is_pinned_before_it_is_opened_with_roots_rights(
    cage: Cage, place: Path, secret: Path
) -> None:
    """/dev/tty is opened through whichever descriptor of the program is that terminal.

    The program exchanges that descriptor for an O_PATH one of root's file while we look.
    """
    os.chown(secret, 0, 0)
    os.chmod(secret, 0o600)
    code = """
got = set()
tty = os.open("/dev/tty", os.O_RDWR)
done = []
def exchange():
    while not done:
        os.dup2(9, 10)
        os.dup2(0, 10)
_thread.start_new_thread(exchange, ())
for _ in range(800):
    fd = why(os.open, "/dev/tty", os.O_RDWR)
    if isinstance(fd, int):
        got.add(stat.S_ISCHR(os.fstat(fd).st_mode))
        os.close(fd)
done.append(1)
print(got)
"""
    before = f"""
import termios
os.setsid()
master, slave = os.openpty()
fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
os.dup2(os.open({str(secret)!r}, os.O_PATH), 9)
os.dup2(slave, 10)
os.dup2(slave, 0)
os.close(slave)
os.set_inheritable(master, True)
os.setgroups([])
os.setresgid({ALICE}, {ALICE}, {ALICE})
os.setresuid({ALICE}, {ALICE}, {ALICE})
"""
    said = cage.says(code, uid=0, before=before, options=("--setuid", "service"))
    assert said == "{True}"
