"""A prefix of a bucket is a place as a folder is, and its neighbours are none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.reports.exports.destination import Destination, DestinationTakenError
from metering.reports.exports.exporting import export
from tests.support.charged import billed
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.priced import MONTH, US_TIERS, book, gb, product, used
from tests.unit.reports.exports.exports import request_of

if TYPE_CHECKING:
    from metering.reports.exports.exporting import ExportSource


def _source() -> ExportSource:
    return billed(book([product("OUT", "DataTransfer-Out-Bytes", US_TIERS)]), [used(gb("1"))], MONTH)


def _place(objects: MemoryObjectStore, prefix: str = "bills/2026-11/") -> Destination:
    return Destination(objects=objects, prefix=prefix, name=f"s3://acme/{prefix}")


def test_objects_of_a_prefix_are_the_export_and_others_stay() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    objects.put("bills/2026-110", b"a neighbour", if_absent=True)
    assert export(request_of(month=MONTH), _source(), _place(objects)).written
    assert [info.key for info in objects.list("bills/")] == [
        "bills/2026-11/CostAndUsage-00000.parquet",
        "bills/2026-11/manifest.json",
        "bills/2026-110",
    ]
    assert not export(request_of(month=MONTH), _source(), _place(objects)).written


def test_a_prefix_with_an_object_is_refused() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    objects.put("bills/2026-11/old.csv", b"", if_absent=True)
    with pytest.raises(DestinationTakenError, match=r"s3://acme/bills/2026-11/ is not empty \(old.csv\)"):
        export(request_of(month=MONTH), _source(), _place(objects))


def test_a_file_of_an_export_that_is_gone_is_named() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    export(request_of(month=MONTH), _source(), _place(objects, ""))
    objects.delete(["CostAndUsage-00000.parquet"])
    with pytest.raises(DestinationTakenError, match=r"CostAndUsage-00000.parquet is not as it was written"):
        export(request_of(month=MONTH), _source(), _place(objects, ""))
