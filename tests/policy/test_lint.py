"""Warnings: each where it bites, none elsewhere."""

import pytest

from certexec.policy.lint import CODES, lint, lint_text
from certexec.policy.reach import file_name
from certexec.policy.syntax import decode_policy, parse_policy
from certexec.policy.template import permit_all, starting_policy
from tests.policy.common import USERS, shared

HEADER = "Policy: /bin/x, Emulation: native\n"


def findings(*lines: str, header: str = HEADER):
    text = header + "".join(line + "\n" for line in lines)
    found = lint(parse_policy(text, name="f", users=USERS, privileged=True))
    assert {one.code for one in found} <= set(CODES)
    return found


def codes(*lines: str, header: str = HEADER) -> list[tuple[int, str]]:
    return [(one.line, one.code) for one in findings(*lines, header=header)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('filename eq "/a" and true or true then permit', "grouping"),
        ('true or filename eq "/a" and true or true then permit', "grouping"),
        ('not filename eq "/a" or true then permit', "grouping"),
        ('not ( filename eq "/a" ) and true then permit', "grouping"),
        ("( true and true or true ) and true then permit", "grouping"),
        ('filename inpath "/usr/lib" then permit', "inpath"),
        ('filename eq "/tmp/*" then permit', "wildcard"),
        ('filename neq "/tmp/?" then permit', "wildcard"),
        ('filename sub "*.so" then permit', "wildcard"),
        ('filename nsub "?" then permit', "wildcard"),
        ('filename inpath "/usr/*" then permit', "wildcard"),
        ('filename match "inet-[::1]:5" then permit', "bracket"),
        ('filename match "/a\\.b" then permit', "backslash"),
        ('filename eq "etc/passwd" then permit', "relative"),
        ('filename match "etc" then permit', "relative"),
        ('filename match "*.so" then permit', "relative"),
        ('filename match "?etc" then permit', "relative"),
        ('filename match "[/]etc" then permit', "relative"),
        ('filename match "~/x" then permit', "relative"),
        ('filename match "$USER/x" then permit', "relative"),
        ('filename match "<non-existent filename>: x" then permit', "relative"),
        ('filename match "/usr/" then permit', "never"),
        ('filename eq "/usr/" then permit', "never"),
        ('filename match "$HOME/" then permit', "never"),
        ('filename match "/tmp/*/" then permit', "never"),
        ('filename eq "//usr" then permit', "never"),
        ('filename eq "/usr//lib" then permit', "never"),
        ('filename eq "/usr/../etc" then permit', "never"),
        ('filename match "/usr/./lib" then permit', "never"),
        ('filename eq "/a" and filename eq "/b" then permit', "never"),
        ('filename match "/a" and filename match "/b" then permit', "never"),
        ('filename match "/a" and filename eq "/b" then permit', "never"),
        ('filename eq "/a" and filename neq "/A" then permit', "never"),
        ('filename sub "ab" and filename nsub "b" then permit', "never"),
        ('filename eq "/1" and not filename match "/1" then permit', "never"),
        ("not true then permit", "never"),
        ("not ( true and true ) then permit", "never"),
        ('filename match "$HOMEDIR/x" then permit', "macro"),
        ('filename match "$HOME_DIR/x" then permit', "macro"),
        ('filename match "${HOME}/x" then permit', "macro"),
        ('filename match "/x/$TMPDIR" then permit', "macro"),
        ('filename match "/x$$USER" then permit', "macro"),
        ('filename re "^/$HOME_x" then permit', "macro"),
        ('sockaddr eq "x" then permit', "no-argument"),
        ('oflags eq "ro" then permit', "no-argument"),
        ('filename[1] eq "/x" then permit', "no-argument"),
        ("true then deny[eftype]", "errno"),
        ("true then permit[inherit]", "flag"),
        ("true then permit[detach]", "flag"),
        ("permit-now", "unsupported"),
    ],
)
def test_each_surprise_of_a_rule_is_found(body, code):
    name = "native-read" if body == "permit-now" else "native-fsread"
    assert (2, code) in codes(f"{name}: {body}")


