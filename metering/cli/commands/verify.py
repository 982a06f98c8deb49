"""`metering verify`: a check that every batch is counted exactly once."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from metering.audit.verify.expectations import SentBatches
from metering.audit.verify.manifest import ManifestHeader, read_header, read_sent, whole_lines
from metering.audit.verify.verification import Difference, Verification
from metering.audit.verify.verifier import Verifier
from metering.cli.all_regions import asks_for_all, connections
from metering.cli.command import Session, command, progress, say
from metering.cli.durations import parse_duration
from metering.cli.failures import WrongUsageError
from metering.fleet.merge import in_several, merged
from metering.hours import rfc3339
from metering.reports.answer import Answer, Cell, Column, Json
from metering.reports.time_range import time_range
from metering.stores.queues import QueueDepth
from metering.units import DAY_S
from metering.wiring.connection import RegionConnection
from metering.wiring.reports import build_verifier

verify_app = typer.Typer()

_EXAMPLES = """Examples:

    metering verify --manifest m.json --wait 10m
    metering verify --from 2026-11-24
    metering verify --from 2026-11 --format json
"""

COUNTS = ("sent", "accepted", "duplicate", "conflict", "rejected", "in_flight", "dead")
_SHOWN = 20


@command(verify_app, "verify", reads=True, epilog=_EXAMPLES)
def verify(
    session: Session,
    manifest: Annotated[
        list[Path] | None,
        typer.Option("--manifest", metavar="FILE", help="Manifest of a replay; may be given again."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="RFC 3339, date or month. Default: everything.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Not included.")] = None,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait", metavar="DURATION", help="Wait at most this long until nothing is in flight: 90s, 10m, 1h."
        ),
    ] = None,
) -> None:
    """Check that nothing is lost and nothing is counted twice; exit 0 only if that is so.

    Every batch must have one verdict (I1). Markers, usage table and visible rows must agree by hour and key; with a
    manifest, they must also agree with what the sender put into each batch (I2).
    """
    now_s = int(time.time())
    from_s, to_s = time_range(start, end, default_s=(0, now_s + DAY_S), now_s=now_s, whole_hours=True)
    wait_s = parse_duration(wait, "--wait") if wait else 0
    if asks_for_all(session):
        result = _verify_all(connections(session), manifest or [], wait_s, (from_s, to_s))
    else:
        sent = _read_manifests(manifest) if manifest else None
        verifier = build_verifier(session.region())
        wait_until_settled(verifier, wait_s)
        result = verifier.verify(from_s=from_s, to_s=to_s, sent=sent)
    session.write(verification_answer(result))
    explain(result)
    if not result.passed:
        raise typer.Exit(1)


def _verify_all(
    regions: list[RegionConnection], paths: Sequence[Path], wait_s: int, range_s: tuple[int, int]
) -> Verification:
    """Verify each region against the manifests of its replays, and name batch ids that are in several regions."""
    sent: dict[str, SentBatches] = {}
    for path in paths:
        header, batches = read_manifest(path)
        sent.setdefault(header.region, SentBatches()).add(batches)
    unknown = sorted(set(sent) - {region.region for region in regions})
    if unknown:
        raise WrongUsageError(f"A manifest belongs to {', '.join(unknown)}, where the stage is not deployed.")
    verifiers = {region.region: build_verifier(region) for region in regions}
    wait_until_all_settled(verifiers, wait_s)
    results = [
        verifier.verify(from_s=range_s[0], to_s=range_s[1], sent=sent.get(name)) for name, verifier in verifiers.items()
    ]
    return merged(results, in_several({region.region: region.items for region in regions}))


def read_manifest(path: Path) -> tuple[ManifestHeader, SentBatches]:
    """Read a manifest.

    Raises:
        WrongUsageError: The file cannot be read.
        ManifestError: The file is not a manifest.
    """
    try:
        with path.open() as file:
            lines = whole_lines(file, lambda line: _tell_of_cut(path, line))
            header = read_header(next(lines, ""))
            return header, SentBatches.collect(read_sent(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsageError(
            f"Cannot read the manifest {path}: {error}.", "Name one that `metering replay` wrote."
        ) from error


def _tell_of_cut(path: Path, line: str) -> None:
    say(
        f"The last line of {path} breaks off after {len(line)} characters and is left out, because the replay was "
        "stopped there. Its message may have been sent; all others are verified.",
        style="yellow",
    )


def wait_until_settled(verifier: Verifier, wait_s: int, *, region: str = "") -> bool:
    """Wait, and show how much is in flight."""
    if not wait_s:
        return False
    with _waiting() as tell:
        settled = verifier.wait(wait_s, tell)
    if not settled:
        say(f"{f'{region}: ' if region else ''}Messages are still in flight after {wait_s} s.", style="yellow")
    return settled


def wait_until_all_settled(
    verifiers: Mapping[str, Verifier], wait_s: int, *, now_s: Callable[[], float] = time.monotonic
) -> None:
    """Wait for one region after the other, `wait_s` at most in all, but at least a second for each."""
    until_s = now_s() + wait_s
    for region, verifier in verifiers.items():
        wait_until_settled(verifier, max(int(until_s - now_s()), 1) if wait_s else 0, region=region)


def verification_answer(result: Verification) -> Answer:
    """The contract's answer to `metering verify`."""
    document: dict[str, Json] = {
        "settled": result.stable,
        **{name: getattr(result, name) for name in COUNTS},
        "lost": [*result.lost],
        "doubled": [*result.doubled],
        "unexpected": [{"batch": name, "problem": problem} for name, problem in result.unexpected],
        "differences": [_difference_document(difference) for difference in result.differences],
        "unsettled": [rfc3339(hour_s) for hour_s in result.unstable],
        "metered": {"bytes": str(result.metered.bytes), "records": result.metered.records},
        "keys": result.keys,
        "promised": {"bytes": str(result.promised.bytes), "records": result.promised.records},
        "proven": {"bytes": str(result.proven.bytes), "records": result.proven.records},
        "passed": result.passed,
    }
    row: dict[str, Cell] = {
        "settled": result.stable,
        **{name: getattr(result, name) for name in COUNTS},
        "lost": len(result.lost),
        "doubled": len(result.doubled),
        "unexpected": len(result.unexpected),
        "differences": len(result.differences),
        "bytes": result.metered.bytes,
        "records": result.metered.records,
        "passed": result.passed,
    }
    flags = {"settled", "passed"}
    columns = [
        Column(name=name, kind="flag" if name in flags else "bytes" if name == "bytes" else "integer") for name in row
    ]
    return Answer(columns=tuple(columns), rows=[row], document=document)


