"""The trend of a usage page: one bar for each hour, day or month, as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.reports.page.markup import Markup, tag, text, words
from metering.units import counted, exact_and_size, size_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.usage.totals import Total

_WIDTH, _HEIGHT = 960, 240
_LEFT, _TOP, _BOTTOM = 70, 12, 28
_LABELS = 8
_LABEL = 90
_GAP = 3
_STEPS = 4


def trend(bars: Mapping[str, Total]) -> Markup:
    """Bars with an axis; the exact total stands in the title of each."""
    highest = max((each.bytes for each in bars.values()), default=0)
    plot = _HEIGHT - _TOP - _BOTTOM
    parts = []
    for step in range(_STEPS + 1):
        y = _TOP + plot - plot * step // _STEPS
        parts.append(tag("line", class_="grid", x1=_LEFT, x2=_WIDTH, y1=y, y2=y))
        label = size_text(highest * step // _STEPS)
        parts.append(tag("text", words(label), x=_LEFT - 8, y=y + 4, text_anchor="end"))
    every = -(-len(bars) // _LABELS) or 1
    for place, (name, total) in enumerate(bars.items()):
        left = _LEFT + (_WIDTH - _LEFT) * place // len(bars)
        width = max(_LEFT + (_WIDTH - _LEFT) * (place + 1) // len(bars) - left - _GAP, 1)
        height = plot * max(total.bytes, 0) // highest if highest > 0 else 0
        if total.bytes > 0:
            # What is there is seen, however small it is beside the others.
            height = max(height, 1)
        about = tag(
            "title", text(f"{_shown(name)}: {exact_and_size(total.bytes)} in {counted(total.records, 'record')}")
        )
        y = _TOP + plot - height
        parts.append(tag("g", about, tag("rect", class_="bar", x=left, y=y, width=width, height=height, rx=1)))
        if place % every == 0 and left <= _WIDTH - _LABEL:
            parts.append(tag("text", text(_shown(name)), x=left, y=_HEIGHT - 8))
    size = f"0 0 {_WIDTH} {_HEIGHT}"
    return tag("svg", *parts, viewBox=size, role="img", aria_label="Bytes over time")


def _shown(name: str) -> str:
    return name.replace("T", " ")
