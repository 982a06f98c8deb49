"""Kill matrix and lost-reply matrix of the aggregator, with the real adapters on MiniStack.

One run without faults records every call of an invocation. Then each call gets each fault in turn, in a new region.
Messages that the queue would redeliver are redelivered, and every total must equal the sent total.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.session import Clients
from metering.stores.queues import Delivery
from metering.stores.writes import Action, Check
from tests.integration.bench import EACH_VARIANT, Bench, problems, wrong_after
from tests.integration.region import Region, Scenario, many_hours, many_kinds, mixed
from tests.support.wire import Killed, Trouble

pytestmark = pytest.mark.emulator

# After this many deliveries without a verdict, a message is in the dead-letter queue.
DELIVERIES = 5


def calls_of(bench: Bench, scenario: Callable[[Region], Scenario]) -> list[str]:
    region = Region(bench.clients)
    made = scenario(region)
    return bench.calls_of(lambda: invoke(region, made.deliveries))


def suffer(
    bench: Bench, scenario: Callable[[Region], Scenario], call: int, trouble: Trouble, *, very_late: bool
) -> str:
    region = Region(bench.clients)
    made = scenario(region)
    bench.wire.begin_again((call, trouble))
    left = invoke(region, made.deliveries)
    if not bench.wire.happened:
        return "it did not happen"
    bench.wire.begin_again()
    if not very_late:
        bench.wire.deliver_late()
    for receive_count in range(2, DELIVERIES + 1):
        if left:
            left = invoke(region, [replace(one, receive_count=receive_count) for one in left])
    bench.wire.deliver_late()
    region.roll_up()
    return "; ".join([*(f"no verdict for {one.message_id}" for one in left), *problems(region, made)])


def invoke(region: Region, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Run one invocation; returns the messages that the queue will redeliver."""
    try:
        retry = region.handle(deliveries).retry
    except Killed:
        return list(deliveries)
    return [one for one in deliveries if one.message_id in retry]


def test_the_matrix_covers_every_operation_that_the_aggregator_needs(bench: Bench) -> None:
    operations = {name for scenario in (mixed, many_kinds, many_hours) for name in calls_of(bench, scenario)}
    assert operations == {
        "dynamodb.GetItem", "dynamodb.PutItem", "dynamodb.TransactWriteItems", "s3.GetObject", "s3.HeadObject",
        "s3.PutObject",
    }  # fmt: skip


class _CarelessItems(DynamoDbItemStore):
    """A ledger whose transactions have no conditions."""

    def transact(self, actions: Sequence[Action]) -> None:
        super().transact([one if isinstance(one, Check) else replace(one, condition=None) for one in actions])


class _CarelessRegion(Region):
    def __init__(self, clients: Clients) -> None:
        super().__init__(clients)
        self.items = _CarelessItems(clients.dynamodb, self.resources.tables)


def test_the_matrix_finds_totals_that_are_counted_twice(bench: Bench) -> None:
    region = _CarelessRegion(bench.clients)
    made = mixed(region)
    bench.wire.begin_again()
    invoke(region, made.deliveries[:1])
    transaction = bench.wire.calls.index("dynamodb.TransactWriteItems")
    region = _CarelessRegion(bench.clients)
    made = mixed(region)
    bench.wire.begin_again((transaction, Trouble.KILLED_AFTER))
    [back] = invoke(region, made.deliveries[:1])
    bench.wire.begin_again()
    assert invoke(region, [back]) == []
    region.roll_up()
    for name in ("usage", "lake"):
        assert f"{name} Line(hour='2026-11-24T13', account_id='000000000001'" in "; ".join(problems(region, made))


@pytest.mark.parametrize("scenario", [mixed, many_kinds, many_hours])
@EACH_VARIANT
def test_every_total_is_what_was_sent_whatever_befalls_a_call(
    bench: Bench, scenario: Callable[[Region], Scenario], trouble: Trouble, very_late: bool
) -> None:
    calls = calls_of(bench, scenario)
    assert wrong_after(calls, trouble, lambda call: suffer(bench, scenario, call, trouble, very_late=very_late)) == {}
