"""Policies to start from: they parse, and ordinary programs find what they need."""

import errno
import os
import re
import shutil
import subprocess

import pytest

from certexec.errors import PolicyError
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import call_of, variants
from certexec.policy.evaluate import constant_rule, effective_rules, evaluate, uses
from certexec.policy.format import format_rule
from certexec.policy.syntax import parse_policy
from certexec.policy.template import permit_all, starting_policy
from certexec.policy.unsupported import unsupported_features
from tests.policy.common import ALICE, USERS

LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)")
EMPTY = "0x1000"
PROGRAMS = {
    "ls": ["ls", "-l", "/usr"],
    "cat": ["cat", "/etc/passwd"],
    "id": ["id"],
    "grep": ["grep", "root", "/etc/group"],
    "sh": ["sh", "-c", "for i in 1 2; do echo $i; done; cd /; read line </etc/passwd; umask; wait"],
    "python3": ["/usr/bin/python3", "-I", "-c", "print(1)"],
}


def parsed(text: str):
    [one] = parse_policy(text, name="t", users=USERS, privileged=False).policies
    return one


def variant_of(name: str, arguments: str, path: str):
    """Tell which variant a line of strace shows, by the words it has for flags."""
    labels = {variant.label: variant for variant in variants(name)}
    if name in ("open", "openat"):
        writes = re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", arguments)
        return labels["write" if writes else "read"]
    if name in ("newfstatat", "statx"):
        if "AT_EMPTY_PATH" in arguments and not path:
            return labels["fd"]
        return labels["nofollow" if "NOFOLLOW" in arguments else "follow"]
    if name == "prlimit64":
        return labels["get" if arguments.startswith("0, ") and ", NULL," in arguments else "other"]
    return variants(name)[-1]


def denied_calls(trace: str, policy, cwd: str) -> set[str]:
    """Return the traced calls that the policy would not permit."""
    found = set()
    for line in trace.splitlines():
        match = LINE.match(line)
        if not match or match[1] not in NUMBERS or match[1] in ("execve", "execveat"):
            continue
        name, arguments = match.groups()
        quoted = re.search(r'"([^"]*)"', arguments)
        path = quoted[1] if quoted else ""
        variant = variant_of(name, arguments, path)
        values = {}
        if any(one.name == "filename" for one in call_of(name).arguments):
            whole = os.path.join(cwd, path)
            link = variant.label == "nofollow" or name.startswith("readlink")
            head, tail = os.path.split(whole)
            real = os.path.join(os.path.realpath(head), tail) if link else os.path.realpath(whole)
            real = re.sub(r"^/proc/\d+", "/proc/1", real)
            values = {"filename": [real if path else ""]}
        verdict = evaluate(effective_rules(policy, name, variant.label), values, ALICE)
        if verdict is None or verdict.action != "permit":
            found.add(name if verdict else f"{name}({values.get('filename', '')}) unmatched")
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_ordinary_programs_find_what_they_need(program, tmp_path):
    if shutil.which("strace") is None or shutil.which(PROGRAMS[program][0]) is None:
        pytest.skip(f"strace or {program} is not here")
    log = tmp_path / "trace"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-s", "4096", "-e", "signal=none", "-o", log, *PROGRAMS[program]],
        cwd="/usr", capture_output=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        check=False,
    )
    if done.returncode:
        pytest.skip(f"strace cannot trace here: {done.stderr.decode()}")
    silent = {"socket", "connect", "getxattr", "lgetxattr", "listxattr", "llistxattr"}
    path = shutil.which(PROGRAMS[program][0]) or ""
    policy = parsed(starting_policy(os.path.realpath(path)))
    assert denied_calls(log.read_text(errors="replace"), policy, "/usr") <= silent


def test_the_starting_policy_can_be_enforced():
    text = starting_policy("/usr/bin/less")
    file = parse_policy(text, name="t", users=USERS, privileged=False)
    assert unsupported_features(file) == []
    assert file.policies[0].path == "/usr/bin/less"


