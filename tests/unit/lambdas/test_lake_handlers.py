"""The lake's functions do one unit of work a tick, and a tick that comes twice changes nothing more."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from aws_lambda_powertools import Logger

from lambdas.compactor import handler as compactor
from lambdas.compactor.bootstrap import Dependencies as CompactorDependencies
from lambdas.emf import EmfMetrics
from lambdas.reconciler import handler as reconciler
from lambdas.reconciler.bootstrap import Dependencies as ReconcilerDependencies
from lambdas.sweeper import handler as sweeper
from lambdas.sweeper.bootstrap import Dependencies as SweeperDependencies
from metering.errors import LedgerCorruptError, UnavailableError
from metering.ledger.notes.completeness import Completeness
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.ledger.waiting_commits import waiting_commits
from metering.stores.writes import Key, Put, Table, Update
from metering.units import HOUR_S
from metering.wiring.sweeper import build_sweeper
from tests.support.lake_world import NOW_S, World, record


@dataclass(frozen=True)
class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def logger() -> Logger:
    return Logger(service="test", stream=io.StringIO())


def compactor_parts(world: World) -> CompactorDependencies:
    return CompactorDependencies(
        sweeper=build_sweeper(world, world.metrics),
        jobs=world.jobs,
        metrics=EmfMetrics(service="compactor", stage="local"),
        logger=logger(),
    )


def test_a_commit_that_cannot_be_read_fails_the_tick_and_stops_nothing_that_does_not_depend_on_it() -> None:
    world = World()
    world.send([record(5)])
    [pending] = [item for item in world.items.everything(Table.LEDGER) if str(item["pk"]).startswith("P#")]
    key = Key(str(pending["pk"]), str(pending["sk"]))
    world.items.update(Update(table=Table.LEDGER, key=key, remove=("wide",)))
    orphan = f"staging/2026-11-24/{'e' * 32}.parquet"
    world.objects.put(orphan, b"left behind", if_absent=True)
    world.clock.advance_s(2 * HOUR_S)
    with pytest.raises(LedgerCorruptError, match=key.sk):
        compactor.handle(Context(), compactor_parts(world))
    assert orphan not in world.objects.keys("staging/")
    assert len(world.objects.keys("staging/")) == 1


def test_a_tick_compacts_what_is_due_and_a_second_one_nothing() -> None:
    world = World()
    world.send([record(5), record(7)])
    world.clock.advance_s(HOUR_S)
    parts = compactor_parts(world)
    first = compactor.handle(Context(), parts)
    assert (first["runs"], first["rows"], first["finished"]) == (1, 2, True)
    second = compactor.handle(Context(), parts)
    assert (second["runs"], second["rows"]) == (0, 0)


def test_a_tick_of_the_sweeper_finishes_what_the_watch_found_open() -> None:
    world = World()
    parts = SweeperDependencies(
        sweeper=build_sweeper(world, world.metrics),
        metrics=EmfMetrics(service="sweeper", stage="local"),
        logger=logger(),
    )
    transactions = 0

    def only_the_claim(call: str) -> None:
        nonlocal transactions
        transactions += call == "items.transact"
        if call == "items.transact" and transactions > 1:
            raise UnavailableError(call, "no chunk gets through", may_have_applied=False)

    world.items.on_call = only_the_claim
    world.send([record(1, account=f"{number:012d}") for number in range(350)])
    world.items.on_call = lambda _call: None
    assert sweeper.handle(Context(), parts) == {"finished": 0, "left": 0, "corrupt": 0}
    known = Completeness(through_s=0, open=waiting_commits(world.items, world.settings.shards).oldest_open)
    world.items.put(Put(table=Table.LEDGER, item=known.to_item()))
    assert sweeper.handle(Context(), parts) == {"finished": 1, "left": 0, "corrupt": 0}
    assert sweeper.handle(Context(), parts) == {"finished": 0, "left": 0, "corrupt": 0}
    assert sum(total.bytes for total in world.usage().values()) == 350


def test_a_tick_reconciles_and_writes_down_what_it_came_to() -> None:
    world = World()
    world.send([record(5)], source="edge")
    parts = ReconcilerDependencies(
        jobs=world.jobs, metrics=EmfMetrics(service="reconciler", stage="local"), logger=logger()
    )
    for _ in range(2):
        answer = reconciler.handle(Context(), parts)
        assert answer == {"scanned": True, "hours": 1, "different": 0, "left": 0}
        assert [source.source_id for source in world.jobs.reconciler_state.sources()] == ["edge"]
        item = world.items.peek(Table.LEDGER, RECONCILIATION_KEY)
        assert item is not None
        assert Reconciliation.from_item(item) == Reconciliation(finished_s=NOW_S, hours=1, differences=0)
