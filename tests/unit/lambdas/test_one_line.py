"""Each function logs one info line per unit of work. MiniStack waits 50 ms if this line is missing."""

import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from aws_lambda_powertools import Logger

import lambdas
from lambdas.aggregator import handler as aggregator
from lambdas.api import handler as api
from lambdas.biller import handler as biller
from lambdas.canary import handler as canary
from lambdas.compactor import handler as compactor
from lambdas.emf import EmfMetrics
from lambdas.log import function_logger
from lambdas.log_context import handler as log_context
from lambdas.onramp import handler as onramp
from lambdas.reconciler import handler as reconciler
from lambdas.rollup import handler as rollup
from lambdas.start import Started
from lambdas.watch import handler as watch
from metering.adapters.aws.session import CONNECTIONS, Access, Clients
from metering.ledger.format_version import FORMAT_VERSION, LedgerFormat
from metering.rollup.rollup import RollupTick
from metering.settings import as_environment
from metering.stores.clock import CALLS_AT_ONCE, ROLLUP_CALLS_AT_ONCE
from metering.version import package_version
from metering.wiring.biller import BillerWork
from metering.wiring.lake import rollup_tick
from tests.api.world import ApiWorld
from tests.support.budget_world import BudgetWorld
from tests.support.format_ledger import FormatLedger
from tests.support.lake_world import World
from tests.support.memory.clock import MemoryMetrics
from tests.support.stage import settings
from tests.support.watched import WatchedRegion
from tests.unit.lambdas.api_requests import Context, request
from tests.unit.onramps import test_arrivals
from tests.unit.onramps.context.test_document import KeeperSetup
from tests.unit.operations import test_canary, test_watch


def _never_asked() -> NoReturn:
    """Fail the test, because an invocation without throttles needs no such client."""
    raise AssertionError


def _aggregator() -> aggregator.Intake:
    return aggregator.Intake(World().parts().plain_worker(), _never_asked, _never_asked)


def _rollup() -> RollupTick:
    world = World()
    return rollup_tick(world, world.jobs.rollup)


def _api() -> api.Serving:
    world = ApiWorld(World())
    return api.Serving(world.app, world.world.clock)


CONTEXT = Context(200_000)
# An invocation of each function. The argument adds metrics and a log to what the function does.
INVOCATIONS: dict[str, Callable[[Callable[[Any], Started[Any]]], object]] = {
    "aggregator": lambda with_log: aggregator.handle({"Records": []}, CONTEXT, with_log(_aggregator())),
    "api": lambda with_log: api.handle(request("/v1/health"), CONTEXT, with_log(_api())),
    "biller": lambda with_log: biller.handle(CONTEXT, with_log(BillerWork(biller=BudgetWorld().biller()))),
    "canary": lambda with_log: canary.handle(CONTEXT, with_log(test_canary.Setup().canary)),
    "compactor": lambda with_log: compactor.handle({}, CONTEXT, with_log(World().jobs)),
    "log_context": lambda with_log: log_context.handle(with_log(log_context.Look(KeeperSetup().keeper, dict))),
    "onramp": lambda with_log: onramp.handle({"Records": []}, CONTEXT, with_log(test_arrivals.World().arrivals)),
    "reconciler": lambda with_log: reconciler.handle(CONTEXT, with_log(World().jobs)),
    "rollup": lambda with_log: rollup.handle({}, CONTEXT, with_log(_rollup())),
    "watch": lambda with_log: watch.handle(with_log(WatchedRegion(now_s=test_watch.NOW_S).watch)),
}


@pytest.mark.parametrize("name", INVOCATIONS)
def test_an_invocation_that_has_nothing_to_do_still_says_so_in_one_line(name: str) -> None:
    output = io.StringIO()
    logger, metrics = Logger(service=f"one-line-{name}", stream=output), EmfMetrics(service=name, stage="local")
    answer = INVOCATIONS[name](lambda work: Started(work=work, metrics=metrics, logger=logger))
    assert not isinstance(answer, dict) or answer.get("statusCode", 200) == 200
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["INFO"]
    # The message is constant, and all other information is in fields.
    assert not any(character.isdigit() for character in lines[0]["message"])


def test_no_function_is_left_out() -> None:
    folders = {path.parent.name for path in Path(lambdas.__path__[0]).glob("*/handler.py")}
    assert folders == set(INVOCATIONS)


