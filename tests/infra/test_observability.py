"""Alarms reach a person, and dashboards are within CloudWatch's quotas."""

import copy
import json
import re
from typing import Any

import pytest

from metering.errors import SettingsError
from metering.fleet.stage import StageConfig
from metering.operations.alarms import ALARMS, LOG_ORIGINS, Figure
from metering.operations.runbooks import Dashboard, dashboard_name
from tests.infra.pictures.pages import FOLDER, pictures
from tests.infra.support.models import place_of
from tests.infra.support.synthesis import STAGE_NAMES, Synthesised, synthesised
from tests.unit.house.command_lines import parsed

# An alarm that cannot publish fires unnoticed. No emulator checks this, so the test follows the permissions itself.

ALARM = "AWS::CloudWatch::Alarm"
EXPORT = "Fn::ImportValue"


def broken_links(templates: dict[str, dict[str, Any]]) -> list[str]:
    data = templates["data"]
    exports = {
        output["Export"]["Name"]: output["Value"]["Ref"]
        for output in data["Outputs"].values()
        if "Export" in output and "Ref" in output["Value"]
    }
    problems: list[str] = []
    for name, alarm in _of_kind(templates["observability"], ALARM).items():
        actions = alarm["Properties"].get("AlarmActions", [])
        if not actions:
            problems.append(f"{name} has no action")
        for action in actions:
            problems += [f"{name}: {problem}" for problem in _topic_problems(data, exports.get(action[EXPORT], ""))]
    return problems


def _topic_problems(data: dict[str, Any], topic: str) -> list[str]:
    resource = data["Resources"].get(topic)
    if resource is None or resource["Type"] != "AWS::SNS::Topic":
        return [f"{topic!r} is no topic"]
    problems = []
    if not any(_lets_cloudwatch_publish(statement) for statement in _statements_of_topic(data, topic)):
        problems.append(f"the policy of {topic} does not let CloudWatch publish")
    key = resource["Properties"].get("KmsMasterKeyId", {})
    key_name = key.get("Fn::GetAtt", [key.get("Ref")])[0]
    if key_name not in data["Resources"]:
        problems.append(f"{topic} has no customer key")
    elif not any(
        _lets_cloudwatch_encrypt(s) for s in data["Resources"][key_name]["Properties"]["KeyPolicy"]["Statement"]
    ):
        problems.append(f"the key of {topic} does not let CloudWatch use it")
    return problems


def _statements_of_topic(data: dict[str, Any], topic: str) -> list[dict[str, Any]]:
    return [
        statement
        for policy in _of_kind(data, "AWS::SNS::TopicPolicy").values()
        if {"Ref": topic} in policy["Properties"]["Topics"]
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    ]


def _lets_cloudwatch_publish(statement: dict[str, Any]) -> bool:
    return bool(
        statement["Effect"] == "Allow"
        and statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        and statement["Action"] == "sns:Publish"
        and statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    )


def _lets_cloudwatch_encrypt(statement: dict[str, Any]) -> bool:
    return (
        statement["Effect"] == "Allow"
        and statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        and set(statement["Action"]) >= {"kms:Decrypt", "kms:GenerateDataKey*"}
        # Without this condition, the alarms of every account could use the key.
        and statement.get("Condition") == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    )


def _of_kind(template: dict[str, Any], kind: str) -> dict[str, Any]:
    return {name: resource for name, resource in template["Resources"].items() if resource["Type"] == kind}


def _alarms(stage: Synthesised) -> dict[str, dict[str, Any]]:
    """Properties of a stage's alarms, by alarm name without the stage."""
    prefix = f"metering-{stage.config.stage}-"
    return {
        alarm["Properties"]["AlarmName"].removeprefix(prefix): alarm["Properties"]
        for alarm in stage.resources("observability", ALARM).values()
    }


def _description(stage: str, name: str, overrides: str = "{}", **pseudo: str) -> str:
    """Description of an alarm, as its recipients read it."""
    synth = synthesised(stage, overrides=overrides)
    place = place_of(synth.templates["observability"], **pseudo)
    return place.text(_alarms(synth)[name]["AlarmDescription"])


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_every_alarm_is_heard(stage: str) -> None:
    assert broken_links(synthesised(stage).templates) == []


