"""Dashboards: named, within the quotas, with the thresholds of the alarms, and one view of all regions."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from metering.operations.alarms import ALARMS, Figure
from metering.operations.runbooks import Dashboard, dashboard_name
from tests.infra.pictures.pages import FOLDER, pictures
from tests.infra.support.resolved import place_of
from tests.infra.support.synthesis import STAGE_NAMES, synthesised

# Of CloudWatch: metrics of a graph, and metrics of a dashboard that is free.
GRAPH_METRICS = 500
FREE_METRICS = 50
HOME = json.dumps({"rollout_project": True})


def bodies(stage: str, overrides: str = "{}") -> dict[str, dict[str, Any]]:
    """Dashboards of a stage in eu-west-1 by name."""
    synth = synthesised(stage, overrides=overrides)
    place = place_of(synth.templates["observability"])
    return {
        place.text(each["Properties"]["DashboardName"]): json.loads(place.text(each["Properties"]["DashboardBody"]))
        for each in synth.resources("observability", "AWS::CloudWatch::Dashboard").values()
    }


def body(stage: str, kind: Dashboard, overrides: str = "{}") -> dict[str, Any]:
    return bodies(stage, overrides)[dashboard_name(stage, kind, "eu-west-1")]


def widgets(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [widget["properties"] for widget in found["widgets"] if widget["type"] == kind]


def metrics(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Namespace, name, dimensions and region of each metric; `.` means as in the row before."""
    rows: list[tuple[str, ...]] = []
    for widget in widgets(found, "metric"):
        before: list[str] = []
        for row in widget.get("metrics", []):
            if isinstance(row[0], dict):
                continue
            plain = [part for part in row if isinstance(part, str)]
            before = [before[at] if part == "." else part for at, part in enumerate(plain)]
            region = next((part.get("region", "") for part in row if isinstance(part, dict)), "")
            rows.append((*before, region))
    return rows


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_region_has_a_dashboard_to_read_first_and_one_of_the_load(stage: str) -> None:
    assert set(bodies(stage)) == {f"metering-{stage}-on-call-eu-west-1", f"metering-{stage}-load-eu-west-1"}


def test_two_regions_do_not_give_one_name_because_dashboards_belong_to_an_account() -> None:
    [first, *_] = synthesised("prod").resources("observability", "AWS::CloudWatch::Dashboard").values()
    name = first["Properties"]["DashboardName"]
    template = synthesised("prod").templates["observability"]
    names = {place_of(template, Region=region).text(name) for region in ("eu-west-1", "us-east-1")}
    assert len(names) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,255}", each) for each in names)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_every_alarm_of_the_stage_has_its_state_on_the_first_dashboard_and_pages_come_first(stage: str) -> None:
    states = widgets(body(stage, Dashboard.ON_CALL), "alarm")
    assert [each["title"].split()[-1] for each in states] == ["(page)", "(ticket)"]
    deployed = synthesised(stage).resources("observability", "AWS::CloudWatch::Alarm")
    shown = {arn.split(":")[-1] for each in states for arn in each["alarms"]}
    assert shown == set(deployed)


@pytest.mark.parametrize("stage", ["local", "prod"])
def test_thresholds_are_those_of_the_catalogue(stage: str) -> None:
    by_name = {spec.name: spec for spec in ALARMS}
    drawn: set[str] = set()
    for found in bodies(stage).values():
        for widget in widgets(found, "metric"):
            for line in widget.get("annotations", {}).get("horizontal", []):
                name, _, severity = line["label"].partition(" ")
                if name not in by_name or not severity.startswith("("):
                    continue
                spec, unit = by_name[name], widget["yAxis"]["left"]["label"]
                divisor = {"minutes": 60, "hours": 3_600}.get(unit, 1) if spec.threshold >= 60 else 1
                assert line["value"] == pytest.approx(spec.threshold / divisor), name
                drawn.add(name)
    assert {"oldest-batch", "oldest-message", "canary-late", "usage-waiting", "unpublished-hours"} <= drawn
    assert {"compaction-stalled", "reconciliation-stalled", "reconciliation-backlog"} <= drawn


