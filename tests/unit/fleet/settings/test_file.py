"""`metering.toml`: found, read, and checked with every problem at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.errors import SettingsError
from metering.fleet.settings.file import as_options, as_toml, find, read
from metering.fleet.settings.layers import Asked, planned
from metering.fleet.stage import StageConfig
from metering.settings import GivenSettings

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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[stage.prod\n", "is not TOML"),
        ("[prod]\n", r"prod is in no stage: settings stand below \[stage.prod\]"),
        ("max_concurrency = 3\n", "max_concurrency is in no stage"),
        ("stage = 3\n", r"write a table \[stage.NAME\]"),
    ],
)
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
