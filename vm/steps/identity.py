"""The identity step: real ids stay the invoker's, effective ids become the certified ones.

Runs in the guest as root with the project in /project. Installs certificates, lets the ordinary
user alice type their names, and compares /proc/PID/status with what each certificate grants. At
Yama's ptrace_scope 1 a certificate without a grant, whose policy needs a supervisor, is refused
and the refusal names the sysctl; certificates with a grant run as ever.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

PROJECT = "/project"
REFUSED = 126
SCOPE = "/proc/sys/kernel/yama/ptrace_scope"
PATIENCE = 180.0  # seconds until a started program must have shown its own name
STAT = os.path.realpath("/usr/bin/stat")
SLEEP = os.path.realpath("/usr/bin/sleep")
# Certificate, options of `sign`, whether it is installed set-user-ID, expected uids and gids.
CASES = (
    ("as-root", ("--setuid", "root"), True, "1000 0 0 0", "1000 1000 1000 1000"),
    ("as-service", ("--setuid", "service"), True, "1000 900 900 900", "1000 1000 1000 1000"),
    ("as-group", ("--setgid", "service"), True, "1000 1000 1000 1000", "1000 900 900 900"),
    ("as-alice", (), False, "1000 1000 1000 1000", "1000 1000 1000 1000"),
)
SHOWN = ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")


def certexec(*arguments: str) -> str:
    """Run one verb; end this step when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "certexec.cli.main", *arguments], cwd=PROJECT, text=True,
        capture_output=True, check=False,
    )
    if done.returncode != 0:
        print(f"certexec {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}", flush=True)
        sys.exit(1)
    return done.stdout


def typed(name: str, directory: str, user: str, words: str = "60") -> subprocess.Popen[str]:
    """Type a certificate's name as an ordinary user."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f"exec {name} {words}"], user=user, group=user, extra_groups=[],
        env={"PATH": f"{directory}:/usr/bin:/bin"}, cwd="/", text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def status(pid: int) -> dict[str, str]:
    """Return the lines of /proc/PID/status that tell who a process is."""
    with open(f"/proc/{pid}/status") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    return {name: " ".join(lines[name].split()) for name in SHOWN}


def running(process: subprocess.Popen[str]) -> bool:
    """Wait until the certified program itself runs; return whether it does."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/comm") as file:
                if os.readlink(f"/proc/{process.pid}/exe") == SLEEP:
                    # The exec stop may still hold it: it runs once it sleeps in its own call.
                    time.sleep(0.5)
                    return process.poll() is None and bool(file.read())
        except OSError:
            pass
        time.sleep(0.05)
    return False


def trace_scope() -> str:
    """Return Yama's ptrace_scope, "0" where the kernel has no Yama."""
    try:
        with open(SCOPE) as file:
            return file.read().strip()
    except OSError:
        return "0"


def stranger(directory: str, name: str) -> Iterator[str]:
    """Let bob, whom no certificate names, type one."""
    refused = typed(name, directory, "bob")
    _, said = refused.communicate(timeout=PATIENCE)
    print(f"Linux {os.uname().release}, {name} typed by bob: {said.strip()}", flush=True)
    if refused.returncode != REFUSED or "acl-denied" not in said:
        yield f"{name}: bob got exit {refused.returncode}"


def look(directory: str) -> Iterator[str]:
    """Let a program with a granted uid look at a file: its calls must see and tell the same."""
    policy = f"{directory}/look.policy"
    with open(policy, "w") as file:
        file.write(certexec("policy", "template", STAT))
        file.write('\tnative-fsread: filename eq "/etc/hostname" then permit\n')
    certexec("sign", "-k", f"{directory}/ops.key", "-p", policy, "--allow-user", "alice",
             "--setuid", "service", "-o", f"{directory}/look.cert", STAT)
    certexec("install", f"{directory}/look.cert", f"{directory}/look")
    process = typed("look", directory, "alice", "-c %n:%s /etc/hostname")
    out, said = process.communicate(timeout=PATIENCE)
    expected = f"/etc/hostname:{os.stat('/etc/hostname').st_size}"
    if process.returncode != 0 or out.strip() != expected:
        yield f"look: exit {process.returncode}, {out.strip()!r}, {said.strip()}"


def failures(directory: str) -> Iterator[str]:
    """Play every case; yield what was not as certified."""
    yield from look(directory)
    restricted = trace_scope() != "0"
    for name, options, set_user_id, uids, gids in CASES:
        source, target = f"{directory}/{name}.cert", f"{directory}/{name}"
        policy = f"{directory}/{name}.policy"
        with open(policy, "w") as file:
            file.write(certexec("policy", "template", SLEEP))
        certexec("sign", "-k", f"{directory}/ops.key", "-p", policy, "--allow-user", "alice",
                 *options, "-o", source, SLEEP)
        certexec("install", source, target)
        mode = os.stat(target).st_mode & 0o7777
        if bool(mode & 0o4000) is not set_user_id:
            yield f"{name}: installed with mode {mode:o}"
        process = typed(name, directory, "alice")
        if running(process):
            seen = status(process.pid)
            shown = ", ".join(f"{key} {value}" for key, value in seen.items())
            print(f"Linux {os.uname().release}, {name}: {shown}", flush=True)
            if (seen["Uid"], seen["Gid"]) != (uids, gids):
                yield f"{name}: uids {seen['Uid']} gids {seen['Gid']}, not {uids} and {gids}"
            if restricted and not set_user_id:
                yield f"{name}: ran without a grant under a supervisor that may not trace it"
        else:
            ended = process.poll()
            process.kill()
            said = (process.communicate()[1] or "").strip()
            if restricted and not set_user_id and ended == REFUSED and "ptrace_scope" in said:
                print(f"Linux {os.uname().release}, {name}: {said}", flush=True)
            else:
                yield f"{name}: did not run (exit {ended}): {said}"
        if process.returncode is None:
            process.kill()
            process.communicate()
    yield from stranger(directory, CASES[0][0])


def main() -> int:
    """Set certexec up, play the cases, return the exit status."""
    # In /usr/local, where every directory above is root's alone.
    with tempfile.TemporaryDirectory(dir="/usr/local") as directory:
        os.chmod(directory, 0o755)  # noqa: S103
        certexec("setup")
        certexec("keygen", "--no-passphrase", "-f", f"{directory}/ops")
        certexec("trust", "add", f"{directory}/ops.pub", "--may-grant", "root",
                 "--may-grant", "service")
        found = list(failures(directory))
        certexec("setup", "--remove", "--purge", "--yes")
    for one in found:
        print(f"FAILED: {one}", flush=True)
    print("identity step", "FAILED" if found else "passed", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
