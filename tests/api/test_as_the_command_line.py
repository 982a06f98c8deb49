"""The API returns the same answers as the command line: equal JSON, and identical bytes of CSV, NDJSON and Parquet."""

from __future__ import annotations

import json
import random
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.parse import urlencode

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from metering.cli.app import app
from metering.reports.query import GROUP_COLUMNS
from metering.wiring.region import Stage
from tests.api.world import FIRST, PLACES, SECOND, SERVICES, THIRD, ApiWorld, WorldRegion
from tests.api.world import at_rest as world
from tests.support.lake_world import NOW_S, World
from tests.support.memory.regions import MemoryRegionStates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMS = ("json", "csv", "parquet")


@pytest.fixture(autouse=True, scope="module")
def _here() -> Iterator[None]:
    """Connect the command line to the API's region."""
    with connected_to(world().world):
        yield


@contextmanager
def connected_to(made: World) -> Iterator[None]:
    """Connect the command line to a region, with the same current time."""
    region = _Connected(made)
    regions = Stage(home=region.region, connect=lambda _name: region, states=MemoryRegionStates())
    with ExitStack() as stack:
        for target, value in {
            "metering.cli.command.connect": lambda **_place: region,
            "metering.cli.command.emulated": lambda **_place: True,
            "metering.cli.command.refuse_aws_for_emulated": lambda _stage, **_place: None,
            "metering.cli.command.Session.regions": regions,
            # The real program also builds its command tree only once.
            "typer.testing._get_command": cache(get_command),
            "time.time": lambda: float(NOW_S),
        }.items():
            stack.enter_context(patch(target, value))
        yield


class _Connected(WorldRegion):
    """The attributes of a connection that reports use. Queues are not read, because the watch has measured recently."""

    ingest = None
    dead_letters = None
    queue_facts = None


def command_line(words: list[str], form: str, folder: Path) -> bytes:
    """Output of a command in a format."""
    target = folder / f"answer.{form}"
    line = ["--endpoint", "http://127.0.0.1:9", *words, "--format", form, "--output", str(target)]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, (words, result.output)
    return target.read_bytes()


def asked(count: int, seed: int) -> Iterator[dict[str, str]]:
    """Random meaningful queries, as parameters of a URL."""
    chance = random.Random(seed)
    for _ in range(count):
        given: dict[str, str] = {}
        times = chance.choice(["", "last", "month", "range", "day"])
        if times == "last":
            given["last"] = chance.choice(["24h", "3d", "1w", "2m", "5h"])
        elif times:
            begin = chance.choice(["2026-10-25", "2026-10-01", "2026-11-22T11:00:00Z"])
            ranges = {"month": {"from": "2026-11"}, "day": {"from": "2026-11-23"}}
            given |= ranges.get(times, {"from": begin, "to": "2026-11-24"})
        some = chance.sample([name for name in GROUP_COLUMNS if name != "corrects"], chance.randint(1, 5))
        pools = {
            "group_by": [",".join(some)] * 3,
            "account": [FIRST, f"{SECOND},{FIRST}", THIRD, "999999999999"],
            "service": [SERVICES[0], ",".join(SERVICES[1:]), "AmazonRedshift"],
            "usage_type": ["DataTransfer-Out-Bytes", "USE1-EU-AWS-Out-Bytes,DataTransfer-Out-Byte"],
            "to_location": [PLACES[0], ",".join(PLACES[1:3]), "eu-west-3"],
            "from_location": ["us-east-1/use1-az2"],
            "with_corrections": ["true"],
            "tz": ["Europe/Berlin", "America/New_York", "UTC"],
            "detail": ["resource_id", "direction,batch_id"],
            "top": ["1", "3", "100"],
            "sort": ["bytes:desc", "records", "bytes"],
        }
        shares = {"group_by": 0.8, "account": 0.4, "to_location": 0.3}
        for name, pool in pools.items():
            if chance.random() < shares.get(name, 0.2):
                given[name] = chance.choice(pool)
        yield given


def words_of(given: dict[str, str]) -> list[str]:
    """Command-line arguments for the same query."""
    words: list[str] = []
    for name, text in given.items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if text == "true" else [option, text]
    return words


