"""A ledger goes from on demand to provisioned and back, with traffic: views stay equal, and each batch counts once."""

from __future__ import annotations

from itertools import count

from moto import mock_aws

from metering.adapters.aws.capacity import LedgerCapacity
from metering.adapters.aws.pacing import LedgerPace
from metering.adapters.aws.session import Access, Clients
from metering.units import DAY_S
from tests.integration.region import HOUR, NOW_S, Line, Region, added, body, delivery, record

SCALES = {"Read": (200, 3_000), "Write": (300, 4_000)}
BATCHES = 2


def test_views_are_equal_after_provisioned_capacity_and_back() -> None:
    with mock_aws():
        clients = Clients(Access(region="us-east-1", access_key=("test", "test")))
        region, numbers = Region(clients), count(1)
        provisioned, on_demand = (LedgerCapacity(clients.dynamodb, scales) for scales in (SCALES, None))
        slept: list[float] = []
        LedgerPace(clients.dynamodb, region.resources.ledger, sleep=slept.append).attach()
        sent: list[int] = []
        modes: list[str] = []
        for billing in (on_demand, provisioned, on_demand):
            billing.bill(region.resources.ledger)
            described = clients.dynamodb.describe_table(TableName=region.resources.ledger)["Table"]
            modes.append(described["BillingModeSummary"]["BillingMode"])
            sent += [next(numbers) for _ in range(BATCHES)]
            # Copies of all batches before come again, under the other billing.
            messages = [delivery(f"m{n}", body(f"b{n}", [record(n, n), record(n, 2 * n)])) for n in sent]
            assert not region.handle(messages).retry
            region.roll_up()
            jobs = region.jobs()
            jobs.compactor_of(jobs.policy.everything()).run(region.deadline())
            result = jobs.reconciler.check(from_s=NOW_S - DAY_S, to_s=NOW_S + DAY_S, deep=True)
            expected = added((Line(HOUR, f"{n:012d}", "DataTransfer-Out-Bytes"), 3 * n, 2) for n in sent)
            assert region.usage() == region.lake() == expected
            assert region.verdicts() == {(f"b{n}", "M", "accepted") for n in sent}
            [check] = result.checks
            assert (check.markers, check.usage, check.agrees) == (check.rows, check.rows, True)
            assert check.rows.bytes == sum(3 * n for n in sent)
        assert modes == ["PAY_PER_REQUEST", "PROVISIONED", "PAY_PER_REQUEST"]
        assert all(wait_s < 1 for wait_s in slept)
