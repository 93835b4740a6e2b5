"""certexec sign, as typed."""

import os
import re
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certexec.certificate.model import Certificate
from certexec.certificate.verify import read_unverified
from certexec.cli import sign_options
from certexec.cli.common import parse_time, printable, show_time
from certexec.errors import CliError
from tests.cli.conftest import POLICY, Script

DAY = 86400


def made(script: Script, name: str = "out.cert") -> Certificate:
    return read_unverified(script.path(name).read_bytes())


@pytest.fixture
def sign(signed: Script) -> Callable[..., Certificate]:
    """Return a function that signs "hello" with the given flags and reads what was signed."""

    def run(*flags: str) -> Certificate:
        code = signed.certexec(
            "sign", "-k", "ops.key", "-p", "hello.policy", "-o", "out.cert", "--force", *flags,
            "hello",
        )  # fmt: skip
        assert code == 0, signed.stderr
        return made(signed)

    return run


def refuse(script: Script, *flags: str, code: int = 2) -> str:
    """Sign "hello" with flags that must be refused; nothing may be left behind."""
    before = sorted(script.directory.iterdir())
    got = script.certexec(
        "sign", "-k", "ops.key", "-p", "hello.policy", "-o", "out.cert", *flags, "hello"
    )
    assert got == code, (script.stdout, script.stderr)
    assert script.stdout == ""
    assert sorted(script.directory.iterdir()) == before
    return script.stderr


def test_the_certificate_is_named_and_placed_after_the_program(signed: Script) -> None:
    signed(
        """
        mode hello.cert 0755
        rm hello.cert
        certexec sign -k ops.key -p hello.policy --valid-for 90d hello
        stdout '^hello.cert: signed \\(SHA256:.{43}, expires [0-9-]{10}\\)$'
        stderr 'everyone may run it'
        certexec verify --trust trust hello.cert
        """
    )
    certificate = made(signed, "hello.cert")
    path = signed.path("hello").resolve()
    assert certificate.claims.sub == "hello"
    assert certificate.program.path == str(path)
    assert certificate.program.size == path.stat().st_size
    assert certificate.claims.exp - certificate.claims.nbf == 90 * DAY
    assert abs(certificate.claims.iat - time.time()) < 60
    assert certificate.serial == certificate.claims.iat
    assert certificate.policy.text == POLICY.format(path=path)
    assert certificate.invocation.entries == [(True, "everyone", "", 0)]
    assert certificate.identity is None and not certificate.is_grant()


def test_the_path_that_is_signed_is_absolute_and_without_links(signed: Script) -> None:
    signed.path("sub").mkdir()
    signed.path("sub/link").symlink_to("../hello")
    signed("certexec sign -k ops.key -p hello.policy -o out.cert sub/../sub/link")
    assert made(signed).program.path == str(signed.path("hello").resolve())
    assert made(signed).claims.sub == "out"


def test_every_certificate_has_an_id_of_its_own(sign: Callable[..., Certificate]) -> None:
    assert sign().claims.cti != sign().claims.cti


# -- flags -----------------------------------------------------------------------------------------


def test_the_identity_is_signed_by_name_and_number(sign: Callable[..., Certificate]) -> None:
    identity = sign(
        "--setuid", "root", "--setgid", "daemon", "--add-group", "adm", "--add-group", "#1234",
        "--cap", "CAP_NET_RAW", "--cap", "net_admin", "--allow-everyone",
    ).identity  # fmt: skip
    assert identity is not None
    assert (identity.user, identity.group) == (("root", 0), ("daemon", 1))
    assert identity.groups is not None
    assert [number for _, number in identity.groups][1:] == [1234]
    assert identity.groups[1] == ("", 1234)
    assert identity.capabilities == [("net_raw", 13), ("net_admin", 12)]


def test_an_identity_by_number_has_no_name(sign: Callable[..., Certificate]) -> None:
    identity = sign("--setuid", "#12345", "--setgid", "#54321", "--allow-user", "#7").identity
    assert identity is not None
    assert (identity.user, identity.group) == (("", 12345), ("", 54321))


