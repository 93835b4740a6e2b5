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
Every refusal has one of these words.
The words are stable.
They are shown
.Bl -bullet -compact
.It
in parentheses after the message on standard error, when a certificate is executed by its name, or
by
.Xr certexec-run 1
once that has opened it;
.It
in parentheses on standard output by
.Xr certexec-verify 1
and
.Ql certexec inspect --verify ;
.It
as
.Ql reason
in the JSON of
.Xr certexec-verify 1
and
.Xr certexec-policy 1 ,
and in the status objects of
.Xr certexec-run 1 ;
.It
in the log where a program was killed before its first instruction.
.El
.Pp
Other messages, those of
.Ql certexec run --explain
among them, are a sentence and a hint without the word.
.Pp
The number is the exit status when a certificate is executed:
126 for a refusal, 127 for what does not exist, 125 for a fault of certexec's own.
Other commands end with 1 when the answer is no and with 2 when they could not tell.
.Bl -tag -width Ds
"""
TAIL = """\
.El
.Sh SEE ALSO
.Xr certexec 1 ,
.Xr certexec-inspect 1 ,
.Xr certexec-policy 1 ,
.Xr certexec-run 1 ,
.Xr certexec-verify 1
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
