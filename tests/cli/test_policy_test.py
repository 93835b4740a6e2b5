"""certexec policy test: verdict, rule, exit code."""

import json
import os

import pytest

from certexec.cli.main import main
from tests.cli.conftest import Script

POLICY = """\
Policy: /bin/x, Emulation: native
\tnative-fsread: filename eq "/etc/passwd" then deny[enoent] log
\tnative-fsread: filename match "/etc" then permit
\tnative-fsread: filename match "$HOME/docs" then permit
\tnative-fsread: filename match "$CWD/here" then permit
\tnative-fsread: filename sub "secret" then ask
\tnative-open: filename eq "/dev/null" then permit
\tnative-connect: sockaddr eq "inet-[1.2.3.4]:80" then permit, if user = root
\tnative-rename: filename match "/a" and filename[1] match "/b" then permit
\tnative-read: permit
"""
TWO = POLICY + "Policy: */y, Emulation: native\n\tnative-read: deny\n"


@pytest.fixture
def policies(script: Script) -> Script:
    script.write("x.policy", POLICY)
    script.write("two.policy", TWO)
    script.write("bad.policy", POLICY + "\tnative-read: bogus\n")
    script.write("detached.policy", "Policy: /bin/x, Emulation: native\ndetached\n")
    return script


def test_the_verdict_the_rule_and_the_exit_code(policies: Script) -> None:
    policies(
        """
        ! certexec policy test x.policy -- fsread filename=/etc/passwd
        stdout '^deny\\[enoent\\]\\nx.policy\\(2\\): native-fsread: filename eq "/etc/passwd" '
        ! stderr .
        certexec policy test x.policy -- fsread filename=/etc/hosts
        stdout '^permit\\nx.policy\\(3\\): native-fsread: filename match "/etc" then permit\\n$'
        certexec policy test x.policy -- native-read
        stdout '^permit\\nx.policy\\(10\\): native-read: permit\\n$'
        ! certexec policy test x.policy -- write
        stdout '^deny\\nx.policy: no rule for "/bin/x" applies: what none permits is denied\\n$'
        certexec policy test x.policy connect 'sockaddr=inet-[1.2.3.4]:80' --user root
        ! certexec policy test x.policy connect 'sockaddr=inet-[1.2.3.4]:81' --user root
        certexec policy test x.policy renameat2 filename=/a/x filename[1]=/b/y
        ! certexec policy test x.policy renameat2 filename=/a/x filename[1]=/c/y
        certexec policy test x.policy open filename=/dev/null oflags=wo
        certexec policy test x.policy open FileName[0]=/dev/null
        """
    )
    assert policies.certexec("policy", "test", "x.policy", "fsread", "filename=/secret") == 3
    assert policies.stdout.startswith("ask\nx.policy(6): ")
    assert "somebody to ask" in policies.stderr or policies.stderr == ""


def test_predicates_and_macros_are_those_of_the_user_and_the_directory(policies: Script) -> None:
    policies(
        """
        ! certexec policy test x.policy --user nobody connect sockaddr=inet-[1.2.3.4]:80
        ! certexec policy test x.policy --user '#4242' connect sockaddr=inet-[1.2.3.4]:80
        certexec policy test x.policy --user root fsread filename=/root/docs/a
        ! certexec policy test x.policy --user nobody fsread filename=/root/docs/a
        certexec policy test x.policy --user '#4242' fsread filename=/var/empty/docs
        certexec policy test x.policy --cwd /srv fsread filename=/srv/here/a
        ! certexec policy test x.policy --cwd /srv fsread filename=/opt/here/a
        """
    )
    here = os.path.realpath(policies.directory)
    assert policies.certexec("policy", "test", "x.policy", "fsread", f"filename={here}/here") == 0


def test_the_group_is_the_users_or_a_given_one(policies: Script) -> None:
    policies.write(
        "g.policy",
        "Policy: /bin/x, Emulation: native\n\tnative-read: permit, if group = root\n",
    )
    policies(
        """
        certexec policy test g.policy --user root read
        ! certexec policy test g.policy --user nobody read
        certexec policy test g.policy --user nobody --group root read
        ! certexec policy test g.policy --user root --group '#4242' read
        """
    )


