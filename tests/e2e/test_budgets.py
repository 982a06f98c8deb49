"""Budgets in a deployed region: a crossed budget sends one message, under the function's own role."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.oncall import function, next_alert
from tests.e2e.test_main_job import account, message, record

if TYPE_CHECKING:
    from tests.e2e.conftest import Service

GB = 2**30


@pytest.mark.drill
def test_crossing_a_budget_sends_exactly_one_alert_however_often_the_job_runs(service: Service, pager: str) -> None:
    who = account()
    name = f"egress-{who}"
    send(service, who, 3 * GB, "first")
    service.run("operator", "budget", "set", name, "--account", who, "--amount", "4 GB", "--threshold", "actual 100%")
    assert bill(service)["files"] >= 1
    assert told(service, pager, name) == []

    send(service, who, 2 * GB, "second")
    for _ in range(3):
        bill(service)
    [alert] = told(service, pager, name)
    assert alert["threshold"] == "actual 100%"
    assert alert["actual"].startswith(f"{5 * GB:,} bytes")
    [row] = service.ask("reader", "budget", "check", name)["rows"]
    assert (row["actual"], row["crossed"], row["alerts"]) == (str(5 * GB), "actual 100%", "actual 100% sent")
    assert service.ask("operator", "budget", "update")["alerts"] == 0
    assert told(service, pager, name) == []


def test_budgets_that_make_no_sense_are_refused_in_words(service: Service) -> None:
    done = service.run("operator", "budget", "set", "zero", "--account", account(), "--amount", "0 USD")
    assert done.returncode == 1
    assert "is 0" in done.stderr
    done = service.run("operator", "budget", "set", "who", "--account", account(), "--amount", "1 USD")
    assert done.returncode == 1
    assert "is unknown" in done.stderr
    assert not {"zero", "who"} & {row["budget"] for row in service.ask("reader", "budget", "list")["rows"]}


def send(service: Service, who: str, size: int, name: str) -> None:
    """Meter a record, then compact the lake."""
    service.send(message(f"{name}-{who}", [record(who, size=size)]))
    service.wait_for_rest()
    assert service.run("operator", "compact").returncode == 0


def bill(service: Service) -> dict[str, Any]:
    """Invoke the function once, as its schedule does."""
    answer = service.clients.lambda_.invoke(FunctionName=function(service, "Biller"), Payload=b"{}")
    result: dict[str, Any] = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, result
    assert result["left_out"] == []
    return result


def told(service: Service, pager: str, name: str) -> list[dict[str, Any]]:
    """All messages about a budget that the pager received."""
    found = []
    while alert := next_alert(service, pager, 5):
        if alert.get("budget") == name:
            found.append(alert)
    return found
