"""Ports that record the IAM permission of each call."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from metering.fleet.stage import TUNABLES
from metering.stores.items import ItemStore
from metering.stores.objects import ROLLUP_PLANS_PREFIX, ObjectInfo, ObjectStore
from metering.stores.writes import Action, Check, Delete, Item, Key, Put, Table, Update

# The usage table's name contains the generation.
USAGE_TABLE = f"Usage{TUNABLES['usage_generation']}Table"
_TABLES = {Table.LEDGER: "LedgerTable", Table.USAGE: USAGE_TABLE}
_ACTIONS: dict[type[Action], str] = {
    Put: "dynamodb:PutItem",
    Update: "dynamodb:UpdateItem",
    Delete: "dynamodb:DeleteItem",
    Check: "dynamodb:ConditionCheckItem",
}


class Call(NamedTuple):
    """A permission that was needed.

    Attributes:
        resource: Part of the logical id of the table or bucket.
        place: Partition of a table; prefix of the bucket; empty for a scan.
    """

    action: str
    resource: str
    place: str


class HeardItems:
    """An `ItemStore` over another one."""

    def __init__(self, store: ItemStore, calls: set[Call]) -> None:
        self._store = store
        self._calls = calls

    def get(self, table: Table, key: Key) -> Item | None:
        self._heard("dynamodb:GetItem", table, key.pk)
        return self._store.get(table, key)

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        for key in keys:
            self._heard("dynamodb:BatchGetItem", table, key.pk)
        return self._store.get_many(table, keys)

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        self._heard("dynamodb:Query", table, pk)
        return self._store.query(table, pk, sk_from=sk_from, sk_to=sk_to, descending=descending)

    def scan(self, table: Table, *, part: int = 0, parts: int = 1) -> Iterator[Item]:
        self._heard("dynamodb:Scan", table, "")
        return self._store.scan(table, part=part, parts=parts)

    def put(self, action: Put) -> None:
        self._asked(action)
        self._store.put(action)

    def update(self, action: Update) -> Item:
        self._asked(action)
        return self._store.update(action)

    def delete(self, action: Delete) -> None:
        self._asked(action)
        self._store.delete(action)

    def transact(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._asked(action)
        self._store.transact(actions)

    def _asked(self, action: Action) -> None:
        self._heard(_ACTIONS[type(action)], action.table, action.key.pk)

    def _heard(self, action: str, table: Table, pk: str) -> None:
        self._calls.add(Call(action, _TABLES[table], pk))


class HeardObjects:
    """An `ObjectStore` over another one."""

    def __init__(self, store: ObjectStore, calls: set[Call]) -> None:
        self._store = store
        self._calls = calls

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        self._heard("s3:PutObject", key)
        return self._store.put(key, body, if_absent=if_absent)

    def upload(self, key: str, body: bytes) -> str:
        self._heard("s3:PutObject", key)
        return self._store.upload(key, body)

    def get(self, key: str) -> bytes:
        self._heard("s3:GetObject", key)
        return self._store.get(key)

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        self._heard("s3:GetObject", key)
        if version_id:
            self._heard("s3:GetObjectVersion", key)
        return self._store.open(key, if_match=if_match, version_id=version_id)

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        self._heard("s3:GetObject", key)
        return self._store.open_end(key, last_bytes=last_bytes)

    def head(self, key: str) -> ObjectInfo | None:
        self._heard("s3:GetObject", key)
        return self._store.head(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        self._heard("s3:ListBucket", prefix)
        return self._store.list(prefix, after=after)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._heard("s3:DeleteObject", key)
        self._store.delete(keys)

    def _heard(self, action: str, key: str) -> None:
        place = f"{key.partition('/')[0]}/"
        if key.startswith(ROLLUP_PLANS_PREFIX) and action != "s3:ListBucket":
            place = ROLLUP_PLANS_PREFIX
        self._calls.add(Call(action, "DataBucket", place))
