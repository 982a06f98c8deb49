"""Requests of `DynamoDbItemStore`, and how it handles responses that no emulator returns."""

import json
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest
from botocore import exceptions
from botocore.parsers import ResponseParserError
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from metering.adapters.aws import items
from metering.adapters.aws.errors import refusals_explained, translated
from metering.adapters.aws.items import (
    ITEM_VALUES,
    DynamoDbItemStore,
    Expressions,
    from_attribute,
    from_attributes,
    to_attribute,
    to_attributes,
)
from metering.errors import (
    ConditionFailedError,
    ItemTooLargeError,
    LedgerCorruptError,
    OperationFailedError,
    TransactionCanceledError,
    UnavailableError,
)
from metering.stores.codec import Fields
from metering.stores.writes import Absent, AllOf, AnyOf, Check, Equals, Exists, Foreign, Key, Put, Table, Update, Value
from tests.unit.adapters.aws.stubs import Stubbed, client, stubbed

TABLES = {Table.LEDGER: "the-ledger", Table.USAGE: "the-usage"}
KEY = {"pk": {"S": "a"}, "sk": {"S": "b"}}


@pytest.fixture
def dynamodb() -> Iterator[Stubbed]:
    yield from stubbed("dynamodb")


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def store(dynamodb: Stubbed, waits: list[float]) -> DynamoDbItemStore:
    return DynamoDbItemStore(dynamodb[0], TABLES, sleep=waits.append)


