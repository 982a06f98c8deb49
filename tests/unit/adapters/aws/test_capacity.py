"""Billing mode of a ledger's table, and the pace of jobs over provisioned capacity."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from moto import mock_aws

from metering.adapters.aws.capacity import LedgerCapacity
from metering.adapters.aws.pacing import READ_SHARE, WRITE_SHARE, LedgerPace, pace
from metering.adapters.aws.session import Access, Clients
from metering.errors import OperationFailedError
from metering.fleet.stage import TARGET_PERCENT
from tests.support.emulated import make_tables
from tests.unit.adapters.aws.stubs import Stubbed, stubbed

SCALES = {"Read": (200, 3_000), "Write": (300, 4_000)}
ON_DEMAND, PROVISIONED = "PAY_PER_REQUEST", "PROVISIONED"


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        made = Clients(Access(region="us-east-1", access_key=("test", "test")))
        make_tables(made, ["ledger"], bucket="bucket")
        yield made.dynamodb


@pytest.fixture
def stub() -> Iterator[Stubbed]:
    yield from stubbed("dynamodb")


def mode(client: Any) -> tuple[str, int, int]:
    found = client.describe_table(TableName="ledger")["Table"]
    units = found["ProvisionedThroughput"]
    return found["BillingModeSummary"]["BillingMode"], units["ReadCapacityUnits"], units["WriteCapacityUnits"]


def described(billing: str, reads: int = 0, writes: int = 0, status: str = "ACTIVE") -> dict[str, Any]:
    units = {"ReadCapacityUnits": reads, "WriteCapacityUnits": writes}
    return {
        "Table": {
            "TableStatus": status,
            "BillingModeSummary": {"BillingMode": billing},
            "ProvisionedThroughput": units,
        }
    }


def test_a_table_goes_from_one_billing_mode_to_the_other_and_back_and_keeps_its_items(client: Any) -> None:
    item = {"pk": {"S": "B#1"}, "sk": {"S": "M"}, "records": {"N": "7"}}
    client.put_item(TableName="ledger", Item=item)
    provisioned, on_demand = LedgerCapacity(client, SCALES), LedgerCapacity(client, None)
    assert mode(client)[0] == ON_DEMAND
    for _ in range(2):
        provisioned.bill("ledger")
        # It begins with the most, so nobody is throttled by the change.
        assert mode(client) == (PROVISIONED, 3_000, 4_000)
    for _ in range(2):
        on_demand.bill("ledger")
        assert mode(client)[0] == ON_DEMAND
    assert client.scan(TableName="ledger")["Items"] == [item]
    provisioned.bill("a table that is not there")


def test_a_provisioned_ledger_is_on_demand_within_the_block_whatever_ends_it(client: Any) -> None:
    ours = LedgerCapacity(client, SCALES)
    ours.bill("ledger")

    def stopped() -> None:
        with ours.on_demand("ledger", pytest.fail):
            assert mode(client)[0] == ON_DEMAND
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert mode(client)[0] == PROVISIONED


def test_a_block_that_was_killed_is_made_good_by_the_next_one(client: Any) -> None:
    assert mode(client)[0] == ON_DEMAND
    with LedgerCapacity(client, SCALES).on_demand("ledger", pytest.fail):
        pass
    assert mode(client)[0] == PROVISIONED


def test_a_ledger_on_demand_is_left_alone(stub: Stubbed) -> None:
    with LedgerCapacity(stub[0], None).on_demand("ledger", pytest.fail):
        pass


@pytest.mark.parametrize("code", [
    "LimitExceededException", "ValidationException", "AccessDeniedException", "ResourceInUseException",
])  # fmt: skip
def test_a_refused_change_is_told_and_the_work_is_done_all_the_same(stub: Stubbed, code: str) -> None:
    client, stubber = stub
    said: list[str] = []
    done = []
    stubber.add_response("describe_table", described(PROVISIONED, 200, 300))
    stubber.add_client_error("update_table", code, "four times a day")
    stubber.add_response("describe_table", described(PROVISIONED, 200, 300))
    with LedgerCapacity(client, SCALES).on_demand("ledger", said.append):
        done.append(1)
    assert done
    [told] = said
    assert "stays at its provisioned capacity" in told
    assert "four times a day" in told


def test_a_refused_way_back_is_told_with_what_puts_it_right(stub: Stubbed) -> None:
    client, stubber = stub
    said: list[str] = []
    for found in (described(PROVISIONED), described(ON_DEMAND)):
        stubber.add_response("describe_table", found)
        if found == described(PROVISIONED):
            stubber.add_response("update_table", {}, {"TableName": "ledger", "BillingMode": ON_DEMAND})
            stubber.add_response("describe_table", described(ON_DEMAND))
    stubber.add_client_error("update_table", "LimitExceededException", "later")
    with LedgerCapacity(client, SCALES).on_demand("ledger", said.append):
        pass
    [told] = said
    assert "stays on demand" in told
    assert "metering deploy" in told


def test_a_deployment_fails_if_its_billing_mode_is_refused(stub: Stubbed) -> None:
    client, stubber = stub
    stubber.add_response("describe_table", described(PROVISIONED))
    stubber.add_client_error("update_table", "LimitExceededException", "later")
    with pytest.raises(OperationFailedError, match="later") as failed:
        LedgerCapacity(client, None).bill("ledger")
    assert "four times a day" in failed.value.advice


def test_a_change_that_auto_scaling_makes_is_waited_for_and_not_for_ever(stub: Stubbed) -> None:
    client, stubber = stub
    slept: list[float] = []
    ours = LedgerCapacity(client, SCALES, sleep=slept.append)
    stubber.add_response("describe_table", described(PROVISIONED, status="UPDATING"))
    stubber.add_response("describe_table", described(PROVISIONED))
    ours.bill("ledger")
    assert len(slept) == 1
    for _ in range(300):
        stubber.add_response("describe_table", described(PROVISIONED, status="UPDATING"))
    with pytest.raises(OperationFailedError, match="not active after 10 minutes"):
        ours.bill("ledger")


# The pace of jobs.


class Now:
    """Time that only sleeping lets pass."""

    def __init__(self) -> None:
        self.s = 1_000.0
        self.slept: list[float] = []
        self.hurry = 1.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.s += seconds * self.hurry


def paced(stub: Stubbed, *, reads: int = 0, writes: int = 0) -> tuple[Any, Any, Now]:
    client, stubber = stub
    now = Now()
    stubber.add_response("describe_table", described(PROVISIONED, reads, writes), {"TableName": "ledger"})
    LedgerPace(client, "ledger", now_s=lambda: now.s, sleep=now.sleep).attach()
    return client, stubber, now


def test_reads_take_their_share_of_the_capacity_and_no_more(stub: Stubbed) -> None:
    client, stubber, now = paced(stub, reads=1_000, writes=100)
    # Scans of a small table read small pages, so that threads need not wait for long.
    asked = {"TableName": "ledger", "ReturnConsumedCapacity": "TOTAL", "Limit": 800}
    for _ in range(5):
        consumed = {"TableName": "ledger", "CapacityUnits": 400.0}
        stubber.add_response("scan", {"Items": [], "ConsumedCapacity": consumed}, asked)
        client.scan(TableName="ledger")
    # The first call is free; each further one waits until the one before has passed.
    assert now.slept == pytest.approx([400 / (READ_SHARE * 1_000)] * 4)


def test_writes_are_paced_apart_from_reads_and_transactions_by_their_ledger_part(stub: Stubbed) -> None:
    client, stubber, now = paced(stub, reads=1_000, writes=1_000)
    key = {"pk": {"S": "a"}, "sk": {"S": "b"}}
    consumed = [{"TableName": "ledger", "CapacityUnits": 30.0}, {"TableName": "usage", "CapacityUnits": 500.0}]
    deletes = [{"Delete": {"TableName": table, "Key": key}} for table in ("ledger", "usage")]
    for _ in range(2):
        stubber.add_response("transact_write_items", {"ConsumedCapacity": consumed})
        client.transact_write_items(TransactItems=deletes)
    answer = {"Responses": {}, "ConsumedCapacity": [{"TableName": "ledger", "CapacityUnits": 8.0}]}
    stubber.add_response("batch_get_item", answer)
    client.batch_get_item(RequestItems={"ledger": {"Keys": [key]}})
    assert now.slept == pytest.approx([30 / (WRITE_SHARE * 1_000)])


def test_another_table_and_a_table_on_demand_are_not_paced(stub: Stubbed) -> None:
    client, stubber, now = paced(stub, reads=0, writes=0)
    for table in ("ledger", "ledger", "usage"):
        stubber.add_response("scan", {"Items": []}, {"TableName": table})
    for table in ("ledger", "ledger", "usage"):
        client.scan(TableName=table)
    assert now.slept == []


def test_a_call_on_another_table_does_not_wait_for_the_ledger(stub: Stubbed) -> None:
    client, stubber, now = paced(stub, reads=10)
    consumed = {"ConsumedCapacity": {"TableName": "ledger", "CapacityUnits": 400.0}}
    stubber.add_response("scan", {"Items": [], **consumed})
    stubber.add_response("scan", {"Items": []}, {"TableName": "usage"})
    for table in ("ledger", "usage"):
        client.scan(TableName=table)
    assert now.slept == []


def test_threads_that_call_at_once_take_the_share_together(stub: Stubbed) -> None:
    client, stubber, now = paced(stub, reads=1_000)
    consumed = {"ConsumedCapacity": {"TableName": "ledger", "CapacityUnits": 400.0}}
    for _ in range(3):
        stubber.add_response("scan", {"Items": [], **consumed})
    # A call that another thread began before is counted when this one has waited for a half of its time.
    now.hurry = 0.5
    for _ in range(3):
        client.scan(TableName="ledger")
    assert now.slept == pytest.approx([400 / (READ_SHARE * 1_000) * times for times in (1, 1.5)])


READ = {"ConsumedCapacity": {"TableName": "ledger", "CapacityUnits": 80.0}}
OF_READ = {"TableName": "ledger", "Key": {"pk": {"S": "a"}, "sk": {"S": "b"}}}


def read_a_minute_ago(stub: Stubbed) -> tuple[Any, Any, Now]:
    client, stubber, now = paced(stub, reads=100)
    stubber.add_response("get_item", READ)
    client.get_item(**OF_READ)
    now.s += 61
    return client, stubber, now


def test_the_capacity_is_asked_again_after_a_minute(stub: Stubbed) -> None:
    client, stubber, now = read_a_minute_ago(stub)
    stubber.add_response("describe_table", described(ON_DEMAND))
    stubber.add_response("get_item", {}, OF_READ)
    client.get_item(**OF_READ)
    assert now.slept == []


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException"])
def test_a_capacity_that_cannot_be_asked_again_stays_as_it_was(stub: Stubbed, code: str) -> None:
    client, stubber, now = read_a_minute_ago(stub)
    stubber.add_client_error("describe_table", code)
    for _ in range(2):
        stubber.add_response("get_item", READ, {**OF_READ, "ReturnConsumedCapacity": "TOTAL"})
        client.get_item(**OF_READ)
    assert now.slept == pytest.approx([80 / (READ_SHARE * 100)])


def test_jobs_that_need_more_make_auto_scaling_provision_more_and_leave_commits_their_capacity() -> None:
    target = TARGET_PERCENT / 100
    assert target < READ_SHARE < 1
    # Commits up to the target, the roll-up and the compactor.
    assert target + 2 * WRITE_SHARE <= 1


def test_an_emulator_is_not_paced() -> None:
    clients: Any = SimpleNamespace(access=Access(region="us-east-1", endpoint_url="http://127.0.0.1:1"))
    # It would need a client.
    pace(clients, "ledger")


def test_a_client_that_is_paced_twice_waits_once(stub: Stubbed) -> None:
    client, stubber = stub
    clients: Any = SimpleNamespace(access=Access(region="us-east-1"), dynamodb=client)
    pace(clients, "ledger")
    pace(clients, "ledger")
    stubber.add_response("describe_table", described(ON_DEMAND))
    stubber.add_response("scan", {"Items": []}, {"TableName": "ledger"})
    client.scan(TableName="ledger")