def test_no_groups_and_no_capabilities_can_be_said(sign: Callable[..., Certificate]) -> None:
    identity = sign("--no-groups", "--no-caps", "--allow-everyone").identity
    assert identity is not None
    assert (identity.groups, identity.capabilities) == ([], [])


def test_the_invocation_list_keeps_its_order(sign: Callable[..., Certificate]) -> None:
    entries = sign(
        "--deny-user", "#7", "--allow-group", "daemon", "--allow-user=#1000", "--deny-group",
        "adm", "--allow-user", "root", "--allow-everyone", "--deny-user", "#8",
    ).invocation.entries  # fmt: skip
    assert [(entry[0], entry[1], entry[2] or entry[3]) for entry in entries] == [
        (False, "user", 7), (True, "group", "daemon"), (True, "user", 1000),
        (False, "group", "adm"), (True, "user", "root"), (True, "everyone", 0), (False, "user", 8),
    ]  # fmt: skip


def test_a_list_that_only_denies_lets_everyone_else_in(sign: Callable[..., Certificate]) -> None:
    assert sign("--deny-user", "#7").invocation.entries == [
        (False, "user", "", 7), (True, "everyone", "", 0),
    ]  # fmt: skip


def test_a_grant_must_say_who_may_run_it(signed: Script) -> None:
    assert "--allow-everyone" in refuse(signed, "--setuid", "root")
    assert "--allow-user" in refuse(signed, "--cap", "net_raw", "--deny-user", "#7")


def test_limits_environment_and_arguments(sign: Callable[..., Certificate]) -> None:
    certificate = sign(
        "--rlimit", "nofile=256", "--rlimit", "RLIMIT_AS=512M:1G", "--rlimit", "core=0:infinity",
        "--nice", "5", "--umask", "027", "--oom", "-100", "--env", "TERM", "--env", "LANG",
        "--set-env", "A=b=c", "--args", "-c", "--args", "[0-9]*", "--require-tty",
        "--time-window", "mon-fri 08:00-18:30", "--integrity", "sealed", "--log", "full",
        "--log-all", "--no-inherit", "-C", "for the night shift", "--serial", "17", "--name", "x",
    )  # fmt: skip
    assert certificate.limits.rlimits == {
        7: (256, 256), 9: (512 << 20, 1 << 30), 4: (0, 2**64 - 1),
    }  # fmt: skip
    limits = certificate.limits
    assert (limits.nice, limits.umask, limits.oom) == (5, 0o27, -100)
    assert certificate.environment is not None
    assert certificate.environment.passed == ["TERM", "LANG"]
    assert certificate.environment.set == {"A": "b=c"}
    invocation = certificate.invocation
    assert (invocation.argv, invocation.argv_globs) == (None, ["-c", "[0-9]*"])
    assert invocation.tty and invocation.windows == [(31, 480, 1110)]
    assert (certificate.integrity, certificate.log, certificate.note) == (
        "sealed", "full", "for the night shift",
    )  # fmt: skip
    assert certificate.policy.log_all and not certificate.policy.inherit
    assert (certificate.serial, certificate.claims.sub) == (17, "x")


def test_fixed_arguments_are_split_as_by_a_shell(sign: Callable[..., Certificate]) -> None:
    assert sign("--fixed-args", "-i 'eth 0' -c 1").invocation.argv == ["-i", "eth 0", "-c", "1"]
    assert sign("--fixed-args", "").invocation.argv == []
    assert sign("--no-args").invocation.argv_globs == []


def test_validity(sign: Callable[..., Certificate]) -> None:
    claims = sign("--not-before", "2027-02-01", "--not-after", "2027-03-01T12:00").claims
    assert (claims.nbf, claims.exp) == (1801440000, 1803902400)
    claims = sign("--not-before", "@1801440000", "--valid-for", "2w").claims
    assert (claims.nbf, claims.exp) == (1801440000, 1801440000 + 14 * DAY)
    claims = sign().claims
    assert claims.exp - claims.nbf == 365 * DAY


