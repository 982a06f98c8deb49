"""Rows, codec and reader without Parquet or JSON records, for simulations and fast tests.

A delivery's body is JSON: `{"batches": [<batch>, …]}`, made by `plain_body`. A batch is `{"batch_id", "source_id",
"sequence", "rows": [[account_id, usage_type, from, to, bytes, start_s], …]}`. Rows with negative bytes or outside the
admission window are refused. Instead of rows, a batch can have `{"refuse": <reason>}`, which refuses the whole batch,
or `{"object": <key>}`, which reads the rows from the object `key`; `retry_of` is as in a real message.
"""

from __future__ import annotations

import hashlib
import io
import json
import marshal
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

from metering.errors import ObjectMissingError
from metering.hours import hour_of
from metering.intake.batches import Allowance, BatchReading, DecodedBatch, NoBatch, RefusedBatch, RefusedRecord
from metering.lake import ports
from metering.usage.totals import ZERO, Service, Total, UsageKey, UsageType
from tests.support.memory.frozen import encode_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from metering.intake.admission import Admission
    from metering.ledger.booked_hours import RowSource
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Delivery


class PlainRow(NamedTuple):
    """A lake row of a record that starts and ends at `start_s`."""

    booked_s: int
    batch_id: str
    resource_id: str
    account_id: str
    service: str
    direction: str
    from_location: str
    to_location: str
    usage_type: str
    bytes: int
    start_s: int

    @property
    def usage_key(self) -> UsageKey:
        """Usage key of the row, with its booked hour."""
        own_s = hour_of(self.start_s)
        return UsageKey(
            self.booked_s,
            self.account_id,
            UsageType(self.usage_type),
            Service(self.service),
            self.from_location,
            self.to_location,
            None if own_s == self.booked_s else own_s,
        )


class PlainRecord(NamedTuple):
    account_id: str
    usage_type: str
    from_location: str
    to_location: str
    bytes: int
    start_s: int

    def row(self, batch_id: str, position: int) -> PlainRow:
        """Make a row of a batch, booked in the record's own hour; no two rows of a region are equal."""
        return PlainRow(
            booked_s=hour_of(self.start_s),
            batch_id=batch_id,
            resource_id=f"{batch_id}/{position}",
            account_id=self.account_id,
            service="AmazonEC2",
            direction="out",
            from_location=self.from_location,
            to_location=self.to_location,
            usage_type=self.usage_type,
            bytes=self.bytes,
            start_s=self.start_s,
        )


class PlainBatch(TypedDict, total=False):
    batch_id: str
    source_id: str
    sequence: int
    retry_of: str
    rows: Sequence[PlainRecord]
    object: str
    refuse: str


def plain_body(*batches: PlainBatch) -> str:
    """Body of a message with `batches`; without batches, the message is empty."""
    return json.dumps({"batches": batches}, separators=(",", ":"))


