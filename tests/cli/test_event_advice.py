"""What certexec monitor says of an event: who denied it, and what would permit it."""

import json
from pathlib import Path

import pytest

from certexec.cli.event_advice import Adviser
from certexec.errors import CertexecError
from certexec.observe.json_lines import render
from certexec.observe.reading import Seen, read_line
from certexec.policy.evaluate import evaluate
from certexec.policy.syntax import parse_policy
from tests.observe.sample import HOSTILE
from tests.observe.sample import event as sample
from tests.policy.common import ALICE, USERS

POLICY = """\
Policy: /usr/bin/nc, Emulation: native
\tnative-fsread: filename match "/etc/ssh*" then deny log
\tnative-connect: sockaddr eq "inet-[192.0.2.7]:80" then permit
"""


def seen(**changes: object) -> Seen:
    found = read_line(render(sample(**changes)))
    assert found is not None
    return found


OPEN = {
    "syscall": "openat", "number": 257,
    "arguments": [("filename", "/etc/ssh/key"), ("oflags", "ro")],
}  # fmt: skip


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "nc policy"
    path.write_text(POLICY)
    return str(path)


def rules(lines: list[str]) -> list[str]:
    return [line.strip() for line in lines if line.startswith("  native-")]


def test_what_no_rule_permits_gets_rules_from_narrow_to_wide_that_permit_it() -> None:
    lines, copied = Adviser(()).advise(seen())
    assert lines[0] == "deny: no rule of its policy permits it"
    found = rules(lines)
    assert found[0] == copied == 'native-connect: sockaddr eq "inet-[192.0.2.1]:80" then permit'
    assert len(found) == 4
    for rule in found:
        file = parse_policy(
            f"Policy: /usr/bin/nc, Emulation: native\n\t{rule}\n", name="x", users=USERS,
            privileged=False,
        )
        values = {"sockaddr": ["inet-[192.0.2.1]:80"]}
        verdict = evaluate(file.policies[0].rules, values, ALICE)
        assert verdict is not None and verdict.action == "permit", rule
    assert any("learn -a -o POLICY --from-log FILE" in line for line in lines)


def test_with_the_policy_it_says_which_rule_denied_and_what_to_do_with_the_file(
    policy: str
) -> None:
    adviser = Adviser((policy,))
    lines, copied = adviser.advise(seen(**OPEN, reason="rule"))
    assert lines[0] == "deny: a rule of its policy says so"
    assert lines[1].startswith(f"{policy}(2): ") and '"/etc/ssh*" then deny log' in lines[1]
    assert rules(lines) == [] and json.loads(copied)["arguments"]["filename"] == "/etc/ssh/key"
    lines, copied = adviser.advise(seen())
    assert 'no rule for "/usr/bin/nc" applies' in lines[1]
    assert copied.startswith("native-connect: sockaddr eq")
    assert any(line.endswith(f"--log FILE '{policy}'") for line in lines)


def test_without_it_it_says_how_to_see_the_rule() -> None:
    lines, _ = Adviser(()).advise(seen(**OPEN, reason="rule"))
    assert any('"--policy FILE"' in line for line in lines)


def test_what_the_policy_permits_by_now_is_said(policy: str) -> None:
    arguments = [("sockaddr", "inet-[192.0.2.7]:80")]
    lines, _ = Adviser((policy,)).advise(seen(arguments=arguments))
    assert lines[1].startswith(f"{policy}(3): ")
    assert "has a rule for it by now: sign it anew" in lines[-1]


@pytest.mark.parametrize(("changes", "words"), [
    ({"reason": "supervisor-protection"}, "certexec itself, for its reason 'supervisor-protec"),
    ({"reason": "unmatched: no agent"}, "no rule of its policy permits it (unmatched: no agent)"),
    ({"reason": "ask: time-out"}, "asks, and that is what came of it (ask: time-out)"),
    ({"reason": ""}, "the log does not say why"),
    ({"reason": "no-policy"}, "no policy of its own"),
    ({"verdict": "permit", "reason": "rule"}, "permit: a rule"),
])  # fmt: skip
def test_reasons_are_told_in_words(changes: dict[str, object], words: str) -> None:
    assert words in Adviser(()).advise(seen(**changes))[0][0]


@pytest.mark.parametrize(("call", "number"), [("openat", 257), ("execve", 59), ("connect", 42)])
def test_for_a_call_that_does_not_say_what_it_was_about_no_rule_is_proposed(
    call: str, number: int, policy: str
) -> None:
    for adviser in (Adviser(()), Adviser((policy,))):
        lines, copied = adviser.advise(
            seen(syscall=call, number=number, arguments=[], raw=bytes(48))
        )
        assert rules(lines) == [] and copied.startswith("{")
        assert any("does not say what it was about" in line for line in lines)
    lines, _ = Adviser(()).advise(seen(syscall="pause", number=34, arguments=[], raw=bytes(48)))
    assert rules(lines) == ["native-pause: permit"]


def test_a_name_that_does_not_print_is_no_rule_to_copy() -> None:
    _, copied = Adviser(()).advise(seen(**{**OPEN, "arguments": [("filename", HOSTILE)]}))
    assert copied.startswith("{") and copied.isprintable()


@pytest.mark.parametrize("members", [
    {"event": "note", "text": "x"}, {"event": "call"}, {"event": "call", "syscall": "bogus"},
    {"event": "call", "syscall": "open", "reason": "unmatched", "args": "zz"},
    {"event": "call", "syscall": "open", "reason": "unmatched", "program": "a, b\n",
     "arguments": {"filename": "x", "bogus[": "\ud800"}},
    {"event": "call", "syscall": "open", "reason": "unmatched", "program": "/x\n\tfsread: permit",
     "emulation": "native\nPolicy: /y", "verdict": "deny", "arguments": {"filename": "/x"}},
    {"event": "call", "syscall": "open", "reason": "unmatched", "uid": 10**30, "user": "\0",
     "program": "/usr/bin/nc", "arguments": {"filename": "/x", "oflags": "?" * 99}},
])  # fmt: skip
def test_no_event_is_too_odd(members: dict[str, object], policy: str) -> None:
    odd = read_line(json.dumps(members))
    assert odd is not None
    for adviser in (Adviser(()), Adviser((policy,))):
        lines, copied = adviser.advise(odd)
        assert copied and isinstance(lines, list)


def test_a_policy_that_cannot_be_read_or_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CertexecError, match="none"):
        Adviser((str(tmp_path / "none"),))
    (tmp_path / "bad").write_text("bogus\n")
    with pytest.raises(CertexecError):
        Adviser((str(tmp_path / "bad"),))
