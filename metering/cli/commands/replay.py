"""`metering replay`: sends real or synthetic traffic, and writes a manifest of the messages."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from metering.audit.verify.manifest import ManifestHeader, SentBatch, header_line
from metering.cli.command import Session, command, progress
from metering.cli.failures import WrongUsageError
from metering.cli.sent_log import SentLog, manifest_file
from metering.intake.work import MAX_RECORDS
from metering.replay.scenarios import SCENARIOS, Scenario
from metering.replay.sender import Sender
from metering.replay.traffic import Traffic, given_traffic, synthetic_traffic
from metering.reports.answer import Answer, Column
from metering.wiring.connection import RegionConnection

replay_app = typer.Typer()

DEFAULT_MANIFEST = Path("replay-manifest.ndjson")

_EXAMPLES = """Examples:

    metering replay --scenario mixed --batches 20000 --records-per-batch 100 --manifest m.json
    metering replay --input transfers.ndjson --shift-to-now
    metering replay --scenario clean --rate 139 --batches 10000

Then: metering verify --manifest m.json --wait 10m
"""

Share = float | None


def _share(of: str) -> object:
    return typer.Option(min=0, max=1, help=f"Share of {of}, 0 to 1. Default: the scenario's.")


BatchesOption = Annotated[
    int | None, typer.Option(min=1, help="Number of messages, with copies and conflicts. Default: the scenario's.")
]
RecordsOption = Annotated[
    int | None,
    typer.Option(min=1, max=MAX_RECORDS, help="Records in a batch. Default: the scenario's; 100 for --input."),
]


@command(replay_app, "replay", reads=True, epilog=_EXAMPLES)
def replay(
    session: Session,
    files: Annotated[
        list[Path] | None,
        typer.Option("--input", metavar="FILE", help="Records as NDJSON or Parquet; may be given again."),
    ] = None,
    scenario: Annotated[
        str | None, typer.Option("--scenario", metavar="NAME", help=f"One of: {', '.join(SCENARIOS)}. Default: mixed.")
    ] = None,
    batches: BatchesOption = None,
    records_per_batch: RecordsOption = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Messages a second. Default: no limit.")] = None,
    duplicates: Annotated[Share, _share("copies of earlier messages")] = None,
    late: Annotated[Share, _share("messages with late records")] = None,
    malformed: Annotated[Share, _share("malformed messages")] = None,
    conflicts: Annotated[Share, _share("messages with a used id and other content")] = None,
    seed: Annotated[int, typer.Option(help="The same seed in the same hour gives the same traffic.")] = 1,
    shift_to_now: Annotated[
        bool, typer.Option("--shift-to-now", help="Move the records of --input by whole hours, so that they end now.")
    ] = False,
    manifest: Annotated[
        Path, typer.Option("--manifest", metavar="FILE", help="File for the manifest (NDJSON).")
    ] = DEFAULT_MANIFEST,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Number of connections.")] = 8,
) -> None:
    """Send traffic to the ingest queue, and write a manifest of the messages with their expected verdicts.

    The traffic is real records with --input, or a synthetic scenario with --scenario.
    """
    now_s = int(time.time())
    if files:
        _only_one_kind(scenario)
        traffic = given_traffic(files, records_per_batch or 100, now_s if shift_to_now else None)
    else:
        chosen = _adapted(scenario or "mixed", records_per_batch, duplicates, late, malformed, conflicts)
        bucket = session.region().names.data_bucket
        traffic = synthetic_traffic(scenario or "mixed", chosen, batches, seed, now_s, bucket)
    with manifest_file(manifest) as file:
        counts, took_s = send_traffic(session.region(), traffic, file, rate=rate, threads=threads)
    session.write(_answer(traffic, counts, took_s, manifest))


def send_traffic(
    region: RegionConnection, traffic: Traffic, manifest: TextIO, *, rate: float | None = None, threads: int = 8
) -> tuple[Counter[str], float]:
    """Send `traffic` with a progress bar and write its manifest. Returns messages by expected verdict, and seconds.

    Raises:
        SendingFailedError: The queue did not take some messages, even after retries.
        CommandFailedError: The manifest could not be written; the error names the messages that it lacks.
    """
    counts: Counter[str] = Counter()
    header = ManifestHeader(
        name=traffic.name, region=region.region, seed=traffic.seed, began_at_ms=time.time_ns() // 1_000_000
    )
    log = SentLog(manifest)
    log.begin(header_line(header))
    sender = Sender(
        queue=region.ingest,
        objects=region.objects,
        bucket=region.names.data_bucket,
        threads=threads,
        rate_per_s=rate,
    )
    with _sending(traffic.messages) as advance:

        def written(group: Sequence[SentBatch]) -> None:
            log.add(group)
            counts.update(sent.expect for sent in group)
            advance(len(group))

        began = time.monotonic()
        sender.send(log.while_it_works(traffic.shipments), written)
    log.must_be_whole()
    return counts, time.monotonic() - began


class _Advance:
    def __init__(self, bar: Progress, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("sending", total=total)

    def __call__(self, number: int) -> None:
        self._bar.advance(self._task, number)


@contextmanager
def _sending(total: int) -> Iterator[_Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with progress(*columns) as bar:
        yield _Advance(bar, total)


def _only_one_kind(scenario: str | None) -> None:
    if scenario is not None:
        raise WrongUsageError("--input and --scenario exclude each other.", "Run one replay for each.")


def _adapted(
    name: str,
    records_per_batch: int | None,
    duplicates: float | None,
    late: float | None,
    malformed: float | None,
    conflicts: float | None,
) -> Scenario:
    if name not in SCENARIOS:
        known = "; ".join(f"{known}: {scenario.about}" for known, scenario in SCENARIOS.items())
        raise WrongUsageError(f"There is no scenario {name}.", known)
    scenario = SCENARIOS[name]
    scenario = replace(
        scenario,
        records_per_batch=records_per_batch or scenario.records_per_batch,
        duplicates=scenario.duplicates if duplicates is None else duplicates,
        late=scenario.late if late is None else late,
        malformed=scenario.malformed if malformed is None else malformed,
        conflicts=scenario.conflicts if conflicts is None else conflicts,
    )
    if scenario.duplicates + scenario.late + scenario.malformed + scenario.conflicts > 1:
        raise WrongUsageError("The shares of --duplicates, --late, --malformed and --conflicts add up to more than 1.")
    return scenario


def _answer(traffic: Traffic, counts: Counter[str], took_s: float, manifest: Path) -> Answer:
    sent = sum(counts.values())
    row: dict[str, str | int | bool | None] = {
        "name": traffic.name,
        "sent": sent,
        **{expect: counts[expect] for expect in ("accepted", "partly", "duplicate", "conflict", "rejected")},
        "seconds": f"{took_s:.1f}",
        "per_second": f"{sent / max(took_s, 0.001):.0f}",
        "manifest": str(manifest),
    }
    integers = {"sent", "accepted", "partly", "duplicate", "conflict", "rejected"}
    columns = tuple(Column(name=name, kind="integer" if name in integers else "text") for name in row)
    return Answer(
        columns=columns,
        rows=[row],
        document=row,
        footer=(f"Next: metering verify --manifest {manifest} --wait 10m",),
    )
