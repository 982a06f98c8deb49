"""Records the answers of the commands: `python -m tests.cli.record`, then review the snapshots' diff.

The commands in `LINES` run on the lively region, in order, in one process, with a stopped clock. To record a command,
add a line; a test fails if a read-only command has no line.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import os
import shlex
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import patch

from typer.testing import CliRunner

from metering.adapters.emulator.state import LocalState
from metering.billing.prices.book import NOT_SOLD, Override
from metering.billing.prices.store import OverrideStore, PriceStore
from metering.cli.app import app
from metering.cli.command import Session
from metering.cli.commands.developer.local import _status_answer, environment, environment_answer, outputs_answer
from metering.errors import SettingsError
from metering.fleet.ports import RegionStacks
from metering.fleet.regions import LedgerRegionStates
from metering.hours import hour_of
from metering.ledger.notes.access import Role
from metering.ledger.notes.watch import Completeness
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import ContextStore, capture_context
from metering.operations.access import TokenBook
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.wiring.region import Stage
from tests.cli.lively import FILES, NOW, REGION, Lively, LivelyFleet, lively_account
from tests.cli.recorded import FOLDER, Recorded, save
from tests.support import offer_files
from tests.support.bills import BILL
from tests.support.command_line import command_of, read_commands
from tests.support.kept_causes import keep_causes, record_of, row, stretch, unnamed
from tests.support.lake_world import NOW_S, record
from tests.support.priced import US_TIERS, allowance, book, product
from tests.support.small_logs import network_logs
from tests.support.usage_items import change, usage_of
from tests.unit.onramps.rules.world import WORLD
from tests.unit.operations.doctor.bench import World as DoctorWorld

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.cli.printing.table import Chart
    from metering.reports.answer import Answer

BEGAN_S = NOW_S - 2 * HOUR_S
OCTOBER_S = NOW_S - 30 * DAY_S
_SERVICES = ("AmazonEC2", "AmazonS3", "AWSLambda")
_PLACES = ("internet", "eu-west-1", "ap-southeast-9", "us-east-1/use1-az4", "cloudfront", "us-gov-west-1")

# SKU, usage type and price of October's usage that is not internet egress of us-east-1.
_PRICES = (
    ("INEUC1", "EUC1-APS3-AWS-In-Bytes", "0"),
    ("OUTAPS1", "APS1-UGW1-AWS-Out-Bytes", "0.09"),
    ("INUGW1", "UGW1-APS1-AWS-In-Bytes", "0"),
    ("OUTEU", "USE1-EU-AWS-Out-Bytes", "0.02"),
    ("OUTUSW2", "USE1-USW2-AWS-Out-Bytes", "0.02"),
    ("INUSE1", "USE1-ap-southeast-9-AWS-In-Bytes", "0"),
    ("REGUSW2", "USW2-Unclassified-Regional-Bytes", "0.01"),
    ("OUTAPN1", "APN1-DataTransfer-Out-Bytes", "0.114"),
    ("OUTEUC1", "EUC1-DataTransfer-Out-Bytes", "0.09"),
    ("NATUSW2", "USW2-NatGateway-Bytes", "0.045"),
)

# Name of the recording -> the typed command. `replay` comes first, because others show the results of its messages.
LINES: dict[str, str] = {
    "replay": "replay --scenario clean --batches 400 --records-per-batch 20 --duplicates 0.05 --conflicts 0.02 "
    "--malformed 0.06 --late 0.05 --threads 1 --manifest m.json",
    "verify": "verify --manifest m.json", "report-usage": "report usage",
    "report-usage-three-columns": "report usage --group-by account_id,usage_type,service --account 900100000000",
    "report-usage-detail": "report usage --account 123456789012 --group-by account_id,usage_type,from,to,hour "
    "--detail resource_id,batch_id --from 2026-11-24",
    "report-usage-chart": "report usage --group-by account_id --chart",
    "report-usage-chart-of-time": "report usage --group-by hour --last 2d --chart",
    "report-usage-top": "report usage --group-by account_id --top 5 --chart",
    "report-usage-empty": "report usage --account 999999999999", "cost": "cost --prices sample",
    "cost-tiers": "cost --prices sample --group-by account_id,tier --top 5",
    "cost-chart": "cost --prices sample --group-by service --chart",
    "cost-explain": "cost explain --account 123456789012 --hour 2026-11-24T11:00:00Z --usage-type "
    "DataTransfer-Out-Bytes --prices sample",
    "compare": "compare november.csv",
    "compare-judged": "compare november.csv --by month --top 2 --tolerance 1%",
    "query": 'query "SELECT from_location, to_location, count(*) AS records, sum(bytes) AS bytes FROM transfers '
    'GROUP BY ALL ORDER BY bytes DESC LIMIT 5"',
    "query-total": 'query "SELECT account_id, service, sum(bytes) AS total, avg(bytes) AS mean, '
    'max(start_time) AS newest FROM transfers GROUP BY ALL ORDER BY total DESC LIMIT 4"',
    "query-all-columns": 'query "SELECT * FROM transfers ORDER BY bytes DESC, batch_id LIMIT 6"',
    "query-empty": "query \"SELECT * FROM transfers WHERE service = 'AmazonRedshift'\"",
    "query-one-number": 'query "SELECT count(*) FROM transfers"',
    "ingest": "ingest --dry-run logs",
    "ingest-who": "ingest --dry-run --who logs --context ctx --accounts shared-subnets --top 12",
    "ingest-with-context": "ingest --dry-run logs --context ctx --accounts shared-subnets",
    "trace": "trace --account 123456789012 --usage-type DataTransfer-Out-Bytes --hour 2026-11-24T11:00:00Z",
    "trace-many": "trace --account 900100000000 --from 2026-11-24",
    "trace-empty": "trace --account 999999999999", "batch-show": "batch show batch-5",
    "batch-show-partly": "batch show edge-7f3a-bad", "batch-show-refused": "batch show edge-7f3a-000185",
    "quarantine-list": "quarantine list",
    "quarantine-list-one": "quarantine list --reason invalid_account_id --limit 1",
    "quarantine-list-empty": "quarantine list --reason too_late --to 2026-10",
    "quarantine-show": "quarantine show edge-7f3a-bad",
    "quarantine-retry": "quarantine retry --reason invalid_account_id --dry-run",
    "dlq-list": "dlq list", "sources": "sources", "sources-gaps": "sources --gaps",
    "sources-accept-gap": "sources accept-gap edge-7f3a all", "sources-forget": "sources forget lonely",
    "logs-list-empty": "logs list", "logs-coverage": "logs coverage", "logs-list": "logs list",
    "logs-accept-gap": "logs accept-gap fl-0b1b2c3d4e5f60719 2026-11-24T11:30:00Z",
    "logs-forget": "logs forget fl-0c1b2c3d4e5f60720", "logs-coverage-gaps": "logs coverage --gaps",
    "logs-add": "logs add s3://acme-logs/AWSLogs/ --accounts organization",
    "logs-format": "logs format --bucket acme-logs --vpc vpc-0a1b2c3d4e5f60718",
    "logs-format-compare": "logs format --compare 'version account-id interface-id srcaddr dstaddr srcport bytes'",
    "compact": "compact", "reconcile": "reconcile", "reconcile-result": "reconcile --result",
    "context-list-empty": "context list", "context-list": "context list", "context-show": "context show",
    "context-show-whose": "context show --whose 10.0.1.20,eni-alb,vpce-0123",
    "status": "status", "period-close-dry-run": "period close 2026-10 --dry-run",
    "period-close": "period close 2026-10 --yes --accept dead-letters",
    "period-list": "period list", "period-show": "period show 2026-10", "period-show-open": "period show 2026-11",
    "period-verify": "period verify 2026-10", "invoice-draft": "invoice draft --month 2026-11",
    "invoice-draft-one": "invoice draft --month 2026-11 --payer 123456789012",
    "invoice-issue": "invoice issue --month 2026-10", "invoice-show": "invoice show 123456789012-2026-10-1",
    "invoice-verify": "invoice verify 123456789012-2026-10-1",
    "invoice-credit": "invoice credit 123456789012-2026-10-1 --because 'The price of the contract was missing.'",
    "invoice-list": "invoice list",
    "producers-add": "producers add edge-7f3a --accounts 123456789012,210987654321 "
    "--role-arn arn:aws:iam::123456789012:role/edge-workload",
    "producers-list": "producers list", "producers-show": "producers show edge-7f3a",
    "producers-remove": "producers remove edge-7f3a",
    "budget-set": 'budget set egress --account 123456789012 --amount "0.000001 USD" --threshold "actual 80%" '
    '--threshold "forecast 100%"',
    "budget-list": "budget list", "budget-update": "budget update", "accounts": "accounts",
    "accounts-top": "accounts --prefix 12 --top 1",
    "accounts-closed": "accounts --month 2026-10 --sort bytes:desc",
    "accounts-empty": "accounts --account 999999999999", "budget-check": "budget check",
    "budget-forecast": "budget forecast egress", "anomalies": "anomalies", "budget-remove": "budget remove egress",
    "reports-list-empty": "reports list",
    "reports-add": "reports add accounts --every month --group-by account_id --top 10", "reports-make": "reports make",
    "reports-list": "reports list", "reports-show": "reports show accounts",
    "reports-remove": "reports remove accounts",
    "storage-report": "storage report", "errors": "errors --since 2d", "errors-one": "errors compactor",
    "errors-empty": "errors watch", "runbook": "runbook", "runbook-one": "runbook dead-letters --format table",
    "alerts-list": "alerts list", "alerts-test": "alerts test", "doctor": "doctor", "region-status": "region status",
    "region-status-one": "region status eu-west-1", "region-findings": "region status --findings",
    "region-plan": "region plan", "settings-show": "settings show",
    "settings-show-all": "settings show --region all --all", "settings-diff": "settings diff",
    "settings-diff-empty": "settings diff --settings deployed.toml",
    "settings-validate": "settings validate", "settings-fields": "settings fields",
    "upgrade-check": "upgrade --region all --check", "uninstall-dry-run": "uninstall --dry-run",
    "region-add": "region add sa-east-1 --outside-rules --no-pager",
    "region-reconcile": "region reconcile --no-pager", "deploy": "deploy --region all --no-pager",
    "upgrade-check-same": "upgrade --check", "region-remove": "region remove sa-east-1",
    "reconcile-different": "reconcile", "rebuild-usage": "rebuild usage", "rebuild-markers": "rebuild markers",
    "dlq-redrive": "dlq redrive", "audit": "audit", "audit-empty": "audit --what 'local reset'",
    "dlq-list-empty": "dlq list", "dlq-list-log-files": "dlq list --log-files",
    "prices-show": "prices show --prices sample --usage-type DataTransfer-Out-Bytes",
    "prices-import": "prices import offers/us-east-1.json offers/cloudfront.json --book acme --effective 2026-11",
    "prices-import-dearer": "prices import dearer.json --book acme",
    "prices-import-same": "prices import dearer.json --book acme", "prices-diff": "prices diff --prices acme",
    "prices-history": "prices history --prices acme", "prices-check": "prices check --prices acme",
    "prices-check-file": "prices check --file wrong.json",
    "prices-override-set": "prices override set --payer 999988887777 --percent-off 12.5 --from 2026-12 --why contract",
    "prices-override-list": "prices override list",
    "prices-override-remove": "prices override remove --payer 999988887777 --from 2026-12",
    "organization-show-empty": "organization show", "organization-set": "organization set payers.json",
    "organization-show": "organization show", "organization-history": "organization history",
    "owners-show-empty": "owners show", "owners-put": "owners put owners.toml",
    "owners-show": "owners show 1", "owners-history": "owners history",
    "token-list-empty": "token list",
    "token-create": "token create --role customer --account 123456789012 --days 30 --label 'portal of Acme'",
    "token-create-analyst": "token create --role analyst", "token-list": "token list",
    "token-revoke": "token revoke 5d41402abc4b2a76", "drops-list": "drops list", "drops-send": "drops send",
    "who": "who --account 123456789012", "who-gateway": "who nat-0a1b2c3d4e5f60718 --owners owners.toml",
    "who-top": "who nat-0a1b2c3d4e5f60718 --group-by workload,path,day --top 2 --owners owners.toml",
    "who-cost": "who nat-0a1b2c3d4e5f60718 --cost --group-by owner --owners owners.toml",
    "who-empty": "who --owner nobody --last 2d", "owners-try": "owners try owners.toml --last 7d",
    "savings": "savings", "what-if": "what-if gateway-endpoint", "what-if-empty": "what-if peering",
    "restore-show-empty": "restore show", "restore": "restore --to 2026-11-30T01:00:00Z --no-pager",
    "restore-show": "restore show", "restore-finish": "restore finish", "restore-finish-empty": "restore finish",
    "uninstall": "uninstall --delete-data", "uninstall-nothing": "uninstall",
}  # fmt: skip


def main() -> None:
    """Run all commands, and replace the stored answers."""
    answers: dict[str, Recorded] = {}
    region = Lively()
    _send(region)
    with _at_one_moment(region), tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, text in {**FILES, BILL.name: BILL.read_text()}.items():
            Path(name).write_text(text)
        for name, line in LINES.items():
            if name in BEFORE:
                BEFORE[name](region)
            answers[name] = _answer(shlex.split(line))
    answers |= _local_answers()
    for path in FOLDER.glob("*.json"):
        path.unlink()
    for name, recorded in answers.items():
        save(name, recorded)


def _send(region: Lively) -> None:
    """Send two months of traffic of producers that number their batches (one has lost batches), and refused batches."""
    world = region.world
    # A gap counts only when it is a quarter of an hour old.
    world.clock.advance_s(-HOUR_S)
    for number, (service, place) in enumerate(itertools.product(_SERVICES, _PLACES)):
        batch = [
            {**record(5**number + 7, start_s=BEGAN_S, to=place, resource=f"i-0abc{number:04}"), "service": service}
        ]
        world.send(batch, source="edge-7f3a")
        if number in {3, 8, 9, 15}:
            # All sources share the numbers, so where this source sends, the other source has gaps.
            world.send([record(1, start_s=BEGAN_S, account="210987654321")], source="lonely" if number == 3 else "")
    world.send([record(3 * 10**18, start_s=OCTOBER_S)], [record(1, start_s=OCTOBER_S, to="eu-west-1")])
    bad = [
        {**record(10, start_s=BEGAN_S), "account_id": "1234"},
        {**record(11, start_s=BEGAN_S), "bytes": "12.5"},
        record(12, start_s=BEGAN_S),
    ]
    dropped = f"s3:{hashlib.sha256(b'drop/one.ndjson').hexdigest()}"
    for batch_id in ("edge-7f3a-bad", dropped):
        body = {"schema": "metering.batch/1", "batch_id": batch_id, "record_count": 3, "records": bad}
        region.ingest.send_many([json.dumps(body)])
    region.ingest.send_many(["no JSON", json.dumps({"schema": "metering.batch/9", "batch_id": "edge-7f3a-000185"})])
    region.work()
    _scan(region)
    world.clock.advance_s(HOUR_S)


def _scan(region: Lively) -> None:
    """Run a complete pass of the reconciler, which notices gaps and stores the sources' state."""
    jobs = region.jobs
    jobs.reconciler_state.keep(jobs.reconciler.run(from_s=0, to_s=NOW_S + DAY_S, deep=False))


