"""Rules that say ask: nothing but the right answer, of the right agent, in time, permits."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from certexec.run.asking import WAITING_MAX
from tests.execution.world import ALICE, BOB, SUPERVISED, TIMEOUT, policy
from tests.supervision.conftest import PRELUDE, PYTHON, Cage, wait_for

ALICES = f"/run/user/{ALICE}/certexec"
ROOTS = "/run/certexec"

AGENT = """
import json, os, sys, time
from certexec.run.agent import Agent
from certexec.run import agent_protocol as protocol
from certexec.errors import CertexecError
mode = sys.argv[1]
try:
    agent = Agent(*sys.argv[2:3])
except CertexecError as error:
    print(error.reason, flush=True)
    sys.exit(1)
if mode.isdigit():  # listen to somebody else, and permit it
    agent.uid, mode = int(mode), "permit"
print("ready", flush=True)
while True:
    question = agent.wait()
    if mode in protocol.ANSWERS:
        question.answer(mode)
    print(json.dumps([question.event, question.asker_uid, question.milliseconds]), flush=True)
    if mode == "by name":
        name = str(question.event["arguments"])
        question.answer("permit" if "yes" in name else "deny")
    if mode == "withdrawn":
        while not question.is_withdrawn():
            time.sleep(0.01)
        print("withdrawn", flush=True)
    if mode == "lines":
        question.answer(sys.stdin.readline().strip())
    if mode == "other id":
        question._connection.send(protocol.answer(question._number + 1, "permit"))
    if mode == "garbage":
        question._connection.send(b"permit")
    if mode == "long":
        question._connection.send(protocol.answer(question._number, "permit") + bytes(4096))
    if mode == "end":
        os._exit(0)
"""
"""An agent of a process of its own. It says "ready", and each question that it gets."""


class People:
    """Runs agents in the machine."""

    def __init__(self, cage: Cage) -> None:
        self.cage = cage
        self.started: list[subprocess.Popen[str]] = []

    def agent(self, mode: str, uid: int = ALICE, directory: str = "") -> subprocess.Popen[str]:
        world = self.cage.world
        command = world.machine.command(
            sys.executable, "-c", AGENT, mode, *([directory] if directory else []), uid=uid
        )
        started = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PYTHONPATH": str(world.package), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert started.stdout is not None
        line = started.stdout.readline().strip()
        self.started.append(started)
        assert line == "ready", line
        return started

    def stop(self) -> None:
        for one in self.started:
            one.kill()
            one.communicate()


@pytest.fixture
def people(cage: Cage) -> Iterator[People]:
    """The machine with a /run of its own, where Alice and Bob have a directory each."""
    script = f"""
mount -t tmpfs -o mode=755 none /run && mkdir -m 755 /run/user {ROOTS}
for uid in {ALICE} {BOB}; do
    mkdir -m 700 /run/user/$uid && chown $uid:$uid /run/user/$uid
done"""
    done = cage.world.machine.run("sh", "-c", script)
    assert done.returncode == 0, done.stderr
    people = People(cage)
    yield people
    people.stop()
    cage.world.machine.run("umount", "-l", "/run")


def rules(place: Path, more: str = "") -> tuple[str, ...]:
    """Ask about four names; on the alias, where nothing else can be looked at after it."""
    return (f'fswrite: filename re "^{place}/(yes|no|a|b)$" then ask{more}', *SUPERVISED)


def sign(cage: Cage, given: Sequence[str], *options: str, grant: bool = False) -> str:
    name = "ask-" + hashlib.sha256(repr((given, options)).encode()).hexdigest()[:16]
    make = cage.world.install if grant else cage.world.sign
    path = f"/usr/local/bin/{name}" if grant else str(cage.world.bin / name)
    if not os.path.exists(cage.world.machine.path(path) if grant else path):
        make(name, PYTHON, *options, text=policy(PYTHON, *given))
    return path


def says(cage: Cage, path: str, code: str, *argv: str, **more: Any) -> str:
    done = cage.world.run(path, "-I", "-S", "-c", PRELUDE + code, *argv, **more)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout.strip()


def logged(cage: Cage, word: str) -> list[str]:
    """Return the log's lines about mkdir, once there is one with this word."""
    lines: list[str] = []
    wait_for(lambda: lines.extend(cage.world.logged()) or any(word in one for one in lines))
    return lines


