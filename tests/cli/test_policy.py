"""The command: exit codes, what is printed where, JSON."""

import io
import json
import os
import re
import sys

import pytest

from certexec.cli.main import main
from certexec.cli.policy import command
from certexec.policy.lint import CODES
from certexec.policy.syntax import parse_policy
from tests.cli.test_man import MAN, documented, options
from tests.policy.common import USERS, shared

from .conftest import Script

GOOD = "Policy: /bin/x, Emulation: native\n\tnative-read: permit\n"
ODD = GOOD + '\tnative-fsread: filename inpath "/usr" then permit\n'
BAD = GOOD + "\tnative-execve: permit log\n"


@pytest.fixture
def write(tmp_path):
    def make(name: str, text: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return make


def test_a_policy_is_fine(write, capsys):
    path = write("good", GOOD)
    assert main(["policy", "check", path]) == 0
    assert capsys.readouterr().out == f"{path}: 1 policy, 1 rule\n"


def test_the_rules_of_a_file_and_those_that_it_includes_are_counted_apart(write, capsys):
    path = write("good", "Language: certexec 1\nPolicy: /bin/x, Emulation: native\n"
                         "\tinclude dns 1\n\tnative-read: permit\n\tnative-write: permit\n")
    assert main(["policy", "check", path]) == 0
    told = capsys.readouterr().out
    assert re.fullmatch(r"[^:]*: 1 policy, 2 rules, [1-9][0-9]* more of presets\n", told)
    assert main(["policy", "explain", path]) == 0
    assert "(native): 2 rules, " in capsys.readouterr().out


def test_warnings_need_lint_and_give_1(write, capsys):
    path = write("odd", ODD)
    assert main(["policy", "check", path]) == 0
    assert capsys.readouterr().err == ""
    assert main(["policy", "check", "--lint", path]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"certexec: warning: {path}(3): filename inpath")
    assert shown.endswith("[inpath]\n")
    assert main(["policy", "check", "--lint", write("good", GOOD)]) == 0


def test_a_line_that_seems_to_go_on_is_told(write, capsys):
    path = write("goes-on", "# why \\\n" + GOOD)
    assert main(["policy", "check", "--lint", path]) == 1
    assert capsys.readouterr().err.endswith("[continuation]\n")
    path = write("slide", GOOD + "\tnative-fsread: true \\\n\t\tthen permit\n")
    assert main(["policy", "check", "--lint", path]) == 2
    shown = capsys.readouterr().err.split("\n")
    assert shown[0].startswith(f"certexec: error: {path}(3:22): ")
    assert shown[3].startswith("certexec: hint: a rule cannot go on")
    assert "certexec policy fmt --join" in shown[3]


def test_templates_are_checked_when_asked(write, capsys):
    head = "Template: dns, Emulation: native, Description: names\n"
    path = write("dns", head + '\tnative-fsread: filename inpath "/etc" then permit\n')
    assert main(["policy", "check", path]) == 2
    assert main(["policy", "check", "--template", path]) == 0
    capsys.readouterr()
    assert main(["policy", "check", "--template", "--lint", "--json", path]) == 1
    [shown] = json.loads(capsys.readouterr().out)["files"]
    [policy] = shown["policies"]
    assert (policy["path"], policy["emulation"], len(policy["rules"])) == ("dns", "native", 1)
    assert [one["code"] for one in shown["warnings"]] == ["inpath"]
    assert main(["policy", "check", "--template", write("good", GOOD)]) == 2


def test_what_is_no_policy_gives_2_with_line_caret_and_hint(write, capsys):
    path = write("bad", BAD)
    assert main(["policy", "check", write("good", GOOD), path]) == 2
    error = capsys.readouterr().err.split("\n")
    assert error[0].startswith(f"certexec: error: {path}(3:17): ")
    assert error[1] == "\tnative-execve: permit log"
    assert error[2] == "\t" + " " * 15 + "^"
    assert error[3] == 'certexec: hint: write "true then permit log"'


def test_what_cannot_be_read_gives_2(tmp_path, capsys):
    assert main(["policy", "check", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["policy", "check", str(tmp_path)]) == 2


def test_standard_input_is_a_file_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
    assert main(["policy", "check", "-"]) == 0
    assert capsys.readouterr().out == "standard input: 1 policy, 1 rule\n"


def test_elevation_is_read_as_the_caller_would_or_as_told(write, monkeypatch, capsys):
    path = write("as", GOOD + "native-bind: true then permit as root\n")
    assert main(["policy", "check", "--privileged", path]) == 0
    assert main(["policy", "check", "--unprivileged", path]) == 2
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert main(["policy", "check", path]) == 0
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert main(["policy", "check", path]) == 2


def test_json_is_one_object_for_all_files(write, capsys):
    good, odd, bad = write("good", GOOD), write("odd", ODD), write("bad", BAD)
    assert main(["policy", "check", "--lint", "--json", good, odd, bad]) == 2
    shown = json.loads(capsys.readouterr().out)
    assert shown["schema"] == 1
    assert shown["ok"] is False
    first, second, third = shown["files"]
    assert (first["ok"], first["warnings"]) == (True, [])
    [policy] = second["policies"]
    assert (policy["path"], policy["emulation"], policy["detached"]) == ("/bin/x", "native", False)
    rule = policy["rules"][1]
    assert rule["line"] == 3
    assert rule["name"] == "native-fsread"
    assert rule["tree"] == "[filename:-1 /usr]"
    assert rule["expression"] == 'filename inpath "/usr"'
    assert rule["action"] == "permit"
    assert "openat" in rule["calls"]
    assert [one["code"] for one in second["warnings"]] == ["inpath"]
    assert third["ok"] is False
    assert (third["error"]["line"], third["error"]["column"]) == (3, 17)
    assert third["error"]["reason"] == "policy-syntax"
    assert "policies" not in third


def test_bytes_that_are_not_text_neither_stop_nor_pass_unescaped(write, capsys):
    rule = b'native-fsread: filename eq "/\xff\x1b[2J" then permit\n'
    path = write("latin", GOOD.encode() + rule)
    assert main(["policy", "check", "--lint", "--json", path]) == 0
    assert "\\\\xff" in capsys.readouterr().out
    broken = write("broken", GOOD.encode() + b"native-fsread: \xff\x1b[2J\n")
    assert main(["policy", "check", broken]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_colliding_policies_in_two_files_are_told(write, capsys):
    one = write("one", "Policy: /usr/a_b, Emulation: native\n")
    two = write("two", "Policy: /usr/a/b, Emulation: native\n")
    assert main(["policy", "check", "--lint", one, two]) == 1
    assert "[collision]" in capsys.readouterr().err
    assert main(["policy", "check", "--lint", one, one]) == 0


def test_quiet_says_only_what_is_wrong(write, capsys):
    assert main(["policy", "check", "-q", write("good", GOOD)]) == 0
    assert capsys.readouterr() == ("", "")


def test_templates_are_policies_for_the_real_path(tmp_path, capsys):
    real = tmp_path / "real"
    real.write_text("")
    (tmp_path / "link").symlink_to(real)
    assert main(["policy", "template", str(tmp_path / "link")]) == 0
    text = capsys.readouterr().out
    [policy] = parse_policy(text, name="t", users=USERS, privileged=False).policies
    assert policy.path == str(real)


def test_a_template_finds_programs_in_path(capsys):
    assert main(["policy", "template", "sh"]) == 0
    assert f"Policy: {os.path.realpath('/bin/sh')}," in capsys.readouterr().out
    assert main(["policy", "template", "no-such-program"]) == 2
    assert "$PATH" in capsys.readouterr().err


def test_a_directory_is_no_program(capsys):
    assert main(["policy", "template", "/usr/bin"]) == 1
    assert capsys.readouterr().err.startswith(
        'certexec: error: "/usr/bin" is not a regular file\n'
    )


def test_permit_all_warns(capsys):
    assert main(["policy", "template", "--unsafe-permit-all", "/bin/true"]) == 0
    shown = capsys.readouterr()
    assert "native-execve: permit\n" in shown.out
    assert "confines nothing" in shown.err


def test_a_path_that_no_policy_can_name_is_refused(capsys):
    assert main(["policy", "template", "/a,b"]) == 1
    assert "cannot name" in capsys.readouterr().err


def test_the_shared_policies_are_accepted(capsys):
    directory = shared("systrace-policies")
    paths = sorted(
        str(path) for path in directory.iterdir()
        if not path.name.startswith(("PROVENANCE", "manpage"))
    )
    assert main(["policy", "check", "--privileged", *paths]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(paths)


def test_the_manual_page_has_every_option_and_every_warning():
    assert options(command) == documented("certexec-policy.1")
    text = (MAN / "certexec-policy.1").read_text()
    _, _, warnings = text.partition(".Sh WARNINGS")
    words = [line.removeprefix(".It ") for line in warnings.partition(".El")[0].splitlines()
             if line.startswith(".It ")]
    assert words == list(CODES)
    for verb in command.commands:
        assert f".It Cm {verb}" in text


def test_a_certificate_where_a_policy_is_due_is_named_as_such(script: Script) -> None:
    script.write("id.policy", "Policy: /usr/bin/id, Emulation: native\n\tnative-exit: permit\n")
    script(
        """
        certexec keygen --no-passphrase -f ops
        certexec sign -k ops.key -p id.policy --allow-everyone -o id.cert /usr/bin/id
        ? certexec policy check id.cert
        ! stdout .
        stderr '"id.cert" is a certificate, not a policy'
        stderr 'hint: see what it says with "certexec inspect".*"certexec verify"'
        ! stderr 'first header'
        ! certexec sign -k ops.key -p id.cert --allow-everyone -o other.cert /usr/bin/id
        stderr '"id.cert" is a certificate, not a policy'
        """
    )
    script.stdin = script.path("id.cert").read_bytes()
    script("? certexec policy check -\nstderr '\"?standard input\"? is a certificate'")
