"""All attacks."""

from __future__ import annotations

from tests.escapes.names import NAMES
from tests.escapes.races import RACES

ATTACKS = [*RACES, *NAMES]
