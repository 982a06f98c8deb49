"""What the canary, the watch and the reconciler keep in the ledger for people and alarms.

| item                | pk            | sk                         | written by   |
|---------------------|---------------|----------------------------|--------------|
| canary run          | `W#canary`    | start of its minute        | canary       |
| watch state         | `W#watch`     | `W`                        | watch        |
| completeness        | `W#complete`  | `W`                        | watch        |
| conflict seen       | `W#conflict`  | moment, batch id, hash     | aggregator   |
| reconciliation      | `W#reconcile` | `W`                        | reconciler   |
| work list           | `W#worklist`  | `W`                        | reconciler   |
| source              | `W#source`    | source id                  | reconciler   |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from metering.domain.hours import hour_label, parse_hour, rfc3339
from metering.domain.item_values import rows, whole
from metering.domain.items import Key
from metering.domain.lake import Source
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.domain.items import Item, Value

CANARY_PK = "W#canary"
CONFLICT_PK = "W#conflict"
WATCH_KEY = Key("W#watch", "W")
COMPLETENESS_KEY = Key("W#complete", "W")
RECONCILIATION_KEY = Key("W#reconcile", "W")
WORK_LIST_KEY = Key("W#worklist", "W")
SOURCE_PK = "W#source"

# How long canary runs and conflicts are remembered.
REMEMBERED_S = 7 * DAY_S


class CanaryVerdict(StrEnum):
    """What became of a canary batch."""

    SENT = "sent"
    GOOD = "good"
    LATE = "late"
    DOUBLED = "doubled"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRun:
    """One canary batch.

    Attributes:
        slot_s: Start of its minute, epoch seconds; names the batch.
        settled_s: When its verdict was found; 0 while it is `sent`.
    """

    slot_s: int
    sent_s: int
    verdict: CanaryVerdict = CanaryVerdict.SENT
    settled_s: int = 0

    @property
    def key(self) -> Key:
        return canary_key(self.slot_s)

    def to_item(self) -> dict[str, Value]:
        return {
            **self.key._asdict(),
            "slot_s": self.slot_s,
            "sent_s": self.sent_s,
            "verdict": self.verdict.value,
            "settled_s": self.settled_s,
            "expires_at": self.sent_s + REMEMBERED_S,
        }

    @classmethod
    def from_item(cls, item: Item) -> CanaryRun:
        return cls(
            slot_s=_int(item, "slot_s"),
            sent_s=_int(item, "sent_s"),
            verdict=CanaryVerdict(str(item["verdict"])),
            settled_s=_int(item, "settled_s"),
        )


def canary_key(slot_s: int) -> Key:
    """Key of a canary run; sorts as time does."""
    return Key(CANARY_PK, rfc3339(slot_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState:
    """What the watch remembers from one run to the next.

    Attributes:
        first_s: When it ran for the first time: ages of what never was count from then.
        queue_empty_s: When it last saw the ingest queue empty.
    """

    first_s: int
    queue_empty_s: int

    def to_item(self) -> dict[str, Value]:
        return {**WATCH_KEY._asdict(), "first_s": self.first_s, "queue_empty_s": self.queue_empty_s}

    @classmethod
    def from_item(cls, item: Item) -> WatchState:
        return cls(first_s=_int(item, "first_s"), queue_empty_s=_int(item, "queue_empty_s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """Up to when all that was sent is counted, as the watch last measured it.

    Attributes:
        through_s: All that was sent before it is counted, epoch seconds. That stays true, so it may be read late.
        published: Hours that have rows in staging, and had others published before.
        open: Wide commits that were open, the oldest first, as many as a sweep can take.
    """

    through_s: int
    published: frozenset[int] = frozenset()
    open: tuple[str, ...] = ()

    def to_item(self) -> dict[str, Value]:
        published: list[Value] = [hour_label(hour_s) for hour_s in sorted(self.published)]
        return {
            **COMPLETENESS_KEY._asdict(),
            "through_s": self.through_s,
            "published": published,
            "open": list(self.open),
        }

    @classmethod
    def from_item(cls, item: Item) -> Completeness:
        published = cast("list[str]", item["published"])
        return cls(
            through_s=whole(item, "through_s"),
            published=frozenset(parse_hour(label) for label in published),
            # Items of before there was a sweep each minute name none.
            open=tuple(cast("list[str]", item.get("open", []))),
        )


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
        return cls(
            finished_s=whole(item, "finished_s"),
            hours=whole(item, "hours"),
            differences=whole(item, "differences"),
            gaps_since_s=whole(item, "gaps_since_s") if "gaps_since_s" in item else None,
            # Items of before it was measured have none.
            backlog=Backlog(
                waiting=whole(item, "waiting", absent=0),
                since_s=whole(item, "waiting_since_s") if "waiting_since_s" in item else None,
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
    files: Mapping[Source, int] = field(default_factory=dict)
    scanned_s: int = 0

    def backlog(self, *, different: frozenset[int | str] = frozenset()) -> Backlog:
        """What waits, but for the hours and the keys of files that were compared and differ."""
        since = [since_s for hour_s, since_s in self.hours.items() if hour_s not in different]
        since += [since_s for file, since_s in self.files.items() if file.key not in different]
        return Backlog(waiting=len(since), since_s=min(since, default=None))

    def to_item(self) -> dict[str, Value]:
        hours: list[Value] = [[hour_label(hour_s), since_s] for hour_s, since_s in sorted(self.hours.items())]
        files: list[Value] = [
            [hour_label(file.hour_s), file.key, file.rows, file.bytes, since_s]
            for file, since_s in sorted(self.files.items(), key=lambda entry: entry[0].key)
        ]
        return {
            **WORK_LIST_KEY._asdict(),
            "runs": {str(shard): run for shard, run in self.runs.items()},
            "hours": hours,
            "files": files,
            "scanned_s": self.scanned_s,
        }

    @classmethod
    def from_item(cls, item: Item) -> WorkList:
        """Entries of before they had a moment count from the last whole pass: it renewed the list."""
        scanned_s = whole(item, "scanned_s")
        runs = cast("Mapping[str, int]", item["runs"])
        hours = cast("list[str | tuple[str, int]]", item["hours"])
        files = cast("list[tuple[str, str, int, int] | tuple[str, str, int, int, int]]", item["files"])
        timed = [(entry, scanned_s) if isinstance(entry, str) else (entry[0], entry[1]) for entry in hours]
        return cls(
            runs={int(shard): run for shard, run in runs.items()},
            hours={parse_hour(label): since_s for label, since_s in timed},
            files={
                Source(key=entry[1], hour_s=parse_hour(entry[0]), rows=entry[2], bytes=entry[3], staged=False): entry[4]
                if len(entry) == 5
                else scanned_s
                for entry in files
            },
            scanned_s=scanned_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """A producer that numbers its batches, as derived from markers.

    Attributes:
        last_sequence: Highest credible number seen.
        last_seen_s: When a batch of it was decided last, epoch seconds; 0 after it was forgotten, until it sends again.
        gaps: Numbers that are missing, as intervals with both ends, in order: the newest few hundred.
        unlisted_gaps, unlisted_numbers: Older gaps, and the numbers that were missing in them.
        incredible, incredible_first: How many numbers came that are no credible continuation, and the least of them.
    """

    source_id: str
    last_sequence: int
    last_seen_s: int
    gaps: tuple[tuple[int, int], ...] = ()
    unlisted_gaps: int = 0
    unlisted_numbers: int = 0
    incredible: int = 0
    incredible_first: int | None = None

    @property
    def missing(self) -> int:
        """How many numbers are missing."""
        return sum(last - first + 1 for first, last in self.gaps) + self.unlisted_numbers

    def is_live(self, now_s: int, life_s: int) -> bool:
        """Whether it has sent anything for so long. One that has not is no source any more."""
        return self.last_seen_s > now_s - life_s

    def to_item(self) -> dict[str, Value]:
        gaps: list[Value] = [[first, last] for first, last in self.gaps]
        incredible: dict[str, Value] = {}
        if self.incredible_first is not None:
            incredible = {"incredible": self.incredible, "incredible_first": self.incredible_first}
        return {
            **Key(SOURCE_PK, self.source_id)._asdict(),
            "last_sequence": self.last_sequence,
            "last_seen_s": self.last_seen_s,
            "gaps": gaps,
            "unlisted_gaps": self.unlisted_gaps,
            "unlisted_numbers": self.unlisted_numbers,
            **incredible,
        }

    @classmethod
    def from_item(cls, item: Item) -> SourceState:
        return cls(
            source_id=str(item["sk"]),
            last_sequence=whole(item, "last_sequence"),
            last_seen_s=whole(item, "last_seen_s"),
            gaps=tuple((first, last) for first, last in rows(item, "gaps", 2)),
            # Items of before they were bounded list all their gaps.
            unlisted_gaps=whole(item, "unlisted_gaps", absent=0),
            unlisted_numbers=whole(item, "unlisted_numbers", absent=0),
            incredible=whole(item, "incredible", absent=0),
            incredible_first=whole(item, "incredible_first") if "incredible_first" in item else None,
        )


def conflict_seen_item(batch_id: str, content_hash: str, now_s: int) -> dict[str, Value]:
    """The note that a conflict was settled at a moment, so that the watch can count new ones without a scan."""
    key = Key(CONFLICT_PK, f"{rfc3339(now_s)}#{batch_id}#{content_hash}")
    return {**key._asdict(), "expires_at": now_s + REMEMBERED_S}


def conflict_of(item: Item) -> tuple[str, str]:
    """Batch id and content hash of a conflict that was seen."""
    _, batch_id, content_hash = str(item["sk"]).split("#")
    return batch_id, content_hash


def _int(item: Item, name: str) -> int:
    return int(cast("int", item[name]))
