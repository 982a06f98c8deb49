"""Ingest of log files by command: where they lie, the contexts that judge them, and the parts of a region."""

from __future__ import annotations

from functools import partial
from threading import RLock
from typing import TYPE_CHECKING

from metering.adapters.aws.s3.log_buckets import S3LogStore
from metering.adapters.aws.session import Clients
from metering.adapters.folders import FolderLogStore
from metering.ledger.markers import Marker, marker_key
from metering.onramps.context.document import Context
from metering.onramps.context.store import ContextStore
from metering.onramps.context.timeline import StoredContext, Timeline
from metering.onramps.ingest.taking import LogIngest
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from metering.onramps.ingest.planning import Contexts
    from metering.wiring.region import RegionPorts


def build_ingest(ports: RegionPorts, *, bucket: str, window_s: int, contexts: Path | None) -> LogIngest:
    """Ingest into a region.

    Args:
        ports: Its ports.
        bucket: Name of its data bucket.
        window_s: Age from which it refuses records.
        contexts: Folder with the contexts to judge by; None for those of the region.
    """
    kept = ContextStore(ports.objects)
    return LogIngest(
        objects=ports.objects,
        bucket=bucket,
        queue=ports.ingest,
        contexts=RememberedContexts(kept if contexts is None else BroughtContexts(folder_contexts(contexts), kept)),
        clock=ports.clock,
        window_s=window_s,
        is_booked=partial(_is_booked, ports),
    )


def _is_booked(ports: RegionPorts, batch_id: str) -> bool:
    item = ports.items.get(Table.LEDGER, marker_key(batch_id))
    return item is not None and Marker.from_item(item).verdict == "accepted"


def log_bucket(bucket: str, environ: Mapping[str, str], *, region: str, endpoint: str | None) -> S3LogStore:
    """A bucket with log files, of anyone, read with the credentials of the environment.

    Args:
        bucket: Its name.
        environ: Environment of the process.
        region: Region to ask first; S3 says where the bucket is.
        endpoint: URL; None for AWS.
    """
    return S3LogStore(Clients.from_env(environ, region=region, endpoint_url=endpoint).s3, bucket)


def folder_contexts(folder: Path) -> ContextStore:
    """The contexts of a folder."""
    return ContextStore(FolderLogStore(folder))


class RememberedContexts:
    """Contexts for several threads: the newest ones as of the first use, and each read by one thread at a time.

    Args:
        contexts: The contexts.
    """

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts
        self._reading = RLock()
        self._timeline: Timeline | None = None

    def timeline(self) -> Timeline:
        with self._reading:
            if self._timeline is None:
                self._timeline = self._one_by_one(self._contexts.timeline())
            return self._timeline

    def pinned(self, pins: Mapping[int, str]) -> Timeline:
        with self._reading:
            return self._one_by_one(self._contexts.pinned(pins))

    def _one_by_one(self, timeline: Timeline) -> Timeline:
        return _read_by(timeline, self._read)

    def _read(self, version: Context | StoredContext) -> Context:
        with self._reading:
            return version if isinstance(version, Context) else version.read()


class BroughtContexts:
    """Contexts of a folder. One that judges is kept in the region before any plan names it, and judges no other files.

    Args:
        brought: The contexts of the folder.
        kept: The contexts of the region; plans name these.
    """

    def __init__(self, brought: ContextStore, kept: ContextStore) -> None:
        self._brought = brought
        self._kept = kept

    def timeline(self) -> Timeline:
        return _read_by(self._brought.timeline(), self._keep)

    def pinned(self, pins: Mapping[int, str]) -> Timeline:
        return self._kept.pinned(pins)

    def _keep(self, version: Context | StoredContext) -> Context:
        context = self._brought.get(version.effective_s, version.sha256)
        self._kept.put_brought(context)
        return context


def _read_by(timeline: Timeline, read: Callable[[Context | StoredContext], Context]) -> Timeline:
    return Timeline(
        tuple(
            (
                from_s,
                StoredContext(effective_s=version.effective_s, sha256=version.sha256, read=partial(read, version)),
            )
            for from_s, version in timeline.versions
        )
    )