def test_a_policy_can_be_referred_to(signed: Script) -> None:
    signed(
        """
        certexec sign -k ops.key --policy-path hello.policy -o out.cert hello
        certexec verify --trust trust out.cert
        append hello.policy '# changed'
        ! certexec verify --trust trust out.cert
        stdout 'FAIL \\(policy-mismatch\\)'
        ! certexec verify --trust trust --no-binary out.cert
        certexec verify --trust trust hello.cert
        """
    )
    policy = made(signed).policy
    assert (policy.text, policy.path) == (None, str(signed.path("hello.policy").resolve()))


def test_a_policy_comes_from_standard_input(signed: Script) -> None:
    signed.stdin = signed.path("hello.policy").read_bytes()
    signed("certexec sign -k ops.key -p - -o out.cert hello")
    assert made(signed).policy.text == signed.stdin.decode()


def test_several_keys_make_several_signatures(signed: Script) -> None:
    signed(
        """
        certexec keygen -f second -t p256 --no-passphrase
        certexec keygen -f third -t mldsa65 --no-passphrase
        certexec sign -k ops.key -k file:second.key -k third.key -p hello.policy -o out.cert hello
        stdout 'signed \\((SHA256:.{43}, ){3}expires'
        certexec inspect out.cert
        stdout 'Ed25519'
        stdout 'ESP256'
        stdout 'ML-DSA-65'
        certexec trust add second.pub --trust only-second
        certexec verify --trust only-second out.cert
        certexec trust add third.pub --trust only-third
        certexec verify --trust only-third out.cert
        """
    )


def test_a_dry_run_shows_everything_and_writes_nothing(signed: Script) -> None:
    signed(
        """
        certexec sign -n -k ops.key -p hello.policy --setuid root --allow-group daemon -o o hello
        stdout 'set-user-ID +root \\(0\\)'
        stdout 'may be run by +allow group daemon'
        stderr 'nothing was written'
        ! exists o
        """
    )


def test_a_grant_is_to_be_installed(signed: Script) -> None:
    signed(
        """
        certexec sign -k ops.key -p hello.policy --setuid root --allow-everyone -o out.cert hello
        stderr 'certexec install out.cert'
        mode out.cert 0755
        """
    )


# -- what is refused -------------------------------------------------------------------------------


def test_an_existing_file_is_kept(signed: Script) -> None:
    signed(
        """
        cp hello.cert before
        ! certexec sign -k ops.key -p hello.policy hello
        stderr '"hello.cert" exists'
        same hello.cert before
        certexec sign --force -k ops.key -p hello.policy hello
        ! same hello.cert before
        """
    )


def test_what_is_no_file_is_never_replaced(signed: Script) -> None:
    os.mkfifo(signed.path("fifo"))
    signed.path("to-fifo").symlink_to("fifo")
    signed(
        """
        mkdir there
        ! certexec sign --force -k ops.key -p hello.policy -o there hello
        stderr '"there" is a directory'
        ! certexec sign --force -k ops.key -p hello.policy -o fifo hello
        stderr '"fifo" is not a regular file'
        ! certexec sign --force -k ops.key -p hello.policy -o to-fifo hello
        ! certexec key public -k ops.key -f -o fifo
        """
    )
    assert stat.S_ISFIFO(signed.path("fifo").stat().st_mode)
    assert signed.path("to-fifo").is_symlink()


