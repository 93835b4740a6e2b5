"""Certificates that a confined program executes: both policies hold, and nothing is gained."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from tests.execution.world import ALICE, BOB, policy, refused
from tests.supervision.conftest import PYTHON, Cage, wait_for

SHELL = os.path.realpath("/bin/sh")
CAT = os.path.realpath("/bin/cat")
ID = os.path.realpath("/usr/bin/id")
NEEDED = tuple(
    f'fsread: filename match "{one}" then permit'
    for one in ("/usr/*", "/lib*", "/etc/*", "/dev/*", "/proc/*", "/")
)


SITE = [str(Path(click.__file__).parents[1])]


def reads(*places: object) -> tuple[str, ...]:
    """Return rules by which a program may read these places, and what it needs to start."""
    return (*NEEDED, *(f'fsread: filename match "{one}" then permit' for one in places))


def executes(*names: str) -> tuple[str, ...]:
    """Return rules by which a program may execute these files, and no others."""
    return (
        *(f'execve: filename eq "{one}" then permit' for one in names),
        'execveat: filename eq "/nothing" then permit',
    )


class Nest:
    """An outer certificate of a shell, and inner ones."""

    def __init__(self, cage: Cage) -> None:
        self.world = cage.world

    def inner(self, name: str, program: str, *rules: str, options: Sequence[str] = ()) -> str:
        """Sign a certificate that is to be executed inside; returns its path."""
        return self.world.sign(f"{name}.cert", program, *options, text=policy(program, *rules))

    def run(
        self, script: str, *rules: str, options: Sequence[str] = (), **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a script in a shell that is confined by these rules."""
        return self.world.run(self.outer(*rules, options=options), "-c", script, **more)

    def start(self, script: str, *rules: str, **more: Any) -> subprocess.Popen[str]:
        """Start the same."""
        return self.world.start(self.outer(*rules), "-c", script, **more)

    def outer(self, *rules: str, options: Sequence[str] = ()) -> str:
        """Sign the shell's certificate; returns its path."""
        self.world.logged()
        return self.world.sign("outer", SHELL, *options, text=policy(SHELL, *rules))


def logged(nest: Nest, word: str) -> bool:
    """Wait for a line in the log that holds this word."""
    lines: list[str] = []
    wait_for(lambda: lines.extend(nest.world.logged()) or any(word in line for line in lines))
    return True


@pytest.fixture
def nest(cage: Cage) -> Nest:
    return Nest(cage)


@pytest.fixture
def files(place: Path) -> dict[str, Path]:
    """Return three files with a word each, in directories of their own."""
    made = {}
    for name in ("both", "outer", "inner"):
        (place / name).mkdir()
        made[name] = place / name / "file"
        made[name].write_text(f"{name}\n")
    return made


def test_both_policies_hold(nest: Nest, files: dict[str, Path]) -> None:
    inner = nest.inner("cat", CAT, *reads(files["both"], files["inner"]))
    script = "; ".join(f"{inner} {files[one]}" for one in ("both", "outer", "inner"))
    script += f"; read w < {files['outer']}; echo shell $w"
    outer = (*reads(files["both"], files["outer"], inner), *executes(inner))
    done = nest.run(script, *outer)
    assert done.stdout.splitlines() == ["both", "shell outer"], done
    assert done.stderr.count("Operation not permitted") == 2, done


def test_what_runs_inside_and_its_children_stay_under_both(
    nest: Nest, files: dict[str, Path]
) -> None:
    inner = nest.inner("sh", SHELL, *reads(files["both"], files["inner"], CAT), *executes(CAT))
    script = f"{inner} -c '{CAT} {files['both']}; {CAT} {files['outer']}; {ID} -u'; {ID} -u"
    outer = (*reads(files["both"], files["outer"], CAT, ID, inner), *executes(inner, CAT, ID))
    done = nest.run(script, *outer)
    assert done.stdout.splitlines() == ["both", str(ALICE)], done
    assert f"{CAT}: {files['outer']}: Operation not permitted" in done.stderr
    assert f"{ID}: Operation not permitted" in done.stderr


def test_calls_that_only_one_policy_denies_are_denied_inside(nest: Nest) -> None:
    code = (
        "import ctypes, errno; libc = ctypes.CDLL(None, use_errno=True)\n"
        "for number in (110, 108, 104):\n"
        "    done = libc.syscall(number)\n"
        "    print(errno.errorcode[ctypes.get_errno()] if done < 0 else 'ok')"
    )  # getppid, getegid, getgid
    inner = nest.world.sign(
        "py.cert", PYTHON, text=policy(PYTHON, without=["getppid", "execve", "execveat"])
    )
    text = policy(SHELL, *executes(inner), without=["getegid"])
    outer = nest.world.sign("outer", SHELL, text=text)
    done = nest.world.run(outer, "-c", f"{inner} -I -S -c '{code.replace(chr(39), chr(34))}'")
    assert done.stdout.splitlines() == ["EPERM", "EPERM", "ok"], done


