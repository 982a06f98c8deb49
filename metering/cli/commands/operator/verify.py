"""`metering verify`: a check that every batch is counted exactly once."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from metering.audit import verification
from metering.cli.command import Session, command, say, spinner
from metering.cli.commands.analyst.lake import RESUME_OPTION, NoDeadline, ScanFile, ScanOf, counting
from metering.cli.failures import WrongUsageError
from metering.cli.fleet import answering, asks_for_all, connections, say_what_is_kept
from metering.cli.options import option, parse_duration
from metering.errors import OperationFailedError, UnavailableError
from metering.hours import rfc3339
from metering.ledger.usage.items import MENDED_BY
from metering.reports.answer import Answer, Json, RowType, flag, integer, regions_answer, sized
from metering.reports.time_range import time_range
from metering.units import DAY_S, counted, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from metering.audit.verifier import Verifier
    from metering.rollup.rollup import Rollup
    from metering.stores.queues import QueueDepth
    from metering.wiring.connection import RegionConnection

verify_app = typer.Typer()

_EXAMPLES = """Examples:

    metering verify --manifest m.json --wait 10m
    metering verify --from 2026-11-24
    metering verify --from 2026-11 --format json
"""

# Explanations are short enough to fit beside a total of 30 digits in 80 columns.
_COUNTS: RowType[verification.Verification] = RowType(
    flag("settled", of=lambda it: it.stable, about="nothing was on its way"),
    integer("sent", about="different batches"),
    integer("accepted", about="their records are metered"),
    integer("duplicate", about="copies, which count no more"),
    integer("conflict", about="other content, refused"),
    integer("rejected", about="broke a rule"),
    integer("in_flight", about="in the queue or at work"),
    integer("dead", about="letters: `metering dlq list`"),
)
_VERIFIED: RowType[verification.Verification] = RowType(
    _COUNTS.fields,
    integer("lost", of=lambda it: len(it.lost), about="sent, and nowhere"),
    integer("doubled", of=lambda it: len(it.doubled), about="counted twice"),
    integer("unexpected", of=lambda it: len(it.unexpected), about="other verdict than promised"),
    integer(
        "differences",
        of=lambda it: len(it.differences) + len(it.logs.differences),
        about="markers, usage, rows, sender, logs",
    ),
    sized("bytes", of=lambda it: it.metered.bytes),
    integer("records", of=lambda it: it.metered.records, about="metered"),
    flag("passed", about="settled, and nothing wrong"),
)
_SHOWN = 20
_WRITTEN = "Name one that `metering replay` wrote."


@command(verify_app, "verify", reads=True, everywhere=True, epilog=_EXAMPLES)
def verify(
    session: Session,
    manifest: Annotated[
        list[Path] | None, option("--manifest", "FILE", "Manifest of a replay; may be repeated.")
    ] = None,
    start: Annotated[str | None, option("--from", "TIME", "RFC 3339, date or month. Default: everything.")] = None,
    end: Annotated[str | None, option("--to", "TIME", "Not included.")] = None,
    wait: Annotated[
        str | None, option("--wait", "DURATION", "Wait at most this long until nothing is in flight: 90s, 10m, 1h.")
    ] = None,
    resume: Annotated[Path | None, RESUME_OPTION] = None,
) -> None:
    """Check that nothing is lost or counted twice; exit 0 only if so.

    Every batch must have exactly one verdict (I1). Markers, usage table and visible rows must be equal by hour and key;
    with a manifest, they must also equal the content that the sender put into each batch (I2).
    """
    from metering.wiring.reports import build_verifier

    now_s = int(time.time())
    from_s, to_s = time_range(start, end, default_s=(0, now_s + DAY_S), now_s=now_s, whole_hours=True)
    wait_s = parse_duration(wait, "--wait") if wait else 0
    if resume is not None and asks_for_all(session):
        raise WrongUsageError("--resume has a scan of one region.", "Name the region.")
    if asks_for_all(session):
        say_what_is_kept(connections(session), from_s)
        results = _verified(connections(session), manifest or [], wait_s, (from_s, to_s))
        session.write(verifications_answer(results))
        for name, result in results.items():
            explain(result, region=name)
    else:
        sent = _read_manifests(manifest or [], {session.region_name}).get(session.region_name)
        say_what_is_kept([session.region()], from_s)
        verifier = build_verifier(session.region())
        wait_until_settled(verifier, wait_s, rollup=rollup_of(session.region()))
        asked = None if start is None and end is None else (from_s, to_s)
        file = ScanFile(resume, ScanOf(command="verify", region=session.region_name, stage=session.stage))
        counted = file.kept(session.region().items, deep=True, range_s=asked)
        if counted is not None:
            from_s, to_s = counted.from_s, counted.to_s
        with counting() as tell:
            result = verifier.verify(from_s=from_s, to_s=to_s, sent=sent, counted=counted, keep=file.keep, tell=tell)
        file.remove()
        results = {session.region_name: result}
        session.write(verification_answer(result))
        explain(result)
    if not all(result.passed for result in results.values()):
        raise typer.Exit(1)


def _verified(
    regions: list[RegionConnection], paths: Sequence[Path], wait_s: int, range_s: tuple[int, int]
) -> dict[str, verification.Verification]:
    """Verify each region against the manifests of its replays, because batch ids are unique only within a region."""
    from metering.wiring.reports import build_verifier

    sent = _read_manifests(paths, {region.region for region in regions})
    verifiers: dict[str, Verifier] = {}
    for region in regions:
        with answering(region.region):
            verifiers[region.region] = build_verifier(region)
    wait_until_all_settled(verifiers, wait_s, rollups={region.region: rollup_of(region) for region in regions})
    results: dict[str, verification.Verification] = {}
    for name, verifier in verifiers.items():
        with answering(name), counting() as tell:
            results[name] = verifier.verify(from_s=range_s[0], to_s=range_s[1], sent=sent.get(name), tell=tell)
    return results


def read_manifest(path: Path) -> tuple[verification.ManifestHeader, verification.SentBatches]:
    """Read a manifest.

    Raises:
        WrongUsageError: The file cannot be read.
        ManifestError: The file is not a manifest.
    """
    with _opened(path) as file:
        lines = verification.whole_lines(file, lambda line: _tell_of_cut(path, line))
        header = verification.read_header(next(lines, ""))
        return header, verification.SentBatches.collect(verification.read_sent(lines))


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with path.open() as file:
            yield file
    except OSError as error:
        raise WrongUsageError(f"Cannot read the manifest {path}: {error.strerror or error}.", _WRITTEN) from error
    except UnicodeDecodeError as error:
        raise WrongUsageError(f"{path} is no manifest: it is not text.", _WRITTEN) from error
    except verification.ManifestError as error:
        raise verification.ManifestError(f"{path} is no manifest: {error.reason}.", _WRITTEN) from error


def _tell_of_cut(path: Path, line: str) -> None:
    say(
        f"The last line of {path} breaks off after {len(line)} characters and is left out, because the replay was "
        "stopped there. Its message may have been sent; all others are verified.",
        style="yellow",
    )


def rollup_of(region: RegionConnection) -> Rollup | None:
    """On an emulator, the roll-up job, to be run without waiting for the schedule; None on AWS."""
    return region.jobs.rollup if region.emulated else None


def wait_until_settled(verifier: Verifier, wait_s: int, *, region: str = "", rollup: Rollup | None = None) -> bool:
    """Wait, and show how many batches are still in flight. With `rollup`, roll up when the queue is empty."""
    if not wait_s:
        return False
    with spinner("waiting") as tell:
        may = rollup is not None

        def look(depth: QueueDepth) -> None:
            nonlocal may
            queued = depth.visible + depth.delayed
            tell(description=f"waiting: {queued} in the queue, {depth.in_flight} being worked on")
            if rollup is not None and may and depth.total == 0:
                may = _rolled_up(rollup)

        settled = verifier.wait(wait_s, look)
    if not settled:
        say(f"{f'{region}: ' if region else ''}Messages are still in flight after {wait_s} s.", style="yellow")
    return settled


def _rolled_up(rollup: Rollup) -> bool:
    """Roll up. Return False if the caller may only read; the roll-up function then follows within a minute."""
    from metering.adapters.aws.errors import refusals_explained

    try:
        with suppress(UnavailableError), refusals_explained():
            rollup.run(NoDeadline(), only_waiting=True)
    except OperationFailedError:
        return False
    return True


def wait_until_all_settled(
    verifiers: Mapping[str, Verifier],
    wait_s: int,
    *,
    rollups: Mapping[str, Rollup | None] | None = None,
    now_s: Callable[[], float] = time.monotonic,
) -> None:
    """Wait for one region after another: at most `wait_s` in total, but at least a second for each region."""
    until_s = now_s() + wait_s
    for region, verifier in verifiers.items():
        left_s = max(int(until_s - now_s()), 1) if wait_s else 0
        wait_until_settled(verifier, left_s, region=region, rollup=(rollups or {}).get(region))


def verifications_answer(results: Mapping[str, verification.Verification]) -> Answer:
    """The answers of several regions, one after another. The JSON is that of a region, with sums of all regions."""
    answers = {region: verification_answer(result) for region, result in results.items()}
    parts = regions_answer(answers)
    total = verification.sum_verifications(results.values())
    whole: dict[str, Json] = {**_document(total), **(parts.document or {})}
    said = f"All regions: {exact_and_size(total.metered.bytes)} in {counted(total.metered.records, 'record')}."
    return replace(parts, document=whole, footer=(said,))


def verification_answer(result: verification.Verification) -> Answer:
    """The answer of `metering verify`, in its documented form."""
    return _VERIFIED.one(result, document=_document(result))


def _document(result: verification.Verification) -> dict[str, Json]:
    return {
        **_COUNTS.document(result),
        "lost": [*result.lost],
        "doubled": [*result.doubled],
        "unexpected": [{"batch": name, "problem": problem} for name, problem in result.unexpected],
        "differences": [_difference_document(difference) for difference in result.differences],
        "unsettled": [rfc3339(hour_s) for hour_s in result.unstable],
        "metered": {"bytes": str(result.metered.bytes), "records": result.metered.records},
        "keys": result.keys,
        "promised": {"bytes": str(result.promised.bytes), "records": result.promised.records},
        "proven": {"bytes": str(result.proven.bytes), "records": result.proven.records},
        "logs": {
            "files": result.logs.plans,
            "lines": result.logs.lines,
            "metered_bytes": str(result.logs.metered_bytes),
            "processed_bytes": str(result.logs.processed_bytes),
            "accepted_bytes": str(result.logs.accepted_bytes),
            "refused_bytes": str(result.logs.refused_bytes),
            "differences": [{"of": name, "problem": problem} for name, problem in result.logs.differences],
            "left_out": result.logs.left_out,
        },
        "passed": result.passed,
    }


def explain(result: verification.Verification, *, region: str = "") -> None:
    """Print each problem on stderr, or that everything is counted once; if a region is given, name it."""
    begun = f"{region}: " if region else ""
    for title, names in (("Lost", result.lost), ("Counted twice", result.doubled)):
        _say_some(f"{begun}{title}", names)
    _say_some(f"{begun}Unexpected", [f"{name}: {problem}" for name, problem in result.unexpected])
    _say_some(f"{begun}Different", [_difference_text(difference) for difference in result.differences])
    _say_some(f"{begun}Log files", [f"{name}: {problem}" for name, problem in result.logs.differences])
    if result.logs.left_out:
        cure = "Name a range with --from and --to for the others."
        say(f"{begun}Checked were only {counted(result.logs.plans, 'log file')}. {cure}", style="yellow")
    for hour_s in result.unstable[:_SHOWN]:
        hour = rfc3339(hour_s)
        say(f"{begun}{hour} was being written to, so it was not checked. Run the command again.", style="yellow")
    if result.in_flight or not result.stable:
        say(f"{begun}Messages are in flight or a commit waits. Add --wait 10m to wait for them.", style="yellow")
    if result.dead:
        cure = "See: metering dlq list; metering dlq redrive"
        say(f"{begun}{result.dead} messages are dead letters. {cure}", style="yellow")
    if result.passed:
        say(f"{begun}Settled; nothing lost, nothing counted twice.", style="green")


def _say_some(title: str, texts: Sequence[str]) -> None:
    if not texts:
        return
    say(f"{title} ({len(texts)}):", style="bold red")
    for text in texts[:_SHOWN]:
        say(f"  {text}")
    if len(texts) > _SHOWN:
        say(f"  and {len(texts) - _SHOWN} more; --format json names all of them")


def _difference_document(difference: verification.Difference) -> dict[str, Json]:
    document: dict[str, Json] = {"between": difference.between, "hour": rfc3339(difference.hour_s)}
    if difference.odd:
        return {**document, "account_id": difference.account_id, "odd": difference.odd}
    if difference.key is None:
        document["batch_id"] = difference.batch_id
    else:
        _, account_id, usage_type, service, from_location, to_location, _ = difference.key
        document |= {
            "account_id": account_id,
            "usage_type": usage_type,
            "service": service,
            "from": from_location,
            "to": to_location,
        }
    for name, total in (("expected", difference.expected), ("found", difference.found)):
        document[name] = {"bytes": str(total.bytes), "records": total.records}
    return document


def _difference_text(difference: verification.Difference) -> str:
    if difference.odd:
        return f"{rfc3339(difference.hour_s)} {difference.odd}: {MENDED_BY}"
    first, second = difference.between.split("/")
    what = difference.batch_id if difference.key is None else " ".join(difference.key[1:6])
    return (
        f"{rfc3339(difference.hour_s)} {what}: {first} say {difference.expected.bytes} bytes in "
        f"{counted(difference.expected.records, 'record')}, {second} {difference.found.bytes} in "
        f"{difference.found.records}"
    )


def _read_manifests(paths: Sequence[Path], verified: Collection[str]) -> dict[str, verification.SentBatches]:
    """Read the batches sent to each region. Each file is read only once, because a file may be a pipe.

    Raises:
        WrongUsageError: A manifest belongs to a region that is not verified, so all of its batches would seem to be
            lost.
    """
    sent: dict[str, verification.SentBatches] = {}
    for path in paths:
        header, batches = read_manifest(path)
        if header.region not in verified:
            known = ", ".join(sorted(verified))
            raise WrongUsageError(
                f"{path} is of {header.region}, which is not among the regions to verify: {known}.",
                f"Verify it with --region {header.region}, or manifests of several regions with --region all.",
            )
        sent.setdefault(header.region, verification.SentBatches()).add(batches)
    return sent
