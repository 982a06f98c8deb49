"""Settings in layers: the base, the settings file, and `--set` values that are given now or were given earlier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from metering.errors import SettingsError
from metering.fleet.settings.layers import (
    Asked,
    StageTable,
    as_options,
    as_toml,
    check_alone,
    config_of,
    find,
    planned,
    read,
    recovered,
)
from metering.fleet.settings.regions import RegionSettings, told
from metering.fleet.stage import StageConfig
from metering.settings import STANDARD_BYTES, GivenSettings, StageSettings
from metering.units import DAY_S
from metering.version import package_version
from tests.support.memory.regions import MemoryDeployedSettings

BATCH_SIZE = StageConfig.load("prod").batch_size
PAGER = {"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}
_GIVEN = {"max_concurrency": 8, "subscriptions": [dict(PAGER)]}
EARLIER = GivenSettings(like="prod", by_file={"batch_size": 50}, by_option=_GIVEN)


def table(**values: object) -> StageTable:
    return StageTable(place="metering.toml [stage.prod]", like="prod", values=values)


def problems(asked: Asked, before: GivenSettings | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        planned(asked, before)
    return caught.value.problems


def test_without_a_file_and_without_options_what_is_deployed_is_kept() -> None:
    found = planned(Asked(stage="prod"), EARLIER)
    assert (found.config.batch_size, found.config.max_concurrency) == (50, 8)
    assert [each.endpoint for each in found.config.subscriptions] == ["oncall@example.com"]
    assert found.given == EARLIER.model_copy(update={"version": package_version()})


def test_an_option_wins_now_and_is_kept_for_later() -> None:
    found = planned(Asked(stage="prod", options={"max_concurrency": "12", "tunables.shards": 2}), EARLIER)
    assert found.config.max_concurrency == 12
    assert found.given.by_option["max_concurrency"] == 12
    again = planned(Asked(stage="prod"), found.given)
    assert again.config == found.config


def test_a_file_is_the_truth_of_what_it_names_and_of_what_an_earlier_file_named() -> None:
    found = planned(Asked(stage="prod", table=table(max_concurrency=6)), EARLIER)
    # This setting is in the file, and the file takes precedence over an earlier --set.
    assert found.config.max_concurrency == 6
    # Only the earlier file has this setting, so it is dropped.
    assert found.config.batch_size == BATCH_SIZE
    # This setting was given by --set and is not in the file, so it is kept.
    assert len(found.config.subscriptions) == 1
    assert found.given.by_file == {"max_concurrency": 6}
    assert set(found.given.by_option) == {"subscriptions"}


def test_an_option_wins_over_the_file_until_the_next_deployment_from_the_file() -> None:
    asked = Asked(stage="prod", table=table(max_concurrency=6), options={"max_concurrency": 9})
    found = planned(asked, None)
    assert (found.config.max_concurrency, found.source("max_concurrency")) == (9, "set")
    again = planned(Asked(stage="prod", table=table(max_concurrency=6)), found.given)
    assert (again.config.max_concurrency, again.source("max_concurrency")) == (6, "file")


def test_what_was_given_can_be_taken_back_whole_or_by_its_entries() -> None:
    before = EARLIER.model_copy(update={"by_option": {"max_concurrency": 8, "tunables.shards": 2}})
    assert planned(Asked(stage="prod", unset=frozenset({"max_concurrency"})), before).config.max_concurrency == 20
    assert planned(Asked(stage="prod", unset=frozenset({"tunables"})), before).config.policy().shards == 1
    # Without a file, settings from an earlier file are kept, too.
    assert planned(Asked(stage="prod", unset=frozenset({"batch_size"})), before).config.batch_size == BATCH_SIZE


@pytest.mark.parametrize(("asked", "told"), [
    (
        Asked(stage="prod", table=table(batch_size=5), unset=frozenset({"batch_size"})),
        "batch_size is in metering.toml [stage.prod]: take it out there",
    ),
    (
        Asked(stage="prod", unset=frozenset({"max_concurency"})),
        "--unset max_concurency is not a setting: did you mean max_concurrency?",
    ),
    (Asked(stage="pord"), "stage pord is neither deployed nor in a settings file: did you mean prod?"),
], ids=["in the file", "unknown name", "unknown stage"])  # fmt: skip
def test_what_cannot_be_taken_back_or_found_is_refused_with_the_nearest(asked: Asked, told: str) -> None:
    assert problems(asked) == (told,)
    assert "write [stage.staging] in metering.toml" in problems(Asked(stage="staging"))[0]


def test_what_another_version_was_given_and_this_one_does_not_know_is_said_and_can_be_taken_back() -> None:
    before = GivenSettings(like="prod", by_option={"max_concurrency": 8, "colour": "red"})
    [problem] = problems(Asked(stage="prod"), before)
    assert problem == (
        "colour is not a setting; the deployment was given it by another version: take it back with --unset colour"
    )
    assert planned(Asked(stage="prod", unset=frozenset({"colour"})), before).config.max_concurrency == 8


def test_what_says_the_same_as_the_base_is_not_kept_unless_the_file_says_otherwise() -> None:
    same = {"batch_size": BATCH_SIZE}
    given = planned(Asked(stage="prod", table=table(log_retention_days=365), options=same), None).given
    assert (given.by_file, given.by_option) == ({}, {})
    given = planned(Asked(stage="prod", table=table(batch_size=50), options=same), None).given
    assert (given.by_file, given.by_option) == ({"batch_size": 50}, same)


def test_each_setting_says_where_it_comes_from() -> None:
    found = planned(Asked(stage="prod", table=table(batch_size=50), options={"max_concurrency": 8}), None)
    assert [found.source(name) for name in ("batch_size", "max_concurrency", "log_retention_days", "timeout_s")] == [
        "file", "set", "base", "default",
    ]  # fmt: skip


def test_a_stage_of_any_name_is_like_the_one_that_its_table_says() -> None:
    asked = Asked(stage="staging", table=StageTable(place="m", like="dev", values={}))
    found = planned(asked, None)
    assert found.config == StageConfig.load("staging", like="dev")
    # A later deployment without the file still uses these settings.
    assert planned(Asked(stage="staging"), found.given).config == found.config


def test_every_problem_is_said_at_once_with_its_place_its_range_and_the_nearest_name() -> None:
    asked = Asked(
        stage="prod",
        table=table(batch_size=0, subscription=[], log_level="debug"),
        options={"max_concurrency": 5000, "shards": 2, "rollout.alow": []},
    )
    assert set(problems(asked)) == {
        "metering.toml [stage.prod]: batch_size is 0; it must be a whole number from 1 to 10,000",
        "metering.toml [stage.prod]: subscription is not a setting: did you mean subscriptions?",
        "metering.toml [stage.prod]: log_level is 'debug'; it must be one of DEBUG, INFO, WARNING",
        "--set max_concurrency is 5,000; it must be a whole number from 2 to 1,000",
        "--set shards is not a setting: did you mean tunables.shards?",
        "--set rollout.alow is not a setting: did you mean rollout.allow?",
    }


@pytest.mark.parametrize(("options", "words"), [
    ({"tunables.shards": 99}, "tunables.shards is 99; it must be a whole number from 1 to 64"),
    ({"tunables.shardz": 1}, "tunables.shardz is not a setting: did you mean tunables.shards?"),
    ({"tunables": 5}, "--set tunables is 5; it must be a table"),
    ({"versioned": "perhaps"}, "--set versioned is 'perhaps'; it must be true or false"),
    ({"trusted_accounts": "1"}, "--set trusted_accounts is '1'; it must be a list of texts"),
    ({"subscriptions": [{"severity": "page"}]}, "--set subscriptions.protocol (entry 1) is missing"),
    ({"visibility_s": 10}, "visibility_s must be at least 450 (6 x (timeout_s + batch_window_s))"),
    ({"lake_first_day": "soon"}, "--set lake_first_day is 'soon'; it must be a date such as 2026-01-01"),
])  # fmt: skip
def test_a_wrong_value_is_told_in_words(options: dict[str, object], words: str) -> None:
    assert words in problems(Asked(stage="prod", options=options))


_EXPORT = {"bucket": "acme-billing", "region": "us-east-1", "prefix": "exports/metering", "format": "cur2"}


@pytest.mark.parametrize(("options", "words"), [
    ({"bill_exports": [_EXPORT, {**_EXPORT, "prefix": "exports/metering/"}]}, "s3://acme-billing/exports/metering tw"),
    ({"bill_exports": [{**_EXPORT, "accounts": [f"{n:012}" for n in range(200)]}]}, "there is room for 2,000"),
    ({"bootstrap.qualifier": "acme"}, "bootstrap.qualifier acme needs bootstrap.toolkit_stack, too"),
])  # fmt: skip
def test_values_that_do_not_go_together_are_refused(options: dict[str, object], words: str) -> None:
    assert words in "\n".join(problems(Asked(stage="prod", options=options)))


@pytest.mark.parametrize(("protocol", "endpoint", "word"), [
    ("email", "nobody", "is not a mailbox"),
    ("https", "http://example.com", "begins with https://"),
    ("https", "https://user:secret@example.com/", "password"),
    ("https", "https://[broken", "is not a URL"),
    ("sqs", "my-queue", "is not the ARN of a sqs subscriber"),
])  # fmt: skip
def test_an_address_that_is_none_or_holds_a_password_is_refused(protocol: str, endpoint: str, word: str) -> None:
    subscription = {"severity": "page", "protocol": protocol, "endpoint": endpoint}
    [problem] = problems(Asked(stage="prod", options={"subscriptions": [subscription]}))
    assert word in problem
    assert "secret" not in problem


def test_the_name_of_a_stage_is_no_setting() -> None:
    assert "--stage" in problems(Asked(stage="local", options={"stage": "x"}))[0]
    with pytest.raises(SettingsError, match="--stage"):
        check_alone(Asked(stage="local", options={"stage": "x"}))


@pytest.mark.parametrize("name", ["rehearsal", "first_build", "usage_before", "exports_before"])
def test_what_a_deployment_decides_is_no_setting_of_a_stage(name: str) -> None:
    assert f"{name} is not a setting" in problems(Asked(stage="prod", options={name: True}))[0]
    assert f"{name} is not a setting" in problems(Asked(stage="prod", table=table(**{name: True})))[0]


def test_names_and_ranges_are_checked_without_what_is_deployed_and_the_rest_is_not() -> None:
    # 100 s are allowed together with the 690 s that the deployment was given earlier.
    asked = Asked(stage="prod", options={"timeout_s": 100})
    check_alone(asked)
    assert planned(asked, GivenSettings(like="prod", by_option={"visibility_s": 690})).config.timeout_s == 100
    with pytest.raises(SettingsError, match="visibility_s"):
        planned(asked, None)
    with pytest.raises(SettingsError, match="timeout_s is 0"):
        check_alone(Asked(stage="prod", options={"timeout_s": 0}))


def test_settings_that_a_parameter_cannot_hold_are_refused_in_words() -> None:
    many = [{**PAGER, "endpoint": f"person-{number}@example.com"} for number in range(60)]
    [problem] = problems(Asked(stage="prod", options={"subscriptions": many}))
    assert f"{STANDARD_BYTES:,}" in problem
    assert "60 subscriptions" in problem


def test_what_a_region_decides_lies_on_top_and_is_not_given() -> None:
    given = planned(Asked(stage="prod", options={"analytics": True, "max_concurrency": 8}), None).given
    config = config_of("prod", given, {"analytics": "false", "architecture": "x86_64"})
    assert (config.analytics, config.architecture, config.max_concurrency) == (False, "x86_64", 8)
    assert given.by_option == {"max_concurrency": 8}


def test_what_an_old_version_was_given_is_read_from_its_policy_its_queues_and_its_subscribers() -> None:
    values = {
        "admission_window_s": 40 * DAY_S, "marker_life_s": 58 * DAY_S, "tunables": {"shards": 4}, "max_receives": 6,
        "visibility_s": 500, "queue_retention_s": 5 * DAY_S, "dead_letter_retention_s": 13 * DAY_S,
    }  # fmt: skip
    published = StageConfig.load("prod", values).published()
    assert published.given is None
    given = recovered(published, [PAGER])
    assert config_of("prod", given, {}) == StageConfig.load("prod", {**values, "subscriptions": [PAGER]})


# How the next deployment changes a region's settings, and how people are told about it.

HOME, OTHER, NEW = "us-east-1", "eu-west-1", "ap-southeast-9"
TICKETS = {"severity": "ticket", "protocol": "email", "endpoint": "team@example.com"}


class Setup:
    """A stage of two regions, deployed with different settings; the settings of region `damaged` are unreadable."""

    def __init__(self, stage: str = "prod", *, damaged: str = "") -> None:
        self.stage = stage
        self.world = MemoryDeployedSettings()
        self.deploy(HOME, max_concurrency=8, subscriptions=[PAGER, TICKETS])
        self.deploy(OTHER, max_concurrency=4)
        if damaged:
            self.world.documents[damaged] = "their hash differs"

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


def test_a_redeployment_that_says_nothing_changes_nothing_and_a_new_region_begins_as_the_home_region() -> None:
    settings = Setup().settings()
    assert [settings.of(region).config.max_concurrency for region in (HOME, OTHER, NEW)] == [8, 4, 8]
    assert told([settings.change(region) for region in (HOME, OTHER)]) == []
    assert len(settings.of(NEW).config.subscriptions) == 2
    assert settings.current(NEW) is None
    assert str(settings.change(NEW)) == ""


def test_a_new_region_does_not_begin_with_the_restored_ledger_of_the_home_region() -> None:
    setup = Setup()
    setup.deploy(HOME, max_concurrency=8, ledger_table="metering-prod-ledger-2", usage_table="metering-prod-usage-2")
    home, new = (setup.settings().of(region).config for region in (HOME, NEW))
    assert (home.ledger_table, home.usage_table) == ("metering-prod-ledger-2", "metering-prod-usage-2")
    assert (new.ledger_table, new.usage_table, new.max_concurrency) == ("", "", 8)


@pytest.mark.parametrize("name", ["ab", "with space", "a" * 256, "arn:aws:x"])
def test_a_table_has_a_name_that_dynamodb_accepts(name: str) -> None:
    with pytest.raises(SettingsError, match="ledger_table"):
        StageConfig.load("prod", {"ledger_table": name})


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
    said = told([settings.change(region) for region in (HOME, OTHER)])
    assert said == [f"us-east-1, eu-west-1: settings: batch_size {BATCH_SIZE} -> 50"]


def test_the_order_of_subscriptions_is_no_difference() -> None:
    assert Setup().settings({"subscriptions": [TICKETS, PAGER]}).change(HOME).differences == ()


@pytest.mark.parametrize(("options", "words"), [
    ({"lake_retention_days": 400}, "lake files that are older are deleted"),
    ({"quarantine_retention_days": 30}, "quarantined records that are older are deleted"),
    ({"versioned": False}, "gone at once"),
    ({"analytics": False}, "Athena workgroup are deleted"),
])  # fmt: skip
def test_what_a_setting_deletes_is_said(options: dict[str, object], words: str) -> None:
    assert words in str(Setup().settings(options).change(HOME))


def test_an_api_that_is_taken_back_is_said_and_a_longer_life_deletes_nothing() -> None:
    setup = Setup()
    setup.deploy(HOME, api=True)
    assert "the HTTP API is deleted" in str(setup.settings({"api": False}).change(HOME))
    assert setup.settings({"quarantine_retention_days": 500}).change(HOME).notes == ()


def test_data_that_loses_its_protection_is_said() -> None:
    setup = Setup("dev")
    setup.deploy(HOME, stateful_retained=True)
    assert "would delete the data" in str(setup.settings(unset=("stateful_retained",)).change(HOME))


KEY = "arn:aws:kms:us-east-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize(
    "options", [{"emulated": True}, {"rollout.home": "eu-west-1"}, {"drop_identity": "checksum", "kms_key_arn": KEY}]
)
def test_what_would_leave_resources_without_an_owner_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="cannot be changed while stage prod is deployed"):
        Setup().settings(options).change(HOME)


def test_settings_that_nobody_can_read_are_said_and_do_not_stop_the_deployment_that_repairs_them() -> None:
    setup = Setup(damaged=HOME)
    settings = setup.settings({"max_concurrency": 5})
    assert settings.of(HOME).config.max_concurrency == 5
    assert "nobody knows what us-east-1 was given (their hash differs)" in str(settings.change(HOME))


def test_settings_that_nobody_can_read_lose_no_pager() -> None:
    setup = Setup(damaged=HOME)
    setup.world.subscribers[HOME] = [PAGER]
    settings = setup.settings()
    assert [each.endpoint for each in settings.of(HOME).config.subscriptions] == ["oncall@example.com"]
    assert "only the file, --set and 1 subscription of its topics count" in str(settings.change(HOME))
    # Naming subscriptions replaces them.
    assert setup.settings({"subscriptions": []}).of(HOME).config.subscriptions == ()
    assert setup.settings(unset=("subscriptions",)).of(HOME).config.subscriptions == ()


@pytest.mark.parametrize("region", [HOME, NEW])
def test_what_was_given_outlives_a_version_whose_policy_has_other_fields(region: str) -> None:
    """An upgrade that adds a field to the policy, and the rollback of this upgrade."""
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
    setup = Setup(damaged=HOME)
    with pytest.raises(SettingsError, match="deploy that first"):
        setup.settings().of(NEW)
    # Others have their own.
    assert setup.settings().of(OTHER).config.max_concurrency == 4


def test_a_region_that_nobody_can_read_does_not_take_over_what_the_home_region_was_given() -> None:
    assert Setup(damaged=OTHER).settings().of(OTHER).config.max_concurrency == 20


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
    deployed = StageConfig.load("prod", {"tunables": {"shards": 4}, "max_concurrency": 8})
    setup.world.documents[HOME] = deployed.published()
    setup.world.subscribers[HOME] = [PAGER]
    settings = setup.settings()
    config = settings.of(HOME).config
    assert config.policy().shards == 4
    assert [each.endpoint for each in config.subscriptions] == ["oncall@example.com"]
    assert "its policy and 1 subscription were read from what runs; give all else again" in str(settings.change(HOME))


def test_what_the_file_overrules_next_time_or_was_not_given_is_said() -> None:
    said = str(Setup().settings({"max_concurrency": 9}, file={"max_concurrency": 8}).change(HOME))
    assert "max_concurrency is also in metering.toml [stage.prod], and the next deployment takes it from there" in said
    assert "batch_size was not given" in str(Setup().settings(unset=("batch_size",)).change(HOME))


def test_what_is_deployed_is_read_once() -> None:
    setup = Setup()
    settings = setup.settings()
    before = settings.of(HOME)
    setup.deploy(HOME, max_concurrency=2)
    assert settings.of(HOME) == before


# `metering.toml`: it is found, read, and validated, and all problems are reported at once.

EXAMPLE = Path(__file__).parents[4] / "docs" / "metering.toml"


def written(folder: Path, text: str) -> Path:
    path = folder / "metering.toml"
    path.write_text(text)
    return path


def test_the_file_is_found_here_or_in_a_folder_around(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert find(inner, None) is None
    path = written(tmp_path, "")
    assert find(inner, None) == path
    nearer = written(inner, "")
    assert find(inner, None) == nearer
    assert find(inner, str(path)) == path


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml does not exist"):
        find(tmp_path, str(tmp_path / "none.toml"))


def test_the_example_of_the_documentation_is_right_and_has_what_it_says() -> None:
    file = read(EXAMPLE)
    assert file.problems() == ()
    table = file.table("staging")
    assert table is not None
    assert table.like == "prod"
    config = planned(Asked(stage="staging", table=table), None).config
    assert config.stateful_retained
    assert config.stack_name("data") == "metering-staging-data"


def test_a_stage_that_is_like_none_is_like_prod_and_a_known_one_is_itself(tmp_path: Path) -> None:
    file = read(written(tmp_path, "[stage.emea]\n[stage.dev]\n"))
    for stage, like in (("emea", "prod"), ("dev", "dev")):
        table = file.table(stage)
        assert table is not None
        assert table.like == like
    assert file.table("prod") is None
    assert StageConfig.load("emea", like="prod").stateful_retained


def test_subtables_and_dates_are_read_as_settings(tmp_path: Path) -> None:
    text = """
