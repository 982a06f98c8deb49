"""A restored ledger is detected before any run number is used twice; it continues with a new usage table."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count

import pytest

from metering.errors import GenerationError, OperationFailedError, TransactionCanceledError, UnavailableError
from metering.ledger.format_version import check_format
from metering.ledger.runs import lake_chain, newest_run, rollup_chain
from metering.ledger.usage.generation import usage_generation
from metering.stores.writes import Action, Delete, Item, Put, Table, key_of
from metering.units import DAY_S
from metering.usage.totals import Total, UsageKey
from metering.wiring.jobs import LakeJobs
from tests.support.lake_world import HOUR, World, record
from tests.support.memory.frozen import merge
from tests.support.usage_items import usage_of

ACCOUNTS = ("123456789012", "210987654321")
PEERS = ("internet", "eu-west-1", "cloudfront")


class Restored(World):
    """A region whose ledger was restored to a time before the last runs of both chains."""

    def __init__(self, *, planned: bool = False, placing: int = 0) -> None:
        """Runs of both chains.

        Args:
            planned: Whether, at the backup, a lake run was planned and had marked pointers.
            placing: Number of the write at which a planned roll-up run was killed; 0 if no run was killed.
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
        before = list(self.items.everything(Table.LEDGER))
        # The restore loses this period: a new kind gets the next number, and runs continue.
        self.roll_up()
        self._traffic("c", PEERS)
        self.compact_all()
        self.lost = self.usage()
        self.clock.sleep_ms(3_600_000)
        for item in list(self.items.everything(Table.LEDGER)):
            self.items.remove(Table.LEDGER, key_of(item))
        self.put(before)

    def put(self, items: Iterable[Item]) -> None:
        for item in items:
            self.items.put(Put(table=Table.LEDGER, item=item))

    def next_table(self) -> None:
        """Deploy the usage table of the next generation."""
        for item in list(self.items.everything(Table.USAGE)):
            self.items.remove(Table.USAGE, key_of(item))
        self.settings = self.settings.model_copy(update={"usage_generation": 3})

    def process(self) -> LakeJobs:
        """The lake jobs, as in a new process."""
        return self.parts().jobs()

    def restore(self) -> None:
        self.process().after_restore(self.deadline(10_000), lambda _step: None).run()

    def rows(self) -> dict[UsageKey, Total]:
        view = self.process().view
        return merge(view.hour_usage(hour_s) for hour_s in view.hours())

    def killed_at(self, number: int, run: Callable[[], object]) -> bool:
        """Call `run`, and kill it at write number `number` (from 0); return whether it was killed."""
        writes = {"items.put", "items.update", "items.delete", "items.transact", "objects.put"}
        return self.dies_after(number, run, writes)

    def _traffic(self, name: str, peers: Iterable[str], *, rolled_up: bool = True) -> None:
        self.send(
            [
                record(100 + number, account=account, to=peer, resource=name)
                for number, (account, peer) in enumerate((account, peer) for account in ACCOUNTS for peer in peers)
            ],
            rolled_up=rolled_up,
        )


def test_a_roll_up_of_a_restored_ledger_stops_and_pages_before_it_writes_anything() -> None:
    region = Restored()
    usage = list(region.items.everything(Table.USAGE))
    region.send([record(1)], rolled_up=False)
    with pytest.raises(GenerationError, match="the ledger was restored to an earlier time"):
        region.process().rollup.run(region.deadline())
    assert list(region.items.everything(Table.USAGE)) == usage
    assert ("page", "Roll-up stopped") in [(sent.severity, sent.subject) for sent in region.alerts.sent]


def test_nobody_works_between_the_deployment_of_the_next_table_and_its_filling() -> None:
    region = Restored()
    region.next_table()
    with pytest.raises(GenerationError, match="usage table 2, and 3 is deployed"):
        check_format(region.items, usage_generation=3)
    region.restore()
    check_format(region.items, usage_generation=3)
    assert usage_generation(region.items).number == 3


