"""`metering ingest`: meters existing log files of AWS or, in a dry run, prints the totals that they would add."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.billing.home import owners_file
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.options import argument, option, parse_duration, switch
from metering.cli.printing.output import Format
from metering.onramps import kinds
from metering.onramps.sources import NAMED, SHARED_SUBNETS, Bills
from metering.reports.time_range import InvalidParametersError, time_range
from metering.units import counted, size_text

if TYPE_CHECKING:
    from metering.billing.owners import Owners
    from metering.cli.ingesting import Choice, Ran, Survey
    from metering.onramps.context.holders import Workloads
    from metering.onramps.context.store import ContextStore, Timeline
    from metering.onramps.ingest.taking import LogIngest
    from metering.onramps.ingest.trial import Looks, Overlap
    from metering.reports.answer import Answer
    from metering.wiring.onramps import RememberedContexts

ingest_app = typer.Typer()

_EXAMPLES = """Examples:

    metering ingest --dry-run ./flowlogs/
    metering ingest --dry-run s3://acme-logs/AWSLogs/ --since 1d --context ctx/
    metering ingest --dry-run --who ./flowlogs/ --context ctx/
    metering ingest s3://acme-logs/AWSLogs/ --since 7d

Then: metering verify --wait 10m
"""
_FAR_S = 4_102_444_800  # the year 2100
_ACCOUNT = re.compile(r"[0-9]{12}")
_FLOW_LOG = re.compile(r"fl-[0-9a-z]+")
# The balances of at most this many files are shown individually.
_MOST_FILES = 100_000
# At most this many names that are not UTF-8 are printed.
_MOST_SAID = 20


@command(ingest_app, "ingest", reads=True, changes=True, epilog=_EXAMPLES)
def ingest(
    session: Session,
    targets: Annotated[list[str], argument("LOGS", "File, folder or s3://bucket/prefix; several may be named.")],
    since: Annotated[
        str | None,
        option("--since", "SPAN|TIME", "Only files of the last 36h or 7d, or since a time, date or month."),
    ] = None,
    contexts: Annotated[
        Path | None, option("--context", "DIR", "Folder with contexts. Default: the contexts of the stage.")
    ] = None,
    no_context: Annotated[
        str | None,
        option(
            "--no-context",
            "FLOW_LOG_ID",
            "Flow log that no other flow log overlaps, so its files need no context.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, switch("--dry-run", "Show what would be metered, but meter nothing. Needs no stage.")
    ] = False,
    kind: Annotated[
        str | None, option("--kind", "KIND", "Kind of log, if the names of the files do not show it.")
    ] = None,
    mapping: Annotated[
        Path | None, option("--map", "FILE", "Mapping file that explains the columns of any other NDJSON or CSV log.")
    ] = None,
    fields: Annotated[
        str | None,
        option("--fields", "NAMES", "Fields of text files without a header line, separated by commas or blanks."),
    ] = None,
    accounts: Annotated[
        str | None,
        option(
            "--accounts",
            "IDS|shared-subnets",
            "Accounts that may be billed; or `shared-subnets`, those that the context shows in the subnets of the "
            "account in a file's name. Default: that account alone.",
        ),
    ] = None,
    who: Annotated[
        bool, switch("--who", "With --dry-run: show whose workloads move the bytes, and to where. Needs a context.")
    ] = False,
    owners: Annotated[
        Path | None, option("--owners", "FILE", "With --who: name the owners of workloads by this book, TOML or JSON.")
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="Number of rows of --who; 0 for all.")] = 40,
    detail: Annotated[
        bool, switch("--detail", "Show one row per file, with the outcome of its lines; with --who, one row per cause.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Number of files read in parallel.")] = 4,
) -> None:
    """Meter existing log files: each file once, no matter how often it is ingested.

    A file is identified by the name that AWS gave it, or else by its content. After Ctrl-C or a failure, the next run
    resumes the work and counts nothing twice. With --dry-run, nothing is metered, and no AWS account is required.

    Files on s3:// are read from AWS, even for a stage on an emulator, unless --endpoint is given.

    The exit code is 1 if a file is refused, or if its content changed since it was metered: such content is not in the
    totals.
    """
    from metering.cli.ingesting import Choice, Unnamed, surveyed, targets_of

    if mapping is not None and kind is not None:
        raise WrongUsageError("--kind and --map both say how to read the files.", "Give one of them.")
    if who and not dry_run:
        raise WrongUsageError("--who shows what a dry run finds, and meters nothing.", "Add --dry-run.")
    if owners is not None and (not who or detail):
        raise WrongUsageError("--owners names the owners in the rows of --who.", "Add --who, and leave --detail out.")
    book = None if owners is None else owners_file(owners)
    if not dry_run:
        # Permission is checked before anything is read.
        _ = session.endpoint
    unnamed = Unnamed()
    choice = Choice(
        targets=targets_of(targets, session, unnamed),
        since_s=_since(since),
        kind=_mapped(mapping) if mapping is not None else _known(kind),
        fields=tuple(re.split(r"[,\s]+", fields.strip())) if fields else (),
        bills=_bills(accounts),
        without_context_flow_log=_flow_log(no_context),
        contexts=contexts,
        jobs=jobs,
    )
    _check_contexts(contexts)
    survey = surveyed(choice)
    for path in islice(unnamed.paths, _MOST_SAID):
        say(f"Not read, for its name is no UTF-8: {path!r}", "yellow")
    if not survey.files:
        raise CommandFailedError(
            f"There is no log file in {', '.join(targets)}{' since ' + since if since else ''}.",
            _left_out(survey.left_out),
        )
    told = _Told(
        dry_run=dry_run,
        detail=detail or (session.chosen_format is Format.NDJSON and not who),
        who=who,
        top=top,
        owners=book,
    )
    _done(session, choice, survey, told, subject=", ".join(targets))
    if unnamed.paths:
        raise CommandFailedError(
            f"Not in these totals: {counted(len(unnamed.paths), 'path')} whose name is no UTF-8.",
            "Rename it, for the key of a file is text, and run this again: each file is metered once.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """Form of the answer.

    Attributes:
        dry_run: Nothing was metered.
        detail: One row a file; of causes, one row a cause.
        who: Whether causes are shown, at most `top` of them, with owners by the book `owners` if there is one.
        with_context: Whether the files' traffic was classified by a context.
        overlap: Traffic that several flow logs recorded; None if a context already checks for such traffic.
        looks: Guesses by addresses alone; None if a context judges.
    """

    dry_run: bool
    detail: bool
    who: bool
    top: int
    owners: Owners | None = None
    with_context: bool = True
    overlap: Overlap | None = None
    looks: Looks | None = None


def _done(session: Session, choice: Choice, survey: Survey, told: _Told, *, subject: str) -> None:
    """Process the files, and print the answer."""
    from metering.cli.ingesting import Ran, measuring, run, taking
    from metering.onramps.context.store import Timeline
    from metering.onramps.ingest.trial import Looks, Overlap

    most_files = _MOST_FILES if told.detail and not told.who else 0
    ran, workloads = Ran(), None
    if told.dry_run:
        contexts = _contexts(session, choice)
        timeline = contexts.timeline() if contexts is not None else Timeline()
        if told.owners is not None:
            timeline = timeline.with_networks(told.owners.networks)
        judged = bool(timeline.versions)
        if not judged:
            told = replace(told, with_context=False, overlap=Overlap(), looks=Looks())
        work = measuring(timeline, choice, told.overlap, told.looks, who=told.who)
        run(choice, survey, work, ran, most_files=most_files)
        workloads = _workloads(session, choice, timeline) if told.who else None
    else:
        consequence = (
            f"Meters {counted(survey.files, 'file')} with {size_text(survey.stored_bytes)}. "
            "What is accepted is metered, and stays on the bill."
        )
        with session.deed(what="ingest", subject=subject, consequence=consequence) as deed:
            ingest = _ingest(session, choice)
            try:
                run(choice, survey, taking(ingest, choice), ran, most_files=most_files)
            finally:
                files = sorted(ran.totals.files.items())
                counts = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in files)
                deed.result, deed.failed = f"files: {counts or 'none'}", ran.totals.failed
    _tell(session, ran, told, workloads)


def _answer(ran: Ran, told: _Told, workloads: Workloads | None) -> Answer:
    from metering.cli.causes import Book, causes_answer
    from metering.reports.operators.ingest_answer import files_answer, totals_answer

    if workloads is not None:
        book = None if told.owners is None else Book(told.owners, workloads.hour_s)
        return causes_answer(ran.totals, workloads, top=told.top, detail=told.detail, book=book)
    if told.detail:
        return files_answer(ran.files, ran.totals, dry_run=told.dry_run)
    return totals_answer(
        ran.totals, dry_run=told.dry_run, with_context=told.with_context, overlap=told.overlap, looks=told.looks
    )


def _tell(session: Session, ran: Ran, told: _Told, workloads: Workloads | None) -> None:
    from metering.reports.operators.ingest_answer import hint, overlap_sentence

    totals = ran.totals
    files = sum(totals.files.values())
    session.write(_answer(ran, told, workloads))
    if ran.lines:
        say(
            f"Read {counted(ran.lines, 'line')} in {ran.seconds:.1f} s: "
            f"{ran.lines / max(ran.seconds, 0.001):,.0f} lines/s."
        )
    if told.detail and not told.who and files > len(ran.files):
        say(f"Only the first {counted(len(ran.files), 'file')} are shown; the sums are of all.", "yellow")
    if told.overlap is not None and told.overlap.example is not None:
        say(overlap_sentence(told.overlap), "yellow")
    if unclassified := hint(totals, with_context=told.with_context, dry_run=told.dry_run):
        say(unclassified)
    if not totals.balance.holds:
        # A balance that differs is a defect, because a reader and the rules count the same lines.
        raise CommandFailedError("The balance of these files does not hold: lines or bytes are missing in it.")
    if not told.dry_run and totals.files["metered"]:
        say("To wait until it is in the totals: metering verify --wait 10m")
    if totals.failed:
        missing = totals.files["refused"] + totals.files["conflict"]
        raise CommandFailedError(
            f"{missing:,} of {counted(files, 'file')} {'is' if missing == 1 else 'are'} not in these totals.",
            _named_by(told),
        )


def _left_out(files: int) -> str:
    if not files:
        return ""
    if files == 1:
        return "1 file there has the name of no log that is metered; if it is one, say which: --kind"
    return f"{files:,} files there have names of no log that is metered; if they are logs, say which: --kind"


def _named_by(told: _Told) -> str:
    """Sentence that says where the files that are not in the totals are named."""
    if not told.dry_run:
        return "They are named in: metering quarantine list --kind file"
    return "Their problem stands in their rows." if told.detail else "To see each of them: --detail"


def _ingest(session: Session, choice: Choice) -> LogIngest:
    from metering.wiring.aggregator import need_operator
    from metering.wiring.onramps import build_ingest

    region = session.region()
    # Only the on-ramp and operators may send parts of log files.
    need_operator(region)
    bucket, window_s = region.names.data_bucket, region.settings.window_s
    causes = region.config.causes.enabled
    return build_ingest(region, bucket=bucket, window_s=window_s, contexts=choice.contexts, causes=causes)


def _contexts(session: Session, choice: Choice) -> RememberedContexts | None:
    """Contexts for a dry run: from the folder or, without one, from a named stage; otherwise none."""
    from metering.wiring.onramps import RememberedContexts

    store = _store(session, choice)
    return None if store is None else RememberedContexts(store)


def _store(session: Session, choice: Choice) -> ContextStore | None:
    from metering.onramps.context.store import ContextStore
    from metering.wiring.onramps import folder_contexts

    if choice.contexts is not None:
        return folder_contexts(choice.contexts)
    return None if session.named_stage is None else ContextStore(session.region().objects)


def _workloads(session: Session, choice: Choice, timeline: Timeline) -> Workloads:
    """Names of workloads by the newest context and its tags."""
    from metering.onramps.context.holders import Workloads

    store = _store(session, choice)
    if store is None or not timeline.versions:
        return Workloads(None)
    newest_s = timeline.versions[-1][0]
    return Workloads(timeline.at(newest_s), store.tags_at(newest_s))


def _check_contexts(folder: Path | None) -> None:
    """Refuse a folder that has no contexts, because they are required to classify the files."""
    from metering.wiring.onramps import folder_contexts

    if folder is not None and not folder_contexts(folder).timeline().versions:
        raise CommandFailedError(
            f"There is no context in {folder}, whose folder context/ would have it.",
            f"Capture one: metering context capture -o {shlex.quote(str(folder))}",
        )


def _known(kind: str | None) -> str | None:
    known = [each.name for each in kinds.KINDS]
    if kind is not None and kind not in known:
        raise WrongUsageError(f"--kind {kind} is no kind of log.", f"Write one of: {', '.join(known)}.")
    return kind


def _mapped(mapping: Path) -> kinds.LogKind:
    from metering.onramps.mapping import mapped_kind

    shown = "docs/mapping.toml shows one with every key."
    try:
        return mapped_kind(mapping.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandFailedError(f"The mapping {mapping} cannot be read: {error.strerror}.", shown) from error
    except UnicodeDecodeError as error:
        raise CommandFailedError(f"The mapping {mapping} is no text in UTF-8.", shown) from error


def _flow_log(text: str | None) -> str:
    if text is None:
        return ""
    if not _FLOW_LOG.fullmatch(text):
        raise WrongUsageError(f"--no-context {text} is no flow log.", "Write its id: fl-0a1b2c3d4e5f60718.")
    return text


def _since(text: str | None) -> int | None:
    """The time that `--since` states: as a duration before now, or as a time, date or month."""
    if text is None:
        return None
    now_s = int(time.time())
    if re.fullmatch(r"(\d+[dhms])+", text.strip().lower()):
        return now_s - parse_duration(text, "--since")
    try:
        return time_range(text, None, default_s=(0, _FAR_S), now_s=now_s)[0]
    except InvalidParametersError:
        raise WrongUsageError(
            f"--since {text} is neither a span nor a time.", "Write 36h, 7d, 2026-11-24, 2026-11 or yesterday."
        ) from None


def _bills(text: str | None) -> Bills:
    if text is None or text == NAMED.billed_as:
        return NAMED
    if text == SHARED_SUBNETS.billed_as:
        return SHARED_SUBNETS
    found = frozenset(filter(None, re.split(r"[,\s]+", text)))
    wrong = sorted(each for each in found if not _ACCOUNT.fullmatch(each))
    if wrong or not found:
        raise WrongUsageError(
            f"--accounts {text}: {', '.join(wrong) or 'nothing'} is no account.", "Write 12 digits, or shared-subnets."
        )
    return Bills.listed(found)
