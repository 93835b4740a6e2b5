"""Watch a program tree and note what it does, as rules would see it.

The filter hands each call over, the note is made, and the kernel goes on: this is no enforcement,
so nothing is carried out for the program and nothing depends on what it exchanges meanwhile. Texts
are made by the very code that makes them for judging, so that what was learned is what is judged.

What was noted once is only recognised afterwards, by its registers and, for a name, by what it is
and whether it leads where it led before. That keeps a call at a few microseconds.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import struct
from time import monotonic

from certexec.kernel.credentials import Mask
from certexec.kernel.elf import is_32_bit
from certexec.kernel.memory import Glimpse, Memory
from certexec.kernel.notify import Listener, Notification
from certexec.kernel.procfs import StatusReader
from certexec.kernel.syscalls import NAMES, NUMBERS
from certexec.policy import guards
from certexec.policy.calls import NO_REGISTER, arguments_of, call_of, choose_variant
from certexec.policy.decisions import FORKS
from certexec.policy.evaluate import EXECS
from certexec.policy.learned_paths import numbers_in
from certexec.policy.observation import FRESH, MADE, MISSING, Observation, frozen
from certexec.policy.translators import TRANSLATORS
from certexec.policy.watch import WAIT, hides
from certexec.run.call import Call, Fault, GoneError, signed
from certexec.run.emulate_sockets import ADDRESS_MAX, unix_path
from certexec.run.execution import Execution
from certexec.run.operation_table import OPERATIONS
from certexec.run.processes import Process, Processes
from certexec.run.resolve import PATH_MAX, Resolver
from certexec.run.target import UNKNOWN, Target
from certexec.run.task import AT_FDCWD, Task, base_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from certexec.run.operations import Operation

Key = tuple[object, ...]

KNOWN_MAX = 100_000
"""calls that are recognised, before all are forgotten (what was noted stays)."""
SURE = 0.01
"""seconds for which a name is taken to lead where it led: programs ask for one again and again."""
_NAME_ROOM = 256
"""bytes; names that are longer are looked at each time."""
_DIRECTORIES = frozenset(("mkdir", "mkdirat"))
_FLAGS = {
    "open": 1, "openat": 2, "newfstatat": 3, "statx": 2, "access": 1, "faccessat": 2, "stat": 0,
    "lstat": 0, "readlink": 0, "readlinkat": 0,
}  # fmt: skip
"""The calls that programs ask most, and the register that says what they do beside the name."""
_OPENS = frozenset(("open", "openat"))
_ADDRESSED = frozenset(("connect", "bind", "sendto", "sendmsg"))
_ALWAYS_LOOKED_AT = frozenset(("openat2", "sendmmsg", *EXECS))
_ODD_PLACES = (b"/proc", b"/dev/fd", b"/dev/std")
"""Names that lead elsewhere for each process."""
_BY_NAME = frozenset(("mmap", "mprotect"))
"""Calls of which nothing but the name is learned."""
_THREAD = "thread"
"""What clone(2) does that makes nobody to wait for."""
_MSGHDR_NAME = struct.Struct("=QI")
"""struct msghdr begins with them: msg_name, msg_namelen."""


class Recorder:
    """Notes what the tree behind ``listener`` does.

    ``processes``: who is who; ``noted``: told of each observation with its call, once, while the
    caller waits.
    """

    def __init__(
        self, listener: Listener, processes: Processes,
        noted: Callable[[Observation, Call], None] | None = None,
    ) -> None:
        self.listener = listener
        self.processes = processes
        self.noted = noted
        self.observations: dict[Observation, None] = {}
        self.strange: dict[str, None] = {}
        self.killed: dict[str, None] = {}
        self.numbers: set[str] = set()
        self.moved = self.hidden = False
        self._known: dict[Key, object] = {}
        self._hot: dict[Key, float] = {}
        self._glimpse = Glimpse(_NAME_ROOM)
        self._hot_registers = {
            NUMBERS[name]: (register, _name_registers(name)[0][0])
            for name, register in _FLAGS.items()
        }
        self._plain = frozenset(number for name, number in NUMBERS.items() if _is_plain(name))
        self._resolver = Resolver(os.getpid())
        self._mask = Mask(os.geteuid() == 0)
        self._statuses = StatusReader()
        self._names = {
            NUMBERS[name]: _name_registers(name) for name in (*OPERATIONS, *EXECS)
        }
        self._poll = select.poll()
        self._poll.register(listener.fd, select.POLLIN)

    def run(self) -> None:
        """Take notes until the tree has ended. What a signal's handler raises passes."""
        self.listener.wake_synchronously()
        receive, resume, hot = self.listener.receive, self.listener.resume, self._hot
        while True:
            notification = receive()
            if notification is not None:
                key = self._hot_key(notification)
                if key is not None and hot.get(key, 0.0) > monotonic():
                    resume(notification.cookie)  # most calls of a server are such ones
                else:
                    self._step(notification, key)
                continue
            # a signal, a caller that died at once, or the end: poll tells them apart
            ready = self._poll.poll()
            if ready and ready[0][1] & select.POLLHUP and not ready[0][1] & select.POLLIN:
                return

    def close(self) -> None:
        """Give back what was kept open to look at processes."""
        self._glimpse.close()
        self._statuses.close()

    def _step(self, notification: Notification, hot: Key | None) -> None:
        try:
            self._look(notification, hot)
        except (OSError, GoneError, Fault):
            pass  # gone, or a call that the kernel refuses by itself
        finally:
            self.listener.resume(notification.cookie)

    def _hot_key(self, notification: Notification) -> Key | None:
        """Return by what a call is taken to lead where it led a moment ago; None: by nothing."""
        number = notification.nr
        registers = self._hot_registers.get(number)
        process = self.processes.threads.get(notification.tid)
        if registers is None or process is None or process.awaited:
            return None
        flags, named = registers
        name = self._glimpse.text(notification.tid, notification.args[named])
        if name is None or not name.startswith(b"/"):
            return None
        return process.program, number, notification.args[flags], name

    def _look(self, notification: Notification, hot: Key | None) -> None:
        number = notification.nr
        process = self.processes.of(notification.tid)
        known = self._known
        if number in self._plain:
            key: Key = (process.program, number)
            if key in known:
                return
            led: object = None
        else:
            registers = self._names.get(number)
            if registers is None:
                key, led = self._register_key(process, notification), None
                if key in known:
                    return
            else:
                now = monotonic()
                key, led = self._name_key(process, notification, registers)
                if led is not None:
                    if hot is not None:
                        if len(self._hot) >= KNOWN_MAX:
                            self._hot.clear()
                        self._hot[hot] = now + SURE
                    if known.get(key) == led:
                        return
        self._note(process, notification)
        if key:
            if len(known) >= KNOWN_MAX:
                known.clear()
            known[key] = led

    # -- what is recognised -----------------------------------------------------------------------

    def _register_key(self, process: Process, notification: Notification) -> Key:
        number = notification.nr
        if number in FORKS:
            self.processes.forks()
        if guards.moves(number, notification.args):
            self.moved = True
        self.hidden |= hides(number, notification.args)
        name = NAMES.get(number, "")
        if not name:
            return (process.program, number)
        variant = choose_variant(name, notification.args)
        return (
            process.program, number, variant.label,
            *(notification.args[one.register] for one in arguments_of(name, variant)
              if one.register != NO_REGISTER and name not in _BY_NAME),
        )  # fmt: skip

    def _name_key(
        self, process: Process, notification: Notification, registers: tuple[tuple[int, int], ...]
    ) -> tuple[Key, object]:
        """Return what a call is recognised by, and where its names lead; None: look closer."""
        args, tid = notification.args, notification.tid
        name = NAMES[notification.nr]
        if self.moved:
            return (), None
        if name in _ADDRESSED:
            address = _address(tid, name, args)
            return (process.program, name, address), None if address is None else _led(address)
        if not registers:
            return (), None
        places: list[bytes] = []
        for register, dirfd in registers:
            path = _string(tid, args[register])
            if not path:
                return (), None
            if not path.startswith(b"/"):
                path = _place(tid, args[dirfd] if dirfd >= 0 else AT_FDCWD) + b"/" + path
            if path.startswith(_ODD_PLACES):
                return (), None
            places.append(path)
        label = choose_variant(name, args).label
        flags = args[_FLAGS[name]] if name in _OPENS else 0
        return (process.program, name, label, flags, *places), tuple(map(_leads_to, places))

    # -- what is noted ----------------------------------------------------------------------------

    def _note(self, process: Process, notification: Notification) -> None:
        name = NAMES.get(notification.nr)
        if name is None:
            self.strange[f"call {notification.nr}"] = None
            return
        call = Call(self.listener, notification, name, self._statuses.read)
        if name in EXECS or name in OPERATIONS:
            operation = self._prepare(call)
            try:
                values, variant, mark = operation.values, operation.variant, _mark(operation)
                also = operation.also
            finally:
                operation.close()
            if name in EXECS:
                if is_32_bit(values["filename"][0]):
                    self.killed[values["filename"][0]] = None
                self.processes.executes(process, notification.tid, values["filename"][0])
            self._note_own_number(call, values.get("filename", ()))
            for one in (values, *also):
                self._add(Observation(process.program, name, variant, frozen(one), mark), call)
            return
        chosen = choose_variant(name, notification.args)
        if notification.nr in FORKS and chosen.label != _THREAD:
            self.observations[Observation(process.program, WAIT, "", ())] = None
        texts: dict[str, list[str]] = {}
        for argument in arguments_of(name, chosen):
            if not argument.in_register or name in _BY_NAME:
                continue
            text = TRANSLATORS[argument.name].text(notification.args[argument.register])
            if argument.name == "pidname" and text is None:
                target = Target(call, {})
                text = target.text
                target.close()
                if text == UNKNOWN:
                    text = self.processes.ended(call.int_arg(0)) or text
            if text is not None:
                texts.setdefault(argument.name, []).append(text)
        self._add(Observation(process.program, name, chosen.label, frozen(texts)), call)

    def _note_own_number(self, call: Call, names: Sequence[str]) -> None:
        """Note that a process named a file by its own number: the next run's has another."""
        own = str(call.task.tgid)
        files = [one for one in names if own in one and not one.startswith("/proc/")]
        if own in numbers_in(files):
            self.numbers.add(own)

    def _prepare(self, call: Call) -> Operation:
        call.task.mask = self._mask
        try:
            self._mask.assume(call.status)
            if call.name in EXECS:
                return Execution(call, self._resolver)
            return OPERATIONS[call.name](call, self._resolver)
        finally:
            self._mask.restore()

    def _add(self, observation: Observation, call: Call) -> None:
        if observation in self.observations:
            return
        self.observations[observation] = None
        if self.noted is not None:
            self.noted(observation, call)


