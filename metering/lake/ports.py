"""Ports of the lake: encode rows for staging, write lake files, read rows back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from metering.intake.batches import RecordRows
    from metering.lake.rows import Group, RowQuery
    from metering.ledger.row_sources import RowSource
    from metering.usage.totals import Total


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedBatch:
    """A batch's rows on their way into a staging object.

    Attributes:
        rebooked: Own hour -> booked hour, for records of closed months. All other records are booked in their own hour.
    """

    batch_id: str
    rows: RecordRows
    rebooked: Mapping[int, int]


class RowCodec(Protocol):
    """Turns rows into staging objects. Parquet in production, plain rows in the simulation."""

    def encode(self, batches: Sequence[StagedBatch]) -> bytes:
        """Content of one staging object: all rows with `batch_id` and booked hour, sorted by booked hour."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedFile:
    """A lake file that is ready to be put. `rows` and `bytes` were counted while it was written."""

    content: bytes | Path
    rows: int
    bytes: int


class LakeWriter(Protocol):
    """Writes lake files from staging objects. Parquet in production, plain rows in the simulation."""

    def merge(self, hour_s: int, staging_keys: Sequence[str]) -> AbstractContextManager[MergedFile]:
        """Write one lake file: all rows of these staging objects that are booked in `hour_s`, sorted.

        The content lives as long as the context. Memory does not grow with the number of rows.

        Raises:
            ObjectMissingError: An object is gone.
            ObjectDamagedError: An object cannot be decoded.
        """
        ...


class LakeReader(Protocol):
    """Reads rows of lake files and staging objects."""

    def totals(self, sources: Sequence[RowSource], query: RowQuery) -> dict[Group, Total]:
        """Exact totals of the sources' rows by the query's columns. They are counted from rows, not from the ledger.

        Raises:
            ObjectMissingError: An object is gone.
            ObjectDamagedError: An object cannot be decoded.
        """
        ...
