"""Fast decoding of the items of a reply: msgspec decodes them before botocore's parser walks them value by value.

botocore takes about 80 microseconds an item, which is most of the time of a long query, and several times as long for
an account's hour, which each update of the roll-up is answered with. Its events let a handler take the items out of
the reply. A month's report reads 30,000 numbers, so they do not become dictionaries of their type first: each is one
small object, and then the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import msgspec
from msgspec import UNSET, Raw, UnsetType

from metering.adapters.aws.dynamodb.attributes import whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

    from metering.stores.writes import Item, Value

# Member of a decoded reply of `query`, `scan` or `update_item` that has its items as values. `Items` or `Attributes`
# is missing then, so that nobody takes the one for the other.
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
    """What else a reply has."""

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
    """Make a client decode items of queries, scans and updates this way. A second call changes nothing."""
    takers = {"Query": _take_items, "Scan": _take_items, "UpdateItem": _take_updated}
    for operation, take in takers.items():
        client.meta.events.register(f"before-parse.dynamodb.{operation}", take, unique_id=f"metering-items-{operation}")


def _take_items(response_dict: _Response, customized_response_dict: dict[str, object], **_others: object) -> None:
    if response_dict["status_code"] != _OK:
        return
    try:
        reply = _REPLY.decode(response_dict["body"])
    except msgspec.DecodeError:
        # The reply is cut short, is not JSON, or has something that no reply to this project has. botocore decodes it.
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
        # As above. A reply without attributes is left, too.
        return
    customized_response_dict[ITEM_VALUES] = [_values(reply.Attributes)]
    response_dict["body"] = msgspec.json.encode(_UpdatedRest(ConsumedCapacity=reply.ConsumedCapacity))


def _values(attributes: Mapping[str, _Attribute]) -> Item:
    values: dict[str, Value] = {}
    for name, attribute in attributes.items():
        number = attribute.N
        # First what a page has most of.
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
