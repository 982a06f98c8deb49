"""Notes of the reconciler: the result of its last pass (`W#reconcile`), and its work list (`W#worklist`)."""

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
    """Backlog: published hours and files that are not compared yet.

    Attributes:
        waiting: Number of hours and files.
        since_s: Time when the oldest of them was put on the list, epoch seconds; None if nothing waits.
    """

    waiting: int = 0
    since_s: int | None = None

    def plus(self, other: Backlog) -> Backlog:
        """What waits in either."""
        since = [since_s for since_s in (self.since_s, other.since_s) if since_s is not None]
        return Backlog(waiting=self.waiting + other.waiting, since_s=min(since, default=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Result of the reconciler's last pass.

    Attributes:
        finished_s: Time when a pass had compared everything on its list, epoch seconds.
        hours: Number of hours that it compared.
        differences: Number of hours in which two passes showed the same difference.
        scan_due_s: Time by which the next scan of everything is due, epoch seconds; None before the first one ended.
        gaps_since_s: Earliest time a missing batch can have been produced, epoch seconds; None if nothing is missing.
        backlog: Backlog that the last pass left.
    """

    finished_s: int
    hours: int
    differences: int
    gaps_since_s: int | None = None
    backlog: Backlog = Backlog()
    scan_due_s: int | None = None

    def to_item(self) -> dict[str, Value]:
        gaps: dict[str, Value] = {} if self.gaps_since_s is None else {"gaps_since_s": self.gaps_since_s}
        since: dict[str, Value] = {} if self.backlog.since_s is None else {"waiting_since_s": self.backlog.since_s}
        due: dict[str, Value] = {} if self.scan_due_s is None else {"scan_due_s": self.scan_due_s}
        return {
            **gaps,
            **since,
            **due,
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
            scan_due_s=fields.whole("scan_due_s", absent=None),
            # Items written before the backlog was measured have none.
            backlog=Backlog(
                waiting=fields.whole("waiting", absent=0), since_s=fields.whole("waiting_since_s", absent=None)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """What a scan found to differ in an hour. A quick pass meets by itself only accounts with rows, and new files.

    Attributes:
        accounts: Accounts whose usage differs.
        batches: Batches whose marker differs.
    """

    accounts: frozenset[str] = frozenset()
    batches: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.accounts) + len(self.batches)

    def to_map(self) -> dict[str, Value]:
        return {"accounts": [*sorted(self.accounts)], "batches": [*sorted(self.batches)]}

    @classmethod
    def of_fields(cls, fields: Fields) -> Suspects:
        return cls(accounts=frozenset(fields.texts("accounts")), batches=frozenset(fields.texts("batches")))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkList:
    """Work list of the reconciler's quick pass. Each entry has the time when it was put on the list.

    Attributes:
        runs: Newest run per shard already added to this list.
        hours: Hours with files that were published since the hours were last found equal.
        files: Lake files that are not yet found equal to the markers of their batches.
        suspects: What a scan found to differ in some of the hours.
        unjudged: Hours in which a scan found something to differ that nobody looked at. Only a scan takes them off.
        scanned_s: Start of the last full scan, completed or not, epoch seconds.
        scan_tries: Ticks that worked on the scan since it was saved last; 0 without a scan that is not at its end.
        scan_runs: Newest run per shard when that scan began.
    """

    runs: Mapping[int, int] = field(default_factory=dict)
    hours: Mapping[int, int] = field(default_factory=dict)
    files: Mapping[RowSource, int] = field(default_factory=dict)
    suspects: Mapping[int, Suspects] = field(default_factory=dict)
    unjudged: Mapping[int, int] = field(default_factory=dict)
    scanned_s: int = 0
    scan_tries: int = 0
    scan_runs: Mapping[int, int] = field(default_factory=dict)

    def backlog(self, *, different: frozenset[int | str] = frozenset()) -> Backlog:
        """Backlog without the hours and the keys of files that were compared and differ."""
        since = [since_s for hour_s, since_s in self.hours.items() if hour_s not in different]
        since += [since_s for file, since_s in self.files.items() if file.key not in different]
        since += self.unjudged.values()
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
            "suspects": {hour_label(hour_s): found.to_map() for hour_s, found in sorted(self.suspects.items())},
            "unjudged": {hour_label(hour_s): since_s for hour_s, since_s in sorted(self.unjudged.items())},
            "scanned_s": self.scanned_s,
            "scan_tries": self.scan_tries,
            "scan_runs": {str(shard): run for shard, run in self.scan_runs.items()},
        }

    @classmethod
    def from_item(cls, item: Item) -> WorkList:
        """Decode the list. An item of an earlier revision has no times, and counts as empty until a full scan."""
        fields = Fields.of_item(item)
        if "waiting" not in fields:
            return cls()
        return cls(
            runs=_runs_of(fields, "runs"),
            hours=_hours_of(fields, "waiting"),
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
            suspects=_suspects_of(fields),
            unjudged=_hours_of(fields, "unjudged"),
            scanned_s=fields.whole("scanned_s"),
            scan_tries=fields.whole("scan_tries", absent=0),
            scan_runs=_runs_of(fields, "scan_runs"),
        )


def _hours_of(fields: Fields, name: str) -> dict[int, int]:
    if name not in fields:
        return {}
    hours = fields.nested(name)
    return {hours.hour_named(label): hours.whole(label) for label in hours}


def _suspects_of(fields: Fields) -> dict[int, Suspects]:
    if "suspects" not in fields:
        return {}
    hours = fields.nested("suspects")
    return {hours.hour_named(label): Suspects.of_fields(hours.nested(label)) for label in hours}


def _runs_of(fields: Fields, name: str) -> dict[int, int]:
    if name not in fields:
        return {}
    runs = fields.nested(name)
    return {runs.number_named(shard): runs.whole(shard) for shard in runs}
