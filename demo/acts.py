"""The acts: each runs real programs and checks what it prints."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from demo.stage import NAMESPACE, ROOT, RUN_ONLY, STRANGER_UID, Stage

REFUSED = 126
SHOWN_LINES = 4


class LeftOutError(Exception):
    """This act cannot be played on this stage; the text says why."""


def keys(place: Stage) -> None:
    """A signing key, and who it may sign for."""
    print("   $ certexec keygen -f ops")
    place.certexec("keygen", "--no-passphrase", "-f", place.path("ops"))
    add = ["trust", "add", place.path("ops.pub"), "--may-grant", "root"]
    if place.mode == RUN_ONLY:
        add += ["--trust", place.path("trust")]
    print("   $ certexec trust add ops.pub --may-grant root")
    print(indent(place.certexec(*add)))


def barred(place: Stage) -> None:
    """Where Yama bars an ordinary user's supervisor, that is said and nothing runs."""
    sign(place, "barred.cert", "/usr/bin/id", policy(place, "/usr/bin/id"))
    done = show(place, "barred.cert", user=place.ordinary, who="an ordinary user")
    refused = done.returncode == REFUSED and "ptrace_scope" in done.stderr
    check(refused and not done.stdout, "refused, and the sysctl is named")
    if place.mode != ROOT:
        raise LeftOutError("without root every act that needs a supervisor ends like this")
    print("   from here on root types, except where a grant is shown")


def by_name(place: Stage) -> None:
    """A certificate, typed by its name, is the program."""
    sign(place, "hello.cert", "/usr/bin/id", policy(place, "/usr/bin/id"))
    done = show(place, "hello.cert", "-u")
    expected = place.user if place.user is not None else os.getuid()
    check(done.stdout == f"{expected}\n", "it ran, as the one who typed it")


def two_policies(place: Stage) -> None:
    """Two certificates with different policies on one binary, and a blocked read."""
    program = real("cat")
    for name in ("tea", "coffee"):
        text = place.write(f"{name}.txt", f"the secret of {name}\n")
        rule = f'native-fsread: filename eq "{text}" then permit'
        sign(place, f"cat-{name}", program, policy(place, program, rule))
    done = show(place, "cat-tea", "tea.txt")
    check(done.stdout == "the secret of tea\n", "cat-tea reads tea.txt")
    done = show(place, "cat-tea", "coffee.txt")
    check(done.returncode == 1 and "not permitted" in done.stderr, "cat-tea cannot read coffee.txt")
    done = show(place, "cat-coffee", "coffee.txt")
    check(done.stdout == "the secret of coffee\n", "cat-coffee can")


def server(place: Stage) -> None:
    """A confined server: it may bind to one port and serve one directory."""
    port, other = free_port(), free_port()
    site = place.path("site")
    os.mkdir(site, 0o755)
    place.write("site/index.html", "<p>served under a policy</p>\n")
    os.symlink(place.write("secret.txt", "not for the web\n"), place.path("site/leak"))
    if shutil.which("nginx") and place.mode == ROOT:
        program, arguments = nginx(place, site, port)
    else:
        program, arguments = python_server(site, port)
    rules = [
        f'native-bind: sockaddr match "inet-*:{port}" then permit',
        f'native-fsread: filename match "{site}" then permit',
        *SERVER_RULES,
        *(line.format(stage=place.directory) for line in NGINX_RULES if "nginx" in program),
    ]
    print(f"   rule: {rules[0]}")
    sign(place, "web", program, policy(place, program, *rules))
    running = place.started("web", *arguments(port))
    try:
        page = fetch(f"http://127.0.0.1:{port}/index.html", running)
        check("served under a policy" in page, f"a request to port {port} is answered")
        leak = fetch(f"http://127.0.0.1:{port}/leak", running)
        check("not for the web" not in leak, "a link out is not")
    finally:
        running.terminate()
        running.communicate(timeout=20)
    done = show(place, "web", *arguments(other), timeout=20)
    check(done.returncode != 0, f"port {other} is refused to the same program")


def identity(place: Stage) -> None:
    """A program without set-user-ID gets root through its certificate; getuid() stays yours."""
    if place.mode == RUN_ONLY:
        raise LeftOutError("certexec run never grants an identity")
    if place.mode == NAMESPACE:
        raise LeftOutError("the namespace has one uid only, so ruid and euid cannot differ")
    program = real("id")
    text = policy(place, program)
    unsigned = place.path("rootid.cert")
    sign(place, unsigned, program, text, "--setuid", "root", "--allow-user", f"#{place.ordinary}")
    print("   $ certexec install rootid.cert /usr/local/bin/rootid")
    place.certexec("install", unsigned, "/usr/local/bin/rootid")
    done = show(place, "rootid", user=place.ordinary)
    stays = f"uid={place.ordinary}" in done.stdout
    check(stays and "euid=0" in done.stdout, "uid stays, euid is root")
    check(os.stat(program).st_mode & 0o6000 == 0, f"{program} itself has no set-user-ID bit")
    done = show(place, "rootid", user=STRANGER_UID, who="a stranger")
    check(done.returncode == REFUSED and "acl-denied" in done.stderr, "a stranger is refused")


def stranger(place: Stage) -> None:
    """Who is not on the list is refused."""
    program = real("id")
    sign(place, "private", program, policy(place, program), "--allow-user", "#4000000000")
    done = show(place, "private")
    check(done.returncode == REFUSED and "acl-denied" in done.stderr, "refused with its reason")


