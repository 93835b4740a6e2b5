"""What the classes of the model have in common: equality, a readable form, optional fields."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


def optional(mapping: dict[int, object], key: int, check: Callable[[object], T]) -> T | None:
    """Check an optional field; absent is None, but an explicit null is no value."""
    return check(mapping[key]) if key in mapping else None


def put(mapping: dict[int, object], key: int, value: object) -> None:
    """Write an optional field: None is left out."""
    if value is not None:
        mapping[key] = value


class Record:
    """Gives the classes below equality and a readable form by their slots."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({shown})"
