"""Writes exports by the product for third-party validators: `python -m tests.exports.make DIR --rows 1000`.

The usage is the 338 lines of the sample, followed by lines with the same keys and random bytes, which cross price
tiers. The month includes corrections of the previous month.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from metering.adapters.folders import FolderLogStore
from metering.billing.prices.store import sample_book
from metering.billing.usage.months import UsageLine
from metering.hours import month_bounds_s
from metering.reports.exports.allocation import Part
from metering.reports.exports.destination import MANIFEST, Destination
from metering.reports.exports.exporting import Exported, ExportSource, export
from metering.reports.exports.manifest import ExportRequest
from metering.units import GIB, HOUR_S
from tests.support.billing_world import billed
from tests.support.sample_book import bill_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.billing.invoices.composing import Charge
    from metering.reports.exports.allocation import Parts
    from metering.reports.exports.batches import FileFormat
    from metering.reports.exports.grains import Grain

MONTH, BEFORE = "2024-10", "2024-09"
ACCOUNTS = tuple(f"{number:012d}" for number in (123_456, 103401752927, 309352892428, 618377654291))
_CORRECTIONS = 20
# Line sizes range from one byte to a size that crosses a tier.
_MOST_BITS = 43


def drawn_lines(month: str, rows: int, *, seed: int = 1) -> Iterator[UsageLine]:
    """Random usage of a month, with the keys of the sample: one line per key, account and hour."""
    draw, lines = random.Random(seed), bill_lines()
    # The most frequent key has a seventh of the lines, and the months have few hours, so more lines need more accounts.
    accounts = (*ACCOUNTS, *(f"{number:012d}" for number in range(rows // 1_000)))
    begins_s, ends_s = month_bounds_s(month)
    hours = (ends_s - begins_s) // HOUR_S
    seen: set[tuple[object, ...]] = set()
    while len(seen) < rows:
        line = lines[len(seen) % len(lines)]
        hour_s = begins_s + draw.randrange(hours) * HOUR_S
        key = (hour_s, draw.choice(accounts), line.service, line.usage_type, line.from_location, line.to_location)
        if key not in seen:
            seen.add(key)
            yield UsageLine(*key, draw.randrange(1, 2 ** draw.randrange(1, _MOST_BITS)))


def source_of(rows: int) -> ExportSource:
    """Source of about `rows` charges, including corrections."""
    usage = list(drawn_lines(MONTH, rows - _CORRECTIONS))
    closed = list(drawn_lines(BEFORE, 200, seed=2))
    late = [line._replace(bytes=GIB + number) for number, line in enumerate(closed[:_CORRECTIONS])]
    return billed(sample_book(), usage, MONTH, earlier=(BEFORE, closed, late))


class DrawnParts:
    """Causes of charges, drawn at random: of a third of the charges, some bytes have no cause."""

    def __init__(self, charges: Iterable[tuple[Charge, str]], *, seed: int = 1) -> None:
        draw = random.Random(seed)
        sizes: dict[tuple[str, int], dict[tuple[str, ...], int]] = defaultdict(lambda: defaultdict(int))
        for charge, resource_id in charges:
            line = charge.rated.line
            sizes[charge.region, line.hour_s][*line[1:6], resource_id] += line.bytes if resource_id else 0
        self._parts = {
            at: {key: tuple(self._drawn(size, draw)) for key, size in of.items()} for at, of in sizes.items()
        }

    @staticmethod
    def _drawn(size: int, draw: random.Random) -> Iterator[Part]:
        for number in range(draw.randrange(1, 5)):
            taken = draw.randrange(size + 1)
            size -= taken
            yield Part(f"i-{number}", f"asg:{number}", "search", "internet", "nat_gateway", '{"team": "a"}', "", taken)
        if draw.randrange(3):
            yield Part("i-9", "i-9", "unowned", "S3.us-west-2", "nat_gateway", "{}", "", size)

    def of(self, region: str, start_s: int) -> Mapping[tuple[str, ...], Parts]:
        return self._parts.get((region, start_s), {})


def with_causes(source: ExportSource) -> ExportSource:
    """The same charges, of one gateway in each region, with causes."""
    charges = [
        (charge, "" if charge.corrects or charge.credit_of else f"nat-{charge.region}") for charge, _ in source.charges
    ]
    return replace(source, charges=charges, parts=DrawnParts(charges))


def request_of(
    kind: str = "focus",
    version: str = "1.2",
    *,
    form: FileFormat = "parquet",
    grain: Grain = "hour",
    month: str = MONTH,
    as_of_s: int = 0,
) -> ExportRequest:
    """An export request; for CUR the version is 2.0."""
    version = version if kind == "focus" else "2.0"
    return ExportRequest(kind=kind, version=version, month=month, grain=grain, form=form, as_of_s=as_of_s)


def destination(folder: Path) -> Destination:
    """A folder as the target of an export."""
    folder.mkdir(parents=True, exist_ok=True)
    return Destination(objects=FolderLogStore(folder), prefix="", name=str(folder))


def exported(folder: Path, source: ExportSource, request: ExportRequest) -> Exported:
    """Export into a folder."""
    return export(request, source, destination(folder))


def manifest(folder: Path) -> dict[str, object]:
    """The manifest in a folder."""
    document = json.loads((folder / MANIFEST).read_text())
    assert isinstance(document, dict)
    return document


def asked(folder: Path, sql: str, dataset: str = "CostAndUsage") -> list[tuple[object, ...]]:
    """DuckDB's result of a query on a dataset's files: `{}` stands for them. All CSV columns are strings."""
    files = sorted(str(file) for file in folder.glob(f"{dataset}-*"))
    parquet = files[0].endswith(".parquet")
    table = f"read_parquet({files})" if parquet else f"read_csv({files}, all_varchar = true, header = true)"
    with duckdb.connect() as connection:
        return connection.execute(sql.format(table)).fetchall()


def made(folder: Path, *, rows: int = 1000) -> None:
    """Write FOCUS 1.2 as Parquet, FOCUS 1.4 as plain CSV, and CUR as both, each into its own folder."""
    source = source_of(rows)
    exported(folder / "focus-1.2", source, request_of())
    exported(folder / "focus-1.4", source, request_of(version="1.4", form="csv"))
    exported(folder / "focus-1.4-causes", with_causes(source), request_of(version="1.4", form="csv"))
    exported(folder / "cur", source, request_of("cur"))
    exported(folder / "cur-csv", source, request_of("cur", form="csv"))
    for packed in sorted(folder.glob("focus-1.4*/*-00000.csv.gz")):
        # Validators need uncompressed files, and recognise a dataset by its file name.
        plain = packed.with_name(packed.name.replace("-00000.csv.gz", ".csv"))
        plain.write_bytes(gzip.decompress(packed.read_bytes()))


def main() -> None:
    """Write to the folder in the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1000)
    given = parser.parse_args()
    made(given.folder, rows=given.rows)
    print(f"written below {given.folder}")


if __name__ == "__main__":
    main()
