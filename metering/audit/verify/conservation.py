"""I1: each distinct batch that was sent has one verdict, or is in flight or dead without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.audit.verify.manifest import body_digest
from metering.intake.batches import NoBatch
from metering.intake.envelopes import read_body
from metering.quarantine.documents import QuarantinedBatch
from metering.stores.bucket import QUARANTINED_BATCHES_PREFIX, quarantined_batch_key
from metering.usage.totals import Total

if TYPE_CHECKING:
    from metering.audit.verify.expectations import SentBatches, SentContent
    from metering.audit.verify.verification import Verification
    from metering.ledger.markers import Marker
    from metering.ledger.snapshot import LedgerFacts
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Queue

_PEEK_MESSAGES = 10
# Long enough to look at all of them, short enough that a killed look does not hide them for long.
_PEEK_HIDDEN_S = 20
_EMPTY_PEEKS = 3


def peek_bodies(queue: Queue) -> list[str]:
    """Bodies of all messages of a queue that nobody works on; they stay where they are."""
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


def names_of(bodies: list[str], bucket: str) -> set[str]:
    """What the batches in message bodies are known by: their ids, or the digest where a body has none."""
    names: set[str] = set()
    for body in bodies:
        batches = [batch for batch in read_body(body, bucket=bucket) if not isinstance(batch, NoBatch)]
        names.update(batch.batch_id or body_digest(body) for batch in batches)
    return names


def count_ledger(
    facts: LedgerFacts, dead: set[str], waiting: int, result: Verification, *, from_s: int, to_s: int
) -> None:
    """Count verdicts of batches with records in the range, or decided in it; without a manifest `sent` is their sum."""
    markers = [marker for marker in facts.markers.values() if _touches(marker, from_s, to_s)]
    result.accepted = sum(marker.verdict == "accepted" for marker in markers)
    result.rejected = len(markers) - result.accepted
    result.conflict = sum(len(facts.conflicts.get(marker.batch_id, ())) for marker in markers)
    result.in_flight = waiting
    result.dead = len([name for name in dead if name not in facts.markers])
    result.sent = result.accepted + result.rejected + result.conflict + result.in_flight + result.dead


def doubtful_ids(sent: SentBatches, facts: LedgerFacts) -> set[str]:
    """Batches of a manifest that are not all that they must be: each is looked at again before anything is said."""
    return {batch_id for batch_id, contents in sent.contents.items() if _is_doubtful(batch_id, contents, facts)}


def _is_doubtful(batch_id: str, contents: list[SentContent], facts: LedgerFacts) -> bool:
    marker = facts.markers.get(batch_id)
    if marker is None or len(contents) - 1 > len(facts.conflicts.get(batch_id, ())):
        return True
    return marker.verdict == "rejected" and not any(content.rejected for content in contents)


def count_sent(
    sent: SentBatches, facts: LedgerFacts, dead: set[str], waiting: int, quarantined: set[str], result: Verification
) -> dict[str, SentContent]:
    """Count the verdicts of what a manifest says was sent; returns the content that each accepted id was sent with."""
    result.sent = sent.distinct
    chosen: dict[str, SentContent] = {}
    undecided: list[str] = []
    for batch_id, contents in sent.contents.items():
        marker = facts.markers.get(batch_id)
        if marker is None:
            undecided += [batch_id] * len(contents)
            continue
        result.duplicate += sent.copies.get(batch_id, 0)
        late = min(len(contents) - 1, len(facts.conflicts.get(batch_id, ())))
        undecided += [batch_id] * (len(contents) - 1 - late)
        result.conflict += late
        if marker.verdict == "accepted":
            result.accepted += 1
            _choose(sent, marker, chosen, result)
        else:
            result.rejected += 1
            _check_rejected(contents, marker, result)
    decided = sent.nameless & quarantined
    result.rejected += len(decided)
    undecided += sorted(sent.nameless - decided)
    _place_undecided(undecided, dead, waiting, result)
    return chosen


def quarantined_digests(objects: ObjectStore, wanted: set[str]) -> set[str]:
    """Which of the bodies without a batch id lie in quarantine."""
    # A body that is no JSON at all is known by its own digest: no need to look through all of them.
    found = {digest for digest in wanted if objects.head(quarantined_batch_key("", digest)) is not None}
    for info in objects.list(QUARANTINED_BATCHES_PREFIX) if found != wanted else ():
        batch = QuarantinedBatch.decode(objects.get(info.key), info.key)
        if not batch.batch_id:
            found.add(body_digest(batch.body))
    return found & wanted


def _touches(marker: Marker, from_s: int, to_s: int) -> bool:
    if marker.hours:
        return any(from_s <= hour_s < to_s for hour_s in marker.hours)
    return from_s <= marker.decided_at_ms // 1_000 < to_s


def _choose(sent: SentBatches, marker: Marker, chosen: dict[str, SentContent], result: Verification) -> None:
    content = sent.accepted_content(marker)
    first = content or sent.contents[marker.batch_id][0]
    chosen[marker.batch_id] = first
    result.promised = result.promised.plus(Total(first.bytes, first.metered))
    if content is not None:
        return
    metered_bytes = sum(total.bytes for total in marker.hours.values())
    result.unexpected.append(
        (
            marker.batch_id,
            f"accepted with {marker.metered} of {marker.records} records metered and {metered_bytes} bytes; "
            f"sent were {first.metered} to meter of {first.records} and {first.bytes} bytes",
        )
    )


def _check_rejected(contents: list[SentContent], marker: Marker, result: Verification) -> None:
    if not any(content.rejected for content in contents):
        result.unexpected.append((marker.batch_id, f"rejected ({marker.reason}), although it was right"))


def _place_undecided(undecided: list[str], dead: set[str], waiting: int, result: Verification) -> None:
    """No verdict: dead if it lies there, in flight while anything is, else lost."""
    result.dead = sum(name in dead for name in undecided)
    rest = [name for name in undecided if name not in dead]
    if waiting:
        result.in_flight = len(rest)
    else:
        result.lost += rest
