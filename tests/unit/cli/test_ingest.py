"""`metering ingest` and `context`: reports about log files, metered usage, billed accounts, captured contexts."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from metering.adapters.folders import FolderLogStore
from metering.billing.owners import Owners, OwnerStore
from metering.cli.app import app
from metering.cli.commands.platform.context import capture, list_
from metering.cli.commands.platform.ingest import ingest
from metering.cli.failures import CommandFailedError, CommandStoppedError
from metering.cli.ingesting import Choice, Ran, measuring, run, surveyed, targets_of
from metering.hours import rfc3339
from metering.ledger.notes.deeds import DeedState
from metering.onramps.cloudfront import LEGACY_FIELDS
from metering.onramps.context.description import DescriptionError
from metering.onramps.context.document import Network
from metering.onramps.context.store import ContextStore, Timeline
from metering.onramps.sources import NAMED
from tests import ROOT
from tests.support.answering import remember_emulator
from tests.support.command_line import OperatorSession
from tests.support.describing import SMALL
from tests.support.flow_logs import KEY, V2, line, text
from tests.support.lake_world import HOUR, World
from tests.support.small_logs import network_logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from metering.onramps.ingest.outcomes import FileOutcome

NAME = "123456789012_vpcflowlogs_us-east-1_fl-0123456789abcdef0_20261124T1305Z_aaaaaaaa.log.gz"


def flows(*sizes: int, more: str = "") -> bytes:
    lines = "".join(
        f"2 123456789012 eni-0abc 10.0.0.{n} 52.1.2.3 443 5000 6 1 {size} {HOUR} {HOUR + 60} ACCEPT OK\n"
        for n, size in enumerate(sizes)
    )
    return gzip.compress(f"{' '.join(V2)}\n{lines}{more}".encode())


def dry(*words: str) -> Result:
    return CliRunner().invoke(app, ["ingest", "--dry-run", *words])


@pytest.mark.parametrize("bad", [b"x\xff.log.gz", b"folder\xff/x.log.gz"])
def test_a_name_that_is_no_utf8_is_said_and_all_other_files_are_read(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / NAME).write_bytes(flows(100, 200))
    path = os.fsencode(tmp_path) + b"/" + bad
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - a path of bytes
    with open(path, "wb") as file:  # noqa: PTH123 - as above
        file.write(flows(300))
    result = dry(str(tmp_path), "--format", "json")
    assert result.stdout, "not one file was read"
    assert json.loads(result.stdout)["files"]["metered"] == 1
    assert result.exit_code == 1
    assert "Not read, for its name is no UTF-8: " in result.stderr
    assert "\\udcff" in result.stderr
    assert "Not in these totals: 1 path whose name is no UTF-8." in result.stderr


pytestmark = pytest.mark.usefixtures("nowhere")


def test_a_dry_run_needs_no_aws_and_its_rows_add_up(tmp_path: Path) -> None:
    network_logs(tmp_path)
    result = dry(str(tmp_path / "logs"))
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    balance = answer["balance"]
    assert balance["holds"]
    batched_bytes = int(balance["metered_bytes"]) + int(balance["processed_bytes"])
    assert sum(int(row["bytes"]) for row in answer["rows"]) == batched_bytes
    assert sum(row["lines"] for row in answer["rows"]) == balance["metered"] + balance["processed"]
    assert sum(int(rule["bytes"]) for rule in answer["rules"]) == batched_bytes > int(balance["metered_bytes"])
    reasons = answer["unclassified"]["reasons"]
    assert sum(int(reason["bytes"]) for reason in reasons) == int(answer["unclassified"]["bytes"])
    assert "a context (metering context capture)" in answer["unclassified"]["hint"]
    assert answer["unclassified"]["hint"] in " ".join(result.stderr.split())


def test_with_a_context_less_is_unclassified_and_overlap_shows(tmp_path: Path) -> None:
    network_logs(tmp_path)
    without = json.loads(dry(str(tmp_path / "logs")).stdout)
    judged = json.loads(dry(str(tmp_path / "logs"), "--context", str(tmp_path / "ctx")).stdout)
    assert int(judged["unclassified"]["bytes"]) < int(without["unclassified"]["bytes"])
    assert judged["balance"]["stated_bytes"] == without["balance"]["stated_bytes"]
    assert judged["shadowed"]
    # Without a context, the flow log with authority is unknown, and the output says so.
    assert without["overlap"]["interface_hours"] > 0
    assert "overlap" not in judged
    assert any(row.get("looks_like") for row in without["rows"])
    assert not any("looks_like" in row for row in judged["rows"])
    assert {row["looks_like"] for row in without["rows"] if not row["unclassified_because"]} == {None}
    assert not without["shadowed"]
    assert "metering context capture" not in judged["unclassified"]["hint"]


def test_a_replica_in_the_same_run_is_counted_once(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / NAME).write_bytes(flows(10, 20))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / NAME).write_bytes(flows(10, 21))
    answer = json.loads(dry(str(tmp_path / "a"), str(tmp_path / "b")).stdout)
    assert (answer["files"]["metered"], answer["files"]["repeated"]) == (1, 1)
    assert answer["balance"]["metered_bytes"] == "30"
    result = dry(str(tmp_path / "a"), str(tmp_path / "c"))
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"][0]["reason"] == "changed_since"


def test_what_is_left_out_is_said_and_a_refused_file_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(flows(10, more="too few fields\n"))
    (tmp_path / "notes.md").write_text("no log")
    result = dry(str(tmp_path))
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["files"]["left_out"], answer["balance"]["refused"]) == (0, 1, 1)
    assert answer["refused"] == [{"reason": "field_count", "lines": 1, "bytes": "0"}]
    assert answer["problems"][0]["reason"] == "unknown_name"
    (tmp_path / NAME.replace("aaaaaaaa", "bbbbbbbb")).write_bytes(flows(1)[:-9])
    result = dry(str(tmp_path))
    assert result.exit_code == 1
    assert "1 of 3 files is not in these totals" in result.stderr
    assert "To see each of them: --detail" in result.stderr
    assert {problem["reason"] for problem in json.loads(result.stdout)["problems"]} == {"unknown_name", "truncated"}


def test_each_file_has_a_row_whose_sums_hold(tmp_path: Path) -> None:
    network_logs(tmp_path)
    result = dry(str(tmp_path / "logs"), "--context", str(tmp_path / "ctx"), "--format", "ndjson")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == len(list((tmp_path / "logs").rglob("*.log.*")))
    parts = ("header", "metered", "rejected", "nodata", "skipdata", "shadowed", "refused")
    for row in rows:
        assert row["lines"] == sum(row[part] for part in parts)
        became = ("metered_bytes", "rejected_bytes", "shadowed_bytes", "refused_bytes")
        assert int(row["stated_bytes"]) == sum(int(row[part]) for part in became)


def test_since_goes_by_the_time_in_the_name(tmp_path: Path) -> None:
    for hour in ("1305", "1405"):
        (tmp_path / NAME.replace("1305", hour)).write_bytes(flows(10))
    assert json.loads(dry(str(tmp_path), "--since", "2026-11-24T14:00:00Z").stdout)["files"]["metered"] == 1
    nothing = dry(str(tmp_path), "--since", "2026-11-25")
    assert nothing.exit_code == 1
    assert "There is no log file in" in nothing.stderr


@pytest.mark.parametrize(("words", "code", "said"), [
    (("/nowhere",), 1, "There is no file or folder /nowhere."),
    (("s3://",), 2, "names no bucket"),
    ((".", "--accounts", "12"), 2, "12 is no account"),
    ((".", "--accounts", "organization"), 2, "Write 12 digits, or shared-subnets."),
    ((".", "--since", "soon"), 2, "--since soon is neither a span nor a time"),
    ((".", "--kind", "alb"), 2, "--kind alb is no kind of log. Write one of: vpc-flow"),
    ((".", "--kind", "vpc-flow", "--map", "m.toml"), 2, "--kind and --map both say how to read the files."),
    ((".", "--no-context", "fl"), 2, "--no-context fl is no flow log. Write its id: fl-"),
    ((".", "--map", "/nowhere.toml"), 1, "The mapping /nowhere.toml cannot be read: No such file or directory."),
    ((".", "--map", "/"), 1, "The mapping / cannot be read: Is a directory."),
])  # fmt: skip
def test_wrong_words_are_refused_in_words(words: tuple[str, ...], code: int, said: str) -> None:
    result = dry(*words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in " ".join(result.stderr.split())


def test_a_mapping_that_is_no_text_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_bytes(b"\xff\xfe")
    result = dry(str(tmp_path), "--map", str(tmp_path / "m.toml"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is no text in UTF-8" in " ".join(result.stderr.split())


def test_a_folder_without_contexts_is_not_taken_for_one_with(tmp_path: Path) -> None:
    network_logs(tmp_path)
    for wrong in (tmp_path / "logs", tmp_path / "ctx" / "context"):
        result = dry(str(tmp_path / "logs"), "--context", str(wrong))
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"There is no context in {wrong}," in result.stderr.replace("\n", "")


def test_names_that_are_left_out_are_counted_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("no log")
    assert "1 file there has the name of no log" in " ".join(dry(str(tmp_path)).stderr.split())
    (tmp_path / "b.md").write_text("no log")
    assert "2 files there have names of no log" in " ".join(dry(str(tmp_path)).stderr.split())


def test_what_two_flow_logs_see_has_the_same_example_in_each_run(tmp_path: Path) -> None:
    network_logs(tmp_path)
    told = {json.dumps(json.loads(dry(str(tmp_path / "logs")).stdout)["overlap"]) for _ in range(3)}
    assert len(told) == 1
    assert json.loads(told.pop())["interface_hours"] > 0


def test_with_an_emulator_it_is_told_that_buckets_are_of_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    remember_emulator()
    said = " ".join(dry("s3://acme-logs/AWSLogs/").stderr.split())
    assert "is read from AWS. If it is a bucket of the local emulator: --endpoint http://127.0.0.1:9" in said


def real(session: OperatorSession, *paths: Path, **options: Any) -> None:
    defaults = ("since", "contexts", "no_context", "kind", "mapping", "fields", "accounts")
    given = {**dict.fromkeys(defaults), "dry_run": False, "detail": False, "jobs": 2, **options}
    ingest(session, [str(path) for path in paths], **given)


def test_a_real_run_sends_messages_keeps_the_context_and_leaves_a_line_in_the_trail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network_logs(tmp_path)
    session = OperatorSession(World())
    real(session, tmp_path / "logs", contexts=tmp_path / "ctx")
    first = json.loads(capsys.readouterr().out)
    sent = session.here.ingest.depth().total
    assert sent == first["files"]["metered"]
    assert len(session.here.objects.keys("context/")) == 1
    assert len(session.here.objects.keys("plans/")) == first["files"]["metered"] + first["files"]["empty"]
    # The same files are metered again with the stage's contexts: the totals are the same, and nothing is new.
    real(session, tmp_path / "logs")
    again = json.loads(capsys.readouterr().out)
    assert again["files"]["repeated"] == first["files"]["metered"]
    assert (again["rows"], again["balance"]) == (first["rows"], first["balance"])
    assert {(deed.what, deed.state) for deed in session.trail()} == {("ingest", DeedState.OK)}


def test_a_real_run_without_a_context_that_lists_the_flow_logs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).write_bytes(flows(10))
    session = OperatorSession(World())
    with pytest.raises(CommandFailedError, match="1 of 1 file is not in these totals"):
        real(session, tmp_path)
    answer = json.loads(capsys.readouterr().out)
    assert answer["problems"][0]["reason"] == "no_context"
    assert "--no-context fl-0123456789abcdef0" in answer["problems"][0]["detail"]
    assert session.here.ingest.depth().total == 0
    real(session, tmp_path, no_context="fl-0123456789abcdef0")
    assert session.here.ingest.depth().total == 1


def test_a_run_stops_between_two_blocks_and_says_that_nothing_is_lost(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / NAME.replace("aaaaaaaa", f"{number:08x}")).write_bytes(flows(10))
    session = OperatorSession(World())
    choice = Choice(
        targets=targets_of([str(tmp_path)], session), since_s=None, kind=None, fields=(), bills=NAMED,
        without_context_flow_log="", contexts=None, jobs=1,
    )  # fmt: skip
    work = measuring(Timeline(), choice)
    seen = []

    def interrupted(chosen: Any, watch: Any) -> FileOutcome:
        seen.append(chosen)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        return work(chosen, watch)

    ran = Ran()
    with pytest.raises(CommandStoppedError, match="You stopped it"):
        run(choice, surveyed(choice), interrupted, ran, most_files=0)
    assert len(seen) < 20
    assert threading.active_count() < 5


A, B, C = "111111111111", "222222222222", "333333333333"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of account A: a file of A with lines of A, B and C, and a file of B."""
    monkeypatch.delenv("METERING_STAGE", raising=False)
    folder = tmp_path / "AWSLogs" / A / "vpcflowlogs"
    folder.mkdir(parents=True)
    for named, lines in ((A, ((A, 7), (B, 1_000_000), (C, 5_000_000))), (B, ((B, 30_000_000),))):
        name = f"{named}_vpcflowlogs_us-east-1_fl-0a1b_20261124T1305Z_aaaaaaaa.log.gz"
        content = text(*(line(account_id=account, bytes=str(size)) for account, size in lines))
        (folder / name).write_bytes(gzip.compress(content))
    return tmp_path


