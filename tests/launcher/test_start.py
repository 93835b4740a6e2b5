"""Steps 1 to 3: how the launcher is started, who it is, its descriptors."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import struct
import subprocess
from pathlib import Path

import pytest

from certexec.run.channel import refusal
from tests.launcher.rig import STRANGER, USER, Rig, assert_refused, lie

pytestmark = pytest.mark.root

PRCTL, GETRESUID, GETRESGID, SETFSUID, SETFSGID = 157, 118, 120, 122, 123
NESTED_PROBE = 0x43584543
CAP_NET_RAW = 13
HIGH = 77
"""A descriptor that nobody expects, or the next free one: the tests themselves have many open."""
HELLO = """
h = Channel(3).recv_hello()
note("hello", [h.ruid, h.euid, h.suid, h.rgid, h.egid, h.sgid, h.secure, h.run_form, h.argc])
"""


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


@pytest.mark.parametrize("uid", [USER, STRANGER, None])
def test_a_certificate_without_a_bit_runs_as_its_invoker(rig: Rig, uid: int | None) -> None:
    found = rig.probe(uid=uid, groups=[7, 9])
    number = uid or 0
    assert found["uids"] == found["gids"] == [number] * 3
    assert found["secure"] == 0
    if uid is not None:
        assert found["groups"] == [7, 9]


def test_pid_parent_directory_arguments_and_environment_stay(rig: Rig, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    certificate = rig.certificate()
    pid = os.getpid()
    rig.register()
    process = subprocess.Popen(
        ["any name", "-I", "-S", str(rig.home / "probe.py"), "-", "", "ü"],
        executable=certificate, cwd=tmp_path, env={"A": "1", "LD_PRELOAD": "", "B": ""},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found = json.loads(process.communicate(timeout=30)[0])
    assert found["pid"] == process.pid
    assert found["ppid"] == pid
    assert found["cwd"] == str(tmp_path)
    argv = ["any name", "-I", "-S", str(rig.home / "probe.py"), "-", "", "ü"]
    assert [one.encode("latin-1").decode() for one in found["argv"]] == argv
    assert found["env"] == ["A=1", "LD_PRELOAD=", "B="]


def test_a_set_user_id_certificate_starts_with_the_invoker_as_real_user(rig: Rig) -> None:
    rig.server(HELLO)
    rig.run("x", "y", uid=USER, setuid=True)
    assert rig.note("hello") == [1000, 0, 0, 1000, 1000, 1000, True, False, 3]
    rig.server(HELLO)
    rig.run(uid=STRANGER)
    assert rig.note("hello") == [12345] * 6 + [False, False, 1]


def test_the_server_holds_the_certificate_itself(rig: Rig) -> None:
    rig.server(
        "fd = Channel(3).recv_hello().cert_fd\n"
        "note('cert', [os.pread(fd, 99, 0).decode(), os.readlink(f'/proc/self/fd/{fd}')])"
    )
    rig.run(uid=USER)
    certificate = rig.home / "program"
    assert rig.note("cert") == [certificate.read_text(), str(certificate)]


def test_by_hand_the_launcher_only_says_that(rig: Rig) -> None:
    for argv in ([], ["--run"], ["--run", "3"], ["--help"], ["x", "y", "z"]):
        done = subprocess.run(
            [rig.launcher, *argv], capture_output=True, text=True, check=False, timeout=30
        )
        assert_refused(done, 125, "not by hand")


def test_an_entry_without_flag_p_is_refused(rig: Rig) -> None:
    rig.reregister("OCF")
    try:
        for arguments in ([], ["x"], ["x", "y"]):
            assert_refused(rig.run(*arguments, uid=USER), 126, "lacks flag P")
    finally:
        rig.reregister("POCF")


def test_inside_a_confined_program_the_launcher_refuses(rig: Rig) -> None:
    # a filter that answers the probe, as certexec's own filters do, with 0 or with an error
    for errno in (0, 1, 38):
        done = rig.run(uid=USER, before=lambda e=errno: lie(PRCTL, (0, NESTED_PROBE), errno=e))
        assert_refused(done, 126, "executed inside a confined program")


def test_the_nested_probe_is_the_very_first_call(rig: Rig) -> None:
    trace = rig.notes / "trace"
    rig.run(uid=None)
    certificate = rig.certificate()
    subprocess.run(
        ["strace", "-o", trace, certificate, "-c", ""], check=False, capture_output=True, timeout=30
    )
    lines = trace.read_text().splitlines()
    assert lines[0].startswith("execve(")
    assert lines[1].startswith("prctl(0x43584543")


@pytest.mark.parametrize(
    "call", [GETRESUID, GETRESGID, SETFSUID, SETFSGID], ids=["uids", "gids", "fsuid", "fsgid"]
)
def test_ids_that_do_not_fit_together_are_refused(rig: Rig, call: int) -> None:
    # the call is skipped and gives 0: for uid 1000 that is a wrong answer
    done = rig.run(uid=USER, before=lambda: lie(call))
    assert_refused(done, 126, "do not fit together")


def test_a_foreign_effective_group_is_refused(rig: Rig) -> None:
    done = rig.run(after=lambda: (os.setresgid(USER, 8, 8), os.setresuid(USER, USER, USER)))
    assert_refused(done, 126, "effective group id is not the invoker's")


def test_a_foreign_effective_user_is_refused(rig: Rig) -> None:
    done = rig.run(after=lambda: (os.setresgid(USER, USER, USER), os.setresuid(USER, 5, 5)))
    assert_refused(done, 126, "neither the invoker's nor 0")


def test_an_effective_root_that_the_certificate_did_not_give_is_refused(rig: Rig) -> None:
    done = rig.run(after=lambda: (os.setresgid(USER, USER, USER), os.setresuid(USER, 0, 0)))
    assert_refused(done, 126, "not set-user-ID")


def test_a_set_group_id_certificate_is_refused(rig: Rig) -> None:
    certificate = rig.certificate(name="setgid")
    os.chown(certificate, 0, 8)
    certificate.chmod(0o2755)
    assert_refused(rig.run(uid=USER, path=certificate), 126, "group")
    # and where the kernel changes no id, because it is the invoker's own group
    assert_refused(
        rig.run(path=certificate, after=lambda: (os.setresgid(8, 8, 8), os.setresuid(5, 5, 5))),
        126,
        "set-group-ID",
    )


@pytest.mark.parametrize("owner", [(USER, 0), (0, USER), (STRANGER, STRANGER)])
def test_a_set_user_id_certificate_of_another_owner_is_refused(
    rig: Rig, owner: tuple[int, int]
) -> None:
    certificate = rig.certificate(name="owned")
    os.chown(certificate, *owner)
    certificate.chmod(0o4755)
    text = "owned by root:root" if owner[0] in (0, USER) else "neither the invoker's nor 0"
    assert_refused(rig.run(uid=USER, path=certificate), 126, text)


def test_file_capabilities_on_a_certificate_are_refused(rig: Rig) -> None:
    certificate = rig.certificate(name="capable")
    bits = 1 << CAP_NET_RAW
    # struct vfs_cap_data, revision 2, effective flag
    os.setxattr(
        certificate, "security.capability", struct.pack("<5I", 0x02000001, bits, 0, 0, 0)
    )
    assert_refused(rig.run(uid=USER, path=certificate), 126, "has capabilities")


def test_a_nosuid_invoker_gets_no_privilege_and_the_server_can_tell(rig: Rig) -> None:
    rig.server("h = Channel(3).recv_hello(); note('hello', [h.euid, h.secure])")
    libc = ctypes.CDLL(None)
    rig.run(uid=USER, setuid=True, after=lambda: libc.prctl(38, 1, 0, 0, 0))
    assert rig.note("hello") == [1000, False]


def test_changed_securebits_are_refused_with_a_set_user_id_certificate(rig: Rig) -> None:
    libc = ctypes.CDLL(None)

    def no_setuid_fixup() -> None:  # PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP
        assert libc.prctl(28, 4, 0, 0, 0) == 0

    done = rig.run(uid=USER, setuid=True, before=no_setuid_fixup)
    assert_refused(done, 126, "securebits")


# ---- descriptors ----


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1], [0, 1, 2], [1, 2]])
def test_closed_standard_descriptors_stay_closed_for_an_ordinary_program(
    rig: Rig, closed: list[int]
) -> None:
    out = rig.notes / "out"
    out.unlink(missing_ok=True)
    rig.notes.chmod(0o777)
    done = rig.run(
        "-I", "-S", str(rig.home / "probe.py"), str(out), uid=USER,
        after=lambda: [os.close(fd) for fd in closed],
    )  # fmt: skip
    assert done.returncode == 0, done
    found = json.loads(out.read_text())
    # 3 or the lowest free one is the probe's own listing
    links = {int(fd): link for fd, link in found["fds"].items() if not link.startswith("/proc/")}
    for fd in closed:
        assert "null" not in links.get(fd, "") and "socket" not in links.get(fd, "")
    assert not [link for link in links.values() if "socket" in link or "program" in link]


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_a_privileged_program_finds_standard_descriptors_open(rig: Rig, closed: list[int]) -> None:
    rig.server("serve(flags=plans.PLAN_PRIVILEGED, euid=0)")
    out = rig.notes / "out"
    done = rig.run(
        "-I", "-S", str(rig.home / "probe.py"), str(out), uid=USER, setuid=True,
        after=lambda: [os.close(fd) for fd in closed],
    )  # fmt: skip
    assert done.returncode == 0, done
    found = json.loads(out.read_text())
    for fd in closed:
        assert found["fds"][str(fd)] == "/dev/null"


def test_the_program_inherits_what_the_invoker_had_open_and_nothing_more(
    rig: Rig, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("w") as file:
        fd = fcntl.fcntl(file, fcntl.F_DUPFD, HIGH)
        os.set_inheritable(fd, True)
        try:
            found = rig.probe(uid=USER)
        finally:
            os.close(fd)
    fds = found["fds"]
    assert isinstance(fds, dict)
    assert fds[str(fd)] == str(tmp_path / "file")
    mine = {name for name in os.listdir("/proc/self/fd") if is_inheritable(int(name))}
    assert set(fds) <= {"0", "1", "2", str(fd)} | mine
    assert not [link for link in fds.values() if str(rig.home) in link or link in ("socket",)]


def test_a_thousand_inherited_descriptors_are_passed_on(rig: Rig) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def open_many() -> None:
        for _ in range(1000):
            os.set_inheritable(os.open("/dev/zero", os.O_RDONLY), True)

    found = rig.probe(uid=USER, after=open_many)
    fds = found["fds"]
    assert isinstance(fds, dict)
    assert list(fds.values()).count("/dev/zero") == 1000
    assert not [link for link in fds.values() if "socket" in link]
    assert found["limits"]["7"] == [soft, hard]  # type: ignore[index]


def test_a_full_descriptor_table_below_the_soft_limit_still_works(rig: Rig) -> None:
    rig.server("serve(NOOP)")

    def fill() -> None:
        while (fd := os.open("/dev/zero", os.O_RDONLY)) < 40:
            os.set_inheritable(fd, True)
        # one number is left for the kernel to open the certificate, none for the launcher
        os.set_inheritable(fd, False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (fd + 1, 4096))

    assert rig.run(uid=USER, after=fill).returncode == 42


@pytest.mark.parametrize("limit", [3, 4, 5, 6, 8])
def test_a_tiny_hard_limit_on_files_works_or_refuses_cleanly(rig: Rig, limit: int) -> None:
    rig.server("serve(NOOP)")
    done = rig.run(
        uid=USER,
        after=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
    )
    if limit == 3:  # no number for the certificate: the kernel ends the exec before the launcher
        assert done.returncode < 0 or done.returncode == 42
    elif done.returncode != 42:
        assert_refused(done, 125, "")


def test_a_soft_limit_on_files_is_given_back_unchanged(rig: Rig) -> None:
    found = rig.probe(
        uid=USER, after=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (5, 4000))
    )
    assert found["limits"]["7"] == [5, 4000]  # type: ignore[index]


def test_a_privileged_launcher_takes_nothing_from_somebody_else_s_filter(rig: Rig) -> None:
    # a filter can also answer what looks like a descriptor; 0 is one that the invoker chose
    forged = rig.notes / "forged"
    forged.write_bytes(refusal(126, "forged words"))

    def before() -> None:
        os.dup2(os.open(forged, os.O_RDONLY), 0)
        lie(PRCTL, (0, NESTED_PROBE))

    assert_refused(rig.run(uid=USER, before=before), 126, "forged words")
    done = rig.run(uid=USER, before=before, setuid=True)
    assert_refused(done, 126, "executed inside a confined program")


def test_the_run_form_takes_nothing_from_a_filter_around_it(rig: Rig) -> None:
    forged = rig.notes / "forged"
    forged.write_bytes(refusal(126, "forged words"))

    def before() -> None:
        os.dup2(os.open(forged, os.O_RDONLY), 0)
        lie(PRCTL, (0, NESTED_PROBE))

    done = subprocess.run(
        [rig.launcher, "--run", "9", "x"], capture_output=True, text=True, timeout=30,
        check=False, stdin=subprocess.DEVNULL, preexec_fn=before,
    )  # fmt: skip
    assert_refused(done, 126, "executed inside a confined program")
