"""Put back lost markers, in bounded memory however many are lost (docs/protocol.md, P40).

The rows are read hour by hour, and the markers of their batches are looked up. If none is missing, that is all. Else
the rows are read once more: a marker names all hours of its batch, and those that were read before a batch was found
missing may have rows of it, too. What is found goes to files, so that the batches can be put some at a time.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from zlib import crc32

from metering.errors import ConditionFailedError
from metering.hours import hour_label
from metering.lake.rows import BATCH_QUERY
from metering.ledger.markers import ABSENT_OR_REJECTED, Marker, marker_key
from metering.stores.threads import side_by_side
from metering.stores.writes import Put, Table
from metering.units import HOUR_S
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TextIO

    from metering.lake.view import LakeView
    from metering.ledger.row_sources import HourState
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.retrying import Retrier
    from metering.stores.writes import Item

# Markers that are looked up together.
_LOOKED_UP = 1_000
# Files of one kind. Their lines are divided once more if they are too many for the memory.
_FILES = 32
# Values of a hash by which most other batches are left out of the files: 64 MiB, a byte each.
_HASHES = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerRebuild:
    """Result of `rebuild markers`.

    Attributes:
        batches: Batches found in the rows.
        rebuilt: Batches whose marker was lost and is back.
    """

    batches: int
    rebuilt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerRebuilder:
    """Puts back markers of batches that have rows.

    Attributes:
        marker_life_s: Life of a rebuilt marker. Batches of older hours get none: theirs has expired.
        threads: Calls that are made side by side.
        batches_at_once: Rough limit of the missing batches in memory.
    """

    items: ItemStore
    view: LakeView
    clock: Clock
    retrier: Retrier
    marker_life_s: int
    threads: int
    batches_at_once: int

    def run(self) -> MarkerRebuild:
        """Put back the marker of each batch that has rows and no marker. See `Rebuilder.markers`.

        Raises:
            UnavailableError: An hour or a marker could not be read, or a marker not written; run it again.
        """
        # The whole hours that begin in the life of a marker.
        from_s = -(-(self.clock.now_ms() // 1000 - self.marker_life_s) // HOUR_S) * HOUR_S
        with ExitStack() as open_files:
            folder = Path(open_files.enter_context(TemporaryDirectory(prefix="metering-markers-")))
            missing = _Files(folder / "missing", open_files)
            batches = sum(self._look(hour_s, from_s, missing) for hour_s in self.view.hours(from_s=from_s))
            if not missing.lines:
                return MarkerRebuild(batches=batches, rebuilt=0)
            totals = _Files(folder / "totals", open_files)
            hashes = missing.hashes()
            # Listed after the batches were found, and read whole: no hour of them is left out.
            for hour_s in self.view.hours(from_s=from_s):
                self._collect(hour_s, hashes, totals)
            del hashes
            lost = rebuilt = 0
            for found in _joined(missing, totals, self.batches_at_once):
                lost += len(found)
                rebuilt += sum(side_by_side(self._put, found.items(), threads=self.threads))
        return MarkerRebuild(batches=batches + lost, rebuilt=rebuilt)

    def _look(self, hour_s: int, from_s: int, missing: _Files) -> int:
        """Note the batches of an hour that have no accepted marker; returns how many of the others have it first."""
        first, label = hour_label(from_s), hour_label(hour_s)

        def look(state: HourState) -> int:
            # A missing object ends the reading before the first group, so nothing is noted in vain.
            names = (str(name) for (name,), _ in self.view.reader.groups(state.sources, BATCH_QUERY))
            begun = 0
            for batch_ids, found in side_by_side(self._looked_up, _blocks(names), threads=self.threads):
                for batch_id in batch_ids:
                    if batch_id not in found:
                        missing.add(batch_id)
                    elif _first_hour(found[batch_id], first, label) == label:
                        begun += 1
            return begun

        return self.view.read(hour_s, look)

    def _looked_up(self, batch_ids: Sequence[str]) -> tuple[Sequence[str], dict[str, Item]]:
        """Some batches, and the items of those that have an accepted marker."""
        keys = {batch_id: marker_key(batch_id) for batch_id in batch_ids}
        found = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, list(keys.values())))
        accepted = {key: item for key, item in found.items() if item.get("verdict") == "accepted"}
        return batch_ids, {batch_id: accepted[key] for batch_id, key in keys.items() if key in accepted}

    def _collect(self, hour_s: int, hashes: bytearray, totals: _Files) -> None:
        """Note what an hour has of the batches with these hashes."""

        def collect(state: HourState) -> None:
            for (name,), total in self.view.reader.groups(state.sources, BATCH_QUERY):
                batch_id = str(name)
                if hashes[crc32(batch_id.encode()) % _HASHES]:
                    totals.add(batch_id, hour_s, total.bytes, total.records)

        self.view.read(hour_s, collect)

    def _put(self, batch: tuple[str, dict[int, Total]]) -> bool:
        """Put a marker if there is none, or a rejected one; returns whether it was put."""
        batch_id, totals = batch
        now_ms = self.clock.now_ms()
        rows = sum(total.records for total in totals.values())
        marker = Marker(
            batch_id=batch_id,
            verdict="accepted",
            content_hash=None,
            hash_version=0,
            commit_id="",
            source_id="",
            sequence=None,
            sender_id="",
            records=rows,
            metered=rows,
            refused=0,
            hours=totals,
            decided_at_ms=now_ms,
            expires_at_s=now_ms // 1000 + self.marker_life_s,
        )
        put = Put(
            table=Table.LEDGER,
            item=marker.to_item(),
            condition=ABSENT_OR_REJECTED,
        )
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError:
            return False
        return True


class _Files:
    """Lines about batches, in files by hash: all lines of a batch are in one. A plain class, because it counts them."""

    def __init__(self, path: Path, open_files: ExitStack) -> None:
        self.lines = 0
        self._files: list[TextIO] = [
            open_files.enter_context(path.with_name(f"{path.name}-{number}").open("w+", encoding="utf-8"))
            for number in range(_FILES)
        ]

    def add(self, batch_id: str, *figures: int) -> None:
        """Add a line."""
        self.lines += 1
        self._files[crc32(batch_id.encode()) % _FILES].write(json.dumps([batch_id, *figures]) + "\n")

    def hashes(self) -> bytearray:
        """A byte for each value of a hash: whether a batch with it has a line."""
        found = bytearray(_HASHES)
        for number in range(_FILES):
            for batch_id, *_ in self.file(number):
                found[crc32(batch_id.encode()) % _HASHES] = 1
        return found

    def file(self, number: int) -> Iterator[tuple[str, *tuple[int, ...]]]:
        """The lines of a file."""
        file = self._files[number]
        file.seek(0)
        for line in file:
            batch_id, *figures = json.loads(line)
            yield batch_id, *figures


def _joined(missing: _Files, totals: _Files, at_once: int) -> Iterator[dict[str, dict[int, Total]]]:
    """The missing batches with what each hour has of them, about `at_once` of them at a time."""
    parts = 1 + missing.lines // (_FILES * at_once)
    for number in range(_FILES):
        for part in range(parts):
            ours = _of_part(part, parts)
            wanted = {batch_id for batch_id, *_ in missing.file(number) if ours(batch_id)}
            found: dict[str, dict[int, Total]] = {}
            for batch_id, *figures in totals.file(number) if wanted else ():
                if batch_id in wanted:
                    hour_s, size, records = figures
                    found.setdefault(batch_id, {})[hour_s] = Total(size, records)
            yield found


def _of_part(part: int, parts: int) -> Callable[[str], bool]:
    """Whether a batch is in a part of its file."""
    return lambda batch_id: crc32(batch_id.encode()) // _FILES % parts == part


def _first_hour(marker: Item, from_s: str, here: str) -> str:
    """The first hour of a marker, of those that are read; `here` if it names none: it may be damaged."""
    hours = marker.get("hours")
    return min((label for label in hours if label >= from_s), default=here) if isinstance(hours, dict) else here


def _blocks(names: Iterable[str]) -> Iterator[list[str]]:
    left = iter(names)
    while block := list(islice(left, _LOOKED_UP)):
        yield block
