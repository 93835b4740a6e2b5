"""The parser: what it makes of sound text, and what it says about the rest."""

import inspect
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.policy import rule_parser, syntax
from certexec.policy.format import tree
from certexec.policy.lexer import source_lines
from certexec.policy.model import TRUE, Not, PolicyFile, Symbol, symbols
from certexec.policy.syntax import PolicySyntaxError, parse_policy, parse_template
from tests.policy.common import ALICE, USERS, policy, rule

HEADER = "Policy: /bin/x, Emulation: native\n"


def parse(text: str, *, privileged: bool = True):
    return parse_policy(text, name="file", users=USERS, privileged=privileged)


def refusal(body: str, *, name: str = "native-fsread", privileged: bool = True):
    with pytest.raises(PolicySyntaxError) as caught:
        parse(f"{HEADER}\t{name}: {body}\n", privileged=privileged)
    error = caught.value
    assert error.line == 2
    assert str(error).startswith(f"file(2:{error.column}): ")
    assert error.source_line == f"\t{name}: {body}"
    return error


def test_a_rule_has_all_its_parts():
    parsed = rule(
        'filename[1] match "/x" or not SockAddr eq "y" then deny[ENOENT] log as root:staff, '
        "if group != 0"
    )
    assert tree(parsed.expression) == "(or [filename:1 /x] (not [SockAddr:-1 y]))"
    assert [symbol.operator for symbol in symbols(parsed.expression)] == ["match", "eq"]
    assert (parsed.action, parsed.errno, parsed.errno_name) == ("deny", 2, "enoent")
    assert parsed.log
    assert not parsed.inherit
    assert not parsed.detach
    assert parsed.elevate == (0, 50)
    assert parsed.predicate is not None
    assert (parsed.predicate.kind, parsed.predicate.relation) == ("group", "!=")
    assert parsed.predicate.number == 0
    assert not parsed.simple
    assert parsed.flaw == ""


def test_a_bare_rule_of_a_call_is_simple_and_of_an_alias_is_not():
    one, two, three = policy(
        "native-read: permit", "native-fsread: deny[eio]", "native-frobnicate: permit"
    ).rules
    assert one.simple
    assert one.expression is TRUE
    assert not two.simple
    assert two.expression is TRUE
    assert (two.action, two.errno, two.errno_name) == ("deny", 5, "eio")
    assert two.text == "deny[eio]"
    assert not three.simple


def test_a_socket_call_of_the_32_bit_table_keeps_its_place():
    one, two = policy("linux-connect: permit", "linux-read: permit", emulation="linux").rules
    assert not one.simple
    assert two.simple


def test_a_bare_rule_with_a_predicate_is_not_simple():
    parsed = rule("deny[eio], if user = root", name="native-read")
    assert not parsed.simple
    assert not parsed.unconditional
    assert parsed.errno == 5


def test_denials_without_a_name_are_eperm_and_permits_have_no_error():
    assert rule("deny", name="native-read").errno == 1
    assert rule("true then deny").errno == 1
    assert rule("true then permit").errno == 0
    assert rule("permit", name="native-read").errno == 0


def test_answers_for_one_call_and_open_quotes_are_flawed():
    assert rule("permit-now", name="native-read").flaw
    assert rule('true then permit "x').flaw


def test_lines_and_paths_are_kept():
    parsed = parse("\n# x\n" + HEADER + "native-read: permit\n\nPolicy: */y, Emulation: linux\n")
    assert [(one.path, one.emulation, one.line) for one in parsed.policies] == [
        ("/bin/x", "native", 3), ("*/y", "linux", 6)
    ]
    assert parsed.policies[0].rules[0].line == 4


def test_a_second_header_continues_the_first_policy():
    parsed = parse(HEADER + "native-read: permit\n" + HEADER + "native-write: permit\n")
    assert len(parsed.policies) == 1
    assert [one.syscall for one in parsed.policies[0].rules] == ["read", "write"]


def test_a_wildcard_is_bound_to_the_first_program_of_that_name():
    parsed = parse(
        "Policy: */x, Emulation: native\nnative-read: permit\n"
        "Policy: /bin/x, Emulation: linux\nnative-write: permit\n"
        "Policy: /usr/bin/x, Emulation: linux\nlinux-read: permit\n"
    )
    assert [(one.path, one.emulation, len(one.rules)) for one in parsed.policies] == [
        ("/bin/x", "native", 2), ("/usr/bin/x", "linux", 1)
    ]


def test_the_policy_of_a_program_is_found_by_path_and_by_name():
    parsed = parse("Policy: */x, Emulation: native\nPolicy: /bin/y, Emulation: native\n")
    assert parsed.policy_for("/usr/bin/x") is parsed.policies[0]
    assert parsed.policy_for("/bin/y") is parsed.policies[1]
    assert parsed.policy_for("/usr/bin/y") is None


