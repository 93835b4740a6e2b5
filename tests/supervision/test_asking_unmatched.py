"""Calls that no rule matches, where the certificate lets an agent be asked about them.

What holds for the answer itself (who may give it, and in what form) is in test_asking.py; here it
is what is asked, what never is, and that what was asked about is what happens.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.execution.world import ALICE, BOB, TIMEOUT, policy
from tests.supervision.conftest import PRELUDE, PYTHON, Cage
from tests.supervision.test_asking import ALICES, People, logged, people, says

__all__ = ["people"]

ASK = ("--unmatched", "ask")
CERTEXEC = (sys.executable, "-m", "certexec.cli.main")
ECHO, TRUE = (os.path.realpath(f"/usr/bin/{name}") for name in ("echo", "true"))
READS = (
    'fsread: filename re "^" then permit',
    'fswrite: filename match "/dev/*" then permit',
    'connect: sockaddr re "^" then permit',
    'bind: sockaddr re "^" then permit',
)
HERE = "os.chdir(sys.argv[1])\n"
MAKE = HERE + "print(why(os.mkdir, 'yes'), why(os.mkdir, 'no'))"
ONE = HERE + "print(why(os.mkdir, 'yes'))"
GETPRIORITY = 140


def sign(
    cage: Cage, *options: str, rules: Sequence[str] = (), without: Sequence[str] = (),
    grant: bool = False, lines: str = "", more: str = "",
) -> str:  # fmt: skip
    """Sign a policy that says nothing of who writes outside /dev.

    ``lines`` stand before the header, ``more`` behind the rules.
    """
    text = lines + policy(PYTHON, *READS, *rules, without=without) + more
    name = "unmatched-" + hashlib.sha256(repr((text, options)).encode()).hexdigest()[:16]
    make = cage.world.install if grant else cage.world.sign
    path = f"/usr/local/bin/{name}" if grant else str(cage.world.bin / name)
    if not os.path.exists(cage.world.machine.path(path) if grant else path):
        make(name, PYTHON, *options, text=text)
    return path


def question(agent: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the event of the next question that an agent got."""
    assert agent.stdout is not None
    event: dict[str, Any] = json.loads(agent.stdout.readline())[0]
    return event


def answer(agent: subprocess.Popen[str], word: str) -> None:
    assert agent.stdin is not None
    agent.stdin.write(f"{word}\n")
    agent.stdin.flush()


def ends(running: subprocess.Popen[str]) -> str:
    out, err = running.communicate(timeout=TIMEOUT)
    assert (running.returncode, err) == (0, ""), (running.returncode, out, err)
    return out


def begins(cage: Cage, path: str, code: str, *argv: str, **more: Any) -> subprocess.Popen[str]:
    return cage.world.start(path, "-I", "-S", "-c", PRELUDE + code, *argv, **more)


# -- what is asked ---------------------------------------------------------------------------------


