"""Invoices: their content, refusals, and one document per invoice despite faults while it is issued."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from metering.billing.budgets.open_months import DaySummaries, Group, Grouping, PayerMonth
from metering.billing.invoices.composing import charges, region_of
from metering.billing.invoices.document import InvoiceMissingError, invoice_bytes, read_invoice
from metering.billing.invoices.inputs import Loaded
from metering.billing.invoices.issuing import Asked, IssueRefusedError
from metering.billing.money import exact_text
from metering.billing.organization import read_organization
from metering.billing.payers import Membership, Organization, Payer
from metering.billing.prices.book import NotSold, Override, PriceBook
from metering.billing.rating.payer_prices import PayerPrices
from metering.errors import LedgerCorruptError, OperationFailedError, UnavailableError
from metering.ledger.notes.money import issued_in
from metering.units import DAY_S
from tests.support.billing_world import MONTH, OUT, PAYER, SAO_PAULO, BillingWorld, aws_list
from tests.support.memory.clock import ManualClock
from tests.support.priced import BEGIN_S, gb, paid_by, product, sold, used
from tests.support.small_world import Calls, KilledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from metering.billing.day_sums.days import SummedMonth
    from metering.billing.usage.months import Sold
    from metering.stores.objects import ObjectStore

ID = f"{PAYER}-{MONTH}-1"
OTHER = "222222222222"
THIRD = "333333333333"
ALL = Asked(month=MONTH)


def closed_world() -> BillingWorld:
    """A payer of two accounts, whose usage crosses a tier and is in two regions, and a self-paying account."""
    world = BillingWorld()
    world.organizations.put(paid_by(PAYER, (PAYER, OTHER)))
    world.use(used(gb("6000"), 0, account=PAYER), used(gb("6000"), 30, account=OTHER), used(gb("1"), 40, account=THIRD))
    world.use(used(gb("60"), 50, account=OTHER, usage_type=SAO_PAULO), region="sa-east-1")
    world.close(MONTH)
    return world


def test_an_invoice_has_a_line_a_region_and_rate_code_with_cents_and_says_who_has_what_of_it() -> None:
    world = closed_world()
    one, third = (each.invoice for each in world.issue(ALL))
    assert (one.id, one.payer_name, third.id) == (ID, "Example", f"{THIRD}-{MONTH}-1")
    assert [(each.region, each.rate_code, each.bytes, each.cents) for each in one.lines] == [
        ("sa-east-1", "OUTSAE1.A429C66SYZ.FREE", gb("60"), 0),
        ("us-east-1", "OUTUSE1.A429C66SYZ.FREE", gb("40"), 0),
        ("us-east-1", "OUTUSE1.JRTCKXETXF.RATE0", gb("10240"), 92_160),
        ("us-east-1", "OUTUSE1.JRTCKXETXF.RATE1", gb("1720"), 14_620),
    ]
    assert (one.cents, exact_text(one.exact), one.rounding) == (106_780, "1067.80", 0)
    assert {each.account_id: exact_text(each.exact) for each in one.accounts} == {PAYER: "536.40", OTHER: "531.40"}
    assert sum(each.bytes for each in one.accounts) == sum(each.bytes for each in one.lines) == gb("12060")
    assert (third.cents, third.exact) == (0, 0)


def test_cents_are_those_of_lines_and_the_difference_to_the_exact_sum_is_said() -> None:
    world = BillingWorld()
    # 0.045 and 0.025 USD are rounded to 0.05 + 0.03, and are not summed to 0.07.
    world.use(used(gb("0.5"), 0), used(gb("0.03125"), 1, usage_type="X"))
    products = (*aws_list().products[:1], product("XSKU", "X", ((None, "0.8"),)))
    world.books.put(replace(aws_list(), allowances=(), products=products))
    world.close(MONTH)
    invoice = world.issue(ALL)[0].invoice
    assert [each.cents for each in invoice.lines] == [5, 3]
    assert (invoice.cents, exact_text(invoice.exact)) == (8, "0.07")
    assert invoice.cents * 10**8 * 2**30 - invoice.exact == invoice.rounding


def test_the_document_is_read_as_it_was_written_and_any_other_byte_is_noticed() -> None:
    world = closed_world()
    for stored in world.issue(ALL):
        body = stored.stored.body
        assert read_invoice(body, "key") == stored.invoice
        assert invoice_bytes(stored.invoice) == body
    body = world.store.stored(ID).body
    for place in range(0, len(body), 37):
        changed = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        try:
            other = read_invoice(changed, "key")
        except LedgerCorruptError:
            continue
        assert other != world.store.get(ID)


@pytest.mark.parametrize(("place", "name"), [
    (("lines", 0, "prices", 0, 0), "prices[0]: price_usd"),
    (("lines", 0, "prices", 0, 1), "prices[0]: list_price_usd"),
    (("accounts", 0, "lines", 0, 2), "lines[0]: exact_usd"),
], ids=lambda each: each if isinstance(each, str) else None)  # fmt: skip
def test_damage_in_a_row_of_a_document_names_the_column_of_the_contract(
    place: tuple[str | int, ...], name: str
) -> None:
    world = closed_world()
    world.issue(ALL)
    document = parent = json.loads(world.store.stored(ID).body)
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = 7
    with pytest.raises(LedgerCorruptError, match=re.escape(f"{name} is 7, and should be text")):
        read_invoice(json.dumps(document).encode(), "key")


def test_charges_of_an_invoice_add_up_to_its_lines() -> None:
    world = closed_world()
    invoice = world.issue(ALL)[0].invoice
    sums: dict[tuple[str, str], int] = {}
    for charge in charges(invoice, world.issuer.composer, world.store):
        assert (charge.invoice_id, charge.billing_month, charge.corrects) == (ID, MONTH, False)
        assert charge.region == region_of(charge.rated.line)
        key = (charge.region, charge.rated.rate_code)
        sums[key] = sums.get(key, 0) + charge.rated.exact
    assert sums == {(line.region, line.rate_code): line.exact for line in invoice.lines}


@pytest.mark.parametrize(("change", "why"), [
    (lambda w: w.usage.digests.pop((MONTH, "us-east-1")), "region us-east-1 has not closed 2026-11"),
    (lambda w: setattr(w.usage, "left_out", {"sa-east-1": "no answer"}), "region sa-east-1 cannot be read (no answer)"),
    (lambda w: w.use(*(used(1, 5, usage_type="NatGateway-Bytes", account=who) for who in (OTHER, THIRD))),
     "AmazonEC2 NatGateway-Bytes has no price in aws-list"),
    (lambda w: setattr(w, "clock", ManualClock(1_795_000_000_000)), "it ends on 2026-12-01T00:00:00Z"),
])  # fmt: skip
def test_an_invoice_is_refused_with_the_reason_and_the_cure_and_nothing_is_written(
    change: Callable[[BillingWorld], object], why: str
) -> None:
    world = closed_world()
    change(world)
    before = len(list(world.objects.list("")))
    with pytest.raises(IssueRefusedError, match="is not issued") as error:
        world.issue(ALL)
    assert why in str(error.value)
    assert error.value.advice
    assert len(list(world.objects.list(""))) == before
    assert not list(issued_in(world.items, MONTH))


NAT = product("NATUSE1", "NatGateway-Bytes", ((None, "0.045"),))
WITH_NAT = replace(aws_list(), products=(*aws_list().products, NAT))


def blocked_world() -> BillingWorld:
    """Three payers; one of them has usage that has no price in the book."""
    world = closed_world()
    world.use(used(gb("2"), 6, account=THIRD, usage_type="NatGateway-Bytes"))
    return world


def issue_what_can_be(world: BillingWorld) -> None:
    with suppress(IssueRefusedError):
        world.issue(ALL)


def issued_ids(world: BillingWorld) -> list[str]:
    return [each.id for each in world.store.list(MONTH)]


def test_usage_without_a_price_blocks_only_the_payer_that_has_it_and_the_message_says_the_command() -> None:
    world = blocked_world()
    with pytest.raises(IssueRefusedError) as error:
        world.issue(ALL)
    assert issued_ids(world) == [ID], "payers without that usage have no invoice"
    assert world.issuer.is_issued(world.store.get(ID))
    assert f"{MONTH} of {THIRD} is not issued" in str(error.value)
    assert "metering prices import" in error.value.advice
    with pytest.raises(IssueRefusedError, match="NatGateway-Bytes has no price"):
        world.issue(Asked(month=MONTH, payer_id=THIRD))
    assert [each.new for each in world.issue(Asked(month=MONTH, payer_id=PAYER))] == [False]


def test_a_blocked_payer_is_invoiced_once_its_price_is_imported_and_what_was_issued_stays() -> None:
    world = blocked_world()
    issue_what_can_be(world)
    before = world.store.stored(ID).body
    world.books.put(WITH_NAT)
    draft = world.issuer.draft(THIRD, MONTH)
    first, third = world.issue(replace(ALL, drafted=""))
    assert (first.new, first.stored.body, third.new) == (False, before, True)
    assert [(each.sku, each.cents) for each in third.invoice.lines] == [("NATUSE1", 9), ("OUTUSE1", 0)]
    assert draft.inputs == third.invoice.inputs
    assert not [*world.verify(ID), *world.verify(third.invoice.id)]
    # Costs and later documents use one price book for all payers of the month.
    assert world.store.inputs(MONTH) == third.invoice.inputs
    assert [each.new for each in world.issue(ALL)] == [False, False]


USED, GONE = aws_list().products, product("GONEUSE1", "Gone-Bytes", ((None, "0.01"),))
FREE = product("FREEUSE1", "Free-Bytes", ((None, "0.01"),))
KNOWN = replace(aws_list(), products=(*USED, GONE), not_sold=(NotSold(pattern="Free-Bytes", why="Not sold."),))


@pytest.mark.parametrize("book", [
    replace(KNOWN, products=(*aws_list("0.08").products, GONE, NAT)),
    replace(KNOWN, products=(*USED, GONE, NAT), allowances=()), replace(KNOWN, products=(*USED, NAT)),
    replace(KNOWN, products=(*USED, GONE, NAT, FREE)),
], ids=["another price", "no allowance", "a product is gone", "sold, and was not"])  # fmt: skip
def test_a_later_book_that_says_something_else_of_what_was_issued_is_not_taken_for_the_month(book: PriceBook) -> None:
    world = blocked_world()
    world.books.put(KNOWN)
    issue_what_can_be(world)
    world.books.put(book)
    with pytest.raises(IssueRefusedError, match="NatGateway-Bytes has no price in aws-list version 2"):
        world.issue(ALL)
    assert issued_ids(world) == [ID]


def test_a_rule_that_says_that_it_is_not_sold_lets_the_payer_be_invoiced_too() -> None:
    world = blocked_world()
    issue_what_can_be(world)
    rule = NotSold(pattern="NatGateway-Bytes", why="Our NAT gateways are our own.")
    world.books.put(replace(aws_list(), not_sold=(*aws_list().not_sold, rule)))
    _, third = world.issue(ALL)
    assert [(each.usage_type, each.bytes) for each in third.invoice.unrated] == [("NatGateway-Bytes", gb("2"))]


def issued_with_losses(make: Callable[[], BillingWorld], lost: str, error: BaseException) -> Iterator[BillingWorld]:
    """Per call of issuing, a world that lost the call, retried, and issued the same documents as without a loss."""
    whole = make()
    whole.calls = Calls()
    bodies = [each.stored.body for each in whole.issue(ALL)]
    assert len(whole.calls.names) > 20
    for number in range(len(whole.calls.names)):
        world = make()
        world.calls = Calls()
        getattr(world.calls, lost)[number] = error
        with suppress(KilledError, UnavailableError):
            assert [each.stored.body for each in world.issue(ALL)] == bodies
        world.calls = Calls()
        assert [each.stored.body for each in world.issue(ALL)] == bodies
        yield world


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_kill_at_any_call_leaves_a_blocked_payer_one_document_once_it_has_its_price(lost: str) -> None:
    def world_with_price() -> BillingWorld:
        world = blocked_world()
        issue_what_can_be(world)
        world.books.put(WITH_NAT)
        return world

    for world in issued_with_losses(world_with_price, lost, KilledError()):
        assert [info.key for info in world.objects.list(f"invoices/{MONTH}/inputs")] == [
            f"invoices/{MONTH}/inputs-2.json", f"invoices/{MONTH}/inputs.json",
        ]  # fmt: skip


def test_a_book_that_is_only_for_trying_must_be_named() -> None:
    world = closed_world()
    with pytest.raises(OperationFailedError, match="no price book acme"):
        world.issue(replace(ALL, book="acme"))
    assert world.issue(replace(ALL, book="sample"))[0].invoice.inputs.rates[MONTH].book.name == "sample"


def test_a_region_that_is_added_later_holds_a_month_until_it_closed_it_because_late_rows_of_it_may_come_there() -> None:
    world = closed_world()
    world.usage.regions = ("eu-west-1", *world.usage.regions)
    with pytest.raises(IssueRefusedError, match="region eu-west-1 has not closed 2026-11") as error:
        world.issue(ALL)
    assert "metering period close 2026-11 --region eu-west-1" in error.value.advice
    world.close(MONTH, "eu-west-1")
    assert [each.invoice.id for each in world.issue(ALL)] == [ID, f"{THIRD}-{MONTH}-1"]


def test_a_document_that_was_put_and_not_recorded_is_not_issued_and_says_so() -> None:
    world = closed_world()
    world.calls = Calls()
    world.calls.refuse["items.put"] = UnavailableError("DynamoDB", "no answer")
    with pytest.raises(UnavailableError):
        world.issue(ALL)
    world.calls = Calls()
    invoice = world.store.get(ID)
    assert not world.issuer.is_issued(invoice)
    assert "the ledger does not say that it was issued" in world.verify(ID)[0]
    world.issue(ALL)
    assert world.issuer.is_issued(invoice)
    assert not world.verify(ID)


def test_months_with_documents_are_listed_without_reading_them() -> None:
    world = closed_world()
    assert list(world.store.months()) == []
    world.issue(ALL)
    world.use(used(gb("1"), 800), month="2026-12")
    world.issue_next()
    assert list(world.store.months()) == [MONTH, "2026-12"]


def test_a_draft_says_what_it_is_without_and_is_never_final() -> None:
    world = closed_world()
    world.use(used(7, 5, usage_type="NatGateway-Bytes"))
    world.usage.digests.pop((MONTH, "us-east-1"))
    world.usage.left_out = {"sa-east-1": "no answer"}
    draft = world.issuer.draft(PAYER, MONTH)
    assert (draft.draft, draft.id) == (True, ID)
    assert [each.region for each in draft.left_out] == ["sa-east-1", "us-east-1"]
    assert [(each.usage_type, each.bytes) for each in draft.unpriced] == [("NatGateway-Bytes", 7)]
    with pytest.raises(ValueError, match="is a draft"):
        world.store.put(draft)
    with pytest.raises(OperationFailedError, match="2027-03 has not begun"):
        world.issuer.draft(PAYER, "2027-03")


def test_a_book_that_changed_between_draft_and_issue_is_noticed() -> None:
    world = closed_world()
    draft = world.issuer.draft(PAYER, MONTH)
    world.books.put(aws_list("0.08"))
    with pytest.raises(IssueRefusedError, match="the draft had the inputs"):
        world.issue(Asked(month=MONTH, payer_id=PAYER, drafted=draft.inputs.digest))
    assert world.store.inputs(MONTH) is None
    again = world.issuer.draft(PAYER, MONTH)
    issued = world.issue(Asked(month=MONTH, payer_id=PAYER, drafted=again.inputs.digest))[0].invoice
    assert replace(again, draft=False, left_out=()) == issued


def test_all_invoices_of_a_month_have_the_prices_and_payers_of_the_first() -> None:
    world = closed_world()
    first = world.issue(Asked(month=MONTH, payer_id=PAYER))[0].invoice
    world.books.put(aws_list("0.08"))
    world.organizations.put(Organization())
    assert [each.new for each in world.issue(ALL)] == [False, True]
    assert world.store.get(f"{THIRD}-{MONTH}-1").inputs.rates == first.inputs.rates
    with pytest.raises(IssueRefusedError, match="have the prices of aws-list version 1, for all payers"):
        world.issue(replace(ALL, book="sample"))


def test_what_was_issued_is_issued_again_with_the_same_bytes() -> None:
    world = closed_world()
    before = [each.stored.body for each in world.issue(ALL)]
    world.clock.advance_s(86_400)
    again = world.issue(ALL)
    assert [each.stored.body for each in again] == before
    assert [each.new for each in again] == [False, False]
    assert [each.payer_id for each in issued_in(world.items, MONTH)] == [PAYER, THIRD]
    assert [each.payer_id for each in issued_in(world.items, MONTH, THIRD)] == [THIRD]


def test_two_who_issue_at_once_issue_one_document() -> None:
    world = closed_world()
    one, two = world.issuer, world.issuer
    alone = closed_world()
    alone.issue(ALL)
    steps = [one.issue(ALL), two.issue(ALL)]
    bodies = [next(step).stored.body for step in (*steps, *reversed(steps))]
    assert bodies[0] == bodies[1] == alone.store.stored(ID).body
    assert bodies[2] == bodies[3]
    assert not world.verify(ID)


def test_an_issuer_with_another_book_at_the_same_moment_takes_what_stands() -> None:
    world = closed_world()
    late = world.issuer
    shared = late.planner.shared(MONTH, late.composer.shelf.newest("aws-list"))
    world.books.put(aws_list("0.08"))
    world.issue(ALL)
    assert late.store.put_inputs(MONTH, shared).rates[MONTH].book.version == 2


@pytest.mark.parametrize("error", [KilledError(), UnavailableError("S3", "no answer")], ids=["killed", "no answer"])
@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_lost_call_or_reply_of_issue_leaves_one_document_and_the_next_run_ends_it(
    lost: str, error: BaseException
) -> None:
    keys = [f"invoices/{MONTH}/{PAYER}/1.json", f"invoices/{MONTH}/{THIRD}/1.json", f"invoices/{MONTH}/inputs.json"]
    for world in issued_with_losses(closed_world, lost, error):
        assert [each.payer_id for each in issued_in(world.items, MONTH)] == [PAYER, THIRD]
        assert [info.key for info in world.objects.list(f"invoices/{MONTH}/")] == keys
        assert not world.verify(ID)


def test_an_account_belongs_to_one_payer_in_each_hour() -> None:
    world = BillingWorld()
    hour_s = BEGIN_S + 5 * 3600
    p = Payer(payer_id=PAYER, name="P", issuer="I", members=(Membership(OTHER, 0, hour_s),))
    q = Payer(payer_id=THIRD, name="Q", issuer="I", members=(Membership(OTHER, hour_s, None),))
    world.organizations.put(Organization(payers=(p, q)))
    world.use(used(gb("150"), 4, account=OTHER), used(gb("250"), 5, account=OTHER))
    world.close(MONTH)
    assert [(each.invoice.payer_id, each.invoice.cents) for each in world.issue(ALL)] == [(PAYER, 450), (THIRD, 1350)]


@pytest.mark.parametrize("name", ["", "x", "111111111111-2026-11-0", f"{PAYER}-2026-11-2", "1-2-3", f"{ID}/../x"])
def test_an_id_that_names_nothing_is_told_in_a_sentence(name: str) -> None:
    world = closed_world()
    world.issue(ALL)
    with pytest.raises(InvoiceMissingError):
        world.store.get(name)


def test_a_document_that_was_changed_after_it_was_issued_is_not_issued_again() -> None:
    world = closed_world()
    world.issue(ALL)
    key = f"invoices/{MONTH}/{PAYER}/1.json"
    body = world.objects.get(key)
    world.objects.put(key, body.replace(b'"Example"', b'"Exampel"'), if_absent=False)
    with pytest.raises(LedgerCorruptError, match="was issued"):
        world.issue(ALL)
    assert "was issued had" in world.verify(ID)[0]


def test_usage_that_is_not_sold_is_shown_and_no_obstacle() -> None:
    world = BillingWorld()
    world.books.put(replace(aws_list(), not_sold=(NotSold(pattern="Unclassified-Out-Bytes", why="nobody knows"),)))
    world.use(used(gb("7"), 3, usage_type="Unclassified-Out-Bytes"), used(gb("7"), 3, usage_type=OUT))
    world.close(MONTH)
    [unrated] = world.issue(ALL)[0].invoice.unrated
    assert (unrated.usage_type, unrated.region, unrated.bytes) == ("Unclassified-Out-Bytes", "us-east-1", gb("7"))


# Functions over payers and accounts must take linear time: each has a limit of CPU time that quadratic code exceeds.
MANY = 16_000
PAYERS = [f"{number:012d}" for number in range(1, MANY + 1)]
SOLD = sold("DataTransfer-Out-Bytes")


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    begun = time.process_time()
    yield
    assert (took := time.process_time() - begun) < seconds, f"{took:.1f} s of CPU for {MANY:,} payers"


@pytest.fixture(scope="module")
def organization() -> Organization:
    """The organization is read in one pass. X6: the reading filtered all members once for each payer."""
    payers = [{"id": each, "name": each, "issuer": "me"} for each in PAYERS]
    accounts = [{"id": each, "payer": each, "from": "2026-01-01T00:00:00Z"} for each in PAYERS]
    body = json.dumps({"payers": payers, "accounts": accounts}).encode()
    with at_most(1.5):
        read = read_organization(body, "it")
    assert [each.members[0].account_id for each in read.payers] == PAYERS
    return read


def test_each_payer_and_its_accounts_are_found_without_a_look_at_the_others(organization: Organization) -> None:
    """X6: drafts, invoices, exports and costs each look up every one of their payers."""
    with at_most(1.5):
        found = [(organization.payer(each).name, organization.accounts_of(each)) for each in PAYERS]
    assert found == [(each, frozenset({each})) for each in PAYERS]


def test_prices_of_each_payer_are_found_without_a_look_at_the_overrides_of_others(organization: Organization) -> None:
    """X6, with the maximum of 10,000 overrides."""
    of_payers = (Override(payer=each, percent_off=10_000, from_s=0) for each in PAYERS[:5_000])
    of_accounts = (Override(account=each, percent_off=5_000, from_s=0) for each in PAYERS[2_500:7_500])
    overrides = (*of_payers, *of_accounts)
    loaded = Loaded(book=cast("PriceBook", None), overrides=overrides, organization=organization)
    with at_most(1.5):
        own = [loaded.prices(each).overrides for each in PAYERS]
    assert [len(each) for each in own] == [1] * 2_500 + [2] * 2_500 + [1] * 2_500 + [0] * (MANY - 7_500)
    assert own[2_500] == PayerPrices.of(loaded.book, organization, PAYERS[2_500], overrides).overrides
    assert [bool(each.payer) for each in own[2_500]] == [True, False]


class KeptDay(DaySummaries):
    """Sums of a day that were stored before."""

    def of(self, region: SummedMonth, day_s: int) -> Mapping[Group, Mapping[Sold, int]]:
        return SUMS


SUMS = {Group(each, ""): {SOLD: number} for number, each in enumerate(PAYERS)} | {Group("1" * 12, PAYERS[3]): {SOLD: 5}}


def test_the_usage_of_each_payer_for_budgets_is_found_without_a_look_at_that_of_others(
    organization: Organization,
) -> None:
    """X6: a budget over all payers looks up the usage of each payer."""
    grouping = Grouping(organization=organization, payers=None, apart=frozenset())
    summaries = KeptDay(objects=cast("ObjectStore", None), grouping=grouping)
    month = PayerMonth(
        payer_id="", month=MONTH, regions=[cast("SummedMonth", None)], summaries=summaries, organization=organization
    )
    with at_most(1.5):
        found = [size for each in PAYERS for *_, size in replace(month, payer_id=each).parts([DAY_S])]
    assert found == list(range(MANY))