# A function's counters, as lines in its log.


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_counters_of_an_invocation_are_one_line_for_each_set_of_dimensions(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = EmfMetrics(service="aggregator", stage="local")
    metrics.count("Accepted", 3)
    metrics.count("Accepted")
    metrics.count("Refused", reason="too_late")
    metrics.count("Refused", 2, reason="junk")
    metrics.flush()
    plain, late, junk = lines(capsys)
    assert (plain["Accepted"], plain["Refused"]) == ([4.0], [3.0])
    assert plain["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Metering"
    assert sorted(plain["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0]) == ["service", "stage"]
    assert (late["Refused"], late["reason"], late["stage"]) == ([1.0], "too_late", "local")
    assert (junk["Refused"], junk["reason"]) == ([2.0], "junk")


def test_a_second_flush_says_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = EmfMetrics(service="aggregator", stage="local")
    metrics.count("Accepted")
    metrics.flush()
    metrics.flush()
    assert len(lines(capsys)) == 1


def test_more_counters_than_a_line_may_hold_make_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = EmfMetrics(service="aggregator", stage="local")
    for number in range(130):
        metrics.count(f"Counter{number}")
    metrics.flush()
    found = lines(capsys)
    assert [len(line["_aws"]["CloudWatchMetrics"][0]["Metrics"]) for line in found] == [99, 31]


def test_each_line_of_a_function_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    function_logger("a-function").info("invocation handled", extra={"messages": 1})
    [line] = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert (said["service"], said["version"], said["messages"]) == ("a-function", package_version(), 1)


# A function imports only what it uses, because every import makes each cold start longer.


# Libraries of the command line and of the deployment, including those of the extra `cli`.
_NEVER = {"aws_cdk", "duckdb", "localstack_client", "rich", "typer"}
_FUNCTIONS = sorted(path.parent.name for path in Path(lambdas.__path__[0]).glob("*/handler.py"))
# These functions read and write only items; importing the Parquet libraries would double their cold start. The on-ramp
# imports the libraries for the first file, by its kind, and the API for the first request that reads rows.
_WITHOUT_ROWS = {"watch", "log_context", "onramp", "api"}


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_a_function_imports_no_more_than_it_uses(name: str) -> None:
    code = f"import lambdas.{name}.handler, sys; print(*{{each.partition('.')[0] for each in sys.modules}})"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env={})
    imported = set(found.stdout.split())
    assert not imported & _NEVER
    assert ("pyarrow" not in imported) == (name in _WITHOUT_ROWS)


# Functions make as many parallel calls as `make scale` measures.


@pytest.fixture(params=["", "http://127.0.0.1:9"], ids=["aws", "emulator"])
def threads_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """Number of threads that the jobs of a function use; the function is started in this process."""
    for name, value in as_environment(settings().model_dump()).items():
        monkeypatch.setenv(name, value)
    access = Access(region="eu-west-1", endpoint_url=request.param or None, access_key=("test", "test"))
    clients = Clients(access)
    monkeypatch.setattr(Clients, "from_env", lambda *_args, **_options: clients)
    own = LedgerFormat(number=FORMAT_VERSION, written_by="0.1.0", usage_generation=settings().usage_generation)
    FormatLedger(clients, own.to_item())
    made = []

    def start(name: str) -> int:
        module = importlib.import_module(f"lambdas.{name}.handler")
        module.dependencies.cache_clear()
        made.append(module)
        threads: int = module.dependencies().work.threads
        return threads

    yield start
    for module in made:
        module.dependencies.cache_clear()


def test_the_compactor_has_many_calls_on_their_way(threads_of: Callable[[str], int]) -> None:
    assert threads_of("compactor") == CALLS_AT_ONCE


def test_the_roll_up_has_more_and_no_more_than_a_client_has_connections() -> None:
    made = rollup.ticking(World(), MemoryMetrics())
    assert CALLS_AT_ONCE < made.rollup.threads == ROLLUP_CALLS_AT_ONCE <= CONNECTIONS


def test_the_reconciler_scans_in_parts_side_by_side_but_for_an_emulator(
    threads_of: Callable[[str], int], request: pytest.FixtureRequest
) -> None:
    emulated = request.node.name.endswith("[emulator]")
    found = threads_of("reconciler")
    assert (found < CALLS_AT_ONCE) if emulated else (found == CALLS_AT_ONCE)
