"""The largest update of a usage item is within DynamoDB's limits, and is applied once on every store (P45).

"Maximum length of any expression string is 4 KB", "maximum number of operators or functions in an UpdateExpression is
300", "sort key: 1,024 bytes" (DynamoDB developer guide, Quotas).
"""

from __future__ import annotations

from typing import cast

import pytest

from metering.adapters.aws.items import Expressions
from metering.audit.repair import UsageRepair
from metering.audit.settling import HourUsage
from metering.errors import ConditionFailedError, LedgerCorruptError
from metering.ledger.runs import Run
from metering.ledger.usage.items import BUCKET_KINDS, UsageItem, newest_run_of, usage_item_key
from metering.ledger.usage.kinds import KindNumbers, kind_items
from metering.rollup.adding import updates_of
from metering.rollup.plan import PlannedHour
from metering.stores.clock import Retrier
from metering.stores.writes import (
    AllOf,
    AnyOf,
    Condition,
    Exists,
    Foreign,
    Item,
    ItemStore,
    Key,
    Put,
    Table,
    Update,
    Value,
    item_bytes,
)
from metering.usage.totals import Service, Total, UsageKey, UsageKind, UsageType
from metering.usage.usage_types import MAX_REGION_CHARS
from tests.support.memory.clock import ManualClock, SeededEntropy
from tests.support.memory.objects import MemoryObjectStore

_HOUR_S = 1_795_651_200
_MOST_KINDS = 1_000_000  # Policy.kinds_per_account
_SHARD = 63  # Policy.shards
# A region that nobody knows yet, with the longest name, and the longest zone. Usage types contain its name, too.
_REGION = f"{'a' * (MAX_REGION_CHARS - 4)}-b-1"
_PLACE = f"{_REGION}/{'z' * 32}"
_USAGE_TYPE = max(f"{_REGION}-{_REGION}-AWS-Out-Bytes", "u" * 128, key=len)
# A total may have 38 digits; MiniStack adds numbers with 28 digits.
_TOTAL = Total(10**28 - 1, 10**15)


def _kind(number: int) -> UsageKind:
    return UsageKind(UsageType(_USAGE_TYPE[:-6] + f"{number:06d}"), Service("s" * 64), _PLACE, _PLACE)


def _fullest(items: ItemStore, account_id: str, *, numbered: bool) -> tuple[Run, list[Update]]:
    """Updates of a plan that fills an account's last bucket, or exceeds the maximum number of kinds by one."""
    numbers = range(_MOST_KINDS - BUCKET_KINDS, _MOST_KINDS)
    if numbered:
        for number in numbers:
            for item in kind_items(account_id, number, _kind(number)):
                items.put(Put(table=Table.LEDGER, item=item))
    kinds = {_kind(number): _TOTAL for number in numbers}
    hour = PlannedHour(
        account_id=account_id, hour_s=_HOUR_S, corrects_s=_HOUR_S - 3_600, numbered=kinds if numbered else {},
        named={} if numbered else dict([next(iter(kinds.items()))]),
    )  # fmt: skip
    # Run numbers are seconds since 1970, as after a restore.
    run = Run(chain=f"U{_SHARD}", number=999_999_999_999, state="planned", plan_key="runs/…", planned_at_ms=1)
    retrier = Retrier(clock=ManualClock(0), entropy=SeededEntropy(1), attempts=1)
    known = KindNumbers(items, retrier=retrier, cap=_MOST_KINDS, generation=2)
    return run, list(updates_of([hour], run, known))


@pytest.mark.parametrize("numbered", [True, False], ids=["a full bucket", "a kind beyond the cap"])
def test_the_fullest_update_is_within_the_limits(items: ItemStore, pk: str, *, numbered: bool) -> None:
    _, updates = _fullest(items, pk[2:14], numbered=numbered)
    [update] = updates
    assert len(update.add) == (2 * BUCKET_KINDS if numbered else 2) + 1
    changes = _within_limits(update)
    # Each attribute counts as an operator, and so do each keyword and each sign.
    assert len(update.add) + len(update.set) + changes.count("=") + len(("SET", "ADD")) < 300
    assert len(update.key.sk.encode()) <= 1_024


def _within_limits(update: Update) -> str:
    """The update expression; first checks the length of every string that is sent."""
    written = Expressions()
    assert update.condition is not None
    changes, condition = written.update(update), written.condition(update.condition)
    assert max(len(changes.encode()), len(condition.encode())) < 4_096
    assert all(len(name.encode()) <= 255 for name in written.names.values())
    return changes


@pytest.mark.parametrize("numbered", [True, False], ids=["a full bucket", "a kind beyond the cap"])
def test_the_fullest_update_lands_once_and_is_read_back_whole(items: ItemStore, pk: str, *, numbered: bool) -> None:
    run, [update] = _fullest(items, pk[2:14], numbered=numbered)
    items.update(update)
    with pytest.raises(ConditionFailedError) as refused:
        items.update(update)
    # The refused claim returns the number's owner.
    assert refused.value.existing is not None
    assert refused.value.existing[f"n{_SHARD}"] == run.number
    found = items.get(Table.USAGE, update.key)
    assert found is not None
    item = UsageItem.from_item(found)
    assert list(item.totals.values()) == [_TOTAL] * (BUCKET_KINDS if numbered else 1)
    assert (item.revision, item.runs) == (1, {_SHARD: run.number})
    assert item.key == update.key
    assert item_bytes(found) < 400_000 / 50


