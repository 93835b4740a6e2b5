from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import RunError
from certexec.run import plan as plans
from certexec.run.plan import ALL, HIGH, LOW, Plan

HEADER_FILE = Path(__file__).resolve().parents[2] / "binfmt" / "plan.h"
JEQ = struct.pack("<HBBI", 0x15, 0, 0, 0)
RET = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
ID_MAX = (1 << 32) - 2
NAMES = (
    "magic", "version", "size", "flags", "ruid", "euid", "rgid", "egid", "capabilities0",
    "capabilities1", "capabilities2", "ambient", "bounding", "nice", "umask", "oom",
)  # fmt: skip
TABLES = ("groups", "limits", "env", "argv", "filter", "patches", "trees")
HEADER_SIZE = 248


def simple(**fields: object) -> Plan:
    plan = Plan()
    plan.bpf = JEQ + JEQ + RET
    plan.patches = [(0, LOW), (1, HIGH)]
    for name, value in fields.items():
        setattr(plan, name, value)
    return plan


def granted(**fields: object) -> Plan:
    return simple(**{"flags": plans.PLAN_PRIVILEGED, "env": [], **fields})


class Decoded:
    """A plan read back by the format's description, independently of the encoder."""

    def __init__(self, block: bytes) -> None:
        self.block = block
        words = struct.unpack_from("<31Q", block)
        assert len(block) == words[2]
        assert block[-1] == 0
        self.head = dict(zip(NAMES, words[:16], strict=True))
        self.tables = {
            name: (words[16 + 2 * at], words[17 + 2 * at]) for at, name in enumerate(TABLES)
        }
        self.handled = words[30]
        for offset, _ in self.tables.values():
            assert offset % 8 == 0
            assert HEADER_SIZE <= offset <= len(block)

    def table(self, name: str, layout: str) -> list[tuple[int, ...]]:
        offset, count = self.tables[name]
        item = struct.Struct("<" + layout)
        assert offset + count * item.size <= len(self.block)
        return [item.unpack_from(self.block, offset + at * item.size) for at in range(count)]

    def text(self, offset: int) -> bytes:
        assert HEADER_SIZE <= offset < len(self.block)
        return self.block[offset : self.block.index(0, offset)]

    def strings(self, name: str) -> list[bytes]:
        return [self.text(offset) for (offset,) in self.table(name, "Q")]


def test_the_format_is_the_headers_format() -> None:
    header = HEADER_FILE.read_text()
    assert f"PLAN_VERSION = {plans.VERSION}" in header
    assert f"#define PLAN_MAGIC 0x{int.from_bytes(plans.MAGIC, 'little'):x}UL" in header
    flags = dict(re.findall(r"\b(PLAN_[A-Z_]+) = 1 << (\d+)", header))
    ours = {
        name: value for name, value in vars(plans).items()
        if name.startswith("PLAN_") and isinstance(value, int)
    }  # fmt: skip
    assert {name: 1 << int(bit) for name, bit in flags.items()} == ours
    assert f"FILTER_MAX = {plans.FILTER_MAX}" in header
    assert plans.SIZE_MAX == 8 << 20
    assert "PLAN_SIZE_MAX = 8 << 20" in header
    assert f"sizeof(struct plan) == {HEADER_SIZE}" in header


def test_an_ordinary_plan_reads_back() -> None:
    plan = simple(ruid=1000, euid=1000, rgid=100, egid=100, flags=plans.PLAN_LISTENER)
    found = Decoded(plan.encode())
    assert found.head["magic"].to_bytes(8, "little") == b"CXCPLAN1"
    assert found.head["version"] == 1
    assert found.head["flags"] == plans.PLAN_LISTENER
    assert [found.head[name] for name in ("ruid", "euid", "rgid", "egid")] == [1000, 1000, 100, 100]
    assert found.head["bounding"] == ALL
    assert found.table("patches", "II") == [(0, 0), (1, 1)]
    assert found.table("filter", "8s") == [(JEQ,), (JEQ,), (RET,)]


def test_what_is_given_sets_its_flag_and_what_is_not_does_not() -> None:
    plan = granted(
        groups=[], argv_tail=[], nice=0, umask=0, oom=0, permitted=1, inheritable=1, ambient=1
    )
    assert Decoded(plan.encode()).head["flags"] == (
        plans.PLAN_PRIVILEGED | plans.PLAN_ENV | plans.PLAN_ARGV | plans.PLAN_GROUPS
        | plans.PLAN_NICE | plans.PLAN_UMASK | plans.PLAN_OOM | plans.PLAN_CAPS
        | plans.PLAN_AMBIENT
    )  # fmt: skip
    assert Decoded(simple().encode()).head["flags"] == 0


def test_a_landlock_domain_reads_back_with_its_trees() -> None:
    plan = simple(handled=12, trees=[(b"/usr", 12, 7, 8), (b"/etc/passwd", 4, 7, 9)])
    found = Decoded(plan.encode())
    assert found.handled == 12
    assert found.head["flags"] == plans.PLAN_LANDLOCK
    rows = found.table("trees", "QQQQ")
    assert [(found.text(path), *rest) for path, *rest in rows] == plan.trees


@pytest.mark.parametrize("tree", [(b"/", 2, 0, 0), (b"/", 0, 0, 0), (b"/a\0b", 4, 0, 0)])
def test_a_tree_that_no_domain_can_have_is_refused(tree: tuple[bytes, int, int, int]) -> None:
    with pytest.raises(RunError, match="cannot be made"):
        simple(handled=12, trees=[tree]).encode()


def test_a_grant_to_a_user_says_that_there_are_no_capabilities() -> None:
    found = Decoded(granted(euid=33).encode())
    assert found.head["flags"] & plans.PLAN_CAPS
    assert [found.head[f"capabilities{n}"] for n in range(3)] == [0, 0, 0]
    assert not Decoded(granted(euid=0).encode()).head["flags"] & plans.PLAN_CAPS


