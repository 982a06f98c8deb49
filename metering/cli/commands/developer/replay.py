"""`metering replay`: sends real or synthetic traffic, and writes a manifest of the messages."""

from __future__ import annotations

import io
import os
import shlex
import time
from collections import Counter
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO, cast

import typer

from metering.audit import freshness
from metering.audit.verification import ManifestHeader, SentBatch, header_line, sent_line
from metering.cli.command import Session, bar, command, say
from metering.cli.failures import CommandFailedError, CommandStoppedError, WrongUsageError, first_interrupt_noted
from metering.cli.options import option, switch
from metering.fleet.settings.bases import runs_on_emulator
from metering.hours import rfc3339
from metering.intake import work
from metering.intake.admission import Admission
from metering.replay.scenarios import SCENARIOS, Scenario
from metering.replay.sender import Sender
from metering.reports.answer import Answer, ListedRows, copied, number, ordinal
from metering.units import HOUR_S, counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from threading import Event

    from metering.replay import synthesis
    from metering.replay.given import Traffic
    from metering.wiring.connection import RegionConnection


@dataclass(slots=True)
class SentLog:
    """A manifest to which the replay appends the messages that it sent. Mutable.

    Attributes:
        file: The manifest.
        missing: Sent messages that could not be recorded in the manifest.
        error: The error after which nothing more could be written.
    """

    file: TextIO
    missing: list[SentBatch] = field(default_factory=list)
    error: OSError | None = None

    def begin(self, line: str) -> None:
        """Write the first line. If this fails, nothing may be sent."""
        self.file.write(line)
        self.file.flush()

    def add(self, group: Sequence[SentBatch]) -> None:
        """Write sent messages to the manifest, or to `missing` if writing fails."""
        if self.error is None:
            whole = self.file.tell()
            try:
                self.file.write("".join(map(sent_line, group)))
                self.file.flush()
            except OSError as error:
                self.error = error
                self._cut(whole)
        if self.error is not None:
            self.missing += group

    def while_it_works(self, shipments: Iterable[synthesis.Shipment]) -> Iterator[synthesis.Shipment]:
        """Yield messages to send, for as long as the manifest can be written."""
        for shipment in shipments:
            if self.error is not None:
                return
            yield shipment

    def must_be_whole(self) -> None:
        """Check that the manifest names every sent message.

        Raises:
            CommandFailedError: The manifest is incomplete; the error names the missing messages.
        """
        if self.error is None:
            return
        names = ", ".join(sent.batch_id or f"body {sent.body_sha256}" for sent in self.missing)
        raise CommandFailedError(
            f"Writing the manifest failed: {self.error.strerror}. Sending stopped. "
            f"{len(self.missing)} messages were sent that the manifest does not name: {names}.",
            "Everything it names was sent, and `metering verify --manifest` can check that part.",
        )

    def _cut(self, whole: int) -> None:
        """Remove a partly written line; truncating a file works even on a full disk."""
        with suppress(OSError):
            self.file.seek(whole)
        with suppress(OSError):
            self.file.truncate(whole)


@contextmanager
def manifest_file(path: Path) -> Iterator[TextIO]:
    """Open an empty file for a manifest.

    Raises:
        CommandFailedError: The file cannot be created.
    """
    try:
        file = _Unbuffered(path.open("wb", buffering=0))
    except OSError as error:
        raise CommandFailedError(
            f"Cannot write the manifest {path}: {error.strerror}.", "Name another --manifest."
        ) from error
    with file:
        yield cast("TextIO", file)


class _Unbuffered(io.TextIOBase):
    """An unbuffered text file: `write` raises all write errors, and no error occurs later."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self._file = file

    def write(self, text: str, /) -> int:
        """Write the whole text, or raise an error."""
        content = memoryview(text.encode())
        while content:
            content = content[self._file.write(content) or 0 :]
        return len(text)

    def tell(self) -> int:
        return self._file.tell() if self._file.seekable() else 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def truncate(self, size: int | None = None, /) -> int:
        return self._file.truncate(size)

    def close(self) -> None:
        self._file.close()
        super().close()


replay_app = typer.Typer()

DEFAULT_MANIFEST = Path("replay-manifest.ndjson")

_EXAMPLES = """Examples:

    metering replay --scenario mixed --batches 20000 --records-per-batch 100 --manifest m.json
    metering replay --scenario week
    metering replay --input transfers.ndjson --shift-to-now
    metering replay --scenario clean --rate 139 --batches 10000

