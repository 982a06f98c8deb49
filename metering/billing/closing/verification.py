"""Verify a closed month, hour by hour: its objects, and the lake files that they were made of."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.hours import month_bounds_s, rfc3339
from metering.lake.usage_digest import usage_digest
from metering.stores.bucket import CLOSED_PREFIX, lake_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.lake.ports import FrozenFiles, LakeReader
    from metering.lake.view import LakeView
    from metering.ledger.frozen_months import FrozenHour, FrozenMonth, FrozenRows
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import Total, UsageKey

# Keys of one hour that are named; the rest is counted.
_KEYS_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthVerifier:
    """Finds what became of a closed month since it was closed."""

    objects: ObjectStore
    view: LakeView
    reader: LakeReader
    files: FrozenFiles

    def problems(self, closed: FrozenMonth) -> Iterator[str]:
        """One sentence for each problem; none if the month is as it was closed."""
        for hour in closed.hours:
            yield from self._hour(closed, hour)
        for rows in (closed.accounts, closed.days):
            yield from self._whole(rows)
        yield from self._added(closed)
        first_s, after_s = month_bounds_s(closed.month)
        known = {hour.hour_s for hour in closed.hours}
        for hour_s in self.view.hours(from_s=first_s, to_s=after_s):
            if hour_s not in known:
                yield f"{rfc3339(hour_s)} was empty when the month was closed, and is not any more"

    def _hour(self, closed: FrozenMonth, hour: FrozenHour) -> Iterator[str]:
        label = rfc3339(hour.hour_s)
        listed = {info.key for info in self.objects.list(lake_prefix(hour.hour_s))}
        for extra in sorted(listed - {file.key for file in hour.files}):
            yield f"{label}: {extra} was added after the month was closed"
        damages = list(_damages(self.files, hour.frozen))
        yield from (f"{label}: {damage}" for damage in damages)
        try:
            usage = self.reader.hour_usage(hour.hour_s, hour.sources)
        except (ObjectMissingError, ObjectDamagedError) as error:
            yield f"{label}: {error}"
            return
        if usage_digest(usage) == hour.frozen.digest:
            return
        if damages:
            yield f"{label}: the files have other rows than those that were frozen"
            return
        # The only hours that are held.
        yield from _differences(label, dict(usage), dict(self.files.hour(closed, hour.hour_s)))

    def _whole(self, rows: FrozenRows) -> Iterator[str]:
        yield from _damages(self.files, rows)

    def _added(self, closed: FrozenMonth) -> Iterator[str]:
        known = {hour.key for hour in closed.hours}
        known |= {closed.accounts.key, closed.days.key}
        for info in self.objects.list(f"{CLOSED_PREFIX}{closed.month}/"):
            if info.key not in known:
                yield f"{info.key} is not an object of the closed month"


def frozen_damages(files: FrozenFiles, closed: FrozenMonth) -> Iterator[str]:
    """What of a closed month's own objects is not as it was frozen. Its lake files are not looked at."""
    for rows in (*(hour.frozen for hour in closed.hours), closed.accounts, closed.days):
        if rows is not None:
            yield from _damages(files, rows)


def _damages(files: FrozenFiles, rows: FrozenRows) -> Iterator[str]:
    try:
        found = files.measured(rows.key)
    except (ObjectMissingError, ObjectDamagedError) as error:
        yield str(error)
        return
    if (found.rows, found.digest) != (rows.rows, rows.digest):
        yield _changed(rows)


def _changed(rows: FrozenRows) -> str:
    return f"{rows.key} has other rows than those that were frozen"


def _differences(label: str, usage: Mapping[UsageKey, Total], frozen: Mapping[UsageKey, Total]) -> Iterator[str]:
    wrong = [key for key in sorted(usage.keys() | frozen.keys(), key=str) if usage.get(key) != frozen.get(key)]
    for key in islice(wrong, _KEYS_NAMED):
        yield (
            f"{label}: {key.account_id} {key.usage_type}: the files say {usage.get(key)}, "
            f"the frozen month {frozen.get(key)}"
        )
    if len(wrong) > _KEYS_NAMED:
        yield f"{label}: {len(wrong) - _KEYS_NAMED} more keys differ"
