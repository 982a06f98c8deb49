"""Row sources: the places of an hour's rows. Each is a whole lake file, or one hour's part of a staging object."""

from __future__ import annotations

from dataclasses import dataclass, replace

from metering.usage.totals import Total


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSource:
    """Rows of one hour in one object.

    Attributes:
        staged: Whether it is a staging object, of which only the rows booked in `hour_s` belong to it.
        rows, bytes: Number of rows and sum of bytes of this hour, as the ledger says.
        waiting: Whether its commit waits for the roll-up, so that no usage has it.
    """

    key: str
    hour_s: int
    rows: int
    bytes: int
    staged: bool
    waiting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HourState:
    """State of a booked hour, as a reader found it: everything that was accepted in it.

    Attributes:
        sources: Lake files first, then staging objects; each row is in exactly one of them.
        keys: Sort keys of the published items that were read, and one a commit in staging, whether it waits or is
            placed. Equal keys mean equal states.
    """

    hour_s: int
    sources: tuple[RowSource, ...]
    keys: frozenset[str]

    @property
    def total(self) -> Total:
        """Total of the hour as the ledger says, without opening a file."""
        return Total(sum(s.bytes for s in self.sources), sum(s.rows for s in self.sources))

    @property
    def placed(self) -> HourState:
        """The same without what waits for the roll-up: the rows that settled usage is compared with (P37)."""
        return replace(self, sources=tuple(source for source in self.sources if not source.waiting))

    @property
    def published(self) -> bool:
        """Whether all of its rows are in published files."""
        return not any(source.staged for source in self.sources)