def _know(region: Lively) -> None:
    """Two contexts are kept; the second one knows whose some interfaces are."""
    store = ContextStore(region.world.objects)
    store.put(context_of(WORLD, hour_of(BEGAN_S)))
    described = copy.deepcopy(WORLD)
    main = described["regions"][0]
    by_id = {each["NetworkInterfaceId"]: each for each in main["NetworkInterfaces"]}
    by_id["eni-near"]["Attachment"] = {"InstanceId": "i-0a1b2c3d4e5f60718"}
    tags = {"aws:autoscaling:groupName": "ci-runners", "Name": "runner", "team": "search"}
    main["Tags"] = [{"ResourceId": "i-0a1b2c3d4e5f60718", "Key": key, "Value": tags[key]} for key in tags]
    endpoint = {"VpcEndpointId": "vpce-0123", "ServiceName": "com.amazonaws.us-west-2.sqs"}
    main["VpcEndpoints"] = [endpoint | {"NetworkInterfaceIds": ["eni-endpoint"]}]
    capture_context(described, store, BEGAN_S)


def _cause(region: Lively) -> None:
    """Causes of a NAT gateway are kept, with names, and there is a book of owners."""
    rows = [
        row(61 * 10**9), row(7 * 10**9, destination="S3.us-west-2", to="us-west-2"),
        unnamed(3 * 10**8, "ambiguous_address"),
        row(29 * 10**9, cause="i-0def", destination="AMAZON.us-west-2", basis="told", to="us-west-2"),
        row(2 * 10**6, cause="eni-0fed", destination="S3.us-west-2", basis="inventory", reason="below_node"),
    ]  # fmt: skip
    region.world.send([record_of(each) for each in rows])
    names = {
        "i-0abc": [stretch(workload="asg:ci-runners")],
        "i-0def": [stretch(workload="ecs:prod/indexer", team="search")],
        "eni-0fed": [stretch(workload="eks:prod/blue", team="search")],
    }
    keep_causes(region.world, rows, names)
    Path("owners.toml").write_text('[[rule]]\nowner = "search"\nwhen = { tag = { team = "search*" } }\n')


