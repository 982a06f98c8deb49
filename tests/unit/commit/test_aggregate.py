"""The aggregator over in-memory ports: every verdict, and every branch after a reply."""

from dataclasses import replace
from errno import ENOSPC
from itertools import count

import pytest

from metering import metric_names
from metering.commit.deduplication import Content, Copy, Verdict
from metering.commit.verdict_writer import Tally
from metering.errors import OutOfTimeError, TransactionCanceledError, UnavailableError
from metering.hours import parse_hour
from metering.intake.admission import Admission
from metering.intake.batches import Allowance, BatchReader, BatchReading, DecodedBatch
from metering.ledger.commits import SHARDS_KEY, CommitRecord, commit_key
from metering.ledger.markers import CONFLICT_PK
from metering.ledger.notes.watch import HELD_PK, HeldMessage
from metering.ledger.periods import Period
from metering.quarantine.documents import QuarantinedBatch, decode_records
from metering.stores.objects import quarantined_batch_key
from metering.stores.queues import Delivery
from metering.stores.writes import Put, Table
from tests.support.memory.clock import UNHURRIED, DeadlineAt, MemoryMetrics
from tests.support.memory.rows import PlainBatch, PlainBatchReader, plain_hash
from tests.support.small_world import NOW_S, SETTINGS, KilledError, SmallWorld, batch, deliveries, delivery, rows_of
from tests.support.stage import ADMISSION, STAGE
from tests.support.verdicts import refused_batch

THROTTLED = UnavailableError("dynamodb.TransactWriteItems", "throttled", may_have_applied=False)
NO_REPLY = UnavailableError("dynamodb.TransactWriteItems", "timeout")
COLLISION = TransactionCanceledError([("TransactionConflict", None)])


@pytest.fixture
def world() -> SmallWorld:
    return SmallWorld()


def test_batches_of_one_invocation_are_one_commit(world: SmallWorld) -> None:
    result = world.handle(*deliveries(40))
    assert result.retry == ()
    assert result.counts == {Verdict.ACCEPTED: 40}
    assert len(world.commits()) == 1
    assert world.calls.names == ["objects.put", "items.transact"]
    world.assert_exact()


def test_a_marker_holds_who_sent_what_and_lives_fifty_days(world: SmallWorld) -> None:
    world.handle(delivery({**batch(1, keys=2), "source_id": "edge-1", "sequence": 7}, sender="alice"))
    marker = world.marker("b1")
    assert (marker.source_id, marker.sequence, marker.sender_id) == ("edge-1", 7, "alice")
    assert (marker.records, marker.metered, marker.refused) == (2, 2, 0)
    assert marker.content_hash == plain_hash(rows_of(1, keys=2))
    assert marker.expires_at_s == NOW_S + SETTINGS.marker_life_s


def test_the_same_delivery_again_is_a_duplicate(world: SmallWorld) -> None:
    world.handle(*deliveries(5))
    before = world.usage()
    result = world.handle(*deliveries(5))
    assert result.retry == ()
    assert result.counts == {Verdict.DUPLICATE: 5}
    assert world.usage() == before
    world.assert_exact()


def test_duplicates_are_dropped_and_the_rest_goes_into_a_commit_of_its_own(world: SmallWorld) -> None:
    world.handle(*deliveries(3))
    result = world.handle(*deliveries(6))
    assert result.counts == {Verdict.DUPLICATE: 3, Verdict.ACCEPTED: 3}
    assert len(world.commits()) == 2
    # The object of the first attempt remains, because only the cleaner deletes objects in staging.
    assert len(world.objects.keys("staging/")) == 3
    world.assert_exact()


def test_two_copies_in_one_invocation_are_one_batch(world: SmallWorld) -> None:
    result = world.handle(delivery(batch(1), message="first"), delivery(batch(1), message="second"))
    assert result.retry == ()
    assert result.counts == {Verdict.ACCEPTED: 1, Verdict.DUPLICATE: 1}
    world.assert_exact()