@pytest.mark.parametrize("planned", [False, True])
def test_the_new_table_has_the_totals_of_the_rows_and_all_jobs_go_on(planned: bool) -> None:
    region = Restored(planned=planned)
    region.next_table()
    region.restore()
    assert region.usage() == region.rows()
    assert region.usage() != region.lost
    region.jobs, region.aggregator = region.process(), region.parts().worker()
    region.send([record(7, to=peer) for peer in (*PEERS, "ap-southeast-2")])
    assert region.usage() == region.rows()
    region.compact_all()
    checked = region.jobs.reconciler.check(from_s=HOUR - 7_200, to_s=HOUR + 7_200, deep=True)
    assert (checked.different, checked.unstable) == ((), ())
    region.jobs.reconcile_tick.run(region.deadline())
    region.clock.sleep_ms(7_200_000)
    region.jobs.cleaner.run(region.deadline())
    region.jobs.rollup_cleaner.run(region.deadline())
    assert region.usage() == region.rows()
    assert all(sent.severity != "page" for sent in region.alerts.sent)


def test_every_chain_goes_on_above_the_numbers_of_the_time_that_was_lost() -> None:
    region = Restored()
    region.next_table()
    began_s = region.clock.now_ms() // 1000
    region.restore()
    for chain in (rollup_chain(0), lake_chain(0)):
        newest = newest_run(region.items, chain)
        assert newest is not None
        assert (newest.state, newest.plan_key, newest.number >= began_s) == ("done", "", True)


def test_a_restore_that_is_killed_at_any_write_is_done_by_the_next_one() -> None:
    for number in count():
        region = Restored(planned=True)
        region.next_table()
        if not region.killed_at(number, region.restore):
            break
        region.restore()
        check_format(region.items, usage_generation=3)
        assert region.usage() == region.rows(), number
    assert number > 10


@pytest.mark.parametrize("placing", range(1, 14))
def test_what_a_planned_run_had_placed_and_still_waits_is_booked_once(placing: int) -> None:
    region = Restored(placing=placing)
    region.next_table()
    region.restore()
    region.jobs, region.aggregator = region.process(), region.parts().worker()
    region.roll_up()
    assert region.usage() == region.rows()
    region.compact_all()
    assert region.jobs.rebuilder.usage().repaired == 0
    assert region.usage() == region.rows()


def test_a_table_that_another_restore_has_begun_to_fill_is_refused() -> None:
    region = Restored()
    ledger = list(region.items.everything(Table.LEDGER))
    region.next_table()
    assert region.killed_at(5, region.restore)
    # The ledger is restored once more, possibly to another time.
    for item in list(region.items.everything(Table.LEDGER)):
        region.items.remove(Table.LEDGER, key_of(item))
    region.put(ledger)
    with pytest.raises(GenerationError, match="usage_generation once more"):
        region.restore()
    region.settings = region.settings.model_copy(update={"usage_generation": 4})
    for item in list(region.items.everything(Table.USAGE)):
        region.items.remove(Table.USAGE, key_of(item))
    region.restore()
    assert region.usage() == region.rows()


def test_a_table_that_was_in_use_is_not_taken_for_a_new_one() -> None:
    region = Restored()
    region.settings = region.settings.model_copy(update={"usage_generation": 3})
    with pytest.raises(GenerationError, match="is not new"):
        region.restore()


def test_without_a_new_table_nothing_is_rebuilt_that_would_keep_the_numbers_of_a_lost_dictionary() -> None:
    region = Restored()
    with pytest.raises(OperationFailedError, match="there is no new one to fill"):
        region.restore()


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


# A late call of the task, or a colleague who repeats it, changes nothing once functions work again.


def works_on(region: Restored) -> None:
    """Complete the task in another process, then let functions work."""
    region.restore()
    region.jobs, region.aggregator = region.process(), region.parts().worker()
    region.roll_up()
    region.send([record(7, to=peer) for peer in PEERS], rolled_up=False)
    assert region.dies_after(12, region.roll_up)
    region.compact_all()


