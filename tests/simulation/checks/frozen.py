"""Objects that must exist when others do: totals beside published files, and objects in a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.ledger.periods import FrozenMonth
from metering.stores.objects import summary_key
from tests.support.memory.frozen import decode_usage
from tests.support.memory.rows import decode_rows, plain_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.ledger.booked_hours import LakeFile
    from tests.support.memory.objects import MemoryObjectStore


def wrong_totals(objects: MemoryObjectStore, file: LakeFile) -> str:
    """Differences between a published file's totals and its rows."""
    key = summary_key(file.key)
    kept, body = objects.peek(key), objects.peek(file.key)
    if kept is None or body is None:
        return f"{file.key} is published without its totals"
    return "" if dict(decode_usage(kept, key)) == plain_usage(decode_rows(body)) else f"{key} is not of its file's rows"


def missing_objects(objects: MemoryObjectStore, manifest: str) -> Iterator[str]:
    """Objects in a manifest that do not exist yet."""
    closed = FrozenMonth.from_json(objects.peek(manifest) or b"", manifest)
    named = [hour.key for hour in closed.hours] + [rows.key for rows in (closed.accounts, closed.days) if rows]
    return (key for key in named if objects.peek(key) is None)
