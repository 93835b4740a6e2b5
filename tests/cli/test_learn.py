"""certexec learn as people call it."""

from __future__ import annotations

import json
import os

import pytest

from certexec.cli.learn_notes import denied_in
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.guards import PERMITTED
from certexec.policy.learned_paths import WHY
from certexec.policy.watch import Watched
from tests.observe.sample import event as sample
from tests.observe.test_reading import FORMS

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


def test_who_names_an_owner_of_signals_gets_a_rule_for_each_command(script: Script) -> None:
    """A rule without one would not permit that; of all others the name is enough."""
    def learned(more: str) -> list[str]:
        script.write("code", f"import fcntl, os; fcntl.fcntl(0, fcntl.F_GETFL){more}")
        script("certexec learn -f -o learned -- /usr/bin/python3 -I -S code")
        lines = script.path("learned").read_text().splitlines()
        return [line.partition("native-fcntl: ")[2] for line in lines if "-fcntl" in line]

    assert learned("") == ["permit"]
    rules = learned("; fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())")
    assert {f'cmd eq "{name}" then permit' for name in ("F_GETFL", "F_SETOWN")} <= set(rules)
    assert "permit" not in rules


def test_a_signal_for_who_has_just_ended_makes_the_rule_for_one_that_lives_too(
    script: Script,
) -> None:
    """Which of the two it meets is chance: the next run may be faster, or slower."""
    script.write(
        "code", "import os, signal\nif not (child := os.fork()):\n"
        "    os.chdir('/')\n    os._exit(0)\n"
        "os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)\nos.kill(child, signal.SIGTERM)\n",
    )  # fmt: skip
    script("certexec learn -f -o learned -- /usr/bin/python3 -I -S code")
    lines = script.path("learned").read_text().splitlines()
    rules = {line.partition("native-kill: ")[2] for line in lines if "native-kill" in line}
    program = os.path.realpath("/usr/bin/python3")
    assert rules == {f'pidname eq "{one}" then permit' for one in (program, "<unknown>")}


def test_who_forks_is_taken_to_wait_and_who_starts_threads_is_not(script: Script) -> None:
    """The wait itself is not handed over: it would be interrupted by the end that it waits for."""
    def learned(code: str) -> list[str]:
        script.write("code", code)
        script("certexec learn -f -o learned --generalize none -- /usr/bin/python3 -I -S code")
        lines = script.path("learned").read_text().splitlines()
        return [line for line in lines if "-wait4" in line]

    assert learned("import os\nif os.fork(): os.wait()") == ["\tnative-wait4: permit"]
    assert learned("import _thread; _thread.start_new_thread(print, ())") == []
    (clause,) = Watched(None).of(NUMBERS["wait4"])
    assert not clause.tests and clause.decision is PERMITTED


def test_who_makes_itself_unreadable_hears_that_this_may_fail(script: Script) -> None:
    for value, sign in ((1, "!"), (0, "")):
        script.write("code", f"import ctypes; ctypes.CDLL(None).prctl(4, {value})")
        script(f"""
            certexec learn -f -o learned -- /usr/bin/python3 -I -S code
            {sign} stderr 'PR_SET_DUMPABLE'
        """)


def test_a_process_that_names_files_by_its_number_has_another_next_time(script: Script) -> None:
    """Who only looks for one, and finds none, says by no mark that the name is new."""
    script.write(
        "code", "import os\nfor n in (os.getpid(), 7654321): os.path.exists(f'/srv/x.{n}')"
    )
    script("certexec learn -f -o learned -- /usr/bin/python3 -I -S code")
    lines = script.path("learned").read_text().splitlines()
    assert [line.partition(": ")[2] for line in lines if "/srv/x" in line] == [
        'filename eq "/srv/x.7654321" then permit', 'filename match "/srv/x.[0-9]*" then permit',
    ]  # fmt: skip


def test_a_certificate_is_not_watched_but_its_program(script: Script) -> None:
    script.write("id.policy", "Policy: /usr/bin/id, Emulation: native\n\tnative-exit: permit\n")
    script(
        """
        certexec keygen --no-passphrase -f ops
        certexec sign -k ops.key -p id.policy --allow-everyone -o id.cert /usr/bin/id
        ? certexec learn -o new -- ./id.cert
        stderr 'id.cert" is a certificate'
        stderr 'hint: watch its program: "-- /usr/bin/id"'
        ! exists new
        """
    )
    # nor what only begins as one
    whole = script.path("id.cert").read_bytes()
    script.path("broken").write_bytes(whole[:100])
    script.path("broken").chmod(0o755)
    script("? certexec learn -- ./broken\nstderr 'is a certificate'")


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