def _offers() -> None:
    """Write AWS offer files: the original, one with a later, higher price, and one with problems."""
    offer_files.every_region(Path("offers"))
    east = offer_files.offer("us-east-1")
    sku, _ = offer_files.INTERNET_OUT["us-east-1"]
    virginia = f"terms/OnDemand/{sku}/*"
    dearest = f"{virginia}/priceDimensions/{sku}.JRTCKXETXF.Q3Z75P77EN/pricePerUnit"
    later = offer_files.changed(east, f"{virginia}/effectiveDate", "2026-12-01T00:00:00Z")
    later["version"] = "20261115000000"
    dearer = offer_files.changed(later, dearest, {"USD": "0.1000000000"})
    wrong = offer_files.changed(east, dearest, {"EUR": "NaN"})
    offer_files.written(Path(), dearer=dearer, wrong=wrong)


def _payers() -> None:
    """Write a payer with two accounts, one of which leaves the payer later."""
    accounts = [
        {"id": "123456789012", "payer": "999988887777", "from": "2026-01-01T00:00:00Z", "to": None, "name": "web"},
        {"id": "210987654321", "payer": "999988887777", "from": "2026-01-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"},
    ]
    payer = {"id": "999988887777", "name": "Acme", "issuer": "Acme Cloud Team"}
    Path("payers.json").write_text(json.dumps({"payers": [payer], "accounts": accounts}))


