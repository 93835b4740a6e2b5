"""Conditions on what registers hold: sockets, memory, signals, commands, ids, users, programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.execution.world import ALICE, BOB, SERVICE, SUPERVISED
from tests.supervision.conftest import Cage

KINDS = pytest.mark.parametrize("beside", [(), SUPERVISED], ids=["kernel", "supervised"])
"""Alone the kernel enforces such rules; beside others there is a supervisor, too."""
GRANT = ("--setuid", "service", "--allow-user", "alice")


# -- the kernel's ----------------------------------------------------------------------------------


@KINDS
def test_kinds_of_sockets(cage: Cage, beside: tuple[str, ...]) -> None:
    rules = [
        *beside,
        'socket: sockdom eq "AF_UNIX" then permit',
        'socket: sockdom eq "AF_INET" and not socktype eq "SOCK_RAW" then permit',
        'socket: sockdom eq "AF_INET6" then deny[eafnosupport]',
    ]
    code = """
for family, kind in ((1, 1), (1, 0o2004001), (2, 1), (2, 0o2000002), (2, 3), (2, 0o2000003),
                     (10, 1), (10, 2), (16, 3), (1 + (1 << 32), 1)):
    done = why(call, 41, family, kind, 0)
    print("ok" if isinstance(done, int) else done)
"""
    said = cage.says(code, rules=rules).split()
    assert said == [*["ok"] * 4, *["EPERM"] * 2, *["EAFNOSUPPORT"] * 2, "EPERM", "ok"]


@KINDS
def test_memory_is_writable_or_executable(cage: Cage, beside: tuple[str, ...]) -> None:
    rules = [
        *beside,
        *(
            f'{name}: prot sub "PROT_WRITE" and prot sub "PROT_EXEC" then deny[eacces]'
            for name in ("mmap", "mprotect", "pkey_mprotect")
        ),
        'mprotect: prot eq "PROT_READ|PROT_EXEC" then deny[enoent]',
        "mmap: true then permit", "mprotect: true then permit", "pkey_mprotect: true then permit",
    ]  # fmt: skip
    code = """
address = call(9, 0, 4096, 3, 0x22, -1, 0)
tries = [why(call, 9, 0, 4096, prot, 0x22, -1, 0) for prot in (7, 5, 6, 0x27)]
print(["ok" if isinstance(one, int) else one for one in tries])
tries = [why(call, 10, ctypes.c_long(address), 4096, prot) for prot in (7, 5, 1, 6)]
print([one if isinstance(one, str) else "ok" for one in tries])
print(*[why(call, 329, ctypes.c_long(address), 4096, prot, -1) for prot in (7, 1)])
"""
    said = cage.says(code, rules=rules).splitlines()
    assert said[0] == "['EACCES', 'ok', 'EACCES', 'EACCES']"
    assert said[1] == "['EACCES', 'ENOENT', 'ok', 'EACCES']"
    assert said[2] == "EACCES 0"


@KINDS
def test_commands_of_fcntl(cage: Cage, beside: tuple[str, ...]) -> None:
    rules = [
        *beside, 'fcntl: cmd match "F_SETLK*" then deny[enolck]', "fcntl: true then permit",
    ]  # fmt: skip
    code = """
fd = os.open("/dev/null", os.O_RDWR)
print(why(fcntl.fcntl, fd, 1), why(fcntl.fcntl, fd, 6, b"\\0" * 32),
      why(fcntl.fcntl, fd, 7, b"\\0" * 32), fcntl.fcntl(fd, 1030, 0) > 0)
"""
    assert cage.says(code, rules=rules) == "1 ENOLCK ENOLCK True"


@KINDS
def test_signals_by_name(cage: Cage, beside: tuple[str, ...]) -> None:
    rules = [
        *beside, 'kill: signame eq "SIGUSR1" then permit', 'kill: signame re "^<unk" then permit',
        'tgkill: signame eq "SIGKILL" then deny[eacces]', "tgkill: true then permit",
    ]  # fmt: skip
    code = """
got = []
for number in (10, 12, 40):
    signal.signal(number, lambda number, frame: got.append(number))
child = os.fork()
if child == 0:
    time.sleep(60)
print(why(os.kill, os.getpid(), 10), why(os.kill, os.getpid(), 12), why(os.kill, os.getpid(), 40),
      got, why(os.kill, child, 9), why(call, 234, child, child, 9),
      why(call, 234, child, child, 15), os.waitpid(child, 0)[1])
