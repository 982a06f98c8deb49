"""`MeteringRegion` in somebody's own CDK app: the example of the operator guide, and the same templates as ours."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from aws_cdk import App, Environment

from infra.region import MeteringRegion
from metering.errors import SettingsError
from tests import ROOT
from tests.infra.support.organisation import SETTINGS
from tests.infra.support.synthesis import synthesised

PARTS = ("data", "pipeline", "observability")
GUIDE = ROOT / "docs" / "operator-guide.md"
# Without it, the example would download the packages of the functions' bundle.
NO_BUNDLES = {"CDK_CONTEXT_JSON": json.dumps({"aws:cdk:bundling-stacks": []})}


def test_the_example_of_the_guide_makes_the_stacks_that_commands_look_for(tmp_path: Path) -> None:
    section = GUIDE.read_text().partition("### In a CDK app of your own")[2]
    [example] = re.findall(r"```python\n(.*?)```", section.partition("\n### ")[0], re.DOTALL)
    environ = {**os.environ, **NO_BUNDLES, "CDK_OUTDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", example], env=environ, cwd=tmp_path, check=True)
    [assembly] = tmp_path.glob("assembly-*")
    nested = json.loads((assembly / "manifest.json").read_text())["artifacts"].values()
    stacks = {each["properties"]["stackName"]: each for each in nested if each["type"] == "aws:cloudformation:stack"}
    assert stacks.keys() == {f"metering-prod-{part}" for part in PARTS}
    assert {each["environment"] for each in stacks.values()} == {"aws://111122223333/eu-west-1"}
    # The same resources as of a deployment by command; some of their ids have the path of the construct.
    files = {part: stacks[f"metering-prod-{part}"]["properties"]["templateFile"] for part in PARTS}
    made = {part: json.loads((assembly / file).read_text())["Resources"] for part, file in files.items()}
    for part, resources in made.items():
        # The CDK counts its users by this resource, unless the app says otherwise.
        counted = Counter(each["Type"] for name, each in resources.items() if name != "CDKMetadata")
        assert counted == Counter(each["Type"] for each in synthesised("prod").templates[part]["Resources"].values())
    [mapping] = [each for each in made["pipeline"].values() if each["Type"] == "AWS::Lambda::EventSourceMapping"]
    assert mapping["Properties"]["ScalingConfig"] == {"MaximumConcurrency": 40}


@pytest.mark.parametrize("name", ["vpc", "kms_key_arn", "log_sources"])
def test_settings_of_a_region_need_one(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} belong to a region: name it, by AWS_REGION or in an `env`"):
        MeteringRegion(App(), "Metering", stage="prod", settings={name: SETTINGS[name]})


def test_wrong_settings_are_named_before_anything_is_synthesised() -> None:
    env = Environment(account="111122223333", region="eu-west-1")
    with pytest.raises(SettingsError, match="max_concurency"):
        MeteringRegion(App(), "Metering", stage="prod", settings={"max_concurency": 40}, env=env)