def test_a_commit_is_sent_as_the_protocol_has_it(store: DynamoDbItemStore, dynamodb: Stubbed) -> None:
    sent: list[dict[str, Any]] = []
    dynamodb[0].meta.events.register(
        "provide-client-params.*.TransactWriteItems", lambda params, **_: sent.append(params)
    )
    dynamodb[1].add_response("transact_write_items", {})
    marker_free = AnyOf((Absent(), Equals(attribute="verdict", value="rejected")))
    store.transact(
        [
            Put(table=Table.LEDGER, item={"pk": "C#1", "sk": "C", "hours": ["h"]}, condition=Absent()),
            Put(table=Table.LEDGER, item={"pk": "B#1", "sk": "M", "verdict": "accepted"}, condition=marker_free),
            Check(table=Table.LEDGER, key=Key("T#2026-10", "T"), condition=Absent()),
            Update(table=Table.USAGE, key=Key("A#1", "u"), add={"bytes": 2**70, "records": 1, "rev": 1}),
        ]
    )
    ledger, usage = (
        {"TableName": table, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"} for table in TABLES.values()
    )
    absent = {"ConditionExpression": "attribute_not_exists(#n0)", "ExpressionAttributeNames": {"#n0": "pk"}}
    free = {
        "ConditionExpression": "(attribute_not_exists(#n0) OR #n1 = :v0)",
        "ExpressionAttributeNames": {"#n0": "pk", "#n1": "verdict"},
        "ExpressionAttributeValues": {":v0": {"S": "rejected"}},
    }
    added = {
        "UpdateExpression": "ADD #n0 :v0, #n1 :v1, #n2 :v2",
        "ExpressionAttributeNames": {"#n0": "bytes", "#n1": "records", "#n2": "rev"},
        "ExpressionAttributeValues": {":v0": {"N": str(2**70)}, ":v1": {"N": "1"}, ":v2": {"N": "1"}},
    }
    commit = {"pk": {"S": "C#1"}, "sk": {"S": "C"}, "hours": {"L": [{"S": "h"}]}}
    marker = {"pk": {"S": "B#1"}, "sk": {"S": "M"}, "verdict": {"S": "accepted"}}
    assert sent[0]["TransactItems"] == [
        {"Put": {**ledger, "Item": commit, **absent}},
        {"Put": {**ledger, "Item": marker, **free}},
        {"ConditionCheck": {**ledger, "Key": {"pk": {"S": "T#2026-10"}, "sk": {"S": "T"}}, **absent}},
        {"Update": {**usage, "Key": {"pk": {"S": "A#1"}, "sk": {"S": "u"}}, **added}},
    ]


def test_conditions_nest_and_share_their_placeholders() -> None:
    expressions = Expressions()
    condition = AllOf((Exists(), AnyOf((Absent(attribute="run"), Equals(attribute="run", value="0#1")))))
    assert expressions.condition(condition) == "(attribute_exists(#n0) AND (attribute_not_exists(#n1) OR #n1 = :v0))"
    assert expressions.names == {"#n0": "pk", "#n1": "run"}
    assert expressions.values == {":v0": {"S": "0#1"}}


@pytest.mark.parametrize("condition", [AnyOf(()), AllOf(())])
def test_a_condition_of_nothing_is_refused(condition: AnyOf | AllOf) -> None:
    with pytest.raises(ValueError, match="no conditions"):
        Expressions().condition(condition)


def canceled(stubber: Stubber, *reasons: dict[str, Any]) -> None:
    stubber.add_client_error(
        "transact_write_items",
        "TransactionCanceledException",
        "canceled",
        400,
        modeled_fields={"CancellationReasons": list(reasons)},
    )


ACTIONS = [Put(table=Table.LEDGER, item={"pk": "a", "sk": str(n)}) for n in range(4)]


def test_reasons_other_than_conditions_may_be_sent_again(store: DynamoDbItemStore, dynamodb: Stubbed) -> None:
    canceled(
        dynamodb[1],
        {"Code": "None"},
        {"Code": "TransactionConflict", "Message": "ongoing"},
        {"Code": "ThrottlingError", "Message": "hot"},
        {"Code": "ProvisionedThroughputExceeded", "Message": "hot"},
    )
    with pytest.raises(TransactionCanceledError) as caught:
        store.transact(ACTIONS)
    assert caught.value.reasons == (
        None,
        ("TransactionConflict", None),
        ("ThrottlingError", None),
        ("ProvisionedThroughputExceeded", None),
    )
    assert not caught.value.condition_failed


def test_one_failed_condition_among_conflicts_decides(store: DynamoDbItemStore, dynamodb: Stubbed) -> None:
    canceled(
        dynamodb[1],
        {"Code": "TransactionConflict"},
        {"Code": "ConditionalCheckFailed", "Item": {**KEY, "n": {"N": "1"}}},
        {"Code": "ConditionalCheckFailed"},
        {"Code": "None"},
    )
    with pytest.raises(TransactionCanceledError) as caught:
        store.transact(ACTIONS)
    assert caught.value.condition_failed
    assert caught.value.reasons == (
        ("TransactionConflict", None),
        ("ConditionalCheckFailed", {"pk": "a", "sk": "b", "n": 1}),
        ("ConditionalCheckFailed", None),
        None,
    )


def test_a_failed_condition_of_a_single_write_carries_the_item(store: DynamoDbItemStore, dynamodb: Stubbed) -> None:
    dynamodb[1].add_client_error(
        "put_item",
        "ConditionalCheckFailedException",
        "failed",
        400,
        modeled_fields={"Item": {**KEY, "state": {"S": "planned"}}},
    )
    with pytest.raises(ConditionFailedError) as caught:
        store.put(Put(table=Table.LEDGER, item={"pk": "a", "sk": "b"}, condition=Absent()))
    assert caught.value.existing == {"pk": "a", "sk": "b", "state": "planned"}


def test_unprocessed_keys_are_asked_for_again(store: DynamoDbItemStore, dynamodb: Stubbed, waits: list[float]) -> None:
    keys = [{"pk": {"S": "a"}, "sk": {"S": str(n)}} for n in range(2)]
    asked = {"Keys": keys, "ConsistentRead": True}
    dynamodb[1].add_response(
        "batch_get_item",
        {
            "Responses": {"the-ledger": [{**keys[0], "n": {"N": "1"}}]},
            "UnprocessedKeys": {"the-ledger": {"Keys": keys[1:], "ConsistentRead": True}},
        },
        {"RequestItems": {"the-ledger": asked}},
    )
    dynamodb[1].add_response(
        "batch_get_item",
        {"Responses": {"the-ledger": [keys[1]]}, "UnprocessedKeys": {}},
        {"RequestItems": {"the-ledger": {**asked, "Keys": keys[1:]}}},
    )
    found = store.get_many(Table.LEDGER, [Key("a", "0"), Key("a", "1")])
    assert found == {Key("a", "0"): {"pk": "a", "sk": "0", "n": 1}, Key("a", "1"): {"pk": "a", "sk": "1"}}
    assert len(waits) == 1


def test_every_read_of_an_eventually_consistent_store_says_so(dynamodb: Stubbed) -> None:
    store = DynamoDbItemStore(dynamodb[0], TABLES, consistent=False)
    asked: list[Any] = []
    for call in ("GetItem", "BatchGetItem", "Query", "Scan"):
        dynamodb[0].meta.events.register(f"provide-client-params.*.{call}", lambda params, **_: asked.append(params))
    dynamodb[1].add_response("get_item", {})
    dynamodb[1].add_response("batch_get_item", {"Responses": {}})
    for call in ("query", "scan"):
        dynamodb[1].add_response(call, {"Items": []})
    assert store.get(Table.LEDGER, Key("a", "b")) is None
    assert store.get_many(Table.LEDGER, [Key("a", "b")]) == {}
    assert [*store.query(Table.LEDGER, "a"), *store.scan(Table.LEDGER)] == []
    asked[1] = asked[1]["RequestItems"]["the-ledger"]
    assert [each["ConsistentRead"] for each in asked] == [False] * 4


def test_keys_that_are_never_processed_are_unavailable_and_not_absent(
    store: DynamoDbItemStore, dynamodb: Stubbed, waits: list[float]
) -> None:
    for _ in range(7):
        dynamodb[1].add_response(
            "batch_get_item", {"Responses": {}, "UnprocessedKeys": {"the-ledger": {"Keys": [KEY]}}}
        )
    with pytest.raises(UnavailableError):
        store.get_many(Table.LEDGER, [Key("a", "b")])
    assert waits == sorted(waits)


def test_an_empty_page_is_not_the_end_of_a_query(store: DynamoDbItemStore, dynamodb: Stubbed) -> None:
    dynamodb[1].add_response("query", {"Items": [], "LastEvaluatedKey": KEY})
    dynamodb[1].add_response("query", {"Items": [KEY]})
    assert list(store.query(Table.LEDGER, "a")) == [{"pk": "a", "sk": "b"}]


def test_an_empty_page_does_not_end_a_scan_and_each_is_asked_for_once(
    store: DynamoDbItemStore, dynamodb: Stubbed
) -> None:
    asked = {"TableName": "the-ledger", "ConsistentRead": True}
    after = [{"pk": {"S": "a"}, "sk": {"S": str(number)}} for number in range(3)]
    dynamodb[1].add_response("scan", {"Items": [], "LastEvaluatedKey": after[0]}, asked)
    dynamodb[1].add_response(
        "scan", {"Items": [KEY], "LastEvaluatedKey": after[1]}, {**asked, "ExclusiveStartKey": after[0]}
    )
    dynamodb[1].add_response(
        "scan", {"Items": [], "LastEvaluatedKey": after[2]}, {**asked, "ExclusiveStartKey": after[1]}
    )
    dynamodb[1].add_response("scan", {"Items": []}, {**asked, "ExclusiveStartKey": after[2]})
    assert list(store.scan(Table.LEDGER)) == [{"pk": "a", "sk": "b"}]


def test_a_query_asks_for_no_page_that_nobody_reads(store: DynamoDbItemStore, dynamodb: Stubbed) -> None:
    dynamodb[1].add_response("query", {"Items": [KEY], "LastEvaluatedKey": KEY})
    assert next(iter(store.query(Table.LEDGER, "a"))) == {"pk": "a", "sk": "b"}


def test_who_asks_backwards_gets_the_newest_few_and_may_go_on(store: DynamoDbItemStore, dynamodb: Stubbed) -> None:
    asked: list[dict[str, Any]] = []
    dynamodb[0].meta.events.register("provide-client-params.*.Query", lambda params, **_: asked.append(params))
    dynamodb[1].add_response("query", {"Items": [KEY], "LastEvaluatedKey": KEY})
    dynamodb[1].add_response("query", {"Items": [KEY]})
    assert len(list(store.query(Table.LEDGER, "a", descending=True))) == 2
    assert [(params["Limit"], params["ScanIndexForward"]) for params in asked] == [(20, False)] * 2


@pytest.mark.parametrize(("text", "number"), [("100", 100), ("-7", -7), ("1E+2", 100), ("100.0", 100)])
def test_a_whole_number_is_read_however_it_is_written(text: str, number: int) -> None:
    found = from_attribute({"N": text})
    assert found == number
    assert type(found) is int


@pytest.mark.parametrize("attribute", [{"N": "1.5"}, {"NULL": True}, {"B": b"x"}, {"NS": ["1"]}], ids=str)
def test_what_this_project_never_writes_is_read_and_asked_for_as_it_is_and_no_reader_takes_it(attribute: Any) -> None:
    found = from_attributes({"pk": {"S": "a"}, "sk": {"S": "b"}, "a": attribute, "list": {"L": [attribute]}})
    assert to_attributes({"a": found["a"]}) == {"a": attribute}
    fields = Fields.of_item(found)
    for read in (fields.text, fields.any_text, fields.whole, fields.flag, fields.texts, fields.wholes, fields.nested):
        with pytest.raises(LedgerCorruptError, match="a / b"):
            read("a")


def test_a_float_is_never_written() -> None:
    with pytest.raises(TypeError, match="float"):
        to_attribute(1.5)  # type: ignore[arg-type]  # what the types forbid


_TOO_LARGE = "Item size has exceeded the maximum allowed size"
_GROWN = "Item size to update has exceeded the maximum allowed size"


def test_what_is_too_large_is_an_error_of_its_own(store: DynamoDbItemStore, dynamodb: Stubbed) -> None:
    put = Put(table=Table.LEDGER, item={"pk": "a", "sk": "b"})
    dynamodb[1].add_client_error("put_item", "ValidationException", _TOO_LARGE, 400)
    with pytest.raises(ItemTooLargeError, match="a / b"):
        store.put(put)
    dynamodb[1].add_client_error("update_item", "ValidationException", _GROWN, 400)
    with pytest.raises(ItemTooLargeError, match="a / b"):
        store.update(Update(table=Table.LEDGER, key=Key("a", "b"), set={"v": 1}))
    reasons = [{"Code": "None"}, {"Code": "ValidationError", "Message": _GROWN}]
    dynamodb[1].add_client_error(
        "transact_write_items",
        "TransactionCanceledException",
        "Transaction cancelled, please refer cancellation reasons for specific reasons [None, ValidationError]",
        400,
        modeled_fields={"CancellationReasons": reasons},
    )
    with pytest.raises(ItemTooLargeError, match="c / d"):
        store.transact([put, Put(table=Table.LEDGER, item={"pk": "c", "sk": "d"})])
    dynamodb[1].add_client_error(
        "transact_write_items",
        "ValidationException",
        "The aggregate size of the items in the transaction exceeds 4 MB",
        400,
    )
    with pytest.raises(ItemTooLargeError, match="a transaction of 1 actions"):
        store.transact([put])


def test_any_other_invalid_request_passes_through(store: DynamoDbItemStore, dynamodb: Stubbed) -> None:
    dynamodb[1].add_client_error("put_item", "ValidationException", "The table does not have the specified index", 400)
    with pytest.raises(exceptions.ClientError):
        store.put(Put(table=Table.LEDGER, item={"pk": "a", "sk": "b"}))


# SDK errors: which are transient, and which calls may have been applied.

URL = "https://dynamodb.us-east-1.amazonaws.com"


def failure(code: str, status: int, *, retries: int = 0) -> exceptions.ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": "why"},
        "ResponseMetadata": {"HTTPStatusCode": status, "RetryAttempts": retries},
    }
    return exceptions.ClientError(answer, "TransactWriteItems")


