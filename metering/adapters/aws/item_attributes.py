"""DynamoDB attributes: exact conversion of values, and fast decoding of the items of a reply."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, TypedDict, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from metering.stores.writes import Foreign, Item, Key, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef


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
    """Convert an attribute back: the inverse of `to_attribute`. What this project never writes becomes `Foreign`."""
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
    """The value of a number's text, exactly; `Foreign` if it is no whole number."""
    try:
        return int(text)
    except ValueError:
        # The number has another notation, such as 1E+2. Decimal(text) is exact whatever the decimal context.
        number = Decimal(text)
    if number != number.to_integral_value():
        return Foreign("N", text)
    return int(number)


def item_or_none(attributes: Mapping[str, AttributeValueTypeDef] | None) -> Item | None:
    """Convert an item; None if the answer has none (DynamoDB leaves it out, an emulator may send an empty one)."""
    return from_attributes(attributes) if attributes else None


# Key under which a decoded reply of `query`, `scan` or `update_item` holds its items as plain values. `Items` or
# `Attributes` is then absent, so that neither can be taken for the other.
ITEM_VALUES = "MeteringItemValues"
_OK = 200


class _Attribute(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An attribute of a type that this project writes. Numbers stay text: decoding them here could round them."""

    S: str | UnsetType = UNSET
    N: str | UnsetType = UNSET
    BOOL: bool | UnsetType = UNSET
    SS: list[str] | UnsetType = UNSET
    L: list[_Attribute] | UnsetType = UNSET
    M: dict[str, _Attribute] | UnsetType = UNSET


class _Rest(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Other members of a reply."""

    Count: Raw | UnsetType = UNSET
    ScannedCount: Raw | UnsetType = UNSET
    LastEvaluatedKey: Raw | UnsetType = UNSET
    ConsumedCapacity: Raw | UnsetType = UNSET


class _Reply(_Rest, forbid_unknown_fields=True):
    Items: list[dict[str, _Attribute]] = []


class _Updated(msgspec.Struct, forbid_unknown_fields=True):
    """The reply to an update: the item as it is now."""

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
    """Make a client decode items of queries, scans and updates this way. A second call has no effect."""
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
        # As above. botocore also decodes a reply without attributes.
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
