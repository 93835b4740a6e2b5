"""Single calls as somebody else: exactly those, exactly so, and for nobody else."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from certexec.certificate.identity import Identity
from tests.execution.test_same_user_outside import ATTACK, SLEEPER
from tests.execution.world import (
    ALICE,
    BOB,
    NETADMIN,
    SERVICE,
    SUPERVISED,
    TIMEOUT,
    policy,
    refused,
)
from tests.supervision.conftest import PRELUDE, PYTHON, Cage, wait_for

ROOT = ("--elevate", "root", "--allow-everyone")
WEB = (
    'bind: sockaddr match "inet-*:80" then permit as root',
    'bind: sockaddr match "inet-*:81" then permit',
)
"""The model case: port 80 is bound as root, port 81 as anybody binds it."""

OWN_NETWORK = f"""
import ctypes
assert ctypes.CDLL(None).unshare(0x40000000) == 0  # CLONE_NEWNET: its low ports are root's, free
os.setgroups([])
os.setresgid({ALICE}, {ALICE}, {ALICE})
os.setresuid({ALICE}, {ALICE}, {ALICE})
"""

BIND = """
import threading
def bound(port):
    with socket.socket() as server:
        return why(server.bind, ("0.0.0.0", port))
def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        return errno.errorcode[error.errno]
"""


def install(cage: Cage, rules: Sequence[str], options: Sequence[str] = ROOT) -> str:
    """Sign and install a certificate that grants elevations, once."""
    name = "as-" + hashlib.sha256(repr((rules, options)).encode()).hexdigest()[:16]
    path = f"/usr/local/bin/{name}"
    if not os.path.exists(cage.world.machine.path(path)):
        cage.world.install(name, PYTHON, *options, text=policy(PYTHON, *rules))
    return path


def run(
    cage: Cage, path: str, code: str, *argv: str, **more: Any
) -> subprocess.CompletedProcess[str]:
    return cage.world.run(path, "-I", "-S", "-c", PRELUDE + BIND + code, *argv, **more)


def says(cage: Cage, path: str, code: str, *argv: str, **more: Any) -> str:
    done = run(cage, path, code, *argv, **more)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout.strip()


@pytest.fixture
def roots(place: Path) -> Path:
    """A directory that only root may search, with two files in it."""
    directory = place / "roots"
    directory.mkdir(mode=0o700)
    for name in ("secret", "other"):
        (directory / name).write_text(f"root's {name}")
        (directory / name).chmod(0o600)
    return directory


# -- what it gives ---------------------------------------------------------------------------------


def test_a_program_without_any_identity_binds_port_80_and_no_other_low_one(cage: Cage) -> None:
    code = """
print(bound(80), bound(81), bound(82), bound(80))
print(os.getresuid(), os.getresgid(), os.getgroups())
print(open("/proc/self/status").read().partition("CapEff:")[2].split()[0])
"""
    said = says(cage, install(cage, WEB), code, uid=0, before=OWN_NETWORK).splitlines()
    assert said == ["ok EACCES EPERM ok", f"{(ALICE,) * 3} {(ALICE,) * 3} []", "0" * 16]


def test_the_error_of_an_elevated_call_is_the_callers(cage: Cage) -> None:
    code = """
with socket.socket() as first:
    first.bind(("0.0.0.0", 80))
    first.listen()
    print(bound(80))
libc.bind.restype = ctypes.c_int
print(libc.bind(0, ctypes.c_long(8), 16), errno.errorcode[ctypes.get_errno()])
"""
    said = says(cage, install(cage, WEB), code, uid=0, before=OWN_NETWORK).splitlines()
    assert said == ["EADDRINUSE", "-1 EFAULT"]


def test_a_file_that_only_root_can_reach_is_opened_as_root_and_no_other(
    cage: Cage, roots: Path
) -> None:
    rules = (f'fsread: filename eq "{roots}/secret" then permit as root', *SUPERVISED)
    code = f"""
