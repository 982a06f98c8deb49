"""`metering demo`: runs the whole service on this machine, step by step from deployment to proof, then removes it."""

from __future__ import annotations

import io
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from metering.adapters.checkout import need
from metering.adapters.emulator.state import load_state, running_endpoint
from metering.audit import freshness
from metering.audit.verification import SentBatches, Verification, read_header, read_sent
from metering.cli import connecting, options
from metering.cli.command import Session, command
from metering.cli.commands.analyst.lake import NoDeadline, measure_storage, reconciliation_answer, storage_answer
from metering.cli.commands.analyst.query import query_answer
from metering.cli.commands.developer import local, replay
from metering.cli.commands.developer.demo_stage import Act, Demo, limited, perform, seen, show_end, tell
from metering.cli.commands.operator.verify import explain, rollup_of, wait_until_settled
from metering.cli.failures import CommandFailedError
from metering.cli.printing.output import Format, write_answer
from metering.hours import hour_of
from metering.intake.admission import Admission
from metering.replay.scenarios import SCENARIOS
from metering.reports import query
from metering.reports.source import UsageTable
from metering.reports.usage_answer import usage_answer
from metering.reports.usage_rows import grouped, in_order
from metering.units import DAY_S, HOUR_S, MINUTE_S, counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.replay.given import Traffic
    from metering.replay.synthesis import Shipment


_WINDOW_S = 36 * DAY_S
_WAIT_S = 240
_QUERY_S = 2 * MINUTE_S
# The timeout for sending assumes at least this rate; no machine was slower.
_SLOWEST_PER_S = 20
BATCHES = 1_500
RECORDS_PER_BATCH = 20
_REAL_BATCH = 20
_KEYS_PER_BATCH = 4
# The synthetic traffic covers the last three whole hours. As in production, hours with fewer rows wait for more rows.
_BUSY_S = 5 * HOUR_S
_TOP = 5
_SQL = (
    "SELECT from_location, to_location, count(*) AS records, sum(bytes) AS bytes "
    "FROM transfers GROUP BY ALL ORDER BY bytes DESC LIMIT 3"
)


def demo_traffic(
    batches: int, records_per_batch: int, seed: int, now_s: int, bucket: str, admission: Admission
) -> list[Traffic]:
    """The real lines, shifted to the present, and synthetic traffic; the totals depend only on the seed."""
    from metering.replay.given import SAMPLE, given_traffic, read_records, synthetic_traffic

    # Few usage keys per batch: the emulator takes most of the demo's time, and spends most of it on usage keys.
    scenario = replace(SCENARIOS["mixed"], records_per_batch=records_per_batch, keys_per_batch=_KEYS_PER_BATCH)
    return [
        given_traffic(read_records([SAMPLE]), _REAL_BATCH, now_s, admission=admission),
        synthetic_traffic("mixed", scenario, batches, seed, now_s, bucket),
    ]


def _deploy(demo: Demo) -> None:
    state = limited("the deployment", lambda: local.start_local(demo.region_name, "local", name=demo.name))
    # The demo must not touch the user's own AWS account.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    demo.deployed = connecting.connect(endpoint=state.endpoint, region=state.region, stage=state.stage, environ=environ)


def _send(demo: Demo) -> None:
    """Send all traffic, and the conflicts last: the first content sent for an id counts, so totals are repeatable."""
    from metering.wiring.reports import build_verifier

    manifest = io.StringIO()
    conflicts: list[Shipment] = []
    bucket, admission = demo.region.names.data_bucket, Admission.of(demo.region.settings)
    traffics = demo_traffic(demo.batches, demo.records_per_batch, demo.seed, demo.now_s, bucket, admission)
    for traffic in traffics:
        _send_one(demo, replace(traffic, shipments=_without_conflicts(traffic.shipments, conflicts)), manifest)
    verifier = build_verifier(demo.region)
    limited("waiting", lambda: wait_until_settled(verifier, _WAIT_S, rollup=rollup_of(demo.region)))
    again = replace(traffics[-1], messages=len(conflicts), shipments=conflicts)
    _send_one(demo, again, manifest)
    demo.sent = SentBatches.collect(read_sent(_lines_of_messages(manifest)))
    limited("waiting", lambda: wait_until_settled(verifier, _WAIT_S, rollup=rollup_of(demo.region)))
    tell(f"Sent and processed: {counted(demo.sent.distinct + demo.sent.expected['duplicate'], 'message')}.")


def _send_one(demo: Demo, traffic: Traffic, manifest: io.StringIO) -> None:
    more_s = traffic.messages // _SLOWEST_PER_S
    limited("sending", lambda: replay.send_traffic(demo.region, traffic, manifest), more_s=more_s)


def _without_conflicts(shipments: Iterable[Shipment], conflicts: list[Shipment]) -> Iterator[Shipment]:
    for shipment in shipments:
        if shipment.sent.expect == "conflict":
            conflicts.append(shipment)
        else:
            yield shipment


