"""certexec policy score, and what policy check says in the light of calls and of logs."""

import json

import pytest

from certexec.observe.json_lines import render
from tests.cli.conftest import Script
from tests.observe.sample import event

HEADER = "Policy: /bin/x, Emulation: native\n"
LOOSE = HEADER + (
    '\tnative-fswrite: filename match "/tmp" then permit\n\tnative-execve: permit\n'
    '\tnative-fsread: filename match "/etc" then permit log\n'
    '\tnative-fsread: filename match "/opt" then permit log\n'
)


@pytest.fixture
def files(script: Script) -> Script:
    script.write("loose", LOOSE)
    script.write("tight", HEADER + "\tnative-read: permit\n")
    return script


def test_the_figure_comes_with_its_reasons(files: Script) -> None:
    files(
        r"""
        certexec policy score loose
        stdout '^\+0\.[0-9]{2}  write-exec +executes what it can write \(/tmp\)$'
        stdout '^\+0\.[0-9]{2}  execute +executes shells and other tools \(execve /bin/sh\)$'
        stdout '^/bin/x: [2-4]\.[0-9] of 10, medium$'
        ! stdout modules
        certexec policy score tight
        stdout '^/bin/x: 0\.0 of 10, minimal$'
        certexec policy score --unmatched ask tight
        stdout '^\+0\.[0-9]{2}  mount +changes what is mounted'
        ! stdout io-uring
        stdout '^/bin/x: [5-7]\.[0-9] of 10, '
        certexec policy score --all tight
        stdout '^ +modules +loads kernel modules'
        """
    )


def test_a_limit_can_be_set(files: Script) -> None:
    files(
        """
        ! certexec policy score --max 1 loose
        certexec policy score --max 9.9 loose
        certexec policy score --max 0 tight
        ? certexec policy score --max 11 tight
        """
    )


def test_json_has_every_check(files: Script) -> None:
    files("certexec policy score --json loose")
    shown = json.loads(files.stdout)
    assert (shown["program"], shown["grade"], shown["ok"]) == ("/bin/x", "medium", True)
    total = sum(one["points"] for one in shown["reasons"])
    assert abs(total - shown["exposure"]) < 0.1
    [one] = [one for one in shown["reasons"] if one["check"] == "modules"]
    assert (one["weight"], one["open"], one["example"]) == (10, 0.0, None)


def test_what_is_no_policy_is_refused(files: Script) -> None:
    files.write("bad", "native-read: permit\n")
    files("? certexec policy score bad\n? certexec policy score missing")
    files.write("two", LOOSE + LOOSE.replace("/bin/x", "/bin/y"))
    files(
        """
        ? certexec policy score two
        stderr '"--program PATH"'
        certexec policy score two --program /bin/y
        """
    )


def test_lint_warns_of_what_comes_together(files: Script) -> None:
    files(
        r"""
        ! certexec policy check --lint loose
        stderr 'loose\(1\): what the program writes it can execute: "/tmp", .*\[write-exec\]$'
        certexec policy check --lint tight
        """
    )


def test_a_log_tells_which_rules_are_not_needed(files: Script) -> None:
    seen = event(syscall="openat", number=257, policy="/bin/x", verdict="permit", errno=0,
                 arguments=[("filename", "/etc/x"), ("oflags", "ro")])  # fmt: skip
    other = event(syscall="openat", policy="/bin/y", verdict="permit",
                  arguments=[("filename", "/opt/x"), ("oflags", "ro")])  # fmt: skip
    files.write("log", render(seen) + "\n" + render(other) + "\nnoise\n")
    files(
        r"""
        ! certexec policy check --log log loose
        stderr 'loose\(5\): no call in the log was decided by this rule \[unused\]$'
        ! stderr 'loose\(4\): no call'
        ! certexec policy check --log log tight
        stderr 'tight\(1\): the log does not say which rules were at work .*--log-all'
        ? certexec policy check --log missing loose
        ? certexec policy check --log log --template loose
        """
    )
