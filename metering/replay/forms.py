"""Forms in which batches travel: message bodies, objects that bodies point to, and objects that announce themselves."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.replay.records import Records
    from metering.replay.scenarios import Form

SCHEMA = "metering.batch/1"

_TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An object to put before the message is sent."""

    key: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Fields of a message other than its records. Without a sequence the message names no source either."""

    batch_id: str
    source_id: str
    sequence: int | None
    record_count: int

    def head(self) -> str:
        """The JSON object without its closing brace."""
        source = "" if self.sequence is None else f'"source_id":"{self.source_id}","sequence":{self.sequence},'
        return f'{{"schema":"{SCHEMA}","batch_id":"{self.batch_id}",{source}"record_count":{self.record_count}'


def inline_body(envelope: Envelope, texts: Sequence[str]) -> str:
    """Message with its records inside."""
    return f'{envelope.head()},"records":[{",".join(texts)}]}}'


def cloud_event(body: str, batch_id: str, source_id: str) -> str:
    """`body` as the data of a CloudEvents 1.0 event."""
    event = {
        "specversion": "1.0",
        "id": batch_id,
        "source": f"/metering/{source_id}",
        "type": "metering.batch",
        "datacontenttype": "application/json",
    }
    return f'{json.dumps(event)[:-1]},"data":{body}}}'


def pointer_body(envelope: Envelope, upload: Upload, bucket: str, form: Form) -> str:
    """Message that points to `upload`, with the digest of the stored bytes."""
    name, _, packing = form.suffix.partition(".")
    location = {
        "bucket": bucket,
        "key": upload.key,
        "format": name,
        "compression": {"gz": "gzip", "zst": "zstd"}.get(packing, "none"),
    }
    digest = hashlib.sha256(upload.body).hexdigest()
    return f'{envelope.head()},"location":{json.dumps(location)},"sha256":"{digest}"}}'


def object_body(texts: Sequence[str], records: Records, form: Form) -> bytes:
    """Object of the given form. Parquet takes the records from `records`, the other formats from `texts`."""
    if form.suffix == "parquet":
        return _parquet(records)
    lines = "".join(f"{text}\n" for text in texts).encode()
    if form.suffix == "ndjson.gz":
        return gzip.compress(lines, compresslevel=1, mtime=0)
    return zstandard.ZstdCompressor(level=1).compress(lines) if form.suffix == "ndjson.zst" else lines


def _parquet(records: Records) -> bytes:
    columns = records.columns()
    arrays = {name: pa.array(values) for name, values in columns.items()}
    for name in ("start", "end"):
        arrays[name] = pa.array([second * 1_000_000 for second in columns[name]], _TIMESTAMP)
    arrays["usage_type"] = pa.array([text or None for text in columns["usage_type"]], pa.string())
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays), buffer, compression="zstd")
    return buffer.getvalue()
