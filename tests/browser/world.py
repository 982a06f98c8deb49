"""An in-memory region with two weeks of a small company's traffic, behind the real API at a local address.

The region's clock stands at `NOW_S`. The browser gives the page the same clock, so that its ranges match the traffic.
"""

from __future__ import annotations

import hashlib
import math
import random
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import uvicorn

from metering.api.authentication import Grant
from metering.billing.budgets.budget import BudgetStore, Scope, budget_of
from metering.billing.organization import OrganizationStore
from metering.billing.owners import OwnerStore, read_owners
from metering.billing.payers import Organization
from metering.billing.prices.store import PriceStore, sample_book
from metering.ledger.notes.access import Role
from metering.ledger.notes.checks import CanaryRun, CanaryVerdict
from metering.reports.query import UsageParameters
from metering.reports.saved import QuestionStore, question_of
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from tests.api.world import FIRST, PAYER, SECOND, THIRD, ApiWorld, complete_until
from tests.support.budget_world import keep_day_sums
from tests.support.kept_causes import keep_causes, record_of, row, stretch, unnamed
from tests.support.lake_world import HOUR, NOW_S, World, record
from tests.support.priced import paid_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from metering.billing.causes.names import Stretch
    from tests.support.kept_causes import Row

# Flows of the test data: account, service, from, to, gigabytes in a typical hour.
_FLOWS = (
    (FIRST, "AmazonEC2", "us-east-1/use1-az2", "internet", 41.0),
    (FIRST, "AmazonEC2", "us-east-1/use1-az2", "us-east-1/use1-az4", 24.0),
    (FIRST, "AmazonEC2", "us-east-1/use1-az2", "eu-west-1", 15.5),
    (FIRST, "AmazonS3", "us-east-1/use1-az1", "cloudfront", 12.2),
    (FIRST, "AmazonS3", "eu-west-1/euw1-az1", "internet", 9.1),
    (FIRST, "AmazonRDS", "us-east-1/use1-az2", "us-east-1/use1-az6", 6.4),
    (FIRST, "AWSLambda", "ap-southeast-9", "internet", 3.0),
    (SECOND, "AmazonEC2", "eu-central-1/euc1-az1", "internet", 18.3),
    (SECOND, "AmazonEC2", "eu-central-1/euc1-az1", "eu-central-1/euc1-az2", 8.8),
    (SECOND, "AmazonEC2", "eu-central-1/euc1-az1", "ap-northeast-1", 5.6),
    (SECOND, "AmazonS3", "eu-central-1/euc1-az1", "us-west-2", 4.1),
    (SECOND, "AWSELB", "eu-central-1/euc1-az1", "unknown", 0.7),
    (THIRD, "AmazonEC2", "us-west-2/usw2-az1", "internet", 11.9),
    (THIRD, "AmazonEC2", "us-west-2/usw2-az1", "us-east-1", 7.3),
    (THIRD, "AmazonS3", "us-west-2/usw2-az1", "sa-east-1", 2.2),
    (THIRD, "AmazonS3", "us-west-2/usw2-az1", "cloudfront", 1.4),
)
_NAT, _ENDPOINT = ("nat-0a1b2c3d4e5f60718", "NatGateway-Bytes"), ("vpce-0f1e2d3c4b5a69788", "VpcEndpoint-Bytes")
# Causes of a day of the last week: gateway, workload, its account and team, destination, gigabytes in a typical day.
_CAUSES = (
    (_NAT, "asg:ci-runners", FIRST, "", "S3.us-east-1", 211.0),
    (_NAT, "asg:ci-runners", FIRST, "", "internet", 34.0),
    (_NAT, "ecs:prod/indexer", FIRST, "search", "AMAZON.us-east-1", 63.0),
    (_NAT, "ecs:prod/indexer", FIRST, "search", "S3.us-east-1", 12.0),
    (_NAT, "eks:prod/blue", FIRST, "search", "internet", 7.5),
    (_NAT, "lambda:thumbnails", FIRST, "media", "cloudfront", 2.25),
    (_NAT, "asg:transcoders", SECOND, "media", "internet", 4.5),
    (("nat-0b2c3d4e5f6a70819", "NatGateway-Bytes"), "asg:transcoders", SECOND, "media", "internet", 18.0),
    (_ENDPOINT, "ecs:prod/indexer", FIRST, "search", "endpoint:kinesis-streams", 21.0),
    (("i-0c3d4e5f6a7b80920", "C3DataTransfer-Out-Bytes"), "name:bastion", FIRST, "", "AMAZON.us-east-1", 0.5),
)
# Two weeks, so that one can be compared with the one before.
_DAYS = 14
# The last seven days begin here, as the page asks for them.
_WEEK_S = HOUR - HOUR % DAY_S - 6 * DAY_S
# Texts of tokens, long enough to be removed from a URL.
OPERATOR = "operator-0123456789abcdef0123456789abcdef"
ANALYST = "analyst-0123456789abcdef0123456789abcdef"
CUSTOMER = "customer-0123456789abcdef0123456789abcdef"
_GB = 1 << 30
_OWNERS = b"""
[[rule]]
owner = "search"
when = { tag = { team = "search" } }
[[rule]]
owner = "media"
when = { tag = { team = "media" } }
"""
# The first is over, the second is expected to break this month, the third is not.
_BUDGETS = (("web-egress", "400 USD", FIRST), ("video", "8000 GB", SECOND), ("archive", "90000 GB", THIRD))


