"""Originals: the batches that retries under another id name.

An operator sends a genuine conflict again under an id of its own. Its message names its first id (`retry_of`), and the
worker decides by that id's marker. Any producer can write such a message, and a copy under the first id can come before
it, with it or weeks after it (docs/protocol.md, retries).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.commit.verdicts import Match, Verdict, compare
from metering.errors import LedgerCorruptError, UnavailableError
from metering.intake.batches import DecodedBatch, RefusedBatch
from metering.intake.reasons import Reason, problem
from metering.ledger.markers import Marker, marker_key
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.commit.deduplication import Content
    from metering.stores.items import ItemStore
    from metering.stores.retrying import Retrier
    from metering.stores.writes import Item, Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """Batch that was accepted with other content, so that a retry cannot have its id.

    Attributes:
        expires_at_s: End of its marker's life, as it was read. The marker has to live as long as the retry's.
    """

    batch_id: str
    expires_at_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A content that may be committed now.

    Attributes:
        original: Of a retry under another id: the batch that has its first id.
    """

    content: Content
    batch: DecodedBatch
    original: Original | None = None


# A candidate that may be committed, or the reason not to commit it now or ever.
Judged = Candidate | RefusedBatch | Verdict | LedgerCorruptError | UnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Originals:
    """Reads the markers that retries name."""

    items: ItemStore
    retrier: Retrier

    def judge(self, candidates: Sequence[Candidate]) -> list[Judged]:
        """Judge each candidate: returns it with its original, or the reason not to commit it, in the same order.

        A candidate that is not a retry is returned as it is. A retry is refused unless its first id was accepted with
        other content: otherwise it can be sent under that id, and under both ids it would count twice. An unreadable
        marker is returned as its error, so that only this retry waits for a repair; so is a ledger without an answer.
        """
        keys = [marker_key(each.batch.retry_of) for each in candidates if each.batch.retry_of]
        if not keys:
            return list(candidates)
        try:
            items = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, list(dict.fromkeys(keys))))
        except UnavailableError as error:
            return [error if each.batch.retry_of else each for each in candidates]
        return [_judge(each, items) if each.batch.retry_of else each for each in candidates]


def _judge(candidate: Candidate, items: Mapping[Key, Item]) -> Judged:
    batch = candidate.batch
    item = items.get(marker_key(batch.retry_of))
    try:
        marker = None if item is None else Marker.from_item(item)
    except LedgerCorruptError as error:
        return error
    if marker is None or marker.verdict != "accepted":
        return _refused(candidate, f"{batch.retry_of} is not accepted: send this under its own id")
    match compare(marker, batch):
        case Match.SAME:
            return Verdict.DUPLICATE
        case Match.UNVERIFIED:
            return _refused(candidate, f"nobody knows any more with which content {batch.retry_of} was accepted")
        case Match.INCOMPARABLE:
            return Verdict.PUT_BACK
    original = Original(batch_id=batch.retry_of, expires_at_s=marker.expires_at_s)
    return Candidate(content=candidate.content, batch=batch, original=original)


def _refused(candidate: Candidate, why: str) -> RefusedBatch:
    batch = candidate.batch
    return RefusedBatch(
        batch_id=batch.batch_id,
        source_id=batch.source_id,
        sequence=batch.sequence,
        sender_id=batch.sender_id,
        content_hash=batch.content_hash,
        hash_version=batch.hash_version,
        problems=(problem(Reason.RETRY_WITHOUT_CONFLICT, why),),
        records=batch.records,
        missing_object=False,
        evidence=candidate.content.delivery.body.encode("utf-8", errors="surrogatepass"),
        retry_of=batch.retry_of,
    )
