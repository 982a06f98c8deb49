"""The biller reads exports of AWS's own bill below their prefixes only, and only if a setting names them."""

import json
from typing import Any

import pytest

from metering.billing.bill_export import BillExport, decode_exports
from metering.errors import SettingsError
from metering.fleet.stage import StageConfig
from metering.settings import BillerSettings
from tests.infra.support.models import holds
from tests.infra.support.synthesis import STAGE_NAMES, synthesised
from tests.infra.test_grants import Grants

KEY = "arn:aws:kms:us-east-1:111122223333:key/1a-2b"
EXPORT: dict[str, Any] = {
    "bucket": "acme-billing", "region": "us-east-1", "prefix": "exports/metering", "format": "cur2", "kms_key_arn": KEY,
}  # fmt: skip
OVERRIDES = json.dumps({"bill_exports": [EXPORT]})


def statements(action: str = "") -> list[dict[str, Any]]:
    """Statements of the biller's role about the export, or only those with an action."""
    found = Grants(synthesised("prod", overrides=OVERRIDES), "pipeline", "BillerRole").statements
    own = [each for each in found if "acme-billing" in json.dumps(each) or KEY in json.dumps(each)]
    return [each for each in own if action in json.dumps(each["Action"])]


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_stage_without_an_export_has_nothing_of_it(stage: str) -> None:
    plain = json.dumps(synthesised(stage).templates)
    assert "BILL_EXPORTS" not in plain
    assert "aws-bill" not in plain


def test_the_biller_may_list_and_read_below_the_prefix_and_nothing_else() -> None:
    [read] = statements("s3:GetObject")
    assert "acme-billing/exports/metering/*" in json.dumps(read["Resource"])
    [listing] = statements("s3:ListBucket")
    assert holds(listing["Condition"], {"s3:prefix": "exports/metering/metadata/"})
    assert not holds(listing["Condition"], {"s3:prefix": "exports/metering-2/"})
    assert not holds(listing["Condition"], {})
    [decrypt] = statements("kms:Decrypt")
    assert (decrypt["Resource"], list(decrypt["Condition"])) == (KEY, ["StringEquals"])
    assert len(statements()) == 3


def test_the_biller_alone_knows_the_export() -> None:
    functions = synthesised("prod", overrides=OVERRIDES).resources("pipeline", "AWS::Lambda::Function")
    found = {name: each["Properties"]["Environment"]["Variables"] for name, each in functions.items()}
    [name] = [name for name, variables in found.items() if "METERING_BILL_EXPORTS" in variables]
    assert name.startswith("Biller")
    given = {key: value if isinstance(value, str) else "made" for key, value in found[name].items()}
    assert decode_exports(BillerSettings.from_env(given).bill_exports) == (
        BillExport(
            bucket="acme-billing",
            region="us-east-1",
            prefix="exports/metering",
            format="cur2",
            tolerance=("1%", "10MB"),
        ),
    )


def test_only_the_home_region_compares() -> None:
    config = StageConfig.load("prod", {"bill_exports": [EXPORT], "rollout.home": "eu-west-1"})
    assert config.in_region("eu-west-1").bill_exports == config.bill_exports
    assert config.in_region("us-east-1").bill_exports == ()


@pytest.mark.parametrize(("change", "words"), [
    ({"bucket": "No_Bucket"}, "the name of a bucket"),
    ({"prefix": "/exports"}, "begins without a slash"),
    ({"prefix": "exports/*"}, "not possible"),
    ({"prefix": ""}, "prefix"),
    ({"format": "cur"}, "cur2"),
    ({"accounts": ["12"]}, "accounts"),
    ({"tolerance": ["much"]}, "no tolerance"),
    ({"tolerance": []}, "each rounding"),
    ({"kms_key_arn": "alias/x"}, "ARN of a key"),
    ({"colour": "red"}, "colour"),
])  # fmt: skip
def test_a_wrong_export_is_refused_with_what_to_write(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match="bill_exports") as caught:
        StageConfig.load("prod", {"bill_exports": [{**EXPORT, **change}]})
    assert words in str(caught.value)
