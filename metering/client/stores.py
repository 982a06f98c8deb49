"""Answers from the regions' stores, by the same use cases and parameters as on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from metering.adapters.aws import errors, homes, runtime
from metering.adapters.aws.session import Clients
from metering.adapters.emulator.ministack import endpoint_for, is_emulator
from metering.billing.owners import Owners
from metering.client.asking import SqlQuestion, table_of
from metering.errors import OperationFailedError, SettingsError, UnavailableError
from metering.fleet.regions import LedgerRegionStates
from metering.fleet.settings.bases import SAFEST, STAGE_NAME, STAGES, runs_on_emulator
from metering.fleet.stage import StageConfig
from metering.reports.answer import without_password
from metering.reports.time_range import InvalidParametersError, ParameterProblem, time_range, zone_of
from metering.units import DAY_S
from metering.usage.usage_types import is_region
from metering.wiring.answers import costs
from metering.wiring.answers.trace import trace_of
from metering.wiring.answers.usage import Everywhere, measured_completeness, usage_of
from metering.wiring.answers.who import Prices, closed_owners, owners_of, who_of
from metering.wiring.connection import RegionConnection, connected
from metering.wiring.region import Stage, home_ledger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from metering.reports.costs.rows import CostParameters
    from metering.reports.costs.source import BookName
    from metering.reports.query import TraceParameters, UsageParameters
    from metering.reports.who import WhoParameters
    from metering.stores.clock import Clock

ALL = "all"
_TOO_LITTLE = "Nothing is answered, because it would be too little. Ask again, or name one region."


@dataclass(frozen=True, kw_only=True)
class Place:
    """A stage, and one of its regions or all of them.

    Attributes:
        given_region: Name of a region, or `all`; None for the home region.
        given_home: Home region of the stage; None for the home region of the deployed stage.
        only: The region that the caller named, to which costs are limited; None if the caller named no region.
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
        """The stage and region that the arguments name, with defaults from the environment. Nothing is asked yet.

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
        """Home region of the stage, which stores the states of regions, price books and payers."""
        return self.given_home or self._deployed_home() or _home_of(self.stage)

    @cached_property
    def region(self) -> str:
        return self.given_region or self.home

    def _deployed_home(self) -> str | None:
        if runs_on_emulator(self.stage):
            return None
        return homes.published_home(self.stage, environ=self.environ, endpoint=self._reached)

    @property
    def everywhere(self) -> bool:
        return self.given_region == ALL

    def regions(self) -> list[RegionConnection]:
        """The named region, or all regions that hold data, sorted by name.

        Raises:
            OperationFailedError: A region is not deployed, or a region that holds data cannot be read.
            UnavailableError: A region does not respond.
        """
        if not self.everywhere:
            return [self._connected(self.region)]
        found: list[RegionConnection] = []
        for name in self._stage.names:
            try:
                found += self._stage.reached(name)
            except UnavailableError as error:
                raise _silent(name, error) from error
        return found or [self._connected(self.home)]

    def left_out(self) -> dict[str, list[str]]:
        return self._stage.left_out

    def billing(self) -> tuple[RegionConnection, Sequence[RegionConnection]]:
        """The home region and all regions with data, even if one was named: tiers count usage of all regions.

        Raises:
            OperationFailedError: A region cannot be read, so the tiers of costs would be wrong.
            UnavailableError: The home region does not respond.
        """
        home = self._stage.billing_home(None if self.everywhere else self.region, emulated=self._emulated)
        regions, unread = self._stage.readable(home)
        for name, error in unread.items():
            raise _silent(name, error) if isinstance(error, UnavailableError) else error
        return home, regions

    @cached_property
    def _reached(self) -> str | None:
        return endpoint_for(self.stage, self.endpoint, self.environ)

    @cached_property
    def _stage(self) -> Stage[RegionConnection]:
        states = LedgerRegionStates(lambda: home_ledger(self._clients(self.home), self.stage))
        return Stage(home=self.home, connect=self._connected, states=states)

    def _emulated(self) -> bool:
        ca_bundle = self.environ.get("AWS_CA_BUNDLE") or None
        return self._reached is not None and is_emulator(self._reached, ca_bundle=ca_bundle)

    def _clients(self, region: str) -> Clients:
        return Clients.from_env(self.environ, region=region, endpoint_url=self._reached)

    def _connected(self, region: str) -> RegionConnection:
        try:
            return connected(self._clients(region), self.stage).read_only()
        except SettingsError as error:
            raise OperationFailedError(f"{error}.", "Name another stage, region or endpoint.") from error


def _home_of(stage: str) -> str:
    return StageConfig.load(stage, like=stage if stage in STAGES else SAFEST).rollout.home


def _silent(region: str, error: UnavailableError) -> OperationFailedError:
    return OperationFailedError(f"Region {region} gives no answer ({error.detail}).", _TOO_LITTLE)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _book(prices: str | None) -> BookName:
    book = costs.book_named(prices)
    if book is None:
        problem = ParameterProblem(
            parameter="prices", value=prices or "", problem="is no price book.",
            advice="Write it as aws-list, or with a version: aws-list@3.",
        )  # fmt: skip
        raise InvalidParametersError([problem])
    return book


@dataclass(frozen=True)
class StoreAnswers:
    """Answers from the regions of one stage. The first question opens the connections to the regions."""

    place: Place
    clock: Clock = field(default_factory=runtime.SystemClock)

    @property
    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000

    @cached_property
    def _regions(self) -> Sequence[RegionConnection]:
        return self.place.regions()

    @cached_property
    def _rated(self) -> tuple[RegionConnection, Sequence[RegionConnection]]:
        return self.place.billing()

    @cached_property
    def _everywhere(self) -> Everywhere | None:
        return Everywhere(left_out=self.place.left_out()) if self.place.everywhere else None

    @property
    def _billing(self) -> costs.BillingRegions:
        home, regions = self._rated
        return costs.BillingRegions(home=home, regions=regions, left_out=self.place.left_out())

    def usage(self, asked: UsageParameters) -> pa.Table:
        now_s = self._now_s
        query = asked.query(now_s=now_s)
        with errors.refusals_explained():
            complete = measured_completeness(self._regions)
            found = usage_of(
                self._regions, query, now_s=now_s, complete=complete, named_beginning=bool(asked.start or asked.last),
                everywhere=self._everywhere,
            )  # fmt: skip
            return table_of(found.answer)

    def cost(self, asked: CostParameters, *, prices: str | None, exact: bool) -> pa.Table:
        now_s = self._now_s
        query = replace(asked, region=self.place.only).cost_query(now_s=now_s)
        book = _book(prices)
        with errors.refusals_explained():
            billing = self._billing
            if query.regions - set(billing.names):
                raise OperationFailedError(
                    f"Region {self.place.only} holds no data of the stage.",
                    f"Those that do: {', '.join(billing.names)}.",
                )
            complete = measured_completeness(self._rated[1])
            found = costs.costs_of(billing, query, book=book, now_s=now_s, complete=complete, exact=exact)
            return table_of(found.answer)

    def who(self, asked: WhoParameters, *, prices: str | None) -> pa.Table:
        now_s = self._now_s
        query = asked.who_query(now_s=now_s)
        with errors.refusals_explained():
            owners, closed = Owners(), dict[str, Owners]()
            if query.names_owners:
                owners = owners_of(self._rated[0], asked.owners)
                if asked.owners is None:
                    closed = closed_owners(self._rated[0], query.usage, now_s=now_s)
            answer = who_of(
                self._regions, query, owners=owners, closed=closed, now_s=now_s,
                complete=measured_completeness(self._regions),
                everywhere=self.place.everywhere,
                prices=Prices(billing=self._billing, book=_book(prices), now_s=now_s) if query.cost else None,
            )  # fmt: skip
            return table_of(answer)

    def trace(self, asked: TraceParameters) -> pa.Table:
        now_s = self._now_s
        query = asked.query(now_s=now_s)
        with errors.refusals_explained():
            answer = trace_of(self._regions, query, now_s=now_s, everywhere=self.place.everywhere).answer
            return table_of(
                answer, {name: value for name, value in (answer.document or {}).items() if name != "batches"}
            )

    def query(self, asked: SqlQuestion) -> pa.Table:
        if find_spec("duckdb") is None:
            raise OperationFailedError(
                "SQL needs duckdb, which this installation lacks.", "Install it: pip install 'transfer-metering[cli]'"
            )
        from metering.reports.sql.query import LakeQuery, RegionLake, expect_one_statement, result_answer

        now_s, zone = self._now_s, zone_of(asked.zone)
        from_s, to_s = time_range(
            asked.start, asked.end, default_s=(0, now_s + DAY_S), now_s=now_s, last=asked.last, zone=zone
        )
        expect_one_statement(asked.sql)
        with errors.refusals_explained():
            lakes = [RegionLake(region=each.region, view=each.view, objects=each.objects) for each in self._regions]
            result = LakeQuery(lakes=lakes).run(
                asked.sql, from_s=from_s, to_s=to_s, timeout_s=asked.timeout_s, with_canary=asked.with_canary,
                zone=zone,
            )  # fmt: skip
            return table_of(result_answer(result))
