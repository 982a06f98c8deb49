"""Batches that a restore must not take for accepted, and batches that it must not lose."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from metering.lake.plan import Plan
from metering.ledger.markers import Conflict, Marker, marker_key
from metering.ledger.periods import Period, period_key
from metering.ledger.retries import aliases_of
from metering.ledger.runs import lake_chain, newest_run
from metering.restore.decision import Decision
from metering.stores.objects import (
    QUARANTINED_BATCHES_PREFIX,
    STAGING_PREFIX,
    closed_month_key,
    commit_id_of,
    decision_key,
    plan_key,
)
from metering.stores.queues import Delivery
from metering.stores.writes import Put, Table
from metering.units import DAY_S
from metering.wiring.restore import restoration
from tests.support.lake_world import HOUR, NOW_S, World, record
from tests.unit.restore.test_restoration import adopted_format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.restore.core import Restored
    from metering.stores.writes import Item


class Region(World):
    """A region with some batches, of which the backup lacks those after `damage`."""

    def __init__(self, *, now_s: int = NOW_S) -> None:
        super().__init__(now_s=now_s)
        self.generation = 1
        self.since_ms = 0
        self.backup: list[Item] = []
        self.old = self.items

    def metered(self, batch_id: str, *records: Mapping[str, object], retry_of: str = "") -> None:
        """Run one invocation with one batch."""
        body = {
            "schema": "metering.batch/1",
            "batch_id": batch_id,
            "record_count": len(records),
            "records": records,
            **({"retry_of": retry_of} if retry_of else {}),
        }
        delivery = Delivery(
            message_id=f"m-{batch_id}",
            body=json.dumps(body),
            sent_at_ms=self.clock.now_ms(),
            receive_count=1,
            sender_id="sender",
        )
        assert not self.aggregator.handle([delivery], self.deadline()).retry

    def back_up(self) -> None:
        self.backup, self.since_ms = list(self.items.everything(Table.LEDGER)), self.clock.now_ms()

    def lose(self, *, but: Callable[[Item], bool] = lambda _item: True) -> None:
        """Replace the ledger by the items of the backup for which `but` holds."""
        self.clock.sleep_ms(3_600_000)
        self.generation += 1
        self.old = self.items
        self.old.fence()
        self.items = self.old.restored(filter(but, self.backup))
        self.items.put(Put(table=Table.LEDGER, item=adopted_format("adopting", self.generation)))

    def restore(self) -> Restored:
        jobs = self.parts().jobs()
        done = restoration(jobs, generation=self.generation, since_ms=self.since_ms, old=self.old, threads=1).run()
        self.jobs, self.aggregator = self.parts().jobs(), self.parts().worker()
        return done

    def marker(self, batch_id: str) -> Marker:
        item = self.items.peek(Table.LEDGER, marker_key(batch_id))
        assert item is not None
        return Marker.from_item(item)

    @property
    def bytes(self) -> int:
        """Bytes of all rows, which are those of usage."""
        self.roll_up()
        total = sum(each.bytes for each in self.visible().values())
        assert sum(each.bytes for each in self.usage().values()) == total
        return total

    def staged(self) -> Sequence[str]:
        return self.objects.keys(STAGING_PREFIX)


def test_the_plan_of_a_lost_race_has_no_files() -> None:
    region = Region()
    region.back_up()
    region.metered("a", record(100))
    region.roll_up()
    region.compact_all()
    region.metered("b", record(7))
    newest = newest_run(region.items, lake_chain(0))
    assert newest is not None
    [staged] = [key for key in region.staged() if commit_id_of(key) not in str(region.objects.peek(newest.plan_key))]
    # Another process planned the run with the second commit, and lost the race for its number.
    won = Plan.from_json(region.objects.get(newest.plan_key), newest.plan_key)
    lost = won.to_json().replace(next(iter(won.commits())).encode(), commit_id_of(staged).encode())
    region.objects.put(plan_key(lake_chain(0), newest.number, "0" * 32), lost, if_absent=True)
    region.lose()
    assert region.restore().adopted.files == 1
    assert region.bytes == 107


def test_a_batch_that_two_staging_objects_have_counts_once() -> None:
    region = Region()
    region.back_up()
    region.metered("a", record(100))
    [first] = region.staged()
    # An attempt whose outcome was unknown has put the same batch under another id.
    region.objects.put(first.replace(commit_id_of(first), "f" * 32), region.objects.get(first), if_absent=True)
    region.lose()
    assert region.restore().copied.batches == 1
    assert region.bytes == 100
    region.clock.sleep_ms(2 * 3_600_000)
    region.compact_all()
    region.jobs.orphans.run(region.deadline(), whole=True)
    assert region.bytes == 100


def conflicting() -> Region:
    """A region in which, after the backup, one id has two contents in staging, and the second one is a conflict."""
    region = Region()
    region.back_up()
    region.metered("a", record(100))
    region.metered("a", record(999))
    assert len(region.staged()) == 2
    return region


def test_the_content_that_lost_a_conflict_stays_one() -> None:
    region = conflicting()
    region.lose()
    done = region.restore()
    assert (done.copied.batches, done.copied.undecided) == (1, set())
    assert region.bytes == 100
    [kept] = region.objects.keys(QUARANTINED_BATCHES_PREFIX)
    [conflict] = [i for i in region.items.everything(Table.LEDGER) if str(i["sk"])[:2] == "X#"]
    assert Conflict.from_item(conflict).quarantine_key == kept
    region.metered("a", record(999))
    assert region.bytes == 100


def test_an_id_with_two_contents_of_which_nothing_says_which_was_accepted_is_held() -> None:
    region = conflicting()
    region.metered("b", record(7))
    for key in region.objects.keys(QUARANTINED_BATCHES_PREFIX):
        region.objects.remove(key)
    region.lose()
    done = region.restore()
    assert done.copied.undecided == {"a"}
    held = region.marker("a")
    assert (held.verdict, held.content_hash, held.hours) == ("accepted", None, {})
    assert len(region.objects.keys("quarantine/restore/2/")) == 2
    for size in (100, 999):
        region.metered("a", record(size))
    assert region.bytes == 7


@pytest.mark.parametrize("compacted", [False, True])
def test_a_batch_that_was_refused_before_and_accepted_since_is_accepted(compacted: bool) -> None:
    region = Region()
    region.metered("a", record(-1))
    assert region.marker("a").verdict == "rejected"
    region.back_up()
    region.metered("a", record(100))
    assert region.marker("a").verdict == "accepted"
    if compacted:
        region.roll_up()
        region.compact_all()
    region.lose()
    region.restore()
    assert region.marker("a").verdict == "accepted"
    assert region.bytes == 100


def test_a_batch_that_was_refused_since_stays_refused() -> None:
    region = Region()
    region.back_up()
    region.metered("a", record(-1))
    before = region.marker("a")
    region.lose()
    region.restore()
    after = region.marker("a")
    assert (after.verdict, after.content_hash, after.reason, after.quarantine_key) == (
        before.verdict,
        before.content_hash,
        before.reason,
        before.quarantine_key,
    )


@pytest.mark.parametrize("compacted", [False, True])
def test_a_retry_of_other_content_counts_under_one_id(compacted: bool) -> None:
    region = Region()
    region.metered("a", record(100))
    region.back_up()
    region.metered("a", record(999))
    region.metered("a-again", record(999), retry_of="a")
    if compacted:
        region.roll_up()
        region.compact_all()
    before = list(aliases_of(region.items, "a"))
    region.lose()
    region.restore()
    assert list(aliases_of(region.items, "a")) == before
    region.metered("a-once-more", record(999), retry_of="a")
    assert region.bytes == 1_099


OCTOBER_S = HOUR - 26 * DAY_S
MONTH = "2026-10"


@pytest.mark.parametrize("closed", [True, False])
def test_a_month_that_was_closed_since_takes_no_row(closed: bool) -> None:
    region = Region()
    region.metered("a", record(100, start_s=OCTOBER_S))
    region.back_up()
    region.metered("b", record(10, start_s=OCTOBER_S))
    # An attempt that never landed: nothing says whether its message is in the queue.
    region.metered("c", record(1, start_s=OCTOBER_S))
    [(key, body)] = [(key, region.objects.get(key)) for key in region.staged()][-1:]
    region.jobs.closer.close(MONTH, region.deadline(10**9))
    if not closed:
        region.objects.remove(closed_month_key(MONTH))
    region.lose()
    manifest = region.objects.peek(closed_month_key(MONTH))
    region.objects.put(key, body, if_absent=True)
    region.restore()
    period = Period.from_item(region.items.get(Table.LEDGER, period_key(MONTH)) or {})
    assert period.state == ("closed" if closed else "closing")
    region.metered("late", record(5, start_s=OCTOBER_S))
    assert region.bytes == 116
    region.jobs.closer.close(MONTH, region.deadline(10**9))
    assert region.jobs.closer.verify(MONTH) == []
    assert manifest in (None, region.objects.peek(closed_month_key(MONTH)))
    frozen = region.jobs.closer.frozen(MONTH)
    assert frozen is not None
    assert frozen.total.bytes == 111


def test_what_is_copied_of_a_closed_month_is_booked_now() -> None:
    region, other = Region(), Region()
    region.metered("a", record(100, start_s=OCTOBER_S))
    region.back_up()
    region.jobs.closer.close(MONTH, region.deadline(10**9))
    # Only a staging object has this batch.
    other.metered("b", record(10, start_s=OCTOBER_S))
    [key] = other.staged()
    region.objects.put(key.replace(commit_id_of(key), "e" * 32), other.objects.get(key), if_absent=True)
    region.lose()
    assert region.restore().copied.batches == 1
    assert min(region.marker("b").hours) > OCTOBER_S + DAY_S
    assert region.bytes == 110
    assert region.jobs.closer.verify(MONTH) == []


@pytest.mark.parametrize("lacks", ["U#", "C#", "B#"])
@pytest.mark.parametrize("compacted", [False, True])
def test_half_a_transaction_of_the_restored_moment_is_made_whole(lacks: str, compacted: bool) -> None:
    region = Region()
    region.metered("a", record(100), record(50, start_s=HOUR - 3_600))
    region.back_up()
    if compacted:
        region.roll_up()
        region.compact_all()
    region.lose(but=lambda item: not str(item["pk"]).startswith(lacks))
    region.restore()
    assert region.marker("a").content_hash
    assert region.bytes == 150
    region.compact_all()
    assert region.bytes == 150


def test_a_file_that_came_after_an_earlier_restore_is_not_adopted_by_a_later_one() -> None:
    region = Region()
    region.back_up()
    region.metered("a", record(100))
    region.roll_up()
    region.compact_all()
    [file] = region.files(HOUR)
    body = region.objects.get(file.key)
    # The old compactor's PUT is late.
    region.objects.remove(file.key)
    region.lose()
    assert region.restore().copied.batches == 1
    region.objects.put(file.key, body, if_absent=True)
    region.roll_up()
    region.compact_all()
    assert region.bytes == 100
    region.lose()
    region.restore()
    assert region.bytes == 100
    assert len(region.files(HOUR)) == 1


def test_a_later_restore_adopts_what_an_earlier_one_had_adopted() -> None:
    region = Region()
    region.back_up()
    region.metered("a", record(100))
    region.roll_up()
    region.compact_all()
    region.metered("b", record(10))
    for size in (1, 2):
        region.lose()
        region.restore()
        region.metered(f"c{size}", record(size))
        region.roll_up()
        region.compact_all()
    region.lose()
    region.restore()
    assert region.bytes == 113
    known = Decision.decode(region.objects.get(decision_key(4)), "decision").known
    assert known == {lake_chain(0): 0}
