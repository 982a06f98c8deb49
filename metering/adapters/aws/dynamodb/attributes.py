"""Conversion of values to DynamoDB attributes and back: exact integers, without a Decimal context or floats."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, cast

from metering.stores.writes import Foreign

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    from metering.stores.writes import Item, Key, Value

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
        # Strings and plain numbers are converted without a further call, because a report reads very many of them.
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
        # The number is written in another way, such as 1E+2. Decimal is exact here, whatever the context.
        number = Decimal(text)
    if number != number.to_integral_value():
        return Foreign("N", text)
    return int(number)


def item_or_none(attributes: Mapping[str, AttributeValueTypeDef] | None) -> Item | None:
    """Convert an item; None if the answer has none (DynamoDB leaves it out, an emulator may send an empty one)."""
    return from_attributes(attributes) if attributes else None
