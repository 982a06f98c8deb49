"""Where rows of an hour lie: a whole lake file, or the part of a staging object that is booked in one hour."""

from __future__ import annotations

from dataclasses import dataclass

from metering.usage.totals import Total


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSource:
    """Rows of one hour in one object.

    Attributes:
        staged: It is a staging object, of which only the rows booked in `hour_s` belong to it.
        rows, bytes: What the ledger says that it holds in this hour.
    """

    key: str
    hour_s: int
    rows: int
    bytes: int
    staged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HourState:
    """Everything accepted in one booked hour, as a reader found it.

    Attributes:
        sources: Lake files first, then staging objects; each row is in exactly one of them.
        keys: Sort keys of the published hours and pointers that were read: equal keys, equal state.
    """

    hour_s: int
    sources: tuple[RowSource, ...]
    keys: frozenset[str]

    @property
    def total(self) -> Total:
        """What the ledger says that the hour holds, without opening a file."""
        return Total(sum(s.bytes for s in self.sources), sum(s.rows for s in self.sources))

    @property
    def published(self) -> bool:
        """Whether nothing of it is in staging only."""
        return not any(source.staged for source in self.sources)
