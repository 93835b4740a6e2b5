"""Lines "after": what they say, and what the filter has to ask about because of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import SUPERVISED, call_of, variants
from certexec.policy.compile import compile_policy
from certexec.policy.decisions import ALWAYS
from certexec.policy.explain import Tree, explain_call
from certexec.policy.guards import CLONE3, JUDGED, NARROWED, PERMIT, Decision
from certexec.policy.landlock import landlocked
from certexec.policy.lexer import PolicySyntaxError
from certexec.policy.lint import lint
from certexec.policy.model import LANGUAGE, PolicyFile, Subject
from certexec.policy.narrowing import fits, keeps
from certexec.policy.question import ask
from certexec.policy.reformat import reformat
from certexec.policy.syntax import parse_policy
from certexec.policy.tree import TreeOptions
from tests.policy.common import USERS

NOBODY = Subject(1, 1, "/", "nobody", "/")
HEADER = f"Language: {LANGUAGE}\nPolicy: /bin/x, Emulation: native\n"
APPEND = 'after native-open: oflags sub "a" then only write, close'
NO_RING = [name for name in NUMBERS if not name.startswith("io_uring")]
EVERYTHING = tuple(f"native-{name}: permit" for name in NO_RING)


def parse(*lines: str) -> PolicyFile:
    text = HEADER + "".join(line + "\n" for line in lines)
    return parse_policy(text, name="test", users=USERS, privileged=True)


def table(*lines: str):
    options = TreeOptions(full_log=False, privileged=False, capable=False)
    return compile_policy(parse(*lines).policies[0], options).table


def decisions(made, name: str) -> list[Decision]:
    return [clause.decision for clause in made.of(NUMBERS[name])]


# ---- the line ------------------------------------------------------------------------------------


def test_a_line_names_a_call_a_condition_and_what_remains():
    (after,) = parse(APPEND).policies[0].afters
    assert (after.rule.syscall, after.names) == ("open", ("write", "close"))
    assert str(after) == APPEND


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("after", 7), ("after native-open", 7), ("after open: true then only write", 7),
        ("after linux-open: true then only write", 7),
        ("after native-oen: true then only write", 7),
        ("after native-open: then only write", 20), ("after native-open: true then write", 30),
        ("after native-open: true then only", 34), ("after native-open: true then only write,", 41),
        ("after native-open: true then only wirte", 35), ("after native-open: true only write", 25),
        ("after native-open: true then only write close", 41),
        ("after native-open: true then only write log", 41),
        ("after native-open: true then permit", 30),
        ('after native-open: filename eq "/x then only write', 51),
    ],
)  # fmt: skip
def test_what_is_no_such_line_is_a_syntax_error_at_its_place(line, column):
    with pytest.raises(PolicySyntaxError) as caught:
        parse(line)
    assert (caught.value.line, caught.value.column) == (3, column)


def test_there_is_a_most_of_them():
    parse(*[APPEND] * 16)
    with pytest.raises(PolicySyntaxError, match="more than 16"):
        parse(*[APPEND] * 17)


def test_without_the_language_line_it_is_no_rule_as_ever():
    with pytest.raises(PolicySyntaxError):
        parse_policy(HEADER.partition("\n")[2] + APPEND + "\n", name="t", users=USERS,
                     privileged=True)  # fmt: skip


def test_fmt_writes_it_in_one_form():
    text = HEADER + 'after native-open:  oflags  sub "a"  -> only write,close # log\n'
    after = reformat(text, name="t", users=USERS)
    assert after.endswith(f"\t{APPEND} # log\n")
    assert reformat(after, name="t", users=USERS) == after


def test_a_condition_that_nobody_can_judge_is_refused():
    line = 'after native-open_tree: filename eq "/x" then only write'
    with pytest.raises(PolicyError, match="open_tree cannot be judged"):
        table(line, *EVERYTHING)
    assert "unsupported" in [one.code for one in lint(parse(line))]


def test_a_condition_on_registers_is_watched_for():
    made = table('after native-kill: signame eq "SIGHUP" then only write', *EVERYTHING)
    assert decisions(made, "kill") == [JUDGED]


def test_lint_looks_at_its_condition_as_at_a_rule_s():
    found = lint(parse('after native-open: filename eq "etc" then only write'))
    assert [(one.line, one.code) for one in found] == [(3, "relative")]


# ---- the filter ----------------------------------------------------------------------------------


def test_what_remains_stays_with_the_kernel_and_what_goes_is_asked_about():
    made = table(APPEND, *EVERYTHING)
    assert decisions(made, "write")[0].kind == PERMIT
    assert decisions(made, "close")[0].kind == PERMIT
    assert decisions(made, "read") == [NARROWED]
    assert {one.why for one in decisions(made, "openat")} == {"rules"}
    for number in ALWAYS:
        assert made.of(number)[0].decision.kind == PERMIT


def test_what_is_denied_stays_with_the_kernel():
    made = table(APPEND, "native-read: deny[enoent]", "native-open: permit")
    assert decisions(made, "read")[0].errno == 2 and decisions(made, "read")[0].kind == "deny"


def test_a_condition_on_a_plain_permit_makes_the_call_judged():
    made = table('after native-connect: sockaddr match "inet-*" then only write, connect',
                 "native-connect: permit")  # fmt: skip
    assert decisions(made, "connect")[0].why == "rules"


def test_without_a_condition_registers_are_enough():
    made = table("after native-connect: true then only write, connect", "native-connect: permit")
    assert decisions(made, "connect") == [NARROWED]


def test_what_memory_tells_apart_is_judged():
    made = table("after native-getpid: true then only fstat", *EVERYTHING)
    assert {one.why for one in decisions(made, "newfstatat")} == {"rules"}


def test_io_uring_evades_it():
    with pytest.raises(PolicyError, match="io_uring"):
        table(
            "after native-getppid: true then only write", *EVERYTHING,
            *(f"native-{name}: permit" for name in NUMBERS if name not in NO_RING),
        )


def test_landlock_does_not_know_it():
    rules = ("landlock", 'native-fsread: filename match "/usr" then permit')
    assert landlocked(parse(APPEND, *rules).policies[0], 7, None)[0] is None


LINES = st.lists(
    st.tuples(
        st.sampled_from(["open", "connect", "getpid", "fsread", "fswrite", "fstat", "clone"]),
        st.lists(st.sampled_from(["write", "fsread", "fstat", "open", "execve", "fork", "openat"]),
                 min_size=1, max_size=3),
    ), min_size=1, max_size=3,
)  # fmt: skip


@given(LINES, st.booleans())
def test_the_kernel_alone_permits_only_what_every_state_permits(lines, plain):
    written = [
        f"after native-{name}: true then only {', '.join(only)}" for name, only in lines
    ]
    policy = parse(*written, *EVERYTHING).policies[0]
    made = table(*written, *(EVERYTHING if plain else ('native-fsread: filename match "/" then '
                 "permit", "native-getpid: permit", "native-fstat: permit")))  # fmt: skip
    for name in NO_RING:
        number = NUMBERS[name]
        if number in ALWAYS or number == CLONE3:
            continue
        remains = all(
            keeps(policy, after, name, variant.label)
            for variant in variants(name) for after in policy.afters
        )
        begins = any(
            fits(policy, after, name, variant.label)
            for variant in variants(name) for after in policy.afters
        )
        for clause in made.of(number):
            if clause.decision.kind == PERMIT and clause.reason in (
                "", "otherwise", *(variant.label for variant in variants(name))
            ):
                own = [one for one in variants(name) if one.label == clause.reason]
                for variant in own or variants(name)[-1:]:
                    assert all(keeps(policy, one, name, variant.label) for one in policy.afters)
                    assert not any(fits(policy, one, name, variant.label) for one in policy.afters)
        if not (remains and not begins) and len(variants(name)) == 1:
            assert all(one.kind != PERMIT or not one.permitted for one in decisions(made, name))


# ---- telling -------------------------------------------------------------------------------------


def test_policy_test_answers_for_the_time_before_and_after():
    more = ("native-fsread: permit", "native-sigaction: permit")
    policy = parse(APPEND, *EVERYTHING, *more).policies[0]
    for name in ("read", "fsread", "sigaction"):
        assert ask(policy, name, {}, NOBODY).action == "permit"
        answer = ask(policy, name, {}, NOBODY, policy.afters)
        assert (answer.action, answer.rule and answer.rule.line) == ("deny", 3)
    assert ask(policy, "write", {}, NOBODY, policy.afters).action == "permit"


def test_explain_says_who_looks():
    tree = Tree(parse(APPEND, *EVERYTHING).policies[0])
    (_, (use,), _), = explain_call(tree, "read").variants
    assert use.layer == "supervised" and use.decision == NARROWED


def test_every_judged_call_can_be_watched():
    assert all(call_of(name).supervised for name in SUPERVISED)
