"""Sent batches and their expected totals: the stateful model's own arithmetic, without production code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

_HOUR_S = 3_600
WINDOW_S = 35 * 24 * _HOUR_S
Hours = dict[int, tuple[int, int]]  # Own hour -> bytes and records.


@dataclass(frozen=True)
class Sent:
    """One content that is sent under a batch id."""

    batch_id: str
    body: str
    records: tuple[tuple[int, int], ...]  # start, bytes

    def admitted(self, sent_s: int) -> Hours:
        """Totals by hour of the records that are admitted if the message is sent at `sent_s`."""
        hours: Hours = {}
        for start_s, size in self.records:
            if start_s >= sent_s - WINDOW_S:
                own_s = start_s - start_s % _HOUR_S
                hours[own_s] = add([hours.get(own_s, (0, 0)), (size, 1)])
        return hours


def inline(batch_id: str, rows: tuple[tuple[int, int], ...]) -> Sent:
    """A batch content with its records in the message."""
    return Sent(batch_id, _message(batch_id, len(rows), records=_records(rows)), rows)


def pointing(batch_id: str, key: str, rows: tuple[tuple[int, int], ...]) -> tuple[Sent, bytes]:
    """A batch content whose message refers to an object, and the bytes of the object."""
    location = {"bucket": "data", "key": key, "format": "ndjson", "compression": "none"}
    lines = "".join(json.dumps(one) + "\n" for one in _records(rows)).encode()
    return Sent(batch_id, _message(batch_id, len(rows), location=location), rows), lines


def add(totals: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Sum of bytes and records."""
    sizes, counts = zip((0, 0), *totals, strict=True)
    return sum(sizes), sum(counts)


def _message(batch_id: str, count: int, **content: object) -> str:
    return json.dumps({"schema": "metering.batch/1", "batch_id": batch_id, "record_count": count, **content})


def _records(rows: tuple[tuple[int, int], ...]) -> list[dict[str, object]]:
    same = {
        "account_id": "123456789012",
        "service": "AmazonEC2",
        "direction": "out",
        "from": "us-west-2",
        "to": "internet",
    }
    return [
        {**same, "resource_id": f"i-{position}", "bytes": size, "start": start_s, "end": start_s}
        for position, (start_s, size) in enumerate(rows)
    ]