def _lines_of_messages(manifest: io.StringIO) -> Iterator[str]:
    """The lines of several manifests, without the manifests' header lines."""
    for line in manifest.getvalue().splitlines(keepends=True):
        if line.startswith('{"manifest"'):
            read_header(line)
        else:
            yield line


def _prove(demo: Demo) -> None:
    from metering.wiring.reports import build_verifier

    verifier, expected = build_verifier(demo.region), demo.sent.expected
    from_s, to_s = demo.now_s - _WINDOW_S, demo.now_s + DAY_S
    result = seen(
        "reading every marker, total and row", lambda: verifier.verify(from_s=from_s, to_s=to_s, sent=demo.sent)
    )
    show_proof(result, expected)
    explain(result)
    if not result.passed or any(getattr(result, verdict) != number for verdict, number in expected.items()):
        raise CommandFailedError("The proof failed.", "The differences are listed above.")


def _report(demo: Demo) -> None:
    from rich.console import Console

    from metering.cli.printing.table import bars
    from metering.replay.given import SAMPLE, read_records

    source = UsageTable(items=demo.region.items)
    accounts = frozenset(str(record["account_id"]) for record in read_records([SAMPLE]).records)
    # The range consists of whole hours, so that the heading matches the counted usage.
    real = query.UsageQuery(
        from_s=hour_of(demo.now_s - _WINDOW_S),
        to_s=hour_of(demo.now_s) + HOUR_S,
        group_by=("usage_type",),
        accounts=accounts,
        order=query.Order(column="bytes", descending=True),
        top=_TOP,
    )
    rows = seen("adding up", lambda: in_order(grouped(source.usage(real, now_s=demo.now_s), real), real))
    answer = usage_answer(real, rows, as_of_s=demo.now_s, complete=freshness.Complete(through_s=0, held_back_by=()))
    _print_heading("The real lines, largest usage types")
    others, total = answer.footer[:2]
    more = f"and {len(rows) - _TOP:,} more, summed in the last line: metering report usage shows all."
    counted = "All that was sent is counted, as the proof shows. Later, reports say up to when that is known."
    write_answer(replace(answer, footer=(more if answer.others else others, total, counted)), Format.TABLE, None)
    top = query.UsageQuery(from_s=real.from_s, to_s=real.to_s, group_by=("account_id",))
    sizes = [(row.values[0], row.total.bytes) for row in grouped(source.usage(top, now_s=demo.now_s), top)]
    _print_heading("Top accounts, with the made-up traffic")
    Console().print(bars(sizes, most=_TOP))


