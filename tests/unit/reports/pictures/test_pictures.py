"""A picture shows every byte of its answer, says its units and zone, and is drawn without a network."""

from __future__ import annotations

import builtins
import json
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from metering.reports.answer import Answer
from metering.reports.parameters import InvalidParametersError
from metering.reports.pictures.drawing import DrawingUnavailableError, PictureForm, check_drawing, drawn, form_of
from metering.reports.pictures.series import MOST_SERIES, MOST_TIMES, bars_of, layout_of
from metering.reports.pictures.specification import specification

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.reports.answer import Cell, Json

META: Mapping[str, Json] = {
    "query": {}, "as_of": "2026-11-24T13:30:00Z", "complete_through": "2026-11-24T13:00:00Z",
    "periods": {"2026-11": "open"},
}  # fmt: skip


def answer(rows: Sequence[Mapping[str, Any]], **meta: Json) -> Answer:
    return Answer(columns=(), rows=rows, meta={**META, **meta}, title="Usage from 2026-11-01 to 2026-12-01")


def days(series: int, *, of: int = 24) -> Answer:
    chance = random.Random(series)
    return answer(
        [
            {"day": f"2026-11-{day:02}", "usage_type": f"T{number}", "bytes": chance.randrange(2**90 >> 2 * number)}
            for day in range(1, of + 1)
            for number in range(series)
        ]
    )


def picture(of: Answer, *columns: str, value: str = "bytes") -> Any:
    return json.loads(drawn(specification(bars_of(of, layout_of(columns, value=value)), of), PictureForm.SPECIFICATION))


@pytest.mark.parametrize("series", [1, MOST_SERIES, MOST_SERIES + 1, MOST_SERIES + 2, 40])
def test_bars_add_up_to_the_answer_and_small_series_are_one(series: int) -> None:
    of = days(series)
    total = sum(int(str(row["bytes"])) for row in of.rows)
    bars = bars_of(of, layout_of(["day", "usage_type"], value="bytes"))
    drawn_bars = picture(of, "day", "usage_type")["data"]["values"]

    assert bars.total == total == sum(int(each["exact"]) for each in drawn_bars)
    assert len(bars.series) == min(series, MOST_SERIES + 1)
    assert bars.rest == (series - MOST_SERIES if series > MOST_SERIES + 1 else 0)
    if bars.rest:
        assert bars.series[-1] == f"{bars.rest} others"
    assert f"Total: {total:,} bytes" in picture(of, "day", "usage_type")["title"]["subtitle"][0]


def test_what_sums_to_nothing_has_no_colour_of_its_own() -> None:
    rows = [{"day": "2026-11-01", "to": f"p{number}", "bytes": 5 * (number == 3)} for number in range(4)]
    bars = bars_of(answer(rows), layout_of(["day", "to"], value="bytes"))
    assert (bars.series, bars.rest, bars.total) == (("p3", "3 others"), 3, 5)
    nothing = [{"day": "2026-11-01", "to": "p", "bytes": 0}]
    assert bars_of(answer(nothing), layout_of(["day", "to"], value="bytes")).series == ("p",)


def test_it_says_its_unit_its_zone_and_how_complete_it_is() -> None:
    of = answer([{"day": "2026-11-01", "bytes": 3 * 2**30}, {"day": "2026-11-02", "bytes": 2**30}])
    spec = picture(of, "day")

    assert spec["encoding"]["y"]["title"] == "GB (2^30 bytes)"
    assert spec["encoding"]["x"]["title"] == "day (UTC)"
    assert [each["height"] for each in spec["data"]["values"]] == [3.0, 1.0]
    assert spec["title"]["subtitle"] == [
        "Total: 4,294,967,296 bytes = 4.00 GB. As of 2026-11-24T13:30:00Z, complete through 2026-11-24T13:00:00Z."
    ]
    closed = picture(answer(of.rows, periods={"2026-11": "closed"}), "day")
    assert closed["title"]["subtitle"][0].endswith("As of 2026-11-24T13:30:00Z; the months are closed.")


def test_days_of_a_zone_are_named_so_and_hours_are_drawn_in_utc() -> None:
    zone: Mapping[str, Json] = {"tz": "Europe/Berlin"}
    berlin = picture(answer([{"day": "2026-11-01", "bytes": 1}], query=zone), "day")
    assert berlin["encoding"]["x"]["title"] == "day (Europe/Berlin)"
    assert berlin["data"]["values"][0]["time"] == "2026-11-01T00:00:00Z"
    # The clock goes back: two hours have the name 02:00, and each has a bar.
    names = ("2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00")
    hours = picture(answer([{"hour": name, "bytes": 1} for name in names], query=zone), "hour")
    assert hours["encoding"]["x"]["title"] == "hour (UTC)"
    assert [each["time"] for each in hours["data"]["values"]] == ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"]


