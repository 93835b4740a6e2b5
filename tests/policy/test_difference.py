"""Two policies compared: every difference that trying all calls finds, and no other."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.kernel.syscalls import NUMBERS
from certexec.policy.calls import arguments_of, variants
from certexec.policy.cases import Case, subjects_of
from certexec.policy.difference import (
    NARROWED,
    OTHERWISE,
    UNCLEAR,
    WIDENED,
    compare,
    kinds_of,
    say,
)
from certexec.policy.evaluate import effective_rules
from certexec.policy.model import Subject
from certexec.policy.reformat import reformat
from certexec.policy.syntax import parse_policy
from tests.policy.common import USERS

HEADER = "Policy: /bin/x, Emulation: native\n"
EXTENDED = "Language: certexec 1\n" + HEADER


def parsed(*lines: str, extended: bool = False):
    text = (EXTENDED if extended else HEADER) + "".join(f"\t{line}\n" for line in lines)
    return parse_policy(text, name="test", users=USERS, privileged=True).policies[0]


def changed(old, new, **options):
    """Return call and use to kinds, for all that is not the same."""
    return {
        (one.call, one.use): set(one.kinds) for one in compare(old, new, **options) if one.changes
    }


# ---- against trying everything -------------------------------------------------------------------

NAMES = ["/", "/a", "/A", "/a/b", "/a/B", "/a/bc", "/a/b/c", "/ab", "/b", "/b/a", "/b/a/b", "/c"]
TEXTS = {
    "filename": NAMES,
    "oflags": ["ro", "roa", "wo", "wot", "rw", "rwc", "woct", "--"],
    "sockaddr": ["inet-[10.0.0.1]:80", "inet-[10.0.0.1]:443", "inet-[10.1.0.1]:80",
                 "inet-[192.0.2.1]:80", "inet-[::1]:80", "/dev/log", "@x", "family(16)"],
    "mode": ["0", "644", "4755"],
    "uid": ["0", "1000", "-1"], "gid": ["0", "5"], "uname": ["root"], "fd": ["0", "7"],
    "string": ["/a", "b"], "argv": ["a", "a b"],
    "prot": ["PROT_NONE", "PROT_READ", "PROT_READ|PROT_WRITE", "PROT_READ|PROT_WRITE|PROT_EXEC"],
    "signame": ["SIGHUP", "SIGKILL", "<unknown>: 64"], "pidname": ["/a", "<own process group>"],
    "sockdom": ["AF_UNIX", "AF_INET", "AF_UNKNOWN(16)"], "socktype": ["SOCK_STREAM", "SOCK_RAW"],
    "cmd": ["F_DUPFD", "<unknown>: 1030"],
}
CALLS = ["open", "openat", "stat", "creat", "rename", "chmod", "connect", "execve", "mmap", "read",
         "kill", "symlink", "mkdir", "unlinkat", "setuid"]  # fmt: skip
DATA = ["/a", "/A", "/a/b", "/a*", "*", "/a/*", "/?b", "/[ab]", "b", "", "/a/b/c", "/b"]
PLACES = st.sampled_from(["filename", "filename[1]", "FileName[0]", "x"])
COMPARISON = st.one_of(
    st.builds(
        '{} {} "{}"'.format, PLACES,
        st.sampled_from(["match", "eq", "neq", "sub", "nsub", "inpath"]), st.sampled_from(DATA),
    ),
    st.builds(
        'filename re "{}"'.format, st.sampled_from(["^/a", "b$", "/(a|b)/b", "^/[ab]c?$", "A"])
    ),
    st.sampled_from(
        ['oflags sub "w"', 'oflags nsub "c"', 'oflags eq "ro"', 'mode match "4*"',
         'sockaddr match "inet-*:80"', 'sockaddr in "inet-[10.0.0.0/16]:1-100"',
         'sockaddr eq "/dev/log"', 'sockaddr in "inet-[::1]:*"', 'prot sub "EXEC"',
         'signame eq "SIGKILL"', 'string eq "b"', 'argv re "^a$"', 'uid eq "0"', "true"]
    ),
)
EXPRESSION = st.recursive(
    COMPARISON,
    lambda inner: st.builds("( {} ) and ( {} )".format, inner, inner)
    | st.builds("( {} ) or ( {} )".format, inner, inner) | st.builds("not ( {} )".format, inner),
    max_leaves=3,
)
ACTION = st.sampled_from(
    ["permit", "deny", "permit", "deny[enoent]", "ask", "kill", "permit[inherit]", "permit log",
     "permit as root"]
)
WHO = st.sampled_from(["", "", "", ", if user = 0", ", if user > 1000", ", if group != 5"])
RULE = st.one_of(
    st.builds(
        "native-{}: {} then {}{}".format, st.sampled_from(["fsread", "fswrite", *CALLS]),
        EXPRESSION, ACTION, WHO,
    ),
    st.builds(
        "native-{}: {}".format, st.sampled_from(CALLS),
        st.sampled_from(["permit", "deny", "deny[eacces]"]),
    ),
)
RULES = st.lists(RULE, max_size=5)
TRIED = ["open", "openat", "openat2", "stat", "newfstatat", "creat", "rename", "renameat2", "chmod",
         "connect", "execve", "execveat", "mmap", "read", "kill", "symlink", "mkdir", "unlinkat",
         "truncate", "setuid", "sendto", "write"]  # fmt: skip
SUBJECTS = [Subject(uid, gid, "/home/z", "z", "/z") for uid in (0, 1, 1000, 1001) for gid in (5, 6)]


def possible(name: str, use: str, label: str) -> list[bytes]:
    texts = TEXTS[name]
    if name == "oflags" and use == "creat":
        texts = ["woct"]
    elif name == "oflags":
        reads = [one for one in texts if one.startswith("ro")]
        texts = reads if label == "read" else [one for one in texts if one not in reads]
    return [text.encode() for text in texts]


def by_trying(old, new) -> dict[tuple[str, str], set[str]]:
    """Judge every call of the small world above with both policies."""
    found: dict[tuple[str, str], set[str]] = {}
    for name in TRIED:
        for variant in variants(name):
            one = effective_rules(old, name, variant.label)
            two = effective_rules(new, name, variant.label)
            names = [argument.name for argument in arguments_of(name, variant)]
            worlds = [possible(each, name, variant.label) for each in names]
            for texts in itertools.product(*worlds):
                values: dict[str, list[bytes]] = {}
                for each, text in zip(names, texts, strict=True):
                    values.setdefault(each, []).append(text)
                for subject in SUBJECTS:
                    before = say(one, name, Case(values, subject))
                    after = say(two, name, Case(values, subject))
                    if after.rank != before.rank:
                        kind = WIDENED if after.rank > before.rank else NARROWED
                    elif after.text != before.text:
                        kind = OTHERWISE
                    else:
                        continue
                    found.setdefault((name, variant.label), set()).add(kind)
    return found


def mutated(lines: list[str], seed: int) -> list[str]:
    """Return lines with one left out, moved or put in: versions of a policy are much alike."""
    dice = random.Random(seed)
    result = list(lines)
    if result:
        line = result.pop(dice.randrange(len(result)))
        if dice.random() < 0.5:
            result.insert(dice.randrange(len(result) + 1), line)
    return result


@settings(deadline=None, max_examples=150)
@given(RULES, RULES, st.booleans(), st.integers(0, 999))
def test_it_agrees_with_trying_every_call(first, second, alike, seed):
    old = parsed(*first, extended=True)
    new = parsed(*(mutated(first, seed) if alike else second), extended=True)
    told = {(one.call, one.use): one for one in compare(old, new)}
    for use, kinds in by_trying(old, new).items():
        assert kinds <= set(told[use].kinds), (use, kinds, told[use].kinds)
    # what is told beyond that small world is shown by a call, so it is true as well
    for (name, label), one in told.items():
        for change in one.changes:
            before = say(effective_rules(old, name, label), name, change.case)
            after = say(effective_rules(new, name, label), name, change.case)
            assert (before.text, after.text) == (change.old.text, change.new.text)
            assert change.kind == (
                WIDENED if after.rank > before.rank else NARROWED if after.rank < before.rank
                else OTHERWISE
            )
            assert before.text != after.text


@settings(deadline=None, max_examples=50)
@given(RULES, st.integers(0, 99))
def test_a_policy_is_the_same_as_itself_and_changes_are_mirrored(lines, seed):
    old, new = parsed(*lines, extended=True), parsed(*mutated(lines, seed), extended=True)
    assert not changed(old, parsed(*lines, extended=True))
    mirror = {WIDENED: NARROWED, NARROWED: WIDENED, OTHERWISE: OTHERWISE}
    there, back = changed(old, new), changed(new, old)
    assert {use: {mirror[kind] for kind in kinds} for use, kinds in there.items()} == back


@settings(deadline=None, max_examples=60)
@given(RULES, st.booleans())
def test_the_canonical_form_changes_no_verdict(lines, sort):
    text = EXTENDED + "".join(f"  {line}  # why\n" for line in lines)
    old = parse_policy(text, name="x", users=USERS, privileged=True).policies[0]
    tidy = reformat(text, name="x", users=USERS, sort=sort)
    new = parse_policy(tidy, name="x", users=USERS, privileged=True).policies[0]
    assert not changed(old, new)
    assert tidy.count("# why") == len(lines)
    assert reformat(tidy, name="x", users=USERS, sort=sort) == tidy


# ---- by example ----------------------------------------------------------------------------------


def one_change(old, new, call, use=""):
    [found] = [one for one in compare(old, new) if (one.call, one.use) == (call, use)]
    [change] = found.changes
    return change


def test_each_change_comes_with_a_call_and_the_rules_that_judge_it():
    old = parsed('native-fsread: filename match "/etc" then permit')
    new = parsed('native-fsread: filename match "/etc" then permit',
                 'native-fsread: filename eq "/var/x" then permit')  # fmt: skip
    change = one_change(old, new, "openat", "read")
    assert (change.kind, change.old.text, change.new.text) == (WIDENED, "deny", "permit")
    assert change.case.values == {"filename": [b"/var/x"], "oflags": [b"ro"]}
    assert change.old.rule is None and change.new.rule.line == 3
    assert ("openat", "write") not in changed(old, new)


def test_a_call_can_be_wider_and_narrower_at_once():
    old = parsed('native-execve: filename eq "/a" then permit')
    new = parsed('native-execve: filename eq "/b" then permit')
    assert changed(old, new)["execve", ""] == {WIDENED, NARROWED}


def test_another_spelling_or_order_is_the_same():
    old = parsed('native-fsread: filename eq "/a" or filename match "/b" then permit',
                 "native-read: permit", "native-sigaction: permit")  # fmt: skip
    new = parsed("native-rt_sigaction: permit", 'native-fsread: filename match "/b" then permit',
                 'native-fsread: FILENAME eq "/A" then permit', "native-read: true then permit")
    assert not changed(old, new)


@pytest.mark.parametrize(
    ("one", "two", "kinds"),
    [
        ("native-read: permit", "native-read: deny", {NARROWED}),
        ("native-read: deny[eio]", "native-read: deny", {OTHERWISE}),
        ("native-read: permit", "native-read: true then permit log", {OTHERWISE}),
        ("native-read: true then ask", "native-read: permit", {WIDENED}),
        ("native-read: true then ask", "native-read: deny", {NARROWED}),
        ("native-read: kill", "native-read: deny", {OTHERWISE}),
        ("native-read: permit, if user = root", "native-read: permit", {WIDENED}),
        ("native-read: permit, if group < 5", "native-read: permit, if group < 4", {NARROWED}),
        ("native-setuid: permit", "native-setuid: true then permit as root", {WIDENED}),
        ("native-setuid: true then permit as alice", "native-setuid: true then permit as :staff",
         {OTHERWISE}),
    ],
)  # fmt: skip
def test_answers_have_an_order(one, two, kinds):
    old, new = parsed(one, extended=True), parsed(two, extended=True)
    name = one.partition(":")[0].removeprefix("native-")
    assert changed(old, new) == {(name, ""): kinds}


def test_letting_a_program_go_is_more_than_permitting_it():
    old, new = parsed("native-execve: permit"), parsed("native-execve: true then permit[detach]")
    assert changed(old, new) == {("execve", ""): {WIDENED}, ("execveat", ""): {WIDENED}}


def test_a_detached_policy_permits_everything():
    free = parse_policy(HEADER + "detached\n", name="x", users=USERS, privileged=True).policies[0]
    found = changed(parsed("native-read: permit"), free)
    assert len({call for call, _ in found}) == len(NUMBERS) - 1
    assert set.union(*found.values()) == {WIDENED}


def test_macros_are_what_nobody_names():
    old = parsed('native-fswrite: filename match "$HOME" then permit')
    new = parsed('native-fswrite: filename match "/home" then permit')
    change = one_change(old, new, "mkdir")
    assert change.kind == WIDENED
    alike = parsed('native-fswrite: filename match "$HOME/" then permit')
    assert one_change(old, alike, "mkdir").kind == NARROWED
    # only where the directory is below the home do these differ
    old = parsed('native-fswrite: filename match "$HOME" then deny',
                 'native-fswrite: filename match "$CWD" then permit')  # fmt: skip
    new = parsed('native-fswrite: filename match "$CWD" then permit')
    change = one_change(old, new, "mkdir")
    assert change.kind == WIDENED and change.case.subject.cwd.startswith(change.case.subject.home)


def test_it_can_be_about_one_caller():
    old = parsed('native-fswrite: filename match "$HOME" then permit, if user = 0')
    new = parsed('native-fswrite: filename match "/root" then permit, if user = root')
    root = Subject(0, 0, "/root", "root", "/")
    assert not changed(old, new, subjects=[root])
    assert changed(old, new)


def test_what_stands_beside_rules_counts():
    base = ["native-fsread: true then permit", "native-execve: permit", "native-close: permit",
            "native-write: permit"]  # fmt: skip
    old = parsed(*base, extended=True)
    strict = parsed("no-dotdot", *base, extended=True)
    change = one_change(old, strict, "openat", "read")
    assert change.kind == NARROWED and '".."' in change.when
    assert ("write", "") not in changed(old, strict)
    inside = parsed("exec-in /usr/bin", *base, extended=True)
    assert changed(old, inside) == {("execve", ""): {NARROWED}, ("execveat", ""): {NARROWED}}
    after = parsed('after native-fsread: filename eq "/x" then only write', *base, extended=True)
    change = one_change(after, old, "close")
    assert change.kind == WIDENED and change.when.startswith("once this has happened")
    assert ("write", "") not in changed(after, old)
    assert not changed(after, parsed(
        'after native-fsread: filename eq "/x" then only write', *base, extended=True
    ))  # fmt: skip


def test_what_cannot_be_divided_is_said_and_still_tried():
    old = parsed('native-fsread: filename re "^/(a)\\\\1$" then permit')
    new = parsed('native-fsread: filename re "^/(a)\\\\1$" then permit',
                 'native-fsread: filename eq "/b" then permit')  # fmt: skip
    found = compare(old, new)
    assert kinds_of(found) == {WIDENED, UNCLEAR}
    inexact = {one.call for one in found if not one.exact}
    assert "stat" in inexact and "write" not in inexact


def test_ipv6_networks_are_tried_at_their_edges():
    old = parsed('native-connect: sockaddr in "inet-[2001:db8::/32]:443" then permit',
                 extended=True)  # fmt: skip
    new = parsed('native-connect: sockaddr in "inet-[2001:db8::/33]:443" then permit',
                 extended=True)  # fmt: skip
    assert one_change(old, new, "connect").kind == NARROWED


def test_long_lists_are_compared_quickly():
    lines = [f'native-fsread: filename match "/usr/share/{n:04}/*.conf" then permit'
             for n in range(400)]  # fmt: skip
    old, new = parsed(*lines), parsed(*lines[:-1])
    change = one_change(old, new, "openat", "read")
    assert change.case.values["filename"] == [b"/usr/share/0399/.conf"]


def test_callers_of_every_kind_are_judged():
    policy = parsed("native-read: permit, if user = 0", "native-read: permit, if user > 5",
                    "native-read: permit, if group < 7")  # fmt: skip
    subjects = subjects_of(policy.rules)
    assert {one.uid for one in subjects} == {1, 4, 5, 6, 0, 0xFFFFFFFF}
    assert {one.gid for one in subjects} == {6, 7, 8}
