"""A closed month: its files and its totals, frozen in the object `closed/<month>.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.domain.hours import hour_label, parse_hour
from metering.domain.ledger import LakeFile
from metering.domain.usage import Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.domain.lake import Source

CLOSED_PREFIX = "closed/"
_SCHEMA = "metering.closed/1"


def manifest_key(month: str) -> str:
    """Key of a closed month's manifest."""
    return f"{CLOSED_PREFIX}{month}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedHour:
    """One booked hour of a closed month. What the month itself corrects is in its usage, with `corrects_s`."""

    hour_s: int
    files: tuple[LakeFile, ...]
    usage: Mapping[UsageKey, Total]

    @property
    def sources(self) -> tuple[Source, ...]:
        """Its files, to be read."""
        return tuple(file.source(self.hour_s) for file in self.files)

    @property
    def total(self) -> Total:
        return Total(sum(file.bytes for file in self.files), sum(file.rows for file in self.files))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonth:
    """The manifest. The same month always gives the same bytes."""

    month: str
    hours: tuple[ClosedHour, ...]

    @property
    def total(self) -> Total:
        return Total(sum(hour.total.bytes for hour in self.hours), sum(hour.total.records for hour in self.hours))

    def usage(self) -> Iterator[tuple[UsageKey, Total]]:
        """The frozen figures, key by key."""
        for hour in self.hours:
            yield from hour.usage.items()

    def usage_of(self, hour_s: int) -> Mapping[UsageKey, Total]:
        """The frozen figures of one hour; none if it was empty."""
        return next((hour.usage for hour in self.hours if hour.hour_s == hour_s), {})

    def to_json(self) -> bytes:
        """The manifest object: byte totals as decimal strings, because JSON numbers end at 2^53."""
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
    def from_json(cls, body: bytes) -> ClosedMonth:
        """Inverse of `to_json`."""
        document = json.loads(body)
        hours = []
        for hour in document["hours"]:
            hour_s = parse_hour(hour["hour"])
            files = tuple(
                LakeFile(key=file["key"], rows=file["rows"], bytes=int(file["bytes"])) for file in hour["files"]
            )
            usage = dict(_usage_entry(hour_s, *fields) for fields in hour["usage"])
            hours.append(ClosedHour(hour_s=hour_s, files=files, usage=usage))
        return cls(month=document["month"], hours=tuple(hours))


def _hour_value(hour: ClosedHour) -> dict[str, object]:
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


def _usage_entry(
    hour_s: int,
    account_id: str,
    usage_type: str,
    service: str,
    from_location: str,
    to_location: str,
    corrects: str,
    size: str,
    records: int,
) -> tuple[UsageKey, Total]:
    corrects_s = parse_hour(corrects) if corrects else None
    key = UsageKey(hour_s, account_id, usage_type, service, from_location, to_location, corrects_s)
    return key, Total(int(size), records)
