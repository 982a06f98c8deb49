"""Mistakes of people and machines: one sentence, exit 1 or 2, no traceback, and never a partial file."""

from __future__ import annotations

import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from metering.audit.verification import ManifestHeader, SentBatch, header_line, sent_line
from metering.cli.app import app
from metering.cli.commands.developer.replay import SentLog, manifest_file
from metering.cli.commands.operator.verify import read_manifest
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.printing.output import write_whole
from metering.errors import OperationFailedError
from metering.replay.synthesis import Shipment
from metering.reports.answer import without_password
from metering.reports.sql.query import QueryStoppedError
from tests.support.lake_world import World, record

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_metadata(nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@contextmanager
def small_disk(limit_bytes: int) -> Iterator[None]:
    """Files of this process cannot exceed this size, as on a full disk (EFBIG for ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("line", [("--version",), ("--help",), ("local", "status", "-f", "json"), ("local", "status")])
def test_a_full_device_behind_stdout_is_told(line: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("metering")), *line],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_full_device_behind_stderr_does_not_hide_the_exit_code() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("metering")), "report", "usage", "--from", "gestern"],
            stdout=subprocess.PIPE, stderr=full, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")


def test_an_answer_that_does_not_fit_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "november.csv"
    target.write_bytes(b"before")
    with small_disk(100), pytest.raises(CommandFailedError, match="Cannot write"):
        write_whole(target, [b"x" * 1_000])
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["november.csv"]


def test_an_answer_replaces_a_file_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    target, link = tmp_path / "a.json", tmp_path / "link.json"
    target.write_bytes(b"before")
    target.chmod(0o640)
    link.symlink_to(target)
    write_whole(link, [b"after"])
    assert (target.read_bytes(), target.stat().st_mode & 0o777, link.is_symlink()) == (b"after", 0o640, True)


def test_a_device_is_written_as_it_is() -> None:
    with pytest.raises(CommandFailedError, match="No space left"):
        write_whole(Path("/dev/full"), [b"x" * 10])
    write_whole(Path("/dev/null"), [b"x" * 10])


@pytest.mark.parametrize("place", ["/nowhere/x.json", "/"])
def test_a_place_that_is_none_is_wrong_usage(place: str) -> None:
    with pytest.raises(WrongUsageError):
        write_whole(Path(place), [b"x"])


def test_a_query_whose_scratch_does_not_fit_says_so() -> None:
    world = World()
    world.send([record(1)])
    with small_disk(64), pytest.raises(QueryStoppedError, match="too little disk") as error:
        world.ask("SELECT sum(bytes) FROM transfers")
    assert "TMPDIR" in error.value.advice


def test_a_compaction_whose_scratch_does_not_fit_is_a_sentence() -> None:
    from metering.cli.failures import machine_troubles_explained

    world = World()
    world.send([record(n, resource=f"i-{n}") for n in range(200)])
    with small_disk(64), pytest.raises(CommandFailedError, match="This machine refused"), machine_troubles_explained():
        world.compact_all()
    assert world.compact_all() == 1, "the run goes on where there is room"


def batches(count: int) -> list[SentBatch]:
    return [SentBatch(batch_id=f"b{n:05}", records=1, metered=1) for n in range(count)]


HEADER = header_line(ManifestHeader(name="x", region="us-east-1", seed=1, began_at_ms=1))


def test_a_manifest_that_does_not_fit_has_whole_lines_and_names_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    sent = batches(50)
    with small_disk(2_000), manifest_file(path) as file:
        log = SentLog(file)
        log.begin(HEADER)
        to_send = log.while_it_works(Shipment(sent=each, body="{}") for each in sent)
        told = []
        for each in to_send:
            told.append(each.sent)
            log.add([each.sent])
        log.add([sent[-1]])
    with pytest.raises(CommandFailedError, match="2 messages were sent that the manifest does not name") as error:
        log.must_be_whole()
    assert len(told) < 50
    assert sent[-1].batch_id in str(error.value)
    lines = path.read_text()
    assert lines == HEADER + "".join(map(sent_line, told[:-1]))
    assert read_manifest(path)[1].distinct == len(told) - 1


def test_a_manifest_that_cannot_be_begun_sends_nothing(tmp_path: Path) -> None:
    with small_disk(10), pytest.raises(OSError, match="too large"), manifest_file(tmp_path / "m.json") as file:
        SentLog(file).begin(HEADER)
    with pytest.raises(OperationFailedError, match="Cannot write the manifest"), manifest_file(tmp_path / "no" / "m"):
        pass


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_last_line_that_breaks_off_is_left_out_and_told(
    tmp_path: Path, cut: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.json"
    path.write_text(HEADER + "".join(map(sent_line, batches(3))) + sent_line(batches(4)[3])[:cut])
    assert read_manifest(path)[1].distinct == 3
    assert "breaks off" in capsys.readouterr().err


def test_a_last_line_without_a_line_feed_counts(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text((HEADER + "".join(map(sent_line, batches(3)))).rstrip("\n"))
    assert read_manifest(path)[1].distinct == 3


def test_a_line_in_the_middle_that_breaks_off_is_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(HEADER + '{"batch_id": \n' + "".join(map(sent_line, batches(1))))
    with pytest.raises(OperationFailedError, match="line 2 is not JSON"):
        read_manifest(path)


SECRET = "SECRETPW"
DEAD = f"http://user:{SECRET}@127.0.0.1:9"


def fields_table(columns: str | None) -> str:
    result = CliRunner().invoke(app, ["settings", "fields", "--format", "table"], env={"COLUMNS": columns})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("columns", ["0", "00", "-5", "wide", "\u00b2", "", "1e3", "99999999999999999999"])
def test_columns_that_are_no_width_count_for_nothing(columns: str) -> None:
    """X6: at 0 there was no table at all, with exit code 0."""
    assert fields_table(columns) == fields_table(None) != ""


@pytest.mark.parametrize("columns", ["1", "7", "19"])
def test_fewer_columns_than_a_table_can_have_are_twenty(columns: str) -> None:
    assert fields_table(columns) == fields_table("20")
    assert "max_concurrency" in fields_table(columns)


@pytest.mark.parametrize(
    ("line", "environ"),
    [
        ("sources --stage local", {}),
        ("sources --stage prod --region us-east-1", {}),
        ("region status --stage prod", {}),
        ("local up --port 1", {}),
        ("compact --stage prod --region us-east-1 --yes", {}),
        ("sources", {"AWS_ENDPOINT_URL": DEAD}),
        ("sources", {"AWS_ENDPOINT_URL": f"ftp://user:{SECRET}@host"}),
        ("sources", {"AWS_ENDPOINT_URL": f"user:{SECRET}@host:4566"}),
        ("sources", {"AWS_ENDPOINT_URL": f"http://user:a/{SECRET}@host:4566"}),
    ],
)
def test_no_message_has_the_password_of_an_endpoint(line: str, environ: dict[str, str]) -> None:
    """X6."""
    place = [] if environ else ["--endpoint", DEAD]
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
    assert without_password(text) == shown
