"""`metering producers`, `token`, `sources` and `serve`: permissions to send and to query, and gaps in batch numbers."""

from __future__ import annotations

import ast
import inspect
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from threading import Thread
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner, Result

from metering.api.authentication import Grant, LedgerTokens
from metering.api.serving import LocalServer
from metering.cli.app import app
from metering.cli.commands.platform.producers import accept_gap, forget, sources
from metering.cli.failures import CommandFailedError
from metering.hours import rfc3339
from metering.ledger.markers import marker_key
from metering.ledger.notes.access import Role
from metering.ledger.notes.checks import CanaryRun, canary_batch_id
from metering.ledger.notes.reconciliation import RULING_PK, Ruling
from metering.producer.producer import Producer
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from tests.cli.lively import Lively
from tests.support import command_line
from tests.support.command_line import AWAY, CALLER, OperatorSession, TwoRegions, ask, refused, run, typed_at
from tests.support.lake_world import NOW_S, World, record
from tests.support.senders_world import SERVICES
from tests.unit.operations.test_dead_letters import accepted

WORKLOAD = "arn:aws:iam::111122223333:role/edge-workload"
ADD = ("producers", "add", "edge-7f3a", "--accounts", "111122223333,444455556666", "--role-arn", WORKLOAD)


class Admins(Lively):
    """A region as seen by a user who is not an operator."""

    def caller_id(self) -> str:
        return "AROAADMIN:somebody"


@pytest.fixture
def region() -> Iterator[Lively]:
    found = Lively(world=World())
    with typed_at(lambda **_place: found):
        yield found


def meet_a_canary(region: Lively, sender: str) -> None:
    marker = replace(accepted(canary_batch_id(NOW_S)), sender_id=sender)
    for item in (CanaryRun(slot_s=NOW_S, sent_s=NOW_S).to_item(), marker.to_item()):
        region.world.items.put(Put(table=Table.LEDGER, item=item))


def test_one_command_registers_a_producer_and_shows_what_its_workload_pastes(region: Lively) -> None:
    meet_a_canary(region, "AROACANARY:function")
    found = ask(*ADD)
    assert (found["name"], found["accounts"]) == ("edge-7f3a", ["111122223333", "444455556666"])
    assert (found["batch_ids"], found["source_ids"]) == ("edge-7f3a/", "edge-7f3a")
    assert (found["objects"], found["drops"]) == ("ingest/edge-7f3a/", "drop/edge-7f3a/")
    assert (found["state"], found["warnings"], found["refused"]) == ("good", [], None)
    snippet = "\n".join(found["snippet"])
    assert f"role_arn = {found['role_arn']}" in snippet
    assert f'queue_url="{region.names.ingest_queue_url}"' in snippet
    assert f'bucket="{region.names.data_bucket}"' in snippet
    assert ask("producers", "show", "edge-7f3a") == found
    listed = ask("producers", "list")
    assert (listed["producers"], [row["name"] for row in listed["rows"]]) == ("open", ["edge-7f3a"])
    removed = run("producers", "remove", "edge-7f3a", "--format", "json")
    assert json.loads(removed.stdout)["rows"] == []
    assert removed.stderr == "edge-7f3a: removed, with its role. Who remains:\n"
    assert region.producer_roles.roles == {}


def test_the_python_of_the_snippet_is_python_and_calls_the_producer_as_it_is(region: Lively) -> None:
    lines = ask(*ADD)["snippet"]
    tree = ast.parse("\n".join(lines[lines.index("import metering") :]))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (made,) = [each for each in calls if isinstance(each.func, ast.Attribute) and each.func.attr == "Producer"]
    inspect.signature(Producer).bind(
        *(ast.literal_eval(each) for each in made.args),
        **{str(each.arg): ast.literal_eval(each.value) for each in made.keywords},
    )
    (sent,) = [each for each in calls if isinstance(each.func, ast.Attribute) and each.func.attr == "send"]
    inspect.signature(Producer.send).bind("self", *sent.args, **{str(each.arg): each.value for each in sent.keywords})


def test_what_is_wrong_with_a_producer_is_said(region: Lively) -> None:
    meet_a_canary(region, "000000000000")
    ask(*ADD)
    region.producer_roles.remove("edge-7f3a")
    region.producer_roles.put("edge-7f3a", trusted_arn=WORKLOAD)
    result = run("producers", "show", "edge-7f3a", "--format", "json")
    assert result.exit_code == 0
    assert "made anew" in result.stderr
    assert "calls every sender 000000000000" in result.stderr
    assert len(json.loads(result.stdout)["warnings"]) == 2
    assert "made anew" not in run(*ADD, "--format", "json").stderr


