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
    """States in the home region's ledger, once there is one.

    The home region's own first build has nowhere to keep its state until its tables are there. Until then it is in
    memory: a killed run begins again, which each step allows.

    Regions of one wave save their states at the same time.

    Args:
        ledger: The home region's items, or None while it is not deployed; asked until there are some.
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