print(read("{roots}/secret"), "|", read("{roots}/other"), read("{roots}/none"))
fd = os.open("{roots}/secret", os.O_RDONLY)
print(os.fstat(fd).st_uid, why(os.write, fd, b"x"), why(os.open, "{roots}/secret", os.O_RDWR))
print(os.access("{roots}/secret", os.R_OK), why(os.stat, "{roots}/other"))
"""
    said = says(cage, install(cage, rules), code).splitlines()
    assert said[0] == "root's secret | EACCES EACCES"
    # access(2) asks about the real ids, which no rule changes
    assert said[1:] == ["0 EBADF EACCES", "False EACCES"]


@pytest.mark.parametrize(
    ("who", "uid", "gid"),
    [("root", 0, ALICE), ("root:netadmin", 0, NETADMIN), ("service", SERVICE, ALICE),
     (":netadmin", ALICE, NETADMIN), ("service:bob", SERVICE, BOB)],
)  # fmt: skip
def test_what_is_made_has_exactly_the_ids_that_the_rule_names(
    cage: Cage, place: Path, who: str, uid: int, gid: int
) -> None:
    place.chmod(0o777)
    rules = (f'mkdir: filename match "{place}/as-*" then permit as {who}',
             f'mkdir: filename match "{place}/*" then permit')  # fmt: skip
    path = install(cage, rules, ("--elevate", who, "--allow-everyone"))
    says(cage, path, f'os.chdir("{place}"); os.umask(0o027); os.mkdir("as-it"); os.mkdir("own")')
    made, own = (place / "as-it").stat(), (place / "own").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (uid, gid, 0o750)
    assert (own.st_uid, own.st_gid) == (ALICE, ALICE)


@pytest.mark.parametrize(("who", "may"), [("service", False), (":netadmin", False), ("root", True)])
def test_no_other_uid_than_roots_brings_capabilities(
    cage: Cage, roots: Path, who: str, may: bool
) -> None:
    rules = (f'fsread: filename sub "secret" then permit as {who}', *SUPERVISED)
    path = install(cage, rules, ("--elevate", who, "--allow-everyone"))
    assert (says(cage, path, f'print(read("{roots}/secret"))') == "root's secret") is may


def test_the_log_says_as_whom(cage: Cage) -> None:
    path = install(cage, ('bind: sockaddr match "inet-*:80" then permit log as root',))
    cage.world.logged()
    says(cage, path, "print(bound(80))", uid=0, before=OWN_NETWORK)
    lines: list[str] = []
    wait_for(lambda: lines.extend(cage.world.logged()) or any("native-bind" in x for x in lines))
    (line,) = [one for one in lines if "native-bind" in one]
    assert "permit user: alice" in line
    assert ", syscall: native-bind(49), as: root, sockaddr: inet-[0.0.0.0]:80" in line


# -- nobody else has it ----------------------------------------------------------------------------


def test_a_thread_that_exchanges_the_address_binds_nothing_else(cage: Cage) -> None:
    code = """
import threading
def at(port):
    return struct.pack("=H", 2) + struct.pack(">H", port) + bytes(12)
address = ctypes.create_string_buffer(at(80), 16)
stop = []
def flip():
    while not stop:
        ctypes.memmove(address, at(90), 16)
        ctypes.memmove(address, at(80), 16)
thread = threading.Thread(target=flip)
thread.start()
sys.setswitchinterval(1e-5)
ports = {}
for _ in range(400):
    with socket.socket() as server:
        libc.bind(server.fileno(), address, 16)
        port = server.getsockname()[1]
        ports[port] = ports.get(port, 0) + 1
stop.append(1)
thread.join()
print(sorted(ports), min(ports.values()) > 3)
"""
    assert says(cage, install(cage, WEB), code, uid=0, before=OWN_NETWORK) == "[0, 80] True"


def test_a_link_that_is_exchanged_opens_nothing_else_as_root(cage: Cage, roots: Path) -> None:
    rules = (f'fsread: filename eq "{roots}/secret" then permit as root', *SUPERVISED)
    code = f"""