"""
    assert cage.says(code, rules=rules) == "ok EPERM ok [10, 40] EPERM EACCES 0 15"


@KINDS
def test_modes_and_owners_of_open_files(cage: Cage, beside: tuple[str, ...], place: Path) -> None:
    rules = [
        *beside,
        'fchmod: mode eq "640" then permit', 'fchmod: mode re "^[2-7]...$" then deny[eacces]',
        f'fchown: uid eq "-1" and gid eq "{ALICE}" then permit',
    ]  # fmt: skip
    code = """
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
print([why(os.fchmod, fd, mode) for mode in (0o640, 0o4640, 0o2777, 0o777)],
      oct(os.fstat(fd).st_mode & 0o7777), why(os.fchown, fd, -1, int(sys.argv[2])),
      why(os.fchown, fd, int(sys.argv[2]), -1))
"""
    said = cage.says(code, str(place / "file"), str(ALICE), rules=rules)
    assert said == "['ok', 'EACCES', 'EACCES', 'EPERM'] 0o640 ok EPERM"


def test_a_policy_of_such_rules_needs_no_supervisor(cage: Cage) -> None:
    """Then there is none to be found above the program: its only kin is the one who started it."""
    rules = ['socket: sockdom eq "AF_UNIX" then permit', 'kill: signame eq "SIGHUP" then permit']
    running = cage.start("print('up', flush=True); sys.stdin.read()", rules=rules)
    assert running.stdout is not None
    assert running.stdout.readline() == "up\n"
    assert [pid for pid in cage.world.strangers() if pid != running.pid] == []
    running.communicate("")


# -- the supervisor's ------------------------------------------------------------------------------


def test_who_calls_can_be_a_condition_of_every_call(cage: Cage) -> None:
    rules = [
        "getppid: permit, if user = alice", "getpgrp: permit, if user = root",
        "getpgid: true then deny[enoent] log, if user != root",
        "uname: permit, if group < 5",
    ]  # fmt: skip
    code = "print(why(call, 110) != 'EPERM', why(call, 111), why(call, 121, 0), why(call, 63, 0))"
    cage.world.logged()
    assert cage.says(code, rules=rules) == "True EPERM ENOENT EPERM"
    lines = [line for line in cage.world.logged() if "getpgid" in line]
    assert len(lines) == 1 and lines[0].partition(" user")[0].endswith("deny")


def test_ids_are_judged_by_number_and_by_name(cage: Cage) -> None:
    rules = [
        'setuid: uid eq "0" and uname eq "root" then permit',
        f'setuid: uid eq "{BOB}" and uname eq "root" then permit',
        f'setuid: uid eq "{SERVICE}" and uname eq "service" then deny[eacces]',
        f'seteuid: uid eq "{SERVICE}" and uname eq "service" then permit',
        'setuid: uname eq "<unknown>" then deny[enoent]',
    ]
    code = f"""
print(why(call, 105, 0), why(call, 105, {BOB}), why(call, 105, {SERVICE}), why(call, 105, 54321))
print(why(call, 117, -1, {SERVICE}, -1), os.geteuid(), why(call, 117, -1, {ALICE}, -1))
"""
    said = cage.says(code, rules=rules, options=GRANT, without=["setresuid"]).splitlines()
    assert said[0] == "EPERM EPERM EACCES ENOENT", "the kernel refuses what rules permit, setuid(0)"
    assert said[1] == f"0 {SERVICE} EPERM"


def test_processes_are_made_under_conditions(cage: Cage) -> None:
    rules = [*(f"{name}: permit, if user = alice" for name in ("fork", "vfork", "clone"))]
    code = """
child = os.fork()
if child == 0:
    os._exit(7)
print(os.waitpid(child, 0)[1] >> 8)
done = []
_thread.start_new_thread(done.append, (1,))
while not done:
    time.sleep(0.001)
print(os.spawnv(os.P_WAIT, "/bin/true", ["true"]))
"""
    assert cage.says(code, rules=rules).split() == ["7", "0"]
    none = [*(f"{name}: permit, if user = root" for name in ("fork", "vfork", "clone"))]
    assert cage.says("print(why(os.fork))", rules=none) == "EPERM"


def test_conditions_do_not_open_the_way_to_the_supervisor(cage: Cage) -> None:
    rules = [
        *SUPERVISED, "kill: permit, if user = alice", "ptrace: permit, if user = alice",
        'tkill: signame match "*" then permit, if user = alice',
    ]
    code = """
s = supervisor()
print(why(os.kill, s, 9), why(os.kill, -s, 9), why(os.kill, -1, 0), why(call, 200, s, 9),
      why(call, 101, 16, s, 0, 0), why(os.kill, os.getpid(), 0))
