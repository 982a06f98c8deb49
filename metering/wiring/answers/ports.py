"""What an answer reads of a region: a command's connection has it, and so has a function that reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from metering.lake.view import LakeView
    from metering.ledger.usage.kinds import KindNames
    from metering.settings import Policy
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore


class ReadableRegion(Protocol):
    """Stores and settings of one region, to read."""

    @property
    def region(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def items(self) -> ItemStore: ...
    @property
    def kind_names(self) -> KindNames: ...
    @property
    def objects(self) -> ObjectStore: ...
    @property
    def view(self) -> LakeView: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def settings(self) -> Policy: ...
