"""`complete_through` never passes a message without a verdict, even if SQS reports little about the message."""

import random
from dataclasses import dataclass, replace

import pytest

from metering.commit.aggregator import HeldNotes
from metering.errors import UnavailableError
from metering.ledger.notes.watch import HELD_PK, QUEUES_KEY, WatchState
from metering.stores.queues import Delivery, QueueDepth
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.support.memory.clock import DeadlineAt
from tests.support.watched import WatchedRegion

NOW_S = 1_800_000_000
VISIBILITY_S = 420
MAX_RECEIVES = 5


@dataclass(slots=True)
class Message:
    """A message in one of the queues. `first_sent_s` is the time of the message's first copy, before any redrive."""

    message_id: str
    sent_s: int
    first_sent_s: int
    receives: int = 0
    visible_s: int = 0
    dead: bool = False
    cursed: bool = False


class Depth:
    """A queue that reports only its depth."""

    def __init__(self, messages: list[Message], *, dead: bool) -> None:
        self._messages = messages
        self._dead = dead

    def depth(self) -> QueueDepth:
        return QueueDepth(visible=sum(m.dead == self._dead for m in self._messages), in_flight=0, delayed=0)


class Region(WatchedRegion):
    """Two queues with SQS's age metric, which omits a message from its third receive on."""

    def __init__(self, *, has_age: bool = True) -> None:
        super().__init__(now_s=NOW_S)
        self.messages: list[Message] = []
        self.has_age = has_age
        self.notes = HeldNotes(items=self.items, clock=self.clock, metrics=self.metrics)
        self._sent = 0
        ingest, dead = (Depth(self.messages, dead=dead) for dead in (False, True))
        self.freshness = replace(self.freshness, ingest=ingest, dead=dead)  # type: ignore[arg-type]  # no other call is made
        self.minute()

    @property
    def now_s(self) -> int:
        return self.clock.now_ms() // 1000

    def oldest_age_s(self) -> int | None:
        if not self.has_age:
            return None
        return max((self.now_s - m.sent_s for m in self.messages if not m.dead and m.receives < 3), default=0)

    def send(self, *, first_sent_s: int | None = None, cursed: bool = False) -> Message:
        self._sent += 1
        message = Message(
            message_id=f"m{self._sent}",
            sent_s=self.now_s,
            first_sent_s=self.now_s if first_sent_s is None else first_sent_s,
            cursed=cursed,
        )
        self.messages.append(message)
        return message

    def receive(self, message: Message, *, worker: bool = True) -> None:
        """Receive once more; too many receives make a dead letter. `worker`: the worker starts."""
        if message.receives >= MAX_RECEIVES:
            message.dead = True
            return
        message.receives += 1
        message.visible_s = self.now_s + VISIBILITY_S
        if worker:
            self.notes.note(
                [self._delivery(message)], until=DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 1)
            )

    def settle(self, message: Message) -> None:
        self.messages.remove(message)

    def redrive(self, message: Message) -> Message:
        self.messages.remove(message)
        return self.send(first_sent_s=message.first_sent_s)

    def die(self, message: Message, *, worker: bool = True) -> None:
        """Fail a message until it is a dead letter, while other messages are sent."""
        for _ in range(MAX_RECEIVES + 1):
            self.receive(message, worker=worker)
            self.busy(VISIBILITY_S // MINUTE_S)

    def busy(self, minutes: int) -> None:
        """Run the watch each minute, with so much traffic that the queue is never empty."""
        for _ in range(minutes):
            young = self.send()
            self.minute()
            self.settle(young)

    def minute(self) -> int:
        self.clock.advance_s(MINUTE_S)
        if not any(not message.dead for message in self.messages):
            self.put(WatchState(first_s=NOW_S, queue_empty_s=self.now_s))
        self.freshness.keep()
        return self.freshness.answer().through_s

    @property
    def oldest_s(self) -> int:
        """Time at which the oldest content that has no verdict was sent."""
        return min((message.first_sent_s for message in self.messages), default=self.now_s)

    @staticmethod
    def _delivery(message: Message) -> Delivery:
        return Delivery(
            message_id=message.message_id,
            body="{}",
            sent_at_ms=message.sent_s * 1000,
            receive_count=message.receives,
            sender_id="AIDATEST",
        )


def notes(region: Region) -> int:
    return len(list(region.items.query(Table.LEDGER, HELD_PK)))


@pytest.mark.parametrize("has_age", [True, False])
@pytest.mark.parametrize("worker", [True, False])
def test_a_dead_letter_holds_back_to_before_it_was_sent_while_it_lies_there(has_age: bool, worker: bool) -> None:
    region = Region(has_age=has_age)
    letter = region.send()
    region.die(letter, worker=worker)
    assert letter.dead
    for _ in range(3):
        region.clock.advance_s(DAY_S)
        assert letter.sent_s - 2 * HOUR_S <= region.minute() <= letter.sent_s


@pytest.fixture
def region() -> Region:
    return Region()


def test_a_dead_letter_of_a_producer_without_numbers_holds_back_beside_an_empty_queue(region: Region) -> None:
    sent_s = region.send().sent_s
    region.messages[0].dead = True
    assert region.minute() <= sent_s


def test_a_message_holds_back_after_its_third_receive_although_its_age_is_told_no_more(region: Region) -> None:
    message = region.send()
    for _ in range(MAX_RECEIVES):
        region.receive(message, worker=False)
        region.busy(VISIBILITY_S // MINUTE_S)
        assert region.freshness.answer().through_s <= message.sent_s


def test_a_noted_message_holds_back_while_a_backlog_drains_that_keeps_it_from_its_next_receive(region: Region) -> None:
    """A noted message is received after all later messages; the oldest age that the queue reports omits it."""
    message = region.send()
    backlog: list[Message] = []
    for _ in range(3):
        region.receive(message)
        for _ in range(VISIBILITY_S // MINUTE_S):
            backlog.append(region.send())
            region.minute()
    for waiting in backlog:
        region.busy(10)
        assert region.freshness.answer().through_s <= message.sent_s
        region.settle(waiting)
    region.settle(message)
    region.busy(90)
    assert region.minute() > message.sent_s + 4 * HOUR_S


def test_healthy_traffic_writes_no_note(region: Region) -> None:
    for _ in range(5):
        message = region.send()
        region.receive(message)
        region.receive(message)
        region.minute()
        region.settle(message)
    assert notes(region) == 0


def test_a_note_that_cannot_be_written_is_counted_and_keeps_nothing_from_being_handled(region: Region) -> None:
    def fail(call: str) -> None:
        raise UnavailableError(call, "throttled")

    region.items.on_call = fail
    message = region.send()
    for _ in range(3):
        region.receive(message)
    assert region.metrics.counts["HeldNotesLost"] == 1


def test_a_redriven_batch_holds_back_until_its_new_copy_is_decided_and_no_longer(region: Region) -> None:
    letter = region.send()
    region.die(letter)
    copy = region.redrive(letter)
    for _ in range(40):
        region.busy(1)
        assert region.freshness.answer().through_s <= letter.sent_s
    region.settle(copy)
    region.busy(90)
    assert region.freshness.answer().through_s > copy.sent_s


@pytest.mark.parametrize("has_age", [True, False])
def test_what_is_redriven_between_two_looks_holds_back_too(has_age: bool) -> None:
    region = Region(has_age=has_age)
    letter = region.send()
    letter.dead = True
    region.minute()
    # The watch was also down.
    region.clock.advance_s(HOUR_S)
    region.redrive(letter)
    for _ in range(40):
        assert region.minute() <= letter.sent_s


def test_a_batch_that_dies_again_after_its_redrive_holds_back_to_when_it_was_first_sent(region: Region) -> None:
    letter = region.send()
    region.die(letter)
    copy = region.redrive(letter)
    region.die(copy)
    assert copy.dead
    region.busy(90)
    assert region.freshness.answer().through_s <= letter.sent_s


def test_dead_letters_that_were_there_before_the_watch_hold_back_for_a_whole_life_of_a_message(region: Region) -> None:
    region.items.remove(Table.LEDGER, QUEUES_KEY)
    region.send().dead = True
    assert region.minute() == region.now_s - 14 * DAY_S


def test_a_quiet_region_whose_dead_letters_are_gone_is_complete_after_two_looks(region: Region) -> None:
    letter = region.send()
    region.die(letter)
    region.settle(letter)
    region.minute()
    assert region.minute() == region.now_s - MINUTE_S


def test_so_many_notes_that_nobody_reads_all_of_them_hold_back_as_dead_letters_do(region: Region) -> None:
    before_s = region.freshness.answer().through_s
    region.clock.advance_s(MINUTE_S)
    for _ in range(1_001):
        message = region.send()
        message.receives = 2
        region.receive(message)
    calls: list[str] = []
    region.items.on_call = calls.append
    assert region.minute() <= before_s
    assert calls.count("items.query.next") <= 1_001


@pytest.mark.parametrize("seed", range(60))
def test_in_any_history_it_never_goes_past_what_has_no_verdict_and_catches_up_in_the_end(seed: int) -> None:
    chance = random.Random(seed)
    region = Region(has_age=chance.random() < 0.7)
    workers_die_early = chance.random() < 0.3
    for _ in range(400):
        region.clock.advance_s(chance.randrange(MINUTE_S) if chance.random() < 0.98 else HOUR_S)
        for _ in range(chance.choice((0, 0, 1, 1, 2))):
            region.send(cursed=chance.random() < 0.05)
        for message in list(region.messages):
            if message.dead:
                if chance.random() < 0.01:
                    region.redrive(message)
            elif message.visible_s <= region.now_s and chance.random() < 0.9:
                region.receive(message, worker=not workers_die_early)
                if not message.dead and not message.cursed and chance.random() < 0.8:
                    region.settle(message)
        through_s = region.minute()
        assert through_s <= region.oldest_s, f"seed {seed} at {region.now_s}"
        assert region.freshness.answer().held_back_by or through_s == region.now_s - MINUTE_S
    region.messages.clear()
    region.busy(120)
    assert region.minute() > region.now_s - (HOUR_S if region.has_age else 3 * HOUR_S)


def test_what_is_redriven_during_a_look_holds_back_although_depth_is_told_late(monkeypatch: pytest.MonkeyPatch) -> None:
    region = Region()
    message = region.send()
    region.die(message)
    region.minute()
    sent: list[Message] = []
    real = Depth.depth

    def depth(self: Depth) -> QueueDepth:
        if self._dead and not sent:
            region.clock.advance_s(5)
            sent.append(region.redrive(message))
        if not self._dead and sent and region.now_s < sent[0].sent_s + MINUTE_S:
            return QueueDepth(visible=0, in_flight=0, delayed=0)
        return real(self)

    monkeypatch.setattr(Depth, "depth", depth)
    region.minute()
    region.clock.advance_s(55)
    region.put(WatchState(first_s=NOW_S, queue_empty_s=region.now_s))
    region.freshness.keep()
    assert region.freshness.answer().through_s <= message.first_sent_s
