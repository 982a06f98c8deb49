"""Rules that AWS enforces and emulators do not, tested in memory."""

import json

import pytest

from metering.adapters.inert import NoQueue
from metering.errors import ItemTooLargeError, TransactionCanceledError, UnavailableError
from metering.stores.queues import Delivery, Queue
from metering.stores.writes import Absent, Action, Put, Table
from metering.units import KIB
from metering.wiring.answers.operators import quarantine_of
from tests.support.command_line import Here
from tests.support.lake_world import World, record
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore

LEDGER = Table.LEDGER


def put(sk: str, size_bytes: int = 0) -> Put:
    return Put(table=LEDGER, item={"pk": "a", "sk": sk, "v": "x" * size_bytes}, condition=Absent())


def test_the_items_of_a_transaction_have_four_megabytes_together() -> None:
    store = MemoryItemStore()
    store.transact([put(str(number), 390 * KIB) for number in range(10)])
    with pytest.raises(ItemTooLargeError, match="a transaction of 11 actions"):
        store.transact([put(f"b{number}", 390 * KIB) for number in range(11)])
    assert len(list(store.query(LEDGER, "a"))) == 10


@pytest.mark.parametrize("code", ["ThrottlingError", "ProvisionedThroughputExceeded"])
def test_an_action_that_is_throttled_cancels_its_transaction_and_conditions_speak_for_the_others(code: str) -> None:
    throttled = {"b"}

    def reason(action: Action) -> str:
        return code if action.key.sk in throttled else ""

    store = MemoryItemStore(throttled=reason)
    store.put(put("a"))
    with pytest.raises(TransactionCanceledError) as refused:
        store.transact([put("c"), put("b")])
    assert refused.value.reasons == (None, (code, None))
    assert not refused.value.condition_failed
    with pytest.raises(TransactionCanceledError) as refused:
        store.transact([put("a"), put("b")])
    [first, second] = refused.value.reasons
    assert first is not None
    assert (first[0], second) == ("ConditionalCheckFailed", (code, None))
    throttled.clear()
    store.transact([put("b")])
    assert [item["sk"] for item in store.query(LEDGER, "a")] == ["a", "b"]


def test_empty_pages_are_calls_of_their_own_and_lose_nothing() -> None:
    calls: list[str] = []
    store = MemoryItemStore(on_call=calls.append, empty_pages=lambda: 2)
    store.put(put("a"))
    assert [item["sk"] for item in store.query(LEDGER, "a")] == ["a"]
    assert [item["sk"] for item in store.scan(LEDGER)] == ["a"]
    assert calls.count("items.query.page") == calls.count("items.scan.page") == 4
    objects = MemoryObjectStore(ManualClock(0), on_call=calls.append, empty_pages=lambda: 2)
    objects.put("p/a", b"", if_absent=True)
    assert [info.key for info in objects.list("p/")] == ["p/a"]
    assert calls.count("objects.list.page") == 4


def test_what_comes_while_empty_pages_are_turned_is_on_a_later_one() -> None:
    store = MemoryItemStore(empty_pages=lambda: 1)
    store.put(put("a"))
    found = store.query(LEDGER, "a")
    assert next(found)["sk"] == "a"
    store.put(put("b"))
    assert [item["sk"] for item in found] == ["b"]


def test_a_role_that_may_not_list_never_learns_that_a_key_is_missing() -> None:
    objects = MemoryObjectStore(ManualClock(0), hides_missing=True)
    objects.put("p/a", b"x", if_absent=True)
    assert objects.get("p/a") == b"x"
    stream = objects.open("p/a")
    objects.delete(["p/a"])
    for ask in (objects.get, objects.head, objects.open):
        with pytest.raises(UnavailableError, match="403"):
            ask("p/a")
    with pytest.raises(UnavailableError, match="403"):
        stream.read()


# A read-only role has no access to the queue: its retry fails before anything is written.


def test_every_call_of_the_port_is_refused() -> None:
    queue: Queue = NoQueue()
    for call in (
        lambda: queue.send_many(["{}"]),
        lambda: queue.receive(1),
        lambda: queue.delete_many([]),
        lambda: queue.release([]),
        queue.depth,
        queue.start_redrive,
    ):
        with pytest.raises(RuntimeError, match="reads only"):
            call()


def test_a_retry_of_a_whole_batch_by_a_reader_writes_nothing() -> None:
    world = World()
    body = {"schema": "metering.batch/1", "batch_id": "refused", "record_count": 2, "records": [record(5)]}
    delivery = Delivery(
        message_id="m", body=json.dumps(body), sent_at_ms=world.clock.now_ms(), receive_count=1, sender_id="sender"
    )
    world.aggregator.handle([delivery], world.deadline())
    here = Here(world)
    entries = quarantine_of(here)
    [entry] = entries.find("refused")
    calls: list[str] = []
    world.items.on_call = world.objects.on_call = calls.append
    with pytest.raises(RuntimeError, match="reads only"):
        entries.retry(entry)
    assert not [call for call in calls if call.startswith(("put", "transact", "update", "delete"))]
