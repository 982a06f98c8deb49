"""`ItemStore` over DynamoDB.

Idempotency: the SDK gives each transaction its own ClientRequestToken and repeats the token in its retries, so SDK
retries are safe. Two calls of `transact` never share a token. A token derived from the request body would sometimes
save a write. But for ten minutes DynamoDB would not apply an identical second transaction, yet report success (restore
a usage item, see it lost again, restore it again). The conditions are enough.

The SDK also retries writes outside transactions. If the first attempt's response is lost, the retry finds that
attempt's effect, so a `ConditionFailedError` may hide a success: callers compare the item found.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Literal, TypedDict, cast

import msgspec
from botocore.exceptions import ClientError
from msgspec import UNSET, Raw, UnsetType

from metering import errors
from metering.adapters.aws.errors import error_code, translated
from metering.stores.writes import (
    MAX_TRANSACTION_ACTIONS,
    Absent,
    Action,
    AllOf,
    AnyOf,
    Check,
    Condition,
    Delete,
    Equals,
    Exists,
    Foreign,
    Item,
    Key,
    LessThan,
    Put,
    Table,
    Update,
    Value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        ConditionTypeDef,
        QueryInputTypeDef,
        QueryOutputTypeDef,
        ScanInputTypeDef,
        ScanOutputTypeDef,
        TransactWriteItemTypeDef,
        UpdateItemOutputTypeDef,
    )

# A DynamoDB number holds 38 significant digits (DynamoDB API reference, naming rules and data types).
_MAX_MAGNITUDE = 10**38


def to_attributes(item: Mapping[str, Value]) -> dict[str, AttributeValueTypeDef]:
    """Convert an item."""
    return {name: to_attribute(value) for name, value in item.items()}


def key_attributes(key: Key) -> dict[str, AttributeValueTypeDef]:
    """Convert a key."""
    return {"pk": {"S": key.pk}, "sk": {"S": key.sk}}


def to_attribute(value: Value) -> AttributeValueTypeDef:
    """Convert one value.

    Raises:
        TypeError: The value has a type that is not a `Value`, such as float.
        ValueError: The value is a number of more than 38 digits, or an empty set.
    """
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": _number(value)}
    return _collection(value)


def _collection(value: frozenset[str] | list[Value] | dict[str, Value] | Foreign) -> AttributeValueTypeDef:
    if isinstance(value, frozenset):
        if not value:
            raise ValueError("DynamoDB has no empty sets")
        return {"SS": sorted(value)}
    if isinstance(value, list):
        return {"L": [to_attribute(element) for element in value]}
    if isinstance(value, dict):
        return {"M": to_attributes(value)}
    if isinstance(value, Foreign):
        return cast("AttributeValueTypeDef", {value.kind: value.value})
    raise TypeError(f"no attribute holds a {type(value).__name__}")


def _number(value: int) -> str:
    if not -_MAX_MAGNITUDE < value < _MAX_MAGNITUDE:
        raise ValueError("a DynamoDB number holds 38 digits")
    return str(value)


def from_attributes(attributes: Mapping[str, AttributeValueTypeDef]) -> dict[str, Value]:
    """Convert attributes back: the inverse of `to_attributes`."""
    values: dict[str, Value] = {}
    for name, attribute in attributes.items():
        # Strings and plain numbers are converted without a function call, because a report reads very many of them.
        if "S" in attribute:
            values[name] = attribute["S"]
        elif "N" in attribute and attribute["N"].isdecimal():
            values[name] = int(attribute["N"])
        else:
            values[name] = from_attribute(attribute)
    return values


def from_attribute(attribute: AttributeValueTypeDef) -> Value:
    """Convert an attribute back: the inverse of `to_attribute`. A type that is never written becomes `Foreign`."""
    [(kind, value)] = attribute.items()
    if kind == "S" or kind == "BOOL":
        return cast("str | bool", value)
    if kind == "N":
        return whole_number(cast("str", value))
    if kind == "M":
        return from_attributes(cast("Mapping[str, AttributeValueTypeDef]", value))
    if kind == "L":
        return [from_attribute(element) for element in cast("list[AttributeValueTypeDef]", value)]
    if kind == "SS":
        return frozenset(cast("list[str]", value))
    return Foreign(kind, value)


def whole_number(text: str) -> int | Foreign:
    """Exact value of a number's text; `Foreign` if the number is not an integer."""
    try:
        return int(text)
    except ValueError:
        # The number is written in another notation, such as 1E+2. Decimal(text) is exact in any decimal context.
        number = Decimal(text)
    if number != number.to_integral_value():
        return Foreign("N", text)
    return int(number)


