"""Checks of SQS: how often a message was received, when a redriven one was sent, how full the mapping's batches are."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from metering.ledger.markers import Marker, marker_key
from metering.operations.doctor.batches import SENDER_ADVICE, batch_id, body
from metering.operations.doctor.checks import differs, ok, unknown
from metering.stores.writes import Table

if TYPE_CHECKING:
    from metering.operations.doctor.bench import Bench
    from metering.operations.doctor.checks import Observation
    from metering.stores.queues import Queue, ReceivedMessage

# From the third receive on, SQS counts a message in no age.
_RECEIVES = 3
_WAIT_S = 5
_PATIENCE_S = 60
# Half of what the costs and the backlog of the jobs are reckoned with (docs/scale.md).
FULL_ENOUGH = 50


def receives(bench: Bench) -> Observation:
    """Receive a message three times: `complete_through` rests on its count and on the time that it was sent."""
    with bench.scratch.queues() as queues:
        queues.queue.send_many([bench.token])
        seen = [_received(bench, queues.queue) for _ in range(_RECEIVES)]
        counts = [0 if message is None else message.delivery.receive_count for message in seen]
        sent = {message.delivery.sent_at_ms for message in seen if message is not None}
        for message in seen[-1:]:
            if message is not None:
                queues.queue.delete_many([message.receipt])
    saw = f"receive counts {', '.join(map(str, counts))}"
    if counts != [1, 2, 3] or len(sent) != 1:
        return differs(
            f"{saw}, {len(sent)} times of sending",
            "A message that no worker settles would not hold complete_through back. Look at the queue before a close.",
        )
    return ok(f"{saw}, one time of sending")


def _received(bench: Bench, queue: Queue) -> ReceivedMessage | None:
    """Receive one message, and put it back at once."""
    found: list[ReceivedMessage] = []

    def try_once() -> bool:
        found.extend(queue.receive(1, wait_s=_WAIT_S))
        return bool(found)

    if not bench.until(try_once, within_s=_PATIENCE_S):
        return None
    queue.release([found[0].receipt])
    return found[0]


def redriven(bench: Bench) -> Observation:
    """Let a message become a dead letter and be moved back: its time of sending must be that of the move."""
    with bench.scratch.queues() as queues:
        queues.queue.send_many([bench.token])
        first = _received(bench, queues.queue)
        for _ in range(queues.max_receives):
            for again in queues.queue.receive(1, wait_s=1):
                queues.queue.release([again.receipt])
        if first is None or not bench.until(lambda: queues.dead.depth().total > 0, within_s=_PATIENCE_S):
            return unknown(f"a message was not dead after {queues.max_receives} receives and {_PATIENCE_S} s")
        if queues.dead.start_redrive() is None:
            return unknown("this endpoint has no StartMessageMoveTask; here the service moves dead letters one by one")
        moved = _received(bench, queues.queue)
    if moved is None:
        return unknown(f"the moved message did not come back within {_PATIENCE_S} s", "Run it again.")
    later_ms = moved.delivery.sent_at_ms - first.delivery.sent_at_ms
    if later_ms <= 0:
        return differs(
            "a moved message keeps its first time of sending",
            "Its markers would live shorter than the queues keep it. Redrive within the admission window only.",
        )
    return ok(f"a moved message is sent anew, {later_ms / 1000:.0f} s after its first time")


def mapping_fill(bench: Bench) -> Observation:
    """Send batches at rising rates, and count how many of them each commit holds."""
    fills: dict[int, float] = {}
    first = 0
    for rate in bench.effort.rates_per_s:
        number = rate * bench.effort.rate_s
        names = [batch_id(bench.token, first + n) for n in range(number)]
        for second in range(bench.effort.rate_s):
            slot = range(first + second * rate, first + (second + 1) * rate)
            bench.ingest.send_many([body(bench.token, n, now_s=bench.now_s, region=bench.region) for n in slot])
            bench.clock.sleep_ms(1_000)
        first += number
        markers = _markers(bench, names)
        if len(markers) < number:
            return differs(
                f"at {rate} messages/s {number - len(markers)} of {number} batches have no verdict after "
                f"{bench.effort.arrival_s} s",
                "See what the functions say: metering errors.",
            )
        if any(marker.verdict == "rejected" for marker in markers):
            return unknown("the batches were refused", SENDER_ADVICE)
        fills[rate] = number / len(Counter(marker.commit_id for marker in markers))
    saw = ", ".join(f"{rate} messages/s: {fill:.1f} batches a commit" for rate, fill in fills.items())
    if max(fills.values()) < FULL_ENOUGH:
        return differs(
            saw,
            f"Below {FULL_ENOUGH} batches a commit, costs and the jobs' work are above what docs/scale.md has: "
            "raise batch_window_s.",
        )
    return ok(saw)


def _markers(bench: Bench, names: list[str]) -> list[Marker]:
    """Markers of batches, as far as they come in time."""
    found: dict[str, Marker] = {}

    def all_there() -> bool:
        missing = {marker_key(name): name for name in names if name not in found}
        for key, item in bench.items.get_many(Table.LEDGER, list(missing)).items():
            found[missing[key]] = Marker.from_item(item)
        return len(found) == len(names)

    bench.until(all_there, within_s=bench.effort.arrival_s)
    return list(found.values())