@pytest.mark.parametrize(
    "body",
    [
        'filename eq "/a" or filename neq "/b" or true then permit',
        'filename match "/a" and filename neq "/a/b" and true then permit',
        'filename eq "/a" or filename match "/b" and filename sub "x" then permit',
        '( filename eq "/a" and true ) or true then permit',
        'filename match "/a" and ( true or true ) then permit',
        '( not filename eq "/a" ) or true then permit',
        'true and not filename eq "/a" then permit',
        'not ( filename eq "/a" and true ) then permit',
        'filename match "/tmp/*" then permit',
        'filename match "*" then permit',
        'filename match "**/x" then permit',
        'filename match "*/x" then permit',
        'filename match "/a\\\\[b\\"\\n" then permit',
        'filename match "/tmp/[a-z]" then permit',
        'filename match "$HOME/x" then permit',
        'filename match "$HOME" then permit',
        'filename eq "$CWD" then permit',
        'filename match "/home/$USER/x" then permit',
        'filename match "/home/$USER-x" then permit',
        'filename re "^/home/$USER$" then permit',
        'filename re "^/(a$|b$)" then permit',
        'filename re "/*x?" then permit',
        'filename match "" then permit',
        'filename eq "/" then permit',
        'filename match "/.hidden/..x/x." then permit',
        'filename eq "/<non-existent filename>: x" then deny[enoent]',
        'filename match "/<non-existent filename>: ../x//y/" then deny[enoent]',
        'filename match "pipe:*" then permit',
        'filename re "etc" then permit',
        'filename sub "etc" then permit',
        'filename sub "/" and filename sub "x" then permit',
        'filename match "/a" and not filename match "/a/b" then permit',
        'filename eq "/a" and not filename match "/A" then permit',
        "true then deny[enoent]",
    ],
)
def test_sound_rules_pass(body):
    assert codes("native-fsread: " + body) == []


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ('match "inet-[1.2.3.4]:53"', "bracket"),
        ('match "inet-[::1]:53"', "bracket"),
        ('match "inet-[*]:53"', "bracket"),
        ('match "inet-[0-9]*:53"', "bracket"),
        ('match "*[::1]:53"', "bracket"),
        ('re "^inet-[1.2.3.4]:80$"', "bracket"),
        ('match "sun-*"', "address"),
        ('eq "unix:/dev/log"', "address"),
        ('match "inet6-*:80"', "address"),
        ('match "inet-1.2.3.4:80"', "address"),
        ('match "inet-10.*:80"', "address"),
        ('eq "inet-1.2.3.4:80"', "address"),
        ('eq "inet-[1.2.3.4]"', "address"),
        ('eq "inet-[1.2.3.4]:080"', "address"),
        ('eq "inet-[1.2.3.4]:70000"', "address"),
        ('eq "inet-[localhost]:80"', "address"),
        ('eq "inet-[0:0:0:0:0:0:0:1]:80"', "address"),
        ('neq "inet-[2001:db8::0]:80"', "address"),
        ('eq "inet-[::ffff:1.2.3.4]:80"', "address"),
        ('match "inet-*:80*"', "address"),
        ('match "inet-*:5*3"', "address"),
        ('eq "inet-[1.2.3.4]:*"', "wildcard"),
    ],
)
def test_each_surprise_of_an_address_is_found(condition, code):
    assert codes(f"native-connect: sockaddr {condition} then permit") == [(2, code)]


@pytest.mark.parametrize(
    "condition",
    [
        'eq "inet-[::1]:53"', 'eq "inet-[1.2.3.4]:53"', 'eq "INET-[2001:DB8::1]:53"',
        'eq "/dev/log"', 'match "/tmp/.X11-unix/[a-z]*"', 'match "inet-*:53"', 'match "inet-*:*"',
        'match "inet-*:808[0-9]"', 'match "inet-*:[0-9]"', 'match "inet-*]:53*"', 'match "inet-*"',
        'match "inet-\\\\[::1\\\\]:53"', 'match "inet-?10.*:80"', 'sub "inet-[10."',
        're "^inet-\\\\[10[.].*:80$"', 're "^inet-.*:[0-9]+$"', 'eq "family(16)"', 'match "*:53"',
        'eq "<unknown>"', 'match "inet-*:*53"',
    ],
)
def test_sound_addresses_pass(condition):
    assert codes(f"native-connect: sockaddr {condition} then permit") == []


