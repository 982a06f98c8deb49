"""What the reconciler's last pass came to (`W#reconcile`, `W`), and what it has left to compare (`W#worklist`, `W`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.hours import hour_label
from metering.ledger.partitions import NOTE
from metering.ledger.row_sources import RowSource
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.writes import Item, Value


RECONCILIATION_KEY = Key(f"{NOTE}reconcile", "W")
WORK_LIST_KEY = Key(f"{NOTE}worklist", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What was published and is not compared yet.

    Attributes:
        waiting: How many hours and files.
        since_s: When the oldest of them was put on the list, epoch seconds; None if nothing waits.
    """

    waiting: int = 0
    since_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What the reconciler's last pass came to.

    Attributes:
        finished_s: When a pass came to everything that it had to compare, epoch seconds.
        hours: How many hours it compared.
        differences: In how many of them two passes showed the same difference.
        gaps_since_s: What a source is known to miss was made after this, epoch seconds; None if nothing is missing.
        backlog: What the last pass left.
    """

    finished_s: int
    hours: int
    differences: int
    gaps_since_s: int | None = None
    backlog: Backlog = Backlog()

    def to_item(self) -> dict[str, Value]:
        gaps: dict[str, Value] = {} if self.gaps_since_s is None else {"gaps_since_s": self.gaps_since_s}
        since: dict[str, Value] = {} if self.backlog.since_s is None else {"waiting_since_s": self.backlog.since_s}
        return {
            **gaps,
            **since,
            **RECONCILIATION_KEY._asdict(),
            "finished_s": self.finished_s,
            "hours": self.hours,
            "differences": self.differences,
            "waiting": self.backlog.waiting,
        }

    @classmethod
    def from_item(cls, item: Item) -> Reconciliation:
        fields = Fields.of_item(item)
        return cls(
            finished_s=fields.whole("finished_s"),
            hours=fields.whole("hours"),
            differences=fields.whole("differences"),
            gaps_since_s=fields.whole("gaps_since_s", absent=None),
            # Items of before it was measured have none.
            backlog=Backlog(
                waiting=fields.whole("waiting", absent=0), since_s=fields.whole("waiting_since_s", absent=None)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkList:
    """What the reconciler has to compare, beside reading everything. Each entry with when it was put on the list.

    Attributes:
        runs: The last run of each shard whose hours and files are on the list, or were.
        hours: Hours that something was published in since they were last found equal.
        files: Lake files that were not found equal to the markers of their batches yet.
        scanned_s: When everything was read last, or that was tried, epoch seconds.
    """

    runs: Mapping[int, int] = field(default_factory=dict)
    hours: Mapping[int, int] = field(default_factory=dict)
    files: Mapping[RowSource, int] = field(default_factory=dict)
    scanned_s: int = 0

    def backlog(self, *, different: frozenset[int | str] = frozenset()) -> Backlog:
        """What waits, but for the hours and the keys of files that were compared and differ."""
        since = [since_s for hour_s, since_s in self.hours.items() if hour_s not in different]
        since += [since_s for file, since_s in self.files.items() if file.key not in different]
        return Backlog(waiting=len(since), since_s=min(since, default=None))

    def to_item(self) -> dict[str, Value]:
        waiting: dict[str, Value] = {hour_label(hour_s): since_s for hour_s, since_s in sorted(self.hours.items())}
        files: list[Value] = [
            [hour_label(file.hour_s), file.key, file.rows, file.bytes, since_s]
            for file, since_s in sorted(self.files.items(), key=lambda entry: entry[0].key)
        ]
        return {
            **WORK_LIST_KEY._asdict(),
            "runs": {str(shard): run for shard, run in self.runs.items()},
            "waiting": waiting,
            "files": files,
            "scanned_s": self.scanned_s,
        }

    @classmethod
    def from_item(cls, item: Item) -> WorkList:
        """An item without moments, of an earlier revision, is an empty list: everything is read, which renews it."""
        fields = Fields.of_item(item)
        if "waiting" not in fields:
            return cls()
        runs, waiting = fields.nested("runs"), fields.nested("waiting")
        return cls(
            runs={runs.number_named(shard): runs.whole(shard) for shard in runs},
            hours={waiting.hour_named(label): waiting.whole(label) for label in waiting},
            files={
                RowSource(
                    key=file.text("key"),
                    hour_s=file.hour("hour"),
                    rows=file.whole("rows"),
                    bytes=file.whole("bytes"),
                    staged=False,
                ): file.whole("since_s")
                for file in fields.rows("files", ("hour", "key", "rows", "bytes", "since_s"))
            },
            scanned_s=fields.whole("scanned_s"),
        )
