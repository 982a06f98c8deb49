"""Producers are registered with their roles; tokens are created, listed and revoked."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from moto import mock_aws

from metering.adapters.aws.producer_roles import IamProducerRoles
from metering.adapters.aws.session import Access, Clients
from metering.errors import LedgerCorruptError, OperationFailedError
from metering.fleet.stage import StageConfig
from metering.ledger.notes.access import Role, StoredToken, refused_sender_item
from metering.ledger.notes.checks import CanaryRun, canary_batch_id
from metering.operations.access import (
    MAX_LIFE_S,
    ProducerBook,
    ProducerRoles,
    TokenBook,
    producer_problems,
    token_parts,
)
from metering.stores.writes import Put, Table
from metering.units import DAY_S
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.regions import MemoryProducerRoles
from tests.unit.operations.test_dead_letters import accepted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.ledger.markers import Marker

NOW_S = 1_795_521_600
WORKLOAD = "arn:aws:iam::444455556666:role/edge-workload"
QUEUE = "https://sqs.us-west-2.amazonaws.com/123456789012/ingest"


def iam_roles(region: str = "us-west-2", **settings: object) -> IamProducerRoles:
    clients = Clients(Access(region=region, access_key=("test", "test")))
    return IamProducerRoles(clients=clients, config=StageConfig.load("dev", settings), queue_url=QUEUE, bucket="data")


@pytest.fixture(params=["memory", "IAM"])
def roles(request: pytest.FixtureRequest) -> Iterator[ProducerRoles]:
    if request.param == "memory":
        yield MemoryProducerRoles()
        return
    with mock_aws():
        yield iam_roles()


def test_a_role_is_made_once_and_put_right_afterwards(roles: ProducerRoles) -> None:
    assert roles.find("edge") is None
    made = roles.put("edge", trusted_arn=WORKLOAD)
    assert made.arn.endswith(":role/metering-dev-producer-edge") or "local" in made.arn
    assert made.trusted == (WORKLOAD,)
    again = roles.put("edge", trusted_arn="")
    assert again.role_id == made.role_id
    (root,) = again.trusted
    assert root.endswith(":root")
    assert roles.find("edge") == again
    assert roles.remove("edge")
    assert roles.find("edge") is None
    assert roles.put("edge", trusted_arn=WORKLOAD).role_id != made.role_id


def test_removing_a_role_that_is_gone_does_no_harm(roles: ProducerRoles) -> None:
    assert roles.remove("edge")


@mock_aws
def test_a_role_may_send_and_put_below_its_own_two_prefixes_and_nothing_else() -> None:
    roles = iam_roles()
    roles.put("edge", trusted_arn=WORKLOAD)
    iam: Any = roles.clients.iam
    (name,) = iam.list_role_policies(RoleName="metering-dev-producer-edge")["PolicyNames"]
    policy = iam.get_role_policy(RoleName="metering-dev-producer-edge", PolicyName=name)["PolicyDocument"]
    granted = {(action, place) for each in policy["Statement"] for action in each["Action"] for place in _list(each)}
    queue = "arn:aws:sqs:us-west-2:123456789012:ingest"
    objects = [f"arn:aws:s3:::data/{prefix}/edge/*" for prefix in ("ingest", "drop")]
    assert granted == {
        ("sqs:SendMessage", queue),
        ("sqs:GetQueueUrl", queue),
        *(("s3:PutObject", place) for place in objects),
        *(("s3:AbortMultipartUpload", place) for place in objects),
    }
    assert {each["Effect"] for each in policy["Statement"]} == {"Allow"}
    trust = iam.get_role(RoleName="metering-dev-producer-edge")["Role"]["AssumeRolePolicyDocument"]
    assert trust["Statement"] == [{"Effect": "Allow", "Principal": {"AWS": WORKLOAD}, "Action": "sts:AssumeRole"}]


DEMANDS: dict[str, Any] = {
    "tags": {"team": "edge"},
    "permissions_boundary": "org-boundary",
    "role_path": "/metering/",
    "org_id": "o-a1b2c3d4e5",
    "external_id": "metering-4711",
    "kms_key_arn": "arn:aws:kms:us-west-2:123456789012:key/1",
    "trusted_accounts": ["444455556666"],
}


@mock_aws
def test_a_role_has_what_an_organisation_demands_even_if_it_was_made_before() -> None:
    """Only the path of a role cannot change any more."""
    iam: Any = iam_roles().clients.iam
    anything = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
    boundary = iam.create_policy(PolicyName="org-boundary", PolicyDocument=anything)["Policy"]["Arn"]
    iam_roles().put("old", trusted_arn=WORKLOAD)
    for name, path in (("old", "/"), ("edge", "/metering/")):
        iam_roles(**DEMANDS).put(name, trusted_arn=WORKLOAD)
        role = iam.get_role(RoleName=f"metering-dev-producer-{name}")["Role"]
        assert role["Path"] == path
        assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary
        assert role["Tags"] == [{"Key": "team", "Value": "edge"}]
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        asked = {"aws:PrincipalOrgID": "o-a1b2c3d4e5", "sts:ExternalId": "metering-4711"}
        assert trust["Condition"] == {"StringEquals": asked}
        policy = iam.get_role_policy(RoleName=role["RoleName"], PolicyName="metering-us-west-2")["PolicyDocument"]
        (key,) = [each for each in policy["Statement"] if each["Resource"] == DEMANDS["kms_key_arn"]]
        assert key["Condition"]["StringLike"]["kms:ViaService"] == ["sqs.us-west-2.*", "s3.us-west-2.*"]


@mock_aws
def test_a_workload_of_the_stages_account_need_not_state_a_word() -> None:
    roles = iam_roles(**{**DEMANDS, "permissions_boundary": ""})
    roles.put("edge", trusted_arn="arn:aws:iam::123456789012:role/own")
    iam: Any = roles.clients.iam
    trust = iam.get_role(RoleName="metering-dev-producer-edge")["Role"]["AssumeRolePolicyDocument"]
    assert "Condition" not in trust["Statement"][0]


def _list(statement: dict[str, Any]) -> list[str]:
    places = statement["Resource"]
    return [places] if isinstance(places, str) else places


@mock_aws
def test_a_role_of_two_regions_goes_with_the_last_of_them() -> None:
    west, east = iam_roles(), iam_roles("us-east-1")
    assert west.put("edge", trusted_arn=WORKLOAD).role_id == east.put("edge", trusted_arn=WORKLOAD).role_id
    assert not west.remove("edge")
    assert east.find("edge") is not None
    assert east.remove("edge")


class Setup:
    def __init__(self) -> None:
        self.items = MemoryItemStore()
        self.roles = MemoryProducerRoles()
        self.book = ProducerBook(items=self.items, roles=self.roles, clock=ManualClock(NOW_S * 1000))

    def add(self, name: str = "edge", *accounts: str) -> None:
        self.book.add(name, accounts=accounts or None, trusted_arn=WORKLOAD, registered_by="arn:aws:iam::1:user/me")

    def met_canary(self, sender_id: str) -> None:
        """Store a canary that was metered with `sender_id`."""
        self.items.put(Put(table=Table.LEDGER, item=CanaryRun(slot_s=NOW_S, sent_s=NOW_S).to_item()))
        marker: Marker = replace(accepted(canary_batch_id(NOW_S)), sender_id=sender_id)
        self.items.put(Put(table=Table.LEDGER, item=marker.to_item()))

    def warnings(self) -> str:
        return " ".join(self.book.show("edge").warnings)


@pytest.fixture
def setup() -> Setup:
    made = Setup()
    made.met_canary("AROACANARY:function")
    return made


def test_a_producer_is_registered_listed_and_removed(setup: Setup) -> None:
    setup.add("edge", "222222222222", "111111111111", "222222222222")
    setup.add("collector")
    found = {each.name: each.accounts for each in setup.book.everyone()}
    assert found == {"edge": ("111111111111", "222222222222"), "collector": None}
    assert setup.warnings() == ""
    assert setup.book.remove("edge")
    assert [each.name for each in setup.book.everyone()] == ["collector"]
    with pytest.raises(OperationFailedError, match="no registered producer edge"):
        setup.book.show("edge")
    with pytest.raises(OperationFailedError, match="no registered producer edge"):
        setup.book.remove("edge")


def test_a_producer_that_is_registered_anew_has_its_new_accounts(setup: Setup) -> None:
    setup.add("edge", "111111111111")
    setup.add("edge", "222222222222")
    (found,) = setup.book.everyone()
    assert found.accounts == ("222222222222",)


def test_a_role_that_was_made_anew_is_told_of_until_it_is_registered_anew(setup: Setup) -> None:
    setup.add()
    before = setup.book.find("edge").role_id
    setup.roles.remove("edge")
    assert "Its role is gone" in setup.warnings()
    setup.roles.put("edge", trusted_arn=WORKLOAD)
    warned = setup.warnings()
    assert "made anew" in warned
    assert before in warned
    setup.add()
    assert setup.warnings() == ""
    assert setup.book.find("edge").role_id != before


def test_a_trust_in_a_role_that_is_gone_is_told_of(setup: Setup) -> None:
    setup.add()
    setup.roles.roles["edge"] = replace(setup.roles.roles["edge"], trusted=("AROAOLDWORKLOAD",))
    assert "trusts AROAOLDWORKLOAD" in setup.warnings()


@pytest.mark.parametrize(("sender", "warning"), [
    ("AROACANARY:function", ""),
    ("000000000000", "calls every sender 000000000000"),
    ("123456789012:root", "calls every sender 123456789012"),
    ("", "nobody knows what SQS calls a sender"),
])  # fmt: skip
def test_what_sqs_calls_senders_is_read_from_the_newest_canary(sender: str, warning: str) -> None:
    setup = Setup()
    setup.add()
    if sender:
        setup.met_canary(sender)
    assert warning in setup.warnings()
    assert bool(setup.warnings()) == bool(warning)


def test_an_endpoint_whose_canary_is_refused_too_cannot_tell_producers() -> None:
    setup = Setup()
    setup.add()
    setup.items.put(Put(table=Table.LEDGER, item=refused_sender_item("AROAOTHER:x", NOW_S)))
    assert "nobody knows" in setup.warnings()
    setup.items.put(Put(table=Table.LEDGER, item=refused_sender_item("000000000000", NOW_S)))
    assert "what 000000000000 sent was refused" in setup.warnings()
    assert "cannot tell producers" in setup.warnings()


def test_a_sender_that_was_refused_lately_shows_it(setup: Setup) -> None:
    setup.add()
    role_id = setup.book.find("edge").role_id
    for sender, at_s in ((f"{role_id}:x", NOW_S - 9_000), (f"{role_id}:y", NOW_S - 60), ("AROAOTHER:x", NOW_S)):
        setup.items.put(Put(table=Table.LEDGER, item=refused_sender_item(sender, at_s)))
    assert setup.book.show("edge").told_s == NOW_S - 60


@pytest.mark.parametrize(
    "name", ["", "Edge", "edge/1", "a:b", "retry", "canary", "logs", "s3", "-edge", "e" * 29, "edge\n", "é"]
)
def test_a_name_that_is_none_is_refused(setup: Setup, name: str) -> None:
    with pytest.raises(OperationFailedError, match="is no name of a producer"):
        setup.add(name)
    assert setup.roles.roles == {}


def test_every_problem_is_said_at_once() -> None:
    problems = producer_problems(name="Edge", accounts=["12", "123456789012"], trusted_arn="me")
    assert len(problems) == 3
    assert producer_problems(name="e" * 28, accounts=["123456789012"], trusted_arn=WORKLOAD) == []
    assert producer_problems(name="e", accounts=[], trusted_arn="") != []
    assert producer_problems(name="e", accounts=[f"{n:012}" for n in range(5_001)], trusted_arn="") != []


def test_a_registration_is_json_of_the_ledger(setup: Setup) -> None:
    setup.add("edge", "111111111111")
    (item,) = [each for each in setup.items.everything(Table.LEDGER) if each["pk"] == "W#producers"]
    assert json.loads(json.dumps(item))["accounts"] == ["111111111111"]
    assert "expires_at" not in item


MADE_S = 1_800_000_000
ARN = "arn:aws:iam::123456789012:user/ann"
ACCOUNT = "111111111111"


def book(items: MemoryItemStore | None = None, clock: ManualClock | None = None) -> TokenBook:
    return TokenBook(items=items or MemoryItemStore(), clock=clock or ManualClock(1000 * MADE_S))


def test_a_token_is_said_once_and_only_its_hash_is_kept() -> None:
    items = MemoryItemStore()
    made = book(items).create(role=Role.CUSTOMER, accounts=[ACCOUNT], life_s=30 * DAY_S, made_by=ARN, label="portal")
    parts = token_parts(made.text)
    assert parts is not None
    assert parts[0] == made.stored.token_id
    [item] = items.scan(Table.LEDGER)
    assert parts[1] not in repr(item)
    assert parts[1] not in repr(made)
    assert item["expires_at"] == MADE_S + 30 * DAY_S
    assert StoredToken.from_item(item) == made.stored


def test_no_two_tokens_are_alike_and_each_has_256_bits() -> None:
    tokens = {book().create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN).text for _ in range(20)}
    assert len(tokens) == 20
    assert {len(text.rpartition("_")[2]) for text in tokens} == {64}


def test_a_taken_id_is_drawn_again_and_replaces_nothing() -> None:
    items = MemoryItemStore()
    first = book(items).create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN)
    taken, calls = bytes.fromhex(first.stored.token_id), count()
    drawing = replace(book(items), draw=lambda size: taken if next(calls) == 0 else bytes([size]) * size)
    second = drawing.create(role=Role.OPERATOR, accounts=None, life_s=DAY_S, made_by=ARN)
    assert second.stored.token_id != first.stored.token_id
    assert drawing.find(first.stored.token_id) == first.stored


@pytest.mark.parametrize(("changed", "said"), [
    ({"accounts": None}, "names its accounts"),
    ({"accounts": []}, "names its accounts"),
    ({"accounts": ["12345"]}, "12 digits"),
    ({"accounts": ["\uff1111111111111"]}, "12 digits"),
    ({"accounts": [f"{number:012}" for number in range(101)]}, "1 to 100 accounts"),
    ({"role": Role.ANALYST, "accounts": []}, "1 to 100 accounts"),
    ({"life_s": 0}, "1 to 366 days"),
    ({"life_s": MAX_LIFE_S + 1}, "1 to 366 days"),
    ({"label": "a\x1b[2J"}, "control characters"),
    ({"label": "a" * 129}, "128 characters"),
], ids=repr)  # fmt: skip
def test_what_makes_no_sense_makes_no_token(changed: dict[str, object], said: str) -> None:
    items = MemoryItemStore()
    given: dict[str, object] = {"role": Role.CUSTOMER, "accounts": [ACCOUNT], "life_s": DAY_S, "label": ""}
    with pytest.raises(OperationFailedError, match=said):
        book(items).create(**{**given, **changed}, made_by=ARN)  # type: ignore[arg-type]  # one wrong value at a time
    assert list(items.scan(Table.LEDGER)) == []


def test_every_problem_of_a_token_is_said_at_once() -> None:
    with pytest.raises(OperationFailedError) as caught:
        book().create(role=Role.CUSTOMER, accounts=None, life_s=0, made_by=ARN, label="\n")
    assert [word in str(caught.value) for word in ("accounts", "366 days", "control")] == [True] * 3


def test_tokens_are_listed_the_newest_first_revoked_ones_too() -> None:
    items, clock = MemoryItemStore(), ManualClock(1000 * MADE_S)
    tokens = book(items, clock)
    old = tokens.create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN).stored
    clock.advance_s(5)
    new = tokens.create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN).stored
    assert tokens.list() == [new, old]
    revoked = tokens.revoke(old.token_id, revoked_by="arn:boss")
    assert tokens.list() == [new, revoked]


def test_a_token_is_revoked_once_and_keeps_who_did_it_first() -> None:
    clock = ManualClock(1000 * MADE_S)
    tokens = book(clock=clock)
    made = tokens.create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN)
    # A full token is accepted in place of its id, because when a token leaks, people have the full token at hand.
    first = tokens.revoke(made.text, revoked_by="arn:first")
    clock.advance_s(9)
    second = tokens.revoke(made.stored.token_id, revoked_by="arn:second")
    assert (second.revoked_by, second.revoked_s) == ("arn:first", MADE_S)
    assert second == first
    assert not second.good_at(MADE_S)


@pytest.mark.parametrize("typed", ["0" * 16, "tokens", "", "K#tokens", "mtr_" + "0" * 16 + "_" + "1" * 64])
def test_a_token_that_does_not_exist_is_not_revoked_and_what_was_typed_is_not_repeated(typed: str) -> None:
    with pytest.raises(OperationFailedError, match="no token of this id") as caught:
        book().revoke(typed, revoked_by=ARN)
    assert "111" not in str(caught.value)


def test_a_token_is_good_until_it_expires() -> None:
    stored = book().create(role=Role.ANALYST, accounts=None, life_s=DAY_S, made_by=ARN).stored
    assert stored.good_at(MADE_S + DAY_S - 1)
    assert not stored.good_at(MADE_S + DAY_S)


@pytest.mark.parametrize("lost", [
    {"accounts": []}, {"all_accounts": True}, {"all_accounts": True, "accounts": []}, {"role": "root"},
], ids=["none", "both", "all", "root"])  # fmt: skip
def test_an_item_that_lost_its_accounts_or_has_an_unknown_role_is_no_token(lost: dict[str, object]) -> None:
    stored = book().create(role=Role.CUSTOMER, accounts=[ACCOUNT], life_s=DAY_S, made_by=ARN).stored
    with pytest.raises(LedgerCorruptError):
        StoredToken.from_item({**stored.to_item(), **lost})  # type: ignore[dict-item]  # a value of any type


FORM = "mtr_" + "0" * 16


@pytest.mark.parametrize("text", [
    "", "mtr_", FORM, f"{FORM}_{'A' * 64}", f" {FORM}_{'a' * 64}",
    *(f"{FORM}_{'a' * 64}{tail}" for tail in ("\n", "a", "a" * 10**6)),
], ids=lambda text: text[:12])  # fmt: skip
def test_a_text_that_has_not_the_form_of_a_token_has_no_parts(text: str) -> None:
    assert token_parts(text) is None


def test_tokens_of_before_keep_costs_and_new_ones_have_them_only_if_they_were_made_so() -> None:
    def made(accounts: list[str] | None, *, costs: bool = False) -> StoredToken:
        return book().create(role=Role.ANALYST, accounts=accounts, life_s=DAY_S, made_by=ARN, costs=costs).stored

    assert [made([ACCOUNT]).costs, made([ACCOUNT], costs=True).costs, made(None).costs] == [False, True, True]
    item = made([ACCOUNT]).to_item()
    assert not StoredToken.from_item(item).costs
    # A release without this option did not write this attribute.
    del item["costs"]
    assert StoredToken.from_item(item).costs
    with pytest.raises(LedgerCorruptError):
        StoredToken.from_item({**item, "costs": "yes"})
