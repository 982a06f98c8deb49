"""Cause rows of a log file: each is a part of one record, and the parts of a record add up to the record.

The rows of a file are one Parquet object, `causes/parts/<digest of the identity>.parquet`. It is put after the plan,
which names the digest of the rows, and before the parts of the batches. So a message is only sent if its cause rows
are stored.
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from metering.intake.work import MAX_RECORDS
from metering.onramps.reasons import Traffic
from metering.onramps.rules.causes import TOLD, Cause
from metering.stores.objects import CAUSE_PARTS_PREFIX
from metering.units import DAY_S, INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.onramps.reading import Shown
    from metering.onramps.reasons import Classified

MAX_ROWS = 100_000
"""Most cause rows of a file; the smallest rows of a record beyond become one row with the reason `many`."""
MANY = "many"
"""Reason of bytes whose causes were too many to keep."""
LIFE_S = 15 * DAY_S
"""Life of a cause part: a day longer than that of a message, which is sent after it."""


class RecordKey(NamedTuple):
    """Record of a log file: its traffic, the usage type that it is metered as, and its hour."""

    traffic: Traffic
    hour_s: int
    usage_type: str


class Bytes(NamedTuple):
    """Bytes and lines of a cause."""

    bytes: int
    lines: int

    def plus(self, size_bytes: int, lines: int) -> Bytes:
        return Bytes(self.bytes + size_bytes, self.lines + lines)


class Total(Protocol):
    """Total of a record."""

    @property
    def bytes(self) -> int:
        """Exact bytes."""


Totals = Mapping[tuple[Traffic, int], Total]
Parts = dict[RecordKey, dict[Cause, Bytes]]
"""Causes of each record of a file."""


class CauseRow(NamedTuple):
    """A row of a cause part. `batch` is the batch that has the record; `own_hour` is its hour, in epoch seconds."""

    batch: str
    own_hour: int
    account_id: str
    service: str
    usage_type: str
    resource_id: str
    from_location: str
    to_location: str
    cause: str
    destination: str
    path: str
    basis: str
    reason: str
    direction: str
    bytes: int
    lines: int


class CauseSumsDifferError(AssertionError):
    """The causes of a record do not add up to the record. This is a defect of the rules, and nothing was put."""


def check_sums(parts: Parts, totals: Totals) -> None:
    """Check that the causes of each record add up to its bytes.

    Raises:
        CauseSumsDifferError: They do not.
    """
    sums: dict[tuple[Traffic, int], int] = defaultdict(int)
    for key, causes in parts.items():
        sums[key.traffic, key.hour_s] += sum(each.bytes for each in causes.values())
    if sums != {key: total.bytes for key, total in totals.items()}:
        differing = next(key for key in sums.keys() | totals.keys() if sums.get(key) != _bytes(totals, key))
        raise CauseSumsDifferError(f"causes of {differing} are not its bytes")


def _bytes(totals: Totals, key: tuple[Traffic, int]) -> int | None:
    return totals[key].bytes if key in totals else None


def rows_of(identity: str, parts: Parts, totals: Totals, *, most: int = MAX_ROWS) -> tuple[CauseRow, ...]:
    """Cause rows of a file, sorted; empty if the file was not read for causes, or has too many records.

    Raises:
        CauseSumsDifferError: The causes of a record do not add up to the record.
    """
    # A record over the largest number is several records, which may be in two batches. No real log has one.
    if not parts or len(totals) > most or any(total.bytes > INT64_MAX for total in totals.values()):
        return ()
    check_sums(parts, totals)
    batches = {key: f"{identity}/{place // MAX_RECORDS}" for place, key in enumerate(sorted(totals))}
    kept = _largest(parts, most)
    return tuple(sorted(
        CauseRow(
            batches[key.traffic, key.hour_s], key.hour_s, key.traffic.account_id, key.traffic.service, key.usage_type,
            key.traffic.resource_id, key.traffic.from_location, key.traffic.to_location, *cause[:-1],
            cause.direction or key.traffic.direction, *size,
        )
        for key, causes in kept.items()
        for cause, size in causes.items()
    ))  # fmt: skip


def _largest(parts: Parts, most: int) -> Parts:
    """The parts with at most this many causes: the smallest ones of each record become one."""
    if sum(map(len, parts.values())) <= most:
        return parts
    every = [(size.bytes, key, cause) for key, causes in parts.items() for cause, size in causes.items()]
    # Records keep one row each, for the others.
    every.sort(key=lambda each: (-each[0], each[1:]))
    left: Parts = {}
    for place, (_, key, cause) in enumerate(every):
        kept = cause if place < most - len(parts) else Cause("", "", "", "", MANY)
        found = left.setdefault(key, {})
        found[kept] = found.get(kept, Bytes(0, 0)).plus(*parts[key][cause])
    return left


def digest_of(rows: Iterable[CauseRow]) -> str:
    """SHA-256 of rows, independent of the Parquet writer; empty without rows."""
    digest, some = hashlib.sha256(), False
    for row in rows:
        digest.update(msgspec.json.encode(row) + b"\n")
        some = True
    return digest.hexdigest() if some else ""


def causes_key(identity: str) -> str:
    """Key of the cause part of a file."""
    return f"{CAUSE_PARTS_PREFIX}{hashlib.sha256(identity.encode()).hexdigest()[:40]}.parquet"


def parquet_of(rows: Sequence[CauseRow]) -> bytes:
    """Encode cause rows as Parquet; `from` and `to` are the locations."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = dict(zip(CauseRow._fields, zip(*rows, strict=True), strict=True))
    names = {"from_location": "from", "to_location": "to"}
    numbers = ("own_hour", "bytes", "lines")
    table = pa.table({
        names.get(name, name): pa.array(values, pa.int64() if name in numbers else pa.string())
        for name, values in columns.items()
    })  # fmt: skip
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return file.getvalue()


class OfResources:
    """Causes of a kind of log whose records need no rules: the resource of a record is its cause."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def learn(self, shown: Iterable[Shown]) -> None:
        """Do nothing: lines of such logs show no interfaces."""

    def number(self, _subject: object, _hour_s: int, outcome: Classified, _usage_type: str) -> int:
        """Number of the record's resource."""
        return self._numbers.setdefault(outcome.traffic.resource_id, len(self._numbers))

    def resolved(self, number: int, _hour_s: int) -> Cause:
        """The resource of this number."""
        return Cause(list(self._numbers)[number], "", "", TOLD, "")
