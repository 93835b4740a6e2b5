"""Whatever the invoker arranges: limits, descriptors, arguments and variables.

Without a grant all of it is the program's, as if it had been started bare. With a grant nothing of
it may reach where it could do harm.
"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from certexec.run.server import ROOM
from tests.execution.people import GRANT, MODES, PLAIN, PYTHON, WATCHED, Programs
from tests.execution.world import (
    ALICE,
    INTERNAL,
    REFUSED,
    SERVICE,
    World,
    policy,
    reason,
    refused,
)

every_way = pytest.mark.parametrize("mode", MODES)
without_grant = pytest.mark.parametrize("mode", [PLAIN, WATCHED])

# -- descriptors -----------------------------------------------------------------------------------


@every_way
def test_a_thousand_descriptors_are_inherited(programs: Programs, mode: str) -> None:
    before = """
one = os.open("/etc/hostname", 0)
for number in range(20, 1020): os.dup2(one, number)
"""
    code = "import os; print(len([1 for n in range(20, 1020) if os.fstat(n)]))"
    assert programs.output(mode, code, before=before) == "1000\n"


STATIC = r"""
static long call(long n, long a, long b, long c) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "0"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
}
__attribute__((noreturn, used)) static void run(long *stack) {
    char *zero = (char *)stack[1], line[64] = "ran ";
    long at = 4;
    line[at++] = '0' + stack[0] % 10;
    line[at++] = '[';
    for (; stack[0] && *zero && at < 60; zero++)
        line[at++] = *zero;
    line[at++] = ']';
    line[at++] = '\n';
    call(1, 1, (long)line, at);
    call(231, 0, 0, 0);
    for (;;) ;
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call run\n");
"""


@pytest.fixture(scope="module")
def static(world_of_session: World) -> dict[str, str]:
    """A program without a loader, which says its argc and argv[0], in each way to run it."""
    world = world_of_session
    program = world.compile("static", STATIC, "-static", "-nostdlib", "-fno-stack-protector")
    supervised = policy(program, 'fsread: filename re "^" then permit')
    return {
        PLAIN: world.sign("static-plain", program),
        WATCHED: world.sign("static-watched", program, text=supervised),
        GRANT: world.install(
            "static-grant", program, "--setuid", "service", "--allow-user", "alice"
        ),
    }


def ran_or_ended(done: subprocess.CompletedProcess[str]) -> bool:
    """Tell whether the program ran; otherwise nothing did, and that was said or is the kernel's.

    The kernel opens the certificate for the launcher after exec's point of no return, and kills
    the process with SIGSEGV when it may have no descriptor (begin_new_exec in fs/exec.c).
    """
    if done.returncode == 0:
        assert (done.stdout[:6], done.stderr) == ("ran 1[", ""), done
        return True
    assert done.stdout == "", done
    if done.returncode != -signal.SIGSEGV:
        assert (done.returncode, reason(done)) == (INTERNAL, "internal"), done
    return False


@every_way
@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_limit_of_three_descriptors(
    world: World, static: dict[str, str], mode: str, limit: int
) -> None:
    before = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, 4096))"
    ran_or_ended(world.run(static[mode], before=before))
    # with room for one more it runs: the launcher's own needs go by the hard limit
    before = "os.close(0); resource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))"
    assert ran_or_ended(world.run(static[mode], before=before))


@every_way
def test_a_hard_limit_of_few_descriptors(world: World, static: dict[str, str], mode: str) -> None:
    """There is no room for the policy server's socket, and nothing unprivileged can make some."""
    for limit in (3, 4, 5, 8, 16):
        before = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))"
        ran_or_ended(world.run(static[mode], before=before))
        ran_or_ended(world.run(static[mode], before=f"os.close(0); {before}"))


@every_way
def test_every_descriptor_taken(world: World, static: dict[str, str], mode: str) -> None:
    before = """
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
one = os.open("/", 0)
for number in range(3, {}): os.dup2(one, number)
"""
    assert not ran_or_ended(world.run(static[mode], before=before.format(256)))
    for free in (1, 2, 3, 5, 9):
        ran_or_ended(world.run(static[mode], before=before.format(256 - free)))


