"""What every `Queue` does: SQS's semantics, as far as the tools for operators lean on them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metering.stores.queues import Queue, ReceivedMessage


def drain(queue: Queue) -> list[ReceivedMessage]:
    received: list[ReceivedMessage] = []
    while found := queue.receive(10, visibility_s=60):
        received += found
    return received


def test_every_message_sent_can_be_received(queue: Queue) -> None:
    bodies = [f"message {n} \N{SNOWMAN}" for n in range(23)]
    before_ms = time.time_ns() // 1_000_000
    assert queue.send_many(bodies) == []
    received = drain(queue)
    assert sorted(one.delivery.body for one in received) == sorted(bodies)
    for one in received:
        assert before_ms - 5_000 <= one.delivery.sent_at_ms <= time.time_ns() // 1_000_000 + 5_000
        assert one.delivery.receive_count == 1
        assert one.delivery.message_id
        assert one.delivery.sender_id
    assert len({one.receipt for one in received}) == 23


def test_the_first_sender_of_a_message_goes_along(queue: Queue) -> None:
    assert queue.send_many(["a", "b", "c"], original_senders=["AROAFIRST:x", "", "retry AROASECOND:y"]) == []
    queue.send_many(["d"])
    stated = {one.delivery.body: one.delivery.stated_sender for one in drain(queue)}
    assert stated == {"a": "AROAFIRST:x", "b": "", "c": "retry AROASECOND:y", "d": ""}


def test_large_messages_are_spread_over_several_requests(queue: Queue) -> None:
    bodies = [f"{n}" * 300_000 for n in range(6)]
    assert queue.send_many(bodies) == []
    assert sorted(one.delivery.body for one in drain(queue)) == bodies


def test_a_received_message_is_hidden_until_it_is_released(queue: Queue) -> None:
    queue.send_many(["a"])
    [first] = queue.receive(10, visibility_s=60)
    assert queue.receive(10) == []
    queue.release([first.receipt])
    [second] = queue.receive(10, visibility_s=60)
    assert second.delivery.message_id == first.delivery.message_id
    assert second.delivery.receive_count == 2


def test_a_message_comes_back_after_its_visibility_timeout(queue: Queue) -> None:
    queue.send_many(["a"])
    [first] = queue.receive(1, visibility_s=1)
    time.sleep(1.1)
    [second] = queue.receive(1, wait_s=2, visibility_s=60)
    assert second.delivery.message_id == first.delivery.message_id


def test_a_deleted_message_never_comes_back(queue: Queue) -> None:
    queue.send_many([str(n) for n in range(12)])
    received = drain(queue)
    assert queue.delete_many([one.receipt for one in received[:11]]) == []
    queue.release([one.receipt for one in received])
    [left] = drain(queue)
    assert left.delivery.message_id == received[11].delivery.message_id


def test_depth_tells_ready_messages_from_received_ones(queue: Queue) -> None:
    queue.send_many(["a", "b", "c"])
    assert len(queue.receive(1, visibility_s=60)) == 1
    depth = queue.depth()
    assert (depth.visible, depth.in_flight, depth.delayed, depth.total) == (2, 1, 0, 3)


def test_nothing_to_do_is_no_request(queue: Queue) -> None:
    assert queue.send_many([]) == []
    assert queue.delete_many([]) == []
    queue.release([])
    assert queue.receive(10) == []
