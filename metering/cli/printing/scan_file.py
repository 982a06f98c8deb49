"""A long scan of a command: how far it is, and a file with which another call goes on after a stop."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import typer

from metering.audit.census_state import CensusState, census_bytes, census_of
from metering.cli.command import bar
from metering.cli.failures import WrongUsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from metering.stores.items import ItemStore

RESUME_OPTION = typer.Option(
    "--resume", metavar="FILE", help="Save progress in this file; after a stop, the next run resumes from it."
)
# The saved scan of a large region has some megabytes.
_SAVED_EVERY_S = 10


# First bytes of a census that an older version saved without its owner.
_NAMELESS = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOf:
    """Owner of a scan, in the first line of its file."""

    command: Literal["verify", "reconcile", "period close"]
    region: str
    stage: str

    def __str__(self) -> str:
        return f"`metering {self.command}` of region {self.region}, stage {self.stage}"


class ScanFile:
    """State of a scan in a file. Mutable: it remembers when it saved last.

    Args:
        path: The file; None to keep nothing.
        of: Whose scan it is. No other one is gone on with: another region has other rows, and a close needs a scan that
            began when its month took no bookings any more.
    """

    def __init__(self, path: Path | None, of: ScanOf) -> None:
        self._path = path
        self._of = of
        self._saved_s = 0.0

    def kept(self, items: ItemStore, *, deep: bool, range_s: tuple[int, int] | None) -> CensusState | None:
        """The state that was saved; None without one.

        Args:
            items: Ledger of the region.
            deep: Whether the rows are to be counted.
            range_s: The range that was asked for; None for everything.

        Raises:
            WrongUsageError: The file is something else, or has another scan.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            found = self._path.read_bytes()
        except OSError as error:
            raise WrongUsageError(f"Cannot read {self._path}: {error.strerror or error}.", _OTHER) from error
        if found.startswith(_NAMELESS):
            unknown = "an older version saved it, without its region and stage"
            raise WrongUsageError(f"Nobody can tell whose scan {self._path} has: {unknown}.", _OTHER)
        head, _, body = found.partition(b"\n")
        if (of := _named(head)) not in (None, self._of):
            raise WrongUsageError(f"{self._path} has a scan of {of}, and this is {self._of}.", _OTHER)
        state = census_of(body, items)
        if of is None or state is None:
            raise WrongUsageError(f"{self._path} is no scan that this version saved.", _OTHER)
        if state.deep != deep or (range_s is not None and range_s != (state.from_s, state.to_s)):
            raise WrongUsageError(f"{self._path} has a scan of another range or depth.", _OTHER)
        return state

    def keep(self, state: CensusState, *, now: bool = False) -> None:
        """Save what was counted so far, at most every few seconds unless `now`."""
        if self._path is None or not (now or time.monotonic() - self._saved_s >= _SAVED_EVERY_S):
            return
        self._saved_s = time.monotonic()
        beside = self._path.with_name(f"{self._path.name}.new")
        beside.write_bytes(json.dumps(asdict(self._of)).encode() + b"\n" + census_bytes(state))
        beside.replace(self._path)

    def remove(self) -> None:
        """The scan is at its end."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


_OTHER = "Name another file, or delete this one to begin anew."


def _named(head: bytes) -> ScanOf | None:
    """Owner of a scan by the first line of a file; None if the line is something else."""
    try:
        return ScanOf(**json.loads(head))
    except (ValueError, TypeError):
        return None


@contextmanager
def counting() -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of a scan on stderr."""
    with bar("reading") as move:
        yield lambda what, done, of: move(description=f"counting {what}", completed=done, total=of)
