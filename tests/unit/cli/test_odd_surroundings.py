"""What an environment or an endpoint may be: no width hides an answer, and no message has a password in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from metering.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "SECRETPW"
NOWHERE = f"http://user:{SECRET}@127.0.0.1:9"


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    for name in ("AWS_ENDPOINT_URL", "METERING_STAGE", "LOCALSTACK_HOST"):
        monkeypatch.delenv(name, raising=False)


def table(columns: str | None) -> str:
    result = CliRunner().invoke(app, ["settings", "fields", "--format", "table"], env={"COLUMNS": columns})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("columns", ["0", "00", "-5", "wide", "\u00b2", "", "1e3", "99999999999999999999"])
def test_columns_that_are_no_width_count_for_nothing(columns: str) -> None:
    """X6: at 0 there was no table at all, with exit code 0."""
    assert table(columns) == table(None) != ""


@pytest.mark.parametrize("columns", ["1", "7", "19"])
def test_fewer_columns_than_a_table_can_have_are_twenty(columns: str) -> None:
    assert table(columns) == table("20")
    assert "max_concurrency" in table(columns)


@pytest.mark.parametrize(
    ("line", "environ"),
    [
        ("sources --stage local", {}),
        ("sources --stage prod --region us-east-1", {}),
        ("region status --stage prod", {}),
        ("local up --port 1", {}),
        ("compact --stage prod --region us-east-1 --yes", {}),
        ("sources", {"AWS_ENDPOINT_URL": NOWHERE}),
        ("sources", {"AWS_ENDPOINT_URL": f"ftp://user:{SECRET}@host"}),
        ("sources", {"AWS_ENDPOINT_URL": f"user:{SECRET}@host:4566"}),
        ("sources", {"AWS_ENDPOINT_URL": f"http://user:a/{SECRET}@host:4566"}),
    ],
)
def test_no_message_has_the_password_of_an_endpoint(line: str, environ: dict[str, str]) -> None:
    """X6."""
    place = [] if environ else ["--endpoint", NOWHERE]
    result = CliRunner().invoke(app, [*line.split(), *place], env=environ)
    assert result.exit_code != 0
    assert SECRET not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:pw@host:1 gives no answer", "http://***@host:1 gives no answer"),
        ("http://a:b@c@host/x", "http://***@host/x"),
        ("https://host/people/me@example.com", "https://host/people/me@example.com"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("me@example.com", "me@example.com"),
    ],
)
def test_of_a_url_only_what_stands_before_its_host_is_masked(text: str, shown: str) -> None:
    from metering.reports.answer import without_password

    assert without_password(text) == shown
