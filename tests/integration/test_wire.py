"""Each network fault does what its name says, and the adapters raise the errors that the ports promise."""

from typing import Any

import pytest

from metering.errors import ConditionFailedError, TransactionCanceledError, UnavailableError
from metering.stores.writes import Absent, Action, Key, Put, Table, Update, Value
from tests.integration.bench import Bench
from tests.integration.region import Region
from tests.support.wire import Killed, Trouble

pytestmark = pytest.mark.emulator

KEY = Key("U", "u")
ADD = Update(table=Table.USAGE, key=KEY, add={"bytes": 1})


@pytest.fixture
def region(bench: Bench) -> Region:
    bench.wire.begin_again()
    return Region(bench.clients)


def trouble(bench: Bench, what: Trouble) -> None:
    bench.wire.begin_again((0, what))


def counted(region: Region) -> object:
    return (region.items.get(Table.USAGE, KEY) or {}).get("bytes", 0)


def test_the_sdk_repeats_a_transaction_under_its_token_so_that_it_counts_once(bench: Bench, region: Region) -> None:
    sent: list[Any] = []
    bench.clients.dynamodb.meta.events.register(
        "before-send.dynamodb.TransactWriteItems", lambda request, **_: sent.append(request.body)
    )
    trouble(bench, Trouble.REPLY_LOST_ONCE)
    region.items.transact([ADD])
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert b"ClientRequestToken" in sent[0]
    assert counted(region) == 1


def test_the_sdk_repeats_a_single_update_so_that_it_counts_twice(bench: Bench, region: Region) -> None:
    """Therefore usage is added only in transactions with a condition."""
    trouble(bench, Trouble.REPLY_LOST_ONCE)
    region.items.update(ADD)
    assert counted(region) == 2


def test_a_write_meets_its_own_effect_when_the_sdk_repeats_it(bench: Bench, region: Region) -> None:
    trouble(bench, Trouble.REPLY_LOST_ONCE)
    item: dict[str, Value] = {"pk": "a", "sk": "b", "n": 1}
    with pytest.raises(ConditionFailedError) as caught:
        region.items.put(Put(table=Table.LEDGER, item=item, condition=Absent()))
    assert caught.value.existing == item


def test_a_conditional_put_of_an_object_meets_its_own_effect(bench: Bench, region: Region) -> None:
    trouble(bench, Trouble.REPLY_LOST_ONCE)
    assert region.objects.put("k", b"x", if_absent=True) is False
    assert region.objects.get("k") == b"x"


@pytest.mark.parametrize(("what", "applied"), [(Trouble.REPLIES_LOST, 1), (Trouble.REQUESTS_LOST, 0)])
def test_a_transaction_without_reply_is_unavailable(bench: Bench, region: Region, what: Trouble, applied: int) -> None:
    trouble(bench, what)
    with pytest.raises(UnavailableError) as caught:
        region.items.transact([ADD])
    assert caught.value.may_have_applied
    bench.wire.begin_again()
    assert counted(region) == applied


def test_a_late_transaction_arrives_when_it_is_let(bench: Bench, region: Region) -> None:
    trouble(bench, Trouble.APPLIED_LATE)
    with pytest.raises(UnavailableError):
        region.items.transact([ADD])
    bench.wire.begin_again()
    assert counted(region) == 0
    bench.wire.deliver_late()
    assert counted(region) == 1


@pytest.mark.parametrize(("what", "applied"), [(Trouble.KILLED_BEFORE, 0), (Trouble.KILLED_AFTER, 1)])
def test_nothing_catches_a_kill(bench: Bench, region: Region, what: Trouble, applied: int) -> None:
    trouble(bench, what)
    with pytest.raises(Killed):
        region.items.transact([ADD])
    bench.wire.begin_again()
    assert counted(region) == applied


def test_a_conflict_is_a_reason_and_no_condition(bench: Bench, region: Region) -> None:
    trouble(bench, Trouble.CONFLICTED)
    other: Action = Put(table=Table.LEDGER, item={"pk": "a", "sk": "b"}, condition=Absent())
    with pytest.raises(TransactionCanceledError) as caught:
        region.items.transact([ADD, other])
    assert caught.value.reasons == (("TransactionConflict", None), None)
    assert not caught.value.condition_failed
    trouble(bench, Trouble.CONFLICTED)
    with pytest.raises(UnavailableError) as single:
        region.items.update(ADD)
    assert not single.value.may_have_applied
    bench.wire.begin_again()
    assert counted(region) == 0


def test_a_throttle_is_unavailable(bench: Bench, region: Region) -> None:
    trouble(bench, Trouble.THROTTLED)
    with pytest.raises(UnavailableError):
        region.items.transact([ADD])
    trouble(bench, Trouble.THROTTLED)
    with pytest.raises(UnavailableError):
        region.objects.put("k", b"x", if_absent=True)
    bench.wire.begin_again()
    assert counted(region) == 0
    assert region.objects.head("k") is None


def test_calls_are_written_down_once_each(bench: Bench, region: Region) -> None:
    trouble(bench, Trouble.REPLY_LOST_ONCE)
    region.items.transact([ADD])
    region.objects.head("k")
    assert bench.wire.calls == ["dynamodb.TransactWriteItems", "s3.HeadObject"]
