"""`--region all`: each read command merges all regions, or refuses with a message; no answer lacks a region."""

from __future__ import annotations

import csv
import io
import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from metering.audit.census_state import census_bytes
from metering.audit.verification import ManifestHeader, SentBatch, header_line, sent_line
from metering.cli.command import Session
from metering.cli.connecting import no_answer
from metering.cli.failures import CommandFailedError
from metering.cli.fleet import connections
from metering.cli.printing.output import Format, encoded
from metering.errors import SettingsError, UnavailableError
from metering.fleet.regions import Phase, RegionState
from metering.hours import month_bounds_s
from metering.ledger.markers import VerdictCounts
from metering.ledger.notes.watch import Completeness
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType
from metering.wiring.region import Stage
from tests.cli.width_rule import too_wide
from tests.support.bills import BILL
from tests.support.budget_world import keep_day_sums
from tests.support.command_line import AWAY, HOME, REFUSED, TwoRegions, ask, refused, run
from tests.support.lake_world import NOW_S, World, record
from tests.support.memory.regions import MemoryRegionStates
from tests.support.with_each import with_each
from tests.unit.cli.test_deeds import ALL, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from metering.reports.answer import Answer

# Commands that read every region, and add the column `region` to their rows.
MERGING = {
    "accounts", "alerts list", "audit", "batch show", "compare", "dlq list", "drops list", "errors", "logs list",
    "period list", "period show", "period verify", "producers list", "quarantine list", "quarantine show", "query",
    "reconcile",
    "report usage", "runbook", "sources", "status", "storage report", "token list", "trace", "verify", "who",
}  # fmt: skip
# Commands about the fleet, which read the fleet's regions themselves.
OF_THE_FLEET = {
    "anomalies", "budget check", "budget forecast", "budget list", "budget remove", "budget set", "budget update",
    "cost", "cost explain", "deploy", "export cur", "export focus", "invoice credit", "invoice draft",
    "invoice issue", "invoice list", "invoice show", "invoice verify", "organization history", "organization set",
    "organization show", "owners history", "owners put", "owners show", "owners try",
    "prices check", "prices diff", "prices history", "prices import", "prices override list",
    "prices override remove", "prices override set", "prices show", "region plan", "region reconcile",
    "region status", "savings", "serve", "settings diff", "settings show", "uninstall", "upgrade", "what-if",
}  # fmt: skip
WITHOUT_PLACE = {"help", "completion"}
OCTOBER_S = NOW_S - 30 * DAY_S
SAME = [record(10, account="111111111111"), record(20, account="222222222222", to="eu-west-1")]
ONLY_AWAY = [record(400, account="333333333333")]


class Fleet(TwoRegions):
    """A home region, a second region, and a region that was never built."""

    def silence(self, region: str, cause: UnavailableError) -> None:
        self.silent[region] = CommandFailedError("no answer")
        self.silent[region].__cause__ = cause


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    found = Fleet()
    found.states.save(RegionState(region="sa-east-1", phase=Phase.ABSENT, deployments=0))
    for name, region in found.regions.items():
        # Both regions have the same batch ids, as if one scenario was replayed in both.
        region.world.send(SAME, [record(3, account="12")])
        if name == AWAY:
            region.world.send(ONLY_AWAY)
        region.lose_a_letter("edge-1")
        region.leave_a_trail()
        region.register("edge")
        region.make_tokens()
        region.world.compact_all()
        keep_day_sums(region.world)
    with found.typed():
        yield found


def may_be_everywhere(words: str) -> bool:
    return bool(getattr(ALL[words].callback, "everywhere", False))


def test_every_command_is_declared_as_merging_regions_or_as_refusing_them() -> None:
    assert {words for words in ALL if may_be_everywhere(words)} == MERGING | OF_THE_FLEET
    changing = {words for words in MERGING if any(param.name == "yes" for param in ALL[words].params)}
    assert not changing


@pytest.mark.parametrize("words", sorted(ALL.keys() - MERGING - OF_THE_FLEET - WITHOUT_PLACE))
def test_a_command_on_one_region_refuses_all_in_words(words: str) -> None:
    told = refused(*line_of(words), "--region", "all", code=2)
    assert f"`metering {words}` works on one region, not on all." in told.replace("root", "metering")
    assert "--region eu-west-1" in told


@with_each(sorted(MERGING | OF_THE_FLEET))
def test_all_stands_in_the_help_of_what_takes_it(words: str) -> None:
    assert re.search(r"--region +NAME\|all", run(*words.split(), "--help").stdout)


