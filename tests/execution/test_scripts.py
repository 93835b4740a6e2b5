"""Scripts: run from a sealed copy by the interpreter that was signed with them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from certexec.certificate.identity import Identity
from certexec.certificate.verify import read_unverified
from tests.execution.world import ALICE, REFUSED, SUPERVISED, World, policy, reason, refused

SH = os.path.realpath("/bin/sh")
SCRIPT = """#!/bin/sh -e
echo "$0" "$#" "$@"
echo $(id -u)
exit 5
"""


def script(world: World, name: str, text: str = SCRIPT, *, supervised: bool = False) -> str:
    """Write and sign a script; returns its certificate."""
    path = world.write(name, text, 0o755)
    rules = SUPERVISED if supervised else ()
    return world.sign(f"{name}.cert", path, text=policy(path, *rules))


@pytest.mark.parametrize("supervised", [False, True])
def test_a_script_runs_from_its_sealed_copy(world: World, supervised: bool) -> None:
    certificate = script(world, "script.sh", supervised=supervised)
    done = world.run(certificate, "one", "two words")
    assert done.returncode == 5
    assert done.stdout == f"/dev/fd/3 2 one two words\n{ALICE}\n"
    assert done.stderr == ""


def test_what_it_runs_from_can_be_read_and_not_changed(world: World) -> None:
    text = '#!/bin/sh\nread first < "$0"; echo "$first"\n'
    text += '(echo evil >> "$0") 2>/dev/null || echo sealed\n'
    done = world.run(script(world, "sealed.sh", text))
    assert (done.returncode, done.stdout) == (0, "#!/bin/sh\nsealed\n")


def test_a_python_script_finds_its_arguments_and_no_name(world: World) -> None:
    interpreter = os.path.realpath(shutil.which("python3", path="/usr/bin") or "")
    text = f"#!{interpreter} -I\nimport sys\nprint(sys.argv, __file__)\n"
    done = world.run(script(world, "python-script", text), "x")
    assert (done.returncode, done.stdout) == (0, "['/dev/fd/3', 'x'] /dev/fd/3\n")


def test_a_changed_script_is_refused(world: World) -> None:
    certificate = script(world, "changed.sh")
    with open(world.path("changed.sh"), "a") as file:
        file.write("echo more\n")
    refused(world.run(certificate), "binary-mismatch")
    world.write("changed.sh", SCRIPT.replace("exit 5", "exit 6"), 0o755)
    refused(world.run(certificate), "binary-mismatch")
    world.write("changed.sh", SCRIPT, 0o755)
    assert world.run(certificate).returncode == 5


@pytest.fixture
def own_interpreter(world: World) -> str:
    """A copy of the shell that tests may spoil."""
    return world.copy(SH, "own-sh")


def test_a_changed_interpreter_is_refused(world: World, own_interpreter: str) -> None:
    certificate = script(world, "own.sh", f"#!{own_interpreter}\necho ran\n")
    assert world.run(certificate).stdout == "ran\n"
    with open(own_interpreter, "ab") as file:
        file.write(b"!")
    refused(world.run(certificate), "file-mismatch")
    os.rename(world.copy("/usr/bin/cat", "other"), own_interpreter)
    refused(world.run(certificate), "file-mismatch")
    os.unlink(own_interpreter)
    done = world.run(certificate)
    assert (reason(done), done.returncode, done.stdout) == ("file-mismatch", REFUSED, "")
    os.symlink(SH, own_interpreter)
    refused(world.run(certificate), "file-mismatch")


def test_another_interpreter_than_the_signed_one_never_runs(
    world: World, own_interpreter: str
) -> None:
    """The script names one, the certificate another: the kernel follows the script, and at the
    exec stop the process is killed before its first instruction."""
    source = script(world, "swapped.sh", f"#!{own_interpreter}\necho ran\n")
    files = read_unverified(Path(source).read_bytes()).files
    files[0].path = SH
    certificate = world.forge("swapped.cert", world.path("swapped.sh"), files=files)
    done = world.run(certificate)
    assert (reason(done), done.stdout) == ("binary-mismatch", "")
    assert done.returncode in (REFUSED, -9)


def test_a_script_whose_certificate_names_no_interpreter_is_refused(world: World) -> None:
    script(world, "bare.sh")
    refused(world.run(world.forge("bare.cert", world.path("bare.sh"), files=[])), "binary-mismatch")


def test_an_interpreter_for_what_is_no_script_is_refused(world: World) -> None:
    files = read_unverified(Path(script(world, "some.sh")).read_bytes()).files
    refused(world.run(world.forge("no-script.cert", "/usr/bin/id", files=files)), "binary-mismatch")


def test_a_script_never_gets_an_identity(world: World) -> None:
    path = world.write("root.sh", SCRIPT, 0o755)
    done = world.attempt(
        "sign", "-k", world.path("ops.key"), "-p", world.write("root.policy", policy(path)),
        "--setuid", "root", "--allow-everyone", "-o", world.path("root.cert"), path,
    )  # fmt: skip
    assert done.returncode == 1
    assert not os.path.exists(world.path("root.cert"))
    identity = Identity(("root", 0), None, None, None)
    forged = world.forge("root.sh.cert", path, identity=identity)
    os.chmod(forged, 0o4755)
    refused(world.run(forged), "unsupported")


def test_a_script_in_an_unreadable_place_is_refused(world: World) -> None:
    certificate = script(world, "hidden.sh")
    os.chmod(world.path("hidden.sh"), 0o711)
    refused(world.run(certificate), "binary-unusable")


def test_a_script_runs_under_its_own_template(world: World) -> None:
    """Its sealed copy has no name; policies see it by the path that was signed."""
    path = world.write("hello.sh", "#!/bin/sh\necho hello $1\n", 0o755)
    certificate = world.sign("hello.cert", path, text=world.verb("policy", "template", path))
    done = world.run(certificate, "world")
    assert (done.returncode, done.stdout) == (0, "hello world\n"), done.stderr
