"""`metering status`, `alerts`, `errors` and `audit`: state, alerts and errors of a region, and its audit trail."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli import failures
from metering.cli.command import Session, command, say
from metering.cli.fleet import answering, connections, everywhere, of_region
from metering.cli.options import argument, family, option, parse_duration
from metering.cli.printing.output import Format
from metering.hours import rfc3339
from metering.operations import logged_errors
from metering.operations.alarms import ALARMS, AlarmSpec, alarm_name
from metering.operations.runbooks import command_of
from metering.reports import usage_answer
from metering.reports.answer import KEEP, ROOMY, Answer, Json, ListedRows, RowType, copied, integer, prose, timed
from metering.reports.operators.producers_answer import deeds_answer
from metering.reports.time_range import time_range
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.operations.status import RegionStatus
    from metering.wiring.connection import RegionConnection


status_app = typer.Typer()

_EXAMPLES = """Examples:

    metering status
    metering status --region all --stage prod
    metering status --format json
"""

# Finds the name of the runbook in a cure that is not a command.
_RUNBOOK = re.compile(r"(?:^|, )runbook ([a-z-]+)")

_STATUS = ListedRows(
    copied("region", "what", "state", priority=KEEP), prose("value", priority=KEEP), copied("cure", priority=KEEP)
)


@command(status_app, "status", reads=True, everywhere=True, epilog=_EXAMPLES)
def status(session: Session) -> None:
    """Show the state of a region: version, completeness, queues, jobs, canary, alarms, sources, months and pager.

    Each line with a problem names what to do: a command, or a runbook. Exits with 1 if something needs a person's
    attention now. With --region all, the answer covers every region of the stage.
    """
    from metering.wiring.status import build_status

    found: list[RegionStatus] = []
    for region in connections(session):
        with answering(region.region):
            found.append(build_status(region).read())
    session.write(status_answer(found, stage=session.stage, as_of_s=int(time.time())))
    waiting = [each.region for each in found if each.needs_a_person]
    if waiting:
        say(f"A person is needed in {', '.join(waiting)}: see the lines that say act.", style="bold red")
        raise typer.Exit(1)


def _runbooks(found: list[RegionStatus], stage: str) -> tuple[str, ...]:
    """Commands that show the runbooks named in `found`."""
    named = [(each.region, name) for each in found for line in each.lines for name in _RUNBOOK.findall(line.cure)]
    return tuple(command_of(name, region=region, stage=stage) for region, name in dict.fromkeys(named))


def status_answer(found: list[RegionStatus], *, stage: str, as_of_s: int) -> Answer:
    """The status lines of all regions in one table."""
    regions: dict[str, Json] = {
        each.region: {
            "version": each.version,
            "complete_through": rfc3339(min(each.complete.through_s, as_of_s)),
            "held_back_by": usage_answer.held_back_document(each.complete.held_back_by),
            "periods": dict(each.periods),
            "alarms": list(each.firing),
            "figures": dict(each.figures),
        }
        for each in found
    }
    several, runbooks = len(found) > 1, _runbooks(found, stage)
    answer = _STATUS.answer(
        [(each.region, line.what, line.state, line.value, line.cure) for each in found for line in each.lines],
        meta={
            "stage": stage,
            "as_of": rfc3339(as_of_s),
            "well": not any(each.needs_a_person for each in found),
            "regions": regions,
        },
        title=f"Stage {stage} in {', '.join(each.region for each in found)}, as of {rfc3339(as_of_s)}",
        footer=("To read the runbooks:",) if runbooks else (),
        commands=runbooks,
    )
    return answer if several else replace(answer, columns=answer.columns[1:])


_TESTED = ListedRows(
    copied("severity", priority=KEEP), copied("protocol"), copied("subscriber", "state", priority=KEEP)
)
alerts = family("Alarms with their state, and a test of their receivers.")


@command(alerts, "test", reads=True, changes=True)
def send_test(
    session: Session,
    severity: Annotated[str | None, typer.Option("--severity", help="page or ticket. Default: both.")] = None,
) -> None:
    """Send a test alert through each topic, and show who receives it. The exit code is 1 if nobody is paged."""
    if severity not in {None, "page", "ticket"}:
        raise failures.WrongUsageError(f"--severity {severity} is not a severity.", "Write page or ticket.")
    region = session.region()
    chosen = [name for name in ("page", "ticket") if severity in {None, name}]
    paged = sum(each.confirmed for name in chosen for each in region.alerts.subscribers(name))
    consequence = f"{paged} {'subscriber gets' if paged == 1 else 'subscribers get'} a test alert now."
    with session.deed(what="alerts test", subject=" ".join(chosen), consequence=consequence) as done:
        rows = _tested(region, chosen)
        done.result = f"sent to {sum(state == 'sent' for *_, state in rows)} subscribers"
    session.write(_TESTED.answer(rows))
    if "page" in chosen and not any(name == "page" and state == "sent" for name, _, _, state in rows):
        raise failures.CommandFailedError(
            "An alarm would page no one: the page topic has no confirmed subscription.",
            "Add a subscription to the stage's table in metering.toml, run metering deploy, and confirm it. If it is a "
            "function or a queue, run this again in five minutes: then it is known whether this message arrived.",
        )


def _tested(region: RegionConnection, chosen: Sequence[str]) -> list[tuple[str, str, str, str]]:
    rows: list[tuple[str, str, str, str]] = []
    for name in chosen:
        fields: dict[str, str | int] = {
            "test": "This is a test. Nothing is wrong.",
            "stage": region.stage,
            "region": region.region,
            "at": rfc3339(int(time.time())),
        }
        region.alerts.send(name, f"TEST of metering {region.stage} in {region.region}", fields)
        found = [(name, each.protocol, each.endpoint, _sent(each)) for each in region.alerts.subscribers(name)]
        rows += found or [(name, "", "", "nobody")]
    return rows


def _sent(subscriber: logged_errors.Subscriber) -> str:
    if not subscriber.confirmed:
        return "not confirmed"
    return "sent" if subscriber.reached else "sent, never seen to arrive"


@command(alerts, "list", reads=True, everywhere=True)
def list_(session: Session) -> None:
    """Show every alarm with its state, its severity and its runbook."""
    session.write(everywhere(session, _alarms))


def _alarms(region: RegionConnection) -> Answer:
    states = {alarm.name: alarm.state for alarm in region.alarms.states()}
    table: RowType[AlarmSpec] = RowType(
        copied("alarm", of=lambda it: it.name, priority=KEEP),
        copied("severity"),
        copied("state", of=lambda it: states.get(alarm_name(region.stage, it.name), "not deployed"), priority=KEEP),
        prose("meaning"),
        copied("runbook", priority=ROOMY),
    )
    return table.answer(ALARMS)


errors_app = typer.Typer()

_ERRORS: RowType[logged_errors.LoggedError] = RowType(
    copied("function", priority=KEEP),
    prose("error", of=lambda it: it.text, priority=KEEP),
    integer("count", priority=KEEP),
    timed("first", of=lambda it: it.first_ms // 1000, priority=ROOMY),
    timed("last", of=lambda it: it.last_ms // 1000),
    copied("request_id", priority=ROOMY, about="invocation of the newest"),
    copied("version", priority=ROOMY),
)


@command(
    errors_app,
    "errors",
    "metering errors --since 1d",
    "metering errors aggregator --since 15m --format table",
    reads=True,
    everywhere=True,
)
def errors(
    session: Session,
    function: Annotated[
        str | None, argument("FUNCTION", "Such as aggregator. Default: all functions of the stage.")
    ] = None,
    since: Annotated[str, option("--since", "DURATION", "How far back to look, such as 15m, 1h or 2d.")] = "1h",
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="Read at most this many of the newest lines.")
    ] = 1_000,
) -> None:
    """Show the errors that the functions logged, grouped by message, the newest message first.

    The command searches CloudWatch Logs, which costs about 0.005 USD per GB of logs in the time range.
    """
    span_s = parse_duration(since, "--since")
    now_s = int(time.time())
    by = "No errors were logged" if function is None else f"{function} logged no errors"
    empty = f"{by} in the last {since}."
    full: list[str] = []

    def logged(region: RegionConnection) -> Answer:
        logs = region.function_logs
        if function is not None and function not in logs.functions:
            known = ", ".join(logs.functions)
            raise failures.WrongUsageError(f"There is no function {function}.", f"The functions are {known}.")
        names = logs.functions if function is None else [function]
        lines = logs.errors(names, from_s=now_s - span_s, to_s=now_s + 1, limit=limit)
        if len(lines) >= limit:
            full.append(region.region)
        return _ERRORS.answer(
            logged_errors.grouped(lines),
            meta={"from": rfc3339(now_s - span_s), "to": rfc3339(now_s), "truncated": len(lines) >= limit},
            empty=empty,
        )

    answer = everywhere(session, logged, newest="last")
    session.write(answer)
    if not answer.rows and session.chosen_format is not Format.TABLE:
        say(empty)
    for name in full:
        older = f"There may be older ones: only the newest {limit} lines were read. Use --limit, or a function."
        say(f"{of_region(session, name)}{older}", "yellow")


audit_app = typer.Typer()


@command(
    audit_app,
    "audit",
    "metering audit --from 2026-11",
    "metering audit --what 'period close' --format table",
    reads=True,
    everywhere=True,
)
def audit(
    session: Session,
    start: Annotated[
        str | None, option("--from", "TIME", "Only deeds begun at or after this time, date or month.")
    ] = None,
    end: Annotated[str | None, option("--to", "TIME", "Only deeds begun before this time, date or month.")] = None,
    what: Annotated[str | None, option("--what", "COMMAND", "Only this command or family, such as `period`.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many of the newest deeds.")] = 100,
) -> None:
    """Show what was changed or deleted by command, newest first: who, when, what, and how it ended.

    If the process of a deed was killed, the deed has a start but no end. The home region's ledger contains the deeds on
    regions.
    """
    now_s = int(time.time())
    from_s, to_s = time_range(start, end, default_s=(logged_errors.FIRST_MONTH_S, now_s + DAY_S), now_s=now_s)

    def trail(region: RegionConnection) -> Answer:
        deeds = logged_errors.DeedTrail(items=region.items).between(from_s, min(to_s, now_s + DAY_S))
        found = (deed for deed in deeds if what is None or f"{deed.what} ".startswith(f"{what} "))
        return deeds_answer(list(islice(found, limit + 1)))

    answer = everywhere(session, trail, newest="at", most=limit + 1)
    session.write(replace(answer, rows=answer.rows[:limit]))
    if len(answer.rows) > limit:
        say(f"There are more than {limit}. Use --limit, or narrow it down with --from, --to or --what.")
    if not answer.rows and session.chosen_format is not Format.TABLE:
        say(answer.empty)
