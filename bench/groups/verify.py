"""``certexec verify`` over a tree, beside the bare hashing of the same binaries on all cores."""

from __future__ import annotations

import compileall
import hashlib
import multiprocessing
import os
import subprocess
import sys
import time

import certexec
from bench.frame import OURS, UNPINNED, Bench, Limit, Line, spread_line
from bench.programs import few_rules_policy
from certexec.certificate.conditions import Invocation
from certexec.certificate.model import Certificate, Claims, PolicyRef, Program
from certexec.certificate.sign import sign_certificate
from certexec.trust.private_keys import SigningKey, from_pem

NAME = "verify"
ABOUT = "verify 10,000 certificates over 500 binaries of 1 MB, as a multiple of what it may take"
ORDER = 50
CASE = "a tree"
LIMITS = (Limit(CASE, 1.0),)
PEERS = ()
PLACEMENTS = (UNPINNED,)
BINARIES, SIZE, CERTIFICATES = 500, 1 << 20, 10_000
HASH_FACTOR, EACH = 1.1, 120e-6
"""It may take the time of SHA-256 over the distinct bytes, on all cores, by this factor, and so
many seconds for each certificate."""
ROUNDS = 8
"""a share of the rounds: a round takes seconds."""


def measure(bench: Bench) -> list[Line]:
    """Time whole runs of the command, each beside the bare hashing of the same files."""
    where = bench.place.path("audit")
    files = bench.once("verify", lambda: make(where, bench.place.path("ops.key")))
    compileall.compile_dir(os.path.dirname(certexec.__file__), quiet=2)  # as where it is installed
    command = [sys.executable, "-m", "certexec.cli.main", "-q", "verify", f"{where}/certificates"]
    ratios, seconds = [], []
    rounds = max(3, bench.rounds // ROUNDS) + 1
    for number in range(rounds):
        hashing = hash_all(files)
        start = time.perf_counter()
        subprocess.run(command, check=True)
        taken = time.perf_counter() - start
        if number:  # the first fills the page cache
            seconds.append(taken)
            ratios.append(taken / (hashing * HASH_FACTOR + CERTIFICATES * EACH))
        bench.step(number + 1, rounds)
    detail = {"seconds": sorted(seconds)[len(seconds) // 2]}
    base = "SHA-256 of the binaries x 1.1 + 120 us each"
    return [spread_line(CASE, OURS, base, ratios, detail=detail)]


def hash_all(files: list[str]) -> float:
    """Return the seconds that all cores need for SHA-256 over the files, once they are started."""
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        pool.map(_sha256, files[: cores * 4])
        start = time.perf_counter()
        pool.map(_sha256, files, chunksize=8)
        return time.perf_counter() - start


def _sha256(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def make(
    where: str, key: str, binaries: int = BINARIES, certificates: int = CERTIFICATES,
    size: int = SIZE,
) -> list[str]:  # fmt: skip
    """Write binaries and certificates of them, each binary with a policy of its own."""
    for name in ("binaries", "certificates", "policies"):
        os.makedirs(os.path.join(where, name))
    with open(key, "rb") as file:
        signer = from_pem(file.read(), None, key, "ops")
    files, parts = [], []
    for number in range(binaries):
        path = os.path.join(os.path.realpath(where), "binaries", f"program-{number}")
        content = os.urandom(size)
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, 0o755)
        files.append(path)
        digests = hashlib.sha256(content).digest(), hashlib.sha512(content).digest()
        with open(few_rules_policy(os.path.join(where, "policies"), path)) as text:
            parts.append((Program(path, size, *digests), text.read()))
    for number in range(certificates):
        data = _sign(f"program-{number}", *parts[number % binaries], signer)
        with open(os.path.join(where, "certificates", f"{number}.cert"), "wb") as file:
            file.write(data)
    return files


def _sign(name: str, program: Program, policy: str, signer: SigningKey) -> bytes:
    now = int(time.time())
    certificate = Certificate(
        claims=Claims(signer.public.fingerprint, name, now, now, now + 86400, os.urandom(16)),
        serial=now,
        program=program,
        policy=PolicyRef(policy, None, hashlib.sha256(policy.encode()).digest()),
        invocation=Invocation([(True, "everyone", "", 0)]),
    )
    return sign_certificate(certificate, [signer])
