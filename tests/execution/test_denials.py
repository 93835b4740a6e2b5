"""What a policy denies stays denied: by whatever name, whichever thread, through whatever door."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.execution.people import PYTHON
from tests.execution.world import SUPERVISED, World, policy, wait_for

SYSTEM = (
    'fsread: filename re "^/(usr|lib|lib64|etc|proc|dev|<non-existent.*)(/|$)|^/[^/]*/?[^/]*$|'
    f'^{os.path.dirname(os.path.dirname(sys.executable))}/" then permit'
)
"""What Python reads when it starts, wherever it is installed."""

TRIES = """
import errno, os, socket, sys
def tries(function, *arguments):
    try:
        result = function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    if isinstance(result, int) and function is os.open:
        text = os.read(result, 99)
        os.close(result)
        return text
    return result if isinstance(result, (int, str, bytes)) else "done"
"""


def confined(world: World, name: str, *rules: str, **options: object) -> str:
    """Sign Python under everything permitted but what ``rules`` say."""
    return world.sign(name, PYTHON, text=policy(PYTHON, *rules, **options))  # type: ignore[arg-type]


def run(world: World, path: str, code: str, *argv: str, **options: object) -> list[str]:
    """Run Python code and return the lines that it printed."""
    done = world.run(path, "-I", "-S", "-c", TRIES + code, *argv, **options)  # type: ignore[arg-type]
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


@pytest.fixture
def ground(world: World) -> Path:
    """An allowed and a forbidden directory, with every kind of way from one to the other."""
    ground = world.place / "ground"
    if not ground.exists():
        world.directory("ground")
        for name in ("allowed", "forbidden"):
            (ground / name).mkdir()
            (ground / name).chmod(0o777)
            (ground / name / "file").write_text(name)
        (ground / "allowed" / "link").symlink_to(ground / "forbidden" / "file")
        (ground / "allowed" / "relative").symlink_to("../forbidden/file")
        (ground / "allowed" / "dir").symlink_to(ground / "forbidden")
        (ground / "forbidden" / "out").symlink_to(ground / "allowed" / "file")
        os.link(ground / "forbidden" / "file", ground / "allowed" / "hard")
    return ground


def only(ground: Path) -> list[str]:
    """Reading: the system and the allowed directory. Writing: the allowed directory."""
    return [
        f'fsread: filename match "{ground}/allowed" then permit',
        SYSTEM,
        f'fsread: filename match "{ground}" then deny[enoent]',
        f'fswrite: filename match "{ground}/allowed" then permit',
    ]


# -- names -----------------------------------------------------------------------------------------


def test_a_name_is_judged_by_where_it_leads(world: World, ground: Path) -> None:
    path = confined(world, "only", *only(ground))
    ways = {
        "allowed/file": b"allowed", "allowed/../allowed/file": b"allowed",
        "forbidden/../allowed/file": b"allowed", "forbidden/out": b"allowed",
        "forbidden/file": "ENOENT", "allowed/link": "ENOENT", "allowed/relative": "ENOENT",
        "allowed/dir/file": "ENOENT", "allowed/../forbidden/file": "ENOENT",
        "allowed//../forbidden//file": "ENOENT", "./forbidden/./file": "ENOENT",
        "allowed/dir/../forbidden/file": "ENOENT",
        "allowed/hard": b"forbidden",  # another name of the file, and this name is permitted
    }  # fmt: skip
    code = f"os.chdir({str(ground)!r})\nfor way in {list(ways)!r}: print(tries(os.open, way, 0))"
    assert run(world, path, code) == [str(result) for result in ways.values()]
    code = f"""
os.chdir({str(ground)!r})
here = os.open("allowed", 0)
print(tries(lambda: os.open("../forbidden/file", 0, dir_fd=here)))
os.chdir("allowed")
print(*[tries(os.open, name, 0) for name in ("../forbidden/file", "dir/file", "file")])
"""
    assert run(world, path, code) == ["ENOENT", "ENOENT ENOENT b'allowed'"]


def test_reading_does_not_permit_writing(world: World, ground: Path) -> None:
    read_only = [only(ground)[0], only(ground)[1]]
    path = confined(world, "read-only", *read_only, without=["fswrite"])
    file = str(ground / "allowed" / "file")
    code = f"""
