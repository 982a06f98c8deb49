"""A restored ledger is detected before any run number is used twice; it adopts what S3 has since then, and goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest

from metering.errors import GenerationError, OperationFailedError, TransactionCanceledError, UnavailableError
from metering.lake.plan import Plan
from metering.ledger.format_version import RESTORED_FORMAT, LedgerFormat, LedgerState, check_format
from metering.ledger.markers import Marker, MarkerLine, is_marker
from metering.ledger.runs import lake_chain, newest_run, rollup_chain
from metering.ledger.usage.generation import usage_generation
from metering.restore.decision import Decision
from metering.stores.objects import commit_id_of, decision_key, number_of_plan
from metering.stores.writes import Action, Item, Put, Table
from metering.units import DAY_S
from metering.wiring.restore import restoration
from tests.support.lake_world import HOUR, World, record
from tests.support.memory.frozen import merge
from tests.support.usage_items import usage_of
from tests.support.written_down import forget_markers

if TYPE_CHECKING:
    from metering.restore.core import Restoration, Restored
    from metering.usage.totals import Total, UsageKey

ACCOUNTS = ("123456789012", "210987654321")
PEERS = ("internet", "eu-west-1", "cloudfront")


class Region(World):
    """A region whose ledger is restored to a time before the last runs of both chains, or from nothing."""

    def __init__(
        self,
        *,
        planned: bool = False,
        placing: int = 0,
        nothing: bool = False,
        written: bool = True,
        waiting: bool = False,
    ) -> None:
        """Runs of both chains.

        Args:
            planned: Whether, at the backup, a lake run was planned and had marked pointers.
            placing: Number of the write at which a planned roll-up run was killed; 0 if no run was killed.
            nothing: Whether there is no backup.
            written: Whether markers are in S3; if not, an earlier release wrote all objects.
            waiting: Whether commits waited at the backup, and nothing has happened since.
        """
        super().__init__()
        self._traffic("a", PEERS[:2])
        self.compact_all()
        self._traffic("b", PEERS[:1])
        if placing:
            self._traffic("p", PEERS[:2], rolled_up=False)
            self._traffic("q", PEERS[:2], rolled_up=False)
            self.killed_at(placing, self.roll_up)
        if planned:
            # The run of the lake is planned, and its pointers are marked.
            assert self.dies_after(14, self.compact_all)
            newest = newest_run(self.items, lake_chain(0))
            assert newest is not None
            assert newest.state == "planned"
        if waiting:
            self._traffic("w", PEERS[:2], rolled_up=False)
        backup = [] if nothing else list(self.items.everything(Table.LEDGER))
        self.since_ms = 0 if nothing else self.clock.now_ms()
        # The restore loses this period: a new kind gets the next number, and runs continue.
        if not waiting:
            self.roll_up()
            self._traffic("c", PEERS)
            self.compact_all()
            self._traffic("d", PEERS)
            self._traffic("e", PEERS[:2], rolled_up=False)
        if not written:
            forget_markers(self.objects)
        self.lost, self.all_rows = self.markers(), self.visible()
        self.clock.sleep_ms(3_600_000)
        self.before = self.items
        self.before.fence()
        self.items = self.before.restored(backup)
        self.put([adopted_format("adopting")])

    def put(self, items: Iterable[Item]) -> None:
        for item in items:
            self.items.put(Put(table=Table.LEDGER, item=item))

    def markers(self) -> dict[str, Marker]:
        found = map(Marker.from_item, filter(is_marker, self.items.everything(Table.LEDGER)))
        return {marker.batch_id: marker for marker in found}

    def clean(self) -> None:
        """Delete the staging objects of which all rows are in lake files."""
        plans = [Plan.from_json(self.objects.get(key), key) for key in self.objects.keys("runs/L0/")]
        last = {commit_id for plan in plans for commit_id in plan.last}
        self.objects.delete([key for key in self.objects.keys("staging/") if commit_id_of(key) in last])

    def restore(self) -> Restored:
        """Complete the ledger in a new process."""
        jobs = self.parts().jobs()
        return restoration(jobs, generation=2, since_ms=self.since_ms, old=self.before, threads=1).run()

    def begin_work(self) -> None:
        self.jobs, self.aggregator = self.parts().jobs(), self.parts().worker()

    def rows(self) -> dict[UsageKey, Total]:
        view = self.parts().jobs().view
        return merge(view.hour_usage(hour_s) for hour_s in view.hours())

    def killed_at(self, number: int, run: Callable[[], object]) -> bool:
        """Call `run`, and kill it at write number `number` (from 0); return whether it was killed."""
        writes = {"items.put", "items.update", "items.delete", "items.transact", "objects.put"}
        return self.dies_after(number, run, writes)

    def must_have_everything(self) -> None:
        """Check that each batch is accepted as it was, and counted once in rows and usage."""
        now = self.markers()
        assert {name: facts(marker) for name, marker in now.items()} == {
            name: facts(marker) for name, marker in self.lost.items()
        }
        assert self.rows() == self.all_rows
        self.roll_up()
        assert self.usage() == self.all_rows
        assert self.parts().jobs().rebuilder.usage().repaired == 0

    def _traffic(self, name: str, peers: Iterable[str], *, rolled_up: bool = True) -> None:
        self.send(
            [
                record(100 + number, account=account, to=peer, resource=name)
                for number, (account, peer) in enumerate((account, peer) for account in ACCOUNTS for peer in peers)
            ],
            rolled_up=rolled_up,
        )


def adopted_format(state: LedgerState, generation: int = 2) -> Item:
    return LedgerFormat(
        number=RESTORED_FORMAT, written_by="0.3.0", usage_generation=2, generation=generation, state=state
    ).to_item()


def facts(marker: Marker) -> tuple[object, ...]:
    return (
        marker.verdict,
        marker.content_hash,
        marker.hours,
        marker.records,
        marker.metered,
        marker.refused,
        marker.sender_id,
        marker.source_id,
        marker.sequence,
    )


def test_a_roll_up_of_a_restored_ledger_stops_and_pages_before_it_writes_anything() -> None:
    region = Region()
    region.put([adopted_format("open")])
    usage = list(region.items.everything(Table.USAGE))
    region.begin_work()
    with pytest.raises(GenerationError, match="the ledger was restored to an earlier time"):
        region.jobs.rollup.run(region.deadline())
    assert list(region.items.everything(Table.USAGE)) == usage
    assert ("page", "Roll-up stopped") in [(sent.severity, sent.subject) for sent in region.alerts.sent]


def test_nobody_works_on_a_ledger_before_it_is_open() -> None:
    region = Region()
    with pytest.raises(GenerationError, match="is being restored"):
        check_format(region.items)
    region.restore()
    check_format(region.items, usage_generation=2)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"planned": True},
        {"nothing": True},
        {"nothing": True, "planned": True},
        {"placing": 3},
        {"placing": 8},
        {"placing": 11},
    ],
)
def test_a_restored_ledger_has_all_that_was_accepted_since_and_all_jobs_go_on(how: dict[str, bool]) -> None:
    region = Region(**how)
    done = region.restore()
    assert done.adopted.files
    assert done.rebuilt is None
    region.must_have_everything()
    region.begin_work()
    region.send([record(7, to=peer) for peer in (*PEERS, "ap-southeast-2")])
    assert region.usage() == region.rows()
    region.compact_all()
    checked = region.jobs.reconciler.check(from_s=HOUR - 7_200, to_s=HOUR + 7_200, deep=True)
    assert (checked.different, checked.unstable) == ((), ())
    region.jobs.reconcile_tick.run(region.deadline())
    region.clock.sleep_ms(2 * DAY_S * 1_000)
    region.jobs.cleaner.run(region.deadline())
    region.jobs.rollup_cleaner.run(region.deadline())
    region.jobs.orphans.run(region.deadline(), whole=True)
    assert region.usage() == region.rows()
    assert region.objects.keys("staging/") == ()
    assert all((number_of_plan(key) or 0) > 1_000 for key in region.objects.keys("runs/U"))
    assert all(sent.severity != "page" for sent in region.alerts.sent)


def test_what_waited_in_the_backup_and_was_never_booked_is_booked_even_if_a_first_restore_is_killed() -> None:
    for number in count():
        region = Region(waiting=True)
        if not region.killed_at(number, region.restore):
            break
        region.restore()
        region.must_have_everything()
    region = Region(waiting=True)
    done = region.restore()
    assert (done.adopted.files, done.adopted.left) == (0, [])
    assert done.usage.repaired
    region.must_have_everything()


def test_without_markers_in_s3_batches_come_back_without_a_hash_and_are_counted() -> None:
    region = Region(written=False)
    done = region.restore()
    assert done.rebuilt is not None
    assert region.rows() == region.all_rows
    now = region.markers()
    assert now.keys() == region.lost.keys()
    assert {name: marker.hours for name, marker in now.items()} == {n: m.hours for n, m in region.lost.items()}
    assert any(marker.content_hash is None for marker in now.values())


def test_every_chain_goes_on_above_all_numbers_of_the_time_that_was_lost_even_with_a_slow_clock() -> None:
    region = Region()
    numbers = {chain: newest_run(region.before, chain) for chain in (rollup_chain(0), lake_chain(0))}
    region.clock.advance_s(-region.clock.now_ms() // 1000)
    region.restore()
    for chain, before in numbers.items():
        newest = newest_run(region.items, chain)
        assert newest is not None
        assert before is not None
        assert (newest.state, newest.plan_key, newest.number > before.number) == ("done", "", True)


def test_a_restore_that_is_killed_at_any_write_is_done_by_the_next_one() -> None:
    for number in count():
        region = Region(planned=True)
        if not region.killed_at(number, region.restore):
            break
        region.restore()
        region.must_have_everything()
    assert number > 10


def test_the_decision_is_made_once() -> None:
    region = Region()
    region.killed_at(3, region.restore)
    decided = region.objects.peek(decision_key(2))
    assert decided is not None
    decision = Decision.decode(decided, "decision")
    assert Decision.decode(decision.encode(), "decision") == decision
    # An old process puts an object, and a run's plan, after the decision.
    region.objects.put("staging/2026-11-24/late.parquet", b"late", if_absent=True)
    region.restore()
    assert region.objects.peek(decision_key(2)) == decided
    region.must_have_everything()


def works_on(region: Region) -> None:
    """Complete the restore in another process, then let functions work."""
    region.restore()
    region.begin_work()
    region.send([record(7, to=peer) for peer in PEERS], rolled_up=False)
    assert region.dies_after(12, region.roll_up)
    region.compact_all()


def is_sound(region: Region) -> bool:
    region.roll_up()
    region.compact_all()
    region.roll_up()
    booked = region.jobs.rebuilder.usage()
    return booked.repaired == 0 and region.usage() == region.rows()


@pytest.mark.parametrize("first", range(3))
def test_a_call_that_stops_at_any_call_and_goes_on_after_another_one_changes_nothing(first: int) -> None:
    refused = 0
    # The three tests together stop at every third call.
    for number in count(3 * first, 9):
        region = Region(planned=first == 1, placing=5 if first == 2 else 0)
        late = restoration(region.parts().jobs(), generation=2, since_ms=region.since_ms, old=region.before, threads=1)
        calls = 0

        def stop(_call: str, *, region: Region = region, at: int = number) -> None:
            nonlocal calls
            calls += 1
            if calls == at + 1:
                region.items.on_call = region.objects.on_call = lambda _call: None
                works_on(region)

        region.items.on_call = region.objects.on_call = stop
        try:
            late.run()
        except (OperationFailedError, GenerationError):
            refused += 1
        region.items.on_call = region.objects.on_call = lambda _call: None
        if calls <= number:
            break
        assert is_sound(region), number
    assert refused


def test_an_update_whose_reply_is_lost_and_that_is_sent_again_ends_no_restore() -> None:
    for number in count():
        region = Region(planned=True)
        updates = 0

        def lose(call: str, at: int = number) -> None:
            nonlocal updates
            updates += call == "items.update"
            if call == "items.update" and updates == at + 1:
                raise UnavailableError("dynamodb.UpdateItem", "no reply", may_have_applied=True)

        region.items.on_reply = lose
        region.restore()
        region.items.on_reply = lambda _call: None
        region.must_have_everything()
        if updates <= number:
            break
    assert number > 0


def test_a_change_whose_reply_was_lost_and_that_lands_after_the_restore_is_refused() -> None:
    region = Region(placing=8)
    sent: list[Sequence[Action]] = []
    transact = region.items.transact

    def kept(actions: Sequence[Action]) -> None:
        sent.append(actions)
        transact(actions)

    region.items.transact = kept  # type: ignore[method-assign]  # to repeat the calls later
    region.restore()
    region.items.transact = transact  # type: ignore[method-assign]  # as it was
    region.begin_work()
    region.roll_up()
    assert len(sent) > 3
    for actions in sent:
        with pytest.raises(TransactionCanceledError):
            region.items.transact(actions)
    assert is_sound(region)


def test_a_run_has_marked_the_table_before_it_writes_to_any_item() -> None:
    region = World()
    region.send([record(1)])
    region.send([record(2)], rolled_up=False)
    seen: list[bool] = []

    def met(_name: str) -> None:
        newest = max(entry.runs.get(0, 0) for entry in usage_of(region.items))
        seen.append(newest <= usage_generation(region.items).runs[0])

    items = region.items
    region.items.on_reply = lambda name: met(name) if name == "items.update" else None
    region.roll_up()
    items.on_reply = lambda _name: None
    assert len(seen) >= 2
    assert all(seen)


def test_further_processes_put_markers_of_a_ledger_made_from_nothing_which_are_not_put_again() -> None:
    region = Region(nothing=True)
    helpers = [restoration(region.parts().jobs(), generation=2, since_ms=0, old=None) for _ in range(2)]
    first, second = (helper.assist() for helper in helpers)
    assert first.markers
    assert second.markers == 0
    done = region.restore()
    assert (done.adopted.markers, done.adopted.files) == (0, first.files)
    region.must_have_everything()


def test_a_process_that_assists_at_any_moment_of_a_restore_changes_nothing() -> None:
    for number in count(0, 4):
        region = Region(nothing=True)
        helper = restoration(region.parts().jobs(), generation=2, since_ms=0, old=None, threads=1)
        calls = 0

        def assist(_call: str, *, region: Region = region, at: int = number, helper: Restoration = helper) -> None:
            nonlocal calls
            calls += 1
            if calls == at + 1:
                region.items.on_call = region.objects.on_call = lambda _call: None
                helper.assist()

        region.items.on_call = region.objects.on_call = assist
        region.restore()
        region.items.on_call = region.objects.on_call = lambda _call: None
        if calls <= number:
            break
        region.must_have_everything()
    assert number > 20


def test_a_restored_table_may_lack_markers_of_what_it_has_published_so_nobody_assists_there() -> None:
    region = Region()
    assert restoration(region.parts().jobs(), generation=2, since_ms=region.since_ms, old=None).assist().files == 0


def test_a_restore_from_nothing_that_is_killed_at_any_write_is_done_by_the_next_one() -> None:
    for number in count():
        region = Region(nothing=True)
        region.clean()
        if not region.killed_at(number, region.restore):
            break
        region.restore()
        region.must_have_everything()
    assert number > 5


def test_markers_that_are_there_refuse_no_others() -> None:
    region = Region()
    adoption = restoration(region.parts().jobs(), generation=2, since_ms=0, old=None, threads=1).adoption
    [first, *others] = [
        MarkerLine(marker=marker, retry_of="", sent_at_ms=0)
        for marker in region.lost.values()
        if marker.verdict == "accepted"
    ]
    rejected = replace(others[0].marker, verdict="rejected", reason="too_late", quarantine_key="quarantine/x")
    region.items.put(Put(table=Table.LEDGER, item=rejected.to_item()))
    known = set(region.markers()) - {others[0].marker.batch_id}
    lines = [first, *others, first]
    assert adoption.put_lines(lines) == len({line.marker.batch_id for line in lines} - known)
    assert adoption.put_lines(lines) == 0
    assert all(region.markers()[line.marker.batch_id].verdict == "accepted" for line in lines)
