"""Registered producers cannot send each other's data by any of the five ways in which data reaches the aggregator.

The SenderIds are made up here, because emulators use the account id for all senders.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from metering.hours import rfc3339
from metering.intake.envelopes import drop_batch_id
from metering.ledger.notes.access import refused_sender_key
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID, CANARY_BYTES, canary_batch_id, canary_body, slot_of
from metering.operations.dead_letters import RedriveEffect
from metering.producer.producer import Outlet, Producer
from metering.stores.queues import Delivery
from metering.stores.writes import Put, Table
from metering.units import HOUR_S
from tests.support.lake_world import NOW_S
from tests.support.memory.clock import UNHURRIED
from tests.support.memory.queues import MemoryQueue
from tests.support.senders_world import (
    A_ACCOUNT,
    B_ACCOUNT,
    CANARY,
    ONRAMP,
    OPERATOR,
    S3,
    A,
    B,
    SendersWorld,
    body_of,
    record_of,
    registered_producer,
)

LINE = (json.dumps(record_of(B_ACCOUNT, 7)) + "\n").encode()
A_LINE = (json.dumps(record_of(A_ACCOUNT, 9)) + "\n").encode()


@pytest.fixture
def world() -> SendersWorld:
    return SendersWorld()


def location(key: str) -> dict[str, object]:
    return {"records": None, "location": {"bucket": "data", "key": key, "format": "ndjson", "compression": "none"}}


def notification(key: str, etag: str) -> str:
    entity = {"bucket": {"name": "data"}, "object": {"key": key, "eTag": etag}}
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": entity}]})


def put(world: SendersWorld, key: str, body: bytes) -> str:
    world.objects.put(key, body, if_absent=False)
    info = world.objects.head(key)
    assert info is not None
    return info.etag


def pointing_to(world: SendersWorld, key: str) -> str:
    put(world, key, A_LINE)
    return body_of("a/1", A_ACCOUNT, **location(key))


# Messages that claim or use data of B or of the service.
THEFTS: dict[str, Callable[[SendersWorld], str]] = {
    "account": lambda _: body_of("a/1", B_ACCOUNT),
    "batch-id": lambda _: body_of("b/1", A_ACCOUNT),
    "source-id": lambda _: body_of("a/1", A_ACCOUNT, source_id="b", sequence=1),
    "retry-of": lambda _: body_of("a/1", A_ACCOUNT, retry_of="b/1"),
    "retry-id": lambda _: body_of("retry:" + "0" * 64, A_ACCOUNT),
    "drop-id": lambda _: body_of(drop_batch_id("data", "drop/b/1.ndjson", "e1"), A_ACCOUNT),
    "object": lambda world: pointing_to(world, "ingest/b/1.ndjson"),
    "part-of-a-log": lambda world: pointing_to(world, "ingest/logs/1.ndjson"),
    "forged-notification": lambda world: notification("drop/b/1.ndjson", put(world, "drop/b/1.ndjson", LINE)),
}


def refused(world: SendersWorld, sender: str, *, names: str = "", times: int = 1) -> None:
    """Check that one batch is quarantined because of its sender, and that the batch has no other effect."""
    (entry,) = world.entries()
    assert entry.batch is not None
    assert entry.batch.reason == "sender_not_allowed"
    assert names in entry.batch.problems[0][1]
    assert (entry.batch_id, entry.source_id, entry.sender_id) == ("", "", sender)
    assert world.batch_items() == []
    assert world.metered_bytes() == {}
    assert world.metrics.by_dimensions["RejectedByReason", (("reason", "sender_not_allowed"),)] == times
    (alert,) = world.alerts.sent
    assert (alert.severity, alert.fields["sender"]) == ("ticket", sender)


def mine_is_accepted(world: SendersWorld) -> None:
    """Check that, after A's attempt, A's own batch and B's own batch are accepted."""
    world.deliver(body_of("b/1", B_ACCOUNT, source_id="b", sequence=1), f"{B}:i-0abc")
    world.deliver(body_of("a/1", A_ACCOUNT, 5), f"{A}:i-0abc")
    for batch_id in ("a/1", "b/1"):
        assert world.marker(batch_id).verdict == "accepted"
    assert world.metered_bytes() == {A_ACCOUNT: 5, B_ACCOUNT: 7}