def test_complete_through_is_a_number_in_minutes() -> None:
    [number] = [
        each for each in widgets(body("prod", Dashboard.ON_CALL), "metric") if "complete through" in each["title"]
    ]
    assert number["view"] == "singleValue"
    assert any(Figure.COMPLETE_THROUGH_AGE in row for row in number["metrics"])
    assert any(isinstance(row[0], dict) and row[0]["expression"].endswith("/60") for row in number["metrics"])


def test_batches_and_records_have_axes_of_their_own() -> None:
    for kind in (Dashboard.ON_CALL, Dashboard.LOAD):
        graphs = [each for each in widgets(body("prod", kind), "metric") if "records" in json.dumps(each)]
        assert graphs
        for each in graphs:
            sides = {row[-1].get("yAxis", "left") for row in each["metrics"] if "Records" in json.dumps(row[1])}
            assert sides == {"right"}


def test_durations_are_the_slowest_hundredth_as_a_share_of_each_timeout() -> None:
    [graph] = [each for each in widgets(body("prod", Dashboard.LOAD), "metric") if "p99" in each["title"]]
    shares = {row[0]["label"]: row[0]["expression"] for row in graph["metrics"] if isinstance(row[0], dict)}
    # 60 s: a duration of 60,000 ms is 100 %.
    assert shares["aggregator"] == "aggregator/600"
    assert shares["compactor"] == "compactor/9000"
    assert all(row[-1]["stat"] == "p99" for row in graph["metrics"] if not isinstance(row[0], dict))


def test_an_hour_that_writes_a_million_units_costs_what_the_price_list_says() -> None:
    [graph] = [each for each in widgets(body("prod", Dashboard.LOAD), "metric") if "cost" in each["title"]]
    writes = next(row[0] for row in graph["metrics"] if isinstance(row[0], dict) and "writes" in row[0]["label"])
    used, price = writes["expression"].split("*")
    assert used == "(w0+w1)"
    assert float(price) * 1_000_000 == pytest.approx(0.625)
    assert "Estimated" in graph["title"]
    assert writes["period"] == 3_600


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_dashboards_stay_within_the_quotas(stage: str) -> None:
    for found in bodies(stage, HOME).values():
        for widget in widgets(found, "metric"):
            assert len(widget.get("metrics", [])) <= GRAPH_METRICS
    on_call, load = (set(metrics(body(stage, kind))) for kind in (Dashboard.ON_CALL, Dashboard.LOAD))
    assert len(on_call) <= FREE_METRICS
    assert len(load) <= 2 * FREE_METRICS


def test_the_home_region_has_a_line_for_each_region_that_the_rules_admit() -> None:
    rules = {"rollout": {"home": "us-east-1", "allow": ["eu-*", "xx-new-1"], "deny": ["eu-south-2"]}}
    found = body("prod", Dashboard.REGIONS, json.dumps({"rollout_project": True, **rules}))
    regions = {row[-1] for row in metrics(found)}
    assert {"us-east-1", "eu-west-1", "xx-new-1"} <= regions
    assert not {"eu-south-2", "us-west-2"} & regions
    assert len(widgets(found, "metric")) == 6


def test_the_first_dashboard_says_what_to_type() -> None:
    [text] = widgets(body("prod", Dashboard.ON_CALL), "text")
    for command in ("runbook ALARM", "status", "errors", "verify"):
        assert f"`metering {command} --region eu-west-1 --stage prod`" in text["markdown"]


@pytest.mark.parametrize("name", [f"{kind}.svg" for kind in Dashboard])
def test_the_picture_in_the_documentation_is_that_of_the_template(name: str) -> None:
    """To draw them anew: python -m tests.infra.pictures."""
    assert (FOLDER / name).read_text() == pictures()[name]
    assert f"({name})" in (FOLDER / "README.md").read_text()