FLAGS: dict[str, tuple[list[str], str]] = {
    "an end and a length": (["--valid-for", "1d", "--not-after", "2030-01-01"], "exclude"),
    "an end before the beginning": (["--not-before", "2030-01-02", "--not-after", "2030-01-01"],
                                    "before it begins"),
    "a length without a unit": (["--valid-for", "90"], "90d"),
    "a time that is none": (["--not-after", "tomorrow"], "not a time"),
    "a policy twice": (["--policy-path", "hello.policy"], "exclude"),
    "fixed and constrained arguments": (["--fixed-args", "x", "--args", "y"], "fixed-args"),
    "constrained and no arguments": (["--args", "x", "--no-args"], "exclude"),
    "groups and no groups": (["--add-group", "adm", "--no-groups"], "exclude"),
    "capabilities and no capabilities": (["--cap", "bpf", "--no-caps"], "exclude"),
    "an unknown user": (["--setuid", "no-such-user"], "there is no user"),
    "a user by a bare number": (["--setuid", "12345"], "'#12345'"),
    "a user by a number that is too large": (["--setuid", "#4294967295"], "there is no user"),
    "an unknown group": (["--setgid", "no-such-group"], "there is no group"),
    "an unknown user on the list": (["--allow-user", "no-such-user"], "there is no user"),
    "an unknown capability": (["--cap", "fly"], "there is no capability"),
    "an unknown limit": (["--rlimit", "files=1"], "nofile"),
    "a limit without a value": (["--rlimit", "nofile"], "not a resource limit"),
    "a limit that is no number": (["--rlimit", "nofile=many"], "not a value"),
    "a limit softer than hard": (["--rlimit", "nofile=2:1"], "above the hard"),
    "a umask in decimal": (["--umask", "99"], "octal"),
    "a nice value of 20": (["--nice", "20"], "20"),
    "an unknown integrity": (["--integrity", "hope"], "hope"),
    "a negative serial": (["--serial", "-1"], "-1"),
    "a variable without a value": (["--set-env", "A"], "NAME=VALUE"),
    "a loader's variable with a grant": (["--env", "LD_PRELOAD", "--setuid", "root",
                                          "--allow-everyone"], "LD_PRELOAD"),
    "Python's variable with a grant": (["--set-env", "PYTHONPATH=/x", "--setuid", "root",
                                        "--allow-everyone"], "PYTHONPATH"),
    "a window that is none": (["--time-window", "always"], "mon-fri"),
    "a window on no day": (["--time-window", "xyz 08:00-09:00"], "time window"),
    "a window at no time": (["--time-window", "daily 08:61-09:00"], "clock"),
    "an empty window": (["--time-window", "daily 08:00-08:00"], "empty"),
    "arguments with an open quote": (["--fixed-args", "'x"], "split"),
    "a missing key": (["-k", "missing.key"], "no key"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAGS)
def test_refuses(name: str, signed: Script) -> None:
    flags, text = FLAGS[name]
    assert text in refuse(signed, *flags)


REFUSED_AS_NO: dict[str, tuple[list[str], str]] = {
    "a public key": (["-k", "ops.pub"], "not a private key"),
    "a name with a slash": (["--name", "a/b"], "certificate name"),
    "an empty name of a variable": (["--env", ""], "variable"),
    "a note with an escape sequence": (["-C", "\x1b[2J"], "control character"),
}


@pytest.mark.parametrize("name", REFUSED_AS_NO)
def test_says_no_to(name: str, signed: Script) -> None:
    flags, text = REFUSED_AS_NO[name]
    assert text in refuse(signed, *flags, code=1)


def test_a_value_that_no_certificate_can_hold_is_not_a_damaged_certificate(
    signed: Script,
) -> None:
    stderr = refuse(signed, "--name", "a/b", code=1)
    assert "hint: no certificate can hold that" in stderr and "damaged" not in stderr


def test_a_certificate_that_would_be_too_long_keeps_its_own_hint(signed: Script) -> None:
    policy = signed.path("hello.policy")
    policy.write_text(policy.read_text() + "# a long comment\n" * 5000)
    assert "--policy-path" in refuse(signed, code=1)


def test_a_working_directory_is_refused_with_the_reason(signed: Script) -> None:
    for flags in (["--cwd", "/tmp"], ["--cwd=/tmp"], ["--cwd", ""]):
        assert refuse(signed, *flags) == (
            "certexec: error: a certificate cannot name a working directory: "
            "the program starts in its caller's\n"
        )


def test_the_same_key_twice_is_refused(signed: Script) -> None:
    assert "twice" in refuse(signed, "-k", "ops.key")


def test_a_certificate_needs_a_policy(signed: Script) -> None:
    signed(
        """
        ? certexec sign -k ops.key -o out.cert hello
        stderr 'hint: .*"certexec policy template ./hello > FILE"'
        ? certexec sign -k ops.key -o out.cert '/usr/bin/my prog'
        stderr "certexec policy template '/usr/bin/my prog' >"
        ? certexec sign -k ops.key -p missing.policy -o out.cert hello
        stderr '"missing.policy" does not exist'
        stderr 'hint: "certexec policy template ./hello > missing.policy" writes a first one'
        ! exists out.cert
        """
    )


POLICIES: dict[str, tuple[str, str]] = {
    "not a policy": ("hello\n", r"p\(1:1\): "),
    "a syntax error, with a caret": (
        "Policy: {path}, Emulation: native\n\tnative-open: filename match then permit\n",
        r"p\(2:30\): .*\n\tnative-open.*\n\t *\^",
    ),
    "another program's policy": (
        "Policy: /usr/bin/other, Emulation: native\n\tnative-exit: permit\n", "not for",
    ),
    "another system's policy": (
        "Policy: {path}, Emulation: netbsd\n\tnetbsd-exit: permit\n", "emulation",
    ),
    "a rule that asks about what passes unseen": (
        "Policy: {path}, Emulation: native\n\tnative-io_uring_setup: true then ask\n",
        r"p\(2\): .*ask",
    ),
    "a rule that becomes root": (
        "Policy: {path}, Emulation: native\n\tnative-open: true then permit as root\n",
        r"p\(2\): .*as",
    ),
    "a detached policy": ("Policy: {path}, Emulation: native\ndetached\n", "confines nothing"),
    "no policy at all": ("# nothing\n", "not for"),
}  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
def test_refuses_to_sign(name: str, signed: Script) -> None:
    text, complaint = POLICIES[name]
    signed.write("p", text.format(path=signed.path("hello").resolve()))
    signed("! certexec sign -k ops.key -p p -o out.cert hello\n! exists out.cert")
    assert re.search(complaint, signed.stderr), signed.stderr


SEVERAL = """\
Policy: {path}, Emulation: native
	native-execve: permit
Policy: /bin/fine, Emulation: native
	native-read: permit
Policy: /bin/free, Emulation: native
detached
Policy: /bin/asks, Emulation: native
	native-io_uring_setup: true then ask
"""


def test_policies_that_are_left_out_are_named(signed: Script) -> None:
    signed.write("p", SEVERAL.format(path=signed.path("hello").resolve()))
    sign = ("sign", "-k", "ops.key", "-p", "p", "-o", "out.cert", "-f")
    assert signed.certexec(*sign, "--no-inherit", "hello") == 0
    warnings = [line for line in signed.stderr.splitlines() if "warning" in line]
    assert warnings == [
        'certexec: warning: p:5: the policy of "/bin/free" is left out: '
        "a detached policy confines nothing",
        'certexec: warning: p:8: the policy of "/bin/asks" is left out: '
        '"ask" about io_uring_setup says nothing of what it then does',
    ]
    assert signed.certexec(*sign, "hello") == 0
    assert "warning" not in signed.stderr


def test_policies_that_nothing_comes_under_are_not_named(signed: Script) -> None:
    only = 'native-execve: filename eq "/bin/fine" then permit'
    text = SEVERAL.replace("native-execve: permit", only)
    signed.write("p", text.format(path=signed.path("hello").resolve()))
    assert signed.certexec(
        "sign", "-k", "ops.key", "-p", "p", "-o", "out.cert", "--no-inherit", "hello"
    ) == 0  # fmt: skip
    assert "warning" not in signed.stderr


def test_a_grant_that_a_rule_lets_go_is_told(signed: Script) -> None:
    text = POLICY.format(path=signed.path("hello").resolve())
    rule = '\tnative-execve: filename eq "/bin/a" then permit[detach]\n'
    other = "Policy: /bin/other, Emulation: native\n\tnative-execve: true then permit[detach]\n"
    signed.write("p", text + rule + other)
    sign = ("sign", "-k", "ops.key", "-p", "p", "-o", "out.cert", "-f", "--allow-everyone")
    assert signed.certexec(*sign, "--setuid", "root", "hello") == 0
    line = text.count("\n") + 1
    warnings = [one for one in signed.stderr.splitlines() if "warning" in one]
    assert warnings == [
        f"certexec: warning: p:{line}: the program that this rule lets go keeps the identity "
        "(detach)"
    ]
    assert signed.certexec(*sign, "hello") == 0
    assert "warning" not in signed.stderr


def test_a_policy_that_is_not_utf_8_is_refused(signed: Script) -> None:
    signed.path("p").write_bytes(b"Policy: \xff, Emulation: native\n")
    signed("! certexec sign -k ops.key -p p -o out.cert hello")


def test_a_certificate_that_does_not_verify_is_not_written(
    signed: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    import certexec.cli.sign as module

    make = module.sign_certificate

    def botched(certificate: Certificate, keys: Any) -> bytes:
        data = make(certificate, keys)
        return data[:-1] + bytes([data[-1] ^ 1])

    monkeypatch.setattr(module, "sign_certificate", botched)
    signed(
        """
        ! certexec sign -k ops.key -p hello.policy -o out.cert hello
        stderr 'does not fit the content'
        ! exists out.cert
        """
    )


# -- programs and scripts --------------------------------------------------------------------------


def test_what_cannot_be_executed_is_not_signed(signed: Script) -> None:
    signed.write("text", "hello")
    signed.write("plain", "hello")
    signed.path("plain").chmod(0o755)
    signed.path("folder").mkdir()
    signed.path("pipe").touch()
    signed(
        """
        ! certexec sign -k ops.key -p hello.policy -o out.cert text
        stderr 'not executable'
        ! certexec sign -k ops.key -p hello.policy -o out.cert plain
        stderr 'neither an x86-64 program nor a script'
        ! certexec sign -k ops.key -p hello.policy -o out.cert folder
        ? certexec sign -k ops.key -p hello.policy -o out.cert missing
        ! certexec sign -k ops.key -p hello.policy -o out.cert hello.cert
        stderr 'a certificate itself'
        ? certexec sign -k ops.key -p hello.policy -o out.cert ls
        stderr 'did you mean ".*/ls"'
        ! exists out.cert
        """
    )


def test_another_machine_s_program_is_not_signed(signed: Script) -> None:
    image = bytearray(signed.path("hello").read_bytes())
    image[18] = 183  # EM_AARCH64
    signed.path("hello").write_bytes(image)
    signed("! certexec sign -k ops.key -p hello.policy -o out.cert hello")


def script_named(signed: Script, first_line: str) -> None:
    path = signed.path("tool")
    path.write_text(f"{first_line}\necho hello\n")
    path.chmod(0o755)
    signed.write("tool.policy", POLICY.format(path=path.resolve()))


def test_a_script_s_interpreter_is_signed_with_it(signed: Script) -> None:
    script_named(signed, "#! /bin/sh -e")
    signed("certexec sign -k ops.key -p tool.policy -o out.cert tool")
    (interpreter,) = made(signed).files
    assert (interpreter.role, interpreter.path) == ("interpreter", os.path.realpath("/bin/sh"))
    assert interpreter.size == Path("/bin/sh").stat().st_size
    signed("certexec verify --trust trust out.cert")


@pytest.mark.parametrize(
    ("first_line", "complaint"),
    [
        ("#!/usr/bin/env sh", 'name it in the first line: "#!/.*sh"'),
        ("#!/usr/bin/env -S sh -e", "finds its interpreter with env"),
        ("#!sh", "no absolute interpreter"), ("#!", "no absolute interpreter"),
        ("#!" + "/x" * 200, "too long"), ("#!/no/such/interpreter", "does not exist"),
    ],
)  # fmt: skip
def test_a_script_without_a_certain_interpreter_is_not_signed(
    signed: Script, first_line: str, complaint: str
) -> None:
    script_named(signed, first_line)
    code = signed.certexec("sign", "-k", "ops.key", "-p", "tool.policy", "-o", "out.cert", "tool")
    assert code in (1, 2)
    assert re.search(complaint, signed.stderr), signed.stderr
    signed("! exists out.cert")


def test_a_script_whose_interpreter_is_a_script_is_not_signed(signed: Script) -> None:
    inner = signed.path("inner")
    shutil.copy2(signed.path("hello"), inner)
    inner.write_text("#!/bin/sh\n")
    script_named(signed, f"#!{inner.resolve()}")
    signed("! certexec sign -k ops.key -p tool.policy -o out.cert tool\nstderr 'a script itself'")


def test_a_script_gets_no_identity(signed: Script) -> None:
    script_named(signed, "#!/bin/sh")
    signed(
        """
        ! certexec sign -k ops.key -p tool.policy --setuid root --allow-everyone -o o tool
        stderr 'a script with an identity'
        ! exists o
        """
    )


# -- small parsers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("daily 00:00-24:00", [(127, 0, 1440)]),
        ("mon 08:00-09:30", [(1, 480, 570)]),
        ("MON,wed-fri 08:00-09:00", [(1 | 4 | 8 | 16, 480, 540)]),
        ("sat-mon 08:00-09:00", [(32 | 64 | 1, 480, 540)]),
        ("sun 22:00-02:00", [(64, 1320, 1440), (1, 0, 120)]),
        ("daily 22:00-00:00", [(127, 1320, 1440)]),
    ],
)
def test_time_windows(text: str, windows: Any) -> None:
    assert sign_options.parse_window(text) == windows


