"""Whom a program runs as, that it stays so, and that nobody else can reach into it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.people import PYTHON
from tests.execution.world import (
    ALICE,
    BOB,
    NETADMIN,
    SERVICE,
    SUPERVISED,
    World,
    policy,
    wait_for,
)
from tests.isolation import need

CAP_CHOWN, CAP_NET_BIND, CAP_NET_RAW = 1 << 0, 1 << 10, 1 << 13

PROBE = """
import json, os, sys
lines = open("/proc/self/status").read().splitlines()
status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
json.dump({
    "uids": [int(one) for one in status["Uid"].split()],
    "gids": [int(one) for one in status["Gid"].split()],
    "groups": [int(one) for one in status["Groups"].split()],
    "caps": {name: int(status[name], 16) for name in status if name.startswith("Cap")},
    "nnp": status["NoNewPrivs"],
}, sys.stdout)
"""


def found(world: World, path: str, *, uid: int = ALICE, groups: tuple[int, ...] = ()) -> dict:  # type: ignore[type-arg]
    done = world.run(path, "-I", "-S", "-c", PROBE, uid=uid, groups=groups)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def granted(world: World, *options: str) -> str:
    """Install a certificate for Python with these grants; everybody may run it."""
    name = "as-" + "-".join(one.strip("-") for one in options)
    path = f"/usr/local/bin/{name}"
    if os.path.exists(world.machine.path(path)):
        return path  # another test has made it
    return world.install(name, PYTHON, *options, "--allow-everyone")


# -- ids -------------------------------------------------------------------------------------------


def test_without_a_grant_everything_is_the_invokers(world: World) -> None:
    state = found(world, world.sign("nothing.cert", PYTHON), groups=(NETADMIN,))
    assert state["uids"] == [ALICE] * 4
    assert state["gids"] == [ALICE] * 4
    assert state["groups"] == [NETADMIN]
    assert state["caps"]["CapPrm"] == state["caps"]["CapEff"] == 0
    assert state["nnp"] == "1"


@pytest.mark.parametrize(
    ("options", "euid", "egid", "groups"),
    [
        (["--setuid", "root"], 0, ALICE, [NETADMIN]),
        (["--setuid", "service"], SERVICE, ALICE, [NETADMIN]),
        (["--setgid", "netadmin"], ALICE, NETADMIN, [NETADMIN]),
        (["--setuid", "service", "--setgid", "service"], SERVICE, SERVICE, [NETADMIN]),
        (["--setuid", "service", "--no-groups"], SERVICE, ALICE, []),
        (["--add-group", "service", "--add-group", "bob"], ALICE, ALICE, [BOB, SERVICE]),
        (["--setuid", "#61777", "--add-group", "#61888"], 61777, ALICE, [61888]),
        (["--setuid", "root", "--setgid", "root", "--no-groups"], 0, 0, []),
    ],
    ids=lambda value: (
        "-".join(value).replace("--", "")
        if isinstance(value, list) and value and isinstance(value[0], str)
        else ""
    ),
)
def test_ruid_stays_and_the_others_become_what_is_certified(
    world: World, options: list[str], euid: int, egid: int, groups: list[int]
) -> None:
    if options[0] == "--add-group" and "--setuid" not in options:
        pass  # groups only: it also runs from an unreadable memory file
    state = found(world, granted(world, *options), groups=(NETADMIN,))
    assert state["uids"] == [ALICE, euid, euid, euid]
    assert state["gids"] == [ALICE, egid, egid, egid]
    assert state["groups"] == groups
    if euid != 0:
        assert state["caps"]["CapPrm"] == state["caps"]["CapEff"] == state["caps"]["CapAmb"] == 0
    assert state["nnp"] == "0"


def test_root_itself_may_take_another_identity(world: World) -> None:
    state = found(world, granted(world, "--setuid", "service", "--no-caps"), uid=0)
    assert state["uids"] == [0, SERVICE, SERVICE, SERVICE]
    assert state["caps"]["CapEff"] == 0


def test_the_saved_ids_give_no_way_back(world: World) -> None:
    code = """
import os
def tries(function, *ids):
    try: function(*ids); return os.getresuid()
    except OSError as error: return error.errno
print(tries(os.setresuid, 0, 0, 0), tries(os.seteuid, 0), tries(os.setuid, 0),
      tries(os.setgroups, [0]), tries(os.setresgid, 0, 0, 0))
