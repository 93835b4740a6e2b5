"""Defences of calls as somebody else, of questions, of what was lost and what runs inside."""

from __future__ import annotations

from typing import Any

from .patching import patch


def judged_again_never() -> None:
    """a call as somebody else is prepared anew from memory and names when it is carried out"""
    from certexec.run.emulate_open import Open
    from certexec.run.operation_table import OPERATIONS
    from certexec.run.supervisor import Supervisor

    carry_out = Supervisor.carry_out

    def mutated(self: Any, operation: Any, mask: Any, real_ids: bool) -> None:
        if operation.elevated:
            mask.assume(operation.rights, real_ids)
            try:
                again = OPERATIONS[operation.call.name](operation.call, self.resolver)
            finally:
                mask.restore()
            again.rights = operation.rights
            operation.close()
            operation = again
        carry_out(self, operation, mask, real_ids)

    patch(Supervisor, carry_out=mutated)
    patch(Open, may_block=lambda self: False)  # else a worker carries it out


def rights_stay() -> None:
    """whoever calls after a call as somebody else has its rights, too"""
    from certexec.run.supervisor import Supervisor

    carry_out = Supervisor.carry_out
    kept: list[Any] = []

    def mutated(self: Any, operation: Any, mask: Any, real_ids: bool) -> None:
        if operation.elevated:
            kept[:] = [operation.rights]
        elif kept:
            operation.rights = kept[0]
        carry_out(self, operation, mask, real_ids)

    patch(Supervisor, carry_out=mutated)


def rights_of_process() -> None:
    """a call is made with the rights of the process, not of the thread that makes it"""
    from certexec.kernel.procfs import StatusReader, read_status

    patch(StatusReader, read=lambda self, tid: read_status(read_status(tid).tgid))


def execs_though_lent() -> None:
    """a program that has calls made as somebody else may execute others"""
    from certexec.policy.decisions import TreeOptions

    made = TreeOptions.__init__

    def mutated(self: Any, **named: Any) -> None:
        made(self, **{**named, "may_exec": True})

    patch(TreeOptions, __init__=mutated)


def confined_agents() -> None:
    """it is not asked how many filters the process has that listens"""
    from certexec.run import inquiry

    patch(inquiry, _filters=lambda pid: 0)


def answers_from_anybody() -> None:
    """it is not asked who sends an answer, only who listened"""
    from certexec.run import agent_protocol
    from certexec.run.inquiry import Inquiry

    def mutated(self: Any) -> bytes | None:
        try:
            data: bytes = self._socket.recv(agent_protocol.ANSWER_MAX)
        except BlockingIOError:
            return None
        if not data:
            raise OSError("it ended")
        return data

    patch(Inquiry, _receive=mutated)


def any_answer() -> None:
    """it is not asked which question an answer is for"""
    from certexec.run import agent_protocol

    read = agent_protocol.read_answer

    def mutated(data: bytes, number: int) -> str:
        said = agent_protocol.read(data).get("id")
        return read(data, said if isinstance(said, int) else number)

    patch(agent_protocol, read_answer=mutated)


def silence_permits() -> None:
    """whatever is no denial of an agent permits"""
    from certexec.run import agent_protocol, inquiry

    for name in ("NO_AGENT", "TIMED_OUT", "BAD_AGENT", "TOO_MANY"):
        patch(inquiry, **{name: agent_protocol.PERMIT})


def inner_alone() -> None:
    """of a certificate that is executed inside only its own policy counts"""
    from certexec.run.places import Places

    patch(Places, over=lambda self, base, inner: inner)


def any_launcher() -> None:
    """it is not asked whether the launcher was started for the certificate that was judged"""
    from certexec.run import execution

    patch(execution, runs_launcher=lambda pid, certificate: True)


def any_certificate() -> None:
    """it is not asked whether a certificate is one that a policy around it named"""
    from certexec.run.places import Places

    patch(Places, of_certificate=lambda self, digest: next(iter(self._inside.values())))


def nothing_narrows() -> None:
    """what a line "after" takes away is not asked"""
    from certexec.run.narrowing import Narrowing

    patch(Narrowing, _is_lost=lambda self, call, labels: False)


def giving_up_forgotten() -> None:
    """it is not asked whether the right to adopt was given up"""
    from certexec.run.transitions import Transitions

    patch(Transitions, has_given_up=lambda self, process: False)


def domain_whole() -> None:
    """the Landlock domain holds the root directory, too"""
    import os

    from certexec.run import landlock

    standing = landlock.standing

    def mutated(landlocked: Any) -> list[Any]:
        info = os.stat("/")
        root = landlock.Tree(b"/", landlocked.handled, info.st_dev, info.st_ino)
        return [*standing(landlocked), root]

    patch(landlock, standing=mutated)
