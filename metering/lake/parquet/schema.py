"""Arrow schemas of staging objects and lake files.

A lake file has the eleven columns of docs/contract.md. A staging object also has the booked hour, because a late record
of a closed month is booked in another hour than its own (docs/protocol.md, period close).
"""

from __future__ import annotations

import pyarrow as pa

from metering.lake.rows import LAKE_COLUMNS

_NAME = pa.dictionary(pa.int32(), pa.string())
INSTANT = pa.timestamp("us", tz="UTC")
"""Type of the lake's times."""

# Types of some columns. All others hold names, which repeat, so they are dictionary-encoded.
_TYPES: dict[str, pa.DataType] = {
    "resource_id": pa.string(),
    "bytes": pa.int64(),
    "start_time": INSTANT,
    "end_time": INSTANT,
}

BOOKED_HOUR = "booked_hour"
"""Hour in which a row counts: epoch seconds, int64."""

LAKE_SCHEMA = pa.schema([pa.field(name, _TYPES.get(name, _NAME), nullable=False) for name in LAKE_COLUMNS])
"""The lake's columns; those whose values repeat are dictionary-encoded."""

STAGING_SCHEMA = LAKE_SCHEMA.append(pa.field(BOOKED_HOUR, pa.int64(), nullable=False))
"""`LAKE_SCHEMA` and the booked hour. Rows are sorted by booked hour; a row group has rows of one hour only."""
