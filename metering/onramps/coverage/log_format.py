"""Recommended fields of a flow log, and the information that only these fields provide."""

import re
from dataclasses import dataclass

from metering.errors import OperationFailedError

# Fields are in the order of AWS's user guide (versions 2 to 11). Ports, protocol, packets, flags and container names
# are left out: they make lines longer and more numerous, and no metering rule uses them.
WORTH: dict[str, str] = {
    "version": "the format",
    "account-id": "who is billed",
    "interface-id": "whose traffic it is",
    "srcaddr": "the interface's own address, on one side",
    "dstaddr": "the interface's own address, on the other side",
    "bytes": "what is metered",
    "start": "the hour",
    "end": "the slot",
    "action": "rejected traffic is told apart",
    "log-status": "lost records are told apart",
    "vpc-id": "own networks",
    "subnet-id": "the zone, with an inventory",
    "instance-id": "the resource, as bills name it",
    "pkt-srcaddr": "the packet's own source behind a NAT gateway or load balancer",
    "pkt-dstaddr": "the packet's own destination behind one",
    "region": "the region, without an inventory",
    "az-id": "the zone, without an inventory",
    "sublocation-type": "Local Zones, Wavelength and Outposts",
    "pkt-src-aws-service": "services of AWS",
    "pkt-dst-aws-service": "services of AWS",
    "flow-direction": "in or out, without guessing by addresses",
    "traffic-path": "internet, peering, endpoint or another region",
    "resource-id": "regional NAT gateways, which have no interface",
    "interface-type": "NAT gateways, load balancers, endpoints",
    "next-hop-interface-id": "the other end of the hop",
    "next-hop-az-id": "the zone of the other end: what makes traffic regional",
    "next-hop-vpc-id": "peering and transit gateways",
    "next-hop-interface-type": "whether the other end is exempt",
}
# A log with all these fields can be metered; a log that lacks one of these fields, only in some cases or never.
NEEDED = ("account-id", "interface-id", "srcaddr", "dstaddr", "bytes", "start", "end")

# Bytes of a text line with these fields, including IPv4 addresses, long ids and the line feed (checked by a test). AWS
# charges for the delivered bytes before compression.
LINE_BYTES = 316

_FIELD = re.compile(r"\$\{([a-z0-9-]+)\}|([a-z][a-z0-9-]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatComparison:
    """Comparison with the recommended log format. `needed` are the missing fields of `NEEDED`; `more` adds nothing."""

    lacks: tuple[str, ...]
    needed: tuple[str, ...]
    more: tuple[str, ...]


def log_format() -> str:
    """Recommended format in the syntax of AWS commands: `${version} ${account-id} …`."""
    return " ".join(f"${{{name}}}" for name in WORTH)


def fields_of(text: str) -> tuple[str, ...]:
    """Names of the fields of a format, in order, written `${bytes}` or `bytes`.

    Raises:
        OperationFailedError: The text is not a log format.
    """
    words = text.replace(",", " ").split()
    found = [_FIELD.fullmatch(word.replace("_", "-")) for word in words]
    wrong = [word for word, match in zip(words, found, strict=True) if match is None]
    if wrong or not words:
        raise OperationFailedError(
            f"{wrong[0] if wrong else 'Nothing'} is no field of a flow log.",
            "Give the format in single quotes, as `aws ec2 describe-flow-logs` shows it: '${version} ${bytes}'",
        )
    return tuple(match[1] or match[2] for match in found if match is not None)


def compare(text: str) -> FormatComparison:
    """Compare a format with the recommended format."""
    has = fields_of(text)
    lacks = tuple(name for name in WORTH if name not in has)
    return FormatComparison(
        lacks=lacks,
        needed=tuple(name for name in lacks if name in NEEDED),
        more=tuple(name for name in dict.fromkeys(has) if name not in WORTH),
    )


def create_command(
    *, resource: tuple[str, str], bucket: str, prefix: str, region: str, parquet: bool, minutes: int, hive: bool
) -> str:
    """AWS CLI command that creates the flow log.

    `resource` is a type and an id, such as `("VPC", "vpc-0abc")`; `minutes` is the aggregation interval, 1 or 10.
    """
    folder = f"/{prefix.strip('/')}/" if prefix.strip("/") else ""
    options = ",".join([
        f"FileFormat={'parquet' if parquet else 'plain-text'}",
        f"HiveCompatiblePartitions={'true' if hive else 'false'}",
        "PerHourPartition=true",
    ])  # fmt: skip
    words = [
        "aws ec2 create-flow-logs",
        f"--region {region}",
        f"--resource-type {resource[0]} --resource-ids {resource[1]}",
        "--traffic-type ACCEPT",
        f"--log-destination-type s3 --log-destination arn:aws:s3:::{bucket}{folder}",
        f"--destination-options {options}",
        f"--max-aggregation-interval {minutes * 60}",
        f"--log-format '{log_format()}'",
    ]
    return " ".join(words)


def commands_of_owner(bucket: str) -> tuple[str, ...]:
    """Commands that enable a bucket's EventBridge notifications and keep all other notifications."""
    return (
        f"aws s3api get-bucket-notification-configuration --bucket {bucket} "
        "| jq '. + {EventBridgeConfiguration: {}}' > notifications.json",
        f"aws s3api put-bucket-notification-configuration --bucket {bucket} "
        "--notification-configuration file://notifications.json",
    )


def template_of_owner(bucket: str, prefix: str, *, region: str, stage: str) -> str:
    """CloudFormation template that forwards the bucket's events to the account of the stage.

    A bucket sends events only to the event bus of the bucket's account. The bucket policy is in the description,
    because a bucket has only one policy, and a template would replace this policy.
    """
    return f"""\
Description: >-
  Hands the events of {bucket} on to metering {stage}. Add to the bucket's policy, for arn:aws:iam::ACCOUNT:root:
  Allow s3:GetObject and s3:GetObjectVersion on arn:aws:s3:::{bucket}/{prefix}*, and s3:ListBucket on
  arn:aws:s3:::{bucket}. If it has a KMS key of its own, add kms:Decrypt to the policy of that key.
Resources:
  HandOn:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement:
          - {{Effect: Allow, Action: "sts:AssumeRole", Principal: {{Service: events.amazonaws.com}}}}
      Policies:
        - PolicyName: put-events
          PolicyDocument:
            Statement:
              - Effect: Allow
                Action: events:PutEvents
                Resource: !Sub "arn:${{AWS::Partition}}:events:{region}:ACCOUNT:event-bus/default"
  Logs:
    Type: AWS::Events::Rule
    Properties:
      EventPattern:
        source: [aws.s3]
        detail-type: [Object Created]
        detail: {{bucket: {{name: [{bucket}]}}, object: {{key: [{{prefix: "{prefix}"}}]}}}}
      Targets:
        - Id: metering
          Arn: !Sub "arn:${{AWS::Partition}}:events:{region}:ACCOUNT:event-bus/default"
          RoleArn: !GetAtt HandOn.Arn
"""
