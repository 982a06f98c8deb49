"""A region's completeness, checked each minute of a history: nothing sent earlier may still be missing.

The look happens at one instant, without faults: interleavings of looks and deliveries are tested in `tests/unit/audit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.audit.freshness import Freshness
from metering.ledger.notes.watch import WatchState
from metering.ledger.partitions import WAITING
from metering.stores.queues import QueueDepth, Redelivery
from metering.stores.writes import Put, Table
from metering.units import DAY_S
from tests.simulation.checks.watch import ViolationError
from tests.simulation.region.faults import MINUTE_MS
from tests.simulation.region.sqs import MAX_RECEIVES, VISIBILITY_MS, Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.simulation.region.world import World

# More than any history uses: the ledger's number is read, too, and the larger one counts.
_SHARDS = 3
_RETENTION_S = 14 * DAY_S


class _Depth:
    """The depth of a queue, and no other call."""

    def __init__(self, messages: Mapping[str, Message]) -> None:
        self._count = len(messages)

    def depth(self) -> QueueDepth:
        return QueueDepth(visible=self._count, in_flight=0, delayed=0)


class _Facts:
    """Figures of an emulator, which measures no age."""

    def oldest_age_s(self) -> None:
        return None

    def longest_retention_s(self) -> int:
        return _RETENTION_S

    def redelivery(self) -> Redelivery:
        return Redelivery(visibility_s=VISIBILITY_MS // 1000, max_receives=MAX_RECEIVES)


class CompletenessCheck:
    """Measures as the watch does, and compares the result with what was really sent."""

    def __init__(self, world: World) -> None:
        self._world = world

    def during(self, start_ms: int, length_ms: int) -> None:
        """Measure each minute of the given time."""
        for at_ms in range(start_ms, start_ms + length_ms, MINUTE_MS):
            self._world.scheduler.at(at_ms, self.look)

    def look(self) -> None:
        """Measure, store the measurement, and check it."""
        world = self._world
        if not world.queue.messages:
            state = WatchState(first_s=0, queue_empty_s=world.scheduler.now_ms // 1000)
            world.items.put(Put(table=Table.LEDGER, item=state.to_item()))
        freshness = Freshness(
            items=world.items,
            ingest=_Depth(world.queue.messages),  # type: ignore[arg-type]  # no other call is made
            dead=_Depth(world.queue.dead),  # type: ignore[arg-type]  # as above
            queue_facts=_Facts(),
            clock=world,
            region="us-east-1",
            stage="local",
            shards=_SHARDS,
            window_s=35 * DAY_S,
        )
        freshness.keep()
        answer = freshness.answer()
        if answer.through_s < world.scheduler.now_ms // 1000 - MINUTE_MS // 1000 and not answer.held_back_by:
            raise ViolationError("completeness is held back, and nothing is named")
        self._check_messages(answer.through_s)
        self._check_commits(answer.through_s)
        world.faults.histogram["completeness measured"] += 1

    def _check_messages(self, through_s: int) -> None:
        queue, contents = self._world.queue, self._world.contents
        # This simulated queue drops nothing, whatever its age. SQS drops old messages, and the watch relies on that.
        oldest_ms = self._world.scheduler.now_ms - _RETENTION_S * 1000
        for message in (*queue.messages.values(), *queue.dead.values()):
            content = contents.get(message.body)
            sender = queue.sender_of(message)
            first_ms = queue.senders[message.body][sender]
            if content is not None and (content.name, sender) in self._world.watch.decided:
                # The first copy had its verdict, which may have expired since. A later copy counts separately.
                first_ms = message.sent_at_ms
            if content is None or not oldest_ms < first_ms < through_s * 1000:
                continue
            if not self._world.watch.has_verdict(content, sender):
                raise ViolationError(f"complete through {through_s}, and {message.body} of {first_ms} has no verdict")

    def _check_commits(self, through_s: int) -> None:
        """Nothing that was sent earlier waits for the roll-up, because reports of usage lack waiting commits (P27)."""
        world = self._world
        waits = {str(item["sk"]) for item in world.items.everything(Table.LEDGER) if str(item["pk"])[:2] == WAITING}
        for content in world.contents.values():
            content_hash, commit_id, _ = world.watch.accepted.get(content.batch_id, ("", "", 0))
            if content_hash != content.content_hash or commit_id not in waits:
                continue
            sent_ms = world.queue.sent_times.get(content.name, [])
            if sent_ms and max(sent_ms) < through_s * 1000:
                raise ViolationError(f"complete through {through_s}, and {content.name} of {max(sent_ms)} waits")
