"""Late rows of closed months, and credit notes: no document changes, and their sum equals one rating of all usage."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest

from metering.billing.invoices.composing import charges
from metering.billing.invoices.issuing import Asked, IssueRefusedError
from metering.billing.money import exact_text
from metering.billing.prices.book import Override
from metering.errors import UnavailableError
from metering.ledger.notes.money import issued_in
from tests.support.billing_world import MONTH, NEXT, PAYER, SAO_PAULO, BillingWorld, aws_list
from tests.support.priced import gb, paid_by, product, used
from tests.support.small_world import Calls, KilledError

ID = f"{PAYER}-{MONTH}-1"
SECOND = f"{PAYER}-{MONTH}-2"
OTHER = "222222222222"
THIRD = "2027-01"


def invoiced(*sizes: str) -> BillingWorld:
    """A world in which November is invoiced, with usage of us-east-1."""
    world = BillingWorld()
    world.use(*(used(gb(size), hour) for hour, size in enumerate(sizes)))
    world.close(MONTH)
    world.issue(Asked(month=MONTH))
    return world


def cheaper() -> BillingWorld:
    """A world in which November is invoiced at too high a price."""
    world = invoiced("200")
    world.books.put(aws_list("0.08"))
    return world


def test_late_rows_are_the_continuation_of_their_own_month_and_do_not_move_the_month_that_books_them() -> None:
    world = invoiced("10300")
    before = world.store.stored(ID).body
    world.come_late(used(gb("100"), 700, account=PAYER))
    world.use(used(gb("50"), 800), month=NEXT)
    world.issue_next()
    invoice = world.store.get(f"{PAYER}-{NEXT}-1")
    assert [(each.month, each.rate_code, each.bytes, each.cents) for each in invoice.corrections] == [
        (MONTH, "OUTUSE1.JRTCKXETXF.RATE0", gb("40"), 360),
        (MONTH, "OUTUSE1.JRTCKXETXF.RATE1", gb("60"), 510),
    ]
    assert [(each.rate_code, each.bytes) for each in invoice.lines] == [("OUTUSE1.A429C66SYZ.FREE", gb("50"))]
    assert (invoice.cents, exact_text(invoice.exact)) == (870, "8.70")
    assert world.store.stored(ID).body == before
    assert not world.verify(invoice.id)
    assert invoice.corrections[0].hours == (used(1, 700).hour_s, used(1, 700).hour_s)


def test_late_rows_that_take_the_allowance_of_another_region_cost_what_all_together_would_have_cost() -> None:
    world = invoiced("100")
    world.come_late(used(gb("100"), 9, usage_type=SAO_PAULO), region="sa-east-1")
    world.issue_next()
    invoice = world.store.get(f"{PAYER}-{NEXT}-1")
    assert [(each.region, each.rate_code, each.bytes, each.cents) for each in invoice.corrections] == [
        ("sa-east-1", "OUTSAE1.A429C66SYZ.FREE", gb("100"), 0),
        ("us-east-1", "OUTUSE1.A429C66SYZ.FREE", -gb("100"), 0),
        ("us-east-1", "OUTUSE1.JRTCKXETXF.RATE0", gb("100"), 900),
    ]
    assert (invoice.cents, invoice.lines) == (900, ())
    found = list(charges(invoice, world.issuer.composer, world.store))
    assert {each.corrects for each in found} == {True}
    assert {each.billing_month for each in found} == {NEXT}
    assert sum(each.rated.exact for each in found) == invoice.exact


def test_a_second_correction_continues_after_the_first() -> None:
    world = invoiced("10300")
    world.come_late(used(gb("40"), 10))
    world.issue_next()
    world.come_late(used(gb("10"), 3), booked=THIRD)
    world.issue_next(THIRD)
    invoice = world.store.get(f"{PAYER}-{THIRD}-1")
    assert [(each.rate_code, each.cents) for each in invoice.corrections] == [("OUTUSE1.JRTCKXETXF.RATE1", 85)]
    assert sorted(invoice.inputs.closed) == [MONTH, NEXT, THIRD]
    assert not world.verify(invoice.id)


def test_a_correction_has_the_prices_of_its_own_month() -> None:
    world = invoiced("200")
    world.books.put(aws_list("0.05"))
    world.come_late(used(gb("100"), 10), used(gb("150"), 10, account=OTHER))
    world.use(used(gb("200"), 800), month=NEXT)
    world.issue_next()
    invoice = world.store.get(f"{PAYER}-{NEXT}-1")
    assert [each.cents for each in invoice.corrections] == [900]
    assert [each.cents for each in invoice.lines] == [0, 500]
    # A payer that has only late rows gets an invoice.
    assert world.store.get(f"{OTHER}-{NEXT}-1").cents == 450


def test_late_usage_that_the_prices_of_its_month_do_not_know_has_those_of_the_month_that_books_it() -> None:
    world = invoiced("200")
    world.come_late(used(gb("1"), 10, usage_type="NatGateway-Bytes"))
    with pytest.raises(IssueRefusedError, match=r"NatGateway-Bytes has no price in aws-list .* which came late"):
        world.issue_next()
    assert world.store.inputs(NEXT) is None
    more = product("NATUSE1", "NatGateway-Bytes", ((None, "0.09"),))
    world.books.put(replace(aws_list(), products=(*aws_list().products, more)))
    world.issue_next()
    assert [each.cents for each in world.store.get(f"{PAYER}-{NEXT}-1").corrections] == [9]


def test_a_month_between_that_is_open_keeps_its_correction_from_being_invoiced() -> None:
    world = invoiced("200")
    world.come_late(used(gb("1"), 10), booked=THIRD)
    with pytest.raises(IssueRefusedError, match="region sa-east-1 has not closed 2026-12"):
        world.issue_next(THIRD)
    assert world.store.inputs(THIRD) is None


def test_a_credit_note_is_the_difference_line_by_line_and_names_its_invoice() -> None:
    world = invoiced("200", "30")
    before = world.store.stored(ID).body
    world.books.put(aws_list("0.08"))
    note = world.crediting.credit(ID, "the price was wrong").invoice
    assert (note.id, note.kind, note.credit_of, note.because) == (SECOND, "credit", ID, "the price was wrong")
    assert (note.month, note.billing_month) == (MONTH, NEXT)
    (line,) = note.lines
    assert (line.rate_code, line.bytes, line.cents) == ("OUTUSE1.JRTCKXETXF.RATE0", 0, -130)
    assert [(part.price, part.bytes) for part in line.parts] == [(800_000_000, gb("130")), (900_000_000, -gb("130"))]
    assert exact_text(note.exact) == "-1.30"
    assert world.store.stored(ID).body == before
    assert not world.verify(SECOND)
    assert [(each.month, each.number) for each in issued_in(world.items, NEXT)] == [(MONTH, 2)]
    found = list(charges(note, world.issuer.composer, world.store))
    assert sum(each.rated.exact for each in found) == note.exact
    assert {(each.corrects, each.credit_of, each.billing_month) for each in found} == {(True, ID, NEXT)}


def test_crediting_twice_gives_nothing_the_second_time() -> None:
    world = invoiced("200")
    with pytest.raises(IssueRefusedError, match="there is no difference between"):
        world.crediting.credit(ID, "for nothing")
    world.books.put(aws_list("0.08"))
    world.crediting.credit(ID, "once")
    with pytest.raises(IssueRefusedError, match=f"no difference between {ID} and {SECOND}"):
        world.crediting.credit(ID, "twice")
    world.books.put(aws_list("0.09"))
    back = world.crediting.credit(ID, "it was right").invoice
    assert back.number == 3
    assert sum(each.cents for each in world.store.list(MONTH)) == world.store.get(ID).cents


def test_cents_of_an_invoice_and_its_credit_notes_are_those_of_the_right_invoice() -> None:
    world = invoiced("100.07")
    for price in ("0.0933", "0.0777", "0.1111", "0.0901"):
        world.books.put(aws_list(price))
        world.crediting.credit(ID, f"now {price}")
        fresh = BillingWorld(prices=aws_list(price))
        fresh.use(used(gb("100.07")))
        fresh.close(MONTH)
        (right,) = fresh.issue(Asked(month=MONTH))
        documents = list(world.store.list(MONTH))
        assert sum(each.cents for each in documents) == right.invoice.cents
        assert sum(each.exact for each in documents) == right.invoice.exact
    assert [each for document in world.store.list(MONTH) for each in world.verify(document.id)] == []


def test_overrides_and_payers_that_were_wrong_are_credited_too() -> None:
    world = BillingWorld()
    world.use(used(gb("200")), used(gb("200"), 1, account=OTHER))
    world.close(MONTH)
    world.issue(Asked(month=MONTH))
    world.organizations.put(paid_by(PAYER, (PAYER, OTHER)))
    world.overrides.append(lambda _: (Override(payer=PAYER, percent_off=50_000, why="contract"),))
    ours = world.crediting.credit(ID, "one payer").invoice
    theirs = world.crediting.credit(f"{OTHER}-{MONTH}-1", "one payer").invoice
    assert theirs.cents == -900
    assert ours.cents == 1350 - 900
    for note in (ours, theirs):
        assert sum(each.rated.exact for each in charges(note, world.issuer.composer, world.store)) == note.exact
        assert not world.verify(note.id)


def test_a_credit_note_of_an_invoice_with_corrections_rates_them_again_too() -> None:
    world = invoiced("200")
    world.come_late(used(gb("100"), 10))
    world.issue_next()
    world.books.put(aws_list("0.08"))
    world.crediting.credit(ID, "November was wrong")
    december = f"{PAYER}-{NEXT}-1"
    note = world.crediting.credit(december, "and what came late for it").invoice
    assert [(each.month, each.cents) for each in note.corrections] == [(MONTH, -100)]
    documents = [*world.store.list(MONTH), *world.store.list(NEXT)]
    assert sum(each.cents for each in documents) == 200 * 8
    assert sum(each.rated.exact for each in charges(note, world.issuer.composer, world.store)) == note.exact
    assert not world.verify(note.id)


@pytest.mark.parametrize(("invoice_id", "because", "why"), [
    (ID, "", "--because has to say why"),
    (ID, "x" * 501, "--because has to say why"),
    (ID, "a\nb", "--because has to say why"),
    (SECOND, "again", f"Name the invoice that it corrects: {ID}"),
])  # fmt: skip
def test_a_credit_note_without_words_or_to_a_credit_note_is_refused(invoice_id: str, because: str, why: str) -> None:
    world = cheaper()
    world.crediting.credit(ID, "once")
    with pytest.raises(IssueRefusedError) as error:
        world.crediting.credit(invoice_id, because)
    assert why in f"{error.value} {error.value.advice}"


def test_a_credit_note_with_a_book_that_lacks_a_price_is_refused() -> None:
    world = invoiced("200")
    world.books.put(replace(aws_list(), products=aws_list().products[1:], allowances=()))
    with pytest.raises(IssueRefusedError, match="has no price"):
        world.crediting.credit(ID, "wrong book")


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_kill_at_any_call_of_credit_leaves_one_credit_note(lost: str) -> None:
    def world_to_credit() -> BillingWorld:
        made = cheaper()
        made.calls = Calls()
        return made

    whole = world_to_credit()
    body = whole.crediting.credit(ID, "why").stored.body
    count = len(whole.calls.names)
    assert count > 10
    for number in range(count):
        for error in (KilledError(), UnavailableError("S3", "no answer")):
            world = world_to_credit()
            getattr(world.calls, lost)[number] = error
            with suppress(KilledError, UnavailableError):
                world.crediting.credit(ID, "why")
            world.calls = Calls()
            with suppress(IssueRefusedError):
                world.crediting.credit(ID, "why")
            assert world.store.stored(SECOND).body == body
            assert world.store.find(MONTH, PAYER, 3) is None
            assert [each.number for each in issued_in(world.items, NEXT)] == [2]


def test_two_who_credit_at_once_credit_one_difference() -> None:
    world = cheaper()
    one, two = world.crediting, world.crediting
    billed = one.billed(world.store.get(ID))
    note = one._note(billed, "one", "")
    two.credit(ID, "two")
    assert world.store.put(note).invoice.because == "two"
    with pytest.raises(IssueRefusedError, match="no difference"):
        one.credit(ID, "one")


@pytest.mark.parametrize(("change", "named"), [
    ("prices/aws-list/1.json", "aws-list"),
    ("prices/overrides/1.json", "overrides"),
    ("organization/1.json", "organization"),
    (f"invoices/{MONTH}/{PAYER}/1.json", f"{PAYER}/1.json"),
    (f"invoices/{MONTH}/{PAYER}/2.json", f"{PAYER}/2.json"),
])  # fmt: skip
def test_one_byte_of_an_input_that_changed_is_named(change: str, named: str) -> None:
    world = BillingWorld()
    world.overrides.append(lambda _: (Override(payer=PAYER, percent_off=1_000, why="contract"),))
    world.organizations.put(paid_by(PAYER, ()))
    world.use(used(gb("200")))
    world.close(MONTH)
    world.issue(Asked(month=MONTH))
    world.books.put(aws_list("0.08"))
    world.crediting.credit(ID, "why")
    assert (world.verify(ID), world.verify(SECOND)) == ([], [])
    body = world.objects.get(change)
    digit = body.rindex(b"1")
    world.objects.put(change, body[:digit] + b"2" + body[digit + 1 :], if_absent=False)
    problems = [*world.verify(ID), *world.verify(SECOND)]
    assert problems
    assert any(named in each for each in problems)


def test_a_closed_month_that_is_another_one_is_named() -> None:
    world = invoiced("200")
    world.usage.digests[MONTH, "us-east-1"] = "other"
    assert "the closed month 2026-11 of us-east-1 has SHA-256 other" in world.verify(ID)[0]
    world.usage.digests[MONTH, "us-east-1"] = "digest of 2026-11 in us-east-1"
    world.usage.damaged = ["closed/2026-11/2026-11-01T00.parquet has other bytes"]
    assert world.verify(ID) == world.usage.damaged


def test_usage_that_differs_although_every_input_looks_the_same_is_noticed() -> None:
    world = invoiced("200")
    world.use(used(1, 5))
    assert "is not what its inputs make: its line us-east-1" in world.verify(ID)[0]


def test_bytes_that_late_rows_move_from_one_account_to_another_are_shares_of_a_line_of_nothing() -> None:
    world = BillingWorld()
    world.organizations.put(paid_by(PAYER, (PAYER, OTHER)))
    # If an account has its own override for the product, late usage is rated at its place in time.
    world.overrides.append(lambda _: (Override(account=OTHER, no_allowance=True, from_s=0),))
    world.use(used(gb("10000"), 1, account=PAYER), used(gb("1000"), 9, account=OTHER))
    world.close(MONTH)
    world.issue(Asked(month=MONTH))
    world.come_late(used(gb("2000"), 5, account=PAYER))
    world.issue_next()
    invoice = world.store.get(f"{PAYER}-{NEXT}-1")
    by_account: Counter[str] = Counter()
    for each in charges(invoice, world.issuer.composer, world.store):
        by_account[each.rated.line.account_id] += each.rated.exact
    assert {each.account_id: each.exact for each in invoice.accounts} == {k: v for k, v in by_account.items() if v}
    assert [(each.rate_code[-5:], each.bytes) for each in invoice.corrections] == [("RATE0", 0), ("RATE1", gb("2000"))]
    assert not world.verify(invoice.id)