def test_keys_of_the_dictionary_hold_the_longest_names(items: ItemStore, pk: str) -> None:
    for item in kind_items(pk[2:14], _MOST_KINDS - 1, _kind(_MOST_KINDS - 1)):
        items.put(Put(table=Table.LEDGER, item=item))
        assert len(str(item["sk"]).encode()) <= 1_024


def _fullest_correction(items: ItemStore, account_id: str) -> Update:
    """A correction of a full bucket, with maximum shards and more odd attributes than fit in one update."""
    runs = dict.fromkeys(range(_SHARD + 1), 999_999_999_998)
    numbers = range(_MOST_KINDS - BUCKET_KINDS, _MOST_KINDS)
    kinds = {_kind(number): number for number in numbers}
    hour = UsageKey(_HOUR_S, account_id, *_kind(numbers[0]), _HOUR_S - 3_600)
    key = usage_item_key(hour, numbers[0])
    odd: dict[str, Value] = {f"{'m' * 250}{number:04d}": "mine" for number in range(40)}
    item: dict[str, Value] = {**key._asdict(), **odd, "v": 10**15}
    items.put(Put(table=Table.USAGE, item=item | {newest_run_of(shard): number for shard, number in runs.items()}))
    usage = HourUsage()
    found = items.get(Table.USAGE, key)
    assert found is not None
    usage.add(UsageItem.as_found(found), [])
    sent = _Sent(items)
    retrier = Retrier(clock=ManualClock(0), entropy=SeededEntropy(1), attempts=1)
    repair = UsageRepair(
        items=cast("ItemStore", sent), objects=MemoryObjectStore(ManualClock(0)),
        numbers=KindNumbers(items, retrier=retrier, cap=_MOST_KINDS, generation=2), runs=runs, usage=usage,
        rows={hour._replace(**kind._asdict()): _TOTAL for kind in kinds},
    )  # fmt: skip
    result = repair.run({account_id: kinds})
    # Other odd attributes are left for the next pass.
    assert (len(result.repairs), result.left) == (BUCKET_KINDS, frozenset([account_id]))
    [update] = sent.updates
    return update


class _Sent:
    """A store that records the updates sent to it."""

    def __init__(self, items: ItemStore) -> None:
        self._items = items
        self.updates: list[Update] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._items, name)

    def update(self, action: Update) -> Item:
        self.updates.append(action)
        return self._items.update(action)


def _operators(condition: Condition) -> int:
    """Number of operators and functions in a condition."""
    if not isinstance(condition, AllOf | AnyOf):
        return 1
    return sum(map(_operators, condition.conditions)) + len(condition.conditions) - 1


def test_the_fullest_correction_is_within_the_limits_and_lands(items: ItemStore, pk: str) -> None:
    update = _fullest_correction(items, pk[2:14])
    assert (len(update.add), len(update.set), len(update.remove)) == (2 * BUCKET_KINDS + 1, _SHARD + 1, 20)
    _within_limits(update)
    assert update.condition is not None
    assert len(update.add) + len(update.remove) + 2 * len(update.set) + len(("SET", "ADD", "REMOVE")) < 300
    assert _operators(update.condition) < 300
    found = items.get(Table.USAGE, update.key)
    assert found is not None
    item = UsageItem.as_found(found)
    assert list(item.totals.values()) == [_TOTAL] * BUCKET_KINDS
    assert (item.revision, len(item.runs), len(item.odd)) == (10**15 + 1, _SHARD + 1, 20)


def test_a_figure_that_is_text_refuses_the_update_in_words(items: ItemStore, pk: str) -> None:
    _, [update] = _fullest(items, pk[2:14], numbered=True)
    spoilt = next(name for name in update.add if name.startswith("b"))
    items.put(Put(table=Table.USAGE, item={**update.key._asdict(), spoilt: "777"}))
    for run in (lambda: items.update(update), lambda: items.transact([update])):
        with pytest.raises(LedgerCorruptError, match="has a value of another type"):
            run()


_FOREIGN = (Foreign("N", "1.5"), Foreign("NULL", True), Foreign("B", b"x"), Foreign("NS", ["1"]))


@pytest.mark.parametrize("odd", _FOREIGN, ids=repr)
def test_what_nobody_here_writes_is_read_and_taken_away(items: ItemStore, pk: str, odd: Foreign) -> None:
    place = Key(pk, "2026-11-24T13##0")
    items.put(Put(table=Table.USAGE, item={**place._asdict(), "v": 1, "mine": odd}))
    found = items.get(Table.USAGE, place)
    assert found is not None
    assert found["mine"] == odd
    assert next(iter(items.query(Table.USAGE, pk)))["mine"] == odd
    items.update(Update(table=Table.USAGE, key=place, remove=("mine",), condition=Exists(attribute="mine")))
    assert items.get(Table.USAGE, place) == {**place._asdict(), "v": 1}
