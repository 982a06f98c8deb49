"""What staff asks over HTTP is what the command line answers: JSON but for the time of asking, and CSV byte by byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from metering.cli.commands.analyst.lake import reconcile
from metering.cli.commands.analyst.report import trace
from metering.cli.commands.operator.quarantine import list_, show_batch
from metering.cli.commands.platform.producers import sources
from metering.cli.printing.output import Format
from tests.api.test_operators import world
from tests.api.world import FIRST
from tests.support.here import HereSession

if TYPE_CHECKING:
    from collections.abc import Callable

_RANGE = {"start": "2026-11-22", "end": "2026-11-24T14:00:00Z"}
_IN_URL = "from=2026-11-22&to=2026-11-24T14:00:00Z"
CASES: dict[str, Callable[[HereSession], None]] = {
    f"/v1/trace?account={FIRST}&{_IN_URL}": lambda here: trace(here, FIRST, **_RANGE),
    f"/v1/trace?account={FIRST}&to_location=internet&hour=2026-11-24T13:00:00Z": lambda here: trace(
        here, FIRST, to_location="internet", hour="2026-11-24T13:00:00Z"
    ),
    "/v1/batches?id=partly-a": lambda here: show_batch(here, "partly-a"),
    "/v1/batches?id=refused-0": lambda here: show_batch(here, "refused-0"),
    "/v1/batches?id=batch-0": lambda here: show_batch(here, "batch-0"),
    "/v1/quarantine": list_,
    "/v1/quarantine?reason=record_count_mismatch": lambda here: list_(here, reason="record_count_mismatch"),
    "/v1/sources": sources,
    "/v1/sources?gaps=true": lambda here: sources(here, gaps=True),
    "/v1/reconciliation": lambda here: reconcile(here, result=True),
}


@pytest.mark.parametrize("path", CASES)
def test_json_and_csv_are_those_of_the_command(path: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for form in (Format.JSON, Format.CSV):
        CASES[path](HereSession(world().world, form=form))
        printed = capsysbinary.readouterr().out
        mark = "&" if "?" in path else "?"
        answered = world().get(f"{path}{mark}format={form.value}", "operator").content
        if form is Format.CSV:
            assert answered == printed
        else:
            assert without_time(answered) == without_time(printed)


def without_time(text: bytes) -> Any:
    document = json.loads(text)
    document.pop("as_of", None)
    return document