def translation(error: Exception) -> UnavailableError:
    with pytest.raises(UnavailableError) as caught, translated("dynamodb.TransactWriteItems"):
        raise error
    assert caught.value.operation == "dynamodb.TransactWriteItems"
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize("code", [
    "ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded", "SlowDown",
    "TransactionConflictException",
])  # fmt: skip
def test_a_throttle_at_the_first_attempt_is_sure_to_have_changed_nothing(code: str) -> None:
    assert translation(failure(code, 400)).may_have_applied is False


def test_a_throttle_after_a_retry_says_nothing_of_the_attempt_before() -> None:
    assert translation(failure("ThrottlingException", 400, retries=1)).may_have_applied is True


@pytest.mark.parametrize(("code", "status"), [
    ("InternalServerError", 500),
    ("InternalError", 500),
    ("ServiceUnavailable", 503),
    ("RequestTimeout", 400),
    ("TransactionInProgressException", 400),
    ("SomethingNew", 502),
])  # fmt: skip
def test_the_outcome_of_a_server_error_is_unknown(code: str, status: int) -> None:
    assert translation(failure(code, status)).may_have_applied is True


@pytest.mark.parametrize("error", [
    exceptions.ReadTimeoutError(endpoint_url=URL),
    exceptions.ConnectTimeoutError(endpoint_url=URL),
    exceptions.ConnectionClosedError(endpoint_url=URL),
    exceptions.EndpointConnectionError(endpoint_url=URL),
    exceptions.ResponseStreamingError(error="reset"),
    exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    exceptions.FlexibleChecksumError(error_msg="differs"),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_the_outcome_of_a_broken_connection_is_unknown(error: Exception) -> None:
    assert translation(error).may_have_applied is True


@pytest.mark.parametrize("error", [
    failure("ValidationException", 400),
    failure("AccessDeniedException", 400),
    failure("ResourceNotFoundException", 400),
    failure("ExpiredTokenException", 400),
    exceptions.SSLError(endpoint_url=URL, error=OSError("certificate verify failed")),
    exceptions.NoCredentialsError(),
    exceptions.ParamValidationError(report="wrong"),
    KeyError("a bug"),
], ids=str)  # fmt: skip
def test_what_is_not_known_to_be_transient_passes_through_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated("dynamodb.PutItem"):
        raise error
    assert caught.value is error


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        # The port is bound but not listening: no other process gets the port, and it refuses connections.
        yield holder.getsockname()[1]


def test_a_refused_connection_is_unavailable(closed_port: int) -> None:
    del closed_port
    store = DynamoDbItemStore(client("dynamodb"), {Table.LEDGER: "l", Table.USAGE: "u"})
    with pytest.raises(UnavailableError):
        store.get(Table.LEDGER, Key("a", "b"))
    with pytest.raises(UnavailableError):
        store.put(Put(table=Table.LEDGER, item={"pk": "a", "sk": "b"}))


@pytest.mark.parametrize(
    "error", [failure("AccessDeniedException", 400), failure("403", 403), exceptions.NoCredentialsError()]
)
def test_what_the_caller_may_not_do_is_said_to_people_in_a_sentence(error: Exception) -> None:
    with pytest.raises(OperationFailedError, match=r"was refused|does not know") as raised, refusals_explained():
        raise error
    assert raised.value.advice


def test_any_other_answer_of_aws_is_told_by_its_code_and_is_no_refusal() -> None:
    with pytest.raises(OperationFailedError, match="failed: ValidationException: ") as raised, refusals_explained():
        raise failure("ValidationException", 400)
    assert "refused" not in str(raised.value)
    assert raised.value.advice


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException"])
def test_credentials_that_have_expired_are_told_as_such(code: str) -> None:
    with pytest.raises(OperationFailedError, match="credentials have expired") as raised, refusals_explained():
        raise failure(code, 403)
    assert "Sign in again" in raised.value.advice


def test_any_other_setting_of_the_sdk_that_is_wrong_is_one_line() -> None:
    with pytest.raises(OperationFailedError, match=r"asked like this: .*often") as raised, refusals_explained():
        raise exceptions.InvalidRetryModeError(provided_retry_mode="often", valid_modes=["standard"])
    assert "\n" not in str(raised.value)


def test_an_answer_of_something_that_is_not_aws_is_a_sentence_that_names_the_endpoint() -> None:
    with pytest.raises(OperationFailedError, match="not of the form that AWS gives") as raised, refusals_explained():
        raise ResponseParserError("Unable to parse response, invalid XML received:\nb'<html>'")
    assert "--endpoint" in raised.value.advice
    assert "html" not in str(raised.value)


# Items of a page that the fast path decodes equal items that are decoded attribute by attribute.

_take = items._take_items
_TEXTS = st.text(max_size=8) | st.sampled_from(["null", "true", "7", ""])
_VALUES = st.recursive(
    _TEXTS | st.booleans() | st.integers(-(10**37), 10**37) | st.frozensets(st.text(), min_size=1, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def taken(reply: bytes, status: int = 200) -> tuple[dict[str, object], dict[str, object]]:
    """The parts of a query's reply that are left to botocore, and the parts that our code decodes."""
    response = {"body": reply, "status_code": status}
    decoded: dict[str, object] = {}
    _take(cast("items._Response", response), decoded)
    return response, decoded


def updated(reply: bytes, status: int = 200) -> tuple[dict[str, object], dict[str, object]]:
    """The parts of an update's reply that are left to botocore, and the parts that our code decodes."""
    response = {"body": reply, "status_code": status}
    decoded: dict[str, object] = {}
    items._take_updated(cast("items._Response", response), decoded)
    return response, decoded


@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=4), _VALUES, max_size=6), max_size=4))
def test_values_are_exactly_those_of_the_slow_way(values: list[dict[str, Value]]) -> None:
    attributes = [to_attributes(item) for item in values]
    reply = {"Items": attributes, "Count": len(values), "ScannedCount": 9, "LastEvaluatedKey": {"pk": {"S": "a"}}}
    response, decoded = taken(json.dumps(reply).encode())
    assert decoded == {items.ITEM_VALUES: [from_attributes(each) for each in attributes]}
    assert json.loads(cast("bytes", response["body"])) == {name: v for name, v in reply.items() if name != "Items"}


