"""Write man/certexec-reasons.7 from the table in certexec/reasons.py."""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "man" / "certexec-reasons.7"
HEAD = """\
.\\" Written by tools/generate_reasons.py from certexec/reasons.py
.Dd November 21, 2026
.Dt CERTEXEC-REASONS 7
.Os
.Sh NAME
.Nm certexec-reasons
.Nd why certexec refuses
.Sh DESCRIPTION
Every refusal carries one of these words: in parentheses on standard error, as
.Ql reason
in JSON, and in logs.
The words are stable.
The number is the exit status when a certificate is executed:
126 for a refusal, 127 for what does not exist, 125 for a fault of certexec's own.
Other commands end with 1 when the answer is no and with 2 when they could not tell.
.Bl -tag -width Ds
"""
TAIL = """\
.El
.Sh SEE ALSO
.Xr certexec 1 ,
.Xr certexec-run 1
"""


def page() -> str:
    """Return the manual page."""
    sys.path.insert(0, str(PROJECT))
    from certexec.reasons import REASONS

    rows = [
        f".It Sy {word} Pq {code}\n{meaning[0].upper()}{meaning[1:]}.\n"
        for word, (code, meaning) in REASONS.items()
    ]
    return HEAD + "".join(rows) + TAIL


if __name__ == "__main__":
    PAGE.write_text(page())
