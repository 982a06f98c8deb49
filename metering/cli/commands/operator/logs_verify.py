"""`metering logs verify`: every file of a bucket of logs has a plan, and every batch of it was accepted."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.command import Session, command, progress, say
from metering.cli.commands.operator.logs_app import logs
from metering.cli.durations import parse_duration
from metering.cli.failures import WrongUsageError
from metering.hours import rfc3339
from metering.onramps.reasons import FileReason
from metering.reports.answer import KEEP, ROOMY, Answer, Column
from metering.units import DAY_S, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from metering.onramps.coverage.exact import FileCheck
    from metering.onramps.names import FileName
    from metering.reports.answer import Json
    from metering.stores.objects import ObjectInfo

_COLUMNS = (
    Column(name="verdict", priority=KEEP),
    Column(name="source", text="copied"),
    Column(name="slot", kind="time"),
    Column(name="key", text="copied", priority=KEEP),
    Column(name="bytes", kind="bytes", priority=ROOMY, about="as stored"),
    Column(name="detail", text="prose", priority=ROOMY),
    Column(name="cure", text="copied", priority=ROOMY, about="the command that puts it right"),
)
_TELL_EVERY = 200
_CURES = 5
Row = dict[str, str | int | bool | None]


@command(
    logs,
    "verify",
    reads=True,
    epilog="Example:\n\n    metering logs verify s3://acme-logs/AWSLogs/ --since 7d",
)
def verify_logs(
    session: Session,
    place: Annotated[
        str, typer.Argument(metavar="PLACE", help="Bucket of logs and what the keys begin with: s3://bucket/prefix.")
    ],
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="DURATION",
            help="Only files that came within this time: 7d, 12h. Default: all that can be metered.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Name at most this many files.")] = 1_000,
) -> None:
    """Check that each log file of a bucket is metered; exit 0 only if that is so.

    It lists the files, and wants a plan for each and an accepted batch for each part of the plan. It names what is
    missing with the command that sends it. Sending all of it again changes nothing.
    """
    from metering.onramps.coverage.exact import WRONG, ExactCheck, FileVerdict
    from metering.onramps.kinds import recognised

    bucket, prefix = place_of(place)
    region = session.region()
    now_s = int(time.time())
    since_s = now_s - (parse_duration(since, "--since") if since else region.settings.window_s)

    def name_of(key: str) -> FileName | None:
        found = recognised(key)
        return None if found is None else found[1]

    check = ExactCheck(items=region.items, recognise=name_of, read_plan=region.coverage.read_plan, now_s=now_s)
    counts = {verdict.value: 0 for verdict in FileVerdict}
    named: list[Row] = []
    with _looking() as tell:
        files = _since(region.log_bucket(bucket).list(prefix), since_s, tell)
        for each in check.check(files):
            counts[each.verdict.value] += 1
            if each.verdict in WRONG and len(named) < limit:
                named.append(_row(each, bucket))
    _write(session, place, named, counts, (since_s, now_s))
    if any(counts[verdict.value] for verdict in WRONG):
        raise typer.Exit(1)


def place_of(text: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`.

    Raises:
        WrongUsageError: It is something else.
    """
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not text.startswith("s3://") or not bucket:
        raise WrongUsageError(f"{text} is no place in S3.", "Write it as s3://bucket/prefix.")
    return bucket, prefix


def _write(
    session: Session,
    place: str,
    named: list[Row],
    counts: dict[str, int],
    times_s: tuple[int, int],
) -> None:
    from metering.onramps.coverage.exact import WRONG

    since_s, now_s = times_s
    files, wrong = sum(counts.values()), sum(counts[verdict.value] for verdict in WRONG)
    document: dict[str, Json] = {
        "passed": not wrong,
        "since": rfc3339(since_s),
        "files": files,
        **counts,
        "rows": named,
    }
    told = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items() if count)
    session.write(
        Answer(
            columns=_COLUMNS,
            rows=named,
            document=document,
            empty=_all_well(counts),
            footer=(f"{counted(files, 'file')}: {told}.",) if named else (),
            commands=_cures(named, place, since_s, now_s),
        )
    )
    if wrong:
        say(f"{counted(wrong, 'file')} {'is' if wrong == 1 else 'are'} not metered.", style="bold red")
    if counts["unknown"]:
        have = "1 file has" if counts["unknown"] == 1 else f"{counts['unknown']:,} files have"
        say(f"{have} no name that AWS gives to a log that is metered; nobody can tell.", "yellow")
    if counts["recent"]:
        came = counted(counts["recent"], "file")
        say(f"{came} came in the last 30 minutes without a plan yet. To send what nothing sends by itself:")
        say(f"    metering ingest {place}")


def _all_well(counts: dict[str, int]) -> str:
    """What is said if no file is missing: how many are metered, and how many nobody can judge."""
    files = sum(counts.values())
    if not files:
        return "No file came in that time."
    judged = files - counts["recent"] - counts["unknown"]
    if judged == files:
        return "1 file, and it is metered." if files == 1 else f"{files:,} files, and each is metered."
    are = "is" if judged == 1 else "are"
    return f"{counted(files, 'file')}: {judged:,} {are} metered, and none is missing among those that can be judged."


def _row(check: FileCheck, bucket: str) -> Row:
    return {
        "verdict": check.verdict.value,
        "source": check.source,
        "slot": None if check.slot_s is None else rfc3339(check.slot_s),
        "key": check.key,
        "bytes": check.size_bytes,
        "detail": check.detail,
        "cure": _cure(check, bucket),
    }


def _cure(check: FileCheck, bucket: str) -> str:
    if check.verdict == "missing":
        return f"metering ingest s3://{bucket}/{check.key}"
    if check.verdict == "refused" and check.detail.startswith(FileReason.ACCOUNT_CONTRADICTS):
        return f"metering quarantine show s3://{bucket}/{check.key}"
    if check.verdict == "refused":
        return f"metering quarantine show {check.detail.rpartition(': ')[0]}"
    return "metering verify --wait 5m"


def _cures(named: list[Row], place: str, since_s: int, now_s: int) -> tuple[str, ...]:
    """What puts it right: a command for each file, or one for all if there are many."""
    missing = [row for row in named if row["verdict"] == "missing"]
    if len(missing) <= _CURES:
        return tuple(dict.fromkeys(str(row["cure"]) for row in named[:_CURES]))
    days = -(-(now_s - since_s) // DAY_S)
    return (f"metering ingest {place} --since {days}d",)


def _since(files: Iterable[ObjectInfo], since_s: int, tell: Callable[[int], object]) -> Iterator[ObjectInfo]:
    """The files that came since a time, while they are counted for the person who waits."""
    for number, info in enumerate(files):
        if number % _TELL_EVERY == 0:
            tell(number)
        if info.modified_s >= since_s:
            yield info


@contextmanager
def _looking() -> Iterator[Callable[[int], object]]:
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
        task = bar.add_task("files", total=None)
        yield lambda seen: bar.update(task, description=f"{seen:,} files")