def test_the_starting_policy_gives_no_network_no_children_and_no_files_to_write():
    policy = parsed(starting_policy("/usr/bin/less"))
    for name in ("socket", "connect", "execve", "fork", "clone", "vfork", "kill", "ptrace", "bind",
                 "io_uring_setup", "mount", "unshare", "setuid", "rename", "chmod"):
        for _, rules in uses(policy, name):
            constant, rule = constant_rule(rules)
            assert constant
            assert rule is None or rule.action == "deny", name
    for path in ("/etc/x", "/tmp/x", "/usr/x", "/dev/sda", "/dev/pts/../sda"):
        for name, label in (("openat", "write"), ("mkdirat", ""), ("unlinkat", "file")):
            rules = effective_rules(policy, name, label)
            assert evaluate(rules, {"filename": [path]}, ALICE) is None
    for path in ("/etc/shadow", "/home/bob/x", "/root", "/proc/1/environ", "/proc/1/mem"):
        rules = effective_rules(policy, "openat", "read")
        assert evaluate(rules, {"filename": [path]}, ALICE) is None
    rules = effective_rules(policy, "openat", "write")
    assert evaluate(rules, {"filename": ["/dev/null"]}, ALICE).action == "permit"


def test_what_is_not_there_is_not_permitted_but_said_not_to_be_there():
    policy = parsed(starting_policy("/usr/bin/less"))
    rules = effective_rules(policy, "openat", "read")
    for path in ("/<non-existent filename>: /home/x/y", ""):
        verdict = evaluate(rules, {"filename": [path]}, ALICE)
        assert (verdict.action, verdict.errno, verdict.log) == ("deny", errno.ENOENT, False)


def test_a_program_elsewhere_may_read_its_own_directory():
    policy = parsed(starting_policy("/opt/a[b]*/bin/c"))
    rules = effective_rules(policy, "stat")
    assert evaluate(rules, {"filename": ["/opt/a[b]*/bin/x"]}, ALICE) is not None
    assert evaluate(rules, {"filename": ["/opt/ab/bin/x"]}, ALICE) is None
    assert evaluate(rules, {"filename": ["/opt/a[b]*/x"]}, ALICE) is None


def test_comments_explain_and_every_optional_rule_is_a_rule():
    text = starting_policy("/usr/bin/less")
    optional = [line[2:] for line in text.splitlines() if line.startswith("#\tnative-")]
    assert len(optional) > 10
    body = "".join("\t" + line + "\n" for line in optional)
    policy = parsed(text.splitlines()[0] + "\n" + body)
    assert [format_rule(rule).split(":")[0] for rule in policy.rules] == [
        line.split(":")[0] for line in optional
    ]


def test_permit_all_permits_every_call_and_says_so_aloud():
    text = permit_all("/bin/true")
    assert "UNSAFE" in text.splitlines()[1]
    policy = parsed(text)
    for name in NUMBERS:
        for _, rules in uses(policy, name):
            constant, rule = constant_rule(rules)
            assert constant
            assert rule.action == "permit"


@pytest.mark.parametrize("path", ["/a,b", "/a#b", "/a\nb", "/a ", "/a\0", "/" + "a" * 2046])
def test_paths_that_a_header_cannot_hold_are_refused(path):
    for make in (starting_policy, permit_all):
        with pytest.raises(PolicyError) as caught:
            make(path)
        assert caught.value.reason == "policy-syntax"
        assert caught.value.message.isprintable()


def test_the_reason_is_the_one_of_the_path():
    reasons = {"/a,b": "a comma", "/a\nb": "a newline", "/a ": "white space", "/a#": "number"}
    for path, reason in reasons.items():
        with pytest.raises(PolicyError, match="cannot name") as caught:
            starting_policy(path)
        assert reason in caught.value.hint