@every_way
def test_a_hard_limit_that_is_just_enough(world: World, static: dict[str, str], mode: str) -> None:
    before = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({ROOM}, {ROOM}))"
    assert ran_or_ended(world.run(static[mode], before=before))


@pytest.mark.parametrize("slow", ["os.nice(10)", "os.sched_setscheduler(0, os.SCHED_IDLE, "
                                  "os.sched_param(0))"], ids=["nice", "idle"])  # fmt: skip
@every_way
def test_an_invoker_who_is_slow_on_purpose(
    world: World, static: dict[str, str], mode: str, slow: str
) -> None:
    """In the machine, as in a container, not even root has CAP_SYS_NICE over what is outside."""
    assert ran_or_ended(world.run(static[mode], before=slow))


# -- arguments -------------------------------------------------------------------------------------


@every_way
def test_argc_zero(world: World, static: dict[str, str], mode: str) -> None:
    """Linux 5.18 makes an empty argv[0] of it, older kernels pass none."""
    before = "import ctypes; none = (ctypes.c_char_p * 1)(None)\n"
    before += "ctypes.CDLL(None).execve(program.encode(), none, none)"
    done = world.run(static[mode], before=before)
    if done.returncode == 0:
        assert done.stdout == "ran 1[]\n"
        assert done.stderr == ""
    else:
        assert (done.returncode, done.stdout) == (REFUSED, "")


@every_way
def test_huge_arguments(programs: Programs, mode: str) -> None:
    """A single argument may have 128 KiB, all together a quarter of the stack limit."""
    before = "argv += ['x' * (131072 - 1)] * 12 + [''] * 5000"
    code = "import sys; print(len(sys.argv), sum(map(len, sys.argv[1:])))"
    assert programs.output(mode, code, before=before) == f"5013 {12 * 131071}\n"


@every_way
def test_arguments_too_long_for_exec_are_the_callers_error(programs: Programs, mode: str) -> None:
    before = "argv += ['x' * (131072 - 1)] * 80"
    done = programs.run(mode, "print('ran')", before=before)
    assert "Argument list too long" in done.stderr
    assert done.stdout == ""


# -- other limits ----------------------------------------------------------------------------------


@every_way
def test_a_file_size_limit_of_zero(programs: Programs, mode: str) -> None:
    before = "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_FSIZE))"
    assert programs.output(mode, code, before=before) == "(0, 0)\n"


def test_a_sealed_copy_under_a_file_size_limit_is_refused_or_runs(world: World) -> None:
    certificate = world.sign("sealed.cert", "/usr/bin/id", "--integrity", "sealed")
    assert world.run(certificate, "-u").stdout == f"{ALICE}\n"
    done = world.run(certificate, "-u", before="resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))")
    refused(done, "binary-unusable")
    assert "ulimit -f" in done.stderr
    installed = world.install(
        "sealed-grant", "/usr/bin/id", "--integrity", "sealed", "--setuid", "service",
        "--allow-user", "alice",
    )  # fmt: skip
    before = "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))"
    done = world.run(installed, "-u", before=before)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{SERVICE}\n", "")


@pytest.mark.parametrize(
    "name", ["CPU", "DATA", "STACK", "AS", "NPROC", "MEMLOCK", "SIGPENDING", "MSGQUEUE", "CORE"]
)
@every_way
def test_a_starved_invoker_gets_a_refusal_or_the_program(
    world: World, static: dict[str, str], mode: str, name: str
) -> None:
    """Never a hang, never something half done; with a grant the limits do not reach the server."""
    value = {"STACK": 65536, "AS": 1 << 20, "DATA": 4096, "CPU": 1}.get(name, 0)
    done = world.run(
        static[mode], before=f"resource.setrlimit(resource.RLIMIT_{name}, ({value}, {value}))"
    )
    if mode == GRANT and name not in ("AS", "DATA", "STACK", "NPROC"):
        assert done.returncode == 0, done
    if done.returncode == 0:
        assert done.stdout.startswith("ran 1["), done
    elif done.returncode > 0 and "certexec: " in done.stderr:
        assert done.returncode in (125, 126), done
        assert (done.stdout, done.stderr.count("\n")) == ("", 1), done


