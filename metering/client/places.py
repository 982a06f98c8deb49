"""Places that a program reads: regions of a stage, found as the command line finds them, and never changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from metering.adapters.aws.session import Clients
from metering.adapters.aws.stacks import stack_outputs
from metering.adapters.emulator.health import is_emulator
from metering.adapters.emulator.state import running_endpoint
from metering.errors import OperationFailedError, SettingsError, UnavailableError
from metering.fleet.settings.bases import SAFEST, STAGES, runs_on_emulator
from metering.fleet.settings.layers import Asked
from metering.fleet.settings.names import STAGE_NAME
from metering.fleet.stage import StageConfig
from metering.usage.locations import is_region
from metering.wiring.connection import RegionConnection
from metering.wiring.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ALL = "all"
_TOO_LITTLE = "Nothing is answered, because it would be too little. Ask again, or name one region."


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A stage, and one of its regions or all.

    Attributes:
        region: Name of the region, or `all`.
        endpoint: URL of an emulator; None for AWS.
        environ: Environment of the AWS SDK.
    """

    stage: str
    region: str
    endpoint: str | None
    environ: Mapping[str, str]

    @classmethod
    def named(cls, *, stage: str | None, region: str | None, endpoint: str | None, environ: Mapping[str, str]) -> Place:
        """The place that arguments name, and the environment where they do not. Nothing is asked yet.

        Raises:
            OperationFailedError: Something is no name.
        """
        place = cls(
            stage=stage or environ.get("METERING_STAGE") or "local",
            region=region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            endpoint=endpoint or environ.get("AWS_ENDPOINT_URL") or None,
            environ=environ,
        )
        if re.fullmatch(STAGE_NAME, place.stage) is None:
            raise OperationFailedError(
                f"{place.stage} is not the name of a stage.", "It is a letter, then up to 15 of a-z, 0-9 and dashes."
            )
        if place.region != ALL and not is_region(place.region):
            raise OperationFailedError(
                f"{place.region} is not the name of a region.", "Write it as eu-west-1, or all for every region."
            )
        if place.endpoint is not None and not _is_url(place.endpoint):
            raise OperationFailedError(
                f"The endpoint {place.endpoint} is not a URL.", "Write it as http://127.0.0.1:4566."
            )
        return place

    @property
    def everywhere(self) -> bool:
        """Whether all regions of the stage are asked."""
        return self.region == ALL

    def regions(self) -> list[RegionConnection]:
        """The region, or all that hold data, sorted by name.

        Raises:
            OperationFailedError: A region is not deployed, or one that holds data cannot be read.
            UnavailableError: A region gives no answer.
        """
        endpoint = self._reached()
        return list(self._all(endpoint)) if self.everywhere else [self._connected(self.region, endpoint)]

    def left_out(self) -> dict[str, list[str]]:
        """Parts of the service that regions run without."""
        states = self._fleet(self._reached()).states.everything()
        return {state.region: list(state.left_out) for state in states if state.left_out}

    def _reached(self) -> str | None:
        """The endpoint to ask. A stage for emulators never reaches AWS.

        Raises:
            OperationFailedError: The stage is for emulators only, and none is there.
        """
        if not runs_on_emulator(self.stage):
            return self.endpoint
        endpoint = self.endpoint or running_endpoint()
        if endpoint is None or not is_emulator(endpoint, ca_bundle=self.environ.get("AWS_CA_BUNDLE") or None):
            where = "none runs here" if endpoint is None else f"{endpoint} is none"
            raise OperationFailedError(
                f"Stage {self.stage} runs on an emulator, and {where}.",
                "Start one with `metering local up`, or name another stage or endpoint.",
            )
        return endpoint

    def _connected(self, region: str, endpoint: str | None) -> RegionConnection:
        clients = Clients.from_env(self.environ, region=region, endpoint_url=endpoint)
        try:
            names = stack_outputs(clients, self.stage)
        except SettingsError as error:
            raise OperationFailedError(f"{error}.", "Name another stage, region or endpoint.") from error
        return RegionConnection(clients=clients, names=names).read_only()

    def _all(self, endpoint: str | None) -> Iterator[RegionConnection]:
        fleet = self._fleet(endpoint)
        states = {state.region: state for state in fleet.states.everything()}
        for name in sorted({fleet.home, *states}):
            try:
                yield self._connected(name, endpoint)
            except UnavailableError as error:
                raise OperationFailedError(f"Region {name} gives no answer ({error.detail}).", _TOO_LITTLE) from error
            except OperationFailedError:
                # A region that was never built completely has no data, and its stacks name no resources.
                if name == fleet.home or states[name].holds_data:
                    raise

    def _fleet(self, endpoint: str | None) -> Fleet:
        like = self.stage if self.stage in STAGES else SAFEST
        home = StageConfig.load(self.stage, like=like).rollout.home
        return Fleet(asked=Asked(stage=self.stage), home=home, endpoint=endpoint, environ=self.environ)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
