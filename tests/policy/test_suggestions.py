"""What a review offers: from narrow to wide, and never less than what was seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certexec.policy import suggestions
from certexec.policy.evaluate import prepare
from certexec.policy.learned_paths import Places
from certexec.policy.suggestions import Suggestion, for_call, for_rule
from certexec.policy.syntax import parse_rule
from tests.policy.common import ALICE, USERS

PLACES = Places("", "/home/alice", "alice", ("/home/alice", "/root"))
NAME = st.sampled_from(
    ["a", "etc", "usr", "notes.txt", "old.txt", "libc.so.6", "tmpab12cd", "log-2024.gz", "a[b]*",
     "x?", "tm\\p", ".ssh", "12345", "a b", "#x", "é"]
)  # fmt: skip
DIRECTORY = st.builds(
    lambda top, parts: "/".join([top, *parts]),
    st.sampled_from(["", "/home/alice", "/home/bob", "/tmp", "/var/log", "/usr/lib"]),
    st.lists(st.sampled_from(["a", "b", "etc", "a[b]*", "é"]), max_size=3),
)
PATH = st.builds(lambda directory, name: f"{directory}/{name}", DIRECTORY, NAME)


def holds(one: Suggestion, values: dict[str, list[str]]) -> bool:
    rule = parse_rule(
        f"{one.condition or 'true'} then permit", users=USERS, privileged=True, extended=True
    )
    return prepare(rule.expression)(
        {name: [text.encode() for text in texts] for name, texts in values.items()}, ALICE
    )


@given(st.lists(PATH, min_size=1, max_size=2), st.booleans())
def test_each_suggestion_permits_what_was_seen(paths, executes):
    values = {"filename": paths}
    made = for_call(values, PLACES, executes=executes)
    assert made[0].kind == suggestions.EXACT and made[-1].kind == suggestions.ANY
    for one in made:
        assert holds(one, values), one


@given(PATH, st.lists(PATH, min_size=1, max_size=20))
def test_each_suggestion_permits_what_the_one_before_it_does(path, others):
    made = for_call({"filename": [path]}, PLACES)
    for other in (*others, path + "x", path.rpartition("/")[0] + "/b.txt"):
        # nothing lies below what is a file
        answers = [holds(one, {"filename": [other]}) for one in made]
        assert answers == sorted(answers), (other, list(zip(made, answers, strict=True)))


@given(PATH)
def test_what_is_executed_is_never_a_kind_of_name(path):
    kinds = {one.kind for one in for_call({"filename": [path]}, PLACES, executes=True)}
    assert kinds.isdisjoint({suggestions.NAMES, suggestions.SUFFIX, suggestions.DIRECTORY})


def kinds(values: dict[str, list[str]]) -> list[str]:
    return [one.kind for one in for_call(values, PLACES)]


def test_the_suggestions_for_some_names():
    made = for_call({"filename": ["/home/alice/notes/a.txt"]}, PLACES)
    assert [(one.kind, one.condition) for one in made] == [
        ("exact", 'filename eq "/home/alice/notes/a.txt"'),
        ("home", 'filename eq "$HOME/notes/a.txt"'),
        ("suffix", 'filename match "$HOME/notes/*.txt"'),
        ("directory",
         'filename match "$HOME/notes/*" and ( not filename match "$HOME/notes/*/*" )'),
        ("tree", 'filename match "$HOME/notes"'),
        ("tree", 'filename match "$HOME"'),
        ("tree", 'filename match "/home"'),
        ("any", ""),
    ]  # fmt: skip
    made = for_call({"filename": ["/usr/lib/libz.so.1.2.13"]}, PLACES)
    assert ("names", 'filename match "/usr/lib/libz.so.*"') in [one[:2] for one in made]
    made = for_call({"filename": ["/home/alice/.ssh/id"]}, PLACES)
    assert [(one.kind, one.warning[:8]) for one in made] == [
        ("exact", "what lie"), ("home", "what lie"), ("directory", "what lie"),
        ("tree", "what lie"), ("tree", "somebody"), ("tree", "somebody"), ("any", "this per"),
    ]  # fmt: skip
    made = for_call({"filename": ["/usr/share/x/y"]}, PLACES)
    assert [one.warning[:8] for one in made if one.kind == "tree"] == ["", "", "this dir"]


def test_what_is_not_a_file_has_suggestions_too():
    assert kinds({"sockaddr": ["inet-[192.0.2.1]:80"]}) == ["exact", "host", "port", "any"]
    for one in for_call({"sockaddr": ["inet-[192.0.2.1]:80"]}, PLACES):
        assert holds(one, {"sockaddr": ["inet-[192.0.2.1]:80"]}), one
    host, port = for_call({"sockaddr": ["inet-[2001:db8::1]:80"]}, PLACES)[1:3]
    assert holds(host, {"sockaddr": ["inet-[2001:db8::1]:443"]})
    assert not holds(host, {"sockaddr": ["inet-[2001:db8::2]:80"]})
    assert holds(port, {"sockaddr": ["inet-[2001:db8::2]:80"]})
    assert not holds(port, {"sockaddr": ["inet-[2001:db8::2]:8080"]})
    assert kinds({"sockaddr": ["/run/x/y"]}) == ["exact", "tree", "any"]
    assert kinds({"signame": ["SIGTERM"], "pidname": ["/bin/x"]}) == ["exact", "any"]
    assert kinds({}) == ["any"]
    assert kinds({"filename": ["/<non-existent filename>: /x"]}) == ["exact", "missing"]


def of_rule(body: str) -> list[tuple[str, str]]:
    rule = parse_rule(body, syscall="fsread", users=USERS, privileged=True)
    return [one[:2] for one in for_rule(rule, PLACES)]


def test_a_rule_comes_first_as_it_stands_and_then_what_is_wider():
    assert of_rule('filename eq "/opt/x" then permit') == [
        ("as it stands", 'filename eq "/opt/x"'),
        ("directory", 'filename match "/opt/*" and ( not filename match "/opt/*/*" )'),
        ("tree", 'filename match "/opt"'),
        ("any", ""),
    ]
    assert of_rule('filename match "/opt/x" then permit') == [
        ("as it stands", 'filename match "/opt/x"'), ("tree", 'filename match "/opt"'), ("any", ""),
    ]  # fmt: skip
    assert of_rule('filename match "/opt/x*.log" then permit') == [
        ("as it stands", 'filename match "/opt/x*.log"'),
        ("tree", 'filename match "/opt"'), ("any", ""),
    ]  # fmt: skip
    both = 'filename eq "/a" or filename eq "/b"'
    assert of_rule(f"{both} then permit") == [("as it stands", both)]
    assert of_rule("permit") == [("as it stands", "")]
    at_home = [condition for _, condition in of_rule('filename eq "$HOME/.x/y" then permit')]
    assert at_home[0] == 'filename eq "$HOME/.x/y"' and len(set(at_home)) == len(at_home) > 2
    named = of_rule(f'filename eq "{PLACES.home}/.x/y" then permit')
    assert named[1] == ("home", 'filename eq "$HOME/.x/y"')


@given(PATH)
def test_what_is_offered_for_a_rule_permits_what_the_rule_does(path):
    rule = parse_rule(
        for_call({"filename": [path]}, PLACES)[0].condition + " then permit", users=USERS,
        privileged=True,
    )
    for one in for_rule(rule, PLACES):
        assert holds(one, {"filename": [path]})


def test_a_name_below_the_directory_of_the_start_is_widened_up_to_that():
    line = 'filename eq "$CWD/a[b]/x.json" then permit'
    made = for_rule(parse_rule(line, users=USERS, privileged=True), PLACES)
    assert len(made) == 4
    assert [one.condition for one in made[2:]] == [
        'filename match "$CWD" and filename nsub "/." and filename nsub "/etc/"', "",
    ]
    assert all(one.warning for one in made[1:])
    for one in made:
        assert holds(one, {"filename": [f"{ALICE.cwd}/a[b]/x.json"]}), one
    assert not holds(made[1], {"filename": [f"{ALICE.cwd}/ab/x.json"]})
    assert not holds(made[2], {"filename": ["/elsewhere/x.json"]})
    for kept in (".ssh/id_ed25519", "a/.env", "etc/shadow"):
        assert not holds(made[2], {"filename": [f"{ALICE.cwd}/{kept}"]}), kept
    assert 'no name with "/."' in made[2].allows


def test_a_hidden_name_below_the_directory_of_the_start_is_not_widened_beyond_what_hides_it():
    line = 'filename eq "$CWD/.work/x.json" then permit'
    made = for_rule(parse_rule(line, users=USERS, privileged=True), PLACES)
    assert [one.condition for one in made[1:]] == [
        'filename match "$CWD/.work" and filename nsub "/etc/"', "",
    ]
    assert all(holds(one, {"filename": [f"{ALICE.cwd}/.work/x.json"]}) for one in made)