def test_capabilities_stand_as_capset_takes_them() -> None:
    plan = granted(permitted=0x1_0000_0005, effective=4, inheritable=0x2_0000_0000)
    words = struct.unpack_from("<6I", plan.encode(), 64)
    assert words == (4, 5, 0, 0, 1, 2)  # effective permitted inheritable, low then high
    implied = struct.unpack_from("<6I", granted(permitted=5).encode(), 64)
    assert implied[:2] == (5, 5)


def test_groups_are_sorted_and_single() -> None:
    found = Decoded(granted(groups=[7, 3, 7, 0, ID_MAX]).encode())
    assert found.table("groups", "I") == [(0,), (3,), (7,), (ID_MAX,)]


texts = st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\0", b"")), max_size=8)
masks = st.integers(0, ALL)


@given(
    texts, st.none() | texts,
    st.lists(st.tuples(st.integers(0, 15), masks, masks), max_size=6),
    st.lists(st.integers(0, ID_MAX), max_size=9), st.integers(-20, 19), st.integers(0, 0o777),
    st.integers(-1000, 1000), masks, masks,
)  # fmt: skip
def test_everything_reads_back(
    env: list[bytes], tail: list[bytes] | None, limits: list[tuple[int, int, int]],
    groups: list[int], nice: int, umask: int, oom: int, permitted: int, bounding: int,
) -> None:  # fmt: skip
    plan = granted(
        env=env, argv_tail=tail, rlimits=limits, groups=groups, nice=nice, umask=umask, oom=oom,
        permitted=permitted, inheritable=permitted, ambient=permitted, bounding=bounding, euid=5,
    )  # fmt: skip
    found = Decoded(plan.encode())
    assert found.strings("env") == env
    assert found.strings("argv") == (tail or [])
    assert found.table("limits", "3Q") == limits
    assert found.table("groups", "I") == [(one,) for one in sorted(set(groups))]
    assert struct.unpack("<q", struct.pack("<Q", found.head["nice"]))[0] == nice
    assert found.head["umask"] == umask
    assert found.text(found.head["oom"]) == b"%d\n" % oom
    assert found.head["ambient"] == permitted
    assert found.head["bounding"] == bounding


def test_the_same_plan_is_always_the_same_bytes() -> None:
    make = {"env": [b"A=1"], "groups": [2, 1], "rlimits": [(7, 1, 2)], "permitted": 1}
    assert granted(**make).encode() == granted(**make).encode()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"flags": plans.PLAN_ENV}, "by hand"),
        ({"flags": plans.PLAN_AMBIENT}, "by hand"),
        ({"flags": 1 << 20}, "by hand"),
        ({"flags": plans.PLAN_LISTENER | plans.PLAN_LOG}, "exclude each other"),
        ({"ruid": -1}, "ruid"),
        ({"ruid": ID_MAX + 1}, "ruid"),
        ({"umask": 0o1000}, "umask"),
        ({"nice": 20}, "nice"),
        ({"nice": -21}, "nice"),
        ({"oom": 1001}, "oom"),
        ({"oom": -1001}, "oom"),
        ({"rlimits": [(1, -1, 0)]}, "a limit"),
        ({"rlimits": [(1, 0, ALL + 1)]}, "a limit"),
        ({"env": [b"A=\0"]}, "NUL"),
        ({"argv_tail": [b"\0"]}, "NUL"),
        ({"bpf": b""}, "filter"),
        ({"bpf": RET[:-1], "patches": []}, "filter"),
        ({"bpf": RET * 4097, "patches": []}, "filter"),
        ({"patches": [(2, LOW)]}, "launch gate"),
        ({"patches": [(3, LOW)]}, "launch gate"),
        ({"patches": [(-1, LOW)]}, "launch gate"),
        ({"patches": [(0, 2)]}, "launch gate"),
        ({"euid": 5}, "without PLAN_PRIVILEGED"),
        ({"egid": 5}, "without PLAN_PRIVILEGED"),
        ({"groups": []}, "without PLAN_PRIVILEGED"),
        ({"permitted": 0}, "without PLAN_PRIVILEGED"),
        ({"inheritable": 1}, "without PLAN_PRIVILEGED"),
        ({"bounding": 0}, "without PLAN_PRIVILEGED"),
        ({"flags": plans.PLAN_PRIVILEGED}, "environment of its own"),
        ({"flags": plans.PLAN_PRIVILEGED | plans.PLAN_KEEP_PROGRAM_FD, "env": []}, "a script"),
        ({"flags": plans.PLAN_PRIVILEGED, "env": [], "groups": [ID_MAX + 1]}, "a group"),
        ({"flags": plans.PLAN_PRIVILEGED, "env": [], "ambient": 1}, "exceeds"),
        ({"flags": plans.PLAN_PRIVILEGED, "env": [], "ambient": 1, "permitted": 1}, "exceeds"),
        ({"flags": plans.PLAN_PRIVILEGED, "env": [], "permitted": 1, "effective": 2}, "exceeds"),
        ({"flags": plans.PLAN_PRIVILEGED, "env": [], "permitted": ALL + 1}, "permitted"),
    ],
)
def test_a_plan_that_no_launcher_would_take_is_not_made(
    fields: dict[str, object], text: str
) -> None:
    with pytest.raises(RunError, match=text) as caught:
        simple(**fields).encode()
    assert caught.value.reason == "internal"


def test_a_plan_that_is_too_large_is_not_made() -> None:
    with pytest.raises(RunError, match="more than 8388608"):
        simple(env=[bytes([65]) * (8 << 20)]).encode()
