"""Usage as of now is exact at any progress of the roll-up, also for accounts with commits in any state."""

from contextlib import suppress
from functools import partial
from itertools import count

import pytest

from metering.errors import LedgerCorruptError
from metering.ledger.runs import newest_run
from metering.ledger.usage.reading import UsageReading
from metering.rollup.as_of_now import UsageNow
from metering.units import HOUR_S
from tests.support.memory.rows import PlainLake
from tests.unit.rollup.small_region import ACCOUNT, NOW_S, AtCall, KilledError, SmallRegion, die, row

_OTHER = "999999999999"
_OLD_S = NOW_S - 5 * HOUR_S
_MONTHS = ("2026-11",)


def _region(shards: int = 2) -> SmallRegion:
    region = SmallRegion()
    region.commit("a1", [row(1), row(2, usage_type="T2")])
    region.rollup(shards=shards, cap=2).run(region.deadline())
    region.commit("c1", [row(4), row(8, usage_type="T2"), row(16, hour_s=_OLD_S), row(32, account=_OTHER)])
    region.commit("c2", [row(64), row(128, hour_s=_OLD_S, booked_s=NOW_S), row(256, usage_type="T3")], shard=1)
    return region


def _roll_up(region: SmallRegion) -> None:
    region.rollup(shards=2, cap=2).run(region.deadline())


def _now(region: SmallRegion, shards: int = 2) -> UsageNow:
    return UsageNow(
        reading=UsageReading(region.items), objects=region.objects, staged=PlainLake(region.objects), shards=shards
    )


def test_usage_as_of_now_is_exact_wherever_the_roll_up_stopped() -> None:
    for number in count():
        region = _region()
        with AtCall(region, number, die) as at, suppress(KilledError):
            region.rollup(shards=2, cap=2).run(region.deadline())
        # If commits arrive while a run is planned, the plan does not include them.
        region.commit("e1", [row(512), row(1024, usage_type="T2")])
        assert _now(region).usage([ACCOUNT, _OTHER], _MONTHS) == region.committed
        if not at.done:
            break
    assert number > 20


def test_usage_as_of_now_is_exact_while_the_roll_up_begins_and_ends_between_any_two_of_its_calls() -> None:
    stops = range(0, 40, 3)
    for stop in stops:
        for number in count():
            region = _region()
            with AtCall(region, stop, die), suppress(KilledError):
                region.rollup(shards=2, cap=2).run(region.deadline())
            with AtCall(region, number, partial(_roll_up, region)) as at:
                assert _now(region).usage([ACCOUNT, _OTHER], _MONTHS) == region.committed
            if not at.done:
                break
        assert number > 5


def test_only_what_is_asked_for_is_answered() -> None:
    region = _region()
    now = _now(region)
    assert {key.account_id for key in now.usage([_OTHER], _MONTHS)} == {_OTHER}
    hour = now.usage([ACCOUNT], _MONTHS, from_s=_OLD_S + 60, to_s=_OLD_S + 120)
    assert {key.hour_s for key in hour} == {_OLD_S}
    assert sum(total.bytes for total in hour.values()) == 16
    assert now.usage([ACCOUNT], ["2026-10"]) == {}
    assert now.usage([], _MONTHS) == {}


def test_a_staging_object_that_is_gone_is_an_error_and_never_skipped() -> None:
    region = _region()
    waiting = region.commit("g1", [row(1)])
    region.objects.delete([waiting.staging_key])
    with pytest.raises(LedgerCorruptError, match=r"staging/.*g1.* is gone"):
        _now(region).usage([ACCOUNT], _MONTHS)


def test_a_plan_that_is_gone_is_an_error_and_never_skipped() -> None:
    region = _region(shards=1)
    for number in count():
        run = newest_run(region.items, "U0")
        if run is not None and run.state == "planned":
            break
        with AtCall(region, number, die), suppress(KilledError):
            region.rollup().run(region.deadline(), shard=0)
    assert run is not None
    region.objects.delete([run.plan_key])
    with pytest.raises(LedgerCorruptError, match="is gone"):
        _now(region).usage([ACCOUNT], _MONTHS)
