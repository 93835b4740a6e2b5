"""A report as one HTML file: no scripts, nothing from elsewhere, readable on paper, too.

Every text in it may have been chosen by a program that was denied something. Each goes through
``_t``, which escapes what HTML would read and whatever is not printable; no text becomes an
attribute. The page forbids by its own policy whatever it does not hold itself.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Mapping, Sequence

from certexec.observe.report import ROWS_MAX, LogReport, Row, VerifyReport

WIDTH, HEIGHT = 720, 90
"""of the picture over time, in pixels"""
TEXT_MAX = 600
"""characters of one text"""
VERDICTS = ("deny", "kill", "ask", "permit")

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2024;--soft:#60666d;--line:#d9dde1;--ground:#fff;
--deny:#c0392b;--kill:#7d1f15;--ask:#8e6b00;--permit:#2e7d4f;--new:#fff3cd}
@media(prefers-color-scheme:dark){:root{--ink:#e4e6e8;--soft:#9aa1a8;--line:#3a4046;
--ground:#16191c;--deny:#ef6f60;--kill:#ff9b8f;--ask:#d9b44a;--permit:#6cc08b;--new:#463a10}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);
max-width:72rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.soft{color:var(--soft)}
.figures{display:flex;flex-wrap:wrap;gap:1rem;margin:1.2rem 0}
.figures div{border:1px solid var(--line);border-radius:.4rem;padding:.5rem 1rem;min-width:7rem}
.figures b{display:block;font-size:1.6rem;line-height:1.2}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);
vertical-align:top;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600;white-space:nowrap}
.n{text-align:right;font-variant-numeric:tabular-nums}
code{font:13px/1.5 ui-monospace,monospace}
.deny{color:var(--deny)}.kill{color:var(--kill)}.ask{color:var(--ask)}.permit{color:var(--permit)}
.ok{color:var(--permit)}.fail{color:var(--deny)}
tr.new td{background:var(--new)}
.tag{border:1px solid currentColor;border-radius:.3rem;padding:0 .35rem;font-size:.8rem;
white-space:nowrap}
svg{display:block;max-width:100%;height:auto}
rect.deny{fill:var(--deny)}rect.kill{fill:var(--kill)}rect.ask{fill:var(--ask)}
rect.permit{fill:var(--permit)}
text{fill:var(--soft);font:11px system-ui,sans-serif}
"""


def log_page(report: LogReport, made: str) -> str:
    """Return the report about events."""
    denied = sum(row.count for row in report.denials)
    new = [row for row in report.denials if row.new]
    span = f"{moment(report.first)} to {moment(report.last)}" if report.first else "no event"
    hosts = {key[0] for key in report.programs}
    hosts |= {row.key[0] for row in (*report.denials, *report.notes)}
    body = [
        _figures(
            (str(report.total), "events"), (str(denied), "calls denied"),
            (str(len(report.denials)), "different denials"),
            (str(len(new)) if report.before else "\N{EM DASH}", "new since the last report"),
            (str(len({key[2] for key in report.programs})), "programs"),
        ),
        _picture(report),
        _since(report.before, len(new), len(report.gone), "denials"),
    ]
    many = len(hosts) > 1
    if new:
        body.append(_section("Denied since the last report", _denials(new, many)))
    body.append(_section("Denied", _denials(report.denials, many)))
    body.append(_section("What ran", _programs(report, many)))
    if report.gone:
        rows = [[_t(part) for part in key] for key in report.gone]
        columns = ("host", "program", "certificate", "", "call", "about", "why")
        body.append(_section("Only in the last report", _table(columns, rows)))
    if report.notes:
        rows = [
            [*([_t(row.key[0])] if many else []), _t(row.key[2]), str(row.count), moment(row.last)]
            for row in report.notes
        ]
        heads = (*(["host"] if many else []), "", "#", "last (UTC)")
        body.append(_section("About certexec itself", _table(heads, rows)))
    return _page("Denied calls", made, span, body)


def verify_page(report: VerifyReport, made: str) -> str:
    """Return the report about certificates."""
    bad = [one for one in report.results if not one.get("ok")]
    rows, marks = [], []
    for one in report.results:
        path = str(one.get("path", ""))
        change = report.changes.get(path, "")
        status = '<b class="ok">valid</b>'
        if not one.get("ok"):
            status = f'<b class="fail">{_t(one.get("reason"))}</b><br>{_t(one.get("message"))}'
        signers = one.get("signers")
        names = [
            str(each.get("name", "")) for each in signers if isinstance(each, Mapping)
        ] if isinstance(signers, Sequence) else []  # fmt: skip
        rows.append([
            status + (f' <span class="tag">{_t(change)}</span>' if change else ""),
            f"<code>{_t(path)}</code>", f"<code>{_t(one.get('program'))}</code>",
            "yes" if one.get("grant") else "", _t(one.get("valid_until")), _t(", ".join(names)),
        ])  # fmt: skip
        marks.append(bool(change))
    heads = ("", "certificate", "program", "grants", "valid until", "signed by")
    body = [
        _figures(
            (str(len(report.results)), "certificate" + "s" * (len(report.results) != 1)),
            (str(len(bad)), "not valid"),
            (str(sum(1 for one in report.results if one.get("grant"))), "that grant something"),
            (str(len(report.changes)) if report.before else "\N{EM DASH}",
             "changed since the last report"),
        ),
        _since(report.before, len(report.changes), len(report.gone), "certificates"),
        _section("Certificates", _table(heads, rows, marks)),
    ]  # fmt: skip
    if report.gone:
        gone = [[f"<code>{_t(path)}</code>"] for path in report.gone]
        body.append(_section("Only in the last report", _table(("certificate",), gone)))
    return _page("Certificates", made, "", body)


