"""`metering storage report`: size and cost of the bucket, compared with other ways to store the batches."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import typer

from metering.cli.all_regions import everywhere
from metering.cli.command import Session, command
from metering.operations.own_costs.list_prices import StoragePrices
from metering.operations.own_costs.storage import Alternative, PrefixStorage, StorageReport, StorageReporter
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column, Json
from metering.units import counted

if TYPE_CHECKING:
    from metering.wiring.connection import RegionConnection

storage = typer.Typer(help="Size and cost of the bucket.", no_args_is_help=True)


@command(storage, "report", reads=True, everywhere=True)
def storage_report(session: Session) -> None:
    """Show objects, bytes and monthly cost by prefix and class, next to those of one JSON or gzip object a batch."""
    session.write(everywhere(session, lambda region: storage_answer(measure_storage(region))))


def measure_storage(region: RegionConnection, *, from_s: int = 0) -> StorageReport:
    """Measure the bucket, and every row of the lake's hours from `from_s` on."""
    from metering.lake.parquet.batch_sizes import JsonBatchSizer

    reporter = StorageReporter(
        items=region.items,
        objects=region.objects,
        view=region.view,
        sizer=JsonBatchSizer(region.objects),
        prices=StoragePrices(),
    )
    return reporter.report(from_s=from_s)


def storage_answer(report: StorageReport) -> Answer:
    """Both sides of the comparison, with the prices that they are computed with."""
    return Answer(
        columns=(
            Column(name="what", text="prose", priority=KEEP),
            Column(name="class", text="copied", priority=ROOMY),
            Column(name="objects", kind="integer"),
            Column(name="stored_bytes", kind="integer", title="bytes", priority=KEEP, sized=True),
            Column(name="usd_month", kind="money", title="USD a month", priority=KEEP),
            Column(name="usd_requests", kind="money", title="USD of requests"),
        ),
        rows=[
            *(_prefix_row(prefix) for prefix in report.prefixes),
            _side_row("lake, staging, runs", report.ours),
            _side_row("one JSON object a batch", report.json),
            _side_row("one gzip a batch", report.gzip),
        ],
        meta=_meta(report),
        title="Storage",
        footer=_footer(report),
    )


def _meta(report: StorageReport) -> dict[str, Json]:
    a_record, prices = _bytes_a_record(report), report.prices
    return {
        "savings": {
            "json": f"{report.saving(report.json):.4f}",
            "gzip": f"{report.saving(report.gzip):.4f}",
            "json_with_requests": f"{report.saving_with_requests(report.json):.4f}",
            "gzip_with_requests": f"{report.saving_with_requests(report.gzip):.4f}",
        },
        "batches": report.sizes.batches,
        "records": report.sizes.records,
        "lake_records": report.lake_records,
        "lake_bytes_a_record": None if a_record is None else f"{a_record:.2f}",
        "prices": {
            "storage_usd_gb_month": {name: str(usd) for name, usd in prices.storage_usd_gb_month.items()},
            "put_usd": f"{prices.put_usd:f}",
            "get_usd": f"{prices.get_usd:f}",
        },
    }


def _footer(report: StorageReport) -> tuple[str, ...]:
    prices = ", ".join(f"{name} {usd} USD/GB-month" for name, usd in report.prices.storage_usd_gb_month.items())
    return (
        f"{counted(report.sizes.records, 'record')} in {counted(report.sizes.batches, 'batch', 'batches')}; "
        f"{report.lake_records:,} in the lake at {_bytes_a_record(report) or 0:.2f} bytes each.",
        f"Storage saved a month: {report.saving(report.json):.1%} against JSON, "
        f"{report.saving(report.gzip):.1%} against gzip; with the requests of the first month "
        f"{report.saving_with_requests(report.json):.1%} and {report.saving_with_requests(report.gzip):.1%}.",
        f"Prices (us-east-1 list): {prices}; PUT {report.prices.put_usd:f} USD, GET {report.prices.get_usd:f} USD. "
        "Objects in staging/ are removed a day after their compaction and are priced for that day. Versions that the "
        "bucket keeps of deleted objects are not counted.",
    )


def _bytes_a_record(report: StorageReport) -> Decimal | None:
    return Decimal(report.lake_bytes) / report.lake_records if report.lake_records else None


def _prefix_row(prefix: PrefixStorage) -> dict[str, Cell]:
    return {
        "what": prefix.prefix,
        "class": prefix.storage_class,
        "objects": prefix.objects,
        "stored_bytes": prefix.stored_bytes,
        "usd_month": _usd(prefix.usd_month),
        "usd_requests": None,
    }


def _side_row(name: str, side: Alternative) -> dict[str, Cell]:
    return {
        "what": name,
        "class": "",
        "objects": side.objects,
        "stored_bytes": side.stored_bytes,
        "usd_month": _usd(side.usd_month),
        "usd_requests": _usd(side.usd_requests),
    }


def _usd(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.000001"))
