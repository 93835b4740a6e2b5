"""``certexec run``: the same without a handler, without set-up, without any privilege."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.people import PYTHON
from tests.execution.world import (
    ALICE,
    BOB,
    INTERNAL,
    NOT_FOUND,
    REFUSED,
    SUPERVISED,
    World,
    policy,
    refused,
    wait_for,
)

ID = "/usr/bin/id"


@pytest.fixture(scope="module")
def trust(world_of_session: World) -> Iterator[str]:
    """A trust store of Alice's own, and no machine-wide set-up: no handler, no store."""
    world = world_of_session
    directory = world.directory("alice-trust", 0o700, ALICE)
    shutil.copy(world.path("ops.pub"), directory)
    os.chown(directory / "ops.pub", ALICE, ALICE)
    world.verb("binfmt", "unregister")
    aside = world.machine.path("/etc/certexec")
    os.rename(aside, aside + ".aside")
    libexec = world.machine.path("/usr/libexec/certexec")
    os.rename(libexec, libexec + ".aside")
    yield str(directory)
    os.rename(aside + ".aside", aside)
    os.rename(libexec + ".aside", libexec)
    world.verb("binfmt", "register")


def run(world: World, trust: str, *argv: str, uid: int = ALICE) -> subprocess.CompletedProcess[str]:
    return world.attempt("run", "--trust", trust, *argv, uid=uid)


@pytest.mark.parametrize("rules", [(), SUPERVISED], ids=["plain", "supervised"])
def test_it_runs_a_certificate_without_any_set_up(
    world: World, trust: str, rules: tuple[str, ...]
) -> None:
    certificate = world.sign("no-setup.cert", ID, text=policy(ID, *rules))
    done = run(world, trust, certificate, "--", "-u")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ALICE}\n", "")


