"""Conditions and updates as DynamoDB expressions. Every name and value is a placeholder, so no reserved word occurs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.dynamodb.attributes import to_attribute
from metering.stores.writes import Absent, AllOf, AnyOf, Condition, Equals, Exists, LessThan, Update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

    from metering.stores.writes import Value


class Expressions:
    """Placeholders that the expressions of one request share."""

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