def busy_world(*, days: int = _DAYS) -> World:
    """A region with traffic in each hour up to now, most of it in lake files."""
    world, chance = World(), random.Random(11)
    first_s = HOUR - (days - 1) * DAY_S
    # The week before is compared by day, so one batch has three of its hours.
    hours = [*range(first_s - first_s % DAY_S, _WEEK_S, 3 * HOUR_S), *range(_WEEK_S, HOUR + HOUR_S, HOUR_S)]
    # A source that is silent since two days.
    world.clock.advance_s(-2 * DAY_S)
    world.send([record(5, start_s=NOW_S - 2 * DAY_S)], source="edge-old")
    world.clock.advance_s(2 * DAY_S)
    for number, hour_s in enumerate(hours):
        world.send(_batch(hour_s, chance), source="edge-7f3a")
        if number == len(hours) - 12:
            world.compact_all()
    world.send([{**record(7), "account_id": "1234"}, record(5)], source="edge-lonely")
    world.send([record(5)])
    world.send([record(5)], source="edge-lonely")
    causes = [*_causes(random.Random(30))]
    world.send([record_of(each) for each in causes])
    world.jobs.reconciler_state.keep(world.jobs.reconciler.check(from_s=0, to_s=NOW_S + HOUR_S))
    keep_day_sums(world)
    complete_until(world, HOUR)
    PriceStore(world.objects).put(replace(sample_book(), name="aws-list"))
    payers = (paid_by(PAYER, (FIRST, THIRD)).payers[0], paid_by(SECOND, (SECOND,)).payers[0])
    keep_causes(world, causes, _known_causes())
    OwnerStore(world.objects).put(read_owners(_OWNERS, "owners.toml"))
    names = {FIRST: "web", SECOND: "video", THIRD: "archive"}
    OrganizationStore(world.objects).put(Organization(payers=payers, names=names))
    budgets = BudgetStore(items=world.items, clock=world.clock)
    for name, amount, account in _BUDGETS:
        budgets.set(budget_of(name, amount=amount, thresholds=["actual 80%"], scope=Scope(account=account)))
    question = question_of("accounts", "week", UsageParameters(group_by="account_id"), now_s=NOW_S)
    QuestionStore(items=world.items, clock=world.clock).set(question)
    seen = CanaryRun(slot_s=NOW_S - 300, sent_s=NOW_S - 300, verdict=CanaryVerdict.GOOD, settled_s=NOW_S - 210)
    world.items.put(Put(table=Table.LEDGER, item=seen.to_item()))
    return world


def _batch(hour_s: int, chance: random.Random) -> list[dict[str, str | int]]:
    of_day = (hour_s % DAY_S) / DAY_S
    before = hour_s < _WEEK_S
    rhythm = 0.62 + 0.38 * math.sin(2 * math.pi * (of_day - 0.3))
    made = []
    for account, service, source, target, usual_gb in _FLOWS:
        # The archive has moved, and compute has grown.
        grown = 0.4 if target == "sa-east-1" else 0.8 if service == "AmazonEC2" else 1
        size_gb = usual_gb * (3 * grown if before else 1)
        size = int(size_gb * _GB * rhythm * chance.uniform(0.93, 1.07)) + chance.randrange(1000)
        one = record(size, start_s=min(hour_s + 60 * chance.randrange(50), NOW_S), account=account, to=target)
        made.append({**one, "service": service, "from": source})
    return made


def _causes(chance: random.Random) -> Iterator[Row]:
    """Parts of what gateways processed in the last week; two of them without a name."""
    for day_s in range(_WEEK_S, HOUR, DAY_S):
        hour_s = min(day_s + 10 * HOUR_S, HOUR)
        for (resource, usage_type), workload, _, _, destination, usual_gb in _CAUSES:
            size = int(usual_gb * _GB * chance.uniform(0.8, 1.2))
            yield row(
                size, resource_id=resource, usage_type=usage_type, cause=_cause_of(workload), destination=destination,
                account_id=SECOND if resource.startswith("nat-0b") else FIRST, hour=hour_s, **{"from": "us-east-1"},
            )  # fmt: skip
        for reason, usual_gb in (("ambiguous_address", 3.0), ("address_reused", 0.25)):
            size = int(usual_gb * _GB * chance.uniform(0.8, 1.2))
            yield unnamed(size, reason, usage_type=_NAT[1], account_id=FIRST, hour=hour_s, **{"from": "us-east-1"})


def _known_causes() -> dict[str, list[Stretch]]:
    found = {(workload, account, team) for _, workload, account, team, *_ in _CAUSES}
    return {
        _cause_of(workload): [stretch(account=account, workload=workload, team=team)]
        for workload, account, team in sorted(found)
    }


def _cause_of(workload: str) -> str:
    return f"i-0{hashlib.sha256(workload.encode()).hexdigest()[:16]}"


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve an application on a free port of 127.0.0.1, and return its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(10)


def busy_api() -> ApiWorld:
    """The API on the busy region, and one token for each role."""
    api = ApiWorld(busy_world())
    for token, role in ((OPERATOR, Role.OPERATOR), (ANALYST, Role.ANALYST)):
        api.tokens.grants[token] = Grant(token_id=role.value, role=role)
    own = frozenset({FIRST})
    api.tokens.grants[CUSTOMER] = Grant(token_id="first", role=Role.CUSTOMER, accounts=own, costs=True)
    return api
