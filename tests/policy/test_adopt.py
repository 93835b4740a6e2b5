"""Policies that a program may ask for: which are reachable, and who is asked."""

import pytest

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.compile import compile_reach
from certexec.policy.guards import ADOPT, ADOPT_OPTION, BY_POLICY
from certexec.policy.lexer import PolicySyntaxError
from certexec.policy.lint import lint
from certexec.policy.model import LANGUAGE, PolicyFile
from certexec.policy.reach import Reach, changes_policies
from certexec.policy.reformat import reformat
from certexec.policy.syntax import parse_policy
from certexec.policy.tree import TreeOptions
from tests.policy.common import USERS

TEXT = f"""\
Language: {LANGUAGE}

Policy: /bin/x, Emulation: native
\tadopt /bin/y, /bin/none
\tnative-prctl: permit

Policy: /bin/y, Emulation: native
\tadopt /bin/z
\tnative-prctl: permit
\tnative-read: permit

Policy: /bin/z, Emulation: native
\tnative-prctl: permit

Policy: /bin/unreachable, Emulation: native
\tnative-prctl: permit
"""


def parse(text: str = TEXT) -> PolicyFile:
    return parse_policy(text, name="test", users=USERS, privileged=True)


def test_what_can_be_adopted_is_in_the_filter_from_the_start():
    file = parse()
    own = file.policies[0]
    assert changes_policies(own, inherit=True)
    reach = Reach(own, file.policies)
    assert [one.path for one in reach.policies] == ["/bin/x", "/bin/y", "/bin/z"]
    assert (reach.named("/bin/z"), reach.named("/bin/none")) == (2, -1)
    options = TreeOptions(full_log=False, privileged=False, capable=True, own_policies=True)
    made = compile_reach(reach, options)
    assert {one.decision.why for one in made.table.of(NUMBERS["prctl"])} == {BY_POLICY}
    assert {one.decision.why for one in made.table.of(NUMBERS["read"])} == {BY_POLICY}
    registers = (ADOPT_OPTION, 1, 0, 0, 0, 0)
    asked = [each.decide(NUMBERS["prctl"], registers).why for each in made.tables]
    assert asked == [ADOPT, ADOPT, ""]


@pytest.mark.parametrize("line", ["adopt", "adopt x", "adopt /x,", "adopt /x\nadopt /y"])
def test_what_names_no_policies_is_a_syntax_error(line):
    with pytest.raises(PolicySyntaxError):
        parse(f"Language: {LANGUAGE}\nPolicy: /bin/x, Emulation: native\n{line}\n")


def test_without_the_language_line_it_is_no_rule_as_ever():
    with pytest.raises(PolicySyntaxError):
        parse("Policy: /bin/x, Emulation: native\nadopt /bin/y\n")


def test_fmt_keeps_it_and_lint_tells_what_is_not_there():
    assert reformat(TEXT, name="t", users=USERS) == TEXT
    assert [(one.line, one.code) for one in lint(parse())] == [(3, "flag")]
