"""`metering demo`: the whole service on this machine, from deployment to proof, leaving nothing behind."""

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as StillWaiting
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.rule import Rule
from rich.table import Table as RichTable
from rich.text import Text

from metering.audit.verify.expectations import SentBatches
from metering.audit.verify.manifest import read_header, read_sent
from metering.audit.verify.verification import Verification
from metering.cli.command import Session, command, say
from metering.cli.commands.lake import NoDeadline, compaction_answer, query_answer, reconciliation_answer
from metering.cli.commands.local import start_local, stop_leftovers
from metering.cli.commands.replay import send_traffic
from metering.cli.commands.storage import measure_storage, storage_answer
from metering.cli.commands.verify import explain, wait_until_settled
from metering.cli.connecting import connect
from metering.cli.failures import CommandFailedError
from metering.cli.output import Format, write_answer
from metering.cli.table import bars
from metering.replay.given import SAMPLE, read_records
from metering.replay.scenarios import SCENARIOS
from metering.replay.traffic import Traffic, given_traffic, synthetic_traffic
from metering.reports.query import UsageQuery
from metering.reports.sql.ahead import in_thread
from metering.reports.usage_answer import usage_answer
from metering.reports.usage_rows import grouped
from metering.reports.usage_table import UsageTable
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.wiring.connection import RegionConnection
from metering.wiring.reports import build_freshness, build_verifier

demo_app = typer.Typer()

T = TypeVar("T")

# Kept apart from `metering local`, so that a demo leaves a running local stage alone.
_STATE = "demo"
_WINDOW_S = 36 * DAY_S
_WAIT_S = 240
# A step that takes longer hangs: with the default traffic, none takes a quarter of this.
_STEP_S = 10 * MINUTE_S
_QUERY_S = 2 * MINUTE_S
# Sending more messages may take longer; no machine was slower than this.
_SLOWEST_PER_S = 20
BATCHES = 5_000
RECORDS_PER_BATCH = 20
_REAL_BATCH = 20
_KEYS_PER_BATCH = 4
# The synthetic traffic lies in the last three whole hours. Hours with fewer rows wait for more, as in service.
_BUSY_S = 5 * HOUR_S
_SQL = (
    "SELECT from_location, to_location, count(*) AS records, sum(bytes) AS bytes "
    "FROM transfers GROUP BY ALL ORDER BY bytes DESC LIMIT 5"
)