def test_detached_ends_a_policy():
    parsed = parse(HEADER + "Detached, whatever\n")
    assert parsed.policies[0].detached
    with pytest.raises(PolicySyntaxError, match="before the first header"):
        parse(HEADER + "detached\nnative-read: permit\n")


def test_a_file_without_policies_is_no_error():
    assert parse("").policies == []
    assert parse("# nothing\n\n").policies == []


def test_only_root_may_elevate():
    assert rule("true then permit as :0").elevate == (None, 0)
    assert rule("true then permit as root").elevate == (0, None)
    error = refusal("true then permit as root", privileged=False)
    assert "only root" in str(error)
    assert error.source_line[error.column - 1 :] == "as root"


def test_an_expression_may_be_as_deep_as_a_line_is_long():
    deep = "(" * 900 + 'filename eq "x"' + ")" * 900 + " then permit"
    assert isinstance(rule(deep).expression, Symbol)
    nested = rule("not " * 500 + "true then permit").expression
    for _ in range(500):
        assert isinstance(nested, Not)
        nested = nested.operand
    assert nested is TRUE
    assert tree(rule("not " * 500 + "true then permit").expression).count("not") == 500


@pytest.mark.parametrize(
    ("body", "message", "at", "hint"),
    [
        ('filename eq "a" then permit;', "illegal character", ";", ""),
        ('filename eq "a" \\', "illegal character", "\\", "join the lines"),
        ("permit log", "where a condition is expected", "permit log", "true then permit log"),
        ("ask", "where a condition is expected", "ask", "true then ask"),
        ("deny[bogus]", "where a condition", "deny[", '"bogus" is no error name'),
        ("true then deny[bogus]", 'unknown error name "bogus"', "bogus", ""),
        ("true then permit[eio]", 'unknown flag "eio"', "eio", ""),
        ("(true) then permit", "where a condition", "true)", "put a space"),
        ("True then permit", "where a condition", "True", "lower case"),
        ("filename then permit", "where an operator", "then", ""),
        ('filename EQ "a" then permit', "where an operator", "EQ", "lower case"),
        ("filename eq a then permit", "where a quoted string", "a then", ""),
        ('filename[10] eq "a" then permit', "offset 10", "10]", ""),
        ('filename re "(" then permit', "not a regular expression", '"("', ""),
        ("true then permit, if user = nemo", 'unknown user "nemo"', "nemo", "on this machine"),
        ("true then permit, if group = nemo", 'unknown group "nemo"', "nemo", "on this machine"),
        ("true then permit, if user >= 0", "where a user is expected", "= 0", ""),
        ("true then", "the rule ends where permit, deny or ask", "", ""),
        ("true then permit permit", "where the end of the rule", "permit", ""),
        ("deny, if user = 99 x", "where the end of the rule", "x", ""),
        ('filename eq "a', "the rule ends", "", "never closed"),
        ("permitt", "where an operator", "", 'did you mean "permit"?'),
        ("PREMIT", "where an operator", "", 'did you mean "permit"?'),
        ("aks", "where an operator", "", 'did you mean "ask"?'),
        ("dney, if user = 0", "where an operator", ", if", 'did you mean "deny"?'),
        ("denny[eperm]", "where a number", "eperm", 'did you mean "deny"?'),
        ("true then permitt", "where permit, deny or ask", "permitt", 'did you mean "permit"?'),
        ('filename eq "a" than permit', 'where "then"', "than", 'did you mean "then"?'),
        ('filename eq "a" adn true then deny', 'where "then"', "adn", 'did you mean "and"?'),
        ('( filename eq "a" orr true ) then deny', 'where ")"', "orr", 'did you mean "or"?'),
        ("true permitt", 'where "then"', "permitt", 'did you mean "permit"?'),
    ],
)
def test_an_error_says_what_where_and_how_to_mend_it(body, message, at, hint):
    error = refusal(body)
    assert message in str(error)
    assert hint in error.hint
    rest = error.source_line[error.column - 1 :]
    assert rest.startswith(at)
    assert at or not rest
    caret = error.caret().split("\n")
    assert caret[1] == error.source_line
    assert len(caret[2]) == error.column


@pytest.mark.parametrize(
    "body",
    [
        "argv", "filename", "mode", "uid = 3", "end sockaddr", "permitted log", "x" * 2000,
        'filename nd "x" then permit', "filename eq an then permit", 'sockaddr[x] eq "a" then deny',
    ],
)
def test_other_words_are_not_taken_for_keywords(body):
    assert "did you mean" not in refusal(body).hint


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nativeread", "not a rule"),
        ("native-", "not a rule"),
        ("native-read", "colon and a space"),
        ("native-read:permit", "colon and a space"),
        ("linux-read: permit", 'emulation "linux"'),
        ("Policy: /bin/y", "needs an emulation"),
        ("Policy: /bin/y,Emulation: native", "needs an emulation"),
    ],
)
def test_an_error_outside_the_body_says_what_is_wrong(line, message):
    with pytest.raises(PolicySyntaxError, match=message) as caught:
        parse(HEADER + "  " + line + "\n")
    assert caught.value.line == 2
    assert caught.value.column >= 3


