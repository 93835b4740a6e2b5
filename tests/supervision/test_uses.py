"""Policies for five uses (tests/policy/uses), each with the program it is for, and a hostile one.

What a use is there for does the same as bare, in output, exit status and files; what goes beyond it
is denied, and logged.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer, ThreadingTCPServer
from typing import Any

import pytest

from certexec.policy.lint import lint, lint_text
from certexec.policy.syntax import parse_policy
from tests.execution.world import World
from tests.isolation import PROJECT, need
from tests.policy.common import USERS
from tests.supervision.conftest import Cage, wait_for

USES = Path(PROJECT, "tests", "policy", "uses")
GUEST = 61007
"""Whoever uses the programs: a user of the machine with a home of its own."""
SHELL, PYTHON, CURL, NGINX = "/usr/bin/dash", "/usr/bin/python3", "/usr/bin/curl", "/usr/sbin/nginx"
MEANT = {"restricted_shell": ["inpath"]}
"""What lint says of a policy that means it."""


class Desk:
    """The guest's home, and the programs in it, bare and under a policy."""

    def __init__(self, world: World, top: Path) -> None:
        self.world = world
        self.home = top / "guest"
        self.other = top / "other"
        self.lines: list[str] = []
        self.furnish()

    def furnish(self) -> None:
        """Make both homes as they are at first."""
        for home in (self.home, self.other):
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
        self.put("guest/.profile", "umask 022\n")
        self.put("guest/.ssh/id", "the key\n")
        self.put("guest/papers/one", "1\n2\n")
        self.put("guest/Downloads/.keep", "")
        shutil.copy("/usr/bin/id", self.put("guest/tool", ""))
        (self.home / "tool").chmod(0o755)
        self.put("other/diary", "dear diary\n")

    def put(self, name: str, text: str) -> Path:
        """Write a file; everything belongs to the guest, so that only a policy keeps it."""
        path = self.home.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for one in (path, *path.parents):
            if one == self.home.parent:
                break
            os.chown(one, GUEST, GUEST)
        return path

    def files(self) -> dict[str, bytes]:
        """Return what the home holds."""
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in sorted(self.home.rglob("*")) if path.is_file()
        }  # fmt: skip

    def sign(self, use: str, program: str, *changes: tuple[str, str]) -> str:
        """Return a certificate of a program under the policy for a use."""
        text = (USES / f"{use}.policy").read_text()
        own = (f"Policy: {program},", f"Policy: {os.path.realpath(program)},")
        for old, new in (own, *changes):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        lines = text.splitlines(keepends=True)
        # where the machine's /etc leads to (tests/isolation.py)
        lines += [one.replace('"/etc/', '"/mnt/etc/') for one in lines if '"/etc/' in one]
        text = "".join(lines)
        return self.world.install(use, program, "--no-inherit", text=text)

    def setting(self) -> dict[str, Any]:
        """Return how the guest's programs are started."""
        env = {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}
        return {"uid": GUEST, "cwd": self.home, "env": env}

    def run(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program as the guest."""
        setting = self.setting()
        setting["env"].update(env)
        return self.world.run(*argv, **setting)

    def alike(self, bare: str, confined: str, *argv: str) -> str:
        """Run a program bare and confined: all must be the same; returns what it printed."""
        ends = []
        for program in (bare, confined):
            self.furnish()
            self.world.logged()
            done = self.run(program, *argv)
            ends.append((done.returncode, done.stdout, done.stderr, self.files()))
        self.lines = self.world.logged()
        assert ends[1] == ends[0], (ends, self.lines)
        denied = [one for one in self.lines if "deny " in one]
        assert not denied, "\n".join(denied)
        assert ends[0][0] == 0 and not ends[0][2], ends[0]
        return ends[0][1]

    def saw(self, *events: tuple[str, ...]) -> None:
        """Check that each event came to the log: a line that holds all of its words."""
        lines, self.lines = self.lines, []

        def complete() -> bool:
            lines.extend(self.world.logged())
            return all(any(all(word in one for word in event) for one in lines) for event in events)

        try:
            wait_for(complete, 5)
        except AssertionError:
            pytest.fail(f"not all of {events} in the log:\n" + "".join(lines))


@pytest.fixture(scope="module")
def homes(world_of_session: World) -> Path:
    """The place of the homes; the guest is known to the machine."""
    top = world_of_session.directory("homes")
    passwd = Path(world_of_session.machine.path("/etc/passwd"))
    with passwd.open("a") as file:
        file.write(f"guest:x:{GUEST}:{GUEST}::{top}/guest:/bin/sh\n")
    return top


@pytest.fixture
def desk(cage: Cage, homes: Path) -> Iterator[Desk]:
    yield Desk(cage.world, homes)
    for home in homes.iterdir():
        shutil.rmtree(home)


@contextmanager
def serving(server: TCPServer) -> Iterator[str]:
    """Answer at a port of this machine; gives the port."""
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield str(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Chat(StreamRequestHandler):
    """A chat server: it greets, and says back what it hears."""

    def handle(self) -> None:
        with suppress(ConnectionError):
            self.wfile.write(b"welcome\n")
            self.wfile.write(b"buddy: " + self.rfile.readline())


class Web(BaseHTTPRequestHandler):
    """A web server with one page."""

    def do_GET(self) -> None:
        body = b"<p>page</p>\n" * 1000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.mark.parametrize("path", sorted(USES.glob("*.policy")), ids=lambda path: path.stem)
def test_each_policy_is_systraces_own_language_and_has_no_surprise(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(("# A ", "# Program execution:"))
    assert "Language:" not in text
    parsed = parse_policy(text, name=path.stem, users=USERS, privileged=True)
    assert len(parsed.policies) == 1
    assert [one.code for one in lint(parsed)] == MEANT.get(path.stem, [])
    assert lint_text(text) == []


def test_the_five_uses_are_there() -> None:
    assert sorted(path.stem for path in USES.glob("*.policy")) == [
        "aim_client", "program_execution", "restricted_shell", "web_browser", "web_server",
    ]  # fmt: skip


def test_a_restricted_shell_runs_three_commands_in_its_home(desk: Desk) -> None:
    need("dash")
    shell = desk.sign("restricted_shell", SHELL)
    script = (
        "cd papers; pwd; cat one; cat one one | wc -l; echo word > two; ls; wc -c < two; "
        "cd; ls papers; for i in 1 2; do cat papers/two; done; ls nothing 2> /dev/null || echo $?"
    )
    said = desk.alike(SHELL, shell, "-c", script).splitlines()
    assert said[-3:] == ["word", "word", "2"]
    desk.saw(("permit ", "execve", "/usr/bin/wc"))


def test_a_restricted_shell_runs_nothing_else_and_stays_out_of_other_homes(desk: Desk) -> None:
    need("dash")
    shell = desk.sign("restricted_shell", SHELL)
    diary = desk.other / "diary"
    for script, errno, event in (
        ("/usr/bin/id", "Operation not permitted", ("execve", "/usr/bin/id")),
        ("./tool", "Operation not permitted", ("execve", f"{desk.home}/tool")),
        ("cat ../other/diary", "Operation not permitted", ("filename: ", str(diary))),
        ("read line < ../other/diary && echo $line", "Operation", ("filename: ", str(diary))),
        ("cat papers/../../other/diary", "not permitted", ("filename: ", str(diary))),
        ("ls ../other", "Operation not permitted", ("filename: ", str(desk.other))),
        ("echo x > ../other/diary", "Operation not permitted", ("filename: ", str(diary))),
        ("echo evil >> ~/.profile", "Read-only file system", ("filename: ", ".profile")),
    ):
        (desk.home / "link").symlink_to(diary)
        assert desk.run(SHELL, "-c", script).returncode == 0, script
        desk.furnish()
        before = desk.files()
        desk.world.logged()
        done = desk.run(shell, "-c", script)
        assert done.returncode != 0 and not done.stdout, done
        assert errno in done.stderr, done
        assert desk.files() == before and diary.read_text() == "dear diary\n"
        desk.saw(("deny ", *event))


def test_program_execution_runs_what_is_listed(desk: Desk) -> None:
    need("dash")
    shell = desk.sign("program_execution", SHELL)
    script = (
        "printf '10\\n9\\n' > numbers; sort < numbers; sort -n < numbers; date -u -d @0 +%Y; "
        "/usr/bin/env A=b sort -n < numbers"
    )
    assert desk.alike(SHELL, shell, "-c", script).split()[-3:] == ["1970", "9", "10"]
    desk.saw(("permit ", "execve", "/usr/bin/date", "argv: date -u -d @0 +%Y"))


def test_program_execution_runs_no_other_program_and_no_other_arguments(desk: Desk) -> None:
    need("dash")
    shell = desk.sign("program_execution", SHELL)
    loader = next(Path("/usr/lib").glob("*-linux-gnu/ld-linux-*.so.*"))
    (desk.home / "link").symlink_to("/usr/bin/id")
    for script, event in (
        ("id", ("execve", "/usr/bin/id")),
        ("./link", ("execve", "/usr/bin/id")),
        ("./tool", ("execve", f"{desk.home}/tool")),
        (f"{loader} /usr/bin/id", ("execve", loader.name)),
        ("echo x | sort -o stolen", ("execve", "argv: sort -o stolen")),
        ("date -u -d @0 +%Y%m", ("execve", "argv: date -u -d @0 +%Y%m")),
        ("env id", ("execve", "/usr/bin/id")),
        ("echo x > ../other/diary", ("filename: ", "other/diary")),
    ):
        assert desk.run(SHELL, "-c", script).returncode == 0, script
        (desk.home / "stolen").unlink(missing_ok=True)
        desk.world.logged()
        done = desk.run(shell, "-c", script)
        assert done.returncode != 0 and not done.stdout, done
        assert "Permission denied" in done.stderr or "not permitted" in done.stderr, done
        assert not (desk.home / "stolen").exists()
        desk.saw(("deny ", *event))


CLIENT = """
import os, socket, sys
own = os.environ["HOME"] + "/.chat"
os.makedirs(own, exist_ok=True)
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as line:
    with line.makefile("rw") as words, open(own + "/log", "a") as log:
        print(words.readline(), end="")
        words.write(sys.argv[2] + "\\n")
        words.flush()
        log.write(words.readline())
print(open(own + "/log").read(), end="")
"""
TAKEN = """
import errno, os, socket, sys
port, other, home = int(sys.argv[1]), int(sys.argv[2]), os.environ["HOME"]
def call(*address, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET if len(address) > 1 else socket.AF_UNIX, kind) as line:
        line.connect(address if len(address) > 1 else address[0])
def write(name):
    open(name, "a").write("evil")
def execute(path):
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(path, ["x", "-c", "exit 0"])
        except OSError as error:
            os._exit(error.errno)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, "")
