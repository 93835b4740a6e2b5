"""The original parser's verdicts: systrace 1.6g's parse.y, lex.l, policy.c and filter.c, compiled.

The files in vectors/ were made with it; the shared corpora hold further ones and real policies.
"""

import csv
import json
import re

import pytest

from certexec.policy.operators import expand, make_test
from certexec.policy.syntax import PolicySyntaxError, decode_policy, parse_policy
from tests.policy.common import ALICE, USERS, notation, rule, shared, vectors


def outcome(text: str, root: bool, *, operators: bool = True) -> str:
    try:
        parsed = rule(text, name="native-read", privileged=root)
    except PolicySyntaxError:
        return "REJECT"
    return notation(parsed, root=root, operators=operators)


@pytest.mark.parametrize("case", vectors("rules.json"), ids=lambda case: case["rule"][:60])
def test_a_rule_has_the_verdict_and_the_tree_of_the_original(case):
    for root in [case["root"]] if "root" in case else [False, True]:
        assert outcome(case["rule"], root) == case["result"]


@pytest.mark.parametrize("case", vectors("files.json"), ids=lambda case: case["name"])
def test_a_file_is_accepted_exactly_when_the_original_accepts_it(case):
    try:
        parse_policy(case["text"], name="file", users=USERS, privileged=False)
    except PolicySyntaxError:
        accepted = False
    else:
        accepted = True
    assert accepted is case["accept"]


def test_every_operator_answers_as_the_original():
    for operator, pattern, value, answer in vectors("operators.json"):
        test = make_test(operator, pattern.encode())
        assert test(value.encode()) is bool(answer), (operator, pattern, value)


def test_macros_are_replaced_as_in_the_original():
    for text, expanded in vectors("macros.json"):
        assert expand(text, ALICE) == expanded


def test_the_shared_rule_vectors_hold():
    for case in json.loads(shared("systrace-vectors", "rule_vectors.json").read_text()):
        found = outcome(case["rule"], case["root"], operators=False)
        assert (found != "REJECT") is case["accept"], case
        if case["accept"]:
            # Without a user after "as" the original left its field as it found it.
            assert found == re.sub(r"elev=2:-?\d+:", "elev=2:0:", case["result"])


def test_the_shared_match_vectors_hold():
    for case in json.loads(shared("systrace-vectors", "match_vectors.json").read_text()):
        test = make_test(case["op"], case["pattern"].encode())
        assert test(case["value"].encode()) is bool(case["result"]), case


def test_the_shared_file_vectors_hold():
    for case in json.loads(shared("systrace-vectors", "file_vectors.json").read_text()):
        text = decode_policy(shared("systrace-vectors", "files", case["file"]).read_bytes())
        # A file without a policy in it was no syntax error: the original said nothing about it.
        expected = case["accept"] or not case["stderr"]
        try:
            parse_policy(text, name=case["file"], users=USERS, privileged=False)
        except PolicySyntaxError as error:
            assert not expected, error
        else:
            assert expected, case


def test_the_shared_real_policies_parse():
    table = shared("systrace-policies", "PROVENANCE.tsv")
    with table.open() as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    assert len(rows) >= 20
    for row in rows:
        text = decode_policy(table.with_name(row["file"]).read_bytes())
        accepted = row["original_parser"].startswith("accept")
        try:
            parsed = parse_policy(text, name=row["file"], users=USERS, privileged=True)
        except PolicySyntaxError as error:
            assert not accepted, error
            continue
        assert accepted
        assert sum(len(policy.rules) for policy in parsed.policies) == int(row["rules"])
        assert {policy.emulation for policy in parsed.policies} == {row["emulations"]}