ARGUMENTS = {
    "compare": [str(BILL), "--from", "2026-11", "--account", "111111111111", "--account", "333333333333"],
    "period show": ["2026-11"],
    "period verify": ["2026-10"],
    "batch show": ["batch-0"],
    "quarantine show": ["batch-1"],
    "query": ["SELECT region, account_id FROM transfers"],
    "report usage": ["--group-by", "region,account_id"],
    "trace": ["--account", "111111111111"],
    "who": ["--group-by", "region,usage_type"],
}


@pytest.mark.parametrize("words", sorted(MERGING))
def test_each_reader_has_the_rows_of_every_region_first_by_its_name(words: str, fleet: Fleet) -> None:
    if words == "period verify":
        for region in fleet.regions.values():
            region.world.send([record(1, start_s=OCTOBER_S)])
            region.world.compact_all()
            region.world.jobs.closer.close("2026-10", region.world.deadline())
    if words == "drops list":
        for region in fleet.regions.values():
            world = region.world
            world.objects.put("drop/edge/lost.ndjson", b"{}", if_absent=True)
            world.clock.advance_s(HOUR_S)
            now_s = world.clock.now_ms() // 1000
            world.items.put(Put(table=Table.LEDGER, item=Completeness(through_s=now_s, measured_s=now_s).to_item()))
    line = [*words.split(), *ARGUMENTS.get(words, []), "--region", "all", "--format", "csv"]
    result = run(*line)
    assert result.exit_code in {0, 1}, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    rows = [*csv.DictReader(io.StringIO(result.stdout))]
    header = result.stdout.split("\n")[0].split(",")
    # A bill and the usage compared with it both cover all regions. An account is listed once, wherever it has usage.
    assert (header[0] == "region") == (words not in {"accounts", "compare"})
    if words not in {"accounts", "compare", "period show", "period verify", "reconcile", "sources", "errors"}:
        assert {row["region"] for row in rows} == {HOME, AWAY}, result.output


def test_the_accounts_of_all_regions_are_one_list(fleet: Fleet) -> None:
    asked = ask("accounts", "--region", "all")
    assert asked["regions"] == [AWAY, HOME]
    assert {row["account_id"]: (row["bytes"], row["records"]) for row in asked["rows"]} == {
        "111111111111": ("20", 2), "222222222222": ("40", 2), "333333333333": ("400", 1),
    }  # fmt: skip
    assert "regions" not in ask("accounts", "--region", AWAY)
    # If one region were missing, the list would be too short.
    fleet.regions[HOME].world.objects.delete([info.key for info in fleet.regions[HOME].world.objects.list("rated/")])
    told = refused("accounts", "--region", "all", "--format", "json")
    assert "The accounts of us-east-1 were not summed yet." in told
    assert "metering budget update" in told


@pytest.mark.parametrize("words", sorted(MERGING))
def test_a_region_that_gives_no_answer_is_named_and_nothing_is_shown(words: str, fleet: Fleet) -> None:
    fleet.silence(AWAY, REFUSED)
    told = refused(*words.split(), *ARGUMENTS.get(words, []), "--region", "all", "--format", "json")
    assert "Region eu-west-1 gives no answer (connection refused)." in told


@pytest.mark.parametrize("words", sorted(MERGING - {"alerts list", "errors", "runbook"}))
def test_a_region_that_falls_silent_while_it_is_read_is_named(words: str, fleet: Fleet) -> None:
    def fall_silent(call: str) -> None:
        raise UnavailableError(call, "throttled")

    line = [*words.split(), *ARGUMENTS.get(words, []), "--region", "all", "--format", "json"]
    fleet.regions[AWAY].world.items.on_call = fall_silent
    fleet.regions[AWAY].world.objects.on_call = fall_silent
    if words == "dlq list":
        pytest.skip("it reads no item")
    told = refused(*line)
    assert AWAY in told
    assert "throttled" in told


def test_a_home_region_that_gives_no_answer_is_not_taken_for_one_without_data(fleet: Fleet) -> None:
    fleet.states = MemoryRegionStates()
    fleet.states.save(RegionState(region=AWAY, phase=Phase.READY, deployments=1))
    fleet.silence(HOME, REFUSED)
    assert "Region us-east-1 gives no answer" in refused("report", "usage", "--region", "all", "--format", "json")


@pytest.mark.usefixtures("fleet")
def test_a_report_and_a_query_by_region_are_the_reports_of_the_regions() -> None:
    by_account = ("report", "usage", "--group-by", "account_id", "--region")
    parts = {name: ask(*by_account, name)["rows"] for name in (HOME, AWAY)}
    single = {name: {row["account_id"]: row["bytes"] for row in rows} for name, rows in parts.items()}
    assert single[HOME] == {"111111111111": "10", "222222222222": "20"}
    whole = ask("report", "usage", "--group-by", "region,account_id", "--region", "all")
    assert whole["regions"] == [AWAY, HOME]
    assert whole["left_out"] == {}
    told = {(row["region"], row["account_id"]): row["bytes"] for row in whole["rows"]}
    assert told == {(name, account): size for name, sizes in single.items() for account, size in sizes.items()}
    for view in ("transfers", "usage"):
        sql = f"FROM {view} SELECT region, account_id, sum(bytes) AS bytes GROUP BY ALL"
        rows = ask("query", sql, "--region", "all")["rows"]
        assert {(row["region"], row["account_id"]): row["bytes"] for row in rows} == told
    total = ask("report", "usage", "--group-by", "month", "--region", "all")["rows"]
    assert [row["bytes"] for row in total] == ["460"]