def item_or_none(attributes: Mapping[str, AttributeValueTypeDef] | None) -> Item | None:
    """Convert an item; None if the response has no item (DynamoDB omits it, an emulator may send an empty item)."""
    return from_attributes(attributes) if attributes else None


# Key under which a decoded reply of `query`, `scan` or `update_item` holds its items as plain values. The reply then
# has no `Items` or `Attributes`, so that no caller mistakes these plain values for DynamoDB's typed values.
ITEM_VALUES = "MeteringItemValues"
_OK = 200


class _Attribute(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An attribute of a type that this project writes. Numbers remain strings, because msgspec could round them."""

    S: str | UnsetType = UNSET
    N: str | UnsetType = UNSET
    BOOL: bool | UnsetType = UNSET
    SS: list[str] | UnsetType = UNSET
    L: list[_Attribute] | UnsetType = UNSET
    M: dict[str, _Attribute] | UnsetType = UNSET


class _Rest(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Members of a DynamoDB response that are not items."""

    Count: Raw | UnsetType = UNSET
    ScannedCount: Raw | UnsetType = UNSET
    LastEvaluatedKey: Raw | UnsetType = UNSET
    ConsumedCapacity: Raw | UnsetType = UNSET


class _Reply(_Rest, forbid_unknown_fields=True):
    Items: list[dict[str, _Attribute]] = []


class _Updated(msgspec.Struct, forbid_unknown_fields=True):
    """The response to an update: the item after the update."""

    Attributes: dict[str, _Attribute]
    ConsumedCapacity: Raw | UnsetType = UNSET


class _UpdatedRest(msgspec.Struct, omit_defaults=True):
    ConsumedCapacity: Raw | UnsetType = UNSET


class _Response(TypedDict):
    body: bytes
    status_code: int


_REPLY = msgspec.json.Decoder(_Reply)
_UPDATED = msgspec.json.Decoder(_Updated)


def decode_items_fast(client: DynamoDBClient) -> None:
    """Make a client use msgspec to decode the items of queries, scans and updates. A second call has no effect."""
    takers = {"Query": _take_items, "Scan": _take_items, "UpdateItem": _take_updated}
    for operation, take in takers.items():
        client.meta.events.register(f"before-parse.dynamodb.{operation}", take, unique_id=f"metering-items-{operation}")


def _take_items(response_dict: _Response, customized_response_dict: dict[str, object], **_others: object) -> None:
    if response_dict["status_code"] != _OK:
        return
    try:
        reply = _REPLY.decode(response_dict["body"])
    except msgspec.DecodeError:
        # botocore decodes a reply that is truncated, is not JSON, or has a field that this project never uses.
        return
    customized_response_dict[ITEM_VALUES] = [_values(item) for item in reply.Items]
    rest = {name: getattr(reply, name) for name in _Rest.__struct_fields__}
    response_dict["body"] = msgspec.json.encode(_Rest(**rest))


def _take_updated(response_dict: _Response, customized_response_dict: dict[str, object], **_others: object) -> None:
    if response_dict["status_code"] != _OK:
        return
    try:
        reply = _UPDATED.decode(response_dict["body"])
    except msgspec.DecodeError:
        # As above, botocore decodes the reply, as it does a reply without attributes.
        return
    customized_response_dict[ITEM_VALUES] = [_values(reply.Attributes)]
    response_dict["body"] = msgspec.json.encode(_UpdatedRest(ConsumedCapacity=reply.ConsumedCapacity))


def _values(attributes: Mapping[str, _Attribute]) -> Item:
    values: dict[str, Value] = {}
    for name, attribute in attributes.items():
        number = attribute.N
        # The most frequent type is tested first.
        if number is not UNSET:
            try:
                values[name] = int(number)
            except ValueError:
                values[name] = whole_number(number)
        else:
            values[name] = attribute.S if attribute.S is not UNSET else _value(attribute)
    return values


def _value(attribute: _Attribute) -> Value:
    if attribute.M is not UNSET:
        return dict(_values(attribute.M))
    if attribute.L is not UNSET:
        return [_values({"": element})[""] for element in attribute.L]
    if attribute.SS is not UNSET:
        return frozenset(attribute.SS)
    return attribute.BOOL is True


class Expressions:
    """Placeholders shared by the expressions of one request."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.values: dict[str, AttributeValueTypeDef] = {}
        self._name_of: dict[str, str] = {}

    def condition(self, condition: Condition) -> str:
        """Write `condition` as a ConditionExpression.

        Raises:
            ValueError: An `AnyOf` or `AllOf` is empty.
        """
        match condition:
            case Exists():
                return f"attribute_exists({self._name(condition.attribute)})"
            case Absent():
                return f"attribute_not_exists({self._name(condition.attribute)})"
            case Equals():
                return f"{self._name(condition.attribute)} = {self._value(condition.value)}"
            case LessThan():
                return f"{self._name(condition.attribute)} < {self._value(condition.value)}"
            case AnyOf():
                return self._joined(" OR ", condition.conditions)
            case AllOf():
                return self._joined(" AND ", condition.conditions)

    def update(self, update: Update) -> str:
        """Write the changes of `update` as an UpdateExpression.

        Raises:
            ValueError: The update changes nothing.
        """
        clauses = [
            self._clause("SET", " = ", update.set),
            self._clause("ADD", " ", update.add),
            self._clause("DELETE", " ", update.discard),
            "REMOVE " + ", ".join(self._name(name) for name in update.remove) if update.remove else "",
        ]
        expression = " ".join(clause for clause in clauses if clause)
        if not expression:
            raise ValueError(f"an update of {update.key} that changes nothing")
        return expression

    def _clause(self, word: str, between: str, values: Mapping[str, Value]) -> str:
        if not values:
            return ""
        return f"{word} " + ", ".join(f"{self._name(name)}{between}{self._value(v)}" for name, v in values.items())

    def _joined(self, between: str, conditions: tuple[Condition, ...]) -> str:
        if not conditions:
            raise ValueError("a condition of no conditions")
        return "(" + between.join(self.condition(condition) for condition in conditions) + ")"

    def _name(self, attribute: str) -> str:
        placeholder = self._name_of.get(attribute)
        if placeholder is None:
            placeholder = self._name_of[attribute] = f"#n{len(self._name_of)}"
            self.names[placeholder] = attribute
        return placeholder

    def _value(self, value: Value) -> str:
        placeholder = f":v{len(self.values)}"
        self.values[placeholder] = to_attribute(value)
        return placeholder


# BatchGetItem takes at most 100 keys (DynamoDB API reference).
_MAX_BATCH_KEYS = 100
# Maximum number of BatchGetItem rounds for unprocessed keys. The wait between rounds starts at 20 ms and doubles.
_BATCH_ROUNDS = 7
_FIRST_WAIT_S = 0.02
_NOT_VALID = frozenset({"ValidationException", "TransactionCanceledException"})
# Messages: "Item size has exceeded the maximum allowed size", "Item size to update has …" and, for a transaction, "the
# aggregate size of the items in the transaction exceeds 4 MB" (DynamoDB API reference).
_TOO_LARGE = re.compile("(item|aggregate) size .*exceed", re.IGNORECASE)
# ADD to a non-number fails with "An operand in the update expression has an incorrect data type".
_NO_NUMBER = re.compile("incorrect data type", re.IGNORECASE)
# Page size of a descending query.
_NEWEST = 20
_SK_END = "\U0010ffff"


class _Conditional(TypedDict, total=False):
    ConditionExpression: str
    ExpressionAttributeNames: dict[str, str]
    ExpressionAttributeValues: dict[str, AttributeValueTypeDef]


class _Told(TypedDict):
    TableName: str
    ReturnValuesOnConditionCheckFailure: Literal["ALL_OLD"]


class _Changing(_Conditional):
    UpdateExpression: str


class DynamoDbItemStore:
    """`ItemStore` over the ledger and usage tables of a region."""

    def __init__(
        self,
        client: DynamoDBClient,
        tables: Mapping[Table, str],
        *,
        consistent: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        decode_items_fast(client)
        self._client = client
        self._tables = dict(tables)
        self._consistent = consistent
        self._sleep = sleep

    def get(self, table: Table, key: Key) -> Item | None:
        with translated("dynamodb.GetItem"):
            answer = self._client.get_item(
                TableName=self._tables[table], Key=key_attributes(key), ConsistentRead=self._consistent
            )
        return item_or_none(answer.get("Item"))

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        distinct = list(dict.fromkeys(keys))
        found: dict[Key, Item] = {}
        for start in range(0, len(distinct), _MAX_BATCH_KEYS):
            for attributes in self._batch_get(table, distinct[start : start + _MAX_BATCH_KEYS]):
                item = from_attributes(attributes)
                found[Key(str(item["pk"]), str(item["sk"]))] = item
        return found

    def _batch_get(self, table: Table, keys: Sequence[Key]) -> Iterator[Mapping[str, AttributeValueTypeDef]]:
        name = self._tables[table]
        wanted: Sequence[Mapping[str, AttributeValueTypeDef]] = [key_attributes(key) for key in keys]
        for attempt in range(_BATCH_ROUNDS):
            with translated("dynamodb.BatchGetItem"):
                answer = self._client.batch_get_item(
                    RequestItems={name: {"Keys": wanted, "ConsistentRead": self._consistent}}
                )
            yield from answer["Responses"].get(name, [])
            left = answer.get("UnprocessedKeys", {}).get(name)
            if left is None:
                return
            wanted = left["Keys"]
            self._sleep(_FIRST_WAIT_S * 2**attempt)
        raise errors.UnavailableError(
            "dynamodb.BatchGetItem", f"{len(wanted)} keys were never processed", may_have_applied=False
        )

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = _SK_END, descending: bool = False
    ) -> Iterator[Item]:
        if sk_from >= sk_to:
            return
        request: QueryInputTypeDef = {
            "TableName": self._tables[table],
            "ConsistentRead": self._consistent,
            "ScanIndexForward": not descending,
            "KeyConditions": _key_conditions(pk, sk_from, sk_to),
        }
        if descending:
            # The caller of a descending query needs only the newest item or a few of the newest items.
            request["Limit"] = _NEWEST
        for item in _items_of("dynamodb.Query", partial(self._client.query, **request)):
            # BETWEEN includes its upper end, and `sk_to` is exclusive.
            if item["sk"] != sk_to:
                yield item

    def scan(self, table: Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()) -> Iterator[Item]:
        request: ScanInputTypeDef = {"TableName": self._tables[table], "ConsistentRead": self._consistent}
        if parts > 1:
            request |= {"Segment": part, "TotalSegments": parts}
        if prefixes:
            named = {f":p{place}": prefix for place, prefix in enumerate(prefixes)}
            request["FilterExpression"] = " OR ".join(f"begins_with(pk, {name})" for name in named)
            request["ExpressionAttributeValues"] = to_attributes(named)
        return _items_of("dynamodb.Scan", partial(self._client.scan, **request))

    def put(self, action: Put) -> None:
        with _refusals(action.key), translated("dynamodb.PutItem"):
            self._client.put_item(
                **self._told(action), Item=to_attributes(action.item), **_conditional(action.condition)
            )

    def update(self, action: Update) -> Item:
        with _refusals(action.key), translated("dynamodb.UpdateItem"):
            answer = self._client.update_item(
                **self._told(action), Key=key_attributes(action.key), ReturnValues="ALL_NEW", **_changing(action)
            )
        return _updated_item(answer)

    def delete(self, action: Delete) -> None:
        with _refusals(action.key), translated("dynamodb.DeleteItem"):
            self._client.delete_item(
                **self._told(action), Key=key_attributes(action.key), **_conditional(action.condition)
            )

    def transact(self, actions: Sequence[Action]) -> None:
        _check_transaction(actions)
        items = [self._transact_item(action) for action in actions]
        try:
            with translated("dynamodb.TransactWriteItems"):
                self._client.transact_write_items(TransactItems=items)
        except ClientError as error:
            if error_code(error) != "TransactionCanceledException":
                _raise_if_too_large(error, f"a transaction of {len(actions)} actions")
                raise
            for action, reason in zip(actions, _raw_reasons(error), strict=False):
                if _TOO_LARGE.search(reason.get("Message", "")):
                    raise errors.ItemTooLargeError(
                        f"{action.key.pk} / {action.key.sk}", reason.get("Message", "")
                    ) from error
                if _NO_NUMBER.search(reason.get("Message", "")):
                    raise _no_number(action.key) from error
            _raise_if_too_large(error, f"a transaction of {len(actions)} actions")
            raise errors.TransactionCanceledError(_reasons(error)) from error

    def _transact_item(self, action: Action) -> TransactWriteItemTypeDef:
        told = self._told(action)
        match action:
            case Put():
                return {"Put": {**told, "Item": to_attributes(action.item), **_conditional(action.condition)}}
            case Update():
                return {"Update": {**told, "Key": key_attributes(action.key), **_changing(action)}}
            case Delete():
                return {"Delete": {**told, "Key": key_attributes(action.key), **_conditional(action.condition)}}
            case Check():
                expressions = Expressions()
                expression = expressions.condition(action.condition)
                return {
                    "ConditionCheck": {
                        **told,
                        "Key": key_attributes(action.key),
                        "ConditionExpression": expression,
                        **_placeholders(expressions),
                    }
                }

    def _told(self, action: Action) -> _Told:
        return {"TableName": self._tables[action.table], "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def _items_of(call: str, ask: Callable[..., QueryOutputTypeDef | ScanOutputTypeDef]) -> Iterator[Item]:
    """Items page by page. The next page is requested only after all items of the current page are consumed."""
    with translated(call):
        page = ask()
    yield from _values_of(page)
    while last := page.get("LastEvaluatedKey"):
        with translated(call):
            page = ask(ExclusiveStartKey=last)
        yield from _values_of(page)


def _values_of(page: QueryOutputTypeDef | ScanOutputTypeDef) -> Iterable[Item]:
    if ITEM_VALUES in page:
        return cast("Mapping[str, list[Item]]", page)[ITEM_VALUES]
    return map(from_attributes, page["Items"])


def _updated_item(answer: UpdateItemOutputTypeDef) -> Item:
    if ITEM_VALUES in answer:
        [item] = cast("Mapping[str, list[Item]]", answer)[ITEM_VALUES]
        return item
    return from_attributes(answer["Attributes"])


def _conditional(condition: Condition | None) -> _Conditional:
    if condition is None:
        return {}
    expressions = Expressions()
    expression = expressions.condition(condition)
    return {"ConditionExpression": expression, **_placeholders(expressions)}


def _changing(action: Update) -> _Changing:
    expressions = Expressions()
    changes: _Changing = {"UpdateExpression": expressions.update(action)}
    if action.condition is not None:
        changes["ConditionExpression"] = expressions.condition(action.condition)
    return {**changes, **_placeholders(expressions)}


def _placeholders(expressions: Expressions) -> _Conditional:
    # DynamoDB rejects an empty map of attribute values.
    placeholders: _Conditional = {"ExpressionAttributeNames": expressions.names}
    if expressions.values:
        placeholders["ExpressionAttributeValues"] = expressions.values
    return placeholders


def _check_transaction(actions: Sequence[Action]) -> None:
    if not 1 <= len(actions) <= MAX_TRANSACTION_ACTIONS:
        raise ValueError(f"a transaction has 1 to {MAX_TRANSACTION_ACTIONS} actions, not {len(actions)}")
    if len({(action.table, action.key) for action in actions}) != len(actions):
        raise ValueError("two actions of a transaction are on one item")


@contextmanager
def _refusals(key: Key) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error_code(error) != "ConditionalCheckFailedException":
            _raise_if_too_large(error, f"{key.pk} / {key.sk}")
            if _NO_NUMBER.search(str(error)):
                raise _no_number(key) from error
            raise
        # botocore's stubs declare only the fields that every error has.
        found = cast("Mapping[str, AttributeValueTypeDef] | None", error.response.get("Item"))
        raise errors.ConditionFailedError(item_or_none(found)) from error


def _raise_if_too_large(error: ClientError, what: str) -> None:
    if error_code(error) in _NOT_VALID and _TOO_LARGE.search(str(error)):
        raise errors.ItemTooLargeError(what, str(error)) from error


def _no_number(key: Key) -> errors.LedgerCorruptError:
    return errors.LedgerCorruptError(f"{key.pk} / {key.sk} has a value of another type, where a number should be")


class _CancellationReason(TypedDict, total=False):
    Code: str
    Message: str
    Item: dict[str, AttributeValueTypeDef]


def _reasons(error: ClientError) -> list[tuple[str, Item | None] | None]:
    return [_reason(reason) for reason in _raw_reasons(error)]


def _raw_reasons(error: ClientError) -> list[_CancellationReason]:
    return cast("list[_CancellationReason]", error.response.get("CancellationReasons", []))


def _reason(reason: _CancellationReason) -> tuple[str, Item | None] | None:
    code = reason.get("Code", "None")
    return None if code == "None" else (code, item_or_none(reason.get("Item")))


def _key_conditions(pk: str, sk_from: str, sk_to: str) -> dict[str, ConditionTypeDef]:
    """Legacy `KeyConditions` for `pk` and a range of `sk`, which emulators process several times faster."""
    conditions: dict[str, ConditionTypeDef] = {"pk": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": pk}]}}
    # A key value must not be empty, so a range without a lower bound cannot use BETWEEN.
    if sk_from:
        conditions["sk"] = {"ComparisonOperator": "BETWEEN", "AttributeValueList": [{"S": sk_from}, {"S": sk_to}]}
    elif sk_to != _SK_END:
        conditions["sk"] = {"ComparisonOperator": "LT", "AttributeValueList": [{"S": sk_to}]}
    return conditions
