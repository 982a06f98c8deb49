"""A usage report as one HTML page that can be sent by mail: the page needs no network, no script and no other file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, NewType

from metering.billing.money import cents_text, exact_text
from metering.hours import month_bounds_s, month_of, rfc3339
from metering.reports import time_range, usage_answer
from metering.reports.answer import printable, spreadsheet_text
from metering.reports.costs.rows import CostQuery, total_of
from metering.reports.costs.rows import Figures as Costs
from metering.units import DAY_S, HOUR_S, SIZE_BASE, counted, exact_and_size, size_text
from metering.usage.totals import ZERO, Total, add_totals, sum_totals
from metering.usage.usage_types import is_processing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.audit.freshness import Complete
    from metering.ledger.notes.reconciliation import Reconciliation
    from metering.reports import usage_rows
    from metering.reports.answer import Answer, Cell
    from metering.reports.costs.rows import CostRows
    from metering.reports.query import GroupColumn, UsageQuery


# Maximum ranges for charts with one bar per hour and with one bar per day; with more bars, the bars would be too thin.
_HOURLY_S = 2 * DAY_S
_DAILY_S = 100 * DAY_S
_BUCKETS: Mapping[str, int] = {"hour": 16, "day": 10, "month": 7}


def bucket_of(query: UsageQuery, *, now_s: int) -> GroupColumn:
    """The time unit of the page's trend."""
    span_s = min(query.to_s, now_s + HOUR_S) - query.from_s
    if span_s <= _HOURLY_S:
        return "hour"
    return "day" if span_s <= _DAILY_S else "month"


def page_query(query: UsageQuery, *, now_s: int) -> UsageQuery:
    """The query whose rows contain everything that the page shows."""
    columns: tuple[GroupColumn, ...] = (bucket_of(query, now_s=now_s), "account_id", "usage_type", "from", "to")
    return replace(query, group_by=(*columns, "region"), details=(), order=None, top=None)


@dataclass(slots=True, kw_only=True)
class Figures:
    """One set of totals for each column; the trend also has times without usage. Mutable while totals are added.

    `processed` has the usage types of processing, a second count of bytes, which are in no other total.
    """

    bucket: str
    apart: bool = True
    total: Total = ZERO
    processed: dict[str, Total] = field(default_factory=dict)
    trend: dict[str, Total] = field(default_factory=dict)
    layers: dict[str, dict[str, int]] = field(default_factory=dict)
    accounts: dict[str, Total] = field(default_factory=dict)
    usage_types: dict[str, Total] = field(default_factory=dict)
    regions: dict[str, Total] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Total] = field(default_factory=dict)

    def add(self, values: usage_rows.Values, total: Total) -> None:
        """Add one total, which belongs to these values of `page_query`'s columns."""
        moment, account_id, usage_type, from_location, to_location, region = values
        if self.apart and is_processing(usage_type):
            add_totals(self.processed, {usage_type: total})
            return
        self.total = self.total.plus(total)
        moment = moment[: _BUCKETS[self.bucket]]
        add_totals(self.trend, {moment: total})
        layer = self.layers.setdefault(usage_type, {})
        layer[moment] = layer.get(moment, 0) + total.bytes
        add_totals(self.accounts, {account_id: total})
        add_totals(self.usage_types, {usage_type: total})
        add_totals(self.regions, {region: total})
        add_totals(self.pairs, {(from_location.partition("/")[0], to_location.partition("/")[0]): total})


