"""The rule that would permit what an agent was asked about, and its place in a policy file.

An answer holds for a run. The rule is what makes it hold for good, once it is signed: the narrowest
that ``policy review`` would suggest, in the policy that judged the call, with $HOME for the home of
who answers, as learned rules have it.
"""

from __future__ import annotations

import contextlib
import json
import os

from certexec.cli.common import printable
from certexec.cli.learn_notes import asked_about
from certexec.cli.own_places import own_places, own_subject
from certexec.cli.policy_input import read_text
from certexec.cli.presets import load_presets
from certexec.cli.replace_file import ChangedError, Target, replace
from certexec.errors import CertexecError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.evaluate import EXECS, effective_rules, evaluate
from certexec.policy.learn import rule_name
from certexec.policy.review import Review
from certexec.policy.suggestions import HOME, for_call
from certexec.policy.syntax import parse_policy
from certexec.run.agent_desk import is_unmatched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from certexec.policy.model import Policy
    from certexec.policy.observation import Observation
    from certexec.policy.suggestions import Suggestion
    from certexec.run.agent import Question


_TRIES = 100
"""times that a file is read once more since somebody else added to it"""


class AnsweredRules:
    """Tells of rules, and appends them to ``file`` where there is one."""

    def __init__(self, file: str | None = None) -> None:
        """Raises CliError and PolicySyntaxError for what is no policy file that can be read."""
        self.file = file
        self._added: dict[str, list[str]] = {}
        self._policies: dict[str, Policy] = {}
        if file is not None:
            self._review(file, {})

    def told(self, question: Question) -> str:
        """Return what to say when a question was answered with "always", in one line, or ""."""
        seen = observation_of(question)
        if seen is None:
            return ""
        rule = _narrowest(seen)
        if self.file is None:
            return f"a rule that permits it: {rule}"
        try:
            for _ in range(_TRIES):
                with contextlib.suppress(ChangedError):
                    return self._append(self.file, seen, rule, is_unmatched(question))
            return self._append(self.file, seen, rule, is_unmatched(question))
        except CertexecError as error:
            return f'"{printable(self.file)}" stays as it is: {printable(error.message)}'

    def permits(self, question: Question) -> bool:
        """Tell whether a rule that was added here permits a call, of which no other rule speaks.

        The rule is about more than the call that was asked about: who let a program write a file
        need not say so again when it looks at it. Never where memory has not been judged, or for
        the calls of another user.
        """
        event = question.event
        if question.by_registers or event.get("as") or event.get("uid") != os.getuid():
            return False
        seen = observation_of(question) if is_unmatched(question) else None
        policy = None if seen is None else self._policies.get(seen.program)
        if seen is None or policy is None:
            return False
        rules = effective_rules(policy, seen.call, seen.variant)
        verdict = evaluate(rules, dict(seen.values), own_subject())
        return verdict is not None and verdict.action == "permit"

    def _append(self, file: str, seen: Observation, rule: str, unmatched: bool) -> str:
        target = Target(file)
        review = self._review(file, {seen: 1})
        name = printable(file)
        if review.foreign:
            return f'"{name}" has no policy for "{printable(seen.program)}"; the rule is: {rule}'
        if not review.items or not unmatched:
            return f'a rule in "{name}" decides it; to permit it, write before that: {rule}'
        place = _chosen(review.items[0].suggestions)
        rule = review.proposal(place)
        review.permit(place)
        replace(target, review.text().encode("utf-8", "surrogateescape"))
        self._note(seen.program, rule)
        return f'added to "{name}": {printable(rule)}'

    def _note(self, program: str, rule: str) -> None:
        """Remember a rule that was added, with those before it."""
        added = self._added.setdefault(program, [])
        added.append(rule)
        lines = [f"Policy: {program}, Emulation: native", *added]
        self._policies[program] = parse_policy(
            "".join(line + "\n" for line in lines), name="added", users=SystemUsers(),
            privileged=True,
        ).policies[0]

    def _review(self, file: str, seen: dict[Observation, int]) -> Review:
        return Review(
            read_text(file), name=file, users=SystemUsers(), presets=load_presets(),
            subject=own_subject(), places=own_places(), seen=seen,
        )


def observation_of(question: Question) -> Observation | None:
    """Return what a question is about; None: it says nothing that a rule could be made of."""
    if "bytes" in question.event:
        return None  # a name that is no text cannot be shown as a rule, and none stands in one
    try:
        return asked_about(json.dumps(question.event))
    except (CertexecError, ValueError, TypeError):
        return None  # whoever asks may say anything


def _narrowest(seen: Observation) -> str:
    name = rule_name(seen)
    made = for_call(dict(seen.values), own_places(), executes=name in EXECS)
    condition = made[_chosen(made)].condition
    return printable(f"native-{name}: {condition or 'true'} then permit")


def _chosen(suggestions: Sequence[Suggestion]) -> int:
    """Return the place of the one to take: the same for everybody's home, else the narrowest."""
    return next((at for at, one in enumerate(suggestions) if one.kind == HOME), 0)