def by_producer(world: SendersWorld, body: str) -> None:
    world.deliver(body, f"{A}:b")


def by_redrive(world: SendersWorld, body: str) -> None:
    """Make A's message a dead letter, as after worker crashes, and redrive the message as operator."""
    world.dead.put_dead("m-dead", body, world.clock.now_ms() - 1000, 5, f"{A}:session")
    redriven = world.letters.redrive()
    # SQS's redrive task would send the message in the name of SQS.
    assert (redriven.task, redriven.moved) == (None, 1)
    assert [each.stated_sender for each in world.deliver_sent_again()] == [f"{A}:session"]


def by_retry(world: SendersWorld, body: str) -> None:
    """Resend the refused batch as operator, although nothing was corrected."""
    world.deliver(body, f"{A}:session")
    (entry,) = world.entries()
    world.quarantine.retry(entry)
    (sent,) = world.deliver_sent_again()
    assert sent.sender_id.startswith(OPERATOR)


@pytest.mark.parametrize("way", [by_producer, by_redrive, by_retry])
@pytest.mark.parametrize("kind", THEFTS)
def test_what_is_anothers_is_refused_by_each_way_and_the_owners_is_accepted_after_it(
    world: SendersWorld, kind: str, way: Callable[[SendersWorld, str], None]
) -> None:
    way(world, THEFTS[kind](world))
    (entry,) = world.entries()
    refused(world, entry.sender_id, names="a does not own", times=2 if way is by_retry else 1)
    mine_is_accepted(world)


def test_a_drop_is_judged_by_its_prefix_whoever_announces_it(world: SendersWorld) -> None:
    # S3 announces the object that A dropped for an account of B.
    world.deliver(notification("drop/a/1.ndjson", put(world, "drop/a/1.ndjson", LINE)), S3)
    refused(world, S3, names=f"a does not own account {B_ACCOUNT}")
    mine_is_accepted(world)


def test_a_drop_of_nobody_is_refused(world: SendersWorld) -> None:
    for key in ("drop/1.ndjson", "drop/c/1.ndjson", "ingest/b/1.ndjson"):
        world.deliver(notification(key, put(world, key, LINE)), S3)
    assert {entry.batch.reason for entry in world.entries() if entry.batch} == {"sender_not_allowed"}
    assert len(world.entries()) == 3
    assert world.batch_items() == []


def test_a_drop_of_its_owner_is_metered_once_whoever_announces_it(world: SendersWorld) -> None:
    body = notification("drop/b/1.ndjson", put(world, "drop/b/1.ndjson", LINE))
    world.deliver(body, S3)
    world.deliver(body, f"{B}:session")
    assert world.metered_bytes() == {B_ACCOUNT: 7}
    assert world.entries() == []


def test_objects_of_one_notification_are_judged_one_by_one(world: SendersWorld) -> None:
    etags = [put(world, f"drop/{name}/1.ndjson", line) for name, line in (("a", A_LINE), ("b", LINE))]
    records = [
        json.loads(notification(f"drop/{name}/1.ndjson", etag))["Records"][0]
        for name, etag in zip("ab", etags, strict=True)
    ]
    world.deliver(json.dumps({"Records": records}), f"{A}:session")
    assert world.metered_bytes() == {A_ACCOUNT: 9}
    assert len(world.entries()) == 1


