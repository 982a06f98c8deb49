"""`metering logs add`: the bucket's side of a log source, and the entry that the stage's settings need."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.command import Session, command, say
from metering.cli.commands.operator.logs_format import logs
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.onramps.sources import ORGANIZATION_WARNING
from metering.reports.answer import KEEP, Answer, Column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.fleet.settings.log_sources import LogSource

_COLUMNS = (
    Column(name="bucket", text="copied", priority=KEEP),
    Column(name="eventbridge", text="prose", about="whether its events go to EventBridge"),
    Column(name="others", kind="integer", about="other notifications, untouched"),
    Column(name="settings", text="prose", priority=KEEP),
)
_SWITCH = "EventBridgeConfiguration"
_UNFIT = re.compile(r"[^a-z0-9-]+")


@command(
    logs,
    "add",
    reads=True,
    changes=True,
    epilog="Examples:\n\n    metering logs add s3://acme-logs/AWSLogs/ --accounts shared-subnets --stage prod\n"
    "    metering logs add s3://of-another/AWSLogs/ --accounts 111122223333 --print",
)
def add_source(
    session: Session,
    place: Annotated[
        str, typer.Argument(metavar="PLACE", help="Bucket of logs and what the keys begin with: s3://bucket/prefix.")
    ],
    accounts: Annotated[
        str,
        typer.Option(
            "--accounts",
            metavar="ACCOUNTS",
            help="Accounts that its lines may bill, with commas between them; named: that of a file's name alone; "
            "shared-subnets: also those that the context shows in its subnets.",
        ),
    ] = "named",
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Its name in commands and alarms. Default: the bucket's."),
    ] = None,
    kinds: Annotated[
        str, typer.Option("--kinds", metavar="KINDS", help="Kinds of logs that are metered, with commas.")
    ] = "vpc-flow",
    key: Annotated[
        str | None, typer.Option("--kms-key", metavar="ARN", help="Key that its objects are encrypted with.")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Write the entry into this settings file, such as metering.toml."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--print", help="Change nothing: print what the owner of the bucket does, of any account.")
    ] = False,
) -> None:
    """Let a bucket of logs announce its new files, and say which entry the settings of the stage need.

    It shows the change of the bucket's notifications and asks. All other notifications stay: it reads what is there,
    adds the switch for EventBridge, and looks whether nobody else changed it meanwhile.
    """
    bucket, prefix = _place_of(place)
    source = _source(session, bucket, prefix, accounts=accounts, name=name, kinds=kinds, key=key)
    entry = entry_text(session.stage, source)
    if dry_run:
        _print_for_owner(session, source)
        _tell_entry(session, entry, source, written=None)
        return
    events = session.region().bucket_events
    _check_region(session, bucket, events.region_of(bucket))
    before = events.configuration(bucket)
    others = sum(len(each) for each in before.values() if isinstance(each, list))
    turned = _SWITCH not in before
    if turned or write is not None:
        consequence = _consequence(bucket, others, turned=turned, write=write)
        for line in _change(before) if turned else ():
            say(line)
        with session.deed(what="logs add", subject=source.plain().place, consequence=consequence) as done:
            if write is not None:
                _write_entry(write, entry, session.stage)
            if turned:
                events.turn_on(bucket, before)
            done.result = "EventBridge gets its events" if turned else "EventBridge had its events before"
    row: dict[str, str | int | bool | None] = {
        "bucket": bucket,
        "eventbridge": "turned on" if turned else "was on before",
        "others": others,
        "settings": f"written to {write}" if write is not None else "to be added, as below",
    }
    session.write(Answer(columns=_COLUMNS, rows=[row], document={**row, "entry": entry}))
    _tell_entry(session, entry, source, written=write)


def entry_text(stage: str, source: LogSource) -> str:
    """The entry of a log source in a settings file."""
    values = source.model_dump(mode="json", exclude_defaults=True)
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    return "\n".join([f"[[stage.{stage}.log_sources]]", *lines]) + "\n"


def _place_of(text: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`.

    Raises:
        WrongUsageError: It is something else.
    """
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not text.startswith("s3://") or not bucket:
        raise WrongUsageError(f"{text} is no place in S3.", "Write it as s3://bucket/prefix.")
    return bucket, prefix


