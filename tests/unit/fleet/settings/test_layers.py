"""Settings in layers: the base, the file, and what `--set` gave, now or earlier."""

from __future__ import annotations

import pytest

from metering.errors import SettingsError
from metering.fleet.settings.layers import Asked, StageTable, check_alone, config_of, planned, recovered
from metering.fleet.stage import StageConfig
from metering.settings import STANDARD_BYTES, GivenSettings
from metering.units import DAY_S
from metering.version import package_version

BATCH_SIZE = StageConfig.load("prod").batch_size
PAGER = {"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}
EARLIER = GivenSettings(
    like="prod", by_file={"batch_size": 50}, by_option={"max_concurrency": 8, "subscriptions": [dict(PAGER)]}
)


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
    # Named by the file: it wins over what --set gave earlier.
    assert found.config.max_concurrency == 6
    # Named by the earlier file only: gone.
    assert found.config.batch_size == BATCH_SIZE
    # Given by --set, and not named by the file: kept.
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
    # Without a file, also what an earlier file gave.
    assert planned(Asked(stage="prod", unset=frozenset({"batch_size"})), before).config.batch_size == BATCH_SIZE


def test_what_the_file_names_cannot_be_taken_back_beside_it() -> None:
    [problem] = problems(Asked(stage="prod", table=table(batch_size=5), unset=frozenset({"batch_size"})))
    assert problem == "batch_size is in metering.toml [stage.prod]: take it out there"


def test_what_another_version_was_given_and_this_one_does_not_know_is_said_and_can_be_taken_back() -> None:
    before = GivenSettings(like="prod", by_option={"max_concurrency": 8, "colour": "red"})
    [problem] = problems(Asked(stage="prod"), before)
    assert problem == (
        "colour is not a setting; the deployment was given it by another version: take it back with --unset colour"
    )
    assert planned(Asked(stage="prod", unset=frozenset({"colour"})), before).config.max_concurrency == 8


def test_a_name_that_nobody_gave_and_nobody_knows_cannot_be_taken_back() -> None:
    assert problems(Asked(stage="prod", unset=frozenset({"max_concurency"}))) == (
        "--unset max_concurency is not a setting: did you mean max_concurrency?",
    )


def test_what_says_the_same_as_the_base_is_not_kept() -> None:
    given = planned(
        Asked(stage="prod", table=table(log_retention_days=365), options={"batch_size": BATCH_SIZE}), None
    ).given
    assert (given.by_file, given.by_option) == ({}, {})


def test_an_option_that_says_the_same_as_the_base_and_not_as_the_file_is_kept() -> None:
    given = planned(Asked(stage="prod", table=table(batch_size=50), options={"batch_size": 100}), None).given
    assert (given.by_file, given.by_option) == ({"batch_size": 50}, {"batch_size": 100})


def test_each_setting_says_where_it_comes_from() -> None:
    found = planned(Asked(stage="prod", table=table(batch_size=50), options={"max_concurrency": 8}), None)
    assert [found.source(name) for name in ("batch_size", "max_concurrency", "log_retention_days", "timeout_s")] == [
        "file", "set", "base", "default",
    ]  # fmt: skip


def test_a_stage_of_any_name_is_like_the_one_that_its_table_says() -> None:
    asked = Asked(stage="staging", table=StageTable(place="m", like="dev", values={}))
    found = planned(asked, None)
    assert found.config == StageConfig.load("staging", like="dev")
    # Later, without the file, the deployment knows.
    assert planned(Asked(stage="staging"), found.given).config == found.config


def test_a_stage_that_nothing_names_is_refused_with_the_nearest() -> None:
    assert problems(Asked(stage="pord")) == (
        "stage pord is neither deployed nor in a settings file: did you mean prod?",
    )
    assert "write [stage.staging] in metering.toml" in problems(Asked(stage="staging"))[0]


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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tunables.shards": 99}, "tunables.shards is 99; it must be a whole number from 1 to 64"),
        ({"tunables.shardz": 1}, "tunables.shardz is not a setting: did you mean tunables.shards?"),
        ({"tunables": 5}, "--set tunables is 5; it must be a table"),
        ({"versioned": "perhaps"}, "--set versioned is 'perhaps'; it must be true or false"),
        ({"trusted_accounts": "1"}, "--set trusted_accounts is '1'; it must be a list of texts"),
        ({"subscriptions": [{"severity": "page"}]}, "--set subscriptions.protocol (entry 1) is missing"),
        ({"visibility_s": 10}, "visibility_s must be at least 390 (6 x (timeout_s + batch_window_s))"),
        ({"lake_first_day": "soon"}, "--set lake_first_day is 'soon'; it must be a date such as 2026-01-01"),
    ],
)
def test_a_wrong_value_is_told_in_words(options: dict[str, object], words: str) -> None:
    assert words in problems(Asked(stage="prod", options=options))


@pytest.mark.parametrize(
    ("protocol", "endpoint", "word"),
    [
        ("email", "nobody", "is not a mailbox"),
        ("https", "http://example.com", "begins with https://"),
        ("https", "https://user:secret@example.com/", "password"),
        ("https", "https://[broken", "is not a URL"),
        ("sqs", "my-queue", "is not the ARN of a sqs subscriber"),
    ],
)
def test_an_address_that_is_none_or_holds_a_password_is_refused(protocol: str, endpoint: str, word: str) -> None:
    subscription = {"severity": "page", "protocol": protocol, "endpoint": endpoint}
    [problem] = problems(Asked(stage="prod", options={"subscriptions": [subscription]}))
    assert word in problem
    assert "secret" not in problem


def test_the_name_of_a_stage_is_no_setting() -> None:
    assert "--stage" in problems(Asked(stage="local", options={"stage": "x"}))[0]
    with pytest.raises(SettingsError, match="--stage"):
        check_alone(Asked(stage="local", options={"stage": "x"}))


def test_a_rehearsal_is_no_setting_of_a_stage() -> None:
    assert "rehearsal is not a setting" in problems(Asked(stage="prod", options={"rehearsal": True}))[0]
    assert "rehearsal is not a setting" in problems(Asked(stage="prod", table=table(rehearsal=True)))[0]


def test_whether_a_stack_is_created_is_no_setting_of_a_stage() -> None:
    assert "first_build is not a setting" in problems(Asked(stage="prod", options={"first_build": True}))[0]
    assert "first_build is not a setting" in problems(Asked(stage="prod", table=table(first_build=True)))[0]


def test_names_and_ranges_are_checked_without_what_is_deployed_and_the_rest_is_not() -> None:
    # 100 s fit with the 660 s that the deployment was given earlier.
    asked = Asked(stage="prod", options={"timeout_s": 100})
    check_alone(asked)
    assert planned(asked, GivenSettings(like="prod", by_option={"visibility_s": 660})).config.timeout_s == 100
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