@pytest.mark.parametrize(("part", "kind", "path", "problem"), [
    ("observability", ALARM, ("AlarmActions",), "has no action"),
    ("data", "AWS::SNS::Topic", ("KmsMasterKeyId",), "has no customer key"),
    ("data", "AWS::SNS::TopicPolicy", ("PolicyDocument", "Statement"), "does not let CloudWatch publish"),
    ("data", "AWS::KMS::Key", ("KeyPolicy", "Statement"), "does not let CloudWatch use it"),
])  # fmt: skip
def test_a_link_that_is_missing_is_found(part: str, kind: str, path: tuple[str, ...], problem: str) -> None:
    templates = copy.deepcopy(synthesised("prod").templates)
    for resource in _of_kind(templates[part], kind).values():
        *parents, last = path
        target = resource["Properties"]
        for parent in parents:
            target = target[parent]
        target[last] = [] if isinstance(target[last], list) else {}
    assert any(problem in found for found in broken_links(templates))


def test_a_key_that_any_accounts_cloudwatch_may_use_is_found() -> None:
    templates = copy.deepcopy(synthesised("prod").templates)
    for key in _of_kind(templates["data"], "AWS::KMS::Key").values():
        for statement in key["Properties"]["KeyPolicy"]["Statement"]:
            statement.pop("Condition", None)
    assert any("does not let CloudWatch use it" in found for found in broken_links(templates))


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_stack_has_the_catalogues_alarms_for_all_that_is_deployed(stage: str) -> None:
    synth = synthesised(stage)
    functions = {
        name.removesuffix("FunctionName").lower()
        for part in ("pipeline", "api")
        for name in synth.templates.get(part, {}).get("Outputs", {})
        if name.endswith("FunctionName")
    }
    sources = functions | {"ingest_queue", "dead_letter_queue"}
    assert set(_alarms(synth)) == {spec.name for spec in ALARMS if spec.origin in sources}


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_an_alarm_is_plain_and_says_what_it_needs_to(stage: str) -> None:
    alarms = _alarms(synthesised(stage))
    for spec in ALARMS:
        if spec.name not in alarms:
            continue
        properties = alarms[spec.name]
        assert "Metrics" not in properties
        assert _description(stage, spec.name).startswith(f"[{spec.severity}] {spec.meaning}\n")
        assert properties["TreatMissingData"] == spec.missing
        assert properties["OKActions"] == properties["AlarmActions"]
        topic = "Page" if spec.severity == "page" else "Ticket"
        assert f"RefTopics{topic}" in json.dumps(properties["AlarmActions"])


