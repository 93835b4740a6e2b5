"""What certexec writes in any form is read back, whatever a program put into it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.observe import audit, event, json_lines, rfc5424
from certexec.observe.event import Lost, Note, Overflow
from certexec.observe.event_log import PassedOver, read_events
from certexec.observe.journald import field_name
from certexec.observe.lines import text_line
from certexec.observe.reading import DEPTH_MAX, read_line, unescape
from tests.observe.sample import HOSTILE
from tests.observe.sample import event as sample

STAMP = "1970-01-01T00:00:01.000000Z"
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
TEXTS = st.text(CHARACTERS, max_size=30) | st.sampled_from(
    [HOSTILE, ", user: root", 'a"]', "\\", "\\x41", "\udcff", "a\\", "\\n", "é ☃ \U0001f600", ":"]
)  # fmt: skip
NAMES = TEXTS.filter(bool)


def as_journal(record) -> str:
    """What journalctl -o json prints of a record."""
    fields = {"_HOSTNAME": "web1", "MESSAGE": record.line()}
    for name, value in record.members():
        if isinstance(value, (str, int)):
            fields[field_name(name)] = event.clipped(str(value), 16 << 10)
            continue
        for inner, content in value.items():
            kind = "arg" if name == "arguments" else name
            fields[field_name(kind, inner)] = event.clipped(str(content), 16 << 10)
    return json.dumps(fields)


FORMS = {
    "json": json_lines.render,
    "text": text_line,
    "syslog": lambda record: f"Nov 21 22:38:15 web1 certexec[7]: {record.line()}",
    "syslog with ISO time": lambda record: f"{STAMP} web1 certexec[7]: {record.line()}",
    "RFC 5424": lambda record: rfc5424.message(record).decode(),
    "journal": as_journal,
    "audit": lambda record: (
        f"type=USER_AVC msg=audit(1.000:7): pid=1 uid=0 auid=1 ses=1 msg='"
        f"{audit.message(record).decode()}'\x1dUID=\"root\""
    ),
}


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None, max_examples=120)
@given(user=NAMES, program=NAMES, texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_a_call_is_read_back(form, user, program, texts):
    names = ["filename", "filename[1]", "oflags"]
    arguments = list(zip(names, texts, strict=False))
    record = sample(user=user, program=program, policy=program, arguments=arguments)
    line = FORMS[form](record)
    assert "\n" not in line
    seen = read_line(line + "\n")
    assert seen is not None

    def same(shown: str, told: str) -> bool:
        if form == "json":  # the exact bytes stand beside it
            return shown == "".join("�" if "\ud800" <= c <= "\udfff" else c for c in told)
        # what is no character at all, and what the log's escapes are ambiguous about
        return shown.encode("utf-8", "surrogateescape") == told.encode("utf-8", "surrogateescape")

    plain = all(_is_plain(text) for text in (user, program, *texts))
    assert (seen.text("verdict"), seen.text("syscall")) == ("deny", "connect")
    assert seen.text("event") == "call" and set(seen.arguments) == dict(arguments).keys()
    assert (seen.members["pid"], seen.members["number"]) == (42, 42)
    if plain:
        assert same(seen.text("user"), user) and same(seen.text("program"), program)
        assert all(same(seen.arguments[name], text) for name, text in arguments)
    if form not in ("text", "json", "audit"):
        assert seen.host in ("web1", rfc5424._host())


def _is_plain(text: str) -> bool:
    """Whether an escaped text has one meaning: C1 controls look like bytes of no character."""
    return not any("\x80" <= one <= "\xff" and not one.isprintable() for one in text) and not any(
        "\ud800" <= one < "\udc80" or "\udd00" <= one <= "\udfff" for one in text
    )


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_call_is_read_back(form):
    render = FORMS[form]
    lost = read_line(render(Lost(1.0, 7, "no room")))
    assert lost.text("event") == "lost" and (lost.count == 7 or form == "audit")
    folded = sample()
    folded.count, folded.since = 999, 0.5
    assert read_line(render(folded)).count == 999
    if form != "text":  # a line that is nothing else is not taken for certexec's
        assert read_line(render(Note(1.0, HOSTILE.rstrip("\udcff")))).text("event") == "note"
    many = read_line(render(Overflow(2.0, 1.0, {"deny openat": 5, "permit read": 2})))
    assert many.text("event") == "overflow"
    if form != "audit":
        assert many.count == 7
        assert many.members["calls"] == {"deny openat": 5, "permit read": 2}


def test_times_are_read():
    for form in ("json", "syslog with ISO time", "RFC 5424", "audit", "journal"):
        assert read_line(FORMS[form](sample())).time == 1.0
    assert read_line(FORMS["syslog"](sample())).time > 1e9
    assert read_line(FORMS["text"](sample())).time == 0.0


@pytest.mark.parametrize(
    "line",
    ["", "\n", "hello", "{}", "{", "[1]", '{"event": "other"}', "deny user: alice", "deny x: y",
     "Nov 21 22:38:15 web1 sshd[7]: deny user: a, syscall: native-x(1)", "[" * 5000,
     "<84>1 - - sshd - - - deny", "type=USER_AVC msg=audit(1.0:1): msg='avc: denied'",
     '{"event": ' + "[" * 100000],
)  # fmt: skip
def test_other_lines_are_no_events(line):
    assert read_line(line) is None


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda data: data.decode("latin-1")))
@settings(deadline=None, max_examples=300)
def test_no_line_is_too_odd(text):
    for line in (text, "{" + text, f"{STAMP} h certexec: {text}", f"<1>1 - - certexec - - {text}",
                 f"<1>1 - - certexec - - [certexec@32473 {text}", f"deny user: {text}",
                 f"type=USER_AVC msg=audit(1.0:1): msg='op={text}'"):  # fmt: skip
        seen = read_line(line)
        assert seen is None or seen.text("event")


def test_odd_members_do_no_harm():
    seen = read_line('{"event": "call", "count": "x", "arguments": [1], "time": 7, "user": {}}')
    assert (seen.count, seen.arguments, seen.time, seen.text("user")) == (1, {}, 0.0, "{}")


def test_what_is_nested_deeper_than_events_are_is_none():
    def deep(levels):
        return '{"event": "call", "x": ' + "[" * levels + "]" * levels + "}"

    assert read_line(deep(DEPTH_MAX - 1)) is not None
    assert read_line(deep(DEPTH_MAX)) is None


@given(TEXTS.filter(lambda text: _is_plain(text)))
def test_escapes_are_undone(text):
    assert unescape(event.escape(text)) == text


@pytest.mark.parametrize("form", FORMS)
def test_learning_reads_every_form_that_says_why_a_call_was_denied(form):
    record = sample(reason="unmatched")
    line = FORMS[form](record)
    if form in ("text", "syslog", "syslog with ISO time"):
        passed = PassedOver()
        assert list(read_events(["something else", line, line], passed)) == []
        assert (passed.events, passed.unsaid) == (0, 2)
        assert passed.why == "line 2 does not say why the call was denied"
        return
    (one,) = read_events([line])
    assert (one.program, one.policy, one.call) == (record.program, record.policy, record.syscall)
    assert one.texts == {name: [text] for name, text in record.arguments}