def explain(result: Verification) -> None:
    """Report on stderr each problem by name, or that everything is counted once."""
    for title, names in (("Lost", result.lost), ("Counted twice", result.doubled)):
        _say_some(title, names)
    _say_some("Unexpected", [f"{name}: {problem}" for name, problem in result.unexpected])
    _say_some("Different", [_difference_text(difference) for difference in result.differences])
    for hour_s in result.unstable[:_SHOWN]:
        say(f"{rfc3339(hour_s)} was being written to, so it was not checked. Run the command again.", style="yellow")
    if result.in_flight or not result.stable:
        say("Messages are in flight or a commit is open. Add --wait 10m to wait for them.", style="yellow")
    if result.dead:
        say(f"{result.dead} messages are dead letters. See: metering dlq list; metering dlq redrive", style="yellow")
    if result.passed:
        say("Settled; nothing lost, nothing counted twice.", style="green")


def _say_some(title: str, texts: Sequence[str]) -> None:
    if not texts:
        return
    say(f"{title} ({len(texts)}):", style="bold red")
    for text in texts[:_SHOWN]:
        say(f"  {text}")
    if len(texts) > _SHOWN:
        say(f"  and {len(texts) - _SHOWN} more; --format json names all of them")


def _difference_document(difference: Difference) -> dict[str, Json]:
    document: dict[str, Json] = {"between": difference.between, "hour": rfc3339(difference.hour_s)}
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


def _difference_text(difference: Difference) -> str:
    first, second = difference.between.split("/")
    what = difference.batch_id if difference.key is None else " ".join(difference.key[1:6])
    return (
        f"{rfc3339(difference.hour_s)} {what}: {first} say {difference.expected.bytes} bytes in "
        f"{difference.expected.records} records, {second} {difference.found.bytes} in {difference.found.records}"
    )


def _read_manifests(paths: Sequence[Path]) -> SentBatches:
    sent = SentBatches()
    for path in paths:
        _, batches = read_manifest(path)
        sent.add(batches)
    return sent


class _Tell:
    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("waiting", total=None)

    def __call__(self, depth: QueueDepth) -> None:
        text = f"waiting: {depth.visible + depth.delayed} in the queue, {depth.in_flight} being worked on"
        self._bar.update(self._task, description=text)


@contextmanager
def _waiting() -> Iterator[_Tell]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with progress(*columns) as bar:
        yield _Tell(bar)
