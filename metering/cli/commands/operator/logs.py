"""`metering logs`: sources of logs, with their ingested, missing and unclassified data."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli import fleet
from metering.cli.command import Session, bar, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.options import argument, family, option, switch
from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.hours import date_of, hour_of, rfc3339
from metering.ledger.notes.log_sources import LogFigures, LogRuling, LogRulingKind, LogSourceState, sum_log_sums
from metering.onramps.context.document import ContextUnreadableError
from metering.onramps.coverage.log_format import (
    LINE_BYTES,
    WORTH,
    FormatComparison,
    commands_of_owner,
    create_command,
    template_of_owner,
)
from metering.onramps.coverage.log_format import compare as compare_format
from metering.onramps.coverage.log_format import log_format as full_format
from metering.onramps.coverage.looking import count, slot_of, sums_between
from metering.onramps.sources import ORGANIZATION_WARNING
from metering.reports.answer import KEEP, Answer, Json, ListedRows, copied, integer, prose, timed
from metering.reports.time_range import time_range
from metering.units import DAY_S, GIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.fleet.settings.log_sources import LogSource
    from metering.reports.operators.log_answer import Overlap
    from metering.wiring.connection import RegionConnection

_WORTH = ListedRows(copied("field", priority=KEEP), prose("says", priority=KEEP, about="what it is for"))
_MILLION = 1_000_000

# The command group of this family; other modules add commands to it.
logs = family("Log sources: the files that each delivered, and the files that are missing.")


class FileForm(StrEnum):
    """Formats of flow log files."""

    TEXT = "text"
    PARQUET = "parquet"


@command(
    logs,
    "format",
    "metering logs format --bucket acme-logs --vpc vpc-0abc",
    "metering logs format --compare '${version} ${interface-id} ${bytes}'",
    reads=True,
)
def log_format(
    session: Session,
    bucket: Annotated[str, option("--bucket", "BUCKET", "Where it delivers to.")] = "BUCKET",
    prefix: Annotated[str | None, option("--prefix", "FOLDER", "Folder in the bucket.")] = None,
    vpc: Annotated[str, option("--vpc", "ID", "VPC that it logs.")] = "VPC",
    transit_gateway: Annotated[
        str | None, option("--transit-gateway", "ID", "Log a transit gateway instead of a VPC.")
    ] = None,
    files: Annotated[
        FileForm, typer.Option("--files", help="Format of the files; Parquet costs more to deliver and less to store.")
    ] = FileForm.TEXT,
    minutes: Annotated[
        int,
        typer.Option(
            "--minutes", help="Aggregation interval in minutes, 1 or 10. Nitro instances always use 1 minute."
        ),
    ] = 10,
    hive: Annotated[bool, switch("--hive", "Hive-style partition folders, for Athena.")] = False,
    compare: Annotated[
        str | None, option("--compare", "FORMAT", "Format of an existing flow log: shows the fields that it lacks.")
    ] = None,
) -> None:
    """Print the AWS command that creates a flow log with the recommended fields, and its cost per GB.

    The flow log has only ACCEPT traffic, because rejected traffic crosses no boundary, and no ports, because metering
    does not use ports, and they multiply the lines. The format of a flow log cannot be changed: create a second flow
    log, then delete the first.
    """
    if minutes not in {1, 10}:
        raise WrongUsageError(f"--minutes {minutes}: AWS aggregates over 1 minute or 10.", "Write --minutes 1 or 10.")
    resource = ("VPC", vpc) if transit_gateway is None else ("TransitGateway", transit_gateway)
    line = create_command(
        resource=resource,
        bucket=bucket,
        prefix=prefix or "",
        region=session.stated_region,
        parquet=files is FileForm.PARQUET,
        minutes=minutes,
        hive=hive,
    )
    if transit_gateway is not None:
        # A transit gateway's flow log has other fields, logs all of them by default, and aggregates over one minute.
        line = f"{line.partition(' --max-aggregation-interval')[0]} --max-aggregation-interval 60"
        line = line.replace(" --traffic-type ACCEPT", "")
    found = None if compare is None else compare_format(compare)
    session.write(
        _WORTH.answer(
            [(name, says) for name, says in WORTH.items() if found is None or name in found.lacks],
            document=_document(line, found, files),
            footer=(*_cost_text(files), *_compared_text(found)),
            empty="That format has all fields worth having.",
            commands=(line,),
        )
    )


def _usd_a_gb(files: FileForm) -> dict[str, Decimal]:
    """Prices in USD per GB, by charge. Text is not converted."""
    from metering.operations.own_costs import FLOW_LOG_USD

    return {name: usd for name, usd in FLOW_LOG_USD.items() if files is FileForm.PARQUET or "Parquet" not in name}


def _cost_text(files: FileForm) -> tuple[str, ...]:
    prices = _usd_a_gb(files)
    once = sum((usd for name, usd in prices.items() if not name.startswith("S3 storage")), Decimal(0))
    table = ", ".join(f"{name} {usd} USD" for name, usd in prices.items())
    size_gb = (Decimal(LINE_BYTES * _MILLION) / GIB).quantize(Decimal("0.01"))
    return (
        f"A GB of log before compression costs {once} USD once, at list prices of us-east-1 ({table}). A million lines "
        f"of these fields are about {size_gb} GB: {(once * size_gb).quantize(Decimal('0.01'))} USD.",
        "AWS never logs traffic to its own DNS, DHCP, ARP, instance metadata and time, nor mirrored traffic.",
    )


def _compared_text(found: FormatComparison | None) -> tuple[str, ...]:
    if found is None:
        return ()
    needed, more = ", ".join(found.needed), ", ".join(found.more)
    told = [f"Without {needed} no line of it can be metered."] if needed else []
    told += [f"Nothing is metered by {more}: they make its lines longer, and ports make many of one."] if more else []
    return tuple(told)


def _document(line: str, found: FormatComparison | None, files: FileForm) -> dict[str, Json]:
    document: dict[str, Json] = {
        "command": line,
        "format": full_format(),
        "fields": list(WORTH),
        "line_bytes": LINE_BYTES,
        "usd_a_gb": {name: str(usd) for name, usd in _usd_a_gb(files).items()},
    }
    if found is not None:
        document |= {"lacks": list(found.lacks), "needed": list(found.needed), "more": list(found.more)}
    return document


_ADDED = ListedRows(
    copied("bucket", priority=KEEP),
    prose("eventbridge", about="whether its events go to EventBridge"),
    integer("others", about="other notifications, untouched"),
    prose("settings", priority=KEEP),
)
_SWITCH = "EventBridgeConfiguration"
_UNFIT = re.compile(r"[^a-z0-9-]+")


@command(
    logs,
    "add",
    "metering logs add s3://acme-logs/AWSLogs/ --accounts shared-subnets --stage prod",
    "metering logs add s3://of-another/AWSLogs/ --accounts 111122223333 --print",
    reads=True,
    changes=True,
)
def add_source(
    session: Session,
    place: Annotated[str, argument("PLACE", "Log bucket and prefix of the keys: s3://bucket/prefix.")],
    accounts: Annotated[
        str,
        option(
            "--accounts",
            "ACCOUNTS",
            "Accounts that the log lines may bill, comma-separated; or `named`, the account in a file's name; or "
            "`shared-subnets`, also the accounts that the context shows in its subnets.",
        ),
    ] = "named",
    name: Annotated[
        str | None, option("--name", "NAME", "Name of the source in commands and alarms. Default: the bucket's.")
    ] = None,
    kinds: Annotated[str, option("--kinds", "KINDS", "Kinds of logs to meter, comma-separated.")] = "vpc-flow",
    key: Annotated[str | None, option("--kms-key", "ARN", "KMS key that encrypts the bucket's objects.")] = None,
    write: Annotated[
        Path | None, option("--write", "FILE", "Write the entry into this settings file, such as metering.toml.")
    ] = None,
    dry_run: Annotated[
        bool, switch("--print", "Change nothing; print the steps for the owner of the bucket, in any account.")
    ] = False,
) -> None:
    """Turn on notifications for new files in a log bucket, and show the entry to add to the stage's settings.

    The command shows the change to the bucket's notifications, and asks for confirmation. All other notifications stay:
    the command reads them, turns on EventBridge, and checks that no other notification changed meanwhile.
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
    switched = "turned on" if turned else "was on before"
    place = f"written to {write}" if write is not None else "to be added, as below"
    values = (bucket, switched, others, place)
    session.write(_ADDED.one(values, document={**_ADDED.document(values), "entry": entry}))
    _tell_entry(session, entry, source, written=write)


