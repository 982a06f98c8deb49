"""The roll-up of a release that does not know the region's totals: it neither books them nor states them (P51)."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from metering.rollup.region import RegionBooking
from metering.rollup.rollup import Rollup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.ledger.runs import Chain, Run
    from metering.rollup.plan import RollupPlan
    from metering.stores.objects import ObjectStore
    from metering.stores.writes import Update
    from metering.usage.totals import UsageKind


@dataclass(frozen=True, slots=True)
class _Objects:
    """A store to which plans are written without `region`."""

    under: ObjectStore

    def __getattr__(self, name: str) -> Any:
        return getattr(self.under, name)

    def put(self, key: str, body: bytes, *, if_absent: bool) -> bool:
        plan = json.loads(body)
        plan.pop("region")
        return self.under.put(key, json.dumps(plan).encode(), if_absent=if_absent)


class _NoBooking(RegionBooking):
    def begin(self) -> None:
        pass

    def prepare(self, plan: RollupPlan) -> Mapping[UsageKind, int]:
        return {}

    def updates(self, plan: RollupPlan, run: Run) -> Iterator[Update]:
        return iter(())

    def complete(self, chain: Chain, shard: int, number: int) -> None:
        pass

    def mark(self, shard: int, number: int) -> None:
        pass


class _EarlierRollup(Rollup):
    @property
    def region(self) -> RegionBooking:
        made = super().region
        return _NoBooking(**{each.name: getattr(made, each.name) for each in fields(made)})


def earlier(rollup: Rollup) -> Rollup:
    """The same roll-up as an earlier release had it."""
    ports = {each.name: getattr(rollup, each.name) for each in fields(rollup)}
    return _EarlierRollup(**{**ports, "objects": _Objects(rollup.objects)})
