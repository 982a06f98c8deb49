"""Exports of a month's bookings: invoices, drafts, corrections and credit notes, and they all tie out."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, cast

import pytest

from metering.billing.invoices.issuing import Asked
from metering.billing.money import exact_text
from metering.reports.exports.exporting import Exported, documents_of, export_answer, export_notes, source_of
from tests.exports.make import asked, exported, manifest, request_of
from tests.support.billing_world import MONTH, NEXT, PAYER, SAO_PAULO, BillingWorld, aws_list
from tests.support.priced import gb, used

if TYPE_CHECKING:
    from pathlib import Path

    from metering.reports.exports.grains import Grain

OTHER = "222222222222"
ID = f"{PAYER}-{MONTH}-1"


def _invoiced() -> BillingWorld:
    world = BillingWorld()
    world.use(used(gb("10300")), used(gb("200"), 2, account=OTHER))
    world.close(MONTH)
    world.issue(Asked(month=MONTH))
    return world


def _export(
    world: BillingWorld, folder: Path, month: str, *, kind: str = "focus", grain: Grain = "hour", payer_id: str = ""
) -> Exported:
    issuer = world.issuer
    documents = list(documents_of(issuer, month, payer_id=payer_id))
    request = request_of(kind, "1.4", month=month, grain=grain, as_of_s=world.clock.now_ms() // 1000)
    return exported(folder, source_of(issuer, documents), request)


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
    world = BillingWorld()
    world.use(used(gb("10300")), used(gb("200"), 2, account=OTHER))
    world.close(MONTH)
    world.issue(Asked(month=MONTH, payer_id=OTHER))
    _export(world, tmp_path, MONTH)
    status = asked(tmp_path, "SELECT DISTINCT InvoiceId, InvoiceIssueStatus FROM {} ORDER BY 1", "InvoiceDetail")
    assert status == [(ID, "Open"), (f"{OTHER}-{MONTH}-1", "Issued")]


def test_corrections_are_in_the_month_that_books_them(tmp_path: Path) -> None:
    world = _invoiced()
    # The expensive region takes the allowance that us-east-1 had: 100 GB move to its price.
    world.come_late(used(gb("100"), 700, usage_type=SAO_PAULO))
    world.close(NEXT)
    world.pass_month(NEXT)
    world.issue(Asked(month=NEXT))
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
    rows = asked(
        tmp_path,
        "SELECT ChargeCategory, ChargeClass, x_CreditOf, ConsumedQuantity IS NULL, sum(BilledCost) FROM {}"
        " GROUP BY ALL ORDER BY 1",
    )
    assert rows[0] == ("Adjustment", "Correction", ID, True, Decimal("-102.0000000000"))
    assert rows[1] == ("Usage", None, None, False, Decimal(0))
    details = asked(tmp_path, "SELECT DISTINCT InvoiceId, ReferenceInvoiceId FROM {} ORDER BY 1", "InvoiceDetail")
    assert details == [(f"{PAYER}-{MONTH}-2", ID), (f"{PAYER}-{NEXT}-1", f"{PAYER}-{NEXT}-1")]


def test_a_credit_note_of_the_same_month_ties_out_too(tmp_path: Path) -> None:
    world = _invoiced()
    world.books.put(aws_list("0.08"))
    # The process that credits has a clock within the month itself.
    note = world.crediting.credit(ID, "the price was wrong").invoice
    assert note.billing_month == NEXT
    _export(world, tmp_path, NEXT)
    ((rows, details),) = asked(tmp_path, "SELECT count(*), count(DISTINCT InvoiceDetailId) FROM {}")
    assert (rows, details) == (2, 1)


def test_every_detail_id_of_a_line_has_its_row(tmp_path: Path) -> None:
    world = _invoiced()
    world.come_late(used(gb("1"), 5, account=OTHER))
    world.close(NEXT)
    world.pass_month(NEXT)
    world.issue(Asked(month=NEXT))
    _export(world, tmp_path, NEXT)
    lines = set(asked(tmp_path, "SELECT DISTINCT InvoiceDetailId FROM {}"))
    assert lines == set(asked(tmp_path, "SELECT InvoiceDetailId FROM {}", "InvoiceDetail"))
