"""A report, SQL and an independent sum agree for any records, ranges, filters and zones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple, cast
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.hours import hour_of
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID, canary_body, slot_of
from metering.ledger.usage.region import START_KEY
from metering.reports.query import GroupColumn, UsageParameters, UsageQuery
from metering.reports.source import report_rows
from metering.reports.time_range import shown
from metering.reports.usage_rows import ranked, sum_of_rows
from metering.stores.queues import Delivery
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from tests.support.examples import examples
from tests.support.lake_world import HOUR, NOW_S, World, record

ACCOUNTS = ("000000000000", "111111111111", "222222222222", "333333333333")
PEERS = {"internet": "DataTransfer-Out-Bytes", "cloudfront": "CloudFront-Out-Bytes"}
# Clocks are set back on 2026-10-25 in Berlin and on 2026-11-01 in New York.
ZONES: tuple[tzinfo, ...] = (UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"))
FIRST_S = HOUR - 33 * DAY_S


class Sent(NamedTuple):
    """A sent record, without its expected usage."""

    account: str
    peer: str
    start_s: int
    size: int


RECORDS = st.lists(
    st.builds(
        Sent,
        account=st.sampled_from(ACCOUNTS),
        peer=st.sampled_from(sorted(PEERS)),
        start_s=st.one_of(
            st.integers(FIRST_S, NOW_S),
            # Hours around a clock change and around the start and end of a month.
            st.integers(int(datetime(2026, 10, 24, 21, tzinfo=UTC).timestamp()), FIRST_S + 5 * DAY_S),
            st.integers(int(datetime(2026, 10, 31, 21, tzinfo=UTC).timestamp()), FIRST_S + 12 * DAY_S),
        ),
        size=st.one_of(st.integers(0, 9), st.integers(2**61, 2**62)),
    ),
    min_size=1,
    max_size=25,
)
BUCKETS: dict[str, Callable[[datetime], str]] = {
    "hour": lambda hour: hour.isoformat() if hour.tzinfo is not UTC else hour.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "day": lambda hour: hour.strftime("%Y-%m-%d"),
    "month": lambda hour: hour.strftime("%Y-%m"),
}
_SQL_BUCKETS = {
    "hour": "epoch(hour)::BIGINT::VARCHAR", "day": "strftime(hour, '%Y-%m-%d')", "month": "strftime(hour, '%Y-%m')"
}  # fmt: skip


def world_of(sent: list[Sent], *, in_lake: int) -> World:
    """A region in which the first `in_lake` records are in lake files, and the others in staging."""
    world = World()
    for some in (sent[:in_lake], sent[in_lake:]):
        if some:
            world.send([record(each.size, start_s=each.start_s, account=each.account, to=each.peer) for each in some])
        if some is not sent[in_lake:]:
            world.compact_all()
    return world


def by_hand(sent: list[Sent], query: UsageQuery, bucket: str) -> dict[tuple[str, ...], tuple[int, int]]:
    sizes: Counter[tuple[str, ...]] = Counter()
    counts: Counter[tuple[str, ...]] = Counter()
    for each in sent:
        if not query.from_s <= each.start_s < query.to_s or not _wanted(each, query):
            continue
        hour = datetime.fromtimestamp(hour_of(each.start_s), query.zone)
        key = (each.account, PEERS[each.peer], BUCKETS[bucket](hour))
        sizes[key] += each.size
        counts[key] += 1
    return {key: (sizes[key], counts[key]) for key in counts}


def _wanted(each: Sent, query: UsageQuery) -> bool:
    known = each.account in query.accounts if query.accounts else each.account != CANARY_ACCOUNT_ID
    return known and (not query.usage_types or PEERS[each.peer] in query.usage_types)


def by_sql(world: World, query: UsageQuery, bucket: str) -> dict[tuple[str, ...], tuple[object, ...]]:
    filters = {"account_id": query.accounts, "usage_type": query.usage_types}
    wanted = [f"{column} IN ({', '.join(map(repr, values))})" for column, values in filters.items() if values]
    where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
    found: dict[tuple[str, ...], tuple[object, ...]] = {}
    for view, records in (("transfers", "count(*)"), ("usage", "sum(records)")):
        sql = (
            f"SELECT account_id, usage_type, {_SQL_BUCKETS[bucket]}, sum(bytes), {records}::BIGINT "  # noqa: S608 - of ours
            f"FROM {view} {where} GROUP BY ALL"
        )
        result = world.lake.run(
            sql, from_s=query.from_s, to_s=query.to_s, zone=query.zone,
            with_canary=CANARY_ACCOUNT_ID in query.accounts,
        )  # fmt: skip
        rows: dict[tuple[str, ...], tuple[object, ...]] = {
            (str(account), str(kind), _label(str(name), query, bucket)): (size, count)
            for account, kind, name, size, count in result.rows
        }
        assert found in ({}, rows)
        found = rows
    return found


def _label(name: str, query: UsageQuery, bucket: str) -> str:
    return BUCKETS[bucket](datetime.fromtimestamp(int(name), query.zone)) if bucket == "hour" else name


@examples(40)
@given(
    sent=RECORDS,
    in_lake=st.integers(0, 25),
    bucket=st.sampled_from(sorted(BUCKETS)),
    zone=st.sampled_from(ZONES),
    ends=st.tuples(st.integers(0, 33 * 24), st.integers(1, 33 * 24)),
    accounts=st.sets(st.sampled_from(ACCOUNTS), max_size=2),
    types=st.sets(st.sampled_from(sorted(PEERS.values())), max_size=1),
)
def test_a_report_and_sql_are_the_sum_by_hand(
    sent: list[Sent],
    in_lake: int,
    bucket: str,
    zone: tzinfo,
    ends: tuple[int, int],
    accounts: set[str],
    types: set[str],
) -> None:
    world = world_of(sent, in_lake=in_lake)
    from_s = FIRST_S + ends[0] * HOUR_S
    query = UsageQuery(
        from_s=from_s, to_s=from_s + ends[1] * HOUR_S, zone=zone, accounts=frozenset(accounts),
        usage_types=frozenset(types), group_by=("account_id", "usage_type", cast("GroupColumn", bucket)),
    )  # fmt: skip
    source = world.source()
    rows = report_rows([source], query, now_s=NOW_S)
    expected = by_hand(sent, query, bucket)
    assert {row.values: tuple(row.total.total) for row in rows} == expected
    assert by_sql(world, query, bucket) == expected
    # The region's totals, then rows alone.
    together = replace(query, group_by=query.group_by[1:])
    summed: Counter[tuple[str, ...]] = Counter()
    for (_, *values), (size, _) in expected.items():
        summed[tuple(values)] += size
    for _ in range(2):
        rows = report_rows([source], together, now_s=NOW_S)
        assert {row.values: row.total.bytes for row in rows} == {values: summed[values] for values in summed}
        world.items.remove(Table.USAGE, START_KEY)


@settings(max_examples=25, deadline=None)
@given(sent=RECORDS, top=st.integers(1, 6), column=st.sampled_from(["bytes", "records", "account_id", "day"]))
def test_the_first_rows_and_the_others_are_the_whole(sent: list[Sent], top: int, column: str) -> None:
    world = world_of(sent, in_lake=10)
    asked = UsageParameters(
        start=shown(FIRST_S), group_by="account_id,day", top=top, sort=f"{column}:desc", zone="Europe/Berlin"
    )
    query = asked.query(now_s=NOW_S)
    source = world.source()
    rows = report_rows([source], query, now_s=NOW_S)
    cut = ranked(rows, query, lambda some: sum_of_rows(some, query))
    hand = by_hand(sent, replace(query, group_by=()), "day").values()
    shown_bytes = sum(row.total.bytes for row in cut.rows)
    shown_records = sum(row.total.records for row in cut.rows)
    others = (cut.others.bytes, cut.others.records) if cut.others is not None else (0, 0)
    assert (shown_bytes + others[0], shown_records + others[1]) == (
        sum(size for size, _ in hand), sum(count for _, count in hand)
    )  # fmt: skip
    assert len(cut.rows) == min(top, cut.rows_total)
    assert (cut.others is None) == (cut.rows_total <= top)
    if column in {"bytes", "records"}:
        values = [getattr(row.total, column) for row in rows]
        assert values == sorted(values, reverse=True)


@settings(max_examples=15, deadline=None)
@given(sent=RECORDS, zone=st.sampled_from(ZONES))
def test_the_days_of_any_zone_add_up_to_the_same_total(sent: list[Sent], zone: tzinfo) -> None:
    world = world_of(sent, in_lake=len(sent))
    source = world.source()
    for bucket in BUCKETS:
        query = UsageQuery(from_s=FIRST_S, to_s=HOUR + HOUR_S, group_by=(cast("GroupColumn", bucket),), zone=zone)
        rows = report_rows([source], query, now_s=NOW_S)
        counts = (each for each in sent if each.account != CANARY_ACCOUNT_ID and each.start_s >= FIRST_S)
        assert sum(row.total.bytes for row in rows) == sum(each.size for each in counts)


def test_a_region_with_canaries_has_one_total_in_report_and_sql() -> None:
    world = World()
    world.send([record(5), record(7, account="222222222222")])
    body = canary_body(slot_of(NOW_S), "us-east-1")
    delivery = Delivery(message_id="canary", body=body, sent_at_ms=NOW_S * 1000, receive_count=1, sender_id="canary")
    assert not world.aggregator.handle([delivery], world.deadline()).retry
    world.compact_all()
    source = world.source()
    query = UsageQuery(from_s=HOUR, to_s=HOUR + HOUR_S, group_by=("service",))
    rows = report_rows([source], query, now_s=NOW_S)
    for view, records in (("transfers", "count(*)"), ("usage", "sum(records)")):
        sql = f"SELECT service, sum(bytes), {records} FROM {view} GROUP BY 1"  # noqa: S608 - of ours
        assert (
            list(world.lake.run(sql).rows)
            == [("AmazonEC2", 12, 2)]
            == [(*row.values, *row.total.total) for row in rows]
        )
        services = {row[0] for row in world.lake.run(sql, with_canary=True).rows}
        assert services == {"AmazonEC2", "MeteringCanary"}
