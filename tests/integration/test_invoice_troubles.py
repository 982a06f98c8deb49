"""Kill matrix and lost-reply matrix of issuing and crediting, with the real adapters on MiniStack.

One run without faults records every call. Then each call gets each fault in turn, in a new region with a closed month.
At the end, each payer has one invoice, and one credit note exists, byte-equal to a run without faults.
"""

import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from metering.billing.invoices.credits import Crediting
from metering.billing.invoices.issuing import Asked, Issuer, IssueRefusedError
from metering.billing.prices.store import PriceStore
from metering.ledger.notes.money import issued_in
from metering.wiring.billing import StageUsage, build_issuer, build_verification
from tests.integration.bench import EACH_JOB_VARIANT, Bench, Matrix
from tests.integration.region import LATE_START, Region, Scenario, body, delivery, record
from tests.support.priced import US_TIERS, allowance, book, gb, product
from tests.support.wire import Trouble

pytestmark = pytest.mark.emulator

MONTH = "2026-10"
PAYERS = ("000000000001", "000000000002")
FIRST = f"{PAYERS[0]}-{MONTH}-1"
KILLS = 20
NOTHING = Scenario([], {}, set())


def put_prices(region: Region, first: str) -> None:
    sold = product("OUTUSE1", "DataTransfer-Out-Bytes", (("10240", first), *US_TIERS[1:]))
    PriceStore(region.objects).put(replace(book([sold], allowance("100", "OUTUSE1")), name="aws-list"))


def prepare(_bench: Bench, region: Region) -> Scenario:
    """October is closed, with usage of two payers."""
    records = [record(1, gb("300"), start=LATE_START), record(2, gb("150"), start=LATE_START)]
    assert region.handle([delivery("b1", body("b1", records))]).retry == ()
    region.jobs().closer.close(MONTH, region.deadline())
    put_prices(region, "0.09")
    return NOTHING


def issuer_of(region: Region) -> Issuer:
    """An issuer, as in a new process."""
    jobs = region.jobs()
    # The attributes of the connection that the jobs need.
    home: Any = SimpleNamespace(
        region="us-east-1", items=region.items, objects=region.objects, view=jobs.view, jobs=jobs
    )
    return build_issuer(home, StageUsage([home]))


def issue(region: Region) -> None:
    assert len(list(issuer_of(region).issue(Asked(month=MONTH)))) == len(PAYERS)


def credit(region: Region) -> None:
    """Issue, change prices, and credit the difference; a rerun resumes the rest."""
    issue(region)
    put_prices(region, "0.08")
    with suppress(IssueRefusedError):
        Crediting(issuer=issuer_of(region)).credit(FIRST, "The price was wrong.")


def documents(run: Callable[[Region], None], expected: dict[str, list[int]]) -> Matrix:
    """Matrix for a job; `expected` has the numbers of the job's documents by payer."""

    def wrong(region: Region, _made: Scenario) -> list[str]:
        """Documents that are missing, surplus, unrecorded or unequal to a rebuild from their inputs."""
        parts = issuer_of(region)
        found = list(parts.store.list(MONTH))
        numbers = {payer: [each.number for each in found if each.payer_id == payer] for payer in PAYERS}
        wrong = [] if numbers == expected else [f"documents: {numbers}"]
        billed = {each.billing_month for each in found}
        recorded = [each for month in sorted(billed) for each in issued_in(region.items, month)]
        if len(recorded) != len(found):
            wrong.append(f"{len(recorded)} of {len(found)} documents are recorded")
        verification = build_verification(parts)
        return [*wrong, *(problem for each in found for problem in verification.verify(each.id))]

    return Matrix(prepare, run, wrong)


ISSUE = documents(issue, {payer: [1] for payer in PAYERS})
CREDIT = documents(credit, {PAYERS[0]: [1, 2], PAYERS[1]: [1]})
# Crediting starts with issuing, so it makes every call of both; `make matrix` also tries issuing alone.
JOBS = {"issue": ISSUE, "credit": CREDIT} if os.environ.get("METERING_EVERY_CALL") else {"credit": CREDIT}


@EACH_JOB_VARIANT
@pytest.mark.parametrize("jobs", JOBS.values(), ids=JOBS)
def test_troubles_at_any_call_leave_one_invoice_a_payer_and_one_credit_note(
    bench: Bench, jobs: Matrix, trouble: Trouble, very_late: bool
) -> None:
    assert jobs.wrong(bench, trouble, very_late=very_late) == {}


def test_issue_that_is_killed_twenty_times_at_a_random_call_gives_the_bytes_of_a_calm_run(bench: Bench) -> None:
    calm = Region(bench.clients)
    prepare(bench, calm)
    count = len(bench.calls_of(lambda: issue(calm)))
    chance = random.Random(14)
    region = Region(bench.clients)
    prepare(bench, region)
    for _ in range(KILLS):
        death = chance.choice([Trouble.KILLED_BEFORE, Trouble.KILLED_AFTER])
        bench.befall(chance.randrange(count), death, lambda: issue(region))
    issue(region)
    assert ISSUE.at_the_end(region, NOTHING) == []
    parts, others = issuer_of(region), issuer_of(calm)
    for payer in PAYERS:
        mine, theirs = (each.store.stored(f"{payer}-{MONTH}-1").invoice for each in (parts, others))
        # The closed month's digest covers file names, which are random.
        assert mine.lines == theirs.lines
        assert mine.accounts == theirs.accounts


def test_two_processes_that_issue_and_credit_at_once_leave_one_of_each(bench: Bench) -> None:
    region = Region(bench.clients)
    prepare(bench, region)
    bench.wire.begin_again()
    for job in (issue, credit):
        racers = [threading.Thread(target=job, args=(region,)) for _ in range(3)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
    assert CREDIT.at_the_end(region, NOTHING) == []


def test_the_matrix_covers_every_operation_that_issuing_needs(bench: Bench) -> None:
    assert set(CREDIT.calls(bench)) == {
        "dynamodb.GetItem", "dynamodb.PutItem", "s3.GetObject", "s3.ListObjectsV2", "s3.PutObject",
    }  # fmt: skip
