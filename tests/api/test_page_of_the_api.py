"""The documentation of the API: its requests can be sent as they stand, and its numbers are those of the program."""

from __future__ import annotations

import re
from pathlib import Path

from metering.api.authentication import Limits
from metering.api.parameters import ACCOUNT, GROUP_BY
from tests.api.world import TOKENS, ApiWorld, at_rest

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
_REQUEST = re.compile(
    r'^curl -s(?P<held>H "Authorization: Bearer \$METERING_TOKEN")? "\$METERING_URL(?P<path>/[^"]+)"$', re.MULTILINE
)


def world() -> ApiWorld:
    """A region that no test changes."""
    return at_rest()


def test_every_request_can_be_sent_as_it_stands() -> None:
    requests = list(_REQUEST.finditer(PAGE))
    assert len(requests) == PAGE.count("\ncurl ") >= 6
    for each in requests:
        answer = world().get(each["path"], "analyst" if each["held"] else None)
        assert answer.status_code == 200, (each["path"], answer.text)


def test_the_paths_and_their_roles_are_those_of_the_program() -> None:
    rows = re.findall(r"^\| (`/v1/[^|]+) \| ([^|]+) \| ", PAGE, re.MULTILINE)
    told = {path.partition("?")[0]: who for cell, who in rows for path in re.findall(r"`([^`]+)`", cell)}
    assert set(told) == {each.path for each in world().app.state.resources}
    for each in world().app.state.resources:
        roles = {"all": {grant.role for grant in TOKENS.values()}}.get(told[each.path])
        if each.public:
            assert told[each.path] == "anyone"
        elif roles is None:
            assert {f"{role}s" for role in each.roles} == set(told[each.path].split(", "))
        else:
            assert each.roles == roles


def test_the_limits_are_those_of_the_program() -> None:
    limits = Limits()
    cells = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE.partition("## Limits")[2], re.MULTILINE))
    assert cells["months; years"] == f"{limits.months}; from {limits.first_year} to the next month"
    assert cells["accounts that are named; accounts times months"] == f"{ACCOUNT.most_values}; {limits.partitions}"
    assert cells["columns to group by"] == str(GROUP_BY.most_values)
    rows = f"{limits.json_rows:,}; {limits.table_rows:,}; {limits.summed_rows:,}"
    assert cells["rows: JSON; CSV, NDJSON and Parquet; summed for pages"] == rows
    assert cells["bytes of an answer, as a function hands it over"] == f"{limits.answer_bytes:,}"
    assert cells["seconds"] == f"{limits.deadline_s:g}"
    assert cells["requests of one token"] == f"{limits.token_rate_per_s:g} a second, {limits.token_burst} at once"
    [hours] = [text for name, text in cells.items() if name.startswith("hours that are read")]
    assert hours.startswith(f"{limits.open_hours} with rows")


def test_the_problem_that_is_shown_is_the_one_that_is_told() -> None:
    told = world().get("/v1/usage?acount=123456789012").json()
    assert f'"type": "{told["type"]}"' in PAGE
    assert f'"title": "{told["title"]}"' in PAGE
    assert told["detail"].startswith("There is no parameter acount. Nearest: account. There are: ")
