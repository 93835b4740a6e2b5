"""A policy denies what it says; what it permits goes on as if nobody were looking."""

from __future__ import annotations

import difflib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.execution.people import GRANT, PYTHON, WATCHED, Programs
from tests.execution.world import (
    ALICE,
    BOB,
    SERVICE,
    SUPERVISED,
    TIMEOUT,
    World,
    policy,
)
from tests.isolation import PROJECT

SOURCES = [f"{PROJECT}/tests/execution/{name}" for name in ("calls.c", "calls_more.c")]
PARTS = [
    "opens",
    "looks",
    "changes",
    "directories",
    "pointers",
    "names",
    "restricted",
    "sockets",
    "threads",
]
LIKE_SET_USER_ID = (
    f"os.setgroups([]); os.setresgid({ALICE}, {ALICE}, {ALICE});"
    f"os.setresuid({ALICE}, {SERVICE}, {SERVICE})"
)
"""What the kernel would do for Alice and a set-user-ID file of the service."""
supervised = pytest.mark.parametrize("mode", [WATCHED, GRANT])

# -- the same as bare ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calls(world_of_session: World) -> dict[str, str]:
    """The program of calls.c: bare, under a supervisor, and with another identity besides."""
    world = world_of_session
    program = world.path("calls")
    flags = ["-O1", "-Wall", "-Wno-format-truncation", "-pthread"]
    subprocess.run(["gcc", *flags, "-o", program, *SOURCES], check=True)
    text = policy(program, *SUPERVISED)
    options = ["--setuid", "service", "--allow-user", "alice"]
    return {
        "bare": program,
        WATCHED: world.sign("calls-watched", program, text=text),
        GRANT: world.install("calls-grant", program, *options, text=text),
    }


def fill_directory(world: World, name: str, owner: int) -> Path:
    """Make a directory with one of everything that a name can lead to."""
    home = world.directory(name, owner=owner)
    for directory in ("dir", "dir/sub", "closed", "hidden", "theirs-dir", "sticky", "empty"):
        (home / directory).mkdir()
    for file in ("file", "dir/inner", "noperm", "closed/x", "readonly", "theirs", "sticky/theirs",
                 "two words", "new\nline"):  # fmt: skip
        (home / file).write_text(f"content of {file}\n")
    Path(os.fsdecode(bytes(home) + b"/\xff\xfe")).write_text("bytes\n")
    for link, target in (
        ("link", "file"), ("dlink", "dir"), ("loop", "loop"), ("dangling", "nothing"),
        ("chain", "link"), ("absolute", f"{home}/file"), ("up", "dir/.."),
        ("dir/dangling-up", "../missing-too"), ("dir-to-proc", "/proc"),
        ("dir-to-self", "/proc/self"), ("link-to-own", "own"),
    ):  # fmt: skip
        (home / link).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as unused:
        unused.bind(str(home / "sock"))
    for path in [home, *home.rglob("*")]:
        os.lchown(path, owner, owner)
    for path in ("theirs", "theirs-dir", "sticky", "sticky/theirs"):
        os.chown(home / path, BOB, BOB)
    for path, mode in (
        ("noperm", 0),
        ("closed", 0),
        ("hidden", 0o600),
        ("readonly", 0o444),
        ("sticky", 0o1777),
    ):
        (home / path).chmod(mode)
    return home


def outcome(
    world: World, path: str, part: str, owner: int, before: str = "", uid: int = ALICE
) -> list[str]:
    """Run one part of calls.c in a fresh directory that always has the same name."""
    home = fill_directory(world, "calls-home", owner)
    try:
        done = world.run(path, part, uid=uid, before=before, cwd=home, errors="backslashreplace")
    finally:
        shutil.rmtree(home)
    assert (done.returncode, done.stderr) == (0, ""), (
        done.returncode,
        done.stderr,
        done.stdout[-300:],
    )
    return done.stdout.splitlines()


def differences(bare: list[str], confined: list[str]) -> str:
    return "\n".join(difflib.unified_diff(bare, confined, "bare", "confined", n=1, lineterm=""))


