"""A picture as a specification of Vega-Lite: plain data, which any of its tools draws.

Heights are floats, because that is what is drawn. The exact figure of each bar stands beside it as text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING

from metering.reports.safe_text import printable
from metering.units import DAY_S, HOUR_S, exact_and_size, unit_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.reports.answer import Answer
    from metering.reports.pictures.series import Bars, Number

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_WIDTH, _HEIGHT = 860, 380
# Nine colours that stay apart for people who see few of them, and grey for the rest.
_COLOURS = (
    "#1f6fb4", "#e08214", "#1b9e77", "#c2408a", "#8c6bb1", "#b8860b", "#4db6d0", "#a6423a", "#7f9f3f", "#a8a8a8",
)  # fmt: skip
_MOST_LABELS = 10
# Of more bars, the white between them would hide them.
_MOST_SPACED = 200
_UNITS = {"hour": "utcyearmonthdatehours", "day": "utcyearmonthdate", "month": "utcyearmonth"}
_LABELS = {"hour": "%b %d %H:%M", "day": "%b %d", "month": "%b %Y"}
_USD = "USD"


def specification(bars: Bars, answer: Answer) -> dict[str, object]:
    """The picture of an answer, as Vega-Lite reads it. The same sums give the same one.

    Args:
        bars: What is drawn; at least one.
        answer: Whose rows they are: its title, and what it says of time and completeness.
    """
    unit, per_unit = (_USD, 1) if bars.layout.value.endswith("_usd") else unit_of(int(bars.highest))
    axis = unit if unit == _USD else _bytes_title(unit, per_unit)
    rank = {name: place for place, name in enumerate(bars.series)}
    values: list[object] = [
        {
            "time": time,
            "series": printable(name),
            "rank": rank[name],
            "height": float(Fraction(size) / per_unit),
            "exact": f"{size:f}" if unit == _USD else str(size),
        }
        for time, names in bars.sums.items()
        for name, size in sorted(names.items(), key=lambda entry: rank[entry[0]])
    ]
    return {
        "$schema": SCHEMA,
        "description": f"{printable(answer.title)}, {axis}",
        "background": "white",
        "width": _WIDTH,
        "height": _HEIGHT,
        "title": {
            "text": printable(answer.title),
            "subtitle": [printable(line) for line in _subtitle(bars, answer, unit)],
            "anchor": "start",
            "fontSize": 16,
            "subtitleFontSize": 12,
            "subtitleColor": "#555555",
            "subtitlePadding": 4,
            "offset": 14,
        },
        "data": {"values": values},
        "mark": {"type": "bar", "tooltip": True, "binSpacing": 1 if _places(bars) <= _MOST_SPACED else 0},
        "encoding": _encoding(bars, answer, axis),
        "config": {
            "axis": {"gridColor": "#e4e4e4", "labelFontSize": 11, "titleFontSize": 12, "titlePadding": 10},
            "legend": {"labelFontSize": 11, "titleFontSize": 12, "labelLimit": 260},
            "view": {"stroke": None},
        },
    }


def _encoding(bars: Bars, answer: Answer, axis: str) -> dict[str, object]:
    layout = bars.layout
    names: list[object] = [printable(name) for name in bars.series]
    colours: list[object] = list(_COLOURS[: len(names)])
    if bars.rest:
        colours[-1] = _COLOURS[-1]
    encoding: dict[str, object] = {
        "x": {
            "field": "time",
            "type": "temporal",
            "timeUnit": _UNITS[layout.time],
            "title": f"{layout.time} ({_zone(answer, layout.time)})",
            "axis": _time_axis(bars),
        },
        "y": {
            "field": "height",
            "type": "quantitative",
            "stack": "zero",
            "title": axis,
            "axis": {"format": ",~r", "tickCount": 6},
        },
        "color": {"value": _COLOURS[0]},
        "order": {"field": "rank", "type": "quantitative"},
    }
    if layout.series:
        encoding["color"] = {
            "field": "series",
            "type": "nominal",
            "title": layout.series,
            "scale": {"domain": names, "range": colours},
        }
    return encoding


def _time_axis(bars: Bars) -> dict[str, object]:
    """Labels below the middle of their bars: those of a time axis stand at the beginning of an hour, day or month."""
    time, places = bars.layout.time, _places(bars)
    times = [_seconds(each) for each in bars.sums]
    first_s = times[0]
    every = -(-places // _MOST_LABELS)
    labelled = [each for each in times if len(times) <= _MOST_LABELS or _place(each, first_s, time) % every == 0]
    return {
        "format": _LABELS[time],
        "values": [1_000 * each for each in labelled],
        "labelOffset": round(_WIDTH / places / 2, 1),
        "labelFlush": False,
        "labelPadding": 6,
        "labelOverlap": True,
        "grid": False,
        "ticks": False,
    }


def _places(bars: Bars) -> int:
    """How many bars have room side by side: one for each hour, day or month from the first to the last."""
    times = [_seconds(each) for each in bars.sums]
    return _place(times[-1], times[0], bars.layout.time) + 1


def _place(moment_s: int, first_s: int, time: str) -> int:
    if time == "month":
        moment, first = (datetime.fromtimestamp(each, UTC) for each in (moment_s, first_s))
        return 12 * (moment.year - first.year) + moment.month - first.month
    return (moment_s - first_s) // (HOUR_S if time == "hour" else DAY_S)


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _subtitle(bars: Bars, answer: Answer, unit: str) -> Sequence[str]:
    total = f"Total: {_total(bars.total, answer, unit)}."
    lines = [f"{total} {_completeness(answer)}".strip()]
    unpriced = sum(int(size) for row in answer.rows if isinstance(size := row.get("unpriced_bytes"), int))
    if unit == _USD and unpriced:
        lines.append(f"Without a price, and not in it: {exact_and_size(unpriced)}.")
    return lines


def _total(total: Number, answer: Answer, unit: str) -> str:
    if unit == _USD:
        return f"{answer.meta.get('total_usd', f'{total:f}')} USD exactly"
    return exact_and_size(int(total))


def _completeness(answer: Answer) -> str:
    as_of, through = answer.meta.get("as_of"), answer.meta.get("complete_through")
    periods = answer.meta.get("periods")
    states = set(periods.values()) if isinstance(periods, dict) else set()
    if states and states <= {"closed", "invoice"}:
        return f"As of {as_of}; the months are closed."
    return f"As of {as_of}, complete through {through}." if as_of and through else ""


def _zone(answer: Answer, time: str) -> str:
    query = answer.meta.get("query")
    zone = query.get("tz") if isinstance(query, dict) else None
    # Hours are drawn where they are in UTC: in a zone, two of them can have one name.
    return str(zone) if zone and time != "hour" else "UTC"


def _bytes_title(unit: str, per_unit: int) -> str:
    return unit if per_unit == 1 else f"{unit} (2^{per_unit.bit_length() - 1} bytes)"
