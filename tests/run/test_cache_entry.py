"""A cached plan as bytes: what goes in comes out, and nothing that was damaged does."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certexec.errors import RunError
from certexec.kernel.filesystem import identify
from certexec.run import cache_entry
from certexec.run.cache_entry import ABSENT, ANYBODY, PLACE, Entry, Object, decode

WORDS = st.integers(0, (1 << 64) - 1)
NAMES = st.binary(min_size=1, max_size=40).filter(lambda text: b"\0" not in text)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        here = identify(root, unique_mount=True)
    finally:
        os.close(root)
    entry = Entry(draw(st.binary(max_size=300)))
    entry.plan += bytes(-len(entry.plan) % 8)
    entry.flags = draw(st.integers(0, cache_entry.FLAGS))
    entry.uid, entry.gid = draw(WORDS), draw(WORDS)
    entry.not_before, entry.not_after = draw(WORDS), draw(WORDS)
    entry.file_systems = draw(WORDS), draw(WORDS)
    entry.memory = draw(WORDS)
    kinds = st.sampled_from((0, PLACE, ABSENT))
    entry.objects = [
        Object(path, kind, None if kind == ABSENT else here)
        for path, kind in draw(st.lists(st.tuples(NAMES, kinds), max_size=6))
    ]
    entry.texts = draw(st.lists(st.tuples(NAMES, NAMES), max_size=3))
    rows = st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, (1 << 32) - 1))
    entry.listed = draw(st.lists(rows, max_size=6))
    entry.passed = draw(st.lists(st.tuples(NAMES, st.integers(0, 3)), max_size=6))
    return entry


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entries())
def test_an_entry_comes_back_as_it_was_written(entry: Entry) -> None:
    back = decode(entry.encode())
    assert back is not None
    for name in Entry.__slots__:
        if name != "objects":
            assert getattr(back, name) == getattr(entry, name), name
    assert [(one.path, one.flags, one.state()) for one in back.objects] == [
        (one.path, one.flags, one.state()) for one in entry.objects
    ]
    assert back.encode() == entry.encode()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entries(), st.data())
def test_no_entry_survives_one_changed_byte(entry: Entry, data: st.DataObject) -> None:
    block = bytearray(entry.encode())
    at = data.draw(st.integers(0, len(block) - 1))
    block[at] ^= data.draw(st.integers(1, 255))
    assert decode(bytes(block)) is None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(entries(), st.data())
def test_no_entry_survives_being_cut_or_lengthened(entry: Entry, data: st.DataObject) -> None:
    block = entry.encode()
    assert decode(block[: data.draw(st.integers(0, len(block) - 1))]) is None
    assert decode(block + bytes(8)) is None


def test_what_is_no_entry_is_none() -> None:
    assert decode(b"") is None
    assert decode(bytes(4096)) is None
    assert decode(b"\xff" * (cache_entry.SIZE_MAX + 8)) is None


def test_an_entry_that_no_launcher_would_read_is_not_made() -> None:
    with pytest.raises(RunError) as caught:
        Entry(bytes(cache_entry.SIZE_MAX)).encode()
    assert caught.value.reason == "internal"


def test_an_entry_is_for_everybody_unless_it_says_for_whom() -> None:
    entry = Entry()
    assert (entry.uid, entry.gid) == (ANYBODY, ANYBODY)
