"""Seeded breaches: what a change to the templates or to a command might break, and each organisation must find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tests.organisations.asked import Asked, Request

Seed = Callable[[Asked], Asked]


def _resource(kind: str, change: Callable[[dict[str, Any]], object], like: str = "") -> Seed:
    """Change the properties of the first resource of a type whose name contains `like`."""

    def seed(asked: Asked) -> Asked:
        name = next(n for n, (found, _) in asked.resources.items() if found == kind and like in n)
        properties = _copied(asked.resources[name][1])
        change(properties)
        return replace(asked, resources={**asked.resources, name: (kind, properties)})

    return seed


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _request(source: str, action: str, change: Callable[[Request], Request]) -> Seed:
    """Change the first call of an action whose source contains `source`."""

    def seed(asked: Asked) -> Asked:
        index = next(n for n, each in enumerate(asked.requests) if each.action == action and source in each.source)
        changed = list(asked.requests)
        changed[index] = change(changed[index])
        return replace(asked, requests=tuple(changed))

    return seed


def _without(*keys: str) -> Callable[[Request], Request]:
    return lambda request: replace(request, context={k: v for k, v in request.context.items() if k not in keys})


def _asks(action: str, **more: Any) -> Seed:
    return lambda asked: replace(asked, requests=(*asked.requests, Request(source="seed", action=action, **more)))


def _grants(action: str) -> Seed:
    return lambda asked: replace(asked, grants=(*asked.grants, Request(source="seed", action=action)))


_TAG = "aws:RequestTag/cost-centre"
_BOUNDARY = "iam:PermissionsBoundary"
BREACHES: Mapping[str, Mapping[str, Seed]] = {
    "service control policies": {
        "a queue of the templates without a tag": _request("Ingest", "sqs:CreateQueue", _without(_TAG)),
        "a table of the templates without a tag": _request("Ledger", "dynamodb:CreateTable", _without(_TAG)),
        "a queue of the doctor without a tag": _request("doctor", "sqs:CreateQueue", _without(_TAG)),
        "an alarm of the doctor without a tag": _request("doctor", "cloudwatch:PutMetricAlarm", _without(_TAG)),
        "a table of a restore without a tag": _request("restore", "dynamodb:CreateTable", _without(_TAG)),
        "a role of a producer without a tag": _request("producers", "iam:CreateRole", _without(_TAG)),
        "a stack of a deployment without a tag": _request("deploy", "cloudformation:CreateChangeSet", _without(_TAG)),
        "an asset that goes to another region": _request(
            "deploy", "s3:PutObject", lambda r: replace(r, context={**r.context, "aws:RequestedRegion": "eu-west-1"})
        ),
        "a call in another region": _request(
            "Ingest", "sqs:CreateQueue", lambda r: replace(r, context={**r.context, "aws:RequestedRegion": "eu-west-1"})
        ),
        "an opt-in to a region": _asks("account:EnableRegion"),
    },
    "tag policy": {
        "a tag in other letters": _resource(
            "AWS::SQS::Queue", lambda p: p["Tags"][0].update(Key=p["Tags"][0]["Key"].title())
        ),
        "a value that is not listed": _resource("AWS::SNS::Topic", lambda p: p["Tags"][0].update(Value="0")),
        "a table without tags": _resource("AWS::DynamoDB::GlobalTable", lambda p: p["Replicas"][0].pop("Tags")),
    },
    "permissions boundary": {
        "a role of the templates without it": _request("Watch", "iam:CreateRole", _without(_BOUNDARY)),
        "a role of a producer without it": _request("producers", "iam:CreateRole", _without(_BOUNDARY)),
        "a role outside of the path": _request(
            "Reader", "iam:CreateRole", lambda r: replace(r, resource=r.resource.replace("/metering/", "/"))
        ),
        "a deployment that works as another role": _request(
            "deploy", "iam:PassRole", lambda r: replace(r, resource="arn:aws:iam::123456789012:role/Admin")
        ),
        "a policy outside of the path": _asks("iam:CreatePolicy", resource="arn:aws:iam::123456789012:policy/Overflow"),
        "a grant beyond it": _grants("iam:CreateUser"),
        "a grant that it denies": _grants("s3:PutBucketPolicy"),
    },
    "KMS only": {
        "a log group without the key": _resource("AWS::Logs::LogGroup", lambda p: p.pop("KmsKeyId")),
        "a queue with a key of SQS": _resource("AWS::SQS::Queue", lambda p: p.pop("KmsMasterKeyId")),
        "a topic with another key": _resource("AWS::SNS::Topic", lambda p: p.update(KmsMasterKeyId="alias/aws/sns")),
        "a table with a key of AWS": _resource("AWS::DynamoDB::GlobalTable", lambda p: p.pop("SSESpecification")),
        "a table with the key of its service": _resource(
            "AWS::DynamoDB::GlobalTable", lambda p: p["Replicas"][0].pop("SSESpecification")
        ),
        "a bucket with a key of S3": _resource("AWS::S3::Bucket", lambda p: p.pop("BucketEncryption")),
        "results with a key of S3": _resource(
            "AWS::Athena::WorkGroup",
            lambda p: p["WorkGroupConfiguration"]["ResultConfiguration"]["EncryptionConfiguration"].pop("KmsKey"),
        ),
        "a key of the stage's own": _asks("kms:CreateKey"),
        "an asset that asks for AES256": _request(
            "deploy", "s3:PutObject", lambda r: replace(r, context={"s3:x-amz-server-side-encryption": "AES256"})
        ),
        "an object that asks for AES256": _request(
            "replay", "s3:PutObject", lambda r: replace(r, context={"s3:x-amz-server-side-encryption": "AES256"})
        ),
    },
    "VPC only": {
        "a function without a network": _resource("AWS::Lambda::Function", lambda p: p.pop("VpcConfig")),
        "a function that is made outside of one": _request(
            "Biller", "lambda:CreateFunction", _without("lambda:VpcIds")
        ),
        "a public URL of a function": _asks("lambda:CreateFunctionUrlConfig"),
    },
}
