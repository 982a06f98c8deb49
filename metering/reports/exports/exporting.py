"""An export, from charges to manifest. Exports are streamed: at most one batch is in memory, and one file on disk.

The values of lines, which FOCUS validators do not check, are checked while they are written to the file.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.invoices import issuing
from metering.billing.invoices.composing import charges
from metering.billing.invoices.document import Invoice, invoice_id
from metering.billing.money import DECIMALS, UNITS_A_USD
from metering.errors import OperationFailedError
from metering.hours import month_bounds_s, rfc3339
from metering.ledger.notes.money import issued_in
from metering.reports.answer import KEEP, Answer, Json, ListedRows, copied, integer, money, sized
from metering.reports.exports.allocation import Allocation, problems_of
from metering.reports.exports.batches import Batch, Collector, Layout, of_doubles
from metering.reports.exports.datasets import cur
from metering.reports.exports.datasets.focus import focus_columns
from metering.reports.exports.destination import FILE_BYTES, DatasetFiles, Destination, Document, WrittenFile
from metering.reports.exports.grains import Grain, LakeResources, Resourced, by_resource, summed
from metering.reports.exports.manifest import (
    SCHEMA,
    ExportRequest,
    Tally,
    billing_period,
    dataset_value,
    invoice_detail,
    left_out_value,
    not_final_value,
    tie_out_problems,
    tie_out_value,
)
from metering.units import exact_and_size
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.billing.prices.book import PriceBook
    from metering.lake.view import LakeView
    from metering.reports.exports.allocation import PartSource

_EXAMPLES = 5
# Factors whose product has at most 38 digits, which are fast, and at most 76 digits, which is Arrow's limit.
_USUAL = (pa.decimal128(20, DECIMALS), pa.decimal128(17, DECIMALS))
_LARGE = (pa.decimal256(38, DECIMALS), pa.decimal256(37, DECIMALS))
# From 2^19 on, the distance between doubles is larger than the tenth decimal place.
_MOST_TOLD = 2.0**19
_DOUBLE_STEP = 2.0**-52


class ExportWrongError(OperationFailedError):
    """An export failed a check; the export therefore has no manifest and must not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Names of columns that must agree: the cost is the quantity times the price, rounded half up."""

    cost: str
    quantity: str
    price: str


FOCUS_AMOUNTS = (
    Amounts(cost="BilledCost", quantity="PricingQuantity", price="ContractedUnitPrice"),
    Amounts(cost="ListCost", quantity="PricingQuantity", price="ListUnitPrice"),
)
CUR_AMOUNTS = (
    Amounts(cost="line_item_unblended_cost", quantity="line_item_usage_amount", price="line_item_unblended_rate"),
    Amounts(
        cost="pricing_public_on_demand_cost", quantity="line_item_usage_amount", price="pricing_public_on_demand_rate"
    ),
)


@dataclass(slots=True, kw_only=True)
class LineChecks:
    """Checks batches and their tables against the price books of their rate codes. Mutable: it keeps problems."""

    books: Sequence[PriceBook]
    grain: Grain
    amounts: tuple[Amounts, ...]
    problems: list[str] = field(default_factory=list)
    _codes: frozenset[str] = frozenset()
    _steps: dict[str, int] = field(default_factory=dict)

    def look(self, batch: Batch, table: pa.Table) -> None:
        """Check a batch.

        Raises:
            ExportWrongError: A check failed. The error names the first wrong lines.
        """
        if len(table) != len(batch):
            self.problems.append(f"{len(batch):,} lines became {len(table):,} rows")
        self.problems += (*self._amounts(table), *self._periods(batch), *self._prices(batch), *self._keys(batch))
        if self.problems:
            raise wrong(self.problems)

    def _amounts(self, table: pa.Table) -> Iterator[str]:
        checked: list[tuple[pa.ChunkedArray, ...]] = []
        for each in self.amounts:
            columns = tuple(table.column(name) for name in (each.cost, each.quantity, each.price))
            # If no payer has its own prices, the columns equal those of the list prices.
            if any(all(map(pa.ChunkedArray.equals, columns, others)) for others in checked):
                continue
            checked.append(columns)
            cost, quantity, price = map(_exact, columns)
            right = pc.round(_product(quantity, price), DECIMALS, "half_towards_infinity")
            same = _close(right.cast(_narrow(right.type)), cost, *columns[:2])
            if not pc.all(same).as_py():
                at = pc.index(same.combine_chunks(), pa.scalar(value=False)).as_py()
                yield (
                    f"{each.cost} {cost[at]} is not {each.quantity} {quantity[at]} times {each.price} {price[at]}, "
                    "rounded half up"
                )

    def _periods(self, batch: Batch) -> Iterator[str]:
        """A charge's period of use is in the month that books it; a correction's period of use is before that month."""
        starts = pa.table({"part": batch.billed, "start": batch.starts}).group_by("part", use_threads=False)
        bounds = starts.aggregate([("start", "min"), ("start", "max")])
        columns = (bounds.column(name).to_pylist() for name in ("part", "start_min", "start_max"))
        for number, first_s, last_s in zip(*columns, strict=True):
            part = batch.parts.billed[number]
            begins_s, ends_s = month_bounds_s(part.billing_month)
            # A credit note may be issued within the month that it corrects.
            if part.later and last_s >= (ends_s if part.credit_of else begins_s):
                yield f"{part.invoice_id}: a correction of {part.billing_month} is of that month itself"
            if not part.later and not begins_s <= first_s <= last_s < ends_s:
                yield f"{part.invoice_id}: usage is outside {part.billing_month}, and no correction"
            if not part.invoice_id:
                yield "a charge has no invoice id: a file must not mix those that have one with those that have none"

    def _prices(self, batch: Batch) -> Iterator[str]:
        self._codes = self._codes or rate_codes(self.books)
        for number in pc.unique(batch.priced).to_pylist():
            code = batch.parts.priced[number].rated.rate_code
            if code not in self._codes:
                yield f"rate code {code!r} is not in the price book"

    def _keys(self, batch: Batch) -> Iterator[str]:
        """Each key and hour has at most one line per tier, and one line for the allowance."""
        usual = pc.invert(pa.array([part.later for part in batch.parts.billed], pa.bool_()).take(batch.billed))
        known: dict[tuple[object, ...], int] = {}
        numbers = [known.setdefault((each.rated.line.kind, each.region), len(known)) for each in batch.parts.priced]
        places = pa.array(numbers, pa.int32()).take(batch.priced)
        columns = {"key": places, "used": batch.used, "start": batch.starts, "billed": batch.billed}
        counted = (
            pa.table(columns)
            .filter(usual)
            .group_by(["key", "used", "start", "billed"], use_threads=False)
            .aggregate([("key", "count")])
        )
        if not len(counted):
            return
        most = pc.max(counted.column("key_count")).as_py()
        if most > self._most_lines(batch):
            yield f"a key has {most} lines in one {self.grain}, more than its tiers and allowances"

    def _most_lines(self, batch: Batch) -> int:
        skus = {part.rated.sku for part in batch.parts.priced}
        for sku in skus - self._steps.keys():
            versions = [book.by_sku[sku].versions for book in self.books if sku in book.by_sku]
            tiers = [len(version.tiers) for of in versions for version in of]
            # Within a day or a month, prices of several versions may apply.
            steps = (max(tiers, default=0) if self.grain == "hour" else sum(tiers)) + 1
            self._steps[sku] = steps if tiers else len(batch)
        return max((self._steps[sku] for sku in skus), default=0)


def rate_codes(books: Sequence[PriceBook]) -> frozenset[str]:
    """All rate codes of these books, including the rate codes of allowances."""
    sold = (tier for book in books for each in book.products for version in each.versions for tier in version.tiers)
    free = (code for book in books for allowance in book.allowances for code in allowance.rate_codes.values())
    return frozenset((*(tier.rate_code for tier in sold), *free))


def wrong(problems: list[str]) -> ExportWrongError:
    """The error for an export with problems; the message names the first problems."""
    more = f" (and {len(problems) - _EXAMPLES:,} more)" if len(problems) > _EXAMPLES else ""
    return ExportWrongError(
        f"The export is wrong, and has no manifest: {'; '.join(problems[:_EXAMPLES])}{more}.",
        "Do not use its files. This is an error of metering itself: please report it with these lines.",
    )


def _product(quantity: pa.ChunkedArray, price: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return pc.multiply(quantity.cast(_USUAL[0]), price.cast(_USUAL[1]))
    except pa.ArrowInvalid:
        return pc.multiply(quantity.cast(_LARGE[0]), price.cast(_LARGE[1]))


def _close(
    right: pa.ChunkedArray, cost: pa.ChunkedArray, written: pa.ChunkedArray, quantity: pa.ChunkedArray
) -> pa.ChunkedArray:
    """Whether each cost is correct: exactly, or within the precision of the doubles that were written."""
    if not pa.types.is_floating(written.type) or max(map(_largest, (written, quantity))) < _MOST_TOLD:
        return pc.equal(right, cost)
    off = pc.abs(pc.subtract(right, cost.cast(right.type))).cast(pa.float64())
    return pc.less_equal(off, pc.add(pc.multiply(pc.abs(written), _DOUBLE_STEP), 1 / UNITS_A_USD))


def _largest(amounts: pa.ChunkedArray) -> float:
    most: float | None = pc.max(pc.abs(amounts)).as_py()
    return most or 0.0


def _narrow(product: pa.DataType) -> pa.DataType:
    """Decimal type of a product whose last digits are rounded off."""
    wide = pa.decimal128 if pa.types.is_decimal128(product) else pa.decimal256
    return wide(product.precision - DECIMALS, DECIMALS)


def _exact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as decimals. Each double below 524,288 stands for exactly one number with ten decimals."""
    money = pa.decimal128(38, DECIMALS)
    if pa.types.is_dictionary(column.type):
        return pa.chunked_array([chunk.dictionary.cast(money).take(chunk.indices) for chunk in column.chunks], money)
    return of_doubles(column) if pa.types.is_floating(column.type) else column.cast(money)


