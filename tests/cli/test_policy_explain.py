"""certexec policy explain: layers for people and for programs."""

import json
import os

import pytest

from certexec.cli.policy_explain import decision_text, registers_text
from certexec.kernel.bpf import HIGH
from certexec.kernel.landlock import abi
from certexec.policy import guards
from certexec.policy.guards import KILLED, PERMITTED, Decision, deny
from tests.cli.conftest import Script
from tests.isolation import needs

POLICY = """\
Policy: /bin/x, Emulation: native
\tnative-read: permit
\tnative-fork: permit
\tnative-fsread: filename match "/usr" then permit
\tnative-pledge: permit
\tnative-stat: filename eq "/x" then deny[enoent]
\tnative-execve: permit
\tnative-prctl: permit
"""
REFUSED = POLICY + "\tnative-write: permit-now\n"


@pytest.fixture
def policies(script: Script) -> Script:
    script.write("x.policy", POLICY)
    script.write("refused.policy", REFUSED)
    script.write("plain.policy", "Policy: /bin/x, Emulation: native\n\tnative-read: permit\n")
    script.write("netbsd.policy", "Policy: /bin/x, Emulation: netbsd\n\tnetbsd-read: permit\n")
    script.write("two.policy", POLICY + "Policy: /bin/y, Emulation: linux64\ndetached\n")
    script.write("bad.policy", "native-read: permit\n")
    script.write("none.policy", "# nothing\n")
    return script


LANDLOCKED = """\
Language: certexec 1
Policy: /bin/x, Emulation: native
\tlandlock
\tnative-fsread: filename match "/usr" then permit
\tnative-fswrite: filename match "/tmp" then permit
\tnative-stat: permit
\tnative-lstat: permit
\tnative-access: permit
\tnative-readlink: permit
"""


@needs(abi() >= 3, "needs Landlock that governs truncation (Linux 6.2)")
def test_what_is_left_to_landlock_is_told_and_why_not_more(script: Script) -> None:
    script.write("x.policy", LANDLOCKED)
    script.write("execs.policy", LANDLOCKED + "\tnative-execve: permit\n")
    script(
        r"""
        certexec policy explain x.policy
        stdout '^not left to Landlock: writes: "/tmp" may be written to, but not read$'
        stdout '^ +4  native-fsread: .*\n +landlock: open, openat$'
        stdout '^ +5  native-fswrite: .*\n +supervised: open, '
        certexec policy explain x.policy openat
        stdout "read .*: landlock, permitted where the program's Landlock domain grants it"
        stdout 'arg2 .oflags. & 0x200000 = 0x200000: judged by the rules .a name is looked up'
        certexec policy explain --log full x.policy
        stdout '^not left to Landlock: it writes no log line, and every denial is to have one$'
        ! stdout 'landlock: '
        certexec policy explain --setuid x.policy
        stdout '^not left to Landlock: the supervisor opens every file where an identity'
        certexec policy explain --no-inherit execs.policy
        stdout '^not left to Landlock: executed programs come under'
        certexec policy explain --json x.policy
        """
    )
    shown = json.loads(script.stdout)["policies"][0]
    assert shown["landlock"]["accepted"]
    assert list(shown["rules"][0]["layers"]) == ["landlock", "supervised"]


def test_every_rule_has_its_layers(policies: Script) -> None:
    policies(
        """
        certexec policy explain x.policy
        stdout '^/bin/x \\(native\\): 7 rules\\nenforced with a supervisor; [0-9]+ filter instr'
        stdout '^ +2  native-read: permit\\n +constant: read$'
        stdout '^ +3  native-fork: permit\\n +constant: fork\\n +compare: clone$'
        stdout '^ +4  native-fsread: .*\\n +supervised: .*\\bopenat\\b'
        stdout '^ +5  native-pledge: permit\\n +inactive: '
        stdout '^what no rule speaks of: denied with EPERM$'
        stdout "^certexec's own in front of the rules: .*prctl"
        ! stderr .
        certexec policy explain plain.policy
        stdout 'by the kernel alone'
        """
    )


def test_what_is_refused_gives_1_and_the_reason(policies: Script) -> None:
    policies(
        """
        ! certexec policy explain refused.policy
        stdout '^ +9  native-write: permit-now\\n +refused: an answer for one call only'
        ! certexec policy explain netbsd.policy
        stdout 'refused: the emulation "netbsd"'
        ! certexec policy explain two.policy
        stdout '^/bin/y \\(linux64\\): 0 rules\\nrefused: a detached policy'
        certexec policy explain two.policy --program /bin/x
        ! certexec policy explain refused.policy read
        """
    )


