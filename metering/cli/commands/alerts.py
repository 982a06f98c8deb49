"""`metering alerts`: the alarms, and a test of who receives their alerts."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from metering.cli.command import Session, command
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.hours import rfc3339
from metering.operations.alarms import ALARMS, alarm_name
from metering.operations.ports import Subscriber
from metering.reports.answer import Answer, Cell, Column

alerts = typer.Typer(help="Alarms with their state, and a test of who receives their alerts.", no_args_is_help=True)


@command(alerts, "test", reads=True)
def send_test(
    session: Session,
    severity: Annotated[str | None, typer.Option("--severity", help="page or ticket. Default: both.")] = None,
) -> None:
    """Send a test alert through each topic, and show who receives it. Exits with 1 if no one is paged."""
    if severity not in {None, "page", "ticket"}:
        raise WrongUsageError(f"--severity {severity} is not a severity.", "Write page or ticket.")
    region = session.region()
    chosen = [name for name in ("page", "ticket") if severity in {None, name}]
    rows: list[dict[str, Cell]] = []
    for name in chosen:
        fields: dict[str, str | int] = {
            "test": "This is a test. Nothing is wrong.",
            "stage": region.stage,
            "region": region.region,
            "at": rfc3339(int(time.time())),
        }
        region.alerts.send(name, f"TEST of metering {region.stage} in {region.region}", fields)
        found = _subscriber_rows(region.alerts.subscribers(name))
        rows += [{"severity": name, **row} for row in found or [{"protocol": "", "subscriber": "", "state": "nobody"}]]
    columns = (Column(name="severity"), Column(name="protocol"), Column(name="subscriber"), Column(name="state"))
    session.write(Answer(columns=columns, rows=rows))
    if "page" in chosen and not any(row["severity"] == "page" and row["state"] == "sent" for row in rows):
        raise CommandFailedError(
            "An alarm would page no one: the page topic has no confirmed subscription.",
            "Add a subscription to the stage's settings (metering/fleet/stage.py), deploy, and confirm it.",
        )


@command(alerts, "list", reads=True)
def list_(session: Session) -> None:
    """Show every alarm with its state, its severity and its runbook."""
    region = session.region()
    states = {alarm.name: alarm.state for alarm in region.alarms.states()}
    rows: list[dict[str, Cell]] = [
        {
            "alarm": spec.name,
            "severity": spec.severity,
            "state": states.get(alarm_name(region.stage, spec.name), "not deployed"),
            "meaning": spec.meaning,
            "runbook": f"docs/runbooks/{spec.runbook}.md",
        }
        for spec in ALARMS
    ]
    columns = ("alarm", "severity", "state", "meaning", "runbook")
    session.write(Answer(columns=tuple(Column(name=name) for name in columns), rows=rows))


def _subscriber_rows(subscribers: Sequence[Subscriber]) -> list[dict[str, Cell]]:
    return [
        {
            "protocol": each.protocol,
            "subscriber": each.endpoint,
            "state": "sent" if each.confirmed else "not confirmed",
        }
        for each in subscribers
    ]