def test_the_canary_sends_its_own_batch_and_nothing_else(world: SendersWorld) -> None:
    slot_s = slot_of(world.clock.now_ms() // 1000)
    body = canary_body(slot_s, "us-east-1")
    world.deliver(body, f"{A}:canary")
    refused(world, f"{A}:canary", names="a does not own batch id")
    world.deliver(body, f"{CANARY}:function")
    assert world.metered_bytes() == {CANARY_ACCOUNT_ID: CANARY_BYTES}
    assert world.marker(canary_batch_id(slot_s))
    for stolen in (body_of("b/1", B_ACCOUNT), body_of("canary:x", B_ACCOUNT), body_of("b/1", CANARY_ACCOUNT_ID)):
        world.deliver(stolen, f"{CANARY}:function")
    assert len(world.entries()) == 4
    world.deliver(body_of("b/1", B_ACCOUNT), f"{B}:i-0abc")
    assert world.metered_bytes() == {CANARY_ACCOUNT_ID: CANARY_BYTES, B_ACCOUNT: 7}


@pytest.mark.parametrize("sender", [f"{ONRAMP}:function", f"{OPERATOR}:by-hand"])
def test_on_ramps_and_people_who_ingest_send_parts_of_logs_and_nothing_else(world: SendersWorld, sender: str) -> None:
    put(world, "ingest/logs/1.ndjson", LINE)
    world.deliver(body_of("flow:x/0", B_ACCOUNT, **location("ingest/logs/1.ndjson")), sender)
    assert world.metered_bytes() == {B_ACCOUNT: 7}
    put(world, "ingest/b/2.ndjson", LINE)
    for stolen in (
        body_of("flow:y/0", B_ACCOUNT),
        body_of("flow:y/0", B_ACCOUNT, **location("ingest/b/2.ndjson")),
        body_of("b/1", B_ACCOUNT, **location("ingest/logs/1.ndjson")),
        body_of("flow:y/0", B_ACCOUNT, retry_of="b/1", **location("ingest/logs/1.ndjson")),
        body_of("canary:x", B_ACCOUNT, **location("ingest/logs/1.ndjson")),
    ):
        world.deliver(stolen, sender)
    assert [entry.batch.reason for entry in world.entries() if entry.batch] == ["sender_not_allowed"] * 5
    assert world.metered_bytes() == {B_ACCOUNT: 7}


@pytest.mark.parametrize("sender", ["AROASTRANGER:b", "444455556666", "", "AIDASOMEBODY"])
def test_a_stranger_sends_nothing(world: SendersWorld, sender: str) -> None:
    world.deliver(body_of("b/1", B_ACCOUNT), sender)
    refused(world, sender, names="is no registered producer")
    mine_is_accepted(world)


def test_the_session_of_a_role_names_nobody(world: SendersWorld) -> None:
    world.deliver(body_of("b/1", B_ACCOUNT), f"{A}:{B}")
    refused(world, f"{A}:{B}")


@pytest.mark.parametrize("sender", [f"{A}:session", f"{ONRAMP}:function", f"{CANARY}:function", "AROASTRANGER:x"])
def test_only_an_operator_may_state_another_sender(world: SendersWorld, sender: str) -> None:
    for stated in (f"{B}:session", f"retry {B}:session"):
        world.deliver(body_of("b/1", B_ACCOUNT), sender, stated=stated)
    (entry,) = world.entries()
    assert entry.sender_id == sender
    assert world.batch_items() == []
    mine_is_accepted(world)


def test_an_operator_alone_sends_nothing_of_a_producer(world: SendersWorld) -> None:
    for stated in ("", f"{OPERATOR}:me", "AROASTRANGER:x", "retry "):
        world.deliver(body_of("b/1", B_ACCOUNT), f"{OPERATOR}:me", stated=stated)
    assert world.batch_items() == []


def test_a_batch_that_was_refused_is_metered_by_a_retry_once_its_producer_owns_the_account(world: SendersWorld) -> None:
    world.deliver(body_of("a/1", B_ACCOUNT), f"{A}:session")
    world.register(registered_producer("a", A, A_ACCOUNT, B_ACCOUNT))
    (entry,) = world.entries()
    assert entry.became == "not metered; it claimed a/1"
    for _ in range(2):
        world.quarantine.retry(entry)
        world.deliver_sent_again()
    marker = world.marker("a/1")
    assert (marker.verdict, marker.sender_id) == ("accepted", f"{A}:session")
    assert world.metered_bytes() == {B_ACCOUNT: 7}
    (entry,) = world.entries()
    assert (entry.became, entry.retried_as) == ("metered as a/1", ("a/1",))


def test_refused_records_are_sent_again_for_their_producer(world: SendersWorld) -> None:
    wrong = record_of(A_ACCOUNT, 3) | {"from": "nowhere-at-all!"}
    records = {"records": [record_of(A_ACCOUNT, 5), wrong], "record_count": 2}
    world.deliver(body_of("a/1", A_ACCOUNT, **records), f"{A}:session")
    (entry,) = world.entries()
    assert (entry.kind, entry.sent_by) == ("records", f"{A}:session")
    retry = world.quarantine.retry(entry)
    (sent,) = world.deliver_sent_again()
    assert sent.stated_sender == f"retry {A}:session"
    marker = world.marker(retry.retry_id)
    # The records are judged as A's, and are refused again for their remaining faults, not for their sender.
    assert (marker.verdict, marker.sender_id, marker.reason) == ("rejected", f"{A}:session", "invalid_from")


def test_refused_records_of_a_dropped_object_are_sent_again_for_its_owner(world: SendersWorld) -> None:
    # The time is an hour too early, so the record becomes valid later.
    soon = record_of(B_ACCOUNT, 3) | {name: rfc3339(NOW_S + HOUR_S) for name in ("start", "end")}
    foreign = soon | {"account_id": A_ACCOUNT}
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in (record_of(B_ACCOUNT, 5), soon))
    for key, body in (("drop/b/1.ndjson", lines), ("drop/b/2.ndjson", LINE + json.dumps(foreign).encode() + b"\n")):
        world.deliver(notification(key, put(world, key, body)), S3)
    assert world.metered_bytes() == {B_ACCOUNT: 12}
    world.clock.advance_s(2 * HOUR_S)
    for entry in world.entries():
        assert (entry.kind, entry.sent_by) == ("records", B)
        world.quarantine.retry(entry)
    world.deliver_sent_again()
    # B's own record is metered, but not the record of A's account, because the retry is judged as B's.
    assert world.metered_bytes() == {B_ACCOUNT: 15}
    assert [entry.batch.reason for entry in world.entries() if entry.batch is not None] == ["sender_not_allowed"]


