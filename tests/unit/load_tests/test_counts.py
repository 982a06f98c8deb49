"""For the same calls, the emulator's counts equal what DynamoDB bills by the developer guide's rules."""

import asyncio
import json
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from load_tests.wire import as_on_aws
from load_tests.wire.counts import Sums, WireCounts, counting_emulator, total
from load_tests.wire.region import SEED, Load, ManyKinds
from load_tests.wire.sitecustomize import COUNTS_FILE, Counts, _Dynamo
from metering.intake.batches import DecodedBatch
from metering.usage.totals import UsageKind
from tests.support.reading import Desk


class Emulator(ModuleType):
    """A fake of MiniStack's DynamoDB module, whose calls are counted."""

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


# A region with many kinds sends the traffic that is stated, and the items of each account keep their size.

LOAD = Load(scenario="load", accounts=500, most_units=3.2, most_usd=None, kinds=20_000)
# Number of kinds per usage item (docs/decisions/0043-rollup.md).
BUCKET = 64


def kinds_of(many: ManyKinds) -> dict[str, set[UsageKind]]:
    found: dict[str, set[UsageKind]] = defaultdict(set)
    for key in many.all(SEED):
        found[key.account_id].add(key.kind)
    return found


def test_a_region_has_as_many_kinds_as_are_asked_for_and_an_account_one_bucket_of_them() -> None:
    assert LOAD.many is not None
    accounts = kinds_of(LOAD.many)
    assert len(accounts) == 500
    assert 20_000 <= len(set().union(*accounts.values())) < 20_100
    assert max(map(len, accounts.values())) <= BUCKET
    few = kinds_of(ManyKinds(kinds=20_000, accounts=10_000))
    assert max(map(len, few.values())) < min(map(len, accounts.values()))


def test_what_the_service_counts_is_what_was_sent_and_was_claimed() -> None:
    desk = Desk()
    now_s = desk.sent_at_ms // 1_000
    plain = Load(scenario="load", accounts=500, most_units=3.2, most_usd=None).shipments(30, now_s=now_s)
    assert LOAD.many is not None
    claimed = kinds_of(LOAD.many)
    for before, shipment in zip(plain, LOAD.shipments(30, now_s=now_s), strict=True):
        batch = desk.decoded(shipment.body)
        assert isinstance(batch, DecodedBatch)
        assert batch.refused == ()
        assert batch.usage == shipment.sent.totals
        assert len(batch.usage) == len(before.sent.totals)
        assert all(key.kind in claimed[key.account_id] for key in batch.usage)


def test_with_many_kinds_the_load_of_16_keys_is_measured_beside_itself() -> None:
    plain, many = as_on_aws._of_kinds(20_000, 500)
    assert plain in as_on_aws.LOADS
    assert (plain.kinds, many.kinds) == (0, 20_000)
    assert (many.scenario, many.accounts, many.most_units) == (plain.scenario, plain.accounts, plain.most_units)
    assert plain.many is None


def test_with_fewer_accounts_each_has_more_of_the_kinds() -> None:
    _, many = as_on_aws._of_kinds(20_000, 50)
    assert many.many is not None
    accounts = kinds_of(many.many)
    assert len(accounts) == 50
    assert {len(kinds) for kinds in accounts.values()} == {20 * 20 + 2}
    assert len(set().union(*accounts.values())) == 20_002