def entry_text(stage: str, source: LogSource) -> str:
    """The entry of a log source, as text for a settings file."""
    values = source.model_dump(mode="json", exclude_defaults=True)
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    return "\n".join([f"[[stage.{stage}.log_sources]]", *lines]) + "\n"


def _place_of(text: str) -> tuple[str, str]:
    """Split `s3://bucket/prefix` into bucket and prefix."""
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
    """Lines of the new notification configuration; each added line begins with `+`."""
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
    """Add an entry to a settings file, atomically."""
    from metering.cli.stages import settings_explained
    from metering.fleet.settings.layers import read

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


_RULING = ListedRows(
    copied("source", "ruling"),
    timed("first", about="slot that it is about"),
    timed("last"),
    integer("missing", about="slots that are no gap any more"),
    copied("by"),
    timed("at"),
)
_SLOT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?Z")
_DAYS = 7
_OVERLAPS_NAMED = 1_000


@command(logs, "list", "metering logs list --format table", reads=True, everywhere=True)
def list_sources(session: Session) -> None:
    """Show the state of log sources: those in the settings, and those whose files were ingested by hand.

    The log-context function checks the sources every 5 minutes. To look now: metering logs coverage
    """
    from metering.onramps.coverage.job import delivers_to_s3
    from metering.reports.operators.log_answer import list_answer

    now_s = int(time.time())

    def known(region: RegionConnection) -> Answer:
        job = region.coverage
        context = job.newest_context()
        elsewhere = [log for log in context.flow_logs.values() if not delivers_to_s3(log)] if context else []
        figures = job.figures() or LogFigures(looked_s=0)
        for source in region.log_sources:
            if source.bills_organization:
                say(f"{source.name}: {ORGANIZATION_WARNING}.", "yellow")
        return list_answer(job.states(), region.log_sources, elsewhere, figures, job, now_s=now_s)

    session.write(fleet.everywhere(session, known))


