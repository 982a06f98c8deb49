"""Values to DynamoDB attributes and back, by hand: exact integers, no Decimal context, no floats."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, cast

from metering.errors import LedgerCorruptError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    from metering.stores.writes import Item, Key, Value

# DynamoDB numbers hold 38 significant digits (DynamoDB API reference, naming rules and data types).
_MAX_MAGNITUDE = 10**38


def to_attributes(item: Mapping[str, Value]) -> dict[str, AttributeValueTypeDef]:
    """An item as DynamoDB takes it."""
    return {name: to_attribute(value) for name, value in item.items()}


def key_attributes(key: Key) -> dict[str, AttributeValueTypeDef]:
    """A key as DynamoDB takes it."""
    return {"pk": {"S": key.pk}, "sk": {"S": key.sk}}


def to_attribute(value: Value) -> AttributeValueTypeDef:
    """One value as DynamoDB takes it.

    Raises:
        TypeError: For a type that is no `Value`, such as float.
        ValueError: For a number of more than 38 digits, or an empty set.
    """
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": _number(value)}
    return _collection(value)


def _collection(value: frozenset[str] | list[Value] | dict[str, Value]) -> AttributeValueTypeDef:
    if isinstance(value, frozenset):
        if not value:
            raise ValueError("DynamoDB has no empty sets")
        return {"SS": sorted(value)}
    if isinstance(value, list):
        return {"L": [to_attribute(element) for element in value]}
    if isinstance(value, dict):
        return {"M": to_attributes(value)}
    raise TypeError(f"no attribute holds a {type(value).__name__}")


def _number(value: int) -> str:
    if not -_MAX_MAGNITUDE < value < _MAX_MAGNITUDE:
        raise ValueError("a DynamoDB number holds 38 digits")
    return str(value)


def from_attributes(attributes: Mapping[str, AttributeValueTypeDef]) -> dict[str, Value]:
    """Inverse of `to_attributes`.

    Raises:
        LedgerCorruptError: It holds something that this project never writes.
    """
    values: dict[str, Value] = {}
    for name, attribute in attributes.items():
        # Strings and plain numbers without a further call: a report reads very many of them.
        if "S" in attribute:
            values[name] = attribute["S"]
        elif "N" in attribute and attribute["N"].isdecimal():
            values[name] = int(attribute["N"])
        else:
            values[name] = from_attribute(attribute)
    return values


def from_attribute(attribute: AttributeValueTypeDef) -> Value:
    """Inverse of `to_attribute`.

    Raises:
        LedgerCorruptError: It holds something that this project never writes.
    """
    [(kind, value)] = attribute.items()
    if kind == "S" or kind == "BOOL":
        return cast("str | bool", value)
    if kind == "N":
        return _whole_number(cast("str", value))
    if kind == "M":
        return from_attributes(cast("Mapping[str, AttributeValueTypeDef]", value))
    if kind == "L":
        return [from_attribute(element) for element in cast("list[AttributeValueTypeDef]", value)]
    if kind == "SS":
        return frozenset(cast("list[str]", value))
    raise LedgerCorruptError(f"unexpected attribute type {kind}")


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        # Another way to write a whole number, such as 1E+2; Decimal is exact here, whatever the context.
        number = Decimal(text)
    if number != number.to_integral_value():
        raise LedgerCorruptError(f"expected a whole number, found {text}")
    return int(number)


def item_or_none(attributes: Mapping[str, AttributeValueTypeDef] | None) -> Item | None:
    """The item, or None where there is none (DynamoDB leaves it out, emulators may send an empty one)."""
    return from_attributes(attributes) if attributes else None
