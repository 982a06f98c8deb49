"""Calls of the SDK are made by adapters: all others ask a port, so that a fake can answer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lambdas
import metering
from metering.adapters.aws.session import Clients

_SERVICES = {name for name, value in vars(Clients).items() if isinstance(value, property)} | {"client"}
_ROOTS = (Path(metering.__path__[0]), Path(lambdas.__path__[0]))
_ADAPTERS = _ROOTS[0] / "adapters" / "aws"
# Composition hands clients to adapters.
_WIRING = _ROOTS[0] / "wiring"


def _holds_clients(node: ast.expr) -> bool:
    """Whether an expression is called `clients`, or calls something of that name: `self._clients(region)`."""
    if isinstance(node, ast.Call):
        return _holds_clients(node.func)
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name.lstrip("_") in {"clients", "clients_of"}


def uses(source: str, *, may_hand_over: bool) -> list[int]:
    """Lines that take a service's client; with `may_hand_over` only those that call something of it."""
    tree = ast.parse(source)
    clients = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in _SERVICES and _holds_clients(node.value)
    ]
    if not may_hand_over:
        return [node.lineno for node in clients]
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and any(node.value is c for c in clients)
    ]


def test_no_service_is_asked_outside_the_adapters() -> None:
    found = [
        f"{path.relative_to(root.parent)}:{line}"
        for root in _ROOTS
        for path in sorted(root.rglob("*.py"))
        if not path.is_relative_to(_ADAPTERS)
        for line in uses(path.read_text(), may_hand_over=path.is_relative_to(_WIRING))
    ]
    assert found == []


@pytest.mark.parametrize(
    "call",
    [
        "region.clients.sns.publish(TopicArn=topic)",
        "self._clients.sts.get_caller_identity()",
        "self._clients_of(region).lambda_.invoke(FunctionName=name)",
        'clients.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)',
    ],
)
def test_a_call_would_be_seen(call: str) -> None:
    assert uses(call, may_hand_over=False) == uses(call, may_hand_over=True) == [1]


def test_wiring_may_hand_a_client_to_an_adapter_and_others_may_not() -> None:
    handed = "SqsQueue(self.clients.sqs, url)"
    assert uses(handed, may_hand_over=True) == []
    assert uses(handed, may_hand_over=False) == [1]
