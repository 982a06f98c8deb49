"""`metering alerts`: the alarms, and a test of who receives their alerts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import everywhere
from metering.cli.command import Session, command
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.hours import rfc3339
from metering.operations.alarms import ALARMS, alarm_name
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.operations.ports import Subscriber
    from metering.wiring.connection import RegionConnection

alerts = typer.Typer(help="Alarms with their state, and a test of who receives their alerts.", no_args_is_help=True)


@command(alerts, "test", reads=True, changes=True)
def send_test(
    session: Session,
    severity: Annotated[str | None, typer.Option("--severity", help="page or ticket. Default: both.")] = None,
) -> None:
    """Send a test alert through each topic, and show who receives it. Exits with 1 if no one is paged."""
    if severity not in {None, "page", "ticket"}:
        raise WrongUsageError(f"--severity {severity} is not a severity.", "Write page or ticket.")
    region = session.region()
    chosen = [name for name in ("page", "ticket") if severity in {None, name}]
    paged = sum(each.confirmed for name in chosen for each in region.alerts.subscribers(name))
    consequence = f"{paged} {'subscriber gets' if paged == 1 else 'subscribers get'} a test alert now."
    with session.deed(what="alerts test", subject=" ".join(chosen), consequence=consequence) as done:
        rows = _tested(region, chosen)
        done.result = f"sent to {sum(row['state'] == 'sent' for row in rows)} subscribers"
    columns = (
        Column(name="severity", text="copied", priority=KEEP),
        Column(name="protocol", text="copied"),
        Column(name="subscriber", text="copied", priority=KEEP),
        Column(name="state", text="copied", priority=KEEP),
    )
    session.write(Answer(columns=columns, rows=rows))
    if "page" in chosen and not any(row["severity"] == "page" and row["state"] == "sent" for row in rows):
        raise CommandFailedError(
            "An alarm would page no one: the page topic has no confirmed subscription.",
            "Add a subscription to the stage's table in metering.toml, run metering deploy, and confirm it.",
        )


def _tested(region: RegionConnection, chosen: Sequence[str]) -> list[dict[str, Cell]]:
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
    return rows


@command(alerts, "list", reads=True, everywhere=True)
def list_(session: Session) -> None:
    """Show every alarm with its state, its severity and its runbook."""
    session.write(everywhere(session, _alarms))


def _alarms(region: RegionConnection) -> Answer:
    states = {alarm.name: alarm.state for alarm in region.alarms.states()}
    rows: list[dict[str, Cell]] = [
        {
            "alarm": spec.name,
            "severity": spec.severity,
            "state": states.get(alarm_name(region.stage, spec.name), "not deployed"),
            "meaning": spec.meaning,
            "runbook": spec.runbook,
        }
        for spec in ALARMS
    ]
    columns = (
        Column(name="alarm", text="copied", priority=KEEP),
        Column(name="severity", text="copied"),
        Column(name="state", text="copied", priority=KEEP),
        Column(name="meaning", text="prose"),
        Column(name="runbook", text="copied", priority=ROOMY),
    )
    return Answer(columns=columns, rows=rows)


def _subscriber_rows(subscribers: Sequence[Subscriber]) -> list[dict[str, Cell]]:
    return [
        {
            "protocol": each.protocol,
            "subscriber": each.endpoint,
            "state": "sent" if each.confirmed else "not confirmed",
        }
        for each in subscribers
    ]
