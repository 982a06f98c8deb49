"""SVG of a dashboard's body, with CloudWatch's layout: 24 columns, each widget at its position."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tests.infra.pictures.figures import FIRST_MINUTE, POINTS, STEP_MIN, computed, readable, series_of

_UNIT_X, _UNIT_Y, _GAP = 56, 44, 6
_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#17becf", "#e377c2", "#7f7f7f", "#bcbd22")
_INK, _FAINT, _LINE = "#16191f", "#687078", "#eaeded"
_RED, _GREEN = "#d13212", "#1d8102"
_FIXED = "Menlo, Consolas, DejaVu Sans Mono, monospace"
# Region of the invented incident.
_STRUCK = "us-east-1"
_FIRING = ("dead-letters", "dead-letter-queue")
_CODE = re.compile(r"(`[^`]+`|\*\*[^*]+\*\*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of a graph."""

    label: str
    values: Sequence[float]
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Position of a widget, or of an area in a widget, in pixels."""

    x: float
    y: float
    width: float
    height: float


def svg_of(body: Mapping[str, Any], alarm_names: Mapping[str, str]) -> str:
    """Draw a dashboard; `alarm_names` maps each resource in an ARN to its alarm."""
    widgets = body["widgets"]
    width = 24 * _UNIT_X + _GAP
    height = max(each["y"] + each["height"] for each in widgets) * _UNIT_Y + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#f2f3f3"/>',
    ]
    for each in widgets:
        box = Box(
            x=each["x"] * _UNIT_X + _GAP,
            y=each["y"] * _UNIT_Y + _GAP,
            width=each["width"] * _UNIT_X - _GAP,
            height=each["height"] * _UNIT_Y - _GAP,
        )
        parts.append(_rect(box, "#ffffff", stroke="#d5dbdb"))
        parts += _widget(each["type"], each["properties"], box, alarm_names)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _widget(kind: str, properties: Mapping[str, Any], box: Box, alarm_names: Mapping[str, str]) -> list[str]:
    if kind == "text":
        return _text_widget(properties["markdown"], box)
    title = [_text(box.x + 10, box.y + 18, properties["title"], weight="bold", size=13)]
    inner = Box(x=box.x + 10, y=box.y + 28, width=box.width - 20, height=box.height - 36)
    if kind == "alarm":
        names = [alarm_names[arn.rsplit(":", 1)[-1]] for arn in properties["alarms"]]
        return [*title, *_alarms(names, inner)]
    curves = _curves(properties["metrics"])
    if properties["view"] == "singleValue":
        return [*title, *_number(curves[0], inner)]
    return [*title, *_graph(properties, curves, inner)]


def _curves(rows: Sequence[Sequence[Any]]) -> list[Curve]:
    """Visible lines. In a row, `.` repeats the value above; a row may be an expression over the ids of rows."""
    known: dict[str, list[float]] = {}
    found: list[tuple[dict[str, Any], str | None]] = []
    before: list[str] = []
    for row in rows:
        options = dict(row[-1]) if isinstance(row[-1], dict) else {}
        if isinstance(row[0], dict):
            found.append((options, None))
            continue
        plain = [part for part in row if isinstance(part, str)]
        before = [before[at] if part == "." else part for at, part in enumerate(plain)]
        dead = "DeadLetter" in " ".join(before)
        identity = options.get("id", f"#{len(found)}")
        label = options.get("label", re.sub(r"(Ms|Runs)$", "", identity))
        quiet = options.get("region", _STRUCK) != _STRUCK
        known[identity] = series_of(before[1], label, dead_letters=dead, quiet=quiet, seed=len(found))
        found.append((options, identity))
    curves = []
    for options, plain_id in found:
        if options.get("visible") is False:
            continue
        values = computed(options["expression"], known) if plain_id is None else known[plain_id]
        curves.append(Curve(label=options.get("label", ""), values=values, right=options.get("yAxis") == "right"))
    return curves


def _graph(properties: Mapping[str, Any], curves: Sequence[Curve], box: Box) -> list[str]:
    lines = properties.get("annotations", {}).get("horizontal", [])
    axes = properties.get("yAxis", {})
    legend_rows = -(-len(curves) // _legend_columns(box.width))
    plot = Box(x=box.x + 44, y=box.y + 16, width=box.width - 92, height=box.height - 38 - 15 * legend_rows)
    left = [curve for curve in curves if not curve.right]
    tops = _top(left, [line["value"] for line in lines], stacked=bool(properties.get("stacked")))
    right = [curve for curve in curves if curve.right]
    right_top = _top(right, [], stacked=False)
    parts = _frame(plot, tops, right_top if right else None)
    parts.append(_text(box.x, box.y + 8, axes.get("left", {}).get("label", ""), size=10, colour=_FAINT))
    if right:
        name = axes.get("right", {}).get("label", "")
        parts.append(_text(box.x + box.width, box.y + 8, name, size=10, colour=_FAINT, anchor="end"))
    below = [0.0] * POINTS
    for number, curve in enumerate(curves):
        values = list(curve.values)
        if properties.get("stacked"):
            values = below = [one + other for one, other in zip(below, values, strict=True)]
            parts.append(_area(values, plot, tops, _colour(number)))
        parts.append(_polyline(values, plot, right_top if curve.right else tops, _colour(number), dashed=curve.right))
    for number, line in enumerate(lines):
        parts += _threshold(line, plot, tops, at_end=number % 2 == 0)
    return [*parts, *_legend(curves, Box(x=box.x, y=plot.y + plot.height + 31, width=box.width, height=0))]


def _frame(plot: Box, top: float, right_top: float | None) -> list[str]:
    parts = []
    for part in range(3):
        y = plot.y + plot.height * part / 2
        parts.append(_stroke(plot.x, y, plot.x + plot.width, y, _LINE))
        parts.append(_text(plot.x - 5, y + 4, readable(top * (2 - part) / 2), size=10, colour=_FAINT, anchor="end"))
        if right_top is not None:
            value = readable(right_top * (2 - part) / 2)
            parts.append(_text(plot.x + plot.width + 5, y + 4, value, size=10, colour=_FAINT))
    for step in range(0, POINTS, 12):
        minute = FIRST_MINUTE + step * STEP_MIN
        x = plot.x + plot.width * step / (POINTS - 1)
        clock = f"{minute // 60:02d}:{minute % 60:02d}"
        parts.append(_text(x, plot.y + plot.height + 14, clock, size=10, colour=_FAINT, anchor="middle"))
    return parts


def _threshold(line: Mapping[str, Any], plot: Box, top: float, *, at_end: bool) -> list[str]:
    y = plot.y + plot.height * (1 - line["value"] / top)
    return [
        _stroke(plot.x, y, plot.x + plot.width, y, line["color"], dashes="5 3"),
        _text(
            plot.x + plot.width * at_end,
            y - 3,
            line["label"],
            size=10,
            colour=line["color"],
            anchor="end" if at_end else "start",
        ),
    ]


def _legend(curves: Sequence[Curve], box: Box) -> list[str]:
    columns = _legend_columns(box.width)
    parts = []
    for number, curve in enumerate(curves):
        x, y = box.x + number % columns * (box.width / columns), box.y + number // columns * 15
        parts.append(_stroke(x, y - 4, x + 14, y - 4, _colour(number), dashes="3 2" if curve.right else "", width=2))
        parts.append(_text(x + 19, y, curve.label, size=11))
    return parts


def _number(curve: Curve, box: Box) -> list[str]:
    value = curve.values[-1]
    spark = Box(x=box.x, y=box.y + box.height * 0.5, width=box.width, height=box.height * 0.4)
    top = max(*curve.values, 1e-9) * 1.05
    colour = _RED if curve.label == "messages" and value >= 1 else _INK
    return [
        _text(box.x, box.y + 34, readable(value), size=30, weight="bold", colour=colour),
        _text(box.x + 18 + 17 * len(readable(value)), box.y + 34, curve.label, size=12, colour=_FAINT),
        _polyline(curve.values, spark, top, _COLOURS[0]),
    ]


def _alarms(names: Sequence[str], box: Box) -> list[str]:
    """Firing alarms come first, as in CloudWatch's alarm widget."""
    ordered = sorted(names, key=lambda name: (not name.endswith(_FIRING), name))
    columns = 4
    width = box.width / columns
    parts = []
    for number, name in enumerate(ordered):
        on = name.endswith(_FIRING)
        cell = Box(x=box.x + number % columns * width, y=box.y + number // columns * 27, width=width - 6, height=22)
        parts.append(_rect(cell, _RED if on else "#f1faf1", stroke=_RED if on else _GREEN))
        short = name.split("-", 2)[-1]
        parts.append(_text(cell.x + 6, cell.y + 15, short, size=11, colour="#ffffff" if on else _GREEN))
    return parts


def _text_widget(markdown: str, box: Box) -> list[str]:
    parts = []
    y = box.y + 24
    # Commands are not wrapped, so the code that wraps lines must not see their spaces.
    shown = _CODE.sub(lambda piece: piece[0].replace(" ", "\0"), markdown)
    for paragraph in shown.split("\n\n"):
        lines = textwrap.wrap(paragraph, width=int(box.width / 7), break_on_hyphens=False, break_long_words=False)
        for line in (each.replace("\0", " ") for each in lines):
            spans = "".join(_span(piece) for piece in _CODE.split(line) if piece)
            parts.append(f'<text x="{box.x + 12:g}" y="{y:g}" fill="{_INK}" font-size="13">{spans}</text>')
            y += 20
        y += 8
    return parts


def _span(piece: str) -> str:
    if piece.startswith("`"):
        code = escape(piece.strip("`"))
        return f'<tspan font-family="{_FIXED}" font-size="12" fill="#0972d3">{code}</tspan>'
    if piece.startswith("**"):
        return f'<tspan font-weight="bold">{escape(piece.strip("*"))}</tspan>'
    return f"<tspan>{escape(piece)}</tspan>"


def _top(curves: Sequence[Curve], lines: Sequence[float], *, stacked: bool) -> float:
    """Upper end of an axis: a number above every value and every threshold."""
    columns = list(zip(*(curve.values for curve in curves), strict=True))
    highest = max((sum(column) if stacked else max(column) for column in columns), default=0.0)
    needed = max([highest, *lines]) * 1.1 or 1.0
    # The next round number: 1, 2, 4, 5 or 8, followed by zeros.
    power = 10.0 ** math.floor(math.log10(needed))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= needed)


