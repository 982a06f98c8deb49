"""SQL over the exact view: DuckDB reads lake files in place, and rows that are not published yet from staging.

| view        | a row is                                                                                      |
|-------------|-----------------------------------------------------------------------------------------------|
| `transfers` | an accepted record: the lake's columns and `hour`, the hour that it is booked in                |
| `usage`     | a total: `hour, account_id, usage_type, service, from_location, to_location, corrects, bytes, records` |

Sums of `bytes` are HUGEINT in DuckDB: they hold 1.7e38 and cannot wrap.
"""

from __future__ import annotations

from concurrent.futures import TimeoutError as StillWaiting
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, cast

import duckdb

from metering.errors import OperationFailedError
from metering.hours import hour_of
from metering.lake.rows import TimeSlice
from metering.reports.sql.ahead import Stop, in_thread
from metering.reports.sql.scan import LakeRows, Part, ScanState
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from metering.lake.view import LakeView
    from metering.ledger.row_sources import HourState, RowSource
    from metering.stores.objects import ObjectStore

# Hours by microseconds: date_trunc of a time with a zone asks the calendar for each row, which took half of the time.
_USAGE = """
CREATE VIEW usage AS
SELECT hour, account_id, usage_type, service, from_location, to_location,
       CASE WHEN epoch_us(start_time) // 3600000000 <> epoch_us(hour) // 3600000000
            THEN make_timestamptz(epoch_us(start_time) // 3600000000 * 3600000000) END AS corrects,
       sum(bytes) AS bytes, count(*) AS records
FROM transfers GROUP BY ALL
"""

DEFAULT_TIMEOUT_S = 10 * MINUTE_S
# Seconds that a stopped query may take to end. After that its threads are left alone; they end with the process.
_GRACE_S = 1
# Errors that are not the fault of the statement: the machine lacks memory or disk.
_MACHINE_ERRORS = (duckdb.IOException, duckdb.OutOfMemoryException)


class QueryError(OperationFailedError):
    """DuckDB refused a query; the message is DuckDB's."""


class QueryStoppedError(OperationFailedError):
    """A query did not end: it took too long, or this machine has too little disk or memory for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """Result of a query: column names, DuckDB types, and rows of Python values (integers of any size)."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[object, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeQuery:
    """Runs the queries of analysts.

    Attributes:
        view: The view whose hours are queried.
        objects: Store of the lake files and staging objects.
        threads: DuckDB's threads; by default, as many as there are cores.
    """

    view: LakeView
    objects: ObjectStore
    threads: int | None = None

    def run(
        self, sql: str, *, from_s: int = 0, to_s: int | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> QueryResult:
        """Run one statement over the rows of `[from_s, to_s)`, each hour interval-exact.

        The call ends after `timeout_s`, or at once by Ctrl-C, even if a read or DuckDB blocks.

        Raises:
            QueryError: The statement is wrong.
            QueryStoppedError: It took longer than `timeout_s`, or the machine lacks disk or memory.
            MeteringError: The ledger or an object could not be read.
        """
        try:
            with TemporaryDirectory(prefix="metering-query-", ignore_cleanup_errors=True) as name:
                run = _Run(
                    view=self.view, objects=self.objects, threads=self.threads, sql=sql, scratch=Path(name),
                    times=TimeSlice(from_s=from_s, to_s=_END_S if to_s is None else to_s),
                )  # fmt: skip
                return run.within(timeout_s)
        except OSError as error:
            raise _too_little(f"{error.strerror or error}") from error


# The last hour that has a label: 9999-12-31T23.
_END_S = 253_402_297_200


@dataclass(slots=True, kw_only=True)
class _Run:
    """One statement while it runs. Mutable. The calling thread only waits, so a read that blocks cannot hold it."""

    view: LakeView
    objects: ObjectStore
    threads: int | None
    sql: str
    scratch: Path
    times: TimeSlice
    stop: Stop = field(default_factory=Stop)
    connection: duckdb.DuckDBPyConnection | None = None

    def within(self, timeout_s: float) -> QueryResult:
        """Wait for the answer for `timeout_s` at most."""
        answer = in_thread(self._answer)
        try:
            return answer.result(timeout=min(timeout_s, TIMEOUT_MAX))
        except StillWaiting as error:
            if answer.done():
                raise
            raise QueryStoppedError(
                f"The query took longer than {timeout_s:g} s and was stopped.",
                "Ask for fewer hours with --from and --to, or give it longer: --timeout 1h.",
            ) from error
        finally:
            self._end(answer)

    def _end(self, answer: Future[QueryResult]) -> None:
        self.stop.set()
        if not answer.done():
            if self.connection is not None:
                self.connection.interrupt()
            wait([answer], timeout=_GRACE_S)

    def _answer(self) -> QueryResult:
        state = ScanState(stop=self.stop)
        with self._connected(LakeRows(self.objects, self._parts(), state)) as connection:
            try:
                # Contrary to DuckDB's types, a text of only spaces and comments gives no cursor.
                cursor = cast("duckdb.DuckDBPyConnection | None", connection.execute(self.sql))
                if cursor is None:
                    raise QueryError("It has no statement.")
                rows = cast("list[tuple[object, ...]]", cursor.fetchall())
            except duckdb.Error as error:
                if state.error is not None:
                    raise state.error from error
                if isinstance(error, _MACHINE_ERRORS):
                    raise _too_little(str(error)) from error
                raise QueryError(str(error)) from error
            description = cursor.description or []
        return QueryResult(
            names=tuple(str(column[0]) for column in description),
            types=tuple(str(column[1]) for column in description),
            rows=rows,
        )

    @contextmanager
    def _connected(self, rows: LakeRows) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that has the views and can reach nothing else."""
        config: dict[str, str | bool | int | float | list[str]] = {"temp_directory": str(self.scratch / "spill")}
        if self.threads:
            config["threads"] = self.threads
        connection = duckdb.connect(config=config)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("transfers", scannable(rows))
            connection.execute(_USAGE)
            # SQL comes from people and scripts: it may read these two views, but no files and no network.
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            self.connection = connection
            yield connection
        finally:
            self.connection = None
            connection.close()

    def _parts(self) -> list[Part]:
        parts: list[Part] = []
        for hour_s in self.view.hours(from_s=hour_of(self.times.from_s), to_s=self.times.to_s):
            self.stop.check()
            parts += self.view.read(hour_s, self._hour_parts)
        return parts

    def _hour_parts(self, state: HourState) -> list[Part]:
        times = self.times if self.times.parts(state.hour_s) else None
        return [
            Part(
                key=source.key,
                hour_s=source.hour_s,
                local=self._fetched(source) if source.staged else None,
                times=times,
            )
            for source in state.sources
        ]

    def _fetched(self, source: RowSource) -> Path:
        """Fetch a staging object while its hour is read, because it may be deleted while the query runs."""
        path = self.scratch / source.key.rpartition("/")[2]
        if not path.exists():
            path.write_bytes(self.objects.get(source.key))
        return path


def scannable(rows: object) -> LakeRows:
    """Check that DuckDB is given `LakeRows`: a dataset that opens its own files can hang for ever.

    Raises:
        TypeError: It is another kind of dataset.
    """
    if type(rows) is not LakeRows:
        raise TypeError(f"DuckDB scans LakeRows and nothing else, not {type(rows).__name__}")
    return rows


def _too_little(detail: str) -> QueryStoppedError:
    return QueryStoppedError(
        f"This machine has too little disk or memory for the query: {detail}",
        "Set TMPDIR to a folder with more room, or ask for fewer hours with --from and --to.",
    )