"""
    done = world.run(granted(world, "--setuid", "service"), "-I", "-S", "-c", code)
    assert (done.returncode, done.stdout) == (0, "1 1 1 1 1\n"), done
    code = (
        "import os; own = os.getuid(); os.seteuid(own); os.setreuid(-1, own); print(os.geteuid())"
    )
    done = world.run(granted(world, "--setuid", "service"), "-I", "-S", "-c", code)
    assert done.stdout == f"{ALICE}\n"  # it may give its identity up, as any program


# -- capabilities ----------------------------------------------------------------------------------


def test_a_capability_with_an_ordinary_uid_comes_as_ambient(world: World) -> None:
    state = found(world, granted(world, "--cap", "net_bind_service"))
    assert state["uids"] == [ALICE] * 4
    assert state["caps"] == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), CAP_NET_BIND
    )


def test_capabilities_with_another_uid_are_exactly_the_certified(world: World) -> None:
    state = found(
        world, granted(world, "--setuid", "service", "--cap", "net_raw", "--cap", "chown")
    )
    caps = CAP_NET_RAW | CAP_CHOWN
    assert state["uids"] == [ALICE, SERVICE, SERVICE, SERVICE]
    assert state["caps"] == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), caps)


@pytest.mark.parametrize(
    ("options", "caps"), [(["--cap", "net_raw"], CAP_NET_RAW), (["--no-caps"], 0)]
)
def test_root_with_certified_capabilities_has_no_others(
    world: World, options: list[str], caps: int
) -> None:
    state = found(world, granted(world, "--setuid", "root", *options))
    assert state["uids"] == [ALICE, 0, 0, 0]
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert state["caps"][name] == caps, name


def test_without_a_word_about_capabilities_root_has_roots(world: World) -> None:
    state = found(world, granted(world, "--setuid", "root"))
    assert state["caps"]["CapEff"] == state["caps"]["CapPrm"] == state["caps"]["CapBnd"] != 0


def test_another_uid_leaves_an_empty_bounding_set(world: World) -> None:
    assert found(world, granted(world, "--setuid", "service"))["caps"]["CapBnd"] == 0


def test_a_capability_does_what_it_is_for(world: World) -> None:
    code = (
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 81)); print(s.getsockname()[1])"
    )
    # the machine shares its network with the outside, whose root it is not: chown shows the same
    file = world.write("alices", "")
    os.chown(file, ALICE, ALICE)
    code = f"import os; os.chown({file!r}, {BOB}, -1); print(os.stat({file!r}).st_uid)"
    done = world.run(granted(world, "--cap", "chown"), "-I", "-S", "-c", code)
    assert (done.returncode, done.stdout) == (0, f"{BOB}\n"), done
    done = world.run(granted(world, "--cap", "net_raw"), "-I", "-S", "-c", code)
    assert "PermissionError" in done.stderr


# -- nothing grows ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tools(world_of_session: World) -> Iterator[Path]:
    """Programs that gain by exec: set-user-ID root, set-user-ID bob, set-group-ID, capabilities."""
    need("setcap", "su", "mount")
    world = world_of_session
    where = world.directory("tools")
    for name, owner, group, mode in (
        ("suid-root", 0, 0, 0o4755), ("suid-bob", BOB, BOB, 0o4755), ("sgid", 0, NETADMIN, 0o2755),
        ("capable", 0, 0, 0o755), ("plain", 0, 0, 0o755),
    ):  # fmt: skip
        shutil.copy("/usr/bin/id", where / name)
        os.chown(where / name, owner, group)
        os.chmod(where / name, mode)
    done = world.machine.run("setcap", "cap_chown,cap_net_raw+ep", str(where / "capable"))
    assert done.returncode == 0, done.stderr
    for name in ("su", "mount"):
        shutil.copy(shutil.which(name) or "", where / name)
        os.chmod(where / name, 0o4755)
    # unconfined they give what their files say, so that the tests below show something
    assert "euid=0" in world.run(str(where / "suid-root")).stdout
    assert f"egid={NETADMIN}" in world.run(str(where / "sgid")).stdout
    yield where


@pytest.mark.parametrize("tool", ["suid-root", "suid-bob", "sgid", "capable", "su", "mount"])
@pytest.mark.parametrize(
    "options",
    [["--setuid", "service"], ["--setgid", "netadmin"], ["--cap", "net_bind_service"],
     ["--setuid", "root", "--cap", "net_raw"], ["--setuid", "root", "--no-caps"]],
    ids=lambda options: "-".join(options).replace("--", ""),
)  # fmt: skip
def test_a_program_with_a_grant_gains_nothing_by_exec(
    world: World, tools: Path, tool: str, options: list[str]
) -> None:
    code = f"import os; os.execv({str(tools / tool)!r}, [{tool!r}])"
    done = world.run(granted(world, *options), "-I", "-S", "-c", code)
    own_root = "--setuid" in options and options[1] == "root"
    if own_root and tool in ("suid-root", "su", "mount"):
        return  # root already: what it has is tested by its capabilities, below
    if tool == "sgid" and options == ["--setgid", "netadmin"]:
        assert done.returncode == 0  # nothing that it had not before
        return
    assert done.returncode == -signal.SIGKILL or "Operation not permitted" in done.stderr, done
    assert "uid=" not in done.stdout, done


def test_what_was_killed_is_logged(world: World, tools: Path) -> None:
    world.logged()
    code = f"import os; os.execv({str(tools / 'suid-root')!r}, ['x'])"
    done = world.run(granted(world, "--setuid", "service"), "-I", "-S", "-c", code)
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: any("exec gave" in line for line in world._log))
    (line,) = world.logged()
    assert re.search(
        r"deny user: \w+, prog: .*syscall: native-execve\(59\), because: exec gave uid 0$", line
    )


def test_root_with_few_capabilities_gets_no_more_by_any_exec(world: World, tools: Path) -> None:
    show = "import os; os.execv('/usr/bin/grep', ['grep', 'Cap', '/proc/self/status'])"
    done = world.run(granted(world, "--setuid", "root", "--cap", "net_raw"), "-I", "-S", "-c", show)
    assert done.returncode == 0, done
    words = dict(line.split(":\t") for line in done.stdout.splitlines())
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(words[name], 16) & ~CAP_NET_RAW == 0, words


def test_without_a_grant_set_id_files_have_no_effect(world: World, tools: Path) -> None:
    certificate = world.sign("plain-python", PYTHON)
    for tool in ("suid-root", "suid-bob", "sgid", "capable"):
        code = f"import os; os.execv({str(tools / tool)!r}, [{tool!r}])"
        done = world.run(certificate, "-I", "-S", "-c", code)
        assert done.returncode == 0, done
        assert "euid" not in done.stdout
        assert "egid" not in done.stdout


@pytest.mark.parametrize(
    "options", [["--setuid", "root"], ["--setuid", "service"], ["--cap", "net_raw"]],
    ids=lambda options: "-".join(options).replace("--", ""),
)  # fmt: skip
def test_ordinary_children_of_a_grant_keep_working(world: World, options: list[str]) -> None:
    path = world.install("sh-grant", "/bin/dash", *options, "--allow-everyone")
    script = "id -u; true && ls / >/dev/null; (exit 4); echo $?; env -i /bin/sh -c 'id -ru'"
    done = world.run(path, "-p", "-c", script)  # -p: else dash gives the identity up
    euid = {"root": 0, "service": SERVICE}.get(options[1], ALICE)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{euid}\n4\n{ALICE}\n", "")


def test_exec_of_what_does_not_exist_fails_as_ever(world: World) -> None:
    path = world.install("sh-grant", "/bin/dash", "--setuid", "service", "--allow-everyone")
    script = "/no/such/file; echo $?; /etc/passwd; echo $?; /usr; echo $?; exec /no/such"
    done = world.run(path, "-p", "-c", script)
    assert (done.returncode, done.stdout) == (127, "127\n126\n126\n"), done


def test_an_exec_in_a_thread_takes_the_process_over(world: World) -> None:
    code = """
