"""firejail profiles as policies: what they permit, what they lose, and that they never gain."""

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.policy.firejail import from_firejail
from certexec.policy.import_kind import APPARMOR, FIREJAIL, SYSTRACE, kind_of
from certexec.policy.question import ask
from tests.policy.common import ALICE
from tests.policy.imported import opens, permits, policy_and_notes

INCLUDES = {"more.inc": "blacklist ${HOME}/.more\n"}


def made(text: str, real=lambda path: None):
    imported = from_firejail(
        text, name="p", program="/usr/bin/x", real=real,
        look_up=lambda name: [(name, INCLUDES[name])] if name in INCLUDES else None,
    )
    return policy_and_notes(imported)


@pytest.mark.parametrize(
    ("text", "path", "flags", "permitted"),
    [
        ("", "/usr/share/x", "ro", True),
        ("", "/usr/share/x", "wo", False),
        ("", "/home/alice/x", "rwc", True),
        ("", "/home/bob/x", "ro", False),
        ("", "/proc/17/mem", "ro", False),
        ("", "/boot/x", "ro", False),
        ("", "/etc/x", "wo", False),
        ("blacklist ${HOME}/.ssh", "/home/alice/.ssh/id", "ro", False),
        ("blacklist ~/.ssh", "/home/alice/.ssh/id", "ro", False),
        ("blacklist ${HOME}/.*_history", "/home/alice/.sh_history", "ro", False),
        ("noblacklist ${HOME}/.ssh\nblacklist ${HOME}/.ssh", "/home/alice/.ssh/id", "ro", True),
        ("blacklist ${HOME}/.ssh\nnoblacklist ${HOME}/.ssh", "/home/alice/.ssh/id", "ro", False),
        ("noblacklist ${HOME}/.a\nblacklist ${HOME}/.*", "/home/alice/.a/x", "ro", True),
        ("noblacklist ${HOME}/.a\nblacklist ${HOME}/.*", "/home/alice/.b", "ro", False),
        ("ignore blacklist /srv\nblacklist /srv", "/srv/x", "ro", True),
        ("?HAS_NET: blacklist /srv", "/srv/x", "ro", False),
        ("include more.inc", "/home/alice/.more", "ro", False),
        ("include own.local", "/srv/x", "ro", True),
        ("whitelist ${HOME}/a", "/home/alice/a/b", "rwc", True),
        ("whitelist ${HOME}/a", "/home/alice/b", "ro", False),
        ("whitelist ${HOME}/a", "/srv/x", "ro", True),
        ("nowhitelist ${HOME}/a\nwhitelist ${HOME}/a\nwhitelist ${HOME}/b", "/home/alice/a", "ro",
         False),
        ("whitelist ${HOME}/a\nblacklist ${HOME}/a/b", "/home/alice/a/b", "ro", False),
        ("whitelist /usr/share/x", "/usr/share/y", "ro", False),
        ("whitelist /usr/share/x", "/usr/lib/y", "ro", True),
        ("whitelist ${DOWNLOADS}", "/home/alice/Downloads/x", "ro", False),
        ("whitelist-ro ${HOME}/a", "/home/alice/a/b", "wo", False),
        ("read-only ${HOME}", "/home/alice/a", "wo", False),
        ("read-only ${HOME}\nread-write ${HOME}/a", "/home/alice/a", "wo", True),
        ("read-write ${HOME}/a\nread-only ${HOME}", "/home/alice/a", "wo", False),
        ("private", "/home/alice/a", "ro", False),
        ("private-tmp", "/tmp/x", "ro", False),
        ("private-dev", "/dev/null", "rw", True),
        ("private-dev", "/dev/sda", "ro", False),
        ("private-etc fonts,hosts", "/etc/fonts/x", "ro", True),
        ("private-etc fonts,hosts", "/etc/passwd", "ro", False),
        ("novideo", "/dev/video0", "ro", False),
        ("private-lib", "/usr/lib/x86_64-linux-gnu/libc.so.6", "ro", True),
        ("private-lib", "/lib64/ld-linux-x86-64.so.2", "ro", True),
        ("private-lib", "/usr/lib/x86_64-linux-gnu/libz.so", "ro", True),
        ("private-lib", "/usr/lib/python3/os.py", "ro", False),
        ("private-lib", "/usr/lib/x86_64-linux-gnu/perl/x.so", "ro", False),
        ("private-lib", "/usr/local/lib/secret", "ro", False),
        ("private-lib", "/usr/share/x", "ro", True),
        ("private-lib gconv,python3*", "/usr/lib/python3/os.py", "ro", True),
        ("private-lib gconv", "/usr/lib/x86_64-linux-gnu/gconv/x.so", "ro", True),
        ("private-lib gconv", "/usr/lib/ssh/sftp", "ro", False),
    ],
)  # fmt: skip
def test_files_that_may_be_opened(text, path, flags, permitted):
    policy, _ = made(text)
    assert opens(policy, path, flags) is permitted


def test_what_is_hidden_comes_not_out_under_another_name():
    policy, _ = made("blacklist ${HOME}/.config/app/keys\nread-only ${HOME}/bin")
    for old, new, permitted in (
        ("/home/alice/a", "/home/alice/b", True), ("/home/alice/.config", "/home/alice/b", False),
        ("/home/alice/.config/app/keys/a", "/home/alice/b", False),
        ("/etc/a", "/home/alice/b", False),
        ("/home/alice/a", "/home/alice/bin/b", False), ("/home/alice/a", "/home/alice/bin", False),
    ):  # fmt: skip
        assert permits(policy, "rename", filename=f"{old}|{new}") is permitted, (old, new)
    assert not permits(policy, "link", filename="/home/alice/a|/home/alice/b")