def test_certificates_two_levels_deep_are_under_all_three(
    nest: Nest, files: dict[str, Path]
) -> None:
    deep = nest.inner("deep", CAT, *reads(files["both"], files["inner"], files["outer"]))
    inner = nest.inner(
        "middle", SHELL, *reads(files["both"], files["inner"], deep), *executes(deep)
    )
    reading = "; ".join(f"{deep} {files[one]}" for one in ("both", "inner", "outer"))
    script = f"{inner} -c '{reading}'; {deep} {files['outer']}"
    outer = (*reads(files["both"], files["outer"], deep, inner), *executes(inner, deep))
    done = nest.run(script, *outer)
    assert done.stdout.splitlines() == ["both", "outer"], done
    assert done.stderr.count("Operation not permitted") == 2, done


def test_the_ids_the_arguments_and_the_streams_are_the_caller_s(nest: Nest) -> None:
    inner = nest.inner("echo", SHELL, *reads(ID), *executes(ID))
    code = f"read w; echo $w $# $1; {ID} -u; exit 7"
    script = f"echo in | {inner} -c '{code}' zero 'one two'; echo $?"
    done = nest.run(script, *reads(ID, inner), *executes(inner, ID))
    assert done.stdout.splitlines() == ["in 1 one two", str(ALICE), "7"], done
    assert done.stderr == ""


def test_what_the_certificate_inside_says_of_limits_and_environment_holds(nest: Nest) -> None:
    inner = nest.inner(
        "limits", SHELL, *NEEDED, *executes(),
        options=["--rlimit", "nofile=50:60", "--nice", "5", "--umask", "027", "--oom", "300",
                 "--env", "PATH", "--set-env", "INNER=yes", "--fixed-args",
                 "-c 'ulimit -Sn; ulimit -Hn; umask; echo $INNER $LC_ALL.; "
                 "read a </proc/self/oom_score_adj; echo $a; "
                 "read a </proc/self/stat; set -- $a; shift 18; echo $1'"],
    )  # fmt: skip
    done = nest.run(f"{inner} -c 'echo never'", *reads(inner), *executes(inner))
    assert done.stdout.splitlines() == ["50", "60", "0027", "yes .", "300", "5"], done


def test_a_limit_inside_that_cannot_be_set_refuses(nest: Nest) -> None:
    inner = nest.inner("limit", ID, *NEEDED, options=["--nice", "-5"])
    refused(nest.run(f"exec {inner}", *reads(inner), *executes(inner)), "limit-failed")


def test_a_script_inside_runs_from_a_sealed_copy(nest: Nest) -> None:
    path = nest.world.write("script.sh", "#!/bin/sh\necho script $0 $1\n", 0o755)
    inner = nest.inner("script", path, *reads(path), *executes())
    done = nest.run(f"{inner} a", *reads(path, inner), *executes(inner))
    assert done.stdout.startswith("script /dev/fd/"), done
    assert done.stdout.endswith(" a\n")


def test_nothing_of_the_start_is_left_open_in_what_runs_inside(nest: Nest) -> None:
    ls = os.path.realpath("/bin/ls")
    inner = nest.inner("ls", ls, *reads("/proc"))
    script = f"{inner} /proc/self/fd; {inner} /proc/self/fd <&-"
    done = nest.run(script, *reads(ls, inner), *executes(inner))
    # the last one is its own, of the directory
    assert done.stdout.split() == ["0", "1", "2", "3", "0", "1", "2"], done


def test_a_script_s_copy_does_not_take_the_place_of_a_closed_stream(nest: Nest) -> None:
    text = "#!/bin/sh\necho script $0\nread a || echo closed\n"
    path = nest.world.write("script.sh", text, 0o755)
    inner = nest.inner("script", path, *reads(path), *executes())
    done = nest.run(f"{inner} <&-", *reads(path, inner), *executes(inner))
    assert done.stdout.splitlines()[1:] == ["closed"], done
    assert done.stdout.startswith("script /dev/fd/") and "/dev/fd/0" not in done.stdout


