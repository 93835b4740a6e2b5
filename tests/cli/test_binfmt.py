"""``certexec binfmt`` as typed: what it prints, and its exit codes 0, 1 and 2."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from certexec.cli.main import main
from certexec.kernel import binfmt
from certexec.run import handler
from tests.isolation import need
from tests.package import LIBEXEC, Site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    need("nsenter", "setpriv", "mount")
    made = Site()
    made.setup()
    yield made
    made.close()


def test_status_shows_what_is_registered(site: Site) -> None:
    done = site.certexec("binfmt", "status")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "active"
    assert f"{LIBEXEC}/launch" in done.stdout
    assert "POCF" in done.stdout
    shown = json.loads(site.certexec("binfmt", "status", "--json").stdout)
    assert shown["schema"] == 1
    assert shown["state"] == "active"
    assert shown["interpreter"] == f"{LIBEXEC}/launch"
    assert shown["flags"] == "POCF"
    assert shown["magic"] == "d9d9f7da43584543"
    assert shown["fresh"] is True
    assert shown["problems"] == shown["conflicts"] == []


def test_unregister_and_register_go_back_and_forth(site: Site) -> None:
    assert site.certexec("binfmt", "unregister").returncode == 0
    done = site.certexec("binfmt", "status")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "inactive"
    assert "certexec setup" in done.stderr
    assert "no handler was registered" in site.certexec("binfmt", "unregister").stderr
    assert site.certexec("binfmt", "register").returncode == 0
    assert site.certexec("binfmt", "register").returncode == 0
    assert site.certexec("binfmt", "status", "-q").returncode == 0


def test_a_handler_that_is_not_ours_is_inactive_and_says_why(site: Site) -> None:
    site.machine.python(
        "from certexec.kernel import binfmt; binfmt.unregister()\n"
        r"binfmt._write('register', r':certexec:M:0:\xd9\xd9::/usr/bin/true:OF', 'test')"
    )
    done = site.certexec("binfmt", "status", "--json")
    assert done.returncode == 1
    shown = json.loads(done.stdout)
    assert shown["state"] == "inactive"
    assert len(shown["problems"]) == 4
    site.certexec("binfmt", "register")
    assert site.certexec("binfmt", "status").returncode == 0


def test_a_rival_is_shown(site: Site) -> None:
    rule = r":rival:M:0:\xd9\xd9::/usr/bin/true:"
    site.machine.python(
        f"from certexec.kernel import binfmt; binfmt._write('register', {rule!r}, 'test')"
    )
    shown = json.loads(site.certexec("binfmt", "status", "--json").stdout)
    assert shown["conflicts"] == [{"name": "rival", "interpreter": "/usr/bin/true"}]
    assert "rival" in site.certexec("binfmt", "status").stdout
    site.machine.python("from certexec.kernel import binfmt; binfmt.unregister('rival')")


def test_root_is_needed_to_change_but_not_to_look(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("only one id is mapped without root")
    assert site.certexec("binfmt", "status", uid=12345).returncode == 0
    for verb in ("register", "unregister"):
        done = site.certexec("binfmt", verb, uid=12345)
        assert done.returncode == 2
        assert f" binfmt {verb}" in done.stderr.partition("hint: ")[2]
    assert site.certexec("binfmt", "status").returncode == 0


def test_register_without_an_installation_points_to_setup(site: Site) -> None:
    empty = Site()
    try:
        done = empty.certexec("binfmt", "register")
    finally:
        empty.close()
    assert done.returncode == 2
    assert "certexec setup" in done.stderr


def test_status_says_that_it_could_not_tell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = binfmt.Entry("certexec", b"enabled\n")
    entry.interpreter, entry.flags, entry.magic = f"{LIBEXEC}/launch", "POCF", binfmt.MAGIC
    monkeypatch.setattr(binfmt, "mounted", lambda: True)
    monkeypatch.setattr(binfmt, "switched_on", lambda: True)
    monkeypatch.setattr(binfmt, "read_entry", lambda: entry)
    monkeypatch.setattr(binfmt, "conflicts", list)
    monkeypatch.setattr(handler, "started_launcher", lambda: None)
    assert main(["binfmt", "status"]) == 2
    assert capsys.readouterr().out.splitlines()[0] == "unknown"
