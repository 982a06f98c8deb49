"""Dashboards for the documentation: stage prod with an HTTP API, in the home region of four regions."""

import json
from pathlib import Path

from tests.infra.pictures.drawing import svg_of
from tests.infra.support.models import place_of
from tests.infra.support.synthesis import synthesised

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "dashboards"
_REGIONS = ["us-east-1", "eu-west-1", "ap-southeast-1", "sa-east-1"]
_OVERRIDES = json.dumps({"api": True, "rollout_project": True, "rollout": {"home": "us-east-1", "allow": _REGIONS}})


def pictures() -> dict[str, str]:
    """SVG of each dashboard by its file name."""
    synth = synthesised("prod", overrides=_OVERRIDES)
    place = place_of(synth.templates["observability"], Region="us-east-1")
    alarms = {
        logical: str(each["Properties"]["AlarmName"])
        for logical, each in synth.resources("observability", "AWS::CloudWatch::Alarm").items()
    }
    found: dict[str, str] = {}
    for each in synth.resources("observability", "AWS::CloudWatch::Dashboard").values():
        name = place.text(each["Properties"]["DashboardName"]).removeprefix("metering-prod-").removesuffix("-us-east-1")
        found[f"{name}.svg"] = svg_of(json.loads(place.text(each["Properties"]["DashboardBody"])), alarms)
    return found
