"""Benchmark of exports on one core: lines of FOCUS and CUR per second of CPU time, and the ratio to pyarrow alone.

The charges are rated hour by hour, for 2,000 accounts with 40 keys and prices. Our code makes every column, checks each
line, and computes sums and digests. pyarrow only writes the finished in-memory table: as Parquet, and as `write_csv`
with gzip. All sides take turns. A separate process exports a million lines (`--most` for more) to measure memory.
"""

from __future__ import annotations

import argparse
import gzip
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from metering.adapters.folders import FolderLogStore
from metering.billing.invoices.composing import Charge, Tally
from metering.billing.invoices.document import Invoice
from metering.billing.invoices.inputs import BookPin, Inputs, Pin, Rates
from metering.billing.payers import Payer
from metering.billing.prices.book import PriceBook, PriceVersion, Product, Services, Tier
from metering.billing.rating.payer_prices import PriceState, RatedLine
from metering.billing.usage.months import UsageLine
from metering.hours import month_bounds_s
from metering.reports.exports.batches import BATCH_ROWS, Collector, FileFormat
from metering.reports.exports.destination import Destination
from metering.reports.exports.exporting import ExportSource, export, layout_of
from metering.reports.exports.manifest import ExportRequest
from metering.units import HOUR_S
from metering.usage.totals import Service, UsageType

_MONTH = "2026-11"
_LINES = 300_000
_ROUNDS = 3
_ACCOUNTS = 2_000
_KEYS = 40
# A stride through accounts and keys that visits each of them before it repeats one.
_STEP = 7_919
_LARGEST = 2**41
_TARGET = 0.5
_MEMORY_TARGET_MB = 400

_PAYER = Payer(payer_id="123456789012", name="Acme", issuer="Example Metering")


def _product(number: int) -> Product:
    price = 900_000_000 - number * 10_000_000
    tier = Tier(from_bytes=0, to_bytes=None, price=price, rate_code=f"SKU{number:03d}.JRTCKXETXF.Q3Z75P77EN")
    return Product(
        sku=f"SKU{number:03d}",
        usage_type=f"USW2-Traffic{number:03d}-Out-Bytes",
        services=Services(),
        transfer="AWS Outbound",
        from_location="us-west-2",
        to_location="internet",
        versions=(PriceVersion(from_s=0, tiers=(tier,)),),
    )


_BOOK = PriceBook(name="bench", version=1, currency="USD", products=tuple(map(_product, range(_KEYS))))


def rated_lines(count: int) -> Iterator[RatedLine]:
    """Rated lines ordered by hour; every call yields the same lines."""
    begins_s, ends_s = month_bounds_s(_MONTH)
    hours = (ends_s - begins_s) // HOUR_S
    for number in range(count):
        key = number * _STEP % (_ACCOUNTS * _KEYS)
        product = _BOOK.products[key % _KEYS]
        line = UsageLine(
            begins_s + number * hours // count * HOUR_S, f"{key // _KEYS:012d}", Service("AmazonEC2"),
            UsageType(product.usage_type), "us-west-2", "internet", number * 2_654_435_761 % _LARGEST + 1,
        )  # fmt: skip
        tier = product.versions[0].tiers[0]
        yield RatedLine(line, PriceState.PRICED, product.sku, tier.rate_code, tier.price, tier.price)


def invoice_of(count: int) -> Invoice:
    """An invoice with `count` lines."""
    tally = Tally()
    tally.add(_MONTH, rated_lines(count))
    rates = Rates(book=BookPin(name="bench", version=1, sha256=""), overrides=Pin(), organization=Pin())
    return Invoice(
        kind="invoice",
        payer_id=_PAYER.payer_id,
        payer_name=_PAYER.name,
        issuer=_PAYER.issuer,
        currency=_PAYER.currency,
        month=_MONTH,
        number=1,
        billing_month=_MONTH,
        inputs=Inputs(engine=1, closed={}, rates={_MONTH: rates}, billed={}),
        lines=tally.lines(_MONTH)[0],
    )