def test_a_log_may_hold_what_others_wrote_and_events_of_every_form(script: Script) -> None:
    """As /var/log/audit/audit.log does, and files to which several machines log."""
    record = sample(reason="unmatched", program="/bin/x", policy="/bin/x", syscall="mkdir",
                   number=83, arguments=[("filename", "/srv/audit")])  # fmt: skip
    lines = [
        "type=SYSCALL msg=audit(1.0:1): arch=c000003e syscall=2 success=no",
        FORMS["audit"](record),
        json.dumps(EVENT), '{"event": "call", "verdict": "deny", "reason": "unmatched"}',
        "Nov 22 10:00:00 host sshd[7]: Accepted publickey",
        FORMS["syslog"](record),
    ]
    script.write("log", "".join(one + "\n" for one in lines))
    script(
        """
        certexec learn --from-log log --generalize none
        stdout 'native-fsread: filename eq "/srv/file" then permit'
        stdout 'native-fswrite: filename eq "/srv/audit" then permit'
        stderr '"log": 1 denied call left out: the log does not say why'
        """
    )
    script.write("silent", lines[0] + "\n" + lines[-1] + "\n")
    script("? certexec learn --from-log silent\nstderr 'line 2 does not say why the call was den'")


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


def test_what_the_32_bit_abi_did_is_not_taken_for_the_other_s(script: Script) -> None:
    old = {**EVENT, "emulation": "linux", "number": 295}
    script.write("log", "".join(json.dumps(one) + "\n" for one in (EVENT, old, old)))
    script(
        """
        certexec learn --from-log log --generalize none
        stdout 'native-fsread: filename eq "/srv/file" then permit'
        stderr '2 calls of the 32-bit ABI left out'
        """
    )
    trace = (
        '7 execve("/bin/x", ["x"], 0x7 /* 1 var */) = 0\n'
        '7 fork() = 8\n'
        'strace: [ Process PID=7 runs in 32 bit mode. ]\n'
        '7 mkdir("/srv/narrow", 0700) = 0\n'
        '7 fork() = 9\n'
        '9 mkdir("/srv/narrow2", 0700) = 0\n'
        '8 mkdir("/srv/wide", 0700) = 0\n'
        'strace: [ Process PID=7 runs in 64 bit mode. ]\n'
        '7 mkdir("/srv/wide2", 0700) = 0\n'
    )
    script.write("trace", trace)
    script(
        """
        certexec learn --from-strace trace --generalize none
        stdout '/srv/wide"'
        stdout '/srv/wide2"'
        ! stdout 'narrow'
        stderr '3 calls of the 32-bit ABI left out'
        """
    )
    script.write("alone", "\n".join(line[2:] if line[1] == " " else line
                                   for line in trace.splitlines()[:4]) + "\n")
    script("certexec learn --from-strace alone\n! stdout 'narrow'\nstderr '1 call of the 32-bit'")


def test_a_trace_makes_no_rule_without_what_the_rule_has_to_say(script: Script) -> None:
    script.write(
        "trace",
        '7 execve("/bin/x", ["x"], 0x7 /* 1 var */) = 0\n'
        "7 setuid(1000) = 0\n7 socket(AF_NETLINK, SOCK_RAW, 0) = 3\n"
        "7 connect(3, 0x7ffd1000, 16) = 0\n7 openat(AT_FDCWD, 0x7ffd1000, O_RDONLY) = 3\n"
        '7 rename("/a", "/b"...) = -1 ENAMETOOLONG (File name too long)\n'
        "7 kill(4711, SIGTERM) = 0\n7 mlock2(0x7f, 1, 0) = 0\n",
    )
    script(
        """
        certexec learn --from-strace trace --generalize none
        stdout 'native-setuid: uid eq "1000" then permit'
        stdout 'sockdom eq "AF_UNKNOWN.16." and socktype eq "SOCK_RAW" then permit'
        stdout 'native-mlock2: permit'
        ! stdout 'connect|open|rename|kill|fsread'
        stderr '"trace": 4 calls .connect, openat, rename, kill. do not say what they were about'
        """
    )
    script.write("unsaid", '7 execve("/bin/x", ["x"], 0x7) = 0\n7 kill(4711, SIGTERM) = 0\n')
    script(
        """
        ? certexec learn -o new --from-strace unsaid
        stderr '1 call .kill. does not say what it was about'
        stderr 'nothing was learned'
        ! exists new
        """
    )


def test_a_32_bit_program_is_refused_before_it_runs(script: Script) -> None:
    script.write("narrow", "\x7fELF\x01 and more\n")
    script.path("narrow").chmod(0o755)
    script(
        """
        ! certexec learn -o new -- ./narrow
        stderr 'is a 32-bit program, which cannot be watched'
        stderr 'Emulation: linux'
        ! exists new
        certexec learn -o new -- /bin/sh -c './narrow 2>/dev/null; true'
        stderr 'narrow" is a 32-bit program, which cannot be watched and ends'
        exists new
        """
    )


