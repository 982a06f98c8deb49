"""What the emulator counts is what DynamoDB bills: the same calls, over the rules of the developer guide."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from load_tests.wire.counts import Sums, WireCounts, counting_emulator, total
from load_tests.wire.sitecustomize import COUNTS_FILE, Counts, _Dynamo

if TYPE_CHECKING:
    from pathlib import Path


class Emulator(ModuleType):
    """As much of MiniStack's module as is counted."""

    def __init__(self, answer: dict[str, Any], status: int = 200) -> None:
        super().__init__("dynamodb")
        self.asked: dict[str, Any] = {}

        async def handle_request(
            method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
        ) -> tuple[int, dict[str, str], bytes]:
            del method, path, headers, query
            self.asked = json.loads(body)
            return status, {}, json.dumps(answer).encode()

        self.handle_request = handle_request

    @staticmethod
    def _item_size_bytes(item: dict[str, dict[str, str]]) -> int:
        return sum(len(name) + len(next(iter(value.values()))) for name, value in item.items())


def counted(path: Path, emulator: Emulator, operation: str, asked: dict[str, Any]) -> dict[str, float]:
    """The counts of one call."""
    _Dynamo(Counts(path), emulator)
    headers = {"x-amz-target": f"DynamoDB_20120810.{operation}"}
    asyncio.run(emulator.handle_request("POST", "/", headers, json.dumps(asked).encode(), {}))
    found: dict[str, float] = json.loads(path.read_text())
    return found


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Every sum is written at once.
    monkeypatch.setattr("load_tests.wire.sitecustomize._WRITE_EVERY_S", 0.0)
    return tmp_path / "counts.json"


def item(pk: str, size: int = 0) -> dict[str, dict[str, str]]:
    return {"pk": {"S": pk}, "x": {"S": "x" * size}}


def test_a_write_costs_what_the_service_says_and_is_named_by_its_item(path: Path) -> None:
    emulator = Emulator({"ConsumedCapacity": {"CapacityUnits": 3.0}})
    found = counted(path, emulator, "PutItem", {"Item": item("C#1")})
    assert found == {"calls PutItem C#": 1, "write PutItem C#": 3.0}
    assert emulator.asked["ReturnConsumedCapacity"] == "TOTAL"


def test_a_refused_write_costs_as_much_as_the_item_that_is_there(path: Path) -> None:
    answer = {"__type": "com.amazonaws#ConditionalCheckFailedException", "Item": item("B#1", 2_000)}
    assert counted(path, Emulator(answer, 400), "PutItem", {"Item": item("B#1")})["write PutItem B#"] == 2


def test_a_call_that_was_not_carried_out_costs_nothing(path: Path) -> None:
    found = counted(path, Emulator({"__type": "x#ThrottlingException"}, 400), "UpdateItem", {"Key": item("A#1")})
    assert found == {"calls UpdateItem A#": 1, "write UpdateItem A#": 0}


def test_checks_of_items_that_are_not_there_are_billed_in_a_transaction(path: Path) -> None:
    check = {"ConditionCheck": {"Key": item("T#1"), "ConditionExpression": "attribute_not_exists(#0)"}}
    asked = {"TransactItems": [{"Put": {"Item": item("C#1")}}, check, check]}
    answer = {"ConsumedCapacity": [{"CapacityUnits": 2.0}, {"CapacityUnits": 4.0}]}
    assert counted(path, Emulator(answer), "TransactWriteItems", asked)["write TransactWriteItems C#"] == 6 + 2 * 2


def test_a_canceled_transaction_costs_all_of_its_actions(path: Path) -> None:
    asked = {"TransactItems": [{"Put": {"Item": item("C#1", 1_500)}}, {"Update": {"Key": item("B#1")}}]}
    answer = {"__type": "x#TransactionCanceledException"}
    found = counted(path, Emulator(answer, 400), "TransactWriteItems", asked)
    assert found["write TransactWriteItems C#"] == 2 * 2 + 2


@pytest.mark.parametrize(("strong", "units"), [(True, 2), (False, 1)])
def test_a_query_costs_what_it_reads_and_half_of_it_if_it_may_be_old(path: Path, strong: bool, units: float) -> None:
    asked = {
        "ConsistentRead": strong,
        "KeyConditions": {"pk": {"AttributeValueList": [{"S": "U#0"}], "ComparisonOperator": "EQ"}},
    }
    answer = {"Items": [item("U#0", 3_000), item("U#0", 3_000)]}
    assert counted(path, Emulator(answer), "Query", asked)["read Query U#"] == units


def test_keys_that_are_not_there_are_read_too(path: Path) -> None:
    asked = {"RequestItems": {"ledger": {"Keys": [item("C#1"), item("C#2"), item("C#3")]}}}
    answer = {"Responses": {"ledger": [item("C#1", 5_000)]}}
    assert counted(path, Emulator(answer), "BatchGetItem", asked)["read BatchGetItem C#"] == 2 + 2


def test_a_call_of_another_kind_is_handed_on_as_it_came(path: Path) -> None:
    emulator = Emulator({})
    _Dynamo(Counts(path), emulator)
    headers = {"x-amz-target": "DynamoDB_20120810.ListTables"}
    asyncio.run(emulator.handle_request("POST", "/", headers, b'{"Limit": 1}', {}))
    assert emulator.asked == {"Limit": 1}
    assert not path.exists()


def test_sums_are_subtracted_name_by_name() -> None:
    later, before = Sums({"write a": 5.0, "write b": 1.0, "read": 2.0}), Sums({"write a": 3.0, "read": 2.0})
    assert later - before == {"write a": 2.0, "write b": 1.0}
    assert total(later - before, "write ") == 3.0
    assert before + (later - before) == later


def test_only_an_emulator_that_is_started_inside_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COUNTS_FILE, raising=False)
    monkeypatch.setenv("PYTHONPATH", "before")
    with counting_emulator(tmp_path / "counts.json") as counts:
        assert isinstance(counts, WireCounts)
        environ = import_module("os").environ
        assert environ[COUNTS_FILE] == str(tmp_path / "counts.json")
        assert environ["PYTHONPATH"].endswith("before")
        # This process is none.
        assert not [finder for finder in sys.meta_path if type(finder).__module__ == "sitecustomize"]
    assert COUNTS_FILE not in environ
    assert environ["PYTHONPATH"] == "before"


def test_counts_are_read_after_a_call_that_makes_the_emulator_write_them(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    calls: list[str] = []

    def list_buckets() -> None:
        calls.append("list")
        path.write_text('{"write PutItem C#": 4.0}')

    clients: Any = SimpleNamespace(s3=SimpleNamespace(list_buckets=list_buckets))
    assert WireCounts(path).read(clients) == {"write PutItem C#": 4.0}
    assert calls == ["list"]
