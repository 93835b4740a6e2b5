"""What the kernel answers a listener, and what is made of it; the kernel's part is played here."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from certexec.kernel import notify
from certexec.kernel.notify import Listener

LISTENER, COOKIE, FILE = 7, 2**63 + 5, 11
Asked = list[tuple[Any, ...]]


class Kernel:
    """Answers each ioctl(2) with what is next: a number, or an errno that it fails with.

    Attributes:
        asked: (operation, the fields of its argument); given: written to the argument of RECV.
    """

    FORMS = {
        notify._SEND: "=QqiI", notify._ADDFD: "=QIIII", notify._ID_VALID: "=Q",
        notify._RECV: "=QIIiIQ6Q",
    }  # fmt: skip

    def __init__(self, *answers: int, given: bytes = b"") -> None:
        self.answers = list(answers)
        self.given = given
        self.asked: Asked = []

    def __call__(self, fd: int, operation: int, argument: Any) -> int:
        assert fd == LISTENER
        form = self.FORMS.get(operation)
        self.asked.append(
            (operation, *((argument,) if form is None else struct.unpack(form, argument)))
        )
        answer = self.answers.pop(0)
        if answer < 0:
            raise OSError(-answer, "")
        argument_is_result = operation == notify._RECV
        if argument_is_result:
            argument[: len(self.given)] = self.given
        return answer


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    def begin(*answers: int, given: bytes = b"") -> tuple[Listener, Kernel]:
        kernel = Kernel(*answers, given=given)
        monkeypatch.setattr(notify.fcntl, "ioctl", kernel)
        return Listener(LISTENER), kernel

    return begin


def test_a_notification_is_read_field_by_field_from_a_buffer_of_zeroes(play: Any) -> None:
    fields = (COOKIE, 42, 0, 257, 0xC000003E, 99, 1, 2, 3, 4, 5, 2**64 - 1)
    listener, kernel = play(0, given=struct.pack("=QIIiIQ6Q", *fields))
    one = listener.receive()
    assert (one.cookie, one.tid, one.nr, one.arch) == (COOKIE, 42, 257, 0xC000003E)
    assert one.args == (1, 2, 3, 4, 5, 2**64 - 1)
    assert kernel.asked == [(notify._RECV, *[0] * 12)]


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EINTR, errno.EAGAIN])
def test_a_caller_that_died_meanwhile_is_nobody(play: Any, error: int) -> None:
    assert play(-error)[0].receive() is None


def test_whatever_else_fails_is_no_empty_queue(play: Any) -> None:
    with pytest.raises(OSError):
        play(-errno.EBADF)[0].receive()


def test_a_signal_does_not_make_a_caller_that_waits_a_dead_one(play: Any) -> None:
    listener, kernel = play(-errno.EINTR, 0)
    assert listener.is_valid(COOKIE)
    assert kernel.asked == [(notify._ID_VALID, COOKIE)] * 2


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EBADF, errno.ENOTTY])
def test_whoever_is_not_known_to_wait_does_not(play: Any, error: int) -> None:
    assert not play(-error)[0].is_valid(COOKIE)


def test_an_errno_is_never_answered_together_with_a_value(play: Any) -> None:
    listener, kernel = play(0, 0, 0)
    listener.answer(COOKIE, 5)
    listener.answer(COOKIE, 5, errno.EACCES)
    listener.resume(COOKIE)
    assert kernel.asked == [
        (notify._SEND, COOKIE, 5, 0, 0),
        (notify._SEND, COOKIE, 0, -errno.EACCES, 0),
        (notify._SEND, COOKIE, 0, 0, notify.RESPONSE_CONTINUE),
    ]


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EINPROGRESS])
def test_nobody_has_an_answer_that_nobody_waited_for(play: Any, error: int) -> None:
    listener, _ = play(-error, -error)
    assert not listener.answer(COOKIE)
    assert not listener.resume(COOKIE)


def test_an_answer_that_fails_otherwise_is_told(play: Any) -> None:
    with pytest.raises(OSError):
        play(-errno.EINVAL)[0].answer(COOKIE)


def test_a_signal_keeps_no_answer_back(play: Any) -> None:
    listener, kernel = play(-errno.EINTR, 0)
    assert listener.answer(COOKIE, 3)
    assert len(kernel.asked) == 2


@pytest.mark.parametrize("closes", [False, True])
def test_a_descriptor_is_installed_and_then_its_number_is_the_answer(
    play: Any, closes: bool
) -> None:
    listener, kernel = play(-errno.EINTR, 4, -errno.EINTR, 0)
    assert listener.answer_with_fd(COOKIE, FILE, closes) == (4, 0)
    # no flag that answers in the same step: one that is broken off would answer 0, standard input
    added = (notify._ADDFD, COOKIE, 0, FILE, 0, notify.O_CLOEXEC if closes else 0)
    sent = (notify._SEND, COOKIE, 4, 0, 0)
    assert kernel.asked == [added, added, sent, sent]


def test_without_the_descriptor_there_is_no_answer(play: Any) -> None:
    listener, kernel = play(-errno.EMFILE)
    assert listener.answer_with_fd(COOKIE, FILE, False) == (-1, errno.EMFILE)
    assert len(kernel.asked) == 1


def test_kernels_that_wake_no_faster_are_told(play: Any) -> None:
    listener, kernel = play(0, -errno.EINVAL)
    assert listener.wake_synchronously() and not listener.wake_synchronously()
    assert kernel.asked[0] == (notify._SET_FLAGS, notify._SYNC_WAKE_UP)
