"""The texts of register arguments, and the tests of registers that stand for comparisons."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.policy.model import Symbol
from certexec.policy.operators import is_regex, make_test, pattern_bytes
from certexec.policy.rest_of_texts import HEXADECIMAL, Numbered
from certexec.policy.translators import TRANSLATORS


@pytest.mark.parametrize(
    ("argument", "register", "text"),
    [
        ("sockdom", 1, "AF_UNIX"),
        ("sockdom", 2, "AF_INET"),
        ("sockdom", 4, "AF_IPX"),
        ("sockdom", 10, "AF_INET6"),
        ("sockdom", 16, "AF_UNKNOWN(16)"),
        ("sockdom", 0xFFFFFFFF, "AF_UNKNOWN(-1)"),
        ("sockdom", 0xABC_00000002, "AF_INET"),
        ("socktype", 1, "SOCK_STREAM"),
        ("socktype", 2 | os.O_CLOEXEC | os.O_NONBLOCK, "SOCK_DGRAM"),
        ("socktype", 5 | os.O_NONBLOCK, "SOCK_SEQPACKET"),
        ("socktype", 3, "SOCK_RAW"),
        ("socktype", 4, "SOCK_RDM"),
        ("socktype", 10, "SOCK_UNKNOWN(10)"),
        ("socktype", 1 | 0x100, "SOCK_UNKNOWN(257)"),
        ("prot", 0, "PROT_NONE"),
        ("prot", 1, "PROT_READ"),
        ("prot", 5, "PROT_READ|PROT_EXEC"),
        ("prot", 7, "PROT_READ|PROT_WRITE|PROT_EXEC"),
        ("prot", 0x01000002, "PROT_WRITE|PROT_GROWSDOWN"),
        ("prot", 0x02000001, "PROT_READ|PROT_GROWSUP"),
        ("prot", 9, "PROT_READ|<unknown:0x8>"),
        ("prot", 8, "<unknown:0x8>"),
        ("prot", 0xFFFFFFFF, "PROT_READ|PROT_WRITE|PROT_EXEC|PROT_GROWSDOWN|PROT_GROWSUP|"
                             "<unknown:0xfcfffff8>"),
        ("signame", 1, "SIGHUP"),
        ("signame", 29, "SIGIO"),
        ("signame", 0, "<unknown>: 0"),
        ("signame", 5, "<unknown>: 5"),
        ("signame", 64, "<unknown>: 64"),
        ("cmd", 2, "F_SETFD"),
        ("cmd", 7, "F_SETLKW"),
        ("cmd", 1030, "<unknown>: 1030"),
        ("mode", 0o100644, "644"),
        ("mode", 0, "0"),
        ("mode", 0o7777, "7777"),
        ("uid", 0xFFFFFFFF, "-1"),
        ("gid", 70, "70"),
        ("fd", 3, "3"),
        ("oflags", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, "rwc"),
        ("oflags", os.O_PATH | os.O_WRONLY | os.O_CREAT, "ro"),
        ("pidname", 0, "<own process group>"),
        ("pidname", 0xFFFFFFFF, "<every process: -1>"),
        ("pidname", 77, None),
        ("uname", 0, None),
    ],
)  # fmt: skip
def test_registers_read_as_in_systrace(argument, register, text):
    assert TRANSLATORS[argument].text(register) == text


def symbol(operator: str, data: str) -> Symbol:
    return Symbol("x", -1, operator, data)


def truth(argument: str, register: int, one: Symbol) -> bool | None:
    """What the first cell that fits says."""
    for layer in TRANSLATORS[argument].layers([one]):
        fitting = [cell for cell in layer if register & cell[1] == cell[0]]
        assert len(fitting) <= 1, "the cells of a layer are disjoint"
        if fitting:
            return fitting[0][2][0]
    raise AssertionError("the layers cover every value")


KNOWN = {
    "sockdom": [0, 1, 2, 4, 10, 16, 255],
    "socktype": [1, 2, 3, 4, 5, 1 | 0o4000, 2 | 0o2004000, 10],
    "prot": [0, 1, 3, 5, 7, 8, 9, 0x01000007, 0x20, 0x1F, 0xFFFFFFFF],
    "signame": [0, 1, 9, 15, 34, 64],
    "cmd": [0, 2, 4, 7, 12, 1030],
    "mode": [0, 0o7, 0o70, 0o644, 0o755, 0o4755, 0o7777],
    "uid": [0, 1, 70, 1000, 0xFFFFFFFF],
    "pidname": [0, 1, 0xFFFFFFFF],
    "uname": [0, 70],
    "oflags": [0, 1, 2, 3, 0o1101, 0o2002, 0o10000001],
}
"""Values that rules tend to be about."""
NUMBERS = st.one_of(
    st.integers(-2, 80), st.sampled_from([-(2**31), 2**31 - 1, 1030, 65534, 0x8, 0xFF])
)
PIECES = st.sampled_from(
    ["AF_", "INET", "6", "AF_UNKNOWN(", ")", "SOCK_", "STREAM", "SIG", "HUP", "KILL", "F_SET", "FL",
     "<unknown>: ", "<unknown:0x", ">", "|", "PROT_", "READ", "PROT_READ|", "EXEC", "x", "0", "1",
     "7", "-", "ro", "rw", "c", "t", "44", "/", "<own", "f"]
)  # fmt: skip


@st.composite
def literals(draw, argument: str) -> str:
    """A text of this argument, a part of one, or something made of such parts."""
    if draw(st.booleans()):
        register = draw(st.one_of(st.sampled_from(KNOWN[argument]), NUMBERS)) & 0xFFFFFFFF
        text = TRANSLATORS[argument].text(register) or "/usr/bin/x"
        begin = draw(st.integers(0, len(text)))
        text = draw(st.sampled_from([text, text, text[begin:], text[:begin]]))
        return draw(st.sampled_from([text, text.lower(), text]))
    return "".join(draw(st.lists(PIECES, max_size=4)))


@st.composite
def comparisons(draw, argument: str) -> Symbol:
    operator = draw(st.sampled_from(["eq", "neq", "sub", "nsub", "match", "re", "inpath"]))
    data = draw(literals(argument))
    if operator == "match":
        data = draw(st.sampled_from([data, data + "*", "*" + data, f"*{data}*", "*", f"?{data}"]))
    elif operator == "re":
        escaped = "".join("\\" + one if one in "()|.[]*+?{}^$\\" else one for one in data)
        other = draw(literals(argument))
        data = draw(
            st.sampled_from([escaped, f"^{data}", f"{escaped}$", f"^{escaped}$", f"{data}|^{other}",
                             "[0-9]", "^.*$", "(A|B)", data])
        )  # fmt: skip
        if not is_regex(data):
            data = "A"
    elif operator == "inpath":
        data += draw(st.sampled_from(["", "/x", "/"]))
    elif draw(st.integers(0, 9)) == 0:
        data += "$HOME"
    return symbol(operator, data)


@st.composite
def questions(draw) -> tuple[str, Symbol, list[int]]:
    argument = draw(st.sampled_from(sorted(KNOWN)))
    registers = st.one_of(
        st.sampled_from(KNOWN[argument]), NUMBERS.map(lambda one: one & 2**64 - 1),
        st.integers(0, 2**64 - 1),
    )
    return argument, draw(comparisons(argument)), draw(st.lists(registers, min_size=1, max_size=20))


@settings(deadline=None, max_examples=1500)
@given(questions())
def test_a_cell_says_what_the_comparison_says_or_that_it_does_not_know(question):
    argument, one, registers = question
    for register in registers:
        said = truth(argument, register, one)
        text = TRANSLATORS[argument].text(register)
        if text is None:
            assert said is None
        elif said is not None:
            test = make_test(one.operator, pattern_bytes(one.data))
            assert said == test(text.encode()), (argument, register, text, one.operator, one.data)


@pytest.mark.parametrize(
    ("argument", "operator", "data"),
    [
        ("sockdom", "eq", "AF_UNKNOWN(16)"),
        ("sockdom", "match", "AF_INET*"),
        ("sockdom", "match", "*INET*"),
        ("sockdom", "re", "^AF_UNIX$|^AF_INET"),
        ("socktype", "nsub", "RAW"),
        ("socktype", "neq", "SOCK_RAW"),
        ("prot", "sub", "PROT_EXEC"),
        ("prot", "nsub", "EXEC"),
        ("prot", "match", "*EXEC*"),
        ("prot", "eq", "PROT_READ|PROT_WRITE"),
        ("prot", "re", "EXEC"),
        ("prot", "eq", "PROT_READ|<unknown:0x8>"),
        ("signame", "re", "HUP|TERM"),
        ("signame", "match", "SIG*"),
        ("signame", "eq", "<unknown>: 64"),
        ("cmd", "sub", "SET"),
        ("cmd", "inpath", "F_GETFD/x"),
        ("mode", "match", "7*"),
        ("mode", "re", "[0-7]4$"),
        ("uid", "neq", "0"),
        ("oflags", "sub", "w"),
    ],
)
def test_what_rules_usually_ask_is_told_for_every_register(argument, operator, data):
    layers = TRANSLATORS[argument].layers([symbol(operator, data)])
    assert all(truths[0] is not None for layer in layers for _, _, truths in layer)


@pytest.mark.parametrize(
    ("argument", "operator", "data"),
    [("uid", "sub", "0"), ("uid", "match", "1*"), ("signame", "re", "[0-9]5$"),
     ("sockdom", "eq", "$USER"), ("pidname", "neq", "/bin/sh"), ("uname", "eq", "root")],
)  # fmt: skip
def test_what_hangs_on_digits_users_or_processes_is_left_to_the_supervisor(
    argument, operator, data
):
    layers = TRANSLATORS[argument].layers([symbol(operator, data)])
    assert layers[-1][-1][2] == (None,)


@pytest.mark.parametrize(
    ("operator", "data", "expected"),
    [
        ("eq", "a(7)", (False, [7])),
        ("eq", "A(7)", (False, [7])),
        ("match", "A(7)", (False, [])),
        ("eq", "a(07)", (False, [])),
        ("eq", "a()", (False, [])),
        ("eq", "a(-)", (False, [])),
        ("eq", "a(1-2)", (False, [])),
        ("neq", "a(7)", (True, [7])),
        ("sub", "(12)", (False, [12])),
        ("sub", "12)", (None, [])),
        ("sub", "(1", (None, [])),
        ("sub", "b(12)", (False, [])),
        ("sub", "1)2", (False, [])),
        ("sub", "b", (False, [])),
        ("nsub", "b", (True, [])),
        ("sub", "", (True, [])),
        ("match", "a(*", (True, [])),
        ("match", "*)", (True, [])),
        ("match", "*7)", (None, [])),
        ("match", "a*)", (None, [])),
        ("match", "a[(]7)", (None, [])),
        ("match", "/a", (False, [])),
        ("re", "^a$|x", (False, [])),
        ("re", "a|7", (True, [])),
        ("re", "7|a", (True, [])),
        ("re", "7|b", (None, [])),
        ("re", "x||y", (None, [])),
        ("inpath", "a(3)/b", (False, [3])),
        ("in", "a(3)", (None, [])),
        ("eq", "a(7)\0", (None, [])),
    ],
)
def test_a_comparison_names_the_numbers_that_differ_from_all_others(operator, data, expected):
    assert Numbered("a(", ")").compare(operator, data) == expected


def test_hexadecimal_numbers_are_read_as_such():
    frame = Numbered("<unknown:0x", ">", HEXADECIMAL)
    assert frame.text(0x1F) == "<unknown:0x1f>"
    assert frame.compare("eq", "<unknown:0x1F>") == (False, [0x1F])
    assert frame.compare("match", "<unknown:0x1F>") == (False, [])
    assert frame.compare("sub", "0x1") == (None, [])
    assert frame.compare("sub", "unknown") == (True, [])
