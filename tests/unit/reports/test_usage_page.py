"""The HTML page for mail has balanced tags, exact sums, no injection from data, and no external resources."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from typing import TYPE_CHECKING

import pytest

from metering.audit.freshness import Complete, HeldBack
from metering.errors import OperationFailedError
from metering.hours import month_bounds_s
from metering.ledger.notes.reconciliation import Reconciliation
from metering.reports.costs.rows import CostQuery, CostRows
from metering.reports.costs.rows import Figures as Costs
from metering.reports.page import (
    MOST_ACCOUNTS,
    Earlier,
    UsagePage,
    change_text,
    figures_of,
    largest,
    page_query,
    query_before,
)
from metering.reports.query import UsageQuery
from metering.reports.usage_rows import ReportRow
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from metering.wiring.answers.pages import usage_page
from tests.api.world import WorldRegion
from tests.support.lake_world import HOUR, World, record
from tests.support.lake_world import NOW_S as HOUR_NOW_S

if TYPE_CHECKING:
    from metering.wiring.answers.costs import CostsFound

FROM_S, TO_S = month_bounds_s("2026-10")
NOW_S = TO_S + DAY_S
HELD = HeldBack(what="1 dead letter", since_s=FROM_S, cure="metering dlq list")
_EMPTY = {"meta", "rect", "line"}


class Reader(HTMLParser):
    """Parses a page, and checks that each element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in _EMPTY or self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def page(
    entries: list[tuple[tuple[str, ...], Total]], *, query: UsageQuery | None = None, accounts: int = 20
) -> UsagePage:
    asked = page_query(query or UsageQuery(from_s=FROM_S, to_s=TO_S), now_s=NOW_S)
    through = Complete(through_s=NOW_S - HOUR_S, held_back_by=(HELD,))
    return UsagePage(
        stage="prod", query=asked, figures=figures_of(entries, asked, now_s=NOW_S), as_of_s=NOW_S, complete=through,
        by_region={"us-east-1": through, "eu-west-1": Complete(through_s=NOW_S)},
        reconciled={"us-east-1": Reconciliation(finished_s=NOW_S, hours=744, differences=0), "eu-west-1": None},
        periods={"2026-10": "open"}, command="metering report usage --from 2026-10", accounts=accounts,
    )  # fmt: skip


def entry(
    size: int,
    **changes: str,
) -> tuple[tuple[str, ...], Total]:
    usual = {"day": "2026-10-05", "account": "111111111111", "kind": "DataTransfer-Out-Bytes"}
    places = {"source": "us-east-1/use1-az2", "target": "internet", "region": "us-east-1"}
    return tuple((usual | places | changes).values()), Total(size, 1)


def test_each_table_has_the_exact_total_to_the_last_digit() -> None:
    sizes = [2**70 + 1, 2**69 + 3, 7]
    rows = [entry(size, account=f"{number:012}", target=f"region-{number}") for number, size in enumerate(sizes)]
    html = page(rows, accounts=2).html()
    total = sum(sizes)
    # Heading, accounts, usage types, the only usage type, and the row of its region.
    assert html.count(f">{total:,}<") >= 4
    assert f"{total:,} bytes in 3 records" in html
    assert f">{sizes[0]:,}<" in html
    assert "1 others" in html
    assert f">{sizes[2]:,}<" in html


def test_the_others_are_the_exact_rest() -> None:
    sums = {f"{number}": Total(10**20 + number, 1) for number in range(30)}
    kept, others, rest = largest(sums, 7)
    assert others is not None
    assert (len(kept), rest) == (7, 23)
    assert sum(each.bytes for _, each in kept) + others.bytes == sum(each.bytes for each in sums.values())


def test_the_heading_says_range_freshness_and_what_holds_it_back() -> None:
    told = " ".join(read(page([entry(1)]).html()).texts)
    for words in ("2026-10-01T00:00:00Z to 2026-11-01T00:00:00Z", "Stage prod", "held back by 1 dead letter",
                  "metering report usage --from 2026-10", "GB is 2^30 bytes", "744", "never"):  # fmt: skip
        assert words in told


def test_a_closed_month_is_final_and_a_page_without_usage_is_a_page() -> None:
    empty = page([]).html()
    assert "0 bytes in 0 records" in empty
    read(empty)
    told = " ".join(read(replace(page([entry(1)]), periods={"2026-10": "closed"}).html()).texts)
    assert "These figures are final." in told
    assert "Complete through" not in told


@pytest.mark.parametrize("evil", [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</table></main><h1>", "' onmouseover='x",
    "&lt;script&gt;", "</style><script>", "javascript:alert(1)",
])  # fmt: skip
def test_names_never_become_markup(evil: str) -> None:
    rows = [entry(5, account=evil, kind=evil, source=evil, target=evil, region=evil)]
    plain = read(page([entry(5)]).html())
    by_region = {evil: Complete(through_s=NOW_S)}
    found = replace(page(rows), by_region=by_region, reconciled={evil: None}, command=evil, stage=evil)
    reader = read(found.html())
    assert {tag for tag, _ in reader.tags} <= {tag for tag, _ in plain.tags}
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("formula", ["=HYPERLINK(1)", "+1", "@SUM(A1)", "-2+3", " =1"])
def test_a_name_is_no_formula_where_somebody_pastes_the_table(formula: str) -> None:
    texts = read(page([entry(5, account=formula, kind=formula)]).html()).texts
    assert formula not in texts
    assert f"'{formula}" in texts