def test_a_forged_announcement_of_what_is_not_there_is_not_put_down_to_the_owner(world: SendersWorld) -> None:
    put(world, "drop/b/1.ndjson", LINE)
    world.deliver(notification("drop/b/1.ndjson", "0" * 32), "AROASTRANGER:x")
    (entry,) = world.entries()
    assert (entry.sender_id, entry.batch and entry.batch.reason) == ("AROASTRANGER:x", "object_changed")
    assert world.metered_bytes() == {}


def test_a_conflict_that_is_retried_under_an_id_of_its_own_stays_its_producers(world: SendersWorld) -> None:
    world.deliver(body_of("a/1", A_ACCOUNT, 5), f"{A}:session")
    world.deliver(body_of("a/1", A_ACCOUNT, 6), f"{A}:session")
    (entry,) = world.entries()
    retry = world.quarantine.retry(entry, as_new_id=True)
    world.deliver_sent_again()
    assert world.metered_bytes() == {A_ACCOUNT: 11}
    assert world.marker(retry.retry_id).sender_id == f"{A}:session"


def test_a_retry_that_died_is_still_judged_by_who_sent_it_first(world: SendersWorld) -> None:
    world.deliver(body_of("a/1", A_ACCOUNT, 5), f"{A}:session")
    world.deliver(body_of("a/1", A_ACCOUNT, 6), f"{A}:session")
    (entry,) = world.entries()
    world.quarantine.retry(entry, as_new_id=True)
    (message,) = world.operators_queue.receive(1)
    died = message.delivery
    world.operators_queue.delete_many([message.receipt])
    world.dead.put_dead("d", died.body, world.clock.now_ms() - 1000, 5, died.sender_id, died.stated_sender)
    world.letters.redrive()
    world.deliver_sent_again()
    assert world.metered_bytes() == {A_ACCOUNT: 11}


