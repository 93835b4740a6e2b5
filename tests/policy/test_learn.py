"""What is different in the next run is permitted by what was learned in this one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from certexec.cli.presets import load_presets
from certexec.policy.evaluate import subject_of
from certexec.policy.learn import Learner, of_secure_start
from certexec.policy.learned_paths import FULL, NONE, Places
from certexec.policy.observation import FRESH, MADE, MISSING, Observation
from tests.policy.common import USERS

PROGRAM = "/usr/bin/x"


def seen(
    call: str, mark: str = "", variant: str = "", **values: str | Sequence[str]
) -> Observation:
    texts = tuple(
        (name, (one,) if isinstance(one, str) else tuple(one)) for name, one in values.items()
    )
    return Observation(PROGRAM, call, variant, texts, mark)


def new_learner(level: str = FULL) -> Learner:
    return Learner(
        places=Places("/w", "/home/u", "u"), level=level, presets=load_presets(), users=USERS,
        subject=subject_of(1000, 1000, home="/home/u", user="u", cwd="/w"),
    )  # fmt: skip


def learn(*observations: Observation, level: str = FULL) -> list[str]:
    learner = new_learner(level)
    learner.look_at(observations)
    return [rule.text for rule in learner.learn(PROGRAM, observations).rules]


def test_one_port_that_the_kernel_chose_stands_for_all_where_one_was_asked_for() -> None:
    to = seen("connect", sockaddr="inet-[127.0.0.1]:40123")
    elsewhere = seen("connect", sockaddr="inet-[192.0.2.1]:40123")
    exact = [f'connect: sockaddr eq "{one}" then permit' for one in (
        "inet-[127.0.0.1]:40123", "inet-[192.0.2.1]:40123")]  # fmt: skip
    assert learn(to, elsewhere) == exact
    rules = learn(seen("bind", sockaddr="inet-[127.0.0.1]:0"), to, elsewhere)
    assert 'connect: sockaddr in "inet-[127.0.0.1]:32768-65535" then permit' in rules
    assert exact[1] in rules and exact[0] not in rules
    assert exact[0] in learn(seen("bind", sockaddr="inet-[127.0.0.1]:0"), to, level=NONE)


def test_who_is_answered_by_a_server_has_any_port() -> None:
    answer = seen("sendto", variant="addressed", sockaddr="inet-[192.0.2.1]:40123")
    assert learn(answer) == ['sendto: sockaddr eq "inet-[192.0.2.1]:40123" then permit']
    rules = learn(seen("bind", sockaddr="inet-[0.0.0.0]:53"), answer)
    assert 'sendto: sockaddr in "inet-[192.0.2.1]:32768-65535" then permit' in rules


@pytest.mark.parametrize("made", [True, False])
def test_a_local_socket_has_a_new_name_each_time(made: bool) -> None:
    rules = learn(
        *([seen("mkdir", MADE, filename="/tmp/pymp-abcd1234")] if made else []),
        seen("bind", sockaddr="/tmp/pymp-abcd1234/listener-x"),
        seen("bind", sockaddr="/tmp/agent.Ab12Cd"),
    )
    where = "^/tmp/pymp-[a-z0-9_]{8}" + ("(/|$)" if made else "/listener-x$")
    assert f'bind: sockaddr re "{where}" then permit' in rules
    assert 'bind: sockaddr re "^/tmp/agent\\\\.[A-Za-z0-9_]{6}$" then permit' in rules


def test_a_process_that_got_a_signal_may_have_ended_by_then() -> None:
    rules = learn(seen("kill", pidname="/usr/bin/y", signame="SIGTERM"))
    assert rules == [
        'kill: pidname eq "/usr/bin/y" then permit', 'kill: pidname eq "<unknown>" then permit',
    ]  # fmt: skip
    rules = learn(seen("kill", pidname="pg:/usr/bin/y"))
    assert 'kill: pidname eq "pg:unknown" then permit' in rules and len(rules) == 2
    assert learn(seen("kill", pidname="<own process group>")) == [
        'kill: pidname eq "<own process group>" then permit'
    ]


def test_a_symbolic_link_and_a_pipe_that_are_made_have_new_names_as_files_have() -> None:
    """How an editor locks a file whose name was chosen, and a shell joins processes by names."""
    rules = learn(
        seen("symlink", MISSING, filename="/srv/.#a.elc6Uq0pi"),
        seen("readlink", filename="/srv/.#a.elc6Uq0pi"),
        seen("mknod", MISSING, "fifo", filename="/tmp/sh-np.Ab12Cd"),
        seen("symlink", filename="/srv/was.Ab12Cd"),
    )
    assert sorted(rules) == [
        'fsread: filename match "/srv/.#a.elc??????" then permit',
        'fswrite: filename re "^/tmp/sh-np\\\\.[A-Za-z0-9_]{6}$" then permit',
        'symlink: filename eq "/srv/was.Ab12Cd" then permit',
        'symlink: filename match "/srv/.#a.elc??????" then permit',
    ]


def test_a_new_file_of_an_old_directory_for_temporary_files_has_another_number_next_time() -> None:
    rules = learn(
        seen("openat", MISSING, "write", filename="/tmp/perf_u/24695", oflags="rwc"),
        seen("openat", FRESH, "write", filename="/tmp/perf_u/x.Ab12Cd", oflags="rwc"),
        seen("openat", MISSING, "write", filename="/tmp/perf_u/messages", oflags="rwc"),
    )
    names = (r"[0-9]+", r"messages", r"x\\.[A-Za-z0-9_]{6}")
    assert rules == [f'fswrite: filename re "^/tmp/perf_u/{one}$" then permit' for one in names]


def test_a_link_to_a_temporary_file_is_as_new_as_that() -> None:
    rules = learn(
        seen("openat", FRESH, "write", filename="/dev/shm/sem.Ab12Cd", oflags="rwc"),
        seen("link", filename=["/dev/shm/sem.Ab12Cd", "/dev/shm/sem.mp-abcd1234"]),
    )
    assert [one for one in rules if one.startswith("link")] == [
        'link: filename re "^/dev/shm/sem\\\\.[A-Za-z0-9_]{6}$" and '
        'filename[1] re "^/dev/shm/sem\\\\.mp-[a-z0-9_]{8}$" then permit'
    ]


def test_a_program_under_another_policy_looks_at_its_descriptors_first() -> None:
    assert "fcntl: permit" in learn(*of_secure_start(PROGRAM))


@pytest.mark.parametrize("name", ["/dev/stdin", "/proc/self/fd/3", "."])
def test_what_is_open_and_has_no_name_comes_before_what_is_not_there(name: str) -> None:
    none = "/<non-existent filename>: "
    read = seen("openat", MISSING, "read", filename=none + name, oflags="ro")
    gone = seen("openat", MISSING, "read", filename=none + "/x/y", oflags="ro")
    learned = new_learner().learn(PROGRAM, [read, gone])
    assert [rule.why for rule in learned.rules] == ["nameless"]
    assert learned.text.index(learned.rules[0].text) < learned.text.index("include base")
    kept = learned.text.partition("\n")[2]
    assert new_learner().learn(PROGRAM, [read, gone], existing=kept).rules == ()
    older = "\tinclude base 1\n\tinclude io 1\n"
    again = new_learner().learn(PROGRAM, [read], existing=older)
    assert again.text.index(learned.rules[0].text) < again.text.index("include base")


def test_what_is_widened_below_the_start_leaves_out_keys_of_each_name() -> None:
    names = [f"/w/{one}.out" for one in "abc"]
    rules = learn(
        *(seen("openat", variant="read", filename=f"/w/{one}", oflags="ro") for one in "abcd"),
        *(seen("creat", filename=name) for name in names),
        seen("rename", filename=names[:2]), seen("rename", filename=[names[0], "/w/.ssh/x.out"]),
    )  # fmt: skip
    kept = 'filename{0} nsub "/." and filename{0} nsub "/etc/"'
    out = 'filename{0} match "$CWD/*.out" and ' + kept
    assert f'fsread: filename match "$CWD" and {kept.format("")} then permit' in rules
    assert f'rename: {out.format("")} and {out.format("[1]")} then permit' in rules
    assert f'rename: {out.format("")} and filename[1] eq "$CWD/.ssh/x.out" then permit' in rules
