"""`metering uninstall`: take a stage out of all its regions, with or without its data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.command import Session, command
from metering.cli.fleet import deploying_fleet, home_of
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.fleet.uninstall import Remaining

uninstall_app = typer.Typer()

_COLUMNS = (
    Column(name="region", text="copied", priority=KEEP),
    Column(name="kind", text="copied", priority=KEEP),
    Column(name="name", text="copied", priority=KEEP),
    Column(name="orphaned", kind="flag", priority=ROOMY, about="in no stack, so no command finds it again"),
    Column(name="delete_with", title="delete it with", text="copied", priority=KEEP),
)
# What deletes an orphan. Each protects itself: a table by its deletion protection, a bucket by what is in it, a key by
# a week of waiting.
_ENDS = {
    "bucket": "{aws} s3api delete-bucket --bucket {name} --region {region}",
    "table": "{aws} dynamodb update-table --table-name {name} --no-deletion-protection-enabled --region {region} && "
    "{aws} dynamodb delete-table --table-name {name} --region {region}",
    "key": "{aws} kms schedule-key-deletion --key-id {name} --pending-window-in-days 7 --region {region}",
    "queue": "{aws} sqs delete-queue --queue-url {name} --region {region}",
    "log": "{aws} logs delete-log-group --log-group-name {name} --region {region}",
}


@command(
    uninstall_app,
    "uninstall",
    reads=True,
    everywhere=True,
    changes=True,
    epilog="Example:\n\n    metering uninstall --stage dev",
)
def uninstall(
    session: Session,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also delete the data stacks: tables, bucket, queues. For good.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would remain, but do nothing.")] = False,
) -> None:
    """Take the stage out of service in all its regions, the home region last, and list what remains.

    Without --delete-data all data stays, and `metering deploy` takes it up again. With it, what the stage retains
    (prod: tables, bucket, key, queues, logs) still stays, in no stack: the list says how a person deletes each. It is
    refused while batches are in flight or in a dead-letter queue.
    """
    fleet = deploying_fleet(session)
    regions = fleet.uninstall.regions()
    if not regions:
        session.write(Answer(columns=_COLUMNS, rows=[], meta={"regions": []}, empty=_nowhere(session.stage)))
        return
    if dry_run:
        would = [each for name in regions for each in fleet.uninstall.would_remain(name, delete_data=delete_data)]
        title = f"Stage {session.stage} would leave, in this order: {', '.join(regions)}"
        session.write(_answer(would, regions, title=title, endpoint=session.endpoint))
        return
    consequence = (
        "Functions, alarms and dashboards are deleted in all regions, and so is the data, for good."
        if delete_data
        else "Functions, alarms and dashboards are deleted in all regions; no batch counts until the next deployment."
    )
    with session.deed(
        what="uninstall",
        subject=f"{session.stage}{' with its data' if delete_data else ''}",
        consequence=f"{consequence} Regions: {', '.join(regions)}.",
        typed=session.stage,
        ground=home_of(session, fleet),
    ) as done:
        remaining = fleet.uninstall.run(delete_data=delete_data)
        done.result = f"{len(regions)} regions left, {len(remaining)} resources remain"
    title = f"Stage {session.stage} left {', '.join(regions)}"
    session.write(_answer(remaining, regions, title=title, endpoint=session.endpoint))


def _nowhere(stage: str) -> str:
    return f"Stage {stage} is not deployed: there is nothing to remove."


def _answer(remaining: list[Remaining], regions: list[str], *, title: str, endpoint: str | None) -> Answer:
    return Answer(
        columns=_COLUMNS,
        rows=[_row(each, endpoint) for each in remaining],
        meta={"regions": regions},
        title=title,
        empty="Nothing of the stage remains but the bootstrap of the CDK, which other projects may use too.",
        footer=tuple(_end(remaining)),
    )


def _end(remaining: list[Remaining]) -> Iterator[str]:
    orphans = [each for each in remaining if each.orphaned]
    if kept := len(remaining) - len(orphans):
        yield f"{_resources(kept)} in the data stacks: `metering deploy` takes up again what is there."
    if orphans:
        yield f"{_resources(len(orphans))} and in no stack: delete what nobody needs."
    if any(each.kind == "bucket" for each in orphans):
        yield "Empty a bucket before you delete it, with all versions of its objects."


def _resources(number: int) -> str:
    return f"{number} resource{'' if number == 1 else 's'} kept"


def _row(each: Remaining, endpoint: str | None) -> dict[str, Cell]:
    # Version 1 of the AWS CLI ignores `AWS_ENDPOINT_URL` for some services.
    aws = f"aws --endpoint-url {endpoint}" if endpoint else "aws"
    end = _ENDS.get(each.kind, "").format(aws=aws, name=each.name, region=each.region)
    return {
        "region": each.region,
        "kind": each.kind,
        "name": each.name,
        "orphaned": each.orphaned,
        "delete_with": end if each.orphaned else "",
    }
