"""`metering accounts` from outside, and `metering reconcile`, which checks its data."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest

from metering.billing.day_sums.accounts import AccountsReader, accounts_body, accounts_key
from metering.billing.day_sums.index import DayIndexes, KeptAccounts
from tests.cli.lively import Lively
from tests.support.budget_world import keep_day_sums
from tests.support.command_line import refused, run, typed_at
from tests.support.lake_world import ACCOUNT, World, record

if TYPE_CHECKING:
    from collections.abc import Iterator


OTHER, MONTH = "210987654321", "2026-11"


@pytest.fixture(autouse=True)
def region() -> Iterator[Lively]:
    made = Lively(world=World())
    made.world.send([record(2**70 >> 8), record(5, account=OTHER)])
    made.world.compact_all()
    with typed_at(lambda **_place: made):
        yield made


def test_it_says_up_to_when_it_counted_and_what_is_accepted_and_in_no_list_yet(region: Lively) -> None:
    """H-F2: uncompacted usage was missing, and nothing told how much."""
    keep_day_sums(region.world)
    region.world.clock.advance_s(60)
    region.world.send([record(7)])
    region.world.send([record(4, account=OTHER)], rolled_up=False)
    answer = json.loads(run("accounts", "--format", "json").stdout)
    assert answer.get("not_counted") == {"bytes": "11", "records": 2, "at_least": False}
    assert answer["counted_through"] == "2026-11-24T13:30:00Z"
    told = " ".join(run("accounts", "--format", "table").stdout.split())
    assert "Not counted: 11 bytes, accepted and in no sum yet." in told


def test_who_asks_for_some_accounts_is_told_nothing_of_the_others(region: Lively) -> None:
    keep_day_sums(region.world)
    region.world.send([record(7)])
    for line in (("--account", ACCOUNT), ("--prefix", "21")):
        answer = json.loads(run("accounts", *line, "--format", "json").stdout)
        assert "not_counted" not in answer
        assert answer["counted_through"] == "2026-11-24T13:30:00Z"


def test_it_lists_the_accounts_of_the_month_that_runs(region: Lively) -> None:
    keep_day_sums(region.world)
    answer = json.loads(run("accounts", "--format", "json").stdout)
    assert (answer["month"], answer["periods"]) == (MONTH, {MONTH: "open"})
    assert answer["rows"] == [
        {
            "account_id": account,
            "bytes": size,
            "records": 1,
            "first_hour": "2026-11-24T13:00:00Z",
            "last_hour": "2026-11-24T13:00:00Z",
        }
        for account, size in ((ACCOUNT, str(2**62)), (OTHER, "5"))
    ]
    rows = [*csv.DictReader(io.StringIO(run("accounts", "--top", "1", "--format", "csv").stdout))]
    assert [(row["account_id"], row["bytes"]) for row in rows] == [(ACCOUNT, str(2**62)), ("others", "5")]


def test_before_the_biller_ran_it_says_so_and_shows_nothing() -> None:
    told = refused("accounts", "--format", "json")
    assert "The accounts of us-east-1 were not summed yet." in told
    assert "metering budget update" in told


def test_a_question_without_sense_is_refused_with_every_problem() -> None:
    told = refused("accounts", "--month", "2027-01", "--sort", "size", "--account", "1", code=2)
    for words in ("--month 2027-01 has not begun.", "--sort size is not a column", "--account 1 is not an account"):
        assert words in told


def test_reconcile_fails_if_the_list_differs_from_the_lake(region: Lively) -> None:
    world = region.world
    keep_day_sums(world)
    assert run("reconcile", "--deep", "--format", "json").exit_code == 0
    indexes = DayIndexes(objects=world.objects)
    index = indexes.newest()
    before = index.accounts[MONTH]
    reader = AccountsReader(world.objects.get(before.key), before.key)
    first, second = reader.accounts()
    body = accounts_body(MONTH, reader.hours, [first._replace(bytes=first.bytes + 1), second])
    key = accounts_key(MONTH, body)
    world.objects.put(key, body, if_absent=False)
    assert indexes.put(index.following({}, {MONTH: KeptAccounts(key=key, days=before.days)}))

    result = run("reconcile", "--deep", "--format", "json")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)["rows"]
    assert [(row["between"], row["key"]) for row in rows] == [
        ("accounts/rows", "accounts of 2026-11"), ("accounts/rows", f"account {ACCOUNT} of 2026-11"),
    ]  # fmt: skip
    assert [int(row["expected_bytes"]) - int(row["found_bytes"]) for row in rows] == [1, 1]
    assert "The lists of accounts differ from the lake in 2 places" in " ".join(result.stderr.split())
