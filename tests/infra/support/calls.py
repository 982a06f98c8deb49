"""Ports that record the IAM permission of each call."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from metering.fleet.stage import TUNABLES
from metering.stores.objects import ROLLUP_PLANS_PREFIX, ObjectStore
from metering.stores.writes import Action, Check, Delete, ItemStore, Key, Put, Table, Update

# The usage table's name contains its generation.
USAGE_TABLE = f"Usage{TUNABLES['usage_generation']}Table"
_TABLES = {Table.LEDGER: "LedgerTable", Table.USAGE: USAGE_TABLE}
_READS = {"get": "GetItem", "get_many": "BatchGetItem", "query": "Query", "scan": "Scan"}
_WRITES: dict[type[Action], str] = {
    Put: "PutItem", Update: "UpdateItem", Delete: "DeleteItem", Check: "ConditionCheckItem"
}  # fmt: skip
_OBJECTS = {
    "put": "PutObject", "upload": "PutObject", "get": "GetObject", "open": "GetObject", "open_end": "GetObject",
    "head": "GetObject", "list": "ListBucket", "delete": "DeleteObject",
}  # fmt: skip


class Call(NamedTuple):
    """A required permission.

    Attributes:
        resource: Substring of the table's or bucket's logical id.
        place: Partition of a table; prefix of the bucket; empty for a scan.
    """

    action: str
    resource: str
    place: str


class _Heard:
    """A store that wraps another store and records the name and arguments of each call."""

    def __init__(self, store: object, note: Callable[..., None]) -> None:
        self._store, self._note = store, note

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def heard(*arguments: Any, **options: Any) -> Any:
            self._note(name, *arguments, **options)
            return getattr(self._store, name)(*arguments, **options)

        return heard


def heard_items(store: ItemStore, calls: set[Call]) -> ItemStore:
    """An `ItemStore` that wraps another and records the permissions that its calls need."""

    def note(name: str, first: Any, key: Any = "", **_: object) -> None:
        if name in _READS:
            keys = key if name == "get_many" else [key]
            places = [each.pk if isinstance(each, Key) else each for each in keys]
            calls.update(Call(f"dynamodb:{_READS[name]}", _TABLES[first], place) for place in places)
            return
        for action in first if name == "transact" else [first]:
            calls.add(Call(f"dynamodb:{_WRITES[type(action)]}", _TABLES[action.table], action.key.pk))

    return cast("ItemStore", _Heard(store, note))


def heard_objects(store: ObjectStore, calls: set[Call]) -> ObjectStore:
    """An `ObjectStore` that wraps another and records the permissions that its calls need."""

    def note(name: str, first: Any, *_: object, version_id: str | None = None, **_options: object) -> None:
        for key in first if name == "delete" else [first]:
            place = f"{key.partition('/')[0]}/"
            if key.startswith(ROLLUP_PLANS_PREFIX) and name != "list":
                place = ROLLUP_PLANS_PREFIX
            calls.add(Call(f"s3:{_OBJECTS[name]}", "DataBucket", place))
            if version_id:
                calls.add(Call("s3:GetObjectVersion", "DataBucket", place))

    return cast("ObjectStore", _Heard(store, note))