def test_ipv6_addresses_are_told_how_they_read():
    [one] = findings('native-connect: sockaddr eq "inet-[0:0::1]:80" then permit')
    assert one.hint == 'write "inet-[::1]:80"'
    [one] = findings('native-connect: sockaddr eq "inet-[::ffff:1.2.3.4]:80" then permit')
    assert one.hint == 'write "inet-[1.2.3.4]:80"'
    [one] = findings('native-connect: sockaddr match "inet-*:80*" then permit')
    assert one.hint == 'write "inet-*]:80*"'


@pytest.mark.parametrize(
    ("rule", "odd"),
    [
        ('open: oflags eq "r"', True), ('open: oflags eq "rwx"', True),
        ('open: oflags match "readonly"', True), ('open: oflags eq "ta"', True),
        ('open: oflags eq "ro"', False), ('open: oflags eq "RWct"', False),
        ('open: oflags match "rw*"', False), ('open: oflags re "c"', False),
        ('open: oflags sub "c"', False),
        ('chmod: mode eq "0644"', True), ('chmod: mode eq "rw"', True),
        ('chmod: mode eq "99"', True), ('chmod: mode neq "0o644"', True),
        ('chmod: mode eq "644"', False), ('chmod: mode eq "0"', False),
        ('chmod: mode match "[67]*"', False), ('chmod: mode eq "4755"', False),
        ('chown: uid eq "root"', True), ('chown: gid eq "00"', True),
        ('chown: uid eq "0"', False), ('chown: gid eq "100"', False),
    ],
)
def test_texts_that_an_argument_never_has_are_found(rule, odd):
    found = {code for _, code in codes(f"native-{rule} then permit")}
    assert ("never" in found) is odd


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["# why \\", "native-read: permit"], 2),
        (["# why \\  ", "", "# \\", "\tnative-read: permit # more"], 4),
        (["detached \\"], 2),
    ],
)
def test_a_line_that_seems_to_go_on_is_found(lines, line):
    text = HEADER + "".join(one + "\n" for one in lines)
    parse_policy(text, name="f", users=USERS, privileged=True)
    found = lint_text(text)
    assert [(one.line, one.code) for one in found] == [(line, "continuation")]
    assert "--join" in found[0].hint


@pytest.mark.parametrize(
    "lines",
    [
        ["# why \\", "# this"], ["# why \\", ""], ["# \\"], ["native-read: permit # why \\"],
        ['native-fsread: filename eq "/a\\\\" then permit'], ["native-read: permit"],
    ],
)
def test_lines_that_do_not_seem_to_go_on_pass(lines):
    text = HEADER + "".join(one + "\n" for one in lines)
    parse_policy(text, name="f", users=USERS, privileged=True)
    assert lint_text(text) == []


def test_the_grouping_shows_the_tree():
    [one] = findings('native-fsread: filename eq "/a" and true or true then permit')
    assert "(and [filename:-1 /a] (or [-:-1 ] [-:-1 ]))" in one.message


def test_brackets_of_an_address_are_found_and_escaped_ones_are_not():
    assert codes('native-connect: sockaddr match "inet-[::1]:53" then permit') == [(2, "bracket")]
    assert codes('native-connect: sockaddr match "inet-\\\\[::1\\\\]:53" then permit') == []
    assert codes('native-connect: sockaddr match "inet-\\[::1\\]:53" then permit') == [
        (2, "backslash"), (2, "bracket")
    ]
    assert codes('native-connect: sockaddr eq "inet-[::1]:53" then permit') == []


