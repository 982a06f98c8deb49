"""A region of release 0.1.0 is upgraded: nothing is lost or counted twice, whoever is killed, late or there, too."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from metering.errors import FormatTooOldError, LedgerCorruptError, OperationFailedError, UnavailableError
from metering.hours import month_of
from metering.ledger.commits import CommitRecord, is_commit
from metering.ledger.format_version import LedgerFormat, check_format, ledger_format
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID, CANARY_USAGE_TYPES
from metering.ledger.runs import Run, lake_chain, newest_first, run_key
from metering.ledger.usage.generation import usage_generation
from metering.stores.writes import Key, Put, Table, Update
from metering.units import DAY_S, HOUR_S
from metering.upgrade.filling import Filling
from metering.upgrade.note import forget_upgrade, note_revisions, upgrade_note
from metering.upgrade.upgrade import SETTLE_MS, is_old, stopped
from metering.upgrade.usage_items import usage_add_before
from metering.upgrade.wide_commits import WideCommits
from metering.usage.totals import Total
from tests.support.usage_items import usage_of
from tests.unit.upgrade.old_region import SHARDS, LateCommit, OldRegion, old_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.usage.totals import UsageKey

WRITES = ("items.put", "items.update", "items.delete", "items.transact")


class KilledError(BaseException):
    """The process is gone."""


def state(region: OldRegion) -> tuple[dict[UsageKey, Total], object, object]:
    """What an upgrade makes, whatever happened on the way."""
    runs = [[(r.number, r.plan_key) for r in newest_first(region.items, lake_chain(shard))] for shard in range(SHARDS)]
    return region.usage(), ledger_format(region.items), runs


EXPECTED = state(OldRegion().upgraded())


def at_write(region: OldRegion, number: int, act: Callable[[], None], *, after: bool = False) -> list[str]:
    """Do something at the region's write of this number, from 0, before it or after it; returns the names of all."""
    names: list[str] = []

    def met(name: str) -> None:
        if name in WRITES:
            names.append(name)
            if len(names) == number + 1:
                act()

    if after:
        region.items.on_reply = met
    else:
        region.items.on_call = met
    return names


def left_alone(region: OldRegion) -> None:
    region.items.on_call = region.items.on_reply = lambda _name: None


def die() -> None:
    raise KilledError


def lose_reply() -> None:
    raise UnavailableError("items", "no reply")


def wide_commits(region: OldRegion) -> WideCommits:
    return WideCommits(items=region.items, objects=region.objects, retrier=region.parts().retrier(), shards=SHARDS)


def writes() -> list[str]:
    """Names of the writes of an upgrade."""
    region = OldRegion()
    names = at_write(region, -1, die)
    region.upgraded()
    return names


def telling() -> list[int]:
    """Numbers of writes that differ in what comes before or after them; of the many alike, some."""
    names = writes()
    edges = {at for at in range(1, len(names)) if names[at] != names[at - 1]}
    return sorted({*range(0, len(names), 40), *range(len(names) - 13, len(names)), *edges})


def test_the_new_usage_table_says_what_the_old_one_said() -> None:
    region = OldRegion()
    with pytest.raises(FormatTooOldError, match="run metering upgrade"):
        check_format(region.items)

    region.upgraded()

    assert region.usage() == region.old_usage()
    assert len(region.usage()) > 600
    assert ledger_format(region.items) == LedgerFormat(number=2, written_by="0.2.0", usage_generation=2)
    assert usage_generation(region.items).number == 2
    check_format(region.items, usage_generation=2)


def test_both_wide_commits_that_were_open_are_finished() -> None:
    region = OldRegion()
    states = [item["state"] for item in region.items.everything(Table.LEDGER) if is_commit(item)]
    assert states.count("open") == 2

    region.upgraded()

    commits = [CommitRecord.from_item(item) for item in region.items.everything(Table.LEDGER) if is_commit(item)]
    assert {commit.state for commit in commits} == {"committed", "aborted"}


def test_two_processes_that_finish_one_commit_apply_no_chunk_twice() -> None:
    alone, region = OldRegion().upgraded(), OldRegion()
    others = 0

    def beside(name: str) -> None:
        """Before each chunk of the one, the other applies it, and is killed at the next."""
        nonlocal others
        if name != "items.transact":
            return
        others += 1
        at_write(region, 1, die)
        with suppress(KilledError):
            wide_commits(region).finish()
        region.items.on_call = beside

    region.items.on_call = beside
    wide_commits(region).finish()
    left_alone(region)

    assert others > 2
    assert region.old_usage() == alone.old_usage()


