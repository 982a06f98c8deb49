"""The gate of organisations can fail, and its evaluator follows IAM's reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.infra.support.models import holds
from tests.organisations.__main__ import main, row
from tests.organisations.asked import Asked, Request
from tests.organisations.breaches import BREACHES
from tests.organisations.evaluator import allowed, applies
from tests.organisations.policies import ORGANISATIONS, SCPS, VPC_ONLY, tags_of

CREATE = Request(source="x", action="sqs:CreateQueue", context={"aws:RequestedRegion": "us-east-1"})


@pytest.mark.parametrize(("condition", "context", "true"), [
    ({"Null": {"k": "true"}}, {}, True), ({"Null": {"k": "true"}}, {"k": "v"}, False),
    ({"Null": {"k": "false"}}, {"k": "v"}, True),
    ({"StringEquals": {"k": ["a", "b"]}}, {"k": "b"}, True), ({"StringEquals": {"k": "a"}}, {}, False),
    ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "b"}, False), ({"StringNotEquals": {"k": "a"}}, {}, True),
    ({"StringEqualsIfExists": {"k": "a"}}, {}, True), ({"StringEqualsIfExists": {"k": "a"}}, {"k": "b"}, False),
    ({"StringLike": {"k": "a*"}}, {"k": "abc"}, True), ({"StringNotLike": {"k": "a*"}}, {"k": "abc"}, False),
    ({"ArnNotLike": {"k": "arn:*:role/ops-*"}}, {"k": "arn:aws:role/dev"}, True),
    ({"StringEqualsIgnoreCase": {"k": "Owner"}}, {"k": "owner"}, True),
    ({"Bool": {"k": True}}, {"k": "true"}, True), ({"Bool": {"k": "true"}}, {}, False),
    ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, {"k": ["a", "b"]}, True),
    ({"ForAllValues:StringEquals": {"k": "a"}}, {"k": ["a", "c"]}, False),
    ({"ForAllValues:StringEquals": {"k": "a"}}, {}, True),
    ({"ForAnyValue:StringEquals": {"k": "a"}}, {"k": ["c", "a"]}, True),
    ({"ForAnyValue:StringEquals": {"k": "a"}}, {}, False),
    ({"ForAnyValue:StringNotEquals": {"k": "a"}}, {"k": ["a", "c"]}, True),
    ({"StringEquals": {"k": "a", "l": "b"}}, {"k": "a", "l": "c"}, False),
])  # fmt: skip
def test_conditions_are_as_in_the_reference(condition: dict[str, Any], context: dict[str, Any], true: bool) -> None:
    assert holds(condition, context) is true


def test_an_operator_that_the_evaluator_does_not_know_is_an_error() -> None:
    with pytest.raises(KeyError):
        holds({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:SourceIp": "10.0.0.1"})


@pytest.mark.parametrize(("statement", "about"), [
    ({"Action": "sqs:*"}, True), ({"Action": "SQS:createqueue"}, True), ({"Action": ["sns:*", "sqs:Send*"]}, False),
    ({"NotAction": "sqs:*"}, False), ({"NotAction": ["iam:*", "sts:*"]}, True),
    ({"Action": "*", "Resource": "arn:aws:sqs:*"}, False), ({"Action": "*", "NotResource": "arn:aws:sqs:*"}, True),
])  # fmt: skip
def test_a_statement_is_about_actions_and_resources(statement: dict[str, Any], about: bool) -> None:
    assert applies({"Effect": "Deny", "Resource": "*", **statement}, CREATE) is about


def test_a_boundary_allows_what_a_statement_allows_and_none_denies() -> None:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    assert allowed((everything,), CREATE)
    assert not allowed((everything, {**everything, "Effect": "Deny", "Action": "sqs:*"}), CREATE)
    assert not allowed((), CREATE)


def asked(*requests: Request, **resources: Any) -> Asked:
    found = {name: ("AWS::Lambda::Function", properties) for name, properties in resources.items()}
    return Asked(requests=requests, resources=found, grants=())


INSIDE = {"VpcConfig": {"SubnetIds": ["s"], "SecurityGroupIds": ["g"]}}
MADE = Request(source="Biller", action="lambda:CreateFunction", context={"lambda:VpcIds": "vpc"})
GOOD, BAD = asked(MADE, f=INSIDE), asked(replace(MADE, context={}), f={})


def test_an_organisation_whose_rules_refuse_only_what_is_without_the_settings_is_green() -> None:
    found = row(VPC_ONLY, GOOD, BAD)
    assert (found.red, found.with_settings, found.seeded, found.missed) == (False, (), 3, ())
    assert len(found.without) == 2


WRONG = asked(MADE, f=INSIDE, g={})


@pytest.mark.parametrize(("good", "bad"), [(WRONG, BAD), (GOOD, GOOD)], ids=["refused with", "nothing refused without"])
def test_the_gate_fails(good: Asked, bad: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert main({"with": GOOD, "without": BAD}, [VPC_ONLY]) == 0
    capsys.readouterr()
    assert main({"with": good, "without": bad}, [VPC_ONLY]) == 1
    out = capsys.readouterr().out
    assert ("REFUSED by VPC only" in out) is (good is WRONG)
    assert ("NOTHING refused" in out) is (bad is GOOD)


def test_a_breach_that_no_rule_finds_is_red() -> None:
    deaf = replace(VPC_ONLY, denies=(), rules={})
    found = row(deaf, GOOD, BAD)
    assert found.red
    assert "a public URL of a function" in found.missed


def test_there_are_five_organisations_and_each_has_breaches() -> None:
    assert [each.name for each in ORGANISATIONS] == list(BREACHES)
    assert len(ORGANISATIONS) == 5


def test_tags_are_read_in_each_form_that_a_type_has() -> None:
    listed = [{"Key": "a", "Value": "1"}]
    for properties in ({"Tags": listed}, {"Tags": {"a": "1"}}, {"Replicas": [{"Tags": listed}]}):
        assert tags_of(properties) == {"a": "1"}
    assert tags_of({}) == {}


def test_a_call_of_the_account_is_denied_in_each_region() -> None:
    call = Request(source="x", action="account:GetRegionOptStatus", context={"aws:RequestedRegion": "us-east-1"})
    assert any(applies(statement, call) for statement in SCPS.denies)
