"""Logs of functions through CloudWatch Logs Insights, as it answers."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from metering.adapters.aws.cloudwatch import CloudWatchFunctionLogs, log_groups
from metering.errors import OperationFailedError, UnavailableError

GROUPS = {"watch": "/aws/watch", "canary": "/aws/canary"}


class Insights:
    """The two calls, with the answers that a test gives."""

    def __init__(self, *answers: dict[str, Any], refusal: str = "") -> None:
        self.answers = list(answers)
        self.refusal = refusal
        self.asked: dict[str, Any] = {}

    def start_query(self, **query: Any) -> dict[str, str]:
        if self.refusal:
            raise ClientError({"Error": {"Code": self.refusal, "Message": "no"}}, "StartQuery")
        self.asked = query
        return {"queryId": "q"}

    def get_query_results(self, **_: Any) -> dict[str, Any]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def row(**fields: str) -> list[dict[str, str]]:
    return [{"field": f"@{name}", "value": value} for name, value in fields.items()]


def logs_of(insights: Insights, waits: list[float]) -> CloudWatchFunctionLogs:
    return CloudWatchFunctionLogs(insights, GROUPS, sleep=waits.append)  # type: ignore[arg-type]  # the two calls


def test_one_query_reads_all_functions_newest_first_and_bounded() -> None:
    found = row(timestamp="2026-11-25 18:27:52.860", message="[ERROR] x", log="123456789012:/aws/canary", requestId="r")
    waits: list[float] = []
    insights = Insights({"status": "Running", "results": []}, {"status": "Complete", "results": [found]})

    [line] = logs_of(insights, waits).errors(["watch", "canary"], from_s=1, to_s=2, limit=7)

    assert (line.function, line.text, line.request_id) == ("canary", "[ERROR] x", "r")
    assert line.at_ms % 1_000 == 860
    assert insights.asked["logGroupNames"] == ["/aws/canary", "/aws/watch"]
    assert insights.asked["limit"] == 7
    assert insights.asked["queryString"].endswith("sort @timestamp desc")
    assert len(waits) == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"level":"ERROR","message":"x"}', True),
        ('{"level": "CRITICAL"}', True),
        ("[ERROR] ValueError: x", True),
        ("metering.errors.SettingsError: METERING_LEDGER_TABLE: Field required", True),
        ("2026-11-25T10:00:00Z 4f Task timed out after 60.00 seconds", True),
        ("RequestId: 4f Error: Runtime exited with error: signal: killed", True),
        ('{"level":"INFO","message":"figures published"}', False),
        ("    raise SettingsError(problems) from error", False),
        ("REPORT RequestId: 4f Duration: 1 ms", False),
    ],
)
def test_the_query_finds_errors_and_leaves_the_rest(text: str, *, error: bool) -> None:
    insights = Insights({"status": "Complete", "results": []})
    logs_of(insights, []).errors(["watch"], from_s=1, to_s=2, limit=1)
    pattern = insights.asked["queryString"].split("like /")[1].rsplit("/ |", 1)[0]
    assert bool(re.search(pattern, text)) is error


def test_a_search_that_does_not_end_is_given_up() -> None:
    waits: list[float] = []
    with pytest.raises(UnavailableError, match="longer than 60 s"):
        logs_of(Insights({"status": "Running", "results": []}), waits).errors(["watch"], from_s=1, to_s=2, limit=1)
    assert sum(waits) == 60


def test_a_search_that_fails_is_not_taken_for_no_errors() -> None:
    with pytest.raises(UnavailableError, match="Failed"):
        logs_of(Insights({"status": "Failed", "results": []}), []).errors(["watch"], from_s=1, to_s=2, limit=1)


def test_an_endpoint_without_a_search_is_told_as_one() -> None:
    with pytest.raises(OperationFailedError, match="cannot search logs"):
        logs_of(Insights(refusal="NotImplemented"), []).errors(["watch"], from_s=1, to_s=2, limit=1)


def test_a_function_is_called_by_the_words_of_its_construct() -> None:
    outputs = [
        {"OutputKey": "LogContextLogGroupName", "OutputValue": "/aws/log-context"},
        {"OutputKey": "WatchLogGroupName", "OutputValue": "/aws/watch"},
    ]
    clients = SimpleNamespace(
        access=SimpleNamespace(region="us-east-1"),
        cloudformation=SimpleNamespace(
            describe_stacks=lambda **_: {
                "Stacks": [{"StackName": "s", "StackStatus": "UPDATE_COMPLETE", "Outputs": outputs}]
            }
        ),
    )
    found = log_groups(clients, "local")  # type: ignore[arg-type]  # the one call
    assert found == {"log-context": "/aws/log-context", "watch": "/aws/watch"}


@pytest.mark.parametrize("with_api", [True, False])
def test_the_log_of_the_api_is_searched_if_there_is_one(with_api: bool) -> None:
    outputs = {"metering-local-pipeline": {"WatchLogGroupName": "/aws/watch"}}
    if with_api:
        outputs["metering-local-api"] = {"ApiLogGroupName": "/aws/api", "ApiUrl": "https://api"}

    def describe(StackName: str) -> dict[str, Any]:  # noqa: N803  # the SDK's name
        if StackName not in outputs:
            error = {"Error": {"Code": "ValidationError", "Message": f"Stack {StackName} does not exist"}}
            raise ClientError(error, "DescribeStacks")  # type: ignore[arg-type]  # enough of an answer
        told = [{"OutputKey": name, "OutputValue": value} for name, value in outputs[StackName].items()]
        return {"Stacks": [{"StackName": StackName, "StackStatus": "CREATE_COMPLETE", "Outputs": told}]}

    clients = SimpleNamespace(
        access=SimpleNamespace(region="us-east-1"), cloudformation=SimpleNamespace(describe_stacks=describe)
    )
    found = log_groups(clients, "local")  # type: ignore[arg-type]  # the one call
    assert found == {"watch": "/aws/watch"} | ({"api": "/aws/api"} if with_api else {})


def test_the_slowest_start_of_each_function_is_what_lambda_reports() -> None:
    rows = [
        [{"field": "@log", "value": "123456789012:/aws/canary"}, {"field": "slowest", "value": "2104.53"}],
        [{"field": "@log", "value": "123456789012:/aws/other"}, {"field": "slowest", "value": "9.0"}],
    ]
    insights = Insights({"status": "Complete", "results": rows})

    assert logs_of(insights, []).slowest_starts_ms(from_s=1) == {"canary": 2_105}
    assert "@initDuration" in insights.asked["queryString"]
    assert insights.asked["startTime"] == 1


def test_an_endpoint_that_knows_no_sums_says_no_start() -> None:
    insights = Insights({"status": "Complete", "results": [row(log="123456789012:/aws/canary", message="x")]})

    assert logs_of(insights, []).slowest_starts_ms(from_s=1) == {}
