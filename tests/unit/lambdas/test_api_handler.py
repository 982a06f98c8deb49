"""The API's function: the same responses through HTTP API and function URL, and no secrets in logs."""

import io
import itertools
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest
from aws_lambda_powertools import Logger

from lambdas.api.handler import Serving, handle
from lambdas.emf import EmfMetrics
from lambdas.start import Started
from metering.api.authentication import Grant
from metering.errors import UnavailableError
from tests.api.world import FIRST, ApiWorld
from tests.unit.lambdas.api_requests import Context, body_of, request

_NUMBERS = itertools.count()
USAGE = "from=2026-11-01&to=2026-12-01&group_by=usage_type"
# None of these is a token that is known.
SECRETS = ("mtr_0123456789abcdef_" + "5" * 64, "Basic dXNlcjpwYXNz", "Bearer", "Bearer a b", "bearer \x00", "é")


@dataclass
class Function:
    """The function over an in-memory region, and its output. Mutable."""

    world: ApiWorld
    written: io.StringIO = field(default_factory=io.StringIO)
    number: int = field(default_factory=lambda: next(_NUMBERS))

    @cached_property
    def logger(self) -> Logger:
        # Loggers of the same name share their output.
        return Logger(service=f"api-{self.number}", stream=self.written)

    def answer(self, event: dict[str, Any]) -> dict[str, Any]:
        parts = Started(
            work=Serving(app=self.world.app, clock=self.world.world.clock),
            metrics=EmfMetrics(service="api", stage="local"),
            logger=self.logger,
        )
        return handle(event, Context(29_000), parts)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written.getvalue().splitlines()]


@pytest.fixture(scope="module")
def world() -> ApiWorld:
    return ApiWorld()


@pytest.fixture
def function(world: ApiWorld) -> Function:
    return Function(world)


def figures(output: str) -> dict[str, float]:
    """Metrics of one invocation, by name."""
    found: dict[str, float] = {}
    for line in output.splitlines():
        document = json.loads(line)
        for metric in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            value = document[metric["Name"]]
            found[metric["Name"]] = value[0] if isinstance(value, list) else value
        assert (document["service"], document["stage"]) == ("api", "local")
    return found


def test_both_fronts_get_the_same_answer(function: Function) -> None:
    answers = [
        function.answer(request("/v1/usage", USAGE, front=front, authorization="Bearer first"))
        for front in ("http", "url")
    ]
    assert [each["statusCode"] for each in answers] == [200, 200]
    assert body_of(answers[0]) == body_of(answers[1])
    assert json.loads(body_of(answers[0])) == function.world.json(f"/v1/usage?{USAGE}", "first")


@pytest.mark.parametrize("form", ["json", "ndjson", "csv", "parquet"])
@pytest.mark.parametrize("packed", ["gzip", "identity"])
def test_every_form_comes_through_the_gateway_byte_for_byte(function: Function, form: str, packed: str) -> None:
    asked = f"{USAGE}&format={form}"
    answer = function.answer(request("/v1/usage", asked, authorization="Bearer analyst", accept_encoding=packed))
    assert answer["statusCode"] == 200
    assert body_of(answer) == function.world.get(f"/v1/usage?{asked}", "analyst").content
    # A gateway treats text as UTF-8, and would change all other bytes.
    assert answer["isBase64Encoded"] or form != "parquet"


def test_a_line_says_what_a_request_was_and_cost(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    function.answer(request("/v1/usage", f"{USAGE}&account={FIRST}", authorization="Bearer first"))
    [line] = function.lines()
    assert line["message"] == "request answered"
    assert line["level"] == "INFO"
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/usage", 200)
    assert line["token_id"] == "first"
    assert line["rows"] >= 1
    counted = figures(capsys.readouterr().out)
    assert counted["ApiRequests"] == 1
    assert counted["ApiFailedPermille"] == 0
    assert counted.get("ApiReads", 0) == line["partitions"] + line["hours"]
    assert "ApiUnauthorized" not in counted


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_and_no_question_is_written(
    function: Function, capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    """Not even a token that was pasted into the path or the query by mistake is logged."""
    events = [
        request("/v1/usage", f"{USAGE}&account={FIRST}", authorization=secret),
        request(f"/v1/{secret}", "", authorization=f"Bearer {secret}"),
        request("/v1/usage", f"token={secret}&{USAGE}", authorization="Bearer first"),
        request("/", f"token={secret}", cookie=f"token={secret}"),
    ]
    for event in events:
        assert function.answer(event)["statusCode"] < 500
    captured = capsys.readouterr()
    written = function.written.getvalue() + captured.out + captured.err
    assert len(function.lines()) == len(events)
    assert secret not in written.replace("Bearer first", "") or secret == "Bearer"
    assert FIRST not in written
    assert "group_by" not in written


def test_a_route_that_is_not_there_is_not_written_as_it_was_asked(function: Function) -> None:
    function.answer(request("/v1/mtr_secret"))
    [line] = function.lines()
    assert (line["route"], line["status"]) == ("none", 404)


def test_who_guesses_is_counted(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    assert function.answer(request("/v1/usage", USAGE, authorization="Bearer nobody"))["statusCode"] == 401
    assert figures(capsys.readouterr().out) == {
        "ApiRequests": 1,
        "ApiFailedPermille": 0,
        "ApiSlowPermille": 0,
        "ApiUnauthorized": 1,
    }


class _Broken:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def grant_of(self, token: str) -> Grant | None:
        raise self._error


@pytest.mark.parametrize(("error", "status", "kind"), [
    (UnavailableError("dynamodb.GetItem", "throttled"), 503, "unavailable"),
    (RuntimeError("a fault with 123456789012 in it"), 500, "fault"),
])  # fmt: skip
def test_what_fails_by_our_fault_is_a_problem_and_counted_as_such(
    capsys: pytest.CaptureFixture[str], error: Exception, status: int, kind: str
) -> None:
    world = ApiWorld()
    world.tokens.grant_of = _Broken(error).grant_of  # type: ignore[method-assign]  # a ledger that fails
    function = Function(world)
    answer = function.answer(request("/v1/usage", USAGE, authorization="Bearer first"))
    assert answer["statusCode"] == status
    problem = json.loads(body_of(answer))
    assert kind in problem["type"]
    assert "123456789012" not in json.dumps(problem)
    assert figures(capsys.readouterr().out)["ApiFailedPermille"] == 1_000
    assert function.lines()[0]["status"] == status


class _Slow:
    def __init__(self, world: ApiWorld, takes_ms: int) -> None:
        self._clock, self._takes_ms, self._grant_of = world.world.clock, takes_ms, world.tokens.grant_of

    def grant_of(self, token: str) -> Grant | None:
        self._clock.sleep_ms(self._takes_ms)
        return self._grant_of(token)


@pytest.mark.parametrize(("takes_ms", "counted"), [(1_999, 0), (2_000, 1_000)])
def test_a_request_is_slow_by_its_own_time_and_not_by_the_start_of_the_process(
    capsys: pytest.CaptureFixture[str], takes_ms: int, counted: int
) -> None:
    world = ApiWorld()
    world.tokens.grant_of = _Slow(world, takes_ms).grant_of  # type: ignore[method-assign]  # a ledger that is slow
    Function(world).answer(request("/v1/usage", USAGE, authorization="Bearer first"))
    assert figures(capsys.readouterr().out).get("ApiSlowPermille") == counted