def moment(seconds: float) -> str:
    """Write a time for people, in UTC."""
    if not seconds:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


# ---- parts ---------------------------------------------------------------------------------------


def _t(value: object) -> str:
    """Return a text as HTML: cut, with what is not printable shown as an escape."""
    text = "" if value is None else str(value)
    if len(text) > TEXT_MAX:
        text = text[:TEXT_MAX] + "..."
    plain = "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )
    return html.escape(plain)


def _page(title: str, made: str, span: str, body: Iterable[str]) -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>certexec: {_t(title)}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{_t(title)}</h1>\n"
        f'<p class="soft">certexec, {_t(made)}{f"; events of {_t(span)} UTC" if span else ""}</p>\n'
        + "\n".join(body) + "\n</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{_t(title)}</h2>\n{content}"


def _figures(*figures: tuple[str, str]) -> str:
    inner = "".join(f"<div><b>{_t(number)}</b>{_t(words)}</div>" for number, words in figures)
    return f'<div class="figures">{inner}</div>'


def _since(before: str, new: int, gone: int, what: str) -> str:
    if not before:
        return '<p class="soft">This is the first report here.</p>'
    return (
        f'<p class="soft">Since the last report ({_t(before)}): {new} {what} new or changed, '
        f"{gone} gone.</p>"
    )


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], marks: Sequence[bool] = ()
) -> str:
    """Return a table; cells are HTML already, marked rows stand out."""
    if not rows:
        return '<p class="soft">None.</p>'
    numbers = {index for index, head in enumerate(heads) if head == "#"}
    parts = ["<table><tr>"]
    parts += [f"<th{_class(index in numbers)}>{_t(head)}</th>" for index, head in enumerate(heads)]
    parts.append("</tr>\n")
    for index, row in enumerate(rows[:ROWS_MAX]):
        marked = ' class="new"' if index < len(marks) and marks[index] else ""
        cells = "".join(f"<td{_class(at in numbers)}>{cell}</td>" for at, cell in enumerate(row))
        parts.append(f"<tr{marked}>{cells}</tr>\n")
    parts.append("</table>")
    if len(rows) > ROWS_MAX:
        parts.append(f'<p class="soft">and {len(rows) - ROWS_MAX} more</p>')
    return "".join(parts)


def _class(number: bool) -> str:
    return ' class="n"' if number else ""


def _verdict(word: str) -> str:
    style = word if word in VERDICTS else "soft"
    return f'<b class="{style}">{_t(word)}</b>'


def _denials(rows: Sequence[Row], many: bool) -> str:
    shown, marks = [], []
    for row in rows:
        host, program, certificate, verdict, call, about, why = row.key
        tag = ' <span class="tag">new</span>' if row.new else ""
        cells = [
            str(row.count), _verdict(verdict) + tag,
            f"<code>{_t(program)}</code>", _t(certificate), f"<code>{_t(call)}</code>",
            f"<code>{_t(about)}</code>", _t(why), moment(row.last),
        ]  # fmt: skip
        shown.append([_t(host), *cells] if many else cells)
        marks.append(row.new)
    heads = ["#", "", "program", "certificate", "call", "about", "why", "last (UTC)"]
    return _table(["host", *heads] if many else heads, shown, marks)


def _programs(report: LogReport, many: bool) -> str:
    shown = []
    for (host, certificate, program, user), counts in report.programs.items():
        cells = [
            f"<code>{_t(program)}</code>", _t(certificate), _t(user),
            ", ".join(f"{_verdict(word)} {counts[word]}" for word in sorted(counts)),
        ]  # fmt: skip
        shown.append([_t(host), *cells] if many else cells)
    heads = ["program", "certificate", "user", "calls in the log"]
    return _table(["host", *heads] if many else heads, shown)


def _picture(report: LogReport) -> str:
    """Return bars over time, one colour for each verdict."""
    most = max((sum(counts.values()) for _, _, counts in report.bars), default=0)
    if not most:
        return ""
    step = WIDTH / len(report.bars)
    parts = []
    for index, (start, _, counts) in enumerate(report.bars):
        top = float(HEIGHT)
        for verdict in VERDICTS:
            height = counts.get(verdict, 0) / most * HEIGHT
            if not height:
                continue
            top -= height
            told = f"{moment(start)}: {verdict} {counts[verdict]}"
            parts.append(
                f'<rect class="{verdict}" x="{index * step:.1f}" y="{top:.1f}" '
                f'width="{max(step - 1, 0.5):.1f}" height="{height:.1f}">'
                f"<title>{_t(told)}</title></rect>"
            )
    first, last = report.bars[0], report.bars[-1]
    parts.append(f'<text x="0" y="{HEIGHT + 14}">{moment(first[0])}</text>')
    parts.append(
        f'<text x="{WIDTH}" y="{HEIGHT + 14}" text-anchor="end">{moment(last[0] + last[1])}</text>'
    )
    return (
        f'<svg role="img" aria-label="calls in the log over time, at most {most} in one bar" '
        f'viewBox="0 0 {WIDTH} {HEIGHT + 18}" width="{WIDTH}">{"".join(parts)}</svg>'
    )
