"""What hangs on the namespaces of who opens it, where a supervisor opens for others."""

from __future__ import annotations

import os
import stat
from types import SimpleNamespace

import pytest

from certexec.kernel.procfs import own_fd
from certexec.run.mounts import Mounts
from certexec.run.namespaces import hangs_on_namespaces, shares_namespaces
from certexec.run.task import Task
from tests.isolation import skip_or_fail


@pytest.mark.parametrize(
    ("name", "read", "written"),
    [("/proc/sys/net", True, True), ("/proc/sys/kernel/sem", True, True),
     ("/proc/sys/fs/mqueue", True, True), ("/proc/sysvipc/sem", True, True),
     ("/proc/sys/kernel/ostype", False, True), ("/proc/sys", False, False),
     ("/proc/meminfo", False, False), ("/proc/self/net", False, False), ("/proc", False, False),
     ("/etc/passwd", False, False), ("/dev/null", False, False), ("/", False, False)],
)  # fmt: skip
def test_settings_and_objects_of_namespaces_are_told_from_all_else(
    name: str, read: bool, written: bool
) -> None:
    if not os.path.exists(name):
        skip_or_fail(f"there is no {name} here")
    fd = os.open(name, os.O_PATH)
    try:
        info, mounts = os.stat(own_fd(fd)), Mounts()
        assert hangs_on_namespaces(fd, info, mounts, False) is read
        assert hangs_on_namespaces(fd, info, mounts, True) is written
    finally:
        os.close(fd)


def test_control_groups_are_changed_by_who_opens_them() -> None:
    with open("/proc/self/mounts") as mounts:
        places = [line.split()[1] for line in mounts if line.split()[2] in ("cgroup", "cgroup2")]
    if not places:
        skip_or_fail("no control groups are mounted here")
    fd = os.open(f"{places[-1]}/cgroup.procs", os.O_PATH)
    try:
        info = os.stat(own_fd(fd))
        assert hangs_on_namespaces(fd, info, Mounts(), True)
        assert not hangs_on_namespaces(fd, info, Mounts(), False)
    finally:
        os.close(fd)


def test_a_tunnel_is_one_of_the_network_of_who_opens_it() -> None:
    def device(minor: int) -> bool:
        fake = SimpleNamespace(st_mode=stat.S_IFCHR, st_rdev=os.makedev(10, minor), st_size=0)
        return hangs_on_namespaces(-1, fake, None, True)  # type: ignore[arg-type]

    assert device(200) and not device(229)


def test_this_process_is_where_it_is() -> None:
    assert shares_namespaces(Task(os.getpid(), os.getpid()))
