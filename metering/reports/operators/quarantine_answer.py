"""Answers about refused batches and records: a list of entries, or all details of some entries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from metering.hours import rfc3339
from metering.quarantine import documents
from metering.reports.answer import KEEP, ROOMY, Answer, Fields, Json, RowType, copied, integer, prose, short, timed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.quarantine.entries import Entry


def _counted(reasons: Mapping[str, int]) -> list[str]:
    return [f"{name} ({count})" if count else name for name, count in reasons.items()]


_ENTRIES: Fields[Entry] = (
    *copied("batch_id", priority=KEEP),
    *copied("kind", priority=ROOMY),
    *prose("reasons", of=lambda it: _counted(it.reasons), priority=KEEP),
    # The counts of the reasons add up to the number of records.
    *integer("records", of=lambda it: sum(it.reasons.values()), priority=ROOMY),
    *timed("at", of=lambda it: it.at_s),
    *copied("retried_as", priority=ROOMY + 1),
    *prose("became", priority=ROOMY),
    *short("sender", of=lambda it: it.sender_id, priority=ROOMY + 2),
)
_SOURCE: Fields[Entry] = short("source", of=lambda it: it.source_id, priority=ROOMY + 2)
_POSITION = "of the record in its batch, counted from 0; of the line in a log file, from 1"
_Record = tuple[str, int | None, str, str]
_RECORDS: RowType[_Record] = RowType(
    copied("batch_id", of=lambda it: it[0], priority=KEEP),
    integer("position", of=lambda it: it[1], about=_POSITION),
    prose("reasons", of=lambda it: it[2], priority=KEEP),
    copied("raw", of=lambda it: it[3]),
)


def entries_answer(entries: Sequence[Entry]) -> Answer:
    """The answer of `metering quarantine list`: one row for each entry."""
    # An entry without a batch id is identified by its key, and no table may truncate the key.
    priority = ROOMY + 3 if all(entry.batch_id for entry in entries) else KEEP
    table = RowType(_ENTRIES, copied("key", priority=priority), _SOURCE)
    return table.answer(entries, empty="Nothing is in quarantine that matches.")


def entry_answer(entries: Sequence[Entry]) -> Answer:
    """The answer of `metering quarantine show`: all details of one batch's entries, one row for each record.

    A whole batch has one more row, without a position, for the fields that its records share.
    """
    return _RECORDS.answer(
        (record for entry in entries for record in _records(entry)),
        document={"entries": [_document(entry) for entry in entries]},
        empty="No refused record.",
        footer=tuple(line for entry in entries for line in _lines(entry)),
    )


def _lines(entry: Entry) -> list[str]:
    """Text below the rows: the outcome of an entry, and the differences of a conflict."""
    name = entry.batch_id or entry.key
    differs = [f"  {each.what}: {each.metered} is metered, and here it is {each.this}" for each in entry.differs]
    heading = [f"{name} differs from what is metered under its id:"] if differs else []
    return [f"{name}: {entry.became}", *heading, *differs]


def _records(entry: Entry) -> list[_Record]:
    name = entry.batch_id
    if entry.log is not None:
        return _of_log(name, entry.log)
    if entry.batch is not None:
        return _of_batch(name, _reasons(entry.batch.problems), entry.batch.body)
    return [(name, record.position, _reasons(record.reasons), record.raw) for record in entry.refused]


def _reasons(found: Iterable[Sequence[str]]) -> str:
    return "; ".join(f"{reason}: {detail}" for reason, detail in found)


def _of_log(name: str, log: documents.QuarantinedLog) -> list[_Record]:
    if log.kind == "file":
        return [(name, None, f"{log.refusals[0][0]}: {log.detail}", log.place)]
    return [(name, line.number or None, f"{line.reason}: {line.detail}", line.text) for line in log.lines]


def _of_batch(name: str, reasons: str, body: str) -> list[_Record]:
    message = documents.readable(body)
    records = None if message is None else documents.records_in(message)
    if message is None or records is None:
        return [(name, None, reasons, body)]
    envelope = json.dumps({member: value for member, value in message.items() if member != "records"})
    of_records = [(name, position, "", json.dumps(record)) for position, record in enumerate(records)]
    return [(name, None, reasons, envelope), *of_records]


def _document(entry: Entry) -> dict[str, Json]:
    document: dict[str, Json] = {
        "batch_id": entry.batch_id,
        "kind": entry.kind,
        "key": entry.key,
        "at": rfc3339(entry.at_s),
        "reasons": dict(entry.reasons),
        "retried_as": list(entry.retried_as),
        "became": entry.became,
    }
    if entry.log is not None:
        document["log"] = json.loads(entry.log.to_json())
    elif entry.batch is not None:
        document["message"] = json.loads(entry.batch.to_json())
        # The body as decoded values, for people: `message.body` is the text as it was received.
        document["content"] = cast("Json", documents.readable(entry.batch.body))
        document["differs"] = [{"what": d.what, "metered": d.metered, "this": d.this} for d in entry.differs]
    else:
        document["records"] = [
            {"position": r.position, "reasons": [list(each) for each in r.reasons], "raw": r.raw} for r in entry.refused
        ]
    return document
