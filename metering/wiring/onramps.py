"""On-ramps of a region: what the functions for log files work with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Self

from metering.adapters.aws.inventory import AwsInventory
from metering.adapters.aws.s3.log_buckets import S3LogStore
from metering.adapters.aws.session import Clients
from metering.adapters.ip_ranges import fetched_ip_ranges
from metering.errors import SettingsError, UnavailableError
from metering.onramps.arrivals import Arrivals
from metering.onramps.context.keeping import ContextKeeper
from metering.onramps.context.store import ContextStore
from metering.onramps.coverage.expected import expected_of
from metering.onramps.coverage.job import TIME_S, CoverageJob
from metering.onramps.ingest.refusals import Refusals
from metering.onramps.ingest.taking import LogIngest
from metering.onramps.kinds import KINDS, recognised
from metering.onramps.plans import Plan
from metering.onramps.sources import decode_sources
from metering.settings import OnrampSettings
from metering.units import DAY_S, MINUTE_S
from metering.wiring.functions import FunctionParts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.onramps.sources import LogSource
    from metering.wiring.ports import ServicePorts

# The function has four minutes, and captures a context before it looks.
_LOOK_S = 2 * MINUTE_S
# A plan outlives the markers of its batches by this, and so do the notes about plans.
_OUTLIVES_S = 15 * DAY_S


@dataclass(frozen=True)
class OnrampParts(FunctionParts):
    """Parts of a function that works on log files."""

    names: OnrampSettings

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Parts for a function with this environment.

        Raises:
            SettingsError: Names every problem of the environment.
            FormatTooNewError: Newer code wrote the ledger, and may have put plans that this code cannot read.
            UnavailableError: The ledger did not answer when asked for its format.
        """
        made = cls(clients=Clients.from_env(environ), names=OnrampSettings.from_env(environ))
        made.open()
        return made

    def open(self) -> None:
        """Check that this code knows the format of the region's data."""
        _ = self.items

    @cached_property
    def sources(self) -> tuple[LogSource, ...]:
        """Log sources of the region.

        Raises:
            SettingsError: They cannot be read, or one is the region's own data bucket.
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


def build_arrivals(parts: OnrampParts) -> Arrivals:
    """Build what takes new log files."""
    return Arrivals(
        sources=parts.sources,
        store_of=cache(lambda bucket: S3LogStore(parts.clients.s3, bucket)),
        recognise=recognised,
        files=LogIngest(
            objects=parts.objects,
            bucket=parts.names.data_bucket,
            queue=parts.ingest,
            contexts=parts.contexts,
            clock=parts.clock,
            window_s=parts.names.window_s,
        ),
        refusals=Refusals(objects=parts.objects),
        contexts=parts.contexts,
    )


def build_context_keeper(parts: OnrampParts) -> ContextKeeper:
    """Build what captures contexts."""
    sources = parts.sources
    inventory = AwsInventory(
        parts.clients,
        regions=[region for source in sources for region in (source.context_regions or (source.region,))],
        role_arns=[arn for source in sources for arn in source.context_role_arns],
        buckets={source.bucket: source.region for source in sources},
        ip_ranges=partial(_ip_ranges, emulated=parts.clients.access.custom_endpoint),
    )
    return ContextKeeper(contexts=parts.contexts, describe=inventory.describe, clock=parts.clock)


def build_coverage_look(parts: OnrampParts) -> Callable[[], Mapping[str, int]]:
    """Build what looks for missing log files; it answers with what it found."""
    job = build_coverage(parts, parts.sources, contexts=parts.contexts, time_s=_LOOK_S)

    def look() -> Mapping[str, int]:
        found = job.run(parts.clock.now_ms() // 1000)
        return {"sources": found.sources, "missing_slots": found.missing_slots, "silent": found.silent}

    return look


def _ip_ranges(*, emulated: bool) -> Mapping[str, object]:
    """AWS's list of address ranges. An emulator may be out of its reach: then public peers are unclassified there."""
    try:
        return fetched_ip_ranges()
    except UnavailableError:
        if not emulated:
            raise
        return {"prefixes": [], "ipv6_prefixes": []}


def build_coverage(
    parts: ServicePorts, sources: Sequence[LogSource], *, contexts: ContextStore | None = None, time_s: int = TIME_S
) -> CoverageJob:
    """Build the coverage job.

    Args:
        parts: Ports and settings of the region.
        sources: Log sources of the stage in this region; none where nobody set any up, then nothing holds back.
        contexts: Contexts that a process keeps from one run to the next; None for a store of its own.
        time_s: Time that a run may take.
    """
    objects, settings = parts.objects, parts.settings
    store = ContextStore(objects) if contexts is None else contexts
    return CoverageJob(
        items=parts.items,
        objects=objects,
        clock=parts.clock,
        kinds={kind.name: kind.settles_after_s for kind in KINDS},
        log_sources=sources,
        expected=lambda: expected_of(store.newest()),
        read_plan=lambda key: Plan.decode(objects.get(key), key),
        window_s=settings.window_s,
        keep_s=settings.marker_life_s + _OUTLIVES_S,
        unclassified_permille=10 * settings.log_unclassified_percent,
        time_s=time_s,
    )
