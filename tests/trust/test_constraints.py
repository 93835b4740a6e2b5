"""Constraint files: a subset of TOML, durations, grants and path patterns."""

import tomllib
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from certexec.errors import TrustError
from certexec.trust.constraints import (
    KEYS,
    UNITS,
    Constraints,
    parse_constraints,
    parse_duration,
    parse_grant,
    show_duration,
)
from certexec.trust.toml import read_toml, write_list, write_text

GOOD = """\
# what the build farm may sign
paths = ["/usr/bin/*", "/opt/acme/**"]   # two trees

grants = [
    "user:root#0",
    'x'
]
"""


def refused(text: str) -> str:
    with pytest.raises(TrustError) as caught:
        parse_constraints(text, "x.toml")
    assert caught.value.reason == "trust-syntax"
    return caught.value.message


def test_a_whole_file_is_read() -> None:
    text = GOOD.replace("'x'", '"cap:net_raw", # last')
    read = parse_constraints(text + 'max-lifetime = "90d"\ncosigners = 2')
    assert read.paths == ["/usr/bin/*", "/opt/acme/**"]
    assert read.grants == ["user:root#0", "cap:net_raw"]
    assert (read.max_lifetime, read.cosigners) == (90 * 86400, 2)


def test_an_empty_file_constrains_nothing_and_grants_nothing() -> None:
    read = parse_constraints("")
    assert (read.paths, read.grants, read.max_lifetime, read.cosigners) == (["/**"], [], None, 0)


def test_an_empty_list_of_paths_allows_no_path() -> None:
    assert not parse_constraints("paths = []").allows_path("/usr/bin/true")


@pytest.mark.parametrize(
    "text",
    [
        "path = []", "Paths = []", "unknown = 1", "[section]", "paths", "paths =", "= []",
        "paths = [", 'paths = ["/a"', 'paths = ["/a" "/b"]', 'paths = [,]', 'paths = ["/a",,]',
        "paths = [1]", "paths = [[]]", "paths = ['/a']", 'paths = "/a"', "paths = 1",
        'paths = []\npaths = []', 'paths = [] grants = []', 'grants = ["root"]',
        'grants = ["user:"]', 'grants = ["user:#-1"]', 'grants = ["user:#01"]',
        'grants = ["cap:net_raw#1"]', 'grants = ["user:a b"]', 'grants = ["user:a#"]',
        'grants = ["user:#4294967295"]', "cosigners = -1", "cosigners = 8", "cosigners = 01",
        "cosigners = 1.0", "cosigners = 1_0", "cosigners = 0x1", "cosigners = true",
        'cosigners = "1"', "cosigners = 99999999999999999999", "max-lifetime = 90",
        'max-lifetime = "90"', 'max-lifetime = "0d"', 'max-lifetime = "-1d"',
        'max-lifetime = "d"', 'max-lifetime = "90 d"', 'max-lifetime = "1M"',
        'paths = ["usr/bin"]', 'paths = ["/usr//bin"]', 'paths = ["/usr/../bin"]',
        'paths = ["/usr/"]', 'paths = ["/a/**/b"]', 'paths = ["/**a"]', 'paths = ["**"]',
        'paths = ["/a\\q"]', 'paths = ["/a\\u0041"]', 'paths = ["/a\n"]', 'paths = ["/a]',
        '"paths" = []', "a.b = 1", "paths = []\r\n", "\ufeffpaths = []", "paths = []\0", "\x7f",
        'paths = """/a"""', "paths = {}", "max-lifetime = 1979-05-27", 'paths = ["/a\x1b"]',
        'paths = ["/a\\n"]',
    ],
)  # fmt: skip
def test_anything_else_refuses_the_file(text: str) -> None:
    assert '"x.toml"' in refused(text)


def test_the_line_is_named() -> None:
    assert "line 3" in refused("# one\npaths = []\nnonsense = 1\n")


