"""Answers over the stores of regions: the use cases of the command line, and its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

from metering.adapters.aws.errors import refusals_explained
from metering.adapters.aws.runtime import SystemClock
from metering.client.tables import table_of
from metering.errors import OperationFailedError
from metering.reports.parameters import InvalidParametersError, ParameterProblem
from metering.reports.time_range import time_range, zone_of
from metering.units import DAY_S
from metering.wiring.answers.completeness import measured_completeness
from metering.wiring.answers.costs import BillingRegions, book_named, costs_of
from metering.wiring.answers.trace import trace_of
from metering.wiring.answers.usage import Everywhere, usage_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from metering.client.asking import SqlQuestion
    from metering.client.places import Place
    from metering.reports.costs.query import CostParameters
    from metering.reports.query import UsageParameters
    from metering.reports.trace.question import TraceParameters
    from metering.stores.clock import Clock
    from metering.wiring.connection import RegionConnection


@dataclass(frozen=True)
class StoreAnswers:
    """Answers of the regions of a place.

    Attributes:
        place: Connects to them at the first question.
        clock: Says what now is.
    """

    place: Place
    clock: Clock = field(default_factory=SystemClock)

    @property
    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000

    @cached_property
    def _regions(self) -> Sequence[RegionConnection]:
        return self.place.regions()

    @cached_property
    def _rated(self) -> tuple[RegionConnection, Sequence[RegionConnection]]:
        return self.place.billing()

    @cached_property
    def _everywhere(self) -> Everywhere | None:
        return Everywhere(left_out=self.place.left_out()) if self.place.everywhere else None

    def usage(self, asked: UsageParameters) -> pa.Table:
        now_s = self._now_s
        query = asked.query(now_s=now_s)
        with refusals_explained():
            complete = measured_completeness(self._regions)
            found = usage_of(
                self._regions, query, now_s=now_s, complete=complete, named_beginning=bool(asked.start or asked.last),
                everywhere=self._everywhere,
            )  # fmt: skip
            return table_of(found.answer)

    def cost(self, asked: CostParameters, *, prices: str | None, exact: bool) -> pa.Table:
        now_s = self._now_s
        query = replace(asked, region=self.place.only).cost_query(now_s=now_s)
        book = book_named(prices)
        if book is None:
            problem = ParameterProblem(
                parameter="prices", value=prices or "", problem="is no price book.",
                advice="Write it as aws-list, or with a version: aws-list@3.",
            )  # fmt: skip
            raise InvalidParametersError([problem])
        with refusals_explained():
            home, regions = self._rated
            billing = BillingRegions(home=home, regions=regions, left_out=self.place.left_out())
            if query.regions - set(billing.names):
                raise OperationFailedError(
                    f"Region {self.place.only} holds no data of the stage.",
                    f"Those that do: {', '.join(billing.names)}.",
                )
            complete = measured_completeness(regions)
            found = costs_of(billing, query, book=book, now_s=now_s, complete=complete, exact=exact)
            return table_of(found.answer)

    def trace(self, asked: TraceParameters) -> pa.Table:
        now_s = self._now_s
        query = asked.query(now_s=now_s)
        with refusals_explained():
            answer = trace_of(self._regions, query, now_s=now_s, everywhere=self.place.everywhere).answer
            return table_of(
                answer, {name: value for name, value in (answer.document or {}).items() if name != "batches"}
            )

    def query(self, asked: SqlQuestion) -> pa.Table:
        if find_spec("duckdb") is None:
            raise OperationFailedError(
                "SQL needs duckdb, which this installation lacks.", "Install it: pip install 'transfer-metering[cli]'"
            )
        from metering.reports.sql.answer import result_answer
        from metering.reports.sql.query import LakeQuery, RegionLake
        from metering.reports.sql.statements import expect_one_statement

        now_s, zone = self._now_s, zone_of(asked.zone)
        from_s, to_s = time_range(
            asked.start, asked.end, default_s=(0, now_s + DAY_S), now_s=now_s, last=asked.last, zone=zone
        )
        expect_one_statement(asked.sql)
        with refusals_explained():
            lakes = [RegionLake(region=each.region, view=each.view, objects=each.objects) for each in self._regions]
            result = LakeQuery(lakes=lakes).run(
                asked.sql, from_s=from_s, to_s=to_s, timeout_s=asked.timeout_s, with_canary=asked.with_canary,
                zone=zone,
            )  # fmt: skip
            return table_of(result_answer(result))
