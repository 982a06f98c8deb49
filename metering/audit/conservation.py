"""Conservation (I1): each distinct batch sent has one verdict, or is in flight or a dead letter without a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from metering.audit.verification import SentBatches, SentContent, Verification, body_digest, sum_verifications
from metering.intake import envelopes, work
from metering.intake.batches import Claim, NoBatch
from metering.quarantine.documents import QuarantinedBatch
from metering.stores import clock
from metering.stores.objects import QUARANTINED_BATCHES_PREFIX, ObjectStore, quarantined_batch_key
from metering.usage.totals import Total, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from metering.intake.dropped import DropIds
    from metering.ledger.markers import LedgerFacts, Marker, VerdictCounts
    from metering.stores import queues


_PEEK_MESSAGES = 10
# Long enough to peek at all messages, and short enough that a killed peek does not hide the messages for long.
_PEEK_HIDDEN_S = 20
_EMPTY_PEEKS = 3


def peek_bodies(queue: queues.Queue) -> list[str]:
    """Bodies of all messages in a queue that has no consumer. The messages remain in the queue."""
    seen: dict[str, tuple[str, str]] = {}
    empty = 0
    try:
        while empty < _EMPTY_PEEKS and queue.depth().total:
            before = len(seen)
            for message in queue.receive(_PEEK_MESSAGES, wait_s=1, visibility_s=_PEEK_HIDDEN_S):
                seen[message.delivery.message_id] = (message.delivery.body, message.receipt)
            empty = empty + 1 if len(seen) == before else 0
            if len(seen) >= queue.depth().total:
                break
    finally:
        if seen:
            queue.release([receipt for _, receipt in seen.values()])
    return [body for body, _ in seen.values()]


def names_of(bodies: list[str], drops: DropIds) -> set[str]:
    """Names of the batches in message bodies: the batch id, or the digest of a body without an id."""
    names: set[str] = set()
    for body in bodies:
        batches = [batch for batch in envelopes.read_body(body, bucket=drops.bucket) if not isinstance(batch, NoBatch)]
        names.update(drops.of_message(batch) or body_digest(body) for batch in batches)
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Facts about a manifest's batches: from the ledger, names in the dead-letter queue, number of queued messages."""

    facts: LedgerFacts
    dead: set[str]
    waiting: int


def count_ledger(verdicts: VerdictCounts, *, waiting: int, dead: int) -> Verification:
    """Count verdicts in a range of the ledger; `dead` counts dead letters without a verdict. `sent` is their sum."""
    return Verification(
        sent=verdicts.accepted + verdicts.rejected + verdicts.conflicts + waiting + dead,
        accepted=verdicts.accepted,
        rejected=verdicts.rejected,
        conflict=verdicts.conflicts,
        in_flight=waiting,
        dead=dead,
    )


def doubtful_ids(sent: SentBatches, facts: LedgerFacts) -> set[str]:
    """Ids of a manifest whose verdicts are not the expected ones. The caller first reads each of these ids again."""
    return {batch_id for batch_id, contents in sent.contents.items() if _is_doubtful(batch_id, contents, facts)}


def _is_doubtful(batch_id: str, contents: list[SentContent], facts: LedgerFacts) -> bool:
    marker = facts.markers.get(batch_id)
    if marker is None or len(contents) - 1 > len(facts.conflicts.get(batch_id, ())):
        return True
    return marker.verdict == "rejected" and not any(content.rejected for content in contents)


def chosen_contents(sent: SentBatches, facts: LedgerFacts) -> dict[str, SentContent]:
    """Accepted content of each accepted batch id; the first sent content if the accepted content was never sent."""
    chosen: dict[str, SentContent] = {}
    for batch_id, contents in sent.contents.items():
        marker = facts.markers.get(batch_id)
        if marker is not None and marker.verdict == "accepted":
            chosen[batch_id] = sent.accepted_content(marker) or contents[0]
    return chosen


def count_sent(
    sent: SentBatches,
    chosen: Mapping[str, SentContent],
    found: Whereabouts,
    quarantined: set[str],
    disallowed: Mapping[str, int],
) -> Verification:
    """Count the verdicts of the contents of a manifest.

    Args:
        sent: The manifest.
        chosen: The accepted contents of the manifest, as `chosen_contents` returns them.
        found: Places where the manifest's batches were found.
        quarantined: Digests of bodies without a batch id in quarantine.
        disallowed: Number of contents quarantined because of the sender, by batch id without a marker.
    """
    decided = {batch_id: marker for batch_id in sent.contents if (marker := found.facts.markers.get(batch_id))}
    late = {batch_id: _late_contents(sent, found.facts, batch_id) for batch_id in decided}
    foreign = _foreign_counts(sent, disallowed, decided)
    undecided = [
        batch_id
        for batch_id, contents in sent.contents.items()
        for _ in range(len(contents) - (1 + late[batch_id] if batch_id in decided else foreign.get(batch_id, 0)))
    ]
    refused = sent.nameless & quarantined
    promised = sum_totals(Total(content.bytes, content.metered) for content in chosen.values())
    counted = Verification(
        sent=sent.distinct,
        accepted=len(chosen),
        rejected=len(decided) - len(chosen) + len(refused) + sum(foreign.values()),
        duplicate=sum(sent.copies.get(batch_id, 0) for batch_id in decided),
        conflict=sum(late.values()),
        unexpected=(*_unexpected(decided.values(), sent, chosen), *map(_foreign, sorted(foreign))),
        promised=promised,
    )
    return sum_verifications((counted, _undecided([*undecided, *sorted(sent.nameless - refused)], found)))