"""
    assert cage.says(code, rules=rules) == "EPERM EPERM EPERM EPERM EPERM ok"


def test_a_signal_can_be_what_takes_rights_away(cage: Cage) -> None:
    keeps = "write, close, futex, exit_group, sigaction, munmap, brk, mmap, kill"
    beyond = cage.beyond(f'after native-kill: signame eq "SIGURG" then only {keeps}')
    code = """
print(why(os.kill, os.getpid(), 18), why(os.getpriority, 0, 0), why(os.kill, os.getpid(), 23),
      why(os.getpriority, 0, 0))
"""
    assert beyond.says(code) == "ok 0 ok EPERM"


# -- pidname ---------------------------------------------------------------------------------------

TARGETS = """
import subprocess
def start(program, *argv):
    child = subprocess.Popen([program, *argv], stdout=subprocess.PIPE, process_group=0)
    while os.path.basename(os.readlink(f"/proc/{child.pid}/exe")) != os.path.basename(program):
        time.sleep(0.001)
    return child
"""


@pytest.fixture(scope="module")
def sleepers(world_of_session: object, cage_of_session: Cage) -> tuple[str, str]:
    world = cage_of_session.world
    return world.copy("/bin/sleep", "sleeper"), world.copy("/bin/sleep", "nap")


def pidname_rules(sleeper: str) -> list[str]:
    return [
        f'kill: pidname eq "{sleeper}" and signame eq "SIGTERM" then permit',
        f'kill: pidname eq "pg:{sleeper}" and signame eq "SIGINT" then permit',
        'kill: pidname eq "<own process group>" and signame eq "SIGURG" then permit',
        'kill: pidname eq "<unknown>" then deny[enoent]',
        f'kill: pidname eq "{sleeper}" then deny[eacces]',
        'kill: pidname sub "python" and signame eq "SIGUSR1" then permit',
    ]


def test_a_target_is_known_by_its_program(cage: Cage, sleepers: tuple[str, str]) -> None:
    sleeper, nap = sleepers
    code = f"""
{TARGETS}
one, two, three = start({sleeper!r}, "60"), start({nap!r}, "60"), start({sleeper!r}, "60")
print(why(os.kill, two.pid, 15), why(os.kill, one.pid, 9), why(os.kill, one.pid, 15), one.wait(),
      why(os.kill, -two.pid, 2), why(os.kill, -three.pid, 2), three.wait(),
      why(os.kill, 0, 23), why(os.kill, 0, 15), why(os.kill, -1, 15), why(os.kill, 2**22 + 5, 15))
got = []
signal.signal(10, lambda number, frame: got.append(number))
print(why(os.kill, os.getpid(), 10), got, why(os.kill, os.getpid(), 12))
call(234, two.pid, two.pid, 9)  # tgkill, on which there is no rule
"""
    done = cage.run(code, rules=[*SUPERVISED, *pidname_rules(sleeper)])
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == [
        "EPERM EACCES ok -15 EPERM ok -2 ok EPERM EPERM ENOENT", "ok [10] EPERM",
    ]


def test_the_receiver_sees_who_sent_it(cage: Cage, sleepers: tuple[str, str]) -> None:
    code = """
signal.pthread_sigmask(signal.SIG_BLOCK, {10})
child = os.fork()
if child == 0:
    why(os.kill, os.getppid(), 10)
    os._exit(0)
info = signal.sigwaitinfo({10})
print(info.si_pid == child, info.si_uid, os.waitpid(child, 0)[1])
"""
    for options in ((), GRANT):
        said = cage.says(code, rules=[*SUPERVISED, *pidname_rules(sleepers[0])], options=options)
        assert said == f"True {ALICE} 0"


@pytest.mark.parametrize("options", [(), GRANT], ids=["plain", "grant"])
def test_only_whom_the_caller_may_signal(
    cage: Cage, sleepers: tuple[str, str], options: tuple[str, ...]
) -> None:
    """The supervisor of a grant is root; the program it acts for is not."""
    sleeper = sleepers[0]
    outside = {
        uid: cage.world.start(sleeper, "60", uid=uid) for uid in (0, ALICE, BOB, SERVICE)
    }
    try:
        code = "print([why(os.kill, int(one), 15) for one in sys.argv[1:]])"
        said = cage.says(
            code, *[str(one.pid) for one in outside.values()], options=options,
            rules=[*SUPERVISED, *pidname_rules(sleeper)],
        )  # fmt: skip
        others = "'ok'" if options else "'ENOENT'"
        first = "'EPERM'" if options else "'ENOENT'"
        assert said == f"[{first}, 'ok', {first}, {others}]"
    finally:
        for one in outside.values():
            one.kill()
            one.wait()