def test_one_call_is_told_with_its_variants_rules_and_guards(policies: Script) -> None:
    policies(
        """
        certexec policy explain x.policy newfstatat
        stdout '^newfstatat \\(262\\)$'
        stdout '^ +6  native-stat: .*\\n +4  native-fsread: .*\\n +what none of these permits: '
        stdout '^  nofollow.*\\n +4  native-fsread'
        certexec policy explain x.policy clone
        stdout "^  certexec's own, in front of every rule:\\n    arg0 & 0x800000 = 0x800000: denied"
        stdout '^  fork \\(arg0 & 0x[0-9a-f]+ = 0x0\\): compare, permitted$'
        stdout '^  other: compare, denied with EPERM$'
        certexec policy explain x.policy getpid
        stdout '^  every use: constant, denied with EPERM\\n +no rule speaks of it$'
        certexec policy explain x.policy exit_group
        stdout 'every program can end'
        certexec policy explain x.policy sigaction
        stdout '^rt_sigaction \\(13\\)$'
        certexec policy explain x.policy native-fsread
        stdout '^openat \\(257\\)$'
        """
    )


def test_the_options_are_those_of_signing(policies: Script) -> None:
    policies(
        """
        certexec policy explain x.policy execve
        stdout '^  every use: constant, permitted$'
        certexec policy explain x.policy --setuid execve
        stdout 'supervised, permitted; the supervisor watches that no right grows$'
        certexec policy explain x.policy --log full getpid
        stdout 'supervised, denied with EPERM, no rule speaks of it; the supervisor writes'
        certexec policy explain plain.policy --log full
        stdout 'with a supervisor'
        """
    )


def test_a_tree_with_several_policies_is_told_as_one(policies: Script) -> None:
    policies.write(
        "several.policy",
        "Policy: /bin/x, Emulation: native\n\tnative-write: permit\n\tnative-execve: permit\n"
        "Policy: /bin/y, Emulation: native\n\tnative-write: deny\n",
    )
    policies(
        """
        certexec policy explain several.policy
        ! stdout 'other policy'
        certexec policy explain several.policy --no-inherit --program /bin/x
        stdout 'with 1 other policy;'
        stdout '^ +2  native-write: permit\\n +supervised: write$'
        certexec policy explain several.policy --no-inherit --program /bin/x write
        stdout '^  the policies that the tree can get to differ: .*; by this one:\\n  every use: '
        certexec policy explain several.policy --program /bin/x write
        ! stdout 'differ'
        """
    )


def test_what_cannot_be_explained_gives_2(policies: Script) -> None:
    policies(
        """
        ? certexec policy explain bad.policy
        stderr 'bad.policy\\(1:1\\): a rule before the first header'
        ? certexec policy explain none.policy
        stderr 'holds no policy'
        ? certexec policy explain missing.policy
        ? certexec policy explain x.policy opennat
        stderr 'did you mean "openat"'
        ? certexec policy explain two.policy read
        stderr 'choose with "--program PATH"'
        ? certexec policy explain x.policy --log none
        """
    )


def test_json_of_a_file(policies: Script) -> None:
    assert policies.certexec("policy", "explain", "--json", "refused.policy") == 1
    shown = json.loads(policies.stdout)
    assert (shown["schema"], shown["ok"], shown["file"]) == (1, False, "refused.policy")
    assert shown["options"] == {
        "setuid": False, "log": "audit", "inherit": True, "emulation": None, "unmatched": "deny",
    }
    [policy] = shown["policies"]
    assert (policy["program"], policy["supervisor"], policy["refused"]) == ("/bin/x", True, None)
    assert policy["unmatched"]["error"] == "EPERM"
    assert policy["instructions"] > 0
    rules = {rule["line"]: rule for rule in policy["rules"]}
    assert sorted(rules) == list(range(2, 10))
    assert rules[2] == {
        "line": 2, "name": "native-read", "text": "permit", "layers": {"constant": ["read"]},
        "refused": None,
    }
    assert rules[9]["refused"]
    assert rules[9]["layers"] == {"refused": ["write"]}
    assert {"prctl", "clone"} <= {use["call"] for use in policy["guards"]}
    assert all(use["use"] and use["decision"]["text"] for use in policy["guards"])


