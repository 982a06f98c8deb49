"""Demands of an organisation on resources that commands make outside of the stacks, as arguments of the SDK."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_cloudwatch.type_defs import TagTypeDef as AlarmTag
    from mypy_boto3_dynamodb.type_defs import SSESpecificationTypeDef
    from mypy_boto3_dynamodb.type_defs import TagTypeDef as TableTag

    from metering.adapters.aws.session import Clients
    from metering.fleet.stage import StageConfig


class OfTable(TypedDict, total=False):
    """Arguments of CreateTable."""

    Tags: list[TableTag]
    SSESpecification: SSESpecificationTypeDef


class OfAlarm(TypedDict, total=False):
    """Arguments of PutMetricAlarm."""

    Tags: list[AlarmTag]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """Tags and key of a stage; empty by default."""

    tags: Mapping[str, str] = field(default_factory=dict)
    kms_key_arn: str = ""

    @classmethod
    def of(cls, config: StageConfig, clients: Clients) -> Self:
        """Demands of a stage in the region of `clients`. An emulator does not have the stage's key."""
        return cls(tags=config.tags, kms_key_arn="" if clients.access.custom_endpoint else config.kms_key_arn)

    @property
    def of_table(self) -> OfTable:
        made: OfTable = {}
        if self.tags:
            made["Tags"] = [{"Key": name, "Value": value} for name, value in self.tags.items()]
        if self.kms_key_arn:
            made["SSESpecification"] = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": self.kms_key_arn}
        return made

    @property
    def of_alarm(self) -> OfAlarm:
        return {"Tags": [{"Key": name, "Value": value} for name, value in self.tags.items()]} if self.tags else {}

    @property
    def of_queue(self) -> Mapping[str, str]:
        """Attributes of CreateQueue."""
        return {"KmsMasterKeyId": self.kms_key_arn} if self.kms_key_arn else {}


NOTHING = Demands()