texts = st.text(st.characters(codec="utf-8"), max_size=12)
pieces = st.lists(
    st.sampled_from(
        [*KEYS, "=", " = ", "[", "]", ",", '"', "\n", "#", " ", "\t", "1", "90", "0", "\\", "\\\\",
         '"a"', '"/b"', "'", '"""', "-", "_", "true", "[]", "\r\n", "é", "\\n", '\\"', "+", "."]
    ),
    max_size=25,
).map("".join)  # fmt: skip


@given(st.one_of(pieces, texts))
def test_what_is_accepted_means_the_same_to_a_full_toml_parser(text: str) -> None:
    try:
        ours = read_toml(text, KEYS, "x")
    except TrustError:
        return
    assert tomllib.loads(text) == ours


@given(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.integers(0, 10**18 - 1) | texts | st.lists(texts, max_size=4),
        max_size=4,
    )
)
def test_what_we_write_both_parsers_read(values: dict[str, Any]) -> None:
    def shown(value: Any) -> str:
        if isinstance(value, list):
            return write_list(value)
        return write_text(value) if isinstance(value, str) else str(value)

    text = "".join(f"{name} = {shown(value)}\n" for name, value in values.items())
    try:
        assert read_toml(text, KEYS, "x") == values
    except TrustError:
        # a control character, which no constraint can hold
        held = [one for value in values.values() if not isinstance(value, int) for one in value]
        assert any(ord(one) < 32 or ord(one) == 127 for one in "".join(held))
        return
    assert tomllib.loads(text) == values


@given(st.integers(1, 10**9))
def test_a_duration_reads_back_as_it_was_written(seconds: int) -> None:
    assert parse_duration(show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90d", 90 * 86400), ("12h", 43200), ("1y", 365 * 86400), ("2w", 1209600), ("5m", 300),
     ("1s", 1), ("", None), ("90", None), ("d", None), ("0s", None), ("-1d", None), ("1.5h", None),
     ("9" * 13 + "s", None), ("١d", None), ("9999999y", None)],
)  # fmt: skip
def test_durations(text: str, seconds: int | None) -> None:
    assert parse_duration(text) == seconds
    assert set(UNITS) == set("smhdwy")


@pytest.mark.parametrize(
    ("text", "grant"),
    [("user:root", ("user", "root", None)), ("user:root#0", ("user", "root", 0)),
     ("group:#5", ("group", "", 5)), ("cap:net_raw", ("cap", "net_raw", None)),
     ("user:", None), ("root", None), ("other:x", None), ("user:a/b", None), ("user:a,b", None),
     ("user:#", None), ("user:x#y", None), ("user:x#1#2", None), ("", None)],
)  # fmt: skip
def test_grants(text: str, grant: Any) -> None:
    assert parse_grant(text) == grant


constraints = st.builds(
    Constraints,
    st.none() | st.lists(st.sampled_from(["/a", "/usr/bin/*", "/o/**", '/q"\\', "/ü"]), max_size=3),
    st.none() | st.lists(st.sampled_from(["user:root#0", "group:adm", "cap:bpf"]), max_size=3),
    st.none() | st.integers(1, 10**9),
    st.integers(0, 7),
)


@given(constraints)
def test_constraints_read_back_as_they_were_written(made: Constraints) -> None:
    text = made.to_toml()
    assert parse_constraints(text) == made
    assert tomllib.loads(text)["paths"] == made.paths


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_constraints(text)
    except TrustError as error:
        assert error.reason == "trust-syntax"


@given(st.lists(st.sampled_from(["usr", "bin", "a", ".x"]), min_size=1, max_size=5))
def test_everything_below_is_matched_by_two_stars(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    assume(parts)
    assert Constraints(["/**"]).allows_path(path)
    assert Constraints(["/usr/**"]).allows_path(path) is (parts[0] == "usr" and len(parts) > 1)
    assert Constraints(["/usr/*"]).allows_path(path) is (parts[0] == "usr" and len(parts) == 2)
