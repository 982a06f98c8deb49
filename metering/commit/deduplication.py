"""Deduplication within one invocation: finds copies of a batch, and contents that share an id.

The first content of a batch id is decided first. A copy of it (same id, same hash, same claim to be a retry) gets the
same outcome, failure included. Other content under the id waits until the first has its verdict. A copy with another
claim waits, too, because only one of the two may be refused for its claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.intake.batches import DecodedBatch, RefusedBatch
from metering.intake.senders.producers import role_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.commit.verdicts import Verdict
    from metering.stores.deliveries import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One batch as one delivery brought it; `Tally.read` makes them.

    Attributes:
        ticket: Number by which the tally waits for its verdict.
    """

    delivery: Delivery
    batch: DecodedBatch | RefusedBatch
    ticket: int


@dataclass(slots=True, kw_only=True)
class Content:
    """One content of one batch id, with all copies of it in this invocation.

    Attributes:
        copies: All copies; the first one decides for the others.
        verdict: Verdict of the first copy; None until it has one.
    """

    copies: list[Copy]
    verdict: Verdict | None = None

    @property
    def delivery(self) -> Delivery:
        return self.copies[0].delivery

    @property
    def batch(self) -> DecodedBatch | RefusedBatch:
        return self.copies[0].batch

    @property
    def group(self) -> tuple[str, str]:
        """Key of contents that are decided one after the other: the batch id, or the body's hash if it has no id.

        Batches that their senders may not send have a key for each sender, and hold nobody else's up.
        """
        batch = self.batch
        if isinstance(batch, RefusedBatch) and batch.claim is not None:
            return ("", f"{role_of(batch.sender_id)}\n{batch.claim.batch_id}\n{batch.content_hash}")
        return (batch.batch_id, "" if batch.batch_id else batch.content_hash)

    def add(self, copy: Copy) -> None:
        """Add a copy. An admitted one goes before a refused one, because a resent message can be younger."""
        if isinstance(copy.batch, DecodedBatch) and isinstance(self.batch, RefusedBatch):
            self.copies.insert(0, copy)
        else:
            self.copies.append(copy)


def decision_rounds(copies: Iterable[Copy]) -> Iterator[list[Content]]:
    """Rounds of contents that may be decided together. No round has two contents of one batch id."""
    groups: dict[tuple[str, str], dict[tuple[int, str, str], Content]] = {}
    for copy in copies:
        batch = copy.batch
        fresh = Content(copies=[copy])
        group = groups.setdefault(fresh.group, {})
        content = group.setdefault((batch.hash_version, batch.content_hash, batch.retry_of), fresh)
        if content is not fresh:
            content.add(copy)
    waiting = [list(group.values()) for group in groups.values()]
    number = 0
    while waiting:
        yield [contents[number] for contents in waiting]
        number += 1
        waiting = [contents for contents in waiting if len(contents) > number]
