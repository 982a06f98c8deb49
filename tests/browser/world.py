"""An in-memory region with two weeks of a small company's traffic, behind the real API at a local address.

The region's clock stands at `NOW_S`. The browser gives the page the same clock, so that its ranges match the traffic.
"""

from __future__ import annotations

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
from tests.support.lake_world import HOUR, NOW_S, World, record
from tests.support.priced import paid_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

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
# Two weeks, so that one can be compared with the one before.
_DAYS = 14
# The last seven days begin here, as the page asks for them.
_WEEK_S = HOUR - HOUR % DAY_S - 6 * DAY_S
# Texts of tokens, long enough to be removed from a URL.
OPERATOR = "operator-0123456789abcdef0123456789abcdef"
ANALYST = "analyst-0123456789abcdef0123456789abcdef"
CUSTOMER = "customer-0123456789abcdef0123456789abcdef"
_GB = 1 << 30
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
    world.jobs.reconciler_state.keep(world.jobs.reconciler.check(from_s=0, to_s=NOW_S + HOUR_S))
    keep_day_sums(world)
    complete_until(world, HOUR)
    PriceStore(world.objects).put(replace(sample_book(), name="aws-list"))
    payers = (paid_by(PAYER, (FIRST, THIRD)).payers[0], paid_by(SECOND, (SECOND,)).payers[0])
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


def busy_api(*more: dict[str, str | int]) -> ApiWorld:
    """The API on the busy region, with `more` records, and one token for each role."""
    world = busy_world()
    if more:
        world.send([*more])
    api = ApiWorld(world)
    for token, role in ((OPERATOR, Role.OPERATOR), (ANALYST, Role.ANALYST)):
        api.tokens.grants[token] = Grant(token_id=role.value, role=role)
    own = frozenset({FIRST})
    api.tokens.grants[CUSTOMER] = Grant(token_id="first", role=Role.CUSTOMER, accounts=own, costs=True)
    return api
