"""No request with any token returns a byte, a row or a name of an account outside the token's grant.

Each account has unique names for its resources, usage types, sources and batches. So any foreign account's name in an
answer is a leak.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import urlencode

import pytest

from metering.units import DAY_S, HOUR_S
from tests.api.world import FIRST, PAYER, SECOND, THIRD, ApiWorld, complete_until, give_prices
from tests.api.world import documented as documented_of
from tests.support.budget_world import keep_day_sums
from tests.support.lake_world import HOUR, NOW_S, World, record

NAMES = {FIRST: "Alpha", SECOND: "Bravo", THIRD: "Charlie"}
OWN = {"first": FIRST, "second": SECOND}
# Parameters that are drawn less often, because most of their values give an error.
_SHARES = {"cursor": 0.05, "from_location": 0.05, "payer": 0.05, "account": 0.3, "top": 0.1, "sort": 0.1}
# Parameter -> parameters that must not be combined with it.
_APART = {
    "last": {"from", "to", "month", "hour"},
    "month": {"from", "to"},
    "hour": {"from", "to"},
    "top": {"limit", "cursor"},
    "sort": {"limit", "cursor"},
}
_STAFF = (
    *("/v1/budgets", "/v1/organization", "/v1/hours/{hour}", "/v1/reports"),
    *("/v1/sources", "/v1/quarantine", "/v1/reconciliation"),
)
_ALLOWED = {200, 304, 400, 403, 404, 422}


@cache
def world() -> ApiWorld:
    """A region that the tests of this module never change."""
    made = World()
    for day in (30, 2, 1, 0):
        for account, name in NAMES.items():
            made.send(_records(account, name, NOW_S - day * DAY_S), source=f"source-{name}")
        if day in {30, 2}:
            made.compact_all()
        if day == 30:
            made.jobs.closer.close("2026-10", made.deadline())
    # One batch with records of all accounts.
    together = [each for account, name in NAMES.items() for each in _records(account, name, NOW_S - HOUR_S)]
    made.send(together, source="source-all")
    complete_until(made, HOUR)
    give_prices(made)
    keep_day_sums(made)
    return ApiWorld(made)


def _records(account: str, name: str, start_s: int) -> list[dict[str, str | int]]:
    size = 10 ** (3 * list(NAMES).index(account))
    return [
        record(size, start_s=start_s, account=account, resource=f"i-{name}", to=place)
        | {"service": f"Amazon{name}", "usage_type": f"{name}-{kind}"}
        for kind, place in (("Out", "internet"), ("Peer", f"{name.lower()}-west-1"))
    ]


@cache
def batches() -> dict[str, set[str]]:
    """Accounts by batch; batches are numbered as in the test's region."""
    senders = [*([account] for _ in range(4) for account in NAMES), NAMES]
    return {f"batch-{number}": set(accounts) for number, accounts in enumerate(senders)}


def foreign_names(who: str) -> set[str]:
    """Names that belong to accounts outside a token's grant."""
    own = OWN[who]
    others = {account: name for account, name in NAMES.items() if account != own}
    found = {PAYER, *others, *others.values(), *(name.lower() for name in others.values())}
    # Whole words: The quotes keep `batch-1` from matching within `batch-12`.
    return found | {f'"{batch}"' for batch, accounts in batches().items() if own not in accounts}


@cache
def documented() -> dict[str, list[dict[str, Any]]]:
    return {path: parameters for path, parameters in documented_of(world()).items() if path.startswith("/v1/")}


@cache
def values() -> dict[str, list[str]]:
    """Parameter values: own, foreign, and non-existent."""
    accounts = [FIRST, FIRST, SECOND, SECOND, THIRD, "999999999999", f"{FIRST},{THIRD}"]
    names = list(NAMES.values())
    return {
        "account": accounts,
        "payer": accounts,
        "prefix": ["1", "2", "12", "3", "7"],
        "service": [f"Amazon{name}" for name in names] + ["AmazonEC2"],
        "usage_type": [f"{name}-Out" for name in names] + ["Bravo-Ou", "Charlie-Peer,Alpha-Out"],
        "to_location": ["internet", "bravo-west-1", "charlie-west-1,alpha-west-1", "bravo-west-2"],
        "from_location": ["us-east-1/use1-az2", "us-east-1"],
        "id": [*batches(), "batch-99", "retry:x"],
        "from": ["2026-10", "2026-11", "2026-11-24", "2026-11-01", "last-month"],
        "to": ["2026-11-25", "2026-11-24T14:00:00Z"],
        "last": ["24h", "3d", "2m"],
        "hour": ["2026-11-24T12", "2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z"],
        "month": ["2026-10", "2026-11", "2025-01"],
        "group_by": [
            *("account_id", "account_id,usage_type", "day,service", "payer"),
            *("to,tier", "tier", "hour,tier", "from,to,region"),
        ],
        "detail": ["resource_id", "batch_id,resource_id", "direction"],
        "sort": ["bytes:desc", "account_id", "cost_usd"],
        "top": ["1", "2", "50"],
        "limit": ["1", "2", "100"],
        "cursor": cursors(),
        "format": ["json", "csv", "ndjson"],
        "tz": ["Europe/Berlin", "Asia/Tokyo"],
        "prices": ["sample", "aws-list", "aws-list@1"],
        "kind": ["batch", "records"],
        "reason": ["too_late"],
    }


