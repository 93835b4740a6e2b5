"""``certexec setup`` as typed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from certexec.cli.main import main
from tests.isolation import need
from tests.package import Site


@pytest.fixture
def site() -> Iterator[Site]:
    need("nsenter", "setpriv", "mount")
    made = Site()
    yield made
    made.close()


def test_set_up_look_remove(site: Site) -> None:
    done = site.certexec("setup")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("certexec is set up: version ")
    assert done.stderr.splitlines()[-1].startswith('certexec: next: "certexec keygen')
    assert done.stdout.count("\n") == 1
    assert all(line.startswith("certexec: ") for line in done.stderr.splitlines())
    done = site.certexec("setup")
    assert "is set up already, nothing changed" in done.stdout
    assert done.stderr == ""
    done = site.certexec("setup", "--remove")
    assert (done.returncode, done.stdout) == (0, "certexec is removed\n")
    assert '"certexec verify /usr/local" finds' in done.stderr.splitlines()[-1]
    done = site.certexec("setup", "--remove")
    assert (done.returncode, done.stdout) == (0, "nothing to remove\n")


def test_quietly_only_the_exit_status_tells(site: Site) -> None:
    for argv in (["setup", "-q"], ["-q", "setup"], ["setup", "--remove", "-q"]):
        done = site.certexec(*argv)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), argv


@pytest.mark.parametrize(
    "argv",
    [["--purge"], ["--yes"], ["--remove", "--yes"], ["--remove", "--purge"], ["extra"]],
)
def test_combinations_that_make_no_sense_touch_nothing(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = os.path.exists("/usr/libexec/certexec")
    assert main(["setup", *argv]) == 2
    assert "certexec: error:" in capsys.readouterr().err
    assert os.path.exists("/usr/libexec/certexec") == before


def test_without_root_nothing_happens(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("only one id is mapped without root")
    for argv in (["setup"], ["setup", "--remove"]):
        done = site.certexec(*argv, uid=12345)
        assert done.returncode == 2
        assert "needs root" in done.stderr
        assert "hint" in done.stderr
