"""After a restore, the region's totals go on only if they had all that the old roll-up had booked (P51)."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from metering.ledger.runs import newest_run
from metering.ledger.usage.region import region_start
from metering.restore.marking import UsageMarks
from tests.support.earlier import earlier
from tests.unit.rollup.small_region import AtCall, KilledError, SmallRegion, die, row
from tests.unit.rollup.test_region import booked, expected

if TYPE_CHECKING:
    from metering.restore.decision import Decision

LIFT = 1 << 40


def usage_marks(region: SmallRegion) -> UsageMarks:
    rollup = region.rollup()
    return UsageMarks(
        items=region.items, objects=region.objects, numbers=rollup.numbers, retrier=rollup.retrier, shards=1
    )


def restored(region: SmallRegion) -> bool:
    """Whether the totals go on above the newest run, which stands for the lift."""
    usage_marks(region).lift_region()
    newest, start = newest_run(region.items, "U0"), region_start(region.items)
    return newest is not None and start is not None and start.runs.get(0) == newest.number


def stopped_regions() -> Iterator[SmallRegion]:
    """Regions whose second run stopped at each of its calls; in the last, it completed."""
    for number in count():
        region = SmallRegion()
        region.commit("c1", [row(1)])
        region.rollup().run(region.deadline())
        region.commit("c2", [row(2)])
        with AtCall(region, number, die) as at, suppress(KilledError):
            region.rollup().run(region.deadline())
        yield region
        if not at.done:
            break


def test_they_go_on_after_runs_of_this_release_wherever_the_last_one_stopped() -> None:
    for region in stopped_regions():
        assert restored(region)


def test_they_do_not_go_on_after_a_run_of_an_earlier_release() -> None:
    region = SmallRegion()
    region.commit("c1", [row(1)])
    region.rollup().run(region.deadline())
    region.commit("c2", [row(2)])
    earlier(region.rollup()).run(region.deadline())
    assert not restored(region)


def test_hours_of_a_run_that_an_earlier_release_may_have_finished_are_corrected_or_the_totals_do_not_go_on() -> None:
    lacked = 0
    for region in stopped_regions():
        earlier(region.rollup()).run(region.deadline())
        unsure = usage_marks(region).run(cast("Decision", SimpleNamespace(lifts={"U0": LIFT, "L0": LIFT})))
        if restored(region) and booked(region) != expected(region):
            lacked += 1
            assert unsure == {key.hour_s for key in region.committed}
    assert lacked > 0


def test_they_begin_in_a_usage_table_to_which_nothing_was_written_and_not_in_one_of_an_earlier_release() -> None:
    region = SmallRegion()
    restored(region)
    start = region_start(region.items)
    assert start is not None
    assert start.since_s == 0
    used = SmallRegion()
    used.commit("c1", [row(1)])
    earlier(used.rollup()).run(used.deadline())
    restored(used)
    assert region_start(used.items) is None
