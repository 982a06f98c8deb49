"""Parts of a restore of a region's ledger, for the command."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from metering.adapters import inert
from metering.adapters.aws.capacity import LedgerCapacity
from metering.adapters.aws.demands import Demands
from metering.adapters.aws.restoring import DynamoDbTables, RegionFence
from metering.adapters.aws.session import Clients
from metering.errors import OperationFailedError
from metering.hours import rfc3339
from metering.restore.claim import Claim, Claims
from metering.restore.late import LateFiles
from metering.restore.ports import Outcome
from metering.restore.steps import InUse, Restorer, Restores
from metering.stores.clock import Retrier, scans_at_once
from metering.version import package_version
from metering.wiring.jobs import LakeJobs
from metering.wiring.region import unwritten_ledger
from metering.wiring.restore import restoration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.audit.census_state import HourStep
    from metering.restore.core import Restoration, Restored
    from metering.restore.ports import Tell
    from metering.stores.writes import ItemStore
    from metering.wiring.connection import RegionConnection


@dataclass(frozen=True)
class RegionRestore:
    """Parts of a restore in one region, each created on first use. None of them opens the ledger in use."""

    region: RegionConnection

    @cached_property
    def tables(self) -> DynamoDbTables:
        config = self.region.config
        return DynamoDbTables(
            # Item stores change how their client decodes items.
            Clients(self.region.clients.access),
            like=self.region.names.ledger_table,
            retained=config.stateful_retained,
            warm_writes_per_s=config.ledger_warm_writes_per_s,
            demands=Demands.of(config, self.region.clients),
        )

    @cached_property
    def fence(self) -> RegionFence:
        return RegionFence(self.region.clients, stage=self.region.stage)

    @cached_property
    def claims(self) -> Claims:
        place = f"--stage {self.region.stage} --region {self.region.region}"
        return Claims(objects=self.region.objects, retrier=self._retrier, place=place)

    @cached_property
    def restores(self) -> Restores:
        names = self.region.names
        return Restores(
            stage=self.region.stage,
            in_use=InUse(names.ledger_table, names.usage_table, names.usage_generation),
            tables=self.tables,
            items_of=self._items_of,
            claims=self.claims,
            clock=self.region.clock,
            has_kinds=lambda: self.tables.is_active(names.ledger_table),
            emulated=self.region.emulated,
        )

    @property
    def marker_life_s(self) -> int:
        return self.region.settings.marker_life_s

    @property
    def version(self) -> str:
        return self.region.version

    def who(self) -> str:
        return self.region.caller()

    def restorer(self, claim: Claim, *, say: Callable[[str], None], tell: Tell) -> Restorer:
        """Build what does the steps of a stored claim."""
        return Restorer(
            claim=claim,
            who=self.who(),
            version=package_version(),
            tables=self.tables,
            items_of=self._items_of,
            claims=self.claims,
            fence=self.fence,
            ledger=self.ledger(claim),
            clock=self.region.clock,
            drop_identity=self.region.settings.drop_identity,
            say=say,
            tell=tell,
        )

    def ledger(self, claim: Claim) -> RestoredLedger:
        """Build the steps that change the new ledger."""
        region, threads = self.region, scans_at_once(emulated=self.region.emulated)
        names = replace(
            region.names,
            ledger_table=claim.new_table,
            usage_table=claim.usage_table or claim.old_usage_table,
            usage_generation=claim.usage_generation,
        )
        jobs = LakeJobs(
            items=unwritten_ledger(region.clients, names),
            objects=region.objects,
            clock=region.clock,
            entropy=region.entropy,
            metrics=inert.NoMetrics(),
            alerts=region.alerts,
            settings=region.settings.model_copy(update=asdict(names)),
            threads=threads,
        )
        made = restoration(
            jobs,
            generation=claim.generation,
            since_ms=claim.to_s * 1000,
            old=self._items_of(claim.old_table) if self.tables.is_active(claim.old_table) else None,
            whole=bool(claim.usage_table),
            threads=threads,
        )
        return RestoredLedger(made, LateFiles(view=jobs.view, generation=claim.generation))

    def set_aside(self, table: str) -> None:
        """Set the old ledger on demand, so that it costs its storage alone until the restore is finished."""
        if self.region.config.ledger_scales:
            with suppress(OperationFailedError):
                LedgerCapacity(self.region.clients.dynamodb, None).bill(table)

    @cached_property
    def _retrier(self) -> Retrier:
        return Retrier(clock=self.region.clock, entropy=self.region.entropy, attempts=self.region.settings.attempts)

    def _items_of(self, table: str) -> ItemStore:
        return unwritten_ledger(self.region.clients, replace(self.region.names, ledger_table=table))


@dataclass(frozen=True, slots=True)
class RestoredLedger:
    """`NewLedger` of a restore."""

    core: Restoration
    late: LateFiles

    def decide(self) -> None:
        self.core.decider.decide()

    def prepare(self, tell: Tell) -> Outcome:
        def tell_hour(step: HourStep) -> None:
            tell(f"usage {step.doing}, in hours", step.done, step.hours)

        return _outcome(self.core.prepare(tell, tell_hour))

    def assist(self, tell: Tell) -> int:
        return self.core.assist(tell).markers

    def open(self) -> None:
        self.core.open()

    def late_files(self) -> Sequence[str]:
        return self.late.find()

    def withdraw(self) -> Sequence[str]:
        return self.late.withdraw()


def _outcome(restored: Restored) -> Outcome:
    rebuilt = restored.rebuilt
    return Outcome(
        batches={
            "lake": restored.adopted.markers + (0 if rebuilt is None else rebuilt.rebuilt),
            "staging": restored.adopted.in_place,
            "copied": restored.copied.batches,
        },
        hashless=0 if rebuilt is None else rebuilt.rebuilt - rebuilt.whole,
        undecided=tuple(sorted(restored.copied.undecided)),
        unconfirmed=restored.carried.unconfirmed,
        damaged=tuple(f"The lake files of {rfc3339(hour_s)} are damaged." for hour_s in restored.usage.damaged),
    )