def _owners() -> None:
    """Write a book with a rule that holds for a month, and a rule for every hour."""
    Path("owners.toml").write_text("""
[[rule]]
owner = "search"
when = { tag = { team = "search*" }, vpc = "vpc-0a1b2c3d4e5f60718" }
from = 2026-11-01T00:00:00Z
to = 2026-12-01T00:00:00Z

[[rule]]
owner = "ci"
when = { workload = "asg:ci-runners" }

[[network]]
name = "datadog"
cidrs = ["203.0.113.0/24", "2a0b:4140::/48"]
""")


def _import_prices(region: Lively) -> None:
    """Import a price book that prices all usage of October."""
    sold = {sku: product(sku, usage_type, ((None, price),)) for sku, usage_type, price in _PRICES}
    tiers = product("OUTUSE1", "DataTransfer-Out-Bytes", US_TIERS)
    made = book((tiers, *sold.values()), allowance("100", "OUTUSE1"), not_sold=NOT_SOLD)
    PriceStore(region.world.objects).put(replace(made, name="aws-list"))


def _agree_on_a_price(region: Lively) -> None:
    """Give a payer a price below the list price."""
    contract = Override(payer="123456789012", percent_off=10_000, why="contract of 2026")
    OverrideStore(region.world.objects).append(lambda _: (contract,))


