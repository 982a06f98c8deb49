"""Answers about refused batches and records: a list of entries, or all of some entries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.reports.answer import Answer, Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.quarantine.entries import Entry
    from metering.reports.answer import Cell, Json

_COLUMNS = (
    Column(name="batch_id"),
    Column(name="kind"),
    Column(name="reasons"),
    Column(name="records", kind="integer"),
    Column(name="at", kind="time"),
    Column(name="retried_as"),
    Column(name="sender"),
    Column(name="key"),
)
_RECORD_COLUMNS = (
    Column(name="batch_id"),
    Column(name="position", kind="integer"),
    Column(name="reasons"),
    Column(name="raw"),
)


def entries_answer(entries: Sequence[Entry]) -> Answer:
    """One row an entry, in the form of `metering quarantine list`."""
    return Answer(columns=_COLUMNS, rows=[_row(entry) for entry in entries])


def entry_answer(entries: Sequence[Entry]) -> Answer:
    """All of the entries of one batch, in the form of `metering quarantine show`: one row a refused record."""
    rows = [row for entry in entries for row in _record_rows(entry)]
    return Answer(columns=_RECORD_COLUMNS, rows=rows, document={"entries": [_document(entry) for entry in entries]})


def _row(entry: Entry) -> dict[str, Cell]:
    return {
        "batch_id": entry.batch_id,
        "kind": entry.kind,
        "reasons": ", ".join(f"{name} ({n})" if n else name for name, n in entry.reasons.items()),
        "records": sum(entry.reasons.values()),
        "at": rfc3339(entry.at_s),
        "retried_as": ", ".join(entry.retried_as),
        "sender": entry.batch.sender_id if entry.batch else "",
        "key": entry.key,
    }


def _record_rows(entry: Entry) -> list[dict[str, Cell]]:
    if entry.batch is not None:
        reasons = "; ".join(f"{reason}: {detail}" for reason, detail in entry.batch.problems)
        return [{"batch_id": entry.batch_id, "position": None, "reasons": reasons, "raw": entry.batch.body}]
    return [
        {
            "batch_id": entry.batch_id,
            "position": record.position,
            "reasons": "; ".join(f"{reason}: {detail}" for reason, detail in record.reasons),
            "raw": record.raw,
        }
        for record in entry.refused
    ]


def _document(entry: Entry) -> dict[str, Json]:
    document: dict[str, Json] = {
        "batch_id": entry.batch_id,
        "kind": entry.kind,
        "key": entry.key,
        "at": rfc3339(entry.at_s),
        "reasons": dict(entry.reasons),
        "retried_as": list(entry.retried_as),
    }
    if entry.batch is not None:
        document["message"] = json.loads(entry.batch.encode())
    else:
        document["records"] = [
            {"position": r.position, "reasons": [list(each) for each in r.reasons], "raw": r.raw} for r in entry.refused
        ]
    return document
