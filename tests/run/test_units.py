"""The units of systemd, and what set-up does with them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from certexec.run import deploy, units
from certexec.run.layout import Layout
from tests.isolation import skip_or_fail

pytestmark = pytest.mark.root


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A place where systemd seems to run, with a systemctl that only notes what it is asked."""
    if os.geteuid() != 0:
        skip_or_fail("units are root's")
    # /root is nobody else's to write, as /tmp is
    place = Path(f"/root/certexec-test-{os.getpid()}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "booted").mkdir()
    monkeypatch.setattr(units, "_systemctl", lambda *words: told(place, words))
    return Layout(units=str(place / "units"), booted=str(place / "booted"))


def told(place: Path, words: tuple[str, ...]) -> str:
    with open(place / "said", "a") as file:
        file.write(" ".join(words) + "\n")
    return ""


@pytest.fixture(autouse=True)
def _tidy(layout: Layout) -> Iterator[None]:
    yield
    shutil.rmtree(os.path.dirname(layout.booted))


def said(layout: Layout) -> list[str]:
    path = Path(layout.booted).parent / "said"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_units_are_written_once_and_systemd_listens(layout: Layout) -> None:
    report = deploy.Report()
    units.install(layout, report)
    assert sorted(os.listdir(layout.units)) == ["certexec.service", "certexec.socket"]
    for name in os.listdir(layout.units):
        info = os.stat(f"{layout.units}/{name}")
        assert (info.st_uid, stat.S_IMODE(info.st_mode)) == (0, 0o644)
    assert said(layout) == [
        "daemon-reload", "stop certexec.service", "enable certexec.socket",
        "restart certexec.socket",
    ]  # fmt: skip
    assert any("systemd listens" in change for change in report.changes)


def test_a_changed_unit_is_written_anew(layout: Layout) -> None:
    units.install(layout, deploy.Report())
    path = Path(layout.units) / "certexec.service"
    path.write_text("[Service]\nExecStart=/bin/false\n")
    units.install(layout, deploy.Report())
    assert path.read_text() == units.texts(layout)["certexec.service"]


def test_where_systemd_does_not_run_nothing_is_written(layout: Layout) -> None:
    os.rmdir(layout.booted)
    report = deploy.Report()
    units.install(layout, report)
    assert not os.path.exists(layout.units)
    assert not report.changes
    assert not said(layout)
    os.mkdir(layout.booted)


def test_units_are_taken_away_and_the_server_is_ended(layout: Layout) -> None:
    units.install(layout, deploy.Report())
    said(layout)
    report = deploy.Report()
    units.remove(layout, report)
    assert os.listdir(layout.units) == []
    assert said(layout)[0] == "disable --now certexec.socket certexec.service"
    units.remove(layout, deploy.Report())
    assert not said(layout)


def test_the_service_lets_programs_live_on_and_the_socket_is_everybodys(layout: Layout) -> None:
    texts = units.texts(layout)
    assert "KillMode=process\n" in texts["certexec.service"]
    assert f"ExecStart={layout.current}/python -I -S {layout.current}/serve.py --resident\n" in (
        texts["certexec.service"]
    )
    assert "SocketMode=0666\n" in texts["certexec.socket"]
    assert "ListenSequentialPacket=/run/certexec/server.sock\n" in texts["certexec.socket"]


def test_systemd_understands_them(layout: Layout) -> None:
    """systemd-analyze reads them as they will be read."""
    verify = shutil.which("systemd-analyze")
    if verify is None:
        skip_or_fail("there is no systemd-analyze")
    units.install(layout, deploy.Report())
    done = subprocess.run(
        [str(verify), "verify", "--man=no", f"{layout.units}/certexec.socket"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "certexec" in line]
    assert not [line for line in complaints if "not executable" not in line], done.stderr
