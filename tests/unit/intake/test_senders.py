"""Which ids a producer owns because of its name, and who the effective sender of a message is."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.intake.json_values import (
    MAX_DEPTH,
    DepthError,
    JsonError,
    ascii_json,
    canonical_json,
    canonical_number,
    int64_of,
    parse_json,
    readable_number,
)
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


@pytest.mark.parametrize(("texts", "canonical"), [
    (["1000", "1e3", "1000.0", "0.1e4", "1E+3", "1000000e-3"], "1000"),
    (["0", "-0", "0.0", "0e9", "-0.00E-5"], "0"),
    (["1.5", "15e-1", "0.15e1", "1.50"], "15e-1"),
    (["1e400"], "1e400"),
    (["9007199254740993.0"], "9007199254740993"),
    (["NaN"], "NaN"),
])  # fmt: skip
def test_a_number_has_one_canonical_text(texts: list[str], canonical: str) -> None:
    assert {canonical_number(text) for text in texts} == {canonical}


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_canonical_numbers_are_equal_just_when_their_values_are(one: Decimal, other: Decimal) -> None:
    assert (canonical_number(f"{one:E}") == canonical_number(f"{other:E}")) == (one == other)
    assert canonical_number(f"{one:E}") == canonical_number(f"{one:f}")


def test_numbers_with_absurd_exponents_cost_nothing() -> None:
    for text in ("1e" + "9" * 500_000, "1" * 500_000, "0." + "0" * 500_000 + "1", "1e999999999999"):
        assert int64_of(canonical_number(text)) is None


def test_only_whole_numbers_of_64_bits_are_integers() -> None:
    assert int64_of("9223372036854775807") == 2**63 - 1
    assert int64_of("-9223372036854775808") == -(2**63)
    assert int64_of("9223372036854775808") is None
    assert int64_of("15e-1") is None
    assert int64_of("NaN") is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_canonical_json_is_the_same_value(value: object) -> None:
    canonical = canonical_json(parse_json(json.dumps(value, indent=1)))
    assert json.loads(canonical) == value
    assert canonical.isascii()


def test_nesting_has_a_fixed_limit_and_brackets_in_strings_are_none() -> None:
    parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    parse_json(json.dumps("[" * 500 + '\\"{' * 500))
    for deep in ("[" * 101 + "]" * 101, "[" * 500_000, '{"a":' * 100_000, '"' + '\\"' * 300_000 + "[" * 200):
        with pytest.raises(JsonError):
            parse_json(deep)
    with pytest.raises(DepthError):
        parse_json("[" * 101 + "]" * 101)


def test_of_keys_that_come_twice_the_last_counts() -> None:
    assert parse_json('{"a":1,"a":2}') == {"a": "2"}


@pytest.mark.parametrize("text", ["", "{", "01", "'a'", '{"a":}', "[1,]", "\ufeff{}", '"\n"', "nul", "{} {}"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(JsonError):
        parse_json(text)


def test_evidence_is_printable_ascii_and_still_the_same_json() -> None:
    text = '{"a":\t"é\u202e\U0001f600\x7f"}'
    safe = ascii_json(text)
    assert safe.isascii()
    assert safe.isprintable()
    assert json.loads(safe) == json.loads(text)
    assert ascii_json("\x1b[31m\ud800") == "\\u001b[31m\\ud800"


@pytest.mark.parametrize(("text", "shown"), [
    ("12.5", "12.5"), ("-0.001", "-0.001"), ("1.50", "1.5"), ("7", "7"), ("1e3", "1000"), ("NaN", "NaN"),
    ('"12.5"', '"12.5"'), ("1e-9999", "1e-9999"), ("1.5e300", "15e299"), ("-5e-2", "-0.05"),
])  # fmt: skip
def test_a_number_is_shown_as_people_write_it(text: str, shown: str) -> None:
    assert readable_number(canonical_number(text)) == shown


@given(st.decimals(places=6, allow_nan=False, allow_infinity=False))
def test_a_number_is_shown_with_its_value(value: Decimal) -> None:
    assert Decimal(readable_number(canonical_number(f"{value:E}"))) == value
