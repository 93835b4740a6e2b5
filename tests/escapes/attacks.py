"""All attacks."""

from __future__ import annotations

from tests.escapes.abi32 import ABI32
from tests.escapes.lent import ASKED, ELEVATED
from tests.escapes.losses import DOMAIN, INSIDE, LOST
from tests.escapes.names import NAMES
from tests.escapes.races import RACES
from tests.escapes.system import KERNEL, SUPERVISOR
from tests.escapes.trees import TREES

ATTACKS = [
    *RACES, *NAMES, *SUPERVISOR, *KERNEL, *TREES, *ELEVATED, *ASKED, *LOST, *INSIDE, *DOMAIN,
    *ABI32,
]  # fmt: skip
