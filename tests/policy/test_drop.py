"""Which calls go with a name, as the kernel would see it (the simulator runs the filter)."""

import errno

import pytest

from certexec.errors import PolicyError
from certexec.kernel.bpf import AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, SECCOMP_RET_ALLOW
from certexec.kernel.bpf_simulator import Simulator
from certexec.kernel.syscalls import NUMBERS
from certexec.policy.compile import GATED, compile_table
from certexec.policy.decisions import ALWAYS
from certexec.policy.drop import Dropped, error_number, proof

OPTION, NONCE = 0x12345678, 0xFEDCBA9876543210
KILL = 0x80000000


def dropped(*names: str, code: int = errno.EPERM) -> Simulator:
    return Simulator(compile_table(Dropped(names, code, OPTION)).with_nonce(NONCE))


def answer(found: Simulator, name: str, *args: int) -> int:
    """The error number, 0 for a permitted call."""
    padded = tuple(word % 2**64 for word in (*args, 0, 0, 0, 0, 0, 0)[:6])
    action = found.run(NUMBERS[name], AUDIT_ARCH_X86_64, 0, padded)
    return 0 if action == SECCOMP_RET_ALLOW else action & 0xFFFF


def test_a_call_goes_and_the_others_stay():
    found = dropped("socket")
    assert answer(found, "socket") == errno.EPERM
    assert not any(answer(found, name) for name in ("socketpair", "read", "openat", "prctl"))


def test_a_classic_name_stands_for_what_took_its_place():
    found = dropped("open", code=errno.EACCES)
    for name in ("open", "openat", "openat2", "creat"):
        assert answer(found, name) == errno.EACCES


@pytest.mark.parametrize(
    ("name", "args", "gone"),
    [("openat", (0, 0, 0), False), ("openat", (0, 0, 1), True), ("openat", (0, 0, 0o1000), True),
     ("open", (0, 0o102), True), ("creat", (), True), ("mkdirat", (), True),
     ("unlinkat", (), True), ("newfstatat", (), False), ("rename", (), False)],
)  # fmt: skip
def test_fswrite_leaves_reading(name, args, gone):
    assert bool(answer(dropped("fswrite"), name, *args)) is gone


def test_what_memory_would_have_to_tell_goes_as_a_whole():
    for alias in ("fsread", "fswrite"):
        assert answer(dropped(alias), "openat2") == errno.ENOSYS
    assert answer(dropped("fsread", "fswrite"), "openat2") == errno.EPERM
    assert answer(dropped("fsread"), "newfstatat", 3, 0, 0, 0x1000) == errno.EPERM
    for name in ("fork", "vfork", "tfork", "clone"):
        assert answer(dropped(name), "clone3") == errno.ENOSYS
    assert answer(dropped("clone3"), "clone3") == errno.EPERM


def test_io_uring_goes_with_every_call():
    for name in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
        assert answer(dropped("socket"), name) == errno.EPERM


def test_what_comes_to_a_dropped_call_goes_with_it():
    for name in ("kill", "connect"):
        found = dropped(name)
        owner, route = answer(found, "fcntl", 0, 8, 1), answer(found, "setsockopt", 3, 41, 57, 0, 9)
        assert (owner, route) == ((errno.EPERM, 0) if name == "kill" else (0, errno.EPERM))
        assert not answer(found, "fcntl", 0, 2) and not answer(found, "setsockopt", 3, 1, 2, 0, 4)


def test_other_tables_kill():
    found = dropped("socket")
    assert found.run(NUMBERS["socket"] | 0x40000000, AUDIT_ARCH_X86_64, 0, (0,) * 6) == KILL
    assert found.run(102, AUDIT_ARCH_I386, 0, (0,) * 6) == KILL


@pytest.mark.parametrize("number", ALWAYS)
def test_a_program_can_always_end(number):
    name = next(one for one, each in NUMBERS.items() if each == number)
    with pytest.raises(PolicyError, match="cannot be dropped") as caught:
        dropped(name)
    assert caught.value.reason == "usage"


def test_unknown_names_are_told_with_what_was_meant():
    with pytest.raises(PolicyError) as caught:
        dropped("sokcet")
    assert caught.value.hint == 'did you mean "socket"?'
    with pytest.raises(PolicyError) as caught:
        error_number("eacess")
    assert caught.value.hint == 'did you mean "eacces"?'
    assert error_number("EACCES") == errno.EACCES


@pytest.mark.parametrize("code", [errno.EPERM, errno.EL2HLT])
def test_the_proof_is_an_answer_that_nobody_else_gives(code):
    found = dropped("prctl", code=code)
    assert answer(found, "prctl", OPTION) == proof(code) != code
    assert answer(found, "prctl", OPTION - 1) == code
    assert proof(code) != errno.EINVAL


def test_only_the_nonce_opens_the_gate_and_only_to_the_calls_that_are_due():
    found = dropped("execve", "write", "socket")
    assert answer(found, "execveat", 0, 0, 0, 0, 0, NONCE) == 0
    assert answer(found, "execveat", 0, 0, 0, 0, 0, NONCE ^ 1) == errno.EPERM
    assert answer(found, "execveat", 0, 0, 0, 0, 0, NONCE ^ 1 << 63) == errno.EPERM
    for name, number in NUMBERS.items():
        if number not in GATED and name in ("execve", "socket"):
            assert answer(found, name, 0, 0, 0, 0, 0, NONCE) == errno.EPERM
