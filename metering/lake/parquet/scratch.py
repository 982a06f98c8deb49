"""Scratch folders that are removed soon after their process, even a killed one.

A killed function leaves its folder on the disk of a warm environment. The owner of a folder holds a lock in it, and the
kernel releases the locks of a dead process. So the next process can tell a leftover from a folder in use. One more lock
guards the creation of folders and the search for leftovers: no folder is seen before its owner has locked it.
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
# A folder without a lock file is from an earlier release, which used it for a quarter of an hour at most.
_UNLOCKED_S = HOUR_S


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Give a new folder below `parent` (default: the system's) and remove it afterwards; first remove leftovers."""
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
        # The folder belongs to another user, or is gone meanwhile.
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