import threading
os.chdir("{roots.parent}")
os.symlink("{roots}/secret", "a")
os.symlink("{roots}/other", "b")
stop = []
def flip():
    while not stop:
        libc.renameat2(-100, b"a", -100, b"b", 2)
thread = threading.Thread(target=flip)
thread.start()
seen = {{read("a") for _ in range(400)}}
stop.append(1)
thread.join()
print(sorted(seen))
"""
    said = says(cage, install(cage, rules), code)
    assert said == """['EACCES', "root's secret"]"""


def test_while_an_elevated_call_waits_nobody_else_has_its_rights(cage: Cage, roots: Path) -> None:
    os.mkfifo(roots / "pipe", 0o600)
    rules = (f'fsread: filename eq "{roots}/pipe" then permit as root', *SUPERVISED)
    code = f"""
got = []
thread = threading.Thread(target=lambda: got.append(read("{roots}/pipe")))
thread.start()
time.sleep(0.3)
print("waits", not got, flush=True)
for _ in range(20):
    assert read("{roots}/secret") == "EACCES"
    assert why(os.mkdir, "{roots}/made") == "EACCES"
tids = os.listdir("/proc/self/task")
print(len(tids), {{open(f"/proc/self/task/{{tid}}/status").read().partition("Uid:")[2].split()[1]
       for tid in tids}}, flush=True)
sys.stdin.readline()
thread.join()
print(got, read("{roots}/secret"))
"""
    path = install(cage, rules)
    running = cage.world.start(path, "-I", "-S", "-c", PRELUDE + BIND + code)
    assert running.stdout is not None
    assert running.stdout.readline() == "waits True\n"
    assert running.stdout.readline() == f"2 {{'{ALICE}'}}\n"
    (supervisor,) = [pid for pid in cage.world.strangers() if pid != running.pid]
    wait_for(lambda: "Uid:\t0\t0\t0\t0" in rights(supervisor))  # it has answered the last look
    before = rights(supervisor)
    with open(roots / "pipe", "w") as pipe:
        pipe.write("came")
    wait_for(lambda: len(os.listdir(f"/proc/{supervisor}/task")) == 1)  # the one that waited ended
    wait_for(lambda: rights(supervisor) == before)  # between two calls
    out, err = running.communicate("go\n", timeout=TIMEOUT)
    assert (out, err) == ("['came'] EACCES\n", "")


def rights(pid: int) -> list[str]:
    """Return ids, groups and capabilities of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [line for line in lines if line.startswith(("Uid", "Gid", "Groups", "Cap"))]


def test_children_have_it_and_a_program_that_changes_its_ids_keeps_just_that(
    cage: Cage, roots: Path
) -> None:
    rules = (f'fsread: filename eq "{roots}/secret" then permit as root', *SUPERVISED)
    path = install(cage, rules, ("--elevate", "root", "--setuid", "service", "--allow-everyone"))
    code = f"""
def look():
    print(os.getresuid(), read("{roots}/secret"), read("{roots}/other"), flush=True)
look()
child = os.fork()
if child == 0:
    look()
    os.setresuid({ALICE}, {ALICE}, {ALICE})
    look()
    os._exit(0)
os.waitpid(child, 0)
look()
"""
    said = says(cage, path, code).splitlines()
    own, given = (ALICE, SERVICE, SERVICE), "root's secret EACCES"
    assert said == [f"{one} {given}" for one in (own, own, (ALICE,) * 3, own)]


def test_a_program_of_roots_can_do_a_call_as_somebody_lesser(cage: Cage, roots: Path) -> None:
    rules = (f'fsread: filename eq "{roots}/secret" then permit as service', *SUPERVISED)
    options = ("--elevate", "service", "--setuid", "root", "--allow-everyone")
    code = f'print(read("{roots}/secret"), "|", read("{roots}/other"), "|", os.geteuid())'
    # resolved as the one it is made as, who cannot get there; nothing falls back to root's rights
    assert says(cage, install(cage, rules, options), code) == "EPERM | root's other | 0"


