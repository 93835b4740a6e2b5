"""What the run path loads, and what it must not."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "__future__", "_ctypes", "_hashlib", "_socket", "_struct", "_thread", "array", "binascii",
    "ctypes", "ctypes._endian", "errno", "fcntl", "grp", "os", "posix", "pwd", "resource",
    "select", "stat", "struct", "sys", "syslog", "time", "types", "_cffi_backend", "_openssl",
    "_openssl.lib", "_sha2", "_sha256", "_sha512", "_collections_abc", "_stat", "abc",
    "genericpath", "os.path", "posixpath",
}  # fmt: skip
"""What run-path modules may import, and what these and the cryptography library bring along."""
LIBRARY = "cryptography"
LIBRARY_ALLOWED = {
    "cryptography", "cryptography.__about__", "cryptography.hazmat",
    "cryptography.hazmat.bindings", "cryptography.hazmat.bindings._rust",
}  # fmt: skip
MODULES = (
    "certificate.verify", "certificate.envelope", "certificate.model", "certificate.codec",
    "certificate.cose", "trust.store", "trust.constraints", "trust.keys",
)  # fmt: skip

PROGRAM = """
import sys
before = set(sys.modules)
sys.path[:0] = [{root!r}, {site!r}]
for name in {modules!r}:
    __import__("certexec." + name)
from certexec.trust.keys import parse_public
from certexec.certificate.verify import verify_certificate
from certexec.trust.store import TrustedKey, by_kid
from certexec.trust.constraints import Constraints
key = TrustedKey(parse_public({line!r}), Constraints(), "key")
verify_certificate(bytes.fromhex({data!r}), by_kid([key]), {now})
print(*sorted(set(sys.modules) - before))
"""


def loaded(kind: str) -> set[str]:
    import cryptography

    from tests.certificate.simulator import NOW, Signer, Simulator, key

    simulator = Simulator()
    simulator.signers = [Signer(key(f"k-{kind}", kind))]
    program = PROGRAM.format(
        root=str(ROOT), site=str(Path(cryptography.__file__).parents[1]), modules=MODULES,
        line=simulator.signers[0].key.public.line(), data=simulator.build().hex(), now=NOW,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return {name for name in done.stdout.split() if not name.startswith("certexec")}


def test_verifying_loads_nothing_but_what_the_run_path_may_load() -> None:
    for kind in ("ed25519", "mldsa65"):
        assert loaded(kind) <= ALLOWED | LIBRARY_ALLOWED


def test_p256_loads_the_library_s_ec_module_and_nothing_else() -> None:
    more = loaded("p256") - ALLOWED - LIBRARY_ALLOWED
    assert more
    assert not {name for name in more if not name.startswith(LIBRARY)} & {
        "dataclasses", "inspect", "json", "logging", "pathlib", "subprocess", "socket"
    }