@pytest.mark.usefixtures("fleet")
def test_sql_over_one_region_names_it_and_a_filter_by_region_takes_its_rows() -> None:
    sql = "SELECT region, count(*) AS n FROM transfers GROUP BY region"
    assert ask("query", sql, "--region", AWAY)["rows"] == [{"region": AWAY, "n": 3}]
    one = "SELECT sum(bytes) AS bytes FROM transfers WHERE region = 'us-east-1'"
    assert ask("query", one, "--region", "all")["rows"] == [{"bytes": "30"}]


@pytest.mark.usefixtures("fleet")
def test_the_same_batch_ids_in_two_regions_are_no_fault() -> None:
    answer = run("verify", "--region", "all", "--format", "json")
    document = json.loads(answer.stdout)
    assert (document["unexpected"], document["lost"], document["doubled"]) == ([], [], [])
    assert document["accepted"] == sum(each["accepted"] for each in document["regions"].values()) == 3
    assert {*document["regions"]} == {HOME, AWAY}


@pytest.mark.usefixtures("fleet")
def test_the_newest_of_all_regions_are_shown_and_what_is_left_is_said() -> None:
    result = run("audit", "--region", "all", "--limit", "3", "--format", "json")
    rows = json.loads(result.stdout)["rows"]
    assert [row["at"] for row in rows] == sorted((row["at"] for row in rows), reverse=True)
    assert {row["region"] for row in rows} == {HOME, AWAY}
    assert "There are more than 3." in result.stderr


@pytest.mark.usefixtures("fleet")
def test_a_page_has_the_total_of_the_report_and_of_each_region(tmp_path: Path) -> None:
    target = tmp_path / "usage.html"
    result = run("report", "usage", "--region", "all", "--html", str(target))
    assert (result.exit_code, result.stdout) == (0, "")
    assert str(target) in result.stderr.replace("\n", "")
    html = target.read_text()
    total = sum(int(row["bytes"]) for row in ask("report", "usage", "--region", "all")["rows"])
    assert f"{total:,} bytes in " in html
    for column in ("account_id", "region", "usage_type"):
        for row in ask("report", "usage", "--region", "all", "--group-by", column)["rows"]:
            assert str(row[column]) in html
            assert f">{int(row['bytes']):,}<" in html
    assert "metering report usage --region all --stage local --from 2026-11-01T00:00:00Z" in html


@pytest.mark.parametrize("option", [("--group-by", "day"), ("--detail", "batch_id"), ("--format", "csv"), ("--chart",)])
def test_a_page_refuses_options_that_it_has_no_use_for(option: tuple[str, ...], tmp_path: Path) -> None:
    assert option[0] in refused("report", "usage", "--html", str(tmp_path / "x.html"), *option, code=2)


def stopped_scan(fleet: Fleet, path: Path, *line: str) -> None:
    """Run a command; its home region stops responding once a part of the ledger is counted and saved."""

    def fall_silent(call: str) -> None:
        if path.exists():
            raise UnavailableError(call, "throttled")

    world = fleet.regions[HOME].world
    world.items.on_call = fall_silent
    assert run(*line, "--resume", str(path), "--region", HOME).exit_code == 1
    world.items.on_call = lambda _call: None


RESUMED = [("verify",), ("reconcile", "--deep")]


