"""Accounts that a log file may bill: its name is compared with its folder, and its lines with its name."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.onramps.context.document import Context
from metering.onramps.context.facts import Attachment, FlowLog, Interface, Subnet, Vpc
from metering.onramps.plans import Plan
from metering.onramps.sources import ANY, NAMED, SHARED_SUBNETS, BilledAs, Bills
from metering.stores.objects import PLANS_PREFIX
from tests.support.flow_logs import HOUR_S, START_S, V2, line, text
from tests.support.small_logs import LogStage, plan_of

if TYPE_CHECKING:
    from metering.onramps.ingest.taking import Taken

A, B, C = "111111111111", "222222222222", "333333333333"
NAME = f"{A}_vpcflowlogs_us-east-1_fl-0a1b_20261124T1305Z_a1b2.log.gz"
KEY = f"AWSLogs/{A}/vpcflowlogs/us-east-1/2026/11/24/{NAME}"
LINES = (
    line(account_id=A, bytes="7"),
    line(account_id=B, bytes="31000000", interface_id="eni-0b"),
    line(account_id=C, bytes="5000000", interface_id="eni-0c"),
)
# B has an interface in a subnet of A, as participants of a shared VPC have. C has a VPC of its own.
SHARED = Context(
    sha256="a" * 64,
    effective_s=START_S - START_S % HOUR_S,
    accounts=frozenset({A, B, C}),
    vpcs=(Vpc("vpc-a", A, "us-east-1", ("10.0.0.0/16",)), Vpc("vpc-c", C, "us-east-1", ("10.9.0.0/16",))),
    subnets=(
        Subnet("subnet-a", "vpc-a", "use1-az2", ("10.0.0.0/24",)),
        Subnet("subnet-c", "vpc-c", "use1-az2", ("10.9.0.0/24",)),
    ),
    interfaces=(
        Interface("eni-0x", B, "subnet-a", "interface", ("10.0.0.9",), public=False),
        Interface("eni-0c", C, "subnet-c", "interface", ("10.9.0.9",), public=False),
    ),
    flow_logs={"fl-0a1b": FlowLog("fl-0a1b", "vpc-a", "vpc", 0, (), "ALL", "", "s3", A, "us-east-1")},
)


class Stage(LogStage):
    """A stage with a context, and its sent records."""

    def __init__(self, context: Context = SHARED) -> None:
        super().__init__(context=context, now_s=START_S + 2 * HOUR_S)

    def take(self, key: str = KEY, content: bytes | None = text(*LINES), **options: object) -> Taken:
        return super().take(key, gzip.compress(content or b"", mtime=0), **options)

    def billed(self) -> dict[str, int]:
        """Bytes of all sent records, by account."""
        sums: Counter[str] = Counter()
        for row in (row for message in self.sent() for row in self.rows(message)):
            sums[row["account_id"]] += row["bytes"]
        return dict(sums)


@pytest.mark.parametrize(
    "folder",
    [
        f"AWSLogs/{B}/vpcflowlogs/us-east-1/",
        f"central/AWSLogs/o-a1b2c3d4e5/{B}/vpcflowlogs/us-east-1/",
        f"AWSLogs/aws-account-id={B}/aws-service=vpcflowlogs/",
        # A sender that may put below B's folder may create any folder there.
        f"AWSLogs/{B}/AWSLogs/{A}/vpcflowlogs/us-east-1/",
    ],
)
def test_a_file_that_is_named_as_of_another_account_than_its_folder_is_refused_and_kept(folder: str) -> None:
    stage = Stage()
    taken = stage.take(f"{folder}{NAME}", text(LINES[0]))
    assert (taken.verdict, stage.billed()) == ("refused", {})
    assert taken.problem == ("account_contradicts", f"its name is of account {A}, and it lies below AWSLogs/{B}/")
    assert taken.quarantine_key.startswith("quarantine/logs/file/")


@pytest.mark.parametrize("folder", ["", "copies/", f"AWSLogs/o-a1b2c3d4e5/{A}/", f"AWSLogs/aws-account-id={A}/x/"])
def test_a_file_whose_folder_says_the_same_or_nothing_is_taken(folder: str) -> None:
    assert Stage().take(f"{folder}{NAME}", text(LINES[0])).verdict == "metered"


def test_only_the_account_of_the_files_name_is_billed_and_lines_of_others_are_refused_and_counted() -> None:
    stage = Stage()
    taken = stage.take()
    assert stage.billed() == {A: 7}
    assert plan_of(taken).refusals == (("other_account", 2, 36_000_000),)
    assert plan_of(taken).balance.holds
    assert tuple(taken.others) == (2, 36_000_000, 0, 0)
    assert stage.take().others == taken.others


def test_shared_subnets_bill_whom_the_context_shows_in_the_subnets_of_the_files_account() -> None:
    stage = Stage()
    taken = stage.take(bills=SHARED_SUBNETS)
    assert stage.billed() == {A: 7, B: 31_000_000}
    assert tuple(taken.others) == (2, 36_000_000, 1, 31_000_000)


def test_a_list_bills_these_accounts_and_the_lines_of_others_are_counted_all_the_same() -> None:
    stage = Stage()
    taken = stage.take(bills=Bills.listed([A, C]))
    assert stage.billed() == {A: 7, C: 5_000_000}
    assert plan_of(taken).refusals == (("account_not_allowed", 1, 31_000_000),)
    assert tuple(taken.others) == (2, 36_000_000, 1, 5_000_000)


_TRANSIT = (
    "version account-id tgw-id tgw-attachment-id tgw-src-vpc-account-id bytes start end log-status flow-direction"
)


def test_a_transit_gateways_log_bills_senders_with_an_attachment_only_if_that_is_said() -> None:
    context = replace(
        SHARED,
        attachments=(
            Attachment("tgw-attach-1", "tgw-1", "vpc", A, A),
            Attachment("tgw-attach-3", "tgw-1", "vpc", C, A),
            Attachment("tgw-attach-2", "tgw-2", "vpc", B, B),
        ),
        policy_places=((A, "us-east-1"),),
    )
    content = "".join(
        f"{each}\n"
        for each in (
            _TRANSIT,
            *(
                f"6 {A} {gateway} tgw-attach-{sender[0]} {sender} 10 {START_S} {START_S + 60} OK ingress"
                for gateway, sender in (("tgw-1", A), ("tgw-2", B), ("tgw-1", C))
            ),
        )
    ).encode()
    stage = Stage(context)
    stage.take(content=content)
    assert stage.billed() == {A: 10}
    stage = Stage(context)
    stage.take(content=content, bills=SHARED_SUBNETS)
    # B shares a subnet, and is attached to another gateway.
    assert stage.billed() == {A: 10, C: 10}


@pytest.mark.parametrize("before", ["any", "shared-subnets", "named"])
@pytest.mark.parametrize("after", ["any", "shared-subnets", "named"])
def test_a_file_that_comes_again_under_another_rule_becomes_the_same_batches(before: str, after: str) -> None:
    stage = Stage()
    first = stage.take(bills=Bills(billed_as=BilledAs(before)))
    sent = stage.sent()
    # The records are deleted, and the file's replica is another object: it is read, judged and written again.
    for info in list(stage.objects.list("ingest/")):
        stage.objects.remove(info.key)
    again = stage.take(f"replica/{NAME}", bills=Bills(billed_as=BilledAs(after)))
    assert (first.verdict, again.verdict) == ("metered", "repeated")
    assert stage.sent() == sent
    assert again.plan == first.plan


def test_a_plan_of_before_is_followed_as_it_was_made() -> None:
    stage = Stage()
    stage.take(bills=ANY)
    sent = stage.sent()
    (key,) = (info.key for info in stage.objects.list(PLANS_PREFIX))
    document = json.loads(stage.objects.get(key))
    del document["billed_as"], document["others"]
    stage.objects.put(key, json.dumps(document).encode(), if_absent=False)
    for info in list(stage.objects.list("ingest/")):
        stage.objects.remove(info.key)
    assert stage.take(f"replica/{NAME}", bills=NAMED).verdict == "repeated"
    assert stage.sent() == sent


def test_a_plan_says_by_what_it_bills_and_whom_else() -> None:
    plan = plan_of(Stage().take())
    assert Plan.from_json(plan.to_json()) == plan
    assert (plan.billed_as, tuple(plan.others)) == ("named", (2, 36_000_000, 0, 0))


def test_lines_of_a_file_without_an_account_in_its_name_bill_whom_they_state() -> None:
    stage = Stage()
    names = (*V2, "region")
    content = text(*(line(names, account_id=each) for each in (A, B)), names=names)
    taken = stage.take("flows.log", content, kind="vpc-flow", without_context_flow_log="fl-0a1b")
    assert stage.billed() == {A: 1_000, B: 1_000}
    assert tuple(taken.others) == (0, 0, 0, 0)
