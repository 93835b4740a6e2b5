"""Sets of texts: every one holds just the texts that its comparison holds for, as libc decides."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from certexec.policy import witness
from certexec.policy.automaton import ANY, Automaton, Bytes, Everything, Repeat, TooComplex
from certexec.policy.chain import chain
from certexec.policy.operators import is_regex, make_test, pattern_bytes
from certexec.policy.patterns import POSITIVE, decimal, texts_of
from certexec.policy.regular_expression import whole
from certexec.policy.witness import examples

SIGNS = "ab/A*?[]^-!\\.|()+{}1,$:"
TEXTS = st.text("abA/1.-*[]\\^$ \n", max_size=7)
REGEX = st.recursive(
    st.sampled_from(
        ["a", "b", "/", ".", "[ab]", "[^a/]", "[a-b1]", "[[:alpha:]]", "[]a]", "^", "$", "\\.",
         "\\w", "\\S", "[\\]", ""]
    ),
    lambda inner: st.builds("{}{}".format, inner, inner) | st.builds("({})".format, inner)
    | st.builds("{}|{}".format, inner, inner) | st.builds("({})*".format, inner)
    | st.builds("({})+".format, inner) | st.builds("({})?".format, inner)
    | st.builds("({}){{1,2}}".format, inner) | st.builds("({}){{,2}}".format, inner),
    max_leaves=6,
)


def holds(operator: str, data: str, text: str) -> bool:
    inside = Automaton(texts_of(operator, data)).holds(text.encode())
    return not inside if operator in POSITIVE else inside


@settings(deadline=None, max_examples=500)
@given(
    st.sampled_from(["eq", "neq", "sub", "nsub", "inpath", "match"]),
    st.text(SIGNS, max_size=8), TEXTS,
)
@example("match", "/a/*", "/a/b/c")
@example("match", "*", "/a")
@example("match", "[]a]", "]/x")
@example("match", "a[!/]b", "a/b")
def test_a_comparison_and_its_set_agree(operator, data, text):
    try:
        assert holds(operator, data, text) == make_test(operator, data.encode())(text.encode())
    except TooComplex:
        assume(False)


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(["eq", "match"]), st.text("ab/A*", max_size=6), TEXTS)
@example("match", "/a", "/a/b")
@example("match", "/a", "/ab")
@example("match", "/a*", "/ab")
@example("eq", "/a", "/A")
def test_a_chain_says_what_its_comparison_says_and_settles_when_that_is_certain(
    operator, data, text
):
    one = chain(operator, data)
    assume(one is not None)
    test = make_test(operator, data.encode())
    state = one.START
    for end, byte in enumerate(text.encode()):
        read = text.encode()[:end]
        assert one.accepts(state) == test(read)
        if one.settled(state) is not None:
            assert all(test(read + more) == one.settled(state) for more in (b"", b"a", b"/", b"/b"))
        told_apart = [mask >> byte & 1 for mask in one.masks(state)]
        assert one.settled(state) is not None or any(told_apart) == (
            one.settled(one.step(state, byte)) is not False
        )
        state = one.step(state, byte)
    assert one.accepts(state) == test(text.encode())


@settings(deadline=None, max_examples=500)
@given(REGEX | st.text(SIGNS, max_size=6), TEXTS)
@example("^$", "")
@example("(^|/)a$", "b/a")
@example("a^b", "a^b")
def test_a_regular_expression_and_its_set_agree(pattern, text):
    assume(is_regex(pattern))
    try:
        assert holds("re", pattern, text) == make_test("re", pattern.encode())(text.encode())
    except TooComplex:
        assume(False)


def test_what_regcomp_refuses_matches_nothing():
    assert not Automaton(texts_of("re", "(")).holds(b"(")


@pytest.mark.parametrize(
    "pattern", ["(a)\\1", "\\bx", "a{1001}", "[[=a=]]", "(" * 101 + ")" * 101]
)
def test_what_is_not_read_is_said(pattern):
    with pytest.raises(TooComplex):
        texts_of("re", pattern)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (".^b", "\nb"), (".?^b", "x\nb"), (".(^|/)b", "a\nb"), ("(.|^)^b", "\nb"),
        ("(^b|.)*", "\nb"), ("(^b|.){2}", "\nb"), ("a$.", "a\n"), ("(a$)\nb", "a\nb"),
        ("(a|b$)c|d$.", "d\n"),
    ],
)
def test_an_anchor_in_the_middle_is_said_for_it_holds_beside_a_newline(pattern, text):
    assert make_test("re", pattern.encode())(text.encode())
    with pytest.raises(TooComplex):
        texts_of("re", pattern)


@pytest.mark.parametrize(
    "pattern",
    ["^b", "(^b)", "(^|/)b", "^(b|^c)", "(^a|b)?c", "b$", "(b|c$)", "b(/.*)?$", "^$", "a|^b"],
)
@pytest.mark.parametrize("text", ["b", "\nb", "b\n", "/b", "", "\n", "c", "ac", "b/\nb"])
def test_an_anchor_at_either_end_means_what_it_does_for_the_c_library(pattern, text):
    assert holds("re", pattern, text) == make_test("re", pattern.encode())(text.encode())


def test_a_glob_that_the_c_library_reads_in_its_own_way_is_said():
    with pytest.raises(TooComplex):
        texts_of("match", "[a")


@given(st.integers(0, 70000), st.integers(0, 70000))
@settings(deadline=None, max_examples=60)
def test_ranges_of_numbers_hold_just_their_numbers(one, other):
    low, high = min(one, other), max(one, other)
    numbers = Automaton(whole(decimal(low, high)))
    for number in {0, low, high, low - 1, high + 1, (low + high) // 2, high * 10, 65535}:
        if number >= 0:
            assert numbers.holds(str(number).encode()) == (low <= number <= high)
    assert not numbers.holds(b"0" + str(low).encode())


@given(
    st.tuples(*[st.integers(0, 255)] * 4), st.integers(0, 32), st.integers(0, 65535),
    st.tuples(*[st.integers(0, 255)] * 4), st.integers(0, 65535),
)
@settings(deadline=None, max_examples=150)
def test_networks_hold_their_addresses(network, bits, first, address, port):
    data = f"inet-[{'.'.join(map(str, network))}/{bits}]:{first}-65535"
    near = ".".join(map(str, (*network[:2], *address[2:])))
    inside = Automaton(texts_of("in", data))
    for host in (near, ".".join(map(str, address)), ".".join(map(str, network))):
        text = f"inet-[{host}]:{port}".encode()
        assert inside.holds(text) == make_test("in", data.encode())(text)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["eq", "sub", "inpath", "match", "re"]), st.text("ab/A*?", max_size=4)
        ),
        max_size=4,
    )
)
def test_there_is_an_example_of_every_combination_and_it_is_a_shortest(comparisons):
    assume(all(operator != "re" or is_regex(data) for operator, data in comparisons))
    domain = Automaton(Repeat(Bytes(sum(1 << byte for byte in b"abA/*?c")), 0, None))
    tests = [make_test(operator, pattern_bytes(data)) for operator, data in comparisons]
    try:
        sets = [Automaton(texts_of(*one)) for one in comparisons]
        found = examples(sets, domain)
    except TooComplex:
        assume(False)
    chained = [chain(*one) or each for one, each in zip(comparisons, sets, strict=True)]
    assert examples(chained, domain) == found

    def inside(text):
        return sum(1 << at for at, test in enumerate(tests) if test(text))

    for combination, text in found.items():
        assert inside(text) == combination
    shortest = {}
    level = [b""]
    for _ in range(5):
        for text in level:
            shortest.setdefault(inside(text), len(text))
        level = [text + bytes((byte,)) for text in level for byte in b"abA/*?c"][:2500]
    for combination, length in shortest.items():
        assert len(found[combination]) <= length


def test_too_many_combinations_are_said_and_not_guessed():
    sets = [Automaton(texts_of("sub", f"{first}{second}")) for first in "abcdefgh"
            for second in "uvw"]  # fmt: skip
    with pytest.raises(TooComplex):
        examples(sets, Automaton(Repeat(Bytes(ANY), 0, None)))


def test_sets_that_all_stay_open_are_too_complex_though_they_have_few_places(monkeypatch):
    sets = [Automaton(texts_of("match", f"/a*{number}*b*c?")) for number in range(20)]
    anything = Automaton(Everything())
    assert examples(sets[:1], anything)
    monkeypatch.setattr(witness, "STEPS_MAX", 2000)
    assert examples(sets[:1], anything)
    with pytest.raises(TooComplex):
        examples(sets, anything)