# -- the same user outside -------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--cap", "net_raw"), ("--setuid", "service")])
def test_the_same_user_outside_gets_at_neither_program_nor_its_calls(
    cage: Cage, options: tuple[str, ...]
) -> None:
    """Not even when the program has given up all that it had of its own."""
    world = cage.world
    give_up = f"""
os.setresuid({ALICE}, {ALICE}, {ALICE})
header = struct.pack("=Ii", 0x20080522, 0)
assert libc.capset(header, bytes(24)) == 0
"""
    path = install(cage, WEB, (*ROOT, *options))
    running = world.start(path, "-I", "-S", "-c", PRELUDE + give_up + SLEEPER)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    (supervisor,) = [pid for pid in world.strangers() if pid != running.pid]
    assert world.python(ATTACK, str(supervisor)) == "\n"
    said = world.python(ATTACK, str(running.pid)).splitlines()
    managed = {line.split()[0] for line in said if line}
    assert managed <= {"kill", "nice", "affinity", "scheduler", "prlimit"}, said
    running.communicate(timeout=TIMEOUT)


def test_neither_an_exec_nor_the_program_itself_lets_them_in(cage: Cage) -> None:
    code = """
print(why(os.execv, "/usr/bin/id", ["id"]))
for value in (1, 0):
    print(libc.prctl(4, value, 0, 0, 0), libc.prctl(3, 0, 0, 0, 0), end=" ", flush=True)
child = os.fork()
if child == 0:
    print(libc.prctl(4, 1, 0, 0, 0), libc.prctl(3, 0, 0, 0, 0), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    for options in (ROOT, (*ROOT, "--setuid", "service"), (*ROOT, "--cap", "net_raw")):
        said = says(cage, install(cage, WEB, options), code, env={"LD_PRELOAD": "/none"})
        assert said.splitlines() == ["EACCES", "-1 0 0 0 -1 0"], options
    # a program of root's could become somebody else first
    assert "EACCES" in says(cage, install(cage, WEB), code, uid=0).splitlines()


def test_the_environment_is_replaced_as_with_every_grant(cage: Cage) -> None:
    code = "print(sorted(os.environ))"
    given = {"LD_PRELOAD": "/none", "PYTHONPATH": "/none", "EVIL": "1"}
    said = says(cage, install(cage, WEB), code, env=given)
    assert said == "['HOME', 'LC_ALL', 'LOGNAME', 'PATH', 'SHELL', 'USER']"


# -- only as signed --------------------------------------------------------------------------------


def attempt(
    cage: Cage, rules: Sequence[str], *options: str, key: str = "ops"
) -> subprocess.CompletedProcess[str]:
    world = cage.world
    text = world.write("refused.policy", policy(PYTHON, *rules))
    return world.attempt(
        "sign", "--force", "-k", world.path(f"{key}.key"), "-p", text, "-o",
        world.path("bin/refused"), "--allow-everyone", *options, PYTHON,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "options", "part"),
    [
        (WEB, (), 'refused.policy(2): the certificate does not grant "as 0"'),
        (WEB, ("--elevate", "service"), 'does not grant "as 0"'),
        (WEB, ("--elevate", "root:daemon"), 'does not grant "as 0"'),
        (WEB, ("--setuid", "root"), 'does not grant "as 0"'),
        (WEB, ("--elevate", "root", "--elevate", "service"),
         f'no rule of "REFUSED" says "as {SERVICE}"'),
        (("kill: true then permit as root",), ("--elevate", "root"),
         'kill cannot be carried out "as" somebody else'),
        (("setuid: true then permit as root",), ("--elevate", "root"),
         'setuid cannot be carried out "as" somebody else'),
        (('execve: filename eq "/bin/true" then permit as root',), ("--elevate", "root"),
         'execve cannot be carried out "as" somebody else'),
        (('chdir: filename eq "/root" then permit as root',), ("--elevate", "root"),
         'chdir cannot be carried out "as" somebody else'),
        (('mount: filename eq "/mnt" then permit as root',), ("--elevate", "root"),
         'mount cannot be carried out "as" somebody else'),
        (WEB, ("--elevate", "root:"), '"root:" does not say as whom'),
        (WEB, ("--elevate", "nobody-at-all"), "nobody-at-all"),
    ],
)  # fmt: skip
def test_a_rule_whose_identity_is_not_granted_is_not_signed(
    cage: Cage, rules: tuple[str, ...], options: tuple[str, ...], part: str
) -> None:
    done = attempt(cage, rules, *options)
    assert done.returncode != 0
    assert part.replace("REFUSED", cage.world.path("refused.policy")) in done.stderr


def forged(cage: Cage, rules: Sequence[str], identity: Identity | None, key: str = "ops") -> str:
    """Return an installed certificate that ``certexec sign`` would not make."""
    text = policy(PYTHON, *rules)
    made = cage.world.forge(
        "forged-as", PYTHON, key, policy__text=text,
        policy__sha256=hashlib.sha256(text.encode()).digest(), identity=identity,
    )  # fmt: skip
    return cage.world.put_by_hand(made, 0o4755 if identity else 0o755)


@pytest.mark.parametrize(
    "identity",
    [None, Identity(elevations=[(("service", SERVICE), None)]), Identity(user=("root", 0)),
     Identity(elevations=[(("root", 0), ("daemon", 1))])],
    ids=["none", "another", "whole", "more"],
)  # fmt: skip
def test_a_rule_whose_identity_is_not_granted_is_not_run(
    cage: Cage, identity: Identity | None
) -> None:
    refused(cage.world.run(forged(cage, WEB, identity)), "setuid-denied")


def test_names_and_numbers_must_agree_here(cage: Cage) -> None:
    right = Identity(elevations=[(("root", 0), None)])
    assert says(cage, forged(cage, WEB, right), "print(1)") == "1"
    wrong = Identity(elevations=[(("service", 0), None)])
    refused(cage.world.run(forged(cage, WEB, wrong)), "identity-mismatch")


def test_a_key_that_may_not_grant_an_identity_grants_no_call_with_it(cage: Cage) -> None:
    world = cage.world
    identity = Identity(elevations=[(("root", 0), None)])
    refused(world.run(forged(cage, WEB, identity, "plain")), "setuid-denied")
    if not os.path.exists(world.path("less.key")):
        world.verb("keygen", "--no-passphrase", "-f", world.path("less"))
        world.verb("trust", "add", world.path("less.pub"), "--may-grant", "service")
    refused(world.run(forged(cage, WEB, identity, "less")), "setuid-denied")
    service = Identity(elevations=[(("service", SERVICE), None)])
    rules = ('bind: sockaddr match "inet-*:80" then permit as service',)
    assert says(cage, forged(cage, rules, service, "less"), "print(1)") == "1"
    group = Identity(elevations=[(("service", SERVICE), ("netadmin", NETADMIN))])
    rules = ('bind: sockaddr match "inet-*:80" then permit as service:netadmin',)
    refused(world.run(forged(cage, rules, group, "less")), "setuid-denied")


def test_run_never_grants_it_and_the_file_must_carry_the_bit(cage: Cage) -> None:
    world = cage.world
    path = forged(cage, WEB, Identity(elevations=[(("root", 0), None)]))
    done = world.attempt("run", path, "-c", "print(1)", uid=ALICE)
    assert "(setuid-denied)" in done.stderr
    os.chmod(path, 0o755)
    refused(world.run(path), "setuid-denied")


def test_inspect_and_verify_show_what_is_granted(cage: Cage) -> None:
    path = install(cage, ('bind: sockaddr match "inet-*:80" then permit as root:daemon',),
                   ("--elevate", "root:daemon", "--allow-everyone"))  # fmt: skip
    assert "single calls as  user root (0), group daemon (1)" in cage.world.verb("inspect", path)
    shown = cage.world.verb("inspect", "--json", path)
    assert '"elevations": [' in shown
    cage.world.verb("verify", path)
