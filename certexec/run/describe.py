"""What a call was about that is denied whatever it is about: for the log alone.

Such a denial is certain from the registers, so its arguments are not judged. Whoever reads the log,
or learns from it, wants to know them all the same. They are found out by the very code that
prepares calls for judging, and nothing that comes of it has a say in the answer: not even that
there is no such file.
"""

from __future__ import annotations

from certexec.policy.evaluate import EXECS
from certexec.run.call import Fault, GoneError
from certexec.run.emulate_names import wants_real_ids
from certexec.run.execution import Execution
from certexec.run.operation_table import OPERATIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from certexec.run.call import Call
    from certexec.run.supervisor import Supervisor


def describe(supervisor: Supervisor, call: Call) -> Mapping[str, Sequence[str]]:
    """Return the texts of a call's arguments, as rules see them; none where they are not known.

    With the caller's rights, as when it is judged: a log may not tell whom it does not concern
    where links lead that the caller cannot follow.
    """
    prepare = Execution if call.name in EXECS else OPERATIONS.get(call.name)
    if prepare is None or call.hidden:
        return {}
    call.look = None  # which denies for what a name looks like: it is denied already
    mask = supervisor.mask
    try:
        if not supervisor.home.is_home_of(call):
            return {}
        call.task.mask = mask
        mask.assume(call.rights, wants_real_ids(call))
        try:
            operation = prepare(call, supervisor.resolver)
        finally:
            mask.restore()
        try:
            call.check()
            return operation.values
        finally:
            operation.close()
    except (Fault, GoneError, OSError):
        return {}
