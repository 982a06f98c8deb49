"""What the next deployment changes in a region's settings, and what people are told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.errors import SettingsError
from metering.fleet.settings.layers import Asked, StageTable, planned
from metering.fleet.settings.regions import RegionSettings, told
from metering.fleet.stage import StageConfig
from metering.settings import GivenSettings, StageSettings
from tests.support.memory.regions import MemoryDeployedSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

HOME, OTHER, NEW = "us-east-1", "eu-west-1", "ap-southeast-9"
PAGER = {"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}
TICKETS = {"severity": "ticket", "protocol": "email", "endpoint": "team@example.com"}


class Setup:
    """A stage of two regions, deployed with settings of their own."""

    def __init__(self, stage: str = "prod") -> None:
        self.stage = stage
        self.world = MemoryDeployedSettings()
        self.deploy(HOME, max_concurrency=8, subscriptions=[PAGER, TICKETS])
        self.deploy(OTHER, max_concurrency=4)

    def deploy(self, region: str, **options: object) -> None:
        settings = planned(Asked(stage=self.stage, options=options), None)
        self.world.documents[region] = settings.config.published(settings.given)

    def settings(
        self,
        options: Mapping[str, object] | None = None,
        *,
        unset: tuple[str, ...] = (),
        file: Mapping[str, object] | None = None,
    ) -> RegionSettings:
        table = None if file is None else StageTable(place="metering.toml [stage.prod]", like=self.stage, values=file)
        asked = Asked(stage=self.stage, options=options or {}, unset=frozenset(unset), table=table)
        return RegionSettings(asked=asked, home=HOME, deployed=self.world)


def test_a_redeployment_that_says_nothing_changes_nothing_in_any_region() -> None:
    settings = Setup().settings()
    assert [settings.of(region).config.max_concurrency for region in (HOME, OTHER)] == [8, 4]
    assert told([settings.change(region) for region in (HOME, OTHER)]) == []


def test_a_new_region_begins_from_what_the_home_region_was_given() -> None:
    settings = Setup().settings()
    assert settings.of(NEW).config.max_concurrency == 8
    assert len(settings.of(NEW).config.subscriptions) == 2
    assert settings.current(NEW) is None
    assert str(settings.change(NEW)) == ""


def test_the_difference_is_shown_with_what_it_costs() -> None:
    settings = Setup().settings({"max_concurrency": 16}, unset=("subscriptions",))
    assert told([settings.change(HOME)]) == [
        "us-east-1: settings: max_concurrency 8 -> 16; 2 subscriptions removed (page email oncall@example.com; "
        "ticket email team@example.com); alarms page no one"
    ]


def test_regions_with_the_same_difference_are_said_once() -> None:
    setup = Setup()
    setup.deploy(OTHER, max_concurrency=8)
    settings = setup.settings({"batch_size": 50})
    assert told([settings.change(region) for region in (HOME, OTHER)]) == [
        f"us-east-1, eu-west-1: settings: batch_size {StageConfig.load('prod').batch_size} -> 50"
    ]


def test_the_order_of_subscriptions_is_no_difference() -> None:
    settings = Setup().settings({"subscriptions": [TICKETS, PAGER]})
    assert settings.change(HOME).differences == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lake_retention_days": 400}, "lake files that are older are deleted"),
        ({"quarantine_retention_days": 30}, "quarantined records that are older are deleted"),
        ({"versioned": False}, "gone at once"),
        ({"analytics": False}, "Athena workgroup are deleted"),
    ],
)
def test_what_a_setting_deletes_is_said(options: dict[str, object], words: str) -> None:
    assert words in str(Setup().settings(options).change(HOME))


def test_an_api_that_is_taken_back_is_said() -> None:
    setup = Setup()
    setup.deploy(HOME, api=True)
    assert "the HTTP API is deleted" in str(setup.settings({"api": False}).change(HOME))


def test_a_longer_life_deletes_nothing() -> None:
    assert Setup().settings({"quarantine_retention_days": 500}).change(HOME).notes == ()


def test_data_that_loses_its_protection_is_said() -> None:
    setup = Setup("dev")
    setup.deploy(HOME, stateful_retained=True)
    assert "would delete the data" in str(setup.settings(unset=("stateful_retained",)).change(HOME))


@pytest.mark.parametrize("options", [{"emulated": True}, {"rollout.home": "eu-west-1"}])
def test_what_would_leave_resources_without_an_owner_is_refused(options: dict[str, object]) -> None:
    settings = Setup().settings(options)
    with pytest.raises(SettingsError, match="cannot be changed while stage prod is deployed"):
        settings.change(HOME)


def test_settings_that_nobody_can_read_are_said_and_do_not_stop_the_deployment_that_repairs_them() -> None:
    setup = Setup()
    setup.world.documents[HOME] = "their hash differs"
    settings = setup.settings({"max_concurrency": 5})
    assert settings.of(HOME).config.max_concurrency == 5
    assert "nobody knows what us-east-1 was given (their hash differs)" in str(settings.change(HOME))


def test_settings_that_nobody_can_read_lose_no_pager() -> None:
    setup = Setup()
    setup.world.documents[HOME] = "their hash differs"
    setup.world.subscribers[HOME] = [PAGER]
    settings = setup.settings()
    assert [each.endpoint for each in settings.of(HOME).config.subscriptions] == ["oncall@example.com"]
    assert "only the file, --set and 1 subscription of its topics count" in str(settings.change(HOME))
    # Who names subscriptions means them.
    assert setup.settings({"subscriptions": []}).of(HOME).config.subscriptions == ()
    assert setup.settings(unset=("subscriptions",)).of(HOME).config.subscriptions == ()


@pytest.mark.parametrize("region", [HOME, NEW])
def test_what_was_given_outlives_a_version_whose_policy_has_other_fields(region: str) -> None:
    """An upgrade that adds a field to the policy, and the rollback from it."""
    setup = Setup()
    published = setup.world.documents[HOME]
    assert isinstance(published, StageSettings)
    assert published.given is not None
    setup.world.documents[HOME] = "policy.colour: Field required"
    setup.world.readable[HOME] = published.given
    settings = setup.settings()
    assert settings.of(region).config.max_concurrency == 8
    assert len(settings.of(region).config.subscriptions) == 2
    assert str(settings.change(region)) == ""


def test_no_new_region_begins_from_a_home_region_that_nobody_can_read() -> None:
    setup = Setup()
    setup.world.documents[HOME] = "their hash differs"
    with pytest.raises(SettingsError, match="deploy that first"):
        setup.settings().of(NEW)
    # Others have their own.
    assert setup.settings().of(OTHER).config.max_concurrency == 4


def test_a_region_that_nobody_can_read_does_not_take_over_what_the_home_region_was_given() -> None:
    setup = Setup()
    setup.world.documents[OTHER] = "their hash differs"
    assert setup.settings().of(OTHER).config.max_concurrency == 20


def test_what_is_not_for_this_version_is_said_and_can_be_taken_back() -> None:
    setup = Setup()
    published = setup.world.documents[HOME]
    assert isinstance(published, StageSettings)
    given = GivenSettings(like="prod", by_option={"colour": "red"})
    setup.world.documents[HOME] = published.model_copy(update={"given": given})
    with pytest.raises(SettingsError, match="--unset colour"):
        setup.settings().change(HOME)
    assert "is not for this version" in str(setup.settings(unset=("colour",)).change(HOME))


def test_a_region_of_a_version_that_kept_nothing_keeps_what_its_deployment_shows() -> None:
    setup = Setup()
    setup.world.documents[HOME] = StageConfig.load(
        "prod", {"tunables": {"shards": 4}, "max_concurrency": 8}
    ).published()
    setup.world.subscribers[HOME] = [PAGER]
    settings = setup.settings()
    config = settings.of(HOME).config
    assert config.policy().shards == 4
    assert [each.endpoint for each in config.subscriptions] == ["oncall@example.com"]
    assert "its policy and 1 subscription were read from what runs; give all else again" in str(settings.change(HOME))


def test_an_option_that_the_file_overrules_next_time_is_said() -> None:
    settings = Setup().settings({"max_concurrency": 9}, file={"max_concurrency": 8})
    assert "max_concurrency is also in metering.toml [stage.prod], and the next deployment takes it from there" in str(
        settings.change(HOME)
    )


def test_taking_back_what_was_not_given_is_said() -> None:
    assert "batch_size was not given" in str(Setup().settings(unset=("batch_size",)).change(HOME))


def test_what_is_deployed_is_read_once() -> None:
    setup = Setup()
    settings = setup.settings()
    before = settings.of(HOME)
    setup.deploy(HOME, max_concurrency=2)
    assert settings.of(HOME) == before
