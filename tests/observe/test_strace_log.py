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
    assert one.texts is None and one.registers[:2] == (2, 0o2000001)
    (one,) = read(
        "1 sendmsg(3, {msg_name={sa_family=AF_INET, sin_port=htons(9), "
        'sin_addr=inet_addr("127.0.0.1")}, msg_namelen=16, msg_iov=[{iov_base="msg_name={", '
        "iov_len=1}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, 0) = 1"
    )
    assert one.texts == {"sockaddr": ["inet-[127.0.0.1]:9"]}
    (one,) = read("1 sendmsg(3, {msg_name=NULL, msg_namelen=0, msg_iov=[]}, 0) = 1")
    assert one.texts == {"sockaddr": ["<unknown>"]}
    (one,) = read(
        '1 sendmmsg(3, [{msg_hdr={msg_name={sa_family=AF_UNIX, sun_path="/a}, {b"}, msg_namelen=9, '
        "msg_iov=[]}, msg_len=1}, {msg_hdr={msg_name=NULL, msg_namelen=0}}], 2, 0) = 2"
    )
    assert one.texts == {"sockaddr": ["/a}, {b", "<unknown>"]}
    for odd in ("[{...}]", "[{}]", "[{msg_hdr=0x7f}]", "[{msg_hdr={}}]"):
        (one,) = read(f"1 sendmmsg(3, {odd}, 2, 0) = 2")
        assert one.texts == {"sockaddr": []}


def test_what_registers_say_is_left_to_them_and_only_where_all_of_it_is_understood():
    for line, place, value in (
        ("setuid(1000) = 0", 0, 1000), ("setresuid(-1, 0, -1) = 0", 1, 0),
        ("socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) = 3", 0, 16),
        ("tgkill(7, 8, SIGUSR1) = 0", 2, 10), ("kill(0, SIGTERM) = 0", 1, 15),
    ):
        (one,) = read("1 " + line)
        assert one.texts is None and one.registers[place] == value
    for line in ("tgkill(7, 8, SIGRT_40) = 0", "socket(AF_STRANGE, SOCK_RAW, 0) = 3"):
        (one,) = read("1 " + line)
        assert one.texts == {}


def test_a_signal_is_for_what_the_log_knows_of_the_process():
    seen = read("1 fork() = 2", '2 execve("/bin/y", ["y"], 0x7) = 0', "1 kill(2, SIGTERM) = 0",
                "1 kill(99, SIGTERM) = 0")  # fmt: skip
    assert [one.texts for one in seen[-2:]] == [{"pidname": ["/bin/y"]}, {}]


def test_one_of_two_names_that_cannot_be_read_leaves_none():
    (one,) = read('1 rename("/a", 0x7ffd) = -1 EFAULT (Bad address)')
    assert one.texts == {}
    (one,) = read('1 rename("/a", "/b"...) = -1 ENAMETOOLONG (File name too long)')
    assert one.texts == {}


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