COST_AND_USAGE = "CostAndUsage"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSource:
    """Charges in any order, at the export's grain or a finer one, each with its resource, which may be empty.

    Usage without a price is omitted from the export, but listed. `books` must contain the rate codes of the charges.
    With `parts`, charges of resources are split by the causes of their bytes.
    """

    charges: Iterable[Resourced]
    invoices: Sequence[Invoice]
    books: Sequence[PriceBook]
    names: Mapping[str, str] = field(default_factory=dict)
    parts: PartSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The manifest of a complete export, and whether this call wrote it."""

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
    """Write an export, unless it is complete. `progress` is called with the number of rows of each batch.

    Raises:
        DestinationTakenError: The target contains other data. Nothing was written.
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
    """One export in progress. Mutable: it sums."""

    request: ExportRequest
    source: ExportSource
    destination: Destination
    progress: Callable[[int], None]
    folder: Path
    file_bytes: int
    tally: Tally = field(default_factory=Tally)
    collector: Collector = field(default_factory=Collector)
    allocation: Allocation | None = None

    def __post_init__(self) -> None:
        if self.source.parts is not None:
            self.allocation = Allocation(self.source.parts)

    def written(self) -> Document:
        """Write all datasets, and check that they tie out with the documents. Returns the manifest."""
        layout = layout_of(self.request, self.source)
        charges = self._files(COST_AND_USAGE, layout.schema, self._tables(layout))
        problems = list(tie_out_problems(self.tally, self.source.invoices))
        made = self.tally.total.rows if self.allocation is None else self.allocation.rows
        if (rows := sum(file.rows for file in charges)) != made:
            problems.append(f"{made:,} lines were made, and {rows:,} written")
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
        charges = summed(self.source.charges, self.request.grain)
        for batch in self.collector.batches(charges if self.allocation is None else self.allocation.noted(charges)):
            table = layout.table(batch)
            checks.look(batch, table)
            self.tally.take(batch)
            self.progress(len(batch))
            yield table if self.allocation is None else self._allocated(self.allocation, table)

    @staticmethod
    def _allocated(allocation: Allocation, table: pa.Table) -> pa.Table:
        found = allocation.table(table)
        if problems := list(problems_of(table, found)):
            raise wrong(problems)
        return found

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
    """The columns of charges for a requested export."""
    if request.kind == "focus":
        columns = focus_columns("1.2" if request.version == "1.2" else "1.4", request.grain, source.names)
        return Layout(columns=columns, form=request.form, time_text=rfc3339)
    terms = cur.CurTerms(
        grain=request.grain,
        books=source.books,
        names=source.names,
        blended=blended_rates(source.invoices),
        drafts=frozenset(invoice.id for invoice in source.invoices if invoice.draft),
    )
    return Layout(columns=cur.cur_columns(terms), form=request.form, time_text=cur.time_text)