[stage.x]
lake_first_day = 2026-03-01
rollout.home = "eu-west-1"
[stage.x.tunables]
shards = 2
"""
    table = read(written(tmp_path, text)).table("x")
    assert table is not None
    assert table.values == {"lake_first_day": "2026-03-01", "rollout.home": "eu-west-1", "tunables.shards": 2}


def test_every_problem_of_every_stage_is_said_with_file_and_table(tmp_path: Path) -> None:
    text = """
[stage.prod]
like = "dev"
[stage.staging]
subscription = 1
max_concurrency = 1
[stage.emea]
like = "prd"
stage = "x"
[stage.dev]
batch_window_s = 0
[stage.Wrong]
"""
    path = written(tmp_path, text)
    assert set(read(path).problems()) == {
        f"{path} [stage.prod]: prod is a stage of its own, like no other; take `like` out, or name the stage otherwise",
        f"{path} [stage.staging]: subscription is not a setting: did you mean subscriptions?",
        f"{path} [stage.staging]: max_concurrency is 1; it must be a whole number from 2 to 1,000",
        f"{path} [stage.emea]: like is 'prd'; it must be one of dev, killtest, local, prod; did you mean prod?",
        f"{path} [stage.emea]: the name of a stage is that of its table; take `stage` out",
        f"{path} [stage.dev]: batch_window_s must be at least 1 for more than 10 messages an invocation",
        "stage is 'Wrong'; it must be a letter, then up to 15 of a-z, 0-9 and dashes",
    }


@pytest.mark.parametrize(("text", "words"), [
    ("[stage.prod\n", "is not TOML"),
    ("[prod]\n", r"prod is in no stage: settings stand below \[stage.prod\]"),
    ("max_concurrency = 3\n", "max_concurrency is in no stage"),
    ("stage = 3\n", r"write a table \[stage.NAME\]"),
])  # fmt: skip
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read(written(tmp_path, text))


def test_a_file_that_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metering.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is not TOML"):
        read(tmp_path / "metering.toml")
    with pytest.raises(SettingsError, match="cannot be read"):
        read(tmp_path)


GIVEN = GivenSettings(
    like="prod",
    by_file={"runbook_base": 'https://example.com/"books"', "rollout.allow": ["eu-*"]},
    by_option={
        "max_concurrency": 8,
        "tracing": True,
        "tunables.shards": 2,
        "subscriptions": [{"severity": "page", "protocol": "email", "endpoint": "ä@example.com"}],
    },
)


@pytest.mark.parametrize("stage", ["prod", "emea"])
def test_what_was_given_can_be_written_as_a_file_and_read_again(tmp_path: Path, stage: str) -> None:
    table = read(written(tmp_path, as_toml(stage, GIVEN))).table(stage)
    assert table is not None
    assert (table.like, dict(table.values)) == ("prod", {**GIVEN.by_file, **GIVEN.by_option})


def test_what_was_given_can_be_typed_as_options_of_any_version() -> None:
    text = as_options(GIVEN.model_copy(update={"by_file": {}}))
    assert text == (
        "--set max_concurrency=8 --set tracing=true "
        """--set 'subscriptions=[{"severity": "page", "protocol": "email", "endpoint": "\\u00e4@example.com"}]' """
        """--set 'tunables={"shards": 2}'"""
    )
