"""One version: named after its content, copied exactly, and checked against its manifest."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from certexec.errors import RunError
from certexec.run import child, interpreter, version_tree
from certexec.run.interpreter import Interpreter
from tests.execution.world import load_hook
from tests.isolation import PROJECT, skip_or_fail
from tests.package import make_package

PYTHON = Interpreter("/usr/bin/python3", (3, 11), "cpython-311")


@pytest.fixture
def package() -> Iterator[str]:
    if os.geteuid() != 0:
        skip_or_fail("needs root")
    parent = tempfile.mkdtemp(prefix="certexec-test-", dir="/run")
    os.chmod(parent, 0o755)
    try:
        yield make_package(parent)
    finally:
        shutil.rmtree(parent)


def stage(package: str) -> str:
    where = f"{os.path.dirname(package)}/version"
    chosen = interpreter.choose(child.ordinary_uid())
    version_tree.stage(version_tree.collect(package), chosen, where, "/final")
    return where


def test_a_version_holds_what_a_run_needs_and_is_whole(package: str) -> None:
    where = stage(package)
    assert version_tree.damage(where) == ""
    names = set(os.listdir(where))
    assert names == {"launch", "python", "serve.py", "lib", "MANIFEST"}
    assert {"certexec", "cryptography"} <= set(os.listdir(f"{where}/lib"))
    assert version_tree.self_test(where, child.ordinary_uid()) == ""


def test_compiled_modules_name_the_place_where_they_will_stand(package: str) -> None:
    where = stage(package)
    cache = f"{where}/lib/certexec/__pycache__"
    name = next(name for name in os.listdir(cache) if name.startswith("errors."))
    with open(f"{cache}/{name}", "rb") as file:
        data = file.read()
    assert b"/final/lib/certexec/errors.py" in data
    assert where.encode() not in data
    assert data[4:8] == b"\x01\x00\x00\x00"  # hash-based, not checked (PEP 552)


def stage_real_server(package: str) -> str:
    shutil.copy(f"{PROJECT}/certexec/run/serve.py", f"{package}/run/serve.py")
    return stage(package)


def imported(where: str) -> list[str]:
    """Return the modules of a version that its server imports one by one."""
    command = [f"{where}/python", "-I", "-S", "-X", "importtime", f"{where}/serve.py"]
    command.append(version_tree.SELF_TEST)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    return [name for name in names if name.startswith(("certexec", "cryptography"))]


def test_a_server_starts_from_its_bundles_and_without_them_from_the_modules(package: str) -> None:
    where = stage_real_server(package)
    # two shared libraries, of which the first is looked for in vain
    assert imported(where) == ["certexec.kernel._doors", "cryptography.hazmat.bindings._rust"]
    os.unlink(f"{where}/bundle/supervise")
    found = imported(where)
    assert "certexec.run.supervisor" in found and "certexec.run.server" not in found
    os.unlink(f"{where}/bundle/start")
    assert "certexec.run.server" in imported(where)


def test_compiled_doors_are_a_part_of_the_version_like_any_other(package: str) -> None:
    plain = version_tree.identify(version_tree.collect(package), PYTHON)
    uid = child.ordinary_uid()
    where = stage_real_server(package)
    assert not version_tree.has_doors(where, uid)
    version_tree.remove_tree(where)
    hook = load_hook()
    hook.compile_doors(Path(package).parent / hook.DOORS_WHEEL_PATH)
    assert version_tree.identify(version_tree.collect(package), PYTHON) != plain
    where = stage_real_server(package)
    doors = f"{where}/lib/{hook.DOORS_WHEEL_PATH}"
    assert version_tree.has_doors(where, uid) and version_tree.damage(where) == ""
    with open(doors, "ab") as file:
        file.write(b"\0")
    assert hook.DOORS_WHEEL_PATH in version_tree.damage(where)
    os.truncate(doors, 100)
    assert not version_tree.has_doors(where, uid)
    assert version_tree.self_test(where, uid) == ""  # Python alone does it


def test_a_bundle_of_another_interpreter_is_left_alone(package: str) -> None:
    where = stage_real_server(package)
    for part in ("start", "supervise"):
        with open(f"{where}/bundle/{part}", "r+b") as file:
            file.write(b"\0\0")
    assert {"certexec.run.server", "certexec.run.supervisor"} <= set(imported(where))


def test_a_bundle_that_is_not_what_was_written_is_damage(package: str) -> None:
    where = stage_real_server(package)
    with open(f"{where}/bundle/start", "ab") as file:
        file.write(b"\0")
    assert "bundle/start" in version_tree.damage(where)


def test_a_file_that_changes_while_it_is_copied_is_noticed(package: str) -> None:
    items = version_tree.collect(package)
    with open(f"{package}/errors.py", "a") as file:
        file.write("# changed\n")
    with pytest.raises(RunError) as caught:
        version_tree.stage(items, PYTHON, f"{os.path.dirname(package)}/version", "/final")
    assert "changed while it was copied" in caught.value.message


def test_the_name_depends_on_every_file_and_on_the_interpreter(package: str) -> None:
    items = version_tree.collect(package)
    name = version_tree.identify(items, PYTHON)
    assert len(name) == 16
    assert version_tree.identify(list(reversed(items)), PYTHON) == name
    assert version_tree.identify(items[1:], PYTHON) != name
    other = Interpreter("/usr/bin/python3", (3, 12), "cpython-312")
    assert version_tree.identify(items, other) != name
    with open(f"{package}/errors.py", "a") as file:
        file.write("# changed\n")
    assert version_tree.identify(version_tree.collect(package), PYTHON) != name


@pytest.mark.parametrize("name", ["launch", "lib/certexec/errors.py", "lib/certexec/kernel"])
def test_another_owner_or_mode_is_damage(package: str, name: str) -> None:
    where = stage(package)
    os.chown(f"{where}/{name}", 0, 12345)
    assert name in version_tree.damage(where)
    os.chown(f"{where}/{name}", 0, 0)
    assert version_tree.damage(where) == ""
    os.chmod(f"{where}/{name}", 0o4755)
    assert name in version_tree.damage(where)


def test_a_link_that_leads_elsewhere_is_damage(package: str) -> None:
    where = stage(package)
    os.unlink(f"{where}/python")
    os.symlink("/tmp/python", f"{where}/python")
    assert "python" in version_tree.damage(where)


def test_a_version_without_a_manifest_or_of_another_format_is_damaged(package: str) -> None:
    where = stage(package)
    with open(f"{where}/MANIFEST", "w") as file:
        file.write("certexec version 2\n")
    assert "another format" in version_tree.damage(where)
    os.unlink(f"{where}/MANIFEST")
    assert "cannot be read" in version_tree.damage(where)


def test_two_names_are_swapped_in_one_step(tmp_path: object) -> None:
    for name in ("a", "b"):
        os.mkdir(f"{tmp_path}/{name}")
        os.mkdir(f"{tmp_path}/{name}/was-{name}")
    version_tree.exchange(f"{tmp_path}/a", f"{tmp_path}/b")
    assert os.listdir(f"{tmp_path}/a") == ["was-b"]
    version_tree.remove_tree(f"{tmp_path}/a")
    assert os.listdir(f"{tmp_path}") == ["b"]


def test_removing_a_tree_does_not_follow_links(tmp_path: object) -> None:
    os.makedirs(f"{tmp_path}/tree/below")
    os.mkdir(f"{tmp_path}/precious")
    os.mkdir(f"{tmp_path}/precious/file")
    os.symlink(f"{tmp_path}/precious", f"{tmp_path}/tree/below/link")
    version_tree.remove_tree(f"{tmp_path}/tree")
    assert os.listdir(f"{tmp_path}/precious") == ["file"]
