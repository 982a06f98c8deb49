"""Services that functions call, computed from the permissions in their templates.

A test holds these permissions against the calls of the functions' code (`tests/infra/test_policies.py`), so a service
that is called has a permission here.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Calls by which Lambda lets a function join a network (Lambda developer guide).
INTERFACES = (
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
)
# Endpoints whose name differs from the prefix of the actions (PrivateLink guide, services that integrate).
_NAMES = {"cloudwatch": "monitoring"}
# Lambda itself writes logs and sends traces, and services use a key on behalf of who calls them.
_BY_OTHERS = frozenset({"logs", "xray", "kms"})


def called_services(templates: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Functions by the services that they call; each service by the name of its endpoint (`sqs`)."""
    found: dict[str, set[str]] = defaultdict(set)
    for template in templates:
        resources = template.get("Resources", {})
        for function in _of(resources, "AWS::Lambda::Function"):
            name = function["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
            for action in _actions(resources, function["Role"]["Fn::GetAtt"][0]):
                service = action.partition(":")[0]
                if service not in _BY_OTHERS:
                    found[_NAMES.get(service, service)].add(name)
    return {service: sorted(names) for service, names in sorted(found.items())}


def _actions(resources: Mapping[str, Any], role: str) -> Iterator[str]:
    """Actions that a role may do, except for those by which Lambda lets a function join a network."""
    for policy in (*_of(resources, "AWS::IAM::Policy"), *_of(resources, "AWS::IAM::ManagedPolicy")):
        for statement in policy["PolicyDocument"]["Statement"] if {"Ref": role} in policy.get("Roles", []) else ():
            actions = statement["Action"]
            if statement["Effect"] == "Allow" and actions != list(INTERFACES) and not _elsewhere(statement):
                yield from [actions] if isinstance(actions, str) else actions


def _elsewhere(statement: Mapping[str, Any]) -> bool:
    """Whether calls are to another region, which no endpoint of this one serves."""
    return re.search(r":cloudformation:[a-z]", json.dumps(statement.get("Resource"))) is not None


def _of(resources: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    yield from (each["Properties"] for each in resources.values() if each["Type"] == kind)
