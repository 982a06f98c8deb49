"""Neither a lower nor a higher number of shards abandons data."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import metering
from metering.errors import ConditionFailedError, LedgerCorruptError, UnavailableError
from metering.ledger.commits import SHARDS_KEY, ShardRecord, UsedShards, known_shards
from metering.stores.clock import Retrier
from metering.stores.writes import Put, Table
from tests.support.lake_world import HOUR, World, record
from tests.support.memory.clock import ManualClock, SeededEntropy
from tests.support.memory.items import MemoryItemStore

_LOST = UnavailableError("dynamodb.PutItem", "no answer", may_have_applied=True)


def retrier() -> Retrier:
    return Retrier(clock=ManualClock(0), entropy=SeededEntropy(1), attempts=4)


def recorded(items: MemoryItemStore, shards: int) -> None:
    ShardRecord(items=items, retrier=retrier(), shards=shards).ensure()


def test_the_largest_number_ever_used_is_listed() -> None:
    items = MemoryItemStore()
    assert known_shards(items, 1) == range(1)
    assert known_shards(items, 3) == range(3)
    for shards, listed in ((4, 4), (2, 4), (8, 8), (1, 8)):
        recorded(items, shards)
        assert known_shards(items, 1) == range(listed)


def test_one_shard_is_nothing_to_remember() -> None:
    items = MemoryItemStore()
    recorded(items, 1)
    assert items.get(Table.LEDGER, SHARDS_KEY) is None


class Racing(MemoryItemStore):
    """Another worker's put precedes the first put; the first `lost` puts are applied, but their replies are lost."""

    def __init__(self, other: int, *, lost: int = 0) -> None:
        super().__init__()
        self.other, self.lost, self.puts = other, lost, 0

    def put(self, put: Put) -> None:
        self.puts += 1
        if self.other:
            other, self.other = self.other, 0
            super().put(Put(table=Table.LEDGER, item=UsedShards(number=other).to_item()))
        super().put(put)
        if self.lost:
            self.lost -= 1
            raise _LOST


@pytest.mark.parametrize(("other", "remembered"), [(2, 4), (3, 4), (4, 4), (9, 9)])
def test_a_race_leaves_the_larger_number(other: int, remembered: int) -> None:
    items = Racing(other)
    recorded(items, 4)
    assert known_shards(items, 1) == range(remembered)


def test_a_lost_reply_is_asked_again() -> None:
    items = Racing(0, lost=1)
    recorded(items, 4)
    assert (known_shards(items, 1), items.puts) == (range(4), 1)


def test_a_write_that_lands_late_never_lowers_the_number() -> None:
    items = MemoryItemStore()
    recorded(items, 2)
    put, late = items.put, list[Put]()
    items.put = late.append  # type: ignore[assignment]  # a write on its way
    recorded(items, 4)
    items.put = put  # type: ignore[method-assign]  # the method itself
    recorded(items, 8)
    with pytest.raises(ConditionFailedError):
        items.put(late[0])
    assert known_shards(items, 1) == range(8)


def test_nothing_is_committed_while_it_is_not_known_to_be_remembered() -> None:
    world = World(shards=4)
    put = world.items.put

    def refused(action: Put) -> None:
        if action.key == SHARDS_KEY:
            raise UnavailableError("dynamodb.PutItem", "throttled", may_have_applied=False)
        put(action)

    world.items.put = refused  # type: ignore[method-assign]  # refuses writes
    with pytest.raises(AssertionError):
        world.send([record(1)])
    assert not [item for item in world.items.scan(Table.LEDGER) if str(item["pk"]).startswith(("P#", "B#", "C#"))]
    world.items.put = put  # type: ignore[method-assign]  # the method itself
    world.send([record(1)])
    assert known_shards(world.items, 1) == range(4)


@pytest.mark.parametrize("number", [0, -1, True, "4", None])
def test_what_is_no_number_stops_whoever_lists(number: object) -> None:
    item = {"pk": SHARDS_KEY.pk, "sk": SHARDS_KEY.sk} | ({} if number is None else {"number": number})
    with pytest.raises(LedgerCorruptError, match="S#shards"):
        UsedShards.from_item(item)  # type: ignore[arg-type]  # not what is stored


def test_nobody_lists_the_stages_number_of_shards_alone() -> None:
    for path in Path(metering.__file__).parent.rglob("*.py"):
        if path.parts[-2:] != ("ledger", "commits.py"):
            assert not re.search(r"range\([^)]*shards", path.read_text()), path


def test_a_lowered_number_leaves_nothing_behind() -> None:
    world = World(shards=8)
    for hour in range(12):
        world.send([record(1 << hour, start_s=HOUR - 3_600 * hour)])
    assert {int(str(i["pk"])[2:]) for i in world.items.scan(Table.LEDGER) if str(i["pk"]).startswith("P#")} - {0}
    world.settings = world.settings.model_copy(update={"shards": 1})
    world.jobs = world.make_jobs()
    assert len(world.jobs.view.hours()) == 12
    world.compact_all()
    assert not [item for item in world.items.scan(Table.LEDGER) if str(item["pk"]).startswith("P#")]
    assert world.visible() == world.usage()


def test_a_remembered_one_is_raised_like_any_other_number() -> None:
    items = MemoryItemStore()
    items.put(Put(table=Table.LEDGER, item=UsedShards(number=1).to_item()))
    items.on_call = _no_more_than(10)
    recorded(items, 4)
    assert known_shards(items, 1) == range(4)


def _no_more_than(calls: int) -> Callable[[str], None]:
    left = iter(range(calls))

    def on_call(_name: str) -> None:
        assert next(left, None) is not None, "it never ends"

    return on_call


def test_a_number_that_no_stage_can_have_is_not_listed_for_ever() -> None:
    with pytest.raises(LedgerCorruptError, match="S#shards"):
        UsedShards.from_item({"pk": SHARDS_KEY.pk, "sk": SHARDS_KEY.sk, "number": 10**12})
