"""Markers: the single verdict of each batch, and the facts from which totals are derived.

| writer                  | writes              | condition                                      |
|-------------------------|---------------------|------------------------------------------------|
| `commit/transaction`    | an accepted marker  | `ABSENT_OR_REJECTED`                           |
| `commit/verdict_writer` | a rejected marker   | `Absent`                                       |
| `audit/rebuild`         | an accepted marker  | `ABSENT_OR_REJECTED`                           |
| `commit/transaction`    | a longer life of it | `ACCEPTED`, and the expiry is the one read     |
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from operator import attrgetter
from typing import Annotated, BinaryIO, Literal, NamedTuple, Protocol, cast

from metering.errors import ObjectDamagedError
from metering.hours import parse_hour, rfc3339
from metering.ledger import partitions
from metering.ledger.booked_hours import totals_of, totals_value
from metering.ledger.notes.checks import REMEMBERED_S
from metering.stores.clock import side_by_side
from metering.stores.codec import AnyText, Fields, StoredItem, after
from metering.stores.writes import Absent, AnyOf, Equals, Item, ItemStore, Key, Table, Value
from metering.units import HOUR_S
from metering.usage.totals import Total

Verdict = Literal["accepted", "rejected"]
_VERDICTS: tuple[Verdict, ...] = ("accepted", "rejected")

_MARKER_SK = "M"

# Condition for accepting a batch: an accepted verdict is final, but a rejected verdict may be replaced.
ABSENT_OR_REJECTED = AnyOf((Absent(), Equals(attribute="verdict", value="rejected")))
ACCEPTED = Equals(attribute="verdict", value="accepted")


def partition_of_batch(batch_id: str) -> str:
    """Partition of a batch: its marker, its conflicts, and the notes of its retries."""
    return f"{partitions.BATCH}{batch_id}"


def marker_key(batch_id: str) -> Key:
    """Key of a batch's marker."""
    return Key(partition_of_batch(batch_id), _MARKER_SK)


def may_have_expired(hour_s: int, marker_life_s: int, now_s: int) -> bool:
    """Whether markers of an hour can have expired. A marker is written at most an hour before its hour."""
    return hour_s - HOUR_S + marker_life_s <= now_s


def is_marker(item: Item) -> bool:
    """Whether an item of the ledger is a marker."""
    return item["sk"] == _MARKER_SK and in_partition_of_batch(item)


def named_batch(item: Item) -> str:
    """Batch id of an item in the partition of a batch, even if the item is otherwise unreadable."""
    return str(item["pk"]).removeprefix(partitions.BATCH)


