"""Scratch folders: leftovers of dead processes go, those of living ones stay."""

import os
import subprocess
import sys
from pathlib import Path

from metering.lake.parquet.writer import scratch_folder

_HOLD = """
import sys, time
from pathlib import Path
from metering.lake.parquet.writer import scratch_folder

with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "0.arrows").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    time.sleep(600)
"""


def holder(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process in the middle of its work, and its folder."""
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_killed_owners_folder_goes_with_the_next_one_and_a_living_ones_stays(tmp_path: Path) -> None:
    killed, left = holder(tmp_path)
    alive, used = holder(tmp_path)
    try:
        end(killed)
        assert (left / "0.arrows").exists()
        with scratch_folder(tmp_path) as own, scratch_folder(tmp_path) as another:
            assert not left.exists()
            assert (used / "0.arrows").exists()
            assert own.exists()
            assert another.exists()
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [used]
    finally:
        end(alive)


def test_a_folder_without_a_lock_is_left_for_an_hour(tmp_path: Path) -> None:
    young, old = tmp_path / "metering-lake-young", tmp_path / "metering-lake-old"
    young.mkdir()
    old.mkdir()
    os.utime(old, (0, 0))
    (tmp_path / "metering-lake-link").symlink_to(young)
    with scratch_folder(tmp_path):
        assert young.exists()
        assert not old.exists()
