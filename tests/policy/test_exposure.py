"""The exposure figure: from nothing to everything, monotonous, and as its table says."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings

from certexec.policy.difference import WIDENED, compare
from certexec.policy.evaluate import evaluate
from certexec.policy.exposure import CHECKS, GRADES, MINIMAL, TAKE_OVERS, WHOLE, Exposure
from certexec.policy.syntax import parse_policy
from certexec.policy.template import permit_all, starting_policy
from tests.policy.common import USERS
from tests.policy.test_difference import HEADER, RULES, parsed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "policy-score.md"


def read(text: str):
    return parse_policy(text, name="x", users=USERS, privileged=True).policies[0]


def test_it_goes_from_nothing_to_everything():
    nothing = Exposure(parsed())
    assert (nothing.figure, nothing.grade) == (0.0, MINIMAL)
    assert not any(reason.open for reason in nothing.reasons)
    detached = Exposure(read(HEADER + "detached\n"))
    assert (detached.figure, detached.grade) == (10.0, "dangerous")
    everything = Exposure(read(permit_all("/bin/x")))
    assert 9.0 <= everything.figure < 10.0, "nobody is let go, and nothing elevated"
    assert Exposure(read(starting_policy("/bin/x"))).grade == MINIMAL


def test_each_reason_adds_its_weight():
    figure = Exposure(parsed("native-socket: permit"))
    found = {one.check.word: one for one in figure.reasons if one.open}
    assert set(found) == {"raw-sockets", "odd-sockets"}
    assert found["raw-sockets"].points == 10 * 5 / WHOLE
    assert found["raw-sockets"].example == "socket AF_INET SOCK_RAW"
    assert figure.reasons[0] is found["raw-sockets"], "the heaviest comes first"
    part = Exposure(parsed('native-fswrite: filename match "/tmp/x" then permit'))
    [reason] = [one for one in part.reasons if one.open]
    assert (reason.check.word, round(reason.open, 2)) == ("write-shared", 0.33)


def test_a_question_counts_half():
    [reason] = [one for one in Exposure(parsed("native-bpf: true then ask")).reasons if one.open]
    assert (reason.check.word, reason.open) == ("bpf", 0.5)


def test_flags_of_rules_count():
    words = {one.check.word for one in Exposure(parsed(
        "native-execve: true then permit[detach]", "native-bind: true then permit as root"
    )).reasons if one.open}  # fmt: skip
    assert {"let-go", "elevated", "execute"} <= words


@settings(deadline=None, max_examples=60)
@given(RULES, RULES)
def test_who_permits_more_is_not_less_exposed(first, second):
    one, two = parsed(*first, extended=True), parsed(*first, *second, extended=True)
    kinds = {kind for use in compare(one, two) for kind in use.kinds}
    if kinds <= {WIDENED}:
        weaker = {reason.check.word: reason.open for reason in Exposure(one).reasons
                  if reason.check.probes}  # fmt: skip
        for reason in Exposure(two).reasons:
            if reason.check.probes:
                assert reason.open >= weaker[reason.check.word]


def test_probes_are_calls_that_there_are():
    """A probe that gives an argument that its call does not have would find nothing."""
    everything = read(permit_all("/bin/x"))
    for reason in Exposure(everything).reasons:
        if reason.check.probes:
            assert reason.open == 1.0, reason.check.word
    assert evaluate((), {}, None) is None  # what no rule permits is denied
    assert len({check.word for check in CHECKS}) == len(CHECKS)


def test_the_page_has_the_table():
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| (.*) \|$", PAGE.read_text(), re.M)
    assert [(word, int(weight), title) for word, weight, title in rows] == [
        (check.word, check.weight, check.title) for check in CHECKS
    ]
    assert f"together {WHOLE}" in PAGE.read_text()
    bases = re.findall(r"^\| `([a-z-]+)` \| (\d\.\d) \| (.*) \|$", PAGE.read_text(), re.M)
    assert [(float(least), word, title) for word, least, title in bases] == [
        (least, check.word, check.title) for least, check in TAKE_OVERS
    ]
    grades = re.findall(r"^\| ([0-9.]+) \| ([a-z]+) \|$", PAGE.read_text(), re.M)
    assert [(float(least), word) for least, word in grades] == [*GRADES, (0.0, MINIMAL)]


@pytest.mark.parametrize(
    ("rules", "grade", "word"),
    [
        (['fsread: filename match "$HOME" then permit',
          'fswrite: filename match "$HOME" then permit'], "exposed", "take-user"),
        (["fsread: permit", "fswrite: permit", "execve: permit"], "unsafe", "take-system"),
        (['fswrite: filename match "$CWD" then permit'], "exposed", "take-user"),
        (["ptrace: permit"], "exposed", "take-user"),
        (["rename: permit"], "exposed", "take-user"),
        (['rename: filename[1] match "$HOME/work" then permit'], MINIMAL, ""),
        (['fswrite: filename match "/srv" then permit',
          'execve: filename match "/srv" then permit'], "medium", "take-hold"),
        (['fswrite: filename match "/etc/cron.d" then permit'], "unsafe", "take-system"),
        (['fsread: permit'], MINIMAL, ""),
    ],
)  # fmt: skip
def test_a_way_out_says_how_much_at_least(rules, grade, word):
    found = Exposure(parsed(*(f"native-{rule}" for rule in rules)))
    assert found.grade == grade, found.figure
    assert abs(sum(one.points for one in found.reasons) - found.figure) < 0.06
    bases = {check.word for _, check in TAKE_OVERS}
    assert {one.check.word for one in found.reasons if one.points} & bases == ({word} - {""})
    assert not word or found.reasons[0].check.word == word


@pytest.mark.parametrize("shell", ["/bin/sh", "/usr/bin/dash", "/usr/bin/bash"])
def test_one_shell_is_as_much_as_all(shell):
    [reason] = [
        one for one in Exposure(parsed(f'native-execve: filename eq "{shell}" then permit')).reasons
        if one.open
    ]
    assert (reason.check.word, reason.open) == ("execute", 1.0)


def test_memory_that_only_a_preset_makes_executable_is_not_counted():
    def counted(lines: str, presets: dict[str, str]) -> float:
        text = "Language: certexec 1\n" + HEADER + lines
        file = parse_policy(text, name="x", users=USERS, privileged=True, presets=presets)
        reasons = Exposure(file.policies[0]).reasons
        return next(one.open for one in reasons if one.check.word == "wx-memory")

    presets = {"base 1": "\tnative-mprotect: permit\n"}
    assert counted("\tinclude base 1\n", presets) == 0.0
    assert counted("\tinclude base 1\n\tnative-mmap: permit\n", presets) == 1.0
    assert counted("\tnative-mprotect: permit\n", presets) == 1.0
