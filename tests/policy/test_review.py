"""A review changes what was answered and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.policy.evaluate import effective_rules, evaluate
from certexec.policy.learned_paths import Places
from certexec.policy.observation import Observation, frozen
from certexec.policy.review import DENY, PERMIT, Review
from certexec.policy.syntax import parse_policy
from tests.policy.common import ALICE, USERS

PLACES = Places("", "/home/alice", "alice", ("/home/alice",))
TEXT = """\
# a policy under review
Policy: /bin/x, Emulation: native
\tnative-fsread: filename eq "/etc/hosts" then permit # names

  # two trees
\tnative-fsread: filename match "/usr/lib" then permit log
native-execve: true then permit[inherit] log, if user = alice
\tnative-read: permit
# the end
Policy: /bin/y, Emulation: native
\tnative-fswrite: filename match "/tmp" then deny[eacces]
"""


def review(text: str = TEXT, seen: dict[Observation, int] | None = None, **more: object) -> Review:
    return Review(
        text, name="x", users=USERS, presets=more.get("presets") or {}, subject=ALICE,
        places=PLACES, seen=seen,
    )  # fmt: skip


def opened(path: str, program: str = "/bin/x", flags: str = "ro") -> Observation:
    values = frozen({"filename": [path], "oflags": [flags]})
    return Observation(program, "openat", "read" if flags == "ro" else "write", values)


def verdict(text: str, one: Observation) -> str:
    file = parse_policy(text, name="x", users=USERS, privileged=True, presets={})
    policy = file.policy_for(one.program)
    assert policy is not None
    found = evaluate(effective_rules(policy, one.call, one.variant), dict(one.values), ALICE)
    return "" if found is None else f"{found.action} {found.errno} {found.log}"


# -- rules -----------------------------------------------------------------------------------------


def test_every_rule_of_the_file_is_an_item_in_the_order_of_the_file():
    made = review()
    assert [(one.line, one.program, one.name) for one in made.items] == [
        (3, "/bin/x", "native-fsread"), (6, "/bin/x", "native-fsread"),
        (7, "/bin/x", "native-execve"), (8, "/bin/x", "native-read"),
        (11, "/bin/y", "native-fswrite"),
    ]  # fmt: skip
    assert made.text() == TEXT and not made.changed


def test_what_comments_say_about_a_rule_is_shown_with_it():
    text = (
        "Policy: /bin/x, Emulation: native\n# what every program\n# does\n"
        "\tnative-read: permit\n\tnative-write: permit # even this\n#\n\tnative-close: permit\n"
        "\n\tnative-sync: permit\n"
    )
    assert [one.note for one in review(text).items] == [
        "what every program does", "what every program does even this", "", ""
    ]
    text = (
        "Language: certexec 1\nPolicy: /bin/x, Emulation: native\n# presets\n\tinclude base 1\n"
        "\tnative-read: permit\n# one\n\tnative-write: permit\n\tno-dotdot\n"
        "\tnative-close: permit\n"
    )
    presets = {"base 1": "\tnative-brk: permit\n"}
    assert [one.note for one in review(text, presets=presets).items] == ["", "one", ""]
    assert [one.note for one in review().items] == ["names", *["two trees"] * 3, ""]


def test_what_is_answered_as_it_stands_changes_nothing():
    made = review()
    for _ in range(4):
        made.permit(0)
    made.deny(0)
    assert made.current is None and made.text() == TEXT and len(made.answers) == 5


@pytest.mark.parametrize(
    ("item", "action", "place", "old", "new"),
    [
        (0, "permit", 2, 'eq "/etc/hosts" then', 'match "/etc" then'),
        (0, "deny", 0, "then permit # names", "then deny # names"),
        (1, "permit", 1, '"/usr/lib" then permit log', '"/usr" then permit log'),
        (1, "deny", 0, '"/usr/lib" then permit log', '"/usr/lib" then deny log'),
        (2, "deny", 0, "permit[inherit] log, if user = alice", "deny log, if user = alice"),
        (3, "deny", 0, "native-read: permit", "native-read: deny"),
        (4, "permit", 0, "deny[eacces]", "permit"),
    ],
)
def test_a_changed_rule_stands_where_it_stood(item, action, place, old, new):
    made = review()
    made.go(item)
    getattr(made, action)(place)
    assert made.text() == TEXT.replace(old, new)


def test_a_widened_rule_keeps_its_place_among_those_of_its_name():
    text = (
        "Policy: /bin/x, Emulation: native\n\tnative-open: oflags eq \"wo\" then deny\n"
        "\tnative-open: filename eq \"/a/b\" then permit\n"
    )
    made = review(text)
    made.go(1)
    made.permit(len(made.items[1].suggestions) - 1)
    # a bare permit would decide before the denial
    assert made.text().splitlines()[2] == "\tnative-open: true then permit"


def test_an_edit_that_is_no_rule_changes_nothing():
    made = review()
    for wrong in ("bogus", "native-read permit", "linux-read: permit", "native-read: permit # x",
                  "native-fsread: filename foo \"x\" then permit", "\tnative-read: permit\nx",
                  f'native-fsread: filename eq "{"x" * 3000}" then permit'):  # fmt: skip
        with pytest.raises(PolicyError):
            made.edit(wrong)
    assert made.at == 0 and made.text() == TEXT and not made.undo()
    made.edit("native-write: permit")
    assert 'native-write: permit # names\n' in made.text()


def test_a_name_that_no_line_can_hold_is_refused():
    made = review(seen={opened('/etc/q"z#a'): 1})
    with pytest.raises(PolicyError, match='would end at its "#"'):
        made.permit(0)
    assert made.at == 0 and made.text() == TEXT


def test_an_empty_edit_takes_the_rule_and_keeps_its_comment():
    made = review()
    made.edit("")
    made.edit("")
    removed = TEXT.replace('\tnative-fsread: filename eq "/etc/hosts" then permit # names\n',
                           "\t# names\n")  # fmt: skip
    assert made.text() == removed.replace(
        '\tnative-fsread: filename match "/usr/lib" then permit log\n', ""
    )


def test_undo_goes_back_answer_by_answer():
    made = review()
    texts = [made.text()]
    made.deny(0)
    texts.append(made.text())
    made.skip()
    texts.append(made.text())
    made.go(1)
    made.deny(0)
    while made.undo():
        assert made.text() == texts.pop()
    assert not texts and made.at == 0


def test_a_skip_takes_an_earlier_answer_back():
    made = review()
    made.deny(0)
    made.go(0)
    made.skip()
    assert not made.changed


def test_search_goes_round_and_ignores_case():
    made = review()
    assert made.find("/USR/lib") and made.at == 1
    assert made.find("fsread") and made.at == 0
    assert made.find("/bin/y") and made.at == 4
    assert not made.find("nothing") and made.at == 4


def test_rules_of_presets_are_no_items():
    text = "Language: certexec 1\nPolicy: /bin/x, Emulation: native\n\tinclude p 1\n"
    made = review(text, presets={"p 1": "native-read: permit\n"})
    assert made.items == () and made.current is None


# -- calls -----------------------------------------------------------------------------------------


def test_calls_that_a_rule_decides_and_those_of_others_are_no_items():
    made = review(seen={
        opened("/etc/hosts"): 3, opened("/etc/passwd"): 2, opened("/x", "/bin/z"): 7,
    })  # fmt: skip
    assert [(one.title, one.times) for one in made.items] == [
        ("openat filename: /etc/passwd, oflags: ro", 2)
    ]
    assert made.foreign == 7


def test_new_rules_come_at_the_end_of_their_policy_narrow_ones_first():
    made = review(seen={
        opened("/etc/a.conf"): 1, opened("/etc/shadow"): 1, opened("/etc/b.conf"): 1,
        opened("/srv/x", "/bin/y"): 1,
    })  # fmt: skip
    wide = [one.kind for one in made.items[0].suggestions].index("tree")
    made.permit(wide)
    assert made.covered(1) == made.covered(2) == "permit"
    assert made.at == 3  # what an answer decides already is not asked
    made.permit(0)
    made.go(1)
    made.deny(0)
    assert made.text() == TEXT.replace(
        "\tnative-read: permit\n",
        "\tnative-read: permit\n"
        '\tnative-fsread: filename eq "/etc/shadow" then deny\n'
        '\tnative-fsread: filename match "/etc" then permit\n',
    ) + '\tnative-fsread: filename eq "/srv/x" then permit\n'
    assert verdict(made.text(), opened("/etc/shadow")) == "deny 1 False"


def test_what_is_not_there_is_denied_as_if_it_were_not():
    made = review(seen={opened("/<non-existent filename>: /a/b"): 1})
    made.deny(1)
    assert '"/<non-existent filename>*" then deny[enoent]' in made.text()


def test_a_call_without_arguments_is_permitted_without_touching_rules_of_that_name():
    text = "Policy: /bin/x, Emulation: native\n\tnative-close: fd eq \"3\" then deny\n"
    seen = {Observation("/bin/x", "close", "", ()): 1, Observation("/bin/x", "sync", "", ()): 1}
    made = review(text, seen)
    made.permit(0)
    made.permit(0)
    assert made.text() == text + "\tnative-close: true then permit\n\tnative-sync: permit\n"


# -- laws ------------------------------------------------------------------------------------------

PATHS = st.builds(
    lambda top, name: top + "/" + name,
    st.sampled_from(["", "/etc", "/etc/a", "/usr/lib", "/home/alice", "/home/alice/x", "/tmp"]),
    st.sampled_from(["hosts", "a.conf", "b.conf", "x#y", 'q"z', "é", "a b", "lib.so.6", "[x]*"]),
)
CALLS = st.builds(opened, PATHS, st.sampled_from(["/bin/x", "/bin/y"]),
                  st.sampled_from(["ro", "wo", "rwct"]))  # fmt: skip
ACTS = st.lists(
    st.tuples(st.sampled_from(["permit", "deny", "skip", "undo", "back"]), st.integers(0, 9)),
    max_size=14,
)


def act(made: Review, acts: list[tuple[str, int]]) -> None:
    for word, place in acts:
        item = made.current
        if word == "undo":
            made.undo()
        elif word == "back":
            made.go(made.at - 1)
        elif item is not None and word == "skip":
            made.skip()
        elif item is not None:
            try:
                getattr(made, word)(place % len(item.suggestions))
            except PolicyError:
                made.skip()  # a name that no rule can hold


def touched(made: Review, one: Observation) -> bool:
    """Whether a rule that came, went or changed is about a call."""
    old, new = made.before.splitlines(), made.text().splitlines()
    for line in {*old, *new} - ({*old} & {*new}):
        name, _, body = line.strip().partition(": ")
        probe = f"Policy: {one.program}, Emulation: native\n\t{name}: {body}\n"
        if verdict(probe, one):
            return True
    return False


@given(ACTS, st.lists(CALLS, min_size=1, max_size=8), st.booleans(), st.lists(CALLS, max_size=8))
def test_what_comes_of_a_review_parses_and_judges_what_was_not_touched_alike(
    acts, seen, of_calls, others
):
    made = review(seen=dict.fromkeys(seen, 1) if of_calls else None)
    act(made, acts)
    text = made.text()
    for one in (*seen, *others):
        if not touched(made, one):
            assert verdict(text, one) == verdict(TEXT, one), one


@given(ACTS, st.lists(CALLS, min_size=1, max_size=8), st.booleans())
def test_comments_and_lines_that_were_not_answered_stay_in_their_order(acts, seen, of_calls):
    made = review(seen=dict.fromkeys(seen, 1) if of_calls else None)
    act(made, acts)
    changed = {made.items[index].line for index in made.answers}
    kept = [one for at, one in enumerate(TEXT.splitlines(), 1) if at not in changed]
    rest = iter(made.text().splitlines())
    assert all(any(line == one for line in rest) for one in kept)


@given(ACTS, st.lists(CALLS, min_size=1, max_size=8))
def test_undoing_everything_gives_the_file_back(acts, seen):
    made = review(seen=dict.fromkeys(seen, 1))
    act(made, acts)
    while made.undo():
        pass
    assert made.text() == TEXT and not made.answers


@given(st.lists(CALLS, min_size=1, max_size=6, unique=True), st.data())
def test_an_answer_decides_the_call_that_it_was_given_for(seen, data):
    made = review(seen=dict.fromkeys(seen, 1))
    while (item := made.current) is not None:
        index = made.at
        action = data.draw(st.sampled_from([PERMIT, DENY]))
        place = data.draw(st.integers(0, len(item.suggestions) - 1))
        try:
            (made.permit if action == PERMIT else made.deny)(place)
        except PolicyError:
            made.skip()
            continue
        # at once; another answer that is narrower may come later
        assert made.covered(index) == action
