"""Log files with AWS's names, layout and content, and copies of them."""

from __future__ import annotations

import gzip
import hashlib
import io
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from metering.replay.network import in_two_members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.networks.billing import Movement
    from tests.support.networks.causes import Named
    from tests.support.networks.flow_logs import FlowLog

_NUMBERS = {
    "version": pa.int32(),
    "srcport": pa.int32(),
    "dstport": pa.int32(),
    "protocol": pa.int32(),
    "packets": pa.int64(),
    "bytes": pa.int64(),
    "start": pa.int64(),
    "end": pa.int64(),
    "tcp-flags": pa.int32(),
    "traffic-path": pa.int32(),
}


@dataclass(slots=True)
class Tally:
    """Lines and stated bytes of a file, by expected outcome."""

    lines: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)

    def add(self, outcome: str, size_bytes: int = 0, lines: int = 1) -> None:
        self.lines[outcome] = self.lines.get(outcome, 0) + lines
        self.bytes[outcome] = self.bytes.get(outcome, 0) + size_bytes

    def merge(self, other: Tally) -> None:
        for outcome, lines in other.lines.items():
            self.add(outcome, other.bytes[outcome], lines)


class Line(NamedTuple):
    """A line of a log, with its expected outcome and its stated bytes."""

    outcome: str
    bytes: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One object of a log bucket.

    `movement` is set if all metered lines have the same movement; `named` if all lines have the same cause and
    destination.
    """

    log: FlowLog
    bucket: str
    key: str
    body: bytes
    tally: Tally
    movement: Movement | None = None
    named: Named | None = None
    slot_s: int = 0


def log_file(
    log: FlowLog,
    slot_s: int,
    number: int,
    lines: Sequence[Line],
    movement: Movement | None = None,
    named: Named | None = None,
) -> LogFile:
    """A log file of a time slot. `number` distinguishes files of one slot."""
    tally = Tally()
    for outcome, size_bytes, _ in lines:
        tally.add(outcome, size_bytes)
    texts = [line.text for line in lines]
    if log.parquet:
        body = _parquet(log, texts)
    else:
        body = gzip.compress("\n".join([" ".join(log.fields), *texts, ""]).encode(), 6, mtime=0)
        tally.add("header")
    key = _key(log, slot_s, number)
    return LogFile(
        log=log, bucket=log.bucket, key=key, body=body, tally=tally, movement=movement, named=named, slot_s=slot_s
    )


def replica(file: LogFile) -> LogFile:
    """A copy of a file under another bucket and prefix; text is recompressed into two gzip members."""
    # A CloudFront file's owner is in its key; a flow log file's owner is in its name.
    name = file.key if "/CloudFront/" in file.key else file.key.rpartition("/")[2]
    body = file.body if file.log.parquet else in_two_members(gzip.decompress(file.body))
    return replace(file, bucket=f"replica-of-{file.bucket}", key=f"copied/{file.log.id}/{name}", body=body)


def _parquet(log: FlowLog, lines: Sequence[str]) -> bytes:
    columns = zip(*(line.split(" ") for line in lines), strict=True)
    arrays = {name.replace("-", "_"): _column(name, values) for name, values in zip(log.fields, columns, strict=True)}
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays), sink, compression="gzip")
    return sink.getvalue()


def _column(name: str, values: Sequence[str]) -> pa.Array:
    number = _NUMBERS.get(name)
    if number is None:
        return pa.array(values, pa.string())
    return pa.array([None if value == "-" else int(value) for value in values], number)


def _key(log: FlowLog, slot_s: int, number: int) -> str:
    moment = datetime.fromtimestamp(slot_s, UTC)
    digest = hashlib.sha256(f"{log.id}/{slot_s}/{number}".encode()).hexdigest()[:8]
    suffix = "log.parquet" if log.parquet else "log.gz"
    name = f"{log.account_id}_vpcflowlogs_{log.region}_{log.id}_{moment:%Y%m%dT%H%MZ}_{digest}.{suffix}"
    if log.hive:
        folder = (
            f"aws-account-id={log.account_id}/aws-service=vpcflowlogs/aws-region={log.region}/"
            f"year={moment:%Y}/month={moment:%m}/day={moment:%d}/{f'hour={moment:%H}/' if log.hourly else ''}"
        )
    else:
        hour = f"{moment:%H}/" if log.hourly else ""
        folder = f"{log.account_id}/vpcflowlogs/{log.region}/{moment:%Y}/{moment:%m}/{moment:%d}/{hour}"
    return f"{log.prefix}AWSLogs/{folder}{name}"
