"""`metering.connect` returns tables like the command line's Parquet, equal over stores and HTTP, and helpful errors."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import metering
from metering.client.connection import Connection, SumsDifferError
from metering.client.http import HttpAnswers
from metering.client.stores import Place, StoreAnswers
from metering.errors import OperationFailedError, UnavailableError
from metering.reports.sql.query import QueryError
from metering.reports.time_range import InvalidParametersError
from metering.version import package_version
from tests.api.world import FIRST, SECOND, ApiWorld, complete_until
from tests.support.kept_causes import NAT, keep_causes, record_of, row, unnamed
from tests.support.lake_world import HOUR, World, record
from tests.support.usage_items import change, usage_of
from tests.unit.client.here import Here, over_stores, served


@pytest.fixture(scope="module")
def api() -> ApiWorld:
    return ApiWorld()


@pytest.fixture(scope="module")
def url(api: ApiWorld) -> Iterator[str]:
    with served(api) as address:
        yield address


def over_http(url: str, who: str = "analyst") -> Connection:
    return metering.connect(url=url, token=who)


QUESTIONS: list[dict[str, Any]] = [
    {},
    {"from_": "2026-10", "group_by": "account_id,usage_type"},
    {"from_": date(2026, 11, 1), "to": datetime(2026, 11, 24, 12, tzinfo=UTC), "group_by": ["day", "service"]},
    {"last": "2d", "group_by": ["hour"], "account": [FIRST, SECOND]},
    {"from_": "2026-11", "detail": "resource_id", "service": "AmazonEC2", "to_location": "internet"},
    {"from_": "2026-11", "group_by": "account_id", "top": 2},
    {"from_": "2026-11", "group_by": "from,to", "sort": "records:desc", "from_location": "us-east-1/use1-az2"},
    {"from_": "2026-11", "group_by": "day", "tz": "Asia/Tokyo"},
    {"from_": "2026-11", "with_corrections": True},
    {"from_": "2026-11", "account": "999999999999"},
    {"from_": "2026-11", "account": FIRST, "group_by": "hour", "now": True},
]


@pytest.mark.parametrize("asked", QUESTIONS, ids=str)
def test_usage_over_http_is_usage_over_the_stores(api: ApiWorld, url: str, asked: dict[str, Any]) -> None:
    here, there = over_stores(api.world).usage(**asked), over_http(url).usage(**asked)
    assert here.equals(there)
    assert here.schema.field("bytes").type == pa.decimal128(38, 0)
    told = Connection.about(here)
    assert {name: told[name] for name in ("as_of", "complete_through")} == Connection.about(there)


def test_a_table_is_what_the_answer_is_as_parquet(api: ApiWorld, tmp_path: Path) -> None:
    """The table equals the command line's Parquet file, whose bytes equal the API's."""
    table = over_stores(api.world).usage(from_="2026-11", group_by="account_id,hour")
    answer = api.get("/v1/usage?from=2026-11&group_by=account_id,hour&format=parquet")
    (tmp_path / "t.parquet").write_bytes(answer.content)
    assert pq.read_table(tmp_path / "t.parquet").equals(table)
    assert table.schema.names == ["account_id", "hour", "bytes", "records", "processed_bytes"]
    november_s = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())
    totals = [total.bytes for key, total in api.world.usage().items() if key.hour_s >= november_s]
    assert sum(table["bytes"].to_pylist()) == sum(totals)


def test_causes_over_http_are_causes_over_the_stores(api: ApiWorld, url: str) -> None:
    rows = [row(2**62), row(2**62), unnamed(3, "many")]
    world = World()
    world.send([record_of(each) for each in rows])
    keep_causes(world, rows, {})
    complete_until(world, HOUR)
    here = over_stores(world).who(group_by=["owner", "path"], from_="2026-11", resource=NAT)
    with served(ApiWorld(world)) as other:
        assert here.equals(over_http(other).who(group_by=["owner", "path"], from_="2026-11", resource=[NAT]))
    assert here.schema.names == ["usage_type", "owner", "path", "reason", "bytes", "share"]
    assert here.schema.field("bytes").type == pa.decimal128(38, 0)
    assert sorted(map(int, here["bytes"].to_pylist())) == [3, 2**63]
    assert Connection.about(here)["totals"]


COSTS: list[dict[str, Any]] = [
    {},
    {"month": "2026-10", "group_by": ["account_id", "tier"]},
    {"from_": "2026-11", "group_by": "payer", "top": 1},
    {"from_": "2026-11", "group_by": "day", "account": FIRST, "prices": "sample"},
]


@pytest.mark.parametrize("asked", COSTS, ids=str)
def test_costs_over_http_are_costs_over_the_stores(api: ApiWorld, url: str, asked: dict[str, Any]) -> None:
    here, there = over_stores(api.world).cost(**asked), over_http(url).cost(**asked)
    assert here.equals(there)
    assert here.schema.field("cost_usd").type == pa.decimal128(38, 10)
    assert Connection.about(here)["currency"] == "USD"


def test_costs_are_of_the_region_that_is_named_and_of_books_that_there_are(api: ApiWorld, url: str) -> None:
    with pytest.raises(InvalidParametersError, match="prices @ is no price book"):
        over_stores(api.world).cost(prices="@")
    with pytest.raises(OperationFailedError, match="does not compute tiers anew"):
        over_http(url).cost(exact=True)


def test_everywhere_merges_regions_and_says_which() -> None:
    worlds = {"eu-west-1": World(), "us-east-1": World()}
    for number, world in enumerate(worlds.values()):
        world.send([record(10 + number)])
        complete_until(world, HOUR - number)
    clock = worlds["us-east-1"].clock
    place = Here(worlds, everywhere=True, without={"eu-west-1": ["analytics"]})
    connection = Connection(StoreAnswers(cast("Place", place), clock=clock))
    table = connection.usage(from_="2026-11", group_by="region")
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert table.schema.names == ["region", "bytes", "records", "processed_bytes"]
    assert rows == [("eu-west-1", 10, 1, 0), ("us-east-1", 11, 1, 0)]
    told = connection.about(table)
    assert (told["regions"], told["left_out"]) == (["eu-west-1", "us-east-1"], {"eu-west-1": ["analytics"]})
    batches = connection.trace("123456789012", from_="2026-11")
    assert [row["region"] for row in batches.to_pylist()] == ["eu-west-1", "us-east-1"]


def test_sql_is_exact_and_typed(api: ApiWorld) -> None:
    connection = over_stores(api.world)
    sql = "SELECT account_id, sum(bytes) AS bytes FROM transfers GROUP BY 1 ORDER BY 1"
    table = connection.query(sql, from_="2026-11")
    totals = connection.usage(from_="2026-11", group_by="account_id")
    assert table.to_pylist() == totals.select(["account_id", "bytes"]).to_pylist()
    assert table.schema.field("bytes").type == pa.decimal128(38, 0)
    with pytest.raises(QueryError, match="no_such"):
        connection.query("SELECT no_such FROM transfers")
    with pytest.raises(QueryError):
        connection.query("SELECT 1; SELECT 2")


def test_a_trace_adds_up_to_the_line(api: ApiWorld) -> None:
    connection = over_stores(api.world)
    table = connection.trace(FIRST, from_="2026-11-24")
    line = connection.usage(from_="2026-11-24", account=FIRST, group_by="account_id").to_pylist()
    told = connection.about(table)
    assert told["equal"] is True
    assert sum(row["bytes"] for row in table.to_pylist()) == line[0]["bytes"]


TRACES: list[dict[str, Any]] = [
    {"from_": "2026-11-24"},
    {"hour": datetime(2026, 11, 24, 13, tzinfo=UTC), "usage_type": "DataTransfer-Out-Bytes"},
    {"from_": "2026-11-23", "service": "AmazonEC2", "to_location": "internet"},
    {"hour": "2026-11-01T00:00:00Z"},
]


@pytest.mark.parametrize("asked", TRACES, ids=str)
def test_a_trace_over_http_is_the_trace_over_the_stores(api: ApiWorld, url: str, asked: dict[str, Any]) -> None:
    here, there = over_stores(api.world).trace(FIRST, **asked), over_http(url, "operator").trace(FIRST, **asked)
    assert here.equals(there)
    assert Connection.about(here) == Connection.about(there)


def test_a_trace_whose_sums_differ_is_an_error_with_both_figures() -> None:
    world = World()
    [batch] = world.send([record(1_000)])
    complete_until(world, HOUR)
    [entry] = usage_of(world.items)
    change(world.items, entry, 1)
    with pytest.raises(SumsDifferError, match="usage 1001, rows 1000, markers 1000 bytes") as error:
        over_stores(world).trace("123456789012", from_="2026-11")
    assert error.value.sums == {"usage": "1001", "rows": "1000", "markers": "1000"}
    assert [row["batch_id"] for row in error.value.table.to_pylist()] == [batch]


@pytest.mark.parametrize("over", ["stores", "http"])
def test_a_question_that_makes_no_sense_has_all_its_problems(api: ApiWorld, url: str, over: str) -> None:
    connection = over_stores(api.world) if over == "stores" else over_http(url)
    with pytest.raises(InvalidParametersError) as error:
        connection.usage(group_by=["acount", "wrong"], account=FIRST, sort="nothing")
    # First, the API checks the request against its document: the columns must exist.
    found = [each.parameter for each in error.value.problems]
    assert found == (["group_by"] if over == "http" else ["group_by", "group_by", "sort"])
    assert str(error.value).startswith("group_by acount is not one of the columns.")
    with pytest.raises(InvalidParametersError, match="has no zone"):
        connection.usage(from_=datetime(2026, 11, 1))  # noqa: DTZ001 - what it is about


def test_a_customer_sees_its_own_account_and_no_other(url: str) -> None:
    own = over_http(url, "first").usage(from_="2026-11", group_by="account_id")
    assert own["account_id"].to_pylist() == [FIRST]
    with pytest.raises(OperationFailedError, match="does not see that account") as error:
        over_http(url, "first").usage(from_="2026-11", account=SECOND)
    assert error.value.advice == f"{SECOND} is not granted."


def test_a_token_that_is_not_known_is_refused_in_words_without_the_token(url: str) -> None:
    with pytest.raises(OperationFailedError, match="does not take the token") as error:
        over_http(url, "a-secret-token").usage()
    assert "a-secret-token" not in f"{error.value} {error.value.advice} {error.value.__cause__}"
    assert "a-secret-token" not in repr(HttpAnswers.at(url, "a-secret-token"))


def test_sql_is_not_asked_over_http(url: str) -> None:
    with pytest.raises(OperationFailedError, match="takes no SQL"):
        over_http(url).query("SELECT 1")


def test_the_link_of_serve_has_its_token(api: ApiWorld, url: str) -> None:
    assert metering.connect(url=f"{url}/#token=analyst").usage().equals(over_stores(api.world).usage())


def test_the_token_of_the_environment_is_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_TOKEN", "analyst")
    assert metering.connect(url=url).usage().num_rows
    monkeypatch.delenv("METERING_TOKEN")
    with pytest.raises(OperationFailedError, match="There is no token"):
        metering.connect(url=url)


API = "https://api.example.com"


@pytest.mark.parametrize(("place", "words"), [
    ({"url": "http://api.example.com", "token": "t"}, "for all to read"),
    *(({"url": url, "token": "t"}, "is no URL") for url in ("ftp://127.0.0.1", "127.0.0.1:8080", "http://[", "https://")),
    *(({"url": API, "token": token}, "The token is none") for token in ("a\nb", "ü")),
    ({"url": "https://me:s3cret@api.example.com", "token": "t"}, "holds a name or a password"),
    ({"url": API, "token": "t", "stage": "prod"}, "are one way to connect"),
    ({"token": "t"}, "are one way to connect"),
    *((place, "is not") for place in ({"stage": "Prod"}, {"region": "us-east"}, {"endpoint": "127.0.0.1:4566"})),
    ({"endpoint": "http://[::1"}, "is not"),
], ids=str)  # fmt: skip
def test_a_place_that_is_none_or_would_show_the_token_is_refused_and_no_password_shown(
    place: dict[str, str], words: str
) -> None:
    with pytest.raises(OperationFailedError, match=words) as error:
        metering.connect(**place)
    assert "s3cret" not in f"{error.value} {error.value.advice}"


def test_a_redirect_does_not_carry_the_token_away(api: ApiWorld) -> None:
    with served(api) as other, served(api, status=302, headers={"Location": f"{other}/v1/usage"}) as url:
        before = len(api.logged)
        with pytest.raises(OperationFailedError, match="is not the HTTP API"):
            over_http(url).usage()
        assert len(api.logged) == before


@pytest.mark.parametrize(("status", "body", "error", "words"), [
    (200, b"<html>", OperationFailedError, "is not the HTTP API"),
    (404, b"<html>", OperationFailedError, "is not the HTTP API"),
    (404, b'{"type": "t", "detail": "There is no such batch."}', OperationFailedError, "There is no such batch."),
    (422, b'{"type": "t", "detail": "20,001 rows"}', OperationFailedError, "20,001 rows"),
    (429, b'{"type": "t", "detail": "Too many requests."}', UnavailableError, "429: Too many requests."),
    (503, b"", UnavailableError, "503: Service Unavailable"),
])  # fmt: skip
def test_what_an_api_refuses_is_an_error_of_the_tree(
    api: ApiWorld, status: int, body: bytes, error: type[Exception], words: str
) -> None:
    with served(api, status=status, body=body) as url, pytest.raises(error, match=words):
        over_http(url).usage()


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"equal": true}', b'{"equal": true, "batches": [1]}'])
def test_a_trace_by_something_else_is_not_a_line_without_batches(api: ApiWorld, body: bytes) -> None:
    with served(api, status=200, body=body) as url, pytest.raises(OperationFailedError, match="is not the HTTP API"):
        over_http(url).trace(FIRST)


def test_an_api_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="gives no answer"):
        over_http("http://127.0.0.1:9").usage()


def test_a_stage_for_emulators_never_reaches_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    place = Place.named(stage="local", region=None, endpoint=None, environ={})
    with pytest.raises(OperationFailedError, match="runs on an emulator, and none runs here"):
        place.regions()
    place = Place.named(stage="local", region=None, endpoint="https://sqs.us-east-1.amazonaws.com", environ={})
    with pytest.raises(OperationFailedError, match="runs on an emulator, and https://sqs"):
        place.regions()


def test_the_package_imports_nothing_until_it_is_used() -> None:
    code = "import sys, metering; print(sorted({'boto3', 'pyarrow', 'pydantic', 'metering.errors'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert metering.__version__ == package_version()
    assert {"connect", "Producer", "__version__"} <= set(dir(metering))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = metering.nothing


def test_a_program_that_reads_loads_nothing_that_deploys() -> None:
    code = "import sys, metering.client.stores, metering.client.stores; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    deploying = ("adapters.aws.cloudformation", "adapters.aws.deployment", "wiring.fleet", "fleet.rollout", "aws_cdk")
    assert [name for name in done.stdout.split() if name.removeprefix("metering.").startswith(deploying)] == []


def test_a_table_goes_through_parquet_unchanged(api: ApiWorld, tmp_path: Path) -> None:
    table = over_stores(api.world).usage(from_="2026-11", group_by="hour")
    pq.write_table(table, tmp_path / "t.parquet")
    again = pq.read_table(tmp_path / "t.parquet")
    assert again.equals(table)
    assert Connection.about(again) == Connection.about(table)
    assert json.dumps(Connection.about(table))


def test_programs_that_are_type_checked_see_the_types() -> None:
    """PEP 561: without the marker, a type checker treats the whole package as `Any`."""
    assert (Path(metering.__path__[0]) / "py.typed").is_file()


def test_an_error_that_nobody_catches_says_what_to_do(api: ApiWorld, url: str) -> None:
    for connection in (over_stores(api.world), over_http(url)):
        with pytest.raises(OperationFailedError, match="There is no price book nothing") as refused:
            connection.cost(prices="nothing")
        assert "Import AWS's prices" in "".join(traceback.format_exception_only(refused.value))
    with pytest.raises(InvalidParametersError) as senseless:
        over_stores(api.world).usage(group_by="foo")
    assert "The columns are: account_id" in "".join(traceback.format_exception_only(senseless.value))
