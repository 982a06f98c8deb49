"""Text of a template with its intrinsic functions resolved, as CloudFormation would for a region."""

from dataclasses import dataclass, field
from typing import Any

PSEUDO = {
    "AWS::Region": "eu-west-1",
    "AWS::Partition": "aws",
    "AWS::AccountId": "123456789012",
    "AWS::URLSuffix": "amazonaws.com",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the text is resolved: pseudo parameters, and the conditions of the template."""

    conditions: dict[str, Any] = field(default_factory=dict)
    pseudo: dict[str, str] = field(default_factory=lambda: dict(PSEUDO))

    def text(self, value: Any) -> str:
        """The string that a value of a template becomes; a reference to a resource becomes its logical id."""
        if isinstance(value, str):
            return value
        [(function, argument)] = value.items()
        if function == "Fn::Join":
            separator, parts = argument
            return str(separator).join(self.text(part) for part in parts)
        if function == "Fn::If":
            name, then, otherwise = argument
            return self.text(then if self.holds(name) else otherwise)
        if function == "Ref":
            return self.pseudo.get(argument, str(argument))
        if function == "Fn::GetAtt":
            resource, attribute = argument
            return f"arn:aws:cloudwatch:eu-west-1:123456789012:{resource}" if attribute == "Arn" else str(resource)
        assert function == "Fn::ImportValue", function
        return self.text(argument).split(":", 1)[-1]

    def holds(self, condition: str) -> bool:
        one, other = self.conditions[condition]["Fn::Equals"]
        return self.text(one) == self.text(other)


def place_of(template: dict[str, Any], **pseudo: str) -> Place:
    """The place of a template in eu-west-1; `Partition="aws-cn"` changes a pseudo parameter."""
    changed = {f"AWS::{name}": value for name, value in pseudo.items()}
    return Place(conditions=template.get("Conditions", {}), pseudo={**PSEUDO, **changed})
