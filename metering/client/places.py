"""Places that a program reads: regions of a stage, found as the command line finds them, and never changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from metering.adapters.aws.fleet.homes import published_home
from metering.adapters.aws.session import Clients
from metering.adapters.aws.stacks import stack_outputs
from metering.adapters.emulator.health import is_emulator
from metering.adapters.emulator.reaching import endpoint_for
from metering.errors import OperationFailedError, SettingsError, UnavailableError
from metering.fleet.settings.bases import SAFEST, STAGES, runs_on_emulator
from metering.fleet.settings.layers import Asked
from metering.fleet.settings.names import STAGE_NAME
from metering.fleet.stage import StageConfig
from metering.reports.safe_text import without_password
from metering.usage.locations import is_region
from metering.wiring.connection import RegionConnection
from metering.wiring.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ALL = "all"
_TOO_LITTLE = "Nothing is answered, because it would be too little. Ask again, or name one region."


@dataclass(frozen=True, kw_only=True)
class Place:
    """A stage, and one of its regions or all.

    Attributes:
        given_region: Name of the region, or `all`; None: the home region.
        given_home: Home region of the stage; None: as the deployed stage says.
        only: The region if the program named it, so that costs are those of its usage alone; else None.
        endpoint: URL of an emulator; None for AWS.
        environ: Environment of the AWS SDK.
    """

    stage: str
    given_region: str | None
    endpoint: str | None
    environ: Mapping[str, str]
    given_home: str | None = None
    only: str | None = None

    @classmethod
    def named(
        cls,
        *,
        stage: str | None,
        region: str | None,
        endpoint: str | None,
        environ: Mapping[str, str],
        home: str | None = None,
    ) -> Place:
        """The place that arguments name, and the environment where they do not. Nothing is asked yet.

        Raises:
            OperationFailedError: Something is no name.
        """
        stage = stage or environ.get("METERING_STAGE") or "local"
        if re.fullmatch(STAGE_NAME, stage) is None:
            raise OperationFailedError(
                f"{stage} is not the name of a stage.", "It is a letter, then up to 15 of a-z, 0-9 and dashes."
            )
        place = cls(
            stage=stage,
            given_home=home,
            given_region=region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None,
            endpoint=endpoint or environ.get("AWS_ENDPOINT_URL") or None,
            environ=environ,
            only=None if region == ALL else region,
        )
        if place.given_region and place.given_region != ALL and not is_region(place.given_region):
            raise OperationFailedError(
                f"{place.given_region} is not the name of a region.", "Write it as eu-west-1, or all for every region."
            )
        if place.endpoint is not None and not _is_url(place.endpoint):
            raise OperationFailedError(
                without_password(f"The endpoint {place.endpoint} is not a URL."), "Write it as http://127.0.0.1:4566."
            )
        return place

    @cached_property
    def home(self) -> str:
        """Home region of the stage: its states of regions, price books and payers are there."""
        return self.given_home or self._deployed_home() or _home_of(self.stage)

    @cached_property
    def region(self) -> str:
        """Name of the region, or `all`."""
        return self.given_region or self.home

    def _deployed_home(self) -> str | None:
        if runs_on_emulator(self.stage):
            return None
        return published_home(self.stage, environ=self.environ, endpoint=self._reached())

    @property
    def everywhere(self) -> bool:
        """Whether all regions of the stage are asked."""
        return self.given_region == ALL

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

    def billing(self) -> tuple[RegionConnection, Sequence[RegionConnection]]:
        """The home region, and all regions that hold data, whichever was named: tiers count over all of them.

        Raises:
            OperationFailedError: One of them cannot be read: costs would be at wrong tiers.
            UnavailableError: The home region gives no answer.
        """
        endpoint = self._reached()
        home = self._home(endpoint)
        names = {state.region for state in self._fleet(endpoint).states.everything()} - {home.region}
        alone = not names or home.region != self.home
        return home, [home] if alone else list(self._all(endpoint))

    def _home(self, endpoint: str | None) -> RegionConnection:
        """The home region. A stage on an emulator may live in one region that is not its home."""
        try:
            return self._connected(self.home, endpoint)
        except OperationFailedError:
            emulated = endpoint is not None and is_emulator(endpoint, ca_bundle=self._ca_bundle)
            if self.everywhere or self.region == self.home or not emulated:
                raise
        return self._connected(self.region, endpoint)

    @property
    def _ca_bundle(self) -> str | None:
        return self.environ.get("AWS_CA_BUNDLE") or None

    def _reached(self) -> str | None:
        return endpoint_for(self.stage, self.endpoint, self.environ)

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
        return Fleet(asked=Asked(stage=self.stage), home=self.home, endpoint=endpoint, environ=self.environ)


def _home_of(stage: str) -> str:
    return StageConfig.load(stage, like=stage if stage in STAGES else SAFEST).rollout.home


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
