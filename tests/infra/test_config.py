from __future__ import annotations

import pytest

from metering.errors import SettingsError
from metering.fleet.settings.bases import STAGES
from metering.fleet.stage import StageConfig
from metering.settings import Policy
from metering.units import DAY_S


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_fits_together(stage: str) -> None:
    assert StageConfig.load(stage).stage == stage


def test_an_account_gets_the_figures_that_the_design_names() -> None:
    config = StageConfig.load("prod")

    assert (config.batch_size, config.batch_window_s, config.timeout_s, config.visibility_s) == (95, 5, 60, 420)
    assert (config.max_receives, config.queue_retention_s, config.dead_letter_retention_s) == (7, 4 * DAY_S, 14 * DAY_S)
    assert config.marker_life_s == 50 * DAY_S


def test_the_kill_test_stage_has_short_times() -> None:
    config = StageConfig.load("killtest")

    assert (config.timeout_s, config.visibility_s) == (15, 20)
    assert config.tunables["reserve_ms"] < config.timeout_s * 1000


@pytest.mark.parametrize(
    ("stage", "field", "value", "word"),
    [
        ("prod", "visibility_s", 389, "visibility_s"),
        ("prod", "short_visibility", True, "emulated"),
        ("killtest", "visibility_s", 14, "timeout_s"),
        ("prod", "marker_life_s", 50 * DAY_S - 1, "marker_life_s"),
        ("prod", "admission_window_s", 36 * DAY_S, "marker_life_s"),
        ("prod", "dead_letter_retention_s", 4 * DAY_S - 1, "dead_letter_retention_s"),
        ("prod", "incoming_retention_days", 49, "incoming_retention_days"),
        ("prod", "batch_window_s", 0, "batch_window_s"),
        ("prod", "lake_archive_days", 89, "lake_archive_days"),
        ("prod", "ledger_warm_writes_per_s", 3_999, "ledger_warm_writes_per_s"),
        ("prod", "lake_retention_days", 200, "lake_retention_days"),
        ("prod", "stateful_retained", False, "stateful_retained"),
        ("prod", "tunables", {"colour": 1}, "colour"),
        ("prod", "tunables", {"window_s": 1}, "window_s"),
        ("prod", "trusted_accounts", ["12345678901"], "trusted_accounts"),
        ("prod", "max_receives", 3, "max_receives"),
        ("prod", "tunables", {"source_life_s": 50 * DAY_S}, "source_life_s"),
        ("prod", "max_concurrency", 1, "max_concurrency"),
        ("prod", "no_such_field", 1, "no_such_field"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(stage: str, field: str, value: object, word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        StageConfig.load(stage, {field: value})


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        StageConfig.load("prod", {"visibility_s": 1, "marker_life_s": DAY_S, "incoming_retention_days": 1})

    assert "visibility_s" in str(caught.value)
    assert "marker_life_s" in str(caught.value)


def test_an_unknown_stage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="killtest, local, prod"):
        StageConfig.load("production")


def test_text_from_the_command_line_is_understood() -> None:
    config = StageConfig.load(
        "killtest",
        {
            "batch_window_s": "1",
            "analytics": "false",
            "tunables": '{"rollup_commits": 8}',
            "rollout": '{"deny": ["us-gov-*"]}',
            "subscriptions": '[{"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}]',
        },
    )

    assert config.batch_window_s == 1
    assert config.subscriptions[0].endpoint == "oncall@example.com"
    # A mapping changes the entries that it names, and keeps the stage's others.
    of_the_base = {"rollup_every_s": 1, "rollup_blocks": 1, "reserve_ms": 5_000}
    assert config.tunables == {**of_the_base, "rollup_commits": 8}
    assert (config.rollout.deny, config.rollout.bake_min) == (("us-gov-*",), 0)


def test_the_stage_decides_no_setting_that_functions_do_not_know() -> None:
    assert {"window_s", "marker_life_s", "reserve_ms"} <= set(Policy.model_fields)
