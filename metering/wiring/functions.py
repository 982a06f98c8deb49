"""Ports and settings of a function, from its environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.adapters.aws.session import Clients
from metering.settings import Settings
from metering.wiring.region import RegionPorts

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class FunctionParts(RegionPorts):
    """Ports of the function's region, and the settings that name them."""

    names: Settings

    @property
    def settings(self) -> Settings:
        return self.names


def for_function(environ: Mapping[str, str]) -> FunctionParts:
    """Parts for a function with this environment.

    Raises:
        SettingsError: Names every problem of the environment.
    """
    settings = Settings.from_env(environ)
    return FunctionParts(clients=Clients.from_env(environ), names=settings)
