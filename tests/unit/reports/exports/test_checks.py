"""Each check of an export finds its fault."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from metering.billing.rating.lines import PriceState, RatedLine
from metering.hours import rfc3339
from metering.reports.exports.batches import Collector
from metering.reports.exports.checks import CUR_AMOUNTS, FOCUS_AMOUNTS, ExportWrongError, LineChecks
from metering.reports.exports.datasets.columns import FileFormat, Layout
from metering.reports.exports.datasets.cur import CurTerms, cur_columns, time_text
from metering.reports.exports.datasets.focus import focus_columns
from metering.reports.exports.grains import summed
from tests.support.charged import billed
from tests.support.priced import MONTH, US_TIERS, allowance, book, gb, product, used

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from metering.billing.invoices.composing import Charge

BOOK = book([product("OUT", "DataTransfer-Out-Bytes", US_TIERS)], allowance("100", "OUT"))


def _charges() -> list[Charge]:
    return [charge for charge, _ in billed(BOOK, [used(gb("10339")), used(gb("2"), 5)], MONTH).charges]


def _looked_at(
    charges: Iterable[Charge],
    damage: Callable[[pa.Table], pa.Table] = lambda table: table,
    *,
    kind: str = "focus",
    form: FileFormat = "parquet",
) -> None:
    focus = kind == "focus"
    columns = focus_columns("1.2", "hour", {}) if focus else cur_columns(CurTerms(grain="hour"))
    layout = Layout(columns=columns, form=form, time_text=rfc3339 if focus else time_text)
    checks = LineChecks(books=[BOOK], grain="hour", amounts=FOCUS_AMOUNTS if focus else CUR_AMOUNTS)
    for batch in Collector().batches((charge, "") for charge in charges):
        checks.look(batch, damage(layout.table(batch)))


def _changed(name: str, more: str) -> Callable[[pa.Table], pa.Table]:
    def damage(table: pa.Table) -> pa.Table:
        place, column = table.schema.get_field_index(name), table.column(name)
        values = column.to_pylist()
        values[-1] += float(more) if pa.types.is_floating(column.type) else Decimal(more)
        return table.set_column(place, table.schema.field(place), pa.array(values, column.type))

    return damage


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("kind", ["focus", "cur"])
def test_a_right_export_passes(kind: str, form: FileFormat) -> None:
    _looked_at(_charges(), kind=kind, form=form)


@pytest.mark.parametrize("name", ["BilledCost", "PricingQuantity", "ListCost", "ContractedUnitPrice"])
def test_a_value_off_by_the_last_digit_of_a_price_is_found(name: str) -> None:
    with pytest.raises(ExportWrongError, match="rounded half up"):
        _looked_at(_charges(), _changed(name, "0.0000000100"))


@pytest.mark.parametrize("name", ["line_item_unblended_cost", "pricing_public_on_demand_cost"])
def test_a_double_of_cur_that_is_off_is_found(name: str) -> None:
    with pytest.raises(ExportWrongError, match="rounded half up"):
        _looked_at(_charges(), _changed(name, "0.0000000001"), kind="cur")


@pytest.mark.parametrize("size", ["700000.3", "41612161.2345678912"])
def test_a_line_of_more_than_half_a_pb_is_no_error_of_its_doubles(size: str) -> None:
    for more in range(40):
        charges = billed(BOOK, [used(gb(size) + more)], MONTH).charges
        _looked_at([charge for charge, _ in charges], kind="cur")
    large = [charge for charge, _ in billed(BOOK, [used(gb(size))], MONTH).charges]
    with pytest.raises(ExportWrongError, match="rounded half up"):
        _looked_at(large, _changed("line_item_unblended_cost", "0.00001"), kind="cur")


def test_the_last_digit_of_a_cost_is_looked_at() -> None:
    with pytest.raises(ExportWrongError, match="BilledCost"):
        _looked_at(_charges(), _changed("BilledCost", "0.0000000001"))


def test_a_row_less_is_found() -> None:
    with pytest.raises(ExportWrongError, match="4 lines became 3 rows"):
        _looked_at(_charges(), lambda table: table.slice(1))


def test_usage_outside_its_month_is_found_unless_it_is_a_correction() -> None:
    charges = _charges()
    with pytest.raises(ExportWrongError, match="usage is outside 2026-12, and no correction"):
        _looked_at([charge._replace(billing_month="2026-12") for charge in charges])
    _looked_at([charge._replace(billing_month="2026-12", corrects=True) for charge in charges])


def test_a_correction_of_the_month_itself_is_found() -> None:
    with pytest.raises(ExportWrongError, match="a correction of 2026-11 is of that month itself"):
        _looked_at([charge._replace(corrects=True) for charge in _charges()])


def test_a_charge_without_invoice_is_found() -> None:
    with pytest.raises(ExportWrongError, match="no invoice id"):
        _looked_at([charge._replace(invoice_id="") for charge in _charges()])


def test_a_rate_code_that_the_book_does_not_have_is_found() -> None:
    charge = _charges()[0]
    other = charge._replace(rated=charge.rated._replace(rate_code="OUT.JRTCKXETXF.NONE"))
    with pytest.raises(ExportWrongError, match=r"rate code 'OUT.JRTCKXETXF.NONE' is not in the price book"):
        _looked_at([other])


def test_more_lines_of_a_key_and_hour_than_it_has_tiers_are_found() -> None:
    charge = _charges()[0]
    copies = [charge._replace(rated=charge.rated._replace(price=price)) for price in range(5)]
    _looked_at(copies)
    with pytest.raises(ExportWrongError, match="a key has 6 lines in one hour"):
        _looked_at([*copies, charge])


def test_unpriced_lines_are_no_rows_and_are_summed() -> None:
    collector = Collector()
    charge = _charges()[0]
    line = RatedLine(charge.rated.line, PriceState.UNPRICED)
    assert not list(collector.batches([(charge._replace(rated=line), "")] * 3))
    assert sum(collector.unbilled.values()) == 3 * charge.rated.line.bytes


@pytest.mark.parametrize("most_keys", [1, 3, 100])
def test_sums_by_day_are_the_same_however_little_memory_they_have(most_keys: int) -> None:
    usage = [used(gb("1") + hour, hour, account=f"{account:012d}") for hour in range(60) for account in range(3)]
    source = billed(BOOK, usage, MONTH)
    found = list(summed(source.charges, "day", most_keys=most_keys))
    assert found == list(summed(source.charges, "day"))
    assert sum(charge.rated.line.bytes for charge, _ in found) == sum(line.bytes for line in usage)
    assert len({charge.rated.line.hour_s for charge, _ in found}) == 3


def test_corrections_are_summed_by_the_hour_and_what_cancels_out_is_gone() -> None:
    charge = _charges()[0]._replace(corrects=True)
    back = charge._replace(rated=charge.rated._replace(line=charge.rated.line._replace(bytes=-charge.rated.line.bytes)))
    assert not list(summed([(charge, ""), (back, "")], "hour"))
    (twice,) = summed([(charge, ""), (charge, "")], "hour")
    assert twice[0] == charge._replace(
        rated=charge.rated._replace(line=charge.rated.line._replace(bytes=2 * charge.rated.line.bytes))
    )


def test_parts_that_are_forgotten_are_learned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.reports.exports.batches._MOST_PARTS", 2)
    charges = _charges() * 3
    layout = Layout(columns=focus_columns("1.4", "hour", {}), form="parquet", time_text=rfc3339)
    tables = [layout.table(batch) for batch in Collector(rows=2).batches((charge, "") for charge in charges)]
    whole = Layout(columns=focus_columns("1.4", "hour", {}), form="parquet", time_text=rfc3339)
    (at_once,) = [whole.table(batch) for batch in Collector(rows=100).batches((charge, "") for charge in charges)]
    assert [row for table in tables for row in table.to_pylist()] == at_once.to_pylist()
    assert replace(charges[0].payer) == charges[0].payer