def test_names_that_mean_nothing_here_are_inactive():
    found = findings("native-opennat: permit", "native-issetugid: permit")
    assert [(one.line, one.code) for one in found] == [(2, "inactive"), (3, "inactive")]
    assert found[0].hint == 'did you mean "openat"?'
    assert "does not have" in found[1].message
    assert found[1].hint == ""
    header = "Policy: /bin/x, Emulation: bsdos\n"
    assert (2, "inactive") in codes("bsdos-fsread: permit", header=header)


def test_emulations_of_other_systems_are_told():
    header = "Policy: /bin/x, Emulation: {}\n"
    assert codes("linux64-read: permit", header=header.format("linux64")) == []
    [one] = findings("netbsd-read: permit", header=header.format("netbsd"))
    assert (one.line, one.code) == (1, "emulation")
    assert "1 of 1 rules" in one.message
    [one] = findings("martian-read: permit", header=header.format("martian"))
    assert "no system" in one.message


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (['native-stat: filename eq "/a" then deny', "native-stat: permit"], 2),
        (["native-read: permit", "native-read: deny"], 2),
        (["native-fsread: permit", 'native-fsread: filename eq "/a" then deny'], 3),
        (['native-fsread: filename match "/usr" then permit',
          'native-fsread: filename match "/usr/lib" then deny'], 3),
        (['native-fsread: filename match "/us*" then permit',
          'native-fsread: filename match "/usr/lib" then deny'], 3),
        (['native-fsread: sockaddr eq "x" then permit',
          'native-fsread: sockaddr eq "x" then deny'], 3),
        (["native-stat: permit, if user = 0", "native-stat: deny, if user = 0"], 3),
        (["native-pread64: permit", "native-pread: deny"], 2),
        (['native-fsread: filename eq "/a" or filename eq "/b" then permit',
          'native-fsread: filename eq "/B" then deny'], 3),
        (['native-fsread: filename sub "a" then permit',
          'native-fsread: filename sub "b" and filename sub "cat" then deny'], 3),
        (['native-fsread: filename match "/usr" then permit',
          'native-fsread: filename match "/usr" and filename sub "x" then deny'], 3),
        (['native-fsread: filename match "/usr" then ask',
          'native-fsread: filename match "/usr/lib" then deny'], 3),
        (["native-stat: permit, if user < 5", "native-stat: deny, if user = 0"], 3),
        (["native-exit: true then permit", "native-exit: true then deny"], 3),
        (["native-rt_sigaction: permit", "native-sigaction: deny"], 3),
    ],
)
def test_rules_that_never_decide_are_found(lines, line):
    assert (line, "shadowed") in codes(*lines)


@pytest.mark.parametrize(
    "lines",
    [
        ['native-fsread: filename match "/usr/lib" then deny',
         'native-fsread: filename match "/usr" then permit'],
        ['native-fsread: filename match "/usr" then deny',
         'native-fsread: filename match "/usrx" then permit'],
        ['native-fsread: filename eq "/usr" then deny',
         'native-fsread: filename match "/usr" then permit'],
        ['native-fsread: filename match "$HOME" then deny',
         'native-fsread: filename match "$HOME/x" then permit'],
        ["native-stat: permit, if user = 0", "native-stat: deny, if user = 1"],
        ["native-pread64: permit", "native-pread: permit"],
        ["native-stat: permit", "native-lstat: deny"],
        ["native-rt_sigaction: permit", "native-sigaction: permit"],
        ["native-stat: permit", "native-fsread: deny"],
        ['native-fsread: filename eq "/a" then permit',
         'native-fsread: filename match "/a" then deny'],
        ['native-fsread: filename match "/a" then permit',
         'native-fsread: filename eq "/a" then deny'],
        ['native-fsread: filename sub "ab" then permit',
         'native-fsread: filename sub "b" then deny'],
        ['native-fsread: filename eq "/a" and filename sub "a" then permit',
         'native-fsread: filename eq "/a" then deny'],
        ["native-stat: permit, if user = 0", "native-stat: deny, if user < 5"],
        ["native-stat: permit, if user = 0", "native-stat: deny, if group = 0"],
    ],
)
def test_rules_that_can_decide_are_left_alone(lines):
    assert "shadowed" not in {code for _, code in codes(*lines)}