def test_a_regular_expression_with_a_macro_waits_for_its_subject_only_for_root():
    body = 'filename re "$HOME(" then permit'
    assert rule(body).action == "permit"
    with pytest.raises(PolicySyntaxError):
        rule(body, privileged=False)


def test_after_an_open_quote_no_expression_can_follow():
    start = HEADER + 'native-fsread: true then permit "x\n'
    assert len(parse(start + "native-read: permit\n").policies[0].rules) == 2
    with pytest.raises(PolicySyntaxError, match="line 2 opens is never closed"):
        parse(start + "native-fsread: true then permit\n")


def test_templates_have_a_header_of_their_own():
    template = parse_template(
        "# x\nTemplate: dns, Emulation: native, Description: look up names, mostly\n"
        '\tnative-fsread: filename eq "/etc/resolv.conf" then permit\n',
        name="t", users=USERS, privileged=False,
    )
    assert (template.name, template.emulation) == ("dns", "native")
    assert template.description == "look up names, mostly"
    assert [one.syscall for one in template.rules] == ["fsread"]
    for wrong in ("", "native-read: permit\n", "Template: x, Emulation: native\n"):
        with pytest.raises(PolicySyntaxError):
            parse_template(wrong, name="t", users=USERS, privileged=False)


PIECES = st.sampled_from(
    [*"()[],:=<>\"\\# \t\r\n-$x1é\0", "permit", "deny", "ask", "then", "->", "and", "or", "not",
     "true", "match", "eq", "re", "if", "user", "group", "as", "root", "log", "filename",
     "Policy: /a, Emulation: native\n", "native-fsread: ", "native-read: permit\n", "detached\n",
     '"/x"', "[1]", "[inherit]", ", if user = root", "\n", "Template: "]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join) | st.text())
def test_the_parser_raises_nothing_but_policy_errors(text):
    for privileged in (False, True):
        try:
            parse_policy(
                text, name="f", users=USERS, privileged=privileged, subject=ALICE
            )
        except PolicyError as error:
            assert isinstance(error, PolicySyntaxError)
            assert error.line >= 1
            assert error.column >= 1
            assert len(error.caret().split("\n")) >= 3


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=20).map("".join))
def test_the_short_way_for_bare_rules_reads_the_same_as_the_long_way(text):
    def shape(parsed):
        return [
            (one.path, one.detached, [(str(each), each.simple, each.errno) for each in one.rules])
            for one in parsed.policies
        ]

    def the_long_way(reader):
        policy = None
        for number, raw, line in source_lines(HEADER + text, "f"):
            if line[:8].lower() == "policy: ":
                policy = reader.header(number, raw, line)
            elif line and policy is None:
                raise reader.error("a rule before the first header", number, raw, line)
            elif line[:8].lower() == "detached":
                policy.detached = True
                policy = None
            elif line:
                policy.rules.append(reader.rule(policy.emulation, number, raw, line))
        return PolicyFile("f", list(reader.policies.values()))

    try:
        expected = shape(the_long_way(syntax._PolicyReader("f", USERS, False, None)))
    except PolicySyntaxError as error:
        expected = str(error)
    try:
        found = shape(parse(HEADER + text, privileged=False))
    except PolicySyntaxError as error:
        found = str(error).replace("file(", "f(")
    assert found == expected


def productions(text: str) -> dict[str, list[str]]:
    """Name to the words of its right side, without EBNF's commas between them."""
    found = {}
    for chunk in text.split(" ;"):
        left, equals, right = chunk.partition(" = ")
        if equals:
            found[" ".join(left.split())] = [word for word in right.split() if word != ","]
    return found


def test_the_grammar_in_docs_is_the_one_above_the_methods():
    grammar = (Path(__file__).parents[2] / "docs" / "policy.ebnf").read_text()
    while "(*" in grammar:
        before, _, rest = grammar.partition("(*")
        grammar = before + rest.partition("*)")[2]
    documented = productions(grammar)
    words = ("name", "number", "quoted", "comment")  # the lexer's
    commented: dict[str, list[str]] = {}
    current = ""
    for line in (inspect.getsource(syntax) + inspect.getsource(rule_parser)).splitlines():
        text = line.strip()
        left, equals, right = text.removeprefix("# ").partition(" = ")
        if text.startswith("# ") and equals and left in documented:
            current = left
            commented[current] = right.split()
        elif text.startswith("#   ") and current:
            commented[current] += text[1:].split()
        else:
            current = ""
    assert commented == {
        left: right for left, right in documented.items() if left not in words
    }
