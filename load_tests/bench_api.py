"""Benchmark of the HTTP API: latency of one account's month against the same report in process, and of all accounts.

The service is deployed on MiniStack with the API's stack. The usage table holds 720 hours of 20 usage types for one
account. Three sides alternate: the report in process, as the command makes it; the application in process, called with
a token of the ledger; and the deployed function through the emulator's gateway. Other load on the machine thus affects
all figures. The in-process application also lists 10,000 accounts, and the gateway also answers the health check.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
import json
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from load_tests.bench_report import fill
from load_tests.deployed.sampler import local_stage
from load_tests.stage import judged
from metering.adapters.aws.stacks import read_outputs
from metering.adapters.emulator.ministack import ApiAddress, api_address
from metering.api.app import build
from metering.api.authentication import LedgerTokens, Limits
from metering.api.parts import ApiParts
from metering.audit.freshness import merged
from metering.billing.day_sums.days import AccountSum, accounts_body, accounts_key
from metering.billing.day_sums.index import DayIndexes, KeptAccounts, newest_runs
from metering.fleet.ports import RegionStacks
from metering.hours import month_bounds_s
from metering.ledger.notes.access import Role
from metering.operations.access import TokenBook
from metering.reports.query import UsageParameters
from metering.units import DAY_S
from metering.usage.totals import Total
from metering.wiring.answers.usage import usage_of
from metering.wiring.reports import build_freshness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from starlette.types import ASGIApp

    from metering.wiring.connection import RegionConnection

_ACCOUNT = "123456789012"
_USAGE = f"/v1/usage?account={_ACCOUNT}&from=2026-11&to=2026-12&group_by=usage_type"
_ACCOUNTS_MONTH, _ACCOUNTS, _PAGE = "2026-10", 10_000, 1_000
_LIST = f"/v1/accounts?month={_ACCOUNTS_MONTH}&limit={_PAGE}"
_REQUESTS = 100
_WARM_UP = 3
# A token may send 20 requests at once, and afterwards 5 per second.
_TOKENS = 20
_MOST_APP, _MOST_GATEWAY, _MOST_LIST_MS = 1.3, 1.6, 100
_OK = 200


@dataclass(frozen=True, kw_only=True)
class Client:
    """Rotates tokens, so that each token stays within its rate limit."""

    send: Callable[[str, str], tuple[int, bytes]]
    tokens: Iterator[str]

    def get(self, path: str) -> bytes:
        """Body of an HTTP response."""
        status, body = self.send(path, next(self.tokens))
        if status != _OK:
            raise AssertionError(f"{path} is answered with {status}: {body[:500]!r}")
        return body

    def usage(self) -> Counter[str]:
        """The account's bytes by usage type."""
        rows = json.loads(self.get(_USAGE))["rows"]
        return Counter({row["usage_type"]: int(row["bytes"]) for row in rows})


