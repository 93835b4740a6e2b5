"""Promises and lists of files as policies: what they permit, what they do not, what is told."""

import pytest

from certexec.cli.presets import load_presets
from certexec.errors import PolicyError
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.lint import lint
from certexec.policy.names import canonical
from certexec.policy.promises import (
    _CALLS,
    KNOWN,
    PATHS,
    from_promises,
    parse_promises,
    parse_unveil,
)
from certexec.policy.question import ask
from certexec.policy.syntax import parse_policy
from tests.policy.common import ALICE, USERS


def made(promises: str | None, *unveils: str):
    imported = from_promises(
        "/usr/bin/x", None if promises is None else parse_promises(promises),
        [parse_unveil(one) for one in unveils],
    )
    file = parse_policy(
        imported.text, name="x", users=USERS, privileged=True, presets=load_presets()
    )
    assert not [one for one in lint(file) if one.code not in ("shadowed", "sends")]
    return file.policies[0], imported.notes


def permits(policy, call: str, **arguments: str) -> bool:
    values = {name: text.split("|") for name, text in arguments.items()}
    return ask(policy, call, values, ALICE).action == "permit"


def test_every_promise_alone_is_a_policy():
    for word in KNOWN:
        policy, _ = made(f"stdio {word}")
        assert permits(policy, "read") and not permits(policy, "init_module")
    for names in _CALLS.values():
        for name in names.split():
            assert canonical("native", name) is not None, name
    assert "init_module" in NUMBERS


@pytest.mark.parametrize(
    ("promises", "call", "arguments", "permitted"),
    [
        ("stdio", "write", {}, True),
        ("stdio", "openat", {"filename": "/etc/passwd", "oflags": "ro"}, False),
        ("stdio", "socket", {"sockdom": "AF_INET", "socktype": "SOCK_STREAM"}, False),
        ("stdio", "sendto:connected", {}, True),
        ("stdio", "sendto:addressed", {"sockaddr": "inet-[192.0.2.1]:53"}, False),
        ("stdio", "sendmsg", {"sockaddr": "<unknown>"}, True),
        ("stdio", "sendmsg", {"sockaddr": "inet-[192.0.2.1]:53"}, False),
        ("stdio", "execve", {"filename": "/bin/sh", "argv": "sh"}, False),
        ("stdio", "clone:fork", {}, False),
        ("stdio proc", "clone:fork", {}, True),
        ("stdio proc", "clone:other", {}, False),
        ("stdio exec", "execve", {"filename": "/bin/sh", "argv": "sh"}, True),
        ("stdio rpath", "openat", {"filename": "/etc/passwd", "oflags": "ro"}, True),
        ("stdio rpath", "openat", {"filename": "/etc/passwd", "oflags": "rw"}, False),
        ("stdio rpath", "unlink", {"filename": "/x"}, False),
        ("stdio wpath", "openat", {"filename": "/x", "oflags": "wo"}, True),
        ("stdio wpath", "openat", {"filename": "/x", "oflags": "rw"}, False),
        ("stdio wpath", "openat", {"filename": "/x", "oflags": "woc"}, False),
        ("stdio wpath", "openat", {"filename": "/x", "oflags": "ro"}, False),
        ("stdio rpath wpath", "openat", {"filename": "/x", "oflags": "rw"}, True),
        ("stdio rpath wpath cpath", "openat", {"filename": "/x", "oflags": "rwct"}, True),
        ("stdio cpath", "mkdir", {"filename": "/x"}, True),
        ("stdio cpath", "rename", {"filename": "/x|/y"}, True),
        ("stdio inet", "socket", {"sockdom": "AF_INET6", "socktype": "SOCK_STREAM"}, True),
        ("stdio inet", "socket", {"sockdom": "AF_UNIX", "socktype": "SOCK_STREAM"}, False),
        ("stdio inet", "connect", {"sockaddr": "inet-[::1]:80"}, True),
        ("stdio inet", "connect", {"sockaddr": "/dev/log"}, False),
        ("stdio unix", "connect", {"sockaddr": "/dev/log"}, True),
        ("stdio unix", "connect", {"sockaddr": "inet-[::1]:80"}, False),
        ("stdio dns", "connect", {"sockaddr": "inet-[192.0.2.1]:53"}, True),
        ("stdio dns", "connect", {"sockaddr": "inet-[192.0.2.1]:80"}, False),
        ("stdio dns", "connect", {"sockaddr": "inet-[192.0.2.1]:153"}, False),
        ("stdio dns", "openat", {"filename": "/etc/resolv.conf", "oflags": "ro"}, True),
        ("stdio getpw", "openat", {"filename": "/etc/passwd", "oflags": "ro"}, True),
        ("stdio tmppath", "openat", {"filename": "/tmp/x", "oflags": "rwc"}, True),
        ("stdio tmppath", "openat", {"filename": "/var/x", "oflags": "rwc"}, False),
        ("stdio id", "setuid", {"uid": "0", "uname": "root"}, True),
        ("stdio settime", "clock_settime", {}, True),
        ("stdio", "clock_settime", {}, False),
    ],
)
def test_what_promises_permit(promises, call, arguments, permitted):
    policy, _ = made(promises)
    assert permits(policy, call, **arguments) is permitted


