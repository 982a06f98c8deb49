"""Builds a region's aggregator, with the reader of batches and the codec of staging objects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from metering.commit.aggregator import Aggregator
from metering.errors import OperationFailedError, SettingsError
from metering.intake import work
from metering.intake.reader import JudgingReader, RecordBatchReader
from metering.intake.senders import ServiceSenders, decode_services, role_of
from metering.lake.parquet.codec import ParquetRowCodec
from metering.ledger.notes.access import LedgerProducers
from metering.settings import AggregatorSettings, Settings
from metering.wiring.region import WriterParts

if TYPE_CHECKING:
    from metering.intake import batches
    from metering.stores import writes
    from metering.stores.clock import Clock, Metrics
    from metering.stores.objects import ObjectStore
    from metering.wiring import connection, lake


def batch_reader(
    *, objects: ObjectStore, items: writes.ItemStore, clock: Clock, settings: Settings, services: ServiceSenders | None
) -> batches.BatchReader:
    """Build the reader of a region's batches.

    Given `services` (the service's own senders), the reader also checks senders by the registry in the ledger. If
    `services` is None, no sender is checked.
    """
    limits = work.ReadLimits(object_bytes=settings.object_bytes)
    reader = RecordBatchReader(
        objects=objects, bucket=settings.data_bucket, limits=limits, drop_identity=settings.drop_identity
    )
    if services is None:
        return reader
    return JudgingReader(reader=reader, producers=LedgerProducers(items=items, clock=clock), services=services)


def need_operator(region: connection.RegionConnection) -> None:
    """Check that the caller may resend messages of other senders.

    Raises:
        OperationFailedError: The region checks senders and would refuse all messages: the caller is not an operator.
    """
    services = region.services
    if services is not None and role_of(region.caller_id()) not in services.operators:
        raise OperationFailedError(
            "Only the operator role of the stage may send for others here, because senders are judged: as "
            f"{region.caller()}, all of it would be refused.",
            "Take that role (output OperatorRoleArn of the data stack), and run the command again.",
        )


@dataclass(frozen=True)
class AggregatorParts(WriterParts):
    """Ports and settings of the function that meters the ingest queue."""

    reads = AggregatorSettings
    names: AggregatorSettings

    def check(self) -> None:
        """Read the senders. Raises as `services` does."""
        _ = self.services

    @cached_property
    def services(self) -> ServiceSenders | None:
        """The service's own senders; None in an open stage.

        Raises:
            SettingsError: They cannot be read. The function then does not start, because it would accept every sender.
        """
        try:
            return decode_services(self.names.senders) if self.names.senders else None
        except ValueError as error:
            raise SettingsError([f"METERING_SENDERS: {error}"]) from error


def build_aggregator(ports: lake.ServicePorts, metrics: Metrics, services: ServiceSenders | None = None) -> Aggregator:
    """Build the aggregator of a region; `services` as in `batch_reader`."""
    reader = batch_reader(
        objects=ports.objects, items=ports.items, clock=ports.clock, settings=ports.settings, services=services
    )
    return Aggregator(
        items=ports.items,
        objects=ports.objects,
        reader=reader,
        codec=ParquetRowCodec(),
        clock=ports.clock,
        entropy=ports.entropy,
        metrics=metrics,
        settings=ports.settings,
        alerts=ports.alerts,
    )
