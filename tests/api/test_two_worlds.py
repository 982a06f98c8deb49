"""A customer's answers do not depend on others' usage: the same requests get the same answers in two worlds.

The worlds have the same batches, commits and hours. Only others' amounts differ, enough to move payers to other tiers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest

from metering.api.authentication import Grant
from metering.errors import UnavailableError
from metering.hours import rfc3339
from metering.ledger.notes.access import Role
from metering.units import DAY_S, GIB, HOUR_S
from metering.wiring.answers.costs import BillingRegions
from metering.wiring.answers.usage import Everywhere
from tests.api.test_foreign_accounts import requests
from tests.api.world import (
    BUSY,
    FIRST,
    PAYER,
    SECOND,
    THIRD,
    ApiWorld,
    WorldRegion,
    complete_until,
    give_prices,
    traffic,
)
from tests.support.budget_world import keep_day_sums
from tests.support.lake_world import HOUR, NOW_S, World, record

NAMES = {FIRST: "Alpha", SECOND: "Bravo", THIRD: "Charlie"}
WHOLE = frozenset({FIRST, THIRD, PAYER})
# Token -> the accounts that it sees. Of the first payer's two accounts, `portal` sees one and `whole` sees both.
SEES = {"portal": frozenset({FIRST}), "second": frozenset({SECOND}), "whole": WHOLE}
# The first tier ends at 10,240 GB. Each account has seven batches of this size in GB.
OWN_GB, LITTLE_GB, MUCH_GB = 4_000, 1, 60_000
# One of this many requests is repeated as Parquet, where account names cannot be searched for as text.
_PARQUET_EACH = 5


@cache
def world(own: frozenset[str], others_gb: int) -> ApiWorld:
    """A region in which every other account has this usage. No test changes it."""
    made = World()
    for day in (30, 2, 1, 0):
        for account in NAMES:
            made.send(_records(account, own, others_gb, NOW_S - day * DAY_S), source=f"source-{NAMES[account]}")
        if day in {30, 2}:
            made.compact_all()
        if day == 30:
            made.jobs.closer.close("2026-10", made.deadline())
    # Batches with records of all accounts: one is compacted, one waits for the compactor, and one also for the roll-up.
    for number in range(3):
        together = [each for account in NAMES for each in _records(account, own, others_gb, NOW_S - HOUR_S)]
        made.send(together, source="source-all", rolled_up=number < 2)
        if number == 0:
            made.compact_all()
            keep_day_sums(made)
    complete_until(made, HOUR)
    give_prices(made)
    api = ApiWorld(made)
    for who, accounts in SEES.items():
        api.tokens.grants[who] = Grant(token_id=who, role=Role.CUSTOMER, accounts=accounts)
    return api


def _records(account: str, own: frozenset[str], others_gb: int, start_s: int) -> list[dict[str, str | int]]:
    name, size = NAMES[account], (OWN_GB if account in own else others_gb) * GIB
    to_peer = record(size + 1, start_s=start_s, account=account, resource=f"i-{name}", to=f"{name.lower()}-west-1")
    return [
        {**record(size, start_s=start_s, account=account, resource=f"i-{name}"), "service": f"Amazon{name}"},
        {**to_peer, "service": f"Amazon{name}", "usage_type": f"{name}-Peer"},
    ]


def told(api: ApiWorld, who: str, asked: str, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    """All parts of an answer."""
    answer = api.get(asked, who, **headers)
    return answer.status_code, dict(answer.headers), answer.content


def check(who: str, asked: str) -> int:
    """Compare both worlds: the answer, a conditional request, and the next page."""
    little, much = (world(SEES[who], others_gb) for others_gb in (LITTLE_GB, MUCH_GB))
    one = told(little, who, asked)
    assert told(much, who, asked) == one, f"{asked} tells {who} how much others use"
    status, headers, _ = one
    if "etag" in headers:
        again = {"If_None_Match": headers["etag"]}
        assert told(much, who, asked, **again) == told(little, who, asked, **again), f"the ETag of {asked} tells"
    if link := headers.get("link"):
        following = link.partition("<")[2].partition(">")[0]
        assert told(much, who, following) == told(little, who, following), f"{following} tells how much others use"
    return status


def ask_at_random(seed: int, count: int) -> None:
    """Random requests to all paths with each token in turn."""
    statuses = []
    for number, asked in enumerate(requests(seed, count)):
        who = sorted(SEES)[number % len(SEES)]
        statuses.append(check(who, asked))
        if number % _PARQUET_EACH == 0 and "format=" not in asked:
            check(who, f"{asked}{'&' if '?' in asked else '?'}format=parquet")
    # The test proves nothing if every request is refused.
    assert statuses.count(200) > len(statuses) / 3


def test_no_answer_to_a_customer_depends_on_what_others_use() -> None:
    ask_at_random(11, 300)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_no_answer_of_many_depends_on_what_others_use(seed: int) -> None:
    ask_at_random(2_000 + seed, 500)


@pytest.mark.parametrize("asked", ["month=2026-11&group_by=tier", "last=3d&group_by=hour,tier,to"])
def test_tiers_are_for_who_sees_every_account_of_the_payer(asked: str) -> None:
    for api in (world(SEES["portal"], LITTLE_GB), world(SEES["portal"], MUCH_GB)):
        # A customer's token that may see costs, as all tokens of the previous release may.
        answer = api.get(f"/v1/cost?{asked}&account={FIRST}", "first")
        assert answer.status_code == 403, f"{asked} tells what the payer's other accounts use: {answer.text[:300]}"
        assert "ask the operator for a token that names every account of the payer" in answer.json()["detail"]
        for whole in ("whole", "second", "analyst"):
            assert api.get(f"/v1/cost?{asked}", whole).status_code == 200


def test_costs_at_shared_tiers_are_for_tokens_that_were_made_for_them() -> None:
    api = world(SEES["portal"], MUCH_GB)
    refused = api.get("/v1/cost?month=2026-11", "portal")
    assert refused.status_code == 403, "a token that was not made with --costs sees costs at shared tiers"
    assert "metering token create --costs" in refused.json()["detail"]
    for who in ("first", "second", "whole", "analyst"):
        assert api.get("/v1/cost?month=2026-11", who).status_code == 200


def test_every_account_of_the_payer_is_meant_its_own_included() -> None:
    # If a token sees both accounts of the payer, it sees every account that shares tiers, even in a request for one.
    api = world(SEES["portal"], MUCH_GB)
    assert api.get(f"/v1/cost?month=2026-11&group_by=tier&account={FIRST}", "whole").status_code == 200
    # The grant is incomplete without the payer's own account, which may have usage, too.
    api.tokens.grants["part"] = Grant(token_id="part", role=Role.ANALYST, accounts=WHOLE - {PAYER})
    assert api.get(f"/v1/cost?month=2026-11&group_by=tier&account={FIRST}", "part").status_code == 403


def test_a_difference_between_the_worlds_is_found() -> None:
    """The worlds do differ, so an answer that depends on other accounts would fail the comparison."""
    little, much = world(SEES["portal"], LITTLE_GB), world(SEES["portal"], MUCH_GB)
    for asked in ("/v1/cost?month=2026-11&group_by=tier", f"/v1/cost?month=2026-11&group_by=tier&account={FIRST}"):
        assert told(little, "analyst", asked) != told(much, "analyst", asked)


@pytest.mark.parametrize(
    "path", ["/v1/usage?last=3d", "/v1/usage?last=3d&detail=resource_id", "/v1/usage?from=2026-10"]
)
@pytest.mark.parametrize("parameter", ["service", "usage_type", "to_location"])
def test_a_name_that_others_have_costs_what_a_name_costs_that_nobody_has(path: str, parameter: str) -> None:
    foreign, nobodys = {
        "service": ("AmazonBravo", "AmazonNobody"),
        "usage_type": ("Bravo-Peer", "Nobody-Peer"),
        "to_location": ("bravo-west-1", "nobody-west-1"),
    }[parameter]
    made = [calls_of("portal", f"{path}&{parameter}={name}") for name in (foreign, nobodys)]
    assert made[0] == made[1], f"{parameter}={foreign} makes {len(made[0])} calls, and {nobodys} {len(made[1])}"


@pytest.mark.parametrize("range_", ["", "&from=2026-11-20&to=2026-11-24T14:00:00Z"])
def test_the_id_of_a_batch_of_others_costs_what_an_id_costs_that_nobody_has(range_: str) -> None:
    api, made = every_hour_alike(), {}
    for batch_id in ("batch-7", "batch-70", "batch-700"):
        known = api.get(f"/v1/batches?id={batch_id}", "analyst").status_code
        assert known == (200 if batch_id == "batch-7" else 404)
        asked = f"/v1/batches?id={batch_id}{range_}"
        made[batch_id] = calls_of("portal", asked, api)
        assert api.get(asked, "portal").status_code == 404
    foreign, nobodys = len(made["batch-7"]), len(made["batch-70"])
    assert foreign == nobodys, f"the 404 of a batch of others makes {foreign} calls, and of nobody's {nobodys}"
    assert made["batch-7"] == made["batch-70"] == made["batch-700"]
    # The search reads only one hour of the whole range.
    assert foreign < 60, f"the 404 of nobody's batch makes {foreign} calls"


@cache
def every_hour_alike() -> ApiWorld:
    """A region with usage of one account, hidden from customers: one batch for each hour, and two over all hours."""
    made = World()
    hours = range(NOW_S - 25 * HOUR_S, NOW_S, HOUR_S)
    whole = [record(1_000, start_s=hour_s, account=THIRD) for hour_s in hours]
    for number, hour_s in enumerate(hours):
        # The file's statistics do not exclude ids between these two.
        made.send(whole if number in {0, 9} else [record(1_000, start_s=hour_s, account=THIRD)])
    made.compact_all()
    complete_until(made, HOUR)
    api = ApiWorld(made)
    api.tokens.grants["portal"] = Grant(token_id="portal", role=Role.CUSTOMER, accounts=SEES["portal"])
    return api


def calls_of(who: str, asked: str, api: ApiWorld | None = None) -> list[str]:
    """Store calls of a request, sorted, because threads make them in any order. The items of a query are omitted."""
    api = api or world(SEES[who], MUCH_GB)
    # Names in usage are cached between reports.
    api.get("/v1/usage?last=3d", who)
    with api.calls() as made:
        api.get(asked, who)
    return sorted(call for call in made if call != "items.query.next")


# Several regions behind one application, as in `metering serve --region all`: the answer covers all of them, or fails.
@cache
def both() -> ApiWorld:
    """Two regions of a stage; only the first region has prices. The tests of this module never change these regions."""
    made = ApiWorld()
    away = World()
    traffic(away)
    away.send([record(10**15)])
    home, other = WorldRegion(made.world), WorldRegion(away, region="eu-west-1")
    regions = [other, home]
    made.parts = replace(
        made.parts,
        regions=regions,
        everywhere=Everywhere(left_out={"eu-west-1": ["alarms"]}),
        billing=lambda: BillingRegions(home=home, regions=regions),
        limits=BUSY,
    )
    return made


def test_totals_are_merged_and_the_regions_named() -> None:
    answer = both().json("/v1/usage?from=2026-11&group_by=region")
    assert answer["regions"] == ["eu-west-1", "us-east-1"]
    assert answer["left_out"] == {"eu-west-1": ["alarms"]}
    sizes = {row["region"]: int(row["bytes"]) for row in answer["rows"]}
    assert sizes["eu-west-1"] == sizes["us-east-1"] + 10**15
    own = both().json("/v1/usage?from=2026-11", "first")
    [alone] = ApiWorld().json("/v1/usage?from=2026-11&group_by=account_id", "first")["rows"]
    assert sum(int(row["bytes"]) for row in own["rows"]) == 2 * int(alone["bytes"]) + 10**15
    assert own["periods"] == {"2026-11": "open"}


def test_an_hour_counts_once_in_however_many_regions_and_the_log_has_what_was_read() -> None:
    asked = "/v1/usage?from=2026-11-01&to=2026-11-24T14:00:00Z&detail=resource_id"
    few, fewer = ApiWorld(both().world), ApiWorld(both().world)
    for each, hours in ((few, 4), (fewer, 3)):
        each.parts = replace(both().parts, limits=replace(both().parts.limits, hours=hours))
    assert few.get(asked).status_code == 200
    assert few.logged[-1].hours == 8
    refused = fewer.get(asked)
    assert refused.status_code == 422
    assert "4 hours that have to be read from the lake, and 3 are the most" in refused.text


def test_costs_count_tiers_over_all_of_them_and_each_has_a_row_of_its_freshness() -> None:
    answer = both().json("/v1/cost?month=2026-11&group_by=region")
    assert answer["regions"] == ["eu-west-1", "us-east-1"]
    assert [row["region"] for row in answer["rows"]] == ["eu-west-1", "us-east-1"]
    assert set(both().json("/v1/freshness")["regions"]) == {"eu-west-1", "us-east-1"}
    assert len(both().get("/v1/freshness?format=csv").text.splitlines()) == 3


def test_every_path_answers_over_all_of_them() -> None:
    staff = ("reports", "sources", "reconciliation", "quarantine", "budgets", "organization")
    for path in ("hours/2026-11-24T11", "batches?id=batch-1", *staff):
        for form in ("json", "csv"):
            separator = "&" if "?" in path else "?"
            answer = both().get(f"/v1/{path}{separator}format={form}", "operator")
            assert answer.status_code == 200, (path, form, answer.text)


def test_a_region_that_does_not_answer_makes_no_answer_smaller() -> None:
    silent = both().parts.regions[0].items

    def fail(_call: str) -> None:
        raise UnavailableError("dynamodb.Query", "throttled")

    silent.on_call = fail  # type: ignore[attr-defined]  # the store in memory
    try:
        for path in ("usage?from=2026-11", f"usage?account={FIRST}", "cost", "freshness", "accounts"):
            answer = both().get(f"/v1/{path}")
            assert answer.status_code == 503, path
            assert answer.headers["retry-after"]
            assert "eu-west-1" not in answer.text
    finally:
        silent.on_call = lambda _call: None  # type: ignore[attr-defined]  # as above


def test_pages_go_on_over_all_of_them() -> None:
    asked = "/v1/usage?from=2026-11&group_by=region,account_id,to"
    whole = both().json(asked)["rows"]
    first = both().json(f"{asked}&limit=13")
    second = both().json(f"{asked}&limit=1000&cursor={first['next']}")
    assert first["rows"] + second["rows"] == whole


def test_the_figures_of_an_hour_stand_by_the_name_of_each_region() -> None:
    asked = f"/v1/hours/{rfc3339(HOUR)}"
    answer = both().json(asked)
    assert list(answer) == ["regions"]
    alone = ApiWorld().json(asked)
    assert answer["regions"]["us-east-1"] == alone
    more = answer["regions"]["eu-west-1"]
    assert int(more["rows"]["bytes"]) == int(alone["rows"]["bytes"]) + 10**15
    assert len(both().get(f"{asked}?format=csv").text.splitlines()) == 3
