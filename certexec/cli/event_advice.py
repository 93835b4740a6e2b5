"""What is known about an event beside what it says: who denied it, and what would permit it."""

from __future__ import annotations

import pwd
import shlex
import struct

from certexec.cli.event_options import as_json
from certexec.cli.learn_notes import UNSAID_HINT, observations
from certexec.cli.own_places import own_places, own_subject
from certexec.cli.policy_input import read_text
from certexec.cli.presets import load_presets
from certexec.errors import CertexecError, CliError
from certexec.kernel.userdb import SystemUsers
from certexec.observe.event_log import is_permittable, noted_call
from certexec.observe.reading import Seen
from certexec.policy.evaluate import subject_of
from certexec.policy.learn import is_unsaid
from certexec.policy.lexer import PolicySyntaxError
from certexec.policy.question import ask
from certexec.policy.review import Review
from certexec.policy.syntax import parse_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.model import Policy, PolicyFile, Subject
    from certexec.policy.observation import Observation

_WHY = {
    "unmatched": "no rule of its policy permits it",
    "no-policy": "the program has no policy of its own",
    "rule": "a rule of its policy says so",
    "denied": "a rule of its policy says so, by registers alone",
    "ask": "a rule of its policy asks, and that is what came of it",
    "": "the log does not say why: lines of text do not, JSON and the journal do",
}
"""What reasons mean (docs/events.md); any other is certexec's own."""
EMPTY = "Language: certexec 1\nPolicy: {0}, Emulation: {1}\n"


class Adviser:
    """Knows policy files, where some are given."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Read the files. Raises CliError."""
        self._users = SystemUsers()
        self._presets = load_presets()
        self._files: list[tuple[str, str, PolicyFile]] = []
        for name in names:
            text = read_text(name)
            try:
                self._files.append((name, text, self._parse(text, name)))
            except PolicySyntaxError as error:
                raise CliError("unreadable", error.message, error.hint) from None

    def _parse(self, text: str, name: str) -> PolicyFile:
        return parse_policy(
            text, name=name, users=self._users, privileged=True, presets=self._presets
        )

    def advise(self, seen: Seen) -> tuple[list[str], str]:
        """Return what is known, in lines, and a line that is worth copying.

        That is the narrowest rule that would permit the call, else the event as JSON.
        """
        if seen.text("event") != "call":
            return [], as_json(seen)
        verdict, reason = seen.text("verdict"), seen.text("reason")
        why = _WHY.get(reason.partition(":")[0], f"certexec itself, for its reason {reason!r}")
        asked = f" ({reason})" if ":" in reason else ""
        lines = [f"{verdict}: {why}{asked}"]
        found = self._policy_of(seen)
        try:
            (one,) = observations([noted_call(seen)], inherit=False, resolve=False)
        except (CertexecError, ValueError, struct.error):
            return [*lines, "what it was about is not known well enough for a rule"], as_json(seen)
        if found is not None:
            lines += self._decision(*found, one, seen)
        if not is_permittable(seen):
            if verdict != "permit" and found is None and reason in ("rule", "denied"):
                lines.append('"--policy FILE", the policy it runs under, shows which one')
            return lines, as_json(seen)
        if is_unsaid(one):
            return [*lines, "the log does not say what it was about: no rule for it alone can be",
                    f"made; {UNSAID_HINT}"], as_json(seen)  # fmt: skip
        told, copied = self._permitting(found, one, seen)
        # what does not print is written otherwise in a policy than on the screen
        return lines + told, copied if copied.isprintable() and copied else as_json(seen)

    def _policy_of(self, seen: Seen) -> tuple[str, str, Policy] | None:
        whose = seen.text("policy") or seen.text("program")
        for name, text, file in self._files:
            found = file.policy_for(whose)
            if found is not None:
                return name, text, found
        return None

    def _decision(
        self, name: str, _text: str, policy: Policy, one: Observation, seen: Seen
    ) -> list[str]:
        """Say what the given policy makes of it now."""
        call = f"{one.call}:{one.variant}" if one.variant else one.call
        try:
            answer = ask(policy, call, dict(one.values), self._subject(seen))
        except CertexecError as error:
            return [f"{name}: {error.message}"]
        if answer.rule is None:
            return [f'{name}: no rule for "{policy.path}" applies']
        return [f"{name}({answer.rule.line}): {answer.rule.told}"]

    def _subject(self, seen: Seen) -> Subject:
        """Return whose call it was, as far as this machine knows them."""
        uid = seen.members.get("uid")
        try:
            known = (
                pwd.getpwuid(uid) if isinstance(uid, int) and uid >= 0
                else pwd.getpwnam(seen.text("user"))
            )
        except (KeyError, ValueError, OverflowError):
            return own_subject()
        return subject_of(
            known.pw_uid, known.pw_gid, home=known.pw_dir, user=known.pw_name, cwd="/"
        )

    def _permitting(
        self, found: tuple[str, str, Policy] | None, one: Observation, seen: Seen
    ) -> tuple[list[str], str]:
        """Say which rules would permit it, from narrow to wide."""
        program = seen.text("policy") or seen.text("program")
        name, text = ("POLICY", "") if found is None else found[:2]
        if found is None:
            text = EMPTY.format(program, seen.text("emulation") or "native")
        try:
            review = Review(
                text, name=name, users=self._users, presets=self._presets,
                subject=self._subject(seen), places=own_places()._replace(cwd=""),
                seen={one._replace(program=program): 1},
            )  # fmt: skip
        except CertexecError:
            return ["its program has a name that no policy can have"], ""
        item = review.current
        if item is None:
            return [f"{name} has a rule for it by now: sign it anew"], ""
        lines = ["", f'what would permit it, in the policy for "{program}":']
        rules = [review.proposal(place) for place in range(len(item.suggestions))]
        for rule, each in zip(rules, item.suggestions, strict=True):
            warning = f" - {each.warning}" if each.warning else ""
            lines += [f"  {rule}", f"      # {each.kind}: {each.allows}{warning}"]
        shown = shlex.quote(name) if found is not None else name
        lines += [
            "", "w writes the events to a FILE; then ask yourself about each, or take all:",
            f"  certexec policy review --log FILE {shown}",
            f"  certexec learn -a -o {shown} --from-log FILE",
        ]
        return lines, rules[0]
