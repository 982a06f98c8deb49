"""Real traffic: records from files, cut into batches, moved to the present, with the totals that they must give."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from metering.audit.verify.manifest import SentBatch
from metering.errors import OperationFailedError
from metering.hours import rfc3339
from metering.intake.admission import Admission
from metering.intake.record_rules import record_problems
from metering.intake.records import decode_record
from metering.replay.expectation import expected_totals, start_of
from metering.replay.forms import Envelope, inline_body
from metering.replay.synthesis import Shipment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_HOUR_S = 3_600
# One day under the admission window of 35 days, which leaves a day for sending and queueing.
_LONGEST_S = 34 * 86_400

_NEEDED = ("account_id", "service", "resource_id", "direction", "from", "to", "bytes", "start", "end")
_ANY_TIME = Admission(window_s=1 << 50, ahead_s=1 << 50, floor_s=0)
# Most wrong records that an error names; it counts all of them.
_SHOWN = 5

SAMPLE = Path(__file__).parent / "samples" / "aws-bill-lines" / "records.ndjson"

Record = dict[str, object]


class InputError(OperationFailedError):
    """A file cannot be replayed: it has no records, or records that no replay can send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRecords:
    """Records as they were read.

    Attributes:
        name: Prefix of the batch ids. It follows from the records, so the same records give the same ids.
    """

    name: str
    records: Sequence[Record]

    def shipments(self, records_per_batch: int) -> Iterator[Shipment]:
        """All records in order, in inline batches."""
        for number, first in enumerate(range(0, len(self.records), records_per_batch)):
            batch = self.records[first : first + records_per_batch]
            envelope = Envelope(
                batch_id=f"{self.name}-{number:06d}", source_id=self.name, sequence=number, record_count=len(batch)
            )
            body = inline_body(envelope, [json.dumps(record, separators=(",", ":")) for record in batch])
            sent = SentBatch(
                batch_id=envelope.batch_id, records=len(batch), metered=len(batch), totals=expected_totals(batch)
            )
            yield Shipment(sent=sent, body=body)

    def shifted_to(self, now_s: int) -> GivenRecords:
        """The records moved by whole hours, so that the newest hour is the last whole one before `now_s`.

        Hours keep their distance, so totals by hour keep their shape.

        Raises:
            InputError: The records span more time than the admission window.
        """
        starts = [start_of(record) for record in self.records]
        newest = max(starts) - max(starts) % _HOUR_S
        if newest - min(starts) > _LONGEST_S:
            days = (newest - min(starts)) / 86_400
            raise InputError(f"the records span {days:.0f} days; 34 days can be admitted: split the file by time")
        shift_s = now_s - now_s % _HOUR_S - _HOUR_S - newest
        moved = [
            record | {"start": rfc3339(start + shift_s), "end": rfc3339(start_of(record, "end") + shift_s)}
            for record, start in zip(self.records, starts, strict=True)
        ]
        return replace(self, name=_named(moved), records=moved)


def read_records(paths: Sequence[Path]) -> GivenRecords:
    """Read the records of files, in order: `.parquet` is Parquet, every other file is NDJSON.

    Raises:
        InputError: A file cannot be read, or has wrong records; or no file has a record.
    """
    records = [record for path in paths for record in _read(path)]
    if not records:
        raise InputError("there are no records in " + ", ".join(map(str, paths)))
    return GivenRecords(name=_named(records), records=records)


def _read(path: Path) -> list[Record]:
    try:
        numbered = list(_read_parquet(path) if path.suffix == ".parquet" else _read_ndjson(path))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: {error}") from error
    place = "row" if path.suffix == ".parquet" else "line"
    wrong = [f"{place} {number}: {what}" for number, record in numbered if (what := _problem(record))]
    if wrong:
        shown = "; ".join(wrong[:_SHOWN]) + ("; …" if len(wrong) > _SHOWN else "")
        raise InputError(
            f"{path}: {len(wrong)} of {len(numbered)} records are wrong: {shown}",
            "Nothing was sent. Put them right, or take them out.",
        )
    return [record for _, record in numbered if isinstance(record, dict)]


def _read_ndjson(path: Path) -> Iterator[tuple[int, object]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _parsed(line)


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"


def _read_parquet(path: Path) -> Iterator[tuple[int, object]]:
    rows: list[Record] = pq.read_table(path).to_pylist()
    for number, row in enumerate(rows, start=1):
        yield number, {name: _plain(value) for name, value in row.items() if value is not None}


def _plain(value: object) -> object:
    return rfc3339(int(value.timestamp())) if isinstance(value, datetime) else value


def _problem(record: object) -> str:
    """Reason not to send a record; empty if there is none. Its age does not count, because it may be moved."""
    if not isinstance(record, dict):
        return record if isinstance(record, str) else "not a JSON object"
    missing = [name for name in _NEEDED if name not in record]
    if missing:
        return f"it has no {', '.join(missing)}"
    try:
        text = json.dumps(record, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        return str(error)
    problems = record_problems(decode_record(text), admission=_ANY_TIME, sent_at_ms=0)
    if problems:
        return ": ".join(problems[0])
    try:
        # The count of the sender understands fewer spellings than the service.
        expected_totals([record])
        start_of(record, "end")
    except (ValueError, KeyError, TypeError) as error:
        return f"it cannot be counted here: {error}"
    return ""


def _named(records: Sequence[Mapping[str, object]]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record, sort_keys=True).encode())
    return f"input-{digest.hexdigest()[:16]}"
