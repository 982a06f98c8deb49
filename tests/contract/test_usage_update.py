"""The fullest update of a usage item is within DynamoDB's limits, and lands once on every store (P45).

"Maximum length of any expression string is 4 KB", "maximum number of operators or functions in an UpdateExpression is
300", "sort key: 1,024 bytes" (DynamoDB developer guide, Quotas).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.adapters.aws.dynamodb.expressions import Expressions
from metering.adapters.memory.clock import ManualClock
from metering.adapters.memory.entropy import SeededEntropy
from metering.errors import ConditionFailedError
from metering.ledger.runs import Run
from metering.ledger.usage.items import BUCKET_KINDS, UsageItem
from metering.ledger.usage.kinds import KindNumbers, kind_items
from metering.rollup.adding import updates_of
from metering.rollup.plan import PlannedHour, RollupPlan
from metering.stores.item_size import item_bytes
from metering.stores.retrying import Retrier
from metering.stores.writes import Put, Table, Update
from metering.usage.locations import MAX_REGION_CHARS
from metering.usage.totals import Kind, Total

if TYPE_CHECKING:
    from metering.stores.items import ItemStore

_HOUR_S = 1_795_651_200
_MOST_KINDS = 1_000_000  # Policy.kinds_per_account
_SHARD = 63  # Policy.shards
# A region that nobody knows yet, with the longest name, and the longest zone. Its name stands in usage types, too.
_REGION = f"{'a' * (MAX_REGION_CHARS - 4)}-b-1"
_PLACE = f"{_REGION}/{'z' * 32}"
_USAGE_TYPE = max(f"{_REGION}-{_REGION}-AWS-Out-Bytes", "u" * 128, key=len)
# A total may have 38 digits; MiniStack adds up with 28.
_TOTAL = Total(10**28 - 1, 10**15)


def _kind(number: int) -> Kind:
    return Kind(_USAGE_TYPE[:-6] + f"{number:06d}", "s" * 64, _PLACE, _PLACE)


def _fullest(items: ItemStore, account_id: str, *, numbered: bool) -> tuple[Run, list[Update]]:
    """Updates of a plan with the last bucket that an account can have, or with one kind beyond the cap."""
    numbers = range(_MOST_KINDS - BUCKET_KINDS, _MOST_KINDS)
    if numbered:
        for number in numbers:
            for item in kind_items(account_id, number, _kind(number)):
                items.put(Put(table=Table.LEDGER, item=item))
    kinds = {_kind(number): _TOTAL for number in numbers}
    hour = PlannedHour(
        account_id=account_id,
        hour_s=_HOUR_S,
        corrects_s=_HOUR_S - 3_600,
        numbered=kinds if numbered else {},
        named={} if numbered else dict([next(iter(kinds.items()))]),
    )
    # As after a restore: numbers are those of seconds since 1970.
    run = Run(chain=f"U{_SHARD}", number=999_999_999_999, state="planned", plan_key="runs/…", planned_at_ms=1)
    retrier = Retrier(clock=ManualClock(0), entropy=SeededEntropy(1), attempts=1)
    known = KindNumbers(items, retrier=retrier, cap=_MOST_KINDS, generation=2)
    return run, list(updates_of(RollupPlan(shard=_SHARD, commits=(), hours=(hour,)), run, known))


@pytest.mark.parametrize("numbered", [True, False], ids=["a full bucket", "a kind beyond the cap"])
def test_the_fullest_update_is_within_the_limits(items: ItemStore, pk: str, *, numbered: bool) -> None:
    _, updates = _fullest(items, pk[2:14], numbered=numbered)
    [update] = updates
    assert len(update.add) == (2 * BUCKET_KINDS if numbered else 2) + 1
    written = Expressions()
    changes = written.update(update)
    assert update.condition is not None
    condition = written.condition(update.condition)
    for expression in (changes, condition):
        assert len(expression.encode()) < 4_096
    # Each attribute counts, and so does each word and sign.
    assert len(update.add) + len(update.set) + changes.count("=") + len(("SET", "ADD")) < 300
    assert len(update.key.sk.encode()) <= 1_024
    assert all(len(name.encode()) <= 255 for name in written.names.values())


@pytest.mark.parametrize("numbered", [True, False], ids=["a full bucket", "a kind beyond the cap"])
def test_the_fullest_update_lands_once_and_is_read_back_whole(items: ItemStore, pk: str, *, numbered: bool) -> None:
    run, [update] = _fullest(items, pk[2:14], numbered=numbered)
    items.update(update)
    with pytest.raises(ConditionFailedError) as refused:
        items.update(update)
    # Who is refused learns whose number is there.
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