def test_the_effect_of_a_redrive_is_foretold_by_the_sender(world: SendersWorld) -> None:
    for number, (name, account) in enumerate((("a/1", A_ACCOUNT), ("a/2", B_ACCOUNT))):
        world.dead.put_dead(f"m{number}", body_of(name, account), world.clock.now_ms() - 1000, 5, f"{A}:session")
    letters = world.letters.letters(limit=10, look=lambda each: world.letters.examine(each, UNHURRIED))
    assert [letter.effect for letter in letters] == [RedriveEffect.METER, RedriveEffect.REFUSE]
    assert "sender_not_allowed" in letters[1].why


def test_a_copy_of_what_was_accepted_stays_a_duplicate_when_its_sender_may_no_longer(world: SendersWorld) -> None:
    body = body_of("a/1", A_ACCOUNT)
    world.deliver(body, f"{A}:session")
    world.register(registered_producer("a", "AROAMADEANEW", A_ACCOUNT))
    world.clock.advance_s(61)
    world.deliver(body, f"{A}:session")
    assert world.entries() == []
    # If another sender sends it, it is a forgery, although nothing of it would be metered.
    world.deliver(body, f"{B}:session")
    (entry,) = world.entries()
    assert (entry.sender_id, entry.became) == (f"{B}:session", "not metered; it claimed a/1")
    assert world.metered_bytes() == {A_ACCOUNT: 7}


def test_two_senders_of_one_body_have_a_place_each_in_quarantine(world: SendersWorld) -> None:
    body = body_of("c/1", A_ACCOUNT)
    for sender in ("AROAFORGER:x", "AROAOWNER:x", "AROAFORGER:y"):
        world.deliver(body, sender)
    assert {entry.sender_id.partition(":")[0] for entry in world.entries()} == {"AROAFORGER", "AROAOWNER"}
    # The owner is registered afterwards. The owner's entry is retried, and the forger's entry stays refused.
    world.register(registered_producer("c", "AROAOWNER", A_ACCOUNT))
    for entry in world.entries():
        world.quarantine.retry(entry)
    world.deliver_sent_again()
    assert world.marker("c/1").sender_id == "AROAOWNER:x"
    assert world.metered_bytes() == {A_ACCOUNT: 7}


def in_one_invocation(world: SendersWorld, body: str, *senders: str) -> dict[str, int]:
    """Number of verdicts of each kind, after several senders sent the same body."""
    deliveries = [
        Delivery(message_id=sender, body=body, sent_at_ms=world.clock.now_ms(), receive_count=1, sender_id=sender)
        for sender in senders
    ]
    return {str(verdict): n for verdict, n in world.aggregator.handle(deliveries, world.deadline()).counts.items()}


def test_a_forgery_in_one_invocation_with_the_batch_that_it_copies_holds_nobody_up(world: SendersWorld) -> None:
    counts = in_one_invocation(world, body_of("b/1", B_ACCOUNT), f"{A}:x", f"{B}:x")
    assert counts == {"rejected": 1, "accepted": 1}
    assert world.marker("b/1").sender_id == f"{B}:x"


def test_two_foreign_senders_of_one_body_in_one_invocation_are_two_refusals(world: SendersWorld) -> None:
    counts = in_one_invocation(world, body_of("b/1", B_ACCOUNT), f"{A}:x", "AROASTRANGER:x", f"{A}:y")
    assert counts == {"rejected": 2, "duplicate": 1}
    assert len(world.entries()) == 2


