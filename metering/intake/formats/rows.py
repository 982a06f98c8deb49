"""Accepted rows of a batch, as readers and codec share them: columns, with each distinct head kept once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    import pyarrow as pa

    from metering.intake.record_rules import Traffic
    from metering.intake.records import Head


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBlock:
    """Some rows, in order.

    Attributes:
        head_index: Place of each row's head in `BatchRows.heads`, u32.
        resource_ids: Python strings from JSON, an Arrow array from Parquet.
        sizes: Bytes, i64.
        starts: Epoch microseconds, i64.
        ends: Epoch microseconds, i64.
    """

    head_index: array[int]
    resource_ids: list[str] | pa.Array
    sizes: array[int]
    starts: array[int]
    ends: array[int]

    def __len__(self) -> int:
        return len(self.head_index)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRows:
    """The accepted rows of one batch (`RecordRows`).

    Attributes:
        heads: The distinct heads of the batch.
        traffic: Verdict of the rules on each head; rows only refer to heads without problems.
    """

    heads: Sequence[Head]
    traffic: Sequence[Traffic]
    blocks: Sequence[RowBlock]

    def __len__(self) -> int:
        return sum(map(len, self.blocks))