@pytest.mark.parametrize("limit", ["n 4", "n 10", "f 0"])
def test_a_soft_limit_is_the_programs_not_certexecs(world: World, trust: str, limit: str) -> None:
    text = policy("/bin/dash", *SUPERVISED, without=["chdir"])
    certificate = world.sign("few.cert", "/bin/dash", text=text)
    log = world.write("few.log", "", 0o666)
    argv = [sys.executable, "-m", "certexec.cli.main", "run", "--trust", trust, "--log", log,
            certificate, "-c", f"cd /usr; ulimit -S{limit[0]}"]  # fmt: skip
    done = world.run(
        "/bin/dash", "-c", f'ulimit -S{limit}; exec "$@"', "sh", *argv,
        env={"PYTHONPATH": str(world.package)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{limit[2:]}\n"), done
    wait_for(lambda: "native-chdir" in Path(log).read_text())


def test_arguments_are_passed_as_they_are(world: World, trust: str) -> None:
    certificate = world.sign("echo.cert", "/usr/bin/echo")
    for typed, expected in (
        (["--", "-n", "x"], "x"),
        (["plain", "--help"], "plain --help\n"),
        (["--", "--", "y"], "-- y\n"),
        (["--", "", "a b"], " a b\n"),
    ):
        done = run(world, trust, certificate, *typed)
        assert (done.returncode, done.stdout) == (0, expected), typed


def test_it_is_the_program_that_ends(world: World, trust: str) -> None:
    certificate = world.sign("python.cert", PYTHON)
    for code, status in (
        ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 15)", -15),
        ("import os; os.kill(os.getpid(), 9)", -9),
    ):  # fmt: skip
        assert run(world, trust, certificate, "--", "-I", "-S", "-c", code).returncode == status


def test_input_output_and_directory_are_the_callers(world: World, trust: str) -> None:
    certificate = world.sign("sh.cert", "/bin/dash", text=policy("/bin/dash", *SUPERVISED))
    argv = [sys.executable, "-m", "certexec.cli.main", "run", "--trust", trust, certificate]
    done = world.run(
        *argv, "-c", "read x; pwd; echo $x $0 $MINE; echo err >&2", "name",
        env={"PYTHONPATH": str(world.package), "MINE": "kept"}, input="typed\n", cwd=world.place,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "err\n")
    assert done.stdout == f"{world.place}\ntyped name kept\n"


def test_every_refusal_has_its_code_and_its_word(world: World, trust: str) -> None:
    refused(run(world, trust, world.sign("bob.cert", ID, "--allow-user", "bob")), "acl-denied")
    grant = world.sign("grant.cert", ID, "--setuid", "root", "--allow-everyone", key="plain")
    refused(run(world, trust, grant), "untrusted-key")
    late = world.sign("late.cert", ID, "--not-before", "2020-01-01", "--not-after", "2020-01-02")
    refused(run(world, trust, late), "expired")
    refused(run(world, trust, world.write("noise", "noise")), "malformed")


def test_a_grant_is_refused_however_good_the_certificate(world: World, trust: str) -> None:
    (Path(trust) / "ops.toml").write_text('grants = ["user:root#0"]\n')
    os.chown(Path(trust) / "ops.toml", ALICE, ALICE)
    for options in (["--setuid", "root"], ["--cap", "net_raw"], ["--add-group", "netadmin"]):
        grant = world.sign("grant.cert", ID, *options, "--allow-everyone")
        refused(run(world, trust, grant), "setuid-denied")
    os.unlink(Path(trust) / "ops.toml")


def test_what_is_not_there_is_127_and_what_may_not_be_read_126(world: World, trust: str) -> None:
    done = run(world, trust, world.path("no-such.cert"))
    assert (done.returncode, done.stdout) == (NOT_FOUND, "")
    program = world.copy(ID, "gone")
    certificate = world.sign("gone.cert", program)
    os.unlink(program)
    refused(run(world, trust, certificate), "binary-missing", NOT_FOUND)
    hidden = world.sign("hidden.cert", ID)
    os.chmod(hidden, 0o600)
    done = run(world, trust, hidden)
    assert (done.returncode, done.stdout) == (REFUSED, "")
    assert f'you may not read the certificate "{hidden}"' in done.stderr
    assert "chmod a+r" in done.stderr
    done = run(world, trust)
    assert (done.returncode, done.stdout) == (INTERNAL, "")


def test_a_trust_store_must_be_the_callers_or_roots(world: World, trust: str) -> None:
    certificate = world.sign("id.cert", ID)
    done = run(world, trust, certificate, uid=BOB)
    assert done.returncode in (REFUSED, INTERNAL)
    assert done.stdout == ""
    os.chmod(trust, 0o777)
    try:
        refused(run(world, trust, certificate), "trust-unsafe")
    finally:
        os.chmod(trust, 0o700)


def test_a_denied_call_is_logged_as_systrace_did(world: World, trust: str) -> None:
    secret = world.write("secret", "secret")
    rules = [f'fsread: filename eq "{secret}" then deny[enoent] log', *SUPERVISED[:1]]
    certificate = world.sign("cat.cert", "/usr/bin/cat", text=policy("/usr/bin/cat", *rules))
    log = world.write("log", "", 0o666)
    done = run(world, trust, "--log", log, certificate, secret)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such file" in done.stderr
    lines = Path(log).read_text().splitlines()
    assert len(lines) == 1
    expected = (
        r"deny user: alice, prog: /usr/bin/cat, pid: \d+\(0\)\[\d+\], policy: /usr/bin/cat, "
        rf"filters: \d+, syscall: native-openat\(257\), filename: {re.escape(secret)}, .*"
    )
    assert re.fullmatch(expected, lines[0]), lines[0]


def test_unmatched_calls_are_logged_where_a_log_is_asked_for(world: World, trust: str) -> None:
    text = policy(ID, without=["getgroups", "geteuid"])
    for log_kind in ("audit", "full"):
        certificate = world.sign(f"{log_kind}.cert", ID, "--log", log_kind, text=text)
        log = world.write("log", "", 0o666)
        run(world, trust, "--log", log, certificate)
        lines = [line for line in Path(log).read_text().splitlines() if "geteuid(107)" in line]
        assert lines
        for line in lines:
            assert re.fullmatch(
                r"deny user: alice, prog: /usr/bin/id, .*native-geteuid\(107\), args: [0-9a-f]+",
                line,
            )


def test_the_log_says_what_was_denied_though_no_rule_asks_for_it(
    world: World, trust: str
) -> None:
    """Then a rule with a condition can be learned, and what the program is told stays the same."""
    program = (
        "import os\n"
        "def tried(do, *args):\n"
        "    try:\n"
        "        do(*args)\n"
        "    except OSError as error:\n"
        "        print(error.errno)\n"
        f"tried(os.mkdir, {world.path('new')!r})\n"
        "tried(os.mkdir, '/no/such/place')\n"
        "tried(os.mkdir, 'x' * 5000)\n"
        "tried(os.execv, '/bin/true', ['true'])\n"
    )
    text = policy(PYTHON, without=["mkdir", "execve"])
    certificate = world.sign("denied.cert", PYTHON, text=text)
    log = world.write("log", "", 0o666)
    done = run(world, trust, "--log", log, "--log-format", "json", certificate, "--", "-c", program)
    assert done.stdout.split() == ["1"] * 4
    events = [json.loads(line) for line in Path(log).read_text().splitlines()]
    names = [
        (one["syscall"], one.get("arguments", {}).get("filename")) for one in events
        if one["syscall"] in ("mkdir", "execve")
    ]
    assert names == [
        ("mkdir", world.path("new")), ("mkdir", "/<non-existent filename>: /no/such/place"),
        ("mkdir", None), ("execve", os.path.realpath("/bin/true")),
    ]
    assert not os.path.exists(world.path("new"))


def test_a_trace_shows_each_supervised_call(world: World, trust: str) -> None:
    file = world.write("traced", "text")
    certificate = world.sign(
        "traced.cert", "/usr/bin/cat", text=policy("/usr/bin/cat", *SUPERVISED)
    )
    trace = world.write("trace", "", 0o666)
    done = run(world, trust, "--trace", trace, certificate, file, world.path("missing"))
    assert (done.returncode, done.stdout) == (1, "text")
    # the supervisor writes the last lines when the program has its answer and may have ended
    wait_for(lambda: "missing" in Path(trace).read_text().rpartition("\n")[0])
    lines = Path(trace).read_text().splitlines()
    assert any(re.search(rf"\d+ openat\(.*{re.escape(file)}.*\) = 3$", line) for line in lines), (
        lines
    )
    assert any(re.search(r"openat\(.*missing.*ENOENT", line) for line in lines), lines


def test_a_log_that_cannot_be_written_refuses_before_anything_runs(
    world: World, trust: str
) -> None:
    certificate = world.sign("id.cert", ID)
    done = run(world, trust, "--log", "/no/such/directory/log", certificate)
    assert (done.returncode, done.stdout) == (INTERNAL, "")


def test_a_grant_is_refused_as_such_though_its_key_may_grant_nothing(
    world: World, trust: str
) -> None:
    certificate = world.sign("grant-by-run.cert", ID, "--setuid", "root", "--allow-everyone")
    done = run(world, trust, certificate)
    refused(done, "setuid-denied")
    assert '"certexec run" never grants an identity' in done.stderr
    assert "trust add" not in done.stderr


def test_what_is_no_file_is_refused(world: World, trust: str) -> None:
    for name in (trust, "/dev/zero"):
        done = run(world, trust, name)
        assert (done.returncode, done.stdout) == (REFUSED, "")
        assert f'"{name}" is not a file' in done.stderr


def test_a_log_on_a_full_disk_is_complained_about_once(world: World, trust: str) -> None:
    text = policy("/bin/dash", *SUPERVISED, without=["chdir"])
    certificate = world.sign("full-log.cert", "/bin/dash", text=text)
    done = run(world, trust, "--log", "/dev/full", certificate, "-c", "cd /usr; cd /etc; exit 3")
    assert done.returncode == 3
    said = [line for line in done.stderr.splitlines() if line.startswith("certexec: warning")]
    assert len(said) == 1, done.stderr
    assert re.search("[0-9]+ events? could not be written to the log file: No space", said[0])
    log = world.write("enough.log", "", 0o666)
    done = run(world, trust, "--log", log, certificate, "-c", "cd /usr")
    assert "could not be written" not in done.stderr


def test_that_nobody_is_there_to_ask_is_said_once_at_the_start(world: World, trust: str) -> None:
    certificate = world.sign("nobody.cert", ID, text=policy(ID, *SUPERVISED))
    done = run(world, trust, "--unmatched", "ask", certificate)
    assert done.stderr.count("certexec: warning: no agent is there to ask") == 1
    assert 'hint: start "certexec agent"' in done.stderr
    assert "no agent" not in run(world, trust, certificate).stderr
