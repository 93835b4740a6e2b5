"""A filter as it is typed: pairs mean what the options mean, words stand somewhere in the event."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import CliError
from certexec.observe.reading import Seen, read_line
from certexec.observe.selection import Selection
from certexec.observe.typed_filter import LOOKED_AT, NAMES, parse_filter


def call(**members: object) -> Seen:
    host = members.pop("host", "web1")
    made = {
        "event": "call", "verdict": "deny", "reason": "unmatched", "user": "alice", "uid": 1000,
        "program": "/usr/sbin/nginx", "certificate": "nginx.cert", "syscall": "openat",
        "arguments": {"filename": "/etc/Shadow", "oflags": "ro"}, **members,
    }  # fmt: skip
    seen = read_line(json.dumps({**made, "host": host}))
    assert seen is not None
    return seen


@pytest.mark.parametrize("text", [
    "", "  ", "program=nginx", "program=/usr/sbin/*", "--program=nginx", "user=alice", "user=1000",
    "verdict=deny", "verdict=d", "verdict=", "program=", "verdict=permit verdict=deny",
    "user=bob user=alice verdict=deny", "host=web*", "syscall=open*", "certificate=nginx.cert",
    "shadow", "SHADOW nginx", "unmatched", '"/etc/shadow, oflags"', 'program="nginx"', "web1",
    'program="nginx',
])  # fmt: skip
def test_what_fits_is_wanted(text: str) -> None:
    assert parse_filter(text).wants(call())


@pytest.mark.parametrize("text", [
    "program=ngin", "program=nginx,", "user=bob", "verdict=permit", "verdict=k", "host=db*",
    "syscall=open", "certificate=other", "nowhere", "shadow nowhere", "verdict=deny user=bob",
    '"etc shadow"', "program", "user",
])  # fmt: skip
def test_what_does_not_fit_is_not(text: str) -> None:
    assert not parse_filter(text).wants(call())


@given(st.dictionaries(
    st.sampled_from(("program", "user", "host", "syscall", "certificate")),
    st.lists(st.sampled_from(("nginx", "alice", "web1", "open*", "*.cert", "x")), min_size=1),
))  # fmt: skip
def test_pairs_mean_what_the_options_mean(given: dict[str, list[str]]) -> None:
    typed = " ".join(f"{name}={value}" for name, values in given.items() for value in values)
    plural = {"syscall": "calls"}
    options = Selection(**{plural.get(name, f"{name}s"): values for name, values in given.items()})
    assert parse_filter(typed).wants(call()) == options.wants(call())


def test_what_is_not_a_name_or_a_verdict_is_refused_by_its_name() -> None:
    for text, words in (("prog=x", 'no "prog="'), ("verdict=maybe", '"maybe" is no verdict')):
        with pytest.raises(CliError, match=words):
            parse_filter(text)


def test_a_name_that_has_only_begun_is_no_word_while_typing_goes_on() -> None:
    for name in NAMES:
        for end in range(1, len(name) + 1):
            begun = parse_filter(f"nginx {name[:end]}", typing=True)
            assert begun.words == ("nginx",)
    # with a blank behind it, or when it is done, it is one
    assert not parse_filter("user ", typing=True).wants(call())
    assert not parse_filter("user").wants(call())
    assert parse_filter("x", typing=True).words == ("x",)


@given(st.text(max_size=40))
def test_no_text_is_too_odd(text: str) -> None:
    try:
        parse_filter(text, typing=True)
        parse_filter(text).wants(call())
    except CliError as error:
        assert error.reason == "usage"


def test_words_are_looked_for_in_as_much_as_a_key_has_time_for() -> None:
    long = call(arguments={"filename": "a" * LOOKED_AT + "end"}, syscall="x")
    assert parse_filter("aaa").wants(long) and not parse_filter("end").wants(long)
