"""Results as JSON, as a picture, and as a part of README.md."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import plot, report
from bench.frame import OURS, PINNED, UNPINNED, Line

PROJECT = Path(__file__).resolve().parents[2]
WHERE = {"when": 0, "kernel": "6.1.0-9-amd64", "processors": 2, "rounds": 5, "absent_peers": {}}


class Starts:
    NAME, ABOUT, LIMITS, PEERS, PLACEMENTS = "starts", "fork & exec", (), ("env",), (UNPINNED,)


def result() -> dict[str, object]:
    lines = [
        Line("plain", OURS, "bare", 1.1, 1.0, 1.2, group="starts", limit=1.2),
        Line("plain", OURS, "bare", 1.3, 1.2, 1.4, group="starts", placement=PINNED, limit=1.2),
        Line("plain", "env", "bare", 1.05, 1.0, 1.1, group="starts"),
        Line("plain", "bubblewrap", "bare", 4.0, 3.5, 4.5, group="starts"),
        Line("plain", "a yardstick that is no peer", "bare", 0.5, 0.4, 0.6, group="starts"),
        Line("memory", OURS, "", 31.0, 30.0, 32.0, "MB", group="starts", limit=40),
    ]
    return report.as_json([Starts], lines, WHERE)  # type: ignore[list-item]


def test_json_tells_verdicts_and_survives_a_round_trip() -> None:
    told = json.loads(report.to_text(result()))
    lines = told["groups"][0]["lines"]
    assert [line["held"] for line in lines] == [True, False, None, None, None, True]
    assert told["schema"] == report.SCHEMA and told["kernel"] == "6.1.0-9-amd64"


def test_the_section_tells_limits_misses_and_where_a_peer_is_faster() -> None:
    text = report.section(result())
    assert "| starts: plain | 1.2 | 1.1 | **1.3** |" in text
    assert "| starts: memory | 40 MB | 31 MB |  |" in text
    assert "| env | starts: plain: 1.05 (1.1) | it only executes" in text
    assert "bubblewrap" not in text and "yardstick" not in text
    assert "(Linux 6.1.0, 2 processors)" in text


def test_a_section_is_put_before_more_and_replaced_the_next_time() -> None:
    readme = (PROJECT / "README.md").read_text()
    once = report.put_into_readme(readme, "first results\n")
    assert once.index("first results\n") < once.index("## More")
    twice = report.put_into_readme(once, "second results\n")
    assert twice == once.replace("first results\n", "second results\n")
    with pytest.raises(ValueError, match="no place"):
        report.put_into_readme("# nothing\n", "one\n")


def test_results_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", str(tmp_path / "results"))
    report.write("latest.json", report.to_text(result()))
    assert report.read() == result()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["latest.json"]


def test_the_plot_shows_every_line_and_is_the_same_for_the_same_results() -> None:
    drawn = plot.svg(result())
    assert drawn == plot.svg(result())
    ElementTree.fromstring(drawn)  # noqa: S314
    for word in ("fork &amp; exec", "plain", "env: plain", "memory", "6.1.0"):
        assert word in drawn


def test_a_panel_that_spans_less_than_a_decade_has_numbers_on_its_axis() -> None:
    line = Line("plain", OURS, "bare", 2.3, 2.1, 4.4, group="starts", limit=3.0)
    drawn = plot.svg(report.as_json([Starts], [line], WHERE))  # type: ignore[list-item]
    assert len(re.findall(r">[0-9.]+</text>", drawn)) >= 3
