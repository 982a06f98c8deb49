"""After the life of lake files, what is gone is said, and what is kept is as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from metering.billing.freezing import PeriodNotClosableError
from metering.hours import hour_of, month_bounds_s
from metering.lake.view import RowsGoneError
from metering.ledger.usage.region import START_KEY
from metering.reports.query import DetailColumn, UsageQuery
from metering.stores.objects import LAKE_PREFIX, SUMMARIES_PREFIX
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import ACCOUNT, World, record

if TYPE_CHECKING:
    from metering.reports.usage_rows import Values
    from metering.usage.totals import Total

LIFE_S = 270 * DAY_S
BEGAN_S = int(datetime(2026, 1, 20, 12, tzinfo=UTC).timestamp())
JANUARY, FEBRUARY = month_bounds_s("2026-01"), month_bounds_s("2026-02")


def query(from_s: int, to_s: int, *, account: str = "", details: tuple[DetailColumn, ...] = ()) -> UsageQuery:
    accounts = frozenset({account} if account else ())
    return UsageQuery(from_s=from_s, to_s=to_s, group_by=("usage_type",), accounts=accounts, details=details)


class Aged(World):
    """A region with rows of January, which was closed, and of February, which was not; S3 then deleted both."""

    def __init__(self, *, expired: bool = True, closed: bool = True, life_s: int = LIFE_S) -> None:
        super().__init__(now_s=BEGAN_S, lake_life_s=life_s)
        self.send([record(700, start_s=BEGAN_S), record(1, start_s=BEGAN_S, account="999999999999")])
        self.compact_all()
        self.clock.advance_s(20 * DAY_S)
        self.send([record(30, start_s=self.now_s)])
        self.compact_all()
        if closed:
            self.jobs.closer.close("2026-01", self.deadline())
        if expired:
            self.clock.advance_s(LIFE_S + 30 * DAY_S)
            for prefix in (LAKE_PREFIX, SUMMARIES_PREFIX):
                for key in self.objects.keys(prefix):
                    self.objects.remove(key)

    @property
    def now_s(self) -> int:
        return self.clock.now_ms() // 1000

    def total(self, asked: UsageQuery) -> dict[Values, Total]:
        return dict(self.source().entries(asked, now_s=self.now_s))


def test_a_lake_that_is_kept_for_ever_and_a_region_that_is_younger_say_nothing() -> None:
    assert Aged(expired=False, life_s=0).jobs.view.kept(JANUARY[0]) == JANUARY[0]
    young = Aged(expired=False)
    # Nothing can be so old that it was deleted, however far a range goes back.
    assert (young.jobs.view.kept(1), young.jobs.view.kept(0)) == (1, 0)
    assert len(young.jobs.view.hours()) == 2


def test_ranges_begin_where_all_rows_are_kept_or_are_refused_with_what_to_do() -> None:
    world = Aged()
    first_s = -(-(world.now_s - LIFE_S) // HOUR_S) * HOUR_S
    view = world.jobs.view
    everything_s = view.kept(0)
    assert (everything_s, view.kept(first_s)) == (first_s + DAY_S, first_s)
    world.clock.advance_s(DAY_S - 1)
    assert view.kept(everything_s) == everything_s
    world.clock.advance_s(1 - DAY_S)
    for ask in (view.kept, lambda from_s: view.hours(from_s=from_s), lambda from_s: view.hour_usage(hour_of(from_s))):
        with pytest.raises(RowsGoneError, match="not kept any more \\(lake_retention_days 270\\)") as caught:
            ask(first_s - HOUR_S)
        assert "name accounts" in caught.value.advice


def test_a_closed_month_and_an_account_report_as_before() -> None:
    before, after = Aged(expired=False), Aged()
    for asked in (query(*JANUARY), query(*JANUARY, account=ACCOUNT), query(*FEBRUARY, account=ACCOUNT)):
        assert after.total(asked) == before.total(asked) != {}


def test_an_account_has_all_its_usage_in_a_range_of_many_months_too() -> None:
    """No row is left of these months to say where usage begins."""
    before, after = Aged(expired=False, closed=False), Aged(closed=False)
    year = query(JANUARY[0] - 90 * DAY_S, JANUARY[0] + 365 * DAY_S, account=ACCOUNT)
    assert len(list(year.months(now_s=after.now_s))) > 12
    assert after.total(year) == before.total(year) != {}


OVER_ALL = {
    "since ever": query(0, FEBRUARY[1]),
    "an open month": query(*FEBRUARY),
    "with a closed one": query(JANUARY[0], FEBRUARY[1]),
}


@pytest.mark.parametrize("asked", OVER_ALL.values(), ids=OVER_ALL)
def test_the_totals_of_the_region_have_all_usage_though_its_rows_are_gone(asked: UsageQuery) -> None:
    assert Aged().total(asked) == Aged(expired=False).total(asked) != {}


@pytest.mark.parametrize(
    "asked", [*OVER_ALL.values(), query(*JANUARY, details=("resource_id",))], ids=[*OVER_ALL, "detail"]
)
def test_what_would_be_less_than_it_was_is_refused(asked: UsageQuery) -> None:
    """Details need rows, and so does a stage whose totals are not complete."""
    kept, gone = Aged(expired=False), Aged()
    for world in (kept, gone):
        world.items.remove(Table.USAGE, START_KEY)
    assert kept.total(asked)
    with pytest.raises(RowsGoneError):
        gone.total(asked)


def test_a_closed_month_is_verified_by_its_frozen_files_and_damage_is_still_found() -> None:
    world = Aged()
    assert world.jobs.closer.verify("2026-01") == []
    [hour] = [key for key in world.objects.keys("closed/2026-01/") if "T" in key]
    world.objects.upload(hour, b"damaged")
    assert len(world.jobs.closer.verify("2026-01")) == 1


def test_a_month_that_lost_rows_is_never_closed_and_stays_open() -> None:
    world = Aged(closed=False)
    with pytest.raises((RowsGoneError, PeriodNotClosableError), match="not kept any more"):
        world.jobs.closer.close("2026-01", world.deadline())
    assert world.jobs.closer.show("2026-01") is None


def test_closed_months_are_listed_though_their_rows_are_gone() -> None:
    months = {each.month: each.state for each in Aged().jobs.closer.months()}
    assert (months["2026-01"], months["2026-02"]) == ("closed", "open")


def test_a_repair_takes_nothing_off_usage_whose_rows_are_gone() -> None:
    world = Aged()
    kept = list(world.items.scan(Table.USAGE))
    result = world.jobs.reconciler.check(from_s=0, to_s=world.now_s)
    assert result.different == ()
    with pytest.raises(RowsGoneError):
        world.jobs.reconciler.check(from_s=JANUARY[0], to_s=world.now_s)
    world.jobs.rebuilder.usage(from_s=0, to_s=world.now_s)
    assert list(world.items.scan(Table.USAGE)) == kept != []
