"""Waves of a rollout, and the state of each region: an item in the ledger of the home region (`G` / `<region>`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from threading import Lock
from typing import Annotated, NamedTuple

from metering.ledger.partitions import REGIONS
from metering.stores.codec import Fields, Form, SortKey, StoredItem
from metering.stores.writes import ItemStore, Key, Put, Table, read_note

# Functions with a reserved concurrency of one, since two executions would do the same work twice.
ALONE_FUNCTIONS = ("compactor", "rollup", "reconciler", "biller")
# Functions with an instance per shard of the stage.
SHARDED_FUNCTIONS = ("compactor", "rollup")
# Shortest rate of EventBridge. In each tick, a roll-up resumes where the previous tick ended.
ROLLUP_EVERY_MIN = 1


def executions_of(function: str, *, shards: int) -> int | None:
    """Reserved concurrency of a function, which is also the function's limit; None if it has no limit."""
    if function in SHARDED_FUNCTIONS:
        return shards
    return 1 if function in ALONE_FUNCTIONS else None


def reserved_executions(*, shards: int) -> int:
    """Sum of the reserved concurrency of all functions."""
    return sum(executions_of(function, shards=shards) or 0 for function in ALONE_FUNCTIONS)


class Step(StrEnum):
    """Steps that make a region ready, in the order of execution; each step can be repeated."""

    OPT_IN = "opt-in"
    BOOTSTRAP = "bootstrap"
    PREFLIGHT = "preflight"
    DEPLOY = "deploy"
    CANARY = "canary"
    BAKE = "bake"
    READY = "ready"


class Phase(StrEnum):
    """Phase of a region."""

    ABSENT = "absent"
    BUILDING = "building"
    FAILED = "failed"
    READY = "ready"
    REMOVING = "removing"
    REMOVED = "removed"


class Answered(StrEnum):
    """Result of a preflight check; the result is unknown if an endpoint cannot answer the check."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    LEFT_OUT = "left out"


class Finding(NamedTuple):
    """Result and detail of one preflight check."""

    check: str
    answered: Answered
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRegion:
    """A region as the account API lists it.

    Attributes:
        opt_status: `ENABLED_BY_DEFAULT`, `ENABLED`, `ENABLING`, `DISABLED` or `DISABLING`.
    """

    name: str
    opt_status: str


def _step(fields: Fields, name: str) -> Step | None:
    return fields.one_of(name, tuple(Step)) if fields.any_text(name) else None


def _done(fields: Fields, name: str) -> dict[Step, int]:
    done, steps = fields.nested(name), {step.value: step for step in Step}
    if unknown := [each for each in done if each not in steps]:
        fields.fail(name, f"steps, not {unknown[0]}")
    return {steps[each]: done.whole(each) for each in done}


_DONE = Form(_done, lambda done: {step.value: at_s for step, at_s in done.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionState(StoredItem):
    """State of one region.

    Attributes:
        step: The step that is running or failed, otherwise the step that finished last.
        done: For each finished step, the epoch second at which it finished.
        reason, advice: Reason and advice after a failure; otherwise empty.
        listed: Whether the account API lists the region. An unlisted region is built only if it is named explicitly.
        left_out: Optional parts that were left out in the region.
        deployments: Number of finished `deploy` steps. Rollback alarms monitor every deployment except the first.
        canary_from_s: Epoch second from which on canary results count for the bake.
    """

    region: SortKey
    phase: Phase = Phase.ABSENT
    step: Annotated[Step | None, Form(_step, lambda step: "" if step is None else step.value)] = None
    done: Annotated[Mapping[Step, int], _DONE] = field(default_factory=dict)
    reason: str = ""
    advice: str = ""
    listed: bool = True
    left_out: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    architecture: str = "arm64"
    attempts: int = 0
    deployments: int = 0
    canary_from_s: int = 0
    updated_s: int = 0

    @property
    def key(self) -> Key:
        return region_key(self.region)

    @property
    def holds_data(self) -> bool:
        """Whether a deployment was ever completed: if so, reports over all regions must include the region."""
        return self.deployments > 0

    def finished(self, step: Step, at_s: int) -> RegionState:
        return replace(self, step=step, done={**self.done, step: at_s}, updated_s=at_s)


def region_key(region: str) -> Key:
    """Key of the item with a region's state."""
    return Key(REGIONS, region)


def waves(
    regions: Iterable[ListedRegion], *, home: str, largest: int, done: Sequence[str] = ()
) -> tuple[tuple[str, ...], ...]:
    """Group regions into waves of 1, 2, 4 … regions, those with the smallest blast radius first.

    The home region is first and in a wave of its own, because it holds the state of all regions. Opt-in regions have
    the fewest customers, so they come before regions that are enabled by default; ties are broken by name. The regions
    in `done` count as successful waves, so that the waves of new regions need not start with one region again.
    """
    ranked = sorted(regions, key=lambda region: (region.opt_status == "ENABLED_BY_DEFAULT", region.name))
    names = [region.name for region in ranked if region.name != home]
    planned: list[tuple[str, ...]] = [(home,)] if any(region.name == home for region in ranked) else []
    size = 1
    proven = len([name for name in done if name != home])
    while proven >= size and size < largest:
        proven -= size
        size = min(size * 2, largest)
    while names:
        planned.append(tuple(names[:size]))
        names = names[size:]
        size = min(size * 2, largest)
    return tuple(planned)


class LedgerRegionStates:
    """States in the home region's ledger, as soon as that ledger exists.

    While the home region is built for the first time, its state is in memory until its tables exist. If the run is
    killed before that, the next run starts again, because steps are repeatable. A lock guards the state, because the
    regions of one wave save at the same time.

    Args:
        ledger: Returns the home region's item store, or None before the deployment; it is called until it returns a
            store.
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
        return read_note(store, region_key(region), RegionState.from_item)

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
        return [RegionState.from_item(item) for item in store.query(Table.LEDGER, REGIONS)]

    def _store(self) -> ItemStore | None:
        if self._found is None:
            self._found = self._ledger()
        return self._found
