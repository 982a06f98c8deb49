"""`metering producers`: one command registers a producer and shows what it pastes; retries need the operator."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.ledger.markers import marker_key
from metering.ledger.notes.checks import CanaryRun, canary_batch_id
from metering.stores.writes import Put, Table
from tests.cli.lively import Lively
from tests.support.command_line import ask, run, typed_at
from tests.support.lake_world import NOW_S, World
from tests.support.senders_world import SERVICES
from tests.unit.operations.test_dead_letters import accepted

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKLOAD = "arn:aws:iam::111122223333:role/edge-workload"
ADD = ("producers", "add", "edge-7f3a", "--accounts", "111122223333,444455556666", "--role-arn", WORKLOAD)


class Admins(Lively):
    """A region as somebody sees it who is no operator."""

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
    import ast
    import inspect

    from metering.producer.producer import Producer

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


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("producers", "add", "Edge", "--accounts", "all"), "is no name of a producer"),
        (("producers", "add", "canary", "--accounts", "all"), "is no name of a producer"),
        (("producers", "add", "edge", "--accounts", "12,all"), "'all' is no account"),
        (("producers", "add", "edge", "--accounts", "all", "--role-arn", "edge"), "is no ARN"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    region: Lively, line: tuple[str, ...], said: str
) -> None:
    result = run(*line)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Nobody was registered." in result.stderr
    assert region.producer_roles.roles == {}


@pytest.mark.parametrize("verb", ["show", "remove"])
def test_a_producer_that_nobody_registered_is_named(region: Lively, verb: str) -> None:
    del region
    result = run("producers", verb, "edge")
    assert result.exit_code == 1
    assert "There is no registered producer edge." in result.stderr
    assert "metering producers list" in result.stderr


def with_a_conflict(region: Lively) -> Lively:
    """A batch in quarantine that can be sent again under its own id."""
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
    # A batch goes again as its first sender's; a dead letter, too, and never by the move of the queue service.
    assert stated == ([] if exit_code else ["sender", "AIDATEST"])
    assert region.world.items.peek(Table.LEDGER, marker_key("edge-1")) is None
