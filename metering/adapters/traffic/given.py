"""Real traffic: records of files, cut into batches, moved to now, with what they must add up to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from metering.adapters.traffic.expectation import expected_totals, start_of
from metering.adapters.traffic.forms import Envelope, inline_body
from metering.adapters.traffic.synthesis import Shipment
from metering.domain.hours import rfc3339
from metering.errors import OperationFailedError
from metering.usecases.manifest import SentBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_HOUR_S = 3_600
# A day less than the admission window: so long may the replay and its queue take.
_LONGEST_S = 34 * 86_400

SAMPLE = Path(__file__).parent / "samples" / "aws-bill-lines" / "records.ndjson"

Record = dict[str, object]


class InputError(OperationFailedError):
    """A file that holds no records of the contract, or ones that no replay can send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRecords:
    """Records as they were read.

    Attributes:
        name: What batch ids start with: the same records give the same ids.
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
        """The same, moved by whole hours so that the newest hour is the last whole one before `now_s`.

        Hours keep their distance, so totals by hour keep their shape.

        Raises:
            InputError: They span more than fits into the admission window.
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
    """Records of NDJSON (`.ndjson`, `.jsonl`, `.json`) or Parquet files, in order.

    Raises:
        InputError: A file cannot be read, or holds something else.
    """
    records = [record for path in paths for record in _read(path)]
    if not records:
        raise InputError("there are no records in " + ", ".join(map(str, paths)))
    return GivenRecords(name=_named(records), records=records)


def _read(path: Path) -> list[Record]:
    try:
        records = _read_parquet(path) if path.suffix == ".parquet" else _read_ndjson(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: {error}") from error
    for number, record in enumerate(records, start=1):
        _check(path, number, record)
    return records


def _read_ndjson(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def _read_parquet(path: Path) -> list[Record]:
    rows: list[Record] = pq.read_table(path).to_pylist()
    return [{name: _plain(value) for name, value in row.items() if value is not None} for row in rows]


def _plain(value: object) -> object:
    return rfc3339(int(value.timestamp())) if isinstance(value, datetime) else value


def _check(path: Path, number: int, record: object) -> None:
    needed = ("account_id", "service", "resource_id", "direction", "from", "to", "bytes", "start", "end")
    missing = [name for name in needed if not isinstance(record, dict) or name not in record]
    if missing:
        raise InputError(f"{path}: record {number} has no {', '.join(missing)}")


def _named(records: Sequence[Mapping[str, object]]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record, sort_keys=True).encode())
    return f"input-{digest.hexdigest()[:16]}"
