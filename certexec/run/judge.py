"""From a prepared call to a verdict: which rules, in which order, and what is written down."""

from __future__ import annotations

import time

from certexec.kernel.procfs import executed_by
from certexec.kernel.userdb import SystemUsers
from certexec.observe.event import Event
from certexec.observe.rate import Folding
from certexec.observe.sinks import machine_sinks
from certexec.policy.evaluate import (
    UNMATCHED_ASK,
    Verdict,
    effective_rules,
    evaluate,
    subject_of,
)
from certexec.policy.model import Subject, symbols
from certexec.run.narrowing import Narrowing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from certexec.kernel.notify import Notification
    from certexec.observe.sink import Sink
    from certexec.policy.model import Rule
    from certexec.run.call import Call
    from certexec.run.operations import Operation
    from certexec.run.places import Places

NAMES_MAX = 1000
"""users whose names are kept; a program with CAP_SETUID may become any."""
VERDICTS_MAX = 512
"""verdicts that are kept, before all are forgotten."""
TEXT_MAX = 512
"""characters of arguments; verdicts on longer ones are not kept."""


class Judge:
    """The policies that one program tree can get to, and the log of what they denied.

    ``Call.place`` tells which of them counts for a call.
    """

    def __init__(
        self,
        places: Places,
        program: str,
        certificate: str,
        cwd: str,
        sinks: Sequence[Sink],
    ) -> None:
        self.policies = places.policies
        self.layers = places.layers
        self.program = program
        self.certificate = certificate
        self.cwd = cwd
        self.folding = Folding(sinks, machine_sinks)
        self.narrowing = Narrowing(self)
        self._names: dict[int, str] = {}
        self._users = SystemUsers()
        self._rules: dict[tuple[int, str, str], Sequence[Rule]] = {}
        self._subjects: dict[tuple[int, int], Subject] = {}
        # evaluate() looks at nothing but these texts and the subject: no file, no clock
        self._verdicts: dict[tuple[object, ...], Verdict | Judge | None] = {}

    def of(self, place: int) -> Sequence[int]:
        """Return the places of the policies that count there, the outermost first."""
        return self.layers.get(place) or (place,)

    def subject(self, call: Call) -> Subject:
        """Return whom the rules see: the program's real ids, as in systrace, home and name."""
        rights = call.rights
        ids = (rights.uids[0], rights.gids[0])
        known = self._subjects.get(ids)
        if known is None:
            known = self._subjects[ids] = _Subject(*ids, self.cwd, self._users)
        return known

    def judge(self, operation: Operation) -> Verdict | None:
        """Return the verdict of the first rule that matches, None when none does.

        Where several policies count, that of the first which does not permit, else the last one's.
        """
        layers = self.layers.get(operation.call.place)
        if layers is None:
            verdict = operation.outermost = self._by(operation, operation.call.place)
            return verdict
        operation.outermost = verdict = asked = None
        for place in layers:
            if self.policies[place].detached:
                continue
            verdict = self._by(operation, place)
            if place == layers[0]:
                operation.outermost = verdict
            if verdict is not None and verdict.action == "ask":
                asked = asked or verdict  # an answer counts only where all others permit
            elif verdict is None or verdict.action != "permit":
                return verdict
        return asked or verdict

    def _by(self, operation: Operation, place: int) -> Verdict | None:
        call, values = operation.call, operation.values
        subject = self.subject(call)
        texts_of_each = map(tuple, values.values())
        question = (place, call.name, operation.variant, subject, *values, *texts_of_each)
        known = self._verdicts.get(question, self)
        if not isinstance(known, Judge):
            return known
        verdict = evaluate(self._rules_for(operation, place), values, subject)
        if sum(len(text) for texts in values.values() for text in texts) <= TEXT_MAX:
            if len(self._verdicts) >= VERDICTS_MAX:
                self._verdicts.clear()
            self._verdicts[question] = verdict
        return verdict

    def asks_for(self, operation: Operation, argument: str) -> bool:
        """Tell whether a rule for this use of the call asks for an argument of that name.

        Or an agent may be asked about it, who is told all that there is.
        """
        rules = [
            rule for place in self.of(operation.call.place)
            for rule in (
                *self._rules_for(operation, place),
                *(after.rule for after in self.policies[place].afters),
            )
        ]
        return UNMATCHED_ASK in rules or any(
            symbol.argument.lower() == argument
            for rule in rules for symbol in symbols(rule.expression)
        )

    def user_name(self, uid: int) -> str:
        """Return a user's name as it stands in rules, ``<unknown>`` for a number without one."""
        return self._users.name(uid) or "<unknown>"

    def _rules_for(self, operation: Operation, place: int) -> Sequence[Rule]:
        key = place, operation.call.name, operation.variant
        rules = self._rules.get(key)
        if rules is None:
            policy = self.policies[place]
            rules = self._rules[key] = effective_rules(policy, key[1], operation.variant)
        return rules

    def log(
        self,
        call: Call,
        verdict: str,
        reason: str,
        code: int,
        values: Mapping[str, Sequence[str]] | None = None,
        elevated: str = "",
    ) -> None:
        """Write one event down, or count it where it is one of many.

        ``elevated``: as whom the call is made, "" for the caller.
        """
        self.folding.write(self.event(call, verdict, reason, code, values, elevated))

    def event(
        self,
        call: Call,
        verdict: str,
        reason: str,
        code: int,
        values: Mapping[str, Sequence[str]] | None = None,
        elevated: str = "",
    ) -> Event:
        """Return the same event."""
        arguments = [
            (name if index == 0 else f"{name}[{index}]", text)
            for name, texts in (values or {}).items()
            for index, text in enumerate(texts)
        ]
        uid = call.status.uids[0]
        policy = self.policies[call.place]
        return Event(
            time=time.time(),
            verdict=verdict,
            reason=reason,
            user=self._name(uid),
            uid=uid,
            program=executed_by(call.task.tgid) or self.program,
            pid=call.task.tgid,
            ppid=call.status.ppid,
            policy=policy.path,
            filters=len(policy.rules),
            emulation=policy.emulation,
            syscall=call.name,
            number=call.number,
            arguments=arguments,
            raw=raw_arguments(call.notification),
            errno=code,
            certificate=self.certificate,
            elevated=elevated,
        )

    def note(self, text: str) -> None:
        """Write a line about certexec itself."""
        self.folding.note(text)

    def _name(self, uid: int) -> str:
        name = self._names.get(uid)
        if name is None:
            if len(self._names) >= NAMES_MAX:
                self._names.clear()
            name = self._names[uid] = self._users.name(uid) or str(uid)
        return name


class _Subject(Subject):
    """Whom the rules see; home and name are looked up when a rule asks for one of them."""

    __slots__ = ("_users",)

    def __init__(self, uid: int, gid: int, cwd: str, users: SystemUsers) -> None:
        self.uid = uid
        self.gid = gid
        self.cwd = cwd
        self._users = users

    def __getattr__(self, name: str) -> str:  # only for what is not there yet
        if name not in ("home", "user"):
            raise AttributeError(name)
        home, user = self._users.home(self.uid), self._users.name(self.uid)
        whole = subject_of(self.uid, self.gid, home=home, user=user, cwd=self.cwd)
        self.home, self.user = whole.home, whole.user
        return whole.home if name == "home" else whole.user


def raw_arguments(notification: Notification) -> bytes:
    """Return the argument registers as bytes, as systrace logged calls without translators."""
    return b"".join(word.to_bytes(8, "little") for word in notification.args)
