"""An export from charges to manifest. It streams: memory holds a batch, the disk one file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.reports.exports.batches import Collector
from metering.reports.exports.checks import CUR_AMOUNTS, FOCUS_AMOUNTS, LineChecks, wrong
from metering.reports.exports.datasets.columns import Layout
from metering.reports.exports.datasets.cur import CurTerms, cur_columns, time_text
from metering.reports.exports.datasets.documents import billing_period, invoice_detail
from metering.reports.exports.datasets.focus import focus_columns
from metering.reports.exports.files import FILE_BYTES, DatasetFiles
from metering.reports.exports.grains import summed
from metering.reports.exports.manifest import (
    SCHEMA,
    dataset_value,
    left_out_value,
    not_final_value,
    tie_out_problems,
    tie_out_value,
)
from metering.reports.exports.tallies import Tally
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from metering.billing.invoices.document import Invoice
    from metering.billing.prices.book import PriceBook
    from metering.reports.exports.destination import Destination, Document
    from metering.reports.exports.files import WrittenFile
    from metering.reports.exports.grains import Resourced
    from metering.reports.exports.manifest import ExportRequest

COST_AND_USAGE = "CostAndUsage"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSource:
    """What an export is made of.

    Attributes:
        charges: All charges of the documents, in any order, at any grain that is not coarser than the export's. Each
            with its resource, or an empty text. Usage without a price may be among them: it is left out and named.
        invoices: Documents of the charges.
        books: Price books that have the rate codes of the charges.
        names: Names of accounts.
    """

    charges: Iterable[Resourced]
    invoices: Sequence[Invoice]
    books: Sequence[PriceBook]
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An export that is whole.

    Attributes:
        written: False if it was there already.
    """

    manifest: Document
    written: bool


def export(
    request: ExportRequest,
    source: ExportSource,
    destination: Destination,
    *,
    progress: Callable[[int], None] = lambda rows: None,
    file_bytes: int = FILE_BYTES,
) -> Exported:
    """Write an export, or find that it is there already.

    Args:
        request: What is exported.
        source: What it is made of.
        destination: Where it goes.
        progress: Called with the number of rows of each batch.
        file_bytes: Size at which a file ends.

    Raises:
        DestinationTakenError: Something else is there. Nothing was written.
        ExportWrongError: A check failed. There is no manifest.
        OSError: The disk is full.
    """
    there = destination.begin(request.identity(source.invoices))
    if there is not None:
        return Exported(manifest=there, written=False)
    with tempfile.TemporaryDirectory(prefix="metering-export-") as folder:
        run = _Run(
            request=request,
            source=source,
            destination=destination,
            progress=progress,
            folder=Path(folder),
            file_bytes=file_bytes,
        )
        manifest = run.written()
    destination.finish(manifest)
    return Exported(manifest=manifest, written=True)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One export on its way. Mutable: it sums."""

    request: ExportRequest
    source: ExportSource
    destination: Destination
    progress: Callable[[int], None]
    folder: Path
    file_bytes: int
    tally: Tally = field(default_factory=Tally)
    collector: Collector = field(default_factory=Collector)

    def written(self) -> Document:
        """Write all datasets, and check that they tie out. Returns the manifest."""
        layout = layout_of(self.request, self.source)
        charges = self._files(COST_AND_USAGE, layout.schema, self._tables(layout))
        problems = list(tie_out_problems(self.tally, self.source.invoices))
        if (rows := sum(file.rows for file in charges)) != self.tally.total.rows:
            problems.append(f"{self.tally.total.rows:,} lines were made, and {rows:,} written")
        if problems:
            raise wrong(problems)
        datasets = [dataset_value(COST_AND_USAGE, charges, self.tally.total), *self._small_datasets()]
        left_out = left_out_value(self.collector.unbilled)
        return {
            "schema": SCHEMA,
            "version": package_version(),
            "export": self.request.identity(self.source.invoices),
            "datasets": datasets,
            "left_out": left_out,
            "not_final": not_final_value(self.source.invoices),
            "tie_out": tie_out_value(self.tally, self.source.invoices),
        }

    def _tables(self, layout: Layout) -> Iterator[pa.Table]:
        amounts = FOCUS_AMOUNTS if self.request.kind == "focus" else CUR_AMOUNTS
        checks = LineChecks(books=self.source.books, grain=self.request.grain, amounts=amounts)
        for batch in self.collector.batches(summed(self.source.charges, self.request.grain)):
            table = layout.table(batch)
            checks.look(batch, table)
            self.tally.take(batch)
            self.progress(len(batch))
            yield table

    def _files(self, name: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> list[WrittenFile]:
        files = DatasetFiles(
            name=name, schema=schema, form=self.request.form, folder=self.folder, file_bytes=self.file_bytes
        )
        written = []
        for file in files.written(tables):
            self.destination.put(file.name, self.folder / file.name)
            (self.folder / file.name).unlink()
            written.append(file)
        return written

    def _small_datasets(self) -> Iterator[Document]:
        if (self.request.kind, self.request.version) != ("focus", "1.4"):
            return
        invoices, as_of_s = self.source.invoices, self.request.as_of_s
        details = invoice_detail(invoices, self.tally, as_of_s=as_of_s)
        for dataset in (details, billing_period(invoices, as_of_s=as_of_s)):
            table = dataset.table(self.request.form)
            yield dataset_value(dataset.name, self._files(dataset.name, table.schema, [table]))


def layout_of(request: ExportRequest, source: ExportSource) -> Layout:
    """The columns of charges that a request asks for."""
    if request.kind == "focus":
        columns = focus_columns("1.2" if request.version == "1.2" else "1.4", request.grain, source.names)
        return Layout(columns=columns, form=request.form, time_text=rfc3339)
    terms = CurTerms(
        grain=request.grain,
        books=source.books,
        names=source.names,
        blended=blended_rates(source.invoices),
        drafts=frozenset(invoice.id for invoice in source.invoices if invoice.draft),
    )
    return Layout(columns=cur_columns(terms), form=request.form, time_text=time_text)


def blended_rates(invoices: Sequence[Invoice]) -> Mapping[tuple[str, str, str], int]:
    """What a payer pays for a GB of a SKU in a month of use, 1e-10 USD, rounded half up: by payer, month and SKU."""
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for invoice in invoices:
        for line in invoice.all_lines:
            key = (invoice.payer_id, line.month, line.sku)
            exact, total_bytes = sums.get(key, (0, 0))
            sums[key] = exact + line.exact, total_bytes + line.bytes
    return {key: max(0, (2 * exact + size) // (2 * size)) for key, (exact, size) in sums.items() if size > 0}
