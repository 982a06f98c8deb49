"""Stages that every installation knows. Any other stage is like one of them."""

from __future__ import annotations

from metering.units import DAY_S

# Write units cost nothing on an emulator, and people wait for their usage.
_SOON: dict[str, object] = {"rollup_every_s": 1, "rollup_blocks": 1}
_EMULATED: dict[str, object] = {
    "emulated": True,
    "stateful_retained": False,
    "log_retention_days": 1,
    "batch_window_s": 1,
    "max_concurrency": 4,
    "onramp_timeout_s": 60,
    "onramp_memory_mb": 512,
    "onramp_concurrency": 2,
    "versioned": False,
    "analytics": False,
    "composite_alarms": False,
    "tunables": _SOON,
    "rollout": {
        "bake_min": 0,
        "canaries": 1,
        "canary_wait_min": 5,
        # A laptop builds these in minutes. Any other region is built when it is named.
        "allow": ["us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1", "sa-east-1"],
    },
}

STAGES: dict[str, dict[str, object]] = {
    "local": {**_EMULATED, "api": True},
    # 15 s and 20 s: the messages of a killed worker are back before a test times out.
    "killtest": {
        **_EMULATED,
        "batch_window_s": 0,
        "timeout_s": 15,
        "visibility_s": 20,
        "max_receives": 5,
        "short_visibility": True,
        "tunables": {**_SOON, "reserve_ms": 5_000},
    },
    "dev": {"stateful_retained": False, "log_retention_days": 30, "lake_retention_days": 365},
    # Reading every marker each quarter of an hour is too expensive: docs/decisions/0013-reconciliation.md.
    "prod": {"log_retention_days": 365, "rollout": {"pager_needed": True}, "tunables": {"scan_every_s": DAY_S}},
}

# What a stage of an account is deployed with on an emulator. All other settings are its own.
REHEARSAL: dict[str, object] = {"emulated": True, "rehearsal": True, "composite_alarms": False}
# Its rules of a rollout, for no one waits a quarter of an hour for it.
REHEARSAL_RULES: dict[str, object] = {"bake_min": 0, "canaries": 1, "canary_wait_min": 5}

# Base of a stage that does not say what it is like: what nobody thought about must not lose data or its pager.
SAFEST = "prod"


def runs_on_emulator(stage: str) -> bool:
    """Whether a stage is one that only an emulator runs. A name that is no stage's is none of them."""
    return bool(STAGES.get(stage, {}).get("emulated"))