def tampered(place: Stage) -> None:
    """A binary or a certificate that was changed after signing does not run."""
    program = place.path("bin/copy-of-id")
    shutil.copy(real("id"), program)
    sign(place, "mine", program, policy(place, program))
    done = show(place, "mine", "-u")
    check(done.returncode == 0, "as signed it runs")
    with open(program, "ab") as file:
        file.write(b"one more byte")
    done = show(place, "mine")
    check(done.returncode == REFUSED and "binary-mismatch" in done.stderr, "a changed binary not")
    path = os.path.join(place.bin, "hello.cert")
    with open(path, "r+b") as file:
        data = file.read()
        at = data.index(b"/usr/bin/id")
        file.seek(at)
        file.write(b"/usr/bin/su")
    done = show(place, "hello.cert")
    check(done.returncode == REFUSED and "bad-signature" in done.stderr, "nor a certificate")


def acts(place: Stage) -> tuple[Callable[[Stage], None], ...]:
    """Return what is played here, in order."""
    return ACTS if not place.barred else (keys, barred, *ACTS[1:])


ACTS = (keys, by_name, two_policies, server, identity, stranger, tampered)

SERVER_RULES = (
    'native-fsread: filename match "/etc" then permit',
    'native-fsread: filename match "/usr" then permit',
    'native-fswrite: filename eq "/dev/null" then permit',
    *(
        f"native-{name}: permit"
        for name in (
            "socket setsockopt getsockopt listen accept accept4 getsockname getpeername "
            "sendto recvfrom sendmsg recvmsg shutdown clone poll select pselect6 epoll_create1 "
            "epoll_create epoll_ctl epoll_wait epoll_pwait eventfd2 sendfile socketpair "
            "rt_sigsuspend set_tid_address tgkill io_setup prctl gettid sched_yield wait4 pwrite64 "
            "rt_sigtimedwait timerfd_create timerfd_settime kill madvise getdents64 writev"
        ).split()
    ),
)
NGINX_RULES = (
    'native-fswrite: filename match "{stage}/nginx" then permit',
    'native-fsread: filename match "{stage}/nginx*" then permit',
    "native-chown: permit",
    "native-mkdir: permit",
)


def nginx(place: Stage, site: str, port: int) -> tuple[str, object]:
    """Make a configuration for nginx; returns the program and its arguments for a port."""
    home = place.path("nginx")
    os.mkdir(home, 0o755)
    if place.user is not None:
        os.chown(home, place.user, place.user)

    def arguments(number: int) -> list[str]:
        body = "client_body_temp_path {0}/a; proxy_temp_path {0}/b; fastcgi_temp_path {0}/c;"
        body += " uwsgi_temp_path {0}/d; scgi_temp_path {0}/e; access_log off;"
        text = (
            f"daemon off; master_process off; pid {home}/pid; error_log {home}/log;\n"
            f"events {{}}\nhttp {{ {body.format(home)}\n"
            f"server {{ listen 127.0.0.1:{number}; root {site}; }} }}\n"
        )
        conf = place.write(f"nginx-{number}.conf", text)
        return ["-c", conf, "-p", home, "-e", f"{home}/log"]

    return real("nginx"), arguments


def python_server(site: str, port: int) -> tuple[str, object]:
    """Return Python's own web server and its arguments for a port."""

    def arguments(number: int) -> list[str]:
        return [
            *("-I", "-S", "-m", "http.server"),
            *("--bind", "127.0.0.1", "--directory", site, str(number)),
        ]  # fmt: skip

    return real("python3"), arguments


def real(name: str) -> str:
    """Return the real path of a program."""
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        raise LeftOutError(f"{name} is not installed")
    return os.path.realpath(path)


def policy(place: Stage, program: str, *rules: str) -> str:
    """Write the template policy for a program plus some rules; returns its path."""
    text = place.certexec("policy", "template", program)
    have = set(text.splitlines())
    text += "".join(f"\t{rule}\n" for rule in rules if f"\t{rule}" not in have)
    name = f"policy-{len(os.listdir(place.directory))}"
    return place.write(name, text)


def sign(place: Stage, name: str, program: str, text: str, *options: str) -> None:
    """Sign and say so."""
    shown = " ".join(options)
    print(f"   $ certexec sign -k ops.key -p policy {shown} -o {os.path.basename(name)} {program}")
    if not any(option.startswith("--allow") for option in options):
        options = ("--allow-everyone", *options)
    target = name if name.startswith("/") else os.path.join(place.bin, name)
    place.certexec(
        "sign", "-k", place.path("ops.key"), "-p", text, "-o", target, *options, program
    )


def show(
    place: Stage, *argv: str, user: int | None = None, who: str = "", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command line as its user would, and show what came."""
    words = " ".join(os.path.basename(word) for word in argv)
    print(f"   ({who}) $ {words}" if who else f"   $ {words}", flush=True)
    done = subprocess.run(place.shell(*argv), timeout=timeout, **place.surroundings(user))
    lines = (done.stdout + done.stderr).strip().splitlines()
    if len(lines) > SHOWN_LINES:
        lines = ["...", *lines[-SHOWN_LINES + 1 :]]
    print(indent("\n".join(lines)) + f"\n     exit {done.returncode}", flush=True)
    return done


def fetch(url: str, running: subprocess.Popen[str]) -> str:
    """Fetch a page, waiting for the server to come up; errors of the server are text, too."""
    assert url.startswith("http://127.0.0.1:")
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return f"HTTP {error.code}"
        except OSError:
            if running.poll() is not None:
                raise AssertionError(f"the server ended: {running.communicate()}") from None
            if time.monotonic() > deadline:
                raise AssertionError("the server does not answer") from None
            time.sleep(0.1)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def indent(text: str) -> str:
    """Indent a program's output."""
    return "\n".join(f"     {line}" for line in text.strip().splitlines())


def check(holds: bool, what: str) -> None:
    """Say what was shown, or fail."""
    assert holds, what
    print(f"   -> {what}")