def test_a_file_bills_the_account_of_its_name_below_the_folder_of_that_account_and_nobody_else(bucket: Path) -> None:
    result = dry(str(bucket), "--format", "json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["balance"]["metered_bytes"]) == (1, "7")
    assert [(each["reason"], each["files"]) for each in answer["problems"]] == [("account_contradicts", 1)]
    assert answer["refused"] == [{"reason": "other_account", "lines": 2, "bytes": "6000000"}]
    assert answer["other_accounts"] == {"lines": 2, "bytes": "6000000", "billed_lines": 0, "billed_bytes": "0"}
    assert answer["balance"]["holds"]


def test_the_table_says_what_is_of_other_accounts(bucket: Path) -> None:
    said = " ".join(dry(str(bucket), "--format", "table").output.split())
    assert f"its name is of account {B}, and it lies below AWSLogs/{A}/" in said
    assert "Of other accounts than the files' names state: 2 lines with 6,000,000 bytes" in said
    assert "0 lines of them" in said


def test_accounts_that_are_listed_are_billed_and_counted_as_others(bucket: Path) -> None:
    answer = json.loads(dry(str(bucket), "--accounts", f"{A},{C}", "--format", "json").stdout)
    assert answer["balance"]["metered_bytes"] == "5000007"
    assert answer["other_accounts"]["billed_bytes"] == "5000000"
    assert [each["reason"] for each in answer["refused"]] == ["account_not_allowed"]
    # Without a context, `shared-subnets` allows only the account that the file's name states.
    answer = json.loads(dry(str(bucket), "--accounts", "shared-subnets", "--format", "json").stdout)
    assert answer["balance"]["metered_bytes"] == "7"


SAMPLES = ROOT / "tests" / "unit" / "onramps" / "samples"
PARTITION = Path("logs/123456789012/us-west-1/amzn-s3-demo-bucket1/2019/02/06")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(SAMPLES / "flows", tmp_path / "flows")
    shutil.copytree(SAMPLES / "s3", tmp_path / PARTITION)
    elb = "123456789012_elasticloadbalancing_us-east-1_app.web.1a2b_20261124T1305Z_192.0.2.1_3xq8w1.log.gz"
    (tmp_path / elb).write_bytes(b"")
    return tmp_path


def sums_by_hand(files: Iterable[Path]) -> dict[str, int]:
    """Sums over log files: for flow logs by header column, for S3 logs by position after the request."""
    sums = {"lines": 0, "metered_bytes": 0, "rejected_bytes": 0}
    for path in files:
        lines = path.read_text().splitlines()
        sums["lines"] += len(lines)
        names = lines[0].split(" ")
        for each in lines:
            fields = each.split(" ")
            if path.parent.name == "s3":
                behind = each.partition('" ')[2].split(" ")
                sums["metered_bytes"] += int(behind[2]) if len(behind) > 2 else 0
            elif fields != names and len(fields) == len(names) and fields[names.index("bytes")] != "-":
                rejected = "action" in names and fields[names.index("action")] == "REJECT"
                sums["rejected_bytes" if rejected else "metered_bytes"] += int(fields[names.index("bytes")])
    return sums


def test_all_samples_are_what_a_sum_by_hand_says_and_every_misfit_has_its_reason(folder: Path) -> None:
    answer = json.loads(dry(str(folder)).stdout)
    by_hand = sums_by_hand(path for name in ("flows", "s3") for path in (SAMPLES / name).iterdir())
    balance = answer["balance"]
    assert balance["holds"] is True
    assert {name: int(balance[name]) for name in by_hand} == by_hand
    assert sum(int(row["bytes"]) for row in answer["rows"]) == by_hand["metered_bytes"]
    assert sum(int(each["bytes"]) for each in answer["unclassified"]["reasons"]) == int(answer["unclassified"]["bytes"])
    assert {reason["reason"]: reason["lines"] for reason in answer["refused"]} == {"field_count": 3}


def test_the_mapping_of_the_documentation_is_tried_as_it_says(tmp_path: Path) -> None:
    row = {
        "status": "done", "tenant": {"aws_account": 12345678901}, "kind": "egress", "origin": "edge",
        "target": "client", "host": "h", "size": 1.5, "began": "2026-11-24T13:00:00Z", "took": 5,
    }  # fmt: skip
    file = tmp_path / "transfers.ndjson"
    file.write_text(json.dumps(row) + "\n")
    answer = json.loads(dry("--map", str(ROOT / "docs" / "mapping.toml"), str(file)).stdout)
    assert [(each["usage_type"], each["bytes"]) for each in answer["rows"]] == [("USW2-DataTransfer-Out-Bytes", "1536")]


def test_a_wrong_mapping_is_refused_with_every_problem_in_words(tmp_path: Path) -> None:
    mapping = tmp_path / "m.toml"
    mapping.write_text('format = "csv"\nacount = "a"\n')
    (tmp_path / "x.csv").write_text("a\n1\n")
    result = dry("--map", str(mapping), str(tmp_path / "x.csv"))
    assert result.exit_code != 0
    assert "did you mean 'account'" in result.output.replace("\n", " ")
    assert "service is missing" in result.output.replace("\n", " ")


_S3_LINE = (
    "79a5 acme-data [24/Nov/2026:13:05:00 +0000] 192.0.2.3 - 3E57427F3EXAMPLE REST.GET.OBJECT photo.jpg"
    ' "GET /acme-data/photo.jpg HTTP/1.1" 200 - {size} {size} 70 10 "-" "curl" - host sig cipher auth'
    " acme-data.s3.us-west-2.amazonaws.com TLSv1.2 - -"
)
_LEGACY = dict.fromkeys(LEGACY_FIELDS, "-") | {
    "date": "2026-11-24", "time": "13:05:00", "x-edge-location": "LHR61-P2", "cs-bytes": "0",
}  # fmt: skip


def _s3(folder: Path) -> None:
    lines = "".join(f"{_S3_LINE.format(size=size)}\n" for size in range(1, 501))
    (folder / "2026-11-24-14-00-00-0123456789ABCDEF").write_text(lines)


def _edge(folder: Path) -> None:
    rows = ("\t".join(str(value) for value in (_LEGACY | {"sc-bytes": size}).values()) for size in range(1, 501))
    content = "\n".join(("#Version: 1.0", f"#Fields: {' '.join(LEGACY_FIELDS)}", *rows, ""))
    (folder / "E2EXAMPLE12345.2026-11-24-13.a1b2c3d4.gz").write_bytes(gzip.compress(content.encode()))


def said(*words: str) -> tuple[int, str]:
    """Exit code of a dry run, and its complete output as one line."""
    result = dry("--format", "table", *words)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("put", [_s3, _edge], ids=["s3", "cloudfront"])
def test_a_log_that_does_not_say_whose_it_is_is_refused_with_the_option_that_says_it(
    put: Callable[[Path], None], tmp_path: Path
) -> None:
    put(tmp_path)
    code, answer = said(str(tmp_path))
    assert "give its account: --accounts ID" in answer
    assert "Files: 1 refused." in answer
    assert "empty" not in answer
    assert code == 1
    code, answer = said(str(tmp_path), "--accounts", "111122223333")
    assert code == 0
    assert "Files: 1 would be metered." in answer


def _flows(folder: Path, *lines: str, names: tuple[str, ...] = V2) -> None:
    (folder / KEY.rpartition("/")[2]).write_bytes(gzip.compress(text(*lines, names=names)))


def test_a_dry_run_says_what_would_be_metered_and_not_that_it_was(tmp_path: Path) -> None:
    _flows(tmp_path, line())
    _, answer = said(str(tmp_path))
    assert "Files: 1 would be metered." in answer
    assert "would be metered 1 + rejected 0" in answer
    assert "Bytes: 1,000 = would be metered 1,000" in answer
    assert "100.0 % of the bytes that would be metered are not classified" in answer


def test_without_a_context_addresses_give_a_guess_that_is_marked_and_counts_nothing(tmp_path: Path) -> None:
    ends = (
        ("10.0.0.1", "203.0.114.9", 600), ("10.0.0.1", "172.16.5.5", 200), ("100.64.0.1", "192.168.1.1", 100),
        ("fd00::1", "2600:1f14::1", 60), ("198.51.99.1", "203.0.114.9", 40),
    )  # fmt: skip
    _flows(tmp_path, *[line(srcaddr=source, dstaddr=target, bytes=str(size)) for source, target, size in ends])
    _, answer = said(str(tmp_path))
    document = json.loads(dry(str(tmp_path)).stdout)
    assert {row["looks_like"] for row in document["rows"]} == {"internet 66.0 %, private 30.0 %, both public 4.0 %"}
    assert "By addresses alone it looks like: internet 66.0 %, private 30.0 %, both public 4.0 %." in answer
    assert "and no metering: no byte is counted by it" in answer
    assert {row["usage_type"].partition("-")[0] for row in document["rows"]} <= {"Unclassified", "USW2", "EU"}
    assert sum(int(row["bytes"]) for row in document["rows"]) == 1_000
    assert {row["unclassified_because"] for row in document["rows"]} == {"direction_unknown"}


def test_a_file_without_traffic_is_not_called_empty(tmp_path: Path) -> None:
    _flows(tmp_path, *[line(log_status="NODATA", bytes="-")] * 500)
    _, answer = said(str(tmp_path))
    assert "Nothing in these files would be metered." in answer
    assert "Files: 1 with nothing to meter. Lines: 501 = header 1" in answer


def test_fields_that_all_logs_have_are_not_asked_for(tmp_path: Path) -> None:
    more = (*V2, "region", "flow-direction", "traffic-path", "pkt-srcaddr")
    _flows(tmp_path, line(more), names=more)
    _, answer = said(str(tmp_path))
    assert "whether the interface has a public address is not known" in answer
    assert "To know more, add a context (metering context capture)." in answer
    other = tmp_path / KEY.rpartition("/")[2].replace("_a1b2", "_c3d4")
    other.write_bytes(gzip.compress(text(line())))
    _, answer = said(str(tmp_path))
    assert "flow-direction traffic-path" in answer.partition("these fields:")[2]


def test_address_ranges_that_cannot_be_fetched_are_named_with_the_option_that_takes_a_file(tmp_path: Path) -> None:
    description = tmp_path / "description.json"
    description.write_text('{"schema": "metering.description/1", "regions": []}')
    line = ["context", "capture", "--from", str(description), "--into", str(tmp_path / "ctx"), "--ip-ranges"]
    result = CliRunner().invoke(app, [*line, "https://127.0.0.1:1/ip-ranges.json"])
    assert "--ip-ranges FILE" in " ".join(result.output.split())
    assert result.exit_code == 1


# `metering context`: capture into a folder or a stage, list, show.


@pytest.fixture
def description(tmp_path: Path) -> Path:
    path = tmp_path / "description.json"
    path.write_text(json.dumps(SMALL))
    return path


def typed(*line: object) -> Result:
    return CliRunner().invoke(app, ["context", *map(str, line)])


def captured(description: Path, folder: Path, *more: str) -> Any:
    result = typed("capture", "--from", description, "-o", folder, *more)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_description_is_kept_in_a_folder_without_any_stage_and_not_twice(description: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ctx"
    answer = captured(description, folder)
    assert (answer["kept"], answer["vpcs"], answer["flow_logs"], answer["address_ranges"]) == (True, 1, 1, 2)
    again = captured(description, folder)
    assert (again["kept"], again["context"]) == (False, answer["context"])
    [(_, sha256)] = ContextStore(FolderLogStore(folder)).names()
    assert sha256 == answer["context"]


def test_kept_contexts_are_listed_and_shown(description: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ctx"
    answer = captured(description, folder)
    listed = json.loads(typed("list", "--context", folder).stdout)
    assert listed["rows"] == [{"effective": answer["effective"], "context": answer["context"]}]
    for which in ((), (answer["effective"],), (answer["effective"][:13],), (answer["context"][:8],)):
        shown = json.loads(typed("show", *which, "--context", folder).stdout)
        assert shown == {name: value for name, value in answer.items() if name != "kept"}


def test_address_ranges_of_a_file_replace_those_of_the_description(description: Path, tmp_path: Path) -> None:
    ranges = tmp_path / "ip-ranges.json"
    ranges.write_text(json.dumps({"prefixes": [], "ipv6_prefixes": []}))
    assert captured(description, tmp_path / "ctx", "--ip-ranges", str(ranges))["address_ranges"] == 0


@pytest.mark.parametrize(("line", "code", "words"), [
    (("capture", "--from", "DIR/nothing.json", "-o", "DIR"), 1, "cannot be read: No such file"),
    (("capture", "--from", "DIR/text.json", "-o", "DIR"), 1, "is no JSON"),
    (("capture", "--from", "DIR/list.json", "-o", "DIR"), 1, "not a JSON object"),
    (("capture", "--from", "DIR/empty.json", "-o", "DIR"), 1, "its schema is 'None'"),
    (
        ("capture", "--from", "DIR/empty.json", "-o", "DIR", "--regions", "us-east-1"),
        2,
        "--from takes a description",
    ),
    (("capture", "-o", "DIR", "--regions", "us-east-1a"), 2, "us-east-1a is not the name of a region"),
    (("capture", "-o", "DIR", "--role-arn", "admin"), 2, "admin is no ARN of a role"),
    (("show", "--context", "DIR"), 1, "No context is kept there."),
])  # fmt: skip
def test_what_is_wrong_is_said_in_words(tmp_path: Path, line: tuple[str, ...], code: int, words: str) -> None:
    for name, content in {"text.json": "text", "list.json": "[]", "empty.json": "{}"}.items():
        (tmp_path / name).write_text(content)
    result = typed(*(word.replace("DIR", str(tmp_path)) for word in line))
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_context_that_is_not_meant_by_one_word_is_not_guessed(description: Path, tmp_path: Path) -> None:
    captured(description, tmp_path / "ctx")
    result = typed("show", "2020-01-01T00", "--context", tmp_path / "ctx")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "No context is meant by 2020-01-01T00" in result.stderr


def test_an_empty_folder_says_how_to_capture(tmp_path: Path) -> None:
    result = typed("list", "--context", tmp_path)
    assert (result.exit_code, json.loads(result.stdout)["rows"]) == (0, [])
    assert "metering context capture" in result.stderr


def test_a_stage_keeps_contexts_in_its_bucket_and_remembers_who_did_it(
    description: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(now_s=int(time.time()))
    session = OperatorSession(world)
    capture(session, source=description)
    answer = json.loads(capsys.readouterr().out)
    [(effective_s, sha256)] = ContextStore(world.objects).names()
    assert (rfc3339(effective_s), sha256) == (answer["effective"], answer["context"])
    assert effective_s > time.time()
    [deed] = session.trail()
    assert (deed.what, deed.subject) == ("context capture", sha256)
    list_(session)
    assert json.loads(capsys.readouterr().out)["rows"][0]["context"] == sha256


def test_a_capture_of_a_stage_takes_the_networks_of_its_newest_book_and_keeps_them_if_there_is_no_answer(
    description: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(now_s=int(time.time()))
    networks = (Network("datadog", ("203.0.113.0/24",)),)
    OwnerStore(world.objects).put(Owners(networks=networks))
    capture(OperatorSession(world), source=description)
    store = ContextStore(world.objects)
    newest = store.newest()
    assert newest is not None
    assert newest.networks == networks
    world.objects.put("owners/2.json", b"{}", if_absent=True)
    kept = len(world.objects.keys("context/"))
    capture(OperatorSession(world), source=description)
    # The same facts are not stored again.
    assert len(world.objects.keys("context/")) == kept
    assert "The book of owners was not read" in caplog.text


def test_a_description_that_contradicts_itself_changes_nothing_in_a_stage(tmp_path: Path) -> None:
    path = tmp_path / "description.json"
    path.write_text(json.dumps(SMALL | {"accounts": ["1"]}))
    world = World(now_s=int(time.time()))
    with pytest.raises(DescriptionError):
        capture(OperatorSession(world), source=path)
    assert list(world.objects.list("")) == []


def test_who_shows_workloads_and_destinations_whose_bytes_add_up_to_the_totals(tmp_path: Path) -> None:
    network_logs(tmp_path)
    words = [str(tmp_path / "logs"), "--context", str(tmp_path / "ctx"), "--accounts", "shared-subnets"]
    plain = json.loads(dry(*words, "--format", "json").stdout)
    found = json.loads(dry("--who", *words, "--top", "0", "--format", "json").stdout)
    wanted = int(plain["balance"]["metered_bytes"]) + int(plain["balance"]["processed_bytes"])
    assert sum(int(row["bytes"]) for row in found["rows"]) == int(found["bytes"]) == wanted
    by_type: dict[str, int] = {}
    for row in found["rows"]:
        by_type[row["usage_type"]] = by_type.get(row["usage_type"], 0) + int(row["bytes"])
    usage: dict[str, int] = {}
    for row in plain["rows"]:
        usage[row["usage_type"]] = usage.get(row["usage_type"], 0) + int(row["bytes"])
    assert by_type == usage
    assert {"asg:main-web", "elb:app/web", "unattributed"} <= {row["workload"] for row in found["rows"]}
    assert {"internet", "S3.us-west-2", "asg:main-web"} <= {row["destination"] for row in found["rows"]}
    # The first rows, and one for all others.
    short = json.loads(dry("--who", *words, "--top", "3", "--format", "json").stdout)
    assert short["rows"] == found["rows"][:3]
    assert int(short["others"]["bytes"]) == wanted - sum(int(row["bytes"]) for row in short["rows"])
    detail = json.loads(dry("--who", *words, "--detail", "--format", "json").stdout)
    assert sum(int(row["bytes"]) for row in detail["rows"]) == wanted
    assert {row["basis"] for row in detail["rows"] if row["cause"]} >= {"told", "seen"}


def test_the_example_of_a_network_shows_its_own_count_without_a_stage(tmp_path: Path) -> None:
    [made] = json.loads(typed("example", tmp_path / "try", "--lines", "1000").stdout)["rows"]
    found = json.loads(dry("--who", made["log"], "--context", made["context"], "--top", "0", "--format", "json").stdout)
    by_nat = [row for row in found["rows"] if row["usage_type"] == "USW2-NatGateway-Bytes"]
    assert sum(int(row["bytes"]) for row in by_nat) == int(made["nat_gateway_bytes"]) > 0
    assert {row["workload"] for row in by_nat} == {"asg:web", "asg:indexer", "asg:ci-runners"}
    (tmp_path / "file").write_text("")
    refused = typed("example", tmp_path / "file")
    assert refused.exit_code == 1
    assert "Cannot write to" in refused.stderr


def test_who_with_a_book_names_owners_and_what_nobody_owns_comes_first(tmp_path: Path) -> None:
    network_logs(tmp_path)
    words = [str(tmp_path / "logs"), "--context", str(tmp_path / "ctx"), "--accounts", "shared-subnets", "--top", "0"]
    book = tmp_path / "owners.toml"
    book.write_text(
        '[[rule]]\nowner = "web"\nwhen = { workload = "asg:main-*" }\n'
        '[[rule]]\nowner = "none"\nwhen = { tag = { team = "none" } }\n'
        '[[rule]]\nowner = "edge"\nwhen = { resource = "nat-*" }\n'
    )
    plain = json.loads(dry("--who", *words, "--format", "json").stdout)
    found = json.loads(dry("--who", *words, "--owners", str(book), "--format", "json").stdout)
    assert {name: value for name, value in found.items() if name != "rows"} == {
        name: value for name, value in plain.items() if name != "rows"
    }
    by_owner: dict[str, int] = {}
    for row in found["rows"]:
        assert (row["owner"] == "web") == row["workload"].startswith("asg:main-"), row
        by_owner[row["owner"]] = by_owner.get(row["owner"], 0) + int(row["bytes"])
    assert sum(by_owner.values()) == int(plain["bytes"])
    # Bytes of a gateway without a cause are owned by a rule that names the gateway, and by no other.
    assert {row["workload"] for row in found["rows"] if row["owner"] in ("edge", "")} == {"unattributed"}
    assert min(by_owner[name] for name in ("web", "unowned", "edge")) > 0
    charged = [row["owner"] for row in found["rows"] if "C3DataTransfer" not in row["usage_type"]]
    assert charged == sorted(charged, key=lambda owner: owner != "unowned")
    told = " ".join(dry("--who", *words, "--owners", str(book), "--format", "table").stdout.split())
    assert "Rules that own nothing here: 2 (none)." in told
    assert re.search(r"Unowned: [0-9.]+ % of the bytes; tag team is missing on \d+ of \d+ workloads\.", told), told


def test_who_names_the_networks_of_the_book_at_once(tmp_path: Path) -> None:
    network_logs(tmp_path)
    words = [str(tmp_path / "logs"), "--context", str(tmp_path / "ctx"), "--accounts", "shared-subnets", "--top", "0"]
    book = tmp_path / "owners.toml"
    sizes = []
    for networks in ("", '[[network]]\nname = "everybody"\ncidrs = ["0.0.0.0/0", "::/0"]\n'):
        book.write_text(f"{networks}[[rule]]\nowner = 'all'\nwhen = {{ workload = '*' }}\n")
        found = json.loads(dry("--who", *words, "--owners", str(book), "--format", "json").stdout)
        sizes.append({name: sum(int(row["bytes"]) for row in found["rows"] if row["destination"] == name)
                      for name in ("internet", "S3.us-west-2", "private", "asg:main-web", "everybody")})  # fmt: skip
    plain, named = sizes
    assert (plain["everybody"], named["internet"], named["S3.us-west-2"], named["private"]) == (0, 0, 0, 0)
    assert named["everybody"] >= plain["internet"] + plain["S3.us-west-2"] + plain["private"] > 0
    assert named["asg:main-web"] == plain["asg:main-web"] > 0


def test_a_book_of_owners_needs_who_and_rows_and_a_file_without_faults(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(flows(100))
    book = tmp_path / "owners.toml"
    book.write_text('[[rule]]\nowner = "a"\nwhen = {}\n')
    given, none = ["--owners", str(book)], ["--owners", str(tmp_path / "none")]
    for words, code in ((given, 2), (["--who", *none], 2), (["--who", "--detail", *given], 2), (["--who", *given], 1)):
        refused = CliRunner().invoke(app, ["ingest", "--dry-run", *words, str(tmp_path / NAME)])
        assert refused.exit_code == code, refused.output
    assert "rule 1 (a): it asks for nothing" in refused.stderr


def test_who_without_a_context_names_what_lines_tell_and_in_a_real_run_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(flows(100, 200))
    found = json.loads(dry("--who", str(tmp_path), "--format", "json").stdout)
    assert [(row["workload"], row["bytes"]) for row in found["rows"]] == [("unattributed", "300")]
    refused = CliRunner().invoke(app, ["ingest", "--who", str(tmp_path)])
    assert refused.exit_code == 2