def plain_hash(records: Iterable[PlainRecord]) -> str:
    text = json.dumps([list(record) for record in records], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class PlainRowCodec:
    """A `RowCodec` of tuples. The rows of a batch are a tuple of `PlainRow`, each booked in its own hour."""

    def encode(self, batches: Sequence[ports.StagedBatch], markers: bytes = b"") -> bytes:
        rows: list[tuple[object, ...]] = []
        for batch in batches:
            for row in cast("tuple[PlainRow, ...]", batch.rows):
                booked_s = batch.rebooked.get(row.booked_s)
                rows.append(tuple(row) if booked_s is None else (booked_s, *row[1:]))
        return encode_rows(rows, markers)


def encode_rows(rows: Iterable[tuple[object, ...]], beside: bytes | str = b"") -> bytes:
    """Encode rows, and beside them the markers of a staging object or the plan's key of a lake file."""
    return marshal.dumps(sorted(map(tuple, rows))) + marshal.dumps(beside)


@lru_cache(maxsize=128)
def decode_rows(body: bytes) -> tuple[PlainRow, ...]:
    return tuple(map(PlainRow._make, marshal.loads(body)))  # noqa: S302 - what this process wrote itself


def beside_rows(body: bytes) -> bytes | str:
    """Markers or plan key that `encode_rows` wrote beside the rows."""
    source = io.BytesIO(body)
    marshal.load(source)  # noqa: S302 - what this process wrote itself
    return cast("bytes | str", marshal.load(source))  # noqa: S302 - as above


def plain_usage(rows: Iterable[PlainRow]) -> dict[UsageKey, Total]:
    usage: dict[UsageKey, Total] = {}
    for row in rows:
        key = row.usage_key
        size, count = usage.get(key, ZERO)
        usage[key] = Total(size + row.bytes, count + 1)
    return usage


class PlainBatchReader:
    """Reads deliveries whose bodies come from `plain_body`."""

    def __init__(self, objects: ObjectStore | None = None) -> None:
        self._objects = objects

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        try:
            batches = cast("list[PlainBatch]", json.loads(delivery.body)["batches"])
        except (ValueError, KeyError, TypeError):
            return BatchReading(batches=(_refused(delivery, {}, "not_json"),))
        if not batches:
            return BatchReading(batches=(NoBatch(why="empty"),))
        return BatchReading(batches=tuple(self._read(delivery, batch, admission) for batch in batches))

    def _read(self, delivery: Delivery, batch: PlainBatch, admission: Admission) -> DecodedBatch | RefusedBatch:
        if "refuse" in batch:
            return _refused(delivery, batch, batch["refuse"])
        if "object" not in batch:
            return _decoded(delivery, batch, batch["rows"], admission)
        if self._objects is None:
            raise ValueError("this reader has no object store")
        try:
            return _decoded(delivery, batch, json.loads(self._objects.get(batch["object"])), admission)
        except ObjectMissingError:
            return _refused(delivery, batch, "object_missing", missing_object=True)


def _decoded(
    delivery: Delivery, batch: PlainBatch, values: Iterable[Sequence[object]], admission: Admission
) -> DecodedBatch | RefusedBatch:
    records = [PlainRecord(*cast("PlainRecord", value)) for value in values]
    accepted: list[PlainRow] = []
    refused: list[RefusedRecord] = []
    for position, record in enumerate(records):
        reason = "invalid_bytes" if record.bytes < 0 else admission.refusal(record.start_s, delivery.sent_at_ms)
        if reason is None:
            accepted.append(record.row(batch["batch_id"], position))
        else:
            refused.append(RefusedRecord(position=position, reasons=((reason, ""),), raw=json.dumps(record)))
    content_hash = plain_hash(records)
    if not accepted:
        reasons = {each.reasons[0][0] for each in refused}
        reason = reasons.pop() if len(reasons) == 1 else "no_record_admitted"
        return _refused(delivery, batch, reason, content_hash=content_hash, records=len(records))
    return DecodedBatch(
        batch_id=batch["batch_id"],
        source_id=batch.get("source_id", ""),
        sequence=batch.get("sequence"),
        sender_id=delivery.sender_id,
        content_hash=content_hash,
        hash_version=1,
        records=len(records),
        rows=tuple(accepted),
        usage=plain_usage(accepted),
        refused=tuple(refused),
        decoded_bytes=64 * len(records),
        retry_of=batch.get("retry_of", ""),
    )


def _refused(
    delivery: Delivery,
    batch: PlainBatch | Mapping[str, object],
    reason: str,
    *,
    content_hash: str = "",
    records: int = 0,
    missing_object: bool = False,
) -> RefusedBatch:
    sequence = batch.get("sequence")
    return RefusedBatch(
        batch_id=str(batch.get("batch_id", "")),
        source_id=str(batch.get("source_id", "")),
        sequence=sequence if isinstance(sequence, int) else None,
        sender_id=delivery.sender_id,
        content_hash=content_hash or hashlib.sha256(delivery.body.encode()).hexdigest(),
        hash_version=1 if content_hash else 0,
        problems=((reason, ""),),
        records=records,
        missing_object=missing_object,
        evidence=delivery.body.encode(),
        retry_of=str(batch.get("retry_of", "")),
    )


class PlainLake:
    """`LakeWriter`, `LakeReader` and `StagedUsage` of plain rows."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @contextmanager
    def merge(
        self,
        hour_s: int,
        staging_keys: Sequence[str],
        *,
        plan_key: str,
        in_part: Collection[str] = frozenset(),
        markers_of: Collection[str] = frozenset(),
    ) -> Iterator[ports.MergedFile]:
        del in_part
        bodies = {key: self._objects.get(key) for key in staging_keys}
        rows = [row for body in bodies.values() for row in decode_rows(body) if row.booked_s == hour_s]
        summary = encode_usage(ports.in_order(plain_usage(rows)))
        size = sum([row.bytes for row in rows])
        markers = b"".join(cast("bytes", beside_rows(body)) for key, body in bodies.items() if key in markers_of)
        yield ports.MergedFile(
            content=encode_rows(rows, plan_key), rows=len(rows), bytes=size, summary=summary, markers=markers
        )

    def markers(self, staging_key: str) -> bytes:
        return cast("bytes", beside_rows(self._objects.get(staging_key)))

    def plan_of(self, lake_key: str) -> str | None:
        try:
            return cast("str", beside_rows(self._objects.get(lake_key)))
        except ObjectMissingError:
            return None

    def copied(
        self, staging_key: str, batch_ids: Collection[str], *, rebooked: Mapping[int, int], markers: bytes
    ) -> bytes:
        rows = [row for row in decode_rows(self._objects.get(staging_key)) if row.batch_id in batch_ids]
        return encode_rows([(rebooked.get(row.booked_s, row.booked_s), *row[1:]) for row in rows], markers)

    def usage(self, staging_key: str) -> dict[UsageKey, Total]:
        return plain_usage(decode_rows(self._objects.get(staging_key)))

    def totals(self, sources: Sequence[RowSource], query: ports.RowQuery) -> dict[ports.Group, Total]:
        totals: dict[ports.Group, Total] = {}
        takes_all = not query.where and query.times is None
        for source in sources:
            for row in decode_rows(self._objects.get(source.key)):
                # A lake file has only rows of one hour. If a row is of another hour, the test must see it.
                if source.staged and row.booked_s != source.hour_s:
                    continue
                if takes_all or _is_asked_for(row, source.hour_s, query):
                    group = tuple([_value(row, column) for column in query.columns])
                    size, count = totals.get(group, ZERO)
                    totals[group] = Total(size + row.bytes, count + 1)
        return totals

    def groups(self, sources: Sequence[RowSource], query: ports.RowQuery) -> Iterator[tuple[ports.Group, Total]]:
        return iter(self.totals(sources, query).items())

    def parts(self, sources: Sequence[RowSource], query: ports.RowQuery) -> Iterator[tuple[ports.Group, Total]]:
        return (group for source in sources for group in self.totals([source], query).items())

    def hour_usage(
        self,
        hour_s: int,
        sources: Sequence[RowSource],
        *,
        batches: Callable[[Iterator[tuple[ports.Group, Total]]], None] | None = None,
    ) -> ports.UsageRows:
        if batches is not None:
            for source in sources:
                batches(self.groups([source], ports.BATCH_QUERY))
        return ports.in_order(ports.usage_of(hour_s, self.totals(sources, ports.USAGE_QUERY)))


def _is_asked_for(row: PlainRow, hour_s: int, query: ports.RowQuery) -> bool:
    if query.times is not None and query.times.parts(hour_s) and not query.times.takes(row.start_s, hour_s):
        return False
    return all(_value(row, column) in allowed for column, allowed in query.where)


def _value(row: PlainRow, column: str) -> str | int:
    if column == ports.OWN_HOUR:
        return hour_of(row.start_s)
    return cast("str | int", getattr(row, column))


class TotalsAlone:
    """Base class for a `LakeReader` that itself implements only `totals`. Reads of batches raise an error."""

    def totals(self, sources: Sequence[RowSource], query: ports.RowQuery) -> dict[ports.Group, Total]:
        raise NotImplementedError

    def groups(self, sources: Sequence[RowSource], query: ports.RowQuery) -> Iterator[tuple[ports.Group, Total]]:
        yield from self.totals(sources, query).items()

    def parts(self, sources: Sequence[RowSource], query: ports.RowQuery) -> Iterator[tuple[ports.Group, Total]]:
        yield from self.groups(sources, query)

    def hour_usage(
        self,
        hour_s: int,
        sources: Sequence[RowSource],
        *,
        batches: Callable[[Iterator[tuple[ports.Group, Total]]], None] | None = None,
    ) -> ports.UsageRows:
        assert batches is None
        return ports.in_order(ports.usage_of(hour_s, self.totals(sources, ports.USAGE_QUERY)))