def _leak(region: Lively) -> None:
    """Create a token with a known id."""
    ids = iter([bytes.fromhex("5d41402abc4b2a76"), bytes(32)])
    leaked = TokenBook(items=region.world.items, clock=region.world.clock, draw=lambda _size: next(ids))
    leaked.create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=region.caller(), label="leaked")


def _lose_a_drop(region: Lively) -> None:
    """Put an object without an S3 event notification, and run the watch."""
    world = region.world
    world.clock.advance_s(-HOUR_S)
    world.objects.put("drop/edge-7f3a/2026-11-24/part-0007.ndjson.gz", b"{}", if_absent=True)
    world.clock.advance_s(HOUR_S)
    now_s = world.clock.now_ms() // 1000
    world.items.put(Put(table=Table.LEDGER, item=Completeness(through_s=now_s, measured_s=now_s).to_item()))


# What is prepared before a command is typed.
BEFORE: dict[str, Callable[[Lively], None]] = {
    "drops-list": _lose_a_drop,
    "verify": lambda region: region.work(),
    "ingest": lambda _region: network_logs(Path()),
    "dlq-list": lambda region: region.lose_a_letter("edge-7f3a-000184"),
    "dlq-list-log-files": Lively.lose_log_files,
    "sources": _scan,
    "logs-coverage": Lively.deliver_logs,
    "context-list": _know,
    "audit": Lively.leave_a_trail,
    "prices-import": lambda _region: _offers(),
    "organization-set": lambda _region: _payers(),
    "owners-put": lambda _region: _owners(),
    "invoice-draft": _import_prices,
    "token-list": Lively.make_tokens,
    "token-revoke": _leak,
    "who": _cause,
    "invoice-credit": _agree_on_a_price,
    "restore-finish": lambda region: region.restoring.world.deploy(),
    "reconcile-different": lambda region: change(region.world.items, usage_of(region.world.items, "2026-11")[0], 1),
}