@command(
    logs, "coverage", "metering logs coverage", "metering logs coverage --from 2026-11-01 --format json", reads=True
)
def coverage(
    session: Session,
    start: Annotated[str | None, option("--from", "DATE", "First day to sum. Default: seven days ago.")] = None,
    end: Annotated[str | None, option("--to", "DATE", "End date of the sums, exclusive. Default: now.")] = None,
    source: Annotated[
        str | None, option("--source", "LOG", "Only this source: a flow log, a distribution or a bucket.")
    ] = None,
    gaps: Annotated[bool, switch("--gaps", "Only sources that have gaps or never delivered.")] = False,
    overlap: Annotated[
        bool, switch("--overlap", "Also search the rows for resources that two flow logs metered.")
    ] = False,
) -> None:
    """Check each log source for gaps, refused lines and unclassified bytes.

    A flow log writes a file every 5 minutes; if a slot has no file after 30 minutes, the slot counts as a gap.

    A scheduled job makes the same check every 5 minutes, for all files that can still be metered; no file is read
    twice.
    """
    from metering.reports.operators.log_answer import coverage_answer

    now_s = int(time.time())
    default_s = (now_s - _DAYS * DAY_S, now_s + 1)
    from_s, to_s = time_range(start, end, default_s=default_s, now_s=now_s, whole_hours=False)
    job = session.region().coverage
    with bar("sources") as move:
        figures = job.run(now_s, whole=True, tell=lambda done, whole: move(completed=done, total=whole))
    shown = [
        state
        for state in job.states()
        if (source is None or state.source == source) and (not gaps or state.missing or not state.came)
    ]
    if source is not None and not shown and not gaps:
        raise CommandFailedError(f"There is no source of logs {source}.", "To see all: metering logs list")
    sums = (
        (state, sum_log_sums(state.kind, state.source, "", sums_between(
            job.items, state.kind, state.source, from_s=from_s, to_s=to_s, unslotted=not start and not end
        )))
        for state in shown
    )  # fmt: skip
    days = (date_of(from_s), date_of(to_s - 1))
    twice = _overlaps(session, from_s, to_s) if overlap else None
    silent = _gateways_without_lines(session.region(), from_s, to_s)
    session.write(coverage_answer(sums, figures, job, now_s=now_s, days=days, overlaps=twice, silent=silent))


def _gateways_without_lines(region: RegionConnection, from_s: int, to_s: int) -> Sequence[tuple[str, str]] | None:
    """Gateways of the newest context without usage; None if it is unknown now."""
    from metering.billing.causes.gateways import gateways_without_lines
    from metering.onramps.context.store import ContextStore

    try:
        context = ContextStore(region.objects).newest()
        return None if context is None else gateways_without_lines(region.objects, context, from_s=from_s, to_s=to_s)
    except (ContextUnreadableError, ObjectMissingError, ObjectDamagedError):
        return None


