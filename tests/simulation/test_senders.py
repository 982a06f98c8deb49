"""Histories whose producers are registered, and what is checked of their senders can fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.ledger.markers import marker_key
from metering.stores.writes import Put, Table
from tests.simulation.checks.checker import check, lake_rows
from tests.simulation.checks.watch import ViolationError
from tests.simulation.history import History, run_history
from tests.simulation.sent.senders import Senders, SentBy, sent_by

if TYPE_CHECKING:
    from tests.simulation.region.world import World
    from tests.simulation.sent.contents import SentContent

# The first seeds whose stage judges senders.
JUDGED = [seed for seed in range(100) if Senders(seed).judged][:12]


def test_about_a_third_of_all_histories_judge_senders() -> None:
    assert 0.25 < sum(Senders(seed).judged for seed in range(1_000)) / 1_000 < 0.35


@pytest.mark.parametrize("seed", JUDGED)
def test_no_foreign_sender_loses_doubles_or_takes_anything(seed: int) -> None:
    outcome = run_history(seed)
    assert outcome.violation == ""
    assert outcome.histogram["sent by a foreign sender"] > 0


@pytest.fixture
def world() -> World:
    history = History(JUDGED[0], dropped_faults=(), dropped_batches=())
    assert not history.run()
    return history.world


def refused(world: World) -> tuple[SentContent, SentBy]:
    """A content that somebody sent who may not, and nobody else did."""
    return next(
        (content, sender)
        for content in world.contents.values()
        for sender in world.queue.senders.get(content.name, {})
        if content.name.endswith(".forged") and not world.senders.may_send(content, sender)
    )


def test_a_refusal_that_is_gone_is_lost(world: World) -> None:
    content, sender = refused(world)
    world.objects.remove(world.senders.refusal_key(content, sender))
    assert any(content.name in each and "no refusal" in each for each in check(world, lake_rows(world)).lost)
    with pytest.raises(ViolationError, match="I4"):
        world.watch.acknowledged(content, sender)


def test_a_forgery_that_is_accepted_is_unexpected(world: World) -> None:
    content, _ = refused(world)
    world.watch.accepted[content.batch_id] = (content.content_hash, "commit", 0)
    assert any("nobody who sent it may" in each for each in check(world, lake_rows(world)).unexpected)


@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_a_marker_of_a_foreign_sender_is_seen_at_once(world: World, verdict: str) -> None:
    content, sender = refused(world)
    item = {**marker_key(content.batch_id)._asdict(), "verdict": verdict, "sender": f"{sender.role}:x"}
    with pytest.raises(ViolationError, match="made a marker"):
        world.watch.written(Put(table=Table.LEDGER, item=item))


def test_of_operators_alone_what_they_state_counts() -> None:
    assert sent_by("S1:x", "S2:x") == SentBy("S1", retried=False)
    assert sent_by("operator", "S2:x") == SentBy("S2", retried=False)
    assert sent_by("operator", "retry S2:x") == SentBy("S2", retried=True)
    assert sent_by("operator", "") == SentBy("operator", retried=False)