# -- a caller's arguments, only to recognise them -------------------------------------------------


def _name_registers(name: str) -> tuple[tuple[int, int], ...]:
    """Return (register, register of its directory) of each name that a call takes.

    None where flags that lie in memory have a say in what is done.
    """
    if name in _ALWAYS_LOOKED_AT:
        return ()
    return tuple(
        (one.register, one.dirfd) for one in call_of(name).arguments if one.name == "filename"
    )


def _is_plain(name: str) -> bool:
    """Tell whether a call's number says all that is noted of it."""
    call = call_of(name)
    return (
        name not in OPERATIONS and name not in EXECS and len(call.variants) == 1
        and (not call.arguments or name in _BY_NAME)
        and NUMBERS[name] not in (*FORKS, *guards.MOVING, guards.PRCTL)
    )


def _string(tid: int, address: int) -> bytes:
    """Return the text at an address, b"" where there is none."""
    try:
        return Memory(tid).read_string(address, PATH_MAX) or b""
    except OSError:
        return b""


def _place(tid: int, dirfd: int) -> bytes:
    return os.fsencode(os.readlink(base_path(Task(tid, tid), signed(dirfd))))


def _leads_to(path: bytes) -> object:
    """Return what the text of a name depends on: its directory, and whether it is there, a link."""
    try:
        directory = os.stat(path.rpartition(b"/")[0] or b"/")
        here = directory.st_dev, directory.st_ino
        if stat.S_ISLNK(os.lstat(path).st_mode):
            whole = os.path.realpath(path)
            if stat.S_ISLNK(os.lstat(whole).st_mode):
                return here, errno.ELOOP  # a link to itself: it leads nowhere
            return here, os.readlink(path), _leads_to(whole)
    except OSError as error:
        return error.errno, None
    return here


def _led(address: bytes) -> object:
    path = unix_path(address)
    return _leads_to(path) if path.startswith(b"/") else len(address)


def _address(tid: int, name: str, args: Sequence[int]) -> bytes | None:
    """Return the address that a call names, b"" for none; None: to be looked at more closely."""
    memory = Memory(tid)
    if name == "sendmsg":
        where, length = _MSGHDR_NAME.unpack(memory.read(args[1], _MSGHDR_NAME.size))
    elif name == "sendto":
        where, length = args[4], args[5] & 0xFFFFFFFF
    else:
        where, length = args[1], args[2] & 0xFFFFFFFF
    if not where:
        return b""
    return memory.read(where, length) if length <= ADDRESS_MAX else None


def _mark(operation: Operation) -> str:
    """Say what a rule does not see: that a directory or file is new, or that nothing is there."""
    call = operation.call
    texts = operation.values.get("filename") or [""]
    there = os.path.lexists(texts[0])
    if call.name in _DIRECTORIES:
        return "" if there else MADE
    if "oflags" in operation.values and getattr(operation, "flags", 0) & os.O_EXCL:
        return FRESH
    return "" if there else MISSING
