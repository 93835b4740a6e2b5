"""What strace wrote, read as calls."""

import shutil
import subprocess
import sys

from certexec.observe.event_log import PassedOver, read_events
from certexec.observe.json_lines import render
from certexec.observe.strace_log import read_strace
from tests.isolation import skip_or_fail
from tests.observe.sample import event as sample_event


def read(*lines: str):
    return list(read_strace(["1 execve(\"/bin/x\", [\"x\"], 0x7f /* 9 vars */) = 0", *lines], "/w"))


def test_names_flags_and_results_are_understood():
    (one,) = read('1 openat(AT_FDCWD, "a\\"b/../c", O_WRONLY|O_CREAT|O_EXCL, 0666) = 3')
    assert (one.program, one.call, one.texts) == ("/bin/x", "openat", {"filename": ["/w/c"]})
    assert one.registers[2] == 0o301
    (one,) = read('1 access("/none/x", F_OK) = -1 ENOENT (No such file or directory)')
    assert one.missing
    (one,) = read('1 unlinkat(5</d>, "x", 0) = 0')
    assert one.texts == {"filename": ["/d/x"]}
    (one,) = read('1 rename("a", "/b") = 0')
    assert one.texts == {"filename": ["/w/a", "/b"]}
    (one,) = read('1 symlink("where/ever", "link") = 0')
    assert one.texts == {"filename": ["/w/link"]}


def test_addresses_read_as_in_rules():
    (one,) = read(
        '1 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.1")}, 16)'
        " = 0"
    )
    assert one.texts == {"sockaddr": ["inet-[10.0.0.1]:53"]}
    (one,) = read('1 connect(3, {sa_family=AF_UNIX, sun_path="/dev/log"}, 110) = -1 ENOENT (No)')
    assert one.texts == {"sockaddr": ["/dev/log"]} and one.missing
    (one,) = read("1 socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 3")
    assert one.texts == {"sockdom": ["AF_INET"], "socktype": ["SOCK_STREAM"]}


def test_children_and_what_they_execute_are_followed():
    seen = read(
        "1 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = 2",
        '2 chdir("/d") = 0',
        '1 openat(AT_FDCWD, "a", O_RDONLY <unfinished ...>',
        '2 execve("/bin/y", ["y"], 0x7) = 0',
        "1 <... openat resumed>) = 3",
        '2 stat("b", {st_mode=S_IFREG}) = 0',
        "2 +++ exited with 0 +++", "1 --- SIGCHLD {si_signo=SIGCHLD} ---", "rubbish",
    )
    assert [(one.program, one.call, (one.texts or {}).get("filename")) for one in seen] == [
        ("/bin/x", "clone", None), ("/bin/x", "chdir", ["/d"]), ("/bin/x", "execve", ["/bin/y"]),
        ("/bin/x", "openat", ["/w/a"]), ("/bin/y", "stat", ["/d/b"]),
    ]  # fmt: skip


def test_a_real_trace_is_understood(tmp_path):
    if shutil.which("strace") is None:
        skip_or_fail("strace is not installed")
    log = tmp_path / "log"
    code = "import os; os.mkdir('new'); open('new/f', 'w').close()"
    subprocess.run(
        ["strace", "-f", "-y", "-o", log, sys.executable, "-I", "-S", "-c", code],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    found = {(one.call, *(one.texts or {}).get("filename", [])): one
             for one in read_strace(log.open(), str(tmp_path))}  # fmt: skip
    assert found["mkdir", f"{tmp_path}/new"].made
    assert found["openat", f"{tmp_path}/new/f"].registers[2] & 0o103 == 0o101


def test_our_own_events_are_read_again():
    event = sample_event()
    event.verdict, event.reason = "deny", "unmatched"
    (one,) = read_events([render(event) + "\n", "\n"])
    assert (one.program, one.call) == (event.program, event.syscall)
    assert one.texts == {name: [text] for name, text in event.arguments}
    assert (one.policy, one.times, one.foreign) == (event.policy, 1, False)
    event.reason = "rule"
    assert list(read_events([render(event)])) == []
    passed = PassedOver()
    assert list(read_events(["\n", "{}"], passed)) == []
    assert (passed.events, passed.why) == (0, "line 2 is no event of certexec")
