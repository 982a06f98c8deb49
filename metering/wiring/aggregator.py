"""Aggregator of a region, with the reader of batches and the codec of staging."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from metering.adapters.aws.session import Clients
from metering.commit.aggregator import Aggregator
from metering.errors import SettingsError
from metering.intake.senders.producers import decode_services
from metering.lake.parquet.codec import ParquetRowCodec
from metering.settings import AggregatorSettings
from metering.wiring.functions import WriterParts
from metering.wiring.senders import batch_reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.intake.senders.producers import ServiceSenders
    from metering.stores.telemetry import Metrics
    from metering.wiring.ports import ServicePorts


@dataclass(frozen=True)
class AggregatorParts(WriterParts):
    """Parts of the function that meters the ingest queue."""

    names: AggregatorSettings

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Parts for a function with this environment.

        Raises:
            SettingsError: Names every problem of the environment.
        """
        made = cls(clients=Clients.from_env(environ), names=AggregatorSettings.from_env(environ))
        _ = made.services
        return made

    @cached_property
    def services(self) -> ServiceSenders | None:
        """The service's own senders; None in a stage that is open.

        Raises:
            SettingsError: They cannot be read. Such a function judges nobody rather than everybody right.
        """
        try:
            return decode_services(self.names.senders) if self.names.senders else None
        except ValueError as error:
            raise SettingsError([f"METERING_SENDERS: {error}"]) from error


def build_aggregator(ports: ServicePorts, metrics: Metrics, services: ServiceSenders | None = None) -> Aggregator:
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
