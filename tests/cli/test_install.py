"""``certexec install`` as typed, after keygen, trust and sign as typed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import pytest

from tests.isolation import need, skip_or_fail
from tests.package import Site

POLICY = """\
Policy: /usr/bin/true, Emulation: native
	native-read: permit
	native-write: permit
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    need("nsenter", "setpriv", "mount")
    if os.geteuid() != 0:
        skip_or_fail("needs root")
    made = Site()
    made.setup()
    with open(made.machine.path("/mnt/free/p"), "w") as file:
        file.write(POLICY)
    for argv in (
        ["keygen", "--no-passphrase", "-f", "/mnt/free/ops"],
        ["trust", "add", "/mnt/free/ops.pub", "--may-grant", "root"],
        sign("plain.cert"),
        sign("grant.cert", "--setuid", "root"),
    ):
        done = made.certexec(*argv)
        assert done.returncode == 0, (argv, done.stderr)
    yield made
    made.close()


def sign(output: str, *more: str) -> list[str]:
    return [
        "sign", "-k", "/mnt/free/ops.key", "-p", "/mnt/free/p", "--allow-everyone",
        "--valid-for", "1d", "-o", f"/mnt/free/{output}", *more, "/usr/bin/true",
    ]  # fmt: skip


def mode(site: Site, path: str) -> int:
    return stat.S_IMODE(os.stat(site.machine.path(path)).st_mode)


def test_a_grant_and_a_plain_certificate_come_into_path(site: Site) -> None:
    done = site.certexec("install", "/mnt/free/grant.cert", "/usr/local/bin/one")
    assert (done.returncode, done.stdout) == (0, "/usr/local/bin/one: installed (mode 4755)\n")
    assert mode(site, "/usr/local/bin/one") == 0o4755
    done = site.certexec("install", "/mnt/free/plain.cert", "/usr/local/bin/one")
    assert (done.returncode, done.stdout) == (0, "/usr/local/bin/one: replaced (mode 0755)\n")
    assert mode(site, "/usr/local/bin/one") == 0o755
    done = site.certexec("install", "-q", "/mnt/free/plain.cert", "/usr/local/bin")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mode(site, "/usr/local/bin/plain.cert") == 0o755


def test_verbose_names_the_signer(site: Site) -> None:
    done = site.certexec("install", "-v", "/mnt/free/plain.cert", "/usr/local/bin/two")
    assert "signed by SHA256:" in done.stderr


def test_something_else_needs_force(site: Site) -> None:
    with open(site.machine.path("/usr/local/bin/three"), "w") as file:
        file.write("#!/bin/sh\n")
    done = site.certexec("install", "/mnt/free/plain.cert", "/usr/local/bin/three")
    assert done.returncode == 1
    assert "--force" in done.stderr
    done = site.certexec("install", "-f", "/mnt/free/plain.cert", "/usr/local/bin/three")
    assert done.returncode == 0


def test_the_exit_code_tells_no_from_could_not_tell(site: Site) -> None:
    with open(site.machine.path("/mnt/free/bad.cert"), "w") as file:
        file.write("no certificate")
    assert site.certexec("install", "/mnt/free/bad.cert", "/usr/local/bin/x").returncode == 1
    assert site.certexec("install", "/mnt/free/missing", "/usr/local/bin/x").returncode == 2
    assert site.certexec("install", "/mnt/free/plain.cert").returncode == 2
    done = site.certexec("install", "/mnt/free/grant.cert", "/mnt/free/x", uid=12345)
    assert done.returncode == 2
    assert "as root" in done.stderr
    assert not os.path.exists(site.machine.path("/usr/local/bin/x"))


def test_where_nobody_starts_certificates_the_set_up_is_named(site: Site) -> None:
    install = ("install", "/mnt/free/plain.cert", "/usr/local/bin/four")
    assert "certexec setup" not in site.certexec(*install).stderr
    assert site.certexec("binfmt", "unregister").returncode == 0
    try:
        done = site.certexec(*install)
    finally:
        assert site.certexec("binfmt", "register").returncode == 0
    assert (done.returncode, done.stdout) == (0, "/usr/local/bin/four: replaced (mode 0755)\n")
    assert done.stderr == (
        "certexec: warning: certificates do not run by name on this machine yet: "
        'run "certexec setup" as root\n'
    )


def test_what_is_no_certificate_is_named(site: Site) -> None:
    with open(site.machine.path("/mnt/free/notes"), "w") as file:
        file.write("no certificate")
    done = site.certexec("install", "/mnt/free/notes", "/usr/local/bin/x")
    assert done.returncode == 1
    assert 'error: "/mnt/free/notes": not a certificate' in done.stderr
