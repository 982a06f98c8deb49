"""`metering compact`, `reconcile` and `storage report`: run the lake's jobs by hand, show the lake's size and cost."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from metering.audit import hour_check
from metering.audit.census_state import CensusState, census_bytes, census_of
from metering.cli.command import Session, bar, command, say
from metering.cli.failures import WrongUsageError
from metering.cli.fleet import asks_for_all, everywhere, of_region
from metering.cli.options import FROM_OPTION, TO_OPTION, family, option, parse_duration, switch
from metering.hours import rfc3339
from metering.ledger.format_version import generations_of
from metering.ledger.runs import Contradictions
from metering.operations import own_costs
from metering.reports import answer
from metering.reports.time_range import time_range
from metering.units import DAY_S, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.audit import verification
    from metering.audit.reconciler import Reconciler, ReconciliationResult
    from metering.lake.compactor import CompactionResult
    from metering.stores.writes import ItemStore
    from metering.wiring import connection
    from metering.wiring.jobs import LakeJobs

RESUME_OPTION = typer.Option(
    "--resume", metavar="FILE", help="Save progress in this file; after a stop, the next run resumes from it."
)
# The saved scan of a large region has some megabytes.
_SAVED_EVERY_S = 10


# First bytes of a census file from an older version, which did not store the owner.
_NAMELESS = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOf:
    """Owner of a scan, as written in the first line of its file."""

    command: Literal["verify", "reconcile", "period close"]
    region: str
    stage: str

    def __str__(self) -> str:
        return f"`metering {self.command}` of region {self.region}, stage {self.stage}"


class ScanFile:
    """A file that saves the state of a scan. Mutable: remembers the time of the last save.

    Args:
        path: Path of the file; if None, nothing is saved.
        of: Whose scan it is. Only the owner of a scan can resume it: another region has other rows, and a close needs a
            scan that began after the month's bookings ended.
    """

    def __init__(self, path: Path | None, of: ScanOf) -> None:
        self._path = path
        self._of = of
        self._saved_s = 0.0

    def kept(self, items: ItemStore, *, deep: bool, range_s: tuple[int, int] | None) -> CensusState | None:
        """The saved state; None if nothing was saved.

        Args:
            items: Ledger of the region.
            deep: Whether rows are counted.
            range_s: The requested range; None for all hours.

        Raises:
            WrongUsageError: The file contains something other than a scan, another scan, or a scan of before a restore.
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
        if state.generation != generations_of(items).ledger:
            raise WrongUsageError(f"{self._path} has a scan of before the ledger was restored.", _OTHER)
        if state.deep != deep or (range_s is not None and range_s != (state.from_s, state.to_s)):
            raise WrongUsageError(f"{self._path} has a scan of another range or depth.", _OTHER)
        return state

    def keep(self, state: CensusState, *, now: bool = False) -> None:
        """Save the counts so far, at most every few seconds; with `now`, immediately."""
        if self._path is None or not (now or time.monotonic() - self._saved_s >= _SAVED_EVERY_S):
            return
        self._saved_s = time.monotonic()
        beside = self._path.with_name(f"{self._path.name}.new")
        beside.write_bytes(json.dumps(asdict(self._of)).encode() + b"\n" + census_bytes(state))
        beside.replace(self._path)

    def remove(self) -> None:
        """Delete the file, because its scan is no longer needed."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


_OTHER = "Name another file, or delete this one to begin anew."


def _named(head: bytes) -> ScanOf | None:
    """Owner of a scan, from the first line of its file; None if the line names no owner."""
    try:
        return ScanOf(**json.loads(head))
    except (ValueError, TypeError):
        return None


@contextmanager
def counting() -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of a scan on stderr."""
    with bar("reading") as move:
        yield lambda what, done, of: move(description=f"counting {what}", completed=done, total=of)


lake_app = typer.Typer()

_ANEW = "To have one made anew, delete rated/MONTH/accounts-*.json.gz, then: metering budget update"
_COMPACTED: answer.RowType[CompactionResult] = answer.RowType(
    answer.integer("runs", about="compactions of a shard"),
    answer.integer("hours", about="published"),
    answer.integer("files", about="written to the lake"),
    answer.integer("rows", about="that were in staging"),
)


