"""Throttling, access log, permissions and isolation of the HTTP API, which no emulator can show."""

import json
from typing import Any

import pytest

from metering.api.people import ROUTE_KEY, GroupGrant, SignIn
from metering.errors import SettingsError
from metering.fleet.stage import StageConfig
from metering.operations.alarms import ALARMS, API_ORIGIN
from tests.infra.support.calls import USAGE_TABLE
from tests.infra.support.synthesis import Synthesised, synthesised
from tests.infra.test_grants import KINDS, Grants

GATEWAY = "AWS::ApiGatewayV2"
LOOK_UP = {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"}
READ = {
    "lake/", "staging/", "runs/", "closed/", "summaries/", "quarantine/", "rated/", "prices/", "organization/",
    "owners/", "invoices/", "causes/index/", "causes/days/", "causes/names/",
    "causes/closed/",
}  # fmt: skip
DOMAIN = {"api": True, "api_domain": "usage.{region}.example.com", "api_zone_id": "Z0123456789ABC"}


def with_api(stage: str = "prod", **settings: object) -> Synthesised:
    return synthesised(stage, overrides=json.dumps({"api": True, **settings}))


def function(stage: Synthesised) -> dict[str, Any]:
    properties: dict[str, Any] = stage.one("api", "AWS::Lambda::Function")["Properties"]
    return properties


def test_the_role_reads_what_answers_are_made_of_and_may_do_nothing_else() -> None:
    """The list is complete: add every new permission here, too."""
    grants = Grants(with_api(), "api", "ApiRole")
    assert grants.everything() == {
        *LOOK_UP,
        "dynamodb:PutItem",
        "s3:GetObject",
        "s3:ListBucket",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }
    assert grants.actions("LedgerTable") == {*LOOK_UP, "dynamodb:PutItem"}
    assert grants.actions(USAGE_TABLE) == LOOK_UP
    # The API's role may write only one item, which is the list of large requests in progress.
    assert grants.may_write("dynamodb:PutItem", "LedgerTable", "W#api-large")
    for pk in (*KINDS, "K#tokens", "W#api-large-2", "W#held", "W#watch", None):
        assert not grants.may_write("dynamodb:PutItem", "LedgerTable", pk)
    assert grants.prefixes("s3:GetObject") == grants.listed() == READ
    assert grants.managed == []


def test_nothing_in_the_role_is_of_all_resources() -> None:
    for statement in Grants(with_api(), "api", "ApiRole").statements:
        assert "*" not in json.dumps(statement["Action"])
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        assert "*" not in resources


def test_it_is_told_where_prices_are() -> None:
    def home(stage: Synthesised) -> Any:
        return function(stage)["Environment"]["Variables"]["METERING_HOME_REGION"]

    assert home(with_api(rollout={"home": "eu-west-1"})) == "eu-west-1"
    assert home(synthesised("local")) == ""


def test_it_keeps_some_executions_and_can_take_no_others() -> None:
    assert function(with_api(api_concurrency=7))["ReservedConcurrentExecutions"] == 7
    assert function(with_api())["ReservedConcurrentExecutions"] == 10
    # An emulator ignores reserved concurrency, and the account of LocalStack has too little concurrency to reserve.
    assert "ReservedConcurrentExecutions" not in function(synthesised("local"))


def test_the_gateway_lets_through_as_much_as_the_stage_says() -> None:
    stage = with_api(api_rate_per_s=3, api_burst=5).one("api", f"{GATEWAY}::Stage")["Properties"]
    settings = stage["DefaultRouteSettings"]
    assert (settings["ThrottlingRateLimit"], settings["ThrottlingBurstLimit"]) == (3, 5)
    assert (stage["StageName"], stage["AutoDeploy"]) == ("$default", True)


def test_the_access_log_has_each_request_and_neither_a_query_nor_a_header() -> None:
    stage = with_api()
    properties = stage.one("api", f"{GATEWAY}::Stage")["Properties"]["AccessLogSettings"]
    [log] = [name for name in stage.resources("api", "AWS::Logs::LogGroup") if name.startswith("FrontAccessLog")]
    assert properties["DestinationArn"] == {"Fn::GetAtt": [log, "Arn"]}
    assert stage.resources("api", "AWS::Logs::LogGroup")[log]["Properties"]["RetentionInDays"] == 365
    written = json.loads(properties["Format"])
    assert {"$context.requestId", "$context.status", "$context.path", "$context.identity.sourceIp"} <= set(
        written.values()
    )
    assert not any(word in properties["Format"].lower() for word in ("query", "header", "authorizer", "rawpath"))


def test_only_the_gateway_may_call_the_function() -> None:
    stage = with_api()
    [permission] = stage.resources("api", "AWS::Lambda::Permission").values()
    [api] = stage.resources("api", f"{GATEWAY}::Api")
    assert permission["Properties"]["Principal"] == "apigateway.amazonaws.com"
    assert permission["Properties"]["Action"] == "lambda:InvokeFunction"
    assert {"Ref": api} in permission["Properties"]["SourceArn"]["Fn::Join"][1]


def test_every_request_goes_to_the_function_and_neither_hangs_longer_than_the_other() -> None:
    stage = with_api(api_timeout_s=12)
    integration = stage.one("api", f"{GATEWAY}::Integration")["Properties"]
    assert integration["PayloadFormatVersion"] == "2.0"
    assert integration["TimeoutInMillis"] == 12_000
    assert function(stage)["Timeout"] == 12
    assert stage.one("api", f"{GATEWAY}::Route")["Properties"]["RouteKey"] == "$default"
    # Browsers refuse cross-origin requests unless the API allows them.
    assert "CorsConfiguration" not in stage.one("api", f"{GATEWAY}::Api")["Properties"]


def test_the_stack_reads_of_the_data_stack_alone_and_can_go_without_touching_what_counts() -> None:
    stage = with_api()
    imports = {part: json.dumps(template) for part, template in stage.templates.items()}
    assert '"Fn::ImportValue": "metering-prod-data:' in imports["api"]
    assert '"Fn::ImportValue": "metering-prod-pipeline:' not in imports["api"]
    for part in ("data", "pipeline"):
        assert '"Fn::ImportValue": "metering-prod-api:' not in imports[part]
    # Stacks that hold or process data are the same with and without the API.
    assert stage.templates["pipeline"]["Resources"] == synthesised("prod").templates["pipeline"]["Resources"]


def test_a_stage_that_does_not_ask_for_it_has_nothing_of_it() -> None:
    for name in ("dev", "killtest", "prod"):
        stage = synthesised(name)
        assert "api" not in stage.templates
        assert not [kind for kind in map(str, stage.all_resources().values()) if GATEWAY in kind]
        assert "ApiFailedPermille" not in json.dumps(stage.templates)
    assert "api" in synthesised("local").templates


def test_an_operator_may_search_its_log() -> None:
    """The policy is in the stack of the log, which is deployed after the stack of the role."""
    stage = with_api()
    [log] = [name for name in stage.resources("api", "AWS::Logs::LogGroup") if name.startswith("ApiLogs")]
    policy = stage.one("api", "AWS::IAM::Policy", "LogReaders")["Properties"]
    assert "RolesOperator" in json.dumps(policy["Roles"])
    [search, _] = policy["PolicyDocument"]["Statement"]
    assert (search["Action"], search["Resource"]) == ("logs:StartQuery", {"Fn::GetAtt": [log, "Arn"]})


def test_its_alarms_are_there_with_it_and_its_figures_have_its_own_dimensions() -> None:
    stage = with_api()
    alarms = {
        each["Properties"]["AlarmName"].removeprefix("metering-prod-"): each["Properties"]
        for each in stage.resources("observability", "AWS::CloudWatch::Alarm").values()
    }
    specs = {spec.name: spec for spec in ALARMS if spec.origin == API_ORIGIN}

    assert set(specs) == set(alarms) - {
        each["Properties"]["AlarmName"].removeprefix("metering-prod-")
        for each in synthesised("prod").resources("observability", "AWS::CloudWatch::Alarm").values()
    }
    counted = {"api-failing": "ApiFailedPermille", "api-slow": "ApiSlowPermille", "api-guessing": "ApiUnauthorized"}
    for name, metric in counted.items():
        assert alarms[name]["Namespace"] == "Metering"
        assert alarms[name]["MetricName"] == metric
        assert {each["Name"]: each["Value"] for each in alarms[name]["Dimensions"]} == {
            "service": "api",
            "stage": "prod",
        }
    assert alarms["api-failing"]["Statistic"] == "Average"
    # Lambda's `Duration` includes cold starts, and an emulator does not separate the functions' metrics.
    assert (alarms["api-slow"].get("Statistic"), alarms["api-slow"]["Threshold"]) == ("Average", 50)
    for name in ("api-errors", "api-throttled"):
        assert alarms[name]["Namespace"] == "AWS/Lambda"
        assert "metering-prod-api:" in json.dumps(alarms[name]["Dimensions"])


def test_the_dashboards_show_it_if_it_is_there() -> None:
    def boards(stage: Synthesised) -> str:
        return json.dumps(stage.resources("observability", "AWS::CloudWatch::Dashboard"))

    assert "HTTP API" in boards(with_api())
    assert "HTTP API" not in boards(synthesised("prod"))


def test_an_emulator_may_have_a_url_of_the_function_instead() -> None:
    stage = synthesised("local", overrides=json.dumps({"api_front": "url"}))
    assert stage.one("api", "AWS::Lambda::Url")["Properties"]["AuthType"] == "NONE"
    assert not [each for each in stage.all_resources().values() if each["Type"].startswith(GATEWAY)]
    assert "FunctionUrl" in json.dumps(stage.templates["api"]["Outputs"]["ApiUrl"])


_WORDS = {
    "emulated-only": "emulated stages only",
    "together": "belong together",
    "region": "{region} in it",
    "front": "needs api_front",
}


@pytest.mark.parametrize(("stage", "settings", "words"), [
    ("prod", {"api_front": "url"}, "emulated-only"),
    ("prod", {"api_domain": "usage.{region}.example.com"}, "together"),
    ("prod", {"api_zone_id": "Z1"}, "together"),
    ("prod", {"api_domain": "usage.example.com", "api_zone_id": "Z1"}, "region"),
    ("prod", {"api_domain": "{region}.{region}.com", "api_zone_id": "Z1"}, "region"),
    ("prod", {"api_domain": "https://{region}.example.com/", "api_zone_id": "Z1"}, "region"),
    ("prod", {"api_domain": "usage_{region}.example.com", "api_zone_id": "Z1"}, "region"),
    ("local", {"api_front": "url", "api_domain": "a.{region}.example.com", "api_zone_id": "Z1"}, "front"),
    ("prod", {"api_timeout_s": 30}, "api_timeout_s"),
    ("prod", {"api_rate_per_s": 0}, "api_rate_per_s"),
    ("prod", {"api_concurrency": 0}, "api_concurrency"),
])  # fmt: skip
def test_settings_that_would_not_work_are_refused_in_words(stage: str, settings: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        StageConfig.load(stage, {"api": True, **settings})
    assert _WORDS.get(words, words) in str(refused.value)


def test_a_name_may_begin_with_the_region() -> None:
    settings = {"api": True, "api_domain": "{region}.usage.example.com", "api_zone_id": "Z1"}
    assert StageConfig.load("prod", settings).api_domain == settings["api_domain"]


def test_a_name_of_its_own_is_proven_by_its_zone_and_has_the_region_in_it() -> None:
    stage = synthesised("prod", overrides=json.dumps(DOMAIN))
    name = {"Fn::Join": ["", ["usage.", {"Ref": "AWS::Region"}, ".example.com"]]}
    certificate = stage.one("api", "AWS::CertificateManager::Certificate")["Properties"]
    assert certificate["DomainName"] == name
    assert certificate["DomainValidationOptions"] == [{"DomainName": name, "HostedZoneId": "Z0123456789ABC"}]
    domain = stage.one("api", f"{GATEWAY}::DomainName")["Properties"]
    [configuration] = domain["DomainNameConfigurations"]
    assert (configuration["EndpointType"], configuration["SecurityPolicy"]) == ("REGIONAL", "TLS_1_2")
    assert stage.one("api", "AWS::Route53::RecordSet")["Properties"]["HostedZoneId"] == "Z0123456789ABC"
    assert stage.templates["api"]["Outputs"]["ApiUrl"]["Value"] == {
        "Fn::Join": ["", ["https://usage.", {"Ref": "AWS::Region"}, ".example.com"]]
    }


@pytest.mark.parametrize("region", ["eu-central-2", "ap-southeast-9"])
def test_a_region_has_the_same_api_as_one_that_is_left_to_the_deployment(region: str) -> None:
    overrides = json.dumps(DOMAIN)
    there = synthesised("prod", region, "123456789012", overrides=overrides).templates["api"]
    assert sorted(there["Resources"]) == sorted(synthesised("prod", overrides=overrides).templates["api"]["Resources"])


PEOPLE = {
    "api": True,
    "api_issuer": "https://login.example.com/tenant",
    "api_audience": "metering",
    "api_groups": [{"group": "finops", "role": "analyst"}],
}


def test_people_come_by_a_route_with_the_authorizer_and_tokens_by_the_one_without() -> None:
    stage = synthesised("prod", overrides=json.dumps(PEOPLE))
    [(authorizer_id, authorizer)] = stage.resources("api", "AWS::ApiGatewayV2::Authorizer").items()
    properties = authorizer["Properties"]
    assert properties["AuthorizerType"] == "JWT"
    assert properties["IdentitySource"] == ["$request.header.Authorization"]
    assert properties["JwtConfiguration"] == {"Audience": ["metering"], "Issuer": "https://login.example.com/tenant"}
    found = stage.resources("api", "AWS::ApiGatewayV2::Route").values()
    routes = {each["Properties"]["RouteKey"]: each["Properties"] for each in found}
    assert set(routes) == {"$default", ROUTE_KEY}
    assert routes[ROUTE_KEY]["AuthorizerId"] == {"Ref": authorizer_id}
    assert routes[ROUTE_KEY]["AuthorizationType"] == "JWT"
    assert routes["$default"].get("AuthorizationType", "NONE") == "NONE"
    [function] = stage.resources("api", "AWS::Lambda::Function").values()
    told = SignIn.from_text(function["Properties"]["Environment"]["Variables"]["METERING_SIGN_IN"])
    assert (told.issuer, told.audience, told.claim) == ("https://login.example.com/tenant", "metering", "groups")
    assert told.groups == (GroupGrant(group="finops", role="analyst", accounts=None),)
    assert told.client == ""


def test_the_function_is_told_the_client_of_the_page() -> None:
    client = {"api_client_id": "explorer", "api_token_endpoint": "https://login.example.com/token"}
    stage = synthesised("prod", overrides=json.dumps({**PEOPLE, **client, "api_scopes": "openid groups"}))
    [function] = stage.resources("api", "AWS::Lambda::Function").values()
    told = SignIn.from_text(function["Properties"]["Environment"]["Variables"]["METERING_SIGN_IN"])
    assert (told.client, told.token_endpoint) == ("explorer", "https://login.example.com/token")
    assert (told.scopes, told.audience) == ("openid groups", "metering")


def test_a_stage_without_a_provider_has_no_such_route() -> None:
    stage = synthesised("prod", overrides=json.dumps({"api": True}))
    assert not stage.resources("api", "AWS::ApiGatewayV2::Authorizer")
    assert len(stage.resources("api", "AWS::ApiGatewayV2::Route")) == 1


@pytest.mark.parametrize(("changes", "words"), [
    ({"api_audience": ""}, "belong together"),
    ({"api_groups": []}, "belong together"),
    ({"api_issuer": "http://login.example.com"}, "issuer"),
    ({"api_groups": [{"group": "a", "role": "customer"}]}, "names no account"),
    ({"api_groups": [{"group": "a", "role": "analyst", "accounts": []}]}, "names no account"),
    ({"api_groups": [{"group": "a", "role": "analyst", "accounts": ["12"]}]}, "accounts"),
    ({"api_groups": [{"group": "a", "role": "customer", "accounts": ["123456789012"] * 101}]}, "at most 100"),
    ({"api_client_id": "explorer"}, "write token_endpoint of https://login.example.com/tenant/.well-known/openid-conf"),
    ({"api_token_endpoint": "https://login.example.com/token"}, "api_client_id and api_token_endpoint belong together"),
    ({"api_client_id": "x", "api_token_endpoint": "https://a.example.com/token; script-src *"}, "api_token_endpoint"),
    ({"api_client_id": "x", "api_issuer": "", "api_audience": "", "api_groups": []}, "api_client_id needs api_issuer"),
    ({"api_scopes": "profile"}, "api_scopes"),
    ({"api_groups": [{"group": f"{n:099}", "role": "analyst"} for n in range(20)]}, "bytes of a function"),
])  # fmt: skip
def test_a_provider_without_groups_or_with_wrong_ones_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        StageConfig.load("prod", {**PEOPLE, **changes})
