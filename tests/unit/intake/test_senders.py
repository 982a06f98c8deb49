"""What a producer owns by its name, and who counts as the sender of a message."""

from __future__ import annotations

import json

import pytest

from metering.intake.senders import (
    Judged,
    Producer,
    ServiceSenders,
    decode_services,
    encode_services,
    is_producer_name,
    judged_sender,
    owner_of_id,
    role_of,
    statement,
)
from metering.stores.queues import Delivery

EDGE = Producer(name="edge", role_id="AROAEDGE", accounts=frozenset({"1", "2"}))
SERVICES = ServiceSenders(operators=frozenset({"AROAOP"}), onramp="AROARAMP", canary="AROACANARY")


@pytest.mark.parametrize("text", ["edge/1", "edge:1", "edge/", "edge/../x", "edge:a/b"])
def test_a_producer_owns_what_begins_with_its_name_and_a_mark(text: str) -> None:
    assert EDGE.owns_batch(text)
    assert EDGE.owns_source(text)
    assert owner_of_id(text) == "edge"


@pytest.mark.parametrize(
    "text", ["edge-2/1", "edge2", "edge.a/1", "Edge/1", "a/edge/1", "", "/edge/", "edg", "canary:x"]
)
def test_a_producer_owns_nothing_else(text: str) -> None:
    assert not EDGE.owns_batch(text)
    assert not EDGE.owns_source(text)
    assert owner_of_id(text) != "edge"


def test_its_name_alone_is_a_source_and_no_batch() -> None:
    assert EDGE.owns_source("edge")
    assert not EDGE.owns_batch("edge")


@pytest.mark.parametrize("key", ["ingest/edge-2/x", "ingest/edge", "ingest/x/edge/", "drop/edge/x", "edge/", ""])
def test_objects_for_messages_lie_below_its_own_prefix(key: str) -> None:
    assert not EDGE.owns_ingested(key)
    assert EDGE.owns_ingested("ingest/edge/x")
    assert EDGE.owns_dropped("drop/edge/x")
    assert not EDGE.owns_dropped("drop/edge-2/x")


def test_no_two_names_own_one_id() -> None:
    names = ["edge", "edge-2", "edge.a", "e", "edge_"]
    producers = [Producer(name=name, role_id=name, accounts=None) for name in names]
    for text in [f"{name}{mark}1" for name in names for mark in "/:"]:
        assert [each.name for each in producers if each.owns_batch(text)] == [text[:-2]]


def test_names_that_the_service_uses_are_nobodys() -> None:
    for name in ("retry", "canary", "logs", "log", "s3", "ingest", "drop"):
        assert not is_producer_name(name)
        assert owner_of_id(f"{name}:1") == ""


def test_foreign_accounts_are_named_once_each() -> None:
    assert EDGE.foreign_accounts(["2", "4", "3", "4"]) == ["3", "4"]
    assert Producer(name="all", role_id="x", accounts=None).foreign_accounts(["3"]) == []


@pytest.mark.parametrize(
    ("sender", "role"),
    [("AROAX:session", "AROAX"), ("AROAX:a:b", "AROAX"), ("AIDAX", "AIDAX"), ("", ""), (":x", ""), ("12", "12")],
)  # fmt: skip
def test_what_follows_the_colon_is_the_callers_choice(sender: str, role: str) -> None:
    assert role_of(sender) == role


def delivery(sender: str, stated: str) -> Delivery:
    return Delivery(message_id="m", body="", sent_at_ms=0, receive_count=1, sender_id=sender, stated_sender=stated)


@pytest.mark.parametrize("judged", [Judged(sender_id="AROAX:s"), Judged(sender_id="AROAX:s", retried=True)])
def test_what_an_operator_states_is_read_as_it_was_written(judged: Judged) -> None:
    assert judged_sender(delivery("AROAOP:me", statement(judged)), SERVICES) == judged
    for sender in ("AROAX:s", "AROARAMP:f", "AROACANARY:f", "AROAOPX:me", "xAROAOP", ""):
        assert judged_sender(delivery(sender, statement(judged)), SERVICES) == Judged(sender_id=sender)


def test_the_services_own_senders_come_back_as_they_were() -> None:
    text = encode_services(operators=["AROAOP"], onramp="AROARAMP", canary="AROACANARY")
    assert decode_services(text) == SERVICES
    assert decode_services(encode_services(operators=[""], onramp="", canary="")) == ServiceSenders()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", json.dumps({"canary": "a", "onramp": 1, "operators": []}),
     json.dumps({"canary": "a", "onramp": "b", "operators": "c"}),
     json.dumps({"canary": "a", "onramp": "b", "operators": [], "more": ""})],
)  # fmt: skip
def test_other_texts_are_no_senders(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_services(text)
