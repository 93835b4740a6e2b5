"""Rules that say ask, for calls of the 32-bit ABI: those behind socketcall, too."""

from __future__ import annotations

import errno
import json
import subprocess

from tests.execution.world import TIMEOUT
from tests.supervision.foreign import Scripts, Step, results, scripts, words
from tests.supervision.test_asking import People, people

__all__ = ["people", "scripts"]

EPERM = -errno.EPERM


def answered(
    scripts: Scripts, agent: subprocess.Popen[str], rules: tuple[str, ...], *steps: Step,
    given: tuple[str, ...], options: tuple[str, ...] = (), without: tuple[str, ...] = (),
) -> tuple[list[int], list[dict[str, object]]]:
    """Return what each call gave, and what was asked, where these answers are given."""
    certificate = scripts.certificate(rules, options, without=without)
    running = scripts.cage.world.start(certificate, *words(steps))
    assert agent.stdin is not None and agent.stdout is not None
    asked = []
    for word in given:
        asked.append(json.loads(agent.stdout.readline())[0])
        agent.stdin.write(f"{word}\n")
        agent.stdin.flush()
    out, err = running.communicate(timeout=TIMEOUT)
    assert (running.returncode, err) == (0, ""), (running.returncode, out, err)
    return results(out.splitlines()), asked


def test_what_is_permitted_by_an_answer_happens_behind_socketcall_too(
    scripts: Scripts, people: People
) -> None:
    agent = people.agent("lines")
    rules = (
        'socket: sockdom eq "AF_INET" then ask', 'socket: sockdom eq "AF_UNIX" then permit',
        "socketpair: true then ask", "listen: true then ask", "getsockname: true then ask",
        'bind: sockaddr match "inet-*" then ask',
    )  # fmt: skip
    address = "x:02000000" + "7f000001" + "00" * 8
    told, asked = answered(
        scripts, agent, rules,
        ("socketcall", 1, "w:(2;1;0)"), ("socketcall", 1, "w:(2;1;0)"),  # 0, 1
        ("socketcall", 1, "w:(1;1;0)"), ("socketcall", 2, f"w:(r:0;{address};16)"),
        ("socketcall", 4, "w:(r:0;5)"), ("socketcall", 4, "w:(r:0;5)"), ("listen", "r:0", 5),  # 4-6
        ("socketcall", 6, "w:(r:0;b:16;w:(16))"), ("socketcall", 8, "w:(1;1;0;b:8)"),
        ("socketcall", 8, "w:(1;1;0;b:8)"),
        given=("permit", "deny", "permit", "permit", "deny", "permit", "permit", "permit", "deny"),
    )  # fmt: skip
    assert told == [3, EPERM, 4, 0, 0, EPERM, 0, 0, 0, EPERM]
    assert [one["syscall"] for one in asked] == [
        "socket", "socket", "bind", "listen", "listen", "listen", "getsockname", "socketpair",
        "socketpair",
    ]  # fmt: skip
    assert asked[0]["arguments"] == {"sockdom": "AF_INET", "socktype": "SOCK_STREAM"}


def test_always_is_no_answer_for_good_about_arguments_that_nobody_has_seen(
    scripts: Scripts, people: People
) -> None:
    agent = people.agent("lines")
    steps = [
        ("socketcall", 1, "w:(1;1;0)"), ("socketcall", 1, "w:(1;2;0)"), ("listen", 7, 1),
        ("listen", 7, 1), ("socketcall", 4, "w:(7;1)"), ("socketcall", 4, "w:(7;1)"),
    ]  # fmt: skip
    told, asked = answered(
        scripts, agent, ("listen: true then ask",), *steps, given=("always", "always", "deny")
    )
    # the two by registers are the same: one answer holds for both
    assert told == [3, 4, -errno.EBADF, -errno.EBADF, -errno.EBADF, EPERM]
    assert len(asked) == 3


def test_what_no_rule_matches_is_asked_about_where_somebody_sees_what_it_is_about(
    scripts: Scripts, people: People
) -> None:
    """The arguments of a listen behind socketcall lie in memory, and nobody carries it out."""
    agent = people.agent("lines")
    address = "x:02000000" + "7f000001" + "00" * 8
    told, asked = answered(
        scripts, agent, (),
        ("socketcall", 1, "w:(2;1;0)"), ("socketcall", 4, "w:(r:0;5)"),  # 0, 1
        ("listen", "r:0", 5), ("socketcall", 2, f"w:(r:0;{address};16)"),  # 2, 3
        given=("permit", "permit", "deny"), options=("--unmatched", "ask"),
        without=("socket", "listen", "bind"),
    )  # fmt: skip
    assert told == [3, EPERM, 0, EPERM]
    assert [(one["syscall"], one["reason"]) for one in asked] == [
        ("socket", "unmatched"), ("listen", "unmatched"), ("bind", "unmatched"),
    ]  # fmt: skip
    assert str(asked[0]["args"]).startswith("0200000000000000" "0100000000000000")
    assert asked[2]["arguments"] == {"sockaddr": "inet-[127.0.0.1]:0"}
