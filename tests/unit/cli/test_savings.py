"""`metering savings` and `what-if` over kept causes: a saving is the difference of two runs of `metering cost`."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from metering.billing.causes.days import SCHEMA, put_pieces
from metering.billing.causes.index import CauseIndexes
from metering.billing.causes.names import CauseNames
from metering.billing.organization import OrganizationStore
from metering.billing.payers import Organization
from metering.billing.prices.store import PriceStore
from metering.errors import ObjectMissingError
from metering.fleet.regions import Phase, RegionState
from metering.reports.savings.rules import savings_rules
from metering.stores.objects import CAUSE_DAYS_PREFIX
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.wiring.region import Stage
from tests.networks.savings import MONTH, WASTES, Flows, payer, prices
from tests.support.budget_world import BudgetWorld
from tests.support.cause_world import CauseWorld
from tests.support.command_line import Here, ask, refused, run, typed_at
from tests.support.lake_world import HOUR, World, record
from tests.support.memory.regions import MemoryRegionStates
from tests.support.networks.inventory import OWNER
from tests.support.priced import product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.objects import ObjectStore

REGION = "us-east-1"
S3 = "S3 through a NAT gateway"


class Replacing:
    """The bucket of a region in which the biller replaces days of causes while they are read."""

    def __init__(self, objects: ObjectStore, times: int) -> None:
        self._objects, self.times = objects, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def get(self, key: str) -> bytes:
        if key.startswith(CAUSE_DAYS_PREFIX) and self.times:
            self.times -= 1
            raise ObjectMissingError(key)
        return self._objects.get(key)


@contextmanager
def typed(world: World, replaced: int = 0) -> Iterator[None]:
    PriceStore(world.objects).put(prices())
    OrganizationStore(world.objects).put(Organization(payers=(payer(),)))
    states, here = MemoryRegionStates(), Here(world)
    here.objects = Replacing(world.objects, replaced)  # type: ignore[assignment]  # a bucket by another name
    states.save(RegionState(region=REGION, phase=Phase.READY, deployments=1))
    stage = Stage(home=REGION, connect=lambda _name: here, states=states)
    with typed_at(lambda **_place: here, property(lambda _session: stage)):
        yield


@cache
def kept(*wastes: str) -> CauseWorld:
    """A region that metered a network with some wastes, and keeps the causes of its bytes."""
    network = Flows(wastes=wastes, mended=(), style="v11", first_s=HOUR - 30 * MINUTE_S)
    world = CauseWorld(network)
    world.meter(network.files())
    world.keep_causes()
    return world


def keep_instead(world: CauseWorld, rows: list[dict[str, object]]) -> None:
    """Replace the rows of causes of the only day."""
    index = world.cause_index
    [day_s] = index.days
    table = pa.Table.from_pylist(rows, SCHEMA).sort_by("resource_id")
    made = index.following({day_s: tuple(put_pieces(world.objects, day_s, table))}, {})
    assert CauseIndexes(objects=world.objects).put(made)


def total(world: World) -> Decimal:
    """Total of `metering cost` in ten decimals."""
    with typed(world):
        found = ask("cost", "--month", MONTH, "--region", "all")
    assert not found["unpriced"]
    return Decimal(found["total_usd"]).quantize(Decimal("1e-10"), ROUND_HALF_UP)


def changed(world: World, rows: list[dict[str, Any]]) -> World:
    """A region with the same usage, except for the usage types of an answer."""
    with typed(world):
        used = {row["usage_type"]: int(row["bytes"]) for row in ask("report", "usage", "--from", MONTH)["rows"]}
    used |= {row["usage_type"]: int(row["bytes"][1]) for row in rows}
    other = BudgetWorld()
    other.send([
        record(size, start_s=HOUR, account=OWNER) | {"usage_type": usage_type}
        for usage_type, size in used.items() if size
    ])  # fmt: skip
    other.compact_all()
    return other


@pytest.mark.parametrize("rule", savings_rules())
def test_the_saving_is_the_difference_of_two_runs_of_metering_cost(rule: str) -> None:
    world = kept(*WASTES)
    with typed(world):
        found = ask("what-if", rule, "--month", MONTH, "--region", "all")
    [whole] = found["rows"]
    assert Decimal(whole["cost_usd"]) == total(world)
    assert Decimal(whole["cost_would_usd"]) == total(changed(world, found["changed"]))
    assert Decimal(whole["saving_usd"]) == Decimal(whole["cost_usd"]) - Decimal(whole["cost_would_usd"]) > 1
    assert sum(Decimal(row["cost_usd"][0]) - Decimal(row["cost_usd"][1]) for row in found["changed"]) == pytest.approx(
        Decimal(whole["saving_usd"]), abs=Decimal("1e-8")
    )


def test_savings_list_each_place_with_its_rule_and_what_to_check() -> None:
    with typed(kept(*WASTES)):
        found = ask("savings", "--month", MONTH, "--top", "0")
        few = ask("savings", "--top", "2", "--rule", "peering", "--rule", "same-zone")
        text = " ".join(run("savings", "--format", "table", "--wide").stdout.split())
    assert {row["rule"] for row in found["rows"]} == set(savings_rules())
    savings = [Decimal(row["saving_usd"]) for row in found["rows"]]
    assert savings == sorted(savings, reverse=True)
    assert min(savings) > 0
    [nat] = [row for row in found["rows"] if row["rule"] == "nat-per-zone"]
    assert nat["gateways"].startswith("eni-")
    # One zone lacks a gateway, and 565 hours of November have passed.
    assert (nat["added_hours"], nat["bound"], found["hours"]) == (565, "exact", 565)
    assert Decimal(nat["breakeven_hour_usd"]) == (Decimal(nat["saving_usd"]) / 565).quantize(
        Decimal("1e-10"), ROUND_DOWN
    )
    assert {row["bound"] for row in found["rows"] if row["rule"] in ("interface-endpoint", "same-zone")} == {"at most"}
    assert (len(few["rows"]), few["more"]) == (2, 0)
    # In this network, some ends are in several zones.
    assert {row["bound"] for row in few["rows"]} == {"at most"}
    assert found["final"] is False
    for told in (
        "aws:SourceIp", "2026-11 is not closed: these figures are not final.", "Rules overlap",
        "Not taken off: hours of NAT gateways, interface endpoints of one service.", "metering what-if nat-per-zone",
    ):  # fmt: skip
        assert told in text, told


def test_hours_at_a_price_are_taken_off_and_the_break_even_is_where_nothing_is_saved() -> None:
    with typed(kept(*WASTES)):
        [free] = ask("what-if", "nat-per-zone", "--month", MONTH)["rows"]
        [paid] = ask("what-if", "nat-per-zone", "--month", MONTH, "--hourly-usd", "0.045")["rows"]
        even = free["breakeven_hour_usd"]
        [nothing] = ask("what-if", "nat-per-zone", "--month", MONTH, "--hourly-usd", even)["rows"]
        text = " ".join(run("what-if", "nat-per-zone", "--hourly-usd", "0.045", "--format", "table").stdout.split())
    hours = Decimal("0.045") * 565
    assert Decimal(paid["saving_usd"]) == Decimal(free["saving_usd"]) - hours
    assert Decimal(paid["added_hours_usd"]) == hours
    share = hours / Decimal(free["saving_usd"])
    assert int(paid["breakeven_bytes"]) == math.ceil(int(paid["bytes"]) * share)
    assert 0 <= Decimal(nothing["saving_usd"]) < Decimal("1e-7")
    assert "Not taken off" not in text
    assert f"{int(paid['breakeven_bytes']):,}" in text


def test_bytes_without_causes_are_said_to_be_not_judged() -> None:
    world = kept.__wrapped__(S3)
    with typed(world):
        before = ask("what-if", "gateway-endpoint", "--month", MONTH)["judged"]["gateway-endpoint"]
    assert before["unknown_bytes"] == "0"
    world.send([record(10**12, start_s=HOUR, account=OWNER) | {"usage_type": "USW2-NatGateway-Bytes"}])
    world.compact_all()
    with typed(world):
        after = ask("what-if", "gateway-endpoint", "--month", MONTH)["judged"]["gateway-endpoint"]
        text = " ".join(run("what-if", "gateway-endpoint", "--format", "table").stdout.split())
    assert int(after["bytes"]) == int(before["bytes"]) + 10**12
    assert after["unknown_bytes"] == str(10**12)
    assert "of the bytes that it is about have no cause or destination, and are not judged." in text


def test_without_a_price_of_what_moves_the_saving_is_unknown() -> None:
    world = kept.__wrapped__(S3)
    with typed(world):
        full = prices()
        less = replace(full, products=tuple(each for each in full.products if "NatGateway" not in each.usage_type))
        PriceStore(world.objects).put(less)
        found = ask("savings", "--rule", "gateway-endpoint")
        [whole] = ask("what-if", "gateway-endpoint")["rows"]
        text = " ".join(run("savings", "--format", "table").stdout.split())
    assert "Without a saving: bytes that move have no price." in text
    assert [row["saving_usd"] for row in (*found["rows"], whole)] == [None, None]


def test_more_bytes_of_causes_than_of_usage_are_refused() -> None:
    world = kept.__wrapped__(S3)
    keep_instead(world, [*world.cause_rows(), *world.cause_rows()])
    with typed(world):
        for line in (("savings",), ("what-if", "gateway-endpoint")):
            assert "causes of NatGateway-Bytes, RegionalNatGateway-Bytes have" in refused(*line)


def test_causes_of_corrections_are_left_out() -> None:
    world = kept.__wrapped__(S3)
    with typed(world):
        before = ask("what-if", "gateway-endpoint")
    rows = [{**row, "own_hour": int(str(row["own_hour"])) - 40 * DAY_S} for row in world.cause_rows()]
    keep_instead(world, [*world.cause_rows(), *rows])
    with typed(world):
        assert ask("what-if", "gateway-endpoint") == before


def test_names_that_change_within_a_day_hold_by_the_hour() -> None:
    world = kept.__wrapped__("two groups across zones")
    with typed(world):
        before = ask("savings", "--rule", "same-zone")["rows"]
    index = world.cause_index
    [day_s] = index.days
    names = {
        cause: (known[-1]._replace(from_s=day_s, workload="asg:earlier"), known[-1]._replace(from_s=HOUR - HOUR_S))
        for cause, known in world.names(day_s).stretches.items()
    }
    key = CauseNames(day_s, names).put(world.objects)
    assert CauseIndexes(objects=world.objects).put(index.following({}, {day_s: key}))
    with typed(world):
        assert ask("savings", "--rule", "same-zone")["rows"] == before
    assert [row["place"] for row in before] == ["asg:main-jobs and asg:main-web"]


def test_causes_that_are_replaced_meanwhile_are_read_again() -> None:
    with typed(kept(S3)):
        before = ask("savings")
    with typed(kept(S3), replaced=2):
        assert ask("savings") == before
    with typed(kept(S3), replaced=3):
        assert "there is no object causes/days/" in refused("savings")


def test_what_would_cost_more_is_no_saving() -> None:
    with typed(kept(*WASTES)):
        assert "interface-endpoint" in {row["rule"] for row in ask("savings", "--top", "0")["rows"]}
        dear = product("VPCENDPOINTBYTES", "USW2-VpcEndpoint-Bytes", [(None, "9")])
        others = tuple(each for each in prices().products if each.sku != dear.sku)
        PriceStore(kept(*WASTES).objects).put(replace(prices(), products=(*others, dear)))
        assert "interface-endpoint" not in {row["rule"] for row in ask("savings", "--top", "0")["rows"]}
        [whole] = ask("what-if", "interface-endpoint")["rows"]
    assert Decimal(whole["saving_usd"]) < 0


def test_nothing_is_found_in_a_clean_network() -> None:
    with typed(kept()):
        assert ask("savings", "--top", "0")["rows"] == []


def test_a_region_without_causes_has_nothing_to_save_and_wrong_words_are_refused() -> None:
    with typed(BudgetWorld()):
        assert ask("savings")["rows"] == []
        assert ask("what-if", "peering")["rows"] == []
        assert "The rules: gateway-endpoint" in refused("what-if", "wishes", code=2)
        assert "0,045" in refused("what-if", "peering", "--hourly-usd", "0,045", code=2)
        assert "lies in the future" in refused("savings", "--month", "2027-01", code=2)
        assert "--month 2027" in refused("savings", "--month", "2027", code=2)
