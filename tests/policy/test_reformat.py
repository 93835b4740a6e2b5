"""The canonical form: it means the same, it is a fixed point, and no comment gets lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.policy import reformat as module
from certexec.policy.format import meaning
from certexec.policy.lexer import LINE_MAX, PolicySyntaxError, decode_policy, split_comment
from certexec.policy.reformat import reformat
from certexec.policy.syntax import parse_policy
from certexec.policy.template import permit_all, starting_policy
from tests.policy.common import USERS, shared, vectors

HEADER = "Policy: /bin/x, Emulation: native\n"


def fmt(text: str, *, sort: bool = False) -> str:
    return reformat(text, name="file", users=USERS, sort=sort)


def body(text: str) -> str:
    """The canonical form of one rule."""
    lines = fmt(HEADER + text + "\n").splitlines()
    assert lines[0] + "\n" == HEADER
    [line] = lines[1:]
    assert line.startswith("\t")
    return line[1:]


def contents(text: str) -> list[object]:
    return [
        (one.path, one.emulation, one.detached, [meaning(rule) for rule in one.rules])
        for one in parse_policy(text, name="f", users=USERS, privileged=True).policies
    ]


def comments(text: str) -> list[str]:
    found = [split_comment(line)[1].rstrip(" \t\r\v\f") for line in text.split("\n")]
    return [comment for comment in found if comment]


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("native-read: permit", "native-read: permit"),
        ("   native-fsread:  true  ->\tpermit", "native-fsread: true then permit"),
        ("native-read: deny[EIO]", "native-read: deny[eio]"),
        ("native-fsread: permit", "native-fsread: permit"),
        ("native-read: true then permit", "native-read: true then permit"),
        ("native-read: permit-now", "native-read: permit-now"),
        ("native-read: permit, if user=root", "native-read: permit, if user = root"),
        ("native-read: deny[EIO], if group<5", "native-read: deny[eio], if group < 5"),
        ('native-fsread: filename[1]eq"a"then deny[ENOENT]log as root:staff,if user!=0099',
         'native-fsread: filename[1] eq "a" then deny[enoent] log as root:staff, if user != 99'),
        ("native-bind: true then permit as:staff", "native-bind: true then permit as :staff"),
        ("native-bind: true then permit [ Inherit ] as 0 : 5",
         "native-bind: true then permit[inherit] as 0:5"),
        ("native-bind: true then permit, if user = 99999999999999999999",
         "native-bind: true then permit, if user = 4294967295"),
        ("native-fsread: ( ( true ) and (true ) ) then ask",
         "native-fsread: true and true then ask"),
        ("native-fsread: true and true or true then ask",
         "native-fsread: true and ( true or true ) then ask"),
        ("native-fsread: not true and true then ask",
         "native-fsread: not ( true and true ) then ask"),
        ('native-fsread: FileName match "\\/a\\"\\\\[\\n" then permit',
         'native-fsread: FileName match "/a\\"\\\\[\\n" then permit'),
        ('native-fsread: filename eq "$HOME/x" then permit',
         'native-fsread: filename eq "$HOME/x" then permit'),
        ("native-#4 (unimplemented x): permit", "native-#4 (unimplemented x): permit"),
        ('native-fsread: true then permit "x   y', 'native-fsread: true then permit "x   y'),
    ],
)
def test_a_rule_is_written_in_one_way(written, canonical):
    assert body(written) == canonical
    assert body(canonical) == canonical


def test_comments_and_the_order_of_lines_stay():
    text = (
        "\n# first\n\n\npolicy: /bin/x, EMULATION: native # the program\n"
        "    # indented\r\n#not\n\t native-read:  permit\n native-read: permit   # why   \n\n\n\n"
        "detached # for now\nPolicy: */y, Emulation: linux\n linux-write: permit\n\n"
    )
    with pytest.raises(PolicySyntaxError):
        fmt(text)
    text = text.replace("read:  permit", "read: permit")
    assert fmt(text) == (
        "# first\n\nPolicy: /bin/x, Emulation: native # the program\n"
        "\t# indented\n#not\n\tnative-read: permit\n\tnative-read: permit # why\n\n"
        "detached # for now\n\nPolicy: */y, Emulation: linux\n\tlinux-write: permit\n"
    )


def test_blanks_that_mean_something_in_a_header_stay():
    text = "Policy:  /a b , Emulation:  native\n native-read: permit\n"
    with pytest.raises(PolicySyntaxError):
        fmt(text)
    text = "Policy:  /a b , Emulation: native, x\n\tnative, x-read: permit\n"
    assert fmt(text) == text


def test_a_comment_that_does_not_fit_any_more_stands_before_its_rule():
    long = 'native-fsread: true and filename eq "' + "x" * (LINE_MAX - 100) + '"then permit'
    comment = "# " + "y" * (LINE_MAX - len(long) - 2)
    text = HEADER + long + comment + "\n"
    shown = fmt(text)
    assert shown.splitlines()[1] == "\t" + comment
    assert shown.splitlines()[2].startswith("\tnative-fsread: true and filename")
    assert fmt(shown) == shown


def test_what_would_be_too_long_keeps_its_form():
    links = " or ".join(["true and true"] * 110)
    compact = HEADER + f"native-fsread: {links} then permit\n"
    assert "(" not in fmt(compact), "parentheses would not fit"
    full = 'native-fsread:filename eq"'.replace(":f", ": f")
    full += "x" * (LINE_MAX - len(full) - 12) + '"then permit'
    assert len(full) == LINE_MAX
    assert fmt(HEADER + full + "\n") == HEADER + full + "\n"


def test_an_open_quote_is_left_alone():
    text = HEADER + '\tnative-fsread: true then permit   "x\n\tnative-read: permit\n'
    assert fmt(text) == text
    assert fmt(text, sort=True) == text


@pytest.mark.parametrize(
    "text",
    [HEADER.rstrip(), "native-read: permit\n", HEADER + "native-read: bogus\n", HEADER + "x\0\n",
     HEADER + "native-fsread: filename match \\\n"],
)
def test_what_is_no_policy_is_refused(text):
    with pytest.raises(PolicySyntaxError):
        fmt(text)


def test_a_result_that_means_something_else_is_never_returned(monkeypatch):
    monkeypatch.setattr(module, "rule_text", lambda rule, users: "native-read: deny")
    with pytest.raises(PolicyError) as caught:
        fmt(HEADER + "\tnative-read: permit\n")
    assert caught.value.reason == "internal"


def test_nothing_gives_nothing():
    assert fmt("") == ""
    assert fmt("\n\n") == ""
    assert fmt("# only this\n\n") == "# only this\n"


# The pieces of whole files: rules of every shape, broken white space, comments in odd places.
SPACE = st.sampled_from(["", " ", "\t", "  \t"])
GAP = st.sampled_from([" ", "  ", "\t"])
DATA = st.text(alphabet='/ab*\\"#$- é', max_size=6).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
SYMBOL = st.just("true") | st.builds(
    "{}{}{} {} {}".format, st.sampled_from(["filename", "FileName", "sockaddr", "x-y.z"]),
    st.sampled_from(["", "[1]", "[ 0 ]"]), SPACE,
    st.sampled_from(["match", "eq", "neq", "sub", "nsub", "inpath"]), DATA,
)
EXPRESSION = st.recursive(
    SYMBOL,
    lambda inner: st.builds(
        "{} {} {}".format, inner, st.sampled_from(["and", "or"]), inner
    ) | st.builds("not {}".format, inner) | st.builds("( {} )".format, inner),
    max_leaves=6,
)
TAIL = st.builds(
    "{}{}{}{}".format, st.sampled_from(["permit", "deny", "ask", "deny[ENOENT]", "permit[detach]"]),
    st.sampled_from(["", " log"]), st.sampled_from(["", " as root", " as root : staff", " as :0"]),
    st.sampled_from(["", ",if user = alice", ", if group  > 5"]),
)
BARE = st.sampled_from(
    ["permit", "deny", "deny[EIO]", "permit-now", "permit, if user=root", "deny[eio], if group > 5"]
)
RULE = st.builds(
    "native-{}: {}".format,
    st.sampled_from(["read", "pread", "pread64", "fsread", "open", "pledge", "#1 (x)"]),
    BARE | st.builds("{}{}then {}".format, EXPRESSION, GAP, TAIL),
)
COMMENT = st.sampled_from(["", "", "# why", "#", ' # "x" \\', "# tab\t"])
LINE = st.builds("{}{}{}{}".format, SPACE, RULE, GAP, COMMENT) | st.sampled_from(
    ["", "  ", "# lone", "\t# lone", "Policy: /bin/x, Emulation: native",
     "policy: */y, emulation: native # z"]
)
FILE = st.lists(LINE, max_size=8).map(
    lambda lines: HEADER + "".join(line + "\n" for line in lines)
)


@settings(deadline=None, max_examples=200)
@given(FILE)
def test_the_canonical_form_means_the_same_keeps_comments_and_is_final(text):
    try:
        before = contents(text)
    except PolicySyntaxError:
        with pytest.raises(PolicySyntaxError):
            fmt(text)
        return
    shown = fmt(text)
    assert contents(shown) == before
    assert comments(shown) == comments(text)
    assert fmt(shown) == shown


@settings(deadline=None, max_examples=200)
@given(FILE)
def test_sorting_keeps_every_rule_and_comment_and_is_final(text):
    try:
        before = contents(text)
    except PolicySyntaxError:
        return
    shown = fmt(text, sort=True)
    after = contents(shown)
    assert [one[:3] for one in after] == [one[:3] for one in before]
    assert sorted(comments(shown)) == sorted(comments(text))
    assert fmt(shown, sort=True) == shown
    assert fmt(shown) == shown


def test_every_accepted_file_of_the_originals_verdicts_keeps_its_meaning():
    for case in vectors("files.json") + vectors("structures.json"):
        try:
            before = contents(case["text"])
        except PolicySyntaxError:
            continue
        for sort in (False, True):
            shown = fmt(case["text"], sort=sort)
            assert fmt(shown, sort=sort) == shown
            if not sort:
                assert contents(shown) == before


def test_every_accepted_rule_of_the_originals_verdicts_keeps_its_meaning():
    for case in vectors("rules.json"):
        text = f"{HEADER}native-read: {case['rule']}\n"
        try:
            before = contents(text)
        except PolicySyntaxError:
            continue
        assert contents(fmt(text)) == before
        assert fmt(fmt(text)) == fmt(text)


def test_real_policies_keep_their_meaning():
    for path in shared("systrace-policies").iterdir():
        if path.name.startswith(("PROVENANCE", "manpage")):
            continue
        text = decode_policy(path.read_bytes())
        assert contents(fmt(text)) == contents(text)
        assert fmt(fmt(text, sort=True), sort=True) == fmt(text, sort=True)


def test_the_policies_that_certexec_writes_are_in_canonical_form():
    for text in (starting_policy("/opt/x/y"), permit_all("/bin/true")):
        assert fmt(text) == text
