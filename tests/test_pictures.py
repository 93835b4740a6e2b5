"""The pictures of README.md: all there, and of nothing but what is made up for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import pictures

PROJECT = Path(__file__).resolve().parents[1]


def test_readme_shows_every_picture_and_each_is_there() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(docs/pictures/([^)]+)\)", (PROJECT / "README.md").read_text())
    assert sorted(shown) == sorted(one.name for one in pictures.PICTURES.iterdir())


@pytest.mark.parametrize(
    ("draw", "words"),
    [(lambda: pictures.terminal(pictures.review_app()), "/etc/nginx/nginx.conf"),
     (pictures.monitor_svg, "web2"),
     (pictures.agent_svg, "192.0.2.25")],
)  # fmt: skip
def test_terminals_are_drawn_alike_each_time(draw, words) -> None:
    svg = draw()
    assert words in svg and svg == draw()
    # names, not what is loaded
    assert set(re.findall(r"https?://[\w.]+", svg)) == {
        "http://www.w3.org", "https://www.textualize.io"
    }


@pytest.mark.parametrize("draw", [pictures.log_report, pictures.verify_report])
def test_reports_are_drawn_alike_each_time(draw) -> None:
    assert draw() == draw() and pictures.MADE in draw()
