"""The list of all families of commands, read without importing any of them: adding a family is one entry here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Purpose(StrEnum):
    """What one wants; the headings of `metering --help`, in their order."""

    TRY = "Try it out"
    LOOK = "Look"
    BILL = "Money"
    CHECK = "Check"
    REPAIR = "Repair"
    RUN = "Deploy and operate"
    LEARN = "Help"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Where a family of commands, or a command that stands alone, is found.

    Attributes:
        name: The word to type.
        place: Module below `metering.cli.commands`, and the attribute that holds the `typer.Typer`.
        purpose: The heading that it stands under in `metering --help`.
        about: The first sentence of its help. A test compares it.
        alone: `name` is a command of the `typer.Typer`, and not the `typer.Typer` itself: `metering verify`.
        checkout: It needs a checkout of the project, which an installed package has not.
    """

    name: str
    place: str
    purpose: Purpose
    about: str
    alone: bool = False
    checkout: bool = False


FAMILIES: tuple[Family, ...] = (
    Family(
        name="demo", place="developer.demo:demo_app", purpose=Purpose.TRY, alone=True, checkout=True,
        about="Run the whole service here: start an emulator, deploy, replay traffic, prove, report, and stop again.",
    ),
    Family(
        name="local", place="developer.local:local", purpose=Purpose.TRY, checkout=True,
        about="The whole service on this machine: an AWS emulator on 127.0.0.1 with the stacks deployed.",
    ),
    Family(
        name="replay", place="developer.replay:replay_app", purpose=Purpose.TRY, alone=True,
        about="Send traffic to the ingest queue, and write a manifest of the messages with their expected verdicts.",
    ),
    Family(
        name="ingest", place="platform.ingest:ingest_app", purpose=Purpose.RUN, alone=True,
        about="Meter log files that exist already: each file once, whatever comes again.",
    ),
    Family(
        name="report", place="analyst.report:report", purpose=Purpose.LOOK,
        about="Totals of usage: who moved how many bytes from where to where.",
    ),
    Family(
        name="trace", place="analyst.report:trace_app", purpose=Purpose.LOOK, alone=True,
        about="Show what a number of a report is made of: its hours, batches and files, and three sums that must be "
        "equal.",
    ),
    Family(
        name="batch", place="operator.quarantine:batch", purpose=Purpose.LOOK,
        about="One batch: its verdict, and all that became of it.",
    ),
    Family(
        name="serve", place="analyst.query:serve_app", purpose=Purpose.LOOK, alone=True,
        about="Serve the HTTP API and the usage explorer on this machine, with your own credentials; it only reads.",
    ),
    Family(
        name="query", place="analyst.query:query_app", purpose=Purpose.LOOK, alone=True,
        about="Run SQL over `transfers` (every accepted record) and `usage` (exact totals), as of now, with DuckDB.",
    ),
    Family(
        name="accounts", place="analyst.report:accounts_app", purpose=Purpose.LOOK, alone=True,
        about="List the accounts of a month: bytes, records, first and last hour.",
    ),
    Family(
        name="cost", place="finance.cost:cost_app", purpose=Purpose.BILL,
        about="Show what usage costs: exact sums, by the price book in force, or as it was invoiced.",
    ),
    Family(
        name="prices", place="finance.prices:prices", purpose=Purpose.BILL,
        about="Prices of data transfer: books in versions that never change, their differences, and what has no price.",
    ),
    Family(
        name="organization", place="finance.cost:organization", purpose=Purpose.BILL,
        about="Payers and their accounts, effective by the hour, in versions that never change.",
    ),
    Family(
        name="storage", place="analyst.lake:storage", purpose=Purpose.LOOK,
        about="Size and cost of the bucket.",
    ),
    Family(
        name="period", place="analyst.periods:period", purpose=Purpose.LOOK,
        about="Billing months: list them, close one for good, show it, verify it.",
    ),
    Family(
        name="invoice", place="finance.invoice:invoice", purpose=Purpose.BILL,
        about="Invoices of data transfer: drafts, invoices that are issued for good, credit notes, and their proof.",
    ),
    Family(
        name="export", place="finance.invoice:export", purpose=Purpose.BILL,
        about="A month's charges in the forms that tools for bills read: FOCUS, and AWS's CUR 2.0.",
    ),
    Family(
        name="budget", place="finance.budget:budget", purpose=Purpose.BILL,
        about="Budgets in USD or bytes: alerts before a bill says it, and forecasts.",
    ),
    Family(
        name="anomalies", place="finance.budget:anomalies_app", purpose=Purpose.BILL, alone=True,
        about="Show days on which an account used far more of a usage type than on the same day of up to eight weeks "
        "before.",
    ),
    Family(
        name="verify", place="operator.verify:verify_app", purpose=Purpose.CHECK, alone=True,
        about="Check that nothing is lost and nothing is counted twice; exit 0 only if that is so.",
    ),
    Family(
        name="status", place="operator.status:status_app", purpose=Purpose.CHECK, alone=True,
        about="Show how a region is: version, completeness, queues, jobs, canary, alarms, sources, months and pager.",
    ),
    Family(
        name="doctor", place="operator.doctor:doctor_app", purpose=Purpose.CHECK, alone=True,
        about="Check that AWS behaves as the service relies on: on the first day, and after a change of roles.",
    ),
    Family(
        name="reconcile", place="analyst.lake:lake_app", purpose=Purpose.CHECK, alone=True,
        about="Compare markers, usage table and rows (lake and staging), hour by hour; exit 0 only if all are equal.",
    ),
    Family(
        name="compare", place="finance.cost:compare_app", purpose=Purpose.CHECK, alone=True,
        about="Compare a bill of AWS with what was metered, by account, usage type and day; judge it only with "
        "--tolerance.",
    ),
    Family(
        name="runbook", place="operator.doctor:runbook_app", purpose=Purpose.CHECK, alone=True,
        about="Show what to do about an alarm: its runbook, with the region and the stage in every command.",
    ),
    Family(
        name="errors", place="operator.status:errors_app", purpose=Purpose.CHECK, alone=True,
        about="Show what the functions logged as errors, grouped by what they say, the newest kind first.",
    ),
    Family(
        name="alerts", place="operator.status:alerts", purpose=Purpose.CHECK,
        about="Alarms with their state, and a test of who receives their alerts.",
    ),
    Family(
        name="sources", place="platform.producers:sources_app", purpose=Purpose.CHECK,
        about="Show the producers that number their batches: last number, last batch, and numbers that never arrived.",
    ),
    Family(
        name="logs", place="operator.logs:logs", purpose=Purpose.CHECK,
        about="Logs that exist already: their sources, the files that came of each, and those that did not.",
    ),
    Family(
        name="context", place="platform.context:context", purpose=Purpose.CHECK,
        about="Descriptions of networks beside their logs, in versions that never change: inventory, address ranges, "
        "flow logs.",
    ),
    Family(
        name="audit", place="operator.status:audit_app", purpose=Purpose.CHECK, alone=True,
        about="Show what was changed or deleted by command, newest first: who, when, what, and how it ended.",
    ),
    Family(
        name="dlq", place="operator.dlq:dlq", purpose=Purpose.REPAIR,
        about="Dead letters: batches that failed each time.",
    ),
    Family(
        name="drops", place="operator.dlq:drops", purpose=Purpose.REPAIR,
        about="Objects below `drop/` that S3 never announced: no batch came of them.",
    ),
    Family(
        name="quarantine", place="operator.quarantine:quarantine", purpose=Purpose.REPAIR,
        about="Refused batches and records, with every reason.",
    ),
    Family(
        name="rebuild", place="analyst.periods:rebuild", purpose=Purpose.REPAIR,
        about="Make derived items again from the rows, while the workers run.",
    ),
    Family(
        name="compact", place="analyst.lake:lake_app", purpose=Purpose.REPAIR, alone=True,
        about="Roll up what waits, turn all pending rows into lake files, then remove objects that are no longer "
        "needed.",
    ),
    Family(
        name="producers", place="platform.producers:producers", purpose=Purpose.RUN,
        about="Producers: who may send batches, for which accounts, and under which names.",
    ),
    Family(
        name="token", place="platform.producers:token", purpose=Purpose.RUN,
        about="Tokens of the HTTP API: who may ask it for what, until when.",
    ),
    Family(
        name="region", place="platform.region:region", purpose=Purpose.RUN,
        about="Regions of the stage: build them, show their state, take them out of service.",
    ),
    Family(
        name="deploy", place="platform.deploy:deploy_app", purpose=Purpose.RUN, alone=True,
        about="Deploy this checkout to a region: opt in, bootstrap, preflight, deploy, canary, bake.",
    ),
    Family(
        name="upgrade", place="platform.deploy:upgrade_app", purpose=Purpose.RUN, alone=True,
        about="Bring the regions where the stage is deployed to the version of this checkout, newer or older.",
    ),
    Family(
        name="uninstall", place="platform.deploy:uninstall_app", purpose=Purpose.RUN, alone=True,
        about="Take the stage out of service in all its regions, the home region last, and list what remains.",
    ),
    Family(
        name="settings", place="platform.settings:settings", purpose=Purpose.RUN,
        about="Settings of a stage: what it is deployed with, what metering.toml says, and the difference.",
    ),
    Family(
        name="help", place="developer.manual:manual_app", purpose=Purpose.LEARN, alone=True,
        about="Explain what holds for all commands: places, output, times, environment, and the words of the glossary.",
    ),
    Family(
        name="completion", place="developer.manual:manual_app", purpose=Purpose.LEARN, alone=True,
        about="Print the script that lets a shell complete commands, options and values.",
    ),
)  # fmt: skip
