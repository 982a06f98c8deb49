"""Law: despite late usage, credits and interruptions, the sum of all documents equals one rating of all usage.

A history closes and invoices months in order. Meanwhile, rows of earlier months arrive late, prices change, and credit
notes are issued. A run that issues or credits may be killed at a call or lose a reply; the run is then repeated.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from metering.billing.invoices.issuing import Asked, IssueRefusedError
from metering.billing.money import cents_of
from metering.billing.rating.corrections import LateUsage, Together
from metering.errors import UnavailableError
from metering.hours import month_bounds_s
from metering.units import HOUR_S
from tests.support.billing_world import OUT, PAYER, REGIONS, SAO_PAULO, BillingWorld, aws_list
from tests.support.examples import examples
from tests.support.priced import exact_total, gb, paid_by, used
from tests.support.small_world import Calls, KilledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.billing.invoices.document import Invoice

MONTHS = ("2026-11", "2026-12", "2027-01")
ACCOUNTS = (PAYER, "222222222222", "333333333333")
PRICES = ("0.09", "0.0713", "0.11")


class Use(NamedTuple):
    """Bytes of an account in an hour of a month; they arrive `later` months late."""

    month: int
    later: int
    hour: int
    account: str
    usage_type: str
    size_bytes: int


class Trouble(NamedTuple):
    """A fault at one call of a run."""

    call: int
    killed: bool
    applied: bool


USES = st.builds(
    Use,
    month=st.integers(0, 2),
    later=st.integers(0, 2),
    hour=st.integers(0, 600),
    account=st.sampled_from(ACCOUNTS),
    usage_type=st.sampled_from((OUT, SAO_PAULO)),
    size_bytes=st.one_of(st.integers(1, 3), st.sampled_from([gb("60"), gb("100"), gb("5000")])),
)
TROUBLES = st.lists(st.builds(Trouble, st.integers(0, 60), st.booleans(), st.booleans()), min_size=1, max_size=8)


class History:
    """A region with its invoices, and the remaining faults for its runs."""

    def __init__(self, uses: list[Use], troubles: list[Trouble]) -> None:
        self.world = BillingWorld()
        self.world.organizations.put(paid_by(PAYER, ACCOUNTS[:2]))
        self._troubles = troubles
        for each in uses:
            self._use(each)

    def _use(self, use: Use) -> None:
        first_s = month_bounds_s(MONTHS[use.month])[0]
        line = used(use.size_bytes, account=use.account, usage_type=use.usage_type)
        line = line._replace(hour_s=first_s + use.hour * HOUR_S)
        booked = MONTHS[min(use.month + use.later, len(MONTHS) - 1)]
        region = REGIONS[use.usage_type == OUT]
        if booked == MONTHS[use.month]:
            self.world.use(line, month=booked, region=region)
        else:
            self.world.come_late(line, booked=booked, region=region)

    def run(self, job: Callable[[], object]) -> None:
        """Run a job with the next fault, if one remains, and then again without faults."""
        if self._troubles:
            self.world.calls = Calls()
            trouble = self._troubles.pop()
            errors = self.world.calls.after if trouble.applied else self.world.calls.before
            errors[trouble.call] = KilledError() if trouble.killed else UnavailableError("S3", "no answer")
            with suppress(KilledError, UnavailableError, IssueRefusedError):
                job()
        self.world.calls = Calls()
        with suppress(IssueRefusedError):
            job()

    def issue(self, month: str) -> None:
        self.world.close(month)
        self.world.pass_month(month)
        self.run(partial(self.world.issue, Asked(month=month)))

    def documents(self) -> list[Invoice]:
        return [each for month in MONTHS for each in self.world.store.list(month)]

    def add_up(self) -> list[Invoice]:
        """Verify all documents, compare each month and payer with one rating of all usage, and return the documents."""
        documents = self.documents()
        for month in MONTHS:
            for payer_id in (PAYER, ACCOUNTS[2]):
                assert billed(documents, month, payer_id) == self.exact_of(month, payer_id)
        assert [problem for each in documents for problem in self.world.verify(each.id)] == []
        return documents

    def exact_of(self, month: str, payer_id: str) -> int:
        """Exact cost of all usage of a month that has arrived so far, at the prices in force."""
        issuer = self.world.issuer
        rates = issuer.composer.shelf.newest("aws-list")
        late = [
            each.line
            for booked in MONTHS
            for each in issuer.composer.booked_in(booked, rates).corrections(payer_id)
            if each.month == month
        ]
        frozen = issuer.composer.booked_in(month, rates).of(payer_id)
        prices = issuer.composer.shelf.load(rates).prices(payer_id)
        return exact_total(prices, Together(frozen, LateUsage(month, late)))


def billed(documents: list[Invoice], month: str, payer_id: str) -> int:
    """Exact cost of a month's usage over all documents."""
    return sum(
        line.exact
        for document in documents
        if document.payer_id == payer_id
        for line in document.all_lines
        if line.month == month
    )


@examples(100)
@given(uses=st.lists(USES, min_size=1, max_size=10), troubles=TROUBLES)
def test_invoices_with_their_corrections_add_up_to_one_rating_of_everything(
    uses: list[Use], troubles: list[Trouble]
) -> None:
    history = History(uses, troubles)
    for month in MONTHS:
        history.issue(month)
    documents = history.add_up()
    assert all(line.cents == cents_of(line.exact) for each in documents for line in each.all_lines)


@examples(100)
@given(uses=st.lists(USES, min_size=1, max_size=8), troubles=TROUBLES, prices=st.lists(st.sampled_from(PRICES)))
def test_credit_notes_bring_all_documents_to_the_pricesin_force(
    uses: list[Use], troubles: list[Trouble], prices: list[str]
) -> None:
    history = History(uses, troubles)
    world = history.world
    for number, month in enumerate(MONTHS):
        history.issue(month)
        if number < len(prices):
            world.books.put(aws_list(prices[number]))
    invoices = [each for each in history.documents() if each.kind == "invoice"]
    before = {each.id: world.store.stored(each.id).body for each in invoices}
    for _ in range(2):
        # The second pass has nothing left to credit.
        for each in invoices:
            history.run(partial(world.crediting.credit, each.id, "prices changed"))
    documents = history.add_up()
    assert all(world.store.stored(name).body == body for name, body in before.items())
    assert len(documents) <= 2 * len(invoices)


def test_a_history_bills_each_payer_what_the_law_compares() -> None:
    history = History([Use(0, 0, 3, PAYER, OUT, gb("5000")), Use(0, 1, 4, ACCOUNTS[2], OUT, gb("60"))], [])
    for month in MONTHS[:2]:
        history.world.issue_next(month)
    assert [each.payer_id for each in history.documents()] == [PAYER, ACCOUNTS[2]]
    assert [each.month for each in history.documents()] == [*MONTHS[:2]]
    assert billed(history.documents(), MONTHS[0], PAYER) == 4900 * 9 * 10**8 * 2**30
