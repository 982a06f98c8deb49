"""LocalStack's DynamoDB on moto's in-memory tables: `PROVIDER_OVERRIDE_DYNAMODB=moto`. It runs inside LocalStack.

LocalStack's own provider downloads a Java program; moto alone loses acknowledged transactions that are concurrent. This
module adds one lock around all calls, rollback of transactions, ClientRequestToken and table ids.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
import time
import uuid
from typing import Any

from localstack.aws.api import CommonServiceException, handler
from localstack.aws.api.dynamodb import DynamodbApi
from localstack.aws.forwarder import ForwardingFallbackDispatcher
from localstack.services.moto import call_moto
from localstack.services.plugins import Service, ServiceLifecycleHook, aws_provider
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table

_LOCK = threading.RLock()
# DynamoDB remembers an idempotency token for this long (API reference, TransactWriteItems).
_TOKEN_S = 600


def locked_moto(context: Any, _request: Any = None) -> Any:
    """Serialises all calls, because moto's backends are not thread-safe."""
    with _LOCK:
        return call_moto(context)


class Transactions(DynamodbApi, ServiceLifecycleHook):  # type: ignore[misc]  # LocalStack is in an environment of its own
    """Adds ClientRequestToken to transactions; other calls go to moto unchanged. Mutable."""

    def __init__(self) -> None:
        # (Account, region, token) -> (time, digest of the request, answer), oldest first.
        self._tokens: dict[tuple[str, str, str], tuple[float, bytes, Any]] = {}

    @handler("TransactWriteItems", expand=False)  # type: ignore[untyped-decorator]  # as above
    def transact_write_items(self, context: Any, request: Any) -> Any:
        token = request.get("ClientRequestToken")
        if not token:
            return locked_moto(context)
        key, now_s = (context.account_id, context.region, token), time.monotonic()
        digest = hashlib.sha256(json.dumps(request["TransactItems"], sort_keys=True, default=repr).encode()).digest()
        with _LOCK:
            while self._tokens and now_s - next(iter(self._tokens.values()))[0] > _TOKEN_S:
                self._tokens.pop(next(iter(self._tokens)))
            if (seen := self._tokens.get(key)) is None:
                seen = self._tokens[key] = (now_s, digest, call_moto(context))
        if seen[1] != digest:
            raise CommonServiceException(
                "IdempotentParameterMismatchException",
                "The request uses the same client token as a previous, but non-identical request.",
            )
        return seen[2]


@aws_provider(api="dynamodb", name="moto")  # type: ignore[untyped-decorator]  # as above
def dynamodb_moto() -> Any:
    """Entry point by which LocalStack finds the provider."""
    _patch_moto()
    return Service.for_provider(
        Transactions(), dispatch_table_factory=lambda provider: ForwardingFallbackDispatcher(provider, locked_moto)
    )


class _Transaction:
    """Whether moto is inside a transaction. Mutable, under the lock."""

    at_work = False


_TRANSACT, _DESCRIBE = DynamoDBBackend.transact_write_items, Table.describe


def _described(table: Any, base_key: str = "TableDescription") -> Any:
    """A table with the id that CloudFormation's GlobalTable requires."""
    description: Any = _DESCRIBE(table, base_key)
    description[base_key]["TableId"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{table.table_arn} {table.created_at}"))
    return description


def _copied(table: Any, memo: dict[int, Any]) -> Any:
    """A copy of a table; in a transaction the table itself, because moto copies every table before a transaction."""
    if _Transaction.at_work:
        return table
    clone = Table.__new__(Table)
    memo[id(table)] = clone
    clone.__dict__.update(copy.deepcopy(table.__dict__, memo))
    return clone


def _transacted(backend: Any, items: list[dict[str, Any]]) -> Any:
    """Run moto's transaction; if it fails, restore the touched items."""
    places = filter(None, (_place(backend, next(iter(entry.values()))) for entry in items))
    before = [(where, key, copy.deepcopy(where.get(key))) for where, key in places]
    _Transaction.at_work = True
    try:
        return _TRANSACT(backend, items)
    except BaseException:
        for where, key, old in before:
            if old is None:
                where.pop(key, None)
            else:
                where[key] = old
        raise
    finally:
        _Transaction.at_work = False


def _patch_moto() -> None:
    for owner, name, function in (
        (Table, "describe", _described),
        (Table, "__deepcopy__", _copied),
        (DynamoDBBackend, "transact_write_items", _transacted),
    ):
        setattr(owner, name, function)


def _place(backend: Any, operation: dict[str, Any]) -> tuple[dict[Any, Any], Any] | None:
    """The dictionary and the key under which moto stores the item of an operation."""
    table = backend.tables.get(operation.get("TableName", "").rsplit("/", 1)[-1])
    named = operation.get("Key") or operation.get("Item") or {}
    if not table or table.hash_key_attr not in named:
        return None
    hash_key = DynamoType(named[table.hash_key_attr])
    if not table.range_key_attr:
        return table.items, hash_key
    if table.range_key_attr not in named:
        return None
    return table.items[hash_key], DynamoType(named[table.range_key_attr])
