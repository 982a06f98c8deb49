"""An in-memory region behind the API: traffic of three accounts, tokens of an operator, an analyst and two customers.

The traffic covers October (closed) and November up to `NOW_S` (2026-11-24T13:30Z). Older rows are in lake files, the
newest in staging. `Third` has usage but no token: only operators may ever see it.
"""

from __future__ import annotations

import base64
import itertools
import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from metering.api.app import build
from metering.api.authentication import Grant, Limits
from metering.api.parts import ApiParts, RequestFigures, RequestLog
from metering.billing.organization import OrganizationStore
from metering.billing.prices.store import PriceStore
from metering.ledger.notes.access import Role
from metering.ledger.notes.watch import Completeness
from metering.ledger.usage.kinds import KindNames
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.wiring.answers.costs import own_billing
from tests.support.lake_world import HOUR, NOW_S, World, record
from tests.support.priced import US_TIERS, allowance, book, paid_by, product

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fastapi import FastAPI

    from metering.billing.prices.book import PriceBook
    from metering.lake.view import LakeView
    from metering.settings import Settings
    from tests.support.memory.clock import ManualClock
    from tests.support.memory.items import MemoryItemStore
    from tests.support.memory.objects import MemoryObjectStore

FIRST, SECOND, THIRD = "123456789012", "210987654321", "333333333333"
PAYER = "777777777777"
"""Pays for the first and the third account. The second pays for itself."""
OCTOBER_S = NOW_S - 30 * DAY_S
SERVICES = ("AmazonEC2", "AmazonS3", "AWSLambda")
PLACES = ("internet", "eu-west-1", "us-east-1/use1-az4", "cloudfront")

TOKENS = {
    "operator": Grant(token_id="operator", role=Role.OPERATOR),
    "analyst": Grant(token_id="analyst", role=Role.ANALYST),
    "first": Grant(token_id="first", role=Role.CUSTOMER, accounts=frozenset({FIRST}), costs=True),
    "portal": Grant(token_id="portal", role=Role.CUSTOMER, accounts=frozenset({FIRST})),
    "second": Grant(token_id="second", role=Role.CUSTOMER, accounts=frozenset({SECOND})),
}


# Tests send many requests at once, while the clock does not advance.
BUSY = Limits(token_rate_per_s=1e6, token_burst=1_000_000, token_reads_per_s=1e6, token_reads=1_000_000_000)


class FixedTokens:
    """Tokens whose text equals the token's name. Mutable.

    Attributes:
        grants: Grants by token.
    """

    def __init__(self) -> None:
        self.grants = dict(TOKENS)

    def grant_of(self, token: str) -> Grant | None:
        return self.grants.get(token)


@dataclass(frozen=True)
class WorldRegion:
    """An in-memory region for reading."""

    world: World
    region: str = "us-east-1"
    stage: str = "local"

    @property
    def items(self) -> MemoryItemStore:
        return self.world.items

    @property
    def objects(self) -> MemoryObjectStore:
        return self.world.objects

    @cached_property
    def kind_names(self) -> KindNames:
        return KindNames(self.world.items)

    @property
    def view(self) -> LakeView:
        return self.world.jobs.view

    @property
    def clock(self) -> ManualClock:
        return self.world.clock

    @property
    def settings(self) -> Settings:
        return self.world.settings


