"""Throttles are not conflicts (P17): a throttle causes no halving, no second object and no dead letter."""

from dataclasses import replace
from typing import Any

import pytest

from metering.commit.deduplication import Verdict
from metering.commit.throttling import ThrottleMemory, hidden_s
from metering.errors import ThrottledError, TransactionCanceledError, UnavailableError
from metering.fleet.stage import StageConfig
from metering.ledger.commits import CommitRecord
from metering.stores.objects import commit_id_of
from metering.stores.queues import Delivery
from metering.stores.writes import Put, Table
from tests.support.memory.clock import DeadlineAt, SeededEntropy
from tests.support.memory.queues import MemoryQueue
from tests.support.small_world import NOW_S, SETTINGS, SmallWorld, batch, deliveries, delivery, rows_of

CANCELED = TransactionCanceledError([None, ("ThrottlingError", None)])
REFUSED = ThrottledError("dynamodb.TransactWriteItems", "ThrottlingException", may_have_applied=False)
COLLISION = TransactionCanceledError([("TransactionConflict", None)])
NO_REPLY = UnavailableError("dynamodb.TransactWriteItems", "timeout")
PROD = StageConfig.load("prod")
LONGER_THAN_ANY_PAUSE_S = 21


@pytest.fixture
def world() -> SmallWorld:
    return SmallWorld()


def throttled_a_while_ago(world: SmallWorld, *sent: Delivery) -> None:
    """Let a throttle return messages to the queue, then end the throttle."""
    world.calls.refuse["items.transact"] = CANCELED
    world.handle(*sent)
    world.calls.refuse.clear()
    world.clock.advance_s(LONGER_THAN_ANY_PAUSE_S)


@pytest.mark.parametrize("throttle", [CANCELED, REFUSED], ids=["canceled", "refused"])
def test_a_throttled_commit_goes_back_whole_with_one_object(world: SmallWorld, throttle: Exception) -> None:
    world.calls.refuse["items.transact"] = throttle
    result = world.handle(*deliveries(40))
    assert result.counts == {Verdict.PUT_BACK: 40}
    assert world.calls.names == ["objects.put", *["items.transact"] * SETTINGS.attempts]
    assert set(result.hide_s) == set(result.retry)
    assert all(90 <= seconds < 180 for seconds in result.hide_s.values())


