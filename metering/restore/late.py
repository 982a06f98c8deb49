"""Late lake files: late calls of the old ledger put them after the decision, and no hour of the new ledger names them.

An engine that lists `lake/` would count their rows twice, because the decision has adopted them from staging.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from metering.ledger.runs import lake_chain
from metering.restore.decision import Decision
from metering.stores.objects import (
    LAKE_PREFIX,
    decision_key,
    hour_of_lake_key,
    run_of_lake_key,
    withdrawn_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.lake.view import LakeView
    from metering.ledger.booked_hours import HourState


@dataclass(frozen=True, slots=True, kw_only=True)
class LateFiles:
    """Finds and withdraws late files of one restore, at any time after it."""

    view: LakeView
    generation: int

    def find(self) -> list[str]:
        """Keys of lake files of runs below the lift that no published item names."""
        key = decision_key(self.generation)
        return list(self._unnamed(Decision.decode(self.view.objects.get(key), key)))

    def withdraw(self) -> list[str]:
        """Move the late files to `withdrawn/`; returns their keys. A killed call is repeated."""
        late = self.find()
        for key in late:
            # A lake file may be larger than the memory.
            with TemporaryDirectory(prefix="metering-late-") as scratch:
                path = Path(scratch, "file")
                with self.view.objects.open(key) as body, path.open("wb") as copy:
                    copyfileobj(body, copy)
                self.view.objects.put(withdrawn_key(key), path, if_absent=True)
            self.view.objects.delete([key])
        return late

    def _unnamed(self, decision: Decision) -> Iterator[str]:
        infos = self.view.objects.list(LAKE_PREFIX)
        for hour_s, files in groupby((info.key for info in infos), hour_of_lake_key):
            below = [] if hour_s is None else [key for key in files if _is_below(key, decision)]
            if hour_s is not None and below:
                named = self.view.read(hour_s, _named)
                yield from (key for key in below if key not in named)


def _is_below(key: str, decision: Decision) -> bool:
    shard, run = run_of_lake_key(key) or (0, 0)
    return 0 < run < decision.lifts.get(lake_chain(shard), 0)


def _named(state: HourState) -> frozenset[str]:
    return frozenset(source.key for source in state.sources if not source.staged)
