"""certexec inspect, as typed."""

import json

from certexec.certificate import codec, envelope
from tests.certificate.simulator import Simulator, full_payload, script_payload
from tests.cli.conftest import POLICY, Script


def write(script: Script, payload: object, name: str = "x.cert") -> Simulator:
    simulator = Simulator()
    simulator.payload = payload
    script.path(name).write_bytes(simulator.build())
    return simulator


def test_says_what_stands_in_it_and_that_nothing_is_proved(script: Script) -> None:
    write(script, full_payload())
    script(
        """
        certexec inspect x.cert
        stdout '^x.cert: unverified$'
        stdout 'program +"/usr/bin/hello" \\(5 bytes, direct\\)'
        stdout 'set-user-ID +root \\(0\\)'
        stdout 'set-group-ID +daemon \\(1\\)'
        stdout 'groups +adm \\(4\\), #1234'
        stdout 'capabilities +net_raw, net_admin'
        stdout 'may be run by +deny user mallory \\(1001\\)'
        stdout '^ +allow group netadmin \\(990\\)'
        stdout '^ +allow everyone'
        stdout 'terminal +required'
        stdout 'arguments +only "-\\*" "eth\\[0-9\\]"'
        stdout 'mon,tue,wed,thu,fri 08:00-18:00 UTC'
        stdout 'limit nofile +256 soft, 512 hard'
        stdout 'limit core +0 soft, infinity hard'
        stdout 'umask +027'
        stdout 'environment +only TERM, LANG'
        stdout 'PATH=/usr/bin'
        stdout 'integrity +exec-stop'
        stdout 'note +two lines'
        stdout 'extension +x.example'
        ! stderr .
        certexec show x.cert
        stdout '^x.cert: unverified$'
        """
    )


def test_a_script_s_interpreter_is_shown(script: Script) -> None:
    write(script, script_payload())
    script("certexec inspect x.cert\nstdout 'interpreter +\"/usr/bin/dash\"'")


def test_json_holds_every_field(script: Script) -> None:
    write(script, full_payload())
    script("certexec inspect --json x.cert")
    shown = json.loads(script.stdout)
    assert shown["schema"] == 1
    assert shown["verification"] == "unverified"
    assert shown["name"] == "hello"
    assert shown["grant"] is True
    assert shown["identity"]["user"] == {"name": "root", "number": 0}
    assert shown["identity"]["groups"][1] == {"name": None, "number": 1234}
    assert shown["invocation"]["entries"][2] == {
        "allow": True, "kind": "everyone", "name": None, "number": None,
    }  # fmt: skip
    assert shown["limits"]["rlimits"]["core"] == {"soft": 0, "hard": None}
    environment = {"passed": ["TERM", "LANG"], "set": {"PATH": "/usr/bin", "A": ""}}
    assert shown["environment"] == environment
    assert shown["signatures"][0]["algorithm"] == "Ed25519"
    assert shown["valid_until"] == "2027-01-16T08:00:00Z"


def test_a_certificate_with_nothing_optional_shows_nothing_optional(signed: Script) -> None:
    signed("certexec inspect --json hello.cert")
    shown = json.loads(signed.stdout)
    assert shown["identity"] is None
    assert shown["environment"] is None
    assert shown["limits"] == {"rlimits": {}, "nice": None, "umask": None, "oom": None}


def test_the_policy_and_the_payload_come_out_as_they_were_signed(signed: Script) -> None:
    signed("certexec inspect --policy hello.cert")
    assert signed.stdout == POLICY.format(path=signed.path("hello").resolve())
    write(signed, full_payload())
    message = envelope.unwrap(signed.path("x.cert").read_bytes())
    signed("certexec inspect --diag x.cert")
    assert "55799(1129858371([" in signed.stdout
    assert "98([" in signed.stdout
    assert "h'" in signed.stdout
    signed("certexec inspect --raw x.cert")
    assert signed.output == message.payload
    assert codec.decode(message.payload) == full_payload()


def test_a_policy_elsewhere_is_not_made_up(signed: Script) -> None:
    signed(
        """
        certexec sign -k ops.key --policy-path hello.policy -o out.cert hello
        ? certexec inspect --policy out.cert
        stderr 'the policy is in "/.*hello.policy"'
        certexec inspect out.cert
        stdout 'policy +"/.*hello.policy"'
        """
    )


