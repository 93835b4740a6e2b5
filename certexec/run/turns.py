"""Whose turn it is: requests of several users, none of whom can make the others wait (pure).

Each user has a queue of their own, and the queues take turns. A user whose queue is full, or who
has too many programs running, is not served here; their requests cost only themselves then.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Generic, TypeVar

    Item = TypeVar("Item")
else:
    Item = "Item"

    class Generic:
        """Only for the type checker; the run path does not load typing."""

        def __class_getitem__(cls, item: object) -> type:
            return cls


WAITING_MAX = 1000
"""requests of one user that may wait: better than as many servers of their own at once."""
ALL_MAX = 10000
"""requests of all users; each holds two descriptors."""
RUNNING_MAX = 2000
"""supervised programs of one user, root excepted; a machine has some 30,000 process numbers."""
ROOT = 0


def with_their_share(starting: Iterable[int], slots: int) -> set[int]:
    """Return the users who hold half of the slots for starts, or more; root may have all.

    ``starting``: the user of each start that is on its way. Whoever stops what they start holds a
    slot for as long as a start may take, and another one after that: never all of them.
    """
    held: dict[int, int] = {}
    for uid in starting:
        held[uid] = held.get(uid, 0) + 1
    return {uid for uid, count in held.items() if uid != ROOT and count >= max(1, slots // 2)}


class Turns(Generic[Item]):
    """Requests that wait, in the order in which they are served.

    Attributes:
        waiting: how many.
    """

    __slots__ = ("_queues", "_running", "waiting")

    def __init__(self) -> None:
        self._queues: dict[int, list[Item]] = {}
        self._running: dict[int, int] = {}
        self.waiting = 0

    def add(self, uid: int, item: Item) -> bool:
        """Let a request of ``uid`` wait; False when that user has had enough."""
        queue = self._queues.get(uid)
        if not self.may_run(uid) or self.waiting >= ALL_MAX:
            return False
        if queue is None:
            queue = self._queues[uid] = []  # goes to the end of the round
        elif len(queue) >= WAITING_MAX:
            return False
        queue.append(item)
        self.waiting += 1
        return True

    def may_run(self, uid: int) -> bool:
        """Tell whether a user may have one more program running."""
        return uid == ROOT or self._running.get(uid, 0) < RUNNING_MAX

    def next(self, enough: Collection[int] = ()) -> tuple[int, Item] | None:
        """Take the next request out, with its user; that user's next one comes after all others.

        ``enough``: users who are passed over, and keep their place. None: there is nobody else.
        """
        for uid in self._queues:
            if uid in enough:
                continue
            queue = self._queues.pop(uid)
            item = queue.pop(0)
            if queue:
                self._queues[uid] = queue
            self.waiting -= 1
            return uid, item
        return None

    def started(self, uid: int) -> None:
        """Count a program of ``uid``."""
        self._running[uid] = self._running.get(uid, 0) + 1

    def ended(self, uid: int) -> None:
        """Count one less."""
        left = self._running.get(uid, 0) - 1
        if left > 0:
            self._running[uid] = left
        else:
            self._running.pop(uid, None)
