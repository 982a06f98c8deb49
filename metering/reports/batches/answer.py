"""The answer about one batch, as much of it as the asker may know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.ledger.notes.tokens import Role
from metering.reports.answer import KEEP, ROOMY, Answer, Column
from metering.units import counted, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.ledger.conflicts import Conflict
    from metering.ledger.markers import Marker
    from metering.quarantine.entries import Entry
    from metering.reports.answer import Cell, Json
    from metering.reports.batches.story import BatchHour, BatchStory

_FILES = Column(name="files", kind="integer", priority=ROOMY, about="objects that its rows are in")
# Objects that a table names; JSON has all.
_FILES_NAMED = 5
_COLUMNS = (
    Column(name="hour", kind="time", priority=KEEP),
    Column(name="bytes", kind="bytes", priority=KEEP, about="by its marker"),
    Column(name="records", kind="integer", about="by its marker"),
    Column(name="rows_bytes", kind="bytes", priority=ROOMY, sized=False, about="as its rows add up"),
    Column(name="rows_records", kind="integer", priority=ROOMY, about="as its rows are counted"),
)


def story_answer(story: BatchStory, *, as_of_s: int, role: Role = Role.OPERATOR) -> Answer:
    """Put the story of a batch into the form of `metering batch show`. The rows are its hours.

    Args:
        story: Of the batch; for a customer, the part that is its own (`StoryTeller.tell_own`).
        as_of_s: When it was asked.
        role: Operators see who sent it and the keys of objects. A customer sees the rows of its accounts, and nothing
            that tells of others.
    """
    with_keys = role is Role.OPERATOR
    return Answer(
        columns=(*_COLUMNS, _FILES) if with_keys else _COLUMNS,
        rows=[_row(hour, with_keys=with_keys) for hour in story.hours],
        document=_document(story, as_of_s, role),
        meta={"as_of": rfc3339(as_of_s)},
        title=f"Batch {story.batch_id}: {story.verdict or 'without a verdict'}",
        empty="Nothing of it is metered.",
        footer=tuple(_lines(story, role)),
    )


def _row(hour: BatchHour, *, with_keys: bool) -> dict[str, Cell]:
    said = hour.rows if hour.marked is None else hour.marked
    row: dict[str, Cell] = {
        "hour": rfc3339(hour.hour_s),
        "bytes": said.bytes,
        "records": said.records,
        "rows_bytes": hour.rows.bytes,
        "rows_records": hour.rows.records,
    }
    return {**row, "files": len(hour.files)} if with_keys else row


def _document(story: BatchStory, as_of_s: int, role: Role) -> dict[str, Json]:
    marker = story.decided
    document: dict[str, Json] = {
        "batch_id": story.batch_id,
        "as_of": rfc3339(as_of_s),
        "verdict": story.verdict,
        "marker": "expired" if story.expired else "none" if marker is None else "kept",
        "source_id": marker.source_id if marker else "",
        "sequence": marker.sequence if marker else None,
        "decided_at": rfc3339(marker.decided_at_ms // 1000) if marker else None,
        "hours": [_hour(hour, with_files=role is Role.OPERATOR) for hour in story.hours],
        "proof": _proof(story),
    }
    if role is not Role.CUSTOMER:
        document |= _whole(story, with_keys=role is Role.OPERATOR)
    return document


def _whole(story: BatchStory, *, with_keys: bool) -> dict[str, Json]:
    """What is told of a batch to who may see all of its records."""
    marker, later = story.decided, story.later
    return {
        # Of a batch whose marker has expired, the rows tell the verdict.
        **_verdict(marker),
        "verdict": story.verdict,
        **({"sender": marker.sender_id if marker else ""} if with_keys else {}),
        "content_hash": marker.content_hash if marker else None,
        "hash_version": marker.hash_version if marker else None,
        "kept_until": rfc3339(marker.expires_at_s) if marker else None,
        "later": None if later is None else {**_verdict(later), "decided_at": rfc3339(later.decided_at_ms // 1000)},
        "commit": _commit(story, with_keys=with_keys),
        "conflicts": [_conflict(each, with_keys=with_keys) for each in story.conflicts],
        "quarantine": [_entry(each, with_keys=with_keys) for each in story.quarantine],
        "retried_as": [{"batch_id": name, **_verdict(story.verdicts.get(name))} for name in story.retried_as],
    }


def _verdict(marker: Marker | None) -> dict[str, Json]:
    if marker is None:
        return {"verdict": None, "reason": None, "records": None, "metered": None, "refused": None}
    return {
        "verdict": marker.verdict,
        "reason": marker.reason or None,
        "records": marker.records,
        "metered": marker.metered,
        "refused": marker.refused,
    }


def _hour(hour: BatchHour, *, with_files: bool) -> dict[str, Json]:
    row = _row(hour, with_keys=False)
    document: dict[str, Json] = {
        "hour": rfc3339(hour.hour_s),
        "bytes": str(row["bytes"]),
        "records": hour.rows.records if hour.marked is None else hour.marked.records,
        "rows_bytes": str(row["rows_bytes"]),
        "rows_records": hour.rows.records,
        "equal": hour.equal,
    }
    if with_files:
        document["files"] = [
            {"key": file.key, "staged": file.staged, "bytes": str(file.total.bytes), "records": file.total.records}
            for file in hour.files
        ]
    return document


def _proof(story: BatchStory) -> dict[str, Json] | None:
    """Marker and rows beside each other; nothing is to be proved of a batch that is not metered."""
    if story.verdict != "accepted":
        return None
    marked = story.marked
    return {
        "marker": None if marked is None else str(marked.bytes),
        "rows": str(story.rows.bytes),
        "equal": story.equal,
    }


def _commit(story: BatchStory, *, with_keys: bool) -> dict[str, Json] | None:
    marker, commit = story.decided, story.commit
    if marker is None or not marker.commit_id:
        return None
    document: dict[str, Json] = {"commit_id": marker.commit_id, "state": None if commit is None else commit.state}
    if commit is not None and commit.state != "aborted":
        document |= {
            "created_at": rfc3339(commit.created_at_ms // 1000),
            "rolled_up": not story.waits,
            "rows": commit.rows,
            "bytes": str(commit.bytes),
        }
        if with_keys:
            document["staging"] = commit.staging_key
    return document


def _conflict(conflict: Conflict, *, with_keys: bool) -> dict[str, Json]:
    document: dict[str, Json] = {"content_hash": conflict.content_hash, "records": conflict.records}
    if with_keys:
        document |= {
            "sender": conflict.sender_id,
            "first_sender": conflict.first_sender_id,
            "key": conflict.quarantine_key,
        }
    return document


def _entry(entry: Entry, *, with_keys: bool) -> dict[str, Json]:
    document: dict[str, Json] = {
        "kind": entry.kind,
        "at": rfc3339(entry.at_s),
        "reasons": dict(entry.reasons),
        "retried_as": list(entry.retried_as),
        "became": entry.became,
    }
    return {**document, "key": entry.key} if with_keys else document


def _lines(story: BatchStory, role: Role) -> Iterator[str]:
    marker = story.decided
    if marker is not None:
        yield from _decided(marker, role)
    if story.expired:
        yield "Its marker has expired, and its rows remain: it was accepted, and is counted."
    if story.later is not None and role is not Role.CUSTOMER:
        yield f"What came under its id at {rfc3339(story.later.decided_at_ms // 1000)} was {story.later.verdict}."
    if marker is not None and role is not Role.CUSTOMER:
        yield from _whole_lines(story, marker)
    yield from _proof_lines(story)
    if role is Role.OPERATOR:
        yield from _file_lines(story)
        if story.quarantine:
            yield f"What was refused, with every reason: metering quarantine show {story.batch_id}"
        elif story.retried_as:
            yield f"What became of it: metering batch show {story.retried_as[0]}"


def _file_lines(story: BatchStory) -> Iterator[str]:
    keys = [file.key for hour in story.hours for file in hour.files]
    yield from (f"Rows in {key}" for key in keys[:_FILES_NAMED])
    if len(keys) > _FILES_NAMED:
        yield f"and in {len(keys) - _FILES_NAMED:,} more objects (--format json names all)"


def _decided(marker: Marker, role: Role) -> Iterator[str]:
    source = f", as number {marker.sequence} of source {marker.source_id}" if marker.source_id else ""
    sender = f", sent by {marker.sender_id}" if role is Role.OPERATOR and marker.sender_id else ""
    yield f"Decided at {rfc3339(marker.decided_at_ms // 1000)}{source}{sender}."


def _whole_lines(story: BatchStory, marker: Marker) -> Iterator[str]:
    if marker.verdict == "rejected":
        yield f"Refused: {marker.reason}."
        if marker.reason == "too_late":
            yield "If it is a copy of a batch whose marker has expired, --from and --to find the rows of that."
    else:
        yield f"{counted(marker.records, 'record')}: {marker.metered:,} metered, {marker.refused:,} refused."
    if story.waits:
        yield "It waits for the roll-up: reports on its accounts count it in a minute at most, and with --now at once."
    for each in story.quarantine:
        reasons = ", ".join(f"{name} ({n})" if n else name for name, n in each.reasons.items())
        yield f"In quarantine: {reasons}; {each.became}."
    if story.conflicts:
        times = "once" if len(story.conflicts) == 1 else f"{len(story.conflicts):,} times"
        yield f"Other content came under its id {times}, and is not metered."
    if story.retried_as:
        yield f"Sent again as {', '.join(story.retried_as)}."


def _proof_lines(story: BatchStory) -> Iterator[str]:
    if story.verdict != "accepted":
        return
    rows, marked = story.rows, story.marked
    if marked is None:
        yield f"Its rows: {exact_and_size(rows.bytes)} in {counted(rows.records, 'record')}."
    elif story.equal:
        yield f"Marker and rows say the same: {exact_and_size(rows.bytes)} in {counted(rows.records, 'record')}."
    else:
        yield "Marker and rows are NOT equal:"
        yield f"  the marker says {marked.bytes:,} bytes in {counted(marked.records, 'record')}"
        yield f"  the rows say {rows.bytes:,} bytes in {counted(rows.records, 'record')}"