@dataclass(frozen=True)
class NoDeadline:
    """A deadline that never expires: users can interrupt a command themselves."""

    def remaining_ms(self) -> int:
        return 1 << 62


@command(lake_app, "compact", reads=True)
def compact(
    session: Session,
    due: Annotated[
        bool, switch("--due", "Compact only what the schedule would: full files, and rows that have waited long.")
    ] = False,
    clean_after: Annotated[
        str | None,
        option("--clean-after", "DURATION", "Clean up after runs that ended at least this long ago. Default: 1h."),
    ] = None,
) -> None:
    """Roll up waiting commits, turn all pending rows into lake files, then remove objects that are no longer needed."""
    wait_s = None if clean_after is None else parse_duration(clean_after, "--clean-after")
    session.write(_COMPACTED.one(compact_now(session.region().jobs, due=due, clean_after_s=wait_s)))


def compact_now(jobs: LakeJobs, *, due: bool = False, clean_after_s: int | None = None) -> CompactionResult:
    """Roll up, compact and clean, as the Lambda functions do.

    Args:
        jobs: Jobs of the region.
        due: Compact only the rows that the schedule would compact now. All waiting commits are rolled up in any case.
        clean_after_s: Clean up after runs that ended at least this many seconds ago.

    Raises:
        LedgerCorruptError: The ledger contradicts the protocol; the error is raised after all other work is done.
    """
    contradictions = Contradictions()
    with contradictions.noted():
        rolled_up = jobs.rollup.run(NoDeadline(), only_waiting=True)
        if rolled_up.commits:
            say(f"Rolled up {counted(rolled_up.commits, 'commit')} in {counted(rolled_up.runs, 'run')}.")
    policy = jobs.policy if due else jobs.policy.everything()
    result = jobs.compactor_of(policy).run(NoDeadline())
    cleaner = jobs.cleaner if clean_after_s is None else replace(jobs.cleaner, wait_s=clean_after_s)
    cleaned = cleaner.run(NoDeadline())
    jobs.rollup_cleaner.run(NoDeadline())
    orphans = jobs.orphans.run(NoDeadline(), whole=True)
    say(
        f"Cleaned {counted(cleaned.runs, 'run')}, {counted(cleaned.commits, 'commit')}, "
        f"{counted(orphans, 'orphaned object')}."
    )
    contradictions.tell()
    return result


@command(lake_app, "reconcile", reads=True, everywhere=True)
def reconcile(
    session: Session,
    deep: Annotated[bool, switch("--deep", "Count the rows in the files, by key and by batch.")] = False,
    start: Annotated[str | None, FROM_OPTION] = None,
    end: Annotated[str | None, TO_OPTION] = None,
    result: Annotated[
        bool, switch("--result", "Only show what the reconciler's last pass found; compare nothing.")
    ] = False,
    resume: Annotated[Path | None, RESUME_OPTION] = None,
) -> None:
    """Compare markers, usage table and rows (lake and staging), hour by hour; exit 0 only if all are equal.

    The biller's lists of accounts are also compared with the lake: each list's hours and sum; with --deep, each
    account.
    """
    now_s = int(time.time())
    if result:
        _show_last_pass(session, now_s, others=deep or start is not None or end is not None)
        return
    from_s, to_s = time_range(start, end, default_s=(0, now_s + DAY_S), now_s=now_s, whole_hours=True)
    if resume is not None and asks_for_all(session):
        raise WrongUsageError("--resume has a scan of one region.", "Name the region.")
    asked = None if start is None and end is None else (from_s, to_s)
    told: list[tuple[str, str]] = []
    failed: list[str] = []

    def compared(region: connection.RegionConnection) -> answer.Answer:
        reconciler = region.jobs.reconciler
        file = ScanFile(resume, ScanOf(command="reconcile", region=region.region, stage=session.stage))
        state = file.kept(region.items, deep=deep, range_s=asked)
        state = state or reconciler.begin(from_s=from_s, to_s=to_s, deep=deep)
        found = _reconciled(reconciler, state, file)
        if start is None and end is None:
            region.jobs.reconciler_state.keep(found)
        begun = of_region(session, region.region)
        told.extend((f"{begun}{text}", style) for text, style in _told(found))
        found.markers.contradictions.tell()
        if found.different or found.unstable or found.derived:
            failed.append(region.region)
        return reconciliation_answer(found)

    session.write(everywhere(session, compared))
    for text, style in told:
        say(text, style)
    if failed:
        raise typer.Exit(1)


