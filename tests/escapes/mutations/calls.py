"""Defences of judged calls, of the supervisor and of what the filter lets through."""

from __future__ import annotations

import os
from typing import Any

from .patching import patch


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


def binds_by_name() -> None:
    """a UNIX socket is bound by the path again, not in the directory that was judged"""
    from certexec.run.emulate_sockets import Bind

    patch(Bind, _is_fixed=lambda self, parent: True)


def exec_stop_blind() -> None:
    """nothing is compared at the exec stop"""
    from certexec.run.exec_judge import ExecJudge

    patch(ExecJudge, _objection=lambda self, *those: "")


def judged_by_text() -> None:
    """a name is judged as it was written, not by what it leads to"""
    import os

    from certexec.run.resolve import Resolver

    found = Resolver._found

    def mutated(self: Any, task: Any, fd: int, path: bytes, *more: Any) -> Any:
        resolved = found(self, task, fd, path, *more)
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

    patch(Mounts, stay_home=lambda self, fd: os.fstat(fd).st_mode)


def supervisor_bare() -> None:
    """calls that name another process are not looked at"""
    from certexec.policy import decisions

    patch(decisions, PROTECTED={})


def supervisor_in_proc() -> None:
    """the supervisor is not recognised in /proc"""
    from certexec.run import proc_place

    patch(proc_place, thread_group=lambda root, number: b"")


def opens_unwatched() -> None:
    """permitted opens of somebody with capabilities stay with the kernel"""
    from certexec.policy.decisions import Table

    patch(Table, _watch=lambda self, name, decisions: decisions)


def owners_free() -> None:
    """whom asynchronous input signals, and how, is not looked at"""
    from certexec.policy import decisions

    patch(decisions, signal_owner_guards=list)


def dumpable_free() -> None:
    """PR_SET_DUMPABLE is permitted"""
    from certexec.policy import decisions

    patch(decisions, PRCTL=-1, dumpable_guard=lambda: decisions.Clause((), decisions.PERMITTED))


def fails_open() -> None:
    """what could not be judged, for want of descriptors or anything else, is permitted"""
    import errno

    from certexec.run.resolve import Resolver
    from certexec.run.supervisor import Supervisor

    answer, unreachable = Supervisor._answer, Resolver._unreachable

    def not_judged(self: Any, path: bytes, error: OSError) -> Any:
        if error.errno == errno.EMFILE:
            raise error
        return unreachable(self, path, error)

    patch(Resolver, _unreachable=not_judged)

    def mutated(self: Any, call: Any) -> bool:
        try:
            return answer(self, call)
        except Exception:
            if not call.answered:
                call.resume()
            return False

    patch(Supervisor, _answer=mutated)


def domains_free() -> None:
    """a program may restrict itself by Landlock although somebody else opens for it"""
    from certexec.policy import decisions

    patch(decisions, OWN_DOMAIN_BINDS=())


def _branches(constant: int) -> None:
    from certexec.policy import compile as compiler

    class Mutated(compiler.Assembler):
        def branch(self, operation: Any, value: int, yes: Any, no: Any) -> Any:
            return super().branch(operation, value, yes, yes if value == constant else no)

    patch(compiler, Assembler=Mutated)


def any_architecture() -> None:
    """the filter does not ask from which table a number is"""
    from certexec.kernel.bpf import AUDIT_ARCH_X86_64

    _branches(AUDIT_ARCH_X86_64)


def x32_numbers() -> None:
    """the filter lets the numbers of x32 through"""
    from certexec.kernel.bpf import SECCOMP_RET_ALLOW, X32_SYSCALL_BIT
    from certexec.policy import compile as compiler

    class Mutated(compiler.Assembler):
        def search(self, ranges: Any) -> Any:
            allow = self.ret(SECCOMP_RET_ALLOW)
            return super().search(
                [(low, allow if low == X32_SYSCALL_BIT else to) for low, to in ranges]
            )

    patch(compiler, Assembler=Mutated)


def io_uring_free() -> None:
    """io_uring is permitted beside rules on names"""
    left_to_kernel("io_uring_setup", "io_uring_enter", "io_uring_register")


def children_free() -> None:
    """what children ask for is left to the kernel"""
    import os

    from certexec.run.supervisor import Supervisor

    emulate = Supervisor._emulate
    first: list[int] = []

    def mutated(self: Any, call: Any, judged: bool, log: bool) -> bool:
        first.append(call.task.tgid)
        if call.task.tgid != first[0] and os.getpid():
            call.resume()
            return False
        return emulate(self, call, judged, log)

    patch(Supervisor, _emulate=mutated)


def no_guards() -> None:
    """nothing stands in front of the policy"""
    from certexec.policy import decisions

    patch(decisions, inherent_guards=lambda **_: {})


def side_doors_open() -> None:
    """what permitted calls do that other rules forbid is not refused"""
    from certexec.policy import decisions

    patch(decisions, close_side_doors=lambda *_: {})


