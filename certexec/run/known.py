"""What the resident server has judged before, so that the next start finds it done.

Nothing is believed because it was true once. What is kept is the result of pure computations, by
all that went into them: signatures by the certificate's bytes and the keys that counted, policies
by their text and each name that was looked up, filters by certificate, policy and place. The keys
themselves are those of the trust store only while every file and directory that was judged then
still is the same object, unchanged (``_standing``). Time, invoker and files are judged every time.
"""

from __future__ import annotations

import os
import time

from certexec.certificate.model import check_enforceable
from certexec.certificate.verify import check_moment, verify_certificate
from certexec.kernel.ownership import root_owners
from certexec.kernel.userdb import SystemUsers
from certexec.policy.syntax import parse_policy
from certexec.run.proven import Proven
from certexec.trust.store import load_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeVar

    from certexec.certificate.model import Certificate
    from certexec.certificate.verify import Verified
    from certexec.policy.compile import Compiled
    from certexec.policy.model import PolicyFile
    from certexec.policy.reach import Reach
    from certexec.run.identity import Permitted
    from certexec.run.inside import Look
    from certexec.trust.store import TrustedKey

    PlanKey = tuple[int, int, int, int, int, int]
    Standing = list[tuple[int, ...]]
    Key = TypeVar("Key")
    Value = TypeVar("Value")

KEPT_MAX = 64
"""certificates; each holds some 300 kB, mostly its policy's rules."""
SETTLED = 1_000_000_000
"""nanoseconds without a change before a file's times tell every later one: file systems count in
ticks of up to 10 ms, or in seconds."""


class Store:
    """A trust store as it was read once: ``paths`` are all files and directories that counted."""

    __slots__ = ("keys", "paths", "standing", "verified")

    def __init__(self, keys: Mapping[bytes, TrustedKey], paths: list[str]) -> None:
        self.keys = keys
        self.paths = paths
        self.standing: Standing | None = None
        self.verified: dict[bytes, Verified] = {}


class Confinement:
    """The filter for one certificate in one place; ``looked``: names that were no certificates."""

    __slots__ = ("certificate", "compiled", "file", "looked", "reach")

    def __init__(
        self, certificate: Certificate, file: PolicyFile, reach: Reach, compiled: Compiled,
        looked: list[str],
    ) -> None:  # fmt: skip
        self.certificate = certificate  # kept, so that their ids stay theirs
        self.file = file
        self.reach = reach
        self.compiled = compiled
        self.looked = looked


class Known:
    """The memory of one resident server; its children start with a copy.

    Attributes:
        fresh: what this process had to compute itself: the certificate's bytes, the policy's text
            and the place, in case somebody else wants to learn it; None where all was known.
        owners: who counts as root here; proven: programs that this process has hashed.
    """

    __slots__ = (
        "_confinements", "_data", "_inside", "_plans", "_policies", "_stores", "_text", "fresh",
        "owners", "proven",
    )  # fmt: skip

    def __init__(self) -> None:
        self.owners = root_owners()
        self.proven = Proven()
        self._stores: dict[tuple[str, frozenset[int]], Store] = {}
        self._policies: dict[tuple[str, str], tuple[PolicyFile, list[Lookup]]] = {}
        self._inside: dict[int, tuple[Certificate, str, str]] = {}
        self._plans: dict[PlanKey, tuple[Certificate, Compiled, bytes]] = {}
        self._confinements: dict[tuple[int, int, tuple[bool, ...]], Confinement] = {}
        self._data = b""
        self._text = ""
        self.fresh: tuple[bytes, str, tuple[bool, ...]] | None = None

    def verify(self, data: bytes, path: str, owners: frozenset[int]) -> Verified:
        """Prove a certificate's bytes against a trust store, now. Raises CertexecError."""
        store = self._store(path, owners)
        self._data = data
        found = store.verified.get(data)
        now = int(time.time())
        if found is None:
            found = verify_certificate(data, store.keys, now)
            check_enforceable(found.certificate)
            _keep(store.verified, data, found)
        else:
            claims = found.certificate.claims
            check_moment(claims.nbf, claims.exp, now)
        return found

    def policy(self, text: str, name: str) -> PolicyFile:
        """Parse the text of a policy whose digest was compared. Raises PolicyError."""
        self._text = text
        found = self._policies.get((text, name))
        if found is not None and all(one.still_holds() for one in found[1]):
            return found[0]
        users = Lookups()
        file = parse_policy(text, name=name, users=users, privileged=True)
        _keep(self._policies, (text, name), (file, users.made))
        return file

    def policy_inside(self, certificate: Certificate) -> PolicyFile | None:
        """Return the policy whose text stands in a certificate, where its digest was compared."""
        found = self._inside.get(id(certificate))
        if found is None:
            return None
        _, self._text, name = found
        kept = self._policies.get((self._text, name))
        if kept is None or not all(one.still_holds() for one in kept[1]):
            return None
        return kept[0]

    def keep_policy_inside(self, certificate: Certificate, text: str, name: str) -> None:
        """Remember that a certificate's digest is that of the policy which stands in it."""
        # the certificate too, so that its id stays its own
        _keep(self._inside, id(certificate), (certificate, text, name))

    def plan(self, certificate: Certificate, compiled: Compiled, permitted: Permitted) -> bytes:
        """Return the encoded plan that was made of these before; b"" where there is none."""
        found = self._plans.get(_plan_key(certificate, compiled, permitted))
        return b"" if found is None else found[2]

    def keep_plan(
        self, certificate: Certificate, compiled: Compiled, permitted: Permitted, plan: bytes
    ) -> None:
        """Remember a plan that was made of nothing but these; no grant's, whose ids are all."""
        key = _plan_key(certificate, compiled, permitted)
        _keep(self._plans, key, (certificate, compiled, plan))

    def confinement(
        self, certificate: Certificate, file: PolicyFile, place: tuple[bool, ...], look: Look | None
    ) -> Confinement | None:
        """Return the filter for ``certificate``, if it is known and nothing it names changed."""
        found = self._confinements.get((id(certificate), id(file), place))
        if found is None or look is not None and any(look(name) for name in found.looked):
            self.fresh = self._data, self._text, place
            return None
        return found

    def keep(
        self, certificate: Certificate, file: PolicyFile, place: tuple[bool, ...], reach: Reach,
        compiled: Compiled, looked: list[str],
    ) -> None:  # fmt: skip
        """Remember a filter, and the names that were looked at and are no certificates."""
        found = Confinement(certificate, file, reach, compiled, looked)
        _keep(self._confinements, (id(certificate), id(file), place), found)

    def _store(self, path: str, owners: frozenset[int]) -> Store:
        """Return the trust store, read anew unless all of it stands as it stood. Raises TrustError.

        1. what stood there before it was read, and still does afterwards, is what was read;
        2. only if nothing had changed a moment before: a later change shows in its times then.
        """
        known = self._stores.get((path, owners))
        if known is not None and known.standing == _standing(known.paths):
            return known
        moment = time.time_ns()
        paths = _paths(path)
        before = _standing(paths)
        keys = {one.key.kid: one for one in load_store(path, owner_ok=owners)}
        store = Store(keys, paths)
        settled = all(times[-1] < moment - SETTLED for times in before or ())
        if before is not None and settled and before == _standing(paths):
            store.standing = before
            self._stores[path, owners] = store
        return store