def same(path: str, command: list[str], given: dict[str, str], folder: Path, *forms: str) -> int:
    """Query the API and the command line in each format; return the number of rows."""
    rows = 0
    for form in forms or FORMS:
        here = world().get(f"{path}?{urlencode({**given, 'format': form}, safe=',:')}")
        assert here.status_code == 200, (given, here.text)
        there = command_line([*command, *words_of(given)], form, folder)
        assert here.content == there, (given, form)
        if form == "json":
            rows = len(json.loads(there)["rows"])
    return rows


def test_50_random_questions_about_usage_have_the_same_answers(tmp_path: Path) -> None:
    found = [
        same("/v1/usage", ["report", "usage"], given, tmp_path, *(FORMS if number % 5 == 0 else FORMS[:1]))
        for number, given in enumerate(asked(50, seed=11))
    ]
    assert sum(1 for rows in found if rows) > 25
    assert max(found) > 30
    for given in asked(3, seed=12):
        same("/v1/usage", ["report", "usage"], given, tmp_path, "ndjson")


@pytest.mark.long
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_50_random_questions_have_the_same_bytes_in_every_form(seed: int, tmp_path: Path) -> None:
    for given in asked(50, seed=seed):
        same("/v1/usage", ["report", "usage"], given, tmp_path, *FORMS, "ndjson")


def test_random_questions_about_costs_have_the_same_answers(tmp_path: Path) -> None:
    more = [{}, {"prices": "sample"}, {"month": "2026-10"}, {"group_by": "tier,payer"}, {}, {}, {}, {}]
    found: list[int] = []
    for given, added in zip(asked(len(more), seed=5), more, strict=True):
        question = {name: text for name, text in given.items() if name not in _NOT_OF_COSTS}
        found.append(same("/v1/cost", ["cost"], {**question, **added}, tmp_path))
    assert sum(1 for rows in found if rows) > len(more) / 2


# With `month`, no other time parameters are allowed, and cost figures have other names.
_NOT_OF_COSTS = {"detail", "sort", "from", "to", "last"}


def test_the_sum_over_accounts_is_the_total_of_the_fleet() -> None:
    question = "from=2026-10-01&to=2026-11-24T14:00:00Z"
    by_account: list[Any] = world().json(f"/v1/usage?{question}&group_by=account_id")["rows"]
    [whole] = world().json(f"/v1/usage?{question}&group_by=region")["rows"]
    assert sum(int(row["bytes"]) for row in by_account) == int(whole["bytes"])
    own = [world().json(f"/v1/usage?{question}", who)["rows"] for who in ("first", "second")]
    told = {row["account_id"]: int(row["bytes"]) for row in by_account}
    assert [sum(int(row["bytes"]) for row in rows) for rows in own] == [told[FIRST], told[SECOND]]


def test_a_moment_later_the_json_differs_by_its_time_alone() -> None:
    fresh = ApiWorld()
    first = fresh.json("/v1/usage?from=2026-11&group_by=account_id")
    fresh.world.clock.advance_s(3)
    second = fresh.json("/v1/usage?from=2026-11&group_by=account_id")
    assert first["as_of"] != second["as_of"]
    assert {**first, "as_of": ""} == {**second, "as_of": ""}


def test_the_command_line_warns_of_what_the_api_refuses(tmp_path: Path) -> None:
    accounts = ",".join(f"{number:012}" for number in range(16))
    much = {"from": "2025-11", "to": "2026-11-02", "account": accounts}
    target = str(tmp_path / "answer.csv")
    line = ["--endpoint", "http://127.0.0.1:9", "report", "usage", "--output", target]
    result = CliRunner().invoke(app, [*line, *words_of(much)])
    assert result.exit_code == 0
    assert "This reads 208 partitions of the usage table (accounts x months)" in " ".join(result.stderr.split())
    assert world().get(f"/v1/usage?{urlencode(much, safe=',')}").status_code == 422
    little = CliRunner().invoke(app, [*line, "--from", "2026-11"])
    assert "This reads" not in little.stderr
