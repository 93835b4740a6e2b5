"""certexec monitor: events as they come, and a command for those that were denied."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certexec.cli.monitor_app import save
from certexec.errors import CliError
from certexec.observe import alarm as alarm_module
from certexec.observe.alarm import Alarm
from certexec.observe.json_lines import render
from certexec.observe.reading import read_line
from tests.observe.sample import HOSTILE, event

PROJECT = Path(__file__).resolve().parents[2]
TELL = """#!/bin/sh
{ echo "$#:$*"; env | grep -E '^(CERTEXEC_|PATH|HOME|LD_)' | sort; } >> "$(dirname "$0")/told"
"""


def start(*arguments: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "certexec.cli.main", "monitor", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT, **more,
    )


def monitor(*arguments: str, lines: str = "") -> subprocess.CompletedProcess:
    process = start(*arguments, stdin=subprocess.PIPE)
    out, err = process.communicate(lines, timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def log(*pids: int, **changes: object) -> str:
    return "".join(render(event(pid=pid, **changes)) + "\n" for pid in pids)


@pytest.fixture
def tell(tmp_path: Path) -> Path:
    path = tmp_path / "tell"
    path.write_text(TELL)
    path.chmod(0o755)
    return path


def test_a_stream_is_shown_to_its_end_and_selected() -> None:
    done = monitor("--file", "-", "--json", "--user", "bob", lines=log(1) + log(2, user="bob"))
    assert done.returncode == 0 and done.stderr == ""
    assert [json.loads(line)["pid"] for line in done.stdout.splitlines()] == [2]


def test_a_file_is_followed_from_now_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(log(1))
    process = start("--file", str(path), "-n", "2")
    while "log" not in " ".join(
        os.readlink(f"/proc/{process.pid}/fd/{fd}")
        for fd in os.listdir(f"/proc/{process.pid}/fd")
    ).replace(str(PROJECT), ""):
        assert process.poll() is None
        time.sleep(0.05)
    with path.open("a") as file:
        file.write(log(2))
        file.flush()
        assert process.stdout is not None and "[2]" in process.stdout.readline()
        file.write(log(3))
    out, err = process.communicate(timeout=60)
    assert "[3]" in out and not err and process.returncode == 0


def test_an_interrupt_ends_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    process = start("--file", "-", stdin=reader)
    os.write(writer, log(1).encode())
    assert process.stdout is not None and "[1]" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    os.close(reader)
    os.close(writer)


def test_a_command_gets_its_arguments_and_the_event_in_its_environment(tell: Path) -> None:
    lines = log(1, program=HOSTILE, arguments=[("filename", HOSTILE)]) + log(2, verdict="permit")
    done = monitor("--file", "-", "--exec", str(tell), "--", "--channel", "a b; $(x)", lines=lines)
    assert done.returncode == 0, done.stderr
    told = (tell.parent / "told").read_text().splitlines()
    assert told[0] == "2:--channel a b; $(x)" and sum(line.startswith("2:") for line in told) == 1
    variables = dict(line.split("=", 1) for line in told[1:])
    assert all(value.isprintable() for value in variables.values())
    assert variables["CERTEXEC_VERDICT"] == "deny" and variables["CERTEXEC_PID"] == "1"
    assert variables["CERTEXEC_ARG_FILENAME"].startswith("/tmp/a\\nPRIORITY=0")
    assert json.loads(variables["CERTEXEC_JSON"])["arguments"]["filename"].startswith("/tmp/a\nPRI")
    assert variables["PATH"] == alarm_module.PATH and "HOME" not in variables


def test_a_member_that_nobody_knows_becomes_no_variable(tell: Path) -> None:
    line = json.dumps({"event": "call", "verdict": "deny", "debug": "1", "x=y": "z",
                       "arguments": {"a=b\nPATH": "/tmp"}}) + "\n"  # fmt: skip
    monitor("--file", "-", "--exec", str(tell), lines=line)
    told = (tell.parent / "told").read_text()
    assert "CERTEXEC_DEBUG" not in told and "x=y" not in told.replace('"x=y"', "")
    assert f"PATH={alarm_module.PATH}\n" in told and "CERTEXEC_ARG_A_B_PATH=/tmp\n" in told


def test_a_flood_does_not_start_more_than_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarm = Alarm(["/bin/sleep", "60"])
    seen = read_line(log(1))
    assert seen is not None
    rung = [alarm.ring(seen, "{}") for _ in range(alarm_module.AT_A_TIME + 3)]
    assert rung.count(True) == alarm_module.AT_A_TIME and alarm.missed == 3
    for one in alarm._running:
        one.kill()
    alarm.finish(5)
    assert alarm.ring(seen, "{}")
    alarm._running[-1].kill()
    alarm.finish(5)


def test_a_command_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    done = monitor("--file", "-", "--exec", str(broken), lines=log(1, 2))
    assert "was not started for 2 events: No such file" in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--exec", "rm -rf /"), "is not a program that can be started"),
     (("--exec", "./no/such"), "is not a program that can be started"),
     (("--", "x"), "arguments are for the command of --exec"),
     (("--file", "/no/such/log"), "cannot read"),
     (("--verdict", "maybe"), "invalid value"),
     (("--app", "--json"), "--json is for lines"),
     (("--app", "-n", "1"), "--count is for lines"),
     (("--browser", "--json"), "--json is for lines"),
     (("--policy", "x"), "--policy is for the app"),
     (("--port", "80"), "--port is for --browser"),
     (("--browser", "--file", "-"), "a browser cannot show standard input"),
     (("--app", "--file", "-"), "the app needs a terminal")],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(arguments: tuple[str, ...], words: str) -> None:
    done = monitor(*arguments, lines="")
    assert done.returncode == 2 and words in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_without_textual_there_are_lines_and_the_app_says_what_is_missing() -> None:
    code = (
        "import sys; sys.modules['textual'] = sys.modules['rich'] = None\n"
        "import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'textual' else find(name, *more)\n"
        "from certexec.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )

    def run(*options: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", code, "monitor", "--file", "-", *options],
            input=log(1), capture_output=True, text=True, cwd=PROJECT, check=False,
        )  # fmt: skip

    assert "[1]" in run().stdout
    done = run("--app")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == [
        "certexec: error: Textual is not installed, which shows the app",
        "certexec: hint: pip install 'certexec[tui]'",
    ]


def test_what_the_app_writes_is_private_whole_and_replaces_nothing_unasked(tmp_path: Path) -> None:
    seen = read_line(log(1))
    assert seen is not None
    path = tmp_path / "written"
    assert "1 event; certexec policy review --log" in save([seen], str(path), False)
    assert path.read_text() == log(1) and path.stat().st_mode & 0o777 == 0o600
    path.write_text("mine")
    with pytest.raises(CliError) as refused:
        save([seen], str(path), False)
    assert refused.value.reason == "exists" and path.read_text() == "mine"
    save([seen, seen], str(path), True)
    assert path.read_text() == log(1, 1)
    for odd in (tmp_path, Path("/dev/null"), tmp_path / "none" / "x"):
        with pytest.raises(CliError) as refused:
            save([seen], str(odd), True)
        assert refused.value.reason != "exists"
    assert [one.name for one in tmp_path.iterdir()] == ["written"]


def test_a_command_for_the_app_says_nothing_on_its_screen(tmp_path: Path) -> None:
    loud = tmp_path / "loud"
    loud.write_text('#!/bin/sh\necho loud; echo loud >&2; : > "$(dirname "$0")/rung"\n')
    loud.chmod(0o755)
    code = (
        "import sys; from certexec.observe.alarm import Alarm\n"
        "from certexec.observe.reading import Seen\n"
        "alarm = Alarm([sys.argv[1]], quiet=True); alarm.ring(Seen({}), '{}'); alarm.finish(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(loud)], capture_output=True, text=True, cwd=PROJECT
    )
    assert (done.stdout, done.stderr) == ("", "") and (tmp_path / "rung").exists()
