"""Usage items with manual writes are named and repaired by a rebuild; all other work continues (P49).

The correct content of an item is what the roll-up wrote.
"""

from collections.abc import Callable
from typing import Any

import pytest

from metering.errors import LedgerCorruptError
from metering.ledger.runs import newest_run
from metering.ledger.usage.items import BUCKET_KINDS
from metering.ledger.usage.kinds import KindNames, kind_key, number_key
from metering.reports.query import UsageQuery
from metering.reports.source import report_rows
from metering.stores.writes import Foreign, Key, Put, Table
from metering.units import DAY_S, MINUTE_S
from metering.usage.totals import ZERO, Total, UsageKey
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, record

OTHER = "210987654321"
PLACES = ("internet", "us-east-1/use1-az1", "us-east-1/use1-az4", "us-east-1/use1-az6")
# Attributes that a manual write replaces in an item, and attributes that it removes.
WRITTEN: dict[str, dict[str, Any]] = {
    "an attribute that no release has": {"bytes": 777},
    "several of them": {f"mine{number}": number for number in range(50)},
    "a figure of another bucket": {f"b{BUCKET_KINDS}": 5},
    "a figure of a kind without a number": {"b": 5},
    "a figure that is text": {"b0": "777"},
    "records that are true": {"r0": True},
    "a list": {"note": ["mine"]},
    "a revision that is text": {"v": "mine"},
    "a number of a run that is text": {"n0": "mine"},
    "a figure that is a fraction": {"b0": Foreign("N", "1.5")},
    "null in place of records": {"r0": Foreign("NULL", True)},
    "bytes and a set of numbers": {"mine": Foreign("B", b"x"), "numbers": Foreign("NS", ["1"])},
    "a revision that is null": {"v": Foreign("NULL", True)},
}
TORN: dict[str, tuple[str, ...]] = {
    "without its revision": ("v",),
    "without its bytes": ("b0",),
    "without records and revision": ("r0", "v"),
    "without its numbers and its revision": ("n0", "v"),
    "without anything": ("b0", "r0", "v", "n0"),
}
# Damage that cannot be seen from the figures alone.
ODD = {*WRITTEN, *TORN} - {"without its bytes"}


def item_of(world: World, account_id: str) -> dict[str, Any]:
    [item] = [item for item in world.items.everything(Table.USAGE) if str(item["pk"]).startswith(f"A#{account_id}")]
    return dict(item)


def key(world: World, account_id: str) -> Key:
    item = item_of(world, account_id)
    return Key(item["pk"], item["sk"])


def damaged(form: str) -> tuple[World, dict[UsageKey, Total]]:
    """A world in which one account's item is damaged and another account's item is lost, and the correct usage."""
    world = World()
    world.send([record(5)], [record(7, account=OTHER)])
    true = world.usage()
    lost = key(world, OTHER)
    spoil(world, form)
    world.items.remove(Table.USAGE, lost)
    return world, true


def spoil(world: World, form: str) -> None:
    item = item_of(world, ACCOUNT) | WRITTEN.get(form, {})
    kept = {name: value for name, value in item.items() if name not in TORN.get(form, ())}
    world.items.put(Put(table=Table.USAGE, item=kept))


def end_of(run: Callable[[], object]) -> str:
    """Run a job; return the error text if damage stops the job, else ""."""
    try:
        run()
    except LedgerCorruptError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("form", [*WRITTEN, *TORN])
def test_a_rebuild_mends_an_odd_item_and_all_others(form: str) -> None:
    world, true = damaged(form)
    assert not end_of(world.jobs.rebuilder.usage), "one odd item ends `rebuild usage` for all hours"
    assert world.usage() == true
    item = item_of(world, ACCOUNT)
    assert item.keys() == {"pk", "sk", "b0", "r0", "v", "n0"}
    assert (item["b0"], item["r0"], item["n0"]) == (5, 1, 1)
    # The repair is permanent: a second call finds nothing, and later usage is counted.
    again = world.jobs.rebuilder.usage()
    assert (again.repaired, again.mended, again.unstable) == (0, (), ())
    world.send([record(11)])
    assert sum(total.bytes for total in world.usage().values()) == 5 + 7 + 11


