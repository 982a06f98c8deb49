"""The bucket of a computed region: the files come from templates, and a job's writes are stored in a folder."""

from __future__ import annotations

import io
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from load_tests.scale.region import LATE_DAYS, Region
from load_tests.scale.templates import KEPT, FileRanges, Staging, Templates
from metering.errors import ObjectMissingError
from metering.hours import hour_label
from metering.lake.plan import Plan, PlanFile, PlanHour
from metering.stores import objects
from metering.units import DAY_S, HOUR_S
from tests.support.memory.objects import MemoryRanges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from load_tests.scale.meter import Meter

_PAGE_KEYS = 1_000


class ComputedObjects:
    """`ObjectStore` of a region."""

    def __init__(
        self,
        region: Region,
        meter: Meter,
        *,
        templates: Templates,
        written: Path,
        staging: Staging | None = None,
        kept: int = 0,
    ) -> None:
        self._region = region
        self._meter = meter
        self._templates = templates
        self._folder = written
        self._staging = staging
        self._staged = {} if staging is None else {staging.key(name): staging.group_of(name) for name in staging.ids}
        self._kept = kept
        self._written = {
            str(path.relative_to(written)): path.stat().st_size for path in written.rglob("*") if path.is_file()
        }
        self._deleted: set[str] = set()

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        self._meter.call("s3.put", size_bytes=size, items=1)
        if if_absent and self._info(key) is not None:
            return False
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body.read_bytes() if isinstance(body, Path) else body)
        self._written[key] = size
        self._deleted.discard(key)
        return True

    def upload(self, key: str, body: bytes, *, crc64nvme: str = "") -> str:
        del crc64nvme
        self.put(key, body, if_absent=False)
        return "etag"

    def get(self, key: str) -> bytes:
        body = self._content(key)
        self._meter.call("s3.get", size_bytes=len(body), items=1)
        return body

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        del if_match, version_id
        self._meter.call("s3.head", items=1)
        return io.BufferedReader(self._stream(key), buffer_size=1 << 20)

    def pinned(self, key: str, *, if_match: str, version_id: str = "") -> objects.ObjectInfo:
        del if_match, version_id
        found = self.head(key)
        if found is None:
            raise ObjectMissingError(key)
        return found

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        stream = self._stream(key, last_bytes=last_bytes)
        self._meter.call("s3.get", size_bytes=last_bytes, items=1)
        return cast("BinaryIO", stream)

    def head(self, key: str) -> objects.ObjectInfo | None:
        self._meter.call("s3.head", items=1)
        return self._info(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[objects.ObjectInfo]:
        listed = 0
        for key in chain([key for key in sorted(self._written) if key.startswith(prefix)], self._keys(prefix, after)):
            if key <= after or not key.startswith(prefix) or key in self._deleted:
                continue
            yield self._listed(key)
            listed += 1
            if listed % _PAGE_KEYS == 0:
                self._meter.call("s3.list", items=_PAGE_KEYS)
        self._meter.call("s3.list", items=listed % _PAGE_KEYS)

    def delete(self, keys: Sequence[str]) -> None:
        self._meter.call("s3.delete", items=len(keys), calls=-(-len(keys) // _PAGE_KEYS))
        for key in keys:
            self._written.pop(key, None)
            self._deleted.add(key)

    def _stream(self, key: str, *, last_bytes: int = 0) -> objects.Ranges:
        place = None if key in self._written or key in self._deleted else self._place(key)
        if place is not None and key.startswith(objects.LAKE_PREFIX):
            end = self._templates.size_bytes(*place[1:]) - last_bytes
            return self._templates.open_rows(*place, read=lambda first, size: self._ranged(first, size, end=end))
        if key in self._written:
            path = self._path(key)
            end = path.stat().st_size - last_bytes
            return FileRanges(path, read=lambda first, size: self._ranged(first, size, end=end))
        body = self._content(key)
        end = len(body) - last_bytes
        known = (max(0, end), body) if last_bytes else None

        def read() -> bytes:
            self._meter.call("s3.get", size_bytes=0, items=1)
            return body

        return MemoryRanges(len(body), read, end=known)

    def _ranged(self, first: int, size: int, *, end: int) -> None:
        """Record a range request, unless the data was already read with the last bytes of the object."""
        if first < end:
            self._meter.call("s3.get", size_bytes=size, items=1)

    def _path(self, key: str) -> Path:
        return self._folder / key

    def _content(self, key: str) -> bytes:
        if key in self._written:
            return self._path(key).read_bytes()
        if key in self._deleted:
            raise ObjectMissingError(key)
        if key in self._staged:
            return self._templates.staging(self._staged[key])
        if key.startswith(objects.RUNS_PREFIX) and (number := objects.number_of_plan(key)) is not None:
            return self.plan(number).to_json()
        if (place := self._place(key)) is None:
            raise ObjectMissingError(key)
        return self._templates.rows(*place) if key.startswith(objects.LAKE_PREFIX) else self._templates.totals(*place)

    def _place(self, key: str) -> tuple[int, int, int] | None:
        """Hour, days of lateness and number of one of the region's files; None for another key."""
        lake_key = objects.LAKE_PREFIX + key.removeprefix(objects.SUMMARIES_PREFIX).removeprefix(objects.LAKE_PREFIX)
        hour_s = objects.hour_of_lake_key(lake_key)
        if hour_s is None or not self._region.begin_s <= hour_s < self._region.end_s:
            return None
        _, run, number = map(int, lake_key.rpartition("/")[2].removesuffix(".parquet").split("-"))
        days, rest = divmod(self._region.hour_of_run(run) - hour_s, DAY_S)
        there = rest == 0 and days in self._region.file_days(hour_s) and number < self._region.files_of(days)
        return (hour_s, days, number) if there else None

    def _info(self, key: str) -> objects.ObjectInfo | None:
        if key in self._written or key in self._staged or self._place(key) is not None:
            return self._listed(key)
        return None

    def _listed(self, key: str) -> objects.ObjectInfo:
        size = self._written.get(key, 1_000)
        return objects.ObjectInfo(key=key, size_bytes=size, etag='"e"', modified_s=self._region.end_s)

    def _keys(self, prefix: str, after: str) -> Iterable[str]:
        if prefix.startswith(objects.LAKE_PREFIX):
            return self._lake_keys(prefix, after)
        if prefix == objects.STAGING_PREFIX:
            kept = (objects.staging_key(f"{KEPT}{number:031d}", self._region.end_s) for number in range(self._kept))
            return chain(sorted(self._staged), kept)
        return ()

    def _lake_keys(self, prefix: str, after: str) -> Iterator[str]:
        region = self._region
        for hour_s in range(region.begin_s, region.end_s, HOUR_S):
            folder = objects.lake_prefix(hour_s)
            if objects.lake_prefix(hour_s + HOUR_S) > after and (
                folder.startswith(prefix) or prefix.startswith(folder)
            ):
                for days in region.file_days(hour_s):
                    run = region.run_of(hour_s, days)
                    yield from (
                        objects.lake_file_key(hour_s, 0, run, number) for number in range(region.files_of(days))
                    )

    def plan(self, number: int) -> Plan:
        """Plan of a run, with as many commits as the run took."""
        region = self._region
        end_s = region.hour_of_run(number)
        hours = []
        for days in range(LATE_DAYS, -1, -1):
            hour_s = end_s - days * DAY_S
            if hour_s < region.begin_s or days not in region.file_days(hour_s):
                continue
            commits = region.commits_an_hour if days == 0 else len(region.late_blocks[days])
            names = [f"{place:020d}{hour_label(hour_s)}" for place in range(commits)]
            count = region.files_of(days)
            totals = [region.file_total(days, each) for each in range(count)]
            files = [
                PlanFile(commits=tuple(names[each::count]), rows=total.records, bytes=total.bytes)
                for each, total in enumerate(totals)
            ]
            hours.append(PlanHour(hour_s=hour_s, files=tuple(files)))
        return Plan(shard=0, hours=tuple(hours), last=())
