"""Ports and settings of a function, from its environment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

from metering.adapters.aws.session import Clients
from metering.ledger.format_version import remember_format
from metering.settings import ApiSettings, Settings
from metering.version import package_version
from metering.wiring.region import RegionPorts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.lake.view import LakeView
    from metering.stores.items import ItemStore


@dataclass(frozen=True)
class FunctionParts(RegionPorts):
    """Ports of the function's region, and the settings that name them."""

    names: Settings

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Parts for a function with this environment.

        Raises:
            SettingsError: Names every problem of the environment.
        """
        settings = Settings.from_env(environ)
        return cls(clients=Clients.from_env(environ), names=settings)

    @property
    def settings(self) -> Settings:
        return self.names


@dataclass(frozen=True)
class WriterParts(FunctionParts):
    """Parts of the function that writes to a new region first: it makes the format of the region's data known."""

    def _open(self, items: ItemStore) -> None:
        generation = self.names.usage_generation
        remember_format(items, written_by=package_version(), usage_generation=generation)


@dataclass(frozen=True)
class ReaderParts(FunctionParts):
    """Parts of a function that only reads: what `metering.wiring.answers` asks of a region (`ReadableRegion`)."""

    names: ApiSettings

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Parts for a function with this environment.

        Raises:
            SettingsError: Names every problem of the environment.
        """
        return cls(clients=Clients.from_env(environ), names=ApiSettings.from_env(environ))

    @property
    def stage(self) -> str:
        return self.names.stage

    @cached_property
    def view(self) -> LakeView:
        """The lake. It is imported by the first request that reads it: most read the usage table alone."""
        from metering.wiring.lake import lake_view

        return lake_view(self.items, self.objects, shards=self.settings.shards)
