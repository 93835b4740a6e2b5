"""certexec sign --spec, as typed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from certexec.certificate.model import Certificate
from certexec.certificate.verify import read_unverified
from certexec.cli import spec
from certexec.cli.sign import command
from tests.cli.conftest import Script

ROOT = Path(__file__).resolve().parents[2]
CERTS = ROOT / "certs"

EVERYTHING = """\
binary = "hello"
key = ["ops.key"]
policy = "hello.policy"
out = "out.cert"
name = "greeting"
note = "for the night shift"
setuid = "root"
setgid = "daemon"
add-group = ["adm", "#1234"]
cap = "net_raw"
invocation = ["deny-group  daemon", "allow-user #7", "allow-everyone"]
require-tty = true
args = ["-c", "[0-9]*"]
no-args = false
time-window = ["mon-fri 08:00-18:00", "sat 10:00-12:00"]
rlimit = { nofile = 256, as = "512M:1G" }
set-env.A = "b=c"
set-env.PATH = "/usr/bin"
env = ["TERM"]
nice = -5
oom = 100
umask = "027"
not-before = 2027-02-01
not-after = 2027-03-01T12:00:00Z
serial = 17
integrity = "sealed"
log = "full"
log-all = true
unmatched = "ask"
inherit = false
"""


def made(script: Script, name: str = "out.cert") -> Certificate:
    return read_unverified(script.path(name).read_bytes())


def sign(script: Script, text: str, *typed: str, name: str = "s.toml") -> Certificate:
    """Sign with a spec of this text; returns out.cert."""
    script.write(name, text)
    code = script.certexec("sign", "--force", "--spec", name, *typed)
    assert code == 0, script.stderr
    return made(script)


def refuse(script: Script, text: str, *typed: str) -> str:
    """Sign with a spec that must be refused as wrong usage; nothing may be left behind."""
    script.path("s.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    before = sorted(script.directory.iterdir())
    code = script.certexec("sign", "-k", "ops.key", "-o", "out.cert", "--spec", "s.toml", *typed)
    assert (code, script.stdout) == (2, ""), (code, script.stderr)
    assert sorted(script.directory.iterdir()) == before
    return script.stderr


def test_a_spec_says_everything_that_the_options_say(signed: Script) -> None:
    certificate = sign(signed, EVERYTHING)
    signed(
        """
        certexec sign --force -k ops.key -p hello.policy -o typed.cert --name greeting \
          -C "for the night shift" --setuid root --setgid daemon --add-group adm \
          --add-group '#1234' --cap net_raw --deny-group daemon --allow-user '#7' \
          --allow-everyone --require-tty --args -c --args '[0-9]*' \
          --time-window 'mon-fri 08:00-18:00' --time-window 'sat 10:00-12:00' \
          --rlimit nofile=256 --rlimit as=512M:1G --set-env A=b=c --set-env PATH=/usr/bin \
          --env TERM --nice -5 --oom 100 --umask 027 --not-before 2027-02-01 \
          --not-after 2027-03-01T12:00 --serial 17 --integrity sealed --log full --log-all \
          --unmatched ask --no-inherit hello
        """.replace("\\\n", "")
    )
    typed = made(signed, "typed.cert")
    for each in (certificate, typed):
        each.claims.iat = 0
        each.claims.cti = bytes(16)
    assert certificate == typed
    assert certificate.claims.sub == "greeting"


def test_every_option_is_for_a_spec_or_for_the_command_line_only() -> None:
    options = {
        max(param.opts, key=len).removeprefix("--")
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden
    }
    keys = set(spec.KEYS) - {spec.BINARY, spec.INVOCATION}
    assert options == keys | set(spec.TYPED_ONLY)
    assert not keys & set(spec.TYPED_ONLY)


def test_the_list_of_invokers_keeps_its_order_and_the_typed_ones_come_last(
    signed: Script,
) -> None:
    certificate = sign(
        signed,
        'binary = "hello"\npolicy = "hello.policy"\nkey = "ops.key"\nout = "out.cert"\n'
        'deny-user = ["#1", "#2"]\ninvocation = ["allow-group #3"]\nallow-user = "#4"\n',
        "--deny-group", "#5",
    )  # fmt: skip
    assert [(entry[0], entry[1], entry[3]) for entry in certificate.invocation.entries] == [
        (False, "user", 1), (False, "user", 2), (True, "group", 3), (True, "user", 4),
        (False, "group", 5),
    ]  # fmt: skip


def test_what_is_typed_wins_over_single_values_and_adds_to_lists(signed: Script) -> None:
    shutil.copy2(signed.path("hello"), signed.path("other"))
    signed.write(
        "other.policy",
        signed.path("hello.policy").read_text().replace("/hello,", "/other,"),
    )
    certificate = sign(
        signed, EVERYTHING.replace("not-after", "#"), "--name", "x", "--nice", "3", "--inherit",
        "--valid-for", "1d", "--policy-path", "other.policy", "--rlimit", "nofile=10", "--rlimit",
        "core=0", "--env", "LANG", "--set-env", "A=z", "other",
    )  # fmt: skip
    assert certificate.program.path == str(signed.path("other").resolve())
    assert certificate.policy.path == str(signed.path("other.policy").resolve())
    assert (certificate.claims.sub, certificate.limits.nice) == ("x", 3)
    assert certificate.claims.exp - certificate.claims.nbf == 86400
    assert certificate.policy.inherit
    assert certificate.limits.rlimits == {7: (10, 10), 9: (512 << 20, 1 << 30), 4: (0, 0)}
    assert certificate.environment is not None
    assert certificate.environment.passed == ["TERM", "LANG"]
    assert certificate.environment.set == {"A": "z", "PATH": "/usr/bin"}


def test_a_typed_end_replaces_the_length_that_the_spec_says(signed: Script) -> None:
    text = 'binary = "hello"\npolicy = "hello.policy"\nkey = "ops.key"\nout = "out.cert"\n'
    certificate = sign(signed, text + 'valid-for = "1d"\n', "--not-after", "2099-01-01")
    assert certificate.claims.exp == 4070908800
    assert "exclude" in refuse(signed, text + 'valid-for = "1d"\nnot-after = 2099-01-01\n')


def test_relative_names_are_taken_from_the_directory_of_the_spec(signed: Script) -> None:
    signed.path("sub").mkdir()
    for name in ("ops.key", "hello.policy", "hello"):
        signed.path(name).rename(signed.path("sub") / name)
    moved = signed.path("sub/hello").resolve()
    policy = signed.path("sub/hello.policy")
    policy.write_text(policy.read_text().replace(str(signed.path("hello").resolve()), str(moved)))
    signed.write(
        "sub/s.toml",
        'binary = "hello"\npolicy = "hello.policy"\nkey = "file:ops.key"\nout = "out.cert"\n',
    )
    signed(
        """
        certexec sign --spec sub/s.toml
        stdout '^sub/out.cert: signed'
        exists sub/out.cert
        ! exists out.cert
        """
    )
    assert made(signed, "sub/out.cert").program.path == str(moved)
    absolute = f'key = "{moved.parent}/ops.key"\npolicy = "{moved.parent}/hello.policy"\n'
    assert sign(signed, absolute + 'out = "out.cert"', str(moved)).program.path == str(moved)


def test_a_policy_may_come_from_standard_input(signed: Script) -> None:
    signed.stdin = signed.path("hello.policy").read_bytes()
    text = 'binary = "hello"\npolicy = "-"\nkey = "ops.key"\nout = "out.cert"\n'
    signed.path("sub").mkdir()
    assert sign(signed, text).policy.text == signed.stdin.decode()


def test_fixed_arguments_are_a_text_or_a_list(signed: Script) -> None:
    text = 'binary = "hello"\npolicy = "hello.policy"\nkey = "ops.key"\nout = "out.cert"\n'
    wanted = ["-i", "eth 0", "it's"]
    assert sign(
        signed, text + """fixed-args = '''-i "eth 0" "it's"'''\n"""
    ).invocation.argv == wanted
    certificate = sign(signed, text + """fixed-args = ["-i", "eth 0", "it's"]\n""")
    assert certificate.invocation.argv == wanted
    assert sign(signed, text + "fixed-args = []\n").invocation.argv == []


WRONG: dict[str, tuple[str, str]] = {
    "a mistyped key": ('polcy = "x"', 'no key "polcy"\n.*hint: did you mean "policy"'),
    "a key that resembles none": ("zzz = 1", "hint: the keys are binary, invocation, policy"),
    "a key with an escape sequence": ('"\\u001b[2J" = 1', r"\\x1b\[2J"),
    "a working directory": ('cwd = "/"', "the program starts in its caller's"),
    "a table": ("[program]\npath = 1", 'no key "program"'),
    "what is only typed": ("force = true", '"force" is not for a spec\n.*"--force" on the command'),
    "a spec in a spec": ('spec = "other.toml"', "not for a spec"),
    "what is no TOML": ("policy: x", r'"s.toml" is not TOML: .*line 1, column 7\)\n.*hint: '),
    "a key twice": ("nice = 1\nnice = 2", "not TOML"),
    "what is not UTF-8": ('note = "\udcff"', "not UTF-8"),
    "a spec that is too long": ("#" * 70000, "longer than"),
    "a number as text": ("name = 5", '"name" must be a text in quotes'),
    "a text as number": ('nice = "5"', '"nice" must be a whole number'),
    "a truth as number": ("nice = true", '"nice" must be a whole number'),
    "a broken number": ("nice = 1.5", '"nice" must be a whole number'),
    "a number that is out of range": ("nice = 30", "30"),
    "a number as umask": ("umask = 27", '"umask" must be a text in quotes'),
    "a text as truth": ('require-tty = "yes"', '"require-tty" must be true or false'),
    "a number as truth": ("inherit = 0", '"inherit" must be true or false'),
    "a number in a list": ("args = [1]", '"args" must be a text in quotes'),
    "a table as list": ("env = {A = 1}", '"env" must be a text in quotes'),
    "a number as variable": ("set-env = {A = 1}", '"set-env" must be a text in quotes'),
    "a list as limit": ("rlimit = {nofile = [1, 2]}", '"rlimit" must be a whole number'),
    "an unknown limit": ("rlimit = {files = 1}", "not a resource limit"),
    "a local time": ("not-after = 08:00:00", '"not-after" must be a text'),
    "a NUL": ('note = "a\\u0000b"', "holds a NUL"),
    "a NUL in an invocation": ('invocation = ["allow-user a\\u0000"]', "holds a NUL"),
    "an odd invocation": ('invocation = ["permit bob"]', '"permit bob" is no line of the list'),
    "an invocation without a name": ('invocation = ["allow-user"]', "no line of the list"),
    "an invocation of all and one": ('invocation = ["allow-everyone bob"]', "no line of the list"),
    "an option as invocation": ('invocation = ["--force"]', "no line of the list"),
    "a user that is not there": ('invocation = ["allow-user no-such"]', "no user"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refuses(name: str, signed: Script) -> None:
    text, complaint = WRONG[name]
    stderr = refuse(signed, text, "-p", "hello.policy", "hello")
    assert re.search(complaint, stderr), stderr


def test_a_value_that_looks_like_an_option_is_a_value(signed: Script) -> None:
    text = 'binary = "hello"\npolicy = "hello.policy"\nkey = "ops.key"\nout = "out.cert"\n'
    certificate = sign(signed, text + 'args = ["--force", "--"]\nnote = "--deny-user x"\n')
    assert certificate.invocation.argv_globs == ["--force", "--"]
    assert certificate.note == "--deny-user x"
    signed("rm out.cert")
    refuse(signed, 'policy = "--help"\n', "hello")


def test_a_missing_spec_program_or_key_is_said(signed: Script) -> None:
    signed.write("s.toml", 'policy = "hello.policy"')
    signed(
        """
        ? certexec sign --spec missing.toml
        stderr '"missing.toml" does not exist'
        ? certexec sign --spec
        ? certexec sign -k ops.key --spec s.toml
        stderr 'no program is named'
        stderr 'hint: .*"binary" in a spec'
        ? certexec sign -k ops.key -p hello.policy
        stderr 'no program is named'
        ? certexec sign --spec s.toml hello
        stderr 'no key is named'
        certexec sign --spec missing.toml --help
        """
    )


def example(directory: Path, *, without: tuple[str, ...] = ()) -> None:
    """Copy the example, or the example without some of its lines."""
    shutil.copy2(CERTS / "rootid.policy", directory)
    lines = (CERTS / "rootid.toml").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(without)] if without else lines
    (directory / "rootid.toml").write_text("".join(kept))


def test_the_example_is_signed_and_grants_root_to_users(signed: Script) -> None:
    signed(
        f"""
        certexec sign --spec {CERTS}/rootid.toml -k ops.key -n -o out.cert
        stdout 'set-user-ID +root'
        ! exists out.cert {CERTS}/id.cert {CERTS}/rootid.cert
        certexec sign --spec {CERTS}/rootid.toml -k ops.key -o out.cert
        certexec verify --trust trust out.cert
        """
    )
    certificate = made(signed)
    assert certificate.is_grant()
    assert [entry[:3] for entry in certificate.invocation.entries] == [
        (False, "user", "nobody"), (True, "group", "users"), (True, "user", "root"),
    ]  # fmt: skip


def test_the_policy_of_the_example_fits_its_program(signed: Script) -> None:
    example(signed.directory, without=("setuid", "no-caps", "invocation", "args"))
    certificate = sign(signed, signed.path("rootid.toml").read_text(), "-k", "ops.key", "-o",
                       "out.cert")  # fmt: skip
    assert not certificate.is_grant()
    done = subprocess.run(
        [sys.executable, "-m", "certexec.cli.main", "run", "--trust", "trust", "--log", "log",
         "out.cert"],
        cwd=signed.directory, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"uid={os.getuid()}")
    assert signed.path("log").read_text() == ""
