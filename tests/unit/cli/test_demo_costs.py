"""The act of the demo that prices the real lines, over a region in memory."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from metering.billing.prices.store import sample_book
from metering.cli.commands.developer.demo_costs import is_right, show_costs
from metering.cli.commands.developer.demo_stage import Demo
from metering.cli.failures import CommandFailedError
from metering.replay.given import SAMPLE, billed_lines, given_traffic, read_records
from metering.usage.totals import UsageType
from tests.support.lake_world import NOW_S, World
from tests.support.stage import ADMISSION


def demo(*, without: int = 0) -> Demo:
    """A demo in whose region the real lines are metered, but for the first `without` batches."""
    world = World()
    bodies = [
        json.loads(shipment.body)
        for shipment in given_traffic(read_records([SAMPLE]), 20, NOW_S, admission=ADMISSION).shipments
    ]
    world.send(*(body["records"] for body in bodies[without:]))
    made = Demo(region_name="us-east-1", now_s=NOW_S, batches=1, records_per_batch=2, seed=1)
    made.deployed = world.source()  # type: ignore[assignment]  # what the act uses of a region
    return made


def test_the_act_shows_what_aws_billed_and_what_the_lines_cost_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_costs(demo())
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    out = " ".join(" ".join(lines).split())
    assert "HQEH3ZWJVT46JHRG.JRTCKXETXF.VF6T3GAUKQ 41 0.085 0.2793020883" in out
    assert "Together: 0.3513825829 USD." in out
    assert "338 of 338 lines: SKU found by service and usage type, quantity and cost equal" in out
    assert "A draft of these lines: 0.00 USD; before its lines are rounded to cents, 0.0018380688." in out
    assert "AWS billed 0.35 because of usage that is not in the sample." in out


def test_a_line_that_was_not_metered_fails_the_act() -> None:
    with pytest.raises(CommandFailedError, match="What was metered is not what AWS billed"):
        show_costs(demo(without=1))


def test_a_line_is_right_only_by_its_own_sku_rate_code_and_amounts() -> None:
    line, book = next(each for each in billed_lines() if each.cost), sample_book()
    assert is_right(line, book)
    assert not is_right(line._replace(sku="X"), book)
    assert not is_right(line._replace(rate_code="X"), book)
    assert not is_right(line._replace(cost=line.cost + 1), book)
    assert not is_right(line._replace(usage_type=UsageType("X")), book)
    assert not is_right(line, replace(book, products=()))
