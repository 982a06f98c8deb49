"""Cost queries: what a report of costs is asked, beside what every report of usage is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from metering.billing.documents.written import hour_of_text
from metering.hours import rfc3339
from metering.reports.parameters import InvalidParametersError, ParameterProblem
from metering.reports.query import COST_COLUMNS, GroupColumn, UsageParameters, UsageQuery, given_names
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.billing.usage.ports import UsageLine

COST = "cost_usd"
SUMS = (COST, "bytes", "quantity_gb", "unpriced_bytes", "unrated_bytes")
"""Columns of figures of a report of costs; rows can be ranked by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostQuery:
    """A question about costs.

    Attributes:
        usage: Which usage, grouped how, in which order.
        payers: Only what these payers pay; empty: whoever pays.
        regions: Only what the ledgers of these regions have, at the positions of all; empty: all.
    """

    usage: UsageQuery
    payers: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()

    @property
    def by_place(self) -> bool:
        """Whether a filter asks where bytes come from or go to."""
        return bool(self.usage.from_locations or self.usage.to_locations)

    @property
    def by_region(self) -> bool:
        """Whether regions have to be told apart."""
        return bool(self.regions) or self.has_column("region")

    def takes_region(self, region: str) -> bool:
        """Whether what a region's ledger has counts."""
        return not self.regions or region in self.regions

    def takes(self, line: UsageLine) -> bool:
        """Whether the names of a line pass the filters. Times are the caller's."""
        usage = self.usage
        return (
            (not usage.accounts or line.account_id in usage.accounts)
            and (not usage.services or line.service in usage.services)
            and (not usage.usage_types or line.usage_type in usage.usage_types)
            and usage.takes_places(line.from_location, line.to_location)
        )

    def covers(self, hour_s: int) -> bool:
        """Whether an hour of use lies in the range."""
        return self.usage.from_s <= hour_s < self.usage.to_s

    def has_column(self, *names: str) -> bool:
        """Whether rows are grouped by any of these columns."""
        return not set(names).isdisjoint(self.usage.group_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostParameters(UsageParameters):
    """The texts of a question about costs.

    Attributes:
        month: One billing month, in place of `start`, `end` and `last`.
        payers: Parameter `payer`; each text may be a list.
        region: One region; None: all.
    """

    KNOWN: ClassVar[tuple[GroupColumn, ...]] = COST_COLUMNS
    SUMS: ClassVar[tuple[str, ...]] = SUMS

    month: str | None = None
    payers: Sequence[str] = ()
    region: str | None = None

    def cost_query(self, *, now_s: int) -> CostQuery:
        """The query that the texts ask for at `now_s`.

        Raises:
            InvalidParametersError: As of a report of usage; or `month` is none, or stands beside other times.
        """
        asked = self if self.month is None else replace(self, start=self._month(self.month))
        return CostQuery(
            usage=asked.query(now_s=now_s),
            payers=given_names(self.payers),
            regions=frozenset([self.region] if self.region else []),
        )

    def hour_query(self, *, now_s: int) -> CostQuery:
        """The query about one hour, which begins at `start`.

        Raises:
            InvalidParametersError: `start` is no full hour that has begun, or a filter has a value that none can have.
        """
        start = self.start or ""
        try:
            hour_s = hour_of_text(start)
        except ValueError as error:
            problem = ParameterProblem(
                parameter="hour", value=start, problem="is no full hour.", advice="Write it as 2026-11-24T13:00:00Z."
            )
            raise InvalidParametersError([problem]) from error
        if hour_s > now_s:
            problem = ParameterProblem(parameter="hour", value=start, problem="lies in the future.")
            raise InvalidParametersError([problem])
        return replace(self, end=rfc3339(hour_s + HOUR_S)).cost_query(now_s=now_s)

    def _month(self, month: str) -> str:
        beside = self.start or self.end or self.last
        problem, advice = ("is not a month.", "Write it as 2026-11.") if len(month) != len("2026-11") else ("", "")
        if beside:
            problem, advice = (
                "cannot stand beside a beginning, an end or a span.",
                "Leave either out.",
            )
        if problem:
            raise InvalidParametersError(
                [ParameterProblem(parameter="month", value=month, problem=problem, advice=advice)]
            )
        return month

    def _filters(self) -> dict[str, Sequence[str]]:
        # Not `super()`: slots make a dataclass anew, and its methods would look for the class of before.
        return {**UsageParameters._filters(self), "payer": self.payers}
