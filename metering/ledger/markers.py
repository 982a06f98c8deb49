"""Markers: the one verdict of each batch, and the facts that totals are derived from.

| writer                  | writes              | condition                                      |
|-------------------------|---------------------|------------------------------------------------|
| `commit/transaction`    | an accepted marker  | `ABSENT_OR_REJECTED`                           |
| `commit/verdict_writer` | a rejected marker   | `Absent`                                       |
| `audit/rebuild`         | an accepted marker  | `ABSENT_OR_REJECTED`                           |
| `commit/transaction`    | a longer life of it | `ACCEPTED`, and the expiry is the one read     |
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from metering.hours import parse_hour
from metering.ledger import partitions
from metering.ledger.booked_hours import totals_of, totals_value
from metering.stores.fields import Fields
from metering.stores.writes import Absent, AnyOf, Equals, Key
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.writes import Item, Value


Verdict = Literal["accepted", "rejected"]
_VERDICTS: tuple[Verdict, ...] = ("accepted", "rejected")

_MARKER_SK = "M"

# The condition on which a batch becomes accepted: an accepted verdict is final, a rejected one may be replaced.
ABSENT_OR_REJECTED = AnyOf((Absent(), Equals(attribute="verdict", value="rejected")))
ACCEPTED = Equals(attribute="verdict", value="accepted")


def partition_of_batch(batch_id: str) -> str:
    """Partition of a batch: its marker, its conflicts, and the notes of its retries."""
    return f"{partitions.BATCH}{batch_id}"


def marker_key(batch_id: str) -> Key:
    """Key of a batch's marker."""
    return Key(partition_of_batch(batch_id), _MARKER_SK)


def is_marker(item: Item) -> bool:
    """Whether an item of the ledger is a marker."""
    return item["sk"] == _MARKER_SK and in_partition_of_batch(item)


def named_batch(item: Item) -> str:
    """Batch id of an item in the partition of a batch, even if the item cannot be read otherwise."""
    return str(item["pk"]).removeprefix(partitions.BATCH)


def in_partition_of_batch(item: Item) -> bool:
    """Whether an item of the ledger lies in the partition of a batch."""
    return str(item["pk"]).startswith(partitions.BATCH)


def batch_id_of(fields: Fields) -> str:
    """Batch id of an item in the partition of a batch.

    Raises:
        LedgerCorruptError: The item lies elsewhere.
    """
    return fields.after("pk", partitions.BATCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """Marker of a batch: its one verdict, from which totals are derived.

    Attributes:
        content_hash: Hash of the content, hex; None in a rebuilt marker, because the rows do not tell it.
        records, metered, refused: Numbers of records; `records = metered + refused` if accepted.
        hours: Rows and bytes of each booked hour; empty if rejected.
        reason: Reason of a rejection, else empty.
        quarantine_key: Key of the refused content, else empty.
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
        fields = Fields.of_item(item)
        verdict = fields.one_of("verdict", _VERDICTS)
        accepted = verdict == "accepted"
        hash_version = fields.whole("hash_version")
        metered = fields.whole("metered")
        # Only a rebuilt marker is accepted with version 0: the version it was accepted with is not known any more.
        rebuilt = accepted and hash_version == 0
        made = cls(
            batch_id=batch_id_of(fields),
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


class MarkerGlance(NamedTuple):
    """What a scan of everything takes from a marker. It is read several times as fast as the whole marker.

    Attributes:
        hours: Rows and bytes of each booked hour; empty if rejected.
        sequence: None without a number.
    """

    batch_id: str
    verdict: Verdict
    hours: Mapping[int, Total]
    decided_at_ms: int
    source_id: str
    sequence: int | None

    @classmethod
    def of_item(cls, item: Item) -> MarkerGlance:
        """A look at an item that is a marker.

        Raises:
            LedgerCorruptError: What is looked at cannot be read.
        """
        verdict, decided_ms, sequence = item.get("verdict"), item.get("decided_at_ms"), item.get("sequence")
        hours, source_id = item.get("hours"), item.get("source")
        usual = verdict in _VERDICTS and _is_whole(decided_ms) and (sequence is None or _is_whole(sequence))
        usual = usual and (source_id is None or (type(source_id) is str and bool(source_id)))
        totals = _plain_totals(hours) if usual and type(hours) is dict else None
        if totals is None and (hours is not None or verdict != "rejected" or not usual):
            # It is unusual, or wrong: the whole marker says which.
            marker = Marker.from_item(item)
            return cls(
                batch_id=marker.batch_id,
                verdict=marker.verdict,
                hours=marker.hours,
                decided_at_ms=marker.decided_at_ms,
                source_id=marker.source_id,
                sequence=marker.sequence,
            )
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
    """Totals of hours; None if they are not as they are written."""
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
