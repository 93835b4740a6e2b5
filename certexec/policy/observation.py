"""What programs were seen to do: the facts that policies are learned from (pure)."""

from __future__ import annotations

from typing import NamedTuple

from certexec.policy.calls import arguments_of, choose_variant, variants
from certexec.policy.translators import TRANSLATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MADE = "made"
"""The call made a directory that was not there before."""
FRESH = "fresh"
"""The call made a file that must not have been there (O_EXCL)."""
MISSING = "missing"
"""What the call named was not there."""

Values = tuple[tuple[str, tuple[str, ...]], ...]


class Observation(NamedTuple):
    """One call, as rules see it. Two of the same are one.

    Attributes:
        program: path of the program whose policy it is for.
        call: Linux's name; variant: which of the things that it can do it did.
        values: argument name to its texts, in the order of the call.
        mark: MADE, FRESH, MISSING or "".
    """

    program: str
    call: str
    variant: str
    values: Values
    mark: str = ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the texts of an argument, none where the call has none of that name."""
        for one, texts in self.values:
            if one == name:
                return texts
        return ()


def frozen(values: Mapping[str, Sequence[str]]) -> Values:
    """Return arguments in the form that observations keep."""
    return tuple((name, tuple(texts)) for name, texts in values.items())


def observed(
    program: str, call: str, registers: Sequence[int], texts: Mapping[str, Sequence[str]] | None,
    mark: str = "",
) -> Observation:  # fmt: skip
    """Return the observation of a call that somebody wrote down.

    ``texts``: None where only the registers are known. Raises KeyError for an unknown call.
    """
    empty = texts is not None and list(texts.get("filename", ())) == [""]
    variant = choose_variant(call, registers, empty_path=empty)
    if texts and variant.bare:
        variant = variants(call)[-1]  # who shows arguments need not show registers
    if texts is None:
        texts = {}
        for argument in arguments_of(call, variant):
            text = TRANSLATORS[argument.name].text(registers[argument.register]) if (
                argument.in_register
            ) else None
            if text is not None:
                texts = {**texts, argument.name: [*texts.get(argument.name, ()), text]}
    return Observation(program, call, variant.label, frozen(texts), mark)
