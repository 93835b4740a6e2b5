"""Users and groups of this machine."""

import grp
import os
import pwd

import pytest

from certexec.kernel.userdb import SystemUsers

USERS = SystemUsers()
NOBODY_HAS_IT = 2**32 - 7


def test_names_and_numbers_agree_with_the_system():
    for entry in pwd.getpwall():
        assert USERS.uid(entry.pw_name) == pwd.getpwnam(entry.pw_name).pw_uid
    root = pwd.getpwuid(0)
    assert (USERS.name(0), USERS.home(0)) == (root.pw_name, root.pw_dir)
    group = grp.getgrgid(os.getgid())
    assert USERS.group_name(group.gr_gid) == group.gr_name
    assert USERS.gid(group.gr_name) == group.gr_gid


@pytest.mark.parametrize("name", ["", "no such user", "a\0b", "\udcff", "\ud800", "x" * 5000])
def test_unknown_and_impossible_names_are_none(name):
    assert USERS.uid(name) is None
    assert USERS.gid(name) is None


@pytest.mark.parametrize("number", [NOBODY_HAS_IT, -2, 2**70])
def test_unknown_and_impossible_numbers_are_none(number):
    assert USERS.name(number) is None
    assert USERS.home(number) is None
    assert USERS.group_name(number) is None
