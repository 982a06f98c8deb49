"""The checker at rest. The checker knows the sent batches, and a reader's view of the finished region."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.hours import month_of
from metering.ledger.markers import Marker, conflict_key, marker_key
from metering.quarantine.documents import decode_records
from metering.stores.objects import commit_of_refused_records, lake_prefix, quarantined_batch_key
from metering.usage.totals import ZERO, Total
from tests.support.memory.rows import PlainRow, decode_rows, plain_usage
from tests.support.stage import ADMISSION

if TYPE_CHECKING:
    from tests.simulation.region.world import World
    from tests.simulation.sent.contents import SentContent
    from tests.simulation.sent.senders import SentBy


@dataclass(slots=True)
class Findings:
    """Violations, and counts of dangerous situations that ended well.

    Attributes:
        lost: Sent, without a verdict and not in flight; or accepted, and not (entirely) visible.
        doubled: Visible or counted more than once.
        unexpected: Visible or counted, but never accepted with this content.
        recovered: Contents that were delivered more than once, with the right result.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    recovered: int = 0

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.unexpected)

    def __str__(self) -> str:
        return f"lost {self.lost}, doubled {self.doubled}, unexpected {self.unexpected}"


def check(world: World, rows: list[PlainRow]) -> Findings:
    """Compare the sent batches with the visible rows, the usage and the verdicts."""
    findings = Findings()
    _check_rows(world, rows, findings)
    _check_usage(world, rows, findings)
    _check_markers(world, rows, findings)
    for content in world.contents.values():
        senders = world.queue.senders.get(content.name, {})
        foreign = [sender for sender in senders if not world.senders.may_send(content, sender)]
        if len(foreign) < len(senders):
            _check_verdict(world, content, findings)
        _check_foreign(world, content, foreign, findings)
    findings.recovered = sum(world.queue.delivered.get(name, 0) > 1 for name in world.contents)
    return findings


def lake_rows(world: World) -> list[PlainRow]:
    """Every row below `lake/`, as read by an engine that only lists the prefix."""
    rows: list[PlainRow] = []
    for key in world.objects.keys("lake/"):
        body = world.objects.peek(key)
        found = decode_rows(body or b"")
        if any(not key.startswith(lake_prefix(row.booked_s)) for row in found):
            raise AssertionError(f"{key} has rows of another hour")
        rows += found
    return rows


def _check_rows(world: World, rows: list[PlainRow], findings: Findings) -> None:
    counts = Counter(row.resource_id for row in rows)
    findings.doubled += [name for name, count in counts.items() if count > 1]
    visible: dict[str, set[int]] = {}
    for row in rows:
        name, _, position = row.resource_id.partition("/")
        visible.setdefault(name, set()).add(int(position))
        sent = (_metered(world, world.contents[name]) or world.contents[name]).rows[int(position)]
        if row != sent and (row[1:] != sent[1:] or not _booked_right(world, row, sent)):
            findings.unexpected.append(f"{row.resource_id} is not as it was sent")
    for content in world.contents.values():
        if content.retries is None:
            _check_content(world, content, visible.get(content.name, set()), findings)


def _check_content(world: World, content: SentContent, seen: set[int], findings: Findings) -> None:
    metered = _metered(world, content)
    if metered is None:
        findings.unexpected += [f"{content.name}/{position} was not accepted" for position in sorted(seen)]
    elif seen not in _possible(world, metered):
        findings.lost.append(f"{content.name}: {len(seen)} of {len(content.rows)} rows are visible")
    elif len(seen) < len(content.rows):
        _check_refused(world, metered, seen, findings)
    if len(_accepted_as(world, content)) > 1:
        findings.doubled.append(f"{content.name}: accepted under its id and as a retry")


def _accepted_as(world: World, content: SentContent) -> list[SentContent]:
    """The content itself and its retry, as far as they are accepted."""
    retries = [each for each in world.contents.values() if each.retries is content]
    return [
        each for each in (content, *retries) if world.watch.accepted.get(each.batch_id, ("",))[0] == each.content_hash
    ]


def _metered(world: World, content: SentContent) -> SentContent | None:
    return next(iter(_accepted_as(world, content)), None)


def _booked_right(world: World, row: PlainRow, sent: PlainRow) -> bool:
    own_month = month_of(sent.booked_s)
    return row.booked_s == sent.booked_s or (own_month in world.watch.closing and month_of(row.booked_s) != own_month)