def test_what_stands_after_two_dashes_is_no_option() -> None:
    assert sign_options.ordered(["--allow-user", "a", "--", "--allow-user", "b"]) == [
        "--entry", "--allow-user a", "--", "--allow-user", "b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("now", 1000), ("@5", 5), ("+1m", 1060), ("1970-01-01", 0), ("1970-01-01T00:01", 60),
     ("1970-01-01T00:01:05Z", 65), ("1970-01-01T02:00+02:00", 0)],
)  # fmt: skip
def test_times(text: str, seconds: int) -> None:
    assert parse_time(text, 1000) == seconds


@pytest.mark.parametrize(
    "text", ["", "@", "+", "+1", "1969-12-31", "@9999999999999", "10000-01-01"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(CliError):
        parse_time(text, 1000)


def test_times_are_shown_in_utc() -> None:
    assert show_time(0) == "1970-01-01T00:00:00Z"
    assert show_time(253402300799) == "9999-12-31T23:59:59Z"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain ü", "plain ü"), ("\x1b[2J", "\\x1b[2J"), ("a\nb", "a\\nb"), ("\u202e", "\\u202e"),
     ("\udcff", "\\\\xff")],
)  # fmt: skip
def test_what_is_shown_cannot_steer_a_terminal(text: str, shown: str) -> None:
    assert printable(text).replace("\\\\", "\\") == shown.replace("\\\\", "\\")


def test_it_names_the_certificates_that_the_policy_reaches(signed: Script) -> None:
    name = os.path.realpath(signed.path("hello.cert"))
    program = os.path.realpath(signed.path("hello"))
    signed.write("outer.policy", (
        f'Policy: {program}, Emulation: native\n\tnative-execve: filename eq "{name}" then permit\n'
    ))  # fmt: skip
    signed("certexec sign -k ops.key -p outer.policy -o outer.cert hello")
    assert f'reaches the certificate "{name}": "{program}" may do' in signed.stderr
    signed("certexec sign -f -k ops.key -p hello.policy --setuid root --allow-everyone hello")
    signed("certexec sign -f -k ops.key -p outer.policy -o outer.cert hello")
    assert f'executing the certificate "{name}" is refused: ' in signed.stderr
    signed("certexec verify --trust trust outer.cert")
    assert f'executing the certificate "{name}" is refused: ' in signed.stderr


def test_it_says_that_who_has_calls_made_as_somebody_else_executes_nothing(
    signed: Script,
) -> None:
    program = signed.path("hello").resolve()
    header = f"Policy: {program}, Emulation: native\n"
    bind = 'native-bind: sockaddr match "inet-*:80" then permit as root\n'
    told = 'who has single calls made "as" somebody else executes no other program'
    for rules, line in ((bind, 0), (bind + "native-execve: permit\n", 3)):
        signed.write("as.policy", header + rules)
        code = signed.certexec(
            "sign", "-k", "ops.key", "-p", "as.policy", "-o", "out.cert", "--force",
            "--elevate", "root", "--allow-everyone", "hello",
        )  # fmt: skip
        assert code == 0, signed.stderr
        assert f"certexec: {told}\n" in signed.stderr
        warned = f"certexec: warning: as.policy:{line}: this rule lets nothing be executed: {told}"
        assert (warned in signed.stderr) is bool(line)
    signed.certexec("sign", "-k", "ops.key", "-p", "hello.policy", "-o", "b.cert", "hello")
    assert told not in signed.stderr


# -- the 32-bit ABI ----


def test_the_32_bit_abi_is_admitted_only_by_name_and_with_a_part_for_it(signed: Script) -> None:
    path = signed.path("hello").resolve()
    part = f"Policy: {path}, Emulation: linux\n\tlinux-read: permit\n"
    signed.write("both.policy", "Language: certexec 1\n" + POLICY.format(path=path) + part)
    after = f"\tafter native-read: true then only read\n{part}"
    signed.write(
        "after.policy", "Language: certexec 1\n" + POLICY.format(path=path) + after
    )
    signed(
        """
        certexec sign -k ops.key -p both.policy -o out.cert --emulation linux hello
        ! certexec sign -f -k ops.key -p hello.policy -o out.cert --emulation linux hello
        stderr 'the 32-bit ABI is admitted, and the policy does not say'
        stderr 'Emulation: linux'
        ! certexec sign -f -k ops.key -p after.policy -o out.cert --emulation linux hello
        stderr '"after" beside the 32-bit ABI'
        ? certexec sign -k ops.key -p both.policy --emulation netbsd hello
        certexec sign -k ops.key -p both.policy -o plain.cert hello
        """
    )
    assert made(signed).policy.emulations == ["native", "linux"]
    assert made(signed, "plain.cert").policy.emulations == ["native"]


def test_a_name_that_no_certificate_can_have_comes_from_the_file_and_can_be_given(
    signed: Script,
) -> None:
    options = ("-k", "ops.key", "-p", "hello.policy", "-o", "a\x1bb.cert")
    assert signed.certexec("sign", *options, "hello") == 2
    assert 'the name of the file "a\\x1bb.cert"' in signed.stderr
    assert '"--name NAME"' in signed.stderr
    assert signed.certexec("sign", *options, "--name", "ab", "hello") == 0


def test_a_short_life_ends_at_a_time_a_long_one_on_a_day(signed: Script) -> None:
    signed(
        """
        certexec sign -k ops.key -p hello.policy --valid-for 1h -o short.cert hello
        stdout 'expires 20[0-9-]{8}T[0-9:]{8}Z'
        certexec sign -k ops.key -p hello.policy --valid-for 8d -o long.cert hello
        stdout 'expires 20[0-9-]{8}\\)'
        """
    )