def test_calls_that_will_be_denied_until_they_can_be_judged_are_told():
    [one] = findings('native-pivot_root: filename eq "/a" then permit')
    assert one.code == "pending"
    assert "pivot_root" in one.message
    assert codes("native-pivot_root: true then permit") == []


def test_a_plain_permit_of_what_reaches_other_processes_is_told_and_of_ioctl_is_not():
    assert codes("native-ptrace: permit", "native-ioctl: permit", "native-kill: permit") == [
        (2, "processes")
    ]
    found = findings("native-process_vm_writev: true then permit log", "native-pidfd_getfd: permit",
                     "native-process_vm_readv: permit")  # fmt: skip
    assert [(one.line, one.code) for one in found] == [(line, "processes") for line in (2, 3, 4)]
    assert "process_vm_writev may write other processes" in found[0].message
    assert codes("native-ptrace: deny", "native-process_vm_readv: true then ask",
                 "native-pidfd_getfd: true then permit, if user = root") == []  # fmt: skip
    assert codes("native-ptrace: permit", "native-open: permit", "native-execve: permit") == []


def test_calls_of_two_names_that_are_judged_by_the_first_are_found():
    one = 'native-rename: filename match "/srv" then permit'
    [found] = findings(one)
    assert (found.line, found.code) == (2, "second-name")
    assert "of rename the first name is judged alone" in found.message
    for name in ("link", "renameat2", "mount", "move_mount"):
        assert codes(one.replace("rename", name).replace("permit", "ask")) == [(2, "second-name")]
    for fine in (
        'native-rename: filename match "/srv" and filename[1] match "/srv" then permit',
        'native-rename: filename match "/srv" then deny[eperm]', "native-rename: permit",
        'native-symlink: filename match "/srv" then permit',
        'native-rename: filename[1] match "/srv" then permit',
    ):
        assert codes(fine) == [], fine
    assert codes('native-rename: filename[1] match "/etc" then deny[eperm]', one) == []


def test_sends_that_evade_judged_connections_are_found():
    connect = 'native-connect: sockaddr eq "inet-[::1]:53" then permit'
    [one] = findings(connect, "native-sendto: permit", "native-sendmmsg: true then permit log")
    assert (one.line, one.code) == (2, "sends")
    assert "but sendto, sendmmsg may name any" in one.message
    assert codes(connect, "native-sendmsg: permit") == [(2, "sends")]
    assert codes("native-sendto: permit", connect, "native-connect: permit")[0][1] == "shadowed"
    for other in (
        "native-send: permit", "native-sendto: deny",
        'native-sendmsg: sockaddr eq "<unknown>" then permit', "native-read: permit",
    ):
        assert codes(connect, other) == []
    assert codes("native-connect: permit", "native-sendto: permit") == []
    judged_by_user = "native-connect: permit, if user = 0"
    assert codes(judged_by_user, "native-sendto: permit") == []


def test_questions_that_a_later_name_answers_are_found():
    asks = 'native-mkdir: filename match "/srv" then ask'
    permits = 'native-fswrite: filename match "/srv/*" then permit'
    [one] = findings(asks, permits)
    assert (one.line, one.code, one.hint) == (2, "asked", 'write the question for "fswrite"')
    assert "of mkdir nobody is asked where line 3, for \"fswrite\", permits" in one.message
    assert codes(permits, asks) == [(3, "asked")]
    for later in (
        'native-fswrite: filename match "/home" then permit',
        'native-fswrite: filename match "/srv/*" then deny[eperm]',
        'native-fswrite: filename match "/srv/*" then ask',
        'native-fsread: filename match "/srv/*" then permit',
        'native-mkdir: filename match "/srv/*" then permit',
    ):
        assert codes(asks, later) == [], later
    assert codes('native-fswrite: filename match "/srv" then ask', permits) == []