class InProcess:
    """The application without a socket, in one event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api.bench")

    def send(self, path: str, token: str) -> tuple[int, bytes]:
        answer = self._loop.run_until_complete(
            self._client.get(path, headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"})
        )
        return answer.status_code, answer.content

    def close(self) -> None:
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The deployed function, through the emulator's gateway."""

    address: ApiAddress

    def send(self, path: str, token: str) -> tuple[int, bytes]:
        there = urlsplit(self.address.base)
        headers = {"Authorization": f"Bearer {token}"} | ({"Host": self.address.host} if self.address.host else {})
        connection = http.client.HTTPConnection(there.hostname or "", there.port, timeout=60)
        try:
            connection.request("GET", there.path + path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@dataclass(kw_only=True)
class Times:
    """Milliseconds of one side. Mutable."""

    name: str
    took_ms: list[float] = field(default_factory=list)

    @property
    def p95_ms(self) -> float:
        return statistics.quantiles(self.took_ms, n=20)[-1]

    def __str__(self) -> str:
        return f"{self.name}: p50 {statistics.median(self.took_ms):.0f} ms, p95 {self.p95_ms:.0f} ms"


def reported(region: RegionConnection) -> Counter[str]:
    """Do the work of `metering report usage --account … --from … --to … --group-by usage_type`."""
    now_s = int(time.time())
    asked = UsageParameters(filters={"account": [_ACCOUNT]}, start="2026-11", end="2026-12", group_by="usage_type")
    query = asked.query(now_s=now_s)
    complete = merged({region.region: build_freshness(region).answer()})
    answer = usage_of([region], query, now_s=now_s, complete=complete, named_beginning=True, everywhere=None).answer
    return Counter({str(row["usage_type"]): int(str(row["bytes"])) for row in answer.rows})


def in_turns(sides: Mapping[str, Callable[[], object]], expected: object, requests: int) -> list[Times]:
    """Time the sides alternately, many times."""
    times = [Times(name=name) for name in sides]
    for number in range(-_WARM_UP, requests):
        for each, ask in zip(times, sides.values(), strict=True):
            began = time.perf_counter()
            answer = ask()
            took_ms = (time.perf_counter() - began) * 1_000
            if expected is not None and answer != expected:
                raise AssertionError(f"{each.name} answers something else than what was written")
            if number >= 0:
                each.took_ms.append(took_ms)
    return times


def keep_accounts(region: RegionConnection) -> None:
    """Store 10,000 accounts of a month, as the biller does."""
    first_s, _ = month_bounds_s(_ACCOUNTS_MONTH)
    sums = [
        AccountSum(f"{7_919 * number:012d}", 11_700_000_000 * number + number % 7, 100 + number, first_s, first_s)
        for number in range(1, _ACCOUNTS + 1)
    ]
    total = Total(sum(each.bytes for each in sums), sum(each.records for each in sums))
    body = accounts_body(_ACCOUNTS_MONTH, {first_s: total}, sums)
    key = accounts_key(_ACCOUNTS_MONTH, body)
    region.objects.put(key, body, if_absent=False)
    indexes = DayIndexes(objects=region.objects)
    kept = {_ACCOUNTS_MONTH: KeptAccounts(key=key, days=frozenset({first_s}))}
    runs = {shard: number for shard, (number, _) in newest_runs(region.items, region.settings.shards).items()}
    if not indexes.put(replace(indexes.newest(), runs=runs).following({}, kept)):
        raise AssertionError("the biller has put an index at the same time")


def measure(region: RegionConnection, endpoint: str, requests: int) -> int:
    """Measure and print all figures, and return 1 if a target is missed."""
    expected = fill(region)
    keep_accounts(region)
    book = TokenBook(items=region.items, clock=region.clock)
    tokens = [
        book.create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=region.caller()).text
        for _ in range(_TOKENS)
    ]
    own = region.read_only()
    # In this process, the token has practically no rate limit, like the report.
    limits = Limits(token_rate_per_s=1_000.0, token_burst=1_000, token_reads_per_s=1_000.0, token_reads=1_000_000)
    parts = ApiParts(
        regions=[own], tokens=LedgerTokens(items=own.items, clock=own.clock), limits=limits, clock=own.clock
    )
    inside = InProcess(build(parts))
    put_out = read_outputs(region.clients, RegionStacks.of("local").api)["ApiUrl"]
    app = Client(send=inside.send, tokens=itertools.repeat(tokens[0]))
    gateway = Client(send=Gateway(address=api_address(put_out, endpoint)).send, tokens=itertools.cycle(tokens))
    try:
        sides = {
            "the report in process": lambda: reported(region),
            "the application": app.usage,
            "gateway": gateway.usage,
        }
        usage = in_turns(sides, expected, requests)
        [accounts] = in_turns({f"{_PAGE:,} of {_ACCOUNTS:,} accounts": lambda: len(app.get(_LIST))}, None, requests)
        [health] = in_turns({"health through the gateway": lambda: gateway.get("/v1/health")}, None, requests)
    finally:
        inside.close()
    return judge_all(usage, accounts, health)


def judge_all(usage: Sequence[Times], accounts: Times, health: Times) -> int:
    """Print the figures, and return 1 if a target is missed."""
    report, app, gateway = usage
    missed = []
    print(f"an account's month, {len(report.took_ms)} requests of each side in turns:")
    print(f"  {report}")
    for each, most in ((app, _MOST_APP), (gateway, _MOST_GATEWAY)):
        times = each.p95_ms / report.p95_ms
        print(f"  {each}, {times:.2f} times as long")
        if times > most:
            missed.append(f"{each.name}: more than {most} times as long as the report")
    print(f"{accounts}\n{health}")
    if accounts.p95_ms > _MOST_LIST_MS:
        missed.append(f"{accounts.name}: over {_MOST_LIST_MS} ms at p95")
    return judged(missed)


def main(arguments: Sequence[str]) -> int:
    """Start an emulator, measure, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench_api", description=__doc__)
    parser.add_argument("--requests", type=int, default=_REQUESTS, help="of each side; the targets are for the default")
    parser.add_argument("--endpoint", help="endpoint where the stage `local` is deployed already")
    options = parser.parse_args(arguments)
    with local_stage("bench-api", options.endpoint) as local:
        return measure(local.region, local.endpoint, options.requests)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
