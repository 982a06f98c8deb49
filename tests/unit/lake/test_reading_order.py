"""Large files are read one at a time, small ones side by side, and each comes with its own result."""

import threading
import time

import pytest

from metering.lake.parquet.reader import read_each
from metering.ledger.booked_hours import LakeFile

LARGE = 12_000_000


def files(*rows: int) -> list[LakeFile]:
    return [LakeFile(key=f"lake/{number}", rows=count, bytes=0) for number, count in enumerate(rows)]


@pytest.mark.parametrize(("rows", "at_once"), [((LARGE, LARGE, LARGE), 1), ((5, 6, 7, 8), 4), ((5,), 1)])
def test_only_small_files_are_read_at_the_same_time(rows: tuple[int, ...], at_once: int) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def read(file: LakeFile) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.2)
        with lock:
            running -= 1
        return file.rows

    found = list(read_each(read, files(*rows), threads=4))
    assert most == at_once
    assert [file.rows for file, _ in found] == [result for _, result in found] == list(rows)


def test_every_file_is_read_once_whatever_its_size() -> None:
    mixed = files(3, LARGE, 4, LARGE + 1)
    found = dict(read_each(lambda file: file.key, mixed, threads=2))
    assert found == {file: file.key for file in mixed}
    assert list(read_each(lambda file: file.key, [], threads=2)) == []
