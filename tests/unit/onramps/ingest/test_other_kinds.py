"""Files of the other kinds are taken like flow logs: once, by name or content, with each kind's requirements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.adapters.folders import FolderLogStore
from metering.onramps.cloudfront import LEGACY_FIELDS
from metering.onramps.context.document import Context
from metering.onramps.context.facts import Attachment, Distribution, FlowLog, Prefix
from metering.onramps.mapped import mapped_kind
from metering.onramps.sources import NAMED, Bills
from tests.support.flow_logs import VPC_FLOW
from tests.support.small_logs import LogStage, plan_of

if TYPE_CHECKING:
    from pathlib import Path

    from metering.onramps.ingest.taking import Taken
    from metering.onramps.kinds import LogKind

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


class Stage(LogStage):
    """A stage that takes texts, with or without a context."""

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context=context, now_s=T + 7200)

    def take_text(
        self, key: str, content: str, *, kind: LogKind | None = None, allowed: frozenset[str] | None = None
    ) -> Taken:
        return self.take(key, content.encode(), kind=kind, bills=NAMED if allowed is None else Bills.listed(allowed))

    def batch_ids(self) -> list[str]:
        return [message["batch_id"] for message in self.sent()]


def test_an_s3_access_log_and_its_replica_under_another_prefix_are_one_file() -> None:
    stage = Stage(RANGES)
    first, second = (stage.take_text(key, S3_LINE) for key in (S3_KEY, f"replica/{S3_KEY}"))
    assert (first.verdict, second.verdict) == ("metered", "repeated")
    assert set(stage.batch_ids()) == {"s3:2026-11-24-13-05-00-0123456789ABCDEF/0"}
    assert (plan_of(first).rules, plan_of(first).source, plan_of(first).contexts) == (
        "s3-access/1",
        "acme-data",
        {T: "a" * 64},
    )


@pytest.mark.parametrize("context", [None, Context(sha256="b" * 64, effective_s=T)])
def test_an_s3_access_log_is_refused_without_address_ranges(context: Context | None) -> None:
    taken = Stage(context).take_text(S3_KEY, S3_LINE)
    assert taken.problem is not None
    assert (taken.verdict, taken.problem[0]) == ("refused", "no_context")
    assert "address ranges of AWS" in taken.problem[1]


def test_a_cloudfront_log_needs_no_context_and_takes_the_only_account_that_is_allowed() -> None:
    stage = Stage()
    taken = stage.take_text(EDGE_NAME, EDGE_FILE, allowed=frozenset({ACCOUNT}))
    assert taken.verdict == "metered"
    assert stage.batch_ids() == [f"cf:{EDGE_NAME}/0"]
    assert [(share.usage_type, share.bytes) for share in plan_of(taken).shares] == [("EU-DataTransfer-Out-Bytes", 4000)]


def test_a_mapped_log_is_the_same_file_wherever_it_lies_and_the_first_mapping_stays() -> None:
    stage = Stage()
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
        sha256="c" * 64,
        effective_s=T,
        flow_logs={"fl-1": FLOW_LOG},
        attachments=(attached,),
        policy_places=((ACCOUNT, "us-west-2"),),
    )
    stage = Stage(known)
    text = (
        "account-id tgw-id tgw-attachment-id bytes start end region flow-direction\n"
        f"{ACCOUNT} tgw-1 tgw-attach-1 1000 {T} {T + 60} us-west-2 ingress\n"
    )
    taken = stage.take_text("mine/flows.log", text, kind=VPC_FLOW)
    assert [(share.usage_type, share.bytes) for share in plan_of(taken).shares] == [("USW2-TransitGateway-Bytes", 1000)]


def test_a_file_without_a_name_has_one_plan_with_a_context_and_without() -> None:
    stage = Stage()
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
    taken = Stage().ingest().take(FolderLogStore(root), path.relative_to(root).as_posix())
    assert (taken.verdict, taken.plan and taken.plan.account_id) == ("metered", ACCOUNT)


@pytest.mark.parametrize(
    ("key", "content", "wrong"),
    [
        ("logs/2026-11-24-13-05-00-0123456789ABCDEF", S3_LINE.replace('"curl" -', '"curl" - H S C A {host}'), None),
        (EDGE_NAME, EDGE_FILE, None),
        (EDGE_NAME, EDGE_FILE, frozenset({"9" * 12, "8" * 12})),
        (f"AWSLogs/{ACCOUNT}/CloudFront/{EDGE_NAME}", EDGE_FILE, frozenset({"9" * 12})),
    ],
)
def test_a_file_that_nobody_owned_is_metered_once_somebody_says_whose_it_is(
    key: str, content: str, wrong: frozenset[str] | None
) -> None:
    stage = Stage(RANGES)
    content = content.replace("{host}", "acme-data.s3.us-west-2.amazonaws.com")
    first = stage.take_text(key, content, allowed=wrong)
    assert (first.verdict, first.problem and first.problem[0]) == ("refused", "not_allowed")
    assert stage.take_text(key, content, allowed=frozenset({ACCOUNT})).verdict == "metered"
    assert len(stage.batch_ids()) == 1


@pytest.mark.parametrize(("log", "verdict"), [("legacy", "metered"), ("v2", "empty")])
@pytest.mark.parametrize("allowed", [frozenset({ACCOUNT}), frozenset({ACCOUNT, "210987654321"})])
def test_the_only_account_that_is_allowed_makes_no_version_2_of_a_legacy_log(
    log: str, verdict: str, allowed: frozenset[str]
) -> None:
    """A log source of one account gives that account to files that state none, and a version 2 key states one."""
    distributions = {"EMLARXS9EXAMPLE": Distribution("EMLARXS9EXAMPLE", ACCOUNT, log)}
    stage = Stage(Context(sha256="d" * 64, effective_s=T, distributions=distributions))
    values = {"date": "2026-11-24", "time": "13:00:00", "x-edge-location": "LHR61-P2", "sc-bytes": "4000"}
    text = f"#Fields: {' '.join(LEGACY_FIELDS)}\n" + "\t".join(values.get(name, "-") for name in LEGACY_FIELDS) + "\n"
    assert stage.take_text(EDGE_NAME, text, allowed=allowed).verdict == verdict
