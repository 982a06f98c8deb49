"""The reader of a region's batches, and what a command needs to send for others where senders are judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.errors import OperationFailedError
from metering.intake.reader import RecordBatchReader
from metering.intake.senders.producers import role_of
from metering.intake.senders.reader import JudgingReader
from metering.intake.work import ReadLimits
from metering.ledger.notes.producers import LedgerProducers

if TYPE_CHECKING:
    from metering.intake.ports import BatchReader
    from metering.intake.senders.producers import ServiceSenders
    from metering.settings import Settings
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.wiring.connection import RegionConnection


def batch_reader(
    *, objects: ObjectStore, items: ItemStore, clock: Clock, settings: Settings, services: ServiceSenders | None
) -> BatchReader:
    """The reader of a region's batches.

    Args:
        objects: The data bucket.
        items: The ledger, which has the registry.
        clock: Says how old a registry is that was read.
        settings: Of the stage.
        services: The service's own senders, in a stage whose producers are registered; None: nobody is judged.
    """
    limits = ReadLimits(object_bytes=settings.object_bytes)
    reader = RecordBatchReader(objects=objects, bucket=settings.data_bucket, limits=limits)
    if services is None:
        return reader
    return JudgingReader(reader=reader, producers=LedgerProducers(items=items, clock=clock), services=services)


def need_operator(region: RegionConnection) -> None:
    """Check that the caller may send messages of others again.

    Raises:
        OperationFailedError: The region judges senders, and the caller is no operator: all of it would be refused.
    """
    services = region.services
    if services is not None and role_of(region.caller_id()) not in services.operators:
        raise OperationFailedError(
            "Only the operator role of the stage may send for others here, because senders are judged: as "
            f"{region.caller()}, all of it would be refused.",
            "Take that role (output OperatorRoleArn of the data stack), and run the command again.",
        )