def _regions(region: Lively) -> Stage[Lively]:
    """Give the fleet more regions, which have no usage."""

    def connect(name: str) -> Lively:
        if name != region.region:
            raise SettingsError([f"stage local is not deployed in {name}"])
        return region

    kept = LedgerRegionStates(lambda: region.world.items).everything()
    states = SimpleNamespace(everything=lambda: [replace(state, deployments=0) for state in kept])
    return Stage(home=region.region, connect=connect, states=states)


def _at_one_moment(region: Lively) -> ExitStack:
    """Connect the commands to the region and stop the clock, so that recordings change only if answers change."""
    elapsed = itertools.count()
    clock = SimpleNamespace(time=lambda: NOW_S, time_ns=lambda: NOW_S * 10**9, monotonic=lambda: 1.5 * next(elapsed))
    stack = ExitStack()
    for target, value in {
        "time.time": lambda: NOW_S,
        "time.time_ns": lambda: NOW_S * 10**9,
        "metering.cli.commands.developer.replay.time": clock,
        "metering.cli.command.connect": lambda **_place: region,
        "metering.cli.command.Session.regions": property(lambda _session: _regions(region)),
        "metering.cli.command.emulated": lambda **_place: True,
        "metering.cli.command.refuse_aws_for_emulated": lambda _stage, **_place: None,
        "metering.wiring.fleet.Fleet": partial(LivelyFleet, lively=region, account=lively_account(region)),
        "metering.wiring.restoring.RegionRestore": lambda region: region.restoring,
        "metering.wiring.fleet.own_release": lambda: NOW,
        "metering.cli.deeds.package_version": lambda: NOW.version,
        "metering.cli.commands.platform.region.package_version": lambda: NOW.version,
        "metering.cli.commands.platform.deploy.own_release": lambda: NOW,
        # An emulator supports fewer checks, and one role has been changed.
        "metering.wiring.fleet.doctor_bench": lambda _region, *, thorough: DoctorWorld(
            reader_denied=not thorough, versioned=False, engine=None, starts={}
        ).bench(),
        "metering.operations.access.secrets": SimpleNamespace(
            token_bytes=lambda size: bytes.fromhex(region.world.entropy.token() * 2)[:size]
        ),
        "metering.adapters.aws.runtime.secrets": SimpleNamespace(
            token_hex=lambda _size: region.world.entropy.token(), randbelow=region.world.entropy.below
        ),
    }.items():
        stack.enter_context(patch(target, value))
    return stack


def _answer(line: list[str]) -> Recorded:
    kept: list[Recorded] = []

    def write(_session: Session, answer: Answer, *, chart: Chart | None = None) -> None:
        kept.append(Recorded(line=line, command=command_of(line), answer=answer, chart=chart))

    with patch.object(Session, "write", write):
        result = CliRunner().invoke(app, ["--endpoint", "http://127.0.0.1:9", *line])
    if len(kept) != 1:
        raise SystemExit(
            f"metering {shlex.join(line)} gave no answer: {result.output} {result.exception!r}"
        ) from result.exception
    return kept[0]


def _local_answers() -> dict[str, Recorded]:
    """Make the answers of `local` commands here, because the real `local` commands start processes."""
    state = LocalState(
        endpoint="http://127.0.0.1:4566", region=REGION, stage="local", pid=4711, began="1", deployed=True
    )
    up = _status_answer(state, running=True, deployed=True)
    down = _status_answer(None, running=False, deployed=False)
    data = {
        "DataBucketName": "metering-local-data-bucket",
        "IngestQueueUrl": f"{state.endpoint}/000000000000/metering-local-ingest",
        "UsageTableName": "metering-local-data-UsageTable",
    }
    found = dict(zip(RegionStacks.of("local").everywhere, (data, {"WatchFunctionName": "watch"}, {}), strict=True))
    made = {"local-up": up, "local-reset": up, "local-status": up, "local-status-down": down}
    made |= {"local-env": environment_answer(environment(state, found)), "local-outputs": outputs_answer(found)}
    lines = {name: name.split("-")[:2] for name in made}
    return {name: Recorded(line=lines[name], command=" ".join(lines[name]), answer=made[name]) for name in made}


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{len(list(Path(FOLDER).glob('*.json')))} answers of {len(read_commands())} read commands in", end=" ")
    print(f"{time.monotonic() - began:.0f} s. Now: python -m tests.cli.snapshots")
