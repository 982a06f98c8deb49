"""Periods: billing months that are closing or closed (`T#<month>`, `T`). A month without an item is open."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from metering.hours import hour_label
from metering.ledger import partitions
from metering.ledger.booked_hours import LakeFile, RowSource
from metering.stores.codec import Fields, Form, StoredItem, Unwritten, after, members_of, read_struct
from metering.stores.objects import CLOSED_PREFIX, ObjectStore, closed_accounts_key, closed_days_key
from metering.stores.writes import ItemStore, Key, Table
from metering.usage.totals import Total

PeriodState = Literal["closing", "closed"]


def period_key(month: str) -> Key:
    """Key of a billing month."""
    return Key(f"{partitions.MONTH}{month}", "T")


def _manifest(fields: Fields, name: str) -> str:
    return fields.text(name) if fields.one_of("state", ("closing", "closed")) == "closed" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period(StoredItem):
    """A billing month in which no transaction can book any more. A month without this item is open.

    Attributes:
        frozen_key: Key of the frozen month's object; empty while the month is closing.
    """

    month: Annotated[str, after("pk", partitions.MONTH)]
    state: PeriodState
    frozen_key: Annotated[str, "manifest", Form(_manifest), Unwritten("")] = ""

    @property
    def key(self) -> Key:
        return period_key(self.month)


def periods_of(items: ItemStore, months: Iterable[str]) -> dict[str, Period]:
    """Items of the given months that are closing or closed, in order; one request per hundred months."""
    found = items.get_many(Table.LEDGER, [period_key(month) for month in sorted(set(months))])
    return {period.month: period for period in sorted(map(Period.from_item, found.values()), key=lambda p: p.month)}


# The frozen month: files and totals of a closed billing month (docs/decisions/0029-frozen-hours.md).
#
# | object | content |
# |---|---|
# | `closed/<month>/<hour>.parquet` | totals of an hour, a row a usage key, sorted by account |
# | `closed/<month>/accounts.parquet` | the rows of all hours, sorted by account |
# | `closed/<month>/days.parquet` | the same by day |
# | `closed/<month>.json` | the manifest, which is put last: lake files, rows, bytes and digests of rows |


_SCHEMA = "metering.closed/2"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenRows:
    """An object with totals of a closed month.

    Attributes:
        digest: Hex SHA-256 of the object's ordered rows (`metering.lake.ports`), not of its bytes.
    """

    key: str
    rows: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenHour:
    """One booked hour of a closed month. The hour's usage includes corrections of earlier months, with `corrects_s`."""

    hour_s: int
    files: tuple[LakeFile, ...]
    frozen: FrozenRows

    @property
    def key(self) -> str:
        return self.frozen.key

    @property
    def sources(self) -> tuple[RowSource, ...]:
        return tuple(file.source(self.hour_s) for file in self.files)

    @property
    def total(self) -> Total:
        return Total(sum(file.bytes for file in self.files), sum(file.rows for file in self.files))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenMonth:
    """A closed month. The same month is always encoded as the same bytes.

    Attributes:
        digest: Hex SHA-256 of the manifest's bytes. Callers can use the digest to recognise an unchanged month.
    """

    month: str
    hours: tuple[FrozenHour, ...]
    accounts: FrozenRows
    days: FrozenRows
    digest: str = ""

    @property
    def total(self) -> Total:
        return Total(sum(hour.total.bytes for hour in self.hours), sum(hour.total.records for hour in self.hours))

    @property
    def rows_digest(self) -> str:
        """Hex SHA-256 over the digests of all hours in order, which covers all rows of the month."""
        return _digest_of(hour.frozen.digest for hour in self.hours)

    def hour(self, hour_s: int) -> FrozenHour | None:
        """An hour of the month, or None if the hour was empty."""
        return next((hour for hour in self.hours if hour.hour_s == hour_s), None)

    def to_json(self) -> bytes:
        """The manifest, with byte totals as decimal strings, because JSON numbers are exact only up to 2^53."""
        total = self.total
        document = {
            "schema": _SCHEMA,
            "month": self.month,
            "rows": total.records,
            "bytes": str(total.bytes),
            "digest": self.rows_digest,
            "accounts": members_of(self.accounts),
            "days": members_of(self.days),
            "hours": [_hour_value(hour) for hour in self.hours],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes, key: str) -> FrozenMonth:
        """Inverse of `to_json`.

        Raises:
            LedgerCorruptError: The object is not a manifest, or its totals differ from the sums of its files.
        """
        document = Fields.of_json(body, key)
        document.one_of("schema", (_SCHEMA,))
        made = cls(
            month=document.text("month"),
            hours=tuple(map(_hour_of, document.objects("hours"))),
            accounts=read_struct(FrozenRows, document.nested("accounts")),
            days=read_struct(FrozenRows, document.nested("days")),
            digest=hashlib.sha256(body).hexdigest(),
        )
        if document.text("digest") != made.rows_digest:
            document.fail("digest", "the digest of its hours")
        _check_total(document, made.total)
        return made

    def closed(self) -> FrozenMonth:
        """Return the month with its `digest`, as if read back."""
        return replace(self, digest=hashlib.sha256(self.to_json()).hexdigest())


