"""Deduplication within one invocation: finds copies of a batch, and different contents with one id.

The first content of a batch id is decided before the others. Copies of this content (same id, same hash, same retry
claim) get the same outcome, even if it is a failure. Other content under the same id waits until the first content has
its verdict. A copy with another retry claim also waits, because one of the two copies may be refused for its claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.errors import LedgerCorruptError, UnavailableError
from metering.hours import month_of
from metering.intake.batches import DecodedBatch, RefusedBatch
from metering.intake.senders import role_of
from metering.intake.work import Reason, problem
from metering.ledger.markers import Marker, marker_key
from metering.stores.writes import Item, ItemStore, Key, Table
from metering.usage.totals import Total, add_totals, by_hour

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.stores.clock import Retrier
    from metering.stores.queues import Delivery


class Verdict(StrEnum):
    """Outcome of one copy of a batch. All verdicts except the last are durable, and their messages are acknowledged."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    UNVERIFIED = "unverified"
    REJECTED = "rejected"
    NO_BATCH = "no_batch"
    PUT_BACK = "put_back"


class Match(StrEnum):
    """Result of comparing a batch with the content that got the marker's verdict."""

    SAME = "same"
    OTHER = "other"
    # A marker without hash (rebuilt, or held after a restore) can only be compared by its totals.
    SAME_TOTALS = "same totals"
    UNVERIFIED = "unverified"
    # This version cannot compute the marker's kind of hash, so another version must decide.
    INCOMPARABLE = "incomparable"


def compare(marker: Marker, batch: DecodedBatch | RefusedBatch) -> Match:
    """Compare a batch's content with the marker of its id, using the marker's hash version.

    A refused batch whose records could not be read has hash version 0, the hash of its body. Such a batch counts as
    other content, except if only its object is missing or the marker is a rejection. A held
    marker is of a batch that a restore could not decide, so not even a message without its object is a copy.
    """
    held = marker.content_hash is None and not marker.hours
    missing_object = isinstance(batch, RefusedBatch) and batch.missing_object
    if marker.verdict == "rejected" or (missing_object and not held):
        return Match.SAME
    if marker.content_hash is None:
        return Match.SAME_TOTALS if _has_totals(marker, batch) else Match.UNVERIFIED
    if marker.hash_version == batch.hash_version:
        return Match.SAME if marker.content_hash == batch.content_hash else Match.OTHER
    return Match.OTHER if batch.hash_version == 0 else Match.INCOMPARABLE


def _has_totals(marker: Marker, batch: DecodedBatch | RefusedBatch) -> bool:
    """Whether a content would be metered with the totals of a marker; false if nothing of it would be metered.

    The marker has booked hours. So rows of months of which it has no hour must all be in one hour of a later month
    (P43).
    """
    own = by_hour(batch.usage) if isinstance(batch, DecodedBatch) else {}
    late = {month_of(hour_s) for hour_s in own if hour_s not in marker.hours}
    booked_s = next((hour_s for hour_s, total in marker.hours.items() if own.get(hour_s) != total), 0)
    hours: dict[int, Total] = {}
    for hour_s, total in own.items():
        add_totals(hours, {booked_s if month_of(hour_s) in late else hour_s: total})
    return bool(own) and hours == marker.hours and all(month_of(booked_s) > month for month in late)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One batch of one delivery, as created by `Tally.read`.

    Attributes:
        ticket: Number by which the tally of verdicts identifies this copy.
    """

    delivery: Delivery
    batch: DecodedBatch | RefusedBatch
    ticket: int


@dataclass(slots=True, kw_only=True)
class Content:
    """One content under one batch id, with all copies of this content in the invocation.

    Attributes:
        copies: All copies; the outcome of the first copy applies to the others.
        verdict: Verdict of the first copy; None until it is decided.
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
        """Key of contents that are decided one after another: the batch id or, without an id, the body's hash.

        Batches that their senders may not send have one key per sender, so that they do not delay other senders.
        """
        batch = self.batch
        if isinstance(batch, RefusedBatch) and batch.claim is not None:
            return ("", f"{role_of(batch.sender_id)}\n{batch.claim.batch_id}\n{batch.content_hash}")
        return (batch.batch_id, "" if batch.batch_id else batch.content_hash)

    def add(self, copy: Copy) -> None:
        """Add a copy. An admitted copy goes before a refused first copy, because a resent message can be younger."""
        if isinstance(copy.batch, DecodedBatch) and isinstance(self.batch, RefusedBatch):
            self.copies.insert(0, copy)
        else:
            self.copies.append(copy)