def test_json_of_a_call(policies: Script) -> None:
    assert policies.certexec("policy", "explain", "--json", "x.policy", "clone") == 0
    shown = json.loads(policies.stdout)
    assert (shown["syscall"], shown["program"], shown["refused"]) == ("clone", "/bin/x", None)
    [call] = shown["calls"]
    assert (call["call"], call["number"], call["note"]) == ("clone", 56, None)
    guard, *others = call["guards"]
    assert [one["decision"]["why"] for one in others] == ["move", "move"]
    assert guard["tests"] == [
        {"argument": 0, "word": "low", "mask": 0x800000, "value": 0x800000}
    ]
    fork = call["variants"][0]
    assert (fork["variant"], fork["names"]) == ("fork", ["clone", "fork"])
    assert [rule["line"] for rule in fork["rules"]] == [3]
    assert [use["layer"] for use in fork["uses"]] == ["compare"]
    assert fork["uses"][0]["decision"]["kind"] == "permit"
    assert policies.certexec("policy", "explain", "--json", "bad.policy") == 2
    assert json.loads(policies.stdout)["error"]["line"] == 1


def test_decisions_are_told_in_words() -> None:
    assert decision_text(PERMITTED) == "permitted"
    assert decision_text(KILLED) == "the process is killed"
    assert decision_text(deny(13)) == "denied with EACCES"
    assert decision_text(Decision("notify", 0, "log", log=True)).startswith("permitted; ")
    assert decision_text(Decision("notify", 0, "rules", log=True)).endswith(", and logged")
    assert decision_text(Decision("notify", 0, "something-new")) == "something-new"


@pytest.mark.parametrize(
    ("call", "tests", "text"),
    [
        ("openat", guards.tests_of(2, 0x241, 0), "arg2 (oflags) & 0x241 = 0x0"),
        ("sendto", guards.tests_of(4, 0xFFFFFFFFFFFFFFFF, 0), "arg4 (sockaddr) = 0x0"),
        ("prctl", [guards.Test(0, 4), guards.Test(1, 0)], "arg0 = 0x4 and arg1 = 0x0"),
        ("read", [guards.Test(1, 2, 3, HIGH)], "arg1 & 0x300000000 = 0x200000000"),
        ("read", [], ""),
    ],
)
def test_tests_of_registers_are_told_in_words(call, tests, text) -> None:
    assert registers_text(call, tests) == text


def test_it_names_the_certificates_that_rules_reach(signed: Script) -> None:
    name = os.path.realpath(signed.path("hello.cert"))
    signed.write("outer.policy", (
        "Policy: /bin/x, Emulation: native\n\tnative-read: permit\n"
        f'\tnative-execve: filename eq "{name}" then permit\n'
    ))  # fmt: skip
    signed("certexec policy explain outer.policy")
    told = f'reaches the certificate "{name}": "{os.path.realpath(signed.path("hello"))}" may do'
    assert told in signed.stdout
    assert "with a supervisor, with 1 other policy" in signed.stdout
    signed("certexec policy explain --json outer.policy")
    (policy,) = json.loads(signed.stdout)["policies"]
    program = os.path.realpath(signed.path("hello"))
    assert policy["certificates"] == [{"path": name, "program": program, "refused": None}]
    # what it calls by its launcher is the supervisor's to let pass
    signed("certexec policy explain outer.policy umask")
    assert "the supervisor asks the caller's" in signed.stdout
    signed("certexec sign -f -k ops.key -p hello.policy --setuid root --allow-everyone hello")
    signed("certexec policy explain outer.policy")
    assert "executing it is refused" in signed.stdout and "grants an identity" in signed.stdout


# -- the 32-bit ABI ----

TWO_ABIS = """\
Language: certexec 1
Policy: /bin/x, Emulation: native
\tnative-read: permit
Policy: /bin/x, Emulation: linux
\tlinux-fsread: filename match "/usr" then permit
\tlinux-socket: sockdom eq "AF_UNIX" then permit
\tlinux-oldstat: permit
"""


def test_what_becomes_of_a_call_by_the_32_bit_abi_is_told(script: Script) -> None:
    script.write("x.policy", TWO_ABIS)
    script(
        r"""
        certexec policy explain --emulation linux x.policy
        stdout '/bin/x \(native\): 1 rule'
        stdout 'calls of the 32-bit ABI are admitted, under the rules from line 4 on'
        stdout 'calls of the 32-bit ABI are admitted, under these rules'
        certexec policy explain --emulation linux x.policy openat
        stdout 'by the 32-bit ABI, openat \(295\):\n    arg2 & 0x400243 = 0x0: judged by the rules'
        certexec policy explain --emulation linux x.policy socket
        stdout 'socketcall \(102\):\n    arg0 = 0x1: the supervisor decides, on a copy'
        stdout 'socket \(359\):\n    arg0 = 0x1: permitted\n    every use: denied with EPERM'
        certexec policy explain --emulation linux x.policy lstat
        stdout 'oldlstat \(84\):\n    every use: denied with EPERM and logged'
        certexec policy explain x.policy read
        ! stdout 32-bit
        """
    )