@command(demo_app, "demo")
def demo(
    session: Session,
    batches: Annotated[
        int, typer.Option("--batches", min=1, help="Number of synthetic messages, sent along with the real ones.")
    ] = BATCHES,
    records_per_batch: Annotated[
        int, typer.Option(min=2, max=1_000, help="Records in each synthetic message.")
    ] = RECORDS_PER_BATCH,
    seed: Annotated[int, typer.Option(help="The same seed in the same hour gives the same traffic.")] = 1,
) -> None:
    """Run the whole service here: start an emulator, deploy, replay traffic, report, check, and stop again.

    It needs no AWS account and no container, takes about a minute, and leaves nothing behind.
    """
    began = time.monotonic()
    with _running_region(session) as region:
        now_s = int(time.time())
        traffics = demo_traffic(batches, records_per_batch, seed, now_s, region.names.data_bucket)
        sent = limited("sending", lambda: _send(region, traffics), more_s=batches // _SLOWEST_PER_S)
        verifier = build_verifier(region)
        limited("waiting", lambda: wait_until_settled(verifier, _WAIT_S))
        limited("the report", lambda: _show_usage(region, now_s))
        # A third of the synthetic records lies in each of three hours. Each hour fills one file, and the rest waits.
        file_rows = max(1, batches * records_per_batch // 5)
        reconciled = limited("the lake", lambda: _show_lake(region, now_s, file_rows=file_rows))
        expected = sent.expected
        window = {"from_s": now_s - _WINDOW_S, "to_s": now_s + DAY_S}
        result = limited("the proof", lambda: verifier.verify(**window, sent=sent))
        show_proof(result, expected)
    explain(result)
    say(f"The demo took {time.monotonic() - began:.0f} s. The emulator is stopped.")
    if not (result.passed and reconciled) or any(
        getattr(result, verdict) != number for verdict, number in expected.items()
    ):
        raise CommandFailedError("The proof failed.", "The differences are listed above.")


@contextmanager
def _running_region(session: Session) -> Iterator[RegionConnection]:
    stop_leftovers(_STATE)
    try:
        state = limited("the deployment", lambda: start_local(session.region_name, "local", name=_STATE))
        # The demo must not touch the AWS account that the user works with.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        yield connect(endpoint=state.endpoint, region=state.region, stage=state.stage, environ=environ)
    finally:
        stop_leftovers(_STATE)


def limited(step: str, work: Callable[[], T], *, more_s: int = 0) -> T:
    """Do one step of the demo within a limit of time.

    Raises:
        CommandFailedError: The step took too long.
    """
    limit_s = _STEP_S + more_s
    future = in_thread(work)
    try:
        return future.result(timeout=limit_s)
    except StillWaiting as error:
        if future.done():
            raise
        raise CommandFailedError(
            f"The demo was stopped, because {step} took longer than {limit_s // MINUTE_S} minutes.", "Run it again."
        ) from error


def demo_traffic(batches: int, records_per_batch: int, seed: int, now_s: int, bucket: str) -> list[Traffic]:
    """The real lines, moved to now, and made-up traffic; the same seed gives the same totals at any time."""
    # Few usage keys a batch: the emulator takes most of the time, and most of that for those.
    scenario = replace(SCENARIOS["mixed"], records_per_batch=records_per_batch, keys_per_batch=_KEYS_PER_BATCH)
    return [
        given_traffic([SAMPLE], _REAL_BATCH, now_s),
        synthetic_traffic("mixed", scenario, batches, seed, now_s, bucket),
    ]


def _send(region: RegionConnection, traffics: Sequence[Traffic]) -> SentBatches:
    """Send all traffic; returns the batches and their expected verdicts, from the manifests."""
    sent = SentBatches()
    for traffic in traffics:
        manifest = io.StringIO()
        counts, took_s = send_traffic(region, traffic, manifest)
        say(f"Sent {counts.total():,} messages of {traffic.name} in {took_s:.0f} s.")
        manifest.seek(0)
        read_header(manifest.readline())
        sent.add(SentBatches.collect(read_sent(manifest)))
    return sent


def _show_usage(region: RegionConnection, now_s: int) -> None:
    source = UsageTable(items=region.items)
    accounts = frozenset(str(record["account_id"]) for record in read_records([SAMPLE]).records)
    query = UsageQuery(from_s=now_s - _WINDOW_S, to_s=now_s + 1, group_by=("usage_type",), accounts=accounts)
    rows = grouped(source.usage(query, now_s=now_s), query)
    _print_rule("Real traffic: 338 lines of AWS bills, moved to now")
    write_answer(
        usage_answer(query, rows, as_of_s=now_s, complete_s=build_freshness(region).complete_through_s()),
        Format.TABLE,
        None,
    )
    top = UsageQuery(from_s=query.from_s, to_s=query.to_s, group_by=("account_id",))
    sizes = [(row.values[0], row.total.bytes) for row in grouped(source.usage(top, now_s=now_s), top)]
    _print_rule("Top accounts, with the synthetic traffic")
    Console().print(bars(sizes, most=10))


def _show_lake(region: RegionConnection, now_s: int, *, file_rows: int) -> bool:
    """Compact, reconcile, measure and query the busy hours; returns whether markers, usage and lake are equal."""
    jobs, since_s = region.jobs, now_s - _BUSY_S
    _print_rule("The lake: busy hours compacted and reconciled, the others in staging")
    compacted = jobs.compactor_of(replace(jobs.policy, file_rows=file_rows)).run(NoDeadline())
    write_answer(compaction_answer(compacted), Format.TABLE, None)
    checks = jobs.reconciler.run(from_s=since_s, to_s=now_s + DAY_S)
    equal = not checks.different and not checks.unstable
    if not equal:
        write_answer(reconciliation_answer(checks), Format.TABLE, None)
    records = sum(check.rows.records for check in checks.checks)
    verdict = "equal" if equal else "DIFFERENT"
    Console().print(f"{len(checks.checks)} hours, {records:,} records: markers, usage table and lake are {verdict}.")
    _print_rule("Cost of storage, compared with one object a batch")
    write_answer(storage_answer(measure_storage(region, from_s=since_s)), Format.TABLE, None)
    _print_rule(f'metering query "{_SQL}"')
    answer = query_answer(region, _SQL, from_s=since_s, to_s=now_s + DAY_S, timeout_s=_QUERY_S)
    write_answer(answer, Format.TABLE, None)
    return equal


def show_proof(result: Verification, expected: dict[str, int]) -> None:
    """Print the verdicts that were found next to those that the manifests expect."""
    _print_rule("Proof: what was sent, and what became of it")
    table = RichTable("verdict")
    table.add_column("must be, by the manifest", justify="right")
    table.add_column("found", justify="right")
    table.add_column("")
    for verdict, number in expected.items():
        found = getattr(result, verdict)
        table.add_row(verdict, f"{number:,}", f"{found:,}", "equal" if found == number else "DIFFERENT")
    table.add_row("in flight", "0", f"{result.in_flight:,}", "equal" if result.in_flight == 0 else "DIFFERENT")
    table.add_row("dead", "0", f"{result.dead:,}", "equal" if result.dead == 0 else "DIFFERENT")
    console = Console()
    console.print(table)
    decided = result.accepted + result.conflict + result.rejected
    lines = (
        f"{result.sent:,} different batches were sent; {decided:,} have their one verdict.",
        f"{len(result.lost)} lost, {len(result.doubled)} counted twice, {len(result.unexpected)} unexpected.",
        f"{result.keys:,} totals by hour and usage key: usage table = visible rows, "
        f"{len(result.differences)} differences.",
        f"By the sender's count:      {result.promised.bytes:,} bytes in {result.promised.records:,} records.",
        f"The visible rows of them:   {result.proven.bytes:,} bytes in {result.proven.records:,} records.",
    )
    for line in lines:
        console.print(Text(line))


def _print_rule(title: str) -> None:
    Console().print(Rule(Text(title, style="bold"), align="left"))
