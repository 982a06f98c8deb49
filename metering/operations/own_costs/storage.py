"""Storage cost of the bucket, and of the same records as one JSON or one gzip object for each batch."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from metering.ledger.commits import CommitRecord, is_commit
from metering.stores.bucket import (
    LAKE_PREFIX,
    PREFIXES,
    ROLLUP_PLANS_PREFIX,
    RUNS_PREFIX,
    STAGING_PREFIX,
    SUMMARIES_PREFIX,
)
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.lake.batch_sizes import BatchSizer, BatchSizes
    from metering.lake.view import LakeView
    from metering.ledger.row_sources import RowSource
    from metering.operations.own_costs.list_prices import StoragePrices
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore

_KEPT = (LAKE_PREFIX, STAGING_PREFIX, RUNS_PREFIX, SUMMARIES_PREFIX)
# A staging object is deleted an hour after its last run, and a plan of the roll-up after a day: either costs at most a
# thirtieth of a month.
_SHORT_LIVED = (STAGING_PREFIX, ROLLUP_PLANS_PREFIX)
_SHORT_MONTHS = Decimal(1) / 30


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixStorage:
    """Objects below one prefix in one storage class. `usd_month` is their cost for a month from now."""

    prefix: str
    storage_class: str
    objects: int
    stored_bytes: int
    usd_month: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Way to keep the same records.

    Attributes:
        usd_month: Cost of their storage for a month.
        usd_requests: Cost of the requests that store them, once.
    """

    name: str
    objects: int
    stored_bytes: int
    usd_month: Decimal
    usd_requests: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageReport:
    """Storage as it is, compared with two alternatives.

    Attributes:
        lake_records: Number of published records.
        lake_bytes: Size of their files.
        ours: The accepted records as the service keeps them.
        json: The accepted records as one JSON object for each batch.
        gzip: The accepted records as one gzip object for each batch.
    """

    prices: StoragePrices
    prefixes: tuple[PrefixStorage, ...]
    lake_records: int
    lake_bytes: int
    sizes: BatchSizes
    ours: Alternative
    json: Alternative
    gzip: Alternative

    def saving(self, than: Alternative) -> Decimal:
        """Share of the monthly storage cost of `than` that `ours` saves, at most 1; negative if `ours` costs more."""
        return 1 - self.ours.usd_month / than.usd_month if than.usd_month else Decimal(0)

    def saving_with_requests(self, than: Alternative) -> Decimal:
        """Same share over the first month, whose bill has the requests as well."""
        theirs = than.usd_month + than.usd_requests
        return 1 - (self.ours.usd_month + self.ours.usd_requests) / theirs if theirs else Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageReporter:
    """Makes the storage report. It reads every row, so people run it and no schedule does."""

    items: ItemStore
    objects: ObjectStore
    view: LakeView
    sizer: BatchSizer
    prices: StoragePrices

    def report(self, *, from_s: int = 0) -> StorageReport:
        """Read every object's size, every commit and the rows of the hours from `from_s` on, and add up their cost."""
        prefixes = self._prefixes()
        sizes = self.sizer.measure(self.view, from_s=from_s)
        sources = [s for hour_s in self.view.hours(from_s=from_s) for s in self.view.hour_between(hour_s).sources]
        lake_records = sum(source.rows for source in sources if not source.staged)
        lake = [prefix for prefix in prefixes if prefix.prefix == LAKE_PREFIX]
        kept = [prefix for prefix in prefixes if prefix.prefix in _KEPT]
        ours = Alternative(
            name="ours",
            objects=sum(prefix.objects for prefix in kept),
            stored_bytes=sum(prefix.stored_bytes for prefix in kept),
            usd_month=sum((prefix.usd_month for prefix in kept), Decimal(0)),
            usd_requests=self._requests_usd(sources),
        )
        return StorageReport(
            prices=self.prices,
            prefixes=prefixes,
            lake_records=lake_records,
            lake_bytes=sum(prefix.stored_bytes for prefix in lake),
            sizes=sizes,
            ours=ours,
            json=self._each_batch("json", sizes, sizes.json_bytes),
            gzip=self._each_batch("gzip", sizes, sizes.gzip_bytes),
        )

    def _prefixes(self) -> tuple[PrefixStorage, ...]:
        found: dict[tuple[str, str], list[int]] = {}
        for prefix in PREFIXES:
            for info in self.objects.list(prefix):
                entry = found.setdefault((prefix, info.storage_class), [0, 0, 0, 0])
                entry[0] += 1
                entry[1] += info.size_bytes
                billed = self.prices.billed_bytes(info.storage_class, info.size_bytes)
                entry[3 if info.key.startswith(_SHORT_LIVED) else 2] += billed
        return tuple(
            PrefixStorage(
                prefix=prefix,
                storage_class=storage_class,
                objects=count,
                stored_bytes=stored,
                usd_month=self.prices.month_usd(storage_class, lasting)
                + self.prices.month_usd(storage_class, short) * _SHORT_MONTHS,
            )
            for (prefix, storage_class), (count, stored, lasting, short) in sorted(found.items())
        )

    def _requests_usd(self, sources: Sequence[RowSource]) -> Decimal:
        """Cost of the PUTs of staging, lake files and their totals, and of the GETs of roll-up and compactor."""
        puts = 2 * sum(not source.staged for source in sources)
        gets = 0
        for item in self.items.scan(Table.LEDGER):
            commit = CommitRecord.from_item(item) if is_commit(item) else None
            if commit is not None and commit.state != "aborted":
                puts += 1
                gets += len(commit.hours) + 1
        return puts * self.prices.put_usd + gets * self.prices.get_usd

    def _each_batch(self, name: str, sizes: BatchSizes, stored_bytes: int) -> Alternative:
        return Alternative(
            name=name,
            objects=sizes.batches,
            stored_bytes=stored_bytes,
            usd_month=self.prices.month_usd("STANDARD", stored_bytes),
            usd_requests=sizes.batches * self.prices.put_usd,
        )
