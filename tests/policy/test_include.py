"""Includes of presets: what they stand for, and that what is signed is whole."""

import hashlib
import importlib.resources

import pytest

from certexec.cli.presets import PACKAGE, load_presets
from certexec.policy.format import meaning
from certexec.policy.include import expand
from certexec.policy.lexer import PolicySyntaxError
from certexec.policy.lint import lint
from certexec.policy.model import LANGUAGE, PolicyFile
from certexec.policy.reformat import reformat
from certexec.policy.syntax import parse_policy
from certexec.policy.unsupported import unsupported_features
from tests.policy.common import USERS

HEADER = f"Language: {LANGUAGE}\nPolicy: /bin/x, Emulation: native\n"
SMALL = {
    "one 1": "# a comment\nnative-read: permit\n\n native-write: permit\n",
    "one 2": "native-read: deny\n",
    "two 1": 'native-fsread: filename match "/usr" then permit # all of it\n',
    "nested 1": "include one 1\n",
    "broken 1": "native-read: permit\nnative-write permit\n",
}


def parse(*lines: str, presets=SMALL) -> PolicyFile:
    text = HEADER + "".join(line + "\n" for line in lines)
    return parse_policy(text, name="test", users=USERS, privileged=True, presets=presets)


def test_the_rules_stand_where_the_line_stands():
    rules = parse("native-open: permit", "include one 1", "native-close: permit").policies[0].rules
    assert [(rule.syscall, rule.line, rule.origin) for rule in rules] == [
        ("open", 3, ""), ("read", 4, "one 1(2)"), ("write", 4, "one 1(4)"), ("close", 5, ""),
    ]
    assert rules[1].told == "one 1(2): native-read: permit"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["include three 1"], "no preset"), (["include one 3"], "no preset"),
        (["include one"], "no preset"), (["include"], "no preset"),
        (["include one 1 now"], "no preset"), (["include one 1"] * 2, "included twice"),
        (["include nested 1"], "not a rule"), (["include broken 1"], "preset broken 1"),
        (["Policy: /y, Emulation: linux", "include one 1"], "emulation native"),
    ],
)  # fmt: skip
def test_what_cannot_be_included_is_a_syntax_error(lines, said):
    with pytest.raises(PolicySyntaxError, match=said):
        parse(*lines)


def test_there_is_a_most_of_them():
    many = {f"p{number} 1": "native-read: permit\n" for number in range(17)}
    with pytest.raises(PolicySyntaxError, match="more than 16"):
        parse(*(f"include {key}" for key in many), presets=many)


def test_hints_tell_what_there_is():
    for line, hint in (("include one 9", "there is: one 1, one 2"),
                       ("include tow 1", 'did you mean "two"?')):  # fmt: skip
        with pytest.raises(PolicySyntaxError) as caught:
            parse(line)
        assert caught.value.hint == hint


def test_where_policies_are_run_there_are_no_presets():
    with pytest.raises(PolicySyntaxError, match="read whole") as caught:
        parse("include one 1", presets=None)
    assert "--expand" in caught.value.hint


def test_without_the_language_line_it_is_no_rule_as_ever():
    text = "Policy: /bin/x, Emulation: native\ninclude one 1\n"
    with pytest.raises(PolicySyntaxError, match="not a rule"):
        parse_policy(text, name="t", users=USERS, privileged=True, presets=SMALL)


def test_written_out_it_means_the_same_and_needs_no_preset():
    text = HEADER + "native-open: permit # mine\n\tinclude  one 1 # theirs\ninclude two 1\n"
    whole = expand(text, name="t", users=USERS, presets=SMALL)
    assert whole == (
        HEADER + "native-open: permit # mine\n# include  one 1 # theirs\n\tnative-read: permit\n"
        "\tnative-write: permit\n# end of one 1\n# include two 1\n"
        '\tnative-fsread: filename match "/usr" then permit\n# end of two 1\n'
    )
    one = parse_policy(text, name="t", users=USERS, privileged=True, presets=SMALL)
    two = parse_policy(whole, name="t", users=USERS, privileged=True)
    assert [meaning(rule) for rule in one.policies[0].rules] == [
        meaning(rule) for rule in two.policies[0].rules
    ]
    assert expand(whole, name="t", users=USERS, presets={}) == whole


def test_text_without_includes_is_signed_byte_by_byte():
    text = "Policy: /bin/x, Emulation: native\n  native-open:  permit\n".replace(":  p", ": p")
    assert expand(text, name="t", users=USERS, presets=SMALL) == text


def test_fmt_keeps_the_line_and_sorts_nothing_around_it():
    text = HEADER + "native-open: permit\n  include   one   1 # x\nnative-close: permit\n"
    after = reformat(text, name="t", users=USERS, sort=True, presets=SMALL)
    assert after.endswith(
        "\tnative-open: permit\n\tinclude one 1 # x\n\tnative-close: permit\n"
    )
    assert reformat(after, name="t", users=USERS, presets=SMALL) == after


def test_lint_names_the_preset_that_decides_before():
    found = lint(parse("include one 1", "native-read: true then deny[enoent]"))
    assert [one.line for one in found] == [4] and "line 3, one 1(2), does" in found[0].message


# ---- those that are installed --------------------------------------------------------------------


SETTLED = {
    "base 1": "b2e49d489cc101b3e049848402fbe3642457ed4c92243c343d87cb9d8aacc5ec",
    "nameservice 1": "3158734de6028339fe58d695dfca6a6c06b76c634a9ff811496020852165b272",
    "io 1": "e4233c3d86731daac001895654e10345337b3cd911799c12496e47cd27e1af4c",
    "children 1": "153eaf626f812ee98834135414d7a3a978975128997703d36dd81a2ce52a94bd",
    "system 1": "3ffa6bd5d75912de4cde38a0d2f5581978dd7c1ae9c9fd9c8ea2b1a79a433cbf",
    "dns 1": "35a41482321d394b3c24472f14e74e2be8a14812dd9076f8d01d9e6fee1e0398",
    "tls 1": "2fa1c5c52717ca9c4994aa3e28348a83d006c25affafcb9b9323db94c8e6240e",
    "python 1": "3314ef3e7ec55fb18153152b31a7334f1a145a13dc24efa52f9206aa63f583ef",
    "sockets 1": "9794116cc56aa69c2416378a0bc140d3d4b183f00d6c252d6f643bc3e6571f0b",
    "tmp 1": "201eaff9762f21c49caf1114932f0a4893ab8d910245c2794c87d5c7490d66c1",
    "tty 1": "d97b7950f9d8b63d12b1e606cc925782aac2721c63a964c79b7a21b5712ca18e",
}
"""Presets that were in a version of certexec: another content needs another number."""


def test_what_was_given_out_never_changes():
    found = load_presets()
    assert {key: hashlib.sha256(found[key].encode()).hexdigest() for key in SETTLED} == SETTLED
    assert set(found) == set(SETTLED), "write the digest of a new one down"


def test_each_file_is_a_preset():
    files = [one.name for one in importlib.resources.files(PACKAGE).iterdir()]
    assert all("-" in name for name in files if not name.startswith("__"))


@pytest.mark.parametrize("key", sorted(load_presets()))
def test_each_can_be_enforced_and_means_what_it_seems(key):
    file = parse(f"include {key}", presets=load_presets())
    assert not unsupported_features(file, inherit=True)
    assert [(one.code, one.message) for one in lint(file)] == []