class Lookup:
    """One question about a user or group, and its answer."""

    __slots__ = ("answer", "asked", "what")

    def __init__(self, what: str, asked: str | int) -> None:
        self.what = what
        self.asked = asked
        self.answer = self._ask()

    def _ask(self) -> object:
        return getattr(SystemUsers(), self.what)(self.asked)

    def still_holds(self) -> bool:
        """Ask again."""
        return self._ask() == self.answer


class Lookups(SystemUsers):
    """The users of this machine; notes what was asked.

    Attributes:
        made: the questions.
    """

    __slots__ = ("made",)

    def __init__(self) -> None:
        self.made: list[Lookup] = []

    def _note(self, what: str, asked: str | int) -> object:
        self.made.append(Lookup(what, asked))
        return self.made[-1].answer

    def uid(self, name: str) -> int | None:
        """As SystemUsers."""
        return self._note("uid", name)  # type: ignore[return-value]

    def gid(self, name: str) -> int | None:
        """As SystemUsers."""
        return self._note("gid", name)  # type: ignore[return-value]

    def name(self, uid: int) -> str | None:
        """As SystemUsers."""
        return self._note("name", uid)  # type: ignore[return-value]

    def group_name(self, gid: int) -> str | None:
        """As SystemUsers."""
        return self._note("group_name", gid)  # type: ignore[return-value]

    def home(self, uid: int) -> str | None:
        """As SystemUsers."""
        return self._note("home", uid)  # type: ignore[return-value]


def _plan_key(certificate: Certificate, compiled: Compiled, permitted: Permitted) -> PlanKey:
    one = permitted
    return id(certificate), id(compiled), one.uid, one.euid, one.gid, one.egid


def _keep(memory: dict[Key, Value], key: Key, value: Value) -> None:
    if len(memory) >= KEPT_MAX:
        del memory[next(iter(memory))]
    memory[key] = value


def _paths(directory: str) -> list[str]:
    """Name a store's directory, those above it, and what is in it; [] where it cannot be listed."""
    try:
        paths = [f"{directory}/{name}" for name in sorted(os.listdir(directory))]
    except OSError:
        return []
    while True:
        paths.append(directory)
        if directory == "/":
            return paths
        directory = os.path.dirname(directory)


def _standing(paths: list[str]) -> Standing | None:
    """Tell objects and their last changes apart; None when one is missing, or there are none.

    Owner, mode, ACL, content and a directory's names do not change without the last number.
    """
    found: Standing = []
    try:
        for path in paths:
            info = os.stat(path, follow_symlinks=False)
            found.append((info.st_dev, info.st_ino, info.st_mode, info.st_uid, info.st_ctime_ns))
    except OSError:
        return None
    return found or None
