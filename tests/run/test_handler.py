"""The handler: registered without a gap, the right launcher, at boot too, and gone on request."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from certexec.kernel import binfmt
from certexec.run import deploy, handler
from certexec.run.layout import Layout
from tests.isolation import need
from tests.package import LIBEXEC, Site

ENTRY = "/usr/lib/binfmt.d/certexec.conf"
CERTIFICATE = "/usr/local/bin/x.cert"


@pytest.fixture
def site() -> Iterator[Site]:
    need("nsenter", "setpriv", "mount")
    made = Site()
    yield made
    made.close()


def put_certificate(site: Site) -> None:
    with open(site.machine.path(CERTIFICATE), "wb") as file:
        file.write(binfmt.MAGIC)
    os.chmod(site.machine.path(CERTIFICATE), 0o755)


def test_after_setup_the_kernel_starts_the_launcher_for_a_certificate(site: Site) -> None:
    put_certificate(site)
    with pytest.raises(AssertionError):
        site.machine.python(f"import os; os.execv({CERTIFICATE!r}, ['x'])")
    site.setup()
    assert site.machine.run(CERTIFICATE).returncode == 126


def test_the_probe_tells_which_launcher_the_handler_really_starts(site: Site) -> None:
    site.setup()
    code = (
        "from certexec.run import handler; from certexec.run.layout import SYSTEM\n"
        "print(handler.is_fresh(SYSTEM), end=' ')\n"
        "import os, shutil; shutil.copy(SYSTEM.launcher, SYSTEM.launcher + '.x')\n"
        "os.rename(SYSTEM.launcher + '.x', SYSTEM.launcher); print(handler.is_fresh(SYSTEM))"
    )
    assert site.machine.python(code) == "True False"
    site.setup()
    assert "active" in site.certexec("binfmt", "status").stdout


def test_the_probe_cannot_tell_without_a_handler(site: Site) -> None:
    code = (
        "from certexec.run import handler; from certexec.run.layout import SYSTEM\n"
        "print(handler.is_fresh(SYSTEM))"
    )
    assert site.machine.python(code) in ("None", "False")  # False: a handler outside


def test_the_probe_runs_nothing(site: Site) -> None:
    """The launcher of this test ends with 126 when it runs; the probe kills it before."""
    site.setup()
    code = (
        "import os; from certexec.run import handler; wait = os.waitpid; seen = []\n"
        "os.waitpid = lambda *a: seen.append(wait(*a)) or seen[-1]\n"
        "handler.started_launcher(); print([os.WIFSIGNALED(status) for _, status in seen])"
    )
    assert site.machine.python(code) == "[False, True]"


def test_no_certificate_meets_a_moment_without_handler_while_it_is_registered_again(
    site: Site,
) -> None:
    site.setup()
    put_certificate(site)
    code = (
        "import subprocess; from certexec.kernel import binfmt; from certexec.run import handler\n"
        "from certexec.run.layout import SYSTEM; write = binfmt._write; codes = []\n"
        "def step(*arguments):\n"
        f"    write(*arguments); codes.append(subprocess.run([{CERTIFICATE!r}]).returncode)\n"
        "binfmt._write = step; handler._register(SYSTEM); print(codes)"
    )
    assert site.machine.python(code) == "[126, 126, 126, 126]"


def test_certificates_run_all_the_time_while_the_handler_is_registered_again(site: Site) -> None:
    site.setup()
    put_certificate(site)
    loop = f"n=0; while [ $n -lt 400 ]; do {CERTIFICATE}; echo $?; n=$((n+1)); done"
    running = subprocess.Popen(
        site.machine.command("sh", "-c", loop), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(5):
        done = site.certexec("binfmt", "register")
        assert done.returncode == 0, done.stderr
    shown, complaints = running.communicate()
    assert set(shown.split()) == {"126"}
    assert complaints == ""


def test_a_handler_that_somebody_changed_is_put_right(site: Site) -> None:
    site.setup()
    site.machine.python(
        "from certexec.kernel import binfmt; binfmt.unregister()\n"
        r"binfmt._write('register', r':certexec:M:0:\xd9\xd9::/usr/bin/true:', 'test')"
    )
    assert "registered again" in site.setup()
    assert "nothing changed" in site.setup()


def test_a_handler_that_competes_is_reported(site: Site) -> None:
    site.setup()
    site.machine.python(
        r"from certexec.kernel import binfmt"
        "\n"
        r"binfmt._write('register', r':rival:M:0:\xd9\xd9::/usr/bin/true:', 'test')"
    )
    told = site.setup()
    assert '"rival"' in told
    assert "warning" in told


def test_the_boot_entry_is_the_one_that_systemd_reads(site: Site) -> None:
    if not os.path.isdir(os.path.dirname(ENTRY)):
        pytest.skip("no binfmt.d here")
    told = site.setup()
    assert ENTRY in told
    with open(site.machine.path(ENTRY)) as file:
        lines = [line for line in file.read().splitlines() if not line.startswith("#")]
    assert lines == [binfmt.registration(f"{LIBEXEC}/launch")]


def test_where_usr_is_read_only_the_entry_stands_in_etc(site: Site) -> None:
    site.machine.run("mount", "-o", "remount,bind,ro", "/usr/lib/binfmt.d")
    told = site.setup()
    assert "/etc/binfmt.d/certexec.conf" in told
    assert "nothing changed" in site.setup()


def test_an_entry_of_the_administrators_own_is_left_alone_and_reported(site: Site) -> None:
    place = site.machine.path("/etc/binfmt.d")
    os.makedirs(place, exist_ok=True)
    os.symlink("/dev/null", f"{place}/certexec.conf")
    assert "keeps the handler from being registered at boot" in site.setup()
    assert os.path.islink(f"{place}/certexec.conf")
    site.certexec("setup", "--remove")
    assert os.path.islink(f"{place}/certexec.conf")


def test_remove_leaves_the_machine_as_it_was(site: Site) -> None:
    before = site.machine.run("find", "/usr/libexec", "/etc/certexec", "/usr/lib/binfmt.d").stdout
    site.setup()
    done = site.certexec("setup", "--remove")
    assert done.returncode == 0, done.stderr
    after = site.machine.run("find", "/usr/libexec", "/etc/certexec", "/usr/lib/binfmt.d").stdout
    assert after == before
    assert site.machine.run("ls", binfmt.MOUNT_POINT).stdout == ""
    assert "nothing to remove" in site.certexec("setup", "--remove").stdout


def test_remove_keeps_a_mount_that_was_there_before_or_that_others_use(site: Site) -> None:
    site.machine.python("from certexec.kernel import binfmt; binfmt.mount()")
    site.setup()
    site.certexec("setup", "--remove")
    assert site.machine.run("ls", binfmt.MOUNT_POINT).stdout.split() == ["register", "status"]


def test_remove_keeps_directories_that_were_there_before(site: Site) -> None:
    os.makedirs(site.machine.path("/etc/certexec/trust.d"))
    site.setup()
    site.certexec("setup", "--remove")
    assert os.path.isdir(site.machine.path("/etc/certexec/trust.d"))


def test_remove_keeps_trusted_keys_and_says_so_unless_purged(site: Site) -> None:
    site.setup()
    store = site.machine.path("/etc/certexec/trust.d")
    for name in ("ops.pub", "ops.toml", "notes"):
        with open(f"{store}/{name}", "w"):
            pass
    told = site.certexec("setup", "--remove").stderr
    assert 'kept "/etc/certexec/trust.d"' in told
    assert sorted(os.listdir(store)) == ["notes", "ops.pub", "ops.toml"]
    site.setup()
    done = site.certexec("setup", "--remove", "--purge", "--yes")
    assert done.returncode == 0, done.stderr
    assert os.listdir(store) == ["notes"]


def test_what_remove_kept_can_be_purged_later(site: Site) -> None:
    site.setup()
    with open(site.machine.path("/etc/certexec/trust.d/ops.pub"), "w"):
        pass
    site.certexec("setup", "--remove")
    done = site.certexec("setup", "--remove", "--purge", "--yes")
    assert (done.returncode, "ops.pub" in done.stderr) == (0, True), done.stderr
    assert not os.path.exists(site.machine.path("/etc/certexec"))


def test_remove_works_while_a_certificate_runs(site: Site) -> None:
    site.setup()
    server = site.serve("--hold")
    assert server.stdout is not None
    server.stdout.readline()
    told = site.certexec("setup", "--remove").stderr
    assert "what was removed is still used by 1 running process" in told
    server.kill()
    server.communicate()
    assert not os.path.exists(site.machine.path(LIBEXEC))


def test_in_a_user_namespace_set_up_uses_its_own_binfmt_misc(site: Site) -> None:
    inner = type(site)(identity=False)
    try:
        assert "mounted binfmt_misc" in inner.setup()
        assert inner.certexec("binfmt", "status").returncode == 0
        assert site.certexec("binfmt", "status").returncode == 1
    finally:
        inner.close()


def test_the_later_directory_decides_what_the_boot_entry_is(tmp_path: object) -> None:
    layout = Layout("/l", "/c", (f"{tmp_path}/lib", f"{tmp_path}/etc"))
    for name in ("lib", "etc"):
        os.mkdir(f"{tmp_path}/{name}")
    assert handler.boot_entry(layout) == ""
    with open(f"{tmp_path}/lib/certexec.conf", "w") as file:
        file.write(handler.entry_text(layout))
    assert handler.boot_entry(layout) == f"{tmp_path}/lib/certexec.conf"
    with open(f"{tmp_path}/etc/certexec.conf", "w") as file:
        file.write("# nothing\n")
    assert handler.boot_entry(layout) == ""
    report = deploy.Report()
    handler.remove_boot_entry(layout, report)
    assert os.listdir(f"{tmp_path}/lib") == []
    assert os.listdir(f"{tmp_path}/etc") == ["certexec.conf"]
