"""Which accounts a log file may bill: limits by file name, folder and lines. Files of each kind."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.adapters.folders import FolderLogStore
from metering.onramps.cloudfront import LEGACY_FIELDS
from metering.onramps.context.document import Attachment, Context, Distribution, FlowLog, Interface, Prefix, Subnet, Vpc
from metering.onramps.mapping import mapped_kind
from metering.onramps.plans import Plan
from metering.onramps.sources import ANY, NAMED, SHARED_SUBNETS, BilledAs, Bills
from metering.stores.objects import PLANS_PREFIX
from tests.support.flow_logs import HOUR_S, START_S, V2, VPC_FLOW, line, text
from tests.support.small_logs import LogStage, plan_of

if TYPE_CHECKING:
    from pathlib import Path

    from metering.onramps.ingest.taking import Taken
    from metering.onramps.kinds import LogKind

A, B, C = "111111111111", "222222222222", "333333333333"
NAME = f"{A}_vpcflowlogs_us-east-1_fl-0a1b_20261124T1305Z_a1b2.log.gz"
KEY = f"AWSLogs/{A}/vpcflowlogs/us-east-1/2026/11/24/{NAME}"
LINES = (
    line(account_id=A, bytes="7"),
    line(account_id=B, bytes="31000000", interface_id="eni-0b"),
    line(account_id=C, bytes="5000000", interface_id="eni-0c"),
)
# B has an interface in a subnet of A, as a participant of a shared VPC does. C has its own VPC.
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
    """A stage with a context, and the records that it sent."""

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


@pytest.mark.parametrize("folder", [
    f"AWSLogs/{B}/vpcflowlogs/us-east-1/",
    f"central/AWSLogs/o-a1b2c3d4e5/{B}/vpcflowlogs/us-east-1/",
    f"AWSLogs/aws-account-id={B}/aws-service=vpcflowlogs/",
    # A sender with write access below B's folder may create any folder there.
    f"AWSLogs/{B}/AWSLogs/{A}/vpcflowlogs/us-east-1/",
])  # fmt: skip
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
    plan = plan_of(taken)
    assert Plan.from_json(plan.to_json()) == plan
    assert (plan.billed_as, tuple(plan.others)) == ("named", (2, 36_000_000, 0, 0))
    assert stage.take().others == taken.others == plan.others


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
    lines = (
        f"6 {A} {gateway} tgw-attach-{sender[0]} {sender} 10 {START_S} {START_S + 60} OK ingress"
        for gateway, sender in (("tgw-1", A), ("tgw-2", B), ("tgw-1", C))
    )
    content = "".join(f"{each}\n" for each in (_TRANSIT, *lines)).encode()
    # B shares a subnet, and is attached to another gateway.
    for bills, billed in ((NAMED, {A: 10}), (SHARED_SUBNETS, {A: 10, C: 10})):
        stage = Stage(context)
        stage.take(content=content, bills=bills)
        assert stage.billed() == billed


@pytest.mark.parametrize("before", ["any", "shared-subnets", "named"])
@pytest.mark.parametrize("after", ["any", "shared-subnets", "named"])
def test_a_file_that_comes_again_under_another_rule_becomes_the_same_batches(before: str, after: str) -> None:
    stage = Stage()
    first = stage.take(bills=Bills(billed_as=BilledAs(before)))
    sent = stage.sent()
    # The records are deleted, and the replica of the file is another object: it is read, judged and written again.
    stage.objects.delete(stage.objects.keys("ingest/"))
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
    stage.objects.delete(stage.objects.keys("ingest/"))
    assert stage.take(f"replica/{NAME}", bills=NAMED).verdict == "repeated"
    assert stage.sent() == sent


def test_lines_of_a_file_without_an_account_in_its_name_bill_whom_they_state() -> None:
    stage = Stage()
    names = (*V2, "region")
    content = text(*(line(names, account_id=each) for each in (A, B)), names=names)
    taken = stage.take("flows.log", content, kind="vpc-flow", without_context_flow_log="fl-0a1b")
    assert stage.billed() == {A: 1_000, B: 1_000}
    assert tuple(taken.others) == (0, 0, 0, 0)


T = 1_795_525_200
ACCOUNT = "123456789012"
S3_KEY = f"logs/{ACCOUNT}/us-west-2/acme-data/2026/11/24/2026-11-24-13-05-00-0123456789ABCDEF"
S3_LINE = (
    '79a5 acme-data [24/Nov/2026:13:00:00 +0000] 8.8.8.8 - 3E57 REST.GET.OBJECT a "GET /a HTTP/1.1" 200 - 1000 1000 '
    '7 6 "-" "curl" -\n'
)
EDGE_NAME = "EMLARXS9EXAMPLE.2026-11-24-13.a1b2c3d4"
EDGE_FILE = "#Fields: date time x-edge-location sc-bytes\n2026-11-24\t13:00:00\tLHR61-P2\t4000\n"
CSV = f"account,host,bytes,at\n{ACCOUNT},h1,10,{T}\n"
MAPPING = """
format = "csv"
account = "account"
service = { constant = "AmazonEC2" }
resource = "host"
direction = { constant = "out" }
from = { constant = "us-west-2" }
to = { constant = "internet" }
bytes = "bytes"
start = { column = "at", format = "epoch_s" }
"""
FLOW_LOG = FlowLog("fl-1", "tgw-1", "tgw", 0, (), "ALL", "arn:aws:s3:::logs", "s3", ACCOUNT, "us-west-2")
RANGES = Context(sha256="a" * 64, effective_s=T, prefixes=(Prefix("3.0.0.0/8", "us-west-2", ("AMAZON",)),))


class TextStage(LogStage):
    """A stage that ingests log texts, with or without a context."""

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context=context, now_s=T + 7200)

    def take_text(self, key: str, content: str, *allowed: str, kind: LogKind | None = None) -> Taken:
        return self.take(key, content.encode(), kind=kind, bills=Bills.listed(allowed) if allowed else NAMED)

    def batch_ids(self) -> list[str]:
        return [message["batch_id"] for message in self.sent()]


def test_an_s3_access_log_and_its_replica_under_another_prefix_are_one_file() -> None:
    stage = TextStage(RANGES)
    first, second = (stage.take_text(key, S3_LINE) for key in (S3_KEY, f"replica/{S3_KEY}"))
    assert (first.verdict, second.verdict) == ("metered", "repeated")
    assert set(stage.batch_ids()) == {"s3:2026-11-24-13-05-00-0123456789ABCDEF/0"}
    plan = plan_of(first)
    assert (plan.rules, plan.source, plan.contexts) == ("s3-access/1", "acme-data", {T: "a" * 64})


@pytest.mark.parametrize("context", [None, Context(sha256="b" * 64, effective_s=T)])
def test_an_s3_access_log_is_refused_without_address_ranges(context: Context | None) -> None:
    taken = TextStage(context).take_text(S3_KEY, S3_LINE)
    assert taken.problem is not None
    assert (taken.verdict, taken.problem[0]) == ("refused", "no_context")
    assert "address ranges of AWS" in taken.problem[1]


def test_a_cloudfront_log_needs_no_context_and_takes_the_only_account_that_is_allowed() -> None:
    stage = TextStage()
    taken = stage.take_text(EDGE_NAME, EDGE_FILE, ACCOUNT)
    assert taken.verdict == "metered"
    assert stage.batch_ids() == [f"cf:{EDGE_NAME}/0"]
    assert [(share.usage_type, share.bytes) for share in plan_of(taken).shares] == [("EU-DataTransfer-Out-Bytes", 4000)]


def test_a_mapped_log_is_the_same_file_wherever_it_lies_and_the_first_mapping_stays() -> None:
    stage = TextStage()
    kind, other = mapped_kind(MAPPING), mapped_kind(MAPPING.replace('"internet"', '"us-east-1"'))
    files = (("a.csv", kind), ("b/c.txt", kind), ("a.csv", other))
    taken = [stage.take_text(key, CSV, kind=each) for key, each in files]
    assert [each.verdict for each in taken] == ["metered", "repeated", "repeated"]
    assert {each.plan.rules for each in taken if each.plan is not None} == {kind.rules}
    (batch_id,) = set(stage.batch_ids())
    assert batch_id.startswith("sha256:")


def test_a_flow_log_of_a_transit_gateway_without_a_name_of_aws_is_told_by_its_fields() -> None:
    attached = Attachment("tgw-attach-1", "tgw-1", "vpc", ACCOUNT, ACCOUNT)
    known = Context(
        sha256="c" * 64, effective_s=T, flow_logs={"fl-1": FLOW_LOG}, attachments=(attached,),
        policy_places=((ACCOUNT, "us-west-2"),),
    )  # fmt: skip
    stage = TextStage(known)
    text = (
        "account-id tgw-id tgw-attachment-id bytes start end region flow-direction\n"
        f"{ACCOUNT} tgw-1 tgw-attach-1 1000 {T} {T + 60} us-west-2 ingress\n"
    )
    taken = stage.take_text("mine/flows.log", text, kind=VPC_FLOW)
    assert [(share.usage_type, share.bytes) for share in plan_of(taken).shares] == [("USW2-TransitGateway-Bytes", 1000)]


def test_a_file_without_a_name_has_one_plan_with_a_context_and_without() -> None:
    stage = TextStage()
    fields = "account-id interface-id srcaddr dstaddr bytes start end flow-direction traffic-path region"
    text = f"{fields}\n{ACCOUNT} eni-1 10.0.0.1 8.8.8.8 1000 {T} {T + 60} egress 8 us-west-2\n"
    first = stage.take("flows.log", text.encode(), kind=VPC_FLOW, without_context_flow_log="fl-mine")
    context = Context(sha256="c" * 64, effective_s=T, flow_logs={"fl-1": FLOW_LOG}, prefixes=RANGES.prefixes)
    stage.contexts.put(context)
    second = stage.take("flows.log", kind=VPC_FLOW)
    assert (first.verdict, second.verdict) == ("metered", "repeated")
    assert first.plan == second.plan
    assert len(set(stage.batch_ids())) == 1


@pytest.mark.parametrize("depth", range(5))
def test_the_folders_of_a_file_on_disk_say_whose_it_is_whichever_of_them_is_named(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "AWSLogs" / ACCOUNT / "CloudFront" / "2026" / EDGE_NAME
    path.parent.mkdir(parents=True)
    path.write_text(EDGE_FILE)
    root = (tmp_path, *reversed(path.parents[:4]))[depth]
    taken = TextStage().ingest().take(FolderLogStore(root), path.relative_to(root).as_posix())
    assert (taken.verdict, taken.plan and taken.plan.account_id) == ("metered", ACCOUNT)


@pytest.mark.parametrize(("key", "content", "wrong"), [
    ("logs/2026-11-24-13-05-00-0123456789ABCDEF", S3_LINE.replace('"curl" -', '"curl" - H S C A {host}'), ()),
    (EDGE_NAME, EDGE_FILE, ()),
    (EDGE_NAME, EDGE_FILE, ("9" * 12, "8" * 12)),
    (f"AWSLogs/{ACCOUNT}/CloudFront/{EDGE_NAME}", EDGE_FILE, ("9" * 12,)),
])  # fmt: skip
def test_a_file_that_nobody_owned_is_metered_once_somebody_says_whose_it_is(
    key: str, content: str, wrong: tuple[str, ...]
) -> None:
    stage = TextStage(RANGES)
    content = content.replace("{host}", "acme-data.s3.us-west-2.amazonaws.com")
    first = stage.take_text(key, content, *wrong)
    assert (first.verdict, first.problem and first.problem[0]) == ("refused", "not_allowed")
    assert stage.take_text(key, content, ACCOUNT).verdict == "metered"
    assert len(stage.batch_ids()) == 1


@pytest.mark.parametrize(("log", "verdict"), [("legacy", "metered"), ("v2", "empty")])
@pytest.mark.parametrize("allowed", [(ACCOUNT,), (ACCOUNT, "210987654321")])
def test_the_only_account_that_is_allowed_makes_no_version_2_of_a_legacy_log(
    log: str, verdict: str, allowed: tuple[str, ...]
) -> None:
    """If a log source has one account, files without an account get this account; a version 2 key names its account."""
    distributions = {"EMLARXS9EXAMPLE": Distribution("EMLARXS9EXAMPLE", ACCOUNT, log)}
    stage = TextStage(Context(sha256="d" * 64, effective_s=T, distributions=distributions))
    values = {"date": "2026-11-24", "time": "13:00:00", "x-edge-location": "LHR61-P2", "sc-bytes": "4000"}
    text = f"#Fields: {' '.join(LEGACY_FIELDS)}\n" + "\t".join(values.get(name, "-") for name in LEGACY_FIELDS) + "\n"
    assert stage.take_text(EDGE_NAME, text, *allowed).verdict == verdict
