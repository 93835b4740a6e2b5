"""Which policy counts for which process of a tree, from its first exec to its last.

A process has its parent's policy. An exec gives it the policy of the program that it executes,
unless the rule that permits it or the certificate says otherwise. Nothing here asks who a process
is now: births and execs are told by the guards, before the process concerned can run on.
"""

from __future__ import annotations

from certexec.kernel.procfs import proc, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.policy.evaluate import Verdict
    from certexec.policy.reach import Reach
    from certexec.run.places import Places

OWN = 0
"""The place of the policy of the certificate's own program."""
NONE = -1
"""There is no policy, so there may be no exec."""
CROWD = 4096
"""processes to remember before the dead ones are looked for."""


class Transitions:
    """The places, in ``reach``, of the policies of all processes of one tree.

    Attributes:
        one_policy: all processes have the same one, so that nobody tells of births.
    """

    __slots__ = ("_given_up", "_known", "_places", "inherit", "one_policy", "reach")

    def __init__(
        self, reach: Reach, inherit: bool, one_policy: bool, program: int, known: Places
    ) -> None:
        """``inherit``: what is executed stays under its policy; ``program``: the first process."""
        self._known = known
        self.reach = reach
        self.inherit = inherit
        self._places = {program: OWN}
        self._given_up: set[int] = set()
        self.one_policy = one_policy

    def of(self, process: int) -> int:
        """Return the place of a process's policy; NONE for one that nobody told of."""
        if self.one_policy:
            return OWN
        return self._places.get(process, NONE)

    def born(self, child: int, parent: int) -> None:
        """A process was made. A dead one's number may be used again: this one counts."""
        if len(self._places) >= CROWD:
            self._forget_the_dead()
        self._places[child] = self._places.get(parent, NONE)
        self._given_up.discard(child)
        if parent in self._given_up:
            self._given_up.add(child)

    def give_up(self, process: int) -> None:
        """A process, and all that it starts, asks for no other policy any more."""
        self._given_up.add(process)

    def has_given_up(self, process: int) -> bool:
        """Tell whether it, or who started it, did so."""
        return process in self._given_up

    def after_exec(self, process: int, program: str, verdict: Verdict | None) -> int:
        """Return the place of the policy that holds after an exec, NONE when it must not be.

        ``verdict``: of the outermost policy's rule that permits it; None when that is one that
        permits every exec.
        """
        now = self.of(process)
        layers = self._known.layers.get(now)
        if layers is None:
            return self._after(now, program, verdict)
        # the policies of certificates stay, whatever those around them say
        outermost = self._after(layers[0], program, verdict)
        return outermost if outermost == NONE else self._known.with_outermost(now, outermost)

    def base(self, process: int, verdict: Verdict | None) -> int:
        """Return the place under which a certificate is executed, whose own policy joins it."""
        now = self.of(process)
        layers = self._known.layers.get(now)
        if verdict is None or not verdict.rule.detach:
            return now
        if layers is None:
            return self.reach.detached
        return self._known.with_outermost(now, self.reach.detached)

    def _after(self, now: int, program: str, verdict: Verdict | None) -> int:
        rule = None if verdict is None else verdict.rule
        if rule is not None and rule.detach:
            return self.reach.detached
        if now == self.reach.detached and now >= 0:
            return now  # it was let go, and so is what it executes
        if self.one_policy or self.inherit or (rule is not None and rule.inherit):
            return now
        return self.reach.find(program)

    def executed(self, process: int, place: int) -> None:
        """A process has executed a program and stands before its first instruction."""
        if not self.one_policy:
            self._places[process] = place

    def _forget_the_dead(self) -> None:
        for process in list(self._places):
            try:
                read_file(proc(process, "stat"))
            except OSError:
                del self._places[process]
                self._given_up.discard(process)