def figures_of(entries: Iterable[tuple[usage_rows.Values, Total]], query: UsageQuery, *, now_s: int) -> Figures:
    """Sum all regions' totals by the columns of `page_query`. Times in the future have no bar."""
    found = Figures(bucket=query.group_by[0], apart=query.processing_apart)
    if found.bucket != "month":
        hours = range(query.from_s, min(query.to_s, now_s + HOUR_S), HOUR_S)
        moments = (datetime.fromtimestamp(hour_s, query.zone).isoformat() for hour_s in hours)
        found.trend = dict.fromkeys((moment[: _BUCKETS[found.bucket]] for moment in moments), ZERO)
    for values, total in entries:
        found.add(values, total)
    found.trend = dict(sorted(found.trend.items()))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The period before: its name, its bytes in order of time, and their sum."""

    name: str
    values: Sequence[int]

    @property
    def bytes(self) -> int:
        return sum(self.values)


def query_before(query: UsageQuery) -> tuple[UsageQuery, str]:
    """The same question about the period before, and the period's name: a month, or as many whole days."""
    month = month_of(query.from_s)
    if month_bounds_s(month) == (query.from_s, query.to_s):
        from_s, to_s = month_bounds_s(month_of(query.from_s - HOUR_S))
        return replace(query, from_s=from_s, to_s=to_s), "the month before"
    days = -(-(query.to_s - query.from_s) // DAY_S)
    name = {1: "the day before", 7: "the week before"}.get(days, f"the {days:,} days before")
    return replace(query, from_s=query.from_s - days * DAY_S, to_s=query.to_s - days * DAY_S), name


def cost_query(query: UsageQuery, regions: frozenset[str] = frozenset()) -> CostQuery:
    """The question about costs whose rows have the costs of the page; no regions mean all."""
    usage = replace(query, group_by=("account_id", "usage_type"), details=(), order=None, top=None, now=False)
    return CostQuery(usage=usage, regions=regions)


def change_text(now: int, before: int) -> str:
    """A change in per cent: `+12.3 %`."""
    tenths = (2_000 * abs(now - before) + before) // (2 * before)
    return f"{'-' if now < before else '+'}{tenths // 10:,}.{tenths % 10} %"


def largest(sums: Mapping[str, Total], most: int) -> tuple[list[tuple[str, Total]], Total | None, int]:
    """The largest totals, the exact sum of the other totals (if any), and how many others there are."""
    ordered = sorted(sums.items(), key=lambda item: (-item[1].bytes, item[0]))
    rest = ordered[most:]
    others = sum_totals(total for _, total in rest) if rest else None
    return ordered[:most], others, len(rest)


Markup = NewType("Markup", str)
"""Text that is HTML already."""

_EMPTY_ELEMENTS = frozenset({"meta", "rect", "line"})


def text(value: str) -> Markup:
    """Escape markup, terminal control characters, and spreadsheet formulas in data."""
    return Markup(escape(spreadsheet_text(printable(value))))


def words(value: str) -> Markup:
    """Escape the page's own words and numbers, which may begin with any character."""
    return Markup(escape(printable(value)))


def tag(name: str, /, *inside: Markup, **attributes: str | int) -> Markup:
    """An element. The attribute `class_` becomes `class`, and every other `_` in a name becomes `-`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(printable(str(value)))}"' for key, value in attributes.items()
    )
    if name in _EMPTY_ELEMENTS:
        return Markup(f"<{name}{given}/>" if name != "meta" else f"<{name}{given}>")
    return Markup(f"<{name}{given}>{''.join(inside)}</{name}>")


def lines(*parts: Markup) -> Markup:
    """Parts below each other."""
    return Markup("\n".join(parts))


def html(title: str, sections: Iterable[Markup]) -> str:
    """A whole page. Whatever the data, a browser loads nothing and runs nothing."""
    head = lines(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        tag("title", words(title)),
        tag("style", Markup("\n" + resources.files("metering.reports").joinpath("page.css").read_text("utf-8"))),
    )
    body = tag("main", lines(*sections))
    page = tag("html", lines(tag("head", head), tag("body", body)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def section(title: str, content: Markup, *, about: str = "") -> Iterator[Markup]:
    """A section: a heading, an explanation, and the content."""
    yield tag("h2", words(title))
    if about:
        yield tag("p", words(about), class_="soft")
    yield content


def table(head: Markup, body: Iterable[Markup], foot: Markup | None = None, *, class_: str = "") -> Markup:
    """A table of rows, which scrolls sideways if it is wide."""
    parts = [head, tag("tbody", *body), *([] if foot is None else [tag("tfoot", foot)])]
    return tag("div", tag("table", *parts, **({"class_": class_} if class_ else {})), class_="scroll")


def headings(*names: str, left: int = 1) -> Markup:
    """The headings of a table: first the headings of text columns, then those of number columns."""
    cells = [
        tag("th", text(name)) if place < left else tag("th", text(name), class_="n") for place, name in enumerate(names)
    ]
    return tag("thead", tag("tr", *cells))


def numbers(*figures: str) -> Iterator[Markup]:
    """Cells with numbers."""
    return (tag("td", words(figure), class_="n") for figure in figures)


_WIDTH, _HEIGHT = 960, 240
_LEFT, _TOP, _BOTTOM = 70, 12, 28
_LABELS = 8
_LABEL = 90
_GAP = 3
_STEPS = 4
_LAYERS = 5


def trend(figures: Figures, earlier: Earlier | None = None) -> Markup:
    """Bars of the largest usage types and the others, with axis, legend, and the period before as a dashed line.

    Each bar's title states its exact total.
    """
    bars = figures.trend
    highest = max((*(each.bytes for each in bars.values()), *(earlier.values if earlier else ())), default=0)
    plot = _HEIGHT - _TOP - _BOTTOM
    parts = []
    for step in range(_STEPS + 1):
        y = _TOP + plot - plot * step // _STEPS
        parts.append(tag("line", class_="grid", x1=_LEFT, x2=_WIDTH, y1=y, y2=y))
        label = size_text(highest * step // _STEPS)
        parts.append(tag("text", words(label), x=_LEFT - 8, y=y + 4, text_anchor="end"))
    kept, others, rest = largest(figures.usage_types, _LAYERS)
    names = [name for name, _ in kept]
    every = -(-len(bars) // _LABELS) or 1
    for place, (name, total) in enumerate(bars.items()):
        left, width = _span(place, len(bars))
        about = f"{_shown(name)}: {exact_and_size(total.bytes)} in {counted(total.records, 'record')}"
        rects = _layers_of(figures, name, names, highest, plot)
        boxes = [tag("rect", class_=colour, x=left, y=y, width=width, height=height) for colour, y, height in rects]
        parts.append(tag("g", tag("title", text(about)), *boxes))
        if place % every == 0 and left <= _WIDTH - _LABEL:
            parts.append(tag("text", text(_shown(name)), x=left, y=_HEIGHT - 8))
    if earlier and highest > 0:
        parts.extend(_dashes(earlier.values[: len(bars)], len(bars), highest, plot))
    size = f"0 0 {_WIDTH} {_HEIGHT}"
    picture = tag("svg", *parts, viewBox=size, role="img", aria_label="Bytes over time")
    legend = [(f"c{place}", name, total.bytes) for place, (name, total) in enumerate(kept)]
    legend += [] if others is None else [("rest", f"{rest:,} others", others.bytes)]
    legend += [] if earlier is None else [("dash", earlier.name, earlier.bytes)]
    return tag("div", picture, tag("ul", *map(_legend_line, legend), class_="legend"), class_="pictured")


def _legend_line(line: tuple[str, str, int]) -> Markup:
    colour, name, size = line
    return tag("li", tag("span", class_=f"swatch {colour}"), tag("span", text(name)), tag("b", words(size_text(size))))


def _span(place: int, count: int) -> tuple[int, int]:
    """Left edge and width of a bar."""
    left = _LEFT + (_WIDTH - _LEFT) * place // count
    return left, max(_LEFT + (_WIDTH - _LEFT) * (place + 1) // count - left - _GAP, 1)


def _layers_of(
    figures: Figures, moment: str, names: Sequence[str], highest: int, plot: int
) -> Iterator[tuple[str, int, int]]:
    """Colour, top and height of each layer of a bar, from the bottom up; a value above zero is visible."""
    values = [(f"c{place}", figures.layers[name].get(moment, 0)) for place, name in enumerate(names)]
    values.append(("rest", figures.trend[moment].bytes - sum(value for _, value in values)))
    below, at = 0, 0
    for colour, value in values:
        if value <= 0:
            continue
        below += value
        top = max(plot * below // highest, at + 1)
        yield colour, _TOP + plot - top, top - at
        at = top


def _dashes(values: Sequence[int], count: int, highest: int, plot: int) -> Iterator[Markup]:
    for place, value in enumerate(values):
        left, width = _span(place, count)
        y = _TOP + plot - plot * value // highest
        yield tag("line", class_="dash", x1=left, x2=left + width, y1=y, y2=y)


def _shown(name: str) -> str:
    return name.replace("T", " ")


TOP_ACCOUNTS = 20
# A longer list of accounts would not fit into an e-mail: each row takes about 200 bytes.
MOST_ACCOUNTS = 400
_TOP_TYPES = 40
_TOP_PLACES = 12
_OTHERS = "others"
_HOLDS = 3
# Maximum opacity of a matrix cell (of 255): the cell's text must stay readable in light and dark mode.
_HEAT = 55


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePage:
    """A page about usage, including usage not rolled up yet, and each region's last reconciliation, if any."""

    stage: str
    query: UsageQuery
    figures: Figures
    as_of_s: int
    complete: Complete
    by_region: Mapping[str, Complete]
    reconciled: Mapping[str, Reconciliation | None]
    periods: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    lacks: usage_rows.NotRolledUp | None = None
    accounts: int = TOP_ACCOUNTS
    earlier: Earlier | None = None
    costs: CostRows | None = None
    no_costs: str = ""

    def html(self) -> str:
        """The page."""
        return html(f"Usage {self._range()}", self._sections())

    def _sections(self) -> Iterable[Markup]:
        yield self._heading()
        figures = self.figures
        accounts = self._ranked(figures.accounts, "account", self.accounts, self._costs_of(0))
        yield from section(f"By {figures.bucket}", trend(figures, self.earlier), about=self._unit())
        yield from section("Accounts", accounts, about="The largest first.")
        yield from section("From where to where", self._matrix(), about=_MATRIX)
        kinds = self._ranked(figures.usage_types, "usage type", _TOP_TYPES, self._costs_of(1))
        yield from section("Usage types", kinds)
        if figures.processed:
            costs = self._costs_of(1)
            yield from section("Processed by gateways and endpoints", self._processed(costs), about=_PROCESSED)
        yield from section("Regions and their freshness", self._freshness())
        yield from section("Proof", self._proof(), about=_PROOF)
        yield from section("The same figures again", tag("pre", words(self.command)))
        told = [self.no_costs] if self.no_costs else []
        told += ["Costs are rounded to cents; metering cost has all digits."] if self.costs else []
        yield tag("p", words(" ".join([f"Sizes: {SIZE_BASE} Numbers of bytes are exact.", *told])), class_="soft")

    def _range(self) -> str:
        query = self.query
        return f"{time_range.shown(query.from_s, query.zone)} to {time_range.shown(query.to_s, query.zone)}"

    def _heading(self) -> Markup:
        total, query = self.figures.total, self.query
        filters = {each.name.removesuffix("_location").replace("_", " "): values for each, values in query.given}
        only = [f"only {name} {', '.join(sorted(values))}" for name, values in filters.items()]
        corrections = ["with later corrections"] if query.with_corrections else []
        told = "; ".join([f"Stage {self.stage}", ", ".join(self.by_region), *only, *corrections])
        return lines(
            tag("h1", words("Data transfer")),
            tag("p", words(self._range()), class_="soft"),
            tag("p", words(told), class_="soft"),
            tag("p", words(size_text(total.bytes)), class_="big"),
            tag("p", words(f"{total.bytes:,} bytes in {counted(total.records, 'record')}")),
            *self._beside(),
            *self._against(),
            tag("div", *self._facts(), class_="facts"),
        )

    def _beside(self) -> Iterable[Markup]:
        size = sum(each.bytes for each in self.figures.processed.values())
        if size:
            yield tag("p", words(f"{size_text(size)} of it processed by gateways and endpoints"), class_="soft")

    def _processed(self, costs: Mapping[str, Costs] | None) -> Markup:
        rows = sorted(self.figures.processed.items(), key=lambda each: (-each[1].bytes, each[0]))
        body = (
            tag(
                "tr",
                tag("td", text(name)),
                *([] if costs is None else [_cost_cell(costs.get(name, Costs()))]),
                *numbers(f"{total.bytes:,}", size_text(total.bytes), f"{total.records:,}"),
            )
            for name, total in rows
        )
        money = [] if costs is None else ["cost (USD)"]
        return table(headings("usage type", *money, "bytes", "size", "records"), body)

    def _against(self) -> Iterable[Markup]:
        earlier = self.earlier
        if earlier is not None and earlier.bytes > 0:
            change = change_text(self.figures.total.bytes, earlier.bytes)
            yield tag("p", words(f"{change} against {earlier.name} ({size_text(earlier.bytes)})"))

    def _costs_of(self, column: int) -> Mapping[str, Costs] | None:
        """Costs by a column of the costs' rows; None without costs."""
        if self.costs is None:
            return None
        found: dict[str, Costs] = {}
        for row in self.costs.rows:
            found.setdefault(row.values[column], Costs()).plus(row.total)
        return found

    def _facts(self) -> Iterable[Markup]:
        if self.costs is not None:
            total = self.costs.total
            without = f"{size_text(total.unpriced)} without a price, in no cost" if total.unpriced else ""
            yield _fact("Cost", f"{_cents(total)} USD", without, "late")
        yield _fact("As of", rfc3339(self.as_of_s), "")
        closed = [month for month, state in self.periods.items() if state == "closed"]
        final = bool(closed) and len(closed) == len(self.periods) and not self.query.with_corrections
        if final:
            yield _fact("Closed", ", ".join(closed), "These figures are final.", "well")
            return
        held = self.complete.held_back_by
        yield _fact(
            "Complete through",
            _through(self.complete, self.as_of_s),
            f"held back by {'; '.join(each.what for each in held[:_HOLDS])}" if held else "nothing holds it back",
            "late" if held else "well",
        )
        for line in usage_answer.waiting_lines(self.lacks):
            yield _fact("Not counted yet", line, "", "late")
        if closed:
            yield _fact("Closed months", ", ".join(closed), "Their figures are final.", "well")

    def _unit(self) -> str:
        zone = "UTC" if self.query.zone is UTC else f"{self.query.zone}; each is the sum of its UTC hours"
        return f"Bytes by {self.figures.bucket}, {zone}. GB is 2^30 bytes."

    def _ranked(
        self, sums: Mapping[str, Total], what: str, most: int, costs: Mapping[str, Costs] | None = None
    ) -> Markup:
        rows, others, rest = largest(sums, most)
        whole = self.figures.total
        cells = [(text(name), total, costs and costs.get(name, Costs())) for name, total in rows]
        if others is not None:
            kept = {name for name, _ in rows}
            left = costs and total_of(cost for name, cost in costs.items() if name not in kept)
            cells.append((words(f"{rest:,} others"), others, left))
        cells.append((words("total"), whole, costs and total_of(costs.values())))
        *body, foot = (
            tag(
                "tr", tag("td", name), *([] if costs is None else [_cost_cell(cost or Costs())]), *_totals(total, whole)
            )
            for name, total, cost in cells
        )
        money = [] if costs is None else ["cost (USD)"]
        return table(headings(what, *money, "bytes", "size", "share", "records"), body, foot)

    def _matrix(self) -> Markup:
        pairs = self.figures.pairs
        rows = _places(pairs, 0)
        columns = _places(pairs, 1)
        cells: dict[tuple[str, str], int] = {}
        for (source, target), total in pairs.items():
            place = (source if source in rows else _OTHERS, target if target in columns else _OTHERS)
            cells[place] = cells.get(place, 0) + total.bytes
        highest = max(cells.values(), default=0)
        body = (
            tag("tr", tag("th", text(row)), *(_heat(cells.get((row, column)), highest) for column in columns))
            for row in rows
        )
        return table(headings("from \\ to", *columns), body, class_="heat")

    def _freshness(self) -> Markup:
        rows = []
        for region, complete in self.by_region.items():
            held = "; ".join(each.what for each in complete.held_back_by[:_HOLDS]) or "nothing"
            total = self.figures.regions.get(region, ZERO)
            rows.append(
                tag(
                    "tr",
                    tag("td", text(region)),
                    tag("td", words(_through(complete, self.as_of_s))),
                    tag("td", text(held), class_="wide"),
                    *numbers(f"{total.bytes:,}", f"{total.records:,}"),
                )
            )
        return table(headings("region", "complete through", "held back by", "bytes", "records", left=3), rows)

    def _proof(self) -> Markup:
        rows = []
        for region, known in self.reconciled.items():
            told = ("never", "", "", "") if known is None else (
                rfc3339(known.finished_s) if known.finished_s else "not finished yet",
                f"{known.hours:,}",
                f"{known.differences:,}",
                f"{known.backlog.waiting:,}",
            )  # fmt: skip
            rows.append(tag("tr", tag("td", text(region)), tag("td", words(told[0])), *numbers(*told[1:])))
        return table(headings("region", "last reconciliation", "hours compared", "different", "waiting", left=2), rows)


def answer_page(answer: Answer) -> str:
    """An answer as a page: its table with all columns, and the lines below it."""
    aligned = {"bytes", "whole", "integer", "money"}
    columns = sorted(answer.columns, key=lambda column: column.kind in aligned)
    left = sum(column.kind not in aligned for column in columns)
    names = [column.heading for column in columns]

    def row(cells: Mapping[str, Cell]) -> Markup:
        texts = ["" if (cell := cells.get(column.name)) is None else cell for column in columns]
        shown = [f"{cell:,}" if isinstance(cell, int | Decimal) else cell for cell in texts]
        return tag("tr", *(tag("td", text(each)) for each in shown[:left]), *numbers(*shown[left:]))

    body = table(headings(*names, left=left), map(row, answer.rows_and_others())) if answer.rows else None
    parts = [tag("h1", words(answer.title)), body or tag("p", words(answer.empty))]
    return html(answer.title, [*parts, *(tag("p", words(line)) for line in (*answer.footer, *answer.commands))])


_MATRIX = "Rows: from. Columns: to. The darker a cell, the more bytes; the darkest has the most."
_PROCESSED = "A second count of bytes, as on AWS's bill: in no sum of bytes here, and in the costs."
_PROOF = (
    "The reconciler compares batch markers, the usage table and the rows of the lake, hour by hour, down to the byte. "
    "Different must be 0."
)


def _fact(name: str, value: str, about: str, mood: str = "") -> Markup:
    told = [tag("span", words(name), class_="soft"), tag("b", words(value))]
    if about:
        told.append(tag("span", words(about), class_=mood))
    return tag("div", *told, class_="fact")


def _cents(costs: Costs) -> str:
    return cents_text(Decimal(exact_text(costs.exact)))


def _cost_cell(costs: Costs) -> Markup:
    """Cents, with the exact cost as title; words for usage without a price."""
    if not costs.known or (costs.bytes and costs.bytes == costs.unrated):
        return tag("td", words("not sold here" if costs.known else "no price"), class_="n soft")
    return tag("td", words(_cents(costs)), class_="n", title=f"{exact_text(costs.exact)} USD")


def _through(complete: Complete, as_of_s: int) -> str:
    return rfc3339(min(complete.through_s, as_of_s)) if complete.through_s > 0 else "not known yet"


def _totals(total: Total, whole: Total) -> Iterator[Markup]:
    tenths = total.bytes * 1000 // whole.bytes if whole.bytes > 0 else 0
    share = f"{tenths // 10}.{tenths % 10} %"
    return numbers(f"{total.bytes:,}", size_text(total.bytes), share, f"{total.records:,}")


def _places(pairs: Mapping[tuple[str, str], Total], side: int) -> Sequence[str]:
    """The locations with the most bytes, in order, and then `others` if there are more locations."""
    sums: dict[str, Total] = {}
    for pair, total in pairs.items():
        add_totals(sums, {pair[side]: total})
    kept, others, _ = largest(sums, _TOP_PLACES)
    return [*(name for name, _ in kept), *([_OTHERS] if others is not None else [])]


def _heat(size: int | None, highest: int) -> Markup:
    if size is None:
        return tag("td", words(""), class_="n")
    percent = max(_HEAT * size // highest, 2) if highest > 0 and size > 0 else 0
    return tag(
        "td",
        words(size_text(size)),
        class_="n",
        title=exact_and_size(size),
        style=f"background:rgba(37,99,176,0.{percent:02d})",
    )