def test_copies_in_one_invocation_share_a_failure(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = THROTTLED
    result = world.handle(delivery(batch(1), message="first"), delivery(batch(1), message="second"))
    assert result.retry == ("first", "second")
    assert not world.commits()


def test_other_content_in_one_invocation_waits_for_the_first_and_is_a_conflict(world: SmallWorld) -> None:
    first, other = delivery(batch(1), message="first"), delivery(batch(1, size=999), message="other")
    result = world.handle(first, other)
    assert result.retry == ()
    assert result.counts == {Verdict.ACCEPTED: 1, Verdict.CONFLICT: 1}
    assert world.marker("b1").content_hash == plain_hash(rows_of(1))
    world.assert_exact()


def test_other_content_goes_back_with_the_first_if_that_has_no_verdict(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = THROTTLED
    first, other = delivery(batch(1), message="first"), delivery(batch(1, size=999), message="other")
    assert world.handle(first, other).retry == ("first", "other")


def test_other_content_is_not_decided_before_the_first_though_the_store_is_back(world: SmallWorld) -> None:
    attempts = STAGE.attempts
    # Call 0 puts the first batch's object; after that, the batch's transaction fails on every attempt.
    world.calls.before = dict.fromkeys(range(1, 1 + attempts), THROTTLED)
    first, other = delivery(batch(1), message="first"), delivery(batch(1, size=999), message="other")
    assert world.handle(first, other).retry == ("first", "other")
    assert world.calls.names.count("items.transact") == attempts


def test_a_conflict_is_kept_with_its_content_before_it_is_acknowledged(world: SmallWorld) -> None:
    world.handle(delivery(batch(1)))
    other = delivery(batch(1, size=999))
    assert world.handle(other).counts == {Verdict.CONFLICT: 1}
    content_hash = plain_hash(rows_of(1, size=999))
    conflict = world.conflict("b1", content_hash)
    assert conflict is not None
    body = world.objects.peek(conflict.quarantine_key)
    assert body is not None
    kept = QuarantinedBatch.from_json(body)
    assert (kept.kind, kept.batch_id, kept.content_hash, kept.body) == ("conflict", "b1", content_hash, other.body)
    world.assert_exact()


def test_a_conflict_between_senders_is_alerted_once_with_both(world: SmallWorld) -> None:
    world.handle(delivery(batch(1), sender="alice"))
    for _ in range(2):
        world.handle(delivery(batch(1, size=999), sender="mallory"))
    assert world.metrics.counts["SenderConflicts"] == 1
    assert world.metrics.counts["BatchesConflict"] == 2
    (alert,) = world.alerts.sent
    assert (alert.severity, alert.fields["sender"], alert.fields["first_sender"]) == ("ticket", "mallory", "alice")


def test_a_conflict_between_senders_is_alerted_although_the_invocation_breaks_off(world: SmallWorld) -> None:
    """The conflict is already durable, so a retry would not detect the conflict as new."""
    world.handle(delivery(batch(1), sender="alice"))
    transactions = count()

    def bug(name: str) -> None:
        # The first transaction finds the conflict.
        if name == "items.transact" and next(transactions):
            raise RuntimeError("a bug")

    world.items.on_call = bug
    conflict, suspect = delivery(batch(1, size=999), sender="mallory"), replace(delivery(batch(2)), receive_count=2)
    with pytest.raises(RuntimeError):
        world.handle(conflict, suspect)
    [alert] = world.alerts.sent
    assert (alert.fields["sender"], alert.fields["first_sender"]) == ("mallory", "alice")


def test_a_conflict_of_one_sender_is_counted_and_alerts_nobody(world: SmallWorld) -> None:
    world.handle(delivery(batch(1)), delivery(batch(1, size=999), message="other"))
    assert world.metrics.counts["BatchesConflict"] == 1
    assert not world.alerts.sent


def test_refused_records_of_an_accepted_batch_are_kept_under_its_commit(world: SmallWorld) -> None:
    rows = [*rows_of(1), *rows_of(1, size=-5), *rows_of(1, start_s=NOW_S - 40 * 86_400)]
    world.handle(delivery({"batch_id": "b1", "rows": rows}))
    marker = world.marker("b1")
    assert (marker.records, marker.metered, marker.refused) == (3, 1, 2)
    assert marker.quarantine_key == f"quarantine/2026-11-24/{marker.commit_id}.ndjson"
    body = world.objects.peek(marker.quarantine_key)
    assert body is not None
    kept = list(decode_records(body))
    assert [(each.batch_id, each.record.position, each.record.reasons[0][0]) for each in kept] == [
        ("b1", 1, "invalid_bytes"),
        ("b1", 2, "too_late"),
    ]
    assert world.metrics.counts["RecordsRefused"] == 2
    world.assert_exact()


def test_a_refused_batch_is_kept_and_gets_its_marker(world: SmallWorld) -> None:
    refused = delivery({"batch_id": "b1", "refuse": "record_count_mismatch"})
    assert world.handle(refused).counts == {Verdict.REJECTED: 1}
    marker = world.marker("b1")
    assert (marker.verdict, marker.reason, marker.metered) == ("rejected", "record_count_mismatch", 0)
    body = world.objects.peek(marker.quarantine_key)
    assert body is not None
    kept = QuarantinedBatch.from_json(body)
    assert (kept.kind, kept.reason, kept.body) == ("refused", "record_count_mismatch", refused.body)


def test_a_body_without_a_batch_id_is_kept_under_its_own_hash(world: SmallWorld) -> None:
    assert world.handle(delivery(message="m", body="no json")).counts == {Verdict.REJECTED: 1}
    assert len(world.objects.keys("quarantine/batches/")) == 1
    assert not world.stored("B#")


def test_a_refused_batch_again_is_a_duplicate(world: SmallWorld) -> None:
    for verdict in (Verdict.REJECTED, Verdict.DUPLICATE):
        assert world.handle(delivery({"batch_id": "b1", "refuse": "why"})).counts == {verdict: 1}


def test_other_refused_content_under_a_refused_id_is_a_duplicate_that_is_kept(world: SmallWorld) -> None:
    world.handle(delivery({"batch_id": "b1", "refuse": "why"}))
    assert world.handle(delivery({"batch_id": "b1", "refuse": "other"})).counts == {Verdict.DUPLICATE: 1}
    assert len(world.objects.keys("quarantine/batches/")) == 2


def test_an_accepted_batch_replaces_its_refusal_but_never_the_other_way_round(world: SmallWorld) -> None:
    refused = delivery({"batch_id": "b1", "refuse": "why"})
    world.handle(refused)
    assert world.handle(delivery(batch(1))).counts == {Verdict.ACCEPTED: 1}
    assert world.handle(refused).counts == {Verdict.CONFLICT: 1}
    assert set(world.accepted()) == {"b1"}
    # A PUT of the refusal that arrives late must not replace what says that there was a conflict.
    kept = [world.objects.get(key) for key in world.objects.keys("quarantine/batches/")]
    assert sorted(QuarantinedBatch.from_json(each).kind for each in kept) == ["conflict", "refused"]
    world.assert_exact()


def test_a_copy_that_comes_too_late_is_a_duplicate_of_its_accepted_twin(world: SmallWorld) -> None:
    twin = delivery(batch(1))
    world.handle(twin)
    late = replace(twin, sent_at_ms=(NOW_S + 36 * 86_400) * 1000)
    assert world.handle(late).counts == {Verdict.DUPLICATE: 1}
    assert not world.objects.keys("quarantine/")


def test_an_admitted_copy_speaks_for_a_refused_twin_in_the_same_invocation(world: SmallWorld) -> None:
    twin = delivery(batch(1), message="admitted")
    late = replace(twin, message_id="late", sent_at_ms=(NOW_S + 36 * 86_400) * 1000)
    assert world.handle(late, twin).counts == {Verdict.ACCEPTED: 1, Verdict.DUPLICATE: 1}
    world.assert_exact()


def test_a_pointer_to_a_missing_object_is_refused_without_a_marker(world: SmallWorld) -> None:
    gone = delivery({"batch_id": "b1", "object": "ingest/b1"})
    assert world.handle(gone).counts == {Verdict.REJECTED: 1}
    assert world.marker("b1").reason == "object_missing"


def test_a_pointer_to_a_missing_object_is_a_duplicate_with_an_accepted_marker(world: SmallWorld) -> None:
    world.handle(delivery(batch(1)))
    assert world.handle(delivery({"batch_id": "b1", "object": "ingest/b1"})).counts == {Verdict.DUPLICATE: 1}
    assert not world.objects.keys("quarantine/")


def test_a_message_without_a_batch_is_acknowledged(world: SmallWorld) -> None:
    assert world.handle(delivery(message="m")).counts == {Verdict.NO_BATCH: 1}
    assert not world.calls.names


def test_a_message_of_several_batches_goes_back_until_all_have_a_verdict(world: SmallWorld) -> None:
    several = delivery(batch(1), {"batch_id": "b2", "refuse": "why"}, message="m")
    world.calls.refuse["items.put"] = THROTTLED
    assert world.handle(several).retry == ("m",)
    world.calls.refuse.clear()
    result = world.handle(several)
    assert result.retry == ()
    assert result.counts == {Verdict.DUPLICATE: 1, Verdict.REJECTED: 1}
    world.assert_exact()


# A marker without hash: rebuilt from rows, so only its totals are known, or held by a restore, without totals.

REBUILT: dict[str, object] = {"content_hash": None, "hash_version": 0, "commit_id": ""}
HELD: dict[str, object] = {**REBUILT, "records": 0, "metered": 0, "hours": {}}


def test_a_copy_with_the_totals_of_a_rebuilt_marker_is_a_flagged_duplicate(world: SmallWorld) -> None:
    world.handle(delivery(batch(1)))
    _change_marker(world, "b1", **REBUILT)
    assert world.handle(delivery(batch(1))).counts == {Verdict.DUPLICATE: 1}
    assert world.metrics.counts["DuplicatesUnverified"] == 1
    assert not world.objects.keys("quarantine/")
    world.assert_exact()


def test_content_with_other_totals_than_a_rebuilt_marker_is_kept_and_noted_like_a_conflict(world: SmallWorld) -> None:
    world.handle(delivery(batch(1), sender="alice"))
    _change_marker(world, "b1", **REBUILT, sender_id="")
    other = delivery(batch(1, size=999), sender="bob")
    for _ in range(2):
        assert world.handle(other).counts == {Verdict.UNVERIFIED: 1}
    assert (world.metrics.counts["BatchesUnverified"], world.metrics.counts["DuplicatesUnverified"]) == (2, 0)
    conflict = world.conflict("b1", plain_hash(rows_of(1, size=999)))
    assert conflict is not None
    body = world.objects.peek(conflict.quarantine_key)
    assert body is not None
    kept = QuarantinedBatch.from_json(body)
    assert (kept.kind, kept.reason, kept.body) == ("conflict", "unverified", other.body)
    # The note is of the watch, which raises the ticket. Of two senders nothing is known.
    assert len(world.stored(CONFLICT_PK)) == 1
    assert not world.alerts.sent
    world.assert_exact()


@pytest.mark.parametrize("trouble", ["objects.put", "items.put"])
def test_unverified_content_that_cannot_be_kept_goes_back(world: SmallWorld, trouble: str) -> None:
    world.handle(delivery(batch(1)))
    _change_marker(world, "b1", **HELD)
    world.calls.refuse[trouble] = UnavailableError(trouble, "timeout")
    # It was received before, so that its marker is looked up first.
    again = replace(delivery(batch(1)), receive_count=2)
    assert world.handle(again).retry == ("b1",)
    world.calls.refuse.clear()
    assert world.handle(again).counts == {Verdict.UNVERIFIED: 1}


@pytest.mark.parametrize("moved_s", [3_600, -86_400])
def test_equal_sums_in_another_hour_are_other_totals(world: SmallWorld, moved_s: int) -> None:
    world.handle(delivery(batch(1)))
    _change_marker(world, "b1", **REBUILT)
    moved: PlainBatch = {"batch_id": "b1", "rows": rows_of(1, start_s=NOW_S - moved_s)}
    assert world.handle(delivery(moved)).counts == {Verdict.UNVERIFIED: 1}


def test_what_would_not_be_metered_is_no_copy_of_a_rebuilt_marker_except_if_its_object_is_gone(
    world: SmallWorld,
) -> None:
    world.handle(delivery(batch(1)))
    _change_marker(world, "b1", **REBUILT)
    late = replace(delivery(batch(1)), sent_at_ms=(NOW_S + 36 * 86_400) * 1000)
    assert world.handle(late).counts == {Verdict.UNVERIFIED: 1}
    assert world.handle(delivery({"batch_id": "b1", "object": "ingest/b1"})).counts == {Verdict.DUPLICATE: 1}


@pytest.mark.parametrize("sent", [batch(1), {"batch_id": "b1", "refuse": "why"}, {"batch_id": "b1", "object": "gone"}])
def test_nothing_is_a_copy_of_a_held_id(world: SmallWorld, sent: PlainBatch) -> None:
    world.handle(delivery(batch(1)))
    _change_marker(world, "b1", **HELD)
    assert world.handle(delivery(sent)).counts == {Verdict.UNVERIFIED: 1}
    assert len(world.objects.keys("quarantine/batches/")) == 1


OCTOBER_S = parse_hour("2026-10-30T05")


def test_rows_of_a_closed_month_are_compared_in_the_hour_in_which_they_were_booked(world: SmallWorld) -> None:
    world.items.put(Put(table=Table.LEDGER, item=Period(month="2026-10", state="closing").to_item()))
    late = [*rows_of(1, start_s=OCTOBER_S), *rows_of(1, start_s=OCTOBER_S + 3_600)]
    several = delivery({"batch_id": "b1", "rows": [*late, *rows_of(1)]})
    alone = delivery({"batch_id": "b2", "rows": late})
    other = delivery({"batch_id": "b2", "rows": [*late[1:], *rows_of(1, size=999, start_s=OCTOBER_S)]})
    partly = delivery({"batch_id": "b2", "rows": [*late[1:], *rows_of(1, start_s=NOW_S)]})
    world.handle(several, alone)
    for batch_id in ("b1", "b2"):
        assert [*world.marker(batch_id).hours] == [NOW_S - NOW_S % 3_600]
        _change_marker(world, batch_id, **REBUILT)
    world.clock.advance_s(7_200)
    assert world.handle(several, alone).counts == {Verdict.DUPLICATE: 2}
    assert world.handle(other).counts == {Verdict.UNVERIFIED: 1}
    # Its totals would be the marker's in this hour as well: that is as much as the marker tells.
    assert world.handle(partly).counts == {Verdict.DUPLICATE: 1}
    assert world.metrics.counts["DuplicatesUnverified"] == 3


def test_rows_booked_in_a_later_hour_of_their_own_month_were_not_rebooked(world: SmallWorld) -> None:
    world.handle(delivery(batch(1)))
    hour_s = NOW_S - NOW_S % 3_600
    [total] = world.marker("b1").hours.values()
    _change_marker(world, "b1", **{**REBUILT, "hours": {hour_s + 3_600: total}})
    assert world.handle(delivery(batch(1))).counts == {Verdict.UNVERIFIED: 1}


def test_a_marker_of_an_unknown_hash_version_is_left_to_code_that_knows_it(world: SmallWorld) -> None:
    world.handle(delivery(batch(1)))
    _change_marker(world, "b1", hash_version=2)
    assert world.handle(delivery(batch(1))).retry == ("b1",)


@pytest.mark.parametrize("trouble", [THROTTLED, NO_REPLY, COLLISION])
def test_the_same_transaction_is_sent_again_after_trouble(world: SmallWorld, trouble: Exception) -> None:
    world.calls.before[1] = trouble
    world.calls.before[2] = trouble
    result = world.handle(*deliveries(5))
    assert result.counts == {Verdict.ACCEPTED: 5}
    assert world.calls.names == ["objects.put", *["items.transact"] * 3]
    assert world.metrics.counts["TransactionsRepeated"] == 2


def test_a_lost_reply_of_the_transaction_is_success_not_duplicates(world: SmallWorld) -> None:
    world.calls.after[1] = NO_REPLY
    assert world.handle(*deliveries(5)).counts == {Verdict.ACCEPTED: 5}
    assert len(world.commits()) == 1
    world.assert_exact()


def test_a_commit_that_stays_in_trouble_is_halved_under_new_ids(world: SmallWorld) -> None:
    world.calls.before |= dict.fromkeys(range(1, 1 + SETTINGS.attempts), COLLISION)
    assert world.handle(*deliveries(8)).counts == {Verdict.ACCEPTED: 8}
    assert len(world.commits()) == 2
    assert len(world.objects.keys("staging/")) == 3
    world.assert_exact()


def test_a_single_batch_that_stays_in_trouble_goes_back(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = COLLISION
    result = world.handle(*deliveries(4))
    assert sorted(result.retry) == ["b0", "b1", "b2", "b3"]
    assert result.counts == {Verdict.PUT_BACK: 4}


def test_trouble_with_the_object_puts_its_commit_back(world: SmallWorld) -> None:
    world.calls.refuse["objects.put"] = UnavailableError("s3.PutObject", "slow down")
    assert sorted(world.handle(*deliveries(3)).retry) == ["b0", "b1", "b2"]
    assert not world.commits()


def test_trouble_of_one_batch_leaves_the_others_alone(world: SmallWorld) -> None:
    world.objects.put("ingest/b9", b"[]", if_absent=False)
    world.calls.refuse["objects.get"] = UnavailableError("s3.GetObject", "slow down")
    result = world.handle(*deliveries(3), delivery({"batch_id": "b9", "object": "ingest/b9"}))
    assert result.retry == ("b9",)
    assert result.counts == {Verdict.ACCEPTED: 3, Verdict.PUT_BACK: 1}


def test_a_commit_that_was_fenced_off_is_attempted_under_a_new_id(world: SmallWorld) -> None:
    twin = SmallWorld()
    commit_id = twin.entropy.token()
    fence = CommitRecord(commit_id=commit_id, state="aborted")
    world.items.put(Put(table=Table.LEDGER, item=fence.to_item()))
    assert world.handle(*deliveries(2)).counts == {Verdict.ACCEPTED: 2}
    item = world.items.peek(Table.LEDGER, commit_key(commit_id))
    assert item is not None
    assert item["state"] == "aborted"
    assert len(world.accepted()) == 2


def test_late_rows_of_a_closed_month_are_booked_in_the_current_hour_and_name_their_own(world: SmallWorld) -> None:
    world.items.put(Put(table=Table.LEDGER, item=Period(month="2026-10", state="closing").to_item()))
    october = parse_hour("2026-10-30T07")
    rows = [*rows_of(1, start_s=october + 60), *rows_of(1)]
    assert world.handle(delivery({"batch_id": "b1", "rows": rows})).counts == {Verdict.ACCEPTED: 1}
    now_hour = parse_hour("2026-11-24T13")
    assert {(key.hour_s, key.corrects_s) for key in world.usage()} == {(now_hour, None), (now_hour, october)}
    (commit,) = world.commits()
    assert commit.hours == (now_hour,)
    world.assert_exact()


def test_a_month_that_has_ended_but_is_not_closing_takes_its_rows(world: SmallWorld) -> None:
    october = parse_hour("2026-10-30T07")
    world.handle(delivery(batch(1, start_s=october)))
    assert {(key.hour_s, key.corrects_s) for key in world.usage()} == {(october, None)}
    world.assert_exact()


def test_time_that_runs_short_puts_back_what_was_not_begun(world: SmallWorld) -> None:
    assert world.handle(*deliveries(3), left_ms=SETTINGS.reserve_ms - 1).counts == {Verdict.PUT_BACK: 3}
    assert not world.calls.names


def test_budgets_make_several_commits() -> None:
    world = SmallWorld(settings=SETTINGS.model_copy(update={"commit_records": 10}))
    assert world.handle(*deliveries(9, keys=4)).counts == {Verdict.ACCEPTED: 9}
    assert [commit.rows for commit in world.commits()] == [8, 8, 8, 8, 4]
    world.assert_exact()


class _KillingReader:
    def __init__(self, reader: BatchReader) -> None:
        self._reader = reader

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        if delivery.message_id == "poison":
            raise KilledError
        return self._reader.read(delivery, admission=admission, allowance=allowance)


def test_a_message_that_kills_its_worker_keeps_no_other_from_its_verdict() -> None:
    world = SmallWorld(wrap=_KillingReader)
    messages = [*deliveries(50), delivery(batch(99), message="poison"), *list(deliveries(100))[51:]]
    for receive_count in range(1, 5):
        with pytest.raises(KilledError):
            world.handle(*(replace(message, receive_count=receive_count) for message in messages))
    # All messages were received together each time, and yet all others are metered before the last receive.
    assert set(world.accepted()) == {f"b{number}" for number in range(100)} - {"b50"}
    world.assert_exact()


def test_from_the_third_receive_a_message_is_handled_alone_after_the_others() -> None:
    world = SmallWorld(wrap=_KillingReader)
    poison = delivery(batch(99), message="poison", receive_count=3)
    with pytest.raises(KilledError):
        world.handle(poison, *deliveries(10))
    assert len(world.accepted()) == 10
    assert len(world.commits()) == 1


class _SlowReader:
    """Takes longer than the remaining time for messages with ids `slow…`, and then checks the allowance."""

    def __init__(self, reader: BatchReader) -> None:
        self._reader = reader
        self.world: SmallWorld | None = None

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        reading = self._reader.read(delivery, admission=admission, allowance=allowance)
        assert self.world is not None
        if not delivery.message_id.startswith("slow"):
            self.world.clock.sleep_ms(1)
            if allowance.until.remaining_ms() <= 0:
                raise OutOfTimeError
            return reading
        self.world.clock.sleep_ms(max(allowance.until.remaining_ms(), 0))
        if not allowance.final:
            raise OutOfTimeError
        [batch] = reading.batches
        assert isinstance(batch, DecodedBatch)
        late = refused_batch(
            batch.batch_id,
            sender_id=delivery.sender_id,
            content_hash="ff",
            hash_version=0,
            problems=(("too_slow", ""),),
            records=0,
        )
        return BatchReading(batches=(late,))


def _slow_world() -> SmallWorld:
    made: list[_SlowReader] = []

    def wrap(reader: BatchReader) -> BatchReader:
        made.append(_SlowReader(reader))
        return made[0]

    world = SmallWorld(wrap=wrap)
    made[0].world = world
    return world


def _slow(number: int, receive_count: int = 1) -> Delivery:
    return delivery(batch(1_000 + number), message=f"slow{number}", receive_count=receive_count)


@pytest.mark.parametrize("receive_count", range(1, 6))
def test_many_slow_messages_take_no_time_of_their_neighbours(receive_count: int) -> None:
    world = _slow_world()
    slow = [_slow(number, receive_count) for number in range(10)]
    good = [replace(each, receive_count=receive_count) for each in deliveries(10)]
    # This is the worst order, because the valid messages come last.
    result = world.handle(*slow, *good)
    assert set(world.accepted()) == {f"b{number}" for number in range(10)}
    assert world.clock.now_ms() - NOW_S * 1000 < 50_000, "the worker answers before it is stopped"
    assert {each.message_id for each in good}.isdisjoint(result.retry)
    world.assert_exact()


def test_a_slow_message_goes_back_until_it_was_too_slow_alone() -> None:
    for receive_count, verdict in ((1, Verdict.PUT_BACK), (2, Verdict.PUT_BACK), (3, Verdict.PUT_BACK)):
        world = _slow_world()
        assert world.handle(_slow(1, receive_count)).counts == {verdict: 1}
        assert world.stored("B#b1001") == []
    world = _slow_world()
    assert world.handle(_slow(1, 4)).counts == {Verdict.REJECTED: 1}
    assert world.marker("b1001").reason == "too_slow"


def test_a_slow_message_is_not_refused_for_the_time_that_others_took() -> None:
    world = _slow_world()
    result = world.handle(*(_slow(number, 4) for number in range(8)))
    # The first two deliveries had a fair share of the time; another invocation reads the other deliveries.
    assert result.counts == {Verdict.REJECTED: 2, Verdict.PUT_BACK: 6}


def test_what_was_received_three_times_is_noted_before_anything_is_handled_and_nothing_else_is() -> None:
    world = SmallWorld(wrap=_KillingReader)
    poison = delivery(batch(99), message="poison", receive_count=3)
    last = replace(delivery(batch(98), message="last"), receive_count=5)
    with pytest.raises(KilledError):
        world.handle(poison, last, *(replace(each, receive_count=2) for each in deliveries(3)))
    assert {HeldMessage.from_item(item).message_id for item in world.stored(HELD_PK)} == {"poison", "last"}
    assert all(HeldMessage.from_item(item).sent_s == poison.sent_at_ms // 1000 for item in world.stored(HELD_PK))


class _RelabelingReader:
    """Labels hashes with an unknown version, to test that the version is detected."""

    def __init__(self, reader: BatchReader) -> None:
        self._reader = reader

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        reading = self._reader.read(delivery, admission=admission, allowance=allowance)
        return BatchReading(
            batches=tuple(
                replace(each, unknown_regions=frozenset({"xx-new-1"})) if isinstance(each, DecodedBatch) else each
                for each in reading.batches
            )
        )


def test_unknown_regions_are_metered_and_counted() -> None:
    world = SmallWorld(wrap=_RelabelingReader)
    world.handle(delivery(batch(1)))
    assert world.metrics.counts["UnknownRegions"] == 1
    assert world.metrics.counts["BytesMetered"] == 100


def test_an_alert_that_is_not_taken_is_counted_and_changes_no_verdict(world: SmallWorld) -> None:
    class _NoAlerts:
        def send(self, severity: str, subject: str, fields: object) -> None:
            raise UnavailableError("sns.Publish", f"{severity} {subject} {fields}")

    world.handle(delivery(batch(1)))
    world.alerts = _NoAlerts()  # type: ignore[assignment]  # another `Alerts`
    result = world.worker().handle(
        [delivery(batch(1, size=999), sender="mallory")],
        DeadlineAt(clock=world.clock, at_ms=world.clock.now_ms() + 50_000),
    )
    assert result.counts == {Verdict.CONFLICT: 1}
    assert world.metrics.counts["AlertsLost"] == 1


def test_refused_content_has_the_same_name_in_quarantine_however_often_it_comes() -> None:
    assert quarantined_batch_key("b1", "00ff") == quarantined_batch_key("b1", "00ff")
    assert quarantined_batch_key("b1", "00ff") != quarantined_batch_key("b2", "00ff")


@pytest.mark.parametrize("error", [OSError(ENOSPC, "No space left on device"), MemoryError(), RuntimeError("a fault")])
def test_a_delivery_that_its_reader_fails_at_goes_back_alone_and_is_counted(error: Exception) -> None:
    class _FailingReader(_KillingReader):
        def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
            if delivery.message_id == "poison":
                raise error
            return super().read(delivery, admission=admission, allowance=allowance)

    world = SmallWorld(wrap=_FailingReader)
    messages = [*deliveries(5), delivery(batch(99), message="poison"), *list(deliveries(9))[5:]]
    result = world.handle(*messages)
    assert result.retry == ("poison",)
    assert result.counts == {Verdict.ACCEPTED: 9, Verdict.PUT_BACK: 1}
    failed = ("ReadersFailed", (("error", type(error).__name__),))
    assert world.metrics.by_dimensions[failed] == 1
    world.assert_exact()


def test_a_commit_that_was_planned_before_a_months_end_is_built_as_it_was_planned(world: SmallWorld) -> None:
    """One group has two plans: the month ends during the first transaction, and the second plan has no spare action."""
    ends_s = parse_hour("2026-12-01T00")
    world.clock.advance_s(ends_s - 1 - NOW_S)
    rows = [delivery(batch(number, start_s=ends_s - 1)) for number in range(200)]
    messages = [replace(each, sent_at_ms=world.clock.now_ms()) for each in rows]
    planned: list[int] = []

    def a_second_later(name: str) -> None:
        if name == "items.transact":
            planned.append(len(world.accepted()))
            world.clock.advance_s(1)

    world.items.on_call = a_second_later
    result = world.handle(*messages)
    assert result.counts == {Verdict.ACCEPTED: 200}
    assert planned[0] == 0
    assert planned[1] > 40
    world.assert_exact()


def _change_marker(world: SmallWorld, batch_id: str, **changes: object) -> None:
    changed = replace(world.marker(batch_id), **changes)  # type: ignore[arg-type]  # its own fields
    world.items.put(Put(table=Table.LEDGER, item=changed.to_item()))


def test_a_message_that_was_received_before_is_looked_up_before_it_is_written_again(world: SmallWorld) -> None:
    world.handle(*deliveries(5))
    world.calls.names.clear()
    result = world.handle(*(replace(each, receive_count=2) for each in deliveries(5)))
    assert result.counts == {Verdict.DUPLICATE: 5}
    assert world.calls.whole() == ["items.get_many"]


def test_after_a_refused_commit_verdicts_are_looked_up_first_until_that_is_in_vain(world: SmallWorld) -> None:
    world.handle(*deliveries(5))
    world.handle(*deliveries(6))
    world.calls.names.clear()
    assert world.handle(*deliveries(7)).counts == {Verdict.DUPLICATE: 6, Verdict.ACCEPTED: 1}
    assert world.calls.whole() == ["items.get_many", "objects.put", "items.transact"]
    for number in range(100, 120):
        world.handle(delivery(batch(number)))
    world.calls.names.clear()
    world.handle(delivery(batch(200)))
    assert world.calls.whole() == ["objects.put", "items.transact"]
    world.assert_exact()


def test_what_cannot_be_looked_up_beforehand_is_found_by_the_transaction(world: SmallWorld) -> None:
    world.handle(*deliveries(5))
    world.calls.refuse["items.get_many"] = THROTTLED
    assert world.handle(*(replace(each, receive_count=2) for each in deliveries(6))).counts == {
        Verdict.DUPLICATE: 5,
        Verdict.ACCEPTED: 1,
    }
    world.assert_exact()


def test_a_commit_that_is_too_large_is_halved_and_one_batch_too_large_goes_back_alone(world: SmallWorld) -> None:
    world.items.transaction_bytes = 3_000
    hours = [row for hour in range(60) for row in rows_of(99, start_s=NOW_S - hour * 3_600)]
    result = world.handle(*deliveries(8), delivery({"batch_id": "b99", "rows": hours}))
    assert result.counts == {Verdict.ACCEPTED: 8, Verdict.PUT_BACK: 1}
    assert result.retry == ("b99",)
    world.assert_exact()


def test_a_number_of_shards_that_cannot_be_read_stops_commits_and_no_other_verdict() -> None:
    world = SmallWorld(settings=SETTINGS.model_copy(update={"shards": 4}))
    world.handle(delivery(batch(1)))
    worker = world.worker()
    world.items.put(Put(table=Table.LEDGER, item={"pk": SHARDS_KEY.pk, "sk": SHARDS_KEY.sk, "number": "4"}))
    copy = delivery(batch(1), message="copy", receive_count=2)
    deadline = DeadlineAt(clock=world.clock, at_ms=world.clock.now_ms() + 50_000)
    result = worker.handle([delivery(batch(2), message="new"), copy], deadline)
    assert result.retry == ("new",)
    assert result.counts == {Verdict.PUT_BACK: 1, Verdict.DUPLICATE: 1}
    assert "S#shards" in result.contradictions[0]
    world.items.put(Put(table=Table.LEDGER, item={"pk": SHARDS_KEY.pk, "sk": SHARDS_KEY.sk, "number": 4}))
    world.assert_exact()


def test_notes_that_the_ledger_does_not_take_leave_the_time_for_verdicts() -> None:
    world = SmallWorld()
    on_call = world.items.on_call

    def slow_put(name: str) -> None:
        on_call(name)
        if name == "items.put":
            world.clock.advance_s(2)
            raise UnavailableError("dynamodb.PutItem", "throttled", may_have_applied=False)

    world.items.on_call = slow_put
    result = world.handle(*(replace(each, receive_count=3) for each in deliveries(40)))
    assert result.retry == ()
    assert len(world.accepted()) == 40
    assert world.metrics.counts[metric_names.HELD_NOTES_LOST] == 40


def test_the_oldest_message_is_noted_first() -> None:
    world = SmallWorld()
    world.items.on_call = lambda name: world.clock.advance_s(60) if name == "items.put" else None
    young, old = delivery(batch(1), message="young", receive_count=3), delivery(batch(2), message="old")
    old = replace(old, receive_count=3, sent_at_ms=young.sent_at_ms - 60_000)
    world.handle(young, old)
    assert [HeldMessage.from_item(item).message_id for item in world.stored(HELD_PK)] == ["old"]


# The tally never acknowledges a message merely because it was omitted.

ONE, TWO = delivery(batch(1)), delivery(batch(2), batch(3))


def read(tally: Tally, message: Delivery) -> list[Copy]:
    return tally.read(message, PlainBatchReader().read(message, admission=ADMISSION, allowance=UNHURRIED).batches)


def settle(tally: Tally, copy: Copy, verdict: Verdict) -> None:
    tally.settle(Content(copies=[copy]), verdict)


def test_a_message_that_nobody_mentions_goes_back_and_is_counted() -> None:
    tally = Tally(MemoryMetrics(), [ONE, TWO])
    [copy] = read(tally, ONE)
    settle(tally, copy, Verdict.ACCEPTED)
    assert tally.close() == ("b2",)
    assert tally.counts == {Verdict.ACCEPTED: 1, Verdict.PUT_BACK: 1}


def test_a_batch_that_nobody_mentions_takes_its_message_back() -> None:
    tally = Tally(MemoryMetrics(), [TWO])
    first, _ = read(tally, TWO)
    settle(tally, first, Verdict.ACCEPTED)
    assert tally.close() == ("b2",)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_batch_without_a_verdict_is_enough(order: tuple[int, int]) -> None:
    tally = Tally(MemoryMetrics(), [TWO])
    copies = read(tally, TWO)
    for place, verdict in zip(order, (Verdict.PUT_BACK, Verdict.CONFLICT), strict=True):
        settle(tally, copies[place], verdict)
    assert tally.close() == ("b2",)


def test_a_reading_without_anything_in_it_settles_nothing() -> None:
    tally = Tally(MemoryMetrics(), [ONE])
    assert tally.read(ONE, ()) == []
    assert tally.close() == ("b1",)


def test_a_message_that_was_handed_over_twice_is_settled_when_both_are() -> None:
    tally = Tally(MemoryMetrics(), [ONE, ONE])
    [copy] = read(tally, ONE)
    settle(tally, copy, Verdict.ACCEPTED)
    assert tally.close() == ("b1",)
    tally = Tally(MemoryMetrics(), [ONE, ONE])
    for copy in (*read(tally, ONE), *read(tally, ONE)):
        settle(tally, copy, Verdict.ACCEPTED)
    assert tally.close() == ()


def test_what_is_settled_twice_is_loud_and_stands_for_no_other() -> None:
    tally = Tally(MemoryMetrics(), [TWO])
    first, _ = read(tally, TWO)
    settle(tally, first, Verdict.ACCEPTED)
    with pytest.raises(KeyError):
        settle(tally, first, Verdict.ACCEPTED)
