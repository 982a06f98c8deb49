"""Counts, inside MiniStack, the requests to its services. Python imports a module named `sitecustomize` at start-up.

The module acts only if `load_tests.wire.counts` set it up: the process must be MiniStack, and the environment must name
the file of the counts. Counting is done at the items, because a write is billed by its item's size before and after,
which clients cannot see. No response changes except for DynamoDB's `ConsumedCapacity`, which the SDK may always get.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# Environment variable with the name of the file that holds the counts (load_tests.wire.counts).
COUNTS_FILE = "LOAD_TEST_COUNTS"
_WRITE_EVERY_S = 0.2
_WRITE_UNIT, _READ_UNIT = 1_024, 4_096
_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"})
_READS = frozenset({"GetItem", "BatchGetItem", "Query", "Scan"})
# Body and handler of a service, as MiniStack's app passes them.
Handler = "Callable[..., Awaitable[tuple[int, dict[str, str], bytes]]]"


class Counts:
    """Counters by name, written to a file regularly, because SIGKILL ends the emulator."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._written_s = 0.0

    def add(self, name: str, number: float = 1) -> None:
        """Add to a sum, and write all sums if a write is due."""
        self._sums[name] += number
        now_s = time.monotonic()
        if now_s - self._written_s >= _WRITE_EVERY_S:
            self._written_s = now_s
            part = self._path.with_suffix(".part")
            part.write_text(json.dumps(self._sums))
            part.replace(self._path)


class _Dynamo:
    """Counts units of both tables by operation and by the kind of the first item in the call."""

    def __init__(self, counts: Counts, module: ModuleType) -> None:
        self._counts = counts
        self._size: Callable[[dict[str, Any]], int] = module._item_size_bytes
        self._handle: Callable[..., Awaitable[tuple[int, dict[str, str], bytes]]] = module.handle_request
        module.handle_request = self.handle  # type: ignore[attr-defined]  # another handler of the same form

    async def handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> tuple[int, dict[str, str], bytes]:
        action = headers.get("x-amz-target", "").partition(".")[2]
        if action not in _WRITES and action not in _READS:
            return await self._handle(method, path, headers, body, query)
        asked = json.loads(body)
        sent = json.dumps({**asked, "ReturnConsumedCapacity": "TOTAL"}).encode() if action in _WRITES else body
        status, reply_headers, reply = await self._handle(method, path, headers, sent, query)
        answer = json.loads(reply) if reply else {}
        name = f"{action} {_kind(asked)}"
        self._counts.add(f"calls {name}")
        if action in _WRITES:
            self._counts.add(f"write {name}", self._written(action, asked, status, answer))
        else:
            self._counts.add(f"read {name}", self._read(action, asked, answer))
        return status, reply_headers, reply

    def _written(self, action: str, asked: dict[str, Any], status: int, answer: dict[str, Any]) -> float:
        if action == "TransactWriteItems":
            return self._transacted(asked["TransactItems"], status, answer)
        if status == 200:  # HTTP
            consumed = answer.get("ConsumedCapacity", [])
            return _consumed(consumed if isinstance(consumed, list) else [consumed])
        # If the condition of a write fails, the write is billed like a successful one.
        refused = str(answer.get("__type", "")).endswith("ConditionalCheckFailedException")
        return _units(self._size(answer.get("Item") or asked.get("Item") or {}), _WRITE_UNIT) if refused else 0

    def _transacted(self, actions: list[dict[str, Any]], status: int, answer: dict[str, Any]) -> float:
        if status == 200:  # HTTP
            # The emulator leaves out checks of items that are not there; DynamoDB bills them.
            missing = sum("attribute_not_exists" in each.get("ConditionCheck", {}).get("ConditionExpression", "")
                          for each in actions)  # fmt: skip
            return 2 * missing + _consumed(answer.get("ConsumedCapacity", []))
        if not str(answer.get("__type", "")).endswith("TransactionCanceledException"):
            return 0
        return sum(2 * _units(self._size(each.get("Put", {}).get("Item", {})), _WRITE_UNIT) for each in actions)

    def _read(self, action: str, asked: dict[str, Any], answer: dict[str, Any]) -> float:
        if action == "BatchGetItem":
            found = [item for items in answer.get("Responses", {}).values() for item in items]
            keys = sum(len(each["Keys"]) for each in asked["RequestItems"].values())
            return keys - len(found) + sum(_units(self._size(item), _READ_UNIT) for item in found)
        items = [answer["Item"]] if "Item" in answer else answer.get("Items", [])
        share = 1 if asked.get("ConsistentRead") else 0.5
        return share * _units(sum(self._size(item) for item in items), _READ_UNIT)


