"""Compares an export of AWS's own bill with the day sums, once for each content of the export and of the sums.

AWS Data Exports writes the data files of a billing month first and the month's manifest last, and rewrites both each
day. The manifest's ETag therefore identifies the content. If a file changes while it is read, the next run starts
again.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, Protocol

from metering.errors import (
    ObjectChangedError,
    ObjectMissingError,
    ObjectUnreadableError,
    OperationFailedError,
    ThrottledError,
    UnavailableError,
)
from metering.hours import date_of, month_bounds_s, month_of
from metering.ledger.notes.money import BillCheckState, BillDifference, BillState, ComparedMonth, bill_key
from metering.onramps.bill import compare, read_files, tolerance_of
from metering.onramps.bill_lines import LineKey, Wanted
from metering.stores.writes import ItemStore, Put, Table, read_note
from metering.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from metering.billing.budgets.open_months import ReadRegion
    from metering.onramps.bill import Bill, BillFile, Comparison
    from metering.stores.clock import Clock, Deadline
    from metering.stores.objects import ObjectInfo

FORMATS = {"cur2": "CUR 2.0", "focus": "FOCUS"}
"""Dialect of each format that a setting may name."""
_METADATA = "metadata/"
_MANIFEST = re.compile(r"metadata/billing_period=([0-9]{4}-[0-9]{2})/(?:[^/]+/)?[^/]+-Manifest\.json", re.IGNORECASE)
_URI = re.compile(r"s3://([^/]+)/(.+)")
_MOST_MANIFESTS = 20_000
_MOST_MANIFEST_BYTES = 4 * 1024 * 1024
# AWS completes the lines of a day within two days.
_SETTLES_S = 2 * DAY_S
# Late records change day sums at any hour, and a comparison reads the whole export.
_SUMS_AGAIN_S = 20 * HOUR_S
# Time that a run keeps for the comparison and the note.
_RESERVE_MS = 2 * MINUTE_S * 1_000
_MOST_DIFFERENCES = 20
_ALLOW = "Let the bucket's policy, and its key's, allow the biller's role to list and read below the prefix."


@dataclass(frozen=True, slots=True, kw_only=True)
class BillExport:
    """An export of AWS's own bill, and how it is compared.

    Attributes:
        prefix: Prefix of the export, with its name: `exports/metering`.
        format: `cur2` or `focus`.
        accounts: Accounts that are compared; empty for those that are metered.
        tolerance: A row may differ by either of these: `1%`, `10MB`.
    """

    bucket: str
    region: str
    prefix: str
    format: str
    accounts: tuple[str, ...] = ()
    tolerance: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.bucket}/{self.prefix}"


def encode_exports(exports: Iterable[BillExport]) -> str:
    """Write exports as text for a function's environment."""
    return json.dumps([asdict(each) for each in exports], separators=(",", ":"))


def decode_exports(text: str) -> tuple[BillExport, ...]:
    """Read what `encode_exports` wrote.

    Raises:
        ValueError, TypeError: It is something else.
    """
    found = [BillExport(**each) for each in json.loads(text)]
    return tuple(replace(each, accounts=tuple(each.accounts), tolerance=tuple(each.tolerance)) for each in found)


class ExportBucket(Protocol):
    """The reading calls of an `ObjectStore`."""

    def get(self, key: str) -> bytes: ...
    def open(self, key: str, *, if_match: str | None = None) -> BinaryIO: ...
    def head(self, key: str) -> ObjectInfo | None: ...
    def list(self, prefix: str) -> Iterator[ObjectInfo]: ...


class _Stopped(Exception):  # noqa: N818  # no error: the end of a look
    """End of a look at a month, with its state and a sentence."""

    def __init__(self, state: BillState, why: str) -> None:
        super().__init__(why)
        self.state = state
        self.why = why


