"""`metering compact`, `reconcile` and `query`: jobs of the lake run by hand, and SQL over its exact view."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Annotated

import typer

from metering.audit.reconcile.hour_check import HourCheck, describe
from metering.audit.reconcile.reconciler import ReconciliationResult
from metering.cli.command import Session, command, say
from metering.cli.durations import parse_duration
from metering.cli.failures import WrongUsageError
from metering.hours import rfc3339
from metering.lake.compactor import CompactionResult
from metering.reports.answer import Answer, Cell, Column
from metering.reports.time_range import time_range
from metering.units import DAY_S
from metering.wiring.connection import RegionConnection

lake_app = typer.Typer()

FROM_OPTION = typer.Option("--from", metavar="TIME", help="RFC 3339, date or month; included. Default: everything.")
TO_OPTION = typer.Option("--to", metavar="TIME", help="Not included.")

_QUERY_EXAMPLES = """Examples:

    metering query "SELECT account_id, sum(bytes) AS b FROM transfers GROUP BY 1 ORDER BY b DESC LIMIT 10"
    metering query "SELECT hour, sum(bytes) FROM usage WHERE account_id = '123456789012' GROUP BY 1 ORDER BY 1"
    metering query "DESCRIBE transfers"
"""


@dataclass(frozen=True)
class NoDeadline:
    """A deadline that never comes: people stop a command themselves."""

    def remaining_ms(self) -> int:
        return 1 << 62


@command(lake_app, "compact", reads=True)
def compact(
    session: Session,
    due: Annotated[
        bool,
        typer.Option("--due", help="Only take what the schedule would: full files, and rows that waited long."),
    ] = False,
    clean_after: Annotated[
        str | None,
        typer.Option("--clean-after", metavar="DURATION", help="Clean up runs that ended this long ago. Default: 1d."),
    ] = None,
) -> None:
    """Turn all pending rows into lake files now, then remove objects that are no longer needed."""
    wait_s = None if clean_after is None else parse_duration(clean_after, "--clean-after")
    session.write(compaction_answer(compact_now(session.region(), due=due, clean_after_s=wait_s)))


def compact_now(region: RegionConnection, *, due: bool = False, clean_after_s: int | None = None) -> CompactionResult:
    """Compact and clean. Without `due`, all pending rows are taken, whatever the policy says."""
    jobs = region.jobs
    policy = jobs.policy if due else jobs.policy.everything()
    result = jobs.compactor_of(policy).run(NoDeadline())
    cleaner = jobs.cleaner if clean_after_s is None else replace(jobs.cleaner, wait_s=clean_after_s)
    cleaned = cleaner.run(NoDeadline())
    orphans = jobs.orphans.run(NoDeadline())
    say(f"Cleaned {cleaned.runs} runs, {cleaned.commits} commits, {orphans} orphaned objects.")
    return result


def compaction_answer(result: CompactionResult) -> Answer:
    """The counts of a compaction."""
    return counts_answer({"runs": result.runs, "hours": result.hours, "files": result.files, "rows": result.rows})


def counts_answer(counts: Mapping[str, int]) -> Answer:
    """One row of numbers; one object in JSON."""
    return Answer(columns=tuple(Column(name=name, kind="integer") for name in counts), rows=[counts], document=counts)


@command(lake_app, "reconcile", reads=True)
def reconcile(
    session: Session,
    deep: Annotated[bool, typer.Option("--deep", help="Count the rows in the files, by key and by batch.")] = False,
    start: Annotated[str | None, FROM_OPTION] = None,
    end: Annotated[str | None, TO_OPTION] = None,
) -> None:
    """Compare markers, usage table and rows (lake and staging), hour by hour; exit 0 only if all are equal."""
    now_s = int(time.time())
    from_s, to_s = time_range(start, end, default_s=(0, now_s + DAY_S), now_s=now_s, whole_hours=True)
    jobs = session.region().jobs
    result = jobs.reconciler.run(from_s=from_s, to_s=to_s, deep=deep)
    if start is None and end is None:
        jobs.reconciler_state.keep(result)
    session.write(reconciliation_answer(result))
    for check in result.different:
        say(f"{rfc3339(check.hour_s)} differs in {len(check.differences)} places; see above.", style="bold red")
    for check in result.unstable:
        say(f"{rfc3339(check.hour_s)} was being written to, so it was not compared. Run it again.", style="yellow")
    result.markers.contradictions.tell()
    if result.different or result.unstable:
        raise typer.Exit(1)
    say(f"In {len(result.checks)} hours markers, usage table and rows are equal.", style="green")


def reconciliation_answer(result: ReconciliationResult) -> Answer:
    """Every difference by name, with the counts of hours in the JSON."""
    columns = (
        Column(name="hour", kind="time"),
        Column(name="between"),
        Column(name="key"),
        Column(name="expected_bytes", kind="bytes"),
        Column(name="found_bytes", kind="bytes"),
        Column(name="expected_records", kind="integer"),
        Column(name="found_records", kind="integer"),
    )
    rows: list[Mapping[str, Cell]] = [row for check in result.different for row in _difference_rows(check)]
    return Answer(
        columns=columns,
        rows=rows,
        meta={
            "hours": len(result.checks),
            "equal": sum(check.agrees for check in result.checks),
            "different": len(result.different),
            "unsettled": [rfc3339(check.hour_s) for check in result.unstable],
            "records": sum(check.rows.records for check in result.checks),
            "bytes": str(sum(check.rows.bytes for check in result.checks)),
        },
        title=f"{len(result.checks)} hours, {len(result.different)} different",
    )


def _difference_rows(check: HourCheck) -> list[dict[str, Cell]]:
    return [
        {
            "hour": rfc3339(check.hour_s),
            "between": difference.between,
            "key": describe(difference),
            "expected_bytes": difference.expected.bytes,
            "found_bytes": difference.found.bytes,
            "expected_records": difference.expected.records,
            "found_records": difference.found.records,
        }
        for difference in check.differences
    ]


@command(lake_app, "query", reads=True, epilog=_QUERY_EXAMPLES)
def query(
    session: Session,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One statement of DuckDB's SQL.")],
    start: Annotated[str | None, FROM_OPTION] = None,
    end: Annotated[str | None, TO_OPTION] = None,
    timeout: Annotated[
        str,
        typer.Option("--timeout", metavar="DURATION", help="Give up after this time, such as 90s, 10m or 1h."),
    ] = "10m",
) -> None:
    """Run SQL over `transfers` (every accepted record) and `usage` (exact totals), as of now, with DuckDB.

    --from and --to select rows by their start, to the second. A correction of a closed month counts at the beginning
    of the hour that it is booked in.
    """
    _expect_one_statement(sql)
    timeout_s = parse_duration(timeout, "--timeout")
    if timeout_s == 0:
        raise WrongUsageError("--timeout 0 leaves the query no time.", "Write it as 90s, 10m or 1h.")
    now_s = int(time.time())
    from_s, to_s = time_range(start, end, default_s=(0, now_s + DAY_S), now_s=now_s)
    session.write(query_answer(session.region(), sql, from_s=from_s, to_s=to_s, timeout_s=timeout_s))


def _expect_one_statement(sql: str) -> None:
    """Refuse several statements, of which DuckDB would answer only the last."""
    import duckdb

    try:
        statements = len(duckdb.extract_statements(sql))
    except duckdb.Error as error:
        raise _query_failed(error) from error
    if statements != 1:
        raise WrongUsageError(f"The query has {statements} statements.", "Write exactly one.")


def query_answer(region: RegionConnection, sql: str, *, from_s: int, to_s: int, timeout_s: int) -> Answer:
    """Run a query. Integers of any size are exact in every format.

    Raises:
        WrongUsageError: The statement is wrong.
        QueryStoppedError: The query took longer than `timeout_s`.
    """
    from metering.reports.sql.query import LakeQuery, QueryError

    jobs = region.jobs
    try:
        query = LakeQuery(view=jobs.view, objects=region.objects)
        result = query.run(sql, from_s=from_s, to_s=to_s, timeout_s=timeout_s)
    except QueryError as error:
        raise _query_failed(error) from error
    return result_answer(result.names, result.types, result.rows)


def _query_failed(error: Exception) -> WrongUsageError:
    return WrongUsageError(f"The query failed: {error}", 'To see the columns: metering query "DESCRIBE transfers".')


def result_answer(names: Sequence[str], types: Sequence[str], rows: Sequence[tuple[object, ...]]) -> Answer:
    """DuckDB's rows, with a different name for each column."""
    columns = tuple(_column(name, kind) for name, kind in zip(_distinct(names), types, strict=True))
    cells = [{column.name: _cell(column, value) for column, value in zip(columns, row, strict=True)} for row in rows]
    return Answer(columns=columns, rows=cells)


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """Names without repetition: the second `bytes` of a join becomes `bytes_2`."""
    taken: set[str] = set()
    for name in names:
        others = (f"{name}_{number}" for number in count(2))
        free = next(candidate for candidate in chain([name], others) if candidate not in taken)
        taken.add(free)
        yield free


def _column(name: str, kind: str) -> Column:
    if kind in {"HUGEINT", "BIGINT"} and "bytes" in name.lower():
        return Column(name=name, kind="bytes")
    return Column(name=name, kind="integer" if kind in {"BIGINT", "INTEGER"} else "text")


def _cell(column: Column, value: object) -> Cell:
    """The value, or its digits as text where JSON might not hold it exactly."""
    if isinstance(value, int) and column.kind != "text":
        return value
    return None if value is None else str(value)