def _digest_of(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def _hour_value(hour: FrozenHour) -> dict[str, object]:
    return {
        "hour": hour_label(hour.hour_s),
        "files": [{"key": file.key, "rows": file.rows, "bytes": str(file.bytes)} for file in hour.files],
        "rows": hour.total.records,
        "bytes": str(hour.total.bytes),
        "usage": members_of(hour.frozen),
    }


def _hour_of(fields: Fields) -> FrozenHour:
    made = FrozenHour(
        hour_s=fields.hour("hour"), files=_files_of(fields), frozen=read_struct(FrozenRows, fields.nested("usage"))
    )
    _check_total(fields, made.total)
    return made


def _files_of(hour: Fields) -> tuple[LakeFile, ...]:
    return tuple(
        LakeFile(key=file.text("key"), rows=file.whole("rows"), bytes=file.decimal("bytes"))
        for file in hour.objects("files")
    )


def _check_total(fields: Fields, files: Total) -> None:
    if fields.whole("rows") != files.records:
        fields.fail("rows", f"the {files.records} rows of its files")
    if fields.decimal("bytes") != files.bytes:
        fields.fail("bytes", f"the {files.bytes} bytes of its files")


def _closed(items: ItemStore, month: str) -> Period | None:
    item = items.get(Table.LEDGER, period_key(month))
    period = None if item is None else Period.from_item(item)
    return period if period is not None and period.state == "closed" else None


def read_frozen_month(items: ItemStore, objects: ObjectStore, month: str) -> FrozenMonth | None:
    """The frozen month, or None if the month is not closed.

    Raises:
        LedgerCorruptError: The object is not a frozen month.
        ObjectMissingError: The month is closed, but its manifest is missing.
    """
    period = _closed(items, month)
    return None if period is None else FrozenMonth.from_json(objects.get(period.frozen_key), period.frozen_key)


def closed_month(items: ItemStore, month: str) -> FrozenMonth | None:
    """A closed month with only the names of its objects, without reading the manifest; None if the month is not closed.

    It has no hours.
    """
    if _closed(items, month) is None:
        return None
    return FrozenMonth(
        month=month,
        hours=(),
        accounts=FrozenRows(key=closed_accounts_key(month), rows=0, digest=""),
        days=FrozenRows(key=closed_days_key(month), rows=0, digest=""),
    )


def first_closed_month(objects: ObjectStore) -> str:
    """The first month that was closed, also if its rows are deleted; empty before the first close."""
    first = next(iter(objects.list(CLOSED_PREFIX)), None)
    return "" if first is None else first.key.removeprefix(CLOSED_PREFIX)[:7]