def test_a_sealed_binary_inside(nest: Nest, place: Path) -> None:
    binary = nest.world.copy("/usr/bin/id", "sealed-id")
    os.chown(binary, BOB, BOB)  # who could write it while it runs
    inner = nest.inner("sealed", binary, *NEEDED)
    done = nest.run(f"{inner} -u", *reads(inner), *executes(inner))
    assert (done.stdout, done.stderr) == (f"{ALICE}\n", ""), done


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--allow-user", "bob"], "acl-denied"),
        (["--deny-user", "alice", "--allow-everyone"], "acl-denied"),
        (["--args", "-g"], "argv-denied"),
        (["--require-tty"], "tty-required"),
        (["--no-inherit"], "unsupported"),
    ],
)
def test_what_the_certificate_inside_demands_of_its_invoker_is_asked(
    nest: Nest, options: list[str], word: str
) -> None:
    inner = nest.inner("demands", ID, *NEEDED, options=options)
    done = nest.run(f"exec {inner} -u", *reads(inner), *executes(inner))
    refused(done, word)
    assert logged(nest, word)


def test_inside_nobody_gets_an_identity(nest: Nest) -> None:
    rules = policy(ID, *NEEDED)
    options = ["--setuid", "service", "--allow-everyone"]
    bare = nest.world.sign("grant.cert", ID, *options, text=rules)
    installed = nest.world.install("grant", ID, *options, text=rules)
    for inner in (bare, installed):
        done = nest.run(f"exec {inner} -u", *reads(inner), *executes(inner))
        refused(done, "setuid-denied")
    plain = nest.inner("plain", ID, *NEEDED)
    os.chmod(plain, 0o4755)
    try:
        refused(nest.run(f"exec {plain} -u", *reads(plain), *executes(plain)), "setuid-denied")
    finally:
        os.chmod(plain, 0o755)


def test_under_a_grant_the_ids_stay_those_of_the_program_outside(nest: Nest) -> None:
    inner = nest.inner("ids", SHELL, *reads(ID), *executes(ID))
    text = policy(SHELL, *reads(ID, inner), *executes(inner, ID))
    for options in (["--setuid", "service"], ["--setgid", "netadmin"], ["--setuid", "root"],
                    ["--cap", "net_raw"]):  # fmt: skip
        outer = nest.world.install("outer-grant", SHELL, *options, "--allow-everyone", text=text)
        ids = "while read a; do case $a in Uid*|Gid*|Groups*|Cap*) echo $a;; esac; done "
        script = f"{ids} </proc/self/status; echo; {inner} -p -c '{ids} </proc/self/status'"
        done = nest.world.run(outer, "-p", "-c", script)
        first, _, second = done.stdout.partition("\n\n")
        assert first.strip() == second.strip() != "", (options, done)


def test_what_was_tampered_with_does_not_run(nest: Nest) -> None:
    binary = nest.world.copy("/usr/bin/id", "victim")
    rules = nest.world.write("victim.rules", policy(binary, *NEEDED))
    inner = nest.world.path("bin/victim.cert")
    nest.world.verb(
        "sign", "--force", "-k", nest.world.path("ops.key"), "--policy-path", rules, "-o", inner,
        binary,
    )  # fmt: skip
    outer = (*reads(inner), *executes(inner))
    assert nest.run(f"exec {inner} -u", *outer).stdout == f"{ALICE}\n"
    for path, word in ((binary, "binary-mismatch"), (rules, "policy-mismatch"),
                       (inner, "bad-signature")):  # fmt: skip
        good = Path(path).read_bytes()
        changed = bytearray(good)
        changed[-1] ^= 1
        # before the tree starts, and after
        Path(path).write_bytes(changed)
        refused(nest.run(f"exec {inner} -u", *outer), word)
        Path(path).write_bytes(good)
        running = nest.start(f"read x; exec {inner} -u", *outer)
        Path(path).write_bytes(changed)
        out, err = running.communicate("go\n", timeout=30)
        Path(path).write_bytes(good)
        refused(subprocess.CompletedProcess("", running.returncode, out, err), word)


def test_a_certificate_that_was_exchanged_after_the_start_does_not_run(nest: Nest) -> None:
    inner = nest.inner("first", ID, *NEEDED)
    other = nest.inner("other", ID, *NEEDED, 'fswrite: filename match "/tmp/*" then permit')
    good, bad = Path(inner).read_bytes(), Path(other).read_bytes()
    running = nest.start(f"read x; {inner} -u; read x; exec {inner} -u",
                         *reads(inner), *executes(inner))  # fmt: skip
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write("go\n")
    running.stdin.flush()
    assert running.stdout.readline() == f"{ALICE}\n"
    Path(inner).write_bytes(bad)
    out, err = running.communicate("go\n", timeout=30)
    Path(inner).write_bytes(good)
    refused(subprocess.CompletedProcess("", running.returncode, out, err), "nested")
    assert logged(nest, "this very certificate")