@pytest.mark.parametrize("form", sorted(ODD))
@pytest.mark.parametrize("deep", [False, True])
def test_a_comparison_names_an_odd_item_and_every_other_difference(form: str, deep: bool) -> None:
    world, _ = damaged(form)
    found: list[str] = []

    def compare() -> None:
        result = world.jobs.reconciler.check(from_s=0, to_s=NOW_S + DAY_S, deep=deep)
        found.extend(str(each) for check in result.different for each in check.differences)

    assert not end_of(compare), "one odd item ends `reconcile` for all hours"
    odd = key(world, ACCOUNT)
    names = WRITTEN.get(form, {"v": "is missing"})
    assert any(f"{odd.pk} / {odd.sk}" in text and all(name in text for name in names) for text in found)
    assert any(OTHER in text for text in found)


def test_a_comparison_names_an_odd_item_whose_figures_are_right() -> None:
    world = World()
    world.send([record(5)])
    spoil(world, "an attribute that no release has")
    [check] = world.jobs.reconciler.check(from_s=0, to_s=NOW_S + DAY_S).different
    [difference] = check.differences
    assert difference.between == "usage/item"
    assert difference.odd.endswith("bytes = 777, which no release writes")
    assert world.alerts.sent == []
    world.jobs.reconciler.run(from_s=0, to_s=NOW_S + DAY_S)
    [alert] = world.alerts.sent
    assert (alert.severity, "bytes = 777" in str(alert)) == ("page", True)


def test_an_odd_item_stays_on_the_work_list_until_it_is_mended() -> None:
    world = World(scan_every_s=DAY_S)
    world.send([record(5)])
    world.compact_all()
    tick = world.jobs.reconcile_tick
    assert tick.run(world.deadline()).different == 0
    spoil(world, "an attribute that no release has")
    world.clock.advance_s(DAY_S)
    while not tick.run(world.deadline()).scanned:
        pass
    for _ in range(3):
        world.clock.advance_s(15 * MINUTE_S)
        looked = tick.run(world.deadline())
        assert (looked.scanned, looked.different) == (False, 1)
    assert world.jobs.rebuilder.usage().mended
    world.clock.advance_s(15 * MINUTE_S)
    assert tick.run(world.deadline()).different == 0
    assert tick.checker.work_list().hours == {}


def test_a_quick_pass_over_published_hours_names_an_odd_item() -> None:
    world = World(scan_every_s=DAY_S)
    world.jobs.reconcile_tick.run(world.deadline())
    world.send([record(5)])
    world.compact_all()
    spoil(world, "an attribute that no release has")
    looked: list[int] = []
    checker = world.jobs.reconcile_tick.checker
    assert not end_of(lambda: looked.append(len(checker.run(world.deadline()).different)))
    assert looked == [1]


def test_an_item_whose_key_nobody_can_read_is_named_and_the_pass_goes_on() -> None:
    world, _ = damaged("an attribute that no release has")
    strange = Key(f"A#{ACCOUNT}#2026-11", "mine")
    world.items.put(Put(table=Table.USAGE, item={**strange._asdict(), "b0": 1}))
    result = world.jobs.rebuilder.usage()
    assert any("mine" in text for text in result.unreadable)
    assert (result.repaired, len(result.mended)) == (1, 1)
    found = world.jobs.reconciler.check(from_s=0, to_s=NOW_S + DAY_S)
    assert found.different == ()
    assert any("mine" in text for text in found.markers.contradictions.texts())


def test_what_is_odd_goes_while_a_run_is_planned_and_is_corrected_when_the_run_is_over() -> None:
    """A figure that is text stops the run, so a repair must not wait for the run."""
    world = World()
    world.send([record(5)])
    spoil(world, "a figure that is text")
    world.send([record(11)], rolled_up=False)
    assert "has a value of another type" in end_of(world.roll_up)
    result = world.jobs.rebuilder.usage()
    assert result.mended
    assert result.unstable == (HOUR,)
    assert (item_of(world, ACCOUNT)["n0"], "b0" in item_of(world, ACCOUNT)) == (1, False)
    world.roll_up()
    assert world.jobs.rebuilder.usage().unstable == ()
    assert item_of(world, ACCOUNT)["b0"] == 5 + 11
    assert item_of(world, ACCOUNT)["n0"] == 2


