"""Answers as Arrow tables: columns and types of `--format parquet`, and how complete the figures are beside them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from metering.reports.parquet_table import arrow_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from metering.reports.answer import Answer, Json

ABOUT = b"metering"
"""Key of the schema's metadata under which a table says what it is."""


def table_of(answer: Answer, about: Mapping[str, Json] | None = None) -> pa.Table:
    """An answer as a table; the sum of rows that `top` left out is its last row.

    Args:
        answer: Its columns give names and types.
        about: What stands beside the rows; None for the answer's own `meta`.
    """
    table = arrow_table({column.name: column.kind for column in answer.columns}, answer.rows_and_others())
    return with_about(table, answer.meta if about is None else about)


def with_about(table: pa.Table, about: Mapping[str, Json]) -> pa.Table:
    """The same table, whose schema says `about` as JSON."""
    return table.replace_schema_metadata({ABOUT: json.dumps(about).encode()})


def about(table: pa.Table) -> dict[str, Json]:
    """What stands beside the rows of a table: `as_of` and `complete_through`, and what else its answer says."""
    found: dict[str, Json] = json.loads((table.schema.metadata or {}).get(ABOUT, b"{}"))
    return found