@pytest.mark.parametrize(
    "rule",
    [
        'execve: filename match "{directory}/*" then permit',
        "execve: permit",
        'execve: filename match "{directory}/*" then permit\n\tnative-{more}',
    ],
)
def test_a_certificate_that_no_rule_names_does_not_run_inside(nest: Nest, rule: str) -> None:
    inner = nest.inner("unnamed", ID, *NEEDED)
    named = nest.inner("named", ID, *NEEDED)
    more = f'execve: filename eq "{named}" then permit'
    rule = rule.format(directory=os.path.dirname(inner), more=more)
    rules = (*reads(inner), rule,
             'execveat: filename eq "/nothing" then permit')  # fmt: skip
    done = nest.run(f"exec {inner} -u", *rules)
    refused(done, "nested")
    assert logged(nest, "this very certificate" if more in rule else "no certificate that a rule")


def test_with_policies_of_their_own_a_certificate_brings_its_own(
    nest: Nest, files: dict[str, Path]
) -> None:
    inner = nest.inner("own", CAT, *reads(files["both"], files["inner"]))
    text = policy(SHELL, *reads(files["both"], files["outer"], inner), *executes(inner, ID, CAT))
    text += policy(ID, *NEEDED)
    outer = nest.world.sign("outer", SHELL, "--no-inherit", text=text)
    script = "; ".join(f"{inner} {files[one]}" for one in files)
    done = nest.world.run(outer, "-c", f"{script}; {ID} -u; {CAT} {files['both']}")
    assert done.stdout.splitlines() == ["both", str(ALICE)], done
    assert done.stderr.count("Operation not permitted") == 3, done
    # without a name the exec is denied at once: nobody could say what comes of it
    bare = policy(SHELL, *reads(inner)) + policy(ID, *NEEDED)
    outer = nest.world.sign("outer", SHELL, "--no-inherit", text=bare)
    nest.world.logged()
    done = nest.world.run(outer, "-c", f"exec {inner}")
    assert (done.returncode, "Operation not permitted" in done.stderr) == (126, True), done
    assert logged(nest, "no rule on exec names this certificate")


def test_a_rule_that_lets_go_leaves_the_certificate_s_policy_alone(
    nest: Nest, files: dict[str, Path]
) -> None:
    inner = nest.inner("let-go", CAT, *reads(files["both"], files["inner"]))
    rules = (*reads(files["both"], files["outer"], inner),
             f'execve: filename eq "{inner}" then permit[detach]',
             'execveat: filename eq "/nothing" then permit')  # fmt: skip
    text = policy(SHELL, *rules, without=["chroot"])
    outer = nest.world.sign("outer", SHELL, text=text)
    script = "; ".join(f"{inner} {files[one]}" for one in files)
    done = nest.world.run(outer, "-c", script)
    assert done.stdout.splitlines() == ["both", "inner"], done
    assert done.stderr.count("Operation not permitted") == 1, done
    # it may do what its caller may not, who therefore does not choose its libraries
    shown = f"LD_SHOW_AUXV=1 {inner} {files['both']}"
    assert nest.world.run(outer, "-c", shown).stdout == "both\n"
    text = policy(SHELL, *reads(files["both"], inner), *executes(inner))
    outer = nest.world.sign("outer", SHELL, text=text)
    done = nest.world.run(outer, "-c", shown)
    assert "AT_SECURE:            0\n" in done.stdout, done


def test_the_verb_run_is_an_ordinary_program_inside(nest: Nest) -> None:
    inner = nest.inner("verb", ID, *NEEDED)
    text = policy(PYTHON)
    outer = nest.world.sign("outer-python", PYTHON, text=text)
    code = f"import sys; sys.path.insert(0, {str(nest.world.package)!r}); sys.path += {SITE!r}\n"
    code += f"sys.argv = ['certexec', 'run', {inner!r}]; from certexec.cli.main import main; main()"
    refused(nest.world.run(outer, "-c", code), "nested")


def test_what_goes_beyond_systrace_holds_inside_too(nest: Nest, files: dict[str, Path]) -> None:
    both = files["both"]
    rules = policy(CAT, *reads(both)).partition("\n")
    line = f'after native-openat: filename eq "{both}" then only exit_group'
    inside = {
        "plain": rules[2],
        "dots": f"no-dotdot\n{rules[2]}",
        "after": f"{line}\n{rules[2]}",
    }
    for word, text in inside.items():
        inner = nest.world.sign(
            f"{word}.cert", CAT, text=f"Language: certexec 1\n{rules[0]}\n{text}"
        )
        name = f"{both.parent}/../both/file" if word == "dots" else str(both)
        done = nest.run(f"{inner} {name}; echo $?", *reads(both, inner), *executes(inner))
        expected = "both\n0\n" if word == "plain" else "1\n"
        assert done.stdout == expected, (word, done)
