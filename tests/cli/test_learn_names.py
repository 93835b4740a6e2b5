"""Names that the language cannot say, and what certexec learn does with the rest then."""

from __future__ import annotations

import shutil

import pytest

from .conftest import Script

ODD = ("a,b", "h#h", "n\nl")


def test_programs_that_no_header_can_name_are_left_out_and_the_rest_is_written(
    script: Script,
) -> None:
    for name in (*ODD, "sp ace"):
        shutil.copy("/bin/true", script.path(name))
    code = './a,b; ./h#h; "./n\nl"; ./sp\\ ace; :'
    assert script.certexec("learn", "-o", "new", "--", "/bin/sh", "-c", code) == 0, script.stderr
    text = script.path("new").read_text()
    assert 'execve: filename eq "$CWD/a,b" then permit' in text
    headers = [line for line in text.splitlines() if line.startswith("Policy: ")]
    assert len(headers) == 2 and headers[1].endswith("/sp ace, Emulation: native")
    for shown, why in (("a,b", "a comma"), ("h#h", "a number sign"), ("n\\nl", "a newline")):
        told = f'/{shown}" was left out: a policy cannot name it, its path holds {why}'
        assert told in script.stderr
    assert '"--inherit" puts what it did under its parent' in script.stderr
    script("certexec policy check new")
    assert script.certexec("learn", "--inherit", "--", "/bin/sh", "-c", code) == 0
    assert "left out" not in script.stderr


@pytest.mark.parametrize("name", ODD)
def test_such_a_program_itself_is_refused_before_it_runs(script: Script, name: str) -> None:
    script.write(name, "#!/bin/sh\ntouch ran\n")
    script.path(name).chmod(0o755)
    assert script.certexec("learn", "-o", "new", "--", f"./{name}") == 1
    assert "a policy cannot name the program" in script.stderr
    script("! exists new ran")


def test_a_trace_of_such_a_program_alone_replaces_no_policy(script: Script) -> None:
    script.write("trace", '7 execve("/opt/a,b", ["x"], 0x7) = 0\n7 mkdir("/srv/a", 0700) = 0\n')
    script.write("new", "Policy: /bin/x, Emulation: native\n\tnative-read: permit\n")
    script(
        """
        ! certexec learn -f -o new --from-strace trace
        stderr 'a policy cannot name the program "/opt/a,b"'
        certexec learn -a -o new --from-strace trace
        stderr '"/opt/a,b" was left out'
        """
    )
    assert script.path("new").read_text().count("Policy: ") == 1


def test_rules_that_no_line_can_hold_are_left_out(script: Script) -> None:
    long = "/srv/" + "/".join(["d" * 250] * 9)
    script.write(
        "trace",
        '7 execve("/bin/x", ["x"], 0x7) = 0\n7 mkdir("/srv/a", 0700) = 0\n'
        f'7 mkdir("{long}", 0700) = 0\n7 mkdir("/srv/\\"#", 0700) = 0\n'
        '7 mkdir("/srv/\\"#\\"", 0700) = 0\n7 mkdir("/srv/\\"\\"#", 0700) = 0\n',
    )
    script("certexec learn -o new --generalize none --from-strace trace\ncertexec policy check new")
    text = script.path("new").read_text()
    assert '"/srv/a"' in text and '"/srv/\\"\\"#"' in text and "ddd" not in text
    script("certexec learn -f -o new --generalize none --from-strace trace\nstderr 'no line can'")
    assert script.stderr.count("a rule was left out that no line can hold") >= 2


def test_a_name_with_a_wildcard_in_it_is_learned_as_one_that_is_meant(script: Script) -> None:
    script.write(
        "trace",
        '7 execve("/bin/x", ["x"], 0x7) = 0\n7 mkdir("/srv/a*\x1b[1m", 0700) = 0\n'
        '7 mkdir("/srv/b?", 0700) = 0\n7 mkdir("/srv/c", 0700) = 0\n',
    )
    script.write("more", '7 execve("/bin/x", ["x"], 0x7) = 0\n7 mkdir("/srv/d", 0700) = 0\n')
    script(
        """
        certexec learn -o new --generalize none --from-strace trace
        certexec learn -a -o new --generalize none --from-strace more
        certexec policy check --lint new
        ! stderr wildcard
        """
    )
    lines = script.path("new").read_text().splitlines()
    mark = next(at for at, line in enumerate(lines) if line.startswith('# names that hold a "*"'))
    assert [line for line in lines[mark:] if "/srv/a*" in line or "/srv/b?" in line]
    assert not [line for line in lines[:mark] if "/srv/a*" in line or "/srv/b?" in line]
    end = next(at for at in range(mark + 1, len(lines)) if lines[at].startswith("#"))
    assert not [line for line in lines[mark:end] if "/srv/c" in line or "/srv/d" in line]
    # by hand it is a mistake, and shown so that it steers no terminal
    script.path("new").write_text("\n".join(one for one in lines if one[:1] != "#") + "\n")
    script("! certexec policy check --lint new\nstderr wildcard\nstderr 'a.[\\\\]x1b'")


def test_what_is_there_and_cannot_be_run_is_said_to_be_so(script: Script) -> None:
    script.write("data", "")
    script.path("directory").mkdir()
    script(
        """
        ! certexec learn -- ./data
        stderr '"./data" is not executable'
        stderr 'hint: for a script: "chmod [+]x" it'
        ! certexec learn -- ./directory
        stderr '"./directory" is not a file'
        ? certexec learn -- ./none
        stderr 'there is no program "./none"'
        """
    )