class ApiWorld:
    """The application over an in-memory region, and its clients. Mutable.

    Attributes:
        world: The region. Tests may send batches to the region or set its clock.
        logged: The application's log fields of each request.
    """

    def __init__(self, world: World | None = None, *, limits: Limits | None = None) -> None:
        self.world = world or traffic(World())
        self.tokens = FixedTokens()
        self.logged: list[RequestFigures] = []
        region = WorldRegion(self.world)
        self.parts = ApiParts(
            regions=[region],
            home=lambda: region,
            billing=lambda: own_billing(region),
            tokens=self.tokens,
            limits=limits or BUSY,
            clock=self.world.clock,
        )

    def limited(self, **limits: float) -> ApiWorld:
        """The same region behind another application, with other limits."""
        return ApiWorld(self.world, limits=replace(self.parts.limits, **limits))  # type: ignore[arg-type]  # fields of it

    @cached_property
    def app(self) -> FastAPI:
        return build(self.parts)

    def get(self, path: str, who: str | None = "analyst", **headers: str) -> httpx.Response:
        """Send a request with a token; underscores in header names stand for dashes."""
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        if who is not None:
            sent["Authorization"] = f"Bearer {who}"
        return self.send("GET", path, sent)

    def send(self, method: str, path: str, headers: Mapping[str, str]) -> httpx.Response:
        """Any request."""

        async def sent() -> httpx.Response:
            logged = RequestLog(self.app, tell=self.logged.append, clock=self.world.clock)
            transport = httpx.ASGITransport(logged, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                sent = {name: text.encode("latin-1") for name, text in headers.items()}
                return await client.request(method, path, headers=sent)  # type: ignore[arg-type]  # bytes, too

        return anyio.run(sent)

    def json(self, path: str, who: str | None = "analyst") -> Any:
        """The JSON of a successful request."""
        response = self.get(path, who)
        assert response.status_code == 200, response.text
        return response.json()

    @contextmanager
    def calls(self) -> Iterator[list[str]]:
        """Yield the list of store calls that the block makes."""
        made: list[str] = []
        self.world.items.on_call = self.world.objects.on_call = made.append
        try:
            yield made
        finally:
            self.world.items.on_call = self.world.objects.on_call = lambda _call: None

    def pages(self, path: str, who: str | None = "analyst") -> Iterator[Any]:
        """Get all pages of an answer, starting with the page at this path."""
        page = self.json(path, who)
        yield page
        for _ in range(1_000):
            if page["next"] is None:
                return
            page = self.json(f"{path}&cursor={page['next']}", who)
            yield page
        raise AssertionError("the pages have no end")


def read_cursor(cursor: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


def written_cursor(made: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(made).encode()).decode().rstrip("=")


@cache
def documented(api: ApiWorld) -> dict[str, list[dict[str, Any]]]:
    """Parameters of each path in the OpenAPI document."""
    paths = api.get("/openapi.json", None).json()["paths"]
    return {path: told["get"]["parameters"] for path, told in paths.items()}


@cache
def at_rest() -> ApiWorld:
    """A region that all modules share, and that no test changes."""
    return ApiWorld()


def traffic(world: World) -> World:
    """Send two months of traffic of three accounts; October is closed. Set the time of completeness too."""
    world.send(*_batches(OCTOBER_S, ("i-old",)))
    world.compact_all()
    world.jobs.closer.close("2026-10", world.deadline())
    for day in range(3):
        world.send(*_batches(NOW_S - day * DAY_S - 2 * HOUR_S, ("i-1", "i-2")), source="edge-7f3a")
    world.compact_all()
    world.send(*_batches(NOW_S, ("i-new",)))
    complete_until(world, HOUR)
    give_prices(world)
    return world


def give_prices(world: World) -> None:
    """Store a price book, and the payers."""
    PriceStore(world.objects).put(prices())
    OrganizationStore(world.objects).put(paid_by(PAYER, (FIRST, THIRD)))


def prices() -> PriceBook:
    """A price book for most usage of the traffic."""
    sold = (
        product("OUTUSE1", "DataTransfer-Out-Bytes", US_TIERS),
        product("OUTEU", "EU-AWS-Out-Bytes", ((None, "0.02"),)),
        product("REGIONAL", "DataTransfer-Regional-Bytes", ((None, "0.01"),)),
    )
    return replace(book(sold, allowance("0.000001", "OUTUSE1")), name="aws-list")


def complete_until(world: World, through_s: int) -> None:
    """Store a measurement of the watch: all usage before `through_s` is counted."""
    measured_s = world.clock.now_ms() // 1_000
    world.items.put(Put(table=Table.LEDGER, item=Completeness(through_s=through_s, measured_s=measured_s).to_item()))


def _batches(start_s: int, resources: Sequence[str]) -> list[list[dict[str, str | int]]]:
    """Batches, each with records of several accounts."""
    batches: list[list[dict[str, str | int]]] = [[] for _ in resources]
    for (number, resource), (of_account, account), (of_place, place) in itertools.product(
        enumerate(resources), enumerate((FIRST, SECOND, THIRD)), enumerate(PLACES)
    ):
        size = 10 ** (5 * of_account) * (1 + 7 * of_place + 100 * number)
        made = record(size, start_s=start_s + 60 * number, account=account, resource=resource, to=place)
        batches[number].append({**made, "service": SERVICES[(of_place + of_account) % len(SERVICES)]})
    return batches
