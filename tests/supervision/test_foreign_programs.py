"""The 32-bit ABI in trees with more than one policy, with rights of others, in other namespaces."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

from tests.execution.world import ALICE, policy
from tests.supervision.conftest import Cage, wait_for
from tests.supervision.foreign import Scripts, build, results, scripts, two_parts, words
from tests.supervision.test_elevation import OWN_NETWORK
from tests.supervision.test_transitions import SHELL

__all__ = ["scripts"]

EPERM = -errno.EPERM
AT_SECURE = 23
HEADER = "Language: certexec 1\n"


def parts(program: str, native: tuple[str, ...], linux: tuple[str, ...]) -> str:
    """Return two_parts() for a file that begins otherwise."""
    return two_parts(program, native, linux).removeprefix(HEADER)


def own_policies(cage: Cage, kind: str, *texts: str) -> tuple[str, str]:
    """Return a certificate whose program is executed with others, and the one that it executes."""
    program = build(cage, kind)
    name = f"own32-{kind}-{abs(hash(texts)) % 10**6}"
    text = HEADER + "".join(texts)
    return cage.world.sign(
        name, program, "--no-inherit", "--emulation", "linux", text=text
    ), program


def other(cage: Cage, kind: str) -> str:
    """Return a copy of the program of a kind, at a path of its own."""
    return cage.world.copy(build(cage, kind), f"other-{kind}")


def test_an_executed_program_comes_under_its_own_part_and_starts_securely(scripts: Scripts) -> None:
    cage = scripts.cage
    for kind in ("32-bit", "int80"):
        executed = other(cage, kind)
        certificate, _ = own_policies(
            cage, scripts.kind,
            parts(scripts.program, (), (f'execve: filename eq "{executed}" then permit',)),
            parts(executed, (), ("getuid: deny[enosys]",)),
        )
        told = cage.world.run(certificate, *words([
            ("getuid32",),
            ("execve", f"s:{executed}",
             f"w:(s:x;s:199;s:--;s:60;s:a:{AT_SECURE};s:--;s:60;s:0;0)", "w:(0)"),
        ])).stdout.splitlines()  # fmt: skip
        # umask(2) says what it was set to before
        assert [results(told)[at] for at in (0, 1, 3)] == [ALICE, -errno.ENOSYS, 1], told


def test_a_program_whose_policy_has_no_part_for_the_abi_is_killed(scripts: Scripts) -> None:
    cage = scripts.cage
    executed = other(cage, "int80")
    certificate, _ = own_policies(
        cage, scripts.kind,
        parts(scripts.program, (), (f'execve: filename eq "{executed}" then permit',)),
        policy(executed),
    )
    cage.world.logged()
    done = cage.world.run(certificate, *words([
        ("getuid32",), ("execve", f"s:{executed}", "w:(s:x;s:199;0)", "w:(0)"),
    ]))  # fmt: skip
    assert done.stdout.splitlines() == [f"199 {ALICE}"]
    assert done.returncode == -signal.SIGKILL
    lines: list[str] = []
    wait_for(
        lambda: lines.extend(cage.world.logged())
        or any("syscall: native-getuid(199)" in line for line in lines)
    )


def test_a_process_under_another_policy_is_out_of_reach(scripts: Scripts) -> None:
    cage = scripts.cage
    executed = other(cage, scripts.kind)
    name = f"reach32-{scripts.kind}"
    shell = parts(SHELL, (f'execve: filename eq "{executed}" then permit',), ())
    certificate = cage.world.sign(
        name, SHELL, "--no-inherit", "--emulation", "linux",
        text=HEADER + shell + parts(executed, (), ()),
    )
    steps = [
        ("getppid",), ("ptrace", 16, "r:0", 0, 0), ("ptrace", 0x4206, "r:0", 0, 0),
        ("process_vm_readv", "r:0", "w:(b:4;4)", 1, "w:(4096;4)", 1, 0),
        ("process_vm_writev", "r:0", "w:(b:4;4)", 1, "w:(4096;4)", 1, 0),
    ]  # fmt: skip
    script = " ".join(f"'{word}'" for word in (executed, *words(steps)))
    done = cage.world.run(certificate, "-c", f"{script}; exit 0")
    assert results(done.stdout.splitlines())[1:] == [EPERM] * 4, done


def test_a_single_call_is_made_as_root_by_the_other_abi_too(scripts: Scripts) -> None:
    cage = scripts.cage
    web = (
        'bind: sockaddr match "inet-*:80" then permit as root',
        'bind: sockaddr match "inet-*:81" then permit',
    )
    name = f"as32-{scripts.kind}"
    certificate = cage.world.install(
        name, scripts.program, "--elevate", "root", "--allow-everyone", "--emulation", "linux",
        text=two_parts(scripts.program, (), web),
    )  # fmt: skip

    def address(port: int) -> str:
        return f"x:0200{port:04x}00000000" + "00" * 8

    done = cage.world.run(certificate, *words([
        ("socket", 2, 1, 0), ("bind", "r:0", address(80), 16), ("getuid32",), ("geteuid32",),
        ("socket", 2, 1, 0), ("bind", "r:4", address(81), 16), ("bind", "r:4", address(82), 16),
        ("socketcall", 1, "w:(2;1;0)"), ("socketcall", 2, f"w:(r:7;{address(80)};16)"),
    ]), uid=0, before=OWN_NETWORK)  # fmt: skip
    told = results(done.stdout.splitlines())
    assert told[1:4] == [0, ALICE, ALICE], done
    assert told[5:7] == [-errno.EACCES, EPERM]
    assert told[8] == -errno.EADDRINUSE


def test_a_socket_of_another_network_is_made_for_nobody(scripts: Scripts) -> None:
    rules = ('socket: sockdom eq "AF_UNIX" then permit',)
    told = scripts.confined(
        ("socketcall", 1, "w:(1;1;0)"), ("unshare", 0x40000000), ("socketcall", 1, "w:(1;1;0)"),
        ("socket", 1, 1, 0), rules=rules, uid=0,
    )  # fmt: skip
    first, moved, later, direct = results(told)
    assert (first, moved) == (3, 0)
    assert later == EPERM
    assert direct >= 0


def test_a_trace_shows_calls_of_the_32_bit_abi(scripts: Scripts, place: Path) -> None:
    certificate = scripts.certificate(('fsread: filename re "^" then permit',))
    done = scripts.cage.world.attempt(
        "run", "--trace", f"{place}/trace", certificate, *words([("open", "s:/etc/passwd", 0)])
    )
    assert done.returncode == 0, done
    wait_for(lambda: " i386:open() = 3\n" in (place / "trace").read_text())
