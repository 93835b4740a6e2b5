"""Programs that are executed come under policies of their own, as in systrace."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.execution.world import ALICE, policy
from tests.supervision.conftest import PRELUDE, PYTHON, Cage, wait_for

SHELL = os.path.realpath("/bin/sh")
CAT = os.path.realpath("/bin/cat")
LS = os.path.realpath("/bin/ls")
READS = 'fsread: filename match "{0}" then permit'
NEEDED = tuple(READS.format(one) for one in ("/usr/*", "/lib*", "/etc/*", "/dev/*", "/proc/*", "/"))


def reader_of(program: str, *places: object) -> str:
    """Return a policy under which a program may read these places, and what it needs to start."""
    return policy(program, *NEEDED, *(READS.format(one) for one in places))


def run(
    cage: Cage, script: str, *policies: str, name: str = "own", inherit: bool = False, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a shell script under a certificate with several policies."""
    options = () if inherit else ("--no-inherit",)
    path = cage.world.sign(name, SHELL, *options, text="".join(policies))
    return cage.world.run(path, "-c", script, **more)


@pytest.fixture
def files(place: Path) -> tuple[Path, Path]:
    """Return two files with a word each, in directories of their own."""
    made = []
    for name in ("one", "two"):
        directory = place / name
        directory.mkdir()
        file = directory / "file"
        file.write_text(f"{name}\n")
        made.append(file)
    return made[0], made[1]


def test_each_program_has_its_own_policy(cage: Cage, files: tuple[Path, Path]) -> None:
    one, two = files
    script = f"read w < {one}; echo $w; {CAT} {two}; {CAT} {one}; read w < {two} || echo no"
    done = run(cage, script, reader_of(SHELL, one.parent), reader_of(CAT, two.parent))
    assert done.stdout.splitlines() == ["one", "two", "no"], done
    assert f"{CAT}: {one}: Operation not permitted" in done.stderr


def test_a_program_without_a_policy_is_not_executed(cage: Cage, files: tuple[Path, Path]) -> None:
    cage.world.logged()
    done = run(cage, f"{CAT} {files[0]}; {LS} /; echo still here", reader_of(SHELL))
    assert done.stdout == "still here\n"
    assert done.stderr.count("Operation not permitted") == 2, done.stderr
    lines: list[str] = []  # syslog's daemon, a thread of ours, takes them when it comes to it
    wait_for(lambda: lines.extend(cage.world.logged()) or any(CAT in one for one in lines))


def test_the_child_keeps_its_parents_policy_whatever_the_parent_executes(
    cage: Cage, files: tuple[Path, Path]
) -> None:
    one, two = files
    # the child reads after its parent has become cat, which may read the other file only
    script = (
        f"{{ while test -d /proc/$$ && test $(readlink /proc/$$/exe) != {CAT}; do :; done; "
        f"read a < {one}; echo child $a; read b < {two} || echo child no; }} & exec {CAT} {two} -"
    )
    text = (
        reader_of(SHELL, one.parent),
        reader_of(CAT, two.parent),
        reader_of(os.path.realpath("/usr/bin/readlink")),
    )
    done = run(cage, script, *text)
    assert sorted(done.stdout.splitlines()) == ["child no", "child one", "two"], done


def test_inherit_in_a_rule_keeps_the_policy(cage: Cage, files: tuple[Path, Path]) -> None:
    one, two = files
    own = policy(
        SHELL, *NEEDED, READS.format(one.parent),
        f'execve: filename eq "{CAT}" then permit[inherit]',
        'execve: true then permit',
        without=["execveat"],
    )  # fmt: skip
    done = run(cage, f"{CAT} {one}; {CAT} {two}; {LS} /", own, reader_of(CAT, two.parent))
    assert done.stdout == "one\n"
    assert f"{two}: Operation not permitted" in done.stderr


def test_detach_lets_a_program_go_and_its_children_too(
    cage: Cage, files: tuple[Path, Path]
) -> None:
    one, two = files
    own = policy(
        SHELL, *NEEDED, READS.format(one.parent),
        f'execve: filename eq "{os.path.realpath("/usr/bin/env")}" then permit[detach]',
        without=["execveat", "chroot"],
    )  # fmt: skip
    for inherit in (True, False):
        done = run(
            cage, f"/usr/bin/env {SHELL} -c '{CAT} {two} {one}; /bin/echo $0' last; {CAT} {one}",
            own, inherit=inherit, name=f"detach-{inherit}",
        )  # fmt: skip
        assert done.stdout.splitlines() == ["two", "one", "last"], done
        assert "Operation not permitted" in done.stderr


