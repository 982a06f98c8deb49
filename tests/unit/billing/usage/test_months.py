"""Usage of a month: lake, usage table and frozen month return the same lines for each payer."""

from __future__ import annotations

from contextlib import closing

import pytest

from metering.billing.payers import Membership, Organization, Payer
from metering.billing.usage.months import Correction, MonthUsage, TableMonth, UsageLine, merged
from metering.billing.usage.stored_months import ClosedMonth, LakeMonth, Spool, table_of
from metering.hours import month_bounds_s
from metering.lake.parquet.reader import ParquetTotals
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import ACCOUNT, NOW_S, World, record
from tests.support.priced import MemoryMonth, sold, used
from tests.unit.billing.test_months import FIRST_S, MONTH, world_with_october

OTHER = "210987654321"
NOVEMBER_S, _ = month_bounds_s("2026-11")
OUT = sold("DataTransfer-Out-Bytes")


def line(hour: int, account: str, size: int, *, service: str = "AmazonEC2") -> UsageLine:
    return used(size, hour, account=account, service=service)


def month(*regions: MemoryMonth, payers: tuple[Payer, ...] = ()) -> MonthUsage:
    return MonthUsage(regions=regions, month="2026-11", organization=Organization(payers=payers))


def payer(payer_id: str, *members: tuple[str, int, int | None]) -> Payer:
    memberships = tuple(Membership(account, from_s, to_s) for account, from_s, to_s in members)
    return Payer(payer_id=payer_id, name="Example", issuer="Metering", members=memberships)


def world_with_traffic() -> World:
    world = World()
    world.send([record(5), record(7, account=OTHER), record(9, start_s=NOW_S - 3 * DAY_S)])
    world.compact_all()
    return world


def test_an_open_month_has_the_same_lines_from_the_lake_and_from_the_usage_table() -> None:
    world = world_with_traffic()
    world.send([record(2**62), record(2**62 + 1), record(11, account=CANARY_ACCOUNT_ID)])
    table = TableMonth.read(world.items, region="us-east-1", month="2026-11", accounts=[ACCOUNT, OTHER])
    with closing(LakeMonth.read(world.jobs.view, region="us-east-1", month="2026-11")) as lake:
        assert list(lake.hour_lines()) == list(table.hour_lines())
        assert list(merged(sorted(lake.day_lines()))) == list(merged(sorted(table.day_lines())))
        assert list(lake.accounts()) == list(table.accounts()) == [ACCOUNT, OTHER]
        assert sum(each.bytes for each in lake.hour_lines()) == 5 + 7 + 9 + 2**63 + 1
        day_s = NOW_S - NOW_S % DAY_S
        for read in (lake, table):
            assert sum(each.bytes for each in read.hour_lines(frozenset([OTHER]), day_s=day_s)) == 7
            assert not list(read.hour_lines(day_s=day_s, sold=frozenset([sold(OUT.usage_type, "AmazonS3")])))
            assert [each.bytes for each in read.hour_lines(day_s=day_s - 3 * DAY_S)] == [9]


def test_totals_beside_lake_files_say_what_their_rows_say() -> None:
    world = world_with_traffic()
    world.send([record(2**62), record(2**62 + 1)])
    totals = ParquetTotals(world.objects, world.jobs.view.reader)
    for accounts in (frozenset[str](), frozenset([ACCOUNT])):
        read = [
            LakeMonth.read(world.jobs.view, region="us-east-1", month="2026-11", accounts=accounts, totals=each)
            for each in (None, totals)
        ]
        with closing(read[0]) as by_rows, closing(read[1]) as by_totals:
            assert list(by_totals.hour_lines()) == list(by_rows.hour_lines())
            assert sum(line.bytes for line in by_totals.hour_lines()) == 5 + 9 + 2**63 + 1 + (0 if accounts else 7)
    assert world.objects.keys("summaries/")


def test_a_large_month_is_kept_on_disk_and_read_part_by_part() -> None:
    lines = [line(hour, f"{account:012}", account + 1) for hour in (3, 1) for account in range(500)]
    with closing(Spool(memory_bytes=1_000)) as spool:
        for hour in (3, 1):
            spool.add(hour, table_of(line(hour, f"{account:012}", account + 1) for account in range(500)))
        assert spool.parts() == [1, 3]
        assert [*spool.lines(3), *spool.lines(1)] == lines
        assert list(spool.lines(2)) == []
        with pytest.raises(RuntimeError, match="takes no more rows"):
            spool.add(4, table_of([]))
    with pytest.raises(ValueError, match="closed file"):
        list(spool.lines(3))


