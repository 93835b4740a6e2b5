"""The rule that would permit what an agent was asked about, and its place in a policy file.

An answer holds for a run. The rule is what makes it hold for good, once it is signed: the narrowest
that ``policy review`` would suggest, in the policy that judged the call.
"""

from __future__ import annotations

import json

from certexec.cli.common import printable
from certexec.cli.learn_notes import asked_about
from certexec.cli.own_places import own_places, own_subject
from certexec.cli.policy_input import read_text
from certexec.cli.presets import load_presets
from certexec.cli.replace_file import Target, replace
from certexec.errors import CertexecError
from certexec.kernel.userdb import SystemUsers
from certexec.policy.evaluate import EXECS
from certexec.policy.learn import rule_name
from certexec.policy.review import Review
from certexec.policy.suggestions import for_call
from certexec.run.agent_desk import is_unmatched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.observation import Observation
    from certexec.run.agent import Question


class AnsweredRules:
    """Tells of rules, and appends them to ``file`` where there is one."""

    def __init__(self, file: str | None = None) -> None:
        """Raises CliError and PolicySyntaxError for what is no policy file that can be read."""
        self.file = file
        if file is not None:
            self._review(file, {})

    def told(self, question: Question) -> str:
        """Return what to say when a question was answered with "always", in one line, or ""."""
        seen = _observation(question)
        if seen is None:
            return ""
        rule = _narrowest(seen)
        if self.file is None:
            return f"a rule that permits it: {rule}"
        try:
            return self._append(self.file, seen, rule, is_unmatched(question))
        except CertexecError as error:
            return f'"{printable(self.file)}" stays as it is: {printable(error.message)}'

    def _append(self, file: str, seen: Observation, rule: str, unmatched: bool) -> str:
        target = Target(file)
        review = self._review(file, {seen: 1})
        name = printable(file)
        if review.foreign:
            return f'"{name}" has no policy for "{printable(seen.program)}"; the rule is: {rule}'
        if not review.items or not unmatched:
            return f'a rule in "{name}" decides it; to permit it, write before that: {rule}'
        rule = printable(review.proposal(0))
        review.permit(0)
        replace(target, review.text().encode("utf-8", "surrogateescape"))
        return f'added to "{name}": {rule}'

    def _review(self, file: str, seen: dict[Observation, int]) -> Review:
        return Review(
            read_text(file), name=file, users=SystemUsers(), presets=load_presets(),
            subject=own_subject(), places=own_places(), seen=seen,
        )


def _observation(question: Question) -> Observation | None:
    if "bytes" in question.event:
        return None  # a name that is no text cannot be shown as a rule, and none stands in one
    try:
        return asked_about(json.dumps(question.event))
    except (CertexecError, ValueError, TypeError):
        return None  # whoever asks may say anything


def _narrowest(seen: Observation) -> str:
    name = rule_name(seen)
    condition = for_call(dict(seen.values), own_places(), executes=name in EXECS)[0].condition
    return printable(f"native-{name}: {condition or 'true'} then permit")
