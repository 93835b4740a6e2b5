"""AppArmor profiles as policies: what they permit, what they lose, and that they never gain."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.errors import PolicyError
from certexec.policy.apparmor import from_apparmor
from certexec.policy.question import ask
from tests.policy.common import ALICE
from tests.policy.imported import opens, permits, policy_and_notes

INCLUDES = {
    "tunables/here": "@{HOME}=@{HOMES}/*/ /root/\n@{HOMES}=/home/\n@{HOMES}+=/srv/home/\n"
    "@{PROC}=/proc/\n@{pid}={[1-9],[1-9][0-9],[1-9][0-9][0-9],[1-9][0-9][0-9][0-9],"
    "[1-9][0-9][0-9][0-9][0-9],[1-9][0-9][0-9][0-9][0-9][0-9],"
    "[1-4][0-9][0-9][0-9][0-9][0-9][0-9]}\n",
    "abstractions/start": "  /{,usr/}lib{,64}/** mr,\n  /etc/ld.so.cache r,  # how it finds them\n",
}  # fmt: skip


def made(rules: str, head: str = "/usr/bin/x"):
    text = f"abi <abi/3.0>,\ninclude <tunables/here>\n{head} {{\n{rules}\n}}\n"
    imported = from_apparmor(
        text, name="p",
        look_up=lambda name: [(name, INCLUDES[name])] if name in INCLUDES else None,
        real=lambda path: None,
    )
    return policy_and_notes(imported)


@pytest.mark.parametrize(
    ("rule", "path", "flags", "permitted"),
    [
        ("/etc/* r,", "/etc/passwd", "ro", True),
        ("/etc/* r,", "/etc/ssl/x", "ro", False),
        ("/etc/* r,", "/etc/passwd", "wo", False),
        ("/etc/* r,", "/etc", "ro", False),
        ("/etc/** r,", "/etc/ssl/x", "ro", True),
        ("/ETC/x r,", "/etc/x", "ro", False),
        ("/a/{b,c{d,}}/e? r,", "/a/cd/ef", "ro", True),
        ("/a/{b,c{d,}}/e? r,", "/a/cd/e/", "ro", False),
        ("/a[b-d]/x r,", "/ac/x", "ro", True),
        ("/a[b-d]/x r,", "/ae/x", "ro", False),
        ("/a\\*b r,", "/a*b", "ro", True),
        ("/a\\*b r,", "/axb", "ro", False),
        ('"/a b/c" r,', "/a b/c", "ro", True),
        ("file r /x,", "/x", "ro", True),
        ("allow file /x r,", "/x", "ro", True),
        ("@{HOME}/.x r,", "/home/alice/.x", "ro", True),
        ("@{HOME}/.x r,", "/srv/home/alice/.x", "ro", True),
        ("@{HOME}/.x r,", "/root/.x", "ro", True),
        ("@{HOME}/.x r,", "/home/a/b/.x", "ro", False),
        ("@{PROC}/@{pid}/stat r,", "/proc/17/stat", "ro", True),
        ("@{PROC}/@{pid}/stat r,", "/proc/self/stat", "ro", True),
        ("owner @{PROC}/@{pid}/stat r,", "/proc/self/stat", "ro", True),
        ("owner @{PROC}/@{pid}/stat r,", "/proc/17/stat", "ro", False),
        ("owner /x r,", "/x", "ro", False),
        ("/proc/[^1-9]** r,", "/proc/self/mem", "ro", False),
        ("/x w,", "/x", "woct", True),
        ("/x w,", "/x", "rw", False),
        ("/x rw,", "/x", "rwc", True),
        ("/x a,", "/x", "woa", False),
        ("/srv/ r,", "/srv", "ro", True),
        ("/srv/*/ r,", "/srv/x", "ro", False),
        ("/** r,\n deny /secret/** r,", "/secret/x", "ro", False),
        ("/** r,\n deny /secret/** r,", "/other/x", "ro", True),
        ("/** rw,\n deny /secret/** w,", "/secret/x", "ro", True),
        ("/** rw,\n deny /secret/** w,", "/secret/x", "rw", False),
        ("/** r,\n deny owner /secret r,", "/secret", "ro", False),
        ("/** r,\n deny { /secret r,\n }", "/secret", "ro", False),
        ("/** r,\n audit deny @{PROC}/[0-9]*/mem r,", "/proc/self/mem", "ro", False),
        ("/** r,\n deny @{NONE}/x r,", "/y", "ro", False),
        ("file,", "/any/thing", "rwc", True),
        ("include <abstractions/start>", "/usr/lib/x.so", "ro", True),
        ("#include <abstractions/start>", "/lib64/x.so", "ro", True),
        ("include if exists <local/none>", "/lib64/x.so", "ro", False),
    ],
)  # fmt: skip
def test_files_that_may_be_opened(rule, path, flags, permitted):
    policy, _ = made(rule)
    assert opens(policy, path, flags) is permitted


def test_what_a_right_to_write_permits():
    policy, _ = made("/var/x/** rw,\n/run/x.pid w,\n/var/y/ w,\n deny /var/x/fixed w,")
    for call in ("unlink", "truncate", "chmod", "mkdir", "rmdir", "utimes"):
        assert permits(policy, call, filename="/var/x/a"), call
        assert not permits(policy, call, filename="/var/x/fixed"), call
        assert not permits(policy, call, filename="/var/z"), call
    assert permits(policy, "rename", filename="/var/x/a|/var/x/b")
    assert not permits(policy, "rename", filename="/var/x/a|/var/x/fixed")
    assert not permits(policy, "rename", filename="/run/x.pid|/var/x/b")  # which may be read
    assert not permits(policy, "link", filename="/var/x/a|/var/x/b")
    assert permits(policy, "unlink", filename="/run/x.pid")
    assert not permits(policy, "mkdir", filename="/run/x.pid")
    assert permits(policy, "mkdir", filename="/var/y")
    assert not permits(policy, "unlink", filename="/var/y")


def test_a_denied_name_cannot_be_unlinked_where_only_writing_is_permitted():
    policy, _ = made("/var/x/* w,\n deny /var/x/fixed w,")
    assert permits(policy, "unlink", filename="/var/x/a")
    assert not permits(policy, "unlink", filename="/var/x/fixed")


@pytest.mark.parametrize(
    ("rule", "action", "inherits"),
    [("/bin/sh ix,", "permit", True), ("/bin/sh rPix,", "permit", True),
     ("/bin/sh px,", "permit", False), ("/bin/sh Ux,", "deny", False),
     ("/bin/sh Cx -> inner,", "deny", False), ("/bin/sh pux,", "deny", False),
     ("/bin/sh ix,\n deny /bin/* x,", "deny", False)],
)  # fmt: skip
def test_what_may_be_executed(rule, action, inherits):
    policy, notes = made(rule)
    answer = ask(policy, "execve", {"filename": ["/bin/sh"], "argv": ["sh"]}, ALICE)
    assert answer.action == action
    assert (answer.rule is not None and answer.rule.inherit) is inherits
    assert rule.startswith("/bin/sh ix") or "p:3: /bin/sh" in notes or "p:4: /bin/sh" in notes


@pytest.mark.parametrize(
    ("rule", "domain", "kind", "permitted"),
    [("network inet stream,", "AF_INET", "SOCK_STREAM", True),
     ("network inet stream,", "AF_INET", "SOCK_RAW", False),
     ("network inet stream,", "AF_INET6", "SOCK_STREAM", False),
     ("network,\n deny network inet6,", "AF_INET6", "SOCK_STREAM", False),
     ("network,\n deny network inet6,", "AF_INET", "SOCK_STREAM", True),
     ("network inet tcp,", "AF_INET", "SOCK_STREAM", True),
     ("unix,", "AF_UNIX", "SOCK_STREAM", True),
     ("unix (create),", "AF_UNIX", "SOCK_STREAM", False),
     ("unix,\n deny unix peer=(label=y),", "AF_UNIX", "SOCK_STREAM", False),
     ("/x r,", "AF_INET", "SOCK_STREAM", False)],
)  # fmt: skip
def test_which_sockets_there_may_be(rule, domain, kind, permitted):
    policy, _ = made(rule)
    assert permits(policy, "socket", sockdom=domain, socktype=kind) is permitted
    named = "inet-[::1]:80" if domain == "AF_INET6" else "inet-[192.0.2.1]:80"
    if domain != "AF_UNIX":
        expected = permitted or (rule.startswith("network inet") and domain == "AF_INET")
        assert permits(policy, "connect", sockaddr=named) is expected


def test_calls_about_nothing_that_it_knows_are_permitted_and_no_others():
    policy, _ = made("/x r,")
    for call in ("read", "clone:fork", "epoll_wait"):
        assert permits(policy, call), call
    assert permits(policy, "stat", filename="/y")
    for call in ("ptrace", "init_module", "flock", "bpf"):
        assert not permits(policy, call), call
    assert not permits(policy, "kill", pidname="x", signame="SIGTERM")
    assert not permits(policy, "setuid", uid="0", uname="root")
    assert not permits(policy, "fcntl", cmd="F_SETLK")
    assert permits(policy, "fcntl", cmd="F_GETFL")
    with_capability, notes = made("capability setuid,\ncapability kill,\nsignal,")
    assert permits(with_capability, "setuid", uid="0", uname="root")
    assert permits(with_capability, "kill", pidname="x", signame="SIGTERM")
    assert "capability kill: what the certificate grants counts" in notes
    without, _ = made("capability setuid,\n deny capability setuid,\n deny signal,\nsignal,")
    assert not permits(without, "setuid", uid="0", uname="root")
    assert not permits(without, "kill", pidname="x", signame="SIGTERM")


def test_what_is_lost_is_told_with_its_line():
    _, notes = made(
        "/x k,\n/y l,\n/z a,\nowner /o r,\ndbus bus=session,\nmount,\nset rlimit nofile <= 9,\n"
        "hat inner {\n /x r,\n}\nptrace (readby),",
        "profile y /usr/bin/{y,z} flags=(complain)",
    )
    for told in ("p:4: /x k: k: ", "p:5: /y l: l: ", "p:6: /z a: a: ", "p:7: owner /o r: ",
                 "p:8: dbus", "p:9: mount", "p:10: set rlimit", "p:11: hat inner", "complain"):
        assert told in notes, told
    assert "readby" not in notes


def test_a_policy_for_every_program_that_a_profile_attaches_to():
    text = "profile a /{usr/,}bin/a { /x r,\n}\nprofile b { /y r,\n}\n/usr/bin/[c]d { /z r,\n}\n"
    imported = from_apparmor(text, name="p", look_up=lambda name: None, real=lambda path: None)
    assert re.findall("Policy: ([^,]*)", imported.text) == ["/usr/bin/a", "/bin/a"]
    assert "p:3: profile b: it is for no program" in " ".join(imported.notes)
    there = from_apparmor(
        text, name="p", look_up=lambda name: None,
        real=lambda path: "/usr/bin/a" if path.endswith("/a") else None,
    )
    assert re.findall("Policy: ([^,]*)", there.text) == ["/usr/bin/a"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("/x { include <none> }", "not-found"), ("/x { /y r }", "policy-syntax"),
     ("/x { /y r,", "policy-syntax"), ("}", "policy-syntax"), ("/x { /y rz, }", "usage"),
     ("alias /a -> /b,\n/x { }", "usage"), ("/x { if $y { /y r, } }", "usage"),
     ("/x { priority=1 deny /y r, }", "usage"), ("profile x { }", "usage"), ("", "usage"),
     ("@{X}+=/y\n/x { }", "policy-syntax")],
)  # fmt: skip
def test_what_is_no_profile_or_would_gain_is_refused(text, reason):
    with pytest.raises(PolicyError) as caught:
        from_apparmor(text, name="p", look_up=lambda name: None, real=lambda path: None)
    assert caught.value.reason == reason


# ---- never more than the profile -----------------------------------------------------------------


def fits(pattern: str, path: str) -> bool:
    """Whether a pattern fits a name, by trying; a directory's name ends in a slash."""
    def walk(at: int, rest: str, last: str) -> bool:
        if at == len(pattern):
            return not rest
        if pattern[at] == "{":
            end = pattern.index("}", at)
            return any(
                # a star next to a group looks at the group's brace, not at what is in it
                rest.startswith(part) and walk(end + 1, rest[len(part) :], "}")
                for part in pattern[at + 1 : end].split(",")
            )
        if pattern[at] == "*":
            deep = pattern[at : at + 2] == "**"
            after = at + 1 + deep
            whole = last == "/" and pattern[after : after + 1] in ("", "/")
            for length in range(len(rest) + 1):
                eaten = rest[:length]
                if not deep and "/" in eaten:
                    break
                if whole and (not eaten or eaten[0] == "/"):
                    continue
                if walk(after, rest[length:], "*"):
                    return True
            return False
        if not rest or (pattern[at] == "?" and rest[0] == "/"):
            return False
        if pattern[at] != "?" and pattern[at] != rest[0]:
            return False
        return walk(at + 1, rest[1:], pattern[at])

    return walk(0, path, "")