MAKE = "os.chdir(sys.argv[1])\nprint(why(os.mkdir, 'yes'), why(os.mkdir, 'no'))"


def test_the_agents_word_decides_on_exactly_what_was_asked(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("by name")
    path = sign(cage, rules(place))
    assert says(cage, path, MAKE, str(place)) == "ok EPERM"
    assert (place / "yes").is_dir() and not (place / "no").exists()
    assert agent.stdout is not None
    import json

    event, uid, milliseconds = json.loads(agent.stdout.readline())
    assert event["arguments"] == {"filename": f"{place}/yes"}
    assert (event["syscall"], event["verdict"], event["user"]) == ("mkdir", "ask", "alice")
    assert uid == ALICE and 0 < milliseconds <= 30_000


def test_without_an_agent_it_is_denied_at_once_and_logged(
    cage: Cage, people: People, place: Path
) -> None:
    path = sign(cage, rules(place))
    cage.world.logged()
    assert says(cage, path, MAKE, str(place)) == "EPERM EPERM"
    assert any("deny user: alice" in line and "mkdir" in line for line in logged(cage, "mkdir"))


@pytest.mark.parametrize("mode", ["other id", "garbage", "long", "end", "deny"])
def test_whatever_is_no_permission_denies(
    cage: Cage, people: People, place: Path, mode: str
) -> None:
    people.agent(mode)
    path = sign(cage, rules(place))
    code = "os.chdir(sys.argv[1])\nprint(why(os.mkdir, 'yes'))"
    assert says(cage, path, code, str(place)) == "EPERM"
    assert not (place / "yes").exists()


def test_always_holds_for_the_same_thing_in_this_run_and_for_nothing_else(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("lines")
    path = sign(cage, rules(place))
    code = """
os.chdir(sys.argv[1])
def make(name):
    print(why(os.mkdir, name), flush=True)
make("a"); make("a"); make("b")
"""
    running = cage.world.start(path, "-I", "-S", "-c", PRELUDE + code, str(place))
    assert agent.stdin is not None and agent.stdout is not None
    for name, word in (("a", "always"), ("b", "deny")):
        assert f'{place}/{name}"' in agent.stdout.readline()
        agent.stdin.write(f"{word}\n")
        agent.stdin.flush()
    out, err = running.communicate(timeout=TIMEOUT)
    assert (out, err) == ("ok\nEEXIST\nEPERM\n", "")
    again = cage.world.start(path, "-I", "-S", "-c", PRELUDE + code, str(place))
    assert f'{place}/a"' in agent.stdout.readline()  # the next run asks again
    again.kill()
    again.communicate()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("getpgid: true then ask", """
def one(group):
    print(why(call, 121, group, 0, 0, 0, 0, 0) in (0, "EPERM") or "got", flush=True)
one(0); one(0); one(os.getpid())
"""),
        ("", f"""
def one(uid):
    os.setresuid(uid, uid, 0)
    print("got" if why(os.mkdir, "a") in ("ok", "EEXIST") else True, flush=True)
os.chdir(sys.argv[1])
one(0); one(0); one({BOB})
"""),
    ],
    ids=["registers", "ids"],
)  # fmt: skip
def test_always_holds_for_the_same_registers_and_ids_only(
    cage: Cage, people: People, place: Path, asked: str, code: str
) -> None:
    agent = people.agent("lines", 0)
    place.chmod(0o777)
    path = sign(cage, (asked, *SUPERVISED) if asked else rules(place))
    running = cage.world.start(path, "-I", "-S", "-c", PRELUDE + code, str(place), uid=0)
    assert agent.stdin is not None and agent.stdout is not None
    for word in ("always", "deny"):
        assert select.select([agent.stdout], [], [], 10)[0], "nobody was asked"
        agent.stdout.readline()
        agent.stdin.write(f"{word}\n")
        agent.stdin.flush()
    out, err = running.communicate(timeout=TIMEOUT)
    assert (out, err) == ("got\ngot\nTrue\n", "")