def _legend_columns(width: float) -> int:
    return max(int(width // 135), 1)


def _polyline(values: Sequence[float], box: Box, top: float, colour: str, *, dashed: bool = False) -> str:
    points = " ".join(
        f"{box.x + box.width * step / (POINTS - 1):.1f},{box.y + box.height * (1 - value / top):.1f}"
        for step, value in enumerate(values)
    )
    dashes = ' stroke-dasharray="3 2"' if dashed else ""
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dashes}/>'


def _area(values: Sequence[float], box: Box, top: float, colour: str) -> str:
    points = " ".join(
        f"{box.x + box.width * step / (POINTS - 1):.1f},{box.y + box.height * (1 - value / top):.1f}"
        for step, value in enumerate(values)
    )
    corners = f"{box.x + box.width:.1f},{box.y + box.height:.1f} {box.x:.1f},{box.y + box.height:.1f}"
    return f'<polygon points="{points} {corners}" fill="{colour}" fill-opacity="0.12"/>'


def _rect(box: Box, fill: str, *, stroke: str) -> str:
    return (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="2" '
        f'fill="{fill}" stroke="{stroke}"/>'
    )


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashes: str = "", width: float = 1) -> str:
    extra = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{extra}/>'
    )


def _text(
    x: float, y: float, text: str, *, size: int = 12, weight: str = "normal", colour: str = _INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]