def test_programs_are_told_of_the_32_bit_calls_too(script: Script) -> None:
    script.write("x.policy", TWO_ABIS)
    script("certexec policy explain --json --emulation linux x.policy socket")
    told = json.loads(script.stdout)
    assert told["emulation"] == told["options"]["emulation"] == "linux"
    foreign = told["calls"][0]["foreign"]
    assert [one["number"] for one in foreign] == [102, 359]
    assert foreign[1]["uses"][0]["tests"] == [
        {"argument": 0, "word": "low", "mask": 0xFFFFFFFF, "value": 1}
    ]


def test_a_file_without_a_part_for_it_explains_nothing_of_that_abi(script: Script) -> None:
    script.write("x.policy", "Policy: /bin/x, Emulation: native\n\tnative-read: permit\n")
    script(
        """
        ? certexec policy explain --emulation linux x.policy read
        stderr 'there is no part for emulation "linux"'
        """
    )


def test_other_verbs_tell_the_two_parts_apart(script: Script) -> None:
    script.write("x.policy", TWO_ABIS)
    script.write("y.policy", TWO_ABIS.replace("linux-oldstat", "linux-chdir"))
    script.write("z.policy", TWO_ABIS.replace("native-read", "native-write"))
    script(
        r"""
        ! certexec policy diff --semantic x.policy y.policy
        stdout '^/bin/x: 0 system calls widened, 0 system calls narrowed'
        stdout '/bin/x \(linux\): 1 system call widened'
        ! certexec policy diff --semantic --program /bin/x x.policy z.policy
        stdout '^/bin/x: 1 system call widened, 1 system call narrowed'
        stdout '/bin/x \(linux\): 0 system calls widened'
        certexec policy score x.policy
        stderr 'the part for emulation "linux" is not counted'
        certexec policy score --emulation linux x.policy
        ? certexec policy merge x.policy y.policy
        stderr 'has a part for the 32-bit ABI beside another'
        """
    )


def test_where_an_agent_is_asked_it_says_so_of_each_call_and_names_what_is_denied_unasked(
    policies: Script,
) -> None:
    policies(
        r"""
        certexec policy explain x.policy --unmatched ask
        stdout '^what no rule matches: an agent is asked; without one it is denied$'
        stdout '^denied unasked where no rule permits them: pivot_root, io_uring_setup, '
        ! stdout 'what no rule speaks of'
        certexec policy explain plain.policy getpid --unmatched ask
        stdout '^  every use: supervised, an agent is asked; without one it is denied$'
        stdout '^         no rule speaks of it: an agent is asked$'
        certexec policy explain plain.policy mkdir --unmatched ask
        stdout '^  every use: supervised, judged by the rules$'
        stdout '^         no rule speaks of it: an agent is asked$'
        certexec policy explain x.policy mkdir
        ! stdout agent
        certexec policy explain x.policy openat --unmatched ask
        stdout '^         what none of these decides: an agent is asked$'
        certexec policy explain plain.policy pivot_root --unmatched ask
        stdout '^  every use: supervised, denied with EPERM, no rule speaks of it; '
        ! stdout agent
        certexec policy explain plain.policy read --unmatched ask
        ! stdout agent
        certexec policy explain plain.policy exit --unmatched ask
        ! stdout agent
        """
    )
    arguments = ("policy", "explain", "--json", "--unmatched", "ask", "plain.policy")
    assert policies.certexec(*arguments) == 0
    shown = json.loads(policies.stdout)
    assert shown["options"]["unmatched"] == "ask"
    assert shown["policies"][0]["unmatched"]["why"] == "ask-unmatched"
    assert policies.certexec(*arguments, "mkdir") == 0
    assert [one["asked"] for one in json.loads(policies.stdout)["calls"][0]["variants"]] == [True]


def test_landlock_asks_nobody(policies: Script) -> None:
    text = 'Language: certexec 1\nPolicy: /bin/x, Emulation: native\n\tlandlock\n' \
        '\tnative-fsread: filename match "/usr" then permit\n'
    policies.write("locked.policy", text)
    policies(
        """
        certexec policy explain locked.policy --unmatched ask
        stdout 'not left to Landlock: reads: an agent is asked about what no rule matches'
        """
    )