@pytest.mark.parametrize(("line", "said"), [
    (("producers", "add", "Edge", "--accounts", "all"), "is no name of a producer"),
    (("producers", "add", "canary", "--accounts", "all"), "is no name of a producer"),
    (("producers", "add", "edge", "--accounts", "12,all"), "'all' is no account"),
    (("producers", "add", "edge", "--accounts", "all", "--role-arn", "edge"), "is no ARN"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    region: Lively, line: tuple[str, ...], said: str
) -> None:
    told = refused(*line, code=2)
    assert said in told
    assert "Nobody was registered." in told
    assert region.producer_roles.roles == {}


@pytest.mark.parametrize("verb", ["show", "remove"])
def test_a_producer_that_nobody_registered_is_named(region: Lively, verb: str) -> None:
    del region
    told = refused("producers", verb, "edge")
    assert "There is no registered producer edge." in told
    assert "metering producers list" in told


def with_a_conflict(region: Lively) -> Lively:
    """A quarantined batch that can be resent under its own batch id."""
    world = region.world
    world.send([{"account_id": "12"}])
    return region


@pytest.mark.parametrize(("made", "exit_code"), [(Lively, 0), (Admins, 1)])
def test_only_the_operator_sends_again_for_others_where_senders_are_judged(made: type[Lively], exit_code: int) -> None:
    region = with_a_conflict(made(world=World(), services=SERVICES))
    region.lose_a_letter("edge-1")
    with typed_at(lambda **_place: region):
        for line in (("quarantine", "retry", "batch-0"), ("dlq", "redrive")):
            result = run(*line)
            assert result.exit_code == exit_code, result.output
            if exit_code:
                assert "Only the operator role" in result.stderr
                assert "OperatorRoleArn" in result.stderr
        assert run("dlq", "redrive", "--dry-run").exit_code == 0
    stated = [message.delivery.stated_sender for message in region.ingest.receive(10)]
    # A batch or dead letter is resent in the name of its original sender, and never by SQS's redrive task.
    assert stated == ([] if exit_code else ["sender", "AIDATEST"])
    assert region.world.items.peek(Table.LEDGER, marker_key("edge-1")) is None


ACCOUNT = "123456789012"
CREATE = ("token", "create", "--role", "customer", "--account", ACCOUNT)


def grant_of(region: Lively, token: str) -> Grant | None:
    return LedgerTokens(items=region.world.items, clock=region.world.clock).grant_of(token)


def test_a_token_that_is_made_opens_the_api_until_it_is_revoked(region: Lively) -> None:
    made = ask(*CREATE, "--days", "7", "--label", "portal of Acme")
    assert (made["role"], made["accounts"], made["state"]) == ("customer", ACCOUNT, "good")
    assert made["expires"] == "2026-12-01T13:30:00Z"
    granted = Grant(token_id=made["token_id"], role=Role.CUSTOMER, accounts=frozenset({ACCOUNT}))
    assert grant_of(region, made["token"]) == granted
    [listed] = ask("token", "list")["rows"]
    assert [name for name in listed if name in made and made[name] != listed[name]] == []
    assert listed["made_by"] == region.caller()
    revoked = ask("token", "revoke", made["token_id"])
    assert (revoked["state"], revoked["revoked_by"]) == ("revoked", region.caller())
    assert grant_of(region, made["token"]) is None
    assert ask("token", "list")["rows"] == [revoked]


def test_the_secret_is_shown_once_and_is_nowhere_else(region: Lively) -> None:
    made = ask(*CREATE)
    secret = made["token"].rpartition("_")[2]
    for line in (("token", "list"), ("audit",), ("token", "revoke", made["token"]), ("audit", "--format", "json")):
        result = run(*line)
        assert result.exit_code == 0
        assert secret not in result.output
    assert secret not in repr(list(region.world.items.scan(Table.LEDGER)))


def test_making_and_revoking_are_deeds_in_the_trail(region: Lively) -> None:
    made = ask(*CREATE)
    ask("token", "revoke", made["token_id"])
    deeds = sorted((row["what"], row["subject"], row["result"]) for row in ask("audit")["rows"])
    token = made["token_id"]
    assert deeds == [("token create", "customer", f"token {token}"), ("token revoke", token, "revoked")]
    assert region.world.items


@pytest.mark.usefixtures("region")
def test_a_token_of_staff_sees_all_accounts_unless_some_are_named() -> None:
    assert ask("token", "create", "--role", "analyst")["accounts"] == "all"
    accounts = [word for account in ("2" * 12, ACCOUNT, ACCOUNT) for word in ("--account", account)]
    assert ask("token", "create", "--role", "operator", *accounts)["accounts"] == f"{ACCOUNT}, {'2' * 12}"


def test_the_list_says_which_tokens_are_good(region: Lively) -> None:
    region.make_tokens()
    states = [(row["role"], row["state"]) for row in ask("token", "list")["rows"]]
    assert states == [("analyst", "good"), ("operator", "revoked"), ("customer", "expired")]


@pytest.mark.parametrize("typed", ["0" * 16, "mtr_" + "0" * 16 + "_" + "5ec4e7" * 10 + "abcd", "W#budgets"])
@pytest.mark.usefixtures("region")
def test_what_is_no_token_is_not_revoked_and_not_repeated(typed: str) -> None:
    told = refused("token", "revoke", typed)
    assert "There is no token of this id." in told
    assert "metering token list" in told
    assert typed not in told


@pytest.mark.usefixtures("region")
def test_every_problem_of_a_token_is_said_at_once_and_none_is_made() -> None:
    told = refused("token", "create", "--role", "customer", "--label", "\n" + "x" * 129, code=2)
    for problem in ("A customer's token names its accounts, at least one.", "at most 128 characters"):
        assert problem in told
    assert ask("token", "list")["rows"] == []


def test_a_token_sees_costs_at_shared_tiers_only_if_it_was_made_so(region: Lively) -> None:
    plain, costs = ask(*CREATE), ask(*CREATE, "--costs")
    assert (plain["costs"], costs["costs"]) == (False, True)
    granted = [grant_of(region, made["token"]) for made in (plain, costs)]
    assert [grant is not None and grant.costs for grant in granted] == [False, True]
    [told] = [row["consequence"] for row in ask("audit")["rows"] if "shared tiers" in row["consequence"]]
    assert told.endswith("Costs at shared tiers tell it what the payer's other accounts use.")


def with_gap() -> World:
    """A region in which `edge` lacks batches 1 to 4."""
    # The commands use the machine's clock.
    now_s = int(time.time())
    world = World(now_s=now_s - 2 * HOUR_S)
    world.send([record(1, start_s=now_s - 3 * HOUR_S)], source="edge")
    world._sent = 5
    world.send([record(1, start_s=now_s - 3 * HOUR_S)], source="edge")
    for _ in range(2):
        world.clock.advance_s(HOUR_S)
        scan(world)
    return world


def scan(world: World) -> None:
    now_s = world.clock.now_ms() // 1000
    result = world.jobs.reconciler.check(from_s=now_s - DAY_S, to_s=now_s + DAY_S)
    world.jobs.reconciler_state.keep(result)


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_it_shows_sources_as_of_the_last_pass_and_how_far_the_reconciler_is(capsys: pytest.CaptureFixture[str]) -> None:
    world = with_gap()
    sources(OperatorSession(world))
    found = shown(capsys)
    as_of = rfc3339(world.clock.now_ms() // 1000)
    assert found["as_of"] == as_of
    assert found["unkept"] == 0
    assert found["reconciliation"] == {"finished": as_of, "waiting": 0, "waiting_since": None}


def test_it_says_that_a_young_gap_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    sources(OperatorSession(with_gap()))
    assert "Gaps that are younger than 15 minutes are not shown yet." in capsys.readouterr().err


def test_accepting_a_part_of_a_gap_says_what_it_changes_and_is_honoured(capsys: pytest.CaptureFixture[str]) -> None:
    world = with_gap()
    for _ in range(2):
        accept_gap(OperatorSession(world), "edge", "3-9")
        out, err = capsys.readouterr()
        row = json.loads(out)
        assert "2 missing numbers (3-4) of edge are no gap any more" in err
        assert (row["missing"], row["gaps"], row["numbers"]) == (2, "3-4", "3-9")
        assert row["by"] == CALLER
    [item] = world.items.query(Table.LEDGER, RULING_PK)
    ruling = Ruling.from_item(item)
    assert ruling.expires_at > ruling.at_ms // 1000 + 50 * DAY_S
    scan(world)
    assert world.jobs.reconciler_state.sources()[0].gaps == ((1, 2),)


def test_all_can_be_accepted_and_a_source_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    world = with_gap()
    accept_gap(OperatorSession(world), "edge", "all")
    assert shown(capsys)["missing"] == 4
    forget(OperatorSession(world), "edge")
    assert shown(capsys)["ruling"] == "forget"
    scan(world)
    assert world.jobs.reconciler_state.sources() == []


def test_a_source_that_is_not_there_is_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    world = with_gap()
    with pytest.raises(CommandFailedError, match="no source edg"):
        forget(OperatorSession(world), "edg")
    assert capsys.readouterr().out == ""
    assert list(world.items.query(Table.LEDGER, RULING_PK)) == []


# `metering serve` from outside: its link has a valid token, its answers equal the reports, and it writes nothing.

_RUN = LocalServer.run
serve = partial(command_line.run, "serve")


@pytest.fixture
def stage() -> Iterator[dict[str, Lively]]:
    made = TwoRegions()
    for number, name in enumerate(made.regions, start=1):
        made.send(name, record(10**number))
    with made.typed():
        yield made.regions


def served(work: Callable[[str], None], *line: str) -> Result:
    """Output of a serving command: `work` is called with the server's address, then Ctrl-C stops the server."""
    troubles: list[BaseException] = []

    def interrupted(server: LocalServer) -> None:
        def worked() -> None:
            try:
                work(server.url)
            except BaseException as error:  # noqa: BLE001 - raised below
                troubles.append(error)
            finally:
                server.stop()

        thread = Thread(target=worked)
        thread.start()
        _RUN(server)
        thread.join(10)
        raise KeyboardInterrupt

    with patch.object(LocalServer, "run", interrupted):
        result = serve("--port", "0", *line)
    if troubles:
        raise troubles[0]
    return result


def status_of(url: str, token: str = "") -> int:
    try:
        return read(url, token)[0]
    except urllib.error.HTTPError as error:
        return error.code


def read(url: str, token: str) -> tuple[int, Any]:
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310 - ours
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - as above
        return answer.status, json.loads(answer.read())


def secret_of(printed: str) -> str:
    found = re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=(mtr_[0-9a-f]{16}_[0-9a-f]{64})\n", printed)
    assert found is not None, printed
    return found[1]


@pytest.mark.usefixtures("stage")
def test_it_prints_one_link_with_a_fresh_token_and_ends_well() -> None:
    results = [served(lambda _url: None) for _ in range(2)]
    assert [each.exit_code for each in results] == [0, 0]
    assert len({secret_of(each.stdout) for each in results}) == 2
    assert "Ctrl-C stops it." in results[0].stderr
    assert secret_of(results[0].stdout) not in results[0].stderr


@pytest.mark.usefixtures("stage")
def test_what_it_answers_is_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    known = "mtr_" + "00" * 8 + "_" + "11" * 32
    sizes = {8: "00" * 8, 32: "11" * 32}
    monkeypatch.setattr("metering.cli.commands.analyst.query.secrets", SimpleNamespace(token_hex=sizes.__getitem__))
    path = "v1/usage?group_by=account_id,usage_type"
    answers: dict[str, Any] = {}

    def work(url: str) -> None:
        assert status_of(url + path) == 401
        assert status_of(url + path, known[:-1] + "2") == 401
        assert status_of(f"{url}{path}&token={known}") == 401
        answers["api"] = read(url + path, known)[1]

    for line in ((), ("--region", AWAY), ("--region", "all")):
        assert secret_of(served(work, *line).stdout) == known
        reported = ["--endpoint", "http://127.0.0.1:9", "report", "usage", "--group-by", "account_id,usage_type", *line]
        result = CliRunner().invoke(app, [*reported, "--format", "json"])
        assert answers["api"]["rows"] == json.loads(result.stdout)["rows"]
    assert [row["bytes"] for row in answers["api"]["rows"]] == ["110"]


@pytest.mark.usefixtures("stage")
def test_a_port_that_is_taken_is_said_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = serve("--port", str(port))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Port {port} of this machine cannot be had" in result.stderr
    assert "--port" in result.stderr


def test_without_its_packages_it_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.cli.commands.analyst.query.importlib.util.find_spec", lambda _name: None)
    told = command_line.refused("serve", code=2)
    assert "needs fastapi and uvicorn" in told
    assert "pip install 'transfer-metering[cli,serve]'" in told


def test_its_regions_are_over_clients_that_only_read(stage: dict[str, Lively]) -> None:
    asked: list[str] = []
    read_only = Lively.read_only

    def noted(region: Lively) -> Lively:
        asked.append(region.region)
        return read_only(region)

    with patch.object(Lively, "read_only", noted):
        served(lambda _url: None, "--region", "all")
    assert sorted(asked) == sorted(stage)