def test_no_answer_gives_2_and_says_why(policies: Script) -> None:
    policies(
        """
        ? certexec policy test bad.policy -- read
        stderr 'error: bad.policy\\(11:20\\): '
        stderr '^\\tnative-read: bogus$'
        ? certexec policy test missing.policy -- read
        stderr 'does not exist'
        ? certexec policy test detached.policy -- read
        stderr 'confines nothing'
        ? certexec policy test two.policy -- read
        stderr 'it has: "/bin/x", "\\*/y"'
        stderr 'hint: choose with "--program PATH"'
        ? certexec policy test two.policy --program /bin/z -- read
        stderr 'no policy for "/bin/z"'
        ? certexec policy test x.policy -- opennat
        stderr 'did you mean "openat"'
        ? certexec policy test x.policy -- fsread
        stderr 'depends on "filename"'
        ? certexec policy test x.policy -- openat filename=/etc/hosts
        stderr 'openat:read'
        ? certexec policy test x.policy -- fsread filename
        stderr 'is not ARG=VALUE'
        ? certexec policy test x.policy -- fsread filename=/a filename=/b
        stderr 'hint: .*filename\\[1\\]='
        ? certexec policy test x.policy -- rename filename[1]=/b
        stderr 'without "filename"'
        ? certexec policy test x.policy -- rename filename[10]=/b
        stderr 'from 0 to 9'
        ? certexec policy test x.policy -- fsread name=/b
        stderr 'no argument "name"'
        ? certexec policy test x.policy --user no-such-user -- read
        stderr 'no user "no-such-user"'
        ? certexec policy test x.policy --resolve -- read
        stderr 'does nothing'
        ? certexec policy test x.policy
        stderr 'missing argument'
        """
    )
    assert policies.stdout == ""


def test_a_program_chooses_the_policy_by_path_or_by_name(policies: Script) -> None:
    policies(
        """
        certexec policy test two.policy --program /bin/x -- read
        ! certexec policy test two.policy --program /usr/bin/y -- read
        stdout '^deny\\ntwo.policy\\(12\\)'
        """
    )


def test_quiet_prints_nothing_and_standard_input_is_a_file(policies: Script) -> None:
    policies(
        """
        certexec policy test -q x.policy -- read
        ! stdout .
        """
    )
    policies.stdin = POLICY.encode()
    assert policies.certexec("policy", "test", "-", "--", "read") == 0
    assert "standard input(10): native-read: permit" in policies.stdout


def test_json_tells_all_of_it(policies: Script) -> None:
    arguments = ("policy", "test", "--json", "--user", "root", "--cwd", "/srv", "x.policy")
    assert policies.certexec(*arguments, "openat:read", "filename=/etc/passwd") == 1
    shown = json.loads(policies.stdout)
    assert shown == {
        "schema": 1, "ok": True, "file": "x.policy", "program": "/bin/x", "emulation": "native",
        "syscall": "openat:read", "call": "openat", "use": "read",
        "arguments": {"filename": ["/etc/passwd"]},
        "subject": {"user": "root", "uid": 0, "gid": 0, "home": "/root", "cwd": "/srv"},
        "verdict": "deny", "errno": 2, "error": "enoent", "log": True,
        "rule": {
            "line": 2, "name": "native-fsread",
            "text": 'filename eq "/etc/passwd" then deny[enoent] log', "unsupported": None,
        },
    }
    assert policies.certexec(*arguments, "write") == 1
    shown = json.loads(policies.stdout)
    assert (shown["verdict"], shown["error"], shown["rule"]) == ("deny", "eperm", None)
    assert policies.certexec(*arguments, "fsread") == 2
    shown = json.loads(policies.stdout)
    assert (shown["ok"], shown["error"]["reason"]) == (False, "usage")
    assert policies.stderr == ""
    assert policies.certexec("policy", "test", "--json", "bad.policy", "read") == 2
    assert json.loads(policies.stdout)["error"]["column"] == 20


def test_names_are_texts_unless_they_are_resolved(policies: Script) -> None:
    directory = os.path.realpath(policies.directory)
    policies.write(
        "r.policy",
        "Policy: /bin/x, Emulation: native\n"
        f'\tnative-fsread: filename eq "{directory}/real" then permit\n'
        f'\tnative-fsread: filename eq "{directory}/new" then deny[eio]\n'
        f'\tnative-fsread: filename eq "{directory}/link" then deny[enxio]\n'
        '\tnative-fsread: filename eq "/proc/self/maps" then permit\n'
        '\tnative-fsread: filename eq "/<non-existent filename>: no/where" then deny[enoent]\n'
        '\tnative-fsread: filename eq "" then deny[efault]\n',
    )
    policies.write("real", "")
    policies.path("link").symlink_to("real")
    policies.path("dangling").symlink_to("new")
    policies(
        f"""
        ! certexec policy test r.policy fsread filename=link
        stdout 'no rule'
        certexec policy test --resolve r.policy fsread filename=link
        certexec policy test --resolve r.policy fsread filename=./link/
        certexec policy test --resolve --cwd / r.policy fsread filename={directory}/real
        ! certexec policy test --resolve --cwd / r.policy fsread filename=real
        ! certexec policy test --resolve r.policy lstat filename=link
        stdout enxio
        ! certexec policy test --resolve r.policy newfstatat:nofollow filename=link
        stdout enxio
        ! certexec policy test --resolve r.policy readlinkat filename=link
        stdout enxio
        certexec policy test --resolve r.policy stat filename=link
        ! certexec policy test --resolve r.policy fsread filename=dangling
        stdout eio
        ! certexec policy test --resolve r.policy fsread filename=new
        stdout eio
        ! certexec policy test --resolve r.policy fsread filename=no/where
        stdout enoent
        ! certexec policy test --resolve r.policy fsread filename=
        stdout efault
        certexec policy test --resolve r.policy fsread filename=/proc/self/maps
        """
    )