for act, *args in (
    (call, "127.0.0.1", other), (call, "127.0.0.2", port), (call, "/dev/log"),
    (lambda: call("127.0.0.1", port, kind=socket.SOCK_DGRAM),),
    (lambda: open(home + "/.ssh/id").read(),), (write, home + "/.profile"),
    (write, home + "/../other/diary"), (execute, "/usr/bin/dash"),
):
    try:
        act(*args)
        print("ok")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


def test_a_chat_client_talks_to_its_server_and_keeps_its_log(desk: Desk) -> None:
    with serving(ThreadingTCPServer(("127.0.0.1", 0), Chat)) as port:
        client = desk.sign("aim_client", PYTHON, (":5190", f":{port}"))
        said = desk.alike(PYTHON, client, "-I", "-S", "-c", CLIENT, port, "hello")
    assert said == "welcome\nbuddy: hello\n"
    assert (desk.home / ".chat/log").read_text() == "buddy: hello\n"
    desk.saw(("permit ", "connect", f"inet-[127.0.0.1]:{port}"))


def test_a_chat_client_that_was_taken_over_gets_nowhere_else(desk: Desk) -> None:
    with (
        serving(ThreadingTCPServer(("127.0.0.1", 0), Chat)) as port,
        serving(ThreadingTCPServer(("127.0.0.1", 0), Chat)) as other,
    ):
        client = desk.sign("aim_client", PYTHON, (":5190", f":{port}"))
        code = ("-I", "-S", "-c", TAKEN, port, other)
        bare = desk.run(PYTHON, *code).stdout.split()
        assert bare == ["ok", "ECONNREFUSED", "EPROTOTYPE", "ok", "ok", "ok", "ok", "ok"], bare
        desk.furnish()
        before = desk.files()
        desk.world.logged()
        done = desk.run(client, *code)
    assert done.stdout.split() == [*["EPERM"] * 4, "EACCES", "EACCES", "EPERM", "EPERM"], done
    assert desk.files() == before and (desk.other / "diary").read_text() == "dear diary\n"
    desk.saw(
        ("deny ", f"sockaddr: inet-[127.0.0.1]:{other}"),
        ("deny ", f"sockaddr: inet-[127.0.0.2]:{port}"),
        ("deny ", f"filename: {desk.home}/.ssh/id"), ("deny ", f"filename: {desk.home}/.profile"),
        ("deny ", f"filename: {desk.other}/diary"),
    )  # fmt: skip