class _Days(NamedTuple):
    """Days that are compared, half-open, as epoch seconds."""

    from_s: int
    to_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BillCheck:
    """Looks for new contents of one export, and compares each with the day sums.

    Attributes:
        bucket: Bucket of the export, with the permissions of this process.
        regions: Returns the regions with their day sums, and the names of regions that did not answer.
        explained: Context manager that turns a denial by AWS into an `OperationFailedError`.
    """

    export: BillExport
    bucket: ExportBucket
    items: ItemStore
    regions: Callable[[], tuple[Sequence[ReadRegion], Sequence[str]]]
    explained: Callable[[], AbstractContextManager[None]]
    clock: Clock

    def run(self, deadline: Deadline) -> BillCheckState:
        """Compare each month that is new or changed, the older one first, and store the result of each.

        A month is compared if the export's content or the comparison's settings are new; at most once a day if only
        the day sums changed; and at each run after AWS refused a read.

        Raises:
            UnavailableError: A call failed; the next run finishes the work.
        """
        known = self._known()
        try:
            manifests = self._manifests()
        except _Stopped as end:
            return self._store(replace(known, state=end.state, why=end.why))
        known = replace(known, months={month: each for month, each in known.months.items() if month in manifests})
        regions, left_out = self.regions()
        if left_out:
            why = f"No day sums of {', '.join(left_out)} can be read."
            return self._store(replace(known, state=BillState.WAITING, why=why))
        for month, manifest in manifests.items():
            content = self._content(month, manifest, regions)
            before = known.months.get(month)
            if before is not None and self._is_current(before, content):
                known = replace(known, state=before.state, why=before.why)
                continue
            try:
                found = self._compared(month, manifest, content, regions, deadline)
            except _Stopped as end:
                found = ComparedMonth(content=content, state=end.state, at_s=self._now_s(), why=end.why)
            if found.state is BillState.WAITING:
                # The result before stays until the new content is complete.
                known = replace(known, state=found.state, why=found.why)
                continue
            known = self._store(
                replace(
                    known,
                    state=found.state,
                    why=found.why,
                    compared_s=found.at_s if found.state is BillState.COMPARED else known.compared_s,
                    months={**known.months, month: found},
                )
            )
        return self._store(known)

    def _known(self) -> BillCheckState:
        now_s = self._now_s()
        found = read_note(self.items, bill_key(self.export.place), BillCheckState.from_item)
        if found is None:
            return BillCheckState(export=self.export.place, first_s=now_s, looked_s=now_s)
        return replace(found, looked_s=now_s)

    def _store(self, state: BillCheckState) -> BillCheckState:
        self.items.put(Put(table=Table.LEDGER, item=state.to_item()))
        return state

    def _manifests(self) -> Mapping[str, ObjectInfo]:
        """The newest manifest of this month and of the last one, by month, the older one first."""
        now_s = self._now_s()
        this = month_of(now_s - now_s % HOUR_S)
        wanted = {this, month_of(month_bounds_s(this)[0] - HOUR_S)}
        prefix = f"{self.export.prefix}/"
        newest: dict[str, ObjectInfo] = {}
        with self._reading(BillState.REFUSED):
            for number, each in enumerate(self.bucket.list(f"{prefix}{_METADATA}")):
                if number >= _MOST_MANIFESTS:
                    raise _Stopped(
                        BillState.TOO_LARGE,
                        f"{self.export.place} has more than {_MOST_MANIFESTS:,} files of metadata. Let the export "
                        "overwrite its files, or delete old executions.",
                    )
                found = _MANIFEST.fullmatch(each.key.removeprefix(prefix))
                month = "" if found is None else found[1]
                if month in wanted and (month not in newest or _order(newest[month]) < _order(each)):
                    newest[month] = each
        if not newest:
            raise _Stopped(
                BillState.ABSENT,
                f"Below {prefix}{_METADATA} in {self.export.bucket} is no manifest of this month or the last one. AWS "
                "delivers an export within a day; compare bucket and prefix with the export's.",
            )
        return {month: newest[month] for month in sorted(newest)}

    def _content(self, month: str, manifest: ObjectInfo, regions: Sequence[ReadRegion]) -> str:
        """Identity of what is compared: the export's content, the settings and, last, the whole days of the sums."""
        from_s, to_s = month_bounds_s(month)
        sums = sha256()
        for region in regions:
            whole_s = region.last_whole_day()
            for day_s, key in sorted(region.index.days.items()):
                if from_s <= day_s < to_s and whole_s is not None and day_s <= whole_s:
                    sums.update(f"{region.region} {day_s} {key}\n".encode())
        settings = " ".join((self.export.format, *self.export.tolerance, *self.export.accounts))
        return f"{manifest.etag} {settings} {sums.hexdigest()}"

    def _is_current(self, before: ComparedMonth, content: str) -> bool:
        if before.state is BillState.REFUSED or before.content.rpartition(" ")[0] != content.rpartition(" ")[0]:
            return False
        return before.content == content or self._now_s() < before.at_s + _SUMS_AGAIN_S

    def _compared(
        self, month: str, manifest: ObjectInfo, content: str, regions: Sequence[ReadRegion], deadline: Deadline
    ) -> ComparedMonth:
        bill = self._bill(month, manifest, deadline)
        days = self._days(month, bill, regions)
        metered = _metered(regions, month, days)
        accounts = frozenset(self.export.accounts) or bill.accounts & {key.account_id for key in metered}
        if not bill.accounts & accounts:
            raise _Stopped(
                BillState.OTHER_ACCOUNTS,
                f"None of the {len(bill.accounts):,} accounts of the bill is metered here. The export is of another "
                "organization, or their logs are not metered yet.",
            )
        first, last = date_of(days.from_s), date_of(days.to_s)
        billed = {key: size for key, size in bill.bytes.items() if first <= key.period < last}
        found = compare(
            {key: size for key, size in billed.items() if key.account_id in accounts},
            {key: size for key, size in metered.items() if key.account_id in accounts},
            tolerance_of(self.export.tolerance) or tolerance_of(("0",)),
        )
        return ComparedMonth(
            content=content,
            state=BillState.COMPARED,
            at_s=self._now_s(),
            from_day=first,
            to_day=last,
            billed=found.billed,
            metered=found.metered,
            rows=len(found.rows),
            beyond=found.beyond or 0,
            differences=_largest(found),
            why=_sentence(found, len(bill.accounts - accounts)),
        )

    def _bill(self, month: str, manifest: ObjectInfo, deadline: Deadline) -> Bill:
        from_s, to_s = month_bounds_s(month)
        wanted = Wanted(accounts=frozenset(self.export.accounts), from_s=from_s, to_s=to_s)

        def tell(_path: str, _rows: int) -> None:
            if deadline.remaining_ms() < _RESERVE_MS:
                raise _Stopped(
                    BillState.TOO_LARGE,
                    f"The export of {month} has more lines than one run can read. Let its query select the lines of "
                    "data transfer only (docs/on-ramps.md).",
                )

        with self._reading(BillState.UNREADABLE):
            bill = read_files(self._files(manifest), wanted, tell)
            now = self.bucket.head(manifest.key)
        if now is None or now.etag != manifest.etag:
            raise _Stopped(BillState.WAITING, f"The export of {month} was written anew while it was read.")
        expected = FORMATS[self.export.format]
        if other := bill.names - {expected}:
            raise _Stopped(
                BillState.UNREADABLE,
                f"The setting says {self.export.format}, and the columns are those of {', '.join(sorted(other))}.",
            )
        if bill.broken:
            raise _Stopped(
                BillState.UNREADABLE,
                f"{bill.broken.total():,} lines of data transfer cannot be read, such as {bill.examples[0]}.",
            )
        if not bill.lines:
            raise _Stopped(
                BillState.OTHER_ACCOUNTS if self.export.accounts else BillState.ABSENT,
                f"None of the {bill.read:,} lines of {month} is data transfer of an account that is compared.",
            )
        return bill

    @contextmanager
    def _reading(self, failed: BillState) -> Iterator[None]:
        """Turn errors of the export's bucket into states; `failed` is that of what AWS or a reader refuses."""
        try:
            with self.explained():
                yield
        except (ObjectMissingError, ObjectChangedError) as error:
            raise _Stopped(BillState.WAITING, f"The export is being written: {error}.") from error
        except ObjectUnreadableError as error:
            raise _Stopped(BillState.REFUSED, f"{error}. {_ALLOW}") from error
        except ThrottledError:
            raise
        except UnavailableError as error:
            # A read that S3 denied.
            if error.may_have_applied:
                raise
            raise _Stopped(BillState.REFUSED, f"{error.detail} cannot be read. {_ALLOW}") from error
        except OperationFailedError as error:
            why = f"{error.reason} {_ALLOW if failed is BillState.REFUSED else error.advice}"
            raise _Stopped(failed, why) from error

    def _files(self, manifest: ObjectInfo) -> Iterator[BillFile]:
        """Data files of a manifest, each pinned to its content."""
        for key in self._keys(manifest):
            info = self.bucket.head(key)
            if info is None:
                raise ObjectMissingError(key)
            if info.modified_s > manifest.modified_s:
                raise _Stopped(BillState.WAITING, f"{key} is newer than its manifest, which is written last.")
            yield key, partial(self.bucket.open, key, if_match=info.etag)

    def _keys(self, manifest: ObjectInfo) -> list[str]:
        if manifest.size_bytes > _MOST_MANIFEST_BYTES:
            raise _Stopped(BillState.UNREADABLE, f"{manifest.key} is too large for a manifest.")
        try:
            uris = [_URI.fullmatch(str(each)) for each in json.loads(self.bucket.get(manifest.key))["dataFiles"]]
        except (ValueError, KeyError, TypeError) as error:
            raise _Stopped(BillState.UNREADABLE, f"{manifest.key} has no list of data files.") from error
        keys = [found[2] for found in uris if found and found[1] == self.export.bucket]
        if len(keys) != len(uris) or not all(key.startswith(f"{self.export.prefix}/") for key in keys):
            raise _Stopped(
                BillState.UNREADABLE,
                f"{manifest.key} names files outside of {self.export.place}, which no one may read.",
            )
        return keys

    def _days(self, month: str, bill: Bill, regions: Sequence[ReadRegion]) -> _Days:
        """Days that bill and day sums both have complete."""
        from_s, to_s = month_bounds_s(month)
        whole = [region.last_whole_day() for region in regions]
        counted = [min(region.index.days, default=to_s) for region in regions]
        if not whole or None in whole:
            raise _Stopped(BillState.WAITING, "No whole day is counted here yet.")
        last_s = min(day_s + DAY_S for day_s in whole if day_s is not None)
        # The bill's last day may lack lines unless the month is over.
        ends = [to_s, last_s, (self._now_s() - _SETTLES_S) // DAY_S * DAY_S]
        if bill.last_s is not None and bill.last_s < to_s - DAY_S:
            ends.append(bill.last_s // DAY_S * DAY_S)
        days = _Days(max(from_s, min(counted)), min(ends))
        if days.from_s >= days.to_s:
            raise _Stopped(BillState.WAITING, f"No day of {month} is complete both here and in the export yet.")
        return days

    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000


def _order(info: ObjectInfo) -> tuple[int, str]:
    return info.modified_s, info.key


def _metered(regions: Iterable[ReadRegion], month: str, days: _Days) -> dict[LineKey, int]:
    """Metered bytes by account, usage type and day of use, over all regions."""
    found: dict[LineKey, int] = {}
    for region in regions:
        for line in region.month(month).day_lines():
            if days.from_s <= line.hour_s < days.to_s:
                key = LineKey(line.account_id, line.usage_type, date_of(line.hour_s))
                found[key] = found.get(key, 0) + line.bytes
    return found


def _largest(found: Comparison) -> tuple[BillDifference, ...]:
    tolerance = found.tolerance
    beyond = [row for row in found.rows if tolerance is not None and not tolerance.holds(row)]
    beyond.sort(key=lambda row: (-abs(row.difference), row.key))
    return tuple(BillDifference(*row.key, row.billed, row.metered) for row in beyond[:_MOST_DIFFERENCES])


def _sentence(found: Comparison, others: int) -> str:
    said = f"{found.beyond or 0:,} of {len(found.rows):,} rows differ by more than is tolerated."
    return f"{said} {others:,} accounts of the bill are not metered here." if others else said