def is_sound(region: Restored) -> bool:
    region.roll_up()
    region.compact_all()
    region.roll_up()
    booked = region.jobs.rebuilder.usage()
    return booked.repaired == 0 and region.usage() == region.rows()


@pytest.mark.parametrize("placing", [0, 5, 10])
def test_a_call_that_stops_at_any_call_and_goes_on_after_another_one_changes_nothing(placing: int) -> None:
    refused = 0
    # The three tests together stop at every call.
    for number in count(placing // 5, 3):
        region = Restored(planned=not placing, placing=placing)
        region.next_table()
        late = region.process().after_restore(region.deadline(10_000), lambda _step: None)
        calls = 0

        def stop(_call: str, *, region: Restored = region, at: int = number) -> None:
            nonlocal calls
            calls += 1
            if calls == at + 1:
                region.items.on_call = region.objects.on_call = lambda _call: None
                works_on(region)

        region.items.on_call = region.objects.on_call = stop
        try:
            late.run()
        except OperationFailedError:
            refused += 1
        region.items.on_call = region.objects.on_call = lambda _call: None
        if calls <= number:
            break
        assert is_sound(region), number
    assert refused > 2


def test_an_update_whose_reply_is_lost_and_that_is_sent_again_ends_no_restore() -> None:
    for number in count():
        region = Restored(planned=True)
        region.next_table()
        updates = 0

        def lose(call: str, at: int = number) -> None:
            nonlocal updates
            updates += call == "items.update"
            if call == "items.update" and updates == at + 1:
                raise UnavailableError("dynamodb.UpdateItem", "no reply", may_have_applied=True)

        region.items.on_reply = lose
        region.restore()
        region.items.on_reply = lambda _call: None
        if updates <= number:
            break
        assert region.usage() == region.rows()
    assert number > 5


def test_a_change_whose_reply_was_lost_and_that_lands_after_the_task_is_refused() -> None:
    taken_back = 0
    for placing in range(1, 14):
        region = Restored(placing=placing)
        region.next_table()
        sent: list[Sequence[Action]] = []
        transact = region.items.transact

        def kept(actions: Sequence[Action], then: Callable[[Sequence[Action]], None] = transact) -> None:
            sent.append(actions)  # noqa: B023 - called before the next region
            then(actions)

        region.items.transact = kept  # type: ignore[method-assign]  # to repeat the calls later
        region.restore()
        region.items.transact = transact  # type: ignore[method-assign]  # as it was
        taken_back += sum(isinstance(action, Delete) for actions in sent for action in actions)
        region.jobs, region.aggregator = region.process(), region.parts().worker()
        region.roll_up()
        for actions in sent:
            with pytest.raises(TransactionCanceledError):
                region.items.transact(actions)
        assert is_sound(region)
    assert taken_back > 20


@pytest.mark.parametrize("placing", [0, 5])
def test_what_was_planned_below_the_lifted_run_is_cleaned(placing: int) -> None:
    region = Restored(planned=not placing, placing=placing)
    region.next_table()
    region.restore()
    region.jobs, region.aggregator = region.process(), region.parts().worker()
    region.roll_up()
    region.compact_all()
    region.clock.sleep_ms(2 * DAY_S * 1_000)
    region.jobs.cleaner.run(region.deadline())
    # A staging object of the lost time has no commit, so the orphan cleaner deletes it.
    named = {str(i["staging"]) for i in region.items.everything(Table.LEDGER) if str(i["pk"])[:2] == "C#"}
    assert named
    assert named.isdisjoint(region.objects.keys("staging/"))
    for _ in range(2):
        region.send([record(7)])
        region.clock.sleep_ms(2 * DAY_S * 1_000)
    region.jobs.rollup_cleaner.run(region.deadline())
    newest = newest_run(region.items, rollup_chain(0))
    assert newest is not None
    assert all(key >= f"runs/U0/{newest.number:012d}" for key in region.objects.keys("runs/U0/"))
    assert region.usage() == region.rows()
