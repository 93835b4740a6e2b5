"""What an index leaves out does not apply: nobody finds out that there is one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.policy.evaluate import evaluate, prepare
from certexec.policy.implication import implies
from certexec.policy.model import TRUE, Rule, Subject, Symbol
from certexec.policy.rule_index import WORTHWHILE, Relevant, RuleIndex
from tests.policy.common import ALICE, expressions

DATA = ["/a", "/A", "/a/b", "/a/bc", "/1/2", "a", "", "/", "/a*", "*", "/a/*", "/a/[bc]", "/a\\/b",
        "/é", "/É", "$HOME", "$HOME/x", "/home/$USER", "/home/$USER*"]  # fmt: skip
TEXTS = st.sampled_from(
    ["/a", "/A", "/a/b", "/A/B", "/a/bc", "/a/b/c", "/1/2", "a", "", "/", "/é", "/É", "/home/alice",
     "/home/alice/x", "/home/bob", "/home/bob/x/y"]
)  # fmt: skip
SYMBOLS = st.builds(
    Symbol, st.sampled_from(["filename", "FileName", "x"]), st.sampled_from([-1, 0, 1]),
    st.sampled_from(["match", "eq", "match", "eq", "neq", "sub", "re"]), st.sampled_from(DATA),
) | st.just(TRUE)
EXPRESSIONS = expressions(SYMBOLS)
RULES = st.lists(
    st.builds(
        lambda name, action, expression: Rule(
            "native", name, action=action, errno=1, line=1, text="", expression=expression
        ),
        st.sampled_from(["rename", "fsread"]), st.sampled_from(["permit", "deny", "ask"]),
        EXPRESSIONS,
    ),
    min_size=WORTHWHILE, max_size=2 * WORTHWHILE,
)
VALUES = st.fixed_dictionaries(
    {}, optional={"filename": st.lists(TEXTS, max_size=2), "x": st.lists(TEXTS, max_size=1)}
)
BOB = Subject(1001, 1001, "/home/bob", "bob", "/work/dir")


@settings(deadline=None, max_examples=300)
@given(RULES, st.lists(VALUES, min_size=1, max_size=4))
def test_the_rules_that_may_apply_decide_as_all_of_them_do(rules, calls):
    relevant = Relevant(rules)
    for texts in calls:
        values = {name: [text.encode() for text in each] for name, each in texts.items()}
        for subject in (ALICE, BOB):
            found = relevant.to(values, subject)
            assert found == [rule for rule in rules if rule in found]
            left_out = [rule for rule in rules if rule not in found]
            assert not any(prepare(rule.expression)(values, subject) for rule in left_out)
            all_say, some_say = (evaluate(each, values, subject) for each in (rules, found))
            assert (all_say and all_say.rule) is (some_say and some_say.rule)


@settings(deadline=None, max_examples=300)
@given(RULES, EXPRESSIONS)
def test_no_rule_is_left_out_that_a_condition_implies(rules, condition):
    found = RuleIndex(rules).implied_by(condition)
    for rule in rules:
        assert rule in found or not implies(condition, rule.expression)


def test_a_rule_that_is_added_is_found_from_then_on():
    def rule(data):
        symbol = Symbol("filename", -1, "eq", data)
        return Rule("native", "open", action="permit", errno=0, line=1, text="", expression=symbol)

    one, two = rule("/a"), rule("/A")
    index = RuleIndex([one])
    assert index.implied_by(two.expression) == index.about({"filename": [b"/A"]}) == [one]
    index.add(two)
    assert index.implied_by(one.expression) == index.about({"filename": [b"/a"]}) == [one, two]


def test_a_text_is_compared_with_what_is_like_it_alone():
    def rule(operator, data):
        symbol = Symbol("filename", -1, operator, data)
        return Rule("native", "open", action="permit", errno=0, line=1, text="", expression=symbol)

    rules = [rule("eq", f"/srv/{number}") for number in range(100)]
    rules += [rule("match", f"/opt/{number}/*") for number in range(100)]
    rules.append(rule("sub", "7"))
    relevant = Relevant(rules)
    assert relevant.to({"filename": [b"/srv/7"]}, ALICE) == [rules[7], rules[-1]]
    assert relevant.to({"filename": [b"/opt/7/x"]}, ALICE) == [rules[107], rules[-1]]
    assert relevant.to({"sockaddr": [b"/srv/7"]}, ALICE) == [rules[-1]]
    assert RuleIndex(rules).implied_by(rules[7].expression) == [rules[7], rules[-1]]
