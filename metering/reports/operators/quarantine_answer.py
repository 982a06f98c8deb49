"""Answers about refused batches and records: a list of entries, or all of some entries."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from metering.hours import rfc3339
from metering.quarantine.documents import QuarantinedLog, readable, records_in
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.quarantine.entries import Entry

_COLUMNS = (
    Column(name="batch_id", text="copied", priority=KEEP),
    Column(name="kind", text="copied", priority=ROOMY),
    Column(name="reasons", text="prose", priority=KEEP),
    # The reasons say how many each.
    Column(name="records", kind="integer", priority=ROOMY),
    Column(name="at", kind="time"),
    Column(name="retried_as", text="copied", priority=ROOMY + 1),
    Column(name="became", text="prose", priority=ROOMY),
    Column(name="sender", priority=ROOMY + 2),
    Column(name="key", text="copied", priority=ROOMY + 3),
    Column(name="source", text="copied", priority=ROOMY + 2),
)
_RECORD_COLUMNS = (
    Column(name="batch_id", text="copied", priority=KEEP),
    Column(
        name="position",
        kind="integer",
        about="of the record in its batch, counted from 0; of the line in a log file, from 1",
    ),
    Column(name="reasons", text="prose", priority=KEEP),
    Column(name="raw", text="copied"),
)


def entries_answer(entries: Sequence[Entry]) -> Answer:
    """One row an entry, in the form of `metering quarantine list`."""
    return Answer(
        columns=_columns(entries),
        rows=[_row(entry) for entry in entries],
        empty="Nothing is in quarantine that matches.",
    )


def _columns(entries: Sequence[Entry]) -> tuple[Column, ...]:
    """The columns of a list. An entry whose batch has no id is shown by its key, which no table may cut then."""
    if all(entry.batch_id for entry in entries):
        return _COLUMNS
    return tuple(replace(column, priority=KEEP) if column.name == "key" else column for column in _COLUMNS)


def entry_answer(entries: Sequence[Entry]) -> Answer:
    """All of the entries of one batch, in the form of `metering quarantine show`: one row a record.

    A whole batch has a row without a position for what its records have in common.
    """
    rows = [row for entry in entries for row in _record_rows(entry)]
    return Answer(
        columns=_RECORD_COLUMNS,
        rows=rows,
        document={"entries": [_document(entry) for entry in entries]},
        empty="No refused record.",
        footer=tuple(line for entry in entries for line in _lines(entry)),
    )


def _lines(entry: Entry) -> list[str]:
    """What the table says below its rows: what became of an entry, and what differs in a conflict."""
    name = entry.batch_id or entry.key
    differs = [f"  {each.what}: {each.metered} is metered, and here it is {each.this}" for each in entry.differs]
    heading = [f"{name} differs from what is metered under its id:"] if differs else []
    return [f"{name}: {entry.became}", *heading, *differs]


def _row(entry: Entry) -> dict[str, Cell]:
    return {
        "batch_id": entry.batch_id,
        "kind": entry.kind,
        "reasons": ", ".join(f"{name} ({n})" if n else name for name, n in entry.reasons.items()),
        "records": sum(entry.reasons.values()),
        "at": rfc3339(entry.at_s),
        "retried_as": ", ".join(entry.retried_as),
        "became": entry.became,
        "sender": entry.sender_id,
        "key": entry.key,
        "source": entry.source_id,
    }


def _record_rows(entry: Entry) -> list[dict[str, Cell]]:
    if entry.log is not None:
        return _log_rows(entry.batch_id, entry.log)
    if entry.batch is not None:
        reasons = "; ".join(f"{reason}: {detail}" for reason, detail in entry.batch.problems)
        return _batch_rows(entry.batch_id, reasons, entry.batch.body)
    return [
        {
            "batch_id": entry.batch_id,
            "position": record.position,
            "reasons": "; ".join(f"{reason}: {detail}" for reason, detail in record.reasons),
            "raw": record.raw,
        }
        for record in entry.refused
    ]


def _log_rows(name: str, log: QuarantinedLog) -> list[dict[str, Cell]]:
    """A row for each line that is kept; a whole file has one row, with its place."""
    if log.kind == "file":
        return [
            {"batch_id": name, "position": None, "reasons": f"{log.refusals[0][0]}: {log.detail}", "raw": log.place}
        ]
    return [
        {
            "batch_id": name,
            "position": line.number or None,
            "reasons": f"{line.reason}: {line.detail}",
            "raw": line.text,
        }
        for line in log.lines
    ]


def _batch_rows(batch_id: str, reasons: str, body: str) -> list[dict[str, Cell]]:
    message = readable(body)
    records = None if message is None else records_in(message)
    if message is None or records is None:
        return [{"batch_id": batch_id, "position": None, "reasons": reasons, "raw": body}]
    envelope = json.dumps({name: value for name, value in message.items() if name != "records"})
    rows: list[dict[str, Cell]] = [{"batch_id": batch_id, "position": None, "reasons": reasons, "raw": envelope}]
    for position, record in enumerate(records):
        rows.append({"batch_id": batch_id, "position": position, "reasons": "", "raw": json.dumps(record)})
    return rows


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
        document["log"] = json.loads(entry.log.encode())
    elif entry.batch is not None:
        document["message"] = json.loads(entry.batch.encode())
        # The body as values, for people: `message.body` is the text as it came.
        document["content"] = cast("Json", readable(entry.batch.body))
        document["differs"] = [{"what": d.what, "metered": d.metered, "this": d.this} for d in entry.differs]
    else:
        document["records"] = [
            {"position": r.position, "reasons": [list(each) for each in r.reasons], "raw": r.raw} for r in entry.refused
        ]
    return document