import os, _thread, time
_thread.start_new_thread(os.execv, ("/usr/bin/id", ["id", "-u"]))
time.sleep(30)
"""
    done = world.run(granted(world, "--setuid", "service"), "-I", "-S", "-c", code)
    assert (done.returncode, done.stdout) == (0, f"{SERVICE}\n"), done


def test_many_execs_in_many_processes(world: World) -> None:
    path = world.install("sh-grant", "/bin/dash", "--setuid", "service", "--allow-everyone")
    script = (
        "for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3 4 5; do /usr/bin/true || echo no; done) & "
    )
    script += "done; wait; echo done"
    done = world.run(path, "-p", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_groups_only_runs_unreadable_and_executes_nothing(world: World) -> None:
    path = granted(world, "--add-group", "netadmin")
    code = """
import os
print(os.getgroups(), os.stat("/proc/self/exe").st_mode & 0o777)
try: os.execv("/usr/bin/id", ["id"])
except OSError as error: print(error.errno)
"""
    done = world.run(path, "-I", "-S", "-c", code)
    assert (done.returncode, done.stdout) == (0, f"[{NETADMIN}] {0o111}\n13\n"), done


def test_a_certificate_inside_a_confined_program_is_refused(world: World) -> None:
    inner = world.sign("inner.cert", "/usr/bin/id")
    for rules in ((), SUPERVISED):
        outer = world.sign("outer.cert", "/bin/dash", text=policy("/bin/dash", *rules))
        done = world.run(outer, "-c", f"{inner} -u; echo $?")
        assert done.stdout == "126\n"
        assert (
            done.stderr
            == "certexec: a certificate was executed inside a confined program (nested)\n"
        )
