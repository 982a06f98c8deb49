"""Every region is the same, an invented one too."""

from __future__ import annotations

import json
import re

import pytest

from metering.fleet.settings.bases import STAGES
from tests.infra.support.synthesis import STAGE_NAMES, synthesised

REGIONS = ("us-east-1", "eu-central-2", "cn-north-1", "us-gov-west-1", "eusc-de-east-1", "ap-southeast-9")
ACCOUNT = "123456789012"
# Regions, and partitions as they stand in an ARN or a domain.
REGION_LITERAL = re.compile(r"\b(?:[a-z]{2,4}(?:-[a-z]+)+-\d)\b")
PARTITION_LITERAL = re.compile(r"arn:aws|amazonaws\.com\.cn|aws-cn|aws-us-gov")


def problems_of(text: str) -> list[str]:
    """Literals that tie a template to a region or a partition."""
    return REGION_LITERAL.findall(text) + PARTITION_LITERAL.findall(text)


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_has_the_same_resources_as_one_that_is_left_to_the_deployment(region: str) -> None:
    there, anywhere = synthesised("prod", region, ACCOUNT), synthesised("prod")

    for part, template in there.templates.items():
        assert sorted(template["Resources"]) == sorted(anywhere.templates[part]["Resources"])
        assert sorted(template.get("Outputs", {})) == sorted(anywhere.templates[part].get("Outputs", {}))


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_no_template_names_a_region_or_a_partition(stage: str) -> None:
    for template in synthesised(stage).templates.values():
        assert problems_of(json.dumps(template)) == []


@pytest.mark.parametrize("stage", [name for name in STAGE_NAMES if STAGES[name].get("emulated")])
def test_a_function_of_an_emulated_region_shares_its_name_with_none_of_another(stage: str) -> None:
    """MiniStack kills the running functions of that name in all regions where it creates one."""
    for function in synthesised(stage).resources("pipeline", "AWS::Lambda::Function").values():
        assert {"Ref": "AWS::Region"} in function["Properties"]["FunctionName"]["Fn::Join"][1]


@pytest.mark.parametrize("text", ["ap-southeast-9", "arn:aws:s3:::bucket", "sqs.cn-north-1.amazonaws.com.cn"])
def test_a_literal_would_be_found(text: str) -> None:
    assert problems_of(json.dumps({"Value": text}))


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_there_are_no_custom_resources(stage: str) -> None:
    kinds = {resource["Type"] for resource in synthesised(stage).all_resources().values()}

    assert not {kind for kind in kinds if kind.startswith("Custom::") or "CustomResource" in kind}
    # A function that nobody of us wrote would be the provider of one.
    everything = synthesised(stage).all_resources().values()
    functions = [resource for resource in everything if resource["Type"] == "AWS::Lambda::Function"]
    assert functions
    assert all(function["Properties"]["Handler"].startswith("lambdas.") for function in functions)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_nothing_is_looked_up_or_reported(stage: str) -> None:
    for template in synthesised(stage).templates.values():
        assert "AWS::CDK::Metadata" not in {resource["Type"] for resource in template["Resources"].values()}
        # The bootstrap stack's version is the one parameter that the CDK's own roles bring.
        assert set(template.get("Parameters", {})) <= {"BootstrapVersion"}
