"""States of regions: in memory until the home region has a ledger, then in it; saved by several threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from metering.fleet.regions import LedgerRegionStates, Phase, RegionState
from tests.support.memory.items import MemoryItemStore

if TYPE_CHECKING:
    from metering.stores.writes import Put


def test_states_wait_in_memory_for_the_ledger_of_the_home_region() -> None:
    store: MemoryItemStore | None = None
    states = LedgerRegionStates(lambda: store)
    states.save(RegionState(region="home-1", phase=Phase.BUILDING))
    assert states.load("home-1") is not None
    assert [state.region for state in states.everything()] == ["home-1"]
    store = MemoryItemStore()
    states.save(RegionState(region="other-1", phase=Phase.READY))
    assert [state.region for state in LedgerRegionStates(lambda: store).everything()] == ["home-1", "other-1"]


def test_regions_of_a_wave_save_their_states_at_the_same_time() -> None:
    class Slow(MemoryItemStore):
        """Another region saves while this one is being stored."""

        def put(self, action: Put) -> None:
            super().put(action)
            if action.key.sk == "first-1":
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(states.save, RegionState(region="second-1")).result(timeout=5)

    store = Slow()
    states = LedgerRegionStates(lambda: store)
    states.save(RegionState(region="first-1"))
    assert [state.region for state in states.everything()] == ["first-1", "second-1"]
