"""certexec learn as people call it."""

from __future__ import annotations

import json
import os

from certexec.policy.learned_paths import WHY

from .conftest import Script

EVENT = {
    "schema": 1, "event": "call", "verdict": "deny", "reason": "unmatched", "program": "/bin/x",
    "emulation": "native", "syscall": "openat", "number": 257,
    "arguments": {"filename": "/srv/file", "oflags": "ro"},
}  # fmt: skip


def test_what_cannot_work_is_refused_before_anything_runs(script: Script) -> None:
    script.write("there", "mine\n")
    script(
        """
        ? certexec learn
        stderr 'nothing to learn from'
        ? certexec learn -a -- touch ran
        stderr 'hint: name it with "-o"'
        ! certexec learn -o there -- touch ran
        stderr '"there" exists'
        ? certexec learn -o new -- /no/such/program
        stderr 'give its path'
        ? certexec learn --from-log none
        ! exists ran new
        """
    )
    assert script.path("there").read_text() == "mine\n"


def test_a_log_makes_a_policy_and_what_a_rule_denied_stays_denied(script: Script) -> None:
    meant = {**EVENT, "reason": "rule", "arguments": {"filename": "/etc/shadow", "oflags": "ro"}}
    script.write("log", "".join(json.dumps(one) + "\n" for one in (EVENT, meant)))
    script(
        """
        certexec learn --from-log log -o new.policy
        exists new.policy
        certexec policy check new.policy
        certexec learn --from-log log --generalize none
        stdout 'native-fsread: filename eq "/srv/file" then permit'
        ! stdout 'shadow'
        ! stdout 'include'
        certexec learn --from-log log --json
        stdout '"why": ""'
        """
    )
    script.write("broken", "{}\n")
    script("? certexec learn --from-log broken\nstderr 'line 1 is no event'")


def test_who_is_asked_chooses_between_wide_exact_and_nothing(script: Script) -> None:
    lines = [
        {**EVENT, "arguments": {"filename": f"/opt/x/share/{one}", "oflags": "ro"}}
        for one in "abcd"
    ]
    script.write("log", "".join(json.dumps(one) + "\n" for one in lines))
    for answer, wanted in (("a", "/opt/x/share"), ("e", "/opt/x/share/d"), ("d", "")):
        script.stdin = f"{answer}\n".encode()
        script("certexec learn -i --from-log log")
        assert WHY["tree"] in script.stderr
        rules = [line for line in script.stdout.splitlines() if "fsread" in line]
        assert any(f'"{wanted}"' in line for line in rules) if wanted else rules == []


def test_nothing_is_left_beside_the_result(script: Script) -> None:
    script("certexec learn -o new --generalize none -- /bin/true")
    assert os.listdir(script.directory) == ["new"]
    assert 'native-execve' not in script.path("new").read_text()
    script("certexec policy check new")
