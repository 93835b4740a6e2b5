"""Policies of other systems: the same verdicts here, and what is otherwise is told."""

from certexec.cli.presets import load_presets
from certexec.policy.difference import compare
from certexec.policy.lexer import decode_policy
from certexec.policy.other_system import convert
from certexec.policy.syntax import parse_policy
from tests.policy.common import USERS, shared

NETBSD = """\
# id(1), as NetBSD had it
Policy: /usr/bin/id, Emulation: netbsd
\tnetbsd-__fstat13: permit
\tnetbsd-__sysctl: permit # how many
\tnetbsd-break: permit
\tnetbsd-fsread: filename eq "/etc/spwd.db" then deny[eperm]
\tnetbsd-fswrite: filename match "/tmp/*" then permit
\tnetbsd-read: deny[eftype]
\tnetbsd-kill: signame eq "SIGINFO" then permit
"""


def read(text: str):
    return parse_policy(
        text, name="x", users=USERS, privileged=True, presets=load_presets()
    ).policies


def test_rules_get_the_names_that_calls_have_here():
    made = convert(NETBSD, name="x", users=USERS, base=False)
    assert "Policy: /usr/bin/id, Emulation: native\n" in made.text
    assert "\tnative-brk: permit\n" in made.text or "\tnative-break: permit\n" in made.text
    assert "# id(1), as NetBSD had it\n" in made.text
    lost = "# not carried over, Linux has no such call: netbsd-__sysctl: permit # how many\n"
    assert lost in made.text
    told = "\n".join(made.notes)
    for words in ("line 4: netbsd-__sysctl: permit: Linux has no such call",
                  "line 6: /etc/spwd.db: passwords are in /etc/shadow",
                  "line 8: Linux has no error eftype", 'signame eq "SIGINFO"',
                  "/usr/bin/id: permits more than the rules said: truncate"):  # fmt: skip
        assert words in told, words


def test_the_base_lets_it_start():
    made = convert(NETBSD, name="x", users=USERS)
    assert made.text.startswith("Language: certexec 1\n") and "\tinclude base 1\n" in made.text
    assert len(read(made.text)[0].rules) > 40


def test_an_alias_of_a_socket_call_keeps_its_place():
    text = (
        "Policy: /x, Emulation: linux\n\tlinux-connect: sockaddr eq \"/x\" then deny\n"
        "\tlinux-connect: permit\n"
    )
    made = convert(text, name="x", users=USERS, base=False)
    assert "\tnative-connect: true then permit\n" in made.text
    assert not any(one.changes for one in compare(read(text)[0], read(made.text)[0])
                   if one.call == "connect")  # fmt: skip


def test_extensions_and_detached_policies_stay():
    text = (
        "Language: certexec 1\nPolicy: /x, Emulation: native\n\tno-dotdot\n\tnative-read: permit\n"
        "Policy: /y, Emulation: netbsd\ndetached\n"
    )
    made = convert(text, name="x", users=USERS)
    one, two = read(made.text)
    assert one.no_dotdot and two.detached and made.notes == []


def test_real_policies_mean_the_same_or_the_difference_is_told():
    for path in shared("systrace-policies").iterdir():
        if path.name.startswith(("PROVENANCE", "manpage")):
            continue
        text = decode_policy(path.read_bytes())
        made = convert(text, name=path.name, users=USERS, base=False)
        told = "\n".join(made.notes)
        for old, new in zip(read(text), read(made.text), strict=True):
            for one in compare(old, new):
                for kind in set(one.kinds) - {"otherwise"}:
                    assert one.call in told, (path.name, one.call, kind)
        read(convert(text, name=path.name, users=USERS).text)


def test_a_multiplexer_of_the_32_bit_table_becomes_the_calls_behind_it():
    text = (
        "Policy: /x, Emulation: linux\n\tlinux-connect: sockaddr eq \"/x\" then deny\n"
        "\tlinux-socketcall: permit # all\n\tlinux-ipc: deny[enosys]\n"
    )
    made = convert(text, name="x", users=USERS, base=False)
    assert "# all\n\tnative-accept: permit\n" in made.text
    assert "\tnative-semop: deny[enosys]\n" in made.text
    assert not any("no such call" in note or "more" in note for note in made.notes), made.notes
    compared = compare(read(text)[0], read(made.text)[0])
    assert [one.call for one in compared if one.changes] == []
