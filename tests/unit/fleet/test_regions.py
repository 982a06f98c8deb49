"""Waves, rules and the item of a region."""

from __future__ import annotations

from metering.fleet.regions import Answered, Finding, ListedRegion, Phase, RegionState, Step, waves
from metering.fleet.stage import RolloutRules


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
