"""The questions on an agent's desk: one is shown, each is answered once, none stays too long."""

from __future__ import annotations

from certexec.run.agent_desk import LATE, WITHDRAWN, Desk, question_lines

HOSTILE = "/tmp/\x1b[2J\n#1 permitted\u202e"


class Asked:
    """A question without a supervisor."""

    asker_uid, asker_pid = 1000, 41

    def __init__(
        self, milliseconds: object = 30000, by_registers: bool = False, **event: object
    ) -> None:
        self.milliseconds = milliseconds
        self.by_registers = by_registers
        self.event = event
        self.withdrawn = False
        self.answers: list[str] = []

    def answer(self, word: str) -> bool:
        self.answers.append(word)
        return not self.withdrawn

    def is_withdrawn(self) -> bool:
        return self.withdrawn


def test_questions_are_answered_one_after_the_other():
    now = [0.0]
    desk = Desk(lambda: now[0])
    first, second = Asked(), Asked()
    one, two = desk.add(first), desk.add(second)
    assert desk.shown is one
    assert desk.answer(two.number, "deny") and desk.answer(one.number, "permit")
    assert (first.answers, second.answers) == (["permit"], ["deny"])
    assert desk.shown is None and not desk.answer(one.number, "always")
    assert first.answers == ["permit"]


def test_what_nobody_waits_for_any_more_goes_away():
    now = [0.0]
    desk = Desk(lambda: now[0])
    first, second, third = Asked(), Asked(1000), Asked("soon")
    one, two, three = (desk.add(each) for each in (first, second, third))
    first.withdrawn = True
    assert desk.clear() == [(one, WITHDRAWN), (three, LATE)]
    assert desk.left(two) == 1.0 and desk.shown is two
    now[0] = 1.0
    assert desk.clear() == [(two, LATE)] and desk.clear() == []
    assert not first.answers + second.answers + third.answers


def test_a_question_can_wait_behind_others():
    desk = Desk()
    desk.later()
    one, two = desk.add(Asked()), desk.add(Asked())
    desk.later()
    assert desk.waiting == [two, one]


def test_a_question_shows_what_was_judged_and_nothing_drives_the_terminal():
    asked = Asked(
        user="alice", program=HOSTILE, pid=42, certificate=HOSTILE, syscall="openat",
        arguments={"filename": HOSTILE, "oflags": "ro", HOSTILE: ""}, policy=HOSTILE,
        **{"as": "root"},
    )
    lines = question_lines(Desk().add(asked), 29.6)
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith("#1, 30 s: alice's /tmp/\\x1b[2J")
    assert "    oflags: ro" in lines and "    as root" in lines
    assert lines[-1].endswith("asked by process 41 of uid 1000")
    assert "    registers: 00ff" in question_lines(Desk().add(Asked(args="00ff")), 1.0)


def test_a_question_says_whether_a_rule_asks_and_what_is_not_judged():
    of_rule = question_lines(Desk().add(Asked(args="00", reason="ask")), 1.0)
    assert "    a rule of the policy asks" in of_rule
    assert not any("memory" in line for line in of_rule)
    unmatched = Asked(args="00", reason="unmatched", by_registers=True)
    lines = question_lines(Desk().add(unmatched), 1.0)
    assert "    no rule of the policy matches it" in lines
    assert any("what it reads from memory is what stands there then" in line for line in lines)


def test_registers_are_told_in_the_words_of_rules_as_far_as_these_see_them():
    words = (1, 2, 0, 0, 0, 0)
    raw = b"".join(one.to_bytes(8, "little") for one in words).hex()
    lines = question_lines(Desk().add(Asked(syscall="socket", args=raw, by_registers=True)), 1.0)
    decoded = ["    sockdom: AF_UNIX", "    socktype: SOCK_DGRAM"]
    assert lines[1:4] == [f"    registers: {raw}", *decoded]
    both = Asked(syscall="kill", args=raw, arguments={"signame": "SIGINT"}, by_registers=True)
    lines = question_lines(Desk().add(both), 1.0)
    assert lines[1:3] == ["    signame: SIGINT", f"    registers: {raw}"]
    for odd in ("", "zz", raw[2:], HOSTILE):
        for call in ("socket", "nonsense", HOSTILE):
            shown = question_lines(Desk().add(Asked(syscall=call, args=odd)), 1.0)
            assert all(line.isprintable() for line in shown)
