"""The results as one picture: a row for each line, on a logarithmic axis, beside its limit."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from bench.frame import OURS, UNPINNED
from bench.report import version

OUR_COLOUR, PEER_COLOUR, LIMIT_COLOUR = "#1b6ca8", "#8a8a8a", "#c0392b"
ROW = 0.24
"""inches of height for each row."""
TITLE = 0.75
"""inches for each panel's title and axis."""
WIDTH = 9.0
DECADE = 10
TICKS = 8
"""numbers on an axis that spans less than a decade, at most."""


def available() -> bool:
    """Tell whether matplotlib is installed (the dependency group "bench")."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def svg(result: Mapping[str, Any]) -> str:
    """Draw all groups that were measured, one panel below the other."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    # the same results give the same file, and text stays text
    matplotlib.rcParams.update({"svg.hashsalt": "certexec", "svg.fonttype": "none"})
    groups = [group for group in result["groups"] if group["lines"]]
    rows = [_rows(group["lines"]) for group in groups]
    heights = [TITLE + ROW * len(one) for one in rows]
    figure, panels = pyplot.subplots(
        len(groups), 1, squeeze=False, figsize=(WIDTH, sum(heights) + 0.6),
        gridspec_kw={"height_ratios": heights}, layout="constrained",
    )  # fmt: skip
    for axes, group, keys in zip(panels[:, 0], groups, rows, strict=True):
        _panel(axes, group, keys)
    figure.suptitle(
        f"certexec beside its peers (Linux {version(result)}): medians and quartiles;\n"
        "filled: unpinned, hollow: all on one processor, red: the limit", fontsize=10,
    )  # fmt: skip
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _rows(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (case, subject) once each: by case in the order measured, ours first."""
    cases = list(dict.fromkeys(line["case"] for line in lines))
    keys = dict.fromkeys((line["case"], line["subject"]) for line in lines)
    return sorted(keys, key=lambda key: (cases.index(key[0]), key[1] != OURS))


def _panel(axes: Any, group: Mapping[str, Any], keys: Sequence[tuple[str, str]]) -> None:
    from matplotlib import ticker

    places = {key: len(keys) - 1 - number for number, key in enumerate(keys)}
    for line in group["lines"]:
        colour = OUR_COLOUR if line["subject"] == OURS else PEER_COLOUR
        free = line["placement"] == UNPINNED
        height = places[line["case"], line["subject"]]
        spread = [[max(0, line["value"] - line["low"])], [max(0, line["high"] - line["value"])]]
        axes.errorbar(
            line["value"], height + (0.12 if free else -0.12), xerr=spread, fmt="o", color=colour,
            markerfacecolor=colour if free else "white", markersize=5, linewidth=1, capsize=2,
        )  # fmt: skip
        if line["limit"] is not None:
            axes.plot([line["limit"]] * 2, [height - 0.4, height + 0.4], color=LIMIT_COLOUR)
    axes.set_yticks(list(places.values()), [_label(key) for key in keys], fontsize=7)
    axes.set_ylim(-0.7, len(keys) - 0.3)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    few = high < DECADE * low  # powers of ten would leave such an axis without a number
    axes.xaxis.set_major_locator(
        ticker.MaxNLocator(TICKS) if few else ticker.LogLocator(subs=(1, 2, 5))
    )
    units = sorted({line["unit"] for line in group["lines"]})
    about = ", ".join("ratio" if unit == "x" else unit for unit in units)
    axes.set_title(f"{group['about']} ({about})", fontsize=8, loc="left")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", which="both", linewidth=0.3)


def _label(key: tuple[str, str]) -> str:
    case, subject = key
    return case if subject == OURS else f"{subject}: {case}"
