"""`metering logs`: each gap is named with the command that fills it; a repeated command changes nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner, Result

from metering.cli.app import app
from metering.hours import rfc3339
from metering.onramps.coverage.log_format import LINE_BYTES, WORTH, compare, fields_of, log_format
from metering.onramps.coverage.looking import SLOT_S
from metering.onramps.plans import Plan, slot_label
from metering.units import HOUR_S, MINUTE_S
from tests.cli.lively import LOG_SOURCES, Lively
from tests.support.command_line import typed_at
from tests.support.lake_world import NOW_S, record
from tests.unit.onramps.coverage.world import LOG, plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


END_S = NOW_S - NOW_S % SLOT_S
FOLDER = "AWSLogs/123456789012/vpcflowlogs/us-west-2/2026/11/24"


@pytest.fixture(autouse=True)
def region() -> Iterator[Lively]:
    made = Lively()
    with typed_at(lambda **_place: made):
        yield made


def typed(*words: str) -> Result:
    return CliRunner().invoke(app, ["logs", *words], prog_name="metering")


def answered(*words: str, code: int = 0) -> Any:
    result = typed(*words, "--format", "json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def put(region: Lively, *plans: Plan) -> None:
    for each in plans:
        region.world.objects.put(each.key, each.to_json(), if_absent=True)


def slots(hours: int, *, until_s: int = END_S - 10 * MINUTE_S) -> list[int]:
    return list(range(END_S - hours * HOUR_S, until_s, SLOT_S))


def file_name(slot_s: int) -> str:
    return f"123456789012_vpcflowlogs_us-west-2_{LOG}_{slot_label(slot_s)}_1a2b3c4d.log.gz"


def test_a_gap_is_named_with_flow_log_time_and_the_command_that_sends_it_and_then_it_is_gone(region: Lively) -> None:
    gap_s = END_S - 2 * HOUR_S
    put(region, *(plan(slot_s) for slot_s in slots(6) if slot_s != gap_s))
    [row] = answered("coverage")["rows"]
    assert (row["source"], row["missing"], row["state"]) == (LOG, 1, "gaps")
    assert [first for first, _last in row["gaps"]] == [rfc3339(gap_s)]
    printed = typed("coverage", "--format", "table").output
    assert f"metering ingest s3://acme-logs/{FOLDER.partition('/2026')[0]}/ --since 3h" in printed
    put(region, plan(gap_s))
    [row] = answered("coverage")["rows"]
    assert (row["missing"], row["gaps"], row["state"]) == (0, [], "ok")


def test_sums_hold_and_shares_have_reasons_that_add_up(region: Lively) -> None:
    put(region, *(plan(slot_s) for slot_s in slots(3)))
    [row] = answered("coverage")["rows"]
    files = len(slots(3))
    balance = row["balance"]
    outcomes = ("header", "metered", "rejected", "nodata", "skipdata", "shadowed", "refused")
    assert sum(balance[name] for name in outcomes) == balance["lines"] == 10 * files
    assert row["metered_bytes"] == str(600 * files)
    assert row["unclassified_by_reason"] == {"on_premises": str(60 * files)}
    assert (row["unclassified"], row["skipdata"]) == ("10.0 %", files)


def test_an_authority_that_never_delivered_is_named_with_what_it_shadows(region: Lively) -> None:
    put(region, *(plan(slot_s, shadowed=(("fl-0silent", 1, 100),)) for slot_s in slots(1)))
    assert answered("coverage")["never_delivered"] == [{"source": "fl-0silent", "shadows": [LOG]}]


def test_list_shows_each_source_and_a_log_source_from_which_nothing_came(region: Lively) -> None:
    [row] = answered("list")["rows"]
    assert (row["log_source"], row["state"]) == ("network", "nothing came")
    assert "To look now: metering logs coverage" in typed("list", "--format", "table").stdout
    put(region, *(plan(slot_s) for slot_s in slots(1)))
    answered("coverage")
    [row] = answered("list")["rows"]
    assert (row["log_source"], row["source"], row["state"]) == ("network", LOG, "ok")


def test_an_accepted_gap_and_a_forgotten_source_hold_nothing_back(region: Lively) -> None:
    put(region, *(plan(slot_s) for slot_s in slots(9, until_s=END_S - 4 * HOUR_S) if slot_s != END_S - 6 * HOUR_S))
    answered("coverage")
    row = answered("accept-gap", LOG, rfc3339(END_S - 6 * HOUR_S))
    assert (row["missing"], row["first"]) == (1, rfc3339(END_S - 6 * HOUR_S))
    [row] = answered("coverage")["rows"]
    assert [first for first, _last in row["gaps"]] == [rfc3339(END_S - 4 * HOUR_S)]
    assert answered("forget", LOG)["ruling"] == "forget"
    [row] = answered("coverage")["rows"]
    assert (row["gaps"], row["state"]) == ([], "ended")


@pytest.mark.parametrize("words", [
    ("accept-gap", "fl-0unknown", "all"), ("forget", "fl-0unknown"), ("coverage", "--source", "fl-0unknown"),
])  # fmt: skip
def test_a_source_that_nobody_knows_is_refused_in_words(words: tuple[str, ...]) -> None:
    result = typed(*words)
    assert result.exit_code == 1
    assert "There is no source of logs fl-0unknown." in result.stderr


@pytest.mark.parametrize("times", ["yesterday", "2026-11-24", "2026-11-24T14:00:00Z/2026-11-24T13:00:00Z"])
def test_slots_that_are_none_are_refused_in_words(region: Lively, times: str) -> None:
    put(region, plan(END_S - HOUR_S))
    answered("coverage")
    assert typed("accept-gap", LOG, times).exit_code == 2


def test_a_source_of_the_organization_is_warned_of_where_it_is_shown_and_added() -> None:
    assert "organization" not in typed("list").stderr
    with patch("tests.cli.lively.LOG_SOURCES", tuple(replace(each, billed_as="") for each in LOG_SOURCES)):
        shown = " ".join(typed("list").stderr.split())
    assert 'network: accounts = "organization" lets the lines of any file bill every account' in shown
    added = " ".join(typed("add", "s3://acme-logs/a/", "--accounts", "organization").stderr.split())
    assert 'accounts = "organization" lets the lines of any file bill every account' in added


def test_add_bills_the_account_of_the_files_name_unless_more_is_said() -> None:
    assert "accounts" not in answered("add", "s3://acme-logs/a/")["entry"]
    shared = answered("add", "s3://acme-logs/a/", "--accounts", "shared-subnets")["entry"]
    assert 'accounts = "shared-subnets"' in shared


@pytest.mark.parametrize("place", ["acme-logs", "s3://", "./logs"])
def test_verify_of_no_bucket_is_wrong_usage(place: str) -> None:
    assert typed("verify", place).exit_code == 2


def test_add_turns_the_switch_and_keeps_all_other_notifications(region: Lively, tmp_path: Path) -> None:
    others = {"QueueConfigurations": [{"Id": "theirs", "QueueArn": "arn:q", "Events": ["s3:ObjectCreated:*"]}]}
    region.bucket_events.configurations["acme-logs"] = dict(others)
    file = tmp_path / "metering.toml"
    file.write_text("[stage.local]\nmax_concurrency = 8\n")
    found = answered("add", "s3://acme-logs/more/", "--accounts", "111122223333", "--write", str(file))
    assert (found["eventbridge"], found["others"]) == ("turned on", 1)
    assert region.bucket_events.configurations["acme-logs"] == {**others, "EventBridgeConfiguration": {}}
    assert "[[stage.local.log_sources]]" in file.read_text()
    assert file.read_text().startswith("[stage.local]\nmax_concurrency = 8\n")
    found = answered("add", "s3://acme-logs/more/", "--accounts", "111122223333")
    assert (found["eventbridge"], found["settings"]) == ("was on before", "to be added, as below")


def test_add_writes_no_entry_that_would_not_fit_the_file(tmp_path: Path) -> None:
    file = tmp_path / "metering.toml"
    file.write_text("[stage.local]\n")
    answered("add", "s3://acme-logs/a/", "--accounts", "organization", "--write", str(file))
    before = file.read_text()
    result = typed("add", "s3://acme-logs/a/", "--accounts", "organization", "--write", str(file))
    assert result.exit_code == 1
    assert "Nothing was written." in result.stderr
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["metering.toml"]


def test_add_prints_what_the_owner_of_a_bucket_does_and_touches_nothing(region: Lively) -> None:
    result = typed("add", "s3://of-another/AWSLogs/", "--accounts", "111122223333", "--print")
    assert result.exit_code == 0
    for words in ("jq '. + {EventBridgeConfiguration: {}}'", "AWS::Events::Rule", "put-permission", "log_sources"):
        assert words in result.stderr
    # The events are forwarded unchanged to the event bus of the stage's account, in its region.
    assert result.stderr.count(f"events:{region.region}:ACCOUNT:event-bus/default") == 2
    assert not re.search(r"^\s+account:", result.stderr, re.MULTILINE)
    assert "s3:ListBucket on arn:aws:s3:::of-another" in " ".join(result.stderr.split())
    assert region.bucket_events.configurations == {"acme-logs": {}}


@pytest.mark.parametrize(("words", "said"), [
    (("s3://acme-logs/", "--accounts", "12"), "an account has 12 digits"),
    (("s3://acme-logs/", "--accounts", "organization", "--kinds", "syslog"), "no kind of log"),
    (("s3://of-another/", "--accounts", "organization"), "There is no bucket of-another."),
])  # fmt: skip
def test_add_refuses_what_is_no_log_source_in_words(words: tuple[str, ...], said: str) -> None:
    result = typed("add", *words)
    assert result.exit_code in {1, 2}
    assert said in result.stderr


def test_format_prints_a_command_with_the_fields_worth_having_and_its_cost() -> None:
    found = answered("format", "--bucket", "acme-logs", "--vpc", "vpc-0abc", "--files", "parquet", "--minutes", "1")
    for words in (
        "--traffic-type ACCEPT", "arn:aws:s3:::acme-logs", "FileFormat=parquet", "--max-aggregation-interval 60",
        "--resource-ids vpc-0abc", "${next-hop-az-id}",
    ):  # fmt: skip
        assert words in found["command"]
    assert "port" not in found["format"]
    assert found["usd_a_gb"]["delivery to S3, first 10 TB a month"] == "0.25"


def test_a_line_of_the_format_is_as_long_as_its_cost_says() -> None:
    words = [
        "11", "123456789012", "eni-0a1b2c3d4e5f60718", "10.0.12.34", "10.0.101.207", "184467", "1764075600",
        "1764075660", "ACCEPT", "OK", "vpc-0a1b2c3d4e5f60718", "subnet-0a1b2c3d4e5f60718", "i-0a1b2c3d4e5f60718",
        "10.0.12.34", "10.0.101.207", "us-west-2", "usw2-az1", "-", "-", "-", "egress", "1", "-", "ec2_instance",
        "eni-0b1b2c3d4e5f60719", "usw2-az2", "vpc-0a1b2c3d4e5f60718", "network_load_balancer",
    ]  # fmt: skip
    assert len(words) == len(WORTH)
    assert len(" ".join(words)) + 1 == LINE_BYTES


def test_compare_says_which_fields_a_format_lacks() -> None:
    default = "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol}"
    found = answered("format", "--compare", f"{default} ${{packets}} ${{bytes}} ${{start}} ${{end}}")
    assert "next-hop-az-id" in found["lacks"]
    assert (found["needed"], found["more"]) == ([], ["srcport", "dstport", "protocol", "packets"])
    assert compare(log_format()).lacks == ()
    assert fields_of("vpc_id, ${bytes}") == ("vpc-id", "bytes")
    assert typed("format", "--compare", "${bytes} 7%").exit_code == 1


def test_resources_that_two_flow_logs_metered_are_named_on_request(region: Lively) -> None:
    for number, log in enumerate((LOG, "fl-0b1b2c3d4e5f60719")):
        for resource in ("i-0abc", f"i-0only{number}"):
            name = file_name(END_S - HOUR_S).replace(LOG, log)
            body = {
                "schema": "metering.batch/1",
                "batch_id": f"flow:{name}/{resource[-1]}",
                "record_count": 1,
                "records": [record(100 + number, start_s=NOW_S - HOUR_S, resource=resource)],
            }
            region.ingest.send_many([json.dumps(body)])
    region.work()
    assert "overlaps" not in answered("coverage")
    [found] = answered("coverage", "--overlap")["overlaps"]
    assert found["resource_id"] == "i-0abc"
    assert found["bytes"] == {LOG: "100", "fl-0b1b2c3d4e5f60719": "101"}
