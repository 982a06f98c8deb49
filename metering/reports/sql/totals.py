"""The dataset below the view `usage`: totals of lake files, read beside them, and counted from rows elsewhere.

Like `LakeRows` it only looks like a dataset: threads of our own read, and DuckDB opens no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.lake.parquet.hour_rows import decoding
from metering.lake.parquet.summaries import usage_of_sums
from metering.lake.parquet.sums import Sums, halves_of
from metering.lake.parquet.usage_files import NAMES, USAGE_SCHEMA, total_of, usage_parquet
from metering.lake.rows import USAGE_QUERY
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID
from metering.reports.source import naming
from metering.reports.sql.ahead import Ahead
from metering.reports.sql.scan import LakeRows, Scannable
from metering.stores.bucket import summary_key
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.reports.sql.scan import Part, ScanState

TOTALS_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in NAMES),
        *(pa.field(name, USAGE_SCHEMA.field(name).type) for name in ("hour", "corrects", "bytes", "records")),
        pa.field("region", pa.string()),
    ]
)
_READERS = 8
_COUNTED = [*NAMES, "start_time", "bytes"]
_NOT_CANARY = pc.field("account_id") != CANARY_ACCOUNT_ID


class LakeTotals(Scannable):
    """Totals of parts by usage key, as a dataset that DuckDB can scan any number of times.

    Args:
        parts: Parts to scan, in order.
        state: State of the query.
        with_canary: Also give the canary's totals.
    """

    # Arrow's constructor refuses to be called, and is not needed: nothing of its datasets is used.
    def __init__(self, parts: Sequence[Part], state: ScanState, *, with_canary: bool = False) -> None:
        self._parts = parts
        self._state = state
        self._with_canary = with_canary

    @property
    def schema(self) -> pa.Schema:
        return TOTALS_SCHEMA

    def scanner(self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None) -> _Scan:
        """One scan."""
        return _Scan(
            parts=self._parts,
            state=self._state,
            columns=TOTALS_SCHEMA.names if columns is None else list(columns),
            where=filter,
            with_canary=self._with_canary,
        )


@dataclass(frozen=True, kw_only=True)
class _Scan:
    parts: Sequence[Part]
    state: ScanState
    columns: Sequence[str]
    where: pc.Expression | None
    with_canary: bool

    def to_reader(self) -> pa.RecordBatchReader:
        """A reader of its own over the totals, which are read while DuckDB takes them."""
        schema = pa.schema([TOTALS_SCHEMA.field(name) for name in self.columns])
        return pa.RecordBatchReader.from_batches(schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with self.state, Ahead(_READERS, self.state.stop) as ahead:
            for table in ahead.results(((1, partial(self._table, part)) for part in self.parts), _READERS):
                yield from table.to_batches()

    def _table(self, part: Part) -> pa.Table:
        kept = _kept(part)
        table = _counted(part, self.state) if kept is None else kept
        table = table.append_column("region", pa.repeat(pa.scalar(part.region), table.num_rows)).cast(TOTALS_SCHEMA)
        if not self.with_canary:
            table = table.filter(_NOT_CANARY)
        if self.where is not None:
            table = table.filter(self.where)
        return table.select(self.columns)


def _kept(part: Part) -> pa.Table | None:
    """The totals beside a lake file whose rows are all asked for, if they add up to the file's rows and bytes."""
    if part.local is not None or part.times is not None:
        return None
    key = summary_key(part.key)
    try:
        with naming(part.region), decoding(key):
            table = usage_parquet(part.objects.get(key)).read_all().cast(USAGE_SCHEMA)
    except (ObjectMissingError, ObjectDamagedError):
        return None
    return table if total_of(table) == Total(part.bytes, part.rows) else None


def _counted(part: Part, state: ScanState) -> pa.Table:
    """The totals of the part's rows."""
    sums = Sums(USAGE_QUERY)
    for batch in LakeRows([part], state, readers=1, with_canary=True).scanner(_COUNTED).to_reader():
        rows = Sums(USAGE_QUERY)
        rows.add(halves_of(pa.Table.from_batches([batch]), USAGE_QUERY))
        sums.add(rows.table())
    return usage_of_sums(sums.table(), part.hour_s)
