"""Control groups: which child can be forked where."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from certexec.kernel.fork import fork_into, open_cgroup, other_group
from tests.isolation import skip_or_fail

pytestmark = pytest.mark.root
MIXED = "1:cpu:/{one}\n0::/{unified}\n"


def test_where_ours_will_do_nobody_moves() -> None:
    text = MIXED.format(one="a", unified="b")
    assert other_group(text, text) == ""


def test_another_group_of_version_2_is_named() -> None:
    ours = MIXED.format(one="a", unified="b")
    assert other_group(ours, MIXED.format(one="a", unified="c/d")) == "/c/d"


@pytest.mark.parametrize(
    "theirs", [MIXED.format(one="x", unified="b"), "0::/b\n", "2:pids:/\n1:cpu:/a\n0::/b\n"]
)
def test_groups_of_version_1_cannot_be_entered_by_birth(theirs: str) -> None:
    with pytest.raises(OSError, match="other"):
        other_group(MIXED.format(one="a", unified="b"), theirs)


@pytest.fixture
def group() -> Iterator[str]:
    """A control group of version 2."""
    name = f"/certexec-test-{os.getpid()}"
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if os.path.exists(f"{root}/cgroup.procs"):
            try:
                os.mkdir(root + name)
            except OSError:
                break
            yield name
            os.rmdir(root + name)
            return
    skip_or_fail("no control group can be made here")


def test_a_child_is_born_in_the_group(group: str) -> None:
    directory = open_cgroup(group)
    reader, writer = os.pipe()
    pid = fork_into(directory)
    if pid == 0:
        try:
            with open("/proc/self/cgroup") as file:
                os.write(writer, file.read().encode())
        finally:
            os._exit(7)
    os.close(writer)
    os.close(directory)
    with open(reader) as file:
        told = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert f"0::{group}\n" in told


def test_a_group_that_is_gone_is_an_error() -> None:
    with pytest.raises(OSError):
        open_cgroup("/certexec-there-is-none")
