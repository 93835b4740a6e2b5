"""Set-up on a machine of its own: versions side by side, switched and removed without a gap."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from certexec.errors import RunError
from certexec.run import deploy
from certexec.run.layout import Layout
from tests.isolation import need
from tests.package import LIBEXEC, Site


@pytest.fixture
def site() -> Iterator[Site]:
    need("nsenter", "setpriv", "mount")
    made = Site()
    yield made
    made.close()


@pytest.fixture
def root_site(site: Site) -> Site:
    if os.geteuid() != 0:
        pytest.skip("only one id is mapped without root")
    return site


def test_everything_that_a_run_loads_belongs_to_root_and_nobody_else_can_write_it(
    site: Site,
) -> None:
    site.setup(umask="000")
    owner = 0 if os.geteuid() == 0 else os.geteuid()
    tree = site.tree()
    assert len(tree) > 100
    for path, (uid, _, mode) in tree.items():
        assert uid == owner, path
        if not os.path.islink(path):
            assert mode & 0o7777 == (0o755 if os.path.isdir(path) or "launch" in path else 0o644)


def test_a_hostile_umask_changes_nothing(site: Site) -> None:
    site.setup(umask="077")
    assert all(mode & 0o044 for _, _, mode in site.tree().values())


def test_the_command_line_is_not_part_of_what_a_run_loads(site: Site) -> None:
    site.setup()
    names = os.listdir(site.machine.path(f"{LIBEXEC}/current/lib/certexec"))
    assert "cli" not in names
    assert "libexec" not in names
    assert {"run", "kernel", "certificate", "trust", "policy", "errors.py"} <= set(names)


def test_modules_are_compiled_and_nothing_is_written_at_run_time(root_site: Site) -> None:
    root_site.setup()
    before = root_site.tree()
    done = root_site.machine.run(
        f"{LIBEXEC}/current/python", "-I", "-S", f"{LIBEXEC}/current/serve.py", "--self-test"
    )
    assert done.returncode == 0, done.stderr
    assert root_site.tree() == before
    compiled = [path for path in before if path.endswith("/policy/__pycache__")]
    assert compiled


def test_a_second_setup_changes_nothing(site: Site) -> None:
    first = site.setup()
    assert "counts now" in first
    before = site.tree()
    second = site.setup()
    assert "nothing changed" in second
    assert site.tree() == before


def test_another_package_becomes_the_version_that_counts_and_the_old_one_goes(site: Site) -> None:
    site.setup()
    old = site.current()
    site.package(mark="second")
    told = site.setup()
    assert site.versions() == [site.current()]
    assert site.current() != old
    assert f"removed version {old}" in told
    assert "registered again" in told
    with open(site.machine.path(f"{LIBEXEC}/launch"), "rb") as launcher:
        assert launcher.read().endswith(b"second")


@pytest.mark.parametrize("flag", ["--hold", "--starting"])
def test_a_version_in_use_is_kept_and_goes_with_the_next_setup(site: Site, flag: str) -> None:
    site.setup()
    old = site.current()
    server = site.serve(flag)
    assert server.stdout is not None
    assert server.stdout.readline()
    site.package(mark="second")
    told = site.setup()
    assert site.versions() == sorted([old, site.current()])
    assert f"kept version {old}" in told
    shown = server.communicate("")[0]
    assert server.returncode == 0
    if flag == "--hold":
        assert f"/versions/{old}/lib/certexec/run/layout.py" in shown
    assert f"removed version {old}" in site.setup()
    assert site.versions() == [site.current()]


def test_a_version_that_does_not_work_never_counts(site: Site) -> None:
    site.setup()
    old = site.current()
    site.package(broken=True)
    done = site.certexec("setup")
    assert done.returncode == 2
    assert "broken on purpose" in done.stderr
    assert site.current() == old
    assert site.versions() == [old]


@pytest.mark.parametrize("what", ["changed", "missing", "added", "compiled", "mode"])
def test_a_damaged_version_is_repaired(site: Site, what: str) -> None:
    site.setup()
    root = site.machine.path(f"{LIBEXEC}/versions/{site.current()}/lib/certexec")
    if what == "changed":
        with open(f"{root}/errors.py", "a") as file:
            file.write("# more\n")
    elif what == "missing":
        os.unlink(f"{root}/errors.py")
    elif what == "added":
        with open(f"{root}/re.py", "w") as file:
            file.write("")
    elif what == "compiled":
        name = next(name for name in os.listdir(f"{root}/__pycache__") if "errors" in name)
        with open(f"{root}/__pycache__/{name}", "ab") as compiled:
            compiled.write(b"x")
    else:
        os.chmod(f"{root}/errors.py", 0o666)
    assert "repaired version" in site.setup()
    assert "nothing changed" in site.setup()


def test_what_a_crash_left_behind_goes_with_the_next_setup(site: Site) -> None:
    site.setup()
    os.mkdir(site.machine.path(f"{LIBEXEC}/versions/.new-0123456789abcdef"))
    with open(site.machine.path(f"{LIBEXEC}/launch.new"), "w"):
        pass
    site.package(mark="second")
    site.setup()
    assert site.versions() == [site.current()]
    assert "launch.new" not in os.listdir(site.machine.path(LIBEXEC))


@pytest.mark.parametrize("place", [LIBEXEC, f"{LIBEXEC}/versions", "/usr/libexec", "/etc/certexec"])
def test_a_directory_that_others_can_write_refuses_the_setup(site: Site, place: str) -> None:
    site.setup()
    os.chmod(site.machine.path(place), 0o777)
    done = site.certexec("setup")
    assert done.returncode == 1
    assert place in done.stderr
    assert "chmod go-w" in done.stderr


def test_two_setups_at_once_do_not_meet(site: Site) -> None:
    site.setup()
    code = (
        "from certexec.run import deploy; from certexec.run.layout import SYSTEM\n"
        "lock = deploy.Lock(SYSTEM); print('locked', flush=True); input()"
    )
    command = site.machine.command("env", f"PYTHONPATH={site.parent}", sys.executable, "-c", code)
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    done = site.certexec("setup")
    holder.communicate("\n")
    assert done.returncode == 2
    assert "another certexec setup" in done.stderr
    assert "nothing changed" in site.setup()


def test_a_package_that_others_can_change_is_reported_when_it_is_copied(site: Site) -> None:
    """The tests' package lies below a sticky directory."""
    assert "others could change what was copied" in site.setup()
    assert "others could change" not in site.setup()