def settings_of_supervisor() -> None:
    """what is opened is of the supervisor's namespaces"""
    from certexec.run import emulate_open

    patch(emulate_open, hangs_on_namespaces=lambda *_: False)


def array_read_again() -> None:
    """the kernel reads the array of socketcall's arguments again"""
    from certexec.run.call import Call
    from certexec.run.emulate_sockets import Connect
    from certexec.run.foreign_call import ForeignCall
    from certexec.run.supervisor import Supervisor

    patch(ForeignCall, resume=Call.resume)
    patch(Supervisor, carry_out=lambda self, operation, mask, real_ids: operation.call.resume())
    patch(Connect, may_block=lambda self: False)


def array_not_judged() -> None:
    """a rule about arguments in memory lets the call pass"""
    from certexec.policy import foreign_table
    from certexec.policy.guards import PERMITTED

    patch(foreign_table, _unreadable=lambda table: PERMITTED)


def foreign_unguarded() -> None:
    """what certexec puts in front of rules is not there in the table of the 32-bit ABI"""
    from certexec.policy import foreign_table
    from certexec.policy.guards import PERMITTED, Clause

    carry = foreign_table.ForeignTable._carry_over

    def mutated(self: Any, meaning: Any) -> Any:
        clauses = carry(self, meaning)
        return [Clause((), PERMITTED)] if clauses[-1].decision.permitted else clauses

    patch(foreign_table.ForeignTable, _carry_over=mutated)


def clone3_free() -> None:
    """clone3 is permitted"""
    left_to_kernel("clone3")


def gate_open() -> None:
    """the launch gate asks for no number"""
    from certexec.kernel.bpf import SECCOMP_RET_ALLOW
    from certexec.policy import compile as compiler

    patch(compiler, _gate=lambda asm, otherwise, gates: asm.ret(SECCOMP_RET_ALLOW))


def gate_by_flags() -> None:
    """the launch gate asks for AT_EMPTY_PATH, not for the number"""
    from certexec.kernel.bpf import LOW, SECCOMP_RET_ALLOW, argument_offset
    from certexec.policy import compile as compiler

    def mutated(asm: Any, otherwise: Any, gates: Any) -> Any:
        allow = asm.ret(SECCOMP_RET_ALLOW)
        return asm.load(argument_offset(4, LOW), asm.test(0x1000, 0x1000, allow, otherwise))

    patch(compiler, _gate=mutated)


def execs_free() -> None:
    """execs are left to the kernel"""
    left_to_kernel("execve", "execveat")


def connects_free() -> None:
    """connect is left to the kernel"""
    left_to_kernel("connect")


def families_as_said() -> None:
    """an address is taken for one of the family that it says"""
    from certexec.run import emulate_send

    patch(emulate_send, taken_family=lambda name, fd, address: None)


def rights_as_given() -> None:
    """numbers of descriptors are sent as the program gave them"""
    from certexec.run.control import Control

    patch(Control, _copy_rights=lambda self, data: data)


def claims_unchecked() -> None:
    """what a message says about its sender is left to the kernel, which asks our own ids"""
    from certexec.run import control

    patch(control, checked_credentials=lambda call, data: data)


def senders_untold() -> None:
    """a message that says nothing about its sender is sent like that"""
    from certexec.run.control import Control

    packed = Control.packed
    patch(Control, packed=lambda self, sender: packed(self, sender if self.named else None))


def gains_ignored() -> None:
    """what a program gains by an exec is not looked at"""
    from certexec.run import exec_judge

    patch(exec_judge, excess=lambda before, pid: "")


def environment_passed() -> None:
    """a program with a grant gets the invoker's environment"""
    from certexec.run import decide

    build = decide.environment.build

    def mutated(signed: Any, typed: dict[bytes, bytes], uid: int, grant: bool) -> Any:
        entries = build(signed, typed, uid, grant)
        return [*(entries or []), *(b"%s=%s" % pair for pair in typed.items())]

    patch(decide.environment, build=mutated)


def others_free() -> None:
    """a process may get into one that is under another policy"""
    from certexec.run import supervisor

    patch(supervisor, concerns_others=lambda call, transitions: 0)


def strangers_ours() -> None:
    """a process that nobody told of has the certificate's own policy, and nobody tells of births"""
    from certexec.run.transitions import OWN, Transitions

    patch(
        Transitions,
        born=lambda self, child, parent: None,
        of=lambda self, process: self._places.get(process, OWN),
    )


def mapped_ignored() -> None:
    """an IPv4 address in an IPv6 one is taken for one of IPv6"""
    from certexec.run import emulate_sockets

    patch(emulate_sockets, _V4_MAPPED=b"")


def namespaces_continued() -> None:
    """calls of processes in other namespaces, or with another root, are left to the kernel"""
    from certexec.run import home, supervisor

    emulate = supervisor.Supervisor._emulate

    def mutated(self: Any, call: Any, judged: bool, log: bool) -> bool:
        if home._namespaces(str(call.task.tid)) != self.home._place:
            call.resume()
            return False
        return emulate(self, call, judged, log)

    patch(supervisor.Supervisor, _emulate=mutated)