def _show_lake(demo: Demo) -> None:
    """Compact and reconcile the hours that have traffic, and print the cost."""
    from metering.wiring.biller import connected_biller

    # Each of three hours has a third of the synthetic records. Each hour fills one lake file; other rows stay pending.
    file_rows = max(1, demo.batches * demo.records_per_batch // 5)
    jobs, since_s = demo.region.jobs, demo.now_s - _BUSY_S
    compactor = jobs.compactor_of(replace(jobs.policy, file_rows=file_rows))
    compacted = seen("compacting", lambda: compactor.run(NoDeadline()))
    tell(f"{counted(compacted.rows, 'row')} are in {counted(compacted.files, 'file')} of Parquet now.")
    checks = seen("reconciling", lambda: jobs.reconciler.run(from_s=since_s, to_s=demo.now_s + DAY_S))
    records = sum(check.rows.records for check in checks.checks)
    equal = not checks.different and not checks.unstable
    verdict = "equal" if equal else "DIFFERENT"
    tell(
        f"{counted(len(checks.checks), 'hour')}, {counted(records, 'record')}: "
        f"markers, usage table and lake are {verdict}."
    )
    costs = storage_answer(seen("measuring", lambda: measure_storage(demo.region, from_s=since_s)))
    tell(next((line for line in costs.footer if line.startswith("Storage saved")), ""))
    if demo.keep:
        # The biller makes the list of accounts for the page, and the biller's next scheduled run may be an hour away.
        seen("summing accounts", lambda: connected_biller(demo.region, [demo.region]).run(NoDeadline()))
    if not equal:
        write_answer(reconciliation_answer(checks), Format.TABLE, None)
        raise CommandFailedError("Markers, usage table and lake differ.", "The hours are listed above.")


def _query(demo: Demo) -> None:
    _print_heading(f'metering query "{_SQL}"')
    since_s, to_s = demo.now_s - _BUSY_S, demo.now_s + DAY_S
    answer = seen("querying", lambda: query_answer([demo.region], _SQL, from_s=since_s, to_s=to_s, timeout_s=_QUERY_S))
    write_answer(answer, Format.TABLE, None)


def _meter_log(demo: Demo) -> None:
    from metering.cli.commands.developer.demo_costs import meter_log

    meter_log(demo)


def _show_costs(demo: Demo) -> None:
    from metering.cli.commands.developer.demo_costs import show_costs

    show_costs(demo)


def show_proof(result: Verification, expected: dict[str, int]) -> None:
    """Print the verdicts found beside the verdicts that the manifests expect."""
    from rich.console import Console
    from rich.table import Table as RichTable

    _print_heading("Proof: what was sent, and what became of it")
    table = RichTable("verdict")
    table.add_column("must be, by the manifest", justify="right")
    table.add_column("found", justify="right")
    table.add_column("")
    for verdict, number in {**expected, "in flight": 0, "dead": 0}.items():
        found = getattr(result, verdict.replace(" ", "_"))
        table.add_row(verdict, f"{number:,}", f"{found:,}", "equal" if found == number else "DIFFERENT")
    Console().print(table)
    decided = result.accepted + result.conflict + result.rejected
    lines = (
        f"{result.sent:,} different batches were sent; {decided:,} have their one verdict.",
        f"{len(result.lost)} lost, {len(result.doubled)} counted twice, {len(result.unexpected)} unexpected.",
        f"{result.keys:,} totals by hour and usage key: usage table = visible rows, "
        f"{len(result.differences)} differences.",
        f"By the sender's count:      {result.promised.bytes:,} bytes in {counted(result.promised.records, 'record')}.",
        f"The visible rows of them:   {result.proven.bytes:,} bytes in {counted(result.proven.records, 'record')}.",
    )
    for line in lines:
        tell(line)


def _print_heading(title: str) -> None:
    from rich.console import Console

    from metering.cli.printing.table import print_heading

    print_heading(Console(), title)


ACTS: tuple[Act, ...] = (
    Act(
        name="deploy",
        about="an AWS emulator starts on this machine, and CDK deploys queue, functions, tables and bucket to it.",
        play=_deploy,
        needed=True,
    ),
    Act(
        name="send",
        about="338 lines of real AWS bills go to the queue, and made-up messages with copies, conflicts, late and "
        "broken ones.",
        play=_send,
        needed=True,
    ),
    Act(
        name="proof",
        about="is every byte counted once? The sender kept its own count, apart from the service.",
        play=_prove,
    ),
    Act(name="report", about="exact totals by hour and usage type, added up as asked.", play=_report),
    Act(
        name="cost",
        about="the real lines cost what AWS billed for them, to the last digit; and a draft says what they cost alone.",
        play=_show_costs,
    ),
    Act(
        name="lake", about="busy hours are compacted into Parquet, and compared with the totals again.", play=_show_lake
    ),
    Act(name="query", about="SQL over every accepted record.", play=_query),
    Act(
        name="log",
        about="the flow log of a made-up network is metered by usage type, with what it cannot say and why; its copy "
        "is not counted again; and who causes the bytes of its NAT gateways.",
        play=_meter_log,
    ),
)


demo_app = typer.Typer()


@command(demo_app, "demo")
def demo(
    session: Session,
    batches: Annotated[
        int,
        typer.Option("--batches", min=1, help="Number of synthetic messages, sent in addition to the real messages."),
    ] = BATCHES,
    records_per_batch: Annotated[
        int, typer.Option(min=2, max=1_000, help="Records in each synthetic message.")
    ] = RECORDS_PER_BATCH,
    seed: Annotated[int, typer.Option(help="The same seed in the same hour gives the same traffic.")] = 1,
    keep: Annotated[
        bool,
        options.switch(
            "--keep",
            "Keep the service running, and print a link to its usage explorer. To stop it: metering local down",
        ),
    ] = False,
) -> None:
    """Run the whole service on this machine: start an emulator, deploy, replay traffic, verify, report, and stop again.

    The demo needs no AWS account and no container, takes about a minute, and leaves nothing behind, unless --keep is
    given. If a step fails, the demo reports the failure and continues with the next steps.
    """
    # The check fails before the first act begins.
    need("demo")
    began = time.monotonic()
    region, now_s = session.stated_region, int(time.time())
    show = Demo(
        region_name=region, now_s=now_s, batches=batches, records_per_batch=records_per_batch, seed=seed, keep=keep
    )
    if keep and (endpoint := running_endpoint()):
        raise CommandFailedError(f"A local stage is up already at {endpoint}.", "Stop it first: metering local down")
    local.stop_leftovers(show.name)
    link = None
    try:
        played = perform(ACTS, show)
        link = _link(show)
    finally:
        if link is None:
            local.stop_leftovers(show.name)
    show_end(played, time.monotonic() - began, link=link)
    failed = [each.name for each in played if each.failed]
    if failed:
        raise CommandFailedError(f"Of the demo failed: {', '.join(failed)}.", "What went wrong stands above.")


def _link(show: Demo) -> str | None:
    """Return the link to the page, if the stage is deployed and is kept after the demo."""
    state = load_state(show.name) if show.keep and show.deployed is not None else None
    return None if state is None else local.page_link(state)
