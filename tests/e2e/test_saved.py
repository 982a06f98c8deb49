"""A saved question in a deployed region: its report is made once, under the function's own role, and told once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.oncall import next_alert
from tests.e2e.test_budgets import bill
from tests.e2e.test_main_job import account, message, record

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Service

SIZE = 3 * 2**30


@pytest.mark.drill
def test_a_report_is_made_once_with_page_and_rows_and_told(service: Service, pager: str, tmp_path: Path) -> None:
    who = account()
    name, start = f"report-{who}", (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT12:00:00Z")
    service.send(message(f"saved-{who}", [record(who, size=SIZE, start=start, end=start)]))
    service.wait_for_rest()
    service.run("operator", "reports", "add", name, "--every", "day", "--account", who, "--group-by", "account_id")
    # No price book of this name was imported.
    service.run("operator", "reports", "add", f"bill-{who}", "--cost", "--every", "day", "--prices", "contract")
    for _ in range(2):
        bill(service)
    found: list[dict[str, Any]] = []
    while alert := next_alert(service, pager, 5):
        if who in str(alert.get("report", "")):
            found.append(alert)
    told = {alert["report"]: alert for alert in found}
    assert len(found) == 2
    assert "price book contract" in told[f"bill-{who}"]["refused"]
    [row] = service.ask("reader", "reports", "show", name)["rows"]
    assert told[name]["page"].endswith(f"/{row['page']}")
    page, rows = tmp_path / "page.html", tmp_path / "rows.csv"
    done = service.run("reader", "reports", "show", name, "--html", str(page), "--csv", str(rows))
    assert done.returncode == 0, done.stderr
    assert rows.read_text().splitlines()[1:] == [f"{who},{SIZE},1"]
    assert f"{SIZE:,} bytes in 1 record" in page.read_text()
    states = {each["report"]: each["state"] for each in service.ask("reader", "reports", "list")["rows"]}
    assert (states[name], states[f"bill-{who}"]) == ("made", "refused")
    assert service.run("reader", "reports", "remove", name).returncode != 0
    for each in (name, f"bill-{who}"):
        assert service.run("operator", "reports", "remove", each).returncode == 0