def test_a_sender_is_told_of_once_an_hour_whatever_it_sends(world: SendersWorld) -> None:
    for number in range(5):
        world.deliver(body_of(f"b/{number}", B_ACCOUNT), f"{A}:session-{number}")
    assert len(world.alerts.sent) == 1
    assert world.metrics.counts["SendersNotAllowed"] == 5
    assert world.items.peek(Table.LEDGER, refused_sender_key(A, world.clock.now_ms() // 1000)) is not None
    world.deliver(body_of("a/9", A_ACCOUNT), "AROASTRANGER:x")
    assert len(world.alerts.sent) == 2
    world.clock.advance_s(HOUR_S)
    world.deliver(body_of("b/9", B_ACCOUNT), f"{A}:session")
    assert len(world.alerts.sent) == 3


def test_a_producer_that_is_added_may_send_at_once(world: SendersWorld) -> None:
    world.deliver(body_of("b/1", B_ACCOUNT), f"{B}:x")
    world.register(registered_producer("c", "AROAC", A_ACCOUNT))
    world.deliver(body_of("c/1", A_ACCOUNT), "AROAC:x")
    assert world.entries() == []


def test_the_registry_is_read_once_a_minute_and_not_for_each_message(world: SendersWorld) -> None:
    reads: list[str] = []
    query = world.items.query

    def counted(table: Table, pk: str, **bounds: object) -> object:
        reads.append(pk)
        return query(table, pk, **bounds)  # type: ignore[arg-type]  # as it was called

    world.items.query = counted  # type: ignore[method-assign,assignment]  # counts calls
    for number in range(20):
        world.deliver(body_of(f"b/{number}", B_ACCOUNT), f"{B}:x")
    assert reads.count("W#producers") == 1
    world.clock.advance_s(60)
    world.deliver(body_of("b/20", B_ACCOUNT), f"{B}:x")
    assert reads.count("W#producers") == 2


def test_one_registration_that_cannot_be_read_stops_its_own_producer_only(world: SendersWorld) -> None:
    broken = registered_producer("a", A, A_ACCOUNT).to_item() | {"role_id": 7}
    world.items.put(Put(table=Table.LEDGER, item=broken))
    world.deliver(body_of("a/1", A_ACCOUNT), f"{A}:x")
    world.deliver(body_of("b/1", B_ACCOUNT), f"{B}:x")
    assert world.metered_bytes() == {B_ACCOUNT: 7}
    assert len(world.entries()) == 1


def test_a_stage_that_is_open_judges_nobody() -> None:
    world = SendersWorld(judged=False)
    world.deliver(body_of("b/1", B_ACCOUNT), "AROASTRANGER:x", stated=f"{B}:x")
    marker = world.marker("b/1")
    assert (marker.verdict, marker.sender_id) == ("accepted", "AROASTRANGER:x")
    assert world.alerts.sent == []


def test_what_a_producer_sends_is_its_own_inline_and_through_an_object(world: SendersWorld, tmp_path: Path) -> None:
    queue = MemoryQueue(world.clock, sender_id=f"{A}:workload")
    outlet = Outlet(queue=queue, objects=world.objects, bucket="data", clock=world.clock, entropy=world.entropy)
    with Producer("a", state=tmp_path, outlet=outlet) as producer:
        producer.send([record_of(A_ACCOUNT, 5)], key="small")
        producer.send([record_of(A_ACCOUNT, 1) for _ in range(6_000)], key="large")
    for message in queue.receive(10):
        world.deliver(message.delivery.body, message.delivery.sender_id)
    assert world.metered_bytes() == {A_ACCOUNT: 6_005}
    assert world.objects.keys("ingest/a/")
    assert world.entries() == []


def test_what_is_no_batch_of_anybody_is_refused_for_what_it_is(world: SendersWorld) -> None:
    world.deliver("no json", f"{A}:x")
    world.deliver("no json", "AROASTRANGER:x")
    reasons = {entry.batch.problems for entry in world.entries() if entry.batch}
    assert {problems[0][0] for problems in reasons} == {"not_json", "sender_not_allowed"}
    assert world.batch_items() == []


def test_a_producer_with_all_accounts_may_send_for_each(world: SendersWorld) -> None:
    world.register(replace(registered_producer("c", "AROAC"), accounts=None))
    for number, account in enumerate((A_ACCOUNT, B_ACCOUNT)):
        world.deliver(body_of(f"c:{number}", account, source_id="c/x", sequence=number), "AROAC:x")
    assert world.metered_bytes() == {A_ACCOUNT: 7, B_ACCOUNT: 7}
