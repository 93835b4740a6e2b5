"""Whole files: what became of each policy and template in the original, and what is told of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.policy.model import PolicyFile, Rule
from certexec.policy.operators import expand
from certexec.policy.select import select_policy
from certexec.policy.syntax import PolicySyntaxError, decode_policy, parse_policy, parse_template
from tests.policy.common import ALICE, USERS, shared, vectors

REWRITE = "true then "


def parse(text: str, *, privileged: bool = False) -> PolicyFile:
    return parse_policy(text, name="file", users=USERS, privileged=privileged)


def plain(text: str) -> str:
    """A rule without what the original put before a bare one that is for no system call.

    Its answers here were made with one table of calls for all emulations, so that this is no part
    of them; tests/policy/vectors/rules.json tells bare rules from others.
    """
    return text.replace(": " + REWRITE, ": ", 1)


def texts(rules: list[Rule]) -> list[str]:
    return [plain(str(rule)) for rule in rules]


@pytest.mark.parametrize("case", vectors("structures.json"), ids=lambda case: case["name"])
def test_a_file_holds_the_policies_that_it_held_for_the_original(case):
    try:
        parsed = parse(case["text"])
    except PolicySyntaxError:
        assert not case["accept"]
        return
    assert case["accept"]
    found = [
        [one.path, one.emulation, one.detached, texts(one.rules)] for one in parsed.policies
    ]
    assert sorted(found) == [
        [*head, [plain(text) for text in rules]] for *head, rules in case["policies"]
    ]


@pytest.mark.parametrize("case", vectors("templates.json"), ids=lambda case: case["text"][:40])
def test_a_template_is_what_it_was_for_the_original(case):
    try:
        parsed = parse_template(case["text"], name="file", users=USERS, privileged=False)
    except PolicySyntaxError:
        assert not case["accept"]
        return
    assert case["accept"]
    *head, rules = case["template"]
    assert [parsed.name, parsed.emulation, parsed.description] == head
    assert texts(parsed.rules) == [plain(text) for text in rules]


def test_of_several_policies_the_exact_path_counts_before_the_wildcard():
    parsed = parse(
        "Policy: */ls, Emulation: native\nnative-read: permit\n"
        "Policy: /opt/bin/cat, Emulation: linux\nlinux-read: permit\n"
        "Policy: */cat, Emulation: native\nnative-write: permit\n"
    )
    assert select_policy(parsed, "/usr/bin/ls").rules[0].syscall == "read"
    assert select_policy(parsed, "/opt/bin/cat").emulation == "linux"
    assert select_policy(parsed, "/bin/cat").rules[0].syscall == "write"


def test_line_numbers_survive_other_policies_comments_and_line_ends_of_windows():
    parsed = parse(
        "# a\r\nPolicy: /a, Emulation: native\r\n \r\nnative-read: permit\r\n"
        "Policy: /b, Emulation: native\r\n\tnative-fsread: deny[enoent] \r\n"
    )
    assert [(one.line, [rule.line for rule in one.rules]) for one in parsed.policies] == [
        (2, [4]), (5, [6])
    ]
    assert parsed.policies[1].rules[0].errno == 2


@pytest.mark.parametrize(
    ("line", "at", "message"),
    [
        ("\tnative-fsread: filename match \\", "\\", "illegal character"),
        ("\tnative-fsread: \\", "\\", "illegal character"),
        ('\tnative-fsread: filename match "/usr/\\', "", "the rule ends"),
        ("\tnative-fsread: filename eq \\ # and so on", "\\", "illegal character"),
        ("\tnative-fsread:\\", "\\", "colon and a space"),
        ("\tnative-\\", "native-\\", "colon and a space"),
        ("Policy: /bin/y, \\", ", \\", "needs an emulation"),
    ],
)
def test_a_line_that_ends_in_a_backslash_is_refused_with_what_mends_it(line, at, message):
    with pytest.raises(PolicySyntaxError, match=message) as caught:
        parse(f"Policy: /bin/x, Emulation: native\n{line}\n\t\tthen permit\n")
    assert caught.value.line == 2
    assert "policy fmt --join" in caught.value.hint
    if message != "colon and a space":
        assert caught.value.source_line[caught.value.column - 1 :].startswith(at)


def test_the_shared_file_of_a_continuation_names_what_mends_it():
    text = decode_policy(
        shared("systrace-vectors", "files", "backslash_continuation").read_bytes()
    )
    with pytest.raises(PolicySyntaxError) as caught:
        parse(text)
    assert "policy fmt --join" in caught.value.hint


def test_macros_are_kept_until_it_is_known_whose_they_are():
    text = 'Policy: /x, Emulation: native\nnative-fsread: filename match "$HOME/*" then permit\n'
    for privileged in (False, True):
        [rule] = parse(text, privileged=privileged).policies[0].rules
        assert rule.expression.data == "$HOME/*"
        assert expand(rule.expression.data, ALICE) == "/home/alice/*"


LINES = st.sampled_from(
    [
        "Policy: /bin/x, Emulation: native", "Policy: */x, Emulation: native",
        "Policy: /bin/x, Emulation: linux", "Policy: */y, Emulation: linux",
        "native-read: permit", "linux-read: permit", "native-fsread: true then deny", "detached",
        "# comment", "", "Template: t, Emulation: native, Description: d",
    ]
)


@settings(deadline=None)
@given(st.lists(LINES, max_size=12))
def test_every_rule_of_an_accepted_file_is_in_one_policy_of_its_own_emulation(lines):
    text = "".join(line + "\n" for line in lines)
    try:
        parsed = parse(text)
    except PolicySyntaxError as error:
        assert lines[error.line - 1]  # the fault is never an empty line
        return
    paths = [one.path for one in parsed.policies]
    assert len(set(paths)) == len(paths)
    rules = [(policy, rule) for policy in parsed.policies for rule in policy.rules]
    assert all(policy.emulation == rule.emulation for policy, rule in rules)
    assert sorted(rule.line for _, rule in rules) == [
        number for number, line in enumerate(lines, 1) if "-" in line and "," not in line
    ]