PARTS = st.sampled_from("a b ab * ** a* *b ? {a,b} a{,b} **a b**".split())
PATTERNS = st.lists(PARTS, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from(["/" + "/".join(parts), "/" + "/".join(parts) + "/"])
)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "c"]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
RULES = st.lists(
    st.tuples(st.sampled_from(["", "deny "]), PATTERNS, st.sampled_from(["r", "w", "rw"])),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(RULES, st.lists(PATHS, min_size=1, max_size=6))
def test_no_name_gets_more_than_its_profile_gives_it(rules, paths):
    policy, _ = made("\n".join(f"{deny}{pattern} {letters}," for deny, pattern, letters in rules))

    def has(path: str, letter: str) -> bool:
        said = [deny for deny, pattern, letters in rules
                if letter in letters and fits(pattern, path)]  # fmt: skip
        return bool(said) and "deny " not in said

    literal = {pattern for deny, pattern, _ in rules if not set(pattern) & set("*?")}
    for path in paths:
        folder = path + "/"
        either = {
            letter: has(path, letter) or (
                has(folder, letter) and any(fits(one, folder) for one in literal)
            ) for letter in "rw"
        }  # fmt: skip
        if opens(policy, path):
            assert either["r"], path
        if opens(policy, path, "wo"):
            assert has(path, "w"), path
        if opens(policy, path, "rw"):
            assert has(path, "w") and either["r"], path
        if permits(policy, "unlink", filename=path):
            assert has(path, "w"), path
        if permits(policy, "mkdir", filename=path):
            assert has(folder, "w"), path
        # where nothing is denied nothing that can be said is lost either
        if not any(deny for deny, _, _ in rules):
            assert opens(policy, path, "wo") == has(path, "w")
            assert permits(policy, "mkdir", filename=path) == has(folder, "w")
            if has(path, "r"):
                assert opens(policy, path)
