"""Costs of the service itself: list prices, storage of the bucket, and the cost of an idle region."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from metering.ledger import commits
from metering.operations.alarms import ALARMS, API_ORIGIN, BILL_ORIGIN, LOG_FIGURES, LOG_ORIGINS, Figure
from metering.stores import writes
from metering.stores.objects import (
    LAKE_PREFIX,
    MARKERS_PREFIX,
    PREFIXES,
    ROLLUP_PLANS_PREFIX,
    RUNS_PREFIX,
    STAGING_PREFIX,
    SUMMARIES_PREFIX,
    ObjectStore,
)
from metering.units import DAY_S, GIB, HOUR_S, KIB, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from metering.lake.view import BatchSizer, BatchSizes, LakeView
    from metering.ledger.booked_hours import RowSource

# List prices of us-east-1, for every cost that the service or its load tests print. Source: third-party pages, first
# tier, autumn 2026; a bill may differ. Each printed cost states which prices it uses.
STORAGE_USD_GB_MONTH = {"STANDARD": Decimal("0.023"), "STANDARD_IA": Decimal("0.0125"), "GLACIER_IR": Decimal("0.004")}
_SMALLEST_BILLED_BYTES = {"STANDARD_IA": 128 * KIB, "GLACIER_IR": 128 * KIB}
S3_PUT_USD = Decimal("0.005") / 1_000
S3_GET_USD = Decimal("0.0004") / 1_000

PROCESSING_USD: Mapping[str, Decimal] = {
    "DynamoDB write request unit (on demand)": Decimal("0.625") / 1_000_000,
    "DynamoDB read request unit (on demand)": Decimal("0.125") / 1_000_000,
    "SQS request (standard, 64 KiB)": Decimal("0.40") / 1_000_000,
    "Lambda request": Decimal("0.20") / 1_000_000,
    "Lambda GB-second (arm64)": Decimal("0.0000133334"),
    "S3 PUT": S3_PUT_USD,
}
"""Prices of one unit of the services that a batch passes through."""

PROVISIONED_USD_HOUR: Mapping[str, Decimal] = {
    "DynamoDB write unit (provisioned)": Decimal("0.00065"),
    "DynamoDB read unit (provisioned)": Decimal("0.00013"),
}
"""Prices of a unit a second of the ledger's capacity for an hour, if its billing is provisioned."""

# Units of the ledger for a batch, counted at 16 keys (docs/scale.md).
LEDGER_WRITES_A_BATCH, LEDGER_READS_A_BATCH = Decimal("2.25"), Decimal("1.1")

STORED_ITEMS_USD_GB_MONTH: Mapping[str, Decimal] = {
    "DynamoDB storage": Decimal("0.25"),
    "point-in-time recovery": Decimal("0.20"),
}
"""Prices of a GB of items for a month."""

RESTORE_USD_GB = Decimal("0.15")
"""Price of restoring a GB of items to a new table."""

FLOW_LOG_USD: Mapping[str, Decimal] = {
    "delivery to S3, first 10 TB a month": Decimal("0.25"),
    "conversion to Parquet (not confirmed)": Decimal("0.035"),
    "S3 storage a month": STORAGE_USD_GB_MONTH["STANDARD"],
}
"""Prices of a GB of flow logs; delivery and conversion count it before compression (CloudWatch, vended logs)."""

STANDING_USD: Mapping[str, Decimal] = {
    "alarm": Decimal("0.10"),
    "composite alarm": Decimal("0.50"),
    "dashboard": Decimal("3.00"),
    "custom metric": Decimal("0.30"),
    "customer managed key": Decimal("1.00"),
}
"""Prices of what a region has whether it meters or not, each a month."""


# Bytes of a marker at the target load, with those that DynamoDB bills beside each item (developer guide, item sizes).
_MARKER_BYTES = 530
_READ_UNIT_BYTES = 4 * KIB


