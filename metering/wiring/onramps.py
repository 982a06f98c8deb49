"""On-ramps of a region: builds what the functions for log files need."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from threading import RLock
from typing import TYPE_CHECKING

from metering.adapters import description_files, folders
from metering.adapters.aws import log_buckets, session
from metering.adapters.aws.inventory import AwsInventory
from metering.errors import MeteringError, ObjectMissingError, SettingsError, UnavailableError
from metering.ledger.markers import Marker, marker_key
from metering.onramps import arrivals, kinds, plans
from metering.onramps.context.description import read_ip_ranges
from metering.onramps.context.document import Context
from metering.onramps.context.store import ContextKeeper, ContextStore, StoredContext, Timeline
from metering.onramps.coverage.job import TIME_S, CoverageJob
from metering.onramps.ingest import taking
from metering.onramps.sources import LogSource, decode_sources
from metering.settings import OnrampSettings
from metering.stores.objects import CONTEXT_PREFIX, ObjectStore
from metering.stores.writes import Table
from metering.units import DAY_S, MINUTE_S
from metering.wiring.region import FunctionParts, RegionPorts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from metering.onramps.ingest.planning import Contexts
    from metering.wiring.lake import ServicePorts


_LOG = logging.getLogger(__name__)
# The function's timeout is four minutes, and the function first captures a context in this time.
_LOOK_S = 2 * MINUTE_S
# Plans, and notes about plans, exist for this much longer than the markers of their batches.
_OUTLIVES_S = 15 * DAY_S


@dataclass(frozen=True)
class OnrampParts(FunctionParts):
    """Ports and settings of a function that works on log files."""

    reads = OnrampSettings
    names: OnrampSettings

    def check(self) -> None:
        """Check that this code knows the format of the region's data.

        Raises:
            FormatTooNewError: Newer code wrote the ledger, and its plans may be unreadable for this code.
            UnavailableError: The ledger did not respond to the read of its format.
        """
        _ = self.items

    @cached_property
    def sources(self) -> tuple[LogSource, ...]:
        """Log sources of the region.

        Raises:
            SettingsError: The log sources cannot be read, or one of them is in the region's own data bucket.
        """
        try:
            found = decode_sources(self.names.log_sources)
        except ValueError as error:
            raise SettingsError([f"METERING_LOG_SOURCES: {error}"]) from error
        if own := [source.name for source in found if source.bucket == self.names.data_bucket]:
            raise SettingsError(
                [f"log source {own[0]} is in the data bucket of this region, whose objects are no logs"]
            )
        return found

    @cached_property
    def contexts(self) -> ContextStore:
        return ContextStore(self.objects)


def build_arrivals(parts: OnrampParts) -> arrivals.Arrivals:
    """Build the ingest of new log files."""
    return arrivals.Arrivals(
        sources=parts.sources,
        store_of=cache(lambda bucket: log_buckets.S3LogStore(parts.clients.s3, bucket)),
        recognise=kinds.recognised,
        files=taking.LogIngest(
            objects=parts.objects,
            bucket=parts.names.data_bucket,
            queue=parts.ingest,
            contexts=parts.contexts,
            clock=parts.clock,
            window_s=parts.names.window_s,
            causes=parts.names.causes,
        ),
        refusals=taking.Refusals(objects=parts.objects),
        contexts=parts.contexts,
    )


def build_context_keeper(parts: OnrampParts) -> ContextKeeper:
    """Build what captures contexts."""
    sources = parts.sources
    inventory = AwsInventory(
        parts.clients,
        regions=[region for source in sources for region in (source.context_regions or (source.region,))],
        role_arns=[arn for source in sources for arn in source.context_role_arns],
        tag_keys=[key for key in parts.names.tag_keys.split(",") if key],
        buckets={source.bucket: source.region for source in sources},
        ip_ranges=partial(ip_ranges, parts.objects, emulated=parts.clients.access.custom_endpoint),
    )
    home = partial(parts.objects_in, parts.names.home_region or parts.region)
    return ContextKeeper(
        contexts=parts.contexts,
        describe=lambda: with_networks(inventory.describe(), home, parts.contexts),
        clock=parts.clock,
    )


def with_networks(
    description: Mapping[str, object], home: Callable[[], ObjectStore], contexts: ContextStore
) -> Mapping[str, object]:
    """A description with the networks that people named, by the newest book of owners in the home region's bucket.

    If the book cannot be read, a capture goes on with the networks of the newest context.
    """
    from metering.billing.owners import OwnerStore

    try:
        networks = OwnerStore(home()).newest().networks
    except MeteringError as error:
        _LOG.warning("The book of owners was not read: %s.", error)
        newest = contexts.newest()
        networks = newest.networks if newest is not None else ()
    return {**description, "networks": [each._asdict() for each in networks]}


def build_coverage_look(parts: OnrampParts) -> Callable[[], Mapping[str, int]]:
    """Build a function that searches for missing log files and returns how many there are."""
    job = build_coverage(parts, parts.sources, contexts=parts.contexts, time_s=_LOOK_S)

    def look() -> Mapping[str, int]:
        found = job.run(parts.clock.now_ms() // 1000)
        return {"sources": found.sources, "missing_slots": found.missing_slots, "silent": found.silent}

    return look


# AWS's list of address ranges, if people put it there because functions cannot fetch it.
IP_RANGES_KEY = f"{CONTEXT_PREFIX}ip-ranges.json"


def ip_ranges(objects: ObjectStore, *, emulated: bool) -> Mapping[str, object]:
    """AWS's list of address ranges, from the bucket or its publisher.

    Offline emulators have none, so public peers are unclassified.
    """
    with suppress(ObjectMissingError):
        return read_ip_ranges(objects.get(IP_RANGES_KEY))
    try:
        return description_files.fetched_ip_ranges()
    except UnavailableError:
        if not emulated:
            raise
        return {"prefixes": [], "ipv6_prefixes": []}


def build_coverage(
    parts: ServicePorts, sources: Sequence[LogSource], *, contexts: ContextStore | None = None, time_s: int = TIME_S
) -> CoverageJob:
    """Build the coverage job, which may run for `time_s`.

    If `sources` is empty, the job does not delay completeness. The process caches `contexts` between runs.
    """
    objects, settings = parts.objects, parts.settings
    store = ContextStore(objects) if contexts is None else contexts
    return CoverageJob(
        items=parts.items,
        objects=objects,
        clock=parts.clock,
        kinds={kind.name: kind.settles_after_s for kind in kinds.KINDS},
        log_sources=sources,
        newest_context=store.newest,
        read_plan=lambda key: plans.Plan.from_json(objects.get(key), key),
        window_s=settings.window_s,
        keep_s=settings.marker_life_s + _OUTLIVES_S,
        unclassified_permille=10 * settings.log_unclassified_percent,
        time_s=time_s,
    )


def build_ingest(
    ports: RegionPorts, *, bucket: str, window_s: int, contexts: Path | None, causes: bool
) -> taking.LogIngest:
    """Build the ingest of log files, with the contexts of a folder or of the region.

    Records that are `window_s` old or older are refused; `causes` says whether the causes of new files are kept.
    """
    kept = ContextStore(ports.objects)
    return taking.LogIngest(
        objects=ports.objects,
        bucket=bucket,
        queue=ports.ingest,
        contexts=RememberedContexts(kept if contexts is None else BroughtContexts(folder_contexts(contexts), kept)),
        clock=ports.clock,
        window_s=window_s,
        is_booked=partial(_is_booked, ports),
        causes=causes,
    )


def _is_booked(ports: RegionPorts, batch_id: str) -> bool:
    item = ports.items.get(Table.LEDGER, marker_key(batch_id))
    return item is not None and Marker.from_item(item).verdict == "accepted"


def log_bucket(bucket: str, environ: Mapping[str, str], *, region: str, endpoint: str | None) -> log_buckets.S3LogStore:
    """A bucket with log files, in any account, read with the environment's credentials. S3 tells its region."""
    return log_buckets.S3LogStore(session.Clients.from_env(environ, region=region, endpoint_url=endpoint).s3, bucket)


def folder_contexts(folder: Path) -> ContextStore:
    """The contexts in a folder."""
    return ContextStore(folders.FolderLogStore(folder))


class RememberedContexts:
    """Thread-safe contexts: the newest contexts at the time of first use, read by one thread at a time."""

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
    """Contexts of a folder. A context is stored in the region before plans name it, and used only for the given files.

    Args:
        brought: The contexts of the folder.
        kept: The region's contexts, which plans name.
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
            (from_s, StoredContext(effective_s=version.effective_s, sha256=version.sha256, read=partial(read, version)))
            for from_s, version in timeline.versions
        )
    )
