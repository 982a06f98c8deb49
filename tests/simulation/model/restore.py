"""Steps after a restore of the ledger, before any job runs again (P41)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.model.audit import ACCOUNTS, repair, rows_of
from tests.simulation.model.chain import newest
from tests.simulation.model.compactor import finish_compaction
from tests.simulation.model.dictionary import claim
from tests.simulation.model.rules import Setting, run_sk
from tests.simulation.model.world import RefusedError, Write, again, delete, put_if_absent, query

if TYPE_CHECKING:
    from tests.simulation.model.world import Item, Steps


def restore(hours: int, setting: Setting, epoch: int) -> Steps[None]:
    """Finish and take back work in progress, raise the numbers, and fill a new, empty usage table."""
    for shard in range(setting.shards):
        if setting.keeps("P41 compaction that was planned is finished"):
            run = yield from newest(f"L{shard}")
            if run is not None and run[1]["state"] == "planned":
                yield from finish_compaction(shard, *run)
        if setting.keeps("P41 what waits is placed nowhere"):
            yield from _take_back(shard)
        if setting.keeps("P41 a run above all"):
            for chain in (f"U{shard}", f"L{shard}"):
                yield from _raise(chain, epoch)
    for hour in range(hours):
        yield from fill(hour, setting)


def _raise(chain: str, epoch: int) -> Steps[None]:
    run = yield from newest(chain)
    if run is not None and run[0] >= epoch:
        return
    made: Item = {"state": "done", "plan": ""}
    try:
        yield from again(Write((put_if_absent("ledger", f"R{chain}", run_sk(epoch), made),)))
    except RefusedError:
        return


def _take_back(shard: int) -> Steps[None]:
    """Commits that a planned roll-up run has placed and that still wait are unplaced: the next run takes them."""
    run = yield from newest(f"U{shard}")
    if run is None or run[1]["state"] != "planned":
        return
    for commit_id, item in (yield from query("ledger", f"W{shard}")):
        hours = item["hours"]
        assert isinstance(hours, frozenset)
        for hour in sorted(hours):
            yield from again(Write((delete("ledger", f"H{hour}", f"2#{commit_id}"),)))
        yield from again(Write((delete("ledger", f"P{shard}", commit_id),)))


def fill(hour: int, setting: Setting) -> Steps[None]:
    """Fill an hour of an empty usage table: a repair whose kinds get their numbers first."""
    rows = yield from rows_of(hour)
    for account in ACCOUNTS:
        yield from claim(account, {kind for its_account, kind in rows if its_account == account}, setting)
    yield from repair(hour, setting, lambda _: None, lambda _place, _begun: None)
