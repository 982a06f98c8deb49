"""Several regions behind one application, as `metering serve --region all` has them: one answer, or none."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from metering.errors import UnavailableError
from metering.hours import rfc3339
from metering.wiring.answers.costs import BillingRegions
from metering.wiring.answers.usage import Everywhere
from tests.api.world import BUSY, FIRST, ApiWorld, WorldRegion, traffic
from tests.support.lake_world import HOUR, World, record


@cache
def both() -> ApiWorld:
    """Two regions of a stage; only the first one knows prices. No test of this module changes them."""
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
    asked = "/v1/usage?from=2026-10-01&to=2026-11-24T14:00:00Z"
    few = ApiWorld(both().world)
    few.parts = replace(both().parts, limits=replace(both().parts.limits, open_hours=4))
    assert few.get(asked).status_code == 200
    assert few.logged[-1].hours == 8
    fewer = ApiWorld(both().world)
    fewer.parts = replace(few.parts, limits=replace(few.parts.limits, open_hours=3))
    refused = fewer.get(asked)
    assert refused.status_code == 422
    assert "4 hours that have to be read from the lake, and 3 are the most" in refused.text


def test_costs_count_tiers_over_all_of_them() -> None:
    answer = both().json("/v1/cost?month=2026-11&group_by=region")
    assert answer["regions"] == ["eu-west-1", "us-east-1"]
    assert [row["region"] for row in answer["rows"]] == ["eu-west-1", "us-east-1"]


def test_each_region_has_a_row_of_its_freshness() -> None:
    assert set(both().json("/v1/freshness")["regions"]) == {"eu-west-1", "us-east-1"}
    assert len(both().get("/v1/freshness?format=csv").text.splitlines()) == 3


def test_every_path_answers_over_all_of_them() -> None:
    hour = "2026-11-24T11"
    for path in (f"/v1/hours/{hour}", "/v1/batches?id=batch-1", "/v1/sources", "/v1/reconciliation", "/v1/quarantine"):
        for form in ("json", "csv"):
            separator = "&" if "?" in path else "?"
            answer = both().get(f"{path}{separator}format={form}", "operator")
            assert answer.status_code == 200, (path, form, answer.text)
    told = both().json(f"/v1/hours/{hour}")["regions"]
    alone = ApiWorld().json(f"/v1/hours/{hour}")
    assert told["us-east-1"]["rows"] == alone["rows"]
    assert set(told) == {"us-east-1", "eu-west-1"}


def test_a_region_that_does_not_answer_makes_no_answer_smaller() -> None:
    silent = both().parts.regions[0].items

    def fail(_call: str) -> None:
        raise UnavailableError("dynamodb.Query", "throttled")

    silent.on_call = fail  # type: ignore[attr-defined]  # the store in memory
    try:
        for path in (
            "/v1/usage?from=2026-11",
            f"/v1/usage?account={FIRST}",
            "/v1/cost",
            "/v1/freshness",
            "/v1/accounts",
        ):
            answer = both().get(path)
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
