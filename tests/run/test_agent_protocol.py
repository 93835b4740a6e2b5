"""What supervisors and agents say: one encoding of each message, and nothing else is an answer."""

from __future__ import annotations

import cbor2
import pytest

from certexec.errors import RunError
from certexec.policy.guards import (
    ASKED,
    ASKED_UNMATCHED,
    DENY,
    JUDGED,
    PERMITTED,
    UNSUPPORTED,
    Decision,
)
from certexec.policy.nest import meet
from certexec.run import agent_protocol as protocol
from certexec.run import inquiry
from certexec.run.inquiry import Inquiry, Place, places_for
from tests.observe.sample import HOSTILE, event


def test_a_question_holds_the_event_and_what_is_not_text_in_bytes() -> None:
    asked = event(verdict="ask", arguments=[("filename", HOSTILE)], program="/b\udcff")
    said = cbor2.loads(protocol.question(7, asked, 1.0, 500))
    assert (said["type"], said["id"], said["milliseconds"]) == ("question", 7, 500)
    assert said["deadline"] == "1970-01-01T00:00:01.000000Z"
    assert said["event"]["verdict"] == "ask"
    assert said["judged"] == "arguments"
    assert "args" not in said["event"]
    said = cbor2.loads(protocol.question(7, asked, 1.0, 500, "registers"))
    assert (said["judged"], said["event"]["args"]) == ("registers", asked.raw.hex())
    assert said["event"]["program"] == "/b\ufffd"
    exact = said["event"]["bytes"]
    assert exact["program"] == b"/b\xff"
    assert exact["arguments"]["filename"] == HOSTILE.encode("utf-8", "surrogateescape")


def test_the_longest_question_fits() -> None:
    asked = event(arguments=[(f"n{number}", "\U0001f600" * 5000) for number in range(90)])
    assert len(protocol.question(1, asked, 1.0, 1)) <= protocol.QUESTION_MAX


@pytest.mark.parametrize("word", protocol.ANSWERS)
def test_only_the_whole_answer_to_this_question_is_one(word: str) -> None:
    good = protocol.answer(7, word)
    assert protocol.read_answer(good, 7) == word
    assert len(good) <= protocol.ANSWER_MAX
    for bad in (
        protocol.answer(8, word), good + b"\0", good[:-1], b"", word.encode(),
        protocol.answer(7, word.upper()), cbor2.dumps({"answer": word, "id": 7}),
        cbor2.dumps({"type": "answer", "id": 7, "answer": word}),  # in another order
    ):  # fmt: skip
        assert protocol.read_answer(bad, 7) == ""


def test_only_the_offered_version_is_accepted() -> None:
    assert protocol.is_accepted(protocol.accept())
    hello = {"type": "hello", "protocol": protocol.PROTOCOL}
    for bad in (protocol.offer(), cbor2.dumps({**hello, "version": 2}), b""):
        assert not protocol.is_accepted(bad)
    with pytest.raises(RunError):
        protocol.read(b"\xff")


def test_where_nobody_listens_there_is_no_agent_at_once() -> None:
    asked = Inquiry(1, event(), [Place("/run/certexec-nowhere", (0,))])
    assert asked.step()
    assert asked.outcome == inquiry.NO_AGENT


def test_who_may_answer_follows_from_who_runs_it_and_what_is_granted() -> None:
    roots = ("/run/certexec", (0,))

    def places(uid: int, grant: bool) -> list[tuple[str, tuple[int, ...]]]:
        return [(one.directory, tuple(one.uids)) for one in places_for(uid, grant)]

    assert places(0, False) == places(0, True) == places(1000, True) == [roots]
    assert places(1000, False) == [("/run/user/1000/certexec", (1000, 0)), roots]


@pytest.mark.parametrize("asked", [ASKED, ASKED_UNMATCHED], ids=repr)
def test_of_policies_over_one_another_an_answer_never_passes_by_the_rules_of_another(
    asked: Decision,
) -> None:
    assert meet([asked, PERMITTED]) == meet([PERMITTED, asked]) == asked
    assert meet([asked, Decision(DENY, 13)]) == Decision(DENY, 13)
    for both in ([asked, JUDGED], [JUDGED, asked]):
        assert meet(both).why == UNSUPPORTED
        assert meet(both).denied
