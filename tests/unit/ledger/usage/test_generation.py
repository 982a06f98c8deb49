"""Ledger and usage table that do not go together are noticed before a number is given twice."""

import pytest

from metering.errors import GenerationError, LedgerCorruptError
from metering.ledger.runs import Run, rollup_chain
from metering.ledger.usage.generation import (
    GENERATION_KEY,
    UsageGeneration,
    check_chains,
    check_generation,
    mark_run,
    remember_generation,
    usage_generation,
)
from metering.stores.writes import Put, Table
from tests.support.memory.items import MemoryItemStore


def run(shard: int, number: int) -> Put:
    made = Run(chain=rollup_chain(shard), number=number, state="planned", plan_key="p", planned_at_ms=1)
    return Put(table=Table.LEDGER, item=made.to_item())


def test_the_first_writer_says_which_table_it_is_and_another_one_is_refused() -> None:
    items = MemoryItemStore()
    check_generation(items, 2)
    remember_generation(items, 2)
    remember_generation(items, 2)
    check_generation(items, 2)
    with pytest.raises(GenerationError, match="says that it is number 2, and it should be 3"):
        remember_generation(items, 3)
    with pytest.raises(GenerationError):
        check_generation(items, 3)
    assert usage_generation(items).number == 2


def test_marks_only_grow_and_are_kept_beside_the_number() -> None:
    items = MemoryItemStore()
    mark_run(items, 1, 7)
    mark_run(items, 1, 5)
    mark_run(items, 0, 3)
    remember_generation(items, 2)
    found = usage_generation(items)
    assert found == UsageGeneration(number=2, runs={0: 3, 1: 7})
    assert UsageGeneration.from_item(found.to_item()) == found


def test_a_chain_that_its_usage_table_is_ahead_of_was_restored() -> None:
    items = MemoryItemStore()
    check_chains(items, range(2))
    items.put(run(1, 4))
    mark_run(items, 1, 4)
    check_chains(items, range(2))
    items.put(run(1, 5))
    # A run that was killed before it set its mark.
    check_chains(items, range(2))
    mark_run(items, 1, 6)
    with pytest.raises(GenerationError, match="has run 6 of chain U1, and the ledger does not know it"):
        check_chains(items, range(2))
    check_chains(items, range(1))


def test_what_is_no_generation_stops_whoever_asks() -> None:
    items = MemoryItemStore()
    items.put(Put(table=Table.USAGE, item={**GENERATION_KEY._asdict(), "number": "two"}))
    with pytest.raises(LedgerCorruptError, match="S#generation / S"):
        check_generation(items, 2)


def test_a_run_that_begins_while_somebody_looks_is_no_restore() -> None:
    items = MemoryItemStore()
    calls: list[str] = []

    def met(name: str) -> None:
        calls.append(name)
        if len(calls) == 2:
            items.on_call = lambda _name: None
            items.put(run(0, 7))
            mark_run(items, 0, 7)

    items.on_call = met
    check_chains(items, range(1))
    assert len(calls) == 2
