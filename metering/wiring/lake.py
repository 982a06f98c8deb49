"""Consistent view of the lake, for functions and commands that read rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.lake.parquet.reader import ParquetLakeReader
from metering.lake.view import LakeView

if TYPE_CHECKING:
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore


def lake_view(items: ItemStore, objects: ObjectStore, *, shards: int) -> LakeView:
    """Build the view of a region's lake over its Parquet files."""
    return LakeView(items=items, objects=objects, reader=ParquetLakeReader(objects), shards=shards)