# -- variables -------------------------------------------------------------------------------------

EVIL = r"""
#include <stdio.h>
#include <unistd.h>
__attribute__((constructor)) static void evil(void) { write(1, "PRELOADED\n", 10); }
unsigned la_version(unsigned version) { write(1, "AUDITED\n", 8); return version; }
"""


@pytest.fixture(scope="module")
def evil(world_of_session: World) -> dict[str, str]:
    """The environment of somebody who wants to get into a program."""
    world = world_of_session
    library = world.compile("evil.so", EVIL, "-shared", "-fPIC")
    home = world.directory("evil-home")
    (home / "sitecustomize.py").write_text("print('SITECUSTOMIZE')\n")
    (home / "encodings").mkdir()
    (home / "encodings" / "__init__.py").write_text("print('ENCODINGS')\n")
    (home / "gconv-modules").write_text(f"module INTERNAL EVIL// {library} 1\n")
    return {
        "LD_PRELOAD": library,
        "LD_AUDIT": library,
        "LD_LIBRARY_PATH": str(home),
        "LD_DEBUG": "all",
        "PYTHONPATH": str(home),
        "PYTHONHOME": str(home),
        "PYTHONSTARTUP": str(home / "sitecustomize.py"),
        "PYTHONINSPECT": "1",
        "GCONV_PATH": str(home),
        "GLIBC_TUNABLES": "glibc.malloc.perturb=170:glibc.rtld.optional_static_tls=9999999",
        "TMPDIR": str(home),
        "MALLOC_PERTURB_": "170",
        "BASH_ENV": str(home / "gconv-modules"),
        "IFS": "x",
    }


SHOW = "env"


