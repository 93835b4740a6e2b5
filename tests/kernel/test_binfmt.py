"""The door to binfmt_misc, on a real instance of the tests' own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certexec.errors import KernelError
from certexec.kernel import binfmt
from tests.isolation import PROJECT, Machine, need

HEAD = "from certexec.kernel import binfmt\n"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    need("nsenter", "setpriv", "mount")
    made = Machine()
    made.python(HEAD + "print(binfmt.mount())")
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "machine" in request.fixturenames:
        request.getfixturevalue("machine").python(
            HEAD + "[binfmt.unregister(entry.name) for entry in binfmt.entries()]"
        )


def test_a_mount_is_made_once_and_taken_away_again() -> None:
    need("nsenter", "setpriv", "mount")
    machine = Machine()
    try:
        shown = machine.python(
            HEAD + "print(binfmt.mounted(), binfmt.mount(), binfmt.mounted(), binfmt.mount(),"
            "binfmt.writable(), binfmt.switched_on(), binfmt.unmount(), binfmt.mounted())"
        )
    finally:
        machine.stop()
    assert shown == "False True True False True True None False"


def test_in_a_user_namespace_its_own_instance_covers_the_one_above() -> None:
    need("nsenter", "setpriv", "mount")
    machine = Machine(identity=False)
    try:
        shown = machine.python(HEAD + "print(binfmt.mount(), binfmt.mount(), binfmt.entries())")
    finally:
        machine.stop()
    assert shown == "True False []"


def test_a_handler_reads_back_as_it_was_registered(machine: Machine) -> None:
    shown = machine.python(
        HEAD + "binfmt.register('/usr/bin/true'); e = binfmt.read_entry()\n"
        "print(e.enabled, e.interpreter, e.flags, e.offset, e.magic.hex(), e.mask, e.extension,"
        "e.problems('/usr/bin/true'), [x.name for x in binfmt.entries()])"
    )
    assert shown == (
        "True /usr/bin/true POCF 0 d9d9f7da43584543 b''  [] ['certexec']"
    )


def test_a_handler_is_removed_once(machine: Machine) -> None:
    shown = machine.python(
        HEAD + "binfmt.register('/usr/bin/true')\n"
        "print(binfmt.unregister(), binfmt.read_entry(), binfmt.unregister())"
    )
    assert shown == "True None False"


def test_every_other_handler_that_could_take_a_certificate_is_a_conflict(machine: Machine) -> None:
    lines = [
        r":shorter:M:0:\xd9\xd9::/usr/bin/true:",
        r":later:M:4:CXEC::/usr/bin/true:",
        r":longer:M:0:\xd9\xd9\xf7\xda\x43\x58\x45\x43\x82::/usr/bin/true:",
        r":masked:M:0:\xd0\xd9:\xf0\xff:/usr/bin/true:",
        r":named:E::cert::/usr/bin/true:",
        r":java:M:0:\xca\xfe\xba\xbe::/usr/bin/true:",
        r":other:M:2:\xf8::/usr/bin/true:",
        r":pyc:E::pyc::/usr/bin/true:",
        r":off:M:0:\xd9\xd9\xf7::/usr/bin/true:",
    ]
    shown = machine.python(
        HEAD + f"for line in {lines!r}: binfmt._write('register', line, 'test')\n"
        "binfmt._write('off', '0', 'test'); binfmt.register('/usr/bin/true')\n"
        "print([entry.name for entry in binfmt.conflicts()])"
    )
    assert shown == "['later', 'longer', 'masked', 'named', 'shorter']"


def test_registering_needs_root_and_says_so(machine: Machine) -> None:
    if os.geteuid() != 0:
        pytest.skip("only one id is mapped")
    shown = machine.python(
        HEAD + "from certexec.errors import KernelError\n"
        "try: binfmt.register('/usr/bin/true')\n"
        "except KernelError as error: print(error.reason, binfmt.writable())",
        uid=12345,
    )
    assert shown == "not-root False"


def test_an_interpreter_that_does_not_exist_is_refused(machine: Machine) -> None:
    shown = machine.python(
        HEAD + "from certexec.errors import KernelError\n"
        "try: binfmt.register('/nonexistent/launch')\n"
        "except KernelError as error: print(error.reason, binfmt.entries())"
    )
    assert shown == "kernel-unsupported []"


@pytest.mark.parametrize("path", ["launch", "", "/x" * 64, "/a:b", "/a\\b", "/a\nb"])
def test_a_path_that_an_entry_cannot_hold_is_refused(path: str) -> None:
    with pytest.raises(KernelError):
        binfmt.registration(path)


def test_the_template_registers_what_the_code_registers() -> None:
    with open(os.path.join(PROJECT, "binfmt", "certexec.conf")) as file:
        lines = [line for line in file.read().splitlines() if not line.startswith("#")]
    assert lines == [binfmt.registration("/usr/libexec/certexec/launch")]


def entry(**fields: object) -> binfmt.Entry:
    made = binfmt.Entry("x", b"enabled\n")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


GOOD = {"interpreter": "/l", "flags": "POCF", "offset": 0, "magic": binfmt.MAGIC, "mask": b""}


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("enabled", False, "disabled"),
        ("interpreter", "/other", "/other"),
        ("flags", "POF", "POF"),
        ("flags", "", "flags"),
        ("magic", binfmt.MAGIC[:4], "magic"),
        ("offset", 4, "magic"),
        ("mask", b"\0" * 8, "magic"),
    ],
)
def test_each_difference_from_our_handler_is_named(field: str, value: object, word: str) -> None:
    assert entry(**GOOD).problems("/l") == []
    found = entry(**{**GOOD, field: value}).problems("/l")
    assert len(found) == 1
    assert word in found[0]


@given(st.binary(min_size=1, max_size=12), st.integers(0, 12), st.data())
def test_an_entry_takes_what_the_kernel_would_give_it(
    magic: bytes, offset: int, data: st.DataObject
) -> None:
    mask = data.draw(st.one_of(st.just(b""), st.binary(min_size=len(magic), max_size=len(magic))))
    head = data.draw(st.binary(max_size=32))
    window = (head + bytes(64))[offset : offset + len(magic)]
    bits = mask or b"\xff" * len(magic)
    known = len(head) >= offset + len(magic)
    same = all((a ^ b) & c == 0 for a, b, c in zip(window, magic, bits, strict=True))
    taken = entry(magic=magic, offset=offset, mask=mask).takes(head)
    assert taken == same if known else taken or not same