def charges(count: int, invoice: Invoice) -> Iterator[Charge]:
    """The charges of a document."""
    for rated in rated_lines(count):
        yield Charge(_PAYER, rated, invoice.id, "us-west-2", _MONTH, corrects=False)


def _request(kind: str, form: FileFormat) -> ExportRequest:
    return ExportRequest(kind=kind, version="1.4" if kind == "focus" else "2.0", month=_MONTH, grain="hour", form=form)


def _export(source: ExportSource, request: ExportRequest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export(request, source, Destination(objects=FolderLogStore(Path(folder)), prefix="", name=folder))


def _table(source: ExportSource, request: ExportRequest) -> pa.Table:
    """The whole table in memory, as a plain pyarrow writer needs it: strings without dictionary encoding."""
    layout = layout_of(request, source)
    tables = map(layout.table, Collector().batches(source.charges))
    schema = pa.schema([(each.name, _plain(each.type)) for each in layout.schema])
    return pa.concat_tables(table.cast(schema) for table in tables)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _write(table: pa.Table, form: FileFormat) -> None:
    sink = io.BytesIO()
    if form == "parquet":
        pq.write_table(table, sink, compression="zstd", row_group_size=BATCH_ROWS)
        return
    pa_csv.write_csv(table, sink)
    gzip.compress(sink.getvalue())


def _rates(count: int) -> bool:
    invoice = invoice_of(count)
    made = list(zip(charges(count, invoice), repeat(""), strict=False))
    source = ExportSource(charges=made, invoices=[invoice], books=[_BOOK])
    print(f"{count:,} lines of {_ACCOUNTS:,} accounts and {_KEYS} prices")
    print(f"{'':<18}{'K rows/s':>10}{'pyarrow alone':>16}{'ratio':>8}   target")
    met = True
    for kind in ("focus", "cur"):
        for form in get_args(FileFormat):
            request = _request(kind, form)
            table = _table(source, request)
            ours_s, plain_s = _turns(lambda: _export(source, request), lambda: _write(table, form))  # noqa: B023
            ratio = plain_s / ours_s
            met = met and ratio >= _TARGET
            said = "met" if ratio >= _TARGET else "MISSED"
            rates = (count / ours_s / 1_000, count / plain_s / 1_000)
            print(f"{f'{kind} {form}':<18}{rates[0]:>10.0f}{rates[1]:>16.0f}{ratio:>8.2f}   >= {_TARGET}  {said}")
    return met


def _turns(ours: Callable[[], None], plain: Callable[[], None]) -> tuple[float, float]:
    best = [float("inf"), float("inf")]
    for _ in range(_ROUNDS):
        for place, call in enumerate((ours, plain)):
            began = time.process_time()
            call()
            best[place] = min(best[place], time.process_time() - began)
    return best[0], best[1]


def _memory(count: int, form: FileFormat) -> bool:
    command = [sys.executable, "-m", "load_tests.bench_exports", "--alone", str(count), "--form", form]
    peak_mb = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    met = peak_mb <= _MEMORY_TARGET_MB
    print(
        f"{count:>12,} lines as {form:<8} peak {peak_mb} MB   <= {_MEMORY_TARGET_MB} MB  {'met' if met else 'MISSED'}"
    )
    return met


def _alone(count: int, form: FileFormat) -> None:
    invoice = invoice_of(count)
    stream = zip(charges(count, invoice), repeat(""), strict=False)
    _export(ExportSource(charges=stream, invoices=[invoice], books=[_BOOK]), _request("focus", form))
    # `ru_maxrss` would include the peak of the parent, which a process inherits.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    print(int(status["VmHWM"].split()[0]) * 1024 // 10**6)


def main(arguments: Sequence[str]) -> int:
    """Print the figures. Returns 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench_exports", description=__doc__)
    parser.add_argument("--lines", type=int, default=_LINES, help="lines of the comparison")
    parser.add_argument("--most", type=int, default=1_000_000, help="lines of the largest export, for its memory")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--form", default="parquet", choices=get_args(FileFormat), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.alone:
        _alone(options.alone, options.form)
        return 0
    met = [_rates(options.lines)]
    for count in sorted({1_000_000, options.most}):
        met += [_memory(count, form) for form in get_args(FileFormat)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