@pytest.mark.parametrize("part", PARTS)
def test_emulated_calls_give_what_the_bare_program_gets(
    world: World, calls: dict[str, str], part: str
) -> None:
    bare = outcome(world, calls["bare"], part, ALICE)
    assert len(bare) > 5
    assert differences(bare, outcome(world, calls[WATCHED], part, ALICE)) == ""


@pytest.mark.parametrize("part", PARTS)
def test_with_a_grant_they_give_what_a_set_user_id_program_gets(
    world: World, calls: dict[str, str], part: str
) -> None:
    bare = outcome(world, calls["bare"], part, SERVICE, LIKE_SET_USER_ID, uid=0)
    assert differences(bare, outcome(world, calls[GRANT], part, SERVICE)) == ""


@supervised
def test_a_descriptor_for_the_name_alone_is_one_for_reading(
    world: World, programs: Programs, mode: str
) -> None:
    """The kernel lets no supervisor hand over what was opened with O_PATH.

    So it is opened for reading, which does for directories and files that may be read; what else
    O_PATH is good for fails.
    """
    code = """
import errno, os, sys
def tries(name, flags=0):
    try: return os.open(name, os.O_PATH | flags)
    except OSError as error: return errno.errorcode[error.errno]
os.chdir(sys.argv[1])
directory = tries("dir")
print(os.stat("inner", dir_fd=directory).st_size, tries("dir", os.O_DIRECTORY) > 2)
os.fchdir(directory)
inner = os.readlink(f"/proc/self/fd/{tries('inner')}")
print(os.path.basename(os.getcwd()), os.path.basename(inner))
os.chdir(sys.argv[1])
print(tries("link", os.O_NOFOLLOW), tries("noperm"), tries("sock"), tries("missing"))
"""
    home = fill_directory(world, f"path-only-{mode}", SERVICE if mode == GRANT else ALICE)
    lines = programs.output(mode, code, str(home)).splitlines()
    assert lines == ["21 True", "dir inner", "ENOTSUP EACCES ENXIO ENOENT"]


# -- calls that wait -------------------------------------------------------------------------------


@pytest.fixture
def fifo(world: World) -> str:
    path = world.path("waiting")
    if os.path.exists(path):
        os.unlink(path)
    os.mkfifo(path)
    os.chmod(path, 0o666)
    return path


@supervised
def test_an_open_waits_for_the_other_end(programs: Programs, mode: str, fifo: str) -> None:
    code = """
import os, sys
if sys.argv[2] == "r":
    print(os.read(os.open(sys.argv[1], os.O_RDONLY), 99).decode())
else:
    os.write(os.open(sys.argv[1], os.O_WRONLY), b"through")
"""
    reader = programs.start(mode, code, fifo, "r")
    time.sleep(0.2)
    assert reader.poll() is None
    writer = programs.start(mode, code, fifo, "w")
    assert writer.communicate(timeout=TIMEOUT) == ("", "")
    assert reader.communicate(timeout=TIMEOUT) == ("through\n", "")


@supervised
def test_both_ends_in_one_tree(programs: Programs, mode: str, world: World) -> None:
    """The supervisor serves one while the other waits in it."""
    code = """
import os, sys
children = []
os.chdir(sys.argv[1])
for number in range(6):
    if number % 2 == 0:
        os.mkfifo(f"fifo{number // 2}")
    child = os.fork()
    if child == 0:
        os.open(f"fifo{number // 2}", os.O_WRONLY if number % 2 else os.O_RDONLY)
        os._exit(0)
    children.append(child)
for _ in range(50):
    os.close(os.open("/etc/passwd", os.O_RDONLY))
print([os.waitpid(child, 0)[1] for child in children])
"""
    where = world.directory(f"fifos-{mode}", 0o777)
    assert programs.output(mode, code, str(where)) == "[0, 0, 0, 0, 0, 0]\n"