def test_of_many_commits_of_an_invocation_the_first_is_tried_and_no_other(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = CANCELED
    result = world.handle(*deliveries(400))
    assert world.calls.names == ["objects.put", *["items.transact"] * SETTINGS.attempts]
    assert len(result.hide_s) == 400


def test_a_throttle_that_ends_in_time_costs_a_repetition_and_nothing_else(world: SmallWorld) -> None:
    world.calls.before |= {1: CANCELED, 2: REFUSED}
    result = world.handle(*deliveries(5))
    assert (result.counts, result.hide_s) == ({Verdict.ACCEPTED: 5}, {})
    assert len(world.objects.keys("staging/")) == 1
    world.assert_exact()


def test_a_commit_with_throttles_and_conflicts_is_judged_by_its_last_answer(world: SmallWorld) -> None:
    world.calls.before |= dict(enumerate([COLLISION, NO_REPLY, COLLISION, CANCELED], start=1))
    assert world.handle(*deliveries(2)).counts == {Verdict.PUT_BACK: 2}
    assert len(world.objects.keys("staging/")) == 1


def test_a_reason_of_each_kind_is_a_throttle(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = TransactionCanceledError([("TransactionConflict", None), *CANCELED.reasons])
    world.handle(*deliveries(8))
    assert len(world.objects.keys("staging/")) == 1


def test_a_conflict_still_halves_and_hides_nothing(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = COLLISION
    result = world.handle(*deliveries(4))
    assert len(world.objects.keys("staging/")) == 7
    assert result.hide_s == {}


def test_after_a_throttle_nothing_is_written_for_a_while(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = CANCELED
    world.handle(*deliveries(2))
    world.calls.names.clear()
    result = world.handle(*deliveries(2))
    assert world.calls.names == []
    assert set(result.hide_s) == set(result.retry)


def test_then_the_throttled_transaction_is_sent_once_more_and_no_object_is_put(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = CANCELED
    world.handle(*deliveries(2))
    world.calls.names.clear()
    world.clock.advance_s(LONGER_THAN_ANY_PAUSE_S)
    assert world.handle(*deliveries(300)).counts == {Verdict.PUT_BACK: 300}
    assert world.calls.names == ["items.transact"]


def test_the_throttled_commit_lands_late_and_its_messages_are_duplicates(world: SmallWorld) -> None:
    throttled_a_while_ago(world, *deliveries(5))
    again = [replace(each, receive_count=2) for each in deliveries(5)]
    assert world.handle(*again, delivery(batch(9))).counts == {Verdict.DUPLICATE: 5, Verdict.ACCEPTED: 1}
    assert len(world.objects.keys("staging/")) == len(world.commits()) == 2
    assert world.metrics.counts["BatchesAccepted"] == 6
    assert world.metrics.counts["RecordsMetered"] == 6
    world.assert_exact()


def test_a_throttled_commit_that_others_were_quicker_with_is_given_up(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = CANCELED
    world.handle(*deliveries(5))
    world.calls.refuse.clear()
    world.worker().handle(deliveries(3), world.deadline(50))
    world.clock.advance_s(LONGER_THAN_ANY_PAUSE_S)
    again = [replace(each, receive_count=2) for each in deliveries(5)]
    assert world.handle(*again).counts == {Verdict.DUPLICATE: 3, Verdict.ACCEPTED: 2}
    world.assert_exact()


def test_a_throttled_commit_that_was_fenced_off_is_given_up(world: SmallWorld) -> None:
    world.calls.refuse["items.transact"] = CANCELED
    world.handle(*deliveries(2))
    [key] = world.objects.keys("staging/")
    fence = CommitRecord(commit_id=commit_id_of(key), state="aborted")
    world.calls.refuse.clear()
    world.items.put(Put(table=Table.LEDGER, item=fence.to_item()))
    world.clock.advance_s(LONGER_THAN_ANY_PAUSE_S)
    assert world.handle(*deliveries(2)).counts == {Verdict.ACCEPTED: 2}
    assert len(world.accepted()) == 2


def test_once_a_transaction_got_through_all_is_as_it_was(world: SmallWorld) -> None:
    throttled_a_while_ago(world, *deliveries(2))
    world.handle(delivery(batch(400)))
    world.calls.names.clear()
    world.calls.before |= {1: CANCELED, 2: CANCELED}
    assert world.handle(delivery(batch(500))).counts == {Verdict.ACCEPTED: 1}
    world.assert_exact()


@pytest.mark.parametrize("reply", [NO_REPLY, COLLISION], ids=["no reply", "conflict"])
def test_a_late_attempt_of_unknown_outcome_is_given_up_and_counts_once(world: SmallWorld, reply: Exception) -> None:
    throttled_a_while_ago(world, delivery(batch(1)))
    world.calls.names.clear()
    world.calls.before |= {0: reply}
    assert world.handle(*deliveries(4)).counts == {Verdict.ACCEPTED: 4}
    world.assert_exact()


def test_a_refused_batch_waits_for_its_throttled_marker_too(world: SmallWorld) -> None:
    world.calls.refuse["items.put"] = REFUSED
    result = world.handle(delivery({"batch_id": "b1", "refuse": "why"}, receive_count=2))
    assert result.retry == ("b1",)
    assert 300 <= result.hide_s["b1"] < 420


def test_a_retry_whose_original_cannot_be_read_for_a_throttle_waits_too(world: SmallWorld) -> None:
    world.calls.refuse["items.get_many"] = REFUSED
    result = world.handle(delivery({"batch_id": "b1", "rows": rows_of(1), "retry_of": "b0"}))
    assert list(result.hide_s) == ["b1"]


def test_a_throttled_bucket_hides_what_it_sends_back(world: SmallWorld) -> None:
    world.calls.refuse["objects.put"] = ThrottledError("s3.PutObject", "SlowDown")
    assert set(world.handle(*deliveries(3)).hide_s) == {"b0", "b1", "b2"}


def test_what_has_its_verdict_is_never_hidden(world: SmallWorld) -> None:
    world.handle(delivery(batch(1)))
    world.calls.refuse["items.transact"] = CANCELED
    result = world.handle(delivery(batch(1), receive_count=2), delivery(batch(2)))
    assert result.counts == {Verdict.DUPLICATE: 1, Verdict.PUT_BACK: 1}
    assert list(result.hide_s) == ["b2"]


def test_pauses_of_workers_differ() -> None:
    lengths = set()
    for seed in range(20):
        world = SmallWorld()
        memory = ThrottleMemory(clock=world.clock, entropy=SeededEntropy(seed))
        body: Any = object()
        for longest_s in (10, 20, 20):
            memory.throttled(body)
            start_ms = world.clock.now_ms()
            while memory.pausing:
                world.clock.sleep_ms(100)
            length_ms = world.clock.now_ms() - start_ms
            assert longest_s * 500 <= length_ms <= longest_s * 1_000
        lengths.add(length_ms)
        assert memory.body is body
        memory.got_through()
        assert memory.body is None
    assert len(lengths) > 10


def test_the_receives_of_a_message_last_longer_than_half_an_hour() -> None:
    class Least(SeededEntropy):
        def below(self, limit: int) -> int:
            return 0 * limit

    times = [hidden_s(receive, Least(1)) for receive in range(1, PROD.max_receives)]
    assert sum(times) > 30 * 60
    assert hidden_s(1, Least(1)) > 60 + LONGER_THAN_ANY_PAUSE_S - 1
    assert {hidden_s(99, SeededEntropy(seed)) < PROD.visibility_s for seed in range(50)} == {True}


class Stage:
    """Workers on one queue, as the event source mapping runs them, and a table that can be throttled for a while."""

    def __init__(self, *, workers: int = 4) -> None:
        self.world = SmallWorld()
        self.dead = MemoryQueue(self.world.clock, name="dead")
        self.queue = MemoryQueue(
            self.world.clock, visibility_s=PROD.visibility_s, max_receives=PROD.max_receives, dead=self.dead
        )
        self.workers = [self.world.worker() for _ in range(workers)]
        self.throttled = False
        self.actions = 0
        self.most_receives = 0
        self.sent = 0
        original = self.world.items.transact

        def transact(actions: list[object]) -> None:
            self.actions += len(actions)
            if self.throttled:
                raise CANCELED
            original(actions)  # type: ignore[arg-type]  # it is handed on as it came

        self.world.items.transact = transact  # type: ignore[method-assign, assignment]  # the table's side of a throttle

    def second(self, messages: int) -> None:
        """Simulate one second: send messages, and invoke each worker once."""
        bodies = [delivery(batch(self.sent + each)).body for each in range(messages)]
        self.queue.send_many(bodies)
        self.sent += messages
        for worker in self.workers:
            if received := self.queue.receive(100):
                self.most_receives = max(self.most_receives, *(each.delivery.receive_count for each in received))
                deadline = DeadlineAt(clock=self.world.clock, at_ms=self.world.clock.now_ms() + 60_000)
                result = worker.handle([each.delivery for each in received], deadline)
                receipts = {each.delivery.message_id: each.receipt for each in received}
                self.queue.delete_many([receipts[each] for each in receipts if each not in result.retry])
                self.queue.hide({receipts[each]: seconds for each, seconds in result.hide_s.items()})
        self.world.clock.advance_s(1)

    def run(self, *, before_s: int, throttled_s: int, messages_a_second: int) -> None:
        for _ in range(before_s):
            self.second(messages_a_second)
        self.throttled = True
        for _ in range(throttled_s):
            self.second(messages_a_second)
        self.throttled = False
        quiet = 0
        while quiet < 5_000 and self.queue.depth().total:
            self.second(messages_a_second if quiet < before_s else 0)
            quiet += 1


def test_a_throttle_of_a_minute_costs_half_as_many_writes_again_at_most_and_no_second_receive_more() -> None:
    runs = {}
    for throttled_s in (0, 60):
        stage = Stage()
        stage.run(before_s=60, throttled_s=throttled_s, messages_a_second=20)
        stage.world.assert_exact()
        assert len(stage.world.accepted()) == stage.sent
        assert stage.dead.depth().total == 0
        runs[throttled_s] = stage
    calm, throttled = runs[0], runs[60]
    each_calm, each_throttled = calm.actions / calm.sent, throttled.actions / throttled.sent
    assert each_throttled <= 1.5 * each_calm
    assert throttled.most_receives == 2


def test_a_throttle_of_half_an_hour_makes_no_dead_letter_and_loses_nothing() -> None:
    stage = Stage(workers=2)
    stage.run(before_s=5, throttled_s=1_800, messages_a_second=1)
    assert stage.dead.depth().total == 0
    assert stage.most_receives <= PROD.max_receives
    assert len(stage.world.accepted()) == stage.sent
    stage.world.assert_exact()


def test_time_that_was_sent_is_the_earliest_of_all_copies(world: SmallWorld) -> None:
    early = replace(delivery(batch(1), message="copy"), sent_at_ms=NOW_S * 1000 - 7)
    world.handle(delivery(batch(1)), early, delivery(batch(2)))
    [waiting] = world.waiting()
    assert waiting.sent_at_ms == NOW_S * 1000 - 7
    assert world.items.peek(Table.LEDGER, waiting.key) is not None
