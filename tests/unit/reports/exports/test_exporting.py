"""An export adds up, ties out with its documents and is complete at its target; otherwise, it has no manifest."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, cast

import pyarrow.parquet as pq
import pytest

from metering.billing.invoices.issuing import Asked
from metering.billing.money import exact_text
from metering.billing.prices.book import NotSold, Override
from metering.billing.usage.months import UsageLine
from metering.errors import UnavailableError
from metering.reports.exports.destination import UNFINISHED, Destination, DestinationTakenError
from metering.reports.exports.exporting import (
    Exported,
    ExportSource,
    ExportWrongError,
    blended_rates,
    documents_of,
    export,
    export_answer,
    export_notes,
)
from metering.reports.exports.exporting import source_of as source_of_documents
from metering.units import HOUR_S
from metering.usage.totals import Service, UsageType
from tests.exports.make import asked, destination, exported, manifest, request_of, source_of
from tests.support.billing_world import ACME, MONTH, NEXT, PAYER, SAO_PAULO, BillingWorld, aws_list, billed
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.priced import BEGIN_S, US_TIERS, allowance, book, gb, product, usd, used

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from metering.billing.invoices.composing import Charge
    from metering.reports.exports.batches import FileFormat
    from metering.reports.exports.grains import Grain

BOOK = book([product("OUT", "DataTransfer-Out-Bytes", US_TIERS)], allowance("100", "OUT"))
_COSTS = {"focus": "BilledCost", "cur": "line_item_unblended_cost"}
FORMS: tuple[FileFormat, ...] = ("parquet", "csv")


def _charges(source: ExportSource) -> list[Charge]:
    return [charge for charge, _ in source.charges]


@pytest.fixture(scope="module")
def source() -> ExportSource:
    """A thousand charges with every key of the sample, including corrections."""
    return source_of(1000)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["focus", "cur"])
def test_duckdb_reads_the_sums_of_the_charges(
    tmp_path: Path, source: ExportSource, kind: str, form: FileFormat
) -> None:
    exported(tmp_path, source, request_of(kind, form=form))
    ((rows, total),) = asked(tmp_path, f"SELECT count(*), sum({_COSTS[kind]}::DECIMAL(38, 10)) FROM {{}}")  # noqa: S608 - of ours
    charges = _charges(source)
    assert rows == len(charges)
    assert total == Decimal(sum(charge.rated.cost for charge in charges)).scaleb(-10)


@pytest.mark.parametrize("form", FORMS)
def test_bytes_of_focus_are_the_bytes_that_were_metered(tmp_path: Path, source: ExportSource, form: FileFormat) -> None:
    exported(tmp_path, source, request_of(form=form))
    ((total,),) = asked(tmp_path, "SELECT sum(x_Bytes::HUGEINT) FROM {}")
    assert total == sum(charge.rated.line.bytes for charge in _charges(source))


@pytest.mark.parametrize("grain", ["hour", "day", "month"])
def test_every_grain_ties_out_with_the_same_invoice(tmp_path: Path, source: ExportSource, grain: Grain) -> None:
    exported(tmp_path, source, request_of(version="1.4", grain=grain))
    (tie,) = cast("list[dict[str, object]]", manifest(tmp_path)["tie_out"])
    (invoice,) = source.invoices
    assert (tie["equal"], tie["exact_usd"]) == (True, exact_text(invoice.exact))
    ((keys, rows),) = asked(tmp_path, "SELECT count(DISTINCT x_ChargeKey), count(*) FROM {}")
    assert keys == rows
    ((apart,),) = asked(tmp_path, "SELECT count(DISTINCT ChargePeriodEnd - ChargePeriodStart) FROM {}")
    # September has 30 days, and October has 31.
    assert apart == (2 if grain == "month" else 1)


def test_the_invoice_detail_is_the_invoice_to_the_cent(tmp_path: Path, source: ExportSource) -> None:
    exported(tmp_path, source, request_of(version="1.4"))
    (invoice,) = source.invoices
    ((total, rows),) = asked(tmp_path, "SELECT sum(BilledCost), count(*) FROM {}", "InvoiceDetail")
    assert (total, rows) == (Decimal(invoice.cents).scaleb(-2), len(invoice.all_lines))


def test_a_charge_that_is_missing_is_found_although_focus_would_let_it_pass(tmp_path: Path) -> None:
    whole = billed(BOOK, [used(gb("101")), used(gb("3"), 5)], MONTH)
    short = replace(whole, charges=list(whole.charges)[:-1])
    with pytest.raises(ExportWrongError, match=r"OUT.JRTCKXETXF.RATE0 has .* USD, its document") as error:
        exported(tmp_path, short, request_of(month=MONTH))
    assert "no manifest" in str(error.value)
    assert not (tmp_path / "manifest.json").exists()


def test_an_empty_export_of_an_invoice_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ExportWrongError):
        exported(tmp_path, replace(billed(BOOK, [used(gb("101"))], MONTH), charges=[]), request_of(month=MONTH))


def test_a_charge_too_many_or_of_another_document_is_found(tmp_path: Path) -> None:
    whole = billed(BOOK, [used(gb("101"))], MONTH)
    charge, _ = next(iter(whole.charges))
    stray = charge._replace(invoice_id="123456789012-2026-11-9")
    with pytest.raises(ExportWrongError, match="charges of 123456789012-2026-11-9 have no document"):
        exported(tmp_path, replace(whole, charges=[*whole.charges, (stray, "")]), request_of(month=MONTH))


def test_an_invoice_line_that_is_not_the_cents_of_its_exact_total_is_found(tmp_path: Path) -> None:
    whole = billed(BOOK, [used(gb("200"))], MONTH)
    (invoice,) = whole.invoices
    lines = tuple(replace(line, cents=line.cents + 1) for line in invoice.lines)
    wrong = replace(whole, invoices=[replace(invoice, lines=lines)])
    with pytest.raises(ExportWrongError, match=r"is billed 9.01, and costs 9.00"):
        exported(tmp_path, wrong, request_of(month=MONTH))


def test_usage_without_a_price_is_no_row_and_is_named(tmp_path: Path) -> None:
    prices = replace(BOOK, not_sold=(NotSold(pattern="Unclassified-.*", why="free"),))
    usage = [used(gb("1")), used(7, usage_type="Unclassified-Out-Bytes"), used(9, usage_type="Nothing-Bytes")]
    exported(tmp_path, billed(prices, usage, MONTH), request_of(month=MONTH))
    assert manifest(tmp_path)["left_out"] == [
        {"state": "unpriced", "service": "AmazonEC2", "usage_type": "Nothing-Bytes", "bytes": "9"},
        {"state": "unrated", "service": "AmazonEC2", "usage_type": "Unclassified-Out-Bytes", "bytes": "7"},
    ]
    assert asked(tmp_path, "SELECT count(*) FROM {}") == [(1,)]


def test_a_month_without_usage_is_a_file_with_columns_and_no_rows(tmp_path: Path) -> None:
    for form in FORMS:
        exported(tmp_path / form, billed(BOOK, [], MONTH), request_of(form=form, month=MONTH))
        assert asked(tmp_path / form, "SELECT count(*) FROM {}") == [(0,)]


def test_a_contract_price_is_billed_and_the_list_price_is_beside_it(tmp_path: Path) -> None:
    override = Override(payer=ACME.payer_id, price=usd("0.05"))
    exported(tmp_path, billed(BOOK, [used(gb("101"))], MONTH, overrides=(override,)), request_of(month=MONTH))
    row = asked(tmp_path, "SELECT BilledCost, ContractedUnitPrice, ListCost, ListUnitPrice FROM {} WHERE ListCost > 0")
    assert row == [tuple(map(Decimal, ("0.0500000000", "0.0500000000", "0.0900000000", "0.0900000000")))]


def test_sizes_beyond_64_bits_are_exact(tmp_path: Path) -> None:
    source = billed(BOOK, [used(10**19 + 1)], MONTH)
    exported(tmp_path, source, request_of(month=MONTH))
    ((total, cost),) = asked(tmp_path, "SELECT sum(x_Bytes::HUGEINT), sum(BilledCost) FROM {}")
    assert total == 10**19 + 1
    assert cost == Decimal(sum(charge.rated.cost for charge in _charges(source))).scaleb(-10)


def test_texts_that_a_spreadsheet_would_run_are_harmless_in_csv_and_untouched_in_parquet(tmp_path: Path) -> None:
    usage_type, way = "=cmd()-Out-Bytes", ("AmazonEC2", "us-east-1", "internet")
    prices = book([product("EVIL", usage_type, [(None, "0.09")])])
    line = UsageLine(BEGIN_S, "000000000012", Service(way[0]), UsageType(usage_type), way[1], way[2], gb("1"))
    source = replace(billed(prices, [line], MONTH), names={"000000000012": "@SUM(A1)"})
    query = "SELECT x_UsageType, SubAccountName, SubAccountId FROM {}"
    exported(tmp_path / "csv", source, request_of(form="csv", month=MONTH))
    exported(tmp_path / "parquet", source, request_of(month=MONTH))
    assert asked(tmp_path / "csv", query) == [(f"'{usage_type}", "'@SUM(A1)", "000000000012")]
    assert asked(tmp_path / "parquet", query) == [(usage_type, "@SUM(A1)", "000000000012")]


def test_negative_digits_of_csv_stay_digits(tmp_path: Path) -> None:
    # Late usage of the expensive product takes the allowance, so the bytes of the other product are no longer free.
    dear = product("SAE", SAO_PAULO, [(None, "0.15")])
    prices = book([*BOOK.products, dear], allowance("100", "OUT", "SAE"))
    late = [used(gb("100"), 3, usage_type=SAO_PAULO)]
    source = billed(prices, [], NEXT, earlier=(MONTH, [used(gb("100"))], late))
    exported(tmp_path, source, request_of(form="csv", month=NEXT))
    sums = asked(tmp_path, "SELECT x_Bytes, BilledCost FROM {} WHERE x_Bytes LIKE '%-%'")
    assert sums == [(str(-gb("100")), "0E-10")]
    assert asked(tmp_path, "SELECT sum(BilledCost::DECIMAL(38, 10)) FROM {}") == [(Decimal("9.0000000000"),)]


def test_files_end_at_a_size_and_together_have_every_row(tmp_path: Path, source: ExportSource) -> None:
    charges = list(source.charges)
    assert exported(tmp_path / "one", source, request_of(form="csv")).written
    many = replace(source, charges=charges)
    assert export(request_of(), many, destination(tmp_path / "many"), file_bytes=1).written
    (dataset,) = cast("list[dict[str, list[dict[str, int]]]]", manifest(tmp_path / "many")["datasets"])
    # A batch has more rows than this: it becomes one file, however small files should be.
    assert sum(file["rows"] for file in dataset["files"]) == len(charges)


def test_the_same_export_again_changes_nothing(tmp_path: Path, source: ExportSource) -> None:
    assert exported(tmp_path, source, request_of()).written
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in tmp_path.iterdir()}
    again = exported(tmp_path, source, request_of())
    assert not again.written
    assert again.manifest == manifest(tmp_path)
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in tmp_path.iterdir()} == before


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, source: ExportSource) -> None:
    for form in FORMS:
        folders = [tmp_path / form / name for name in ("one", "two")]
        for folder in folders:
            exported(folder, source, request_of(form=form))
        one, two = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders)
        assert one == two


def test_a_folder_with_anything_else_is_refused_and_left_as_it_is(tmp_path: Path, source: ExportSource) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DestinationTakenError, match=r"is not empty \(notes.txt\)"):
        exported(tmp_path, source, request_of())
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_with_another_export_is_refused(tmp_path: Path, source: ExportSource) -> None:
    exported(tmp_path, source, request_of())
    with pytest.raises(DestinationTakenError, match="holds another export"):
        exported(tmp_path, source, request_of(grain="day"))


@pytest.mark.parametrize("body", [b"PAR1", None])
def test_an_export_whose_files_were_changed_is_named(tmp_path: Path, source: ExportSource, body: bytes | None) -> None:
    exported(tmp_path, source, request_of())
    file = tmp_path / "CostAndUsage-00000.parquet"
    file.unlink() if body is None else file.write_bytes(body)
    with pytest.raises(DestinationTakenError, match=r"CostAndUsage-00000.parquet is not as it was written"):
        exported(tmp_path, source, request_of())


@pytest.mark.parametrize("body", ["[]", "{", '{"export": 1}'])
def test_a_manifest_of_somebody_else_is_refused(tmp_path: Path, source: ExportSource, body: str) -> None:
    (tmp_path / "manifest.json").write_text(body)
    with pytest.raises(DestinationTakenError):
        exported(tmp_path, source, request_of())


def test_a_crash_leaves_nothing_that_looks_whole_and_the_same_export_may_be_begun_again(tmp_path: Path) -> None:
    whole = billed(BOOK, [used(gb("101"))], MONTH)

    def broken() -> Iterator[tuple[Charge, str]]:
        yield from whole.charges
        raise UnavailableError("s3.GetObject", "gone")

    with pytest.raises(UnavailableError):
        exported(tmp_path, replace(whole, charges=broken()), request_of(month=MONTH))
    assert (tmp_path / UNFINISHED).exists()
    assert not (tmp_path / "manifest.json").exists()
    with pytest.raises(DestinationTakenError, match="another export that was not finished"):
        exported(tmp_path, whole, request_of(month=MONTH, grain="day"))
    (tmp_path / "CostAndUsage-00007.parquet").write_bytes(b"of the crash")
    (tmp_path / "mine.txt").write_bytes(b"of somebody else")
    with pytest.raises(DestinationTakenError, match=r"did not write \(mine.txt\)"):
        exported(tmp_path, whole, request_of(month=MONTH))
    (tmp_path / "mine.txt").unlink()
    assert exported(tmp_path, whole, request_of(month=MONTH)).written
    assert sorted(file.name for file in tmp_path.iterdir()) == ["CostAndUsage-00000.parquet", "manifest.json"]


def test_a_draft_says_so_in_the_manifest(tmp_path: Path) -> None:
    source = billed(BOOK, [used(gb("101"))], MONTH, draft=True)
    exported(tmp_path, source, request_of(month=MONTH, as_of_s=BEGIN_S))
    said = cast("dict[str, object]", manifest(tmp_path)["export"])
    assert (said["state"], said["as_of"]) == ("draft", "2026-11-01T00:00:00Z")
    (document,) = cast("list[dict[str, object]]", said["documents"])
    assert document["provisional"] is True


def test_progress_hears_of_every_row(tmp_path: Path, source: ExportSource) -> None:
    heard: list[int] = []
    export(request_of(), source, destination(tmp_path), progress=heard.append)
    assert sum(heard) == len(list(source.charges))


def test_a_blended_rate_is_what_the_payer_pays_for_a_gb() -> None:
    # AWS's con-bill: 95,000 GB cost 6,720, which is 0.070737 per GB.
    prices = book([product("CON", "DataTransfer-Out-Bytes", [("1000", "0.10"), ("50000", "0.08"), (None, "0.06")])])
    (rate,) = blended_rates(billed(prices, [used(gb("95000"))], MONTH).invoices).values()
    assert rate == usd("0.0707368421")


def test_parquet_of_a_month_has_one_line_a_key_and_price(tmp_path: Path) -> None:
    usage = [used(gb("1"), hour) for hour in range(200)]
    exported(tmp_path, billed(BOOK, usage, MONTH), request_of(grain="month", month=MONTH))
    rows = pq.read_table(tmp_path / "CostAndUsage-00000.parquet").to_pylist()
    assert [(row["BilledCost"], row["PricingQuantity"]) for row in rows] == [(Decimal(0), 100), (Decimal(9), 100)]
    assert (rows[0]["ChargePeriodEnd"] - rows[0]["ChargePeriodStart"]).total_seconds() == 30 * 24 * HOUR_S


def test_objects_of_a_prefix_are_the_export_and_others_stay() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    objects.put("bills/2026-110", b"a neighbour", if_absent=True)
    usage, place = (
        billed(BOOK, [used(gb("1"))], MONTH),
        Destination(objects=objects, prefix="bills/2026-11/", name="s3"),
    )
    assert export(request_of(month=MONTH), usage, place).written
    written = ("bills/2026-11/CostAndUsage-00000.parquet", "bills/2026-11/manifest.json")
    assert objects.keys("bills/") == (*written, "bills/2026-110")
    assert not export(request_of(month=MONTH), usage, place).written


OTHER = "222222222222"
ID = f"{PAYER}-{MONTH}-1"


def _invoiced(*, payer_id: str = "") -> BillingWorld:
    world = BillingWorld()
    world.use(used(gb("10300")), used(gb("200"), 2, account=OTHER))
    world.close(MONTH)
    world.issue(Asked(month=MONTH, payer_id=payer_id))
    return world


def _export(
    world: BillingWorld, folder: Path, month: str, *, kind: str = "focus", grain: Grain = "hour", payer_id: str = ""
) -> Exported:
    issuer = world.issuer
    documents = list(documents_of(issuer, month, payer_id=payer_id))
    request = request_of(kind, "1.4", month=month, grain=grain, as_of_s=world.clock.now_ms() // 1000)
    return exported(folder, source_of_documents(issuer, documents), request)


@pytest.mark.parametrize("grain", ["hour", "day", "month"])
@pytest.mark.parametrize("kind", ["focus", "cur"])
def test_a_month_of_invoices_is_exported_for_all_payers(tmp_path: Path, kind: str, grain: Grain) -> None:
    world = _invoiced()
    _export(world, tmp_path, MONTH, kind=kind, grain=grain)
    ties = cast("list[dict[str, object]]", manifest(tmp_path)["tie_out"])
    stored = {each.id: exact_text(each.exact) for each in world.store.list(MONTH)}
    assert {tie["document"]: tie["exact_usd"] for tie in ties} == stored
    assert len(stored) == 2
    assert [tie["provisional"] for tie in ties] == [False, False]


def test_one_payer_alone_is_one_document(tmp_path: Path) -> None:
    _export(_invoiced(), tmp_path, MONTH, payer_id=OTHER)
    assert asked(tmp_path, "SELECT DISTINCT InvoiceId, SubAccountId FROM {}") == [(f"{OTHER}-{MONTH}-1", OTHER)]


def test_a_month_that_is_not_issued_is_exported_as_a_draft_and_says_so(tmp_path: Path) -> None:
    world = BillingWorld()
    world.use(used(gb("10300")), used(7, usage_type="Nothing-Bytes"))
    done = _export(world, tmp_path, MONTH)
    assert asked(tmp_path, "SELECT DISTINCT InvoiceId FROM {}") == [(ID,)]
    notes = list(export_notes(done))
    assert notes[0].startswith("It is a draft: invoice ids are provisional")
    assert "us-east-1: 2026-11 is not closed there: its figures are as of now." in notes
    assert "Not in the export, for it has no price: 7 bytes of Nothing-Bytes (AmazonEC2)." in notes
    answer = export_answer(done, str(tmp_path))
    assert answer.meta["state"] == "draft"
    assert [row["dataset"] for row in answer.rows] == ["CostAndUsage", "InvoiceDetail", "BillingPeriod"]


def test_payers_without_an_invoice_of_an_issued_month_are_drafts_beside_the_invoices(tmp_path: Path) -> None:
    _export(_invoiced(payer_id=OTHER), tmp_path, MONTH)
    status = asked(tmp_path, "SELECT DISTINCT InvoiceId, InvoiceIssueStatus FROM {} ORDER BY 1", "InvoiceDetail")
    assert status == [(ID, "Open"), (f"{OTHER}-{MONTH}-1", "Issued")]


def test_corrections_are_in_the_month_that_books_them(tmp_path: Path) -> None:
    world = _invoiced()
    # The expensive region gets the allowance that us-east-1 had, so 100 GB of us-east-1 are now charged.
    world.come_late(used(gb("100"), 700, usage_type=SAO_PAULO))
    world.issue_next(NEXT)
    _export(world, tmp_path, NEXT)
    rows = asked(tmp_path, "SELECT ChargeClass, sum(BilledCost), count(*) FROM {} GROUP BY 1")
    (invoice,) = world.store.list(NEXT, PAYER)
    ((kind, cost, _),) = rows
    assert kind == "Correction"
    assert cost == Decimal(exact_text(sum(each.exact for each in world.store.list(NEXT))))
    assert invoice.corrections


@pytest.mark.parametrize("kind", ["focus", "cur"])
def test_a_credit_note_is_in_the_month_that_books_it_and_names_its_invoice(tmp_path: Path, kind: str) -> None:
    world = _invoiced()
    world.books.put(aws_list("0.08"))
    world.crediting.credit(ID, "the price was wrong")
    world.use(used(gb("50"), 800), month=NEXT)
    _export(world, tmp_path, NEXT, kind=kind)
    if kind == "cur":
        kinds = asked(tmp_path, "SELECT DISTINCT line_item_line_item_type, bill_invoice_id FROM {} ORDER BY 1")
        assert kinds == [("Credit", f"{PAYER}-{MONTH}-2"), ("Usage", None)]
        return
    columns = "ChargeCategory, ChargeClass, x_CreditOf, ConsumedQuantity IS NULL, sum(BilledCost)"
    credited, used_later = asked(tmp_path, f"SELECT {columns} FROM {{}} GROUP BY ALL ORDER BY 1")  # noqa: S608 - of ours
    assert credited == ("Adjustment", "Correction", ID, True, Decimal("-102.0000000000"))
    assert used_later == ("Usage", None, None, False, Decimal(0))
    details = asked(tmp_path, "SELECT DISTINCT InvoiceId, ReferenceInvoiceId FROM {} ORDER BY 1", "InvoiceDetail")
    assert details == [(f"{PAYER}-{MONTH}-2", ID), (f"{PAYER}-{NEXT}-1", f"{PAYER}-{NEXT}-1")]


def test_a_credit_note_of_the_same_month_ties_out_too(tmp_path: Path) -> None:
    world = _invoiced()
    world.books.put(aws_list("0.08"))
    # The clock of the process that credits is still within the month.
    note = world.crediting.credit(ID, "the price was wrong").invoice
    assert note.billing_month == NEXT
    _export(world, tmp_path, NEXT)
    ((rows, details),) = asked(tmp_path, "SELECT count(*), count(DISTINCT InvoiceDetailId) FROM {}")
    assert (rows, details) == (2, 1)


def test_every_detail_id_of_a_line_has_its_row(tmp_path: Path) -> None:
    world = _invoiced()
    world.come_late(used(gb("1"), 5, account=OTHER))
    world.issue_next(NEXT)
    _export(world, tmp_path, NEXT)
    lines = set(asked(tmp_path, "SELECT DISTINCT InvoiceDetailId FROM {}"))
    assert lines == set(asked(tmp_path, "SELECT InvoiceDetailId FROM {}", "InvoiceDetail"))