SIGNALLED = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
static volatile int handled;
static void handler(int number) { (void)number; handled++; }
static int full_listener(struct sockaddr_un *address, const char *path) {
    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    address->sun_family = AF_UNIX;
    strcpy(address->sun_path, path);
    unlink(path);
    if (bind(server, (void *)address, sizeof *address) || listen(server, 0))
        abort();
    for (int i = 0; i < 1; i++) { /* fill the queue: the next connect waits */
        int one = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        while (connect(one, (void *)address, sizeof *address) == 0)
            one = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    }
    return server;
}
int main(int argc, char **argv) {
    struct sigaction action = { .sa_handler = handler };
    action.sa_flags = argv[2][0] == 'r' ? SA_RESTART : 0;
    struct itimerval timer = { .it_value.tv_usec = 150000 };
    sigaction(SIGALRM, &action, 0);
    if (argv[1][0] == 'c') { /* connect */
        struct sockaddr_un address;
        int server = full_listener(&address, argv[3]), one = socket(AF_UNIX, SOCK_STREAM, 0);
        if (fork() == 0) { /* after the signal somebody makes room */
            usleep(500000);
            accept(server, 0, 0);
            _exit(0);
        }
        setitimer(ITIMER_REAL, &timer, 0);
        int result = connect(one, (void *)&address, sizeof address);
        printf("%d %s handled %d\n", result, result ? strerrorname_np(errno) : "", handled);
        return 0;
    }
    if (fork() == 0) { /* after the signal somebody opens the other end */
        usleep(500000);
        int fd = open(argv[3], O_WRONLY | O_NONBLOCK);
        usleep(100000);
        _exit(fd < 0);
    }
    setitimer(ITIMER_REAL, &timer, 0);
    int fd = open(argv[3], O_RDONLY);
    const char *error = fd < 0 ? strerrorname_np(errno) : "";
    printf("%s %s handled %d\n", fd >= 0 ? "opened" : "failed", error, handled);
    return 0;
}
"""


@pytest.fixture(scope="module")
def signalled(world_of_session: World) -> dict[str, str]:
    world = world_of_session
    program = world.compile("signalled", SIGNALLED)
    text = policy(program, *SUPERVISED)
    options = ["--setuid", "service", "--allow-user", "alice"]
    return {
        "bare": program,
        WATCHED: world.sign("signalled-watched", program, text=text),
        GRANT: world.install("signalled-grant", program, *options, text=text),
    }


@supervised
@pytest.mark.parametrize(
    ("call", "flag", "expected"),
    [("open", "restart", "opened  handled 1\n"), ("open", "plain", "failed EINTR handled 1\n"),
     ("connect", "restart", "0  handled 1\n"), ("connect", "plain", "-1 EINTR handled 1\n")],
)  # fmt: skip
def test_a_signal_interrupts_a_call_that_waits_as_ever(
    world: World,
    signalled: dict[str, str],
    fifo: str,
    mode: str,
    call: str,
    flag: str,
    expected: str,
) -> None:
    place = world.place / "waiting-room"
    if not place.exists():
        world.directory("waiting-room", 0o777)
    target = fifo if call == "open" else str(place / "socket")
    bare = world.run(signalled["bare"], call, flag, target)
    assert bare.stdout == expected  # what the kernel itself does
    if call == "connect":
        os.unlink(target)
    done = world.run(signalled[mode], call, flag, target)
    if call == "connect":
        os.unlink(target)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


@supervised
def test_a_waiting_call_of_a_killed_program_ends(
    programs: Programs, mode: str, fifo: str, world: World
) -> None:
    code = "import os, sys; print('ready', flush=True); os.open(sys.argv[1], os.O_RDONLY)"
    running = programs.start(mode, code, fifo)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    time.sleep(0.1)
    running.kill()
    running.communicate(timeout=TIMEOUT)
    assert world.settle() == {}


# -- many ------------------------------------------------------------------------------------------


@supervised
def test_two_hundred_processes_in_one_tree(programs: Programs, mode: str) -> None:
    code = """
import os
children = []
for number in range(200):
    child = os.fork()
    if child == 0:
        good = all(os.path.exists(path) for path in ("/etc/passwd", "/usr/bin", "/proc/self/stat"))
        fd = os.open("/proc/self/stat", os.O_RDONLY)
        good = good and int(os.read(fd, 99).split()[0]) == os.getpid()
        os._exit(0 if good else 1)
    children.append(child)