def _reconciled(reconciler: Reconciler, state: CensusState, file: ScanFile) -> ReconciliationResult:
    """Finish the count, and investigate differences."""
    with counting() as tell:

        def counted(now: CensusState) -> None:
            tell(now.phase, now.done, now.of)
            file.keep(now)

        reconciler.census.go_on(state, tell=counted)
        file.keep(state, now=True)
        result = reconciler.judge(state)
    result = reconciler.told(result, from_s=state.from_s, to_s=state.to_s, deep=state.deep)
    file.remove()
    return result


def _show_last_pass(session: Session, now_s: int, *, others: bool) -> None:
    from metering.wiring.answers.operators import reconciliation_of

    if others:
        raise WrongUsageError("--result compares nothing.", "Leave --deep, --from and --to out.")
    session.write(everywhere(session, lambda region: reconciliation_of(region, now_s=now_s)))


def _told(result: ReconciliationResult) -> Iterator[tuple[str, str]]:
    """Sentences about a reconciliation, each with the style in which it is printed."""
    for check in result.different:
        yield f"{rfc3339(check.hour_s)} differs in {_places(len(check.differences))}; see above.", "bold red"
    if result.derived:
        where = _places(len(result.derived))
        yield f"The lists of accounts differ from the lake in {where}; see above. {_ANEW}", "bold red"
    for check in result.unstable:
        yield f"{rfc3339(check.hour_s)} was being written to, so it was not compared. Run it again.", "yellow"
    if not result.different and not result.unstable and not result.derived:
        yield f"In {counted(len(result.checks), 'hour')} markers, usage table and rows are equal.", "green"


_DIFFERENCES = answer.ListedRows(
    answer.timed("hour", priority=answer.KEEP),
    answer.copied("between"),
    answer.copied("key", priority=answer.KEEP),
    # Differences are shown as exact numbers, because rounded sizes could look equal.
    answer.exact("usage_bytes", "markers_bytes", "rows_bytes", priority=answer.KEEP),
    answer.integer("usage_records", "markers_records", "rows_records"),
    # The same figures are repeated under the names that comparisons use.
    answer.exact("expected_bytes", "found_bytes", priority=answer.ROOMY),
    answer.integer("expected_records", "found_records", priority=answer.ROOMY),
).columns


def reconciliation_answer(result: ReconciliationResult) -> answer.Answer:
    """An answer that lists every difference; in JSON, it also has the numbers of hours."""
    different = [each for check in result.different for each in check.differences]
    return answer.Answer(
        columns=_DIFFERENCES,
        rows=[_difference_row(each) for each in (*different, *result.derived)],
        meta={
            "hours": len(result.checks),
            "equal": sum(check.agrees for check in result.checks),
            "different": len(result.different),
            "unsettled": [rfc3339(check.hour_s) for check in result.unstable],
            "records": sum(check.rows.records for check in result.checks),
            "bytes": str(sum(check.rows.bytes for check in result.checks)),
        },
        title=f"{counted(len(result.checks), 'hour')}, {len(result.different)} different",
        empty="No difference.",
    )


def _difference_row(difference: verification.Difference) -> dict[str, answer.Cell]:
    row: dict[str, answer.Cell] = {
        "hour": rfc3339(difference.hour_s),
        "between": difference.between,
        "key": hour_check.describe(difference),
    }
    if difference.odd:
        return row
    # Both totals are given under the names of their sources, and again as expected and found.
    sources = difference.between.split("/")
    totals = (difference.expected, difference.found)
    for name, total in zip((*sources, "expected", "found"), totals * 2, strict=True):
        row |= {f"{name}_bytes": total.bytes, f"{name}_records": total.records}
    return row


def _places(number: int) -> str:
    return "1 place" if number == 1 else f"{number} places"