@pytest.mark.parametrize("text", ["1E+2", "9007199254740993.0", "-0", "12345678901234567890123456789012345678", "5E+0"])
def test_a_number_is_exact_however_it_is_written(text: str) -> None:
    _, decoded = taken(json.dumps({"Items": [{"n": {"N": text}}]}).encode())
    assert decoded[items.ITEM_VALUES] == [from_attributes({"n": {"N": text}})]


@pytest.mark.parametrize("reply", [
    b"", b"[]", b"not JSON", b'{"Items": [{"pk": {"S": "a"}', b'{"Items": [{"pk": {"B": "YQ=="}}]}',
    b'{"Items": [{"pk": {"NULL": true}}]}', b'{"Items": [{"pk": {"N": 5}}]}', b'{"Items": [{"pk": "a"}]}',
    b'{"Items": [], "Unheard": 1}',
], ids=str)  # fmt: skip
def test_what_is_not_understood_is_left_to_botocore_whole(reply: bytes) -> None:
    response, decoded = taken(reply)
    assert (response["body"], decoded) == (reply, {})


def test_a_refusal_is_left_to_botocore() -> None:
    reply = b'{"Items": [{"pk": {"S": "a"}}]}'
    response, decoded = taken(reply, status=400)
    assert (response["body"], decoded) == (reply, {})


