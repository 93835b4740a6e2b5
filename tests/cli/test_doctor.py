"""``certexec doctor`` as typed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest

from certexec.observe import sinks
from certexec.run import checkup
from tests.cli.conftest import Script
from tests.isolation import need
from tests.package import LIBEXEC, Site

ROWS = {
    "binfmt_misc", "handler", "at boot", "launcher", "policy server", "doors", "trust store",
    "kernel",
    "seccomp notify", "wait killable", "addfd send", "sync wake-up", "landlock", "ptrace",
    "ptrace scope", "identity", "suid_dumpable", "memfd_noexec", "leases", "user namespaces",
    "open files", "clock", "denials",
}  # fmt: skip


@pytest.fixture
def site() -> Iterator[Site]:
    need("nsenter", "setpriv", "mount")
    made = Site()
    yield made
    made.close()


def findings(site: Site, code: int, uid: int | None = None) -> dict[str, dict[str, str]]:
    done = site.certexec("doctor", "--json", uid=uid)
    assert done.returncode == code, done.stdout + done.stderr
    shown = json.loads(done.stdout)
    assert shown["schema"] == 1
    assert shown["works"] is (code == 0)
    for row in shown["findings"]:
        assert set(row) == {"name", "status", "value", "meaning", "hint"}
        assert row["status"] in ("ok", "warn", "fail")
        assert row["meaning"]
        assert "\n" not in row["meaning"]
    return {row["name"]: row for row in shown["findings"]}


def test_doctor_fails_before_setup_and_is_content_after_it(site: Site) -> None:
    before = findings(site, 1)
    assert before["policy server"]["status"] == "fail"
    assert before["doors"]["value"] == "Python alone" and "python3-dev" in before["doors"]["hint"]
    assert "certexec setup" in before["launcher"]["hint"]
    site.setup()
    after = findings(site, 0)
    assert set(after) >= ROWS
    assert after["handler"]["status"] == after["policy server"]["status"] == "ok"
    assert after["trust store"]["status"] == "warn"
    assert after["doors"]["value"] == "Python alone" and "python3-dev" in after["doors"]["hint"]
    assert any(name.startswith("on ") for name in after)


def test_the_table_has_one_line_for_each_finding_and_does_not_hang(site: Site) -> None:
    site.setup()
    start = time.monotonic()
    done = site.certexec("doctor")
    assert time.monotonic() - start < 30  # a probe that hangs would take longer
    assert done.returncode == 0
    for name in ROWS:
        assert f"  {name}  " in done.stdout
    assert "hint: install gcc and python3-dev" in done.stdout
    assert site.certexec("doctor", "-q").stdout == ""


def test_an_ordinary_user_may_ask_too(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("only one id is mapped without root")
    site.setup()
    rows = findings(site, 0, uid=12345)
    assert rows["identity"]["status"] == "warn"
    assert rows["handler"]["status"] == rows["policy server"]["status"] == "ok"


@pytest.mark.parametrize(
    ("spoil", "row"),
    [
        ("chmod 777 /etc/certexec/trust.d", "trust store"),
        (f"chmod 777 {LIBEXEC}", "launcher"),
        (f"chmod 4755 {LIBEXEC}/launch", "launcher"),
        (f"cp {LIBEXEC}/launch /mnt/l; mv /mnt/l {LIBEXEC}/launch", "handler"),
        (f"echo >> {LIBEXEC}/current/lib/certexec/errors.py", "policy server"),
        (f"rm {LIBEXEC}/current", "policy server"),
        (f"ln -sf /nonexistent {LIBEXEC}/current/python", "policy server"),
        ("echo -1 > /proc/sys/fs/binfmt_misc/certexec", "handler"),
        ("echo 0 > /proc/sys/fs/binfmt_misc/certexec", "handler"),
        ("echo 0 > /proc/sys/fs/binfmt_misc/status", "binfmt_misc"),
    ],
)
def test_each_thing_that_keeps_the_main_job_from_working_fails(
    site: Site, spoil: str, row: str
) -> None:
    site.setup()
    done = site.machine.run("sh", "-c", spoil)
    assert done.returncode == 0, done.stderr
    assert findings(site, 1)[row]["status"] == "fail"


def test_a_command_of_another_version_is_noticed(site: Site) -> None:
    site.setup()
    site.package(mark="second")
    row = findings(site, 0)["policy server"]
    assert row["status"] == "warn"
    assert "certexec setup" in row["hint"]


@pytest.mark.parametrize(
    ("there", "status", "value"),
    [
        ((), "warn", "kept nowhere"), (("SYSLOG",), "ok", "syslog"),
        (("JOURNAL", "COLLECTOR"), "ok", "the journal, a collector"),
    ],
)
def test_doctor_says_who_keeps_what_programs_are_denied(
    there: tuple[str, ...], status: str, value: str, script: Script,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SYSLOG", "JOURNAL", "COLLECTOR"):
        path = script.path(name)
        monkeypatch.setattr(sinks, name, str(path))
        if name in there:
            path.write_text("")
    script.certexec("doctor", "--json")
    [row] = [row for row in json.loads(script.stdout)["findings"] if row["name"] == "denials"]
    assert (row["status"], row["value"]) == (status, value)
    assert ("rsyslog" in row["hint"]) is (status == "warn")


@pytest.mark.parametrize("initial", [True, False])
def test_a_user_namespace_is_not_advised_to_have_a_server(
    initial: bool, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checkup.Finding("resident server", checkup.OK, "none", '"certexec server" saves it')
    monkeypatch.setattr(checkup, "examine", lambda *_: [found])
    monkeypatch.setattr("certexec.cli.doctor.in_initial_user_namespace", lambda: initial)
    script.certexec("doctor")
    assert ("certexec server" in script.stdout) is initial
    assert ("a user namespace has no resident one" in script.stdout) is not initial
