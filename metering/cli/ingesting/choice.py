"""What a person chose to ingest: the files, and how they are read and judged."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from metering.cli.command import say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.onramps.ingest.choosing import Target, chosen
from metering.onramps.kinds import KINDS
from metering.onramps.reading import ReadSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.cli.command import Session
    from metering.onramps.bills import Bills
    from metering.onramps.ingest.choosing import Chosen
    from metering.onramps.kinds import LogKind

_S3 = "s3://"


# Names that are kept of those that are no UTF-8.
_MOST_UNNAMED = 10_000


@dataclass(slots=True)
class Unnamed:
    """Paths that are no UTF-8, whose files can have no key, and so are not read. Mutable: listings add to it."""

    paths: dict[str, None] = field(default_factory=dict)

    def add(self, path: str) -> None:
        """Note a path, if it is not one of too many."""
        if len(self.paths) < _MOST_UNNAMED:
            self.paths[path] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is to be ingested.

    Attributes:
        targets: Files, folders and prefixes.
        since_s: Only files from this time on, in epoch seconds; None for all.
        kind: Kind of the files, or its name; None if their names decide.
        fields: Fields of text without a header line; empty if it has one.
        bills: Whom their lines may bill.
        without_context_flow_log: Flow log that no other one overlaps; empty if there is none.
        contexts: Folder with contexts; None for those of the stage.
        jobs: Files that are read at a time.
    """

    targets: Sequence[Target]
    since_s: int | None
    kind: LogKind | str | None
    fields: tuple[str, ...]
    bills: Bills
    without_context_flow_log: str
    contexts: Path | None
    jobs: int

    @property
    def settings(self) -> ReadSettings:
        return ReadSettings(fields=self.fields)

    def files(self) -> Iterator[Chosen]:
        """The files, one at a time."""
        for target in self.targets:
            yield from chosen(target, KINDS, kind=self.kind, since_s=self.since_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What there is to be read.

    Attributes:
        files: Number of files that are read.
        stored_bytes: Their size as stored.
        left_out: Number of files whose names are those of no log that is metered.
    """

    files: int
    stored_bytes: int
    left_out: int


def surveyed(choice: Choice) -> Survey:
    """Count the files of a choice, by a listing of which nothing is held."""
    files = stored_bytes = left_out = 0
    for each in choice.files():
        if each.left_out is None:
            files += 1
            stored_bytes += each.info.size_bytes
        else:
            left_out += 1
    return Survey(files=files, stored_bytes=stored_bytes, left_out=left_out)


def targets_of(texts: Sequence[str], session: Session, unnamed: Unnamed | None = None) -> tuple[Target, ...]:
    """The targets that a person typed.

    Args:
        texts: Files, folders and prefixes.
        session: Where buckets are.
        unnamed: Gets the paths whose names are no UTF-8.

    Raises:
        WrongUsageError: A text is no place.
        CommandFailedError: There is no such file.
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
    raise CommandFailedError(f"There is no file or folder {text}.", "A bucket is named as s3://bucket/prefix.")


def _local_endpoint(session: Session) -> str | None:
    """Endpoint of the local emulator, if the stage is there and it runs."""
    from metering.adapters.emulator.state import running_endpoint
    from metering.fleet.settings.bases import runs_on_emulator

    return running_endpoint() if runs_on_emulator(session.stage) else None


def _in_bucket(text: str, session: Session) -> Target:
    # Slow to import: only for those who read a bucket.
    from metering.wiring.ingest import log_bucket

    bucket, _, prefix = text.removeprefix(_S3).partition("/")
    if not bucket:
        raise WrongUsageError(f"{text} names no bucket.", "Write it as s3://bucket/prefix.")
    # Logs lie where their owner keeps them: on AWS, also if the stage is on an emulator, unless an endpoint is named.
    endpoint = session.named_endpoint or os.environ.get("AWS_ENDPOINT_URL") or None
    if endpoint is None and (local := _local_endpoint(session)):
        say(f"{text} is read from AWS. If it is a bucket of the local emulator: --endpoint {local}")
    store = log_bucket(bucket, os.environ, region=session.region_name, endpoint=endpoint)
    first = next(iter(store.list(prefix)), None)
    return Target(store=store, prefix=prefix, single=first is not None and first.key == prefix)