def quarantined_digests(objects: ObjectStore, wanted: set[str]) -> set[str]:
    """Those of the wanted digests that belong to quarantined bodies without a batch id."""
    # The key of a body that is not JSON is the body's digest, so there is no need to list all objects.
    found = {digest for digest in wanted if objects.head(quarantined_batch_key("", digest)) is not None}
    for info in objects.list(QUARANTINED_BATCHES_PREFIX) if found != wanted else ():
        batch = QuarantinedBatch.from_json(objects.get(info.key), info.key)
        if not batch.batch_id:
            found.add(body_digest(batch.body))
    return found & wanted


def disallowed_contents(objects: ObjectStore, wanted: set[str], *, threads: int = 1) -> dict[str, int]:
    """Number of contents quarantined because of their sender, by claimed batch id (wanted ids only)."""
    hashes: dict[str, set[str]] = {}
    for claim in quarantined_claims(objects, threads=threads) if wanted else ():
        if claim.batch_id in wanted:
            hashes.setdefault(claim.batch_id, set()).add(claim.content_hash)
    return {batch_id: len(found) for batch_id, found in hashes.items()}


def quarantined_claims(
    objects: ObjectStore, *, since_s: int = 0, threads: int = 1, limit: Callable[[], None] = lambda: None
) -> Iterator[Claim]:
    """Claims of batches that were quarantined because of their sender.

    Args:
        objects: The data bucket.
        since_s: Skip objects older than this time, epoch seconds.
        threads: Number of objects read in parallel.
        limit: Called before each listed object. It may raise.
    """

    def listed() -> Iterator[str]:
        for info in objects.list(QUARANTINED_BATCHES_PREFIX):
            limit()
            if info.modified_s >= since_s:
                yield info.key

    # A body may be large, so the thread returns only its claim.
    return filter(None, clock.side_by_side(partial(_claim, objects), listed(), threads=threads))


def _claim(objects: ObjectStore, key: str) -> Claim | None:
    return QuarantinedBatch.from_json(objects.get(key), key).claim


def _foreign_counts(sent: SentBatches, disallowed: Mapping[str, int], decided: Mapping[str, Marker]) -> dict[str, int]:
    """Number of contents quarantined because of their sender, by batch id without a marker."""
    return {
        batch_id: min(count, len(sent.contents[batch_id]))
        for batch_id, count in disallowed.items()
        if batch_id not in decided
    }


def _foreign(batch_id: str) -> tuple[str, str]:
    return batch_id, f"refused ({work.Reason.SENDER_NOT_ALLOWED}): its sender may not send it here"


def _late_contents(sent: SentBatches, facts: LedgerFacts, batch_id: str) -> int:
    return min(len(sent.contents[batch_id]) - 1, len(facts.conflicts.get(batch_id, ())))


def _unexpected(
    markers: Iterable[Marker], sent: SentBatches, chosen: Mapping[str, SentContent]
) -> Iterator[tuple[str, str]]:
    for marker in markers:
        content = chosen.get(marker.batch_id)
        if content is None:
            if not any(each.rejected for each in sent.contents[marker.batch_id]):
                yield marker.batch_id, f"rejected ({marker.reason}), although it was right"
        elif not content.matches(marker):
            metered_bytes = sum(total.bytes for total in marker.hours.values())
            yield (
                marker.batch_id,
                f"accepted with {marker.metered} of {marker.records} records metered and {metered_bytes} bytes; "
                f"sent were {content.metered} to meter of {content.records} and {content.bytes} bytes",
            )


def _undecided(names: list[str], found: Whereabouts) -> Verification:
    """Count contents without a verdict: dead letters, else in flight while the ingest queue is not empty, else lost."""
    elsewhere = [name for name in names if name not in found.dead]
    dead = len(names) - len(elsewhere)
    if found.waiting:
        return Verification(dead=dead, in_flight=len(elsewhere))
    return Verification(dead=dead, lost=tuple(elsewhere))