def _consumed(capacity: list[dict[str, Any]]) -> float:
    return float(sum(each["CapacityUnits"] for each in capacity))


def _units(size_bytes: int, unit_bytes: int) -> int:
    return max(1, -(-size_bytes // unit_bytes))


def _kind(asked: dict[str, Any]) -> str:
    """Kind of the first item in a call: the prefix of its partition, such as `C#`."""
    if "TransactItems" in asked:
        (asked,) = asked["TransactItems"][0].values()
    if "RequestItems" in asked:
        first = next(iter(asked["RequestItems"].values()))
        asked = {"Key": first["Keys"][0]} if isinstance(first, dict) else next(iter(first[0].values()))
    item = asked.get("Key") or asked.get("Item") or {}
    if "pk" in item:
        return str(item["pk"]["S"])[:2]
    for condition in asked.get("KeyConditions", {}).values():
        return str(condition["AttributeValueList"][0]["S"])[:2]
    return "*"


def _count_objects(counts: Counts, module: ModuleType) -> None:
    handle = module.handle_request

    async def counted(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any], *rest: Any, **more: Any
    ) -> Any:
        name = "LIST" if method == "GET" and "list-type" in query else method
        counts.add(f"s3 calls {name}")
        if method == "PUT":
            counts.add(f"s3 bytes {_prefix(path)}", len(body))
        return await handle(method, path, headers, body, query, *rest, **more)

    module.handle_request = counted  # type: ignore[attr-defined]  # another handler of the same form


def _prefix(path: str) -> str:
    """First folder of an object's key; the bucket may be in the path."""
    parts = path.strip("/").split("/")
    return f"{parts[1]}/" if len(parts) > 2 else ""  # bucket, folder, name


def _count_messages(counts: Counts, module: ModuleType) -> None:
    handle = module.handle_request

    async def counted(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]) -> Any:
        counts.add(f"sqs {headers.get('x-amz-target', '').partition('.')[2]}")
        return await handle(method, path, headers, body, query)

    module.handle_request = counted  # type: ignore[attr-defined]  # another handler of the same form


class _Finder(MetaPathFinder):
    """Finds the services' modules, and wraps a counter around each module when it is imported."""

    def __init__(self, counts: Counts) -> None:
        self._wraps: dict[str, Callable[[ModuleType], object]] = {
            "ministack.services.dynamodb": lambda module: _Dynamo(counts, module),
            "ministack.services.s3": lambda module: _count_objects(counts, module),
            "ministack.services.sqs": lambda module: _count_messages(counts, module),
        }

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        wrap = self._wraps.get(name)
        spec = None if wrap is None else PathFinder.find_spec(name, path, target)
        if wrap is None or spec is None or spec.loader is None:
            return None
        loader, execute = spec.loader, spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            wrap(module)

        loader.exec_module = exec_module  # type: ignore[method-assign]  # this loader loads one module
        return spec


def _install() -> None:
    path = os.environ.get(COUNTS_FILE)
    if path and any("run_module('ministack'" in text for text in sys.orig_argv):
        sys.meta_path.insert(0, _Finder(Counts(Path(path))))


_install()