def _overlaps(session: Session, from_s: int, to_s: int) -> list[Overlap]:
    """A few resources whose traffic two flow logs metered in the same hour."""
    from metering.reports.operators.log_answer import overlaps

    view = session.region().view
    return list(islice(overlaps(view, view.hours(from_s=hour_of(from_s), to_s=to_s)), _OVERLAPS_NAMED))


@command(
    logs,
    "accept-gap",
    "metering logs accept-gap fl-0abc 2026-11-24T13:05:00Z",
    "metering logs accept-gap fl-0abc all",
    reads=True,
    changes=True,
)
def accept_gap(
    session: Session,
    source: Annotated[str, argument("LOG", "Flow log, as `metering logs coverage` names it.")],
    slots: Annotated[
        str, argument("SLOTS", "One slot by its time, a range FIRST/LAST, or `all` slots that are missing now.")
    ],
) -> None:
    """Accept that the files of some slots never arrived. Accepted gaps no longer count, and no longer delay reports.

    If such a file still arrives, the file is metered as usual. The schedule applies the ruling within 5 minutes.
    """
    state = _known(session, source)
    first_s, last_s = _slots(slots, state)
    missing = count([(max(a, first_s), min(b, last_s)) for a, b in state.missing if a <= last_s and b >= first_s])
    times = rfc3339(first_s) if first_s == last_s else f"{rfc3339(first_s)} to {rfc3339(last_s)}"
    consequence = f"{missing} missing slots of {source} ({times}) are no gap any more, and no report waits for them."
    _rule(session, state, LogRulingKind.ACCEPT_GAP, (first_s, last_s), missing, consequence)


@command(logs, "forget", "metering logs forget fl-0abc", reads=True, changes=True)
def forget(
    session: Session, source: Annotated[str, argument("LOG", "Flow log, as `metering logs coverage` names it.")]
) -> None:
    """Stop reporting gaps and silence of a log source that has ended. Files that the source has delivered stay metered.

    If the source delivers again, it is tracked from that file on. The schedule applies the ruling within 5 minutes.
    """
    state = _known(session, source)
    missing = count(state.missing) + state.unlisted
    consequence = f"The {missing} missing slots of {source} and its silence are forgotten; no report waits for it."
    _rule(session, state, LogRulingKind.FORGET, (0, 0), missing, consequence)


def _rule(
    session: Session, state: LogSourceState, kind: LogRulingKind, slots: tuple[int, int], missing: int, consequence: str
) -> None:
    from metering.stores.writes import Put, Table

    region = session.region()
    subject = state.source if slots == (0, 0) else f"{state.source} {rfc3339(slots[0])}/{rfc3339(slots[1])}"
    with session.deed(what=f"logs {kind.value}", subject=subject, consequence=consequence) as done:
        now_s = int(time.time())
        ruling = LogRuling(
            kind=state.kind,
            source=state.source,
            ruling=kind,
            at_s=now_s,
            by=region.caller(),
            # Older slots can no longer be metered, so they are not gaps.
            expires_at=now_s + region.settings.window_s + DAY_S,
            first_s=slots[0],
            last_s=slots[1],
        )
        region.items.put(Put(table=Table.LEDGER, item=ruling.to_item()))
        done.result = f"{missing} missing slots are no gap any more"
    session.write(_RULING.one((state.source, kind, slots[0] or None, slots[1] or None, missing, ruling.by, now_s)))
    say("The schedule applies this within 5 minutes. To apply it now: metering logs coverage")


def _known(session: Session, source: str) -> LogSourceState:
    found = [state for state in session.region().coverage.states() if state.source == source]
    if not found:
        raise CommandFailedError(f"There is no source of logs {source}.", "To see all: metering logs list")
    return found[0]


def _slots(text: str, state: LogSourceState) -> tuple[int, int]:
    if text == "all":
        if not state.missing:
            raise CommandFailedError(f"{state.source} has no gap.", "To see all: metering logs coverage --gaps")
        return state.missing[0][0], state.missing[-1][1]
    first, _, last = text.partition("/")
    times = [slot_of(_moment(each)) for each in (first, last or first)]
    if times[0] > times[1]:
        raise WrongUsageError(f"{text} ends before it begins.", "Write FIRST/LAST, or one time.")
    return times[0], times[1]


def _moment(text: str) -> int:
    if not _SLOT.fullmatch(text):
        raise WrongUsageError(f"{text} is no time of a slot.", "Write it as 2026-11-24T13:05:00Z, FIRST/LAST, or all.")
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
