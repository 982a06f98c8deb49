"""The log-context function: a context if one is due, and a look at what is missing whatever became of it."""

import io
import json
from collections.abc import Mapping

import pytest
from aws_lambda_powertools import Logger

from lambdas.emf import EmfMetrics
from lambdas.log_context import handler
from lambdas.log_context.handler import handle
from lambdas.start import Started
from metering.errors import UnavailableError
from tests.unit.onramps.context.test_document import KeeperSetup


class Look:
    """Remembers how often it was asked."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> Mapping[str, int]:
        self.looks += 1
        return {"log_sources": 3}


def parts_of(setup: KeeperSetup, look: Look) -> Started[handler.Look]:
    return Started(
        work=handler.Look(keeper=setup.keeper, missing=look),
        metrics=EmfMetrics(service="log-context", stage="local"),
        logger=Logger(service="log-context-test", stream=io.StringIO()),
    )


def test_a_context_is_captured_once_an_hour_and_every_tick_looks(capsys: pytest.CaptureFixture[str]) -> None:
    setup, look = KeeperSetup(), Look()
    parts = parts_of(setup, look)
    assert [handle(parts)["captured"] for _ in range(3)] == [1, 0, 0]
    assert handle(parts) == {"captured": 0, "log_sources": 3}
    assert look.looks == 4
    counted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ContextsCaptured"] for line in counted] == [[1.0]]


def test_a_failed_capture_hides_no_missing_file_and_fails_the_tick() -> None:
    setup, look = KeeperSetup(fails=True), Look()
    with pytest.raises(UnavailableError):
        handle(parts_of(setup, look))
    assert look.looks == 1
