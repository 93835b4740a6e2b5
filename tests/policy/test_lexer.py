"""Lines and tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.policy.lexer import (
    LINE_MAX,
    NAME,
    NUMBER,
    QUOTED,
    PolicySyntaxError,
    RuleError,
    decode_policy,
    source_lines,
    tokens,
)

WORDS = st.sampled_from(
    ["and", "not", "filename", "(", ")", "true)", "->", "x$", "[", "]", "12", "!=", ":", '"a b"',
     '"\\""', "permit", "a.b/(c)-d", "$x", "<", '""', "=", ","]
)


def kinds(text: str) -> list[tuple[str, object]]:
    return [(kind, value) for kind, value, _ in tokens(text)[0]]


def lines(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, _, line in source_lines(text, "file")]


def test_the_longest_match_wins():
    assert kinds("permitx") == [(NAME, "permitx")]
    assert kinds("permit") == [("permit", "permit")]
    assert kinds("true)") == [(NAME, "true)")]
    assert kinds("(true") == [("(", "("), ("true", "true")]
    assert kinds("not(filename") == [(NAME, "not(filename")]
    assert kinds("eq$") == [(NAME, "eq$")]
    assert kinds("a$b") == [(NAME, "a$"), (NAME, "b")]
    assert kinds("a$$") == [(NAME, "a$"), (NAME, "$")]


def test_words_need_no_space_where_no_longer_match_exists():
    assert kinds('filename[1]eq"x"then') == [
        (NAME, "filename"), ("[", "["), (NUMBER, 1), ("]", "]"), ("eq", "eq"), (QUOTED, "x"),
        ("then", "then"),
    ]
    assert kinds('"x"->permit') == [(QUOTED, "x"), ("then", "->"), ("permit", "permit")]
    assert kinds("12ab") == [(NUMBER, 12), (NAME, "ab")]


def test_keywords_are_in_lower_case():
    assert kinds("Permit AND") == [(NAME, "Permit"), (NAME, "AND")]


def test_numbers_overflow_as_in_c():
    assert kinds("2147483648") == [(NUMBER, -(2**31))]
    assert kinds("4294967297") == [(NUMBER, 1)]
    assert kinds("9" * 30) == [(NUMBER, -1)]


def test_escapes_in_quoted_strings():
    assert kinds(r'"a\"b\\c\nd\re\tf"') == [(QUOTED, 'a"b\\c\nd\retf')]
    assert kinds(r'"\\" "\\\\"') == [(QUOTED, "\\"), (QUOTED, "\\\\")]


def test_an_open_quote_is_told_and_no_token():
    assert tokens('true "never') == ([("true", "true", 0)], True)
    assert tokens('true "never\\"') == ([("true", "true", 0)], True)
    assert tokens('true "never\\') == ([("true", "true", 0)], True)
    assert tokens('true "closed"')[1] is False


def test_columns_are_offsets_in_the_text():
    text = 'filename  eq\t"x" then\tpermit[inherit]'
    assert [text[column:][:3] for _, _, column in tokens(text)[0]] == [
        "fil", "eq\t", '"x"', "the", "per", "[in", "inh", "]"
    ]


@pytest.mark.parametrize(
    "text", ["a;b", "\x0b", "a\rb", "é", "a\u2003b", "!", "-", "'", "a\\", "#x"]
)
def test_what_begins_no_token_is_refused_where_it_stands(text):
    with pytest.raises(RuleError) as caught:
        tokens("true " + text)
    assert 5 <= caught.value.column <= 6


def test_any_character_may_be_quoted():
    assert kinds('"é#;\x0b\u2003"') == [(QUOTED, "é#;\x0b\u2003")]


def test_a_comment_inside_a_rule_needs_a_newline():
    assert kinds("true # x \" y\nthen") == [("true", "true"), ("then", "then")]
    with pytest.raises(RuleError):
        tokens("true # x")


@settings(deadline=None)
@given(st.lists(WORDS))
def test_spaces_do_not_matter_between_words(words):
    first = [token[:2] for token in tokens(" ".join(words))[0]]
    assert first == [token[:2] for token in tokens("\t " + " \t\n ".join(words) + "  ")[0]]


@settings(deadline=None)
@given(st.text())
def test_tokens_raise_nothing_but_rule_errors(text):
    try:
        found, _ = tokens(text)
    except RuleError as error:
        assert 0 <= error.column <= len(text)
        return
    columns = [column for _, _, column in found]
    assert columns == sorted(set(columns))


def test_comments_end_lines_but_not_in_quotes_and_not_after_a_dash():
    assert lines('a # b\n') == [(1, "a")]
    assert lines('a "x#y" # z\n') == [(1, 'a "x#y"')]
    assert lines("linux-#224 (unimplemented gettid): permit # x\n") == [
        (1, "linux-#224 (unimplemented gettid): permit")
    ]
    assert lines('a "x\\"#y"\n') == [(1, 'a "x\\"')], "an escaped quote counts as a quote"


def test_white_space_is_removed_as_in_the_original():
    assert lines("\t a \t\r\v\f\n") == [(1, "a")]
    assert lines("\v a\n") == [(1, "\v a")]
    assert lines("\r\n") == [(1, "\r")], "the first character is never looked at"
    assert lines("   \n") == [(1, "")]
    assert lines("a\u00a0\n") == [(1, "a\u00a0")]
    assert lines("a\x85b\u2028c\x1cd\n") == [(1, "a\x85b\u2028c\x1cd")], "one line, not four"


def test_lines_are_limited_in_bytes():
    assert lines("x" * LINE_MAX + "\n") == [(1, "x" * LINE_MAX)]
    assert lines("é" * (LINE_MAX // 2) + "\n") == [(1, "é" * (LINE_MAX // 2))]
    for too_long in ("x" * (LINE_MAX + 1), "é" * (LINE_MAX // 2) + "x"):
        with pytest.raises(PolicySyntaxError, match="line too long"):
            lines("fine\n" + too_long + "\n")


def test_bytes_that_are_not_utf8_count_as_one_each():
    text = decode_policy(b"\xff" * LINE_MAX + b"\n")
    assert lines(text) == [(1, text[:-1])]
    with pytest.raises(PolicySyntaxError, match="line too long"):
        lines(decode_policy(b"\xff" * (LINE_MAX + 1) + b"\n"))


def test_the_last_line_needs_a_newline():
    with pytest.raises(PolicySyntaxError, match="newline") as caught:
        lines("a\nbcd")
    assert (caught.value.line, caught.value.column) == (2, 4)


def test_a_nul_hides_what_follows_and_is_refused():
    with pytest.raises(PolicySyntaxError, match="NUL"):
        lines("a\0b\n")


def test_the_caret_stands_below_the_column_whatever_a_tab_is_wide():
    error = PolicySyntaxError(
        "wrong", file="f", line=3, column=4, source_line="\ta\tx", hint="mend it"
    )
    assert error.caret() == "f(3:4): wrong\n\ta\tx\n\t \t^"
    assert str(error) == "f(3:4): wrong"
    assert error.reason == "policy-syntax"
    assert error.hint == "mend it"