def test_markers_usage_lake_and_frozen_month_are_equal_and_all_jobs_go_on() -> None:
    region = OldRegion().upgraded()
    jobs = region.parts().jobs()
    before = region.usage()
    rows = {hour_s: jobs.view.hour_usage(hour_s) for hour_s in jobs.view.hours()}
    checked = jobs.reconciler.check(from_s=0, to_s=region.clock.now_ms() // 1000 + HOUR_S, deep=True)
    assert (checked.different, checked.unstable) == ((), ())
    assert {key: total for hour in rows.values() for key, total in hour.items()} == before
    jobs.closer.verify("2026-10")

    jobs.compactor_of(jobs.policy.everything()).run(region.deadline(10_000))
    region.clock.sleep_ms(3 * DAY_S * 1000)
    jobs.cleaner.run(region.deadline())
    jobs.orphans.run(region.deadline(), whole=True)
    jobs.reconcile_tick.run(region.deadline())

    rebuilt = jobs.rebuilder.usage()
    assert (rebuilt.repaired, rebuilt.unstable, rebuilt.damaged) == (0, (), ())
    assert region.usage() == before
    assert not list(region.objects.list("staging/"))
    assert not [item for item in region.items.everything(Table.LEDGER) if str(item["pk"]).startswith("P#")]


@pytest.mark.parametrize("number", telling())
def test_an_upgrade_that_is_killed_before_any_write_is_continued(number: int) -> None:
    region = OldRegion()
    at_write(region, number, die)
    with pytest.raises(KilledError):
        region.upgraded()
    left_alone(region)

    assert state(region.upgraded()) == EXPECTED


@pytest.mark.parametrize("number", telling())
def test_a_write_whose_reply_is_lost_is_made_again_and_changes_nothing(number: int) -> None:
    region = OldRegion()
    at_write(region, number, lose_reply, after=True)

    assert state(region.upgraded()) == EXPECTED


def test_an_upgrade_that_is_killed_again_and_again_comes_to_its_end() -> None:
    region = OldRegion()
    for _ in range(100):
        at_write(region, 5, die)
        try:
            region.upgraded()
        except KilledError:
            continue
        finally:
            left_alone(region)
        break

    assert state(region) == EXPECTED


@pytest.mark.parametrize("number", telling())
def test_a_second_upgrade_that_does_all_of_it_in_between_changes_nothing(number: int) -> None:
    region = OldRegion()

    def other() -> None:
        left_alone(region)
        region.upgraded()

    at_write(region, number, other)

    assert state(region.upgraded()) == EXPECTED


def test_a_straggling_upgrade_does_not_touch_what_the_new_roll_up_has_booked() -> None:
    region = OldRegion().upgraded()
    key = region.send_new()
    region.roll_up()
    [entry] = [entry for entry in usage_of(region.items) if entry.key == key]
    assert entry.runs
    # The straggler has read far more of the old table than the item had when it was filled.
    more = usage_add_before({key.hour_s: Total(1, 1)}) | {f"v{key.hour_s // HOUR_S % 24:02d}": 100}
    region.items.update(Update(table=Table.USAGE_BEFORE, key=old_key(key, 0), add=more))
    filling = Filling(
        items=region.items,
        retrier=region.parts().retrier(),
        kinds_per_account=region.settings.kinds_per_account,
        usage_generation=region.settings.usage_generation,
        shards=region.shards(),
    )

    with pytest.raises(OperationFailedError, match="in the new one"):
        filling.fill(key.account_id, month_of(key.hour_s))

    assert usage_of(region.items).count(entry) == 1


def test_a_worker_that_lands_after_the_fill_is_noticed_and_its_usage_is_repaired() -> None:
    region = OldRegion()
    late = LateCommit(region)
    region.upgraded()
    jobs = region.parts().jobs()
    late.land()
    told: list[str] = []

    region.upgrade().look_again(jobs.rebuilder.usage, told.append)

    assert "repairing usage" in told[0]
    assert state(region) == EXPECTED
    told.clear()
    region.upgrade().look_again(lambda: pytest.fail("repaired twice"), told.append)
    assert told == ["nothing was written to the old usage table since"]


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_late_compactor_of_the_old_release_either_has_its_run_moved_or_announces_none(shard: int) -> None:
    plan = Put(
        table=Table.LEDGER,
        item={
            "pk": f"R#{shard}",
            "sk": f"{5 - shard:012d}",
            "state": "planned",
            "plan": "runs/late.json",
            "planned_at_ms": 1,
        },
    )
    first = writes().index("items.put", len(writes()) - 16)
    seen: set[bool] = set()
    for number in range(first, len(writes())):
        region = OldRegion()
        landed: list[bool] = []

        def announce(region: OldRegion = region, landed: list[bool] = landed) -> None:
            left_alone(region)
            there = region.items.peek(Table.LEDGER, Key(f"R#{shard}", f"{5 - shard:012d}")) is not None
            landed.append(not there)
            if not there:
                region.items.put(plan)

        at_write(region, number, announce)
        region.upgraded()
        moved = region.items.peek(Table.LEDGER, run_key(lake_chain(shard), 5 - shard))
        assert (moved is not None) is landed[0]
        seen.add(landed[0])
    assert seen == {True, False}


def test_what_closed_an_old_chain_stays_when_its_runs_are_deleted() -> None:
    region = OldRegion().upgraded()
    region.upgrade().tidy()
    left = [item for item in region.items.everything(Table.LEDGER) if str(item["pk"]) in {"R#0", "R#1"}]

    assert [(item["pk"], item["sk"], item["state"]) for item in left] == [
        ("R#0", "000000000005", "moved"),
        ("R#1", "000000000004", "moved"),
    ]
    with pytest.raises(LedgerCorruptError):
        Run.from_item(left[0])


def test_usage_that_differs_from_its_rows_stops_the_upgrade_with_the_old_format_untouched() -> None:
    region = OldRegion()
    before = list(region.items.everything(Table.USAGE_BEFORE))
    item = max(before, key=lambda item: str(item["sk"]))
    attribute = next(name for name in item if name.startswith("b"))
    key = Key(str(item["pk"]), str(item["sk"]))
    region.items.update(Update(table=Table.USAGE_BEFORE, key=key, add={attribute: 1}))

    with pytest.raises(OperationFailedError, match="its rows are"):
        region.upgraded()

    found = ledger_format(region.items)
    assert found is not None
    assert found.number == 1
    assert [i for i in region.items.everything(Table.LEDGER) if str(i["pk"]).startswith("R#L")] == []
    assert [i for i in region.items.everything(Table.LEDGER) if i.get("state") == "moved"] == []


def test_kinds_beyond_the_cap_get_items_of_their_own_also_if_the_upgrade_goes_on_with_a_larger_cap() -> None:
    region = OldRegion(kinds_per_account=3)
    at_write(region, len(writes()), die)
    with pytest.raises(KilledError):
        region.upgraded()
    left_alone(region)

    region.upgrade(kinds_per_account=4_096).convert()

    assert region.usage() == EXPECTED[0]
    numbers = {entry.number for entry in usage_of(region.items)}
    assert numbers == {0, 1, 2, None}


def test_the_usage_types_of_the_old_canary_take_no_numbers() -> None:
    region = OldRegion()
    key = max(region.old_usage())._replace(account_id=CANARY_ACCOUNT_ID, usage_type=f"{CANARY_USAGE_TYPES}1794619980")
    add = usage_add_before({key.hour_s: Total(0, 0)})
    region.items.update(Update(table=Table.USAGE_BEFORE, key=old_key(key, 0), add=add))

    region.upgraded()

    assert [item for item in region.items.everything(Table.LEDGER) if item["pk"] == f"D#{CANARY_ACCOUNT_ID}"] == []
    assert any(str(item["sk"]).count("#") > 2 for item in region.items.everything(Table.USAGE))


def test_workers_are_waited_for_from_the_time_of_the_stop_whoever_continues() -> None:
    region = OldRegion()
    began_ms = region.clock.now_ms()
    with pytest.raises(OperationFailedError, match="No upgrade"):
        region.upgrade().wait_out()
    stopped(region.items, now_ms=began_ms, worker_timeout_s=60)
    region.clock.sleep_ms(20_000)
    stopped(region.items, now_ms=region.clock.now_ms(), worker_timeout_s=60)

    region.upgrade().wait_out()

    assert region.clock.now_ms() == began_ms + 60_000 + SETTLE_MS


def test_an_upgraded_region_is_not_upgraded_again() -> None:
    region = OldRegion().upgraded()
    names = at_write(region, -1, die)
    assert not is_old(region.items)

    region.upgrade().convert()

    assert names == []
    region.upgrade().tidy()
    note = upgrade_note(region.items)
    assert note is not None
    assert note.settled
    # An upgrade that is late has read the old table once more.
    note_revisions(region.items, 1)
    assert upgrade_note(region.items) == note
    forget_upgrade(region.items)
    note_revisions(region.items, 1)
    assert upgrade_note(region.items) is None