def test_a_function_of_the_stacks_account_and_region_may_be_called_by_the_topic() -> None:
    arn = "arn:aws:lambda:us-east-1:123456789012:function:alerts"
    mail = {"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}
    given = {"subscriptions": [{"severity": "page", "protocol": "lambda", "endpoint": arn}, mail]}
    synth = synthesised("prod", overrides=json.dumps(given))
    [permission] = _of_kind(synth.templates["data"], "AWS::Lambda::Permission").values()
    [condition] = synth.templates["data"]["Conditions"].values()
    assert permission["Properties"]["FunctionName"] == arn
    assert permission["Properties"]["Principal"] == "sns.amazonaws.com"
    assert permission["Properties"]["SourceArn"]["Ref"].startswith("TopicsPage")
    assert permission["Condition"] in synth.templates["data"]["Conditions"]
    assert condition == {"Fn::And": [
        {"Fn::Equals": [{"Ref": "AWS::AccountId"}, "123456789012"]},
        {"Fn::Equals": [{"Ref": "AWS::Region"}, "us-east-1"]},
    ]}  # fmt: skip


def test_a_new_alarm_tells_of_no_recovery_and_a_deployed_one_of_each() -> None:
    """A new alarm has no state, so that its first evaluation changes the state to OK, without any recovery."""
    actions = {"OK": "OKActions", "ALARM": "AlarmActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
    new, deployed = (synthesised("prod", own=own) for own in ('{"first_build": true}', "{}"))

    def told(synth: Synthesised, after: str) -> set[str]:
        found = synth.templates["observability"]
        every = {**_of_kind(found, ALARM), **_of_kind(found, "AWS::CloudWatch::CompositeAlarm")}
        return {name for name, each in every.items() if each["Properties"].get(actions[after])}

    assert told(new, "OK") == told(new, "INSUFFICIENT_DATA") == told(deployed, "INSUFFICIENT_DATA") == set()
    assert told(new, "ALARM") == told(deployed, "ALARM")
    assert len(told(deployed, "OK")) > len(told(deployed, "ALARM")) > 30


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_an_alert_has_a_command_to_paste_and_only_links_that_work_from_a_mail(stage: str) -> None:
    for name in _alarms(synthesised(stage)):
        text = _description(stage, name)
        [command] = re.findall(r"^Type: (.+)$", text, re.MULTILINE)
        assert parsed(command) == ["runbook"]
        assert command.endswith(f" --region eu-west-1 --stage {stage}")
        assert "docs/" not in text
        assert (
            f"https://console.aws.amazon.com/cloudwatch/home?region=eu-west-1#dashboards/dashboard/metering-{stage}-on-call-eu-west-1"
            in text
        )


def test_an_alert_links_to_the_runbook_if_the_stage_says_where_the_runbooks_are() -> None:
    overrides = json.dumps({"runbook_base": "https://wiki.example.com/runbooks/"})
    assert _description("prod", "oldest-message", overrides).endswith(
        "\nRunbook: https://wiki.example.com/runbooks/oldest-batch.md"
    )
    assert _description("prod", "watch-errors", overrides).endswith("/runbooks/function-errors.md#watch-errors")


def test_a_base_of_runbooks_that_is_no_url_is_refused() -> None:
    with pytest.raises(SettingsError, match="runbook_base"):
        StageConfig.load("prod", {"runbook_base": "docs/runbooks"})


def test_links_lead_to_the_console_that_the_stage_names() -> None:
    overrides = json.dumps({"console_host": "console.amazonaws.cn"})
    assert "https://console.amazonaws.cn/cloudwatch/" in _description("prod", "dead-letters", overrides)


def test_a_description_fits_into_an_alarm_of_the_longest_stage_and_region() -> None:
    """AlarmDescription takes 1,024 characters."""
    base = "https://wiki.example.com/" + "runbooks/" * 20
    for name in _alarms(synthesised("prod")):
        text = _description("prod", name, json.dumps({"runbook_base": base}), Region="xx-" + "long" * 12 + "-1")
        assert len(text) + 3 * (16 - len("prod")) <= 1_024


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_page_state_stands_for_all_that_pages_and_nothing_else(stage: str) -> None:
    synth = synthesised(stage)
    rule = json.dumps(
        synth.one("observability", "AWS::CloudWatch::CompositeAlarm")["Properties"]["AlarmRule"], sort_keys=True
    )
    for name, alarm in synth.resources("observability", ALARM).items():
        pages = json.dumps(alarm["Properties"]["AlarmDescription"]).find("[page]") > 0
        assert (f'["{name}", "Arn"]' in rule) == pages


@pytest.mark.parametrize("stage", ["local", "killtest"])
def test_an_emulator_gets_no_composite_alarm(stage: str) -> None:
    assert not synthesised(stage).resources("observability", "AWS::CloudWatch::CompositeAlarm")


def test_subscriptions_are_data() -> None:
    overrides = json.dumps(
        {"subscriptions": [{"severity": "page", "protocol": "https", "endpoint": "https://events.example.com/v1"}]}
    )
    subscription = synthesised("prod", overrides=overrides).one("data", "AWS::SNS::Subscription")["Properties"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("https", "https://events.example.com/v1")
    assert subscription["TopicArn"]["Ref"].startswith("TopicsPage")
    assert not synthesised("prod").resources("data", "AWS::SNS::Subscription")


@pytest.mark.parametrize("stage", ["local", "prod"])
def test_alarms_of_log_sources_exist_in_a_region_that_has_some_and_in_no_other(stage: str) -> None:
    source = {"name": "flows", "bucket": "acme-logs", "region": "us-west-2", "accounts": "organization"}
    of_logs = {spec.name for spec in ALARMS if spec.origin in LOG_ORIGINS}
    prefix = f"metering-{stage}-"
    for overrides, wanted in (("{}", set()), (json.dumps({"log_sources": [source]}), of_logs)):
        synth = synthesised(stage, overrides=overrides)
        found = {
            alarm["Properties"]["AlarmName"].removeprefix(prefix)
            for part in ("observability", "pipeline")
            for alarm in synth.resources(part, ALARM).values()
        }
        assert found & of_logs == wanted


# Dashboards have names, are within the quotas, show the alarms' thresholds, and include one view of all regions.

# CloudWatch quotas: metrics per graph, and metrics per free dashboard.
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
    """To draw them again: python -m tests.infra.pictures."""
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
    # With a timeout of 60 s, a duration of 60,000 ms is 100 %.
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


def test_the_alarm_of_the_bill_exists_where_an_export_is_compared_and_nowhere_else() -> None:
    export = {"bucket": "acme-billing", "region": "us-east-1", "prefix": "exports/metering", "format": "cur2"}
    for overrides, wanted in (("{}", False), (json.dumps({"bill_exports": [export]}), True)):
        alarms = synthesised("prod", overrides=overrides).resources("observability", ALARM).values()
        assert ("metering-prod-aws-bill" in {alarm["Properties"]["AlarmName"] for alarm in alarms}) is wanted
