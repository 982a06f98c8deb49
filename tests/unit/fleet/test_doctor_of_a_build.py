"""What the doctor finds at the end of a build, on AWS; an emulator is not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from metering.errors import SettingsError
from metering.fleet.regions import Answered
from metering.fleet.settings.layers import Asked
from metering.operations.doctor.catalogue import CHECKS
from metering.wiring import fleet
from metering.wiring import fleet as doctor
from tests.unit.operations.doctor.bench import World as DoctorWorld

if TYPE_CHECKING:
    from metering.wiring.connection import RegionConnection


def test_each_quick_check_is_a_finding_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = DoctorWorld(reader_denied=True, versioned=False, engine=None, starts={}).bench()
    monkeypatch.setattr(doctor, "doctor_bench", lambda _region, *, thorough: None if thorough else bench)
    found = {each.check: each for each in doctor.findings_of(cast("RegionConnection", None))}
    assert list(found) == [f"doctor {check.name}" for check in CHECKS if not check.thorough]
    assert found["doctor missing-key"].answered is Answered.FAILED
    assert "reader" in found["doctor missing-key"].detail
    assert found["doctor cancel-reasons"].answered is Answered.PASSED
    assert found["doctor athena"].answered is Answered.UNKNOWN


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:4566"])
def test_only_aws_is_examined_and_a_region_without_an_answer_is_unknown(
    endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_stack(_clients: object, _stage: str) -> Any:
        raise SettingsError(["stage demo is not deployed"])

    monkeypatch.setattr(fleet, "connected", no_stack)
    environ = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    built = fleet.Fleet(asked=Asked(stage="demo"), home="eu-west-1", endpoint=endpoint, environ=environ)
    found = built._examined("eu-west-1")
    if endpoint is not None:
        assert found == ()
        return
    [finding] = found
    assert (finding.check, finding.answered) == ("doctor", Answered.UNKNOWN)
    assert "not deployed" in finding.detail
