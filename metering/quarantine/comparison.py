"""Readable content of a refused batch, and what differs between a conflict and what is metered under its id."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.usage.totals import sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.ledger.markers import Marker
    from metering.quarantine.documents import QuarantinedBatch

# A message with records has 4 levels.
_DEEPEST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One fact in which a conflict differs from the batch that is metered under its id.

    Attributes:
        what: Name of the fact, such as `bytes`.
        metered, this: Its two values as text.
    """

    what: str
    metered: str
    this: str


def readable(body: str) -> dict[str, object] | None:
    """The message in a body as plain JSON values, or None if it is no JSON object.

    A number that a float would change stays text. The data of a CloudEvent is the message. One that is nested deeper
    than any message, which cannot be printed again, is None.
    """
    try:
        found = json.loads(body, parse_float=_exact, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and "specversion" in found and isinstance(found.get("data"), dict):
        found = found["data"]
    return found if isinstance(found, dict) and not _is_deep(found) else None


def records_in(message: dict[str, object]) -> list[object] | None:
    """Records that a message carries; None if it points to an object, or they are no list."""
    records = message.get("records")
    return records if isinstance(records, list) else None


def contrasts(marker: Marker, batch: QuarantinedBatch) -> tuple[Contrast, ...]:
    """What differs between an accepted batch, as its marker knows it, and other content under its id.

    A fact that one side does not know is left out. The bytes of the marker are those of its metered records, so they
    are compared only if all of its records are metered.
    """
    pairs = [
        ("sender", marker.sender_id, batch.sender_id),
        ("source_id", marker.source_id, batch.source_id),
        ("sequence", _text(marker.sequence), _text(batch.sequence)),
        ("records", _text(marker.records or None), _text(batch.records or None)),
        ("bytes", str(sum_totals(marker.hours.values()).bytes) if not marker.refused else "", _bytes(batch.body)),
        ("content hash", marker.content_hash or "", batch.content_hash),
    ]
    return tuple(
        Contrast(what=what, metered=one, this=other) for what, one, other in pairs if one and other and one != other
    )


def _bytes(body: str) -> str:
    """Sum of the bytes of the records in a body; empty if it cannot be told."""
    message = readable(body)
    records = None if message is None else records_in(message)
    sizes = None if records is None else list(_sizes(records))
    return "" if not sizes or None in sizes else str(sum(size for size in sizes if size is not None))


def _sizes(records: list[object]) -> Iterator[int | None]:
    for record in records:
        size = record.get("bytes") if isinstance(record, dict) else None
        yield size if type(size) is int and size >= 0 else None


def _is_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _exact(digits: str) -> float | str:
    number = float(digits)
    return number if repr(number) == digits else digits
