"""Each defence taken out by itself: the attack that it stops must then succeed.

The functions run in the process of one policy server, which becomes the supervisor, before it
serves; so only what the run path may import is imported here. Launcher, kernel, certificate and
policy stay as they are. The text of each is its docstring.
"""

from __future__ import annotations

from typing import Any


def patch(owner: Any, **changes: Any) -> None:
    """Replace attributes that must be there: a mutation of nothing would prove nothing."""
    for name, value in changes.items():
        assert hasattr(owner, name), (owner, name)
        setattr(owner, name, value)


def continued() -> None:
    """the kernel goes on with a judged call and reads its arguments again"""
    from certexec.run.emulate_open import Open
    from certexec.run.emulate_sockets import Connect
    from certexec.run.supervisor import Supervisor

    patch(Supervisor, carry_out=lambda self, operation, mask, real_ids: operation.call.resume())
    for operation in (Open, Connect):
        patch(operation, may_block=lambda self: False)  # else a worker carries it out


def name_again() -> None:
    """an open goes by the name again, not by what was judged"""
    from certexec.run import emulate_open
    from certexec.run.resolve import AT_FDCWD

    patch(
        emulate_open.Open,
        _open_pinned=lambda self, flags: emulate_open.raw_open(
            AT_FDCWD, self.path, flags, self.mode
        ),
    )


def exec_stop_blind() -> None:
    """nothing is compared at the exec stop"""
    from certexec.run.exec_judge import ExecJudge

    patch(ExecJudge, _objection=lambda self, call, execution, by_rules, pid: "")


def judged_by_text() -> None:
    """a name is judged as it was written, not by what it leads to"""
    import os

    from certexec.run.resolve import Resolver

    found = Resolver._found

    def mutated(self: Any, task: Any, fd: int, path: bytes) -> Any:
        resolved = found(self, task, fd, path)
        resolved.text = os.fsdecode(path)
        return resolved

    patch(Resolver, _found=mutated)


def scope_forgotten() -> None:
    """an absolute name is judged as one from the root, whatever openat2 was told"""
    import os

    from certexec.run.resolve import Resolver

    restricted = Resolver._restricted

    def mutated(self: Any, task: Any, dirfd: int, path: bytes, *more: Any) -> Any:
        resolved = restricted(self, task, dirfd, path, *more)
        if path.startswith(b"/"):
            resolved.text = os.fsdecode(path)
        return resolved

    patch(Resolver, _restricted=mutated)


def _same_names(kept: int) -> None:
    from certexec.run.emulate_links import TwoNames

    made = TwoNames.__init__

    def mutated(self: Any, *arguments: Any) -> None:
        made(self, *arguments)
        self.values = {"filename": [self.values["filename"][kept]] * 2}

    patch(TwoNames, __init__=mutated)


def links_by_old_name() -> None:
    """the new name of a link is not looked at"""
    _same_names(0)


def links_by_new_name() -> None:
    """the old name of a link is not looked at"""
    _same_names(1)


def exchange_one_way() -> None:
    """an exchange of names is judged in one direction"""
    from certexec.run.emulate_links import Rename

    made = Rename.__init__

    def mutated(self: Any, *arguments: Any) -> None:
        made(self, *arguments)
        self.also = ()

    patch(Rename, __init__=mutated)


def left_to_kernel(*names: str) -> None:
    """Have calls that rules judge permitted by the filter."""
    from certexec.kernel.syscalls import NUMBERS
    from certexec.policy import decisions

    made = decisions.Table.__init__

    def mutated(self: Any, *arguments: Any) -> None:
        made(self, *arguments)
        for name in names:
            self.clauses[NUMBERS[name]] = [decisions.Clause((), decisions.PERMITTED)]

    patch(decisions.Table, __init__=mutated)


def handles_free() -> None:
    """name_to_handle_at is left to the kernel"""
    left_to_kernel("name_to_handle_at")


def proc_of_supervisor() -> None:
    """the supervisor is not recognised in /proc, and follows /proc/self itself"""
    from certexec.run import proc_place
    from certexec.run.resolve import Resolver

    patch(proc_place, thread_group=lambda root, number: b"")
    patch(Resolver, _own_name=lambda self, task, current, name: name)


def mounts_ignored() -> None:
    """it is not asked which mount table a directory belongs to"""
    from certexec.run.mounts import Mounts

    patch(Mounts, stay_home=lambda self, fd: None)
