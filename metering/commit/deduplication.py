"""The contents of one invocation: which deliveries are the same batch, and which come under one id.

The first content of a batch id goes on. A copy of it (same id, same hash, same claim to be a retry) shares its fate,
failure included. Other content under the id waits until the first has its verdict, and is a group of its own then; so
does a copy with another claim, because only one of the two may be refused for its claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.intake.batches import DecodedBatch, RefusedBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.commit.verdicts import Verdict
    from metering.stores.deliveries import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One batch as one delivery brought it; `Tally.read` makes them.

    Attributes:
        ticket: What the tally waits for it by.
    """

    delivery: Delivery
    batch: DecodedBatch | RefusedBatch
    ticket: int


@dataclass(slots=True, kw_only=True)
class Content:
    """One content of one batch id, with all copies of it in this invocation.

    Attributes:
        copies: The first one speaks for all.
        verdict: The first one's, once it has one.
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
        """What has one verdict at a time: the batch id, or the body where no id could be read."""
        batch = self.batch
        return (batch.batch_id, "" if batch.batch_id else batch.content_hash)

    def add(self, copy: Copy) -> None:
        """Add a copy. An admitted one speaks before a refused one: a resent message can be younger than its twin."""
        if isinstance(copy.batch, DecodedBatch) and isinstance(self.batch, RefusedBatch):
            self.copies.insert(0, copy)
        else:
            self.copies.append(copy)


def decision_rounds(copies: Iterable[Copy]) -> Iterator[list[Content]]:
    """Contents in the order in which they may be decided: no two of one batch id in the same round."""
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
