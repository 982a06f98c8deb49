"""Producer and caller are killed at any line, and the caller sends all its keys again: each record is metered once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.audit.sequences import SeenSequences
from tests.support.lake_world import record
from tests.unit.producer.killed import BUCKET, KEYS, SHARED, SOURCE, records_of
from tests.unit.producer.meter import Meter, expected

ROOT = Path(__file__).parents[3]


def worlds(folder: Path, kills: int) -> Iterator[tuple[int, Path]]:
    """Run the kills, and yield the number and the folder of each world."""
    (folder / "record.json").write_text(json.dumps(record(1)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.producer.killed", str(folder), str(kills)], cwd=ROOT, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kills"] >= kills
    for world in range(told["worlds"] + 1):
        yield world, folder / str(world)


def meter_all(folder: Path, kills: int) -> Meter:
    """Deliver all worlds' objects, then all messages, to one region, since each world puts objects before messages."""
    meter = Meter()
    assert meter.outlet.bucket != BUCKET
    bodies: list[str] = []
    for _, home in worlds(folder, kills):
        for file in (home / "bucket").rglob("*.zst"):
            meter.world.objects.upload(str(file.relative_to(home / "bucket")), file.read_bytes())
        bodies += (home / "queue").read_text().replace(f'"{BUCKET}"', f'"{meter.outlet.bucket}"').splitlines()
    meter.deliver(bodies)
    return meter


@pytest.mark.parametrize("kills", [24, pytest.param(200, marks=pytest.mark.long)])
def test_each_record_is_metered_once_and_no_number_is_missing(tmp_path: Path, kills: int) -> None:
    meter = meter_all(tmp_path, kills)
    number = sum(1 for each in tmp_path.iterdir() if each.is_dir())
    assert number >= kills // 2
    sent = [each for world in range(number) for key in (*KEYS, *SHARED) for each in records_of(world, key, record(1))]
    assert meter.metered() == expected(sent)

    markers = meter.markers()
    assert {marker.verdict for marker in markers} == {"accepted"}
    for world in range(number):
        sequences = {
            marker.sequence: marker.decided_at_ms
            for marker in markers
            if marker.source_id == SOURCE.format(world=world)
        }
        assert None not in sequences
        seen = SeenSequences().plus({int(each or 0): at for each, at in sequences.items()}, now_ms=1, largest_jump=100)
        assert (seen.last, seen.gaps) == (len(sequences) - 1, ())
