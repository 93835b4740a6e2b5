"""The rules of the talk "Systrace for Slackers" run as policies, even as slides break them."""

from pathlib import Path

import pytest

from certexec.cli.main import main
from certexec.policy.compile import compile_table
from certexec.policy.explain import Tree, explain_rules
from certexec.policy.join import join_lines
from certexec.policy.lint import lint, lint_text
from certexec.policy.question import ask
from certexec.policy.reformat import reformat
from certexec.policy.syntax import parse_policy
from tests.policy.common import ALICE, USERS

SLIDES = sorted((Path(__file__).resolve().parent / "slides").glob("*.policy"))
QUESTIONS = [
    ("web_server", "bind", "sockaddr", "inet-[0.0.0.0]:80", "permit"),
    ("web_server", "bind", "sockaddr", "inet-[::]:80", "permit"),
    ("web_server", "bind", "sockaddr", "inet-[0.0.0.0]:8080", "deny"),
    ("web_server", "bind", "sockaddr", "inet-[0.0.0.0]:443", "deny"),
    ("web_server", "bind", "sockaddr", "/run/httpd", "deny"),
    ("web_server", "connect", "sockaddr", "inet-[1.2.3.4]:80", "deny"),
]


def parse(text: str):
    return parse_policy(text, name="slide", users=USERS, privileged=True)


@pytest.mark.parametrize("path", SLIDES, ids=lambda path: path.stem)
def test_every_slide_parses_is_canonical_and_has_no_surprise(path):
    text = path.read_text()
    [policy] = parse(text).policies
    assert policy.rules
    assert reformat(text, name="slide", users=USERS) == text
    assert lint(parse(text)) == []
    assert lint_text(text) == []


@pytest.mark.parametrize("path", SLIDES, ids=lambda path: path.stem)
def test_every_rule_of_a_slide_is_enforced(path):
    [policy] = parse(path.read_text()).policies
    tree = Tree(policy)
    assert compile_table(tree.whole).bpf
    for one in explain_rules(tree):
        assert one.why == ""
        assert one.layers == {"supervised": ["bind"]}


@pytest.mark.parametrize(("slide", "call", "argument", "value", "verdict"), QUESTIONS)
def test_a_slide_says_of_a_call_what_the_talk_meant(slide, call, argument, value, verdict):
    path = next(path for path in SLIDES if path.stem == slide)
    [policy] = parse(path.read_text()).policies
    assert ask(policy, call, {argument: [value]}, ALICE).action == verdict
    code = main(["policy", "test", str(path), "--", call, f"{argument}={value}"])
    assert code == {"permit": 0, "deny": 1}[verdict]


@pytest.mark.parametrize("path", SLIDES, ids=lambda path: path.stem)
def test_a_slide_may_be_broken_at_any_space(path):
    text = path.read_text()
    for at, character in enumerate(text):
        line = text[text.rfind("\n", 0, at) + 1 : at]
        if character != " " or not line.strip() or line.count('"') % 2:
            continue
        broken = f"{text[:at]} \\\n    {text[at + 1:]}"
        joined, _ = join_lines(broken)
        assert reformat(joined, name="slide", users=USERS) == text