Then: metering verify --manifest m.json --wait 10m
"""
# At most this many record problems are printed; the count includes all.
_SHOWN = 10
_SCENARIOS = "".join(f"- {name}: {scenario.about}\n" for name, scenario in SCENARIOS.items())
_VERDICTS = ("accepted", "partly", "duplicate", "conflict", "rejected")
_SENT = ListedRows(
    copied("name"),
    ordinal("sent", about="messages"),
    ordinal("batches", about="different ones, as `verify` counts"),
    ordinal("accepted", about="must be metered whole"),
    ordinal("partly", about="must be metered but for some records"),
    ordinal("duplicate", about="must count no second time"),
    ordinal("conflict", about="other content under an id, refused"),
    ordinal("rejected", about="must be refused"),
    number("seconds", about="for sending"),
    number("per_second", about="messages"),
    copied("manifest", about="what was sent, for `verify`"),
)

Share = float | None


def _share(of: str) -> object:
    return typer.Option(min=0, max=1, help=f"Share of {of}. Default: the scenario's.")


BatchesOption = Annotated[
    int | None, typer.Option(min=1, help="Number of messages, including copies and conflicts. Default: the scenario's.")
]
RecordsOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=work.MAX_RECORDS, help="Records in a batch. Default: the number in the scenario; 100 with --input."
    ),
]


@command(replay_app, "replay", reads=True, changes=True, epilog=f"Scenarios:\n\n{_SCENARIOS}\n{_EXAMPLES}")
def replay(
    session: Session,
    files: Annotated[
        list[Path] | None,
        option("--input", "FILE", "File of records (NDJSON, Parquet), which are sent unchanged; may be repeated."),
    ] = None,
    scenario: Annotated[
        str | None,
        option(
            "--scenario", "NAME", "One of the scenarios below, for emulators only.", autocompletion=lambda: [*SCENARIOS]
        ),
    ] = None,
    batches: BatchesOption = None,
    records_per_batch: RecordsOption = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Messages a second. Default: no limit.")] = None,
    duplicates: Annotated[Share, _share("copies of earlier messages")] = None,
    late: Annotated[Share, _share("messages with late records")] = None,
    malformed: Annotated[Share, _share("malformed messages")] = None,
    conflicts: Annotated[Share, _share("messages that reuse an id with other content")] = None,
    seed: Annotated[int, typer.Option(help="The same seed in the same hour gives the same traffic.")] = 1,
    shift_to_now: Annotated[
        bool, switch("--shift-to-now", "Shift the times of --input by whole hours, so that the records end now.")
    ] = False,
    manifest: Annotated[Path, option("--manifest", "FILE", "File for the manifest (NDJSON).")] = DEFAULT_MANIFEST,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Number of connections.")] = 8,
) -> None:
    """Send traffic to the ingest queue, and write a manifest of the messages with their expected verdicts.

    The traffic consists of real records (--input) or of a synthetic scenario (--scenario). Synthetic traffic is sent
    only to emulators.
    """
    from metering.cli.deeds import Done
    from metering.replay.given import synthetic_traffic

    if not files and scenario is None:
        _tell_what_can_be_sent()
        raise typer.Exit(2)
    now_s = int(time.time())
    if files:
        traffic = _of_files(session, files, scenario, records_per_batch, now_s, shifted=shift_to_now)
        deed: AbstractContextManager[Done] = session.deed(
            what="replay",
            subject=", ".join(map(str, files)),
            consequence=f"Sends {_messages(traffic)}. What is accepted is metered, and stays on the bill.",
        )
    else:
        chosen = _adapted(scenario or "", records_per_batch, duplicates, late, malformed, conflicts)
        bucket = _emulated_region(session).names.data_bucket
        traffic = synthetic_traffic(scenario or "", chosen, batches, seed, now_s, bucket)
        deed = nullcontext(Done())
    hours: set[int] = set()
    with deed as done:
        region = session.region()
        with manifest_file(manifest) as file, first_interrupt_noted() as stopped:
            counts, took_s = send_traffic(
                region, traffic, file, rate=rate, threads=threads, stopped=stopped, hours=hours
            )
        done.result = f"sent {counts.total():,} of {_messages(traffic)}"
        if stopped.is_set():
            raise CommandStoppedError(
                f"You stopped it: {done.result}.",
                "The manifest names all that were sent. To check them: "
                f"metering verify --manifest {shlex.quote(str(manifest))} --wait 10m",
            )
    session.write(_answer(traffic, counts, took_s, manifest, hours))


def _messages(traffic: Traffic) -> str:
    return counted(traffic.messages, "message")


def _tell_what_can_be_sent() -> None:
    say("Error: Nothing was sent: neither --scenario nor --input says what to send.", style="bold red")
    say("On an emulator, metering replay --scenario NAME sends one of these:")
    for name, scenario in SCENARIOS.items():
        say(f"  {name:8}{scenario.about}")
    say("Records of your own: metering replay --input FILE")


def _of_files(
    session: Session,
    files: Sequence[Path],
    scenario: str | None,
    records_per_batch: int | None,
    now_s: int,
    *,
    shifted: bool,
) -> Traffic:
    if scenario is not None:
        raise WrongUsageError("--input and --scenario exclude each other.", "Run one replay for each.")
    from metering.replay.given import TOO_OLD, given_traffic, read_records

    # Unreadable files are reported without connecting to a region.
    read = read_records(files)
    admission = Admission.of(session.region().settings)
    traffic = given_traffic(read, records_per_batch or 100, now_s, admission=admission, shifted=shifted)
    for told in traffic.complaints[:_SHOWN]:
        say(told, style="yellow")
    more = len(traffic.complaints) - _SHOWN
    if more > 0:
        say(f"and {more:,} more problems", style="yellow")
    if traffic.complaints:
        say("They are sent as they stand. The service must refuse these records, and the manifest expects that.")
    if not shifted and any(told.endswith(TOO_OLD) for told in traffic.complaints):
        window = freshness.duration(admission.window_s)
        say(f"Records of the last {window} are admitted. To send older ones as new ones, add --shift-to-now.")
    return traffic


def _emulated_region(session: Session) -> RegionConnection:
    """Return the session's region, which must allow synthetic traffic."""
    if session.emulated:
        return session.region()
    if runs_on_emulator(session.stage):
        # Reports that no emulator runs here, or that the endpoint is not an emulator.
        session.region()
    raise WrongUsageError(
        f"Stage {session.stage} in {session.stated_region} is not on an emulator, and made-up traffic would stay on "
        "its bill: nothing was sent.",
        "Use `metering local up` and --stage local; or send records of your own with --input.",
    )