file = {file!r}
print(tries(os.open, file, os.O_RDONLY))
for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, 3):
    print(tries(os.open, file, flags))
print(tries(os.open, file + "new", os.O_RDONLY | os.O_CREAT), tries(os.mkdir, file + "dir"),
      tries(os.unlink, file), tries(os.rmdir, file),
      tries(os.open, os.path.dirname(file), os.O_TMPFILE | os.O_RDWR))
"""
    assert run(world, path, code) == ["b'allowed'", *["EPERM"] * 5, " ".join(["EPERM"] * 5)]
    assert Path(file).read_text() == "allowed"


def test_creation_and_removal_stay_inside(world: World, ground: Path) -> None:
    path = confined(world, "writer", *only(ground))
    code = f"""
os.chdir({str(ground)!r})
print(tries(os.mkdir, "allowed/new"), tries(os.rmdir, "allowed/new"))
os.close(os.open("allowed/made", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
os.unlink("allowed/made")
for name in ("forbidden/made", "allowed/dir/made", "allowed/../forbidden/made", "allowed/../made"):
    print(tries(os.open, name, os.O_CREAT | os.O_WRONLY), tries(os.mkdir, name),
          tries(os.unlink, name))
os.symlink("../forbidden/through", "allowed/dangling")
print(tries(os.open, "allowed/dangling", os.O_CREAT | os.O_WRONLY))
os.unlink("allowed/dangling")
"""
    lines = run(world, path, code)
    assert lines == ["done done", *["EPERM EPERM EPERM"] * 4, "EPERM"]
    assert sorted(os.listdir(ground / "forbidden")) == ["file", "out"]


def test_every_operator_and_errno(world: World, ground: Path) -> None:
    file, other = str(ground / "allowed" / "file"), str(ground / "forbidden" / "file")
    system = f'fsread: filename nsub "{ground}" then permit'
    for rule, error in (
        (f'fsread: filename eq "{other}" then deny[eio]', "Input/output error"),
        (f'fsread: filename match "{ground}/for*" then deny[enotdir]', "Not a directory"),
        ('fsread: filename sub "forb" then deny[enospc]', "No space left on device"),
        ('fsread: filename nsub "allowed" then deny[ebusy]', "Device or resource busy"),
        ('fsread: filename re "b.*en/f" then deny[exdev]', "Invalid cross-device link"),
        (f'fsread: filename neq "{file}" then deny[emfile]', "Too many open files"),
        (f'fsread: not (filename match "{ground}/a*") then deny', "Operation not permitted"),
    ):
        text = policy("/usr/bin/cat", system, rule, 'fsread: filename re "^" then permit')
        path = world.sign("operator", "/usr/bin/cat", text=text)
        done = world.run(path, file, other)
        assert (done.returncode, done.stdout) == (1, "allowed"), (rule, done)
        assert done.stderr == f"{path}: {other}: {error}\n", rule


def test_variables_of_a_policy_are_the_invokers(world: World, ground: Path) -> None:
    path = confined(
        world, "cwd",
        'fsread: filename match "$CWD" then permit',
        SYSTEM,
        f'fsread: filename match "{ground}" then deny[enoent]',
    )  # fmt: skip
    names = [str(ground / "allowed" / "file"), str(ground / "forbidden" / "file")]
    code = f"print(*[tries(os.open, name, 0) for name in {names}])"
    assert run(world, path, code, cwd=ground / "allowed") == ["b'allowed' ENOENT"]
    assert run(world, path, code, cwd=ground / "forbidden") == ["ENOENT b'forbidden'"]


# -- addresses -------------------------------------------------------------------------------------


def test_connect_and_bind_are_judged_by_their_address(world: World, ground: Path) -> None:
    own = str(ground / "allowed" / "socket")
    path = confined(
        world, "network",
        'bind: sockaddr match "inet-*:0" then permit',
        f'bind: sockaddr eq "{own}" then permit',
        'connect: sockaddr match "inet-[[]127.0.0.1]:*" then permit',
        f'connect: sockaddr eq "{own}" then permit',
        'connect: sockaddr match "*" then deny[enetunreach]',
    )  # fmt: skip
    code = f"""
import _socket
server = _socket.socket()
print(tries(server.bind, ("127.0.0.1", 0)))
server.listen()
port = server.getsockname()[1]
client = _socket.socket()
print(tries(client.connect, ("127.0.0.1", port)), client.getpeername()[1] == port)
print(tries(_socket.socket().connect, ("192.0.2.1", 9)),
      tries(_socket.socket().bind, ("127.0.0.1", 65001)))
def local(): return _socket.socket(_socket.AF_UNIX)
listener = local()
print(tries(listener.bind, {own!r}), tries(local().bind, {own + "2"!r}))
listener.listen()
print(tries(local().connect, {own!r}), tries(local().connect, "/dev/log"))
print(tries(local().connect, b"\\0abstract"))
os.unlink({own!r})
"""
    assert run(world, path, code) == [
        "done", "done True", "ENETUNREACH EPERM", "done EPERM", "done ENETUNREACH", "ENETUNREACH",
    ]  # fmt: skip


# -- constants -------------------------------------------------------------------------------------


def test_what_no_rule_permits_is_eperm(world: World) -> None:
    path = confined(world, "unmatched", without=["getpriority", "chdir"])
    code = "print(tries(os.getpriority, 0, 0), tries(os.chdir, '/'))"
    assert run(world, path, code) == ["EPERM EPERM"]


def test_a_constant_denial_has_its_errno(world: World) -> None:
    path = confined(world, "constant", "chdir: deny[enoent]", "getpriority: deny")
    assert run(world, path, "print(tries(os.chdir, '/'), tries(os.getpriority, 0, 0))") == [
        "ENOENT EPERM"
    ]


def test_a_call_that_nobody_makes_for_the_caller_is_denied_and_logged(
    world: World, ground: Path
) -> None:
    world.logged()
    path = confined(world, "pending", f'pivot_root: filename match "{ground}" then permit')
    code = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(155, {os.fsencode(ground)!r}, {os.fsencode(ground)!r}) == -1
print(errno.errorcode[ctypes.get_errno()])
"""
    assert run(world, path, code) == ["EPERM"]
    wait_for(lambda: any("native-pivot_root(155)" in line for line in world._log))


def test_foreign_system_calls_kill(world: World) -> None:
    source = """
#include <unistd.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    long result = 0;
    if (argv[1][0] == '3')  /* i386: getpid */
        __asm__ volatile("int $0x80" : "=a"(result) : "0"(20) : "memory", "r8", "r9", "r10", "r11");
    else                    /* x32: getpid */
        __asm__ volatile("syscall" : "=a"(result) : "0"(0x40000000 + 39) : "rcx", "r11", "memory");
    return result > 0 ? 0 : 1;
}
"""
    program = world.compile("foreign", source)
    for rules in ((), SUPERVISED):
        path = world.sign("foreign.cert", program, text=policy(program, *rules))
        for kind in ("3", "x"):
            assert world.run(path, kind).returncode == -signal.SIGSYS


ESCAPES = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else result
block = ctypes.create_string_buffer(256)
print("clone3", call(435, block, 88))
print("clone untraced", call(56, 0x00800011, 0, 0, 0, 0))
print("io_uring", call(425, 8, block))
print("nested launcher", call(157, 0x43584543, 0, 0, 0, 0))
"""


@pytest.mark.parametrize("rules", [(), SUPERVISED], ids=["plain", "supervised"])
def test_doors_that_stay_shut_whatever_is_permitted(world: World, rules: tuple[str, ...]) -> None:
    answers = dict(
        line.rsplit(" ", 1) for line in run(world, confined(world, "doors", *rules), ESCAPES)
    )
    assert answers == {
        "clone3": "ENOSYS",
        "clone untraced": "EPERM",
        "io_uring": "EPERM",
        "nested launcher": "EBUSY",
    }


def test_what_would_hide_the_program_from_its_supervisor_fails(world: World) -> None:
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else result
print("dumpable", call(157, 4, 0, 0, 0, 0), call(157, 3, 0, 0, 0, 0))
print("landlock", call(446, -1, 0))
print("setsig", call(72, 0, 10, 9), call(72, 0, 10, 19))
allow_all = ctypes.create_string_buffer(bytes((6, 0, 0, 0, 0, 0, 0xff, 0x7f)), 8)
program = (ctypes.c_ulong * 2)(1, ctypes.addressof(allow_all))
print("second listener", call(317, 1, 8, program))
print("own filter", call(317, 1, 0, program))
print("still judged", tries(os.open, "/etc/hostname", os.O_WRONLY))
"""
    rules = ['fsread: filename re "^" then permit']
    answers = run(world, confined(world, "hiding", *rules, without=["fswrite"]), code)
    assert answers == [
        "dumpable EPERM 1", "landlock ENOTSUP", "setsig EPERM EPERM", "second listener EBUSY",
        "own filter 0", "still judged EPERM",
    ]  # fmt: skip


def test_another_view_of_the_file_system_is_denied(world: World, ground: Path) -> None:
    path = confined(world, "elsewhere", *only(ground))
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
before = tries(os.open, "/etc/passwd", 0)[:5]
print(before, libc.unshare(0x10000000 | 0x20000))
print(tries(os.open, "/etc/passwd", 0), tries(os.stat, "/"))
"""
    assert run(world, path, code) == ["b'root:' 0", "EPERM EPERM"]


# -- races -----------------------------------------------------------------------------------------


def test_a_name_that_changes_while_it_is_judged_never_opens_the_other(
    world: World, ground: Path
) -> None:
    """A thread rewrites the argument between the judgement and whatever would read it again."""
    source = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static char name[512], good[512], bad[512];
static volatile int over;
static void *flip(void *unused) {
    (void)unused;
    while (!over) {
        memcpy(name, bad, sizeof name);
        for (int i = 0; i < 300; i++) __asm__ volatile("" : : : "memory");
        memcpy(name, good, sizeof name);
        for (int i = 0; i < 300; i++) __asm__ volatile("" : : : "memory");
    }
    return 0;
}
int main(int argc, char **argv) {
    int opened = 0, denied = 0;
    char text[16] = { 0 };
    pthread_t thread;
    strcpy(good, argv[1]);
    strcpy(bad, argv[2]);
    strcpy(name, good);
    pthread_create(&thread, 0, flip, 0);
    for (int i = 0; i < 3000; i++) {
        int fd = syscall(SYS_openat, AT_FDCWD, name, O_RDONLY);
        if (fd < 0) { denied++; continue; }
        if (read(fd, text, 15) > 0 && strncmp(text, "allowed", 7))
            return puts(text);
        opened++;
        close(fd);
    }
    over = 1;
    printf("%s\n", opened && denied ? "both" : opened ? "opened" : "denied");
    return argc == 3 ? 0 : 1;
}
"""
    program = world.compile("racer", source, "-pthread")
    rules = [*only(ground)]
    path = world.sign("racer.cert", program, text=policy(program, *rules))
    done = world.run(path, str(ground / "allowed/file"), str(ground / "forbidden/file"))
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout == "both\n"


def test_a_link_that_changes_while_it_is_judged_never_opens_the_other(
    world: World, ground: Path
) -> None:
    """Somebody outside swaps a symbolic link, and a directory, as fast as they can."""
    swap = world.place / "swap"
    if not swap.exists():
        world.directory("swap", 0o777)
        for name in ("allowed", "forbidden"):
            (swap / name).symlink_to(ground / name)
    swapper = f"""
import os
os.chdir({str(swap)!r})
print("ready", flush=True)
number = 0
while True:
    for name in ("allowed", "forbidden"):
        os.symlink({str(ground)!r} + "/" + name + "/file", "next")
        os.rename("next", "link")
        os.symlink({str(ground)!r} + "/" + name, "next")
        os.rename("next", "way")
"""
    racing = world.start(PYTHON, "-I", "-S", "-c", swapper)
    assert racing.stdout is not None
    assert racing.stdout.readline() == "ready\n"
    code = f"""
os.chdir({str(swap)!r})
seen = set()
for name in ("link", "way/file") * 600:
    seen.add(tries(os.open, name, 0))
    try:
        fd = os.open(name, os.O_WRONLY)
        seen.add(os.readlink(f"/proc/self/fd/{{fd}}").split("/")[-2]); os.close(fd)
    except OSError: pass
print(sorted(map(str, seen)))
"""
    rules = only(ground)
    path = confined(world, "linked", *rules)
    try:
        (line,) = run(world, path, code)
    finally:
        racing.kill()
        racing.communicate()
    assert "forbidden" not in line, line
    assert "allowed" in line
    assert re.search(r"ENOENT|EPERM", line), line