def test_costs_are_drawn_in_usd_and_what_has_no_price_is_said() -> None:
    rows: list[Mapping[str, Cell]] = [
        {"month": "2026-10", "service": "AmazonEC2", "cost_usd": Decimal("1.5"), "unpriced_bytes": 0},
        {"month": "2026-11", "service": "AmazonEC2", "cost_usd": Decimal("0.25"), "unpriced_bytes": 7},
        {"month": "2026-11", "service": "AmazonS3", "cost_usd": None, "unpriced_bytes": 2048},
    ]
    spec = picture(answer(rows, total_usd="1.7500000001"), "month", "service", value="cost_usd")

    assert spec["encoding"]["y"]["title"] == "USD"
    assert [each["exact"] for each in spec["data"]["values"]] == ["1.5", "0.25"]
    assert spec["title"]["subtitle"][0].startswith("Total: 1.7500000001 USD exactly.")
    assert spec["title"]["subtitle"][1] == "Without a price, and not in it: 2,055 bytes = 2.01 KB."


@pytest.mark.parametrize(
    "columns", [("usage_type",), ("day", "hour"), ("day", "usage_type", "account_id"), ("account_id", "service"), ()]
)
def test_columns_that_are_no_picture_are_refused(columns: tuple[str, ...]) -> None:
    with pytest.raises(InvalidParametersError) as refused:
        layout_of(columns, value="bytes")
    assert "--group-by day,usage_type" in refused.value.problems[0].advice


def test_more_times_than_a_picture_has_room_for_are_refused() -> None:
    hours = [{"hour": f"{2000 + number // 24}-01-01T{number % 24:02}:00:00Z", "bytes": 1} for number in range(3_001)]
    layout = layout_of(["hour"], value="bytes")
    assert len(bars_of(answer(hours[:MOST_TIMES]), layout).sums) == MOST_TIMES
    with pytest.raises(InvalidParametersError, match="3,001"):
        bars_of(answer(hours), layout)


def test_labels_are_few_and_stand_where_bars_are() -> None:
    months = [{"month": f"{2020 + number // 12}-{number % 12 + 1:02}", "bytes": 1} for number in range(0, 60, 2)]
    for of, columns in ((days(2), ("day", "usage_type")), (answer(months), ("month",)), (days(1, of=1), ("day",))):
        axis = picture(of, *columns)["encoding"]["x"]["axis"]
        assert 1 <= len(axis["values"]) <= 10


def test_it_is_drawn_in_every_form_and_the_same_each_time() -> None:
    of = answer([{"day": "2026-11-01", "usage_type": "<b>&\u202e", "bytes": 5}])
    spec = specification(bars_of(of, layout_of(["day", "usage_type"], value="bytes")), of)
    begins = {PictureForm.SVG: b"<svg", PictureForm.PNG: b"\x89PNG", PictureForm.PDF: b"%PDF"}
    for form, magic in begins.items():
        assert drawn(spec, form).startswith(magic)
    svg = drawn(spec, PictureForm.SVG)
    assert svg == drawn(spec, PictureForm.SVG)
    assert b"&lt;b&gt;&amp;" in svg
    assert "\u202e".encode() not in svg
    assert b"day (UTC)" in svg


def test_nothing_is_fetched_from_a_network() -> None:
    spec = {"data": {"url": "http://127.0.0.1:9/rows.csv"}, "mark": "bar", "encoding": {}}
    with pytest.raises(ValueError, match=r"(?i)127\.0\.0\.1|url"):
        drawn(spec, PictureForm.SVG)


def test_without_what_draws_it_says_what_to_install() -> None:
    real = builtins.__import__

    def missing(name: str, *given: Any) -> Any:
        if name == "vl_convert":
            raise ImportError(name)
        return real(name, *given)

    with patch.object(builtins, "__import__", missing):
        with pytest.raises(DrawingUnavailableError) as refused:
            check_drawing(PictureForm.PNG)
        check_drawing(PictureForm.SPECIFICATION)
    assert "transfer-metering[cli,plot]" in refused.value.advice


def test_the_name_of_a_file_says_its_form() -> None:
    names = {"a.svg": PictureForm.SVG, "A.PNG": PictureForm.PNG, "b.pdf": PictureForm.PDF}
    assert {name: form_of(name) for name in names} == names
    assert form_of("x.vl.json") is PictureForm.SPECIFICATION
    assert [form_of(name) for name in ("x.json", "x", "svg", "x.svg.gz")] == [None] * 4
