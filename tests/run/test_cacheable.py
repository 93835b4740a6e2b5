"""What may not go into a cached plan, as far as it shows without a kernel that launches."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

import pytest

from certexec.kernel.filesystem import STATX_BASIC_STATS, STATX_MNT_ID, FileIdentity, identify
from certexec.run import account_files, freshness
from certexec.run.account_files import AccountFiles, ForeignAccounts
from certexec.run.cache_entry import Object
from certexec.run.cacheable import Unfit, check_told, remember

SECOND = 10**9
NOON = 1_700_000_000 * SECOND


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Account files of our own; what the C library says of them stays this machine's."""
    root = pwd.getpwuid(0)
    line = f"{root.pw_name}:x:0:0:root:{root.pw_dir}:{root.pw_shell}\n"
    (tmp_path / "passwd").write_text(line)
    (tmp_path / "group").write_text("root:x:0:\n")
    (tmp_path / "switch").write_text("passwd: files systemd\ngroup: files systemd\n")
    for name in ("passwd", "group", "switch"):
        monkeypatch.setattr(account_files, name.upper(), str(tmp_path / name))
    return tmp_path


def test_a_name_counts_where_file_and_library_agree(files: Path) -> None:
    accounts = AccountFiles()
    assert (accounts.uid("root"), accounts.gid("root")) == (0, 0)
    assert accounts.holds_uid(0)


@pytest.mark.parametrize("number", ["1", "", "-0", "none"])
def test_a_name_does_not_count_where_the_library_still_has_an_old_answer(
    files: Path, number: str
) -> None:
    (files / "passwd").write_text(f"root:x:{number}:0::/root:/bin/sh\n")
    (files / "group").write_text(f"root:x:{number}:\n")
    accounts = AccountFiles()
    with pytest.raises(ForeignAccounts, match='user "root"'):
        accounts.uid("root")
    with pytest.raises(ForeignAccounts, match='group "root"'):
        accounts.gid("root")


def test_a_name_that_was_removed_is_not_settled_by_what_the_library_remembers(
    files: Path,
) -> None:
    (files / "passwd").write_text("")
    (files / "switch").write_text("passwd: files\ngroup: files\n")
    with pytest.raises(ForeignAccounts):
        AccountFiles().uid("root")
    assert not AccountFiles().holds_uid(0)
    assert AccountFiles().uid("nobody-has-this-name") is None


def test_an_account_does_not_count_where_the_library_knows_another_home(files: Path) -> None:
    (files / "passwd").write_text("root:x:0:0::/elsewhere:/bin/sh\n")
    assert not AccountFiles().holds_uid(0)


def _changed_at(moment: int) -> Object:
    here = identify(os.open("/", os.O_PATH | os.O_CLOEXEC))
    here.changed = moment
    return Object(b"/", 0, here)


@pytest.mark.parametrize(
    ("changed", "now", "is_restless"),
    [
        (NOON, NOON + SECOND * 9 // 10, True),
        (NOON, NOON + SECOND * 19 // 10, True),
        (NOON, NOON + SECOND * 21 // 10, False),
        (NOON + 7, NOON + SECOND * 9 // 10, False),
        (NOON + 7, NOON + 7, True),
    ],
)
def test_a_change_time_in_whole_seconds_hides_what_changes_within_them(
    changed: int, now: int, is_restless: bool
) -> None:
    assert bool(freshness.restless([_changed_at(changed)], now)) == is_restless


def test_nothing_is_kept_in_a_locale_whose_names_a_server_would_write_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    with pytest.raises(Unfit, match="UTF-8"):
        remember(-1, "/certificate", capable=False)


STATX_CTIME = 0x80


def _told(mask: int) -> Object:
    record = bytearray(256)
    record[:4] = mask.to_bytes(4, "little")
    return Object(b"/file", 0, FileIdentity(bytes(record)))


def test_nothing_is_kept_where_the_kernel_does_not_tell_what_must_stay() -> None:
    check_told([_told(STATX_BASIC_STATS | STATX_MNT_ID)])
    with pytest.raises(Unfit, match="mounts apart"):
        check_told([_told(STATX_BASIC_STATS)])
    with pytest.raises(Unfit, match="does not tell all"):
        check_told([_told(STATX_MNT_ID | STATX_BASIC_STATS & ~STATX_CTIME)])
