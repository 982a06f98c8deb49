"""The frozen month: files and totals of a closed billing month, kept in the object `closed/<month>.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import hour_label
from metering.ledger.booked_hours import LakeFile
from metering.ledger.periods import Period, period_key
from metering.stores.fields import Fields
from metering.stores.writes import Table
from metering.usage.totals import Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.ledger.row_sources import RowSource
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore

_SCHEMA = "metering.closed/1"
_USAGE_COLUMNS = (
    "account_id",
    "usage_type",
    "service",
    "from_location",
    "to_location",
    "corrects",
    "bytes",
    "records",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenHour:
    """One booked hour of a closed month. Its usage includes corrections of earlier months, with `corrects_s`."""

    hour_s: int
    files: tuple[LakeFile, ...]
    usage: Mapping[UsageKey, Total]

    @property
    def sources(self) -> tuple[RowSource, ...]:
        """Row sources of its files."""
        return tuple(file.source(self.hour_s) for file in self.files)

    @property
    def total(self) -> Total:
        return Total(sum(file.bytes for file in self.files), sum(file.rows for file in self.files))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenMonth:
    """Files and totals of a closed month. The same month always gives the same bytes."""

    month: str
    hours: tuple[FrozenHour, ...]

    @property
    def total(self) -> Total:
        return Total(sum(hour.total.bytes for hour in self.hours), sum(hour.total.records for hour in self.hours))

    def usage(self) -> Iterator[tuple[UsageKey, Total]]:
        """Frozen totals of all hours, by usage key."""
        for hour in self.hours:
            yield from hour.usage.items()

    def usage_of(self, hour_s: int) -> Mapping[UsageKey, Total]:
        """Frozen totals of one hour; empty if the hour was empty."""
        return next((hour.usage for hour in self.hours if hour.hour_s == hour_s), {})

    def to_json(self) -> bytes:
        """The object's content: byte totals as decimal strings, because JSON numbers end at 2^53."""
        total = self.total
        document = {
            "schema": _SCHEMA,
            "month": self.month,
            "rows": total.records,
            "bytes": str(total.bytes),
            "hours": [_hour_value(hour) for hour in self.hours],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes, key: str) -> FrozenMonth:
        """Inverse of `to_json`.

        Args:
            body: The object's content.
            key: Its key.

        Raises:
            LedgerCorruptError: It is something else, or its totals are not those of its files.
        """
        document = Fields.of_json(body, key)
        document.one_of("schema", (_SCHEMA,))
        made = cls(month=document.text("month"), hours=tuple(map(_hour_of, document.objects("hours"))))
        _check_total(document, made.total)
        return made


def _hour_value(hour: FrozenHour) -> dict[str, object]:
    usage = [
        [
            key.account_id,
            key.usage_type,
            key.service,
            key.from_location,
            key.to_location,
            hour_label(key.corrects_s) if key.corrects_s is not None else "",
            str(total.bytes),
            total.records,
        ]
        for key, total in hour.usage.items()
    ]
    return {
        "hour": hour_label(hour.hour_s),
        "files": [{"key": file.key, "rows": file.rows, "bytes": str(file.bytes)} for file in hour.files],
        "rows": hour.total.records,
        "bytes": str(hour.total.bytes),
        "usage": sorted(usage),
    }


def _hour_of(hour: Fields) -> FrozenHour:
    hour_s = hour.hour("hour")
    files = tuple(
        LakeFile(key=file.text("key"), rows=file.whole("rows"), bytes=file.decimal("bytes"))
        for file in hour.objects("files")
    )
    usage = dict(_usage_entry(hour_s, entry) for entry in hour.rows("usage", _USAGE_COLUMNS))
    made = FrozenHour(hour_s=hour_s, files=files, usage=usage)
    _check_total(hour, made.total)
    return made


def _check_total(fields: Fields, files: Total) -> None:
    if fields.whole("rows") != files.records:
        fields.fail("rows", f"the {files.records} rows of its files")
    if fields.decimal("bytes") != files.bytes:
        fields.fail("bytes", f"the {files.bytes} bytes of its files")


def _usage_entry(hour_s: int, entry: Fields) -> tuple[UsageKey, Total]:
    key = UsageKey(
        hour_s,
        entry.text("account_id"),
        entry.text("usage_type"),
        entry.text("service"),
        entry.text("from_location"),
        entry.text("to_location"),
        entry.hour("corrects") if entry.any_text("corrects") else None,
    )
    return key, Total(entry.decimal("bytes"), entry.whole("records"))


def read_frozen_month(items: ItemStore, objects: ObjectStore, month: str) -> FrozenMonth | None:
    """The frozen month, or None if the month is not closed.

    Raises:
        LedgerCorruptError: The object is something else than a frozen month.
        ObjectMissingError: The month is closed, and its object is gone.
    """
    item = items.get(Table.LEDGER, period_key(month))
    period = None if item is None else Period.from_item(item)
    if period is None or period.state != "closed":
        return None
    return FrozenMonth.from_json(objects.get(period.frozen_key), period.frozen_key)
