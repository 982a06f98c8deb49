"""Policies of docs/contract/producers.md: as it says, and no wider than the stack's own role."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import aws_iam as iam

from tests.infra.support.conditions import holds
from tests.infra.support.synthesis import synthesised

_CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "contract" / "producers.md"
_BUCKET = "arn:aws:s3:::metering-prod-data-bucket"
_QUEUE = "arn:aws:sqs:us-east-1:111122223333:metering-prod-data-IngestQueue"


def section() -> str:
    return _CONTRACT.read_text().partition("## Who is trusted\n")[2].partition("\n## ")[0]


def policies() -> list[dict[str, Any]]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section(), re.DOTALL)]


def allows(policy: dict[str, Any], action: str, resource: str) -> bool:
    return any(
        statement["Effect"] == "Allow"
        and action in _listed(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in _listed(statement["Resource"]))
        for statement in policy["Statement"]
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_the_section_has_a_permission_and_a_trust_policy_that_iam_would_take() -> None:
    permission, trust = policies()

    assert list(iam.PolicyDocument.from_json(permission).validate_for_identity_policy()) == []
    assert list(iam.PolicyDocument.from_json(trust).validate_for_any_policy()) == []
    # A role is the resource of its own trust policy, so that names none.
    assert [sorted(statement) for statement in trust["Statement"]] == [
        ["Action", "Condition", "Effect", "Principal", "Sid"]
    ]


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("sqs:SendMessage", _QUEUE, True),
        ("s3:PutObject", f"{_BUCKET}/ingest/edge-7f3a/a.ndjson", True),
        ("s3:PutObject", f"{_BUCKET}/drop/edge-7f3a/2026/a.parquet", True),
        ("s3:PutObject", f"{_BUCKET}/ingest/edge-7f3b/a.ndjson", False),
        ("s3:PutObject", f"{_BUCKET}/ingest/edge-7f3a-2/a.ndjson", False),
        ("s3:PutObject", f"{_BUCKET}/lake/a.parquet", False),
        ("s3:GetObject", f"{_BUCKET}/ingest/edge-7f3a/a.ndjson", False),
        ("s3:ListBucket", _BUCKET, False),
        ("sqs:ReceiveMessage", _QUEUE, False),
        ("sts:AssumeRole", "arn:aws:iam::111122223333:role/metering-producer", False),
    ],
)
def test_a_bound_producer_sends_and_puts_below_its_own_prefix_and_nothing_else(
    action: str, resource: str, allowed: bool
) -> None:
    assert allows(policies()[0], action, resource) is allowed


def test_a_bound_producer_may_do_nothing_that_the_shared_role_may_not() -> None:
    shared = {
        action
        for name, policy in synthesised("prod").policies("data").items()
        if name.startswith("RolesProducer")
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        for action in _listed(statement["Action"])
    }
    bound = {action for statement in policies()[0]["Statement"] for action in _listed(statement["Action"])}

    assert bound == shared - {"cloudformation:DescribeStacks"}


@pytest.mark.parametrize(("name", "taken"), [("edge-7f3a", True), ("edge-7f3b", False), (None, False)])
def test_the_role_is_taken_under_its_own_name_only(name: str | None, taken: bool) -> None:
    [statement] = policies()[1]["Statement"]
    context = {} if name is None else {"sts:RoleSessionName": name}

    assert statement["Principal"] == {"AWS": "arn:aws:iam::444455556666:role/edge-7f3a-workload"}
    assert holds(statement["Condition"], context) is taken


def test_a_policy_that_named_no_prefix_would_be_seen() -> None:
    wide = json.loads(json.dumps(policies()[0]).replace("/edge-7f3a/*", "/*"))

    assert allows(wide, "s3:PutObject", f"{_BUCKET}/ingest/edge-7f3b/a.ndjson")