def decision_rounds(copies: Iterable[Copy]) -> Iterator[list[Content]]:
    """Yield rounds of contents that may be decided together. No round has two contents with the same batch id."""
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


# Lookahead: reads markers before a commit is attempted. Lookahead only saves work; the transaction makes the decision.
#
# If even one marker already exists, the ledger refuses the whole commit, and its staging object must be written again.
# If 1 % of batches are resent, most commits of a hundred batches are refused in this way. Reading a marker costs a
# fraction of writing one, but if nothing is resent, the reads are wasted. So markers are read first only for messages
# that were received before, and for a while after a refused commit.


# Lookahead stops after this many lookups that find no marker.
_PERSISTENCE = 20


class VerdictLookahead:
    """Reads markers before a commit, if this is likely to save work.

    This class is not a dataclass, because it remembers whether recent reads were useful.
    """

    def __init__(self, *, items: ItemStore) -> None:
        self._items = items
        self._looks_left = 0

    def met_earlier_verdicts(self) -> None:
        """Use lookahead for some time after earlier verdicts caused a commit to be refused."""
        self._looks_left = _PERSISTENCE

    def accepted_before(self, contents: Sequence[Content]) -> Mapping[str, Marker]:
        """Markers of accepted batches, by batch id. Some markers may be missing; the transaction still decides."""
        worth_it = contents if self._looks_left else [each for each in contents if each.delivery.receive_count > 1]
        if not worth_it:
            return {}
        try:
            items = self._items.get_many(Table.LEDGER, [marker_key(each.batch.batch_id) for each in worth_it])
        except UnavailableError:
            return {}
        markers = filter(None, map(_readable, items.values()))
        accepted = {marker.batch_id: marker for marker in markers if marker.verdict == "accepted"}
        self._looks_left = _PERSISTENCE if accepted else max(self._looks_left - 1, 0)
        return accepted


def _readable(item: Item) -> Marker | None:
    # The transaction will find the same unreadable marker and return its batch to the queue.
    try:
        return Marker.from_item(item)
    except LedgerCorruptError:
        return None


# Originals: the batches whose ids are named by retries under other ids.
#
# An operator resends the content of a genuine conflict under a new id. The retry names the original id (`retry_of`),
# and the worker decides by that id's marker. Any producer can write such a message, and a copy under the first id can
# come before it, with it or weeks after it (docs/protocol.md, retries).


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A batch accepted with other content, so that a retry cannot use the batch's id.

    Attributes:
        expires_at_s: Expiry of the batch's marker when the marker was read. This marker must not expire before the
            marker of the retry.
    """

    batch_id: str
    expires_at_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A content that may now be committed.

    Attributes:
        original: For a retry under a new id: the batch that was accepted under the retry's first id.
    """

    content: Content
    batch: DecodedBatch
    original: Original | None = None


# A candidate for a commit, or the reason why the batch is not committed now or is never committed.
Judged = Candidate | RefusedBatch | Verdict | LedgerCorruptError | UnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Originals:
    """Checks retries against the markers of their first ids."""

    items: ItemStore
    retrier: Retrier

    def judge(self, candidates: Sequence[Candidate]) -> list[Judged]:
        """Check each candidate; returns, in order, the candidate with its original, or the reason not to commit it.

        Candidates that are not retries are returned unchanged. A retry may be committed only if its first id was
        accepted with other content. Otherwise, the retry can use its first id; under both ids, it would count twice. If
        a marker is unreadable or the ledger does not respond, the error is returned, so that only the retry is delayed.
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
        case Match.SAME_TOTALS | Match.UNVERIFIED:
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
