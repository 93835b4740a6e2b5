"""The plan: what the launcher applies before it executes the program, as one block of bytes.

docs/plan-format.md describes the format, binfmt/plan.h is the other side. A plan holds no
descriptor numbers and no secrets, so that it may be kept in a file: the nonce of the launch gate
is drawn by the launcher, which patches it into the filter.
"""

from __future__ import annotations

import struct

from certexec.errors import RunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"CXCPLAN1"
VERSION = 1
SIZE_MAX = 8 << 20
"""bytes; more than the 6 MiB of strings that exec ever takes (execve(2))."""
FILTER_MAX = 4096
"""instructions; BPF_MAXINSNS of linux/bpf_common.h."""
ALL = (1 << 64) - 1
"""Every bit: a bounding set that is not lowered."""

PLAN_PRIVILEGED = 1 << 0
"""Identities and capabilities change; no_new_privs is never set."""
PLAN_LISTENER = 1 << 1
"""A supervisor receives the filter's listener."""
PLAN_ENV = 1 << 2
"""The environment is replaced (set by ``encode`` where ``env`` is given)."""
PLAN_ARGV = 1 << 3
"""The arguments after argv[0] are replaced (set where ``argv_tail`` is given)."""
PLAN_TRACED = 1 << 4
"""The supervisor has seized the launcher; tells, changes nothing."""
PLAN_AMBIENT = 1 << 5
"""Ambient capabilities are raised (set where ``ambient`` is not 0)."""
PLAN_KEEP_PROGRAM_FD = 1 << 6
"""The program is a script in a memory file: its descriptor stays open for the interpreter."""
PLAN_GROUPS = 1 << 7
"""Supplementary groups are set (set where ``groups`` is given)."""
PLAN_CAPS = 1 << 8
"""Capability sets are set, otherwise left as uid 0 has them (see ``Plan.permitted``)."""
PLAN_NICE = 1 << 9
"""The nice value is set (set where ``nice`` is given)."""
PLAN_UMASK = 1 << 10
"""The umask is set (set where ``umask`` is given)."""
PLAN_OOM = 1 << 11
"""The oom score adjustment is set (set where ``oom`` is given)."""
PLAN_LOG = 1 << 12
"""The kernel logs what the filter denies (SECCOMP_FILTER_FLAG_LOG); never with a listener."""
PLAN_LANDLOCK = 1 << 13
"""The program gets a Landlock domain (set where ``handled`` is not 0)."""
PLAN_NESTED = 1 << 14
"""For a launcher inside a confined tree: no filter, and the ids that it has."""

CHOSEN = (
    PLAN_PRIVILEGED | PLAN_LISTENER | PLAN_TRACED | PLAN_KEEP_PROGRAM_FD | PLAN_LOG | PLAN_NESTED
)
"""The flags that the maker of a plan chooses; the others follow from what it holds."""

LOW, HIGH = 0, 1
"""Which half of the nonce an instruction compares with."""

_HEADER = struct.Struct("<8s7Q6I2QqQQ14QQ")
_JUMP_IF_EQUAL = 0x15
_ID_MAX = (1 << 32) - 2
_INSTRUCTION_SIZE = 8


