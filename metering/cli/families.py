"""The list of all families of commands, read without importing any of them: adding a family is one entry here."""

from __future__ import annotations

from dataclasses import dataclass

# Headings of `metering --help` -> name, place, and the first sentence of its help (a test compares).
_LISTED: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Try it out": (
        ("demo", "developer.demo:demo_app",
         "Run the whole service on this machine: start an emulator, deploy, replay traffic, verify, report, and stop "
         "again."),
        ("local", "developer.local:local",
         "The whole service on this machine: an AWS emulator on 127.0.0.1 with the stacks deployed."),
        ("replay", "developer.replay:replay_app",
         "Send traffic to the ingest queue, and write a manifest of the messages with their expected verdicts."),
    ),
    "Look": (
        ("report", "analyst.report:report", "Totals of usage: who moved how many bytes from where to where."),
        ("trace", "analyst.report:trace_app",
         "Show what a number of a report is made of: its hours, batches and files, and three sums that must be equal."),
        ("batch", "operator.quarantine:batch", "One batch: its verdict, and everything that happened to it."),
        ("serve", "analyst.query:serve_app",
         "Serve the read-only HTTP API and the usage explorer on this machine, with your own credentials."),
        ("query", "analyst.query:query_app",
         "Run SQL over `transfers` (every accepted record) and `usage` (exact totals), as of now, with DuckDB."),
        ("accounts", "analyst.report:accounts_app",
         "List the accounts of a month: bytes, records, first and last hour."),
        ("storage", "analyst.lake:storage", "Size and cost of the bucket."),
        ("period", "analyst.periods:period", "Billing months: list them, close one for good, show it, verify it."),
    ),
    "Money": (
        ("cost", "finance.cost:cost_app",
         "Show the exact cost of usage, by the price book in force or as invoiced."),
        ("prices", "finance.prices:prices",
         "Prices of data transfer: immutable versions of price books, their differences, and usage without a price."),
        ("organization", "finance.cost:organization",
         "Payers and their accounts, effective by the hour, in immutable versions."),
        ("invoice", "finance.invoice:invoice",
         "Invoices of data transfer: drafts, issued invoices, credit notes, and their verification."),
        ("export", "finance.invoice:export",
         "A month's charges as files for billing tools, in the formats FOCUS and AWS CUR 2.0."),
        ("budget", "finance.budget:budget", "Budgets in USD or bytes, with forecasts and early alerts."),
        ("anomalies", "finance.budget:anomalies_app",
         "Show days on which an account used far more of a usage type than on the same day of up to eight "
         "weeks before."),
    ),
    "Check": (
        ("verify", "operator.verify:verify_app",
         "Check that nothing is lost or counted twice; exit 0 only if so."),
        ("status", "operator.status:status_app",
         "Show the state of a region: version, completeness, queues, jobs, canary, alarms, sources, months and pager."),
        ("doctor", "operator.doctor:doctor_app",
         "Check that AWS behaves as the service expects: on the first day, and after a change of roles."),
        ("reconcile", "analyst.lake:lake_app",
         "Compare markers, usage table and rows (lake and staging), hour by hour; exit 0 only if all are equal."),
        ("compare", "finance.cost:compare_app",
         "Compare an AWS bill with metered usage, by account, usage type and day; it fails only with --tolerance."),
        ("runbook", "operator.doctor:runbook_app",
         "Show what to do about an alarm: its runbook, with the region and the stage in every command."),
        ("errors", "operator.status:errors_app",
         "Show the errors that the functions logged, grouped by message, the newest message first."),
        ("alerts", "operator.status:alerts", "Alarms with their state, and a test of their receivers."),
        ("sources", "platform.producers:sources_app",
         "Show the producers that number their batches: last number, last batch, and numbers that never arrived."),
        ("logs", "operator.logs:logs",
         "Log sources: the files that each delivered, and the files that are missing."),
        ("context", "platform.context:context",
         "Network descriptions that logs are judged by: inventory, address ranges and flow logs, in immutable "
         "versions."),
        ("audit", "operator.status:audit_app",
         "Show what was changed or deleted by command, newest first: who, when, what, and how it ended."),
    ),
    "Repair": (
        ("dlq", "operator.dlq:dlq", "Dead letters: batches that failed at every receive."),
        ("drops", "operator.dlq:drops", "Objects below `drop/` that S3 never announced, so they became no batch."),
        ("quarantine", "operator.quarantine:quarantine", "Refused batches and records, with every reason."),
        ("rebuild", "analyst.periods:rebuild", "Rebuild derived items from the rows, while the workers run."),
        ("compact", "analyst.lake:lake_app",
         "Roll up waiting commits, turn all pending rows into lake files, then remove objects that are no longer "
         "needed."),
    ),
    "Deploy and operate": (
        ("ingest", "platform.ingest:ingest_app",
         "Meter existing log files: each file once, no matter how often it is ingested."),
        ("producers", "platform.producers:producers",
         "Producers: who may send batches, for which accounts, and under which names."),
        ("token", "platform.producers:token", "Tokens of the HTTP API: who may request what, and until when."),
        ("region", "platform.region:region",
         "Regions of the stage: build them, show their state, take them out of service."),
        ("deploy", "platform.deploy:deploy_app",
         "Deploy this checkout to a region: opt in, bootstrap, preflight, deploy, canary, bake."),
        ("upgrade", "platform.deploy:upgrade_app",
         "Bring the regions where the stage is deployed to the version of this checkout, newer or older."),
        ("uninstall", "platform.deploy:uninstall_app",
         "Take the stage out of service in all its regions, the home region last, and list what remains."),
        ("settings", "platform.settings:settings",
         "Settings of a stage: the deployed values, the values in metering.toml, and the difference."),
    ),
    "Help": (
        ("help", "developer.manual:manual_app",
         "Explain topics that all commands share: places, output, times, environment, and the words of the glossary."),
        ("completion", "developer.manual:manual_app",
         "Print the script that lets a shell complete commands, options and values."),
    ),
}  # fmt: skip
# Commands that need a checkout of the project, which an installed package lacks.
_OF_A_CHECKOUT = frozenset({"demo", "local"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Place of a family of commands, or of a command that stands alone.

    Attributes:
        name: The word to type.
        place: Module below `metering.cli.commands`, and the attribute that holds the `typer.Typer`.
        purpose: The heading that it stands under in `metering --help`.
        about: The first sentence of its help.
        checkout: It needs a checkout of the project.
    """

    name: str
    place: str
    purpose: str
    about: str
    checkout: bool


FAMILIES = tuple(
    Family(name=name, place=place, purpose=purpose, about=about, checkout=name in _OF_A_CHECKOUT)
    for purpose, families in _LISTED.items()
    for name, place, about in families
)
