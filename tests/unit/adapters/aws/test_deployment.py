"""The deployment's process: what it says of itself reaches people, and the CDK's chatter does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.deployment import _pass_on

if TYPE_CHECKING:
    import pytest


def test_bundling_of_assets_is_not_told_and_a_warning_is(capsys: pytest.CaptureFixture[str]) -> None:
    _pass_on(["Bundling asset metering-local-pipeline/Aggregator/Function/Code/Stage...\n", "[Warning] a role\n"])
    assert capsys.readouterr().err == "[Warning] a role\n"