@pytest.mark.parametrize("line", RESUMED, ids=lambda line: line[0])
def test_a_saved_scan_of_another_region_or_stage_is_refused_by_its_name(
    line: tuple[str, ...], fleet: Fleet, tmp_path: Path
) -> None:
    path = tmp_path / "scan"
    stopped_scan(fleet, path, *line)
    saved = path.read_bytes()
    for place in (("--region", AWAY), ("--region", HOME, "--stage", "other")):
        result = run(*line, "--resume", str(path), *place)
        words = " ".join(result.stderr.split())
        assert result.exit_code == 2, "a scan of us-east-1, stage local, was gone on with elsewhere"
        assert f"has a scan of `metering {line[0]}` of region {HOME}, stage local" in words
        assert "Name another file, or delete this one to begin anew." in words
        assert path.read_bytes() == saved
    assert run(*line, "--resume", str(path), "--region", HOME).exit_code == run(*line, "--region", HOME).exit_code


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("line", [*RESUMED, ("period", "close", "2026-10", "--yes")], ids=lambda line: line[0])
def test_a_saved_scan_that_says_neither_region_nor_stage_is_not_believed(line: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "scan"
    from_s, to_s = month_bounds_s("2026-10") if line[0] == "period" else (0, NOW_S + DAY_S)
    state = World().jobs.reconciler.begin(from_s=from_s, to_s=to_s, deep=True)
    state.verdicts = VerdictCounts() if line[0] == "verify" else None
    state.digests = line[0] == "period"
    # Earlier releases saved a scan in this form.
    path.write_bytes(census_bytes(state))
    result = run(*line, "--resume", str(path), "--region", AWAY)
    assert result.exit_code == 2, "a scan that says neither its region nor its stage was gone on with"
    assert "an older version saved it, without its region and stage" in " ".join(result.stderr.split())
    assert path.read_bytes() == census_bytes(state)


def manifest(folder: Path, region: str, batches: int) -> str:
    path = folder / f"{region}.ndjson"
    totals = {
        UsageKey(
            hour_s=NOW_S // HOUR_S * HOUR_S, account_id="333333333333", usage_type=UsageType("DataTransfer-Out-Bytes"),
            service=Service("AmazonEC2"), from_location="us-east-1/use1-az2", to_location="internet", corrects_s=None,
        ): Total(400, 1)
    }  # fmt: skip
    sent = [SentBatch(batch_id=f"lost-{number}", records=1, metered=1, totals=totals) for number in range(batches)]
    header = header_line(ManifestHeader(name="x", region=region, seed=1, began_at_ms=1))
    path.write_text(header + "".join(map(sent_line, sent)))
    return str(path)


@pytest.mark.usefixtures("fleet")
def test_manifests_are_compared_with_the_regions_that_they_name(tmp_path: Path) -> None:
    files = ["--manifest", manifest(tmp_path, HOME, 1), "--manifest", manifest(tmp_path, AWAY, 2)]
    result = run("verify", "--region", "all", "--format", "json", *files)
    document = json.loads(result.stdout)
    lost = {region: each["lost"] for region, each in document["regions"].items()}
    assert lost == {HOME: ["lost-0"], AWAY: ["lost-0", "lost-1"]}
    assert result.exit_code == 1
    assert "eu-west-1: Lost (2)" in result.stderr


@pytest.mark.usefixtures("fleet")
def test_a_manifest_of_another_region_is_refused_and_not_called_lost(tmp_path: Path) -> None:
    told = refused("verify", "--region", HOME, "--manifest", manifest(tmp_path, AWAY, 2), code=2)
    assert "--region eu-west-1" in told


@pytest.mark.parametrize("words", sorted(MERGING - {"accounts", "compare", "period verify"}))
def test_a_table_of_several_regions_fits_the_window_and_never_leaves_the_region_out(words: str, fleet: Fleet) -> None:
    kept: list[Answer] = []

    def keep(_session: Session, answer: Answer, *, chart: object = None) -> None:
        assert chart is None
        kept.append(answer)

    with patch.object(Session, "write", keep):
        run(*words.split(), *ARGUMENTS.get(words, []), "--region", "all")
    [answer] = kept
    assert answer.columns[0].name == "region"
    for width in (60, 80, 120, 200):
        lines = encoded(answer, Format.TABLE, width=width).decode().splitlines()
        assert not too_wide(lines, width, answer)
        if answer.rows:
            assert any(HOME in line for line in lines)


SESSION = Session(endpoint="http://127.0.0.1:1", region="all", stage="prod")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], list[str]]:
    """Query all regions while the home region, which has no stored state, fails with `cause`."""

    def ask(cause: Exception) -> list[str]:
        def connect(region: str) -> SimpleNamespace:
            if region != HOME:
                return SimpleNamespace(region=region)
            if isinstance(cause, UnavailableError):
                raise no_answer(cause, endpoint=None, region=region) from cause
            raise CommandFailedError("stage prod is not deployed") from cause

        states = MemoryRegionStates()
        states.save(RegionState(region=AWAY, deployments=1))
        monkeypatch.setattr(Session, "regions", Stage(home=HOME, connect=connect, states=states))
        return [region.region for region in connections(SESSION)]

    return ask


def test_a_home_region_that_is_not_deployed_is_none_of_them(asked: Callable[[Exception], list[str]]) -> None:
    assert asked(SettingsError(["no stack"])) == [AWAY]


def test_a_home_region_without_a_state_or_an_answer_is_not_left_out(asked: Callable[[Exception], list[str]]) -> None:
    with pytest.raises(CommandFailedError, match="gives no answer"):
        asked(UnavailableError("cloudformation.DescribeStacks", "timed out"))