def test_setup_needs_root_and_says_so(root_site: Site) -> None:
    done = root_site.certexec("setup", uid=12345)
    assert done.returncode == 2
    assert " setup" in done.stderr.partition("hint: ")[2]
    assert not os.path.exists(root_site.machine.path(LIBEXEC))


def test_a_package_without_a_launcher_is_refused_with_a_hint(site: Site) -> None:
    os.unlink(f"{site.parent}/certexec/libexec/launch")
    done = site.certexec("setup")
    assert done.returncode == 2
    assert "launcher" in done.stderr
    assert "hint" in done.stderr


def test_an_older_certificate_run_is_not_disturbed_by_the_exchange_of_its_launcher(
    site: Site,
) -> None:
    """The launcher is replaced by rename: writing to it would fail, and must not be tried."""
    site.setup()
    launcher = site.machine.path(f"{LIBEXEC}/launch")
    before = os.stat(launcher).st_ino
    with pytest.raises(OSError, match="Text file busy"):
        os.open(launcher, os.O_WRONLY)  # flag F pins it
    site.package(mark="second")
    site.setup()
    assert os.stat(launcher).st_ino != before


def test_an_installation_that_is_not_there_has_no_version(tmp_path: object) -> None:
    layout = Layout(f"{tmp_path}/libexec", f"{tmp_path}/etc", ())
    assert deploy.current_version(layout) == ""
    assert deploy.created(layout) == []
    assert not deploy.present(layout)


def test_a_current_link_that_leads_elsewhere_names_no_version(tmp_path: object) -> None:
    layout = Layout(str(tmp_path), f"{tmp_path}/etc", ())
    os.symlink("/tmp/evil", layout.current)
    assert deploy.current_version(layout) == ""


@pytest.mark.parametrize(("number", "word"), [(30, "read-only"), (28, "20 MB"), (13, "root")])
def test_a_foreign_error_is_translated_with_its_place_and_what_mends_it(
    number: int, word: str
) -> None:
    error = deploy.translated(OSError(number, os.strerror(number), "/usr/libexec/x"))
    assert isinstance(error, RunError)
    assert '"/usr/libexec/x"' in error.message
    assert word in error.hint
