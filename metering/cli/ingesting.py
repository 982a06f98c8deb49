"""Runs `metering ingest` over files, with a progress bar, and collects the outcome of each file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

from metering.cli import failures
from metering.cli.command import Session, progress, say
from metering.onramps import reading
from metering.onramps.ingest.outcomes import FileOutcome, RunTotals, outcome_of_taken
from metering.onramps.ingest.trial import Chosen, Looks, Overlap, Target, Trial, chosen, outcomes
from metering.onramps.kinds import KINDS, LogKind

if TYPE_CHECKING:
    from metering.onramps import sources
    from metering.onramps.context.store import Timeline
    from metering.onramps.ingest.taking import LogIngest


_S3 = "s3://"


# At most this many names that are not UTF-8 are stored.
_MOST_UNNAMED = 10_000


@dataclass(slots=True)
class Unnamed:
    """Paths that are not UTF-8: such files have no key, so they are not read. Mutable: file listings add paths."""

    paths: dict[str, None] = field(default_factory=dict)

    def add(self, path: str) -> None:
        """Record a path, unless the maximum number of paths is reached."""
        if len(self.paths) < _MOST_UNNAMED:
            self.paths[path] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Files to ingest, and how to ingest them.

    Attributes:
        targets: Files, folders and prefixes.
        since_s: Only files from this time on are ingested (epoch seconds); None for all files.
        kind: Kind of log of the files, or the kind's name; if None, the file names decide.
        fields: Field names for text files without a header line; empty if the files have header lines.
        bills: Accounts to which the files' lines may be billed.
        without_context_flow_log: Flow log that does not overlap any other flow log; empty if no flow log is named.
        contexts: Folder with contexts; None for the stage's contexts.
        jobs: Number of files that are read in parallel.
    """

    targets: Sequence[Target]
    since_s: int | None
    kind: LogKind | str | None
    fields: tuple[str, ...]
    bills: sources.Bills
    without_context_flow_log: str
    contexts: Path | None
    jobs: int

    @property
    def settings(self) -> reading.ReadSettings:
        return reading.ReadSettings(fields=self.fields)

    def files(self) -> Iterator[Chosen]:
        """The files to ingest, one at a time."""
        for target in self.targets:
            yield from chosen(target, KINDS, kind=self.kind, since_s=self.since_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Number and size of the files that will be read.

    Attributes:
        files: Number of files to read.
        stored_bytes: Their size as stored.
        left_out: Number of files whose names match no kind of log that is metered.
    """

    files: int
    stored_bytes: int
    left_out: int


def surveyed(choice: Choice) -> Survey:
    """Count the files of a choice while listing them once; the listing is never held in memory."""
    files = stored_bytes = left_out = 0
    for each in choice.files():
        if each.left_out is None:
            files += 1
            stored_bytes += each.info.size_bytes
        else:
            left_out += 1
    return Survey(files=files, stored_bytes=stored_bytes, left_out=left_out)


def targets_of(texts: Sequence[str], session: Session, unnamed: Unnamed | None = None) -> tuple[Target, ...]:
    """The targets, as typed.

    Args:
        texts: Files, folders and prefixes.
        session: Where buckets are.
        unnamed: Collects the paths that are not UTF-8.

    Raises:
        WrongUsageError: A text is not a valid target.
        CommandFailedError: A file does not exist.
    """
    return tuple(
        _in_bucket(text, session) if text.startswith(_S3) else _on_disk(text, unnamed or Unnamed()) for text in texts
    )


def _on_disk(text: str, unnamed: Unnamed) -> Target:
    from metering.adapters.folders import FolderLogStore

    path = Path(text)
    if path.is_dir():
        return Target(store=FolderLogStore(path, unnamed=unnamed.add), prefix="")
    if path.is_file():
        return Target(store=FolderLogStore(path.parent), prefix=path.name, single=True)
    raise failures.CommandFailedError(f"There is no file or folder {text}.", "A bucket is named as s3://bucket/prefix.")


def _local_endpoint(session: Session) -> str | None:
    """Endpoint of the local emulator, if the stage is for emulators."""
    from metering.adapters.emulator.state import running_endpoint
    from metering.fleet.settings.bases import runs_on_emulator

    return running_endpoint() if runs_on_emulator(session.stage) else None


def _in_bucket(text: str, session: Session) -> Target:
    # This import is slow, and only needed to read a bucket.
    from metering.wiring.onramps import log_bucket

    bucket, _, prefix = text.removeprefix(_S3).partition("/")
    if not bucket:
        raise failures.WrongUsageError(f"{text} names no bucket.", "Write it as s3://bucket/prefix.")
    # Logs are read where they are stored: on AWS even for an emulated stage, unless an endpoint is named.
    endpoint = session.named_endpoint or os.environ.get("AWS_ENDPOINT_URL") or None
    if endpoint is None and (local := _local_endpoint(session)):
        say(f"{text} is read from AWS. If it is a bucket of the local emulator: --endpoint {local}")
    store = log_bucket(bucket, os.environ, region=session.region_name, endpoint=endpoint)
    first = next(iter(store.list(prefix)), None)
    return Target(store=store, prefix=prefix, single=first is not None and first.key == prefix)


STOPPED = failures.CommandStoppedError(
    "You stopped it.",
    "Nothing is lost, and nothing is counted twice: the same command goes on where this one ended. A dry run, which "
    "keeps nothing, begins again.",
)


@contextmanager
def _bar(total_bytes: int) -> Iterator[Callable[..., None]]:
    """Show a progress bar of the bytes read. Yields what moves it: `advance` and `speed`."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with progress(*columns) as bar:
        yield partial(bar.update, bar.add_task("reading", total=total_bytes, speed=""))


Watch = Callable[[reading.Block[object]], None]
Work = Callable[[Chosen, Watch], FileOutcome]


@dataclass(slots=True, kw_only=True)
class Ran:
    """Results of a run. Mutable: filled while the run proceeds.

    Attributes:
        totals: Sums over its files.
        files: Outcomes of the files, if they were requested.
        lines: Lines that were read.
        seconds: Duration.
    """

    totals: RunTotals = field(default_factory=RunTotals)
    files: list[FileOutcome] = field(default_factory=list)
    lines: int = 0
    seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class _Progress:
    """Progress bar of a run in which several threads read files. Mutable.

    Attributes:
        move: Moves the bar.
        ran: Gets the lines.
        stopped: Set after the person has pressed Ctrl-C.
    """

    move: Callable[..., None]
    ran: Ran
    stopped: Event
    began: float = field(default_factory=time.monotonic)
    lock: Lock = field(default_factory=Lock)

    @contextmanager
    def file(self, size_bytes: int) -> Iterator[Watch]:
        """Yield a function that counts the blocks read from one file; `size_bytes` is the size as stored."""
        before = 0
        if self.stopped.is_set():
            raise STOPPED

        def watch(block: reading.Block[object]) -> None:
            nonlocal before
            if self.stopped.is_set():
                raise STOPPED
            # A file may be read twice. For a truncated file, the unpacked bytes count.
            upto = min(size_bytes, max(before, block.read_bytes))
            self._add(block.balance.lines, upto - before)
            before = upto

        yield watch
        # A file that is already known is not read again, so its bytes are counted immediately.
        self._add(0, size_bytes - before)

    def _add(self, lines: int, read_bytes: int) -> None:
        with self.lock:
            self.ran.lines += lines
            self.ran.seconds = time.monotonic() - self.began
            self.move(advance=read_bytes, speed=f"{self.ran.lines / max(self.ran.seconds, 0.001):,.0f} lines/s")


def taking(ingest: LogIngest, choice: Choice) -> Work:
    """Return the function that meters a file in a real run."""

    def take(chosen: Chosen, watch: Watch) -> FileOutcome:
        taken = ingest.take(
            chosen.store,
            chosen.info.key,
            etag=chosen.info.etag,
            bills=choice.bills,
            kind=choice.kind,
            settings=choice.settings,
            without_context_flow_log=choice.without_context_flow_log,
            watch=watch,
        )
        return outcome_of_taken(taken, chosen.info.size_bytes)

    return take


def measuring(
    timeline: Timeline,
    choice: Choice,
    overlap: Overlap | None = None,
    looks: Looks | None = None,
    *,
    who: bool = False,
) -> Work:
    """Return the function that measures a file in a dry run; without a context with what a `Trial` then looks at."""
    trial = Trial(
        kinds=KINDS,
        timeline=timeline,
        settings=choice.settings,
        kind=choice.kind,
        bills=choice.bills,
        overlap=overlap,
        looks=looks,
        who=who,
    )
    return trial.outcome


def run(choice: Choice, survey: Survey, work: Work, ran: Ran, *, most_files: int) -> None:
    """Process each file of a choice.

    Args:
        choice: The files to process, and the number of threads.
        survey: Sizes for the bar.
        work: Processes one file.
        ran: Receives totals and outcomes.
        most_files: Maximum number of outcomes that are stored.

    Raises:
        CommandStoppedError: The person pressed Ctrl-C. Completed work is kept.
    """
    with failures.first_interrupt_noted() as stopped, _bar(survey.stored_bytes) as move:
        bar = _Progress(move=move, ran=ran, stopped=stopped)

        def done(chosen: Chosen) -> FileOutcome:
            with bar.file(chosen.info.size_bytes) as watch:
                return work(chosen, watch)

        for outcome in outcomes(choice.files(), done, jobs=choice.jobs):
            told = ran.totals.add(outcome)
            if len(ran.files) < most_files:
                ran.files.append(told)
            if stopped.is_set():
                raise STOPPED
