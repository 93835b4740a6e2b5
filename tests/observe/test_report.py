"""Reports: what they count, what they call new, and that a page is only text."""

from __future__ import annotations

import html.parser
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certexec.observe.reading import Seen
from certexec.observe.report import LogReport, VerifyReport, read_state
from certexec.observe.report_page import ROWS_MAX, TEXT_MAX, log_page, verify_page

HOSTILE = "</code><script>alert(1)</script>\"'><img src=//x onerror=y>\x1b[31m\u202e\udcff&lt;"


def call(**members: object) -> Seen:
    host = str(members.pop("host", ""))
    return Seen(
        {"event": "call", "verdict": "deny", "reason": "unmatched", "user": "alice",
         "program": "/usr/bin/nc", "certificate": "nc.cert", "syscall": "connect",
         "arguments": {"sockaddr": "inet-[192.0.2.1]:80"}, "time": "2026-11-21T22:00:00Z",
         **members},
        host,
    )  # fmt: skip


class Page(html.parser.HTMLParser):
    """What a browser would see: elements, attributes, and text."""

    VOID = ("meta",)

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "b", "table", "tr",
    "th", "td", "code", "span", "svg", "rect", "text", "br",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "role", "aria-label", "viewbox",
    "width", "height", "x", "y", "text-anchor",
}  # fmt: skip


def check(page: str) -> Page:
    """Nothing but the few elements and attributes that reports are made of; no address at all."""
    Page.VOID = ("meta", "br")
    seen = Page(page)
    assert set(seen.elements) <= ELEMENTS
    assert seen.attributes <= ATTRIBUTES
    assert "default-src 'none'" in page and "url(" not in page and "@import" not in page
    return seen


TEXTS = st.text(max_size=40) | st.just(HOSTILE)


@settings(deadline=None, max_examples=100)
@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_no_text_becomes_anything_but_text(one, two, three, four):
    events = [
        call(program=one, user=two, certificate=three, reason=four, syscall=one, host=two,
             verdict=three, arguments={four: one, "filename": two}),
        Seen({"event": "note", "text": one}, two), Seen({"event": "lost", "reason": three}),
    ]  # fmt: skip
    state = {"made": four, "denials": [[one, two, three, four, one, two, three]]}
    check(log_page(LogReport(events, state), "now"))
    results = [{"path": one, "ok": False, "reason": two, "message": three},
               {"path": two, "ok": True, "program": four, "valid_until": one, "grant": True,
                "signers": [{"name": three}]}]  # fmt: skip
    state = {"made": four, "certificates": {three: {}}}
    check(verify_page(VerifyReport(results, state), "now"))


def test_what_a_program_chose_is_shown_and_not_obeyed():
    seen = check(log_page(LogReport([call(program=HOSTILE)], {}), "now"))
    assert "<script>alert(1)</script>" in seen.text and "\\x1b[31m\\u202e\\udcff&lt;" in seen.text
    assert seen.text.isprintable() or "\n" in seen.text


def test_it_says_what_ran_what_was_denied_and_how_often():
    events = [
        call(count=3), call(time="2026-11-21T23:00:00Z"), call(verdict="permit", user="bob"),
        call(verdict="kill", syscall="execve", arguments={"filename": "/tmp/x"}),
        Seen({"event": "overflow", "count": 90}),
    ]  # fmt: skip
    report = LogReport(events, {})
    assert report.total == 96
    assert [(row.count, row.key[4]) for row in report.denials] == [(4, "connect"), (1, "execve")]
    assert report.programs["", "nc.cert", "/usr/bin/nc", "alice"] == {"deny": 4, "kill": 1}
    assert sum(sum(counts.values()) for _, _, counts in report.bars) == 6
    text = check(log_page(report, "2026-11-22")).text
    for words in ("96events", "5calls denied", "nc.cert", "inet-[192.0.2.1]:80", "unmatched",
                  "2026-11-21 23:00:00", "more events than the log takes", "first report"):
        assert words in text
    assert "host" not in text


def test_many_machines_are_told_apart():
    text = check(log_page(LogReport([call(host="web1"), call(host="web2")], {}), "now")).text
    assert "host" in text and "web1" in text and "web2" in text


def test_what_changed_since_the_last_report():
    first = LogReport([call(), call(syscall="bind")], {})
    assert not any(row.new for row in first.denials)
    state = read_state(json.dumps(first.state("2026-11-21")).encode(), "log")
    second = LogReport([call(), call(syscall="execve")], state)
    assert [row.new for row in second.denials] == [False, True]
    assert [key[4] for key in second.gone] == ["bind"]
    text = check(log_page(second, "now")).text
    assert "Denied since the last report" in text and "1 denials new or changed, 1 gone" in text


def test_certificates_and_what_became_of_them():
    good = {"path": "/a.cert", "ok": True, "program": "/bin/a", "serial": 1, "grant": True,
            "valid_until": "2027-01-01T00:00:00Z", "signers": [{"name": "ops"}]}  # fmt: skip
    bad = {"path": "/b.cert", "ok": False, "reason": "expired", "message": "it expired", "hint": ""}
    first = VerifyReport([good, bad], {})
    assert [one["path"] for one in first.results] == ["/b.cert", "/a.cert"] and not first.changes
    text = check(verify_page(first, "now")).text
    for words in ("2certificates", "1not valid", "1that grant something", "expired", "it expired",
                  "/bin/a", "ops", "first report"):  # fmt: skip
        assert words in text
    state = read_state(json.dumps(first.state("2026-11-21")).encode(), "verify")
    second = VerifyReport(
        [{**good, "ok": False, "reason": "revoked-key"}, {**good, "path": "/c.cert"}], state
    )
    assert second.changes == {"/a.cert": "not valid any more", "/c.cert": "new"}
    assert second.gone == ["/b.cert"]
    third = VerifyReport([{**good, "serial": 2}, {**bad, "ok": True}], state)
    assert third.changes == {"/a.cert": "another serial", "/b.cert": "valid again"}
    assert not VerifyReport([good, bad], state).changes
    assert "another serial" in check(verify_page(third, "now")).text


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"schema": 1, "kind": "verify"}', b'{"schema": 2, "kind": "log"}',
     b"[" * 99999],
)  # fmt: skip
def test_a_state_that_is_none_counts_as_none(data):
    assert read_state(data, "log") == {}


@pytest.mark.parametrize("state", [{"denials": 7, "made": 7}, {"denials": [7, [7], ["a"]]},
                                   {"certificates": [1], "made": "x"}])  # fmt: skip
def test_a_state_that_somebody_made_up_does_no_harm(state):
    check(log_page(LogReport([call()], state), "now"))
    check(verify_page(VerifyReport([{"path": "a", "ok": True}], state), "now"))


def test_a_page_has_an_end():
    events = [call(program=f"/{number}", time="") for number in range(ROWS_MAX + 5)]
    page = log_page(LogReport([*events, call(program="x" * 99999, count=9)], {}), "now")
    assert "and 6 more" in page and "x" * TEXT_MAX + "..." in page and "x" * 999 not in page