class Plan:
    """One plan. Make it, set attributes, ``encode``.

    Attributes:
        flags: of those in ``CHOSEN``.
        ruid, rgid: the invoker's real ids, which the launcher compares with its own.
        euid, egid: the permitted ids, which become the effective and saved ones.
        groups: supplementary groups in any order, None to leave them.
        permitted: capability mask. None leaves what uid 0 has, or none where ``euid`` is not 0.
        effective: None for the same as ``permitted``.
        inheritable, ambient: masks; ambient ones must be in permitted and inheritable.
        bounding: the capabilities that stay in the bounding set.
        rlimits: (resource, soft, hard), numbers and values as for setrlimit(2), 2**64-1 for none.
        nice, umask, oom: None to leave; oom is /proc/PID/oom_score_adj.
        env: ``NAME=value`` strings, None to leave the invoker's.
        argv_tail: what replaces everything after argv[0], None to leave.
        bpf: the seccomp filter, 8 bytes an instruction.
        patches: (index of a JEQ instruction, LOW or HIGH): where the nonce goes.
        handled: the rights that the program's Landlock domain handles, 0 for no domain.
        trees: (path, rights, device, inode): what they are granted on.
    """

    __slots__ = (
        "ambient", "argv_tail", "bounding", "bpf", "effective", "egid", "env", "euid", "flags",
        "groups", "handled", "inheritable", "nice", "oom", "patches", "permitted", "rgid",
        "rlimits", "ruid", "trees", "umask",
    )  # fmt: skip

    def __init__(self) -> None:
        self.flags = 0
        self.ruid = self.euid = 0
        self.rgid = self.egid = 0
        self.groups: list[int] | None = None
        self.permitted: int | None = None
        self.effective: int | None = None
        self.inheritable = 0
        self.ambient = 0
        self.bounding = ALL
        self.rlimits: list[tuple[int, int, int]] = []
        self.nice: int | None = None
        self.umask: int | None = None
        self.oom: int | None = None
        self.env: list[bytes] | None = None
        self.argv_tail: list[bytes] | None = None
        self.bpf = b""
        self.patches: list[tuple[int, int]] = []
        self.handled = 0
        self.trees: list[tuple[bytes, int, int, int]] = []

    def encode(self) -> bytes:
        """Return the block. Raises RunError("internal") for a plan that no launcher would take."""
        self._check()
        permitted = self.permitted
        if permitted is None and self.flags & PLAN_PRIVILEGED and self.euid != 0:
            permitted = 0  # the kernel's rule for ids other than 0, said aloud
        effective = self.effective if self.effective is not None else permitted or 0
        flags = self.flags
        for present, flag in (
            (self.env is not None, PLAN_ENV),
            (self.argv_tail is not None, PLAN_ARGV),
            (self.ambient != 0, PLAN_AMBIENT),
            (self.groups is not None, PLAN_GROUPS),
            (permitted is not None, PLAN_CAPS),
            (self.nice is not None, PLAN_NICE),
            (self.umask is not None, PLAN_UMASK),
            (self.oom is not None, PLAN_OOM),
            (self.handled != 0, PLAN_LANDLOCK),
        ):
            if present:
                flags |= flag

        body = _Body()
        groups = sorted(set(self.groups or ()))
        tables = [
            body.table(struct.pack(f"<{len(groups)}I", *groups), len(groups)),
            body.table(b"".join(struct.pack("<3Q", *one) for one in self.rlimits),
                       len(self.rlimits)),
            body.strings(self.env or ()),
            body.strings(self.argv_tail or ()),
            body.table(self.bpf, len(self.bpf) // _INSTRUCTION_SIZE),
            body.table(b"".join(struct.pack("<2I", *one) for one in self.patches),
                       len(self.patches)),
            body.trees(self.trees),
        ]  # fmt: skip
        oom = body.text(b"%d\n" % self.oom) if self.oom is not None else 0
        body.text(b"")  # the last byte is NUL: every string ends inside the plan
        block = _HEADER.pack(
            MAGIC, VERSION, body.size, flags, self.ruid, self.euid, self.rgid, self.egid,
            *_halves(effective, permitted or 0, self.inheritable),
            self.ambient, self.bounding,
            self.nice or 0, self.umask or 0, oom,
            *(number for table in tables for number in table), self.handled,
        ) + b"".join(body.parts)  # fmt: skip
        if len(block) > SIZE_MAX:
            raise RunError("internal", f"the plan has {len(block)} bytes, more than {SIZE_MAX}")
        return block

    def _check(self) -> None:
        """Refuse here, with the field's name, what the launcher would only call malformed."""
        if self.flags & ~CHOSEN:
            raise _bad("flags that follow from other fields were set by hand", self.flags & ~CHOSEN)
        alone = PLAN_PRIVILEGED | PLAN_LISTENER | PLAN_LOG
        if self.flags & PLAN_NESTED and (self.flags & alone or self.handled):
            raise _bad("a plan inside a confined tree has no filter and no grant", self.flags)
        if self.flags & PLAN_LISTENER and self.flags & PLAN_LOG:
            raise _bad("the kernel's log and a listener exclude each other", self.flags)
        for name, value, top in (
            ("ruid", self.ruid, _ID_MAX),
            ("euid", self.euid, _ID_MAX),
            ("rgid", self.rgid, _ID_MAX),
            ("egid", self.egid, _ID_MAX),
            ("permitted", self.permitted or 0, ALL),
            ("effective", self.effective or 0, ALL),
            ("inheritable", self.inheritable, ALL),
            ("ambient", self.ambient, ALL),
            ("bounding", self.bounding, ALL),
            ("umask", self.umask or 0, 0o777),
            ("handled", self.handled, ALL),
        ):
            if not 0 <= value <= top:
                raise _bad(f"{name} is out of range", value)
        for group in self.groups or ():
            if not 0 <= group <= _ID_MAX:
                raise _bad("a group is out of range", group)
        for limit in self.rlimits:
            if len(limit) != 3 or not all(0 <= value <= ALL for value in limit):
                raise _bad("a limit is out of range", limit)
        if self.nice is not None and not -20 <= self.nice <= 19:
            raise _bad("nice is out of range", self.nice)
        if self.oom is not None and not -1000 <= self.oom <= 1000:
            raise _bad("oom is out of range", self.oom)
        if any(not 0 < rights <= self.handled or rights & ~self.handled
               for _, rights, _, _ in self.trees):
            raise _bad("a tree grants what the domain does not handle", self.handled)
        permitted = self.permitted or 0
        if self.ambient & ~(permitted & self.inheritable) or (self.effective or 0) & ~permitted:
            raise _bad("a capability set exceeds the permitted one", self.ambient)
        self._check_privilege()
        for text in (
            *(self.env or ()), *(self.argv_tail or ()), *(tree[0] for tree in self.trees)
        ):  # fmt: skip
            if b"\0" in text:
                raise _bad("a string holds a NUL", text)
        nested = bool(self.flags & PLAN_NESTED)
        count, rest = divmod(len(self.bpf), _INSTRUCTION_SIZE)
        if rest or not 0 < count + nested <= FILTER_MAX or (nested and count):
            raise _bad("the filter has a wrong size", len(self.bpf))
        for index, which in self.patches:
            if (
                not 0 <= index < count
                or which not in (LOW, HIGH)
                or struct.unpack_from("<H", self.bpf, index * _INSTRUCTION_SIZE)[0]
                != _JUMP_IF_EQUAL
            ):
                raise _bad("the launch gate is not where a patch says", (index, which))

    def _check_privilege(self) -> None:
        if self.flags & PLAN_PRIVILEGED:
            if self.env is None:
                raise _bad("a grant needs an environment of its own", None)
            if self.flags & PLAN_KEEP_PROGRAM_FD:
                raise _bad("a script gets no identity", None)
            return
        same = self.euid == self.ruid and self.egid == self.rgid or self.flags & PLAN_NESTED
        same = same and self.bounding == ALL
        if not same or self.groups is not None or self.permitted is not None or self.inheritable:
            raise _bad("an identity changes without PLAN_PRIVILEGED", (self.euid, self.egid))


class _Body:
    """What follows the header; every piece starts at a multiple of 8."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = _HEADER.size

    def text(self, data: bytes) -> int:
        """Add a string with its NUL; return its offset in the plan."""
        return self.table(data + b"\0", 1)[0]

    def table(self, data: bytes, count: int) -> tuple[int, int]:
        """Add a table; return (offset, count)."""
        offset = self.size
        padded = data + bytes(-len(data) % 8)
        self.parts.append(padded)
        self.size += len(padded)
        return offset, count

    def strings(self, texts: Sequence[bytes]) -> tuple[int, int]:
        """Add strings, packed, and the table of their offsets; return (offset, count)."""
        offsets = self.packed(texts)
        return self.table(struct.pack(f"<{len(offsets)}Q", *offsets), len(offsets))

    def trees(self, trees: Sequence[tuple[bytes, int, int, int]]) -> tuple[int, int]:
        """Add paths and the table of (path, rights, device, inode); return (offset, count)."""
        offsets = self.packed([path for path, *_ in trees])
        rows = [
            struct.pack("<4Q", offset, *rest)
            for offset, (_, *rest) in zip(offsets, trees, strict=True)
        ]
        return self.table(b"".join(rows), len(rows))

    def packed(self, texts: Sequence[bytes]) -> list[int]:
        """Add strings one after another; return their offsets."""
        offsets = []
        at = self.size
        for text in texts:
            offsets.append(at)
            at += len(text) + 1
        self.table(b"".join(text + b"\0" for text in texts), len(texts))
        return offsets


def _halves(effective: int, permitted: int, inheritable: int) -> tuple[int, ...]:
    """Split three masks into the two structures of capset(2): low words, then high words."""
    masks = (effective, permitted, inheritable)
    low, high = (tuple(mask >> shift & 0xFFFFFFFF for mask in masks) for shift in (0, 32))
    return low + high


def _bad(what: str, value: object) -> RunError:
    return RunError("internal", f"the plan cannot be made: {what} ({value!r})")