def test_a_month_that_is_read_stays_as_it_was_when_it_was_read() -> None:
    world = World()
    world.send([record(5)])
    table = TableMonth.read(world.items, region="us-east-1", month="2026-11", accounts=[ACCOUNT])
    with closing(LakeMonth.read(world.jobs.view, region="us-east-1", month="2026-11")) as lake:
        world.send([record(6)])
        for read in (lake, table):
            assert [each.bytes for each in read.hour_lines()] == [5]
            assert [each.bytes for each in read.day_lines()] == [5]


def test_a_closed_month_and_its_corrections_stand_apart() -> None:
    world = world_with_october()
    frozen = world.jobs.closer.close(MONTH, world.deadline())
    closed = ClosedMonth(region="us-east-1", frozen=frozen, reader=world.jobs.frozen_files)
    assert sum(each.bytes for each in closed.hour_lines()) == frozen.total.bytes
    assert sum(each.bytes for each in closed.day_lines()) == frozen.total.bytes
    assert len(closed.digest) == 64
    world.send([record(17, start_s=FIRST_S + 5)])
    table = TableMonth.read(world.items, region="us-east-1", month="2026-11", accounts=[ACCOUNT])
    with closing(LakeMonth.read(world.jobs.view, region="us-east-1", month="2026-11")) as lake:
        for read in (lake, table):
            [(booked_s, late)] = read.late()
            assert booked_s >= NOVEMBER_S
            assert (late.hour_s, late.bytes) == (FIRST_S, 17)
            assert [each.bytes for each in read.hour_lines()] == [each.bytes for each in read.day_lines()] == [13]
    usage = MonthUsage(regions=(lake,), month="2026-11", organization=Organization())
    assert not usage.is_closed


def test_regions_are_merged_in_the_order_of_rating_and_equal_keys_are_one_line() -> None:
    east = MemoryMonth(usage=(line(0, "1", 10), line(2, "2", 20), line(2, "2", 5), line(3, "1", 4), line(3, "1", -4)))
    west = MemoryMonth(region="us-west-2", usage=(line(1, "2", 7), line(2, "2", 3)), digest="d")
    usage = month(east, west, payers=(payer("9", ("1", 0, None), ("2", 0, None)),))
    assert list(usage.payers()) == ["9"]
    assert not usage.is_closed
    assert list(usage.of("9").lines()) == [line(0, "1", 10), line(1, "2", 7), line(2, "2", 28)]
    assert usage.of("9").days() == {OUT: {NOVEMBER_S: 45}}
    assert list(usage.of("9").lines_of(frozenset([OUT]), NOVEMBER_S)) == list(usage.of("9").lines())
    assert list(usage.of("9").of_accounts(frozenset(["1"])).lines()) == [line(0, "1", 10)]


def test_an_account_that_moves_within_a_day_is_split_at_the_hour() -> None:
    moves_s = NOVEMBER_S + 5 * HOUR_S
    usage = month(
        MemoryMonth(usage=(line(4, "1", 10), line(5, "1", 100), line(30, "1", 1_000))),
        payers=(payer("8", ("1", 0, moves_s)), payer("9", ("1", moves_s, None))),
    )
    assert list(usage.payers()) == ["8", "9"]
    assert usage.of("8").days() == {OUT: {NOVEMBER_S: 10}}
    assert usage.of("9").days() == {OUT: {NOVEMBER_S: 100, NOVEMBER_S + DAY_S: 1_000}}
    assert [each.bytes for each in usage.of("9").lines()] == [100, 1_000]
    assert not list(usage.of("1").lines())


def test_corrections_belong_to_the_payer_of_their_own_hour() -> None:
    late = line(-10, "1", 3)
    usage = month(
        MemoryMonth(late_lines=(late, line(-10, "2", 4))),
        payers=(payer("8", ("1", 0, NOVEMBER_S)), payer("9", ("1", NOVEMBER_S, None))),
    )
    assert list(usage.corrections("8")) == [Correction("8", "2026-10", late, "us-east-1", late.hour_s)]
    assert [each.payer_id for each in usage.corrections()] == ["8", "2"]
    assert list(usage.payers()) == ["2", "8", "9"]