def cursors() -> list[str]:
    """Cursors that other tokens received."""
    asked = ("/v1/usage?group_by=account_id&limit=1", "/v1/accounts?limit=1", "/v1/usage?limit=1&account=" + SECOND)
    answers = [world().get(path, who) for path in asked for who in ("analyst", "second")]
    found = [each.json().get("next") for each in answers if each.status_code == 200]
    return [each for each in found if each] + ["AAAA"]


def requests(seed: int, count: int) -> Iterator[str]:
    """Random requests to all paths, with parameters that name anything."""
    chance = random.Random(seed)
    usual = [path for path in documented() if path not in _STAFF]
    for number in range(count):
        path = chance.choice(_STAFF) if number % 10 == 0 else usual[number % len(usual)]
        given: dict[str, str] = {}
        for each in documented()[path]:
            pool = values().get(each["name"], ["true"] if each["schema"].get("enum") == ["true", "false"] else [])
            if pool and (each["required"] or chance.random() < _SHARES.get(each["name"], 0.2)):
                given[each["name"]] = chance.choice(pool)
        for one, others in _APART.items():
            if one in given and chance.random() < 0.95:
                given = {name: text for name, text in given.items() if name not in others}
        inside = {each["name"] for each in documented()[path] if each["in"] == "path"}
        asked = path
        for name in inside:
            asked = asked.replace(f"{{{name}}}", given.pop(name))
        yield f"{asked}?{urlencode(given, safe=',:')}"


def leaks(text: str, who: str, asked: str) -> set[str]:
    """Foreign names in an answer that were not in the request."""
    return {name for name in foreign_names(who) if name in text and name.strip('"') not in asked}


def check(asked: str, who: str) -> int:
    """Send a request, and compare with an operator's view of the same accounts."""
    answer = world().get(asked, who)
    assert answer.status_code in _ALLOWED, (asked, answer.text)
    assert not leaks(answer.text, who, asked), (asked, who, answer.text)
    if answer.status_code == 200 and asked.startswith(("/v1/usage", "/v1/cost")) and "format=" not in asked:
        _same_as_filtered(asked, who, answer.json())
    return answer.status_code


def _same_as_filtered(asked: str, who: str, own: Any) -> None:
    if "cursor=" in asked:
        return
    filtered = asked if "account=" in asked else f"{asked}&account={OWN[who]}"
    whole = world().get(filtered)
    assert whole.status_code == 200, (filtered, whole.text)
    assert own["rows"] == whole.json()["rows"], asked


@pytest.mark.parametrize("who", sorted(OWN))
def test_no_request_of_a_customer_shows_anything_of_others(who: str) -> None:
    statuses = [check(asked, who) for asked in requests(7, 170)]
    # The test proves nothing if every request is refused.
    assert statuses.count(200) > len(statuses) / 3


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_no_request_of_many_shows_anything_of_others(seed: int) -> None:
    for who in OWN:
        for asked in requests(1_000 + seed, 600):
            check(asked, who)


@pytest.mark.parametrize("who", sorted(OWN))
def test_every_path_that_names_an_account_refuses_a_foreign_one_before_it_looks(who: str) -> None:
    named = [
        (path, each["name"])
        for path, parameters in documented().items()
        for each in parameters
        if each["name"] in {"account", "payer"}
    ]
    assert {path for path, _ in named} >= {"/v1/usage", "/v1/cost", "/v1/accounts", "/v1/trace"}
    for path, parameter in named:
        texts = []
        with world().calls() as calls:
            for account in (THIRD, "999999999999"):
                answer = world().get(f"{path}?{parameter}={account}&last=2h", who)
                if answer.status_code == 400:
                    answer = world().get(f"{path}?{parameter}={account}", who)
                assert answer.status_code == 403, (path, answer.text)
                texts.append(answer.text.replace(account, "ACCOUNT"))
        assert texts[0] == texts[1]
        assert calls == []


@pytest.mark.parametrize("who", sorted(OWN))
def test_a_batch_of_others_is_none_and_a_shared_one_has_own_rows_alone(who: str) -> None:
    own = OWN[who]
    texts = set()
    for batch, accounts in batches().items():
        answer = world().get(f"/v1/batches?id={batch}", who)
        if own not in accounts:
            assert answer.status_code == 404
            texts.add(answer.text.replace(batch, "BATCH"))
        else:
            assert answer.status_code == 200
            assert not leaks(answer.text, who, "")
    missing = world().get("/v1/batches?id=batch-99", who)
    assert texts == {missing.text.replace("batch-99", "BATCH")}


def test_a_mistyped_name_is_not_answered_with_the_names_of_others() -> None:
    for asked in ("usage_type=Brvo-Out", "service=AmazonBrvo", "to_location=brvo-west-1"):
        question = f"/v1/usage?last=3d&{asked}"
        assert "ravo" in world().get(question).text
        own = world().json(question, "first")
        assert [each["nearest"] for each in own["unknown"]] == [[]]
        assert "booked" not in own


def test_a_leak_is_found() -> None:
    asked = "/v1/usage?group_by=account_id,usage_type&detail=batch_id&from=2026-11-20&to=2026-11-24T14:00:00Z"
    text = world().get(asked, "analyst").text
    assert {SECOND, "Bravo"} <= leaks(text, "first", asked)
    assert '"batch-4"' in json.dumps(list(foreign_names("first"))).replace('\\"', '"')