def test_files_are_limited_to_what_is_shown():
    policy, notes = made("stdio rpath wpath cpath exec", "/srv/www:r", "/var/db/x:rwc", "/bin:x")
    assert notes == ["exec: what is executed stays under this policy, where pledge would let it go"]
    assert permits(policy, "openat", filename="/srv/www/a", oflags="ro")
    assert permits(policy, "openat", filename="/var/db/x/a", oflags="rwct")
    assert not permits(policy, "openat", filename="/srv/www/a", oflags="wo")
    assert not permits(policy, "openat", filename="/srv/other", oflags="ro")
    assert not permits(policy, "openat", filename="/bin/sh", oflags="ro")
    assert permits(policy, "execve", filename="/bin/sh", argv="sh")
    assert not permits(policy, "execve", filename="/usr/bin/sh", argv="sh")
    assert permits(policy, "rename", filename="/var/db/x/a|/var/db/x/b")
    assert not permits(policy, "rename", filename="/var/db/x/a|/srv/www/b")


def test_permissions_alone_make_promises():
    policy, notes = made(None, "/srv/*[x]:r")
    assert notes == []
    assert permits(policy, "stat", filename="/srv/*[x]/a")
    assert not permits(policy, "stat", filename="/srv/yx")
    assert not permits(policy, "mkdir", filename="/srv/*[x]/a")


def test_what_is_lost_is_told():
    _, notes = made("stdio mcast sendfd error", "/x:rc")
    told = " ".join(notes)
    for words in ("mcast: ", "sendfd: ", "error: ", 'unveil "r" of /x: without the promise rpath',
                  'unveil "c" of /x: without the promise cpath'):  # fmt: skip
        assert words in told
    text = from_promises("/x", ["stdio", "mcast"], []).text
    assert "# not as on OpenBSD: mcast: " in text


def test_long_lists_of_trees_make_lines_that_can_be_read():
    many = [f"/srv/{'x' * 60}{number}:rwc" for number in range(20)]
    policy, _ = made("stdio rpath wpath cpath", *many)
    path = many[3].rpartition(":")[0]
    other = many[17].rpartition(":")[0]
    assert permits(policy, "rename", filename=f"{path}/a|{other}/b")


def test_all_promises_about_files_need_all_files_without_a_list():
    for word in PATHS:
        made(f"stdio {word}")


@pytest.mark.parametrize("text", ["x:r", "/x", "/x:rz", "/a/../b:r", "/a//b:r", "/a\nb:r", ":r"])
def test_what_is_no_list_is_refused(text):
    with pytest.raises(PolicyError) as caught:
        parse_unveil(text)
    assert caught.value.reason == "usage"


def test_a_promise_that_there_is_not_is_refused():
    with pytest.raises(PolicyError) as caught:
        parse_promises("stdio rpaht")
    assert caught.value.hint == 'did you mean "rpath"?'
