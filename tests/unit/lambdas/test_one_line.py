"""Each function logs one info line a unit of work: what it came to. MiniStack waits 50 ms for one that never comes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from aws_lambda_powertools import Logger

import lambdas
from lambdas.aggregator import handler as aggregator
from lambdas.api import handler as api
from lambdas.biller import handler as biller
from lambdas.canary import handler as canary
from lambdas.compactor import handler as compactor
from lambdas.emf import EmfMetrics
from lambdas.log_context import handler as log_context
from lambdas.onramp import handler as onramp
from lambdas.reconciler import handler as reconciler
from lambdas.rollup import handler as rollup
from lambdas.start import Started
from lambdas.watch import handler as watch
from metering.commit.aggregator import Aggregator
from metering.wiring.lake import rollup_tick
from tests.api.world import ApiWorld
from tests.support.budget_world import BudgetWorld
from tests.support.lake_world import World
from tests.support.memory.alerts import MemoryAlerts
from tests.support.memory.entropy import SeededEntropy
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.rows import PlainBatchReader, PlainRowCodec
from tests.support.small_world import SETTINGS
from tests.unit.lambdas.api_requests import request
from tests.unit.onramps import test_arrivals, test_context_keeping
from tests.unit.operations import test_canary, test_watch

if TYPE_CHECKING:
    from collections.abc import Callable


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 200_000


def _metrics(name: str) -> EmfMetrics:
    return EmfMetrics(service=name, stage="local")


def _never_asked() -> NoReturn:
    """A part that an invocation without throttles makes no client for."""
    raise AssertionError


def _aggregator(logger: Logger) -> None:
    world = World()
    objects = MemoryObjectStore(world.clock)
    use_case = Aggregator(
        items=MemoryItemStore(),
        objects=objects,
        reader=PlainBatchReader(objects),
        codec=PlainRowCodec(),
        clock=world.clock,
        entropy=SeededEntropy(1),
        metrics=world.metrics,
        settings=SETTINGS,
        alerts=MemoryAlerts(),
    )
    parts = Started(
        work=aggregator.Intake(use_case, _never_asked, _never_asked), metrics=_metrics("aggregator"), logger=logger
    )
    aggregator.handle({"Records": []}, Context(), parts)


def _canary(logger: Logger) -> None:
    setup = test_canary.Setup()
    canary.handle(Context(), Started(work=setup.canary, metrics=_metrics("canary"), logger=logger))


def _compactor(logger: Logger) -> None:
    world = World()
    parts = Started(work=world.jobs, metrics=_metrics("compactor"), logger=logger)
    compactor.handle({}, Context(), parts)


def _rollup(logger: Logger) -> None:
    world = World()
    tick = rollup_tick(world, world.jobs.rollup)
    rollup.handle({}, Context(), Started(work=tick, metrics=_metrics("rollup"), logger=logger))


def _reconciler(logger: Logger) -> None:
    parts = Started(work=World().jobs, metrics=_metrics("reconciler"), logger=logger)
    reconciler.handle(Context(), parts)


def _onramp(logger: Logger) -> None:
    parts = Started(work=test_arrivals.World().arrivals, metrics=_metrics("onramp"), logger=logger)
    onramp.handle({"Records": []}, Context(), parts)


def _log_context(logger: Logger) -> None:
    setup = test_context_keeping.Setup()
    metrics = _metrics("log-context")
    log_context.handle(Started(work=log_context.Look(setup.keeper, dict), metrics=metrics, logger=logger))


def _api(logger: Logger) -> None:
    world = ApiWorld(World())
    parts = Started(work=api.Serving(world.app, world.world.clock), metrics=_metrics("api"), logger=logger)
    assert api.handle(request("/v1/health"), Context(), parts)["statusCode"] == 200


def _biller(logger: Logger) -> None:
    parts = Started(work=BudgetWorld().biller(), metrics=_metrics("biller"), logger=logger)
    biller.handle(Context(), parts)


def _watch(logger: Logger) -> None:
    watch.handle(Started(work=test_watch.Setup().watch, metrics=_metrics("watch"), logger=logger))


INVOCATIONS: dict[str, Callable[[Logger], None]] = {
    "aggregator": _aggregator,
    "api": _api,
    "biller": _biller,
    "canary": _canary,
    "compactor": _compactor,
    "log_context": _log_context,
    "onramp": _onramp,
    "reconciler": _reconciler,
    "rollup": _rollup,
    "watch": _watch,
}


@pytest.mark.parametrize("name", INVOCATIONS)
def test_an_invocation_that_has_nothing_to_do_still_says_so_in_one_line(name: str) -> None:
    output = io.StringIO()

    INVOCATIONS[name](Logger(service=f"one-line-{name}", stream=output))

    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["INFO"]
    # A constant message; the rest are fields.
    assert not any(character.isdigit() for character in lines[0]["message"])


def test_no_function_is_left_out() -> None:
    folders = {path.parent.name for path in Path(lambdas.__path__[0]).glob("*/handler.py")}
    assert folders == set(INVOCATIONS)
