"""Folders for work on disk that do not outlive their process for long, however it ended.

A killed function leaves its folder in the disk of a warm environment. Its owner holds a lock in it, which the kernel
takes away from a dead process, so the next one knows a leftover from a folder that is in use, also by a process beside
it. Folders are made and looked at under one more lock: none is seen before its owner has locked it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "metering-lake-"
_OWNER = "owner.lock"
# A folder without a lock is of an earlier release, which worked on it for a quarter of an hour at most.
_UNLOCKED_S = HOUR_S


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder below `parent` (by default the system's own), gone afterwards; leftovers of the dead go first."""
    place = Path(tempfile.gettempdir()) if parent is None else parent
    with _locked(place / f"metering-lake.{os.getuid()}.lock"):
        _remove_leftovers(place)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        owner = _open(folder / _OWNER)
        fcntl.flock(owner, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owner)


def _remove_leftovers(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        # Somebody else's, or gone meanwhile.
        with suppress(OSError):
            if folder.is_dir() and not folder.is_symlink() and _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    if not (folder / _OWNER).exists():
        return folder.stat().st_mtime < time.time() - _UNLOCKED_S
    owner = _open(folder / _OWNER)
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(owner)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = _open(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