def test_a_number_that_is_no_whole_one_is_read_as_what_nobody_here_writes() -> None:
    _, decoded = taken(b'{"Items": [{"n": {"N": "1.5"}}]}')
    assert decoded == {ITEM_VALUES: [{"n": Foreign("N", "1.5")}]}


@given(st.dictionaries(st.text(min_size=1, max_size=4), _VALUES, max_size=6))
def test_an_updated_item_is_exactly_that_of_the_slow_way(item: dict[str, Value]) -> None:
    rest = {"ConsumedCapacity": {"TableName": "t", "CapacityUnits": 1.0}}
    response, decoded = updated(json.dumps({"Attributes": to_attributes(item), **rest}).encode())
    assert decoded == {items.ITEM_VALUES: [from_attributes(to_attributes(item))]}
    assert json.loads(cast("bytes", response["body"])) == rest


@pytest.mark.parametrize(("reply", "status"), [
    (b"", 200),
    (b"{}", 200),
    (b'{"Attributes": {"pk": {"B": "YQ=="}}}', 200),
    (b'{"Attributes": {"pk": {"S": "a"}}, "Unheard": 1}', 200),
    (b'{"Attributes": {"pk": {"S": "a"}}}', 400),
], ids=str)  # fmt: skip
def test_an_update_that_is_not_understood_or_refused_is_left_to_botocore(reply: bytes, status: int) -> None:
    response, decoded = updated(reply, status)
    assert (response["body"], decoded) == (reply, {})
