"""A run of `metering ingest` over files, with its progress and its outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.cli.endings import first_interrupt_noted
from metering.cli.ingesting.progress import STOPPED, reading
from metering.onramps.ingest.choosing import Chosen
from metering.onramps.ingest.outcomes import FileOutcome, RunTotals, outcome_of_taken
from metering.onramps.ingest.runs import outcomes
from metering.onramps.ingest.trial import Trial
from metering.onramps.kinds import KINDS
from metering.onramps.observations import Block

if TYPE_CHECKING:
    from metering.cli.ingesting.choice import Choice, Survey
    from metering.onramps.context.timeline import Timeline
    from metering.onramps.ingest.overlap import Overlap
    from metering.onramps.ingest.taking import LogIngest

Watch = Callable[[Block[object]], None]
Work = Callable[[Chosen, Watch], FileOutcome]


@dataclass(slots=True, kw_only=True)
class Ran:
    """What a run has come to. Mutable: it is filled while it runs.

    Attributes:
        totals: Sums over its files.
        files: Outcomes of the files, if they are asked for.
        lines: Lines that were read.
        seconds: How long it took.
    """

    totals: RunTotals = field(default_factory=RunTotals)
    files: list[FileOutcome] = field(default_factory=list)
    lines: int = 0
    seconds: float = 0.0


def taking(ingest: LogIngest, choice: Choice) -> Work:
    """The work of a real run: each file is taken."""

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


def measuring(timeline: Timeline, choice: Choice, overlap: Overlap | None = None) -> Work:
    """The work of a dry run: each file is measured; `overlap` looks for traffic that two flow logs see."""
    trial = Trial(
        kinds=KINDS,
        timeline=timeline,
        settings=choice.settings,
        kind=choice.kind,
        bills=choice.bills,
        overlap=overlap,
    )
    return trial.outcome


def run(choice: Choice, survey: Survey, work: Work, ran: Ran, *, most_files: int) -> None:
    """Do the work for each file of a choice.

    Args:
        choice: What is to be done.
        survey: What there is, for the bar.
        work: Does it for one file.
        ran: Gets what it comes to.
        most_files: Outcomes of files that are kept.

    Raises:
        CommandStoppedError: The person pressed Ctrl-C. What was done stays done.
    """
    with first_interrupt_noted() as stopped, reading(survey.stored_bytes, stopped) as bar:

        def done(chosen: Chosen) -> FileOutcome:
            with bar.file(chosen.info.size_bytes) as watch:
                return work(chosen, watch)

        for outcome in outcomes(choice.files(), done, jobs=choice.jobs):
            told = ran.totals.add(outcome)
            if len(ran.files) < most_files:
                ran.files.append(told)
            ran.lines, ran.seconds = bar.lines, bar.seconds
            if stopped.is_set():
                raise STOPPED