print(sum(os.waitpid(child, 0)[1] for child in children))
"""
    assert programs.output(mode, code) == "0\n"


@supervised
def test_many_threads_in_one_process(programs: Programs, mode: str) -> None:
    code = """
import _thread, os, time
done, bad = [], []
def work(number):
    for _ in range(20):
        try:
            fd = os.open("/proc/thread-self/comm", os.O_RDONLY)
            os.close(fd)
            if os.readlink("/proc/thread-self") != f"{os.getpid()}/task/{_thread.get_native_id()}":
                bad.append(number)
        except OSError as error:
            bad.append(error)
    done.append(number)
for number in range(16):
    _thread.start_new_thread(work, (number,))
while len(done) < 16:
    time.sleep(0.01)
print(bad)
"""
    assert programs.output(mode, code) == "[]\n"


@supervised
def test_a_program_that_execs_keeps_its_supervisor(
    programs: Programs, mode: str, world: World
) -> None:
    """Through exec, vfork, a daemon's double fork and a shell's pipeline."""
    if mode == GRANT:
        path = world.install("sh-exec", "/bin/dash", "--setuid", "service", "--allow-user", "alice",
                             text=policy("/bin/dash", *SUPERVISED))  # fmt: skip
    else:
        path = world.sign("sh-exec", "/bin/dash", text=policy("/bin/dash", *SUPERVISED))
    script = "exec /bin/sh -c 'cat /etc/passwd | grep -c root: | cat; "
    script += "(sleep 0.2; ls /etc/passwd) & exit 3'"
    done = world.run(path, "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (3, "1\n/etc/passwd\n", "")


@supervised
def test_real_programs_run_as_ever(world: World, mode: str) -> None:
    """A few that open, look up and remove a lot, in different libraries' ways."""
    where = world.place / f"real-{mode}"
    if not where.exists():
        world.directory(where.name, 0o777)
    for program, script in (
        ("/usr/bin/find", ["/usr/include/linux", "-name", "s*.h", "-size", "+1k"]),
        ("/usr/bin/tar", ["cf", "-", "-C", "/usr/include", "linux/if.h", "linux/in.h"]),
        ("/usr/bin/grep", ["-rl", "seccomp", "/usr/include/linux"]),
        ("/usr/bin/sort", ["-u", "/etc/passwd", "/etc/group"]),
        (PYTHON, ["-I", "-c", "import json, subprocess; print(subprocess.run(['id', '-u']))"]),
    ):  # fmt: skip
        name = f"real-{os.path.basename(program)}-{mode}"
        text = policy(program, *SUPERVISED)
        if mode == GRANT:
            path = world.install(
                name, program, "--setuid", "service", "--allow-user", "alice", text=text
            )
            bare = world.run(program, *script, uid=0, before=LIKE_SET_USER_ID, cwd=where)
        else:
            path = world.sign(name, program, text=text)
            bare = world.run(program, *script, cwd=where)
        done = world.run(path, *script, cwd=where)
        assert (done.returncode, done.stdout) == (bare.returncode, bare.stdout), (
            program,
            done.stderr,
        )
        assert bare.stdout


@supervised
def test_a_supervisor_that_is_stopped_again_and_again_never_lies(
    programs: Programs, mode: str, world: World
) -> None:
    """The kernel wakes a waiting ioctl for a stop, a freezer or a suspended machine, too."""
    code = """
import os, sys
print("ready", flush=True)
bad = []
for _ in range(1500):
    fd = os.open("/usr/bin/env", os.O_RDONLY)
    if fd != 3 or os.readlink(f"/proc/self/fd/{fd}") != "/usr/bin/env":
        bad.append(fd)
    os.close(fd)
print(bad)
"""
    running = programs.start(mode, code)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    (helper,) = [pid for pid in world.strangers() if pid != running.pid]
    while running.poll() is None:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            try:
                os.kill(helper, number)
            except ProcessLookupError:
                break
            time.sleep(0.0003)
    out, err = running.communicate(timeout=TIMEOUT)
    assert (running.returncode, out, err) == (0, "[]\n", "")