def test_a_page_needs_nothing_from_elsewhere() -> None:
    html = page([entry(5)]).html()
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<iframe|src=|href=", html.replace("<!DOCTYPE", ""))
    assert "default-src &#x27;none&#x27;" in html


def test_a_month_of_many_accounts_and_types_stays_below_200_kb() -> None:
    days = [f"2026-10-{day:02}" for day in range(1, 32)]
    rows = [
        entry(10**22 + number, day=day, account=f"{number % 5000:012}", kind=f"USE1-Type-{number % 300}-Bytes",
              source=f"from-region-{number % 40}", target=f"to-region-{number % 50}")
        for number, day in enumerate(day for day, _ in product(days, range(400)))
    ]  # fmt: skip
    html = page(rows, accounts=MOST_ACCOUNTS).html()
    assert len(html.encode()) < 200_000
    read(html)


@pytest.mark.parametrize(("days", "bucket"), [(2, "hour"), (31, "day"), (400, "month")])
def test_the_trend_has_a_bar_for_each_part_of_the_range(days: int, bucket: str) -> None:
    query = UsageQuery(from_s=FROM_S, to_s=FROM_S + days * DAY_S)
    asked = page_query(query, now_s=query.to_s)
    assert asked.group_by[0] == bucket
    bars = figures_of([], asked, now_s=query.to_s).trend
    assert len(bars) == {"hour": 48, "day": 31, "month": 0}[bucket]


def test_bars_fill_the_width_and_the_largest_is_the_highest() -> None:
    rows = [entry(size, day=f"2026-10-{size:02}") for size in range(1, 32)]
    bars = [attributes for name, attributes in read(page(rows).html()).tags if name == "rect"]
    widths = [int(each["width"] or 0) for each in bars]
    heights = [int(each["height"] or 0) for each in bars]
    assert len(bars) == 31
    assert sum(widths) > 0.8 * 890
    assert heights == sorted(heights)
    assert heights[-1] == 200


def test_the_five_largest_usage_types_have_layers_and_the_others_one_with_a_legend() -> None:
    rows = [entry(1000 - number, kind=f"Type-{number}-Bytes") for number in range(9)]
    html = page(rows).html()
    colours = [attributes["class"] for name, attributes in read(html).tags if name == "rect"]
    assert colours == ["c0", "c1", "c2", "c3", "c4", "rest"]
    assert "4 others" in html


def test_the_period_before_is_a_dashed_line_and_a_change() -> None:
    html = replace(page([entry(150)]), earlier=Earlier(name="the month before", values=[0, 60, 40])).html()
    assert "+50.0 % against the month before (100 bytes)" in html
    dashes = [attributes for name, attributes in read(html).tags if name == "line" and attributes["class"] == "dash"]
    assert len(dashes) == 3
    assert "against" not in page([entry(150)]).html()


@pytest.mark.parametrize(
    ("from_s", "to_s", "before"),
    [
        (*month_bounds_s("2026-03"), (*month_bounds_s("2026-02"), "the month before")),
        (FROM_S, FROM_S + 7 * DAY_S, (FROM_S - 7 * DAY_S, FROM_S, "the week before")),
        (FROM_S, FROM_S + 30 * HOUR_S, (FROM_S - 2 * DAY_S, FROM_S - 18 * HOUR_S, "the 2 days before")),
    ],
)
def test_the_period_before_is_a_month_or_whole_days(from_s: int, to_s: int, before: tuple[int, int, str]) -> None:
    query, name = query_before(UsageQuery(from_s=from_s, to_s=to_s))
    assert (query.from_s, query.to_s, name) == before


@pytest.mark.parametrize(("now", "before", "text"), [(120, 100, "+20.0 %"), (95, 100, "-5.0 %"), (7, 7, "+0.0 %")])
def test_a_change_is_in_per_cent(now: int, before: int, text: str) -> None:
    assert change_text(now, before) == text


def test_costs_are_in_cents_with_what_has_no_price() -> None:
    unit = 10**10
    rows = [
        ReportRow(
            values=("111111111111", "A-Bytes"),
            total=Costs(bytes=2**30, exact=2**30 * unit + 2**30 * unit // 400, priced=True),
        ),
        ReportRow(values=("222222222222", "B-Bytes"), total=Costs(bytes=2**40, unpriced=2**40)),
        ReportRow(values=("222222222222", "C-Bytes"), total=Costs(bytes=5, unrated=5)),
    ]
    entries = [
        entry(2**30, kind="A-Bytes"),
        entry(2**40, account="222222222222", kind="B-Bytes"),
        entry(5, account="222222222222", kind="C-Bytes"),
    ]
    html = replace(page(entries), costs=CostRows(rows=rows, unpriced={})).html()
    texts = read(html).texts
    assert texts.count("1.00") == 4, "an account, a usage type, and two totals"
    assert "1.00 USD" in texts
    assert "1.00 TB without a price, in no cost" in texts
    assert texts.count("no price") == 2
    assert texts.count("not sold here") == 1
    assert 'title="1.0025 USD"' in html
    assert "cost (USD)" not in page(entries).html()


def test_a_page_says_why_it_has_no_costs() -> None:
    world = World()
    world.send([record(5)])
    region = WorldRegion(world)

    def refused(_query: CostQuery) -> CostsFound:
        raise OperationFailedError("There is no price book aws-list.")

    query = UsageQuery(from_s=HOUR, to_s=HOUR + HOUR_S)
    complete = {region.region: Complete(through_s=HOUR)}
    made = usage_page([region], query, complete, now_s=HOUR_NOW_S, place=region.region, costs=refused)
    assert "Without costs. There is no price book aws-list." in made.decode()