def batch_usd(*, marker_life_s: int, scan_every_s: int) -> Decimal:
    """Cost of a batch that does not depend on its records, at list prices on demand.

    It is that of the batch's marker, which is written in a transaction, read by the quick pass and by scans, and
    stored for its life. Queue, rows and functions are left out, because they grow with the records.
    """
    life_s = Decimal(marker_life_s)
    write = 2 * PROCESSING_USD["DynamoDB write request unit (on demand)"]
    scans = life_s / max(scan_every_s, DAY_S) * _MARKER_BYTES / _READ_UNIT_BYTES
    read = (1 + scans) * PROCESSING_USD["DynamoDB read request unit (on demand)"]
    months = life_s / (30 * DAY_S)
    return write + read + Decimal(_MARKER_BYTES) / GIB * sum(STORED_ITEMS_USD_GB_MONTH.values()) * months


# Price of a minute of CodeBuild's large Linux machine for x86; the project's machine for arm64 costs less.
_BUILD_USD_MINUTE = Decimal("0.02")
# A build that finds no missing region installs the project and looks.
_IDLE_BUILD_MIN = 5


def project_month_usd(every_h: int) -> Decimal:
    """Monthly cost in USD of the key, the alarm and the builds of a project while no region is missing."""
    builds = Decimal(_MONTH_S) / (every_h * HOUR_S) * _IDLE_BUILD_MIN * _BUILD_USD_MINUTE
    return (STANDING_USD["customer managed key"] + STANDING_USD["alarm"] + builds).quantize(_CENT)


def break_even_use() -> Decimal:
    """Share of its time for which a provisioned write unit must be used to cost no more than on demand; 0 to 1."""
    on_demand = PROCESSING_USD["DynamoDB write request unit (on demand)"] * HOUR_S
    return PROVISIONED_USD_HOUR["DynamoDB write unit (provisioned)"] / on_demand


def provisioned_day_usd(reads_per_s: int, writes_per_s: int) -> Decimal:
    """Price of a day of provisioned capacity."""
    write, read = PROVISIONED_USD_HOUR.values()
    return (write * writes_per_s + read * reads_per_s) * DAY_S / HOUR_S


def break_even_batches(reads_per_s: int, writes_per_s: int) -> int:
    """Batches a day below which capacity on demand costs less than this least provisioned capacity."""
    a_batch = (
        LEDGER_WRITES_A_BATCH * PROCESSING_USD["DynamoDB write request unit (on demand)"]
        + LEDGER_READS_A_BATCH * PROCESSING_USD["DynamoDB read request unit (on demand)"]
    )
    return int(provisioned_day_usd(reads_per_s, writes_per_s) / a_batch)


def month_usd(storage_class: str, stored_bytes: int) -> Decimal:
    """Price of storing an object in S3 for a month; a GB is 2^30 bytes."""
    price = STORAGE_USD_GB_MONTH.get(storage_class, STORAGE_USD_GB_MONTH["STANDARD"])
    return Decimal(stored_bytes) / GIB * price


def billed_bytes(storage_class: str, size_bytes: int) -> int:
    """Billed size of an object."""
    return max(size_bytes, _SMALLEST_BILLED_BYTES.get(storage_class, 0))