def test_a_link_of_the_system_hides_what_it_leads_to():
    policy, _ = made("blacklist /var/run/secret", lambda path: path.replace("/var/run", "/run"))
    assert not opens(policy, "/run/secret/x")
    assert not permits(policy, "connect", sockaddr="/run/secret")


def test_what_may_be_executed_stays_under_the_policy():
    policy, _ = made("private-bin x,sh\nnoexec ${HOME}")
    answer = ask(policy, "execve", {"filename": ["/usr/bin/sh"], "argv": ["sh"]}, ALICE)
    assert answer.action == "permit" and answer.rule is not None and answer.rule.inherit
    policy, _ = made("private-bin x,sh\nnoexec ${HOME}\nprivate-lib")
    for path in ("/usr/bin/sudo", "/home/alice/dropped", "/usr/lib/ssh/sftp-server"):
        assert not permits(policy, "execve", filename=path, argv="x")


def test_sockets_and_calls():
    policy, _ = made("net none")
    assert not permits(policy, "socket", sockdom="AF_INET", socktype="SOCK_STREAM")
    assert permits(policy, "connect", sockaddr="/run/user/1000/x")
    assert not permits(policy, "connect", sockaddr="@abstract")
    policy, _ = made("protocol inet\ndbus-user none\nmemory-deny-write-execute")
    assert permits(policy, "connect", sockaddr="inet-[192.0.2.1]:80")
    assert not permits(policy, "connect", sockaddr="/run/user/1000/x")
    both = {"prot": ["PROT_READ|PROT_EXEC"]}
    assert ask(policy, "mprotect", both, ALICE).action != "permit"
    policy, _ = made("seccomp clone,@clock,!chroot\nblacklist /run/docker.sock")
    assert not permits(policy, "clone:fork")
    assert not permits(policy, "connect", sockaddr="/run/docker.sock")
    assert not permits(policy, "connect", sockaddr="/var/run/docker.sock")  # by a link of root's
    policy, _ = made("seccomp.keep read,write")
    assert permits(policy, "read")
    for call in ("clone:fork", "epoll_wait", "getpid"):
        assert not permits(policy, call), call
    assert not opens(policy, "/srv/x")


def test_what_is_lost_is_told_with_its_line():
    _, notes = made("quiet\nprivate-lib\ncaps.drop all\nwhatever x\ntmpfs /srv\nnet eth0\n"
                    "whitelist ${MUSIC}\nrlimit-nproc 9")
    for told in ("p:2: private-lib", "p:3: caps.drop", "p:4: whatever", "p:5: tmpfs", "p:6: net",
                 "p:7: whitelist", "p:8: rlimit"):
        assert told in notes, told
    assert "p:1" not in notes


@pytest.mark.parametrize(
    ("text", "reason"),
    [("include none.inc", "not-found"), ("blacklist ${NONE}/x", "usage"),
     ("blacklist relative", "usage"), ("seccomp.drop @file-system", "usage"),
     ("seccomp.drop $99", "usage")],
)  # fmt: skip
def test_what_would_gain_is_refused(text, reason):
    with pytest.raises(PolicyError) as caught:
        made(text)
    assert caught.value.reason == reason


def test_kinds_are_told_by_their_text():
    assert kind_of("Policy: /x, Emulation: native\n") == SYSTRACE
    assert kind_of("# x\nprofile x /x {\n  /y r,\n}\n") == APPARMOR
    assert kind_of("include x.local\nblacklist ${HOME}/x\n") == FIREJAIL
    assert kind_of("") == SYSTRACE


NAMES = st.sampled_from(["a", "b", "a*", "?b", "ab", "*"])
TREES = st.lists(NAMES, min_size=1, max_size=2).map(lambda parts: "${HOME}/" + "/".join(parts))
WORDS = st.sampled_from(["blacklist", "noblacklist", "whitelist", "read-only", "read-write"])
LINES = st.lists(st.tuples(WORDS, TREES), max_size=6)
FILES = st.lists(st.sampled_from(["a", "b", "ab", "bb", "c"]), min_size=1, max_size=3)


def below(pattern: str, parts: list[str]) -> bool:
    """Whether a name, or a directory on its way, fits a pattern part by part."""
    wanted = pattern.split("/")[1:]
    return len(parts) >= len(wanted) and all(
        fnmatchcase(part, one) for part, one in zip(parts, wanted, strict=False)
    )


@settings(max_examples=120, deadline=None)
@given(LINES, FILES)
def test_no_name_gets_more_than_its_profile_gives_it(lines, parts):
    policy, _ = made("\n".join(f"{word} {tree}" for word, tree in lines))
    path = "/home/alice/" + "/".join(parts)
    spared: list[str] = []
    hidden = read_only = False
    for word, tree in lines:
        if word == "noblacklist":
            spared.append(tree)
        elif word == "blacklist" and below(tree, parts):
            # a pattern hides each name that fits it and that is not spared
            depth = tree.count("/")
            name = "${HOME}/" + "/".join(parts[:depth])
            hidden |= not any(fnmatchcase(name, one) for one in spared)
        elif word in ("read-only", "read-write") and below(tree, parts):
            read_only = word == "read-only"
    listed = [tree for word, tree in lines if word == "whitelist"]
    shown = not listed or any(below(tree, parts) for tree in listed)
    if opens(policy, path):
        assert shown and not hidden
    if opens(policy, path, "rw"):
        assert shown and not hidden and not read_only
    if not any(re.search("[*?]", tree) for _, tree in lines) and shown and not hidden:
        assert opens(policy, path)
