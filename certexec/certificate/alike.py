"""Payloads of which many are alike but for their serial: what they share is decoded once.

A tree of certificates holds the same program with the same policy many times, and signing them
anew changes the serial alone. It stands at a fixed place, before all that is long: whatever follows
it was in the strict form once, so it still is behind another serial in the strict form.
"""

from __future__ import annotations

from certexec.certificate import codec
from certexec.certificate.model import VERSION, Certificate
from certexec.errors import CertificateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from certexec.certificate.model import Claims

BEGINNING = bytes((0, VERSION, 1))
"""The entry for the version and the key of the serial, behind the head of the map."""
SERIAL = 1 + len(BEGINNING)
"""Where the serial stands: the head of a map of so few entries is one byte."""
KEPT_MAX = 4 << 20
"""bytes of payloads that are remembered; beyond it all are forgotten at once."""


class Alike:
    """Reads payloads, and remembers what follows the serials. The results share that."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, bytes], Certificate] = {}
        self._size = 0

    def certificate(self, payload: bytes, claims: Claims) -> Certificate:
        """Return what ``Certificate.from_payload`` makes of it; raises as that and ``decode`` do.

        Nobody may change what is returned.
        """
        end = _end_of_serial(payload)
        rest = payload[0:1], payload[end:]
        known = self._kept.get(rest) if end else None
        if known is not None:
            try:
                serial = codec.decode(payload[SERIAL:end])
            except CertificateError:
                pass  # what follows says where in the payload it is wrong
            else:
                assert type(serial) is int
                return known.with_serial(serial, claims)
        fresh = Certificate.from_payload(codec.decode(payload), claims)
        if end:
            if self._size > KEPT_MAX:
                self._kept.clear()
                self._size = 0
            self._size += len(payload)
            self._kept[rest] = fresh
        return fresh


def _end_of_serial(payload: bytes) -> int:
    """Return where the serial ends; 0 where none stands where it always does."""
    if payload[1:SERIAL] != BEGINNING or len(payload) <= SERIAL:
        return 0
    head = payload[SERIAL]
    return SERIAL + 1 + (0 if head < 24 else 1 << (head - 24)) if head < 28 else 0