def send_traffic(
    region: RegionConnection,
    traffic: Traffic,
    manifest: TextIO,
    *,
    rate: float | None = None,
    threads: int = 8,
    stopped: Event | None = None,
    hours: set[int] | None = None,
) -> tuple[Counter[str], float]:
    """Send `traffic` with a progress bar and write its manifest. Returns messages by expected verdict, and seconds.

    After `stopped` is set, nothing more is sent. The hours of records that must be metered are added to the set
    `hours`.

    Raises:
        CommandStoppedError: A second Ctrl-C ended the sending.
        SendingFailedError: The queue refused some messages, even after retries.
        CommandFailedError: The manifest could not be written; the error names the messages that are missing from it.
    """
    counts: Counter[str] = Counter()
    began_at_ms, bucket = time.time_ns() // 1_000_000, region.names.data_bucket
    header = ManifestHeader(name=traffic.name, region=region.region, seed=traffic.seed, began_at_ms=began_at_ms)
    log = SentLog(manifest)
    log.begin(header_line(header))
    sender = Sender(
        queue=region.ingest,
        objects=region.objects,
        bucket=bucket,
        threads=threads,
        rate_per_s=rate,
        drop_identity=region.names.drop_identity,
    )
    with bar("sending", total=traffic.messages, remaining=True) as move:

        def written(group: Sequence[SentBatch]) -> None:
            log.add(group)
            counts.update(sent.expect for sent in group)
            if hours is not None:
                hours.update(key.hour_s for sent in group for key in sent.totals)
            move(advance=len(group))

        began = time.monotonic()
        going = takewhile(lambda _: stopped is None or not stopped.is_set(), traffic.shipments)
        try:
            sender.send(log.while_it_works(going), written)
        except KeyboardInterrupt:
            raise CommandStoppedError(
                f"You stopped it at once: at least {counts.total():,} of {_messages(traffic)} were sent.",
                "The manifest lacks those that were under way. The same replay, sent again, counts nothing twice.",
            ) from None
    log.must_be_whole()
    return counts, time.monotonic() - began


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


def _answer(
    traffic: Traffic, counts: Counter[str], took_s: float, manifest: Path, hours: Collection[int] = ()
) -> Answer:
    """Show the number of messages sent, by the verdict that the manifest expects."""
    sent = sum(counts.values())
    expected = {verdict: counts[verdict] for verdict in _VERDICTS}
    speed = (f"{took_s:.1f}", f"{sent / max(took_s, 0.001):.0f}")
    values = (traffic.name, sent, sent - counts["duplicate"], *expected.values(), *speed, str(manifest))
    told = ", ".join(f"{verdict} {count:,}" for verdict, count in expected.items() if count)
    next_ = [f"metering verify --manifest {shlex.quote(str(manifest))} --wait 10m"]
    if hours:
        # Without a time range, the report would cover only this month.
        next_.append(f"metering report usage --from {rfc3339(min(hours))} --to {rfc3339(max(hours) + HOUR_S)}")
    return _SENT.one(
        values,
        document={**_SENT.document(values), "expected": {**expected}, "judged": False},
        footer=(
            f"Expected by the manifest: {told}; nothing is judged yet, and verify says what became of them.",
            f"These count messages. verify counts different batches: {sent - counts['duplicate']:,}, of which "
            f"{counts['accepted'] + counts['partly']:,} must be accepted, in whole or in part.",
            "Next:",
        ),
        commands=tuple(next_),
    )