def test_what_no_rule_matches_is_asked_about_and_the_answer_is_about_exactly_that(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("by name")
    assert says(cage, sign(cage, *ASK), MAKE, str(place)) == "ok EPERM"
    assert (place / "yes").is_dir() and not (place / "no").exists()
    event = question(agent)
    assert event["arguments"] == {"filename": f"{place}/yes"}
    assert (event["syscall"], event["verdict"], event["reason"]) == ("mkdir", "ask", "unmatched")
    lines = logged(cage, "mkdir")
    assert any("yes" in line and "permit" in line for line in lines), lines
    assert any("no" in line and "deny" in line for line in lines), lines


def test_a_certificate_that_does_not_say_so_asks_nobody(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("permit")
    assert says(cage, sign(cage), MAKE, str(place)) == "EPERM EPERM"
    assert says(cage, sign(cage, "--unmatched", "deny"), MAKE, str(place)) == "EPERM EPERM"
    assert says(cage, sign(cage, *ASK), ONE, str(place)) == "ok"
    assert question(agent)["arguments"]["filename"] == f"{place}/yes"  # the first of all


def test_a_rule_that_denies_is_no_question_and_one_that_asks_is_its_own(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("permit")
    rules = (f'fswrite: filename eq "{place}/no" then deny[eacces]',
             f'fswrite: filename eq "{place}/yes" then ask')  # fmt: skip
    code = HERE + "print(*(why(os.mkdir, name) for name in ('no', 'yes', 'more')))"
    assert says(cage, sign(cage, *ASK, rules=rules), code, str(place)) == "EACCES ok ok"
    asked = [(question(agent)) for _ in range(2)]
    assert [one["reason"] for one in asked] == ["ask", "unmatched"]


def test_a_call_without_a_rule_is_asked_about_by_its_registers(
    cage: Cage, people: People
) -> None:
    agent = people.agent("lines")
    path = sign(cage, *ASK, without=("getpriority",))
    code = f"print(*(why(call, {GETPRIORITY}, 0, 0) for _ in range(3)))"
    running = begins(cage, path, code)
    for word in ("deny", "permit", "deny"):
        event = question(agent)
        assert (event["number"], event["reason"]) == (GETPRIORITY, "unmatched")
        assert "arguments" not in event and event["args"].startswith("00" * 16)
        answer(agent, word)
    first, second, third = ends(running).split()
    assert (first, third) == ("EPERM", "EPERM") and second.isdigit()


def test_rules_on_registers_leave_the_rest_to_the_agent(cage: Cage, people: People) -> None:
    agent = people.agent("lines")
    path = sign(cage, *ASK, rules=('socket: sockdom eq "AF_UNIX" then permit',))
    code = """
def one(domain):
    return why(lambda: socket.socket(domain, socket.SOCK_STREAM).close())
print(one(socket.AF_UNIX), one(socket.AF_INET), one(socket.AF_INET6))
"""
    running = begins(cage, path, code)
    for word in ("permit", "deny"):
        assert question(agent)["arguments"]["sockdom"].startswith("AF_INET")
        answer(agent, word)
    assert ends(running) == "ok ok EPERM\n"


def test_always_holds_for_what_was_asked_and_for_nothing_else(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("lines")
    code = HERE + """
for name in ("a", "a", "b"):
    print(why(os.mkdir, name), flush=True)
for number in (0, 0, os.getpid()):
    print(why(call, 140, 0, number) == "EPERM", flush=True)
"""
    running = begins(cage, sign(cage, *ASK, without=("getpriority",)), code, str(place))
    for word in ("always", "deny"):
        assert question(agent)["syscall"] == "mkdir"
        answer(agent, word)
    for word in ("always", "deny"):
        assert question(agent)["syscall"] == "getpriority"
        answer(agent, word)
    assert ends(running).split() == ["ok", "EEXIST", "EPERM", "False", "False", "True"]


def test_an_exec_is_asked_about_and_what_runs_stays_under_the_policy(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("lines")
    rules = ('execve: filename eq "/nothing" then permit',)
    code = f"""
print(why(os.execv, "{ECHO}", ["echo", "no"]), flush=True)
"""
    running = begins(cage, sign(cage, *ASK, rules=rules), code + f"""
os.execv("{PYTHON}", ["python3", "-I", "-S", "-c", '''
import os
try:
    os.mkdir("{place}/x")
except OSError as error:
    print(error.errno)
'''])
""")
    for word in ("deny", "permit", "deny"):
        event = question(agent)
        assert event["reason"] == "unmatched"
        answer(agent, word)
    assert event["arguments"] == {"filename": f"{place}/x"}
    assert ends(running) == "EPERM\n1\n"


@pytest.mark.parametrize("uid", [ALICE, 0])
def test_a_policy_that_says_nothing_is_answered_call_by_call(
    cage: Cage, people: People, uid: int
) -> None:
    agent = people.agent("permit", uid)
    text = f"Policy: {ECHO}, Emulation: native\n\tnative-exit: permit\n"
    path = cage.world.sign("says-nothing", ECHO, *ASK, text=text)
    done = cage.world.run(path, "all", "asked", uid=uid)
    assert (done.stdout, done.stderr, done.returncode) == ("all asked\n", "", 0)
    asked = [question(agent)]
    while asked[-1]["syscall"] != "write":
        asked.append(question(agent))
    calls = {one["syscall"] for one in asked}
    assert {"brk", "mmap", "openat", "write"} <= calls
    assert not calls & {"execve", "exit_group", "prctl", "setresuid", "sendmsg"}  # the launcher's
    assert all(one["program"] == ECHO and one["reason"] == "unmatched" for one in asked)


def test_run_asks_where_the_user_says_so_whatever_the_certificate_says(
    cage: Cage, people: People, place: Path
) -> None:
    people.agent("permit")
    silent, asking = sign(cage), sign(cage, *ASK)
    for path, given, expected in ((silent, "ask", "ok"), (asking, "deny", "EPERM")):
        done = cage.world.run(
            "/usr/bin/env", f"PYTHONPATH={cage.world.package}", *CERTEXEC,
            "run", "--unmatched", given, path, "--", "-I", "-S", "-c", PRELUDE + ONE, str(place),
        )
        assert (done.stdout, done.stderr) == (f"{expected}\n", "")
        done = cage.world.run(
            "/usr/bin/env", f"PYTHONPATH={cage.world.package}", *CERTEXEC,
            "run", "--explain", "--unmatched", given, path,
        )
        what = "an agent is asked" if given == "ask" else "denied"
        assert f"what no rule matches: {what}\n" in done.stdout
    assert (place / "yes").is_dir()


# -- what was asked about is what happens ----------------------------------------------------------


def test_neither_memory_nor_names_change_what_an_answer_is_about(
    cage: Cage, people: People, place: Path
) -> None:
    """While the question waits another thread writes over the name, and exchanges the link."""
    agent = people.agent("lines")
    for name in ("judged", "other"):
        (place / name).mkdir()
        (place / name / "file").write_text(name)
        (place / name / "file").chmod(0o666)
    os.symlink("judged", place / "link")
    os.lchown(place / "link", ALICE, ALICE)
    place.chmod(0o777)
    code = HERE + """
name = ctypes.create_string_buffer(b"link/file", 64)
got = []
def read():
    fd = libc.open(name, os.O_RDWR)
    got.append(os.read(fd, 9) if fd >= 0 else ctypes.get_errno())
import threading
thread = threading.Thread(target=read)
thread.start()
sys.stdin.readline()
name.value = b"other/file"
print("written", flush=True)
thread.join()
print(got)
"""
    running = begins(cage, sign(cage, *ASK), code, str(place))
    assert question(agent)["arguments"]["filename"] == f"{place}/judged/file"
    assert running.stdin is not None and running.stdout is not None
    running.stdin.write("go\n")
    running.stdin.flush()
    assert running.stdout.readline() == "written\n"
    os.unlink(place / "link")
    os.symlink("other", place / "link")
    answer(agent, "permit")
    assert ends(running) == "[b'judged']\n"


def test_of_an_exec_the_arguments_are_those_that_were_asked_about(
    cage: Cage, people: People
) -> None:
    agent = people.agent("lines")
    rules = ('execve: filename eq "/nothing" then permit',)
    code = f"""
word = ctypes.create_string_buffer(b"asked", 64)
argv = (ctypes.c_char_p * 3)(b"echo", ctypes.cast(word, ctypes.c_char_p), None)
pointers = ctypes.cast(argv, ctypes.POINTER(ctypes.c_void_p))
pointers[1] = ctypes.addressof(word)
import threading
def change():
    sys.stdin.readline()
    word.value = b"other"
    print("written", flush=True)
threading.Thread(target=change, daemon=True).start()
libc.execve(b"{ECHO}", argv, None)
"""
    running = begins(cage, sign(cage, *ASK, rules=rules), code)
    assert question(agent)["arguments"]["argv"] == "echo asked"
    assert running.stdin is not None and running.stdout is not None
    running.stdin.write("go\n")
    running.stdin.flush()
    assert running.stdout.readline() == "written\n"
    answer(agent, "permit")
    out, _ = running.communicate(timeout=TIMEOUT)
    assert (running.returncode, out) == (-9, "")


# -- what never is a question ----------------------------------------------------------------------


def only_the_last_was_asked_about(agent: subprocess.Popen[str], place: Path) -> bool:
    """Tell whether the agent was asked about the directory "yes" and nothing before that."""
    return bool(question(agent).get("arguments") == {"filename": f"{place}/yes"})


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        # the supervisor: by number, by a group's, by everybody's
        ("os.kill, supervisor(), 0", "EPERM"),
        ("os.kill, -1, 0", "EPERM"),
        ("call, 101, 16, supervisor(), 0, 0", "EPERM"),  # ptrace
        ("call, 434, supervisor(), 0", "EPERM"),  # pidfd_open
        ("call, 141, 2, 0, 5", "EPERM"),  # setpriority of all of the user's processes
        # what passes the filter unseen, or is carried out with what lies in memory by then
        ("call, 425, 8, 0", "EPERM"),  # io_uring_setup
        ("call, 155, b'.', b'.'", "EPERM"),  # pivot_root
        ("call, 428, -100, b'/', 0", "EPERM"),  # open_tree
        # calls that this version does not know
        ("call, 9999", "EPERM"),
        # certexec's own
        ("call, 435, 0, 0", "ENOSYS"),  # clone3
        ("call, 56, 0x800011, 0, 0, 0, 0", "EPERM"),  # clone, untraced
        ("call, 157, 4, 0, 0, 0, 0", "EPERM"),  # PR_SET_DUMPABLE
        ("call, 157, 0x43584543, 0, 0, 0, 0", "EBUSY"),  # a launcher's question
        ("call, 72, 0, 10, 9, 0, 0", "EPERM"),  # F_SETSIG of SIGKILL
        ("call, 446, 0, 0", "ENOTSUP"),  # landlock_restrict_self
    ],
)  # fmt: skip
def test_what_certexec_keeps_from_programs_is_denied_and_not_asked_about(
    cage: Cage, people: People, place: Path, code: str, expected: str
) -> None:
    agent = people.agent("permit")
    without = (
        "kill ptrace pidfd_open setpriority pivot_root open_tree clone3 clone prctl "
        "landlock_restrict_self"
    ).split()
    path = sign(cage, *ASK, without=without)
    code = HERE + f"""
supervisor()
print(why({code}), why(os.mkdir, 'yes'))
"""
    assert says(cage, path, code, str(place)) == f"{expected} ok"
    assert only_the_last_was_asked_about(agent, place)


def test_nor_is_a_signal_to_the_supervisor_of_which_rules_permit_others(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("permit")
    path = sign(cage, *ASK, rules=('kill: signame eq "SIGCHLD" then permit',))
    code = HERE + """
print(why(os.kill, supervisor(), 0), why(os.kill, os.getpid(), 0), why(os.mkdir, "yes"))
"""
    assert says(cage, path, code, str(place)) == "EPERM ok ok"
    event = question(agent)  # told whom it would reach, which no rule here asks for
    assert (event["syscall"], event["arguments"]["pidname"]) == ("kill", PYTHON)
    assert len(event["args"]) == 96
    assert only_the_last_was_asked_about(agent, place)


def test_the_agents_own_socket_is_nothing_that_an_agent_could_permit(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("permit")
    rules = ('connect: sockaddr eq "/nothing" then permit',)
    code = HERE + f"""
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
    print(why(client.connect, "{ALICES}/agent.sock"), why(os.mkdir, "yes"))
"""
    text = policy(PYTHON, *READS[:2], *rules)
    path = cage.world.sign("unmatched-socket", PYTHON, *ASK, text=text)
    assert says(cage, path, code, str(place)) == "EPERM ok"
    assert only_the_last_was_asked_about(agent, place)


def test_calls_of_an_abi_that_is_not_admitted_kill_and_are_no_question(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("permit")
    code = HERE + """
child = os.fork()
if child == 0:
    call(0x40000000 + 39)  # getpid of x32
    os._exit(0)
print(os.waitpid(child, 0)[1] & 127, why(os.mkdir, "yes"))
"""
    assert says(cage, sign(cage, *ASK), code, str(place)) == "31 ok"
    assert only_the_last_was_asked_about(agent, place)


def test_what_an_after_line_took_is_not_asked_about(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("permit")
    say = "write, close, futex, exit_group, sigaction, munmap, brk, mmap, lseek, fstat, madvise"
    path = sign(
        cage, *ASK, lines="Language: certexec 1\n", without=("getpriority", "getpid"),
        more=f"\tafter native-getpid: true then only {say}\n",
    )
    code = HERE + """
print(why(os.mkdir, "yes"), flush=True)
call(39)
print(why(os.mkdir, "more"), why(call, 140, 0, 0))
"""
    assert says(cage, path, code, str(place)) == "ok\nEPERM EPERM"
    assert only_the_last_was_asked_about(agent, place)
    assert question(agent)["syscall"] == "getpid"


def test_nor_is_what_only_memory_tells_from_what_remains(
    cage: Cage, people: People, place: Path
) -> None:
    """The flags of an openat2 tell whether it reads, which it still may, or writes."""
    agent = people.agent("permit")
    say = "write, close, exit_group, fsread, getpriority"
    path = sign(
        cage, *ASK, lines="Language: certexec 1\n", without=("getpid", "getpriority"),
        more=f"\tafter native-getpid: true then only {say}\n",
    )
    code = HERE + """
how = ctypes.create_string_buffer(struct.pack("=QQQ", os.O_WRONLY | os.O_CREAT, 0o600, 0))
def make(name):
    return why(lambda: os.close(call(437, -100, name, how, 24)))
print(make(b"yes"), flush=True)
call(39)
os.write(1, make(b"more").encode())
call(140, 0, 0)
os._exit(0)
"""
    assert says(cage, path, code, str(place)) == "ok\nEPERM"
    assert question(agent)["arguments"]["filename"] == f"{place}/yes"
    assert [question(agent)["syscall"] for _ in range(2)] == ["getpid", "getpriority"]


def test_a_program_without_a_policy_of_its_own_is_denied_and_not_asked_about(
    cage: Cage, people: People, place: Path
) -> None:
    """Without inherit: what the signed file says nothing of cannot be executed by an answer."""
    agent = people.agent("permit")
    rules = ('execve: filename eq "/nothing" then permit',)
    own = f"Policy: {ECHO}, Emulation: native\n" + policy(ECHO).partition("\n")[2]
    path = sign(cage, *ASK, "--no-inherit", rules=rules, more=own)
    code = HERE + f"""
print(why(os.execv, "{TRUE}", ["true"]), why(os.mkdir, "yes"), flush=True)
os.execv("{ECHO}", ["echo", "under its own"])
"""
    assert says(cage, path, code, str(place)) == "EPERM ok\nunder its own"
    assert only_the_last_was_asked_about(agent, place)
    assert question(agent)["arguments"]["filename"] == ECHO


def test_a_certificate_that_no_rule_names_is_denied_and_not_asked_about(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("permit")
    named, other = (
        cage.world.sign(f"{name}-inside", ECHO, "--name", name, text=policy(ECHO))
        for name in ("named", "other")
    )
    code = HERE + f"""
print(why(os.execv, "{other}", ["x"]), why(os.mkdir, "yes"), flush=True)
"""
    for rule in (f'execve: filename eq "{named}" then permit',
                 'execve: filename eq "/nothing" then permit'):  # fmt: skip
        path = sign(cage, *ASK, rules=(rule,))
        assert says(cage, path, code, str(place)) == "EPERM ok"
        assert only_the_last_was_asked_about(agent, place)
        (place / "yes").rmdir()


def test_of_certificates_inside_one_another_each_says_for_itself_whether_anybody_is_asked(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("permit")
    silent, asking = sign(cage), sign(cage, *ASK)
    below = (f'fswrite: filename match "{place}/*" then permit',)

    def inside(inner: str, outer: tuple[str, ...], *options: str) -> str:
        (place / "yes").mkdir(exist_ok=True)
        (place / "yes").rmdir()
        rule = f'execve: filename eq "{inner}" then permit'
        path = sign(cage, *options, rules=(*outer, rule))
        code = "os.execv(sys.argv[2], ['in', '-I', '-S', '-c', sys.argv[3], sys.argv[1]])"
        return says(cage, path, code, str(place), inner, PRELUDE + ONE)

    assert inside(asking, ()) == "EPERM"  # the outer one denies
    assert inside(silent, (), *ASK) == "EPERM"  # the inner one does
    assert inside(silent, below) == "EPERM"
    assert inside(asking, below) == "ok"
    assert inside(asking, (), *ASK) == "ok"
    assert [question(agent)["policy"] for _ in range(2)] == [PYTHON] * 2  # once for each


# -- who answers -----------------------------------------------------------------------------------


def test_without_an_agent_it_is_denied_at_once_and_the_log_says_why(
    cage: Cage, people: People, place: Path
) -> None:
    cage.world.logged()
    assert says(cage, sign(cage, *ASK), MAKE, str(place)) == "EPERM EPERM"
    assert any("deny user: alice" in line and "mkdir" in line for line in logged(cage, "mkdir"))


@pytest.mark.parametrize("mode", ["other id", "garbage", "end", "deny"])
def test_whatever_is_no_permission_denies(
    cage: Cage, people: People, place: Path, mode: str
) -> None:
    people.agent(mode)
    assert says(cage, sign(cage, *ASK), ONE, str(place)) == "EPERM"
    assert not (place / "yes").exists()


def test_kill_ends_the_program(cage: Cage, people: People, place: Path) -> None:
    people.agent("kill")
    done = cage.world.run(sign(cage, *ASK), "-I", "-S", "-c", PRELUDE + ONE, str(place))
    assert (done.returncode, done.stdout) == (-9, "")


def test_a_dead_agent_and_another_users_do_not_count_and_the_next_one_does(
    cage: Cage, people: People, place: Path
) -> None:
    people.agent(str(ALICE), BOB)  # and would permit
    path = sign(cage, *ASK)
    assert says(cage, path, ONE, str(place)) == "EPERM"
    first = people.agent("permit")
    with pytest.raises(AssertionError, match="exists"):
        people.agent("permit")
    first.kill()
    first.wait()
    assert says(cage, path, ONE, str(place)) == "EPERM"
    people.agent("permit")
    assert says(cage, path, ONE, str(place)) == "ok"


def test_with_a_grant_only_roots_agent_may_permit(
    cage: Cage, people: People, place: Path
) -> None:
    """The invoker must not permit himself what the signer left open."""
    people.agent("permit")
    path = sign(cage, *ASK, "--add-group", "netadmin", "--allow-everyone", grant=True)
    assert says(cage, path, ONE, str(place)) == "EPERM"
    people.agent("permit", 0)
    assert says(cage, path, ONE, str(place)) == "ok"