def _source(
    session: Session, bucket: str, prefix: str, *, accounts: str, name: str | None, kinds: str, key: str | None
) -> LogSource:
    from pydantic import ValidationError

    from metering.fleet.settings.log_sources import LogSource

    listed = [each for each in re.split(r"[,\s]+", accounts) if each]
    try:
        return LogSource.model_validate({
            "name": name or f"logs-{_UNFIT.sub('-', bucket)}"[:32].rstrip("-"),
            "bucket": bucket,
            "region": session.region_name,
            "prefix": prefix,
            "kinds": tuple(each for each in re.split(r"[,\s]+", kinds) if each),
            "accounts": accounts.strip() if listed and not listed[0].isdecimal() else tuple(listed),
            "kms_key_arn": key or "",
        })  # fmt: skip
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise WrongUsageError(f"This is no log source: {problems}.", "See: metering logs add --help") from error


def _check_region(session: Session, bucket: str, region: str) -> None:
    if region != session.region_name:
        raise CommandFailedError(
            f"{bucket} is in {region}, and its files are metered by the deployment there.",
            f"Name that region: --region {region}",
        )


def _change(before: Mapping[str, object]) -> Sequence[str]:
    """The change of the configuration, line by line as a person reads differences."""
    after = {**before, _SWITCH: {}}
    old = json.dumps(before, indent=2, sort_keys=True).splitlines()
    new = json.dumps(after, indent=2, sort_keys=True).splitlines()
    kept = {line.rstrip(",") for line in old}
    return [f"{' ' if line.rstrip(',') in kept else '+'} {line}" for line in new]


def _consequence(bucket: str, others: int, *, turned: bool, write: Path | None) -> str:
    stay = f"its {others} other notifications stay" if others else "it has no other notifications"
    told = [f"{bucket} sends its events to EventBridge, too; {stay}"] if turned else []
    told += [f"an entry is added to {write}"] if write is not None else []
    return f"{'; '.join(told)}."


def _write_entry(path: Path, entry: str, stage: str) -> None:
    """Add an entry to a settings file; the file is whole, or as it was before."""
    from metering.cli.stages.options import settings_explained
    from metering.fleet.settings.file import read

    text = path.read_text() if path.exists() else ""
    if text and not text.endswith("\n"):
        text += "\n"
    trial = path.with_name(f".{path.name}.new")
    trial.write_text(f"{text}\n{entry}" if text else entry)
    try:
        with settings_explained():
            found = read(trial)
            problems = [problem for problem in found.problems() if f"[stage.{stage}]" in problem]
        if problems:
            raise CommandFailedError(
                f"{path} with this entry would not be right: {'; '.join(problems)}.".replace(trial.name, path.name),
                "Put it right by hand. Nothing was written.",
            )
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)


def _tell_entry(session: Session, entry: str, source: LogSource, *, written: Path | None) -> None:
    if source.plain().bills_organization:
        say(f"{ORGANIZATION_WARNING}.", "yellow")
    if written is None:
        say("The stage meters it once this stands in its settings file, metering.toml:")
        for line in entry.splitlines():
            say(f"    {line}")
    say("Then deploy it:")
    say(f"    metering deploy --region {source.region} --stage {session.stage}")
    say("And send what came before, which changes nothing that is metered already:")
    say(f"    metering ingest {source.plain().place} --since 34d --region {source.region} --stage {session.stage}")


def _print_for_owner(session: Session, source: LogSource) -> None:
    """What the owner of a bucket in another account does."""
    from metering.onramps.coverage.bucket_owner import commands_of_owner, template_of_owner

    say("The owner of the bucket types, for its notifications:")
    for line in commands_of_owner(source.bucket):
        say(f"    {line}")
    say("If the bucket is of another account, its owner deploys this template there; ACCOUNT is that of the stage:")
    for line in template_of_owner(source.bucket, source.prefix, region=source.region, stage=session.stage).splitlines():
        say(f"    {line}")
    say("And you let its events in, with OWNER for its account:")
    say(
        f"    aws events put-permission --region {source.region} --principal OWNER "
        f"--statement-id metering-{session.stage}-logs --action events:PutEvents"
    )
