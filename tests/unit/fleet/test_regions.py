"""Waves, rules, releases and states of regions; the doctor's findings at the end of a build."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import pytest

from metering.errors import SettingsError
from metering.fleet.ports import Direction, Release, direction, order
from metering.fleet.regions import Answered, Finding, LedgerRegionStates, ListedRegion, Phase, RegionState, Step, waves
from metering.fleet.settings.layers import Asked
from metering.fleet.stage import RolloutRules
from metering.operations.doctor.catalogue import CHECKS
from metering.wiring import fleet
from tests.support.memory.items import MemoryItemStore
from tests.unit.operations.doctor.bench import World as DoctorWorld

if TYPE_CHECKING:
    from metering.stores.writes import Put
    from metering.wiring.connection import RegionConnection


def listed(*names: str, status: str = "ENABLED_BY_DEFAULT") -> list[ListedRegion]:
    return [ListedRegion(name=name, opt_status=status) for name in names]


def test_waves_start_with_home_then_double_up_to_the_largest() -> None:
    regions = listed("us-east-1", "a-1", "b-1", "c-1", "d-1", "e-1", "f-1", "g-1", "h-1")
    assert waves(regions, home="us-east-1", largest=3) == (
        ("us-east-1",),
        ("a-1",),
        ("b-1", "c-1"),
        ("d-1", "e-1", "f-1"),
        ("g-1", "h-1"),
    )


def test_regions_that_few_customers_have_come_first() -> None:
    regions = [*listed("eu-west-1", "us-west-2"), *listed("me-south-1", "af-south-1", status="DISABLED")]
    assert waves(regions, home="us-east-1", largest=8) == (("af-south-1",), ("me-south-1", "eu-west-1"), ("us-west-2",))


def test_what_is_ready_counts_as_waves_that_went_well() -> None:
    done = ("us-east-1", "a-1", "b-1", "c-1")
    assert waves(listed("d-1", "e-1", "f-1", "g-1"), home="us-east-1", largest=4, done=done) == (
        ("d-1", "e-1", "f-1", "g-1"),
    )


def test_deny_is_stronger_than_allow() -> None:
    rules = RolloutRules(allow=("eu-*", "us-east-1"), deny=("eu-south-*",))
    assert rules.admits("eu-west-1")
    assert not rules.admits("eu-south-2")
    assert not rules.admits("us-west-2")


def test_a_state_is_the_same_after_it_was_stored() -> None:
    state = RegionState(
        region="ap-southeast-9",
        phase=Phase.FAILED,
        step=Step.DEPLOY,
        done={Step.OPT_IN: 5, Step.BOOTSTRAP: 7},
        reason="no",
        advice="again",
        listed=False,
        left_out=("analytics",),
        findings=(Finding(check="type X", answered=Answered.UNKNOWN, detail="no answer"),),
        architecture="x86_64",
        attempts=3,
        deployments=1,
        canary_from_s=9,
        updated_s=11,
    )
    assert RegionState.from_item(state.to_item()) == state


def test_states_wait_in_memory_for_the_ledger_of_the_home_region() -> None:
    store: MemoryItemStore | None = None
    states = LedgerRegionStates(lambda: store)
    states.save(RegionState(region="home-1", phase=Phase.BUILDING))
    assert states.load("home-1") is not None
    assert [state.region for state in states.everything()] == ["home-1"]
    store = MemoryItemStore()
    states.save(RegionState(region="other-1", phase=Phase.READY))
    assert [state.region for state in LedgerRegionStates(lambda: store).everything()] == ["home-1", "other-1"]


def test_regions_of_a_wave_save_their_states_at_the_same_time() -> None:
    class Slow(MemoryItemStore):
        """Another region saves while this one is being stored."""

        def put(self, action: Put) -> None:
            super().put(action)
            if action.key.sk == "first-1":
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(states.save, RegionState(region="second-1")).result(timeout=5)

    store = Slow()
    states = LedgerRegionStates(lambda: store)
    states.save(RegionState(region="first-1"))
    assert [state.region for state in states.everything()] == ["first-1", "second-1"]


def release(version: str, *, data_format: int = 1, commit: str = "") -> Release:
    return Release(version=version, data_format=data_format, commit=commit)


def test_versions_stand_in_the_order_of_their_releases() -> None:
    ordered = ["0.1.0", "0.1.9", "0.1.10", "0.2.0.dev0", "0.2.0a1", "0.2.0b1", "0.2.0rc1", "0.2.0", "1.0.0"]

    assert sorted(set(ordered), key=order) == ordered


def test_what_a_stack_puts_out_is_read_again_as_the_same_release() -> None:
    own = release("0.2.0", commit="1911cd8aa657-dirty")

    assert Release.of_outputs({**own.outputs, "Other": "x"}) == own


@pytest.mark.parametrize("outputs", [{}, {"Version": "0.2.0"}, {"Version": "0.2.0", "DataFormat": "one"}])
def test_a_stack_that_does_not_say_both_says_no_release(outputs: dict[str, str]) -> None:
    assert Release.of_outputs(outputs) is None


@pytest.mark.parametrize(("deployed", "own", "way"), [
    (release("0.2.0"), release("0.2.0"), Direction.SAME),
    (release("0.2.0", commit="a"), release("0.2.0", commit="b"), Direction.UPGRADE),
    (release("0.2.0", commit="a"), release("0.2.0"), Direction.SAME),
    (release("0.1.0"), release("0.2.0"), Direction.UPGRADE),
    (release("0.3.0"), release("0.2.0"), Direction.ROLLBACK),
    (None, release("0.2.0.dev0"), Direction.UPGRADE),
    (None, release("0.1.0"), Direction.SAME),
])  # fmt: skip
def test_the_way_goes_from_what_is_deployed_to_this_checkout(
    deployed: Release | None, own: Release, way: Direction
) -> None:
    assert direction(deployed, data_format=1, own=own) is way


def test_a_format_that_this_checkout_does_not_know_is_refused_whatever_the_version() -> None:
    assert direction(release("0.3.0", data_format=2), data_format=2, own=release("0.9.0")) is Direction.REFUSED


def test_a_release_of_a_newer_format_is_refused_while_the_data_is_still_old() -> None:
    assert direction(release("0.1.0"), data_format=1, own=release("0.3.0", data_format=2)) is Direction.REFUSED


def test_each_quick_check_is_a_finding_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = DoctorWorld(reader_denied=True, versioned=False, engine=None, starts={}).bench()
    monkeypatch.setattr(fleet, "doctor_bench", lambda _region, *, thorough: None if thorough else bench)
    found = {each.check: each for each in fleet.findings_of(cast("RegionConnection", None))}
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
