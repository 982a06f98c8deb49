"""A usage report as one page of HTML that can be mailed: it needs no network, no script and no other file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.reports.page.figures import largest
from metering.reports.page.markup import Markup, lines, tag, text, words
from metering.reports.page.style import STYLE
from metering.reports.page.trend import trend
from metering.reports.time_range import shown
from metering.reports.usage_answer import waiting_lines
from metering.units import SIZE_BASE, counted, exact_and_size, size_text
from metering.usage.totals import ZERO, Total

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.audit.held_back import Complete
    from metering.ledger.notes.reconciliation import Reconciliation
    from metering.reports.page.figures import Figures
    from metering.reports.query import UsageQuery
    from metering.reports.usage_rows import NotRolledUp

TOP_ACCOUNTS = 20
# A longer list of accounts would not fit the mail: about 200 bytes a row.
MOST_ACCOUNTS = 400
_TOP_TYPES = 40
_TOP_PLACES = 12
_OTHERS = "others"
_HOLDS = 3
# Strongest colour of a cell of the matrix, of 255: text on it must stay readable in light and dark.
_HEAT = 55


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePage:
    """What a page says.

    Attributes:
        stage: The stage whose usage it is.
        query: What was asked.
        figures: The totals.
        as_of_s: When it was asked.
        complete: Completeness of all regions together.
        by_region: Completeness of each region.
        reconciled: Result of each region's last reconciliation; None if there was none.
        periods: State of each month in the range.
        command: The command that shows the same figures.
        accounts: Most accounts to list.
        lacks: What waits for the roll-up, and is not in the figures.
    """

    stage: str
    query: UsageQuery
    figures: Figures
    as_of_s: int
    complete: Complete
    by_region: Mapping[str, Complete]
    reconciled: Mapping[str, Reconciliation | None]
    periods: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    lacks: NotRolledUp | None = None
    accounts: int = TOP_ACCOUNTS

    def html(self) -> str:
        """The page."""
        head = lines(
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            # Whatever stands in the data, a browser loads and runs nothing.
            tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
            tag("title", words(f"Usage {self._range()}")),
            tag("style", Markup(STYLE)),
        )
        body = tag("main", lines(*self._sections()))
        page = tag("html", lines(tag("head", head), tag("body", body)), lang="en")
        return f"<!DOCTYPE html>\n{page}\n"

    def _sections(self) -> Iterable[Markup]:
        yield self._heading()
        yield from _section(f"By {self.figures.bucket}", self._unit(), trend(self.figures.trend))
        yield from _section(
            "Accounts", "The largest first.", self._ranked(self.figures.accounts, "account", self.accounts)
        )
        yield from _section("From where to where", "Rows: from. Columns: to.", self._matrix())
        yield from _section("Usage types", "", self._ranked(self.figures.usage_types, "usage type", _TOP_TYPES))
        yield from _section("Regions and their freshness", "", self._freshness())
        yield from _section("Proof", _PROOF, self._proof())
        yield from _section("The same figures again", "", tag("pre", words(self.command)))
        yield tag("p", words(f"Sizes: {SIZE_BASE} Numbers of bytes are exact."), class_="soft")

    def _range(self) -> str:
        query = self.query
        return f"{shown(query.from_s, query.zone)} to {shown(query.to_s, query.zone)}"

    def _heading(self) -> Markup:
        total, query = self.figures.total, self.query
        filters = {
            "account": query.accounts,
            "service": query.services,
            "usage type": query.usage_types,
            "from": query.from_locations,
            "to": query.to_locations,
        }
        only = [f"only {name} {', '.join(sorted(values))}" for name, values in filters.items() if values]
        corrections = ["with later corrections"] if query.with_corrections else []
        told = "; ".join([f"Stage {self.stage}", ", ".join(self.by_region), *only, *corrections])
        return lines(
            tag("h1", words("Data transfer")),
            tag("p", words(self._range()), class_="soft"),
            tag("p", words(told), class_="soft"),
            tag("p", words(size_text(total.bytes)), class_="big"),
            tag("p", words(f"{total.bytes:,} bytes in {counted(total.records, 'record')}")),
            tag("div", *self._facts(), class_="facts"),
        )

    def _facts(self) -> Iterable[Markup]:
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
        for line in waiting_lines(self.lacks):
            yield _fact("Not counted yet", line, "", "late")
        if closed:
            yield _fact("Closed months", ", ".join(closed), "Their figures are final.", "well")

    def _unit(self) -> str:
        zone = "UTC" if self.query.zone is UTC else f"{self.query.zone}; each is the sum of its UTC hours"
        return f"Bytes by {self.figures.bucket}, {zone}. GB is 2^30 bytes."

    def _ranked(self, sums: Mapping[str, Total], what: str, most: int) -> Markup:
        rows, others, rest = largest(sums, most)
        cells = [(text(name), total) for name, total in rows]
        if others is not None:
            cells.append((words(f"{rest:,} others"), others))
        whole = self.figures.total
        head = _head(what, "bytes", "size", "share", "records")
        body = tag("tbody", *(tag("tr", tag("td", name), *_numbers(total, whole)) for name, total in cells))
        foot = tag("tfoot", tag("tr", tag("td", words("total")), *_numbers(whole, whole)))
        return _table(head, body, foot)

    def _matrix(self) -> Markup:
        pairs = self.figures.pairs
        rows = _places({pair[0]: ZERO for pair in pairs}, pairs, 0)
        columns = _places({pair[1]: ZERO for pair in pairs}, pairs, 1)
        cells: dict[tuple[str, str], int] = {}
        for (source, target), total in pairs.items():
            place = (source if source in rows else _OTHERS, target if target in columns else _OTHERS)
            cells[place] = cells.get(place, 0) + total.bytes
        highest = max(cells.values(), default=0)
        head = _head("from \\ to", *columns)
        body = tag(
            "tbody",
            *(
                tag("tr", tag("th", text(row)), *(_heat(cells.get((row, column)), highest) for column in columns))
                for row in rows
            ),
        )
        return _table(head, body, class_="heat")

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
                    *(tag("td", words(f"{number:,}"), class_="n") for number in (total.bytes, total.records)),
                )
            )
        return _table(
            _head("region", "complete through", "held back by", "bytes", "records", left=3), tag("tbody", *rows)
        )

    def _proof(self) -> Markup:
        rows = []
        for region, known in self.reconciled.items():
            told = ("never", "", "", "") if known is None else (
                rfc3339(known.finished_s) if known.finished_s else "not finished yet",
                f"{known.hours:,}",
                f"{known.differences:,}",
                f"{known.backlog.waiting:,}",
            )  # fmt: skip
            numbers = (tag("td", words(each), class_="n") for each in told[1:])
            rows.append(tag("tr", tag("td", text(region)), tag("td", words(told[0])), *numbers))
        head = _head("region", "last reconciliation", "hours compared", "different", "waiting", left=2)
        return _table(head, tag("tbody", *rows))


_PROOF = (
    "The reconciler compares batch markers, the usage table and the rows of the lake, hour by hour, down to the byte. "
    "Different must be 0."
)


def _section(title: str, about: str, content: Markup) -> Iterable[Markup]:
    yield tag("h2", words(title))
    if about:
        yield tag("p", words(about), class_="soft")
    yield content


def _fact(name: str, value: str, about: str, mood: str = "") -> Markup:
    told = [tag("span", words(name), class_="soft"), tag("b", words(value))]
    if about:
        told.append(tag("span", words(about), class_=mood))
    return tag("div", *told, class_="fact")


def _through(complete: Complete, as_of_s: int) -> str:
    return rfc3339(min(complete.through_s, as_of_s)) if complete.through_s > 0 else "not known yet"


def _table(*parts: Markup, class_: str = "") -> Markup:
    return tag("div", tag("table", *parts, class_=class_) if class_ else tag("table", *parts), class_="scroll")


def _head(*names: str, left: int = 1) -> Markup:
    cells = [
        tag("th", text(name)) if place < left else tag("th", text(name), class_="n") for place, name in enumerate(names)
    ]
    return tag("thead", tag("tr", *cells))


def _numbers(total: Total, whole: Total) -> Iterable[Markup]:
    tenths = total.bytes * 1000 // whole.bytes if whole.bytes > 0 else 0
    share = f"{tenths // 10}.{tenths % 10} %"
    for shown_as in (f"{total.bytes:,}", size_text(total.bytes), share, f"{total.records:,}"):
        yield tag("td", words(shown_as), class_="n")


def _places(names: Mapping[str, Total], pairs: Mapping[tuple[str, str], Total], side: int) -> Sequence[str]:
    """The places with the most bytes, in order, and `others` if there are more."""
    sums = dict(names)
    for pair, total in pairs.items():
        sums[pair[side]] = sums[pair[side]].plus(total)
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
