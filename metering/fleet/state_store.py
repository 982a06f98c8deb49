"""`RegionStates` in the ledger of the home region."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from metering.fleet.regions import REGIONS_PK, RegionState, region_key
from metering.stores.writes import Put, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.stores.items import ItemStore


class LedgerRegionStates:
    """States in the ledger of the home region, as soon as that exists.

    The first build of the home region has no ledger to keep its state in, so it keeps it in memory until its tables
    exist. A run that is killed before begins again, which each step allows.

    The class has mutable state: a lock guards it, because the regions of one wave save their states at the same time.

    Args:
        ledger: Gives the items of the home region, or None while it is not deployed; asked until it gives some.
    """

    def __init__(self, ledger: Callable[[], ItemStore | None]) -> None:
        self._ledger = ledger
        self._found: ItemStore | None = None
        self._unsaved: dict[str, RegionState] = {}
        self._lock = Lock()

    def load(self, region: str) -> RegionState | None:
        store = self._store()
        if store is None:
            return self._unsaved.get(region)
        item = store.get(Table.LEDGER, region_key(region))
        return None if item is None else RegionState.from_item(item)

    def save(self, state: RegionState) -> None:
        store = self._store()
        with self._lock:
            self._unsaved[state.region] = state
            if store is None:
                return
            unsaved, self._unsaved = self._unsaved, {}
        for each in unsaved.values():
            store.put(Put(table=Table.LEDGER, item=each.to_item()))

    def everything(self) -> Sequence[RegionState]:
        store = self._store()
        if store is None:
            return list(self._unsaved.values())
        return [RegionState.from_item(item) for item in store.query(Table.LEDGER, REGIONS_PK)]

    def _store(self) -> ItemStore | None:
        if self._found is None:
            self._found = self._ledger()
        return self._found
