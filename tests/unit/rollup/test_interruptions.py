"""If a process is killed, loses a reply, or shares its chain with another process, usage and lists stay exact."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest

from metering.ledger.booked_hours import pending_in, pointers_of
from metering.ledger.commits import waiting_in
from metering.units import HOUR_S
from tests.unit.rollup.small_region import NOW_S, AtCall, KilledError, SmallRegion, die, lose, row

_OLD_S = NOW_S - 5 * HOUR_S


def _region() -> SmallRegion:
    region = SmallRegion()
    region.commit("c1", [row(1), row(2, usage_type="T2"), row(4, hour_s=_OLD_S), row(8, account="999999999999")])
    region.commit("c2", [row(16), row(32, hour_s=_OLD_S, booked_s=NOW_S), row(64, usage_type="T3")])
    return region


def _settled(region: SmallRegion) -> None:
    """Check that no commit waits, that usage is exact, and that each commit was placed once."""
    assert region.usage() == region.committed
    assert list(waiting_in(region.items, 0)) == []
    assert {str(item["sk"]) for item in pending_in(region.items, 0)} == {"c1", "c2"}
    assert len(list(pointers_of(region.items, NOW_S))) == 2
    assert len(list(pointers_of(region.items, _OLD_S))) == 1


def _each_call(work: Callable[[int], bool]) -> int:
    """Call `work` with 0, 1, … until it returns False; return the number for which it did."""
    return next(number for number in count() if not work(number))


@pytest.mark.parametrize("blocks", [False, True], ids=["one by one", "in blocks"])
@pytest.mark.parametrize("reply", [False, True], ids=["before the call", "after it was applied"])
def test_a_process_that_dies_at_any_call_is_followed_by_one_that_ends_its_run(*, blocks: bool, reply: bool) -> None:
    def dies_at(number: int) -> bool:
        region = _region()
        with AtCall(region, number, die, reply=reply) as at, suppress(KilledError):
            region.rollup(blocks=blocks, cap=2).run(region.deadline())
        assert region.rollup(blocks=not blocks, cap=2).run(region.deadline()).finished
        _settled(region)
        return at.done

    assert _each_call(dies_at) >= 10


@pytest.mark.parametrize("blocks", [False, True], ids=["one by one", "in blocks"])
def test_a_lost_reply_of_any_call_changes_nothing(*, blocks: bool) -> None:
    def lost_at(number: int) -> bool:
        region = _region()
        with AtCall(region, number, lose, reply=True) as at:
            assert region.rollup(blocks=blocks, cap=2).run(region.deadline()).finished
        _settled(region)
        return at.done

    assert _each_call(lost_at) >= 10


@pytest.mark.parametrize("blocks", [False, True], ids=["one by one", "in blocks"])
def test_another_process_that_does_all_the_work_between_any_two_calls_changes_nothing(*, blocks: bool) -> None:
    def overtaken_at(number: int) -> bool:
        region = _region()

        def overtake() -> None:
            region.rollup(blocks=blocks, cap=2).run(region.deadline())

        with AtCall(region, number, overtake) as at:
            assert region.rollup(blocks=blocks, cap=2).run(region.deadline()).finished
        _settled(region)
        assert region.alerts.sent == []
        return at.done

    assert _each_call(overtaken_at) >= 10


def test_new_commits_and_two_more_runs_between_any_two_calls_change_nothing() -> None:
    def overtaken_at(number: int) -> bool:
        region = _region()

        def overtake() -> None:
            region.rollup(cap=2).run(region.deadline())
            region.commit("d1", [row(128), row(256, usage_type="T4")])
            region.rollup(cap=2).run(region.deadline())

        with AtCall(region, number, overtake) as at:
            assert region.rollup(cap=2).run(region.deadline()).finished
        assert region.usage() == region.committed
        assert list(waiting_in(region.items, 0)) == []
        assert region.alerts.sent == []
        return at.done

    assert _each_call(overtaken_at) >= 10
