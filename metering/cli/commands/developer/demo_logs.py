"""The act of `metering demo` that meters a flow log of a made-up network."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from metering.adapters.folders import FolderLogStore
from metering.cli.commands.developer.demo_stage import Demo, limited, seen, tell
from metering.cli.commands.operator.verify import rollup_of, wait_until_settled
from metering.cli.failures import CommandFailedError
from metering.cli.printing.output import Format, write_answer
from metering.hours import hour_of
from metering.onramps.bills import SHARED_SUBNETS
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import ContextStore
from metering.onramps.ingest.outcomes import RunTotals, outcome_of_taken
from metering.replay.network import OWNER, PARTNER, SLOT_S, LogFile, SmallNetwork, replica
from metering.reports.operators.ingest_answer import hint, totals_answer
from metering.reports.query import UsageQuery
from metering.reports.usage_table import UsageTable
from metering.units import DAY_S, HOUR_S
from metering.wiring.ingest import build_ingest
from metering.wiring.reports import build_verifier

_LINES = 5_000
_BEFORE_S = 2 * HOUR_S
_WAIT_S = 240


def meter_log(demo: Demo) -> None:
    """Take the log of one VPC and a copy of it, and compare the totals with the network's own count."""
    first_s = (demo.now_s - _BEFORE_S) // SLOT_S * SLOT_S
    network = SmallNetwork(demo.seed, first_s)
    file = seen("making traffic", lambda: network.file(_LINES))
    ContextStore(demo.region.objects).put(context_of(network.description(demo.now_s), hour_of(first_s)))
    totals = seen("reading the log and its copy", lambda: _taken(demo, file))
    limited("waiting", lambda: wait_until_settled(build_verifier(demo.region), _WAIT_S, rollup=rollup_of(demo.region)))
    write_answer(totals_answer(totals, dry_run=False, with_context=True), Format.TABLE, None)
    if why := hint(totals, with_context=True):
        tell(why)
    moved, counted = file.metered_bytes, _counted_bytes(demo, first_s)
    tell(f"The network moved {moved:,} bytes by its own count; the totals have {counted:,}.")
    tell("A copy of the file in another folder, compressed anew, came as well, and was not counted again.")
    if counted != moved or totals.failed or totals.files["repeated"] != 1:
        raise CommandFailedError("The log and the totals differ.", "The balance of the file is listed above.")


def _taken(demo: Demo, file: LogFile) -> RunTotals:
    """What became of the file and of a copy in another folder, compressed anew."""
    region, totals = demo.region, RunTotals()
    ingest = build_ingest(region, bucket=region.names.data_bucket, window_s=region.settings.window_s, contexts=None)
    with TemporaryDirectory() as folder:
        for each in (file, replica(file)):
            path = Path(folder) / each.bucket / each.key
            path.parent.mkdir(parents=True)
            path.write_bytes(each.body)
            taken = ingest.take(FolderLogStore(Path(folder)), f"{each.bucket}/{each.key}", bills=SHARED_SUBNETS)
            totals.add(outcome_of_taken(taken, len(each.body)))
    return totals


def _counted_bytes(demo: Demo, first_s: int) -> int:
    """What the usage table has for the network's accounts."""
    query = UsageQuery(
        from_s=hour_of(first_s - DAY_S), to_s=hour_of(demo.now_s) + HOUR_S, accounts=frozenset((OWNER, PARTNER))
    )
    usage = UsageTable(items=demo.region.items).usage(query, now_s=demo.now_s)
    return sum(total.bytes for _, total in usage)
