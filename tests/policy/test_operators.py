"""The operators, compared with plain definitions and with libc."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.kernel import c_locale, libc
from certexec.policy.model import Subject
from certexec.policy.operators import (
    EXPANDED_MAX,
    expand,
    is_regex,
    make_test,
    needs_expansion,
    value_bytes,
)
from tests.policy.common import ALICE

PATTERNS = st.text(alphabet="/ab*?[]!-\\.é", max_size=8).map(str.encode)
VALUES = st.text(alphabet="/ab.-[]\\é", max_size=8).map(str.encode) | st.binary(max_size=6).map(
    lambda data: data.replace(b"\0", b"/")
)


def check(operator: str, data: str, value: str) -> bool:
    return make_test(operator, data.encode())(value.encode())


def libc_match(pattern: bytes, value: bytes) -> bool:
    previous = c_locale.enter()
    try:
        return libc.fnmatch(pattern, value, libc.FNM_PATHNAME | libc.FNM_LEADING_DIR)
    finally:
        c_locale.leave(previous)


@settings(deadline=None)
@given(PATTERNS, VALUES)
def test_match_is_fnmatch_of_the_c_library_in_the_c_locale(pattern, value):
    assert make_test("match", pattern)(value) is libc_match(pattern, value)
    assert make_test("match", pattern)(pattern) is libc_match(pattern, pattern)
    below = pattern + b"/x"
    assert make_test("match", pattern)(below) is libc_match(pattern, below)


def test_match_takes_a_directory_with_all_below_it():
    assert check("match", "/usr/lib", "/usr/lib/a/b")
    assert not check("match", "/usr/lib", "/usr/libx")
    assert not check("match", "/usr/lib/*", "/usr/lib")
    assert check("match", "/tmp/*", "/tmp/.a/b")
    assert not check("match", "/tmp/*/x", "/tmp/a/b/x")


def test_a_bracket_in_match_is_a_set():
    assert not check("match", "inet-[1.2.3.4]:53", "inet-[1.2.3.4]:53")
    assert check("match", "inet-\\[1.2.3.4\\]:53", "inet-[1.2.3.4]:53")


def test_eq_and_neq_ignore_the_case_of_ascii_letters_only():
    assert check("eq", "/Etc/PASSWD", "/etc/passwd")
    assert not check("neq", "/Etc/PASSWD", "/etc/passwd")
    assert not check("eq", "É", "é")
    assert check("neq", "\u212a", "k")


def test_sub_and_nsub_regard_case():
    assert check("sub", "ro", "/proc")
    assert not check("sub", "RO", "/proc")
    assert check("nsub", "RO", "/proc")
    assert check("sub", "", "")
    assert not check("nsub", "", "x")


@settings(deadline=None)
@given(st.text(alphabet="/ab", max_size=6), st.text(alphabet="/ab", max_size=6))
def test_inpath_is_true_on_the_way_to_its_path(path, value):
    on_the_way = value != "" and (path + "/").startswith(value + "/")
    # The root counts for every path, and no other single character ever does.
    expected = value == "/" and path != "" if len(value) == 1 else on_the_way
    assert check("inpath", path, value) is expected


def test_re_matches_anywhere_and_is_extended():
    assert check("re", "^/(a|b)+$", "/abab")
    assert check("re", "etc", "/etc/x")
    assert not check("re", "^etc", "/etc")


def test_re_sees_bytes_and_not_characters():
    assert not check("re", "^.$", "é")
    assert check("re", "^..$", "é")


def test_a_regular_expression_that_does_not_compile_matches_nothing():
    assert not is_regex("(")
    assert not check("re", "(", "(")
    assert is_regex("a{2}")


@pytest.mark.parametrize("operator", ["match", "eq", "sub", "re"])
def test_values_end_at_a_nul_as_in_c(operator):
    assert value_bytes("/a\0b") == b"/a"
    assert make_test(operator, b"/a")(value_bytes("/a\0b"))


def test_values_keep_bytes_that_are_not_text():
    assert value_bytes(os.fsdecode(b"/\xff")) == b"/\xff"
    assert make_test("match", b"/?")(b"/\xff")


def test_verdicts_do_not_depend_on_the_locale_of_the_process():
    program = (
        "from certexec.policy.operators import make_test\n"
        "one = bytes([0xC3, 0xA9])\n"
        "print(make_test('match', b'/?')(b'/' + one), make_test('match', b'/??')(b'/' + one),\n"
        "      make_test('re', b'^.$')(one), make_test('match', b'/[a-z]')(b'/B'))\n"
    )
    for language in ("C", "C.UTF-8", "en_US.UTF-8"):
        environment = {**os.environ, "LC_ALL": language, "PYTHONUTF8": "0"}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment,
            cwd=Path(__file__).parents[2], check=True,
        )
        assert done.stdout == "False True False False\n"


def test_the_locale_of_the_thread_is_given_back():
    current = ctypes.CDLL(None).uselocale
    current.restype = ctypes.c_void_p
    before = current(None)
    make_test("match", b"/?x")(b"/ax")
    make_test("re", b"a")(b"a")
    is_regex("(")
    assert current(None) == before


def test_macros_stand_where_no_letter_or_digit_follows():
    assert expand("$HOME/x $USER,$CWD_", ALICE) == "/home/alice/x alice,/work/dir_"
    assert expand("$HOMEx $USER1", ALICE) == "$HOMEx $USER1"


def test_a_dollar_before_a_macro_hides_it():
    assert expand("$$HOME", ALICE) == "$$HOME"
    assert expand("$....$HOME", ALICE) == "$..../home/alice"


def test_what_was_put_in_is_looked_at_again():
    inner = Subject(1, 1, "/h/$USER/$CWD", "u", "/c")
    assert expand("$HOME", inner) == "/h/u//c"


@pytest.mark.parametrize("home", ["$HOME", "$HOME/", "/$HOME/$HOME/", "x" * 9000])
def test_expansion_ends_and_stays_within_its_bound(home):
    assert len(expand("$HOME$HOME", Subject(1, 1, home, "u", "/c"))) <= EXPANDED_MAX


def test_needs_expansion_tells_strings_that_may_hold_a_macro():
    assert needs_expansion("a$HOMEx")
    assert needs_expansion("$CWD")
    assert not needs_expansion("$home $PATH $")


@settings(deadline=None)
@given(st.text(alphabet="$HOMEUSRCWD/x_1", max_size=20))
def test_expansion_without_macros_changes_nothing(text):
    if not needs_expansion(text):
        assert expand(text, ALICE) == text