def in_partition_of_batch(item: Item) -> bool:
    """Whether an item of the ledger is in the partition of a batch."""
    return str(item["pk"]).startswith(partitions.BATCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """Marker of a batch: its single verdict, from which totals are derived.

    Attributes:
        content_hash: Hash of the content, hex; None in a rebuilt marker, because rows have no content hash.
        records, metered, refused: Numbers of records; `records = metered + refused` if accepted.
        hours: Rows and bytes of each booked hour; empty if rejected.
        reason: Reason of a rejection, else empty.
        quarantine_key: Key of the object with the refused content, else empty.
    """

    batch_id: str
    verdict: Verdict
    content_hash: str | None
    hash_version: int
    commit_id: str
    source_id: str
    sequence: int | None
    sender_id: str
    records: int
    metered: int
    refused: int
    hours: Mapping[int, Total]
    decided_at_ms: int
    expires_at_s: int
    reason: str = ""
    quarantine_key: str = ""

    @property
    def key(self) -> Key:
        return marker_key(self.batch_id)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {
            **self.key._asdict(),
            "verdict": self.verdict,
            "hash_version": self.hash_version,
            "sender": self.sender_id,
            "records": self.records,
            "metered": self.metered,
            "refused": self.refused,
            "decided_at_ms": self.decided_at_ms,
            "expires_at": self.expires_at_s,
        }
        if self.content_hash is not None:
            item["hash"] = self.content_hash
        if self.commit_id:
            item["commit_id"] = self.commit_id
        if self.source_id:
            item["source"] = self.source_id
        if self.sequence is not None:
            item["sequence"] = self.sequence
        if self.hours or self.verdict == "accepted":
            item["hours"] = totals_value(self.hours)
        if self.reason:
            item["reason"] = self.reason
        if self.quarantine_key:
            item["quarantine"] = self.quarantine_key
        return item

    @classmethod
    def from_item(cls, item: Item) -> Marker:
        return cls.from_fields(Fields.of_item(item))

    @classmethod
    def from_fields(cls, fields: Fields) -> Marker:
        """Decode the fields of an item, or of the copy of an item in S3 (P50)."""
        verdict = fields.one_of("verdict", _VERDICTS)
        accepted = verdict == "accepted"
        hash_version = fields.whole("hash_version")
        metered = fields.whole("metered")
        # Version 0 is accepted only in a rebuilt marker, whose original version is no longer known.
        rebuilt = accepted and hash_version == 0
        made = cls(
            batch_id=fields.after("pk", partitions.BATCH),
            verdict=verdict,
            content_hash=fields.text("hash", absent=None) if rebuilt else fields.text("hash"),
            hash_version=hash_version,
            commit_id=fields.text("commit_id") if accepted and not rebuilt else fields.text("commit_id", absent=""),
            source_id=fields.text("source", absent=""),
            sequence=fields.whole("sequence", absent=None),
            sender_id=fields.any_text("sender"),
            records=fields.whole("records"),
            metered=metered,
            refused=fields.whole("refused"),
            hours=totals_of(fields.nested("hours")) if "hours" in fields or (accepted and metered) else {},
            decided_at_ms=fields.whole("decided_at_ms"),
            expires_at_s=fields.whole("expires_at"),
            reason=fields.text("reason", absent=""),
            quarantine_key=fields.text("quarantine", absent=""),
        )
        fields.check_key(made.key)
        return made


class RefusedContent(Protocol):
    """A batch that is refused as a whole."""

    @property
    def batch_id(self) -> str: ...
    @property
    def content_hash(self) -> str: ...
    @property
    def hash_version(self) -> int: ...
    @property
    def source_id(self) -> str: ...
    @property
    def sequence(self) -> int | None: ...
    @property
    def sender_id(self) -> str: ...
    @property
    def records(self) -> int: ...
    @property
    def reason(self) -> str: ...


def rejected_marker(batch: RefusedContent, quarantine_key: str, *, now_ms: int, expires_at_s: int) -> Marker:
    """Marker of a batch that is refused as a whole."""
    return Marker(
        batch_id=batch.batch_id,
        verdict="rejected",
        content_hash=batch.content_hash,
        hash_version=batch.hash_version,
        commit_id="",
        source_id=batch.source_id,
        sequence=batch.sequence,
        sender_id=batch.sender_id,
        records=batch.records,
        metered=0,
        refused=batch.records,
        hours={},
        decided_at_ms=now_ms,
        expires_at_s=expires_at_s,
        reason=batch.reason,
        quarantine_key=quarantine_key,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerLine:
    """The marker of an accepted batch as its commit writes it in S3 (P50), with facts that no item keeps.

    Attributes:
        retry_of: Id under which the content came first; empty if the batch is not a retry.
        sent_at_ms: When the first message with the batch was sent.
    """

    marker: Marker
    retry_of: str
    sent_at_ms: int


def encode_lines(lines: Iterable[MarkerLine]) -> bytes:
    """A gzip member with one JSON object per line. Members can be concatenated, as they are beside a lake file."""
    text = "".join(
        json.dumps({"marker": line.marker.to_item(), "retry_of": line.retry_of, "sent_at_ms": line.sent_at_ms}) + "\n"
        for line in lines
    )
    return gzip.compress(text.encode(), compresslevel=1, mtime=0)


def decode_lines(source: BinaryIO, key: str) -> Iterator[MarkerLine]:
    """Decode the members that `encode_lines` made, line by line, so that memory holds no more than one line.

    Raises:
        LedgerCorruptError: A line has a different format.
        ObjectDamagedError: The object is not compressed text.
    """
    try:
        with gzip.open(source) as text:
            for number, line in enumerate(text, start=1):
                fields = Fields.of_json(line, f"{key}, line {number}")
                yield MarkerLine(
                    marker=Marker.from_fields(fields.nested("marker")),
                    retry_of=fields.any_text("retry_of"),
                    sent_at_ms=fields.whole("sent_at_ms"),
                )
    except (OSError, EOFError, zlib.error) as error:
        raise ObjectDamagedError(key, str(error)) from error


class MarkerGlance(NamedTuple):
    """The fields of a marker that a full scan needs, decoded several times as fast as the whole marker."""

    batch_id: str
    verdict: Verdict
    hours: Mapping[int, Total]
    decided_at_ms: int
    source_id: str
    sequence: int | None

    @classmethod
    def of_item(cls, item: Item) -> MarkerGlance:
        """Decode an item, which must be a marker.

        Raises:
            LedgerCorruptError: The item cannot be read.
        """
        verdict, decided_ms, sequence = item.get("verdict"), item.get("decided_at_ms"), item.get("sequence")
        hours, source_id = item.get("hours"), item.get("source")
        usual = verdict in _VERDICTS and _is_whole(decided_ms) and (sequence is None or _is_whole(sequence))
        usual = usual and (source_id is None or (type(source_id) is str and bool(source_id)))
        totals = _plain_totals(hours) if usual and type(hours) is dict else None
        if totals is None and (hours is not None or verdict != "rejected" or not usual):
            # The item is unusual or invalid, and decoding the whole marker shows which.
            return cls._make(attrgetter(*cls._fields)(Marker.from_item(item)))
        pk = cast("str", item["pk"])
        return cls(
            pk[len(partitions.BATCH) :],
            cast("Verdict", verdict),
            totals or {},
            cast("int", decided_ms),
            cast("str", source_id or ""),
            cast("int | None", sequence),
        )


def _plain_totals(hours: Mapping[str, Value]) -> dict[int, Total] | None:
    totals: dict[int, Total] = {}
    for label, figures in hours.items():
        if type(figures) is not list or len(figures) != 2:
            return None
        records, size = figures
        if not (_is_whole(records) and _is_whole(size)):
            return None
        try:
            totals[_hour_of(label)] = Total(cast("int", size), cast("int", records))
        except ValueError:
            return None
    return totals


def _is_whole(value: Value | None) -> bool:
    # Not isinstance: True is an int.
    return type(value) is int and value >= 0


@lru_cache(maxsize=4_096)
def _hour_of(label: str) -> int:
    return parse_hour(label)


_CONFLICT_PREFIX = "X#"


def conflict_key(batch_id: str, content_hash: str) -> Key:
    """Key of a conflict."""
    return Key(partition_of_batch(batch_id), f"{_CONFLICT_PREFIX}{content_hash}")


def is_conflict(item: Item) -> bool:
    """Whether an item of the ledger is a conflict."""
    return in_partition_of_batch(item) and str(item["sk"]).startswith(_CONFLICT_PREFIX)


def conflict_named(item: Item) -> tuple[str, str]:
    """Batch id and content hash in the key of a conflict."""
    return named_batch(item), str(item["sk"]).removeprefix(_CONFLICT_PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict(StoredItem):
    """Other content under the id of an accepted batch. Written unconditionally, always with the same attributes."""

    batch_id: Annotated[str, after("pk", partitions.BATCH)]
    content_hash: Annotated[str, after("sk", _CONFLICT_PREFIX)]
    hash_version: int
    quarantine_key: Annotated[str, "quarantine"]
    sender_id: Annotated[AnyText, "sender"]
    first_sender_id: Annotated[AnyText, "first_sender"]
    records: int

    @property
    def key(self) -> Key:
        return conflict_key(self.batch_id, self.content_hash)


def conflicting(batch: RefusedContent, quarantine_key: str, *, first_sender_id: str) -> Conflict:
    """Conflict of a batch whose id was accepted with other content, from `first_sender_id`."""
    return Conflict(
        batch_id=batch.batch_id,
        content_hash=batch.content_hash,
        hash_version=batch.hash_version,
        quarantine_key=quarantine_key,
        sender_id=batch.sender_id,
        first_sender_id=first_sender_id,
        records=batch.records,
    )


CONFLICT_PK = f"{partitions.NOTE}conflict"


def conflict_seen_item(batch_id: str, content_hash: str, now_s: int) -> dict[str, Value]:
    """Note of a new conflict and its time, so that the watch function can count new conflicts without a scan."""
    key = Key(CONFLICT_PK, f"{rfc3339(now_s)}#{batch_id}#{content_hash}")
    return {**key._asdict(), "expires_at": now_s + REMEMBERED_S}


def conflict_of(item: Item) -> tuple[str, str]:
    """Batch id and content hash in the note of a conflict."""
    fields = Fields.of_item(item)
    parts = fields.text("sk").split("#")
    if len(parts) != 3 or not all(parts):
        fields.fail("sk", "a moment, a batch id and a hash")
    return parts[1], parts[2]


# Batches of this many conflicts are looked up together.
_LOOKED_UP = 10_000
# Number of markers per call to the store, which splits the call as needed.
_READ_TOGETHER = 1_000


@dataclass(slots=True, kw_only=True)
class LedgerFacts:
    """Markers and conflicts of some batches, not all read at the same moment.

    Attributes:
        conflicts: Batch id -> hashes of other contents that arrived later under the same id.
    """

    markers: dict[str, Marker] = field(default_factory=dict)
    conflicts: dict[str, set[str]] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        """Add one item of the ledger."""
        if is_marker(item):
            marker = Marker.from_item(item)
            self.markers[marker.batch_id] = marker
        elif is_conflict(item):
            batch_id, content_hash = conflict_named(item)
            self.conflicts.setdefault(batch_id, set()).add(content_hash)

    def merge(self, later: LedgerFacts) -> None:
        """Add the result of a later read."""
        self.markers.update(later.markers)
        for batch_id, hashes in later.conflicts.items():
            self.conflicts.setdefault(batch_id, set()).update(hashes)


def read_batches(
    items: ItemStore, batch_ids: Iterable[str], *, in_conflict: Iterable[str] = (), threads: int = 1
) -> LedgerFacts:
    """Read only the ledger's items of the given batches.

    Args:
        items: The ledger.
        batch_ids: Batches whose marker is read.
        in_conflict: Batches whose marker and conflicts are read, with one query each.
        threads: Maximum concurrent reads.

    Raises:
        LedgerCorruptError: A marker of one of the batches cannot be read.
    """
    facts = LedgerFacts()

    def markers(names: list[str]) -> Iterable[Item]:
        return items.get_many(Table.LEDGER, [marker_key(name) for name in names]).values()

    def partition(name: str) -> Iterable[Item]:
        return list(items.query(Table.LEDGER, partition_of_batch(name)))

    left = iter(batch_ids)
    some = iter(lambda: list(islice(left, _READ_TOGETHER)), [])
    found = chain(side_by_side(markers, some, threads=threads), side_by_side(partition, in_conflict, threads=threads))
    for item in chain.from_iterable(found):
        facts.add(item)
    return facts


@dataclass(slots=True)
class VerdictCounts:
    """Counts of the verdicts in a whole ledger, without the verdicts themselves.

    Attributes:
        accepted, rejected: Batches with records in the range, or decided in the range.
        conflicts: Other contents that arrived later under the id of one of these batches.
    """

    accepted: int = 0
    rejected: int = 0
    conflicts: int = 0

    def add(self, other: VerdictCounts) -> None:
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.conflicts += other.conflicts


def touches(marker: Marker | MarkerGlance, from_s: int, to_s: int) -> bool:
    """Whether a batch has records in `[from_s, to_s)`; a batch without records must be decided in that range."""
    if marker.hours:
        return any(from_s <= hour_s < to_s for hour_s in marker.hours)
    return from_s <= marker.decided_at_ms // 1_000 < to_s


class VerdictTally:
    """Counts verdicts of `[from_s, to_s)` during another job's ledger scan. A plain class, because it is mutable."""

    def __init__(self, items: ItemStore, *, from_s: int, to_s: int) -> None:
        self._items = items
        self._from_s = from_s
        self._to_s = to_s
        self._late: list[str] = []
        self._counts = VerdictCounts()

    def marker(self, marker: Marker | MarkerGlance) -> None:
        if touches(marker, self._from_s, self._to_s):
            self._counts.accepted += marker.verdict == "accepted"
            self._counts.rejected += marker.verdict != "accepted"

    def other(self, item: Item) -> None:
        """Count an item that is not a marker, if it is a conflict.

        Raises:
            LedgerCorruptError: The marker of a conflict's batch cannot be read.
        """
        if is_conflict(item):
            self._late.append(conflict_named(item)[0])
            if len(self._late) >= _LOOKED_UP:
                self._look_up()

    def counts(self) -> VerdictCounts:
        """All that was counted. Raises the same errors as `other`."""
        self._look_up()
        return self._counts

    def _look_up(self) -> None:
        """Count conflicts whose batch is in the range."""
        keys = [marker_key(batch_id) for batch_id in dict.fromkeys(self._late)]
        found = self._items.get_many(Table.LEDGER, keys).values() if keys else ()
        ours = {m.batch_id for m in map(Marker.from_item, found) if touches(m, self._from_s, self._to_s)}
        self._counts.conflicts += sum(batch_id in ours for batch_id in self._late)
        self._late.clear()