storage = family("Size and cost of the bucket.")


@command(storage, "report", reads=True, everywhere=True)
def storage_report(session: Session) -> None:
    """Show objects, bytes and monthly cost by prefix and class, compared with a JSON or gzip object per batch."""
    session.write(everywhere(session, lambda region: storage_answer(measure_storage(region))))


def measure_storage(region: connection.RegionConnection, *, from_s: int = 0) -> own_costs.StorageReport:
    """Measure the whole bucket, and all rows in hours of the lake from `from_s` on."""
    from metering.lake.parquet.codec import JsonBatchSizer

    reporter = own_costs.StorageReporter(
        items=region.items, objects=region.objects, view=region.view, sizer=JsonBatchSizer(region.objects)
    )
    return reporter.report(from_s=from_s)


_STORAGE = answer.ListedRows(
    answer.prose("what", priority=answer.KEEP),
    answer.copied("class", priority=answer.ROOMY),
    answer.integer("objects"),
    answer.Form(kind="integer", sized=True)("stored_bytes", title="bytes", priority=answer.KEEP),
    answer.money("usd_month", title="USD a month", priority=answer.KEEP),
    answer.money("usd_requests", title="USD of requests"),
)


def storage_answer(report: own_costs.StorageReport) -> answer.Answer:
    """The cost of this storage and of its alternatives, with the prices that were used."""
    return _STORAGE.answer(
        [
            *((p.prefix, p.storage_class, p.objects, p.stored_bytes, _usd(p.usd_month), None) for p in report.prefixes),
            _side("lake, staging, runs", report.ours),
            _side("one JSON object a batch", report.json),
            _side("one gzip a batch", report.gzip),
        ],
        meta=_meta(report),
        title="Storage",
        footer=_footer(report),
    )


def _meta(report: own_costs.StorageReport) -> dict[str, answer.Json]:
    a_record = _bytes_a_record(report)
    return {
        "savings": {
            "json": f"{report.saving(report.json):.4f}",
            "gzip": f"{report.saving(report.gzip):.4f}",
            "json_with_requests": f"{report.saving_with_requests(report.json):.4f}",
            "gzip_with_requests": f"{report.saving_with_requests(report.gzip):.4f}",
        },
        "batches": report.sizes.batches,
        "records": report.sizes.records,
        "lake_records": report.lake_records,
        "lake_bytes_a_record": None if a_record is None else f"{a_record:.2f}",
        "prices": {
            "storage_usd_gb_month": {name: str(usd) for name, usd in own_costs.STORAGE_USD_GB_MONTH.items()},
            "put_usd": f"{own_costs.S3_PUT_USD:f}",
            "get_usd": f"{own_costs.S3_GET_USD:f}",
        },
    }


def _footer(report: own_costs.StorageReport) -> tuple[str, ...]:
    prices = ", ".join(f"{name} {usd} USD/GB-month" for name, usd in own_costs.STORAGE_USD_GB_MONTH.items())
    return (
        f"{counted(report.sizes.records, 'record')} in {counted(report.sizes.batches, 'batch', 'batches')}; "
        f"{report.lake_records:,} in the lake at {_bytes_a_record(report) or 0:.2f} bytes each.",
        f"Storage saved a month: {report.saving(report.json):.1%} against JSON, "
        f"{report.saving(report.gzip):.1%} against gzip; with the requests of the first month "
        f"{report.saving_with_requests(report.json):.1%} and {report.saving_with_requests(report.gzip):.1%}.",
        f"Prices (us-east-1 list): {prices}; PUT {own_costs.S3_PUT_USD:f} USD, GET {own_costs.S3_GET_USD:f} USD. "
        "Objects in staging/ are removed a day after their compaction and are priced for that day. Versions that the "
        "bucket keeps of deleted objects are not counted.",
    )


def _bytes_a_record(report: own_costs.StorageReport) -> Decimal | None:
    return Decimal(report.lake_bytes) / report.lake_records if report.lake_records else None


def _side(name: str, side: own_costs.Alternative) -> tuple[object, ...]:
    return (name, "", side.objects, side.stored_bytes, _usd(side.usd_month), _usd(side.usd_requests))


def _usd(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.000001"))