def test_an_item_without_numbers_gets_none_while_a_run_that_names_it_is_planned() -> None:
    """The run may have updated the item, so the missing number need not be the number of a done run."""
    world = World()
    world.send([record(5)])
    world.send([record(11)], rolled_up=False)
    calls = 0
    while (newest := newest_run(world.items, "U0")) is None or newest.state == "done":
        calls += 1
        world.dies_after(calls, world.roll_up)
    spoil(world, "without its numbers and its revision")
    result = world.jobs.rebuilder.usage()
    assert (result.mended, result.unstable) == ((), (HOUR,))
    assert item_of(world, ACCOUNT).keys() == {"pk", "sk", "b0", "r0"}
    world.roll_up()
    assert world.jobs.rebuilder.usage().unstable == ()
    assert (item_of(world, ACCOUNT)["b0"], item_of(world, ACCOUNT)["n0"]) == (5 + 11, 2)


@pytest.mark.parametrize("now", [False, True])
@pytest.mark.parametrize("form", [*WRITTEN, "without its revision"])
def test_a_report_on_an_odd_item_is_refused_with_its_cure_and_never_wrong(form: str, now: bool) -> None:
    world = World()
    world.send([record(5)], [record(7, account=OTHER)])
    spoil(world, form)

    def bytes_of(account_id: str) -> int:
        query = UsageQuery(
            from_s=HOUR - DAY_S, to_s=HOUR + DAY_S, group_by=("account_id",), accounts=frozenset([account_id]), now=now
        )
        return sum(row.total.bytes for row in report_rows([world.source()], query, now_s=NOW_S))

    assert "`metering rebuild usage` mends it" in end_of(lambda: bytes_of(ACCOUNT))
    assert bytes_of(OTHER) == 7
    world.jobs.rebuilder.usage()
    assert bytes_of(ACCOUNT) == 5


def test_one_hour_by_itself_names_its_odd_items() -> None:
    world = World()
    world.send([record(5)])
    spoil(world, "an attribute that no release has")
    found = world.jobs.figures.used(HOUR, [ACCOUNT])
    assert [each.oddities for _, _, each in found.odd()] == [("bytes = 777, which no release writes",)]
    assert found.total.bytes == 5
    assert ZERO not in found.totals.values()


def lose_name(world: World, number: int, *, also_its_name: bool) -> None:
    kind = KindNames(world.items).kind(ACCOUNT, number)
    world.items.remove(Table.LEDGER, number_key(ACCOUNT, number))
    if also_its_name:
        world.items.remove(Table.LEDGER, kind_key(ACCOUNT, kind))


def world_of_kinds() -> tuple[World, dict[UsageKey, Total]]:
    """An account with three booked kinds of usage, and another account; the correct usage."""
    world = World()
    world.send([record(5 + number, to=to) for number, to in enumerate(PLACES[:3])], [record(7, account=OTHER)])
    return world, world.usage()


def test_a_lost_number_stops_nothing_while_its_name_is_there() -> None:
    world, true = world_of_kinds()
    lose_name(world, 1, also_its_name=False)
    world.jobs = world.make_jobs()
    world.send([record(11, to=PLACES[3])], rolled_up=False)
    assert not end_of(world.roll_up), "a number that was lost stops the roll-up"
    assert sum(total.bytes for total in world.usage().values()) == sum(total.bytes for total in true.values()) + 11
    assert world.jobs.reconciler.check(from_s=0, to_s=NOW_S + DAY_S, deep=True).different == ()


def test_a_number_that_is_lost_with_its_name_pages_and_a_rebuild_puts_all_right() -> None:
    world, true = world_of_kinds()
    lose_name(world, 1, also_its_name=True)
    world.jobs = world.make_jobs()
    world.send([record(11, to=PLACES[3])], rolled_up=False)
    assert "`metering rebuild usage`" in end_of(world.roll_up), "it is held for a claim that is landing, without a page"
    assert [alert.severity for alert in world.alerts.sent] == ["page"]
    # Everything else is compared: the account's other kinds, and all other accounts.
    found = world.jobs.reconciler.check(from_s=0, to_s=NOW_S + DAY_S, deep=True)
    assert [each.key.to_location for check in found.different for each in check.differences if each.key] == [PLACES[1]]
    assert any("N#000001 is missing" in text for text in found.markers.contradictions.texts())
    world.jobs.rebuilder.usage()
    world.roll_up()
    result = world.jobs.rebuilder.usage()
    assert (result.unreadable, result.unstable) == ((), ())
    after = {key: total for key, total in world.usage().items() if total != ZERO}
    assert {key: total for key, total in after.items() if key.to_location != PLACES[3]} == true
    assert sum(total.bytes for key, total in after.items() if key.to_location == PLACES[3]) == 11
    assert world.jobs.reconciler.check(from_s=0, to_s=NOW_S + DAY_S, deep=True).different == ()