def test_a_browser_downloads_into_one_directory(desk: Desk) -> None:
    need("curl")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Web)) as port:
        browser = desk.sign("web_browser", CURL, (':80"', f':{port}"'))
        address = f"http://127.0.0.1:{port}/"
        said = desk.alike(
            CURL, browser, "-sS", "-w", "%{http_code} %{size_download}\n", address,
            "-o", "Downloads/page", address, "-o", "Downloads/again",
        )  # fmt: skip
    assert said == "200 12000\n200 12000\n"
    assert (desk.home / "Downloads/page").read_text() == "<p>page</p>\n" * 1000


EXECUTES = """
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void taken(void)
{
    char *argv[] = {"id", 0}, *none[] = {0};
    execve("/usr/bin/id", argv, none);
    printf("%s\\n", strerror(errno));
    fflush(stdout);
}
"""
"""What a page would have done to a browser with a hole: code in a file that it may read."""


def test_a_browser_reads_no_keys_writes_nowhere_else_and_executes_nothing(desk: Desk) -> None:
    need("curl")
    evil = Path(desk.world.compile("evil.so", EXECUTES, "-shared", "-fPIC"))
    with (
        serving(ThreadingHTTPServer(("127.0.0.1", 0), Web)) as port,
        serving(ThreadingHTTPServer(("127.0.0.1", 0), Web)) as other,
    ):
        browser = desk.sign("web_browser", CURL, (':80"', f':{port}"'))
        key, address = f"{desk.home}/.ssh/id", f"http://127.0.0.1:{port}/"
        for argv, event in (
            ([f"file://{key}"], key),
            (["-T", key, address], key),
            ([f"file://{desk.other}/diary"], f"{desk.other}/diary"),
            ([address, "-o", ".profile"], f"{desk.home}/.profile"),
            ([f"http://127.0.0.1:{other}/"], f"inet-[127.0.0.1]:{other}"),
        ):
            before = desk.files()
            desk.world.logged()
            done = desk.run(browser, "-sS", *argv)
            assert done.returncode != 0 and not done.stdout, done
            assert desk.files() == before
            desk.saw(("deny ", f": {event}"))
            bare = desk.run(CURL, "-s", *argv)
            assert bare.returncode == 0 or "-T" in argv, bare  # the server takes no uploads
            desk.furnish()
        preload = str(desk.home / "Downloads/evil.so")
        shutil.copy(evil, preload)
        done = desk.run(browser, "-sS", address, "-o", "Downloads/page", LD_PRELOAD=preload)
        assert done.stdout == "Permission denied\n", done
        desk.saw(("deny ", "execve", "filename: /usr/bin/id"))
        assert "uid=" in desk.run(CURL, "--version", LD_PRELOAD=preload).stdout