def blended_rates(invoices: Sequence[Invoice]) -> Mapping[tuple[str, str, str], int]:
    """Average prices per GB in 1e-10 USD, rounded half up, by payer, month of use and SKU."""
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for invoice in invoices:
        for line in invoice.all_lines:
            key = (invoice.payer_id, line.month, line.sku)
            exact, total_bytes = sums.get(key, (0, 0))
            sums[key] = exact + line.exact, total_bytes + line.bytes
    return {key: max(0, (2 * exact + size) // (2 * size)) for key, (exact, size) in sums.items() if size > 0}


_DATASETS = ListedRows(
    copied("dataset", priority=KEEP),
    integer("rows", priority=KEEP),
    sized("bytes"),
    money("billed_usd", title="billed USD", priority=KEEP),
    integer("files"),
    sized("stored_bytes", title="size"),
)
_SHOWN = 5


def export_answer(exported: Exported, place: str) -> Answer:
    """The datasets of an export; JSON also has the other fields of the export's manifest."""
    manifest = exported.manifest
    said = cast("Document", manifest["export"])
    datasets = cast("list[Document]", manifest["datasets"])
    meta: dict[str, Json] = {
        "place": place,
        "written": exported.written,
        **{
            name: cast("Json", said[name]) for name in ("kind", "version", "month", "grain", "format", "state", "as_of")
        },
        **{name: cast("Json", manifest[name]) for name in ("tie_out", "left_out", "not_final")},
    }
    state = "" if said["state"] == "issued" else ", draft"
    return _DATASETS.answer(
        [_values(dataset) for dataset in datasets],
        meta=meta,
        title=f"{str(said['kind']).upper()} {said['version']} of {said['month']}{state}, in {place}",
        footer=tuple(_ties(cast("list[Document]", manifest["tie_out"]))),
    )


def export_notes(exported: Exported) -> Iterator[str]:
    """Notes for users of the export: provisional figures, usage without a price, and regions that are not final."""
    manifest = exported.manifest
    if cast("Document", manifest["export"])["state"] == "draft":
        yield "It is a draft: invoice ids are provisional, and figures may change until the month is issued."
    for each in cast("list[dict[str, str]]", manifest["not_final"]):
        yield f"{each['region']}: {each['why']}."
    left_out = cast("list[dict[str, str]]", manifest["left_out"])
    unpriced = [each for each in left_out if each["state"] != "unrated"]
    for each in unpriced[:_SHOWN]:
        yield f"Not in the export, for it has no price: {_used([each])} of {each['usage_type']} ({each['service']})."
    if len(unpriced) > _SHOWN:
        see = f"metering prices check --month {cast('Document', manifest['export'])['month']}"
        yield f"And {len(unpriced) - _SHOWN:,} more without a price, {_used(unpriced[_SHOWN:])}: {see}"
    if unrated := [each for each in left_out if each["state"] == "unrated"]:
        names = sorted({each["usage_type"] for each in unrated})
        some = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")
        yield f"Not in the export, for the price book says that it is not sold: {_used(unrated)} of {some}."


def _used(usage: list[dict[str, str]]) -> str:
    return exact_and_size(sum(int(each["bytes"]) for each in usage))


def _values(dataset: Document) -> tuple[object, ...]:
    sizes = [file["size_bytes"] for file in cast("list[dict[str, int]]", dataset["files"])]
    total = int(str(dataset["bytes"])) if "bytes" in dataset else None
    billed = Decimal(str(dataset["billed_usd"])) if "billed_usd" in dataset else None
    return (dataset["name"], dataset["rows"], total, billed, len(sizes), sum(sizes))


def _ties(documents: list[Document]) -> Iterator[str]:
    for each in documents[:_SHOWN]:
        yield (
            f"{each['document']}: exactly {each['exact_usd']} USD, as its document; in cents by line "
            f"{each['document_usd']} USD."
        )
    if len(documents) > _SHOWN:
        yield f"And {len(documents) - _SHOWN:,} more documents, all equal: see the manifest."


def documents_of(issuer: issuing.Issuer, month: str, *, payer_id: str = "", book: str = "") -> Iterator[Invoice]:
    """Documents of a month: issued invoices and credit notes, and a draft for each payer without an invoice.

    Yields:
        Documents without the list of accounts, because charges name the accounts.

    Raises:
        OperationFailedError: The month has not begun, or the book does not exist.
        UnavailableError: A store does not respond.
    """
    invoiced: set[str] = set()
    for each in issued_in(issuer.items, month, payer_id):
        if each.kind == "invoice":
            invoiced.add(each.payer_id)
        yield replace(issuer.store.get(invoice_id(each.payer_id, each.month, each.number)), accounts=())
    if payer_id in invoiced:
        return
    for draft in issuer.drafts(issuing.Asked(month=month, payer_id=payer_id, book=book)):
        says = draft.all_lines or draft.unrated or draft.unpriced
        if draft.payer_id not in invoiced and says:
            yield replace(draft, accounts=())


def source_of(
    issuer: issuing.Issuer,
    documents: Sequence[Invoice],
    views: Sequence[LakeView] = (),
    parts: PartSource | None = None,
) -> ExportSource:
    """The hourly charges of documents. Only one line is in memory at a time.

    If lakes of all regions are given (`views`), charges are split by resource, and one hour is in memory. With `parts`,
    the charges of resources are split by causes.
    """
    # A credit note also contains the prices that it reverses.
    before = (issuer.store.get(billed) for each in documents for billed in each.inputs.billed)
    rates = {of for each in chain(documents, before) for of in each.inputs.rates.values()}
    loaded = [issuer.composer.shelf.load(of) for of in sorted(rates, key=str)]
    return ExportSource(
        charges=_charges(issuer, documents, views),
        invoices=documents,
        books=[each.book for each in loaded],
        names=dict(chain.from_iterable(each.organization.names.items() for each in loaded)),
        parts=parts,
    )


def _charges(issuer: issuing.Issuer, documents: Sequence[Invoice], views: Sequence[LakeView]) -> Iterator[Resourced]:
    for document in documents:
        found = charges(document, issuer.composer, issuer.store)
        if not views:
            yield from zip(found, repeat(""), strict=False)
            continue
        organization = issuer.composer.shelf.load(document.inputs.rates[document.month]).organization
        accounts = organization.accounts_of(document.payer_id)
        yield from by_resource(found, LakeResources(views=views, accounts=accounts))
