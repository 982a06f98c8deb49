"""`Engine` over Athena: one hour of the lake by the stage's own workgroup."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from metering.adapters.aws.doctor.asking import asking
from metering.errors import UnavailableError
from metering.hours import hour_label
from metering.operations.doctor.bench import EngineHour, RefusedError
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    _Line = Mapping[str, Sequence[Mapping[str, str]]]

_POLL_S = 1.0
_PATIENCE_S = 120.0
_WAITING = frozenset({"QUEUED", "RUNNING"})
_SUMS = "SELECT coalesce(sum(bytes), 0), coalesce(sum(records), 0) FROM {name} WHERE dt = '{dt}' AND hour = '{hour}'"
# Engines that take microseconds for milliseconds see times thousands of years away, or before 1971.
_ROWS = (
    "SELECT coalesce(sum(CAST(bytes AS decimal(38,0))), 0), count(*), "
    "count_if(start_time < timestamp '2000-01-01 00:00:00' OR start_time > timestamp '2200-01-01 00:00:00') "
    "FROM transfers WHERE dt = '{dt}' AND hour = '{hour}'"
)


class AthenaClient(Protocol):
    """What is used of the SDK's client, which has no types here."""

    def start_query_execution(self, **arguments: object) -> Mapping[str, str]: ...
    def get_query_execution(self, **arguments: object) -> Mapping[str, Mapping[str, Mapping[str, str]]]: ...
    def get_query_results(self, **arguments: object) -> Mapping[str, Mapping[str, Sequence[_Line]]]: ...


class AthenaEngine:
    """Athena over the tables of a stage."""

    def __init__(
        self, client: AthenaClient, *, database: str, workgroup: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._database = database
        self._workgroup = workgroup
        self._sleep = sleep

    def hour(self, hour_s: int) -> EngineHour:
        label = hour_label(hour_s)
        place = {"dt": label[:10], "hour": label[11:]}
        usage, totals = (self._row(_SUMS.format(name=name, **place)) for name in ("usage", "totals"))
        rows = self._row(_ROWS.format(**place))
        return EngineHour(
            usage=Total(usage[0], usage[1]),
            totals=Total(totals[0], totals[1]),
            rows=Total(rows[0], rows[1]),
            strange_times=rows[2],
        )

    def _row(self, sql: str) -> list[int]:
        with asking():
            query = self._client.start_query_execution(
                QueryString=sql,
                QueryExecutionContext={"Database": self._database},
                WorkGroup=self._workgroup,
            )["QueryExecutionId"]
        self._wait(query)
        with asking():
            rows = self._client.get_query_results(QueryExecutionId=query)["ResultSet"]["Rows"]
        if len(rows) != 2:
            raise RefusedError(f"Athena answered {len(rows)} lines, not a heading and a row")
        return [int(cell.get("VarCharValue", "0")) for cell in rows[1].get("Data", [])]

    def _wait(self, query: str) -> None:
        waited_s = 0.0
        while True:
            with asking():
                status = self._client.get_query_execution(QueryExecutionId=query)["QueryExecution"].get("Status", {})
            state = status.get("State", "")
            if state not in _WAITING:
                break
            if waited_s >= _PATIENCE_S:
                raise UnavailableError("athena.GetQueryExecution", f"the query took longer than {_PATIENCE_S:.0f} s")
            self._sleep(_POLL_S)
            waited_s += _POLL_S
        if state != "SUCCEEDED":
            raise RefusedError(f"Athena's query ended as {state}: {status.get('StateChangeReason', 'no reason')}")