def test_colliding_policy_files_are_found():
    header = HEADER + "Policy: /usr/sbin/a_b, Emulation: native\n"
    text = header + "Policy: /usr/sbin/a/b, Emulation: native\n"
    found = lint(parse_policy(text, name="f", users=USERS, privileged=True))
    assert [(one.line, one.code) for one in found] == [(3, "collision")]
    assert file_name("/usr/sbin/named") == "usr_sbin_named"
    assert file_name("/opt/sbcl-1.0.5/bin/sbcl") == "opt_sbcl_1_0_5_bin_sbcl"


def test_a_file_without_a_policy_is_told():
    found = lint(parse_policy("# nothing\n", name="f", users=USERS, privileged=True))
    assert [(one.line, one.code) for one in found] == [(1, "empty")]


@pytest.mark.parametrize("name", ["native-execve", "native-execveat", "linux64-execve"])
def test_rules_that_let_a_program_go_are_told(name):
    header = HEADER.replace("native", name.partition("-")[0])
    for condition in ("true", 'filename eq "/bin/a"'):
        assert codes(f"{name}: {condition} then permit[detach]", header=header) == [(2, "detach")]
        assert codes(f"{name}: {condition} then permit[inherit]", header=header) == []


def test_detached_is_unsupported():
    assert (1, "unsupported") in codes("detached")


def test_the_policies_that_certexec_writes_have_no_warnings():
    for text in (starting_policy("/opt/x/y"), permit_all("/bin/true")):
        assert lint(parse_policy(text, name="f", users=USERS, privileged=False)) == []


def test_real_policies_can_be_linted():
    for path in shared("systrace-policies").iterdir():
        if path.name.startswith(("PROVENANCE", "manpage")):
            continue
        text = decode_policy(path.read_bytes())
        found = lint(parse_policy(text, name=path.name, users=USERS, privileged=True))
        assert {one.code for one in found} <= set(CODES)


@pytest.mark.parametrize(
    "rule",
    [
        'kill: signame eq "HUP"', 'kill: signame match "hup"', 'kill: signame eq "SIGINFO"',
        'socket: sockdom eq "AF_LOCAL"', 'socket: sockdom eq "AF_NETLINK"',
        'socket: socktype sub "STREAM|CLOEXEC"', 'socket: sockdom eq "AF_UNKNOWN(2)"',
        'mmap: prot eq "PROT_WRITE|PROT_READ"', 'mmap: prot match "PROT_RWX*"',
        'fcntl: cmd eq "F_SETPIPE_SZ"', 'fcntl: cmd eq "<unknown>: 2"', 'setuid: uid eq "007"',
        'fchmod: mode eq "0644"', 'open: oflags nsub "x"',
    ],
)  # fmt: skip
def test_texts_that_no_register_has_are_found(rule):
    assert (2, "never") in codes(f"native-{rule} then permit")


@pytest.mark.parametrize(
    "rule",
    [
        'kill: signame eq "sighup"', 'kill: signame re "HUP|TERM"', 'kill: pidname eq "x"',
        'socket: sockdom eq "AF_UNKNOWN(16)"', 'socket: socktype match "*STREAM"',
        'mmap: prot eq "PROT_READ|PROT_WRITE"', 'mmap: prot sub "EXEC"',
        'fcntl: cmd eq "<unknown>: 1031"', 'seteuid: uid eq "0" and uname eq "root"',
        'setresuid: uid[2] eq "0"', 'fchmod: mode match "6??"', 'fchown: fd eq "3"',
    ],
)  # fmt: skip
def test_texts_that_registers_have_are_fine(rule):
    assert codes(f"native-{rule} then permit") == []


@pytest.mark.parametrize(
    "rule",
    ['getpid: fd eq "3"', 'tgkill: pidname eq "x"', 'setgid: uname eq "x"',
     'kill: signame[1] eq "x"', 'setresgid: gid[3] eq "1"', 'mkdir: mode eq "755"'],
)  # fmt: skip
def test_arguments_that_a_call_does_not_have_are_found(rule):
    assert (2, "no-argument") in codes(f"native-{rule} then permit")
