"""One attack, declared: the program, what it wants, its policy, and the defence that stops it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Attack:
    """An attack program under a certificate, played many rounds in one run.

    Attributes:
        name: what it does, GROUP/MEANS; wants: what the policy forbids and it tries to get.
        program: "race" or "abi32" (C, see play.SOURCES) or the name of a Python file in programs/.
        arguments: the program's KIND, GOAL and what follows GOOD and EVIL, as templates.
        rules: of its policy, written without "native-"; every other call is permitted.
        without: calls that no rule permits; policies: more in the certificate's file, each
            (program, rules, ...).
        lines: of the policy, beyond systrace's language, right after its header.
        inside: certificates that are signed beforehand, (program, options, rules) each; their
            paths are <INSIDE0>, <INSIDE1>.
        agent: how an agent of the invoker's answers meanwhile (programs/agent.py); "" for none.
        options: of "certexec sign"; uid: who runs it.
        opens: only what lies in the permitted place may be opened besides what programs need.
        defence: the mutation with which it must succeed; "" where the kernel itself is the defence.
        kernel: what of the kernel stops it, where ``defence`` is "": then it must succeed bare.
        races: permitted and forbidden things take turns, so both must be seen in a run.
        before: Python code that is run before the certificate is; a template, too.
        env: environment variables of whoever runs the certificate; templates, too.
        chances: rounds within which it must succeed without the defence.
        needs: a path that the machine must have.
        act: what the stage does meanwhile (tests.escapes.play.ACTS).
        native: the rules are those of the 32-bit ABI, and these stand in their place in the part
            for x86-64; None: there is no part for that ABI.
    """

    def __init__(
        self,
        name: str,
        wants: str,
        program: str,
        arguments: Sequence[str],
        defence: str = "",
        **options: Any,
    ) -> None:
        self.name = name
        self.wants = wants
        self.program = program
        self.arguments = tuple(arguments)
        self.defence = defence
        self.rules: Sequence[str] = options.pop("rules", ())
        self.without: Sequence[str] = options.pop("without", ())
        self.policies: Sequence[str] = options.pop("policies", ())
        self.options: Sequence[str] = options.pop("options", ())
        self.uid: int | None = options.pop("uid", None)
        self.opens: bool = options.pop("opens", True)
        self.kernel: str = options.pop("kernel", "")
        self.races: bool = options.pop("races", False)
        self.before: str = options.pop("before", "")
        self.env: dict[str, str] = options.pop("env", {})
        self.lines: Sequence[str] = options.pop("lines", ())
        self.inside: Sequence[tuple[str, Sequence[str], Sequence[str]]] = options.pop("inside", ())
        self.agent: str = options.pop("agent", "")
        self.chances: int = options.pop("chances", 5000)
        self.needs: str = options.pop("needs", "")
        self.act: str = options.pop("act", "")
        self.native: Sequence[str] | None = options.pop("native", None)
        assert not options, options
        assert bool(self.defence) != bool(self.kernel), name