def _possible(world: World, content: SentContent) -> list[set[int]]:
    """The sets of positions that admission may have admitted, one for each SentTimestamp that the message ever had."""
    return [
        {n for n, row in enumerate(content.rows) if ADMISSION.refusal(row.start_s, sent_ms) is None}
        for sent_ms in world.queue.sent_times.get(content.name, [])
    ]


def _check_refused(world: World, content: SentContent, seen: set[int], findings: Findings) -> None:
    marker = world.peek(marker_key(content.batch_id))
    if marker is None or marker["verdict"] != "accepted":
        # Its life is over.
        return
    rebuilt = content.batch_id in world.watch.rebuilt
    body = world.objects.peek(_beside_rows(world, content) if rebuilt else str(marker.get("quarantine", "")))
    kept = (
        set() if body is None else {r.record.position for r in decode_records(body) if r.batch_id == content.batch_id}
    )
    if kept != set(range(len(content.rows))) - seen or marker["refused"] != (0 if rebuilt else len(kept)):
        findings.lost.append(f"{content.name}: refused records are not in quarantine")


def _beside_rows(world: World, content: SentContent) -> str:
    """Where a batch's refused records are if its marker was rebuilt from its rows, without their content."""
    commit_id = world.watch.accepted[content.batch_id][1]
    return next((key for key in world.objects.keys("quarantine/") if commit_of_refused_records(key) == commit_id), "")


def _check_usage(world: World, rows: list[PlainRow], findings: Findings) -> None:
    expected, counted = plain_usage(rows), world.usage()
    for key in expected.keys() | counted.keys():
        want, have = expected.get(key, ZERO), counted.get(key, ZERO)
        if have != want:
            more = have.records > want.records or have.bytes > want.bytes
            (findings.doubled if more else findings.lost).append(f"usage {key}: {have}, not {want}")


def _check_markers(world: World, rows: list[PlainRow], findings: Findings) -> None:
    """I2: each marker equals the sum of its batch's rows, hour by hour."""
    visible: dict[str, dict[int, Total]] = {}
    for row in rows:
        hours = visible.setdefault(row.batch_id, {})
        size, count = hours.get(row.booked_s, ZERO)
        hours[row.booked_s] = Total(size + row.bytes, count + 1)
    for batch_id in world.watch.accepted:
        item = world.peek(marker_key(batch_id))
        if item is None or item["verdict"] != "accepted":
            # Its life is over.
            continue
        marked, seen = Marker.from_item(item).hours, visible.get(batch_id, {})
        if marked != seen:
            findings.unexpected.append(f"marker of {batch_id}: {marked}, not {seen}")


def _check_foreign(world: World, content: SentContent, foreign: list[SentBy], findings: Findings) -> None:
    """Each forbidden sender of a content has its refusal, and no other effect."""
    for sender in foreign:
        if not world.watch.has_verdict(content, sender) and not world.queue.holds(content.name):
            findings.lost.append(f"{content.name} of {sender}: no refusal")
    if len(foreign) == len(world.queue.senders.get(content.name, {})) and _metered(world, content) is not None:
        findings.unexpected.append(f"{content.name}: accepted, although nobody who sent it may send it")


def _check_verdict(world: World, content: SentContent, findings: Findings) -> None:
    """I1: exactly one of accepted, conflict and rejected; or still in the queue or among the dead letters."""
    accepted = world.watch.accepted.get(content.batch_id)
    is_accepted = accepted is not None and accepted[0] == content.content_hash
    is_conflict = world.peek(conflict_key(content.batch_id, content.content_hash)) is not None
    if is_accepted and is_conflict:
        findings.doubled.append(f"{content.name}: accepted and in conflict")
    if is_accepted or is_conflict or world.queue.holds(content.name):
        return
    if content.retries is not None and world.watch.is_metered_elsewhere(content):
        return
    if accepted is not None and content.batch_id in world.watch.rebuilt:
        # The original can no longer be known, so this counts as a flagged duplicate.
        return
    # A rejected marker can be replaced when other content is accepted; the quarantine object stays. A pointer whose
    # object was deleted is a duplicate of the accepted batch.
    hashes = (content.content_hash, f"body-{content.name}")
    kept = any(world.objects.peek(quarantined_batch_key(content.batch_id, name)) is not None for name in hashes)
    if content.batch_id in world.watch.rejected or (content.location and (accepted is not None or kept)):
        return
    findings.lost.append(f"{content.name}: no verdict")
