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
from operator import itemgetter
from typing import TYPE_CHECKING, Literal

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
        """The item as it was read.

        Raises:
            LedgerCorruptError: It is no marker, or has a field that is not as it must be.
        """
        ordinary = _ordinary(item)
        return cls.strictly(item) if ordinary is None else ordinary

    @classmethod
    def strictly(cls, item: Item) -> Marker:
        """The same, field by field, with an error that names what is wrong."""
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


_REQUIRED = itemgetter(
    "pk", "sk", "verdict", "hash", "commit_id", "sender",
    "hash_version", "records", "metered", "refused", "decided_at_ms", "expires_at", "hours",
)  # fmt: skip
_TYPES = (*(str,) * 6, *(int,) * 6, dict)


def _ordinary(item: Item) -> Marker | None:
    """An accepted marker with every field as it must be, in a third of the time; None for every other item.

    A scan reads hundreds of millions of them. What this gives, `Marker.strictly` gives, too.
    """
    try:
        values = _REQUIRED(item)
        # Not isinstance: True is an int.
        if tuple(map(type, values)) != _TYPES or "reason" in item or "quarantine" in item:
            return None
        pk, sk, verdict, content_hash, commit_id, sender_id, *wholes, hours = values
        hash_version, records, metered, refused, decided_at_ms, expires_at_s = wholes
        source_id, sequence = item.get("source", ""), item.get("sequence", 0)
        batch_id = pk.removeprefix(partitions.BATCH)
        if type(source_id) is not str or type(sequence) is not int:
            return None
        ordinary = (
            sk == _MARKER_SK
            and verdict == "accepted"
            and pk != batch_id != ""
            and content_hash
            and commit_id
            and hash_version
            and min(wholes) >= 0
            and (source_id or "source" not in item)
            and sequence >= 0
        )
        totals = {parse_hour(label): _total(pair) for label, pair in hours.items()} if ordinary else {}
    except (KeyError, TypeError, ValueError):
        return None
    if not ordinary:
        return None
    return Marker(
        batch_id=batch_id,
        verdict="accepted",
        content_hash=content_hash,
        hash_version=hash_version,
        commit_id=commit_id,
        source_id=source_id,
        sequence=sequence if "sequence" in item else None,
        sender_id=sender_id,
        records=records,
        metered=metered,
        refused=refused,
        hours=totals,
        decided_at_ms=decided_at_ms,
        expires_at_s=expires_at_s,
    )


def _total(value: Value) -> Total:
    if type(value) is not list:
        raise TypeError
    records, size = value
    if type(records) is not int or type(size) is not int or records < 0 or size < 0:
        raise ValueError
    return Total(size, records)