_KEPT = (LAKE_PREFIX, MARKERS_PREFIX, STAGING_PREFIX, RUNS_PREFIX, SUMMARIES_PREFIX)
# A staging object is deleted an hour after its last run, and a roll-up plan after a day, so each costs at most a
# thirtieth of a month.
_SHORT_LIVED = (STAGING_PREFIX, ROLLUP_PLANS_PREFIX)
_SHORT_MONTHS = Decimal(1) / 30


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixStorage:
    """Objects below one prefix in one storage class. `usd_month` is the objects' storage cost for the next month."""

    prefix: str
    storage_class: str
    objects: int
    stored_bytes: int
    usd_month: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another way to store the same records: storage is paid monthly, requests once."""

    name: str
    objects: int
    stored_bytes: int
    usd_month: Decimal
    usd_requests: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageReport:
    """Actual storage, compared with two alternatives.

    Attributes:
        lake_records, lake_bytes: Number of published records, and the size of their files.
        ours: Cost of the accepted records as the service stores them.
        json, gzip: Cost of the same records, stored as one JSON or gzip object for each batch.
    """

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
        """Share of cost saved in the first month, requests included."""
        theirs = than.usd_month + than.usd_requests
        return 1 - (self.ours.usd_month + self.ours.usd_requests) / theirs if theirs else Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageReporter:
    """Makes the storage report. The report reads every row, so it runs only on request, never on a schedule."""

    items: writes.ItemStore
    objects: ObjectStore
    view: LakeView
    sizer: BatchSizer

    def report(self, *, from_s: int = 0) -> StorageReport:
        """Read every object's size, every commit, and the rows of hours from `from_s` on, and add up the cost."""
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
                billed = billed_bytes(info.storage_class, info.size_bytes)
                entry[3 if info.key.startswith(_SHORT_LIVED) else 2] += billed
        return tuple(
            PrefixStorage(
                prefix=prefix,
                storage_class=storage_class,
                objects=count,
                stored_bytes=stored,
                usd_month=month_usd(storage_class, lasting) + month_usd(storage_class, short) * _SHORT_MONTHS,
            )
            for (prefix, storage_class), (count, stored, lasting, short) in sorted(found.items())
        )

    def _requests_usd(self, sources: Sequence[RowSource]) -> Decimal:
        """Cost of PUTs of staging objects, lake files and totals, and of GETs by roll-up and compactor."""
        puts = 2 * sum(not source.staged for source in sources)
        gets = 0
        for item in self.items.scan(writes.Table.LEDGER):
            commit = commits.CommitRecord.from_item(item) if commits.is_commit(item) else None
            if commit is not None and commit.state != "aborted":
                puts += 1
                gets += len(commit.hours) + 1
        return puts * S3_PUT_USD + gets * S3_GET_USD

    def _each_batch(self, name: str, sizes: BatchSizes, stored_bytes: int) -> Alternative:
        return Alternative(
            name=name,
            objects=sizes.batches,
            stored_bytes=stored_bytes,
            usd_month=month_usd("STANDARD", stored_bytes),
            usd_requests=sizes.batches * S3_PUT_USD,
        )


_MONTH_S = 30 * DAY_S
# Counters of the functions besides the watch's figures: each name that is counted every day is one custom metric.
_COUNTERS = 16
_API_COUNTERS = 5
# Typical duration of an idle tick. A job with work takes longer, but that is not a standing cost.
_TICK_S = Decimal(1)
_CENT = Decimal("0.01")
_DASHBOARDS = 2
_MB_A_GB = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A job on a schedule."""

    every_min: int
    memory_mb: int

    @property
    def month_usd(self) -> Decimal:
        """Monthly cost while the job finds nothing to do."""
        runs = _MONTH_S // (self.every_min * MINUTE_S)
        gb_s = _TICK_S * self.memory_mb / _MB_A_GB
        return runs * (PROCESSING_USD["Lambda request"] + gb_s * PROCESSING_USD["Lambda GB-second (arm64)"])


def standing_month_usd(
    ticks: Collection[Tick],
    *,
    composite_alarms: int,
    log_sources: bool = False,
    bill_exports: bool = False,
    api: bool = False,
) -> Decimal:
    """Monthly cost in USD of one idle region at list prices of us-east-1, rounded to cents.

    The cost includes the alarms and figures of log sources, of AWS's own bill and of an HTTP API only if the stage has
    these.
    """
    left_out = {
        *(() if log_sources else LOG_ORIGINS),
        *(() if bill_exports else (BILL_ORIGIN,)),
        *(() if api else (API_ORIGIN,)),
    }
    figures = len(Figure) - (not log_sources) * len(LOG_FIGURES) - (not bill_exports)
    things = {
        "alarm": sum(spec.origin not in left_out for spec in ALARMS),
        "composite alarm": composite_alarms,
        "dashboard": _DASHBOARDS,
        "custom metric": figures + _COUNTERS + api * _API_COUNTERS,
        "customer managed key": 1,
    }
    fixed = sum((STANDING_USD[name] * count for name, count in things.items()), Decimal(0))
    return (fixed + sum((tick.month_usd for tick in ticks), Decimal(0))).quantize(_CENT)