def test_a_log_without_a_call_makes_no_policy_and_replaces_none(script: Script) -> None:
    script.write("empty", "")
    script.write("site.policy", "Policy: /bin/x, Emulation: native\n\tnative-read: permit\n")
    before = script.path("site.policy").read_bytes()
    script(
        """
        ? certexec learn --from-log empty
        stderr 'nothing was learned'
        ! stdout .
        ? certexec learn -f -o site.policy --from-log empty
        certexec learn -a -o site.policy --from-log empty
        stdout '0 new rules'
        ? certexec learn -a -o new.policy --from-log empty
        stderr 'nothing was learned'
        ! stdout .
        ! exists new.policy
        """
    )
    assert b"native-read: permit" in before and b"native-read: permit" in (
        script.path("site.policy").read_bytes()
    )


REGISTERS = "9cffffff00000000d39a709ffe7f00004109000000000000b601" + "00" * 22
"""As the supervisor writes them down where no rule asks for a name: AT_FDCWD, a pointer, flags."""


def of_registers(call: str, number: int, **members: object) -> dict[str, object]:
    shown = {**EVENT, "syscall": call, "number": number, "args": REGISTERS, **members}
    del shown["arguments"]
    return shown


def test_a_call_of_which_a_log_does_not_say_what_it_was_about_makes_no_rule(
    script: Script
) -> None:
    """Such a rule would have no condition: who was denied one file would get every file."""
    unsaid = [
        *[of_registers(*one) for one in (
            ("openat", 257), ("execve", 59), ("connect", 42), ("symlink", 88), ("kill", 62),
        )],
        of_registers("openat", 257, count=3),
    ]  # fmt: skip
    said = [of_registers("getpgid", 121), of_registers("pause", 34), EVENT]
    script.write("log", "".join(json.dumps(one) + "\n" for one in (*unsaid, *said)))
    script("certexec learn -o new.policy --generalize none --from-log log")
    rules = [
        line.strip() for line in script.path("new.policy").read_text().splitlines()
        if line.startswith("\t")
    ]
    assert sorted(rules) == [
        'native-fsread: filename eq "/srv/file" then permit', "native-getpgid: permit",
        "native-pause: permit",
    ]
    script(
        """
        certexec learn -a -o new.policy --inherit --from-log log
        stdout '0 new rules'
        stderr '"log": 8 calls .openat, execve, connect, symlink, kill. do not say what they were'
        stderr 'hint: watch the program, "certexec learn -a -o POLICY -- PROG"'
        stderr 'run --permissive" or "--unmatched ask'
        """
    )
    script.write("one", json.dumps(unsaid[0]) + "\n")
    script(
        """
        ? certexec learn --from-log one
        stderr '1 call .openat. does not say what it was about and was left out'
        stderr 'nothing was learned'
        ! stdout .
        """
    )


def test_the_same_holds_for_a_review_and_for_arguments_that_are_not_whole(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kill that was judged by its signal alone does not say whom it was for."""
    signal = {**EVENT, "syscall": "kill", "number": 62, "arguments": {"signame": "SIGTERM"}}
    flags = {**EVENT, "arguments": {"oflags": "ro"}}
    lines = [of_registers("openat", 257), of_registers("connect", 42), signal, flags]
    script.write("log", "".join(json.dumps(one) + "\n" for one in lines))
    script.write("x.policy", "Policy: /bin/x, Emulation: native\n\tnative-read: permit\n")
    assert denied_in(str(script.path("log"))) == {}
    told = capsys.readouterr().err
    assert "4 calls (openat, connect, kill) do not say what they were about and were left" in told
    script("certexec learn -a -o x.policy --from-log log\nstdout '0 new rules'")


def test_a_name_that_a_log_shows_is_the_name_of_the_rule(script: Script) -> None:
    """Beside arguments there are no registers: what none in them would mean is not taken for so."""
    told = [
        {**EVENT, "syscall": "utimensat", "number": 280, "arguments": {"filename": "/srv/t"}},
        {**EVENT, "syscall": "sendto", "number": 44, "arguments": {"sockaddr": "/srv/s"}},
    ]
    script.write("log", "".join(json.dumps(one) + "\n" for one in told))
    script(
        """
        certexec learn --generalize none --from-log log
        stdout 'native-utimes: filename eq "/srv/t" then permit'
        stdout 'native-sendto: sockaddr eq "/srv/s" then permit'
        """
    )