def test_kill_ends_the_program(cage: Cage, people: People, place: Path) -> None:
    people.agent("kill")
    path = sign(cage, rules(place))
    done = cage.world.run(path, "-I", "-S", "-c", PRELUDE + MAKE, str(place))
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
    assert not (place / "yes").exists()


def test_other_calls_go_on_while_a_question_waits_and_the_answer_comes_late(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("lines")
    path = sign(cage, rules(place))
    code = """
import threading
os.chdir(sys.argv[1])
got = []
thread = threading.Thread(target=lambda: got.append(why(os.mkdir, "a")))
thread.start()
sys.stdin.readline()
for number in range(50):
    open(f"file{number}", "w").close()
print(len(os.listdir(".")), got, flush=True)
thread.join()
print(got)
"""
    running = cage.world.start(path, "-I", "-S", "-c", PRELUDE + code, str(place))
    assert agent.stdin is not None and agent.stdout is not None
    assert running.stdin is not None and running.stdout is not None
    agent.stdout.readline()
    running.stdin.write("go\n")
    running.stdin.flush()
    assert running.stdout.readline() == "50 []\n"
    agent.stdin.write("permit\n")
    agent.stdin.flush()
    out, err = running.communicate(timeout=TIMEOUT)
    assert (out, err) == ("['ok']\n", "")


def test_a_signal_interrupts_and_a_death_withdraws(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("withdrawn")
    path = sign(cage, rules(place))
    code = """
os.chdir(sys.argv[1])
def stop(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, stop)
signal.siginterrupt(signal.SIGALRM, True)
print("asks", flush=True)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    os.mkdir("a")
except TimeoutError:
    print("interrupted", flush=True)
os.mkdir("b")
"""
    running = cage.world.start(path, "-I", "-S", "-c", PRELUDE + code, str(place))
    assert agent.stdout is not None and running.stdout is not None
    assert running.stdout.readline() == "asks\n"
    assert f'{place}/a"' in agent.stdout.readline()
    assert agent.stdout.readline() == "withdrawn\n"
    assert running.stdout.readline() == "interrupted\n"
    assert f'{place}/b"' in agent.stdout.readline()
    running.kill()
    assert agent.stdout.readline() == "withdrawn\n"
    running.communicate()
    assert os.listdir(place) == []


def test_a_call_whose_arguments_no_rule_sees_is_asked_about_and_left_to_the_kernel(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("lines")
    path = sign(cage, ("getppid: true then ask", "kill: true then ask", *SUPERVISED))
    code = """
print(os.getppid() == int(sys.argv[1]), flush=True)
print(why(call, 110), flush=True)
print(why(os.kill, os.getpid(), 0), why(os.kill, supervisor(), 0), flush=True)
"""
    running = cage.world.start(
        path, "-I", "-S", "-c", PRELUDE + code, str(os.getpid())
    )
    assert agent.stdin is not None and agent.stdout is not None
    for number, word in ((110, "permit"), (110, "deny"), (62, "permit")):
        said = agent.stdout.readline()
        assert f'"number": {number}' in said and '"args": "' in said
        agent.stdin.write(f"{word}\n")
        agent.stdin.flush()
    out, err = running.communicate(timeout=TIMEOUT)
    # the supervisor stays out of reach: nobody is asked about that
    assert (out, err) == ("True\nEPERM\nok EPERM\n", "")


def test_an_exec_is_asked_about_and_is_the_one_that_was(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("by name")
    path = sign(cage, ('execve: filename match "/usr/bin/*" then ask', *SUPERVISED))
    for word, expected in (("yes", "yes\n"), ("no", "EPERM\n")):
        code = f'print(why(os.execv, "/usr/bin/echo", ["echo", "{word}"]), flush=True)'
        done = cage.world.run(path, "-I", "-S", "-c", PRELUDE + code)
        assert done.stdout == expected, done
    assert agent.stdout is not None
    assert '"argv": "echo yes"' in agent.stdout.readline()


def test_both_names_of_an_exchange_are_asked_about(
    cage: Cage, people: People, place: Path
) -> None:
    agent = people.agent("lines")
    names = ("renameat2", "renameat", "rename")  # what permits by the next name is not asked about
    asks = (f'{name}: filename match "{place}/*" then ask' for name in names)
    path = sign(cage, (*asks, *SUPERVISED))
    code = """
os.chdir(sys.argv[1])
os.mkdir("x"); open("y", "w").close()
libc.renameat2(-100, b"x", -100, b"y", 2)
print(os.path.isdir("y"))
"""
    for words, done in ((("permit", "permit"), True), (("permit", "deny"), False)):
        running = cage.world.start(path, "-I", "-S", "-c", PRELUDE + code, str(place))
        assert agent.stdin is not None and agent.stdout is not None
        for word in words:
            agent.stdout.readline()
            agent.stdin.write(f"{word}\n")
            agent.stdin.flush()
        out, err = running.communicate(timeout=TIMEOUT)
        assert (out, err) == (f"{done}\n", "")
        for name in ("x", "y"):
            one = place / name
            one.rmdir() if one.is_dir() else one.unlink()


def test_more_questions_than_a_tree_may_have_are_denied_at_once(
    cage: Cage, people: People, place: Path
) -> None:
    people.agent("silent")
    path = sign(cage, rules(place))
    code = f"""
import threading
os.chdir(sys.argv[1])
got = []
for _ in range({WAITING_MAX} + 2):
    threading.Thread(target=lambda: got.append(why(os.mkdir, "a")), daemon=True).start()
while len(got) < 2:
    time.sleep(0.01)
time.sleep(0.3)
print(got, flush=True)
os._exit(0)
"""
    assert says(cage, path, code, str(place)) == "['EPERM', 'EPERM']"


# -- who may answer --------------------------------------------------------------------------------


def test_nobody_elses_agent_counts_wherever_it_listens(
    cage: Cage, people: People, place: Path
) -> None:
    """Bob's socket, in Alice's own place: put there by root, it is still Bob who answers."""
    bobs = people.agent(str(ALICE), BOB)
    path = sign(cage, rules(place))
    code = "os.chdir(sys.argv[1])\nprint(why(os.mkdir, 'yes'))"
    assert says(cage, path, code, str(place)) == "EPERM"
    script = f"mkdir -m 700 {ALICES} && chown {ALICE}:{ALICE} {ALICES} && " \
        f"mv /run/user/{BOB}/certexec/agent.sock {ALICES}/ && chmod 666 {ALICES}/agent.sock"
    assert cage.world.machine.run("sh", "-c", script).returncode == 0
    assert says(cage, path, code, str(place)) == "EPERM"
    assert bobs.poll() is None


def test_a_place_where_others_can_write_has_no_agent(
    cage: Cage, people: People, place: Path
) -> None:
    people.agent("permit")
    path = sign(cage, rules(place))
    code = "os.chdir(sys.argv[1])\nprint(why(os.mkdir, sys.argv[2]))"
    assert says(cage, path, code, str(place), "yes") == "ok"
    os.chmod(cage.world.machine.path(f"/run/user/{ALICE}"), 0o770)
    assert says(cage, path, code, str(place), "no") == "EPERM"


def test_roots_agent_answers_where_the_invoker_has_none(
    cage: Cage, people: People, place: Path
) -> None:
    people.agent("permit", 0)
    path = sign(cage, rules(place))
    code = "os.chdir(sys.argv[1])\nprint(why(os.mkdir, 'yes'))"
    assert says(cage, path, code, str(place)) == "EPERM"  # a socket of mode 0600
    os.chmod(cage.world.machine.path(f"{ROOTS}/agent.sock"), 0o666)
    assert says(cage, path, code, str(place)) == "EPERM"  # and root's listens to root's
    place.chmod(0o777)
    assert says(cage, path, code, str(place), uid=0) == "ok"


def test_for_a_grant_only_roots_agent_counts(cage: Cage, people: People, place: Path) -> None:
    people.agent("permit")
    given = rules(place)
    path = sign(cage, given, "--add-group", "netadmin", "--allow-everyone", grant=True)
    code = "os.chdir(sys.argv[1])\nprint(why(os.mkdir, 'yes'))"
    assert says(cage, path, code, str(place)) == "EPERM"
    people.agent("permit", 0)
    assert says(cage, path, code, str(place)) == "ok"


def test_asked_as_root_it_is_done_as_root(cage: Cage, people: People, place: Path) -> None:
    agent = people.agent("permit", 0)
    path = sign(cage, rules(place, " as root"), "--elevate", "root", "--allow-everyone", grant=True)
    code = "os.chdir(sys.argv[1])\nprint(why(os.mkdir, 'yes'))"
    assert says(cage, path, code, str(place)) == "ok"
    assert (place / "yes").stat().st_uid == 0
    assert agent.stdout is not None
    assert '"as": "root"' in agent.stdout.readline()


IMPOSTOR = """
sys.path.insert(0, sys.argv[2])
from certexec.run import agent_protocol as protocol
def listener(path):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    result = why(server.bind, path)
    if result == "ok":
        server.listen()
    return server, result
def serve(server):
    try:
        one, _ = server.accept()
        one.recv(9999); one.send(protocol.accept())
        one.recv(99999); one.send(protocol.answer(1, "permit"))
        one.recv(1)
    except OSError:
        pass  # nobody wanted its answer
"""
END = """
sys.stdout.flush()
os._exit(0)  # Python ends badly with a thread that is at work
"""


def test_the_program_cannot_be_its_own_agent(cage: Cage, people: People, place: Path) -> None:
    path = sign(cage, (*rules(place), 'rename: filename re "^" then permit'))
    code = IMPOSTOR + f"""
import threading
os.makedirs("{ALICES}")
print(listener("{ALICES}/agent.sock")[1])
server, result = listener("/run/user/{ALICE}/another")
os.rename("/run/user/{ALICE}/another", "{ALICES}/agent.sock")
def answer():
    threading.Thread(target=serve, args=(server,), daemon=True).start()
child = os.fork()
if child == 0:
    answer()
    time.sleep(60)
answer()
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
    print(result, why(client.connect, "{ALICES}/agent.sock"))
print(why(os.mkdir, sys.argv[1] + "/yes"))
os.kill(child, 9)
os.waitpid(child, 0)
""" + END
    assert says(cage, path, code, str(place), str(cage.world.package)) == "EPERM\nok EPERM\nEPERM"


def test_a_socket_of_an_agent_that_the_program_got_hold_of_is_not_enough(
    cage: Cage, people: People, place: Path
) -> None:
    """An agent may leak its descriptors to what it starts: who sends is looked at, too."""
    path = sign(cage, rules(place))
    code = IMPOSTOR + """
import threading
server = socket.socket(fileno=int(sys.argv[3]))
threading.Thread(target=serve, args=(server,), daemon=True).start()
print(why(os.mkdir, sys.argv[1] + "/yes"))
""" + END
    before = f"""
os.makedirs("{ALICES}", 0o700)
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.bind("{ALICES}/agent.sock")
server.listen()
os.dup2(server.fileno(), 50)
if os.fork():
    os.wait()
    os._exit(0)
"""
    said = says(cage, path, code, str(place), str(cage.world.package), "50", before=before)
    assert said == "EPERM"


def test_two_agents_cannot_be_at_one_place_and_a_dead_one_gives_it_free(
    cage: Cage, people: People, place: Path
) -> None:
    first = people.agent("deny")
    with pytest.raises(AssertionError, match="exists"):
        people.agent("permit")
    first.kill()
    first.wait()
    people.agent("permit")
    path = sign(cage, rules(place))
    assert says(cage, path, MAKE, str(place)) == "ok ok"


def test_a_silent_agent_denies_when_the_time_is_over(
    cage: Cage, people: People, place: Path
) -> None:
    """With the time limit of the installed copy: half a minute, once, for both kinds."""
    people.agent("silent")
    begin = time.monotonic()
    code = "os.chdir(sys.argv[1])\nprint(why(os.mkdir, 'yes'))"
    unmatched = str(cage.world.bin / "ask-unmatched")
    text = policy(PYTHON, SUPERVISED[0], "fswrite: filename match \"/dev\" then permit")
    cage.world.sign("ask-unmatched", PYTHON, "--unmatched", "ask", text=text)
    both = [
        cage.world.start(path, "-I", "-S", "-c", PRELUDE + code, str(place))
        for path in (sign(cage, rules(place)), unmatched)
    ]
    assert [one.communicate(timeout=TIMEOUT) for one in both] == [("EPERM\n", "")] * 2
    assert time.monotonic() - begin >= 29 and not (place / "yes").exists()
