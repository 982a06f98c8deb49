"""Counters of a function, as lines on its log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lambdas.emf import EmfMetrics

if TYPE_CHECKING:
    import pytest


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
