"""The tally: nothing is acknowledged by being left out."""

import pytest

from metering.commit.deduplication import Content, Copy, Verdict
from metering.commit.verdict_writer import Tally
from metering.stores.queues import Delivery
from tests.support.memory.clock import UNHURRIED
from tests.support.memory.metrics import MemoryMetrics
from tests.support.memory.rows import PlainBatchReader
from tests.support.small_world import batch, delivery
from tests.support.stage import ADMISSION

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
