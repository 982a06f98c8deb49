"""Commands on a region with a newer data format name the required version, and do nothing."""

from __future__ import annotations

import shlex

import pytest
from typer.testing import CliRunner

from metering.adapters.aws.session import Clients
from metering.cli.app import app
from tests.support.answering import MINISTACK, serving
from tests.support.format_ledger import NEWER, REFUSAL, FormatLedger
from tests.unit.adapters.aws.test_stage_settings import Deployed


@pytest.mark.parametrize(
    "words",
    [
        "report usage",
        "query 'SELECT 1'",
        "verify",
        "compact",
        "reconcile",
        "storage report",
        "period close 2026-10",
        "period show 2026-10",
        "period verify 2026-10",
        "rebuild usage --from 2026-11-24 --to 2026-11-25",
        "rebuild markers",
        "dlq list",
        "dlq redrive",
        "quarantine list",
        "quarantine show edge-1",
        "quarantine retry --reason too_late",
        "trace --account 123456789012",
        "batch show edge-1",
        "sources",
        "sources forget edge",
        "region status",
        "region reconcile",
        "region add us-east-1 --redeploy",
        "region remove us-east-1",
        "audit",
    ],
)
def test_a_command_is_refused_in_words(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A command that made any AWS call would report missing credentials.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    deployed = Deployed()
    FormatLedger(deployed.clients, NEWER.to_item())
    monkeypatch.setattr(Clients, "from_env", lambda *_args, **_options: deployed.clients)
    line = shlex.split(words)

    with serving(MINISTACK) as endpoint:
        result = CliRunner().invoke(app, ["--endpoint", endpoint, *line])

    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (1, ""), result.stderr
    assert result.stderr.replace("\n", " ").strip() == f"Error: {REFUSAL}"