def test_what_all_policies_deny_the_kernel_denies_and_what_one_permits_the_supervisor_does(
    cage: Cage,
) -> None:
    shell = policy(SHELL, *NEEDED, without=["uname", "getpriority"])
    text = policy(PYTHON, without=["getpriority"])
    code = "print(why(lambda: os.uname().sysname), why(os.getpriority, 0, 0))"
    path = cage.world.sign("mixed", SHELL, "--no-inherit", text=shell + text)
    done = cage.world.run(
        path, "-c", 'exec "$0" -I -S -c "$1"', PYTHON, PRELUDE + code
    )
    assert done.stdout.split() == ["Linux", "EPERM"], done


def test_policies_of_the_directory_count_after_the_signed_ones(
    cage: Cage, files: tuple[Path, Path]
) -> None:
    one, two = files
    directory = cage.world.directory_of_policies()
    of_cat = reader_of(CAT, two.parent).encode() + b"# not UTF-8: caf\xe9\n"
    (directory / CAT.strip("/").replace("/", "_")).write_bytes(of_cat)
    (directory / "usr_bin_other").write_text(reader_of(LS))  # its header names another program
    try:
        done = run(cage, f"{CAT} {two}; {CAT} {one}; {LS} /", reader_of(SHELL))
        assert done.stdout == "two\n", done
        assert done.stderr.count("not permitted") == 2
        done = run(cage, f"{CAT} {one}", reader_of(SHELL), reader_of(CAT, one.parent), name="both")
        assert done.stdout == "one\n", done
        directory.chmod(0o777)
        done = cage.world.run(f"{cage.world.bin}/both", "-c", "true")
        assert done.returncode == 126 and "trust-unsafe" in done.stderr
    finally:
        cage.world.forget_policies()


REACH = """
import mmap
pid = int(sys.argv[1])
buffer = ctypes.create_string_buffer(8)
vector = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), 8)
print(why(lambda: call(310, pid, vector, 1, vector, 1, 0)) in (8, "EFAULT"),
      why(lambda: call(101, 0x4206, pid, 0, 0)))
"""


def test_nobody_reaches_into_a_process_under_another_policy(cage: Cage) -> None:
    shell = policy(SHELL, *NEEDED)
    script = (
        'PY="$0"; "$PY" -I -S -c "import time; time.sleep(20)" & other=$!; '
        '"$PY" -I -S -c "$1" $other; "$PY" -I -S -c "$1" $$; kill $other'
    )
    path = cage.world.sign("reach", SHELL, "--no-inherit", text=shell + policy(PYTHON))
    done = cage.world.run(path, "-c", script, PYTHON, PRELUDE + REACH)
    same, foreign = done.stdout.splitlines()
    assert same == "True 0", done
    assert foreign == "False EPERM", done


def test_a_grant_keeps_its_identity_and_gains_nothing_across_policies(cage: Cage) -> None:
    text = policy(SHELL, *NEEDED) + policy(os.path.realpath("/usr/bin/id"))
    path = cage.world.install("own-grant", SHELL, "--no-inherit", "--setuid", "service", text=text)
    done = cage.world.run(path, "-p", "-c", "/usr/bin/id", uid=ALICE)
    assert "euid" in done.stdout, done


def test_many_forks_at_once_are_all_told_apart(cage: Cage, files: tuple[Path, Path]) -> None:
    one, two = files
    code = f"""
import subprocess
jobs = []
for number in range(40):
    pid = os.fork()
    if pid == 0:
        if number % 2:
            os.execv({CAT!r}, ["cat", {str(two)!r}])
        print(open({str(one)!r}).read(), end="", flush=True)
        os._exit(0 if why(open, {str(two)!r}) == "EPERM" else 7)
    jobs.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in jobs]
print(set(codes))
"""
    base = sorted({os.path.dirname(os.path.dirname(path)) for path in (PYTHON, os.__file__)})
    own = policy(PYTHON, *NEEDED, READS.format(one.parent), *(READS.format(b) for b in base))
    path = cage.world.sign("forks", PYTHON, "--no-inherit", text=own + reader_of(CAT, two.parent))
    done = cage.world.run(path, "-I", "-S", "-c", PRELUDE + code)
    words = done.stdout.split()
    assert words.count("one") == words.count("two") == 20 and words[-1] == "{0}", done
