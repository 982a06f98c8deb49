"""What can be asked of a stage, whichever way it is reached: over its stores, or over its HTTP API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from metering.reports.costs.query import CostParameters
    from metering.reports.query import UsageParameters
    from metering.reports.trace.question import TraceParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlQuestion:
    """One statement of SQL over the lake.

    Attributes:
        start, end, last, zone: Times of the rows, as of `UsageParameters`.
        timeout_s: The statement is stopped after that time.
        with_canary: Also rows of the canary.
    """

    sql: str
    start: str | None = None
    end: str | None = None
    last: str | None = None
    zone: str | None = None
    timeout_s: int = 600
    with_canary: bool = False


class Answers(Protocol):
    """Answers as tables. Errors are those of `Connection`."""

    def usage(self, asked: UsageParameters) -> pa.Table:
        """Totals of usage."""
        ...

    def cost(self, asked: CostParameters, *, prices: str | None, exact: bool) -> pa.Table:
        """What usage costs."""
        ...

    def trace(self, asked: TraceParameters) -> pa.Table:
        """Batches of a line; what stands beside them has `sums` and `equal`."""
        ...

    def query(self, asked: SqlQuestion) -> pa.Table:
        """Rows of a statement."""
        ...
