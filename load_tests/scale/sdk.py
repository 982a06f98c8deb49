"""CPU time that the SDK takes for calls and items: measured with the production adapters and no network.

A job over a computed region makes no call to AWS, so this is added to its own CPU time. Socket time is not included.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from metering.adapters.aws.item_attributes import to_attributes
from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.session import Access, sdk_config
from metering.stores.writes import Item, Put, Table, Update, key_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence

_REPEATS = 60
_KEYS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkCosts:
    """Microseconds per call, and per item of its response."""

    call_us: Mapping[str, float]
    item_us: Mapping[str, float]

    def seconds(self, calls: Counter[str], items: Counter[str]) -> float:
        """CPU time of some calls that return this many items in total."""
        of_calls = sum(self.call_us.get(name, 0.0) * count for name, count in calls.items())
        of_items = sum(self.item_us.get(name, 0.0) * count for name, count in items.items())
        return (of_calls + of_items) / 1e6


def measure(items: Sequence[Item], update: Update, updated: Item) -> SdkCosts:
    """Measure with items like the job's, and with an update that returns the item."""
    wire = [to_attributes(item) for item in items]
    few, many = wire[:1], (wire * (200 // len(wire) + 1))[:200]
    one = items[0]
    key = key_of(one)
    calls: dict[str, float] = {}
    per_item: dict[str, float] = {}

    def store(answer: object) -> DynamoDbItemStore:
        client = _client("dynamodb", json.dumps(answer).encode())
        return DynamoDbItemStore(client, {table: str(table) for table in Table})

    reads: dict[str, Callable[[DynamoDbItemStore], object]] = {
        "query": lambda made: list(made.query(Table.LEDGER, "pk")),
        "scan": lambda made: list(made.scan(Table.LEDGER)),
    }
    for name, read in reads.items():
        small = _us(partial(read, store({"Items": few, "Count": 1})))
        large = _us(partial(read, store({"Items": many, "Count": 200})))
        per_item[name] = max(0.0, (large - small) / (len(many) - len(few)))
        calls[name] = max(0.0, small - per_item[name])
    keys = [key_of({**one, "sk": f"{number}"}) for number in range(100)]
    some = {"Responses": {"ledger": (wire * 100)[:100]}, "UnprocessedKeys": {}}
    batch = store(some)
    calls["get_many"] = 0.0
    per_item["get_many"] = _us(lambda: batch.get_many(Table.LEDGER, keys)) / 100
    got = store({"Item": few[0]})
    calls["get"] = _us(lambda: got.get(Table.LEDGER, key))
    put = store({})
    calls["put"] = calls["delete"] = _us(lambda: put.put(Put(table=Table.LEDGER, item=one)))
    changed = store({"Attributes": to_attributes(updated)})
    calls["update"] = _us(lambda: changed.update(update))
    puts = [Put(table=Table.LEDGER, item={**one, "sk": f"{number}"}) for number in range(10)]
    per_item["transact"] = _us(lambda: put.transact(puts)) / len(puts)
    calls |= _of_s3(per_item)
    return SdkCosts(call_us=calls, item_us=per_item)


def _of_s3(per_item: dict[str, float]) -> dict[str, float]:
    entry = (
        "<Contents><Key>staging/2026-11-24/0123456789abcdef0123456789abcdef.parquet</Key>"
        "<LastModified>2026-11-24T13:00:00.000Z</LastModified><ETag>&quot;0&quot;</ETag><Size>1</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )
    page = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entry * _KEYS}</ListBucketResult>".encode()
    listing = S3ObjectStore(_client("s3", page), "bucket")
    per_item["s3.list"] = _us(lambda: list(listing.list("staging/")), repeats=5) / _KEYS
    body = S3ObjectStore(_client("s3", b"x" * 1_000), "bucket")
    get = _us(lambda: body.get("key"))
    empty = S3ObjectStore(_client("s3", b""), "bucket")
    put = _us(lambda: empty.put("key", b"x", if_absent=True))
    return {"s3.get": get, "s3.head": get, "s3.put": put, "s3.delete": put, "s3.list": 0.0}


def _us(work: Callable[[], object], *, repeats: int = _REPEATS) -> float:
    """Microseconds of CPU time: the minimum of several rounds, because other load can only slow one down."""
    work()
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(max(1, repeats // 5)):
            work()
        best = min(best, (time.process_time() - began) / max(1, repeats // 5))
    return best * 1e6


def _client(service: str, body: bytes) -> Any:
    client = boto3.client(  # type: ignore[call-overload]  # it knows services by their literal names
        service,
        aws_access_key_id="none",
        aws_secret_access_key="none",  # noqa: S106 - it reaches nothing
        # Made like the service's own clients, because their request validation is part of the cost.
        config=sdk_config(Access(region="us-east-1"), service),
    )

    def answer(**_others: object) -> AWSResponse:
        headers = HTTPHeaders()
        headers["content-length"] = str(len(body))
        headers["etag"] = '"e"'
        headers["last-modified"] = "Tue, 24 Nov 2026 13:00:00 GMT"
        return AWSResponse("https://nowhere", 200, headers, _Raw(body))

    client.meta.events.register(f"before-send.{service}", answer)
    return client


class _Raw:
    """An HTTP response without a network."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_others: object) -> list[bytes]:
        return [self._body]

    def read(self, _size: int | None = None) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        return
