"""Parts of a plan: records of a log file, sorted, at most 50,000 in one batch.

The same totals give the same records in the same order, on any day and by any version of the libraries. A part is named
by the SHA-256 of its records, because another version of pyarrow may write them as other bytes: whatever lies at the
key of a part has its records, and its own SHA-256 goes into the message.

A record's `start` and `end` are the least start and the greatest end of its lines. Lines of one hour may span more
than an hour together (one from 10:05, one until 11:09). Then `end` is an hour after `start`, for the contract allows no
more. The booked hour follows from `start` and is not touched by that. A total over the greatest number that a record
may have becomes several records. A total of 0 bytes is a record: the log says that there was a transfer.
"""

from __future__ import annotations

import hashlib
import io
import json
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from metering.intake.messages import SCHEMA
from metering.intake.work import MAX_RECORDS
from metering.onramps.plans import Part
from metering.stores.bucket import log_part_key
from metering.units import HOUR_S, INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.onramps.ingest.totals import HourTotal
    from metering.onramps.traffic import Traffic


class LogRecord(NamedTuple):
    """One record of the contract; `usage_type` is empty where the contract's table decides."""

    account_id: str
    service: str
    resource_id: str
    direction: str
    from_location: str
    to_location: str
    usage_type: str
    start_s: int
    end_s: int
    bytes: int


class PartRecords(NamedTuple):
    """Records of one part, and what the plan says of them."""

    part: Part
    records: Sequence[LogRecord]


def parts_of(identity: str, totals: Mapping[tuple[Traffic, int], HourTotal]) -> Iterator[PartRecords]:
    """The parts of a file, in order, one at a time."""
    records = _records(totals)
    number = 0
    while group := tuple(islice(records, MAX_RECORDS)):
        part = Part(
            batch_id=f"{identity}/{number}",
            records=len(group),
            bytes=sum(record.bytes for record in group),
            sha256=_digest(group),
        )
        yield PartRecords(part, group)
        number += 1


def _records(totals: Mapping[tuple[Traffic, int], HourTotal]) -> Iterator[LogRecord]:
    for traffic, hour_s in sorted(totals):
        total = totals[traffic, hour_s]
        end_s = min(total.end_s, total.start_s + HOUR_S)
        rest = total.bytes
        while rest > INT64_MAX:
            yield LogRecord(*traffic, total.start_s, end_s, INT64_MAX)
            rest -= INT64_MAX
        yield LogRecord(*traffic, total.start_s, end_s, rest)


def _digest(records: Sequence[LogRecord]) -> str:
    digest = hashlib.sha256()
    for record in records:
        # No field of the contract has a line feed or a tab in it.
        digest.update("\t".join(map(str, record)).encode() + b"\n")
    return digest.hexdigest()


def part_key(identity: str, part: Part) -> str:
    """Key of a part's object."""
    return log_part_key(identity, int(part.batch_id.rpartition("/")[2]), part.sha256)


def parquet_of(records: Sequence[LogRecord]) -> bytes:
    """Records as a Parquet file with the columns of the contract."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("account_id", "service", "resource_id", "direction", "from", "to")
    columns = list(zip(*records, strict=True))
    table = pa.table(
        {
            **{name: pa.array(columns[place], pa.string()) for place, name in enumerate(texts)},
            "usage_type": pa.array([text or None for text in columns[6]], pa.string()),
            "bytes": pa.array(columns[9], pa.int64()),
            "start": pa.array(columns[7], pa.int64()),
            "end": pa.array(columns[8], pa.int64()),
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def message_of(part: Part, *, bucket: str, key: str, stored_sha256: str) -> str:
    """The batch message of a part."""
    message = {
        "schema": SCHEMA,
        "batch_id": part.batch_id,
        "record_count": part.records,
        "location": {"bucket": bucket, "key": key, "format": "parquet", "compression": "none"},
        "sha256": stored_sha256,
    }
    return json.dumps(message, separators=(",", ":"))
