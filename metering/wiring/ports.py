"""Ports and settings that the parts of the service are built of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from metering.settings import Settings
    from metering.stores.clock import Clock, Entropy
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.telemetry import Alerts


class ServicePorts(Protocol):
    """Stores, clock, alerts and settings of one region: of a function, of a command, or of a test."""

    @property
    def items(self) -> ItemStore: ...
    @property
    def objects(self) -> ObjectStore: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def entropy(self) -> Entropy: ...
    @property
    def alerts(self) -> Alerts: ...
    @property
    def settings(self) -> Settings: ...