CONFIGURATION = """
daemon off; worker_processes 1; pid {www}/logs/pid; error_log {log};
events {{ worker_connections 16; }}
http {{ log_format plain "$request $status"; access_log {www}/logs/access plain;
  client_body_temp_path {www}/tmp/a; proxy_temp_path {www}/tmp/b; fastcgi_temp_path {www}/tmp/c;
  uwsgi_temp_path {www}/tmp/d; scgi_temp_path {www}/tmp/e;
  server {{ listen 127.0.0.1:{port}; root {www}/htdocs; autoindex on;
    location /home/ {{ alias {home}/; }} }} }}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, name: str) -> tuple[int, str]:
    """Return what a web server says of a name: status and, of a page, its text."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{port}/{name}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


class Site:
    """The web server's files in the guest's home, and ways to run it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.www = desk.home / "www"
        self.port = free_port()
        self.program = desk.sign("web_server", NGINX, (':8080"', f':{self.port}"'))

    def argv(self, program: str, port: int, log: Path) -> list[str]:
        """Write all files; return the command line."""
        desk = self.desk
        desk.furnish()
        desk.put("guest/www/htdocs/index.html", "<p>hello</p>\n")
        desk.put("guest/www/htdocs/more/long", "line\n" * 20000)
        desk.put("guest/www/logs/.keep", "")
        desk.put("guest/www/tmp/.keep", "")
        (self.www / "htdocs/key").symlink_to(desk.home / ".ssh/id")
        text = CONFIGURATION.format(www=self.www, log=log, port=port, home=desk.home)
        desk.put("guest/www/nginx.conf", text)
        return [program, "-p", str(self.www), "-c", str(self.www / "nginx.conf"), "-e", str(log)]

    def answers(self, program: str, *names: str) -> tuple[list[tuple[int, str]], int, str]:
        """Return what the server says of these names, its exit status and its access log."""
        argv = self.argv(program, self.port, self.www / "logs/error")
        server = self.desk.world.start(*argv, **self.desk.setting())
        try:
            wait_for(lambda: (self.www / "logs/pid").exists() or server.poll() is not None)
            said = [get(self.port, name) for name in names]
            server.send_signal(signal.SIGQUIT)
            _, errors = server.communicate(timeout=20)
            assert not errors
        finally:
            server.kill()
            server.wait()
        return said, server.returncode, (self.www / "logs/access").read_text()

    def refuses(self, port: int, log: Path) -> str:
        """Start it with a configuration under which it may not start; returns what it said."""
        done = self.desk.run(*self.argv(self.program, port, log))
        assert done.returncode == 1, done
        return done.stderr


def test_a_web_server_serves_its_documents(desk: Desk) -> None:
    need("nginx")
    site = Site(desk)
    desk.world.logged()
    ends = [site.answers(one, "", "more/long", "none", "more/") for one in (NGINX, site.program)]
    assert ends[1] == ends[0]
    said, code, log = ends[0]
    assert [status for status, _ in said] == [200, 200, 404, 200] and code == 0
    assert said[0][1] == "<p>hello</p>\n" and len(said[1][1]) == 100000
    assert log.splitlines()[2] == "GET /none HTTP/1.1 404"
    desk.saw(("permit ", "bind", f"sockaddr: inet-[127.0.0.1]:{site.port}"))


def test_a_web_server_reads_nothing_else_whatever_leads_there(desk: Desk) -> None:
    need("nginx")
    site = Site(desk)
    names = ("key", "home/.ssh/id", "home/papers/one")
    said, _, _ = site.answers(NGINX, *names)
    assert said == [(200, "the key\n"), (200, "the key\n"), (200, "1\n2\n")]
    desk.world.logged()
    said, code, _ = site.answers(site.program, *names)
    assert said == [(403, "")] * 3 and code == 0
    desk.saw(
        ("deny ", f"filename: {desk.home}/.ssh/id"), ("deny ", f"filename: {desk.home}/papers/one")
    )


def test_a_web_server_binds_no_other_port_and_writes_no_other_log(desk: Desk) -> None:
    need("nginx")
    site = Site(desk)
    other = free_port()
    desk.world.logged()
    said = site.refuses(other, site.www / "logs/error")
    assert f"bind() to 127.0.0.1:{other} failed (1: Operation not permitted)" in said
    desk.saw(("deny ", "bind", f"sockaddr: inet-[127.0.0.1]:{other}"))
    said = site.refuses(site.port, desk.home / ".profile")
    assert "failed (13: Permission denied)" in said
    assert (desk.home / ".profile").read_text() == "umask 022\n"
    desk.saw(("deny ", f"filename: {desk.home}/.profile"))