def test_what_could_steer_a_terminal_is_escaped(tmp_path, capsys) -> None:
    path = tmp_path / "p\x1b"
    path.write_bytes(POLICY.encode() + b'\tnative-execve: filename eq "\xff\x1b[2J" then permit\n')
    assert main(["policy", "test", str(path), "execve", "filename=\udcff\x1b[2J", "argv="]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert main(["policy", "test", "--json", str(path), "execve", "filename=\udcff\x1b[2J"]) == 0
    assert json.loads(capsys.readouterr().out)["rule"]["line"] == 11


BEYOND = """\
Language: certexec 1
Policy: /bin/x, Emulation: native
	no-dotdot
	exec-in /usr/bin
	native-ptrace: kill
	after native-fsread: filename eq "/secret" then only write
	native-fsread: permit
	native-execve: permit
"""


def test_what_goes_beyond_systrace_is_told_with_its_line(script: Script) -> None:
    script.write("beyond", BEYOND)
    script("! certexec policy test beyond fsread filename=/a/../b\nstdout beyond.3..*no-dotdot")
    script("! certexec policy test beyond --resolve open:read filename=/etc/../etc/passwd")
    script("certexec policy test beyond fsread filename=/a/b")
    script("! certexec policy test beyond execve filename=/opt/x\nstdout eacces\nstdout beyond.4.")
    script("certexec policy test beyond execve filename=/usr/bin/x")
    script("! certexec policy test beyond ptrace\nstdout ^kill\nstdout beyond.5.")
    script("! certexec policy test beyond --after 6 execve filename=/usr/bin/x\nstdout after nat")
    script("? certexec policy test beyond --after 5 ptrace\nstderr lines that do: 6")
    script("certexec policy check --lint beyond")
    script("certexec policy explain beyond\nstdout 6  after native-fsread")
    script("certexec policy explain --json beyond")
    (policy,) = json.loads(script.stdout)["policies"]
    assert policy["no_dotdot"] and policy["after"][0]["line"] == 6 and policy["adopt"] == []
    script.write("adopting", BEYOND + "\tadopt /bin/y\n")
    script("certexec policy explain adopting\nstdout may ask for the policies of: /bin/y")
    script("! certexec policy check --lint adopting\nstderr no policy here to adopt")
    script("certexec policy explain beyond\nstdout no-dotdot: every file name\nstdout 4.*not")


def test_the_part_for_the_32_bit_abi_is_asked_by_its_emulation(script: Script) -> None:
    script.write(
        "x.policy",
        "Language: certexec 1\n"
        "Policy: /bin/x, Emulation: linux\n\tlinux-getuid32: permit\n"
        "Policy: /bin/x, Emulation: native\n\tnative-read: permit\n",
    )
    script(
        """
        certexec policy test --emulation linux x.policy -- getuid32
        stdout 'x.policy.3.: linux-getuid32: permit'
        ! certexec policy test --emulation linux x.policy -- read
        certexec policy test x.policy -- read
        ! certexec policy test x.policy -- getuid
        certexec policy check --lint x.policy
        stdout '2 policies, 2 rules'
        ! stderr .
        """
    )


def test_what_no_rule_matches_is_a_question_where_the_certificate_says_so(
    policies: Script,
) -> None:
    asking = ("policy", "test", "--unmatched", "ask", "x.policy")
    assert policies.certexec(*asking, "write") == 3
    assert policies.stdout == (
        'ask\nx.policy: no rule for "/bin/x" applies: an agent is asked, without an answer it is '
        "denied\n"
    )
    assert policies.certexec(*asking, "fswrite", "filename=/x") == 3
    assert policies.certexec(*asking, "--json", "mkdir", "filename=/x") == 3
    shown = json.loads(policies.stdout)
    assert (shown["verdict"], shown["rule"]) == ("ask", None)
    assert policies.certexec(*asking, "read") == 0
    for unasked in ("pivot_root", "io_uring_setup"):
        assert policies.certexec(*asking, unasked) == 1
