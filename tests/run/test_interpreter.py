"""Which Python may judge: one that nobody but root can have changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from certexec.errors import CertexecError, RunError, TrustError
from certexec.run import child, interpreter
from tests.isolation import skip_or_fail

ROOT = frozenset({0})


@pytest.fixture
def tree() -> Iterator[str]:
    if os.geteuid() != 0:
        skip_or_fail("needs root")
    path = tempfile.mkdtemp(prefix="certexec-test-", dir="/run")
    os.chmod(path, 0o755)
    os.makedirs(f"{path}/lib/package")
    for name in ("lib/module.py", "lib/package/other.py"):
        with open(f"{path}/{name}", "w"):
            pass
        os.chmod(f"{path}/{name}", 0o644)
    yield path
    shutil.rmtree(path)


def unsafe(path: str) -> str:
    with pytest.raises(TrustError) as caught:
        interpreter.check_tree(path, ROOT)
    assert caught.value.reason == "trust-unsafe"
    return caught.value.message


def test_the_interpreter_of_the_distribution_passes() -> None:
    if os.geteuid() != 0:
        skip_or_fail("needs root")
    chosen = interpreter.choose(child.ordinary_uid())
    assert chosen.version == sys.version_info[:2]
    assert chosen.path == os.path.realpath(chosen.path)
    assert chosen.tag == sys.implementation.cache_tag


def test_a_tree_of_root_passes(tree: str) -> None:
    interpreter.check_tree(f"{tree}/lib", ROOT)


@pytest.mark.parametrize("name", ["", "/module.py", "/package", "/package/other.py"])
def test_one_thing_in_the_tree_that_others_can_write_refuses_all(tree: str, name: str) -> None:
    os.chmod(f"{tree}/lib{name}", 0o777)
    assert f'"{tree}/lib{name}"' in unsafe(f"{tree}/lib")


def test_one_thing_in_the_tree_that_belongs_to_somebody_else_refuses_all(tree: str) -> None:
    os.chown(f"{tree}/lib/package/other.py", 12345, 0)
    assert "12345" in unsafe(f"{tree}/lib")


def test_what_is_not_on_the_path_does_not_count(tree: str) -> None:
    for name in interpreter.NOT_ON_THE_PATH:
        os.mkdir(f"{tree}/lib/{name}")
        os.chmod(f"{tree}/lib/{name}", 0o777)
    interpreter.check_tree(f"{tree}/lib", ROOT)
    os.makedirs(f"{tree}/lib/package/site-packages")
    os.chmod(f"{tree}/lib/package/site-packages", 0o777)
    unsafe(f"{tree}/lib")


def test_a_link_counts_as_what_it_leads_to(tree: str) -> None:
    os.symlink("/etc/passwd", f"{tree}/lib/link.py")
    interpreter.check_tree(f"{tree}/lib", ROOT)
    os.mkdir(f"{tree}/others")
    os.chmod(f"{tree}/others", 0o777)
    os.symlink(f"{tree}/others", f"{tree}/lib/directory")
    unsafe(f"{tree}/lib")


def test_a_dangling_link_counts_as_who_could_make_its_target(tree: str) -> None:
    os.symlink(f"{tree}/missing/module.py", f"{tree}/lib/link.py")
    interpreter.check_tree(f"{tree}/lib", ROOT)
    os.unlink(f"{tree}/lib/link.py")
    os.symlink("/tmp/certexec-nobody-made-this.py", f"{tree}/lib/link.py")
    unsafe(f"{tree}/lib")


def test_an_interpreter_that_others_can_write_is_not_even_run(tree: str) -> None:
    path = f"{tree}/python3"
    with open(path, "w") as file:
        file.write(f"#!/bin/sh\ntouch {tree}/was-run\n")
    os.chmod(path, 0o777)
    with pytest.raises(TrustError):
        interpreter.judge(path, None)
    assert not os.path.exists(f"{tree}/was-run")


def test_an_interpreter_below_a_closed_home_does_not_work_for_others(tree: str) -> None:
    os.chmod(tree, 0o700)
    shutil.copy("/bin/true", f"{tree}/python3")
    with pytest.raises(RunError) as caught:
        interpreter.judge(f"{tree}/python3", child.ordinary_uid())
    assert "ordinary user" in caught.value.message


def test_a_library_that_others_can_write_refuses_the_interpreter(tree: str) -> None:
    answer = "version 3 11 cpython-311\n" + f"map {tree}/lib/module.py\n"
    interpreter._check_loaded(answer, ROOT)
    os.chmod(f"{tree}/lib/module.py", 0o666)
    with pytest.raises(TrustError):
        interpreter._check_loaded(answer, ROOT)


@pytest.mark.parametrize("kind", ["directory", "zip", "missing"])
def test_every_entry_of_the_search_path_is_judged(tree: str, kind: str) -> None:
    path = {"directory": "lib", "zip": "lib/module.py", "missing": "lib/gone/python.zip"}[kind]
    answer = f"path {tree}/{path}\n"
    interpreter._check_loaded(answer, ROOT)
    os.chmod(f"{tree}/lib", 0o1777)
    with pytest.raises(TrustError):
        interpreter._check_loaded(answer, ROOT)


def test_another_version_of_python_does_not_do(
    tree: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter.sys, "version_info", (3, 99, 0))
    with pytest.raises(RunError) as caught:
        interpreter.judge(os.path.realpath("/usr/bin/python3"), None)
    assert "not this one" in caught.value.message


def test_the_refusal_names_the_first_reason_and_what_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: str, uid: int | None) -> None:
        raise TrustError("trust-unsafe", f'"{path}" can be written by everybody')

    monkeypatch.setattr(interpreter, "candidates", lambda: ["/a", "/b"])
    monkeypatch.setattr(interpreter, "judge", refuse)
    with pytest.raises(CertexecError) as caught:
        interpreter.choose(None)
    assert '"/a" can be written by everybody' in caught.value.message
    assert "python3" in caught.value.hint


def test_nothing_of_the_interpreters_surroundings_reaches_it(tree: str) -> None:
    """-I and -S: no environment, no user directory, no .pth file, no current directory."""
    path = os.path.realpath("/usr/bin/python3")
    shown = subprocess.run(
        [path, *interpreter.ISOLATED, "-c", "import sys; print(sys.path, sys.flags.no_site)"],
        env={"PYTHONPATH": tree, "PYTHONHOME": tree}, cwd=tree, capture_output=True, text=True,
    ).stdout
    assert tree not in shown
    assert shown.endswith(" 1\n")