@pytest.mark.parametrize(
    "options",
    [["--setuid", "root"], ["--setuid", "service"], ["--setgid", "netadmin"],
     ["--cap", "net_bind_service"], ["--add-group", "netadmin"]],
    ids=lambda options: options[0][2:] + "-" + options[1],
)  # fmt: skip
def test_with_a_grant_no_variable_can_take_over(
    world: World, evil: dict[str, str], options: list[str]
) -> None:
    installed = world.install("env-grant", "/usr/bin/env", *options, "--allow-user", "alice")
    done = world.run(installed, env={**evil, "LANG": "C.UTF-8", "TERM": "xterm", "HOME": "/evil"})
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert not set(found) & set(evil), found
    assert "PRELOADED" not in done.stdout
    assert "AUDITED" not in done.stdout
    assert found["HOME"] == "/home/alice"  # the account's, not the typed one
    assert found["USER"] == "alice"
    assert found["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert found["LANG"] == "C.UTF-8"
    assert found["TERM"] == "xterm"


def test_with_a_grant_python_starts_clean(world: World, evil: dict[str, str]) -> None:
    installed = world.install("py-grant", PYTHON, "--setuid", "service", "--allow-user", "alice")
    code = "import os, sys; print(os.geteuid(), sorted(os.environ))"
    done = world.run(installed, "-c", code, env=evil)
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == [
        f"{SERVICE} ['HOME', 'LC_ALL', 'LC_CTYPE', 'LOGNAME', 'PATH', 'SHELL', 'USER']"
    ] or done.stdout.startswith(f"{SERVICE} ['HOME', 'LC_ALL'"), done


@without_grant
def test_without_a_grant_they_are_the_invokers_own_business(
    world: World, evil: dict[str, str], mode: str
) -> None:
    """They reach the program, as they reach it bare, and neither launcher nor supervisor."""
    text = policy(
        "/usr/bin/env", *([] if mode == PLAIN else ['fsread: filename re "^" then permit'])
    )
    certificate = world.sign(f"env-{mode}", "/usr/bin/env", text=text)
    chosen = {name: evil[name] for name in evil if name not in ("LD_DEBUG", "LD_AUDIT")}
    done = world.run(certificate, env=chosen)
    bare = world.run("/usr/bin/env", env=chosen)
    assert (done.returncode, done.stdout, done.stderr) == (
        bare.returncode,
        bare.stdout,
        bare.stderr,
    )
    assert done.stdout.count("PRELOADED") == 1


def test_a_certificate_may_name_its_variables(world: World) -> None:
    certificate = world.sign(
        "chosen", "/usr/bin/env", "--env", "KEEP", "--env", "ABSENT", "--set-env", "SET=a value"
    )
    done = world.run(certificate, env={"KEEP": "kept", "OTHER": "lost", "SET": "typed"})
    assert sorted(done.stdout.splitlines()) == ["KEEP=kept", "SET=a value"]


def test_with_a_grant_a_dangerous_name_is_not_even_signed(world: World) -> None:
    rules = world.write("env.policy", policy("/usr/bin/env"))
    for option in (
        ["--env", "LD_PRELOAD"],
        ["--set-env", "PYTHONPATH=/x"],
        ["--env", "BASH_FUNC_x%%"],
    ):
        done = world.attempt(
            "sign", "-k", world.path("ops.key"), "-p", rules, "--setuid", "root",
            "--allow-everyone", *option, "-o", world.path("x.cert"), "/usr/bin/env",
        )  # fmt: skip
        assert done.returncode == 2, done
        assert not os.path.exists(world.path("x.cert"))


# -- the certificate's own limits ------------------------------------------------------------------

LIMITS = """
import os, resource
mask = os.umask(0)
print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE),
      resource.getrlimit(resource.RLIMIT_AS)[0], oct(mask), os.getpriority(0, 0),
      open("/proc/self/oom_score_adj").read().strip())
"""


@pytest.mark.parametrize("mode", [PLAIN, WATCHED, GRANT])
def test_certified_limits_are_applied(world: World, mode: str) -> None:
    options = ["--rlimit", "nofile=100:200", "--rlimit", "core=0", "--rlimit", "as=2g",
               "--umask", "027", "--nice", "5", "--oom", "300"]  # fmt: skip
    text = policy(PYTHON, *([] if mode == PLAIN else ['fsread: filename re "^" then permit']))
    if mode == GRANT:
        path = world.install("limits-grant", PYTHON, *options, "--setuid", "service",
                             "--allow-user", "alice", text=text)  # fmt: skip
    else:
        path = world.sign(f"limits-{mode}", PYTHON, *options, text=text)
    done = world.run(path, "-I", "-S", "-c", LIMITS)
    assert done.stdout == f"(100, 200) (0, 0) {2 << 30} 0o27 5 300\n", done


def test_a_descriptor_limit_below_what_is_open_holds_for_new_ones(world: World) -> None:
    path = world.sign("nofile", PYTHON, "--rlimit", "nofile=64",
                      text=policy(PYTHON, 'fsread: filename re "^" then permit'))  # fmt: skip
    before = "one = os.open('/', 0)\nfor n in range(3, 60): os.dup2(one, n)"
    code = """
import os
try:
    while True: last = os.open("/", 0)
except OSError as error: print(last, error.errno)
"""
    assert world.run(path, "-I", "-S", "-c", code, before=before).stdout == "63 24\n"


def test_a_limit_that_cannot_be_set_refuses(world: World) -> None:
    certificate = world.sign("too-much", "/usr/bin/id", "--rlimit", "nofile=4096")
    before = "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))"
    refused(world.run(certificate, before=before), "limit-failed")
    for options in (["--nice", "-5"], ["--oom", "-500"]):
        certificate = world.sign("too-much", "/usr/bin/id", *options)
        refused(world.run(certificate), "limit-failed")


def test_limits_do_not_reach_the_supervisor(world: World) -> None:
    """It must serve however tight the program's own limits are."""
    text = policy(PYTHON, 'fsread: filename re "^" then permit')
    path = world.sign("tight", PYTHON, "--rlimit", "nofile=20", "--rlimit", "fsize=0",
                      "--rlimit", "nproc=0", text=text)  # fmt: skip
    code = "import os; print(all(os.path.exists(p) for p in ['/etc', '/usr', '/'] * 300))"
    assert world.run(path, "-I", "-S", "-c", code).stdout == "True\n"