def test_verify_says_whether_it_is_proved(signed: Script) -> None:
    signed(
        """
        certexec inspect --verify --trust trust hello.cert
        stdout '^hello.cert: verified$'
        certexec keygen -f other --no-passphrase
        certexec sign -k other.key -p hello.policy -o other.cert hello
        ! certexec inspect --verify --trust trust other.cert
        stdout '^other.cert: not valid \\(untrusted-key\\)$'
        stdout 'program'
        stderr 'no signature is by a trusted key'
        ? certexec inspect --trust trust hello.cert
        """
    )


def test_what_is_no_certificate_is_not_shown(signed: Script) -> None:
    signed(
        """
        ! certexec inspect hello
        ! stdout .
        ? certexec inspect missing
        ? certexec inspect --json --diag hello.cert
        ? certexec inspect
        """
    )


def test_an_unknown_critical_option_is_shown_only_as_data(script: Script) -> None:
    payload = full_payload()
    payload[12] = {"only-on-sundays": True}
    write(script, payload)
    script(
        """
        ! certexec inspect x.cert
        stderr 'only-on-sundays'
        certexec inspect --diag x.cert
        stdout 'only-on-sundays'
        """
    )


def test_nothing_in_a_certificate_can_steer_the_terminal(script: Script) -> None:
    payload = full_payload()
    payload[2][0] = "/bin/\x1b[31m\u202e"
    payload[3][0] = "\x1b[2J" * 3
    payload[7] = {0: ["A\x1b"], 1: {"B": "\x1b[0m\n"}}
    payload[13] = {"x": "\x1b"}
    write(script, payload)
    for flag in ((), ("--diag",), ("--json",)):
        assert script.certexec("inspect", *flag, "x.cert") == 0
        assert "\x1b" not in script.stdout + script.stderr
        assert "\u202e" not in script.stdout


def test_a_certificate_comes_from_standard_input(signed: Script) -> None:
    from certexec.cli import common

    data = signed.path("hello.cert").read_bytes()
    signed.stdin = data
    signed("certexec inspect -\nstdout '^-: unverified$'")
    assert len(data) <= common.MAX_SIZE


def test_says_how_auto_is_decided_on_this_machine(signed: Script) -> None:
    signed(
        """
        certexec inspect hello.cert
        stdout '^integrity +auto$'
        stdout '^on this machine the program is kept unchanged by: (exec-stop|sealed)$'
        certexec inspect --json hello.cert
        """
    )
    shown = json.loads(signed.stdout)
    assert shown["integrity_here"] in ("exec-stop", "sealed") and shown["not_cached"]
    signed("rm hello\ncertexec inspect hello.cert\n! stdout 'on this machine'")
    signed("certexec inspect --json hello.cert")
    assert json.loads(signed.stdout)["integrity_here"] is None
    write(signed, script_payload())
    signed(
        """
        certexec inspect x.cert
        stdout 'kept unchanged by: sealed$'
        stdout '^not cached: it runs a script$'
        """
    )


def test_what_becomes_of_calls_that_no_rule_matches_is_shown(signed: Script) -> None:
    signed(
        """
        certexec inspect hello.cert
        ! stdout 'no rule matches'
        ? certexec sign -f -k ops.key -p hello.policy --unmatched maybe -o asks.cert hello
        ! exists asks.cert
        certexec sign -f -k ops.key -p hello.policy --unmatched ask -o asks.cert hello
        certexec inspect asks.cert
        stdout '^policy .*, asks about what no rule matches$'
        """
    )
    for name, expected in (("hello.cert", "deny"), ("asks.cert", "ask")):
        signed.certexec("inspect", "--json", name)
        assert json.loads(signed.stdout)["policy"]["unmatched"] == expected


def test_what_is_no_certificate_is_named(script: Script) -> None:
    script.write("notes", "no certificate\n")
    for flag in ((), ("--diag",), ("--json",), ("--verify", "--trust", ".")):
        assert script.certexec("inspect", *flag, "notes") == 1
        assert 'error: "notes": not a certificate' in script.stderr
    script.path("large").write_bytes(b"\x7fELF" + bytes(envelope.MAX_SIZE))
    assert script.certexec("inspect", "large") == 1
    assert 'error: "large": not a certificate' in script.stderr
    script.stdin = b"no certificate"
    assert script.certexec("inspect", "-") == 1
    assert "error: standard input: not a certificate" in script.stderr
