"""The command line as users see it: an error results in a sentence and an exit code, never in a partial file."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import tomllib
from collections import Counter
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from typer.testing import CliRunner

from metering.audit.verification import ManifestHeader, SentBatch, header_line, read_header, read_sent, sent_line
from metering.cli import start
from metering.cli.app import app
from metering.cli.commands.developer.replay import SentLog, manifest_file, send_traffic
from metering.cli.commands.operator.verify import read_manifest
from metering.cli.failures import CommandFailedError, CommandStoppedError, WrongUsageError, first_interrupt_noted
from metering.cli.options import parse_duration
from metering.cli.printing.output import write_whole
from metering.errors import OperationFailedError
from metering.intake.messages import SCHEMA
from metering.ledger.format_version import FORMAT_VERSION
from metering.replay.given import Traffic, synthetic_traffic
from metering.replay.scenarios import SCENARIOS
from metering.replay.synthesis import Shipment
from metering.reports.answer import without_password
from metering.reports.sql.query import QueryStoppedError
from metering.version import CONTRACT_VERSION
from tests.support.lake_world import World, record
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue
from tests.support.with_each import with_each
from tests.unit.cli.test_wrong_command_lines import NOWHERE, broken, program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.wiring.connection import RegionConnection


@pytest.fixture(autouse=True)
def _no_metadata(nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@contextmanager
def small_disk(limit_bytes: int) -> Iterator[None]:
    """Limit the size of files that this process writes, to simulate a full disk (EFBIG instead of ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("line", [("--version",), ("--help",), ("local", "status", "-f", "json"), ("local", "status")])
def test_a_full_device_behind_stdout_is_told(line: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = program(*line, stdout=full.fileno())
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert not re.search("Traceback|Exception", done.stderr)


def test_a_full_device_behind_stderr_does_not_hide_the_exit_code() -> None:
    with Path("/dev/full").open("w") as full:
        done = program("report", "usage", "--from", "gestern", stderr=full.fileno())
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
def test_a_last_line_that_breaks_off_is_told(tmp_path: Path, cut: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.json"
    path.write_text(HEADER + "".join(map(sent_line, batches(3))) + sent_line(batches(4)[3])[:cut])
    assert read_manifest(path)[1].distinct == 3
    assert "breaks off" in capsys.readouterr().err


def test_a_last_line_without_a_line_feed_counts_and_one_in_the_middle_that_breaks_off_is_no_manifest(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.json"
    path.write_text((HEADER + "".join(map(sent_line, batches(3)))).rstrip("\n"))
    assert read_manifest(path)[1].distinct == 3
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
    assert fields_table(columns) == fields_table(None) != ""


@pytest.mark.parametrize("columns", ["1", "7", "19"])
def test_fewer_columns_than_a_table_can_have_are_twenty(columns: str) -> None:
    assert fields_table(columns) == fields_table("20")
    assert "max_concurrency" in fields_table(columns)


@pytest.mark.parametrize(("line", "environ"), [
    ("sources --stage local", {}),
    ("sources --stage prod --region us-east-1", {}),
    ("region status --stage prod", {}),
    ("local up --port 1", {}),
    ("compact --stage prod --region us-east-1 --yes", {}),
    ("sources", {"AWS_ENDPOINT_URL": DEAD}),
    ("sources", {"AWS_ENDPOINT_URL": f"ftp://user:{SECRET}@host"}),
    ("sources", {"AWS_ENDPOINT_URL": f"user:{SECRET}@host:4566"}),
    ("sources", {"AWS_ENDPOINT_URL": f"http://user:a/{SECRET}@host:4566"}),
])  # fmt: skip
def test_no_message_has_the_password_of_an_endpoint(line: str, environ: dict[str, str]) -> None:
    place = [] if environ else ["--endpoint", DEAD]
    result = CliRunner().invoke(app, [*line.split(), *place], env=environ)
    assert result.exit_code != 0
    assert SECRET not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(("text", "shown"), [
    ("http://user:pw@host:1 gives no answer", "http://***@host:1 gives no answer"),
    ("http://a:b@c@host/x", "http://***@host/x"),
    ("https://host/people/me@example.com", "https://host/people/me@example.com"),
    ("s3://bucket/a@b", "s3://bucket/a@b"),
    ("me@example.com", "me@example.com"),
])  # fmt: skip
def test_of_a_url_only_what_stands_before_its_host_is_masked(text: str, shown: str) -> None:
    assert without_password(text) == shown


# Exit codes, output streams, helpful error messages.

ROOT = Path(__file__).parents[3]


@with_each([
    "replay", "report usage", "verify", "local up", "compare", "ingest", "cost", "cost explain", "trace", "batch show",
    "serve", "token create",
])  # fmt: skip
def test_help_teaches_with_examples(words: str) -> None:
    result = CliRunner().invoke(app, [*words.split(), "--help"])
    assert "metering " in result.output.split("Examples")[1]


@with_each([
    "report usage", "report usage --region all", "verify --region all", "dlq list", "region status", "region plan",
    "region add eu-west-1", "region remove eu-west-1", "sources", "sources forget edge", "status",
    "status --region all", "period list", "invoice list", "invoice issue --month 2026-10 --yes",
    "period close 2026-10 --yes", "period close 2026-10 --dry-run",
])  # fmt: skip
def test_an_endpoint_that_does_not_answer_is_said_in_a_sentence_without_a_traceback(line: str) -> None:
    result = CliRunner().invoke(app, [*line.split(), *NOWHERE])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "gives no answer" in result.stderr
    assert "metering local up" in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_every_problem_of_a_question_is_said_at_once_by_the_name_of_its_option() -> None:
    arguments = ("--group-by", "colour,hour", "--account", "1", "--from", "gestern", "--to", "2026-11-24T13:00:00.5Z")
    result = CliRunner().invoke(app, ["report", "usage", *arguments, *NOWHERE])
    assert (result.exit_code, result.stdout) == (2, "")
    for problem in (
        "--group-by colour is not one of the columns.",
        "--account 1 is not an account",
        "--from gestern is not a time.",
        "--to 2026-11-24T13:00:00.5Z has a fraction of a second.",
    ):
        assert problem in result.stderr


@pytest.mark.parametrize("arguments", [("region", "status"), ("dlq", "list")])
def test_without_credentials_nothing_is_said_to_be_absent(arguments: tuple[str, ...]) -> None:
    """Without an endpoint and credentials, a failed query must not look like an empty result."""
    result = CliRunner().invoke(app, [*arguments, "--stage", "dev"], env={"AWS_EC2_METADATA_DISABLED": "true"})
    assert (result.exit_code, result.stdout) == (1, "")
    assert "AWS does not know who is asking" in result.stderr


def test_a_file_without_records_exits_with_1_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "empty.ndjson"
    path.write_text("")
    result = CliRunner().invoke(app, ["replay", "--input", str(path), *NOWHERE])
    assert result.exit_code == 1
    assert "empty.ndjson" in result.stderr


def test_local_status_says_that_nothing_runs_as_data_and_by_its_exit_code() -> None:
    result = CliRunner().invoke(app, ["local", "status", "--format", "json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["running"] is False


def test_local_down_is_done_when_nothing_runs() -> None:
    assert CliRunner().invoke(app, ["local", "down"]).exit_code == 0


def test_places_may_stand_between_a_family_and_its_command() -> None:
    result = CliRunner().invoke(app, ["sources", *NOWHERE, "--stage", "dev", "forget", "edge"])
    assert result.exit_code == 1
    assert "127.0.0.1:9 gives no answer" in result.stderr


def test_the_versions_are_those_of_the_project_and_of_its_contract() -> None:
    result = CliRunner().invoke(app, ["--version"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = f"metering {project['version']} (data format {FORMAT_VERSION}, contract {CONTRACT_VERSION})\n"
    assert (result.exit_code, result.stdout) == (0, said)
    assert (ROOT / "docs" / "contract.md").read_text().splitlines()[2].startswith(f"Version {CONTRACT_VERSION}. ")
    assert f"metering.batch/{CONTRACT_VERSION}" == SCHEMA
    # The changes of a version in development are under Unreleased.
    heading = "## [Unreleased]" if ".dev" in project["version"] else f"## [{project['version']}] - "
    assert heading in (ROOT / "CHANGELOG.md").read_text()


def test_an_installation_without_the_command_lines_packages_is_told_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in {"rich", "typer"} else found(name))
    with pytest.raises(SystemExit) as ended:
        start.main()
    assert str(ended.value) == (
        "Error: the command line needs rich, typer, which this installation lacks.\n"
        "Install the package with its extra: transfer-metering[cli]."
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5_400), ("2d", 172_800)]
)
def test_durations_are_written_as_people_write_them(text: str, seconds: int) -> None:
    assert parse_duration(text, "--wait") == seconds


@pytest.mark.parametrize("text", ["", "m", "-5m", "1.5h", "10 minutes"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(WrongUsageError):
        parse_duration(text, "--wait")


# After Ctrl-C, the command reports what is true and exits with 130, and everything that it sent is recorded.


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Enable Ctrl-C here and in new processes, because tests that run in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_command_that_is_stopped_says_so_and_exits_with_130() -> None:
    result = CliRunner().invoke(broken(KeyboardInterrupt()), ["fail"])
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.startswith("Error: You stopped it before its end.\n")
    assert "run again" in result.stderr


def test_the_program_is_stopped_without_a_traceback_while_it_waits_for_an_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        program = [str(Path(sys.executable).with_name("metering")), "report", "usage", "--endpoint", endpoint]
        running = subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"METERING_LOCAL_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        # The client sends its request, and gets no answer.
        asking, _ = server.accept()
        with asking:
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert err.startswith("Error: You stopped it")
    assert "Traceback" not in err


def sending(queue: MemoryQueue, clock: ManualClock) -> RegionConnection:
    """The attributes of a region connection that a replay needs."""
    names = SimpleNamespace(data_bucket="bucket", drop_identity="etag")
    region = SimpleNamespace(
        region="us-east-1",
        ingest=queue,
        objects=MemoryObjectStore(clock),
        names=names,
    )
    return cast("RegionConnection", region)


def test_a_replay_that_is_stopped_has_a_manifest_of_all_that_it_sent() -> None:
    clock, stopped = ManualClock(1_800_000_000_000), Event()
    queue, manifest = MemoryQueue(clock), _StopsAfter(stopped, lines=40)
    counts, _ = send_traffic(sending(queue, clock), traffic(), manifest, threads=2, stopped=stopped)
    lines = iter(manifest.getvalue().splitlines(keepends=True))
    read_header(next(lines))
    named = [*read_sent(lines)]
    assert 40 <= len(named) < 500
    assert counts == Counter(sent.expect for sent in named)
    assert queue.depth().visible == len(named)


def traffic() -> Traffic:
    return synthetic_traffic("clean", SCENARIOS["clean"], 500, 1, 1_800_000_000, "bucket")


def test_a_replay_that_is_stopped_at_once_says_how_much_was_sent() -> None:
    clock = ManualClock(1_800_000_000_000)
    queue, calls = MemoryQueue(clock), count()

    def press(_call: str) -> None:
        """Simulates a second Ctrl-C during the fourth request."""
        if next(calls) == 3:
            raise KeyboardInterrupt

    queue.on_call = press
    with pytest.raises((CommandStoppedError, KeyboardInterrupt)) as stopped:
        send_traffic(sending(queue, clock), traffic(), io.StringIO(), threads=1)
    assert "messages were sent" in str(stopped.value)


class _StopsAfter(io.StringIO):
    """A manifest that stops the replay after some lines."""

    def __init__(self, stopped: Event, *, lines: int) -> None:
        super().__init__()
        self._stopped, self._lines = stopped, lines

    def write(self, text: str, /) -> int:
        self._lines -= text.count("\n")
        if self._lines < 0:
            self._stopped.set()
        return super().write(text)


def test_the_first_ctrl_c_is_noted_and_the_second_ends_at_once() -> None:
    with first_interrupt_noted() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
